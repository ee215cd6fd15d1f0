//! Tokenizers that tests share, and tests of texts alone.

use super::*;
use serde_json::{Value, json};

/// One token per letter of "abcdefgh", in that order, `[CLS]` before each text that asks for special tokens.
pub(crate) fn letters() -> Tokenizer {
    letters_of(4)
}

/// The same, with texts of at most so many tokens.
pub(crate) fn letters_of(max_length: usize) -> Tokenizer {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("tokenizer.json");
    let mut vocab: serde_json::Map<_, _> =
        "abcdefgh".chars().enumerate().map(|(id, c)| (c.to_string(), json!(id))).collect();
    vocab.insert("[CLS]".into(), json!(8));
    vocab.insert("[PAD]".into(), json!(9));
    let file = json!({
        "version": "1.0", "truncation": null, "padding": null, "added_tokens": [], "normalizer": null,
        "pre_tokenizer": null, "decoder": null,
        "post_processor": { "type": "BertProcessing", "sep": ["[CLS]", 8], "cls": ["[CLS]", 8] },
        "model": {
            "type": "BPE", "dropout": null, "unk_token": null, "continuing_subword_prefix": null,
            "end_of_word_suffix": null, "fuse_unk": false, "byte_fallback": false, "vocab": vocab, "merges": []
        }
    });
    std::fs::write(&path, file.to_string()).unwrap();
    Tokenizer::from_file(&path, max_length).unwrap()
}

impl Tokenizer {
    /// The same with another maximum.
    pub(crate) fn longer(self, max_length: usize) -> Tokenizer {
        Tokenizer { max_length, ..self }
    }
}

/// A word-level tokenizer over a few words, with BERT's special tokens.
pub(in crate::tokenize) fn bert() -> Value {
    json!({
        "version": "1.0",
        "truncation": { "direction": "Right", "max_length": 3, "strategy": "LongestFirst", "stride": 0 },
        "padding": null,
        "added_tokens": [
            { "id": 3, "content": "[PAD]", "single_word": false, "lstrip": false, "rstrip": false, "normalized": false, "special": true },
            { "id": 7, "content": "[EXTRA]", "single_word": false, "lstrip": false, "rstrip": false, "normalized": false, "special": true }
        ],
        "normalizer": { "type": "Lowercase" },
        "pre_tokenizer": { "type": "Whitespace" },
        "post_processor": { "type": "BertProcessing", "sep": ["[SEP]", 2], "cls": ["[CLS]", 1] },
        "decoder": null,
        "model": {
            "type": "WordLevel",
            "vocab": { "[UNK]": 0, "[CLS]": 1, "[SEP]": 2, "[PAD]": 3, "good": 4, "bad": 5, "film": 6 },
            "unk_token": "[UNK]"
        }
    })
}

pub(in crate::tokenize) fn load(file: &Value, max_length: usize) -> Result<Tokenizer, DataError> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("tokenizer.json");
    std::fs::write(&path, file.to_string()).unwrap();
    Tokenizer::from_file(&path, max_length)
}

fn ids(tokenizer: &Tokenizer, text: &str) -> Vec<i64> {
    tokenizer.encode(&[text]).unwrap().remove(0).ids
}

#[test]
fn texts_become_ids_with_special_tokens() {
    let tokenizer = load(&bert(), 16).unwrap();
    assert_eq!(ids(&tokenizer, "Good film, bad film"), [1, 4, 6, 0, 5, 6, 2]);
    assert_eq!(ids(&tokenizer, ""), [1, 2]);
    assert_eq!(tokenizer.encode(&["good"]).unwrap()[0].type_ids, [0, 0, 0]);
}

