//! What a section may be written as where one value says all of it: `model: path`, `targets: all-linear`.
//!
//! A section with one required key, or one whose type names the key ([`SHORT`]), may be written as that key's value, and a
//! list of one as the one. The schema, which is made of the types, says which sections those are, and says the short forms too.

use super::Pipeline;
use schemars::generate::SchemaSettings;
use serde_json::{Map, Value, json};
use std::collections::HashMap;
use std::sync::LazyLock;

/// The JSON Schema (draft 7) of pipelines.
pub fn schema() -> Value {
    let mut schema = generated();
    short_forms(&mut schema);
    schema
}

/// What a type says in its schema of the key that all of it may be written as the value of, where none is required:
/// `#[schemars(extend("x-short" = "labels"))]`.
const SHORT: &str = "x-short";

/// The keys that a section must have, by the name of its struct; none where there is no such section.
pub(super) fn required(section: &str) -> &'static [String] {
    static REQUIRED: LazyLock<HashMap<String, Vec<String>>> = LazyLock::new(|| {
        let schema = generated();
        let sections = schema.get("definitions").and_then(Value::as_object).into_iter().flatten();
        let root = schema.get("title").and_then(Value::as_str).map(|title| (title.to_string(), keys(&schema)));
        sections.map(|(name, section)| (name.clone(), keys(section))).chain(root).collect()
    });
    REQUIRED.get(section).map_or(&[], Vec::as_slice)
}

/// The key that a section may be written as the value of.
pub(super) fn short(section: &str) -> Option<&'static str> {
    static NAMED: LazyLock<HashMap<String, String>> = LazyLock::new(|| {
        let schema = generated();
        let sections = schema.get("definitions").and_then(Value::as_object).into_iter().flatten();
        sections.filter_map(|(name, section)| Some((name.clone(), section.get(SHORT)?.as_str()?.to_string()))).collect()
    });
    match required(section) {
        [key] => Some(key),
        _ => NAMED.get(section).map(String::as_str),
    }
}

pub(super) fn generated() -> Value {
    SchemaSettings::draft07().into_generator().into_root_schema_for::<Pipeline>().to_value()
}

fn keys(section: &Value) -> Vec<String> {
    let required = section.get("required").and_then(Value::as_array).into_iter().flatten();
    required.filter_map(Value::as_str).map(String::from).collect()
}

/// Adds the short forms to every section and list.
fn short_forms(schema: &mut Value) {
    lists(schema);
    let sections = schema.get_mut("definitions").and_then(Value::as_object_mut);
    for section in sections.into_iter().flat_map(Map::values_mut) {
        let required = keys(section);
        let Value::Object(section) = section else { continue };
        let named = section.remove(SHORT).and_then(|key| key.as_str().map(String::from));
        let key = if let [key] = &required[..] { Some(key.clone()) } else { named };
        let value = key.and_then(|key| section.get("properties")?.get(&key).cloned());
        value.into_iter().for_each(|value| either(section, value));
    }
}

fn lists(schema: &mut Value) {
    match schema {
        Value::Array(all) => all.iter_mut().for_each(lists),
        Value::Object(one) => {
            one.values_mut().for_each(lists);
            let is_list = one.get("type").and_then(Value::as_str) == Some("array");
            if let Some(item) = one.get("items").filter(|_| is_list).cloned() {
                either(one, item);
            }
        }
        _ => {}
    }
}

/// A schema that is met by its short form, too.
fn either(schema: &mut Map<String, Value>, short: Value) {
    let mut whole = std::mem::take(schema);
    for outside in ["description", "default"] {
        if let Some(value) = whole.remove(outside) {
            schema.insert(outside.to_string(), value);
        }
    }
    schema.insert("anyOf".to_string(), json!([whole, short]));
}
