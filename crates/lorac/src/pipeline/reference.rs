//! Every key of a pipeline in Markdown, out of the schema: what it is, what it may be and what it is where it is not given.

use super::shorthand::generated;
use serde_json::{Map, Value};
use std::fmt::Write;

/// docs/training.md: every key of a pipeline with its values and its default.
pub fn reference() -> String {
    let schema = generated();
    let definitions = schema.get("definitions").and_then(Value::as_object).cloned().unwrap_or_default();
    let mut page = Page { definitions, text: INTRODUCTION.to_string() };
    page.table("", &schema);
    page.sections("", &schema, 2);
    page.text
}

const INTRODUCTION: &str = "\
# Every key of a pipeline

This page is made from the types that read pipelines (`lorac schema --markdown`), as the JSON Schema is (`lorac schema`).
A section with one required key may be written as that key's value, and a list of one as the one: `model: path`,
`targets: all-linear`. `lorac run --set KEY=VALUE` overrides any of them by its path: `--set train.epochs=1`,
`--set adapt.0.lora.rank=4`.

";

struct Page {
    definitions: Map<String, Value>,
    text: String,
}

impl Page {
    /// A table of the keys of a section.
    fn table(&mut self, path: &str, section: &Value) {
        let section = self.resolved(section).clone();
        let Some(properties) = section.get("properties").and_then(Value::as_object) else { return };
        let required: Vec<&str> = strings(section.get("required"));
        self.text.push_str("| key | value | default | |\n|---|---|---|---|\n");
        for (key, value) in properties {
            let kind = self.kind(&self.place(path, properties, key), value);
            let default = match value.get("default") {
                _ if required.contains(&key.as_str()) => "required".to_string(),
                None | Some(Value::Null) => String::new(),
                Some(default) => short(default),
            };
            _ = writeln!(self.text, "| `{key}` | {kind} | {default} | {} |", cell(&self.about(value)));
        }
        self.text.push('\n');
    }

    /// The sections and choices below a section, each under a heading of its own.
    fn sections(&mut self, path: &str, section: &Value, depth: usize) {
        let section = self.resolved(section).clone();
        let properties = section.get("properties").and_then(Value::as_object).cloned().unwrap_or_default();
        let mut written = Vec::new();
        for (key, value) in &properties {
            let (own, path) = (below(path, key), self.place(path, &properties, key));
            if written.contains(&path) {
                continue;
            }
            written.push(path.clone());
            let about = self.about(if own == path { value } else { self.resolved(value) });
            let inner = self.resolved(self.item(value)).clone();
            let choices = choices(&inner);
            if !choices.is_empty() {
                self.heading(depth, &path, &about);
                for (name, choice) in choices {
                    let whole = choice.get("properties").and_then(|p| p.get(&name)).cloned().unwrap_or_default();
                    let dash = if is_list(value) { "- " } else { "" };
                    self.heading(depth + 1, &format!("{path}: {dash}{name}"), &self.about(&choice));
                    self.table(&below(&path, &name), &whole);
                    self.sections(&below(&path, &name), &whole, depth + 2);
                }
            } else if !self.alternative_sections(value).is_empty() {
                self.heading(depth, &path, &about);
                for (at, alternative) in self.alternative_sections(value).into_iter().enumerate() {
                    if at > 0 {
                        let about = self.about(&alternative);
                        _ = writeln!(self.text, "Or, instead of these: {}\n", about.trim_end_matches('.'));
                    }
                    self.table(&path, &alternative);
                    self.sections(&path, &alternative, depth + 1);
                }
            } else if let Some(words) = words(&inner) {
                self.heading(depth, &path, &about);
                for (word, about) in words {
                    _ = writeln!(self.text, "- `{word}`: {about}");
                }
                self.text.push('\n');
            }
        }
    }

    /// Where a key is told of: under its own path, or where several keys are the same section, under the one for all.
    fn place(&self, path: &str, properties: &Map<String, Value>, key: &str) -> String {
        let of = |value: &Value| reference_in(value).map(String::from);
        let own = properties.get(key).and_then(of);
        let same = properties.values().filter(|value| own.is_some() && of(value) == own).count();
        below(path, if same > 2 { "NAME" } else { key })
    }

