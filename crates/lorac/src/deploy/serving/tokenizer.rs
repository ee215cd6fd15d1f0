//! The files of the tokenizer: as they were read, but for what the model was not trained with.

use crate::served::Served;
use lorac_train::Prediction;
use serde_json::{Map, Value, json};

const CONFIG: &str = "tokenizer_config.json";

/// The class of transformers that reads any tokenizer.json.
const CLASS: &str = "PreTrainedTokenizerFast";

/// Whether transformers must be told that a word begins with a space: to tokenizers of GPT-2's kind, where texts come as words.
pub(super) fn words_need_space(read: &[(String, Vec<u8>)], served: &Served) -> bool {
    let tokenizer = read.first().and_then(|(_, bytes)| serde_json::from_slice::<Value>(bytes).ok());
    let kind = tokenizer.as_ref().and_then(|tokenizer| tokenizer["pre_tokenizer"]["type"].as_str());
    served.predicts == Prediction::Tags && kind == Some("ByteLevel")
}

/// The tokenizer's files, by name. tokenizer_config.json says what the run went by: the length that texts are cut to and the
/// side, and a token that pads where none was named. Where there was none, one is made. With a config.json that is not `typed`,
/// transformers has no other way to a class of tokenizers.
pub(super) fn files(read: &[(String, Vec<u8>)], served: &Served, typed: bool) -> Vec<(String, Vec<u8>)> {
    let mut files = read.to_vec();
    let tokens = read.first().and_then(|(_, bytes)| serde_json::from_slice(bytes).ok()).unwrap_or(Value::Null);
    let maps = ["special_tokens_map.json", CONFIG].map(|name| object(read, name));
    let padded = maps.iter().flatten().any(|map| map.get("pad_token").is_some_and(|token| !token.is_null()));
    let [_, config] = maps;
    let mut config = config.unwrap_or_else(|| {
        let class = json!({ "tokenizer_class": CLASS, "clean_up_tokenization_spaces": false });
        class.as_object().cloned().unwrap_or_default()
    });
    let before = config.clone();
    if !typed && config.get("tokenizer_class").is_none_or(Value::is_null) {
        config.insert("tokenizer_class".into(), CLASS.into());
    }
    // A language model reads on where its training texts ended.
    if served.predicts != Prediction::Tokens {
        config.insert("model_max_length".into(), served.max_length.into());
    }
    if let Some(side) = served.side() {
        config.insert("truncation_side".into(), side.into());
    }
    if let Some(token) = token(&tokens, served.pad_id).filter(|_| !padded) {
        config.insert("pad_token".into(), token.into());
    }
    let at = files.iter().position(|(name, _)| name == CONFIG);
    if at.is_none() || config != before {
        let Ok(text) = super::pretty(&config) else { return files };
        match at {
            Some(at) => files[at].1 = text,
            None => files.push((CONFIG.into(), text)),
        }
    }
    files
}

fn object(files: &[(String, Vec<u8>)], name: &str) -> Option<Map<String, Value>> {
    let (_, bytes) = files.iter().find(|(known, _)| known == name)?;
    serde_json::from_slice(bytes).ok()
}

/// The token of an id, added or of the vocabulary.
fn token(tokenizer: &Value, id: i64) -> Option<String> {
    let added = tokenizer["added_tokens"].as_array().into_iter().flatten();
    let added = added.filter(|t| t["id"].as_i64() == Some(id)).find_map(|t| Some(t["content"].as_str()?.to_string()));
    let vocab =
        || tokenizer["model"]["vocab"].as_object()?.iter().find(|(_, v)| v.as_i64() == Some(id)).map(|(t, _)| t);
    added.or_else(|| vocab().cloned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn served(predicts: Prediction) -> Served {
        let section = json!({ "lorac_version": "0", "task": "classify", "predicts": predicts, "output": "logits",
            "max_length": 24, "truncate": "left", "pad_id": 1 });
        serde_json::from_value(section).expect("a section")
    }

    fn config(read: &[(&str, Value)], predicts: Prediction) -> Value {
        let read: Vec<_> = read.iter().map(|(n, v)| (n.to_string(), v.to_string().into_bytes())).collect();
        let files = files(&read, &served(predicts), true);
        let map = object(&files, CONFIG).expect("a configuration");
        assert_eq!(files[0], read[0], "tokenizer.json is as it was");
        map.into()
    }

    #[test]
    fn what_the_run_went_by_is_said_and_the_rest_stays() {
        let tokenizer = json!({ "added_tokens": [{ "id": 1, "content": "<e>" }], "model": { "vocab": { "a": 0 } } });
        let made = config(&[("tokenizer.json", tokenizer.clone())], Prediction::Classes);
        let of = |config: &Value| ["model_max_length", "truncation_side", "pad_token"].map(|key| config[key].clone());
        assert_eq!(of(&made), [json!(24), json!("left"), json!("<e>")]);
        assert_eq!(made["tokenizer_class"], "PreTrainedTokenizerFast");
        let own =
            json!({ "tokenizer_class": "BertTokenizer", "model_max_length": 512, "pad_token": "[PAD]", "x": [1] });
        let kept = config(&[("tokenizer.json", tokenizer.clone()), (CONFIG, own.clone())], Prediction::Classes);
        assert_eq!(of(&kept), [json!(24), json!("left"), json!("[PAD]")]);
        assert_eq!((&kept["tokenizer_class"], &kept["x"]), (&own["tokenizer_class"], &own["x"]));
        let language = config(&[("tokenizer.json", tokenizer), (CONFIG, own)], Prediction::Tokens);
        assert_eq!(language["model_max_length"], 512);
    }

    #[test]
    fn without_a_model_type_the_tokenizer_has_a_class() {
        let read = |config: Value| {
            let file = |name: &str, value: Value| (name.to_string(), value.to_string().into_bytes());
            vec![file("tokenizer.json", json!({})), file(CONFIG, config)]
        };
        let class = |config: Value, typed| {
            let files = files(&read(config), &served(Prediction::Classes), typed);
            object(&files, CONFIG).expect("a configuration").get("tokenizer_class").cloned()
        };
        assert_eq!(class(json!({}), false), Some(json!("PreTrainedTokenizerFast")));
        assert_eq!(class(json!({}), true), None);
        assert_eq!(class(json!({ "tokenizer_class": "BertTokenizer" }), false), Some(json!("BertTokenizer")));
    }

    #[test]
    fn words_of_tokenizers_like_gpt2_s_begin_with_a_space() {
        let of = |kind: &str, predicts| {
            let file = json!({ "pre_tokenizer": { "type": kind, "add_prefix_space": false } }).to_string();
            words_need_space(&[("tokenizer.json".into(), file.into_bytes())], &served(predicts))
        };
        assert!(of("ByteLevel", Prediction::Tags));
        assert!(!of("ByteLevel", Prediction::Classes) && !of("BertPreTokenizer", Prediction::Tags));
    }
}
