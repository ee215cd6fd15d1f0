//! Conversations, and prompts with their completions.

use super::said::{alpaca, asked, columns_of, conversation, fill, is_list, json_list, optional};
use super::{Encode, Encodings, Question};
use crate::batch::IGNORE;
use crate::chat_template::{ChatTemplate, Refused, Rendered};
use crate::conversation::{Conversation, assistant_spans, completion_spans};
use crate::each::each;
use crate::error::DataError;
use crate::example::{Example, Field, LABELS};
use crate::messages::{MessageStyle, messages, turn};
use crate::row::{Cell, Row};
use crate::tokenize::{EncodedSpans, Spans, Tokenizer};
use lorac_config::{Check, Problems};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// Conversations, or prompts with their completions. Each row becomes one example: `input_ids`, `token_type_ids`, and labels, which are
/// the tokens themselves where they are to be learnt and [`IGNORE`] elsewhere. A conversation is written by the chat template,
/// without more special tokens; a prompt and its completion follow each other as they are, with the tokenizer's special tokens
/// around them. Errors: `ChatTemplate`, `NoChatTemplate`, `Conversation`, `NoEndOfText`, `Encode`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Dialogue {
    /// Where in a row it stands
    pub form: Form,
    /// The chat template. Default: the tokenizer's
    #[serde(default)]
    pub chat_template: Option<String>,
    /// What is learnt
    #[serde(default)]
    pub loss_on: LossOn,
    /// Whether the end of text is put behind. Default: yes behind a completion, no behind a conversation, which the template ends
    #[serde(default)]
    pub append_eos: Option<bool>,
    /// Whether a prompt and its completion are turns of the user and of the assistant
    #[serde(default)]
    pub as_chat: bool,
    /// Column of the tools that the assistant may call: a list of JSON schemas, which the chat template is given
    #[serde(default)]
    pub tools: Option<String>,
    /// Column of what the system says before a conversation that does not begin with it
    #[serde(default)]
    pub system: Option<String>,
    /// How messages are written
    #[serde(default)]
    pub style: MessageStyle,
}

impl Dialogue {
    /// What stands at this place of a row, by the tokenizer's chat template: the completion is learnt.
    #[must_use]
    pub fn of(form: Form) -> Dialogue {
        let (loss_on, style) = (LossOn::default(), MessageStyle::default());
        Dialogue {
            form,
            chat_template: None,
            loss_on,
            append_eos: None,
            as_chat: false,
            tools: None,
            system: None,
            style,
        }
    }
}

/// Where in a row a conversation stands.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Form {
    /// A column of messages
    Messages(String),
    /// Columns of a prompt and of its completion: texts, or lists of messages
    Completion {
        /// Column of the prompt, or a template: "{question} =>"
        prompt: String,
        /// Column of the completion, or a template
        completion: String,
    },
    /// Columns as Alpaca has them
    Alpaca {
        /// Column of the instruction
        instruction: String,
        /// Column of its input; may be empty
        input: Option<String>,
        /// Column of the answer
        output: String,
    },
    /// A column of texts
    Text(String),
}

/// Which tokens are learnt.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum LossOn {
    /// Those of the completion; of a conversation, those of the assistant's turns
    #[default]
    Completion,
    /// All of them
    All,
}

/// The chat templates of a tokenizer.
pub(super) struct Templates {
    usual: ChatTemplate,
    /// That of conversations with tools, where it is another one.
    tool_use: Option<ChatTemplate>,
}

impl Templates {
    pub(super) fn of(&self, talk: &Conversation) -> &ChatTemplate {
        self.tool_use.as_ref().filter(|_| talk.tools.is_some()).unwrap_or(&self.usual)
    }
}

impl Check for Dialogue {
    fn check(&self, _: &mut Problems) {}
}

/// What a row says.
pub(super) enum Said {
    /// Messages, of which those from some on are the completion, where it says which.
    Chat { talk: Conversation, from: Option<usize> },
    /// A prompt and what follows it.
    Plain { prompt: String, completion: String },
}

impl Encode for Dialogue {
    fn columns(&self) -> Vec<&str> {
        let columns = match &self.form {
            Form::Messages(column) => vec![column.as_str()],
            Form::Text(text) => columns_of(text),
            Form::Completion { prompt, completion } => [columns_of(prompt), columns_of(completion)].concat(),
            Form::Alpaca { instruction, output, .. } => vec![instruction.as_str(), output],
        };
        [columns, self.optional()].concat()
    }

