//! Plain text for language models: whole files, cut into blocks of tokens.

use crate::batch::IGNORE;
use crate::error::DataError;
use crate::tokenize::Tokenizer;
use std::path::{Path, PathBuf};

/// A plain text file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Text {
    /// Where it was read.
    pub path: PathBuf,
    /// Its content, without a byte order mark.
    pub text: String,
}

/// What becomes of the last tokens of a text, where they fill no block.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Rest {
    /// They are left out.
    #[default]
    Drop,
    /// They become a block that is padded on the right.
    Pad,
}

/// Rows of equally many tokens, one text after the other. The three fields hold `rows * len` numbers each.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Blocks {
    /// Token ids.
    pub input_ids: Vec<i64>,
    /// 1 on a token, 0 on padding.
    pub attention_mask: Vec<i64>,
    /// The ids again, [`IGNORE`] on padding. The loss of a language model compares the scores at a token with the
    /// label of the next one.
    pub labels: Vec<i64>,
    /// Number of blocks.
    pub rows: usize,
    /// Tokens a block, padding included.
    pub len: usize,
}

/// Reads a text file, or every `.txt` file below a folder, in the order of their paths.
///
/// # Errors
/// `Io`; `NotUtf8Text`; `NoText` where a folder holds no such file.
pub fn read_texts(path: &Path) -> Result<Vec<Text>, DataError> {
    if !path.is_dir() {
        return Ok(vec![read_text(path)?]);
    }
    let mut files = Vec::new();
    below(path, &mut files)?;
    files.sort();
    if files.is_empty() {
        return Err(DataError::NoText { path: path.to_owned() });
    }
    files.iter().map(|file| read_text(file)).collect()
}

fn read_text(path: &Path) -> Result<Text, DataError> {
    let bytes = std::fs::read(path).map_err(|source| DataError::Io { path: path.to_owned(), source })?;
    let text = String::from_utf8(bytes)
        .map_err(|error| DataError::NotUtf8Text { path: path.to_owned(), byte: error.utf8_error().valid_up_to() })?;
    let text = text.strip_prefix('\u{feff}').map_or_else(|| text.clone(), str::to_owned);
    Ok(Text { path: path.to_owned(), text })
}

/// Links to folders are not followed, so that no walk goes round in circles.
fn below(folder: &Path, files: &mut Vec<PathBuf>) -> Result<(), DataError> {
    let io = |source| DataError::Io { path: folder.to_owned(), source };
    for entry in std::fs::read_dir(folder).map_err(io)? {
        let entry = entry.map_err(io)?;
        let path = entry.path();
        if entry.file_type().map_err(io)?.is_dir() {
            below(&path, files)?;
        } else if path.is_file() && path.extension().is_some_and(|e| e.eq_ignore_ascii_case("txt")) {
            files.push(path);
        }
    }
    Ok(())
}

