//! `tokenizer_config.json`: what Hugging Face's transformers reads beside a `tokenizer.json`, and does to it.

use crate::error::DataError;
use crate::file;
use serde_json::{Map, Value};
use std::path::Path;
use tokenizers::TruncationDirection;

/// Classes whose settings replace those of a BERT normalizer in `tokenizer.json`, be they named or defaults.
const BERT: [&str; 12] = [
    "Bert",
    "ConvBert",
    "DPRContextEncoder",
    "DPRQuestionEncoder",
    "DPRReader",
    "DistilBert",
    "Electra",
    "LayoutLM",
    "Lxmert",
    "MobileBert",
    "RetriBert",
    "SqueezeBert",
];

/// Classes that set whether a text begins with a space.
const BYTE_LEVEL: [&str; 9] =
    ["Bart", "Blenderbot", "CodeGen", "Deberta", "GPT2", "LED", "Longformer", "Mvp", "Roberta"];

/// Keys of the tokens that have a name.
pub(crate) const NAMED: [&str; 7] =
    ["bos_token", "eos_token", "unk_token", "sep_token", "pad_token", "cls_token", "mask_token"];

/// Longer files are none.
const MOST_BYTES: u64 = 64 << 20;

/// What it says, and `special_tokens_map.json` where it says nothing.
#[derive(Debug, Default)]
pub(crate) struct TokenizerConfig {
    keys: Map<String, Value>,
}

impl TokenizerConfig {
    /// The one beside a `tokenizer.json`, where it may be read; an empty one where there is none.
    pub(crate) fn beside(tokenizer: &Path, may_read: &dyn Fn(&Path) -> bool) -> Result<TokenizerConfig, DataError> {
        let mut keys = Map::new();
        if tokenizer.file_name().is_some_and(|name| name == "tokenizer.json") {
            for name in ["special_tokens_map.json", "tokenizer_config.json"] {
                let path = tokenizer.with_file_name(name);
                if path.exists() && may_read(&path) {
                    let text = file::read(&path, MOST_BYTES)?;
                    let read: Result<Map<String, Value>, _> = serde_json::from_slice(&text);
                    keys.extend(read.map_err(|e| DataError::BadTokenizer { path, what: e.to_string() })?);
                }
            }
        }
        Ok(TokenizerConfig { keys })
    }

    /// Whether it says nothing.
    pub(crate) fn is_empty(&self) -> bool {
        self.keys.is_empty()
    }

    /// The side that a text is cut on.
    pub(crate) fn truncation_side(&self) -> Option<TruncationDirection> {
        match self.text("truncation_side")? {
            "left" => Some(TruncationDirection::Left),
            "right" => Some(TruncationDirection::Right),
            _ => None,
        }
    }

    /// The token that pads.
    pub(crate) fn pad_token(&self) -> Option<&str> {
        token(self.keys.get("pad_token")?)
    }

    /// What it says, by its keys.
    pub(crate) fn keys(&self) -> &Map<String, Value> {
        &self.keys
    }

    /// Whether special tokens in a text are texts.
    pub(crate) fn splits_special_tokens(&self) -> bool {
        self.flag("split_special_tokens").unwrap_or(false)
    }

    /// Makes a tokenizer say what its class makes of it; whether anything changed.
    pub(crate) fn apply(&self, tokenizer: &mut Value) -> bool {
        let before = tokenizer.clone();
        if self.is_of(&BERT) {
            for normalizer in parts(&mut tokenizer["normalizer"], "BertNormalizer") {
                normalizer["lowercase"] = self.flag("do_lower_case").unwrap_or(true).into();
                normalizer["strip_accents"] = self.flag("strip_accents").into();
                normalizer["handle_chinese_chars"] = self.flag("tokenize_chinese_chars").unwrap_or(true).into();
            }
        }
        if self.is_of(&BYTE_LEVEL)
            && let Some(space) = self.flag("add_prefix_space")
        {
            for level in parts(&mut tokenizer["pre_tokenizer"], "ByteLevel") {
                level["add_prefix_space"] = space.into();
            }
        }
        *tokenizer != before
    }

