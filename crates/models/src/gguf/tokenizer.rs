//! A GGUF file's byte-level BPE as a Hugging Face `tokenizer.json`.

use super::value::Value as Meta;
use super::{Gguf, open};
use crate::ModelError;
use serde_json::{Map, Value, json};
use std::collections::HashSet;
use std::path::Path;

/// Values of `tokenizer.ggml.token_type`.
const CONTROL: u64 = 3;
const USER_DEFINED: u64 = 4;

/// The tokenizer of the GGUF file `file`, as the content of a `tokenizer.json`.
///
/// # Errors
/// The file cannot be read, is damaged, or its tokenizer is not a byte-level BPE with known rules for splitting texts.
pub fn gguf_tokenizer(file: &Path) -> Result<Value, ModelError> {
    let gguf = open(file)?;
    let bad = |what| ModelError::Tokenizer { file: file.into(), what };
    Reader { gguf: &gguf }.read().map_err(bad)
}

struct Reader<'a> {
    gguf: &'a Gguf,
}

impl<'a> Reader<'a> {
    fn get(&self, name: &str) -> Option<&'a Meta> {
        self.gguf.values.get(&format!("tokenizer.ggml.{name}"))
    }

    fn texts(&self, name: &str) -> Result<Vec<&'a str>, String> {
        let texts = self.get(name).and_then(Meta::list).and_then(|v| v.iter().map(Meta::text).collect());
        texts.ok_or_else(|| format!("tokenizer.ggml.{name} is not a list of texts"))
    }

    fn flag(&self, name: &str) -> bool {
        self.get(name).and_then(Meta::flag).unwrap_or(false)
    }

    /// The token that the value `name` numbers.
    fn token(&self, name: &str, tokens: &[&'a str]) -> Result<Option<(u64, &'a str)>, String> {
        let Some(value) = self.get(name) else { return Ok(None) };
        let id = value.size();
        let token = id.and_then(|id| Some((id, *tokens.get(usize::try_from(id).ok()?)?)));
        token.map(Some).ok_or_else(|| format!("tokenizer.ggml.{name} is {}, which is not a token", value.describe()))
    }

    fn read(&self) -> Result<Value, String> {
        let model = self.get("model").and_then(Meta::text).unwrap_or("absent");
        if model != "gpt2" {
            return Err(format!("tokenizer.ggml.model is `{model}`; known: gpt2, a byte-level BPE"));
        }
        let tokens = self.texts("tokens")?;
        let mut vocab = Map::new();
        for (id, token) in tokens.iter().enumerate() {
            if vocab.insert(token.to_string(), id.into()).is_some() {
                return Err(format!("the token `{}` is a duplicate", token.escape_debug()));
            }
        }
        let merges = self.merges(&vocab)?;
        let pad = self.token("padding_token_id", &tokens)?.map(|(id, token)| {
            json!({"strategy": "BatchLongest", "direction": "Right", "pad_to_multiple_of": null,
                "pad_id": id, "pad_type_id": 0, "pad_token": token})
        });
        Ok(json!({
            "version": "1.0",
            "truncation": null,
            "padding": pad,
            "added_tokens": self.added(&tokens)?,
            "normalizer": null,
            "pre_tokenizer": self.pre_tokenizer()?,
            "post_processor": self.post_processor(&tokens)?,
            "decoder": {"type": "ByteLevel", "add_prefix_space": true, "trim_offsets": true, "use_regex": true},
            "model": {
                "type": "BPE", "dropout": null, "unk_token": null, "continuing_subword_prefix": null,
                "end_of_word_suffix": null, "fuse_unk": false, "byte_fallback": false, "ignore_merges": false,
                "vocab": vocab, "merges": merges
            }
        }))
    }

    /// Pairs that become one token, most frequent first.
    fn merges(&self, vocab: &Map<String, Value>) -> Result<Vec<Value>, String> {
        let pair = |merge: &str| {
            let wrong = || format!("the merge `{}` does not join two tokens to one", merge.escape_debug());
            let (a, b) = merge.split_once(' ').ok_or_else(wrong)?;
            let known = [a, b, &format!("{a}{b}")].iter().all(|token| vocab.contains_key(*token));
            if known { Ok(json!([a, b])) } else { Err(wrong()) }
        };
        self.texts("merges")?.into_iter().map(pair).collect()
    }

    /// Tokens that are found before the text is split.
    fn added(&self, tokens: &[&str]) -> Result<Vec<Value>, String> {
        let Some(types) = self.get("token_type") else { return Ok(Vec::new()) };
        let types = types.list().filter(|types| types.len() == tokens.len());
        let types = types.ok_or_else(|| format!("tokenizer.ggml.token_type is not a list of {}", tokens.len()))?;
        let named = types.iter().zip(tokens).enumerate().filter_map(|(id, (kind, token))| {
            let kind = kind.size().filter(|kind| [CONTROL, USER_DEFINED].contains(kind))?;
            Some(json!({"id": id, "content": token, "single_word": false, "lstrip": false, "rstrip": false,
                "normalized": false, "special": kind == CONTROL}))
        });
        Ok(named.collect())
    }

    fn pre_tokenizer(&self) -> Result<Value, String> {
        let bytes = json!({"type": "ByteLevel", "add_prefix_space": self.flag("add_space_prefix"),
            "trim_offsets": true, "use_regex": true});
        match self.get("pre").and_then(Meta::text) {
            Some("gpt-2") => Ok(bytes),
            Some("smollm") => {
                let digits = json!({"type": "Digits", "individual_digits": true});
                Ok(json!({"type": "Sequence", "pretokenizers": [digits, bytes]}))
            }
            Some(other) => Err(format!("tokenizer.ggml.pre is `{other}`; known: gpt-2, smollm")),
            None => Err("tokenizer.ggml.pre is absent; known: gpt-2, smollm".into()),
        }
    }

    /// Puts the first and last token around a text where the file says so.
    fn post_processor(&self, tokens: &[&'a str]) -> Result<Value, String> {
        let end = |flag: &str, name: &str| match self.flag(flag) {
            false => Ok(None),
            true => self.token(name, tokens)?.ok_or_else(|| format!("tokenizer.ggml.{name} is absent")).map(Some),
        };
        let (first, last) = (end("add_bos_token", "bos_token_id")?, end("add_eos_token", "eos_token_id")?);
        if first.is_none() && last.is_none() {
            return Ok(Value::Null);
        }
        let special = |token: Option<(u64, &str)>, kind| {
            token.map(|(_, token)| json!({"SpecialToken": {"id": token, "type_id": kind}}))
        };
        let text = |name: &str, kind: u64| {
            let text = json!({"Sequence": {"id": name, "type_id": kind}});
            special(first, kind).into_iter().chain([text]).chain(special(last, kind)).collect::<Vec<_>>()
        };
        let used: HashSet<(u64, &str)> = first.into_iter().chain(last).collect();
        let special = used
            .into_iter()
            .map(|(id, token)| (token.to_string(), json!({"id": token, "ids": [id], "tokens": [token]})));
        let pair = [text("A", 0), text("B", 1)].concat();
        Ok(json!({
            "type": "TemplateProcessing",
            "single": text("A", 0),
            "pair": pair,
            "special_tokens": special.collect::<std::collections::BTreeMap<_, _>>()
        }))
    }
}
