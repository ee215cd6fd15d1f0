//! How conversations become texts: what `tokenizer_config.json` and `chat_template.jinja` say.

use crate::error::DataError;
use crate::file;
use crate::tokenizer_config::{NAMED, TokenizerConfig, token};
use serde_json::{Map, Value};
use std::collections::BTreeMap;
use std::path::Path;

/// The file of the template, beside `tokenizer.json`.
const TEMPLATE: &str = "chat_template.jinja";

/// Longer files are none.
const MOST_BYTES: u64 = 1 << 20;

/// How conversations become texts.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ChatSettings {
    /// The Jinja template, where there is one.
    pub template: Option<String>,
    /// Tokens by their names: `eos_token`, `bos_token`, ...
    pub tokens: BTreeMap<String, String>,
}

impl ChatSettings {
    /// What the keys of a `tokenizer_config.json` say. Of several templates, the one called `default` is taken.
    #[must_use]
    pub fn of_config(keys: &Map<String, Value>) -> ChatSettings {
        let named = NAMED.into_iter().filter_map(|key| Some((key.to_owned(), token(keys.get(key)?)?.to_owned())));
        let template = keys.get("chat_template").and_then(|template| match template {
            Value::String(text) => Some(text.as_str()),
            Value::Array(several) => several.iter().find(|one| one["name"] == "default")?["template"].as_str(),
            _ => None,
        });
        ChatSettings { template: template.map(str::to_owned), tokens: named.collect() }
    }

    /// The same, with the template of `chat_template.jinja` beside a `tokenizer.json`, where there is one and it may be read.
    pub(crate) fn of(
        config: &TokenizerConfig,
        tokenizer: &Path,
        may_read: &dyn Fn(&Path) -> bool,
    ) -> Result<ChatSettings, DataError> {
        let mut settings = ChatSettings::of_config(config.keys());
        let path = tokenizer.with_file_name(TEMPLATE);
        if path.exists() && may_read(&path) {
            let text = String::from_utf8(file::read(&path, MOST_BYTES)?);
            settings.template = Some(text.map_err(|_| DataError::NotUtf8Text { path, byte: 0 })?);
        }
        Ok(settings)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn the_template_is_the_file_s_or_the_one_of_the_configuration() {
        let of = |keys: Value| ChatSettings::of_config(keys.as_object().unwrap());
        let plain = of(json!({"chat_template": "{{ a }}", "eos_token": {"content": "</s>"}, "bos_token": null}));
        assert_eq!(plain.template.as_deref(), Some("{{ a }}"));
        assert_eq!(plain.tokens, BTreeMap::from([("eos_token".to_owned(), "</s>".to_owned())]));
        let several = json!([{"name": "tool_use", "template": "t"}, {"name": "default", "template": "d"}]);
        assert_eq!(of(json!({"chat_template": several})).template.as_deref(), Some("d"));
        assert_eq!(of(json!({})), ChatSettings::default());

        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join(TEMPLATE), "{{ b }}").unwrap();
        let (config, path) = (TokenizerConfig::default(), folder.path().join("tokenizer.json"));
        let beside = |may: bool| ChatSettings::of(&config, &path, &|_| may).unwrap().template;
        assert_eq!((beside(true).as_deref(), beside(false)), (Some("{{ b }}"), None));
    }
}
