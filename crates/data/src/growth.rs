//! How much longer a `tokenizer.json` can make a text, before any text is made longer.

use serde::Serialize;
use serde_json::Value;
use tokenizers::Tokenizer;
use tokenizers::models::ModelWrapper;

/// Steps of a normalizer, a pre-tokenizer or a post-processor, and pieces of a template.
const MOST_STEPS: usize = 64;
/// Bytes that replacements of the file's own make of one.
const MOST_REPLACED: f64 = 1000.0;
/// Bytes that all steps make of one. Each is counted as if every step before it made what it grows most.
const MOST_GROWTH: f64 = 10_000.0;
/// How often a post-processor may repeat a text.
const MOST_REPEATS: usize = 8;
/// Bytes of a token that stands for what the text does not have.
const MOST_TOKEN_BYTES: usize = 1000;
/// Entries of a map of characters up to this long are those of Unicode.
const UNICODE_BYTES: usize = 64;

/// How many bytes the file's own replacements make of one at most, 1 where they make none longer.
///
/// # Errors
/// What of the file makes a text longer than any text needs, in words.
pub(crate) fn bound(tokenizer: &Tokenizer) -> Result<f64, String> {
    let mut growth = Growth { replaced: 1.0, all: 1.0, composed: false };
    for (part, steps, key) in [
        ("normalizer", tokenizer.get_normalizer().map(value), "normalizers"),
        ("pre_tokenizer", tokenizer.get_pre_tokenizer().map(value), "pretokenizers"),
    ] {
        let steps = steps.transpose()?;
        let steps = flat(steps.as_ref(), key);
        few(part, steps.len())?;
        for (at, step) in steps.into_iter().enumerate() {
            growth.step(step);
            if growth.replaced > MOST_REPLACED || growth.all > MOST_GROWTH {
                let kind = step["type"].as_str().unwrap_or("?");
                let (at, bytes) = (at + 1, growth.all.max(growth.replaced));
                return Err(format!("its {part} can make {bytes:.0} bytes of one with step {at}, a `{kind}`"));
            }
        }
    }
    let post = tokenizer.get_post_processor().map(value).transpose()?;
    template(&flat(post.as_ref(), "processors"))?;
    if let Some(bytes) = token_bytes(tokenizer.get_model()).filter(|bytes| *bytes > MOST_TOKEN_BYTES) {
        return Err(format!("its token for the unknown, or what it puts to a token's ends, has {bytes} bytes"));
    }
    Ok(growth.replaced)
}

fn value(part: impl Serialize) -> Result<Value, String> {
    serde_json::to_value(part).map_err(|error| error.to_string())
}

/// The steps of sequences in sequences, in order.
fn flat<'a>(part: Option<&'a Value>, key: &str) -> Vec<&'a Value> {
    let (mut steps, mut open) = (Vec::new(), Vec::from_iter(part));
    while let Some(one) = open.pop() {
        match one.get(key).and_then(Value::as_array) {
            Some(inner) => open.extend(inner.iter().rev()),
            None => steps.push(one),
        }
    }
    steps
}

fn few(part: &str, steps: usize) -> Result<(), String> {
    let says = || format!("its {part} has {steps} steps, and {MOST_STEPS} are the most");
    (steps <= MOST_STEPS).then_some(()).ok_or_else(says)
}

struct Growth {
    replaced: f64,
    all: f64,
    /// Whether the text is as a form of Unicode left it.
    composed: bool,
}

impl Growth {
    fn step(&mut self, step: &Value) {
        let length = |key: &str| step[key].as_str().map_or(0, str::len) as f64;
        let own = match step["type"].as_str().unwrap_or_default() {
            // A text is cut at added tokens, and each of its parts begins with what is put before.
            "Prepend" => 1.0 + length("prepend"),
            "Replace" => match step["pattern"]["String"].as_str().map_or(0, str::len) as f64 {
                // An expression may match between any two characters.
                0.0 => 1.0 + length("content"),
                pattern => (length("content") / pattern).max(1.0),
            },
            "Precompiled" => match longest(step["precompiled_charsmap"].as_str().unwrap_or_default()) {
                bytes if bytes > UNICODE_BYTES => bytes as f64,
                bytes => {
                    self.all *= bytes.max(1) as f64;
                    self.composed = false;
                    return;
                }
            },
            "NFC" | "NFD" => return self.unicode(3.0),
            "NFKC" | "NFKD" => return self.unicode(11.0),
            "BertNormalizer" => return self.unicode(8.0),
            "Lowercase" => 1.5,
            "ByteLevel" if step["add_prefix_space"] == true => 4.0,
            "ByteLevel" => 2.0,
            "Metaspace" => 4.0,
            _ => 1.0,
        };
        self.all *= own;
        if matches!(step["type"].as_str(), Some("Prepend" | "Replace" | "Precompiled")) {
            self.replaced *= own;
            self.composed = false;
        }
    }