    fn heading(&mut self, depth: usize, title: &str, about: &str) {
        _ = writeln!(self.text, "{} `{title}`\n\n{}\n", "#".repeat(depth.min(6)), about.trim_end_matches('.'));
    }

    /// What a value may be, in a few words: each of its alternatives once.
    fn kind(&self, path: &str, value: &Value) -> String {
        let mut kinds: Vec<String> = Vec::new();
        for one in self.alternatives(value) {
            let kind = self.one_kind(path, one);
            if !kind.is_empty() && !kinds.contains(&kind) {
                kinds.push(kind);
            }
        }
        kinds.join(" or ")
    }

    fn one_kind(&self, path: &str, value: &Value) -> String {
        if is_list(value) {
            return match self.kind(path, self.item(value)) {
                item if item.contains(" or ") => format!("a list of {item} each"),
                item => format!("a list of {item}"),
            };
        }
        if value.get("properties").is_some() || !choices(value).is_empty() || words(value).is_some() {
            return format!("[{path}](#{})", anchor(path));
        }
        if let Some(word) = value.get("const").and_then(Value::as_str) {
            return format!("`{word}`");
        }
        let word = |name: &str| match name {
            "integer" => "integer",
            "number" => "number",
            "boolean" => "true or false",
            "string" => "text",
            "object" => "names with values",
            "array" => "list",
            _ => "",
        };
        let words: Vec<&str> = types(value).into_iter().map(word).filter(|w| !w.is_empty()).collect();
        words.join(" or ")
    }

    /// What a value may be, behind references: itself, or each of several.
    fn alternatives<'a>(&'a self, value: &'a Value) -> Vec<&'a Value> {
        if let Some(next) = reference_in(value).and_then(|name| self.definitions.get(name.rsplit('/').next()?)) {
            return self.alternatives(next);
        }
        let all = ["allOf", "anyOf"].iter().find_map(|key| value.get(key)?.as_array());
        match all.filter(|_| value.get("properties").is_none()) {
            Some(all) => all.iter().filter(|one| !is_null(one)).flat_map(|one| self.alternatives(one)).collect(),
            None => vec![value],
        }
    }

    /// The sections that a value, or an item of it, may be.
    fn alternative_sections(&self, value: &Value) -> Vec<Value> {
        let mut sections: Vec<Value> = Vec::new();
        for one in self.alternatives(value) {
            let more = if is_list(one) { self.alternative_sections(self.item(one)) } else { vec![one.clone()] };
            for section in more.into_iter().filter(|section| section.get("properties").is_some()) {
                if !sections.contains(&section) {
                    sections.push(section);
                }
            }
        }
        sections
    }

    /// The description of a value, or else of what it refers to.
    fn about(&self, value: &Value) -> String {
        let own = value.get("description").or_else(|| self.resolved(self.item(value)).get("description"));
        own.and_then(Value::as_str).unwrap_or_default().to_string()
    }

    /// What a value is a list of, or the value itself.
    fn item<'a>(&'a self, value: &'a Value) -> &'a Value {
        if is_list(value) { value.get("items").unwrap_or(value) } else { value }
    }

    /// The definition behind references, and behind what may also be absent.
    fn resolved<'a>(&'a self, value: &'a Value) -> &'a Value {
        let alternatives = ["allOf", "anyOf"].iter().find_map(|key| value.get(key)?.as_array());
        let mut present = alternatives.into_iter().flatten().filter(|v| !is_null(v));
        let next = match (value.get("$ref").and_then(Value::as_str), present.next()) {
            (Some(name), _) => name.rsplit('/').next().and_then(|name| self.definitions.get(name)),
            (None, Some(one)) if value.get("properties").is_none() => Some(one),
            _ => None,
        };
        next.map_or(value, |next| self.resolved(next))
    }
}

/// The definition that a value is.
fn reference_in(value: &Value) -> Option<&str> {
    let inside = || value.get("allOf")?.as_array()?.first()?.get("$ref");
    value.get("$ref").or_else(inside)?.as_str()
}

fn below(path: &str, key: &str) -> String {
    if path.is_empty() { key.to_string() } else { format!("{path}.{key}") }
}

fn is_null(value: &Value) -> bool {
    types(value) == ["null"]
}

