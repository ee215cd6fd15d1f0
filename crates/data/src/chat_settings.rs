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
    /// Another one for conversations with tools, where there is one: that of the name `tool_use`.
    pub tool_use: Option<String>,
    /// Tokens by their names: `eos_token`, `bos_token`, ...
    pub tokens: BTreeMap<String, String>,
}

impl ChatSettings {
    /// What the keys of a `tokenizer_config.json` say. Of several templates, the ones called `default` and `tool_use` are taken.
    #[must_use]
    pub fn of_config(keys: &Map<String, Value>) -> ChatSettings {
        let named = NAMED.into_iter().filter_map(|key| Some((key.to_owned(), token(keys.get(key)?)?.to_owned())));
        let template = |name: &str| match keys.get("chat_template")? {
            Value::String(text) if name == "default" => Some(text.clone()),
            Value::Array(all) => all.iter().find(|one| one["name"] == name)?["template"].as_str().map(str::to_owned),
            _ => None,
        };
        ChatSettings { template: template("default"), tool_use: template("tool_use"), tokens: named.collect() }
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
            settings.template =
                Some(text.map_err(|_| DataError::ChatTemplate { what: format!("{TEMPLATE} is not UTF-8") })?);
            settings.tool_use = None;
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
        let several = of(json!({"chat_template": several}));
        assert_eq!((several.template.as_deref(), several.tool_use.as_deref()), (Some("d"), Some("t")));
        assert_eq!(of(json!({})), ChatSettings::default());

        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join(TEMPLATE), "{{ b }}").unwrap();
        let (config, path) = (TokenizerConfig::default(), folder.path().join("tokenizer.json"));
        let beside = |may: bool| ChatSettings::of(&config, &path, &|_| may).unwrap().template;
        assert_eq!((beside(true).as_deref(), beside(false)), (Some("{{ b }}"), None));
    }
}
