//! Messages of a conversation, as OpenAI, ShareGPT and others write them.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;

/// Names that a message's reasoning goes by; the first is the one that templates read.
const REASONING: [&str; 3] = ["reasoning_content", "thinking", "reasoning"];

/// Who says a message where its key is not `role`, and the role that templates know.
const SPEAKERS: [(&str, &str); 19] = [
    ("human", "user"),
    ("user", "user"),
    ("gpt", "assistant"),
    ("assistant", "assistant"),
    ("chatgpt", "assistant"),
    ("bing", "assistant"),
    ("bard", "assistant"),
    ("model", "assistant"),
    ("system", "system"),
    ("developer", "developer"),
    ("tool", "tool"),
    ("tool_response", "tool"),
    ("observation", "tool"),
    ("function_response", "tool"),
    ("ipython", "ipython"),
    ("function", "function"),
    (CALL, CALL),
    ("tool_call", CALL),
    ("function-call", CALL),
];

/// What ShareGPT calls a turn of the assistant that calls a function.
const CALL: &str = "function_call";

/// How the messages of a conversation are written, where they are not objects with role and content.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct MessageStyle {
    /// The keys of a message
    pub keys: MessageKeys,
    /// What other names the file has for a role: { assistant: [bot, model], user: [customer, agent] }
    pub roles: BTreeMap<String, Vec<String>>,
}

/// The keys of a message.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct MessageKeys {
    /// Key of who says it. Default: role, or from
    pub role: Option<String>,
    /// Key of what is said. Default: content, or value
    pub content: Option<String>,
}

/// A turn of a role.
pub(crate) fn turn(role: &str, content: &str) -> Value {
    json!({ "role": role, "content": content })
}

/// The messages of a list: objects with a role each. Keys without a value are left out, and a message's reasoning gets the name that
/// templates read, as in transformers. Messages as ShareGPT has them (`from`, `value`) become such ones, a call of a function the
/// assistant's with `tool_calls`.
///
/// # Errors
/// What is not a conversation, in words.
pub(crate) fn messages(list: Value, what: &str, style: &MessageStyle) -> Result<Vec<Value>, String> {
    let Value::Array(list) = list else { return Err(format!("expected `{what}` to be a list of messages")) };
    if list.is_empty() {
        return Err(format!("`{what}` has no messages"));
    }
    let message = |(at, message): (usize, Value)| {
        let Value::Object(keys) = message else {
            return Err(format!("message {at} of `{what}` is not an object with role and content"));
        };
        style.message(keys).map_err(|wrong| wrong.of(at, what))
    };
    (1..).zip(list).map(message).collect()
}

/// Why an object is not a message.
enum Wrong {
    /// Behind `message 1 of x`.
    Has(String),
    /// Behind `the role of message 1 of x`.
    Role(&'static str),
}

impl Wrong {
    fn of(self, at: usize, what: &str) -> String {
        match self {
            Wrong::Has(why) => format!("message {at} of `{what}` {why}"),
            Wrong::Role(why) => format!("the role of message {at} of `{what}` {why}"),
        }
    }
}

impl MessageStyle {
    fn message(&self, keys: Map<String, Value>) -> Result<Value, Wrong> {
        let keys: Map<String, Value> = keys.into_iter().filter(|(_, value)| !value.is_null()).collect();
        let (role_key, content_key) = (self.role_key(&keys), self.content_key(&keys));
        let role = match keys.get(&role_key) {
            Some(Value::String(role)) if !role.is_empty() => self.role(role, role_key == "role")?,
            Some(_) => return Err(Wrong::Role("is not a string")),
            None if role_key == "role" => return Err(Wrong::Has("has no role".into())),
            None => return Err(Wrong::Has(format!("has no `{role_key}`"))),
        };
        if !keys.contains_key(&content_key) && !keys.contains_key("tool_calls") {
            let name = if content_key == "content" { content_key } else { format!("`{content_key}`") };
            return Err(Wrong::Has(format!("has no {name}")));
        }
        let is_call = role == CALL && role_key != "role";
        let mut message = Map::new();
        // Templates that write a whole message keep the order of its keys.
        for (key, value) in keys {
            match key {
                key if key == role_key => {
                    let role = if is_call { "assistant" } else { &role };
                    message.insert("role".into(), role.into());
                }
                key if key == content_key && is_call => drop(message.insert("tool_calls".into(), calls(&value)?)),
                key if key == content_key => drop(message.insert("content".into(), value)),
                key => drop(message.insert(key, value)),
            }
        }
        if let Some(reasoning) = REASONING.iter().find_map(|name| message.get(*name)).cloned() {
            message.entry("thinking").or_insert_with(|| reasoning.clone());
            message.insert(REASONING[0].into(), reasoning);
        }
        Ok(Value::Object(message))
    }

    fn role_key(&self, keys: &Map<String, Value>) -> String {
        let usual = if !keys.contains_key("role") && keys.contains_key("from") { "from" } else { "role" };
        self.keys.role.clone().unwrap_or_else(|| usual.to_owned())
    }

    fn content_key(&self, keys: &Map<String, Value>) -> String {
        let usual = if !keys.contains_key("content") && keys.contains_key("value") { "value" } else { "content" };
        self.keys.content.clone().unwrap_or_else(|| usual.to_owned())
    }