    fn optional(&self) -> Vec<&str> {
        let input = if let Form::Alpaca { input, .. } = &self.form { input.as_ref() } else { None };
        [input, self.tools.as_ref(), self.system.as_ref()].into_iter().flatten().map(String::as_str).collect()
    }

    fn one_per_row(&self) -> bool {
        true
    }

    fn check_row(&self, row: &Row) -> Result<(), DataError> {
        self.said(row).map(drop)
    }

    fn encode(&self, rows: &[Row], tokenizer: Option<&Tokenizer>) -> Result<Encodings, DataError> {
        let tokenizer = tokenizer.ok_or(DataError::NoTokenizer { inputs: "dialogue" })?;
        let said = each(rows, |row| self.said(row))?;
        let template = match said.iter().any(|said| matches!(said, Said::Chat { .. })) {
            true => Some(self.templates(tokenizer)?),
            false => None,
        };
        let mut texts: Vec<(bool, Spans)> = Vec::with_capacity(rows.len());
        let mut refused = Vec::new();
        for (at, (row, said)) in rows.iter().zip(&said).enumerate() {
            let text = self.text(row, said, template.as_ref()).unwrap_or_else(|error| {
                refused.push((at, error));
                Spans::default()
            });
            texts.push((matches!(said, Said::Chat { .. }), text));
        }
        let ends = texts.iter().any(|(_, text)| text.end);
        let end = match (ends, tokenizer.end_of_text()) {
            (true, None) => return Err(DataError::NoEndOfText),
            (_, end) => end,
        };
        let of = |chat: bool| -> Vec<Spans> {
            texts.iter().filter(|(is, _)| *is == chat).map(|(_, text)| text.clone()).collect()
        };
        let mut encoded =
            [tokenizer.encode_spans(&of(false), true, end)?, tokenizer.encode_spans(&of(true), false, end)?]
                .map(Vec::into_iter);
        let encoded: Vec<EncodedSpans> =
            texts.iter().filter_map(|(chat, _)| encoded[usize::from(*chat)].next()).collect();
        let measures = encoded.iter().map(|one| one.measure).collect();
        let examples = encoded.into_iter().map(|one| example(one, tokenizer.pad_id())).collect();
        Ok(Encodings { examples, measures, refused, ..Encodings::default() })
    }

    fn questions(&self, rows: &[Row], tokenizer: Option<&Tokenizer>) -> Result<Vec<Option<Question>>, DataError> {
        self.asked(rows, tokenizer.ok_or(DataError::NoTokenizer { inputs: "dialogue" })?)
    }
}

impl Dialogue {
    pub(super) fn templates(&self, tokenizer: &Tokenizer) -> Result<Templates, DataError> {
        let settings = tokenizer.chat();
        let compiled = |text: &String| {
            let wrong = |e: Refused| DataError::ChatTemplate { what: e.to_string() };
            ChatTemplate::new(text, settings.tokens.clone()).map_err(wrong)
        };
        let text = self.chat_template.as_ref().or(settings.template.as_ref()).or(settings.tool_use.as_ref());
        let tool_use = settings.tool_use.as_ref().filter(|_| self.chat_template.is_none() && self.tools.is_some());
        Ok(Templates {
            usual: compiled(text.ok_or(DataError::NoChatTemplate)?)?,
            tool_use: tool_use.map(compiled).transpose()?,
        })
    }

    /// What a row says.
    pub(super) fn said(&self, row: &Row) -> Result<Said, DataError> {
        let (tools, system) = (self.tools(row)?, self.system.as_ref().map_or(Ok(""), |column| optional(row, column))?);
        let chat = |mut messages: Vec<Value>, from: Option<usize>| {
            let begins = messages.first().is_some_and(|first| first["role"] == "system");
            let more = !system.is_empty() && !begins;
            if more {
                messages.insert(0, turn("system", system));
            }
            Said::Chat {
                talk: Conversation { messages, tools: tools.clone() },
                from: from.map(|at| at + usize::from(more)),
            }
        };
        let plain = |prompt: String, completion: String| match self.as_chat {
            true => Ok(chat(vec![turn("user", &prompt), turn("assistant", &completion)], Some(1))),
            false if tools.is_some() || !system.is_empty() => {
                let what = if system.is_empty() { "tools are" } else { "what a system says is" };
                Err(conversation(
                    row,
                    format!("{what} for conversations, and this is a prompt: as_chat: true makes turns of it"),
                ))
            }
            false => Ok(Said::Plain { prompt, completion }),
        };
        match &self.form {
            Form::Text(text) => plain(String::new(), fill(row, text)?),
            Form::Messages(column) => Ok(chat(self.list(row, column)?, None)),
            Form::Completion { prompt, completion } if is_list(row, prompt)? && is_list(row, completion)? => {
                let (mut messages, more) = (self.list(row, prompt)?, self.list(row, completion)?);
                let from = messages.len();
                messages.extend(more);
                Ok(chat(messages, Some(from)))
            }
            Form::Completion { prompt, completion } => plain(fill(row, prompt)?, fill(row, completion)?),
            Form::Alpaca { instruction, input, output } => {
                let input = input.as_ref().map_or(Ok(""), |input| optional(row, input))?;
                let (instruction, output) = (row.text(instruction)?, row.text(output)?.to_owned());
                let prompt = if self.as_chat { asked(instruction, input) } else { alpaca(instruction, input) };
                plain(prompt, output)
            }
        }
    }

