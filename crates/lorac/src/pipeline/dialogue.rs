//! Columns of a split that have conversations, or prompts with completions.

use super::Split;
use lorac_config::Problems;
use lorac_data::Template;
use lorac_data::encode::Form;

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
        if let (Some(key), true) = (given.first(), self.text.is_some()) {
            problems.report("text", "pipeline::split", format!("`text` and `{key}`: a split has one or the other"));
        }
    }
}
