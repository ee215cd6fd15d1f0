//! Columns of a split that have conversations, or prompts with completions.

use super::Split;
use lorac_config::Problems;
use lorac_data::Template;
use lorac_data::encode::{Dialogue, Form};
use lorac_data::{MessageKeys, MessageStyle};

impl Split {
    /// The columns of conversations that are named.
    fn dialogue_columns(&self) -> [(&'static str, Option<&String>); 6] {
        let o = &self.options;
        [
            ("messages", o.messages.as_ref()),
            ("prompt", o.prompt.as_ref()),
            ("completion", o.completion.as_ref()),
            ("instruction", o.instruction.as_ref()),
            ("input", o.input.as_ref()),
            ("output", o.output.as_ref()),
        ]
    }

    /// The first key by which the split has conversations, or prompts with completions; none where it has texts.
    pub fn dialogue_key(&self) -> Option<&'static str> {
        self.dialogue_columns().into_iter().find_map(|(key, column)| column.map(|_| key))
    }

    /// Where in a row conversations, or prompts with completions, stand; none where the split has texts.
    pub fn dialogue(&self) -> Option<Form> {
        let [messages, prompt, completion, instruction, input, output] =
            self.dialogue_columns().map(|(_, c)| c.cloned());
        match (messages, prompt, completion, instruction, output) {
            (Some(messages), ..) => Some(Form::Messages(messages)),
            (_, Some(prompt), Some(completion), ..) => Some(Form::Completion { prompt, completion }),
            (.., Some(instruction), Some(output)) => Some(Form::Alpaca { instruction, input, output }),
            _ => None,
        }
    }

    /// How conversations are read that stand at this place.
    pub(crate) fn dialogue_of(&self, form: Form) -> Dialogue {
        let style = MessageStyle { keys: self.message_keys.clone(), roles: self.roles.clone() };
        Dialogue { tools: self.tools.clone(), system: self.system.clone(), style, ..Dialogue::of(form) }
    }

    /// The keys that say more of conversations.
    fn beside_dialogue(&self) -> impl Iterator<Item = &'static str> {
        let given = [
            ("tools", self.tools.is_some()),
            ("system", self.system.is_some()),
            ("roles", !self.roles.is_empty()),
            ("message_keys", self.message_keys != MessageKeys::default()),
        ];
        given.into_iter().filter_map(|(key, given)| given.then_some(key))
    }

    /// Reports columns of conversations that do not go together.
    pub(super) fn check_dialogue(&self, problems: &mut Problems) {
        for (key, text) in [("prompt", &self.prompt), ("completion", &self.completion)] {
            if let Some(Err(e)) = text.as_deref().map(Template::parse) {
                problems.report(key, "pipeline::template", e);
            }
        }
        const GROUPS: [(&str, &[&str], &[&str]); 3] = [
            ("messages", &["messages"], &[]),
            ("prompt", &["prompt", "completion"], &[]),
            ("instruction", &["instruction", "output"], &["input"]),
        ];
        let given: Vec<&str> = self.dialogue_columns().into_iter().filter_map(|(key, c)| c.map(|_| key)).collect();
        let has = |key: &&&str| given.contains(*key);
        let groups: Vec<_> =
            GROUPS.iter().filter(|(_, needed, more)| needed.iter().chain(*more).any(|key| has(&key))).collect();
        if let [(_, needed, more), ..] = groups[..] {
            for missing in needed.iter().filter(|key| !has(key)) {
                let key = needed.iter().chain(*more).find(|key| has(key)).unwrap_or(missing);
                let message = format!("`{key}` needs `{missing}` beside it: {missing}: COLUMN");
                problems.report(missing, "pipeline::split", message);
            }
        }
        if let [(first, ..), (second, ..), ..] = groups[..] {
            problems.report(
                second,
                "pipeline::split",
                format!("`{second}` and `{first}`: a split has one or the other"),
            );
        }
        for key in self.beside_dialogue().filter(|_| given.is_empty() && self.is_table()) {
            let message = format!("`{key}` needs conversations beside it: messages: COLUMN");
            problems.report(key, "pipeline::split", message);
        }
        for (at, (role, names)) in self.roles.iter().enumerate() {
            let others =
                self.roles.iter().take(at).flat_map(|(role, names)| names.iter().map(move |name| (role, name)));
            if let Some((other, name)) = others.into_iter().find(|(_, name)| names.contains(name)) {
                let message = format!("`{name}` is a name of `{other}` and of `{role}`");
                problems.within("roles", |p| p.report(role, "pipeline::split", message));
            }
        }
        if let (Some(key), true) = (given.first(), self.text.is_some()) {
            problems.report("text", "pipeline::split", format!("`text` and `{key}`: a split has one or the other"));
        }
    }
}