    /// The messages in a column: a list, or a text that is one in JSON.
    fn list(&self, row: &Row, column: &str) -> Result<Vec<Value>, DataError> {
        let value = json_list(row, column)?.ok_or_else(|| row.wrong_type(column, "a list of messages"))?;
        messages(value, column, &self.style).map_err(|what| conversation(row, what))
    }

    /// The tools of a row; none where it has no value, an empty text or list.
    fn tools(&self, row: &Row) -> Result<Option<Value>, DataError> {
        let Some(column) = &self.tools else { return Ok(None) };
        let none = match row.need(column)? {
            Cell::Null => true,
            Cell::Text(text) => text.trim().is_empty(),
            _ => false,
        };
        if none {
            return Ok(None);
        }
        let wrong = || row.wrong_type(column, "a list of tools, which are JSON objects");
        let list = json_list(row, column)?.ok_or_else(wrong)?;
        let tools = list.as_array().ok_or_else(wrong)?;
        match tools.iter().all(Value::is_object) {
            true => Ok((!tools.is_empty()).then_some(list)),
            false => Err(wrong()),
        }
    }

    /// The text of what a row says, and the bytes of it that are learnt.
    fn text(&self, row: &Row, said: &Said, templates: Option<&Templates>) -> Result<Spans, DataError> {
        let (text, spans, chat) = match said {
            Said::Plain { prompt, completion } => {
                let text = format!("{prompt}{completion}");
                let span = prompt.len()..text.len();
                (text, vec![span], false)
            }
            Said::Chat { talk, from } => {
                let template = templates.ok_or(DataError::NoChatTemplate)?.of(talk);
                let rendered = match (self.loss_on, from) {
                    (LossOn::All, _) => template.render(&talk.messages, talk.tools.as_ref(), false).map_err(Into::into),
                    (LossOn::Completion, Some(from)) if !template.marks_generation() => {
                        completion_spans(template, talk, *from)
                    }
                    (LossOn::Completion, _) => assistant_spans(template, talk),
                };
                let Rendered { text, generated } = rendered.map_err(|unfit| conversation(row, unfit.to_string()))?;
                (text, generated, true)
            }
        };
        let all = 0..text.len();
        let spans = if self.loss_on == LossOn::All { vec![all] } else { spans };
        Ok(Spans { text, spans, end: self.append_eos.unwrap_or(!chat && !matches!(self.form, Form::Text(_))) })
    }
}

