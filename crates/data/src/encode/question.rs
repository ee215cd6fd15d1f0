//! What a row asks, and how it should be answered: for models that write the answer.

use super::dialogue::{Dialogue, Form, Said, Templates};
use crate::error::DataError;
use crate::row::Row;
use crate::tokenize::Tokenizer;
use serde_json::Value;

/// What a model is to go on from, and what is to follow.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Question {
    /// The text that it goes on from.
    pub prompt: String,
    /// The same as tokens, at least one.
    pub ids: Vec<i64>,
    /// The text that is to follow.
    pub reference: String,
}

impl Dialogue {
    /// What each row asks; none of a row that cannot be encoded, or that nobody answers: a turn of the assistant without a word, as
    /// one that only calls tools, is no answer.
    pub(super) fn asked(&self, rows: &[Row], tokenizer: &Tokenizer) -> Result<Vec<Option<Question>>, DataError> {
        if matches!(self.form, Form::Text(_)) {
            return Ok(vec![None; rows.len()]);
        }
        let said: Vec<Option<Said>> = rows.iter().map(|row| self.said(row).ok()).collect();
        let is_chat = |said: &Option<Said>| matches!(said, Some(Said::Chat { .. }));
        let template = if said.iter().any(is_chat) { Some(self.templates(tokenizer)?) } else { None };
        let mut asked: Vec<Option<Question>> = vec![None; rows.len()];
        for chat in [false, true] {
            let of = said.iter().enumerate().filter(|(_, said)| is_chat(said) == chat);
            let pairs: Vec<(usize, (String, String))> =
                of.filter_map(|(at, said)| Some((at, pair(said.as_ref()?, template.as_ref())?))).collect();
            let prompts: Vec<&str> = pairs.iter().map(|(_, (prompt, _))| prompt.as_str()).collect();
            let encoded = tokenizer.encode_prompts(&prompts, !chat)?;
            for ((at, (prompt, reference)), encoded) in pairs.into_iter().zip(encoded) {
                asked[at] = Some(Question { prompt, ids: encoded.ids, reference });
            }
        }
        Ok(asked)
    }
}

/// The prompt and the answer of what a row says.
fn pair(said: &Said, templates: Option<&Templates>) -> Option<(String, String)> {
    match said {
        Said::Plain { prompt, completion } => Some((prompt.clone(), completion.clone())),
        Said::Chat { talk, from } => {
            let messages = &talk.messages;
            let from = from.or_else(|| messages.iter().rposition(|message| message["role"] == "assistant"))?;
            let reference = Some(content(messages.get(from)?)).filter(|text| !text.trim().is_empty())?;
            let prompt = templates?.of(talk).render(messages.get(..from)?, talk.tools.as_ref(), true).ok()?.text;
            Some((prompt, reference))
        }
    }
}

/// What a message says, as text.
fn content(message: &Value) -> String {
    match &message["content"] {
        Value::String(text) => text.clone(),
        Value::Array(parts) => parts.iter().filter_map(|part| part["text"].as_str()).collect(),
        _ => String::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::chat_settings::ChatSettings;
    use crate::encode::{Encode, LossOn};
    use crate::row::Cell;
    use crate::tokenize::tests::letters;
    use serde_json::json;
    use std::path::Path;

    fn asked(form: Form, fields: Value) -> Option<Question> {
        let template = "{% for m in messages %}{{ 'a' if m.role == 'user' else 'b' }}{{ m.content }}c{% endfor %}{% if add_generation_prompt %}b{% endif %}";
        let settings = ChatSettings { template: Some(template.into()), ..ChatSettings::default() };
        let tokenizer = letters().longer(20).with_chat(settings);
        let fields = fields.as_object().unwrap().clone();
        let cell = |value: &Value| match value {
            Value::String(text) => Cell::Text(text.clone()),
            other => Cell::Other { kind: "an array", text: other.to_string() },
        };
        let columns: Vec<String> = fields.keys().cloned().collect();
        let row = Row::new(Path::new("f").into(), 1, columns.into(), fields.values().map(cell).collect());
        let dialogue = Dialogue { loss_on: LossOn::All, ..Dialogue::of(form) };
        let mut all = dialogue.questions(&[row], Some(&tokenizer)).unwrap();
        all.pop().unwrap()
    }

    fn question(prompt: &str, ids: &[i64], reference: &str) -> Option<Question> {
        Some(Question { prompt: prompt.into(), ids: ids.to_vec(), reference: reference.into() })
    }

    #[test]
    fn a_completion_is_the_answer_to_its_prompt() {
        let form = Form::Completion { prompt: "{p}d".into(), completion: "c".into() };
        assert_eq!(asked(form.clone(), json!({ "p": "ab", "c": "ef" })), question("abd", &[8, 0, 1, 3], "ef"));
        let said = json!({ "p": [{ "role": "user", "content": "e" }], "c": [{ "role": "assistant", "content": "f" }] });
        let lists = Form::Completion { prompt: "p".into(), completion: "c".into() };
        assert_eq!(asked(lists, said), question("aecb", &[0, 4, 2, 1], "f"));
        assert_eq!(asked(Form::Text("p".into()), json!({ "p": "ab" })), None);
    }

    #[test]
    fn the_last_turn_of_the_assistant_is_the_answer_to_what_was_said_before() {
        let turn = |role: &str, content: Value| json!({ "role": role, "content": content });
        let all = json!([
            turn("user", json!("e")),
            turn("assistant", json!("f")),
            turn("user", json!("g")),
            turn("assistant", json!([{ "type": "text", "text": "h" }])),
            turn("user", json!("d"))
        ]);
        let form = || Form::Messages("m".into());
        assert_eq!(asked(form(), json!({ "m": all })), question("aecbfcagcb", &[0, 4, 2, 1, 5, 2, 0, 6, 2, 1], "h"));
        assert_eq!(asked(form(), json!({ "m": [turn("user", json!("e"))] })), None);
        for nothing in [json!(""), json!(" \n"), json!(null), json!([])] {
            assert_eq!(asked(form(), json!({ "m": [turn("user", json!("e")), turn("assistant", nothing)] })), None);
        }
    }
}