    /// The role that a name stands for. A `role` may be any that the template knows.
    fn role(&self, name: &str, any: bool) -> Result<String, Wrong> {
        if let Some((role, _)) = self.roles.iter().find(|(_, names)| names.iter().any(|other| other == name)) {
            return Ok(role.clone());
        }
        let known = SPEAKERS.iter().find(|(speaker, _)| *speaker == name).map(|(_, role)| (*role).to_owned());
        match known {
            _ if any => Ok(name.to_owned()),
            Some(role) => Ok(role),
            None => {
                let name: String = name.chars().take(40).collect();
                let name = name.escape_debug();
                let help = format!("say who that is: roles: {{ user: [{name}] }}, or assistant, system, tool");
                Err(Wrong::Has(format!("is from `{name}`, who is not known; {help}")))
            }
        }
    }
}

/// The calls of functions that a text in JSON is: an object with name and arguments, or a list of them.
fn calls(text: &Value) -> Result<Value, Wrong> {
    let wrong = || Wrong::Has("is a call of a function, but not an object with name and arguments in JSON".into());
    let value = match text {
        Value::String(text) => serde_json::from_str(text).map_err(|_| wrong())?,
        other => other.clone(),
    };
    let calls = if let Value::Array(calls) = value { calls } else { vec![value] };
    let call = |call: Value| match call.get("name") {
        Some(Value::String(_)) => Ok(json!({ "type": "function", "function": call })),
        _ => Err(wrong()),
    };
    match calls.is_empty() {
        true => Err(wrong()),
        false => calls.into_iter().map(call).collect::<Result<Vec<_>, _>>().map(Value::Array),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(value: Value) -> Result<Vec<Value>, String> {
        messages(value, "chat", &MessageStyle::default())
    }

    #[test]
    fn messages_are_objects_with_a_role() {
        let wrong = |value: Value| read(value).unwrap_err();
        assert_eq!(wrong(json!("hi")), "expected `chat` to be a list of messages");
        assert_eq!(wrong(json!([])), "`chat` has no messages");
        assert_eq!(wrong(json!(["hi"])), "message 1 of `chat` is not an object with role and content");
        assert_eq!(wrong(json!([turn("user", "a"), {"content": "b"}])), "message 2 of `chat` has no role");
        assert_eq!(wrong(json!([{"role": 1, "content": "b"}])), "the role of message 1 of `chat` is not a string");
        assert_eq!(wrong(json!([{"role": "user", "content": null}])), "message 1 of `chat` has no content");
        let fine = read(json!([{"role": "assistant", "content": "a", "thinking": "t", "tool_calls": null}]));
        let want = json!({"role": "assistant", "content": "a", "thinking": "t", "reasoning_content": "t"});
        assert_eq!(fine.unwrap(), [want]);
        assert_eq!(
            read(json!([turn("narrator", "a")])).unwrap(),
            [turn("narrator", "a")],
            "templates have roles of their own"
        );
    }

    #[test]
    fn sharegpt_says_from_and_value() {
        let says = |from: &str, value: &str| json!({"from": from, "value": value});
        let list = json!([says("system", "s"), says("human", "u"), says("gpt", "a"), says("observation", "o")]);
        let want = [turn("system", "s"), turn("user", "u"), turn("assistant", "a"), turn("tool", "o")];
        assert_eq!(read(list).unwrap(), want);
        let call = r#"{"name": "get", "arguments": {"n": 1}}"#;
        let function = json!({"type": "function", "function": {"name": "get", "arguments": {"n": 1}}});
        let want = json!({"role": "assistant", "tool_calls": [function]});
        assert_eq!(read(json!([says("function_call", call)])).unwrap(), [want]);
        let wrong = |from: &str, value: &str| read(json!([says("human", "u"), says(from, value)])).unwrap_err();
        assert!(wrong("function_call", "get(1)").starts_with("message 2 of `chat` is a call of a function, but not"));
        let unknown = wrong("Bot", "a");
        assert!(
            unknown.starts_with("message 2 of `chat` is from `Bot`, who is not known; say who that is: roles:"),
            "{unknown}"
        );
        assert_eq!(read(json!([{"from": "human"}])).unwrap_err(), "message 1 of `chat` has no content");
    }

    #[test]
    fn keys_and_roles_may_be_named() {
        let keys = MessageKeys { role: Some("speaker".into()), content: Some("text".into()) };
        let roles = BTreeMap::from([("assistant".to_owned(), vec!["Bot".to_owned()])]);
        let style = MessageStyle { keys, roles };
        let list = json!([{"speaker": "human", "text": "u"}, {"speaker": "Bot", "text": "a", "id": 7}]);
        let want = [turn("user", "u"), json!({"role": "assistant", "content": "a", "id": 7})];
        assert_eq!(messages(list, "chat", &style).unwrap(), want);
        let wrong = messages(json!([turn("user", "u")]), "chat", &style).unwrap_err();
        assert_eq!(wrong, "message 1 of `chat` has no `speaker`");
        let style = MessageStyle { keys: MessageKeys::default(), ..style };
        let renamed = messages(json!([turn("Bot", "a"), turn("other", "b")]), "chat", &style).unwrap();
        assert_eq!(renamed, [turn("assistant", "a"), turn("other", "b")]);
    }
}