/// The labels of tokens: a token that is to be learnt, but the first, which nothing predicts.
fn example(one: EncodedSpans, pad: i64) -> Example {
    let label = |(at, (id, counted)): (usize, (&i64, &bool))| if *counted && at > 0 { *id } else { IGNORE };
    let labels = one.ids.iter().zip(&one.counted).enumerate().map(label).collect();
    let types = vec![0; one.ids.len()];
    let ids = if one.ids.is_empty() { vec![pad] } else { one.ids };
    let (types, labels) = if types.is_empty() { (vec![0], vec![IGNORE]) } else { (types, labels) };
    Example {
        fields: vec![
            (LABELS, Field::Tokens { ids: labels, pad: IGNORE }),
            ("input_ids", Field::Tokens { ids, pad }),
            ("token_type_ids", Field::Tokens { ids: types, pad: 0 }),
        ],
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::chat_settings::ChatSettings;
    use crate::tokenize::tests::letters;
    use std::collections::BTreeMap;
    use std::path::Path;

    /// A token a letter, as many as are needed, ending with `h` and without special tokens; turns are `a..c` and `b..c`.
    fn tokenizer(max_length: usize) -> Tokenizer {
        let tokens = BTreeMap::from([("eos_token".to_owned(), "h".to_owned())]);
        let template = "{% for m in messages %}{{ 'a' if m.role == 'user' else 'b' }}{{ m.content }}c{% endfor %}{% if add_generation_prompt %}b{% endif %}";
        letters().longer(max_length).with_chat(ChatSettings {
            template: Some(template.into()),
            tokens,
            ..ChatSettings::default()
        })
    }

    fn row(fields: Value) -> Row {
        let fields = fields.as_object().unwrap().clone();
        let cell = |value: &Value| match value {
            Value::String(text) => Cell::Text(text.clone()),
            Value::Null => Cell::Null,
            other => Cell::Other { kind: "an array", text: other.to_string() },
        };
        let columns: Vec<String> = fields.keys().cloned().collect();
        Row::new(Path::new("f").into(), 2, columns.into(), fields.values().map(cell).collect())
    }

    fn dialogue(form: Form) -> Dialogue {
        Dialogue::of(form)
    }

    fn completion() -> Dialogue {
        dialogue(Form::Completion { prompt: "p".into(), completion: "c".into() })
    }

    fn letters_of(ids: &[i64]) -> String {
        let letter = |id: &i64| match *id {
            id @ 0..8 => char::from(b'a' + id as u8),
            IGNORE => '.',
            _ => '|',
        };
        ids.iter().map(letter).collect()
    }

    fn encode(dialogue: &Dialogue, fields: Value, max_length: usize) -> (String, String) {
        let made = dialogue.encode(&[row(fields)], Some(&tokenizer(max_length))).unwrap_or_else(|e| panic!("{e}"));
        let of = |name| letters_of(made.examples[0].tokens(name).unwrap());
        (of("input_ids"), of(LABELS))
    }

    fn pair(ids: &str, labels: &str) -> (String, String) {
        (ids.to_owned(), labels.to_owned())
    }

    #[test]
    fn of_a_prompt_and_its_completion_the_completion_is_learnt_with_the_end() {
        let fields = serde_json::json!({"p": "de", "c": "fg"});
        // What the tokenizer puts behind a text counts as its end does.
        assert_eq!(encode(&completion(), fields.clone(), 20), pair("|defg|h", "...fg|h"));
        let all = Dialogue { loss_on: LossOn::All, append_eos: Some(false), ..completion() };
        assert_eq!(encode(&all, fields.clone(), 20), pair("|defg|", ".defg|"));
        assert_eq!(encode(&completion(), fields.clone(), 5), pair("|defg", "...fg"));
        assert_eq!(encode(&completion(), fields, 3), pair("|de", "..."), "nothing is left to learn");
    }

    #[test]
    fn of_a_conversation_the_assistant_is_learnt() {
        let chat = dialogue(Form::Messages("m".into()));
        let turns = serde_json::json!({"m": [turn("user", "d"), turn("assistant", "e"), turn("user", "f"), turn("assistant", "g")]});
        assert_eq!(encode(&chat, turns.clone(), 20), pair("adcbecafcbgc", "....ec....gc"));
        let end = Dialogue { append_eos: Some(true), ..chat.clone() };
        assert_eq!(encode(&end, turns.clone(), 20), pair("adcbecafcbgch", "....ec....gch"));
        assert_eq!(encode(&Dialogue { loss_on: LossOn::All, ..chat }, turns, 20).1, ".dcbecafcbgc");
        let lists = serde_json::json!({"p": [turn("user", "d")], "c": [turn("assistant", "e")]});
        assert_eq!(encode(&completion(), lists, 20), pair("adcbec", "....ec"));
        let as_chat = Dialogue { as_chat: true, ..completion() };
        assert_eq!(encode(&as_chat, serde_json::json!({"p": "d", "c": "e"}), 20), pair("adcbec", "....ec"));
    }

    #[test]
    fn tools_and_what_the_system_says_are_given_to_the_template() {
        let template = "{% for t in tools or [] %}{{ t.name }}{% endfor %}{% for m in messages %}{{ 'a' if m.role == 'user' else 'b' if m.role == 'assistant' else 'h' }}{{ m.content }}c{% endfor %}{% if add_generation_prompt %}b{% endif %}";
        let of = |tool_use: Option<&str>| {
            let chat = ChatSettings {
                template: Some(template.into()),
                tool_use: tool_use.map(str::to_owned),
                ..ChatSettings::default()
            };
            letters().longer(20).with_chat(chat)
        };
        let chat =
            Dialogue { tools: Some("t".into()), system: Some("s".into()), ..dialogue(Form::Messages("m".into())) };
        let fields = |tools: Value, system: Value| serde_json::json!({"m": [{"from": "human", "value": "d"}, {"from": "gpt", "value": "e"}], "t": tools, "s": system});
        let encode = |chat: &Dialogue, fields: Value, tokenizer: &Tokenizer| {
            let made = chat.encode(&[row(fields)], Some(tokenizer)).unwrap_or_else(|e| panic!("{e}"));
            let of = |name| letters_of(made.examples[0].tokens(name).unwrap());
            (of("input_ids"), of(LABELS))
        };
        let tools = serde_json::json!([{"name": "fg"}]);
        let want = pair("fghgcadcbec", ".........ec");
        assert_eq!(encode(&chat, fields(tools.clone(), "g".into()), &of(None)), want);
        assert_eq!(encode(&chat, fields(tools.to_string().into(), "g".into()), &of(None)), want, "a list as a text");
        for none in [Value::Null, "".into(), serde_json::json!([])] {
            assert_eq!(encode(&chat, fields(none, Value::Null), &of(None)), pair("adcbec", "....ec"));
        }
        let other = of(Some("{{ tools[0].name }}{% for m in messages %}{{ m.content }}{% endfor %}"));
        assert_eq!(encode(&chat, fields(tools.clone(), Value::Null), &other).0, "fgde");
        assert_eq!(encode(&chat, fields(Value::Null, Value::Null), &other).0, "adcbec");
        let explicit = Dialogue { chat_template: Some(template.into()), ..chat.clone() };
        assert_eq!(encode(&explicit, fields(tools.clone(), Value::Null), &other).0, "fgadcbec");
        let wrong = |dialogue: &Dialogue, fields: Value| dialogue.check_row(&row(fields)).unwrap_err().to_string();
        assert!(wrong(&chat, fields("get()".into(), Value::Null)).contains("expected `t` to be a list of tools"));
        assert!(
            wrong(&chat, fields(serde_json::json!(["get"]), Value::Null))
                .contains("expected `t` to be a list of tools")
        );
        let plain = Dialogue { tools: Some("t".into()), ..completion() };
        let said = wrong(&plain, serde_json::json!({"p": "d", "c": "e", "t": tools}));
        assert!(said.contains("tools are for conversations") && said.contains("as_chat: true"), "{said}");
    }

    #[test]
    fn alpaca_has_its_prompt() {
        assert!(alpaca("Add.", "").ends_with("completes the request.\n\n### Instruction:\nAdd.\n\n### Response:"));
        assert!(alpaca("Add.", "1 2").contains("### Input:\n1 2\n\n### Response:"));
        let columns = Form::Alpaca { instruction: "i".into(), input: Some("n".into()), output: "o".into() };
        let as_chat = Dialogue { as_chat: true, ..dialogue(columns) };
        assert_eq!(encode(&as_chat, serde_json::json!({"i": "d", "n": null, "o": "e"}), 20), pair("adcbec", "....ec"));
        assert_eq!(asked("d", "e"), "d\ne");
    }

    #[test]
    fn what_cannot_be_followed_is_refused() {
        let chat = dialogue(Form::Messages("m".into()));
        let wrong = |dialogue: &Dialogue, fields: Value, tokenizer: &Tokenizer| {
            dialogue.encode(&[row(fields)], Some(tokenizer)).unwrap_err().to_string()
        };
        let turns = serde_json::json!({"m": [turn("user", "d")]});
        assert!(wrong(&chat, turns, &letters()).starts_with("conversations need a chat template"));
        let no_role = serde_json::json!({"m": [{"content": "d"}]});
        assert_eq!(wrong(&chat, no_role, &tokenizer(9)), "f: row 2: message 1 of `m` has no role");
        let text = serde_json::json!({"m": "hello"});
        assert_eq!(
            wrong(&chat, text, &tokenizer(9)),
            "f: row 2: expected `m` to be a list of messages, found a string"
        );
        let fields = serde_json::json!({"p": "d", "c": "e"});
        assert!(wrong(&completion(), fields.clone(), &letters()).contains("append_eos: false"));
        let broken = Dialogue { as_chat: true, chat_template: Some("a\n{% if %}".into()), ..completion() };
        assert!(wrong(&broken, fields, &tokenizer(9)).starts_with("the chat template: line 2: syntax error"));
    }
}
