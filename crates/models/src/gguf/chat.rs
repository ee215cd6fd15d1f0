//! What a GGUF file says of conversations.

use super::open;
use super::value::Value as Meta;
use crate::ModelError;
use serde_json::{Map, Value};
use std::path::Path;

/// Keys of a `tokenizer_config.json`, and the value of a GGUF file that numbers the same token.
const TOKENS: [(&str, &str); 4] = [
    ("bos_token", "bos_token_id"),
    ("eos_token", "eos_token_id"),
    ("unk_token", "unknown_token_id"),
    ("pad_token", "padding_token_id"),
];

/// The chat template and the named tokens of the GGUF file `file`, by the keys of a `tokenizer_config.json`.
///
/// # Errors
/// The file cannot be read, or is damaged.
pub fn gguf_chat(file: &Path) -> Result<Map<String, Value>, ModelError> {
    let gguf = open(file)?;
    let get = |name: &str| gguf.values.get(name);
    let tokens = get("tokenizer.ggml.tokens").and_then(Meta::list);
    let named = TOKENS.iter().filter_map(|(key, name)| {
        let id = get(&format!("tokenizer.ggml.{name}"))?.size()?;
        let token = tokens?.get(usize::try_from(id).ok()?)?.text()?;
        Some(((*key).to_owned(), Value::from(token)))
    });
    let template = get("tokenizer.chat_template").and_then(Meta::text);
    Ok(named.chain(template.map(|text| ("chat_template".to_owned(), text.into()))).collect())
}