    /// A form of Unicode has nothing to do to a text that has it.
    fn unicode(&mut self, most: f64) {
        if !self.composed {
            self.all *= most;
        }
        self.composed = true;
    }
}

/// The most bytes that an entry of a map of characters has: no more than lie between two zeros of it.
fn longest(base64: &str) -> usize {
    let digit = |c: u8| match c {
        b'A'..=b'Z' => Some(u32::from(c - b'A')),
        b'a'..=b'z' => Some(u32::from(c - b'a') + 26),
        b'0'..=b'9' => Some(u32::from(c - b'0') + 52),
        b'+' => Some(62),
        b'/' => Some(63),
        _ => None,
    };
    let (mut bits, mut have) = (0_u32, 0);
    let mut bytes = Vec::with_capacity(base64.len() / 4 * 3);
    for six in base64.bytes().filter_map(digit) {
        (bits, have) = (bits << 6 | six, have + 6);
        if have >= 8 {
            have -= 8;
            bytes.push((bits >> have) as u8);
        }
    }
    // A number of bytes, so many of a table, and then the entries.
    let table = bytes.first_chunk().map_or(0, |size| u32::from_le_bytes(*size) as usize);
    let entries = bytes.get(table.saturating_add(4)..).unwrap_or_default();
    entries.split(|byte| *byte == 0).map(<[u8]>::len).max().unwrap_or(0)
}

fn template(steps: &[&Value]) -> Result<(), String> {
    few("post_processor", steps.len())?;
    let mut repeats = 1_usize;
    for step in steps {
        let sides = ["single", "pair"].map(|side| step[side].as_array().map_or(&[][..], Vec::as_slice));
        for pieces in sides {
            if pieces.len() > MOST_STEPS {
                let pieces = pieces.len();
                return Err(format!("its template has {pieces} pieces, and {MOST_STEPS} are the most"));
            }
        }
        let uses = |id: &str| {
            let of = |pieces: &[Value]| pieces.iter().filter(|piece| piece["Sequence"]["id"] == id).count();
            sides.map(of).into_iter().max().unwrap_or(0)
        };
        repeats = repeats.saturating_mul(uses("A").max(uses("B")).max(1));
        if repeats > MOST_REPEATS {
            return Err(format!("its template repeats a text {repeats} times, and {MOST_REPEATS} are the most"));
        }
        let tokens = step["special_tokens"].as_object().into_iter().flat_map(|tokens| tokens.values());
        let tokens = tokens.flat_map(|token| token["tokens"].as_array().into_iter().flatten());
        let ends = ["cls", "sep"].map(|end| &step[end][0]);
        if let Some(bytes) = tokens.chain(ends).filter_map(|token| token.as_str().map(str::len)).max()
            && bytes > MOST_TOKEN_BYTES
        {
            return Err(format!("a special token of its post_processor has {bytes} bytes"));
        }
    }
    Ok(())
}

