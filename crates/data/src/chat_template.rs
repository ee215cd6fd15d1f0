//! Conversations to texts, by the Jinja template of a tokenizer.
//!
//! A template is data of others: it may not read files, and what it may compute is bounded.

use crate::clock::strftime_now;
use crate::python_json::dumps;
use minijinja::syntax::SyntaxConfig;
use minijinja::value::{Kwargs, Serde};
use minijinja::{AutoEscape, Environment, Error, ErrorKind, Value, context};
use serde_json::Value as Json;
use std::collections::BTreeMap;
use std::fmt;
use std::ops::Range;

/// What a template may do for one conversation: instructions, and 64 bytes for each.
const FUEL: u64 = 5_000_000;

/// How deep a template may nest: less than what a thread's stack holds.
const DEPTH: usize = 100;

/// Longer templates are none.
const MOST_BYTES: usize = 1 << 20;

/// Characters of no meaning (private use) around what `{% generation %}` encloses.
const MARKS: [char; 2] = ['\u{f8f6}', '\u{f8f7}'];

/// The filter that a `{% generation %}` block becomes.
const GENERATION: &str = "lorac_generation";

/// A chat template, compiled, with the tokens that it may name.
pub(crate) struct ChatTemplate {
    environment: Environment<'static>,
    source: String,
    tokens: BTreeMap<String, String>,
    /// Whether it says itself what is generated.
    generation: bool,
}

/// What is wrong with a template, or with a conversation by the word of one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Refused {
    /// Where in the template, from 1.
    pub(crate) line: Option<usize>,
    /// What.
    pub(crate) what: String,
    /// Whether the template itself says so, by `raise_exception`.
    pub(crate) raised: bool,
}

/// A conversation as text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Rendered {
    /// The text.
    pub(crate) text: String,
    /// The bytes that the template says are generated.
    pub(crate) generated: Vec<Range<usize>>,
}

impl ChatTemplate {
    /// Compiles a template, as transformers does: blocks take their line with them, loops may be left, a `{% generation %}` block
    /// encloses what is generated.
    ///
    /// # Errors
    /// What is wrong with it.
    pub(crate) fn new(template: &str, tokens: BTreeMap<String, String>) -> Result<ChatTemplate, Refused> {
        let refused = |what: String| Refused { line: None, what, raised: false };
        if template.len() > MOST_BYTES {
            return Err(refused(format!("it has more than {MOST_BYTES} bytes")));
        }
        let (source, generation) = without_generation(template);
        let mut environment = Environment::new();
        let syntax = SyntaxConfig::builder().trim_blocks(true).lstrip_blocks(true).build();
        environment.set_syntax(syntax.map_err(|e| refused(e.to_string()))?);
        environment.set_auto_escape_callback(|_| AutoEscape::None);
        environment.set_fuel(Some(FUEL));
        environment.set_recursion_limit(DEPTH);
        environment.set_unknown_method_callback(minijinja_contrib::pycompat::unknown_method_callback);
        environment.add_function("raise_exception", |what: String| -> Result<Value, Error> {
            Err(Error::new(ErrorKind::InvalidOperation, "raised").with_source(Raised(what)))
        });
        environment.add_function("strftime_now", |format: &str| strftime_now(format));
        environment.add_filter("tojson", tojson);
        environment.add_filter(GENERATION, |text: String| format!("{}{text}{}", MARKS[0], MARKS[1]));
        environment.template_from_str(&source).map_err(|e| Refused::of(&e))?;
        Ok(ChatTemplate { environment, source, tokens, generation })
    }

    /// Whether it says itself what is generated.
    pub(crate) fn marks_generation(&self) -> bool {
        self.generation
    }

    /// Renders messages, with the tools that the assistant may call; with `prompt`, and what comes before the assistant's next turn.
    ///
    /// # Errors
    /// What the template refuses, or cannot do.
    pub(crate) fn render(&self, messages: &[Json], tools: Option<&Json>, prompt: bool) -> Result<Rendered, Refused> {
        let template = self.environment.template_from_str(&self.source).map_err(|e| Refused::of(&e))?;
        let none: Option<bool> = None;
        let conversation = context! {
            messages => Value::from(Serde(messages)), add_generation_prompt => prompt,
            tools => tools.map(|tools| Value::from(Serde(tools))), documents => none,
        };
        let tokens = Value::from(Serde(&self.tokens));
        let text = template.render(context! { ..conversation, ..tokens }).map_err(|e| Refused::of(&e))?;
        if !self.generation {
            return Ok(Rendered { text, generated: Vec::new() });
        }
        unmarked(&text).ok_or_else(|| Refused {
            line: None,
            what: format!("what is generated cannot be told apart: {} or {} is in the text", code(0), code(1)),
            raised: false,
        })
    }
}