fn is_list(value: &Value) -> bool {
    types(value).contains(&"array")
}

fn types(value: &Value) -> Vec<&str> {
    match value.get("type") {
        Some(Value::String(name)) => vec![name],
        many => strings(many),
    }
}

fn strings(list: Option<&Value>) -> Vec<&str> {
    list.and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str).collect()
}

/// The choices of a section of which one is written as a key, by their names.
fn choices(value: &Value) -> Vec<(String, Value)> {
    let all = value.get("oneOf").and_then(Value::as_array).into_iter().flatten();
    let named = all.filter_map(|choice| match strings(choice.get("required"))[..] {
        [name] if choice.get("properties")?.get(name).is_some() => Some((name.to_string(), choice.clone())),
        _ => None,
    });
    named.collect()
}

/// The words that a value may be, with what they mean.
fn words(value: &Value) -> Option<Vec<(String, String)>> {
    let all = value.get("oneOf").and_then(Value::as_array)?;
    let word = |one: &Value| {
        let about = one.get("description").and_then(Value::as_str).unwrap_or_default();
        Some((one.get("const")?.as_str()?.to_string(), about.replace('\n', " ")))
    };
    all.iter().map(word).collect()
}

/// A default in one line: of a choice its name, of a section nothing, for it stands below.
fn short(default: &Value) -> String {
    match default {
        Value::Object(map) if map.is_empty() => "none".to_string(),
        Value::Object(map) => match map.iter().next() {
            Some((name, Value::Object(_))) if map.len() == 1 => format!("`{name}`"),
            _ => String::new(),
        },
        Value::Array(all) if all.is_empty() => "none".to_string(),
        Value::String(text) => format!("`{text}`"),
        Value::Array(all) => {
            let all: Vec<String> = all.iter().map(|v| v.as_str().map_or(v.to_string(), String::from)).collect();
            format!("`[{}]`", all.join(", "))
        }
        other => format!("`{other}`"),
    }
}

/// The link that a heading of this path has on the pages that show Markdown.
fn anchor(path: &str) -> String {
    path.chars().filter(|c| c.is_alphanumeric() || matches!(c, '_' | '-')).collect::<String>().to_lowercase()
}

/// Text in a cell of a table.
fn cell(text: &str) -> String {
    text.replace('\n', " ").replace('|', "\\|")
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::Path;

    #[test]
    fn the_page_in_docs_is_made_from_the_schema() {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/training.md");
        if std::env::var_os("LORAC_BLESS").is_some() {
            std::fs::write(&path, reference()).expect("writes");
        }
        let committed = std::fs::read_to_string(&path).expect("docs/training.md");
        assert!(committed == reference(), "docs/training.md is stale: run the tests with LORAC_BLESS=1");
    }

    #[test]
    fn every_key_is_explained() {
        let page = reference();
        for row in page.lines().filter(|line| line.starts_with("| `")) {
            let about = row.trim_end_matches('|').rsplit(" | ").next().unwrap_or_default();
            assert!(!about.trim().is_empty(), "{row}");
        }
        for want in [
            "| `epochs` | number | `1.0` |",
            "| `task` | [task](#task) | required |",
            "### `task: classify`",
            "### `adapt: - lora`",
            "| `optimizer` | [train.optimizer](#trainoptimizer) | `adamw` |",
            "| `slice` | `auto` or integer | `auto` |",
            "| `eval` | [data.eval](#dataeval) or text or a list of [data.eval](#dataeval) or text each |",
        ] {
            assert!(page.contains(want), "{want}\n{page}");
        }
        let held_out =
            page.split("### `data.eval`").nth(1).and_then(|rest| rest.split("\n### ").next()).expect("a section");
        for key in ["| `csv` |", "| `split` | number | required |", "| `stratify` | true or false | `false` |"] {
            assert!(held_out.contains(key), "{key}\n{held_out}");
        }
        assert!(!page.contains("see below"));
        let headings: Vec<String> = page.lines().filter(|line| line.starts_with('#')).map(anchor).collect();
        for link in page.split("](#").skip(1).filter_map(|rest| rest.split(')').next()) {
            assert!(headings.iter().any(|heading| heading == link), "no heading for the link {link}");
        }
    }
}