/// The bytes of the longest text that a model puts into tokens without having seen it.
fn token_bytes(model: &ModelWrapper) -> Option<usize> {
    match model {
        ModelWrapper::BPE(bpe) => [&bpe.unk_token, &bpe.continuing_subword_prefix, &bpe.end_of_word_suffix]
            .into_iter()
            .flatten()
            .map(String::len)
            .max(),
        ModelWrapper::WordPiece(words) => Some(words.unk_token.len().max(words.continuing_subword_prefix.len())),
        ModelWrapper::WordLevel(words) => Some(words.unk_token.len()),
        ModelWrapper::Unigram(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn of(part: &str, what: Value) -> Result<f64, String> {
        let mut file = json!({ "model": { "type": "WordLevel", "vocab": { "?": 0 }, "unk_token": "?" } });
        file[part] = what;
        bound(&Tokenizer::from_bytes(file.to_string()).unwrap())
    }

    fn normalizers(steps: Vec<Value>) -> Result<f64, String> {
        of("normalizer", json!({ "type": "Sequence", "normalizers": steps }))
    }

    fn replace(pattern: &str, content: &str) -> Value {
        json!({ "type": "Replace", "pattern": { "String": pattern }, "content": content })
    }

    #[test]
    fn what_multiplies_a_text_is_refused_by_its_place() {
        let doubled = normalizers(vec![replace("o", "oo"); 60]).unwrap_err();
        assert_eq!(doubled, "its normalizer can make 1024 bytes of one with step 10, a `Replace`");
        assert!(normalizers(vec![replace("", &"x".repeat(1 << 20))]).unwrap_err().contains("a `Replace`"));
        let pattern = json!({ "type": "Replace", "pattern": { "Regex": "(?=o)" }, "content": "x".repeat(2000) });
        assert!(normalizers(vec![pattern]).is_err());
        assert!(normalizers(vec![json!({ "type": "Prepend", "prepend": "x".repeat(2000) })]).is_err());
        let grows = [replace("′", "⁗"), json!({ "type": "NFKD" })];
        assert!(normalizers(grows.iter().cycle().take(30).cloned().collect()).is_err());
        let nested = json!({ "type": "Sequence", "normalizers": vec![replace("o", "oo"); 6] });
        assert!(normalizers(vec![nested; 2]).is_err());
        assert_eq!(normalizers(vec![replace("oo", "o"); 64]), Ok(1.0));
        let many = normalizers(vec![replace("oo", "o"); 65]).unwrap_err();
        assert_eq!(many, "its normalizer has 65 steps, and 64 are the most");
        let bytes = json!({ "type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": false });
        let steps = json!({ "type": "Sequence", "pretokenizers": vec![bytes; 30] });
        assert!(of("pre_tokenizer", steps).unwrap_err().contains("its pre_tokenizer can make"));
    }

    #[test]
    fn long_entries_of_a_map_of_characters_are_seen() {
        // A table of 4 bytes, then `ab`, zero, `cde`, zero.
        assert_eq!(longest("BAAAAP////9hYgBjZGUA"), 3);
        assert_eq!(longest(""), 0);
    }

    #[test]
    fn templates_that_repeat_a_text_are_refused() {
        let template = |count: usize| {
            let piece = json!({ "Sequence": { "id": "A", "type_id": 0 } });
            let pair = [piece.clone(), json!({ "Sequence": { "id": "B", "type_id": 0 } })];
            json!({ "type": "TemplateProcessing", "single": vec![piece; count], "pair": pair, "special_tokens": {} })
        };
        assert_eq!(of("post_processor", template(8)), Ok(1.0));
        let nine = of("post_processor", template(9)).unwrap_err();
        assert_eq!(nine, "its template repeats a text 9 times, and 8 are the most");
        let many = of("post_processor", template(100_000)).unwrap_err();
        assert_eq!(many, "its template has 100000 pieces, and 64 are the most");
        let steps = json!({ "type": "Sequence", "processors": vec![template(2); 4] });
        assert!(of("post_processor", steps).unwrap_err().contains("16 times"));
    }

    #[test]
    fn a_long_token_for_the_unknown_is_refused() {
        let unk = "x".repeat(2000);
        let mut vocab = serde_json::Map::new();
        vocab.insert(unk.clone(), json!(0));
        let model = json!({ "type": "WordLevel", "vocab": vocab, "unk_token": unk });
        assert!(of("model", model).unwrap_err().contains("2000 bytes"));
    }

    #[test]
    fn what_models_in_use_do_is_taken() {
        let prepend = json!({ "type": "Prepend", "prepend": "▁" });
        assert_eq!(normalizers(vec![prepend, replace(" ", "▁")]), Ok(12.0));
        let spaces = json!({ "type": "Replace", "pattern": { "Regex": " {2,}" }, "content": " " });
        let plain = ["NFKD", "StripAccents", "Lowercase"].map(|kind| json!({ "type": kind }));
        let quotes = vec![replace("``", "\""), replace("''", "\"")];
        let albert = [quotes, plain.to_vec(), vec![spaces]].concat();
        assert_eq!(normalizers(albert), Ok(2.0));
        let bert = json!({
            "type": "BertNormalizer", "clean_text": true, "handle_chinese_chars": true, "strip_accents": null,
            "lowercase": true
        });
        assert_eq!(normalizers(vec![bert]), Ok(1.0));
    }
}