fn code(mark: usize) -> String {
    format!("U+{:X}", MARKS[mark] as u32)
}

/// The text without marks, and what was between them; none where they do not pair.
fn unmarked(marked: &str) -> Option<Rendered> {
    let (mut text, mut generated, mut begun) = (String::with_capacity(marked.len()), Vec::new(), None);
    for c in marked.chars() {
        match (MARKS.iter().position(|mark| *mark == c), begun) {
            (None, _) => text.push(c),
            (Some(0), None) => begun = Some(text.len()),
            (Some(1), Some(from)) => {
                generated.push(from..text.len());
                begun = None;
            }
            _ => return None,
        }
    }
    begun.is_none().then_some(Rendered { text, generated })
}

/// A template with a filter in the place of its `generation` blocks, and whether it has any.
fn without_generation(template: &str) -> (String, bool) {
    let (mut out, mut rest, mut found) = (String::with_capacity(template.len()), template, false);
    while let Some(at) = rest.find("{%") {
        let inner = at + 2;
        let Some(length) = rest[inner..].find("%}") else { break };
        let tag = &rest[inner..inner + length];
        let (open, tag) = tag.strip_prefix(['-', '+']).map_or(("", tag), |bare| (&tag[..1], bare));
        let (close, bare) = tag.strip_suffix(['-', '+']).map_or(("", tag), |bare| (&tag[tag.len() - 1..], bare));
        out.push_str(&rest[..at]);
        match bare.trim() {
            "generation" => {
                out.push_str(&format!("{{%{open} filter {GENERATION} {close}%}}"));
                found = true;
            }
            "endgeneration" => out.push_str(&format!("{{%{open} endfilter {close}%}}")),
            _ => out.push_str(&rest[at..inner + length + 2]),
        }
        rest = &rest[inner + length + 2..];
    }
    out.push_str(rest);
    (out, found)
}

/// A value as Python's `json.dumps` writes it, without escapes for HTML, as transformers has this filter.
fn tojson(value: &Value, options: Kwargs) -> Result<String, Error> {
    let indent: Option<usize> = options.get("indent")?;
    let ascii: Option<bool> = options.get("ensure_ascii")?;
    let sorted: Option<bool> = options.get("sort_keys")?;
    let separators: Option<Vec<String>> = options.get("separators")?;
    options.assert_all_used()?;
    let json = serde_json::to_value(value).map_err(|e| Error::new(ErrorKind::BadSerialization, e.to_string()))?;
    let separators = separators.and_then(|both| <[String; 2]>::try_from(both).ok());
    Ok(dumps(&json, indent, ascii.unwrap_or(false), sorted.unwrap_or(false), separators))
}

/// What `raise_exception` says.
#[derive(Debug)]
struct Raised(String);

impl fmt::Display for Raised {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Raised {}

impl Refused {
    fn of(error: &Error) -> Refused {
        let mut source = std::error::Error::source(error);
        while let Some(cause) = source {
            if let Some(Raised(what)) = cause.downcast_ref::<Raised>() {
                return Refused { line: error.line(), what: what.clone(), raised: true };
            }
            source = cause.source();
        }
        let what = match (error.kind(), error.detail()) {
            (ErrorKind::OutOfFuel, _) => "it computes more than a template may".to_string(),
            (kind, Some(detail)) => format!("{kind}: {detail}"),
            (kind, None) => kind.to_string(),
        };
        Refused { line: error.line(), what, raised: false }
    }
}

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(line) = self.line {
            write!(f, "line {line}: ")?;
        }
        f.write_str(&self.what)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn template(text: &str) -> ChatTemplate {
        let tokens = BTreeMap::from([("bos_token".to_owned(), "<s>".to_owned())]);
        ChatTemplate::new(text, tokens).unwrap_or_else(|e| panic!("{e}"))
    }

    fn messages() -> Vec<Json> {
        vec![json!({"role": "user", "content": "a <b>"}), json!({"role": "assistant", "content": " c "})]
    }

    fn render(text: &str) -> Result<String, String> {
        let made = ChatTemplate::new(text, BTreeMap::new()).and_then(|t| t.render(&messages(), None, true));
        made.map(|r| r.text).map_err(|e| e.to_string())
    }