    /// What of it is not followed, in words; `tokenizer` is what [`TokenizerConfig::apply`] made, and texts are cut at
    /// `max_length` tokens.
    pub(crate) fn unfollowed(&self, tokenizer: &Value, max_length: usize) -> Vec<String> {
        let mut notes = Vec::new();
        let mut not = |key: &str, why: &str| {
            let value = self.keys.get(key).map(Value::to_string).unwrap_or_default();
            notes.push(format!("tokenizer_config.json: `{key}: {value}` is not followed: {why}"));
        };
        let normalizer = &tokenizer["normalizer"];
        let lowers = any(normalizer, &|v| v["type"] == "Lowercase" || v["lowercase"] == true);
        if self.flag("do_lower_case").is_some_and(|lower| lower != lowers) {
            not("do_lower_case", "tokenizer.json says how texts are normalized");
        }
        let spaces =
            any(&tokenizer["pre_tokenizer"], &|v| v["add_prefix_space"] == true || v["prepend_scheme"] == "always")
                || any(&tokenizer["pre_tokenizer"], &|v| v["prepend_scheme"] == "first")
                || any(normalizer, &|v| v["type"] == "Prepend");
        if self.flag("add_prefix_space").is_some_and(|space| space != spaces) {
            not("add_prefix_space", "tokenizer.json says how texts begin");
        }
        if self.text("padding_side") == Some("left") {
            not("padding_side", "batches are padded on the right, and masked there");
        }
        if self.text("truncation_side").is_some() && self.truncation_side().is_none() {
            not("truncation_side", "it is neither left nor right");
        }
        for (key, of) in [("add_bos_token", "bos_token"), ("add_eos_token", "eos_token")] {
            let Some((asked, name)) = self.flag(key).zip(self.keys.get(of).and_then(token)) else { continue };
            if any(&tokenizer["post_processor"], &|v| v == name) != asked {
                not(key, "tokenizer.json says which tokens are added");
            }
        }
        if self.keys.get("model_max_length").and_then(Value::as_f64).is_some_and(|most| most < max_length as f64) {
            not("model_max_length", &format!("texts are cut at {max_length} tokens"));
        }
        let added: Vec<&str> = tokenizer["added_tokens"].as_array().into_iter().flatten().filter_map(token).collect();
        let mut more: Vec<&str> = Vec::new();
        for name in self.tokens().filter(|name| !added.contains(name)) {
            if !more.contains(&name) {
                more.push(name);
            }
        }
        if !more.is_empty() {
            let shown: Vec<String> = more.iter().take(5).map(|name| format!("`{}`", name.escape_debug())).collect();
            let rest = if more.len() > 5 { format!(" and {} more", more.len() - 5) } else { String::new() };
            let (names, rest) = (shown.join(", "), rest);
            notes.push(format!(
                "tokenizer_config.json: {names}{rest}: not among the added tokens of tokenizer.json, and not added"
            ));
        }
        notes
    }

    /// Tokens that transformers adds where they are not there.
    fn tokens(&self) -> impl Iterator<Item = &str> {
        let lists = ["additional_special_tokens", "extra_special_tokens", "added_tokens_decoder"];
        let listed = lists.into_iter().filter_map(|key| self.keys.get(key)).flat_map(|value| {
            let (list, map) = (value.as_array().into_iter().flatten(), value.as_object().into_iter().flatten());
            list.chain(map.map(|(_, value)| value))
        });
        NAMED.into_iter().filter_map(|key| self.keys.get(key)).chain(listed).filter_map(token)
    }

    /// Whether the class of the tokenizer is one of these.
    fn is_of(&self, classes: &[&str]) -> bool {
        let name = self.text("tokenizer_class").unwrap_or_default();
        let name = name.strip_suffix("Fast").unwrap_or(name);
        name.strip_suffix("Tokenizer").is_some_and(|class| classes.contains(&class))
    }

    fn text(&self, key: &str) -> Option<&str> {
        self.keys.get(key)?.as_str()
    }

    fn flag(&self, key: &str) -> Option<bool> {
        self.keys.get(key)?.as_bool()
    }
}

/// A token, written as itself or with its properties.
pub(crate) fn token(value: &Value) -> Option<&str> {
    value.as_str().or_else(|| value.get("content")?.as_str())
}