/// Tokenizes each text whole, without special tokens, and cuts it into blocks of `len` tokens, each beginning where
/// the last one ended. No block goes from one text into the next.
///
/// # Errors
/// `ShortBlock` when `len` is below 2, with nothing to predict; `Encode`; `NoBlock` when no text fills a block.
pub fn text_blocks<S: AsRef<str>>(
    texts: &[S],
    tokenizer: &Tokenizer,
    len: usize,
    rest: Rest,
) -> Result<Blocks, DataError> {
    if len < 2 {
        return Err(DataError::ShortBlock { len });
    }
    let mut blocks = Blocks { input_ids: vec![], attention_mask: vec![], labels: vec![], rows: 0, len };
    let mut tokens = 0;
    for text in texts {
        let ids = tokenizer.encode_whole(text.as_ref())?;
        tokens += ids.len();
        let whole = ids.chunks_exact(len);
        // A single token predicts nothing.
        let partial = Some(whole.remainder()).filter(|partial| rest == Rest::Pad && partial.len() > 1);
        for block in whole.chain(partial) {
            let padding = len - block.len();
            let append = |field: &mut Vec<i64>, values: &[i64], pad| {
                field.extend(values);
                field.extend(std::iter::repeat_n(pad, padding));
            };
            append(&mut blocks.input_ids, block, tokenizer.pad_id());
            append(&mut blocks.attention_mask, &vec![1; block.len()], 0);
            append(&mut blocks.labels, block, IGNORE);
            blocks.rows += 1;
        }
    }
    match blocks.rows {
        0 => Err(DataError::NoBlock { tokens, len }),
        _ => Ok(blocks),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    /// One token a letter of "abcdefgh", in that order, `[CLS]` before each text that asks for special tokens.
    fn tokenizer() -> Tokenizer {
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
        Tokenizer::from_file(&path, 4).unwrap()
    }

    #[test]
    fn whole_texts_are_cut_without_overlap_or_special_tokens() {
        let blocks = text_blocks(&["abcdefgh", "hg", "abcd"], &tokenizer(), 3, Rest::Drop).unwrap();
        assert_eq!(blocks.input_ids, [0, 1, 2, 3, 4, 5, 0, 1, 2]);
        assert_eq!((blocks.rows, blocks.len), (3, 3));
        assert_eq!((blocks.labels, blocks.attention_mask), (blocks.input_ids, vec![1; 9]));
    }

    #[test]
    fn what_is_left_is_padded_and_ignored() {
        let blocks = text_blocks(&["abcde", "hg", "abcd"], &tokenizer(), 3, Rest::Pad).unwrap();
        assert_eq!(blocks.input_ids, [0, 1, 2, 3, 4, 9, 7, 6, 9, 0, 1, 2]);
        assert_eq!(blocks.labels, [0, 1, 2, 3, 4, IGNORE, 7, 6, IGNORE, 0, 1, 2]);
        assert_eq!(blocks.attention_mask, [1, 1, 1, 1, 1, 0, 1, 1, 0, 1, 1, 1]);
        assert_eq!(blocks.rows, 4, "a single token predicts nothing");
    }

    #[test]
    fn nothing_to_predict_is_refused() {
        let wrong = text_blocks(&["ab", "c"], &tokenizer(), 3, Rest::Drop).unwrap_err();
        assert_eq!(wrong.to_string(), "the texts have 3 tokens, and none of them fills a block of 3");
        assert!(matches!(text_blocks(&["abc"], &tokenizer(), 1, Rest::Pad), Err(DataError::ShortBlock { len: 1 })));
        let none: [&str; 0] = [];
        assert!(matches!(text_blocks(&none, &tokenizer(), 2, Rest::Pad), Err(DataError::NoBlock { tokens: 0, .. })));
    }

    #[test]
    fn a_folder_is_read_in_the_order_of_its_paths() {
        let folder = tempfile::tempdir().unwrap();
        let place = |name: &str| folder.path().join(name);
        std::fs::create_dir(place("b")).unwrap();
        for (name, text) in [("c.txt", "3"), ("b/x.TXT", "\u{feff}2"), ("a.txt", "1\r\n"), ("d.md", "4")] {
            std::fs::write(place(name), text).unwrap();
        }
        let texts = read_texts(folder.path()).unwrap();
        let seen: Vec<&str> = texts.iter().map(|t| t.text.as_str()).collect();
        assert_eq!(seen, ["1\r\n", "2", "3"]);
        assert_eq!(read_texts(&place("d.md")).unwrap()[0].text, "4", "a file that is named need not end in .txt");
    }

    #[test]
    fn files_that_are_no_text_are_named() {
        let folder = tempfile::tempdir().unwrap();
        assert!(matches!(read_texts(folder.path()), Err(DataError::NoText { .. })));
        let path = folder.path().join("a.txt");
        std::fs::write(&path, b"caf\xe9").unwrap();
        assert!(matches!(read_texts(folder.path()), Err(DataError::NotUtf8Text { byte: 3, .. })));
        assert!(matches!(read_texts(&folder.path().join("b.txt")), Err(DataError::Io { .. })));
    }
}