    #[test]
    fn messages_tokens_and_the_prompt_are_there() {
        let text = "{{ bos_token }}{% for m in messages %}{{ m.role + ':' + m['content'].strip() }};{% endfor %}\
                    {%- if add_generation_prompt %}assistant:{% endif %}";
        let chat = template(text);
        assert_eq!(chat.render(&messages(), None, true).unwrap().text, "<s>user:a <b>;assistant:c;assistant:");
        assert_eq!(chat.render(&messages()[..1], None, false).unwrap().text, "<s>user:a <b>;");
    }

    #[test]
    fn it_is_the_dialect_of_transformers() {
        let all = "{% for m in messages %}\n  {% if loop.first %}{% continue %}{% endif %}\n{{ m.content }}{% break %}\n{% endfor %}\n";
        assert_eq!(render(all).unwrap(), " c ");
        assert_eq!(render("{{ messages[0] | tojson }}").unwrap(), "{\"role\": \"user\", \"content\": \"a <b>\"}");
        assert_eq!(render("{{ {'a': [1]} | tojson(indent=2) }}").unwrap(), "{\n  \"a\": [\n    1\n  ]\n}");
        assert_eq!(render("{% set ns = namespace(n=0) %}{% for m in messages[::-1] %}{% set ns.n = ns.n + loop.index0 %}{% endfor %}{{ ns.n }}").unwrap(), "1");
        assert_eq!(
            render("{{ tools is none }}{{ x is defined }}{{ strftime_now('%Y') | length }}").unwrap(),
            "TrueFalse4"
        );
    }

    #[test]
    fn tools_are_a_list_of_objects_or_none() {
        let text =
            "{% if tools %}{% for t in tools %}{{ t | tojson }};{{ t.name }}{% endfor %}{% else %}none{% endif %}";
        let tools = json!([{"name": "get", "parameters": {"b": 1, "a": "<é>"}}]);
        let render = |tools: Option<&Json>| template(text).render(&messages(), tools, false).unwrap().text;
        assert_eq!(render(Some(&tools)), "{\"name\": \"get\", \"parameters\": {\"b\": 1, \"a\": \"<é>\"}};get");
        assert_eq!((render(None).as_str(), render(Some(&json!([]))).as_str()), ("none", "none"));
    }

    #[test]
    fn what_is_generated_is_between_the_tags() {
        let text = "{% for m in messages %}{{ m.role }}:{% if m.role == 'assistant' %}{% generation %}\n{{- m.content -}}\n{%- endgeneration -%}  {% else %}{{ m.content }}{% endif %};{% endfor %}";
        let chat = template(text);
        let made = chat.render(&messages(), None, false).unwrap();
        assert!(chat.marks_generation());
        assert_eq!((made.text.as_str(), made.generated.len()), ("user:a <b>;assistant: c ;", 1));
        assert_eq!(made.generated[0], 21..24);
        let mut odd = messages();
        odd[1]["content"] = "\u{f8f7}".into();
        assert!(chat.render(&odd, None, false).unwrap_err().what.contains("U+F8F7"));
    }

    #[test]
    fn errors_name_the_line_and_who_says_so() {
        let refused = |text: &str| template(text).render(&messages(), None, false).unwrap_err();
        let raised = refused("{% if true %}\n{{ raise_exception('no system role') }}\n{% endif %}");
        assert_eq!(raised, Refused { line: Some(2), what: "no system role".into(), raised: true });
        assert!(render("\n{{ nothing.at.all }}").unwrap_err().starts_with("line 2: "));
        assert!(render("a\n{% for %}").unwrap_err().starts_with("line 2: syntax error"));
        assert!(render("{{ 'x' | nofilter }}").unwrap_err().contains("nofilter"));
    }

    #[test]
    fn what_has_no_end_is_stopped_and_nothing_is_read() {
        for text in [
            "{% for a in range(9999) %}{% for b in range(9999) %}{{ a }}{% endfor %}{% endfor %}",
            "{{ 'x' * 999999999 }}",
            "{% set ns = namespace(t='x') %}{% for a in range(60) %}{% set ns.t = ns.t ~ ns.t %}{% endfor %}{{ ns.t }}",
            "{% macro f(n) %}{{ f(n + 1) }}{% endmacro %}{{ f(0) }}",
            "{% include '/etc/hostname' %}",
            "{% import '/etc/hostname' as x %}",
        ] {
            assert!(render(text).is_err(), "{text}");
        }
        assert!(ChatTemplate::new(&" ".repeat(MOST_BYTES + 1), BTreeMap::new()).is_err());
    }
}