#[test]
fn our_length_replaces_the_files_and_nothing_is_padded() {
    let mut file = bert();
    file["padding"] = json!({
        "strategy": { "Fixed": 12 }, "direction": "Right", "pad_to_multiple_of": null,
        "pad_id": 6, "pad_type_id": 0, "pad_token": "film"
    });
    let tokenizer = load(&file, 5).unwrap();
    assert_eq!(ids(&tokenizer, "good good bad bad bad"), [1, 4, 4, 5, 2]);
    assert_eq!(ids(&tokenizer, "good"), [1, 4, 2]);
    assert_eq!(tokenizer.pad_id(), 6, "the padding section comes first");
    file["truncation"]["direction"] = json!("Left");
    assert_eq!(ids(&load(&file, 4).unwrap(), "good good bad film"), [1, 5, 6, 2]);
}

#[test]
fn texts_are_cut_where_they_are_said_to_be() {
    let tokenizer = load(&bert(), 4).unwrap();
    let of = |truncate| {
        let cut = tokenizer.clone().truncated(truncate).unwrap().encode(&["good bad film film"]).unwrap().remove(0);
        (cut.ids, cut.measure.lost)
    };
    assert_eq!(of(Truncate::Right), (vec![1, 4, 5, 2], 2));
    assert_eq!(of(Truncate::Left), (vec![1, 6, 6, 2], 2));
    assert_eq!(of(Truncate::Refuse), (vec![1, 4, 5, 2], 2));
}

#[test]
fn unknown_and_lost_tokens_are_counted_without_special_ones() {
    let tokenizer = load(&bert(), 5).unwrap();
    let measure = |text| tokenizer.encode(&[text]).unwrap().remove(0).measure;
    assert_eq!(measure("good book"), Measure { tokens: 2, unknown: 1, lost: 0, more: false });
    assert_eq!(measure("a b c d e f g h"), Measure { tokens: 3, unknown: 3, lost: 5, more: false });
    assert_eq!(measure(""), Measure::default());
    let long = measure(&"good ".repeat(200_000));
    assert!(long.is_cut() && long.more && long.lost > 100, "{long:?}");
    let unigram = json!({
        "version": "1.0", "truncation": null, "padding": null, "added_tokens": [], "normalizer": null,
        "pre_tokenizer": null, "post_processor": null, "decoder": null,
        "model": { "type": "Unigram", "unk_id": 1, "vocab": [["a", -1.0], ["<unk>", -2.0]], "byte_fallback": false }
    });
    let tokenizer = load(&unigram, 5).unwrap();
    assert_eq!(tokenizer.encode(&["aza"]).unwrap()[0].measure.unknown, 1);
}

#[test]
fn padding_token_and_vocabulary_are_found() {
    let tokenizer = load(&bert(), 8).unwrap();
    assert_eq!((tokenizer.pad_id(), tokenizer.vocab_size(), tokenizer.max_length()), (3, 8, 8));
    let mut file = bert();
    file["model"]["vocab"]["film"] = json!(40);
    assert_eq!(load(&file, 8).unwrap().vocab_size(), 41, "ids may have gaps");
    file["added_tokens"] = json!([]);
    file["model"]["vocab"] = json!({ "[UNK]": 0, "a": 1, "<|endoftext|>": 2 });
    file["post_processor"] = Value::Null;
    assert_eq!(load(&file, 8).unwrap().pad_id(), 2);
    file["model"]["vocab"] = json!({ "[UNK]": 0, "a": 1 });
    assert_eq!(load(&file, 8).unwrap().pad_id(), 0);
}

#[test]
fn a_text_of_no_tokens_becomes_one() {
    let mut file = bert();
    file["post_processor"] = Value::Null;
    assert_eq!(ids(&load(&file, 8).unwrap(), "  "), [3]);
}

#[test]
fn room_for_special_tokens_alone_is_refused() {
    for max_length in [0, 1, 2] {
        assert!(matches!(load(&bert(), max_length), Err(DataError::MaxLengthTooSmall { special: 2, .. })));
    }
    assert_eq!(ids(&load(&bert(), 3).unwrap(), "good bad"), [1, 4, 2]);
}

