//! Turns of a conversation, and what of its text the assistant says.

use crate::chat_template::{ChatTemplate, Refused, Rendered};
use serde_json::Value;
use std::ops::Range;

/// A conversation.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Conversation {
    /// What is said, each message with its role.
    pub(crate) messages: Vec<Value>,
    /// The list of tools that the assistant may call, where it may.
    pub(crate) tools: Option<Value>,
}

/// The text of a conversation, and the bytes of it that are to be learnt: where the template marks what is generated, that; else
/// each turn of the assistant from behind what prompts for it.
///
/// # Errors
/// What the template refuses, and one that writes a conversation otherwise once it goes on.
pub(crate) fn assistant_spans(template: &ChatTemplate, talk: &Conversation) -> Result<Rendered, Unfit> {
    let turns = talk.messages.iter().enumerate().filter(|(_, message)| message["role"] == "assistant");
    let turns: Vec<usize> = turns.map(|(at, _)| at).collect();
    spans_of(template, talk, &turns)
}

/// The same for what is said from a message on.
pub(crate) fn completion_spans(template: &ChatTemplate, talk: &Conversation, from: usize) -> Result<Rendered, Unfit> {
    let whole = template.render(&talk.messages, talk.tools.as_ref(), false)?;
    let start = beginning(template, talk, from, &whole.text)?;
    Ok(Rendered { generated: std::iter::once(start..whole.text.len()).collect(), ..whole })
}

fn spans_of(template: &ChatTemplate, talk: &Conversation, turns: &[usize]) -> Result<Rendered, Unfit> {
    let Conversation { messages, tools } = talk;
    let whole = template.render(messages, tools.as_ref(), false)?;
    if template.marks_generation() {
        return Ok(whole);
    }
    let span = |at: &usize| -> Result<Range<usize>, Unfit> {
        let start = beginning(template, talk, *at, &whole.text)?;
        let upto = match at + 1 == messages.len() {
            true => whole.text.len(),
            false => prefix(template.render(&messages[..=*at], tools.as_ref(), false)?.text, &whole.text, at + 1)?,
        };
        Ok(start..upto)
    };
    let generated = turns.iter().map(span).collect::<Result<Vec<_>, _>>()?;
    Ok(Rendered { generated, ..whole })
}

/// Where a turn begins behind what prompts for it.
fn beginning(template: &ChatTemplate, talk: &Conversation, at: usize, whole: &str) -> Result<usize, Unfit> {
    let Conversation { messages, tools } = talk;
    if at == 0 {
        // Many templates cannot say what comes before nothing.
        let before =
            template.render(&[], tools.as_ref(), true).map(|r| r.text).map_err(|_| Unfit::BeginsWithAssistant)?;
        return prefix(before, whole, 0);
    }
    prefix(template.render(&messages[..at], tools.as_ref(), true)?.text, whole, at)
}

fn prefix(begin: String, whole: &str, messages: usize) -> Result<usize, Unfit> {
    match whole.starts_with(&begin) {
        true => Ok(begin.len()),
        false => Err(Unfit::NotPrefixStable { messages }),
    }
}

/// Why of a conversation it cannot be told what is to be learnt.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Unfit {
    /// The template says so, or cannot be followed.
    Template(Refused),
    /// The text of the first messages is not the beginning of the text of all.
    NotPrefixStable {
        /// So many first messages.
        messages: usize,
    },
    /// There is nothing that prompts for the first turn.
    BeginsWithAssistant,
}

impl From<Refused> for Unfit {
    fn from(refused: Refused) -> Unfit {
        Unfit::Template(refused)
    }
}

impl std::fmt::Display for Unfit {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Unfit::Template(refused) if refused.raised => {
                write!(f, "the chat template refuses the conversation, {refused}")
            }
            Unfit::Template(refused) => write!(f, "the chat template fails, {refused}"),
            Unfit::NotPrefixStable { messages } => write!(
                f,
                "the chat template is not prefix-stable: what it writes of the first {messages} messages is not how it begins \
                 the whole conversation, so what the assistant says cannot be told apart; give conversations of one turn, a \
                 template with {{% generation %}}, or loss_on: all"
            ),
            Unfit::BeginsWithAssistant => f.write_str(
                "the conversation begins with the assistant, and the chat template writes nothing before that",
            ),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::messages::turn;
    use std::collections::BTreeMap;

    const CHATML: &str = "{% for m in messages %}<{{ m.role }}>{{ m.content }}</>\n{% endfor %}{% if add_generation_prompt %}<assistant>{% endif %}";

    fn spans(template: &str, turns: &[(&str, &str)]) -> Result<(String, Vec<String>), String> {
        let template = ChatTemplate::new(template, BTreeMap::new()).map_err(|e| e.to_string())?;
        let messages = turns.iter().map(|(role, content)| turn(role, content)).collect();
        let made = assistant_spans(&template, &Conversation { messages, tools: None }).map_err(|e| e.to_string())?;
        let said = made.generated.iter().map(|span| made.text[span.clone()].to_owned()).collect();
        Ok((made.text, said))
    }

    #[test]
    fn every_turn_of_the_assistant_is_learnt_with_its_end() {
        let turns = [("system", "s"), ("user", "u"), ("assistant", "a"), ("user", "v"), ("assistant", "<b>")];
        let (text, said) = spans(CHATML, &turns).unwrap();
        assert_eq!(text, "<system>s</>\n<user>u</>\n<assistant>a</>\n<user>v</>\n<assistant><b></>\n");
        assert_eq!(said, ["a</>\n", "<b></>\n"]);
        assert_eq!(spans(CHATML, &turns[..2]).unwrap().1, Vec::<String>::new());
        assert_eq!(spans(CHATML, &[("assistant", "a")]).unwrap().1, ["a</>\n"]);
    }

    #[test]
    fn templates_that_rewrite_what_was_said_are_named() {
        let forgets = "{% for m in messages %}{% if loop.last or m.role != 'assistant' %}[{{ m.content }}]{% else %}[..]{% endif %}{% endfor %}";
        let turns = [("user", "u"), ("assistant", "a"), ("user", "v"), ("assistant", "b")];
        let error = spans(forgets, &turns).unwrap_err();
        assert!(error.contains("is not prefix-stable: what it writes of the first 2 messages"), "{error}");
        assert_eq!(spans(forgets, &turns[..2]).unwrap().1, ["[a]"]);
        let strict = "{% if not messages %}{{ raise_exception('empty') }}{% endif %}{{ messages[0].content }}";
        assert!(spans(strict, &[("assistant", "a")]).unwrap_err().contains("begins with the assistant"));
        let no_system =
            "{% if messages[0].role == 'system' %}{{ raise_exception('System role not supported') }}{% endif %}";
        let error = spans(no_system, &[("system", "s")]).unwrap_err();
        assert_eq!(error, "the chat template refuses the conversation, line 1: System role not supported");
    }
}