/// The parts of a normalizer or pre-tokenizer that are of a type: itself, or members of its sequence.
fn parts<'v>(value: &'v mut Value, of: &str) -> Vec<&'v mut Value> {
    match value["type"] == of {
        true => vec![value],
        false => {
            let lists =
                value.as_object_mut().into_iter().flat_map(|map| map.values_mut()).filter_map(Value::as_array_mut);
            lists.flatten().filter(|one| one.is_object()).flat_map(|one| parts(one, of)).collect()
        }
    }
}

/// Whether something is true of a value or of one in it.
fn any(value: &Value, is: &dyn Fn(&Value) -> bool) -> bool {
    is(value)
        || match value {
            Value::Array(all) => all.iter().any(|one| any(one, is)),
            Value::Object(map) => map.values().any(|one| any(one, is)),
            _ => false,
        }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn config(keys: Value) -> TokenizerConfig {
        TokenizerConfig { keys: keys.as_object().cloned().unwrap_or_default() }
    }

    #[test]
    fn what_is_not_followed_is_named_and_what_agrees_is_not() {
        let file = json!({
            "added_tokens": [{ "content": "<s>" }, { "content": "[PAD]" }],
            "normalizer": { "type": "Sequence", "normalizers": [{ "type": "NFD" }, { "type": "Lowercase" }] },
            "pre_tokenizer": { "type": "ByteLevel", "add_prefix_space": false },
            "post_processor": { "type": "TemplateProcessing", "single": [{ "SpecialToken": { "id": "<s>", "type_id": 0 } }] }
        });
        let agrees = json!({
            "do_lower_case": true, "add_prefix_space": false, "padding_side": "right", "truncation_side": "left",
            "bos_token": "<s>", "eos_token": { "content": "<s>" }, "add_bos_token": true, "model_max_length": 1e30,
            "pad_token": "[PAD]", "chat_template": "..", "added_tokens_decoder": { "0": { "content": "<s>" } }
        });
        assert_eq!(config(agrees).unfollowed(&file, 128), Vec::<String>::new());
        let differs = json!({
            "do_lower_case": false, "add_prefix_space": true, "padding_side": "left", "truncation_side": "both",
            "bos_token": "<s>", "add_bos_token": false, "model_max_length": 64, "additional_special_tokens": ["<x>", "<x>"],
            "extra_special_tokens": { "image": "<i>" }
        });
        let notes = config(differs).unfollowed(&file, 128);
        for (note, says) in notes.iter().zip([
            "`do_lower_case: false`",
            "`add_prefix_space: true`",
            "`padding_side: \"left\"`",
            "`truncation_side: \"both\"`",
            "`add_bos_token: false`",
            "`model_max_length: 64` is not followed: texts are cut at 128 tokens",
            "`<x>`, `<i>`: not among",
        ]) {
            assert!(note.contains(says), "{note}: {says}");
        }
        assert_eq!(notes.len(), 7);
    }

    #[test]
    fn a_class_says_how_texts_are_normalized_and_begin() {
        let bert =
            json!({ "type": "BertNormalizer", "lowercase": true, "strip_accents": null, "handle_chinese_chars": true });
        let mut file = json!({ "normalizer": { "type": "Sequence", "normalizers": [bert] } });
        assert!(!config(json!({ "tokenizer_class": "BertTokenizer" })).apply(&mut file));
        assert!(
            !config(json!({ "tokenizer_class": "PreTrainedTokenizerFast", "do_lower_case": false })).apply(&mut file)
        );
        let cased =
            json!({ "tokenizer_class": "MobileBertTokenizerFast", "do_lower_case": false, "strip_accents": true });
        assert!(config(cased).apply(&mut file));
        let normalizer = &file["normalizer"]["normalizers"][0];
        assert_eq!((&normalizer["lowercase"], &normalizer["strip_accents"]), (&json!(false), &json!(true)));
        let mut file =
            json!({ "pre_tokenizer": { "type": "ByteLevel", "add_prefix_space": false }, "normalizer": null });
        assert!(config(json!({ "tokenizer_class": "GPT2Tokenizer", "add_prefix_space": true })).apply(&mut file));
        assert_eq!(file["pre_tokenizer"]["add_prefix_space"], true);
    }
}
