//! Tokenizers of words: `w0` is the token 0, `w1` the token 1, and so on; what is no such word is `w0`.

use lorac::data::Tokenizer;
use serde_json::{Map, Value, json};

/// A tokenizer.json of so many words.
pub fn words(count: usize) -> Value {
    special_words(count, &[])
}

/// The same; some of the words are special tokens.
pub fn special_words(count: usize, special: &[i64]) -> Value {
    let vocab: Map<String, Value> = (0..count).map(|i| (format!("w{i}"), i.into())).collect();
    let token = |id: &i64| {
        json!({ "id": id, "content": format!("w{id}"), "single_word": false, "lstrip": false, "rstrip": false, "normalized": false,
            "special": true })
    };
    json!({
        "version": "1.0", "truncation": null, "padding": null, "normalizer": null, "decoder": null, "post_processor": null,
        "added_tokens": special.iter().map(token).collect::<Vec<_>>(), "pre_tokenizer": { "type": "WhitespaceSplit" },
        "model": { "type": "WordLevel", "vocab": vocab, "unk_token": "w0" }
    })
}

/// The same; the word of this number, a special token, ends every text.
pub fn ended_words(count: usize, end: i64) -> Value {
    let name = format!("w{end}");
    let (last, text) = (
        json!({ "SpecialToken": { "id": name, "type_id": 0 } }),
        |id| json!({ "Sequence": { "id": id, "type_id": 0 } }),
    );
    let mut file = special_words(count, &[end]);
    file["post_processor"] = json!({
        "type": "TemplateProcessing", "single": [text("A"), last], "pair": [text("A"), last, text("B"), last],
        "special_tokens": { name.clone(): { "id": name, "ids": [end], "tokens": [name] } }
    });
    file
}

/// The tokenizer of a tokenizer.json, for texts of at most 64 tokens.
pub fn tokenizer(file: &Value) -> Tokenizer {
    let folder = tempfile::tempdir().unwrap_or_else(|e| panic!("no temporary folder: {e}"));
    let path = folder.path().join("tokenizer.json");
    std::fs::write(&path, file.to_string()).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    Tokenizer::from_file(&path, 64).unwrap_or_else(|e| panic!("{e}"))
}