#[test]
fn a_file_that_is_no_tokenizer_is_refused() {
    assert!(matches!(load(&json!({ "a": 1 }), 8), Err(DataError::BadTokenizer { .. })));
    assert!(matches!(Tokenizer::from_file(Path::new("no/such.json"), 8), Err(DataError::Io { .. })));
}

#[test]
fn dropout_in_the_file_does_not_make_the_result_random() {
    let file = json!({
        "version": "1.0", "truncation": null, "padding": null, "added_tokens": [], "normalizer": null,
        "pre_tokenizer": null, "post_processor": null, "decoder": null,
        "model": {
            "type": "BPE", "dropout": 0.5, "unk_token": null, "continuing_subword_prefix": null,
            "end_of_word_suffix": null, "fuse_unk": false, "byte_fallback": false,
            "vocab": { "a": 0, "b": 1, "ab": 2 }, "merges": ["a b"]
        }
    });
    assert_eq!(ids(&load(&file, 64).unwrap(), &"ab".repeat(20)), [2; 20]);
}

#[test]
fn cut_texts_say_so() {
    let tokenizer = load(&bert(), 5).unwrap();
    let cut = |text: &str| tokenizer.encode(&[text]).unwrap()[0].measure.is_cut();
    assert_eq!(["", "good bad film", "good bad film good"].map(cut), [false, false, true]);
}

#[test]
fn of_a_long_text_no_more_is_looked_at_than_is_needed_and_the_tokens_are_the_same() {
    let words = ["good", "bad", "film", "x", "dull,"];
    let sentence = |n: usize| (0..n).map(|i| words[(i * i + i / 7) % 5]).collect::<Vec<_>>().join(" ");
    for direction in ["Right", "Left"] {
        let mut file = bert();
        file["truncation"]["direction"] = json!(direction);
        let tokenizer = load(&file, 24).unwrap();
        let blank = " ".repeat(30_000);
        let (few, many) = (sentence(10), sentence(6_000));
        let blob = "x".repeat(20_000);
        for text in [
            many.clone(),
            format!("{blank}{few}"),
            format!("{few}{blank}"),
            format!("{few}{blank}{many}"),
            format!("{blob} {few} {blob}"),
            format!("{many}{blank}{few}"),
            many.replace(' ', "é"),
            many.replace(' ', "\u{3000}"),
        ] {
            let whole = tokenizer.inner.encode_fast(text.as_str(), true).unwrap();
            let got = tokenizer.encode(&[&text]).unwrap().remove(0);
            let want: Vec<i64> = whole.get_ids().iter().map(|id| i64::from(*id)).collect();
            assert_eq!(got.ids, want, "{direction}: {}..", &text[..20]);
            assert_eq!(got.measure.is_cut(), !whole.get_overflowing().is_empty());
        }
    }
}

#[test]
fn the_part_of_a_text_ends_at_a_space_where_one_is_near() {
    let text = "aa bb ccé dd";
    let right = |bytes| part(text, bytes, TruncationDirection::Right);
    assert_eq!([right(4), right(9), right(99), right(0)], ["aa", "aa bb", text, ""]);
    let left = |bytes| part(text, bytes, TruncationDirection::Left);
    assert_eq!([left(4), left(6), left(99), left(0)], [" dd", "cé dd", text, ""]);
    let dense = "é".repeat(8);
    assert_eq!(part(&dense, 5, TruncationDirection::Right), "éé");
    assert_eq!(part(&dense, 5, TruncationDirection::Left), "éé");
}

#[test]
fn many_texts_keep_their_order() {
    let texts: Vec<String> = (0..2000).map(|i| "good ".repeat(i % 7)).collect();
    let encoded = load(&bert(), 16).unwrap().encode(&texts).unwrap();
    assert!(encoded.iter().enumerate().all(|(i, one)| one.ids.len() == i % 7 + 2));
}
