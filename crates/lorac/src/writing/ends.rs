//! Tokens that end a text.

use lorac_data::Tokenizer;
use serde_json::{Map, Value};

/// Where it is said which tokens end a text.
pub(crate) struct Ends<'a> {
    /// generation_config.json.
    pub(crate) generation: Option<&'a Map<String, Value>>,
    /// config.json.
    pub(crate) config: Option<&'a Map<String, Value>>,
    /// The tokenizer, whose end of text a training may have put behind completions.
    pub(crate) tokenizer: &'a Tokenizer,
}

/// The ids of tokens that end a text: `eos_token_id` of generation_config.json, else of config.json, one or a list of them, and the
/// tokenizer's end of text.
pub(crate) fn ends(of: &Ends) -> Vec<i64> {
    let said = |map: Option<&Map<String, Value>>| -> Option<Vec<i64>> {
        let ids = match map?.get("eos_token_id")? {
            Value::Array(ids) => ids.iter().filter_map(Value::as_i64).collect(),
            one => vec![one.as_i64()?],
        };
        Some(ids)
    };
    let mut ids = said(of.generation).or_else(|| said(of.config)).unwrap_or_default();
    ids.extend(of.tokenizer.end_of_text());
    ids.retain(|id| *id >= 0);
    ids.sort_unstable();
    ids.dedup();
    ids
}

/// The id that a decoder begins with beside an encoder: `decoder_start_token_id` of generation_config.json, else of config.json.
pub(crate) fn decoder_start(
    generation: Option<&Map<String, Value>>,
    config: Option<&Map<String, Value>>,
) -> Option<u32> {
    let said = |map: Option<&Map<String, Value>>| map?.get("decoder_start_token_id")?.as_u64()?.try_into().ok();
    said(generation).or_else(|| said(config))
}
