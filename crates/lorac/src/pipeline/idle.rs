//! Keys of a split that the task does not read.

use super::Split;
use super::data::keys;
use crate::task::TaskChoice;
use lorac_config::Problems;
use serde_json::{Value, json};

/// Keys that say which file is read, how it is written and which of its rows are taken. All others say what of a row is read,
/// which is for the task to do.
const OF_EVERY_TASK: [&str; 13] = [
    "sha256",
    "include",
    "exclude",
    "block",
    "stream",
    "weight",
    "separator",
    "quote",
    "columns",
    "encoding",
    "filter",
    "skip",
    "take",
];

impl Split {
    /// The keys that are given and say what of a row is read.
    pub(super) fn given(&self) -> Vec<&'static str> {
        let value = |split: &Split| serde_json::to_value(&split.options).unwrap_or_default();
        let (ours, usual) = (value(self), value(&Split { options: Default::default(), ..self.clone() }));
        let is_given = |key: &&&str| ours.get(key).unwrap_or(&Value::Null) != usual.get(key).unwrap_or(&Value::Null);
        keys().iter().filter(|key| !OF_EVERY_TASK.contains(key)).filter(is_given).copied().collect()
    }

    /// Reports the keys that a task does not read.
    pub(super) fn check_read(&self, task: &TaskChoice, problems: &mut Problems) {
        // Of plain texts, all of them are idle.
        let given = if self.is_table() { self.given() } else { Vec::new() };
        for key in given.into_iter().filter(|key| !task.reads().contains(key)) {
            let (name, reads) = (task.name(), task.reads().join(", "));
            let message = format!("`{key}`: `task: {name}` does not read it, but {reads}");
            problems.report_with_help(key, "pipeline::idle", message, readers(key));
        }
    }
}

/// A task without settings, where it needs none.
fn usual(name: &str) -> Option<TaskChoice> {
    serde_json::from_value(json!({ name: {} })).ok()
}

/// The tasks that read a key, in words.
fn readers(key: &str) -> Option<String> {
    let readers = TaskChoice::NAMES.iter().filter(|name| usual(name).is_some_and(|task| task.reads().contains(&key)));
    let readers: Vec<&str> = readers.copied().collect();
    let (last, first) = readers.split_last()?;
    match first {
        [] => Some(format!("{last} reads it")),
        first => Some(format!("{} and {last} read it", first.join(", "))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pipeline::Loaded;
    use std::path::Path;

    fn split(given: &[(&str, &str)]) -> Split {
        // A word or a list of them: whatever the key takes.
        let forms: [fn(&str) -> Value; 2] = [|word| json!(word), |word| json!([word])];
        let of_key = |key: &str, word: &str| {
            let fits = |value: &Value| serde_json::from_value::<Split>(json!({ "csv": "a.csv", key: value })).is_ok();
            forms.map(|form| form(word)).into_iter().find(fits).unwrap_or_else(|| panic!("{key} takes no word"))
        };
        let given = given.iter().map(|(key, word)| ((*key).to_string(), of_key(key, word)));
        let all = given.chain([("csv".to_string(), json!("a.csv"))]).collect();
        serde_json::from_value(Value::Object(all)).unwrap_or_else(|e| panic!("{e}"))
    }

    /// What stands beside a key for it to be read.
    fn beside(key: &str) -> &'static [&'static str] {
        match key {
            "prompt" => &["completion"],
            "completion" => &["prompt"],
            "instruction" => &["output"],
            "output" => &["instruction"],
            "input" => &["instruction", "output"],
            "tools" | "system" => &["messages"],
            _ => &[],
        }
    }

    #[test]
    fn a_task_reads_the_columns_that_it_says() {
        // They hold no column of texts.
        let others = ["label_map", "label_separator", "roles", "message_keys", "arrays"];
        let of_rows = keys().iter().filter(|key| !OF_EVERY_TASK.contains(key) && lorac_data::format(key).is_none());
        let columns: Vec<&str> = of_rows.copied().filter(|key| !others.contains(key)).collect();
        assert!(["text_pair", "label", "messages"].iter().all(|key| columns.contains(key)), "{columns:?}");
        let mut tasks = 0;
        for name in TaskChoice::NAMES {
            let Some(task) = usual(name) else { continue };
            tasks += 1;
            assert_eq!(task.reads().contains(&"arrays"), task.takes_arrays(), "{name}");
            assert!(task.reads().iter().all(|key| keys().contains(key)), "{name}");
            for key in &columns {
                let given = beside(key).iter().map(|key| (*key, "other")).chain([(*key, "MARK")]);
                let split = split(&given.collect::<Vec<_>>());
                let (inputs, targets) = (task.inputs(&split), task.targets(&split).unwrap_or_else(|e| panic!("{e}")));
                let read = inputs.columns().into_iter().chain(targets.columns()).any(|column| column == "MARK");
                assert_eq!(read, task.reads().contains(key), "{name}: {key}");
            }
        }
        assert!(tasks >= 5, "{tasks}");
    }

    #[test]
    fn columns_that_a_task_does_not_read_are_refused_at_their_place() {
        let wrong = |task: &str, columns: &str| {
            let text = format!(
                "name: p\nmodel: m.onnx\nadapt: [lora: {{ targets: [q] }}]\ntask: {{ {task} }}\ndata:\n  train:\n    csv: a.csv\n{columns}"
            );
            Loaded::parse(&text, Path::new("p.yaml"), &[]).expect_err("refused").to_string()
        };
        for (task, columns, says) in [
            (
                "causal_lm",
                "    text: a\n    text_pair: b\n",
                "p.yaml:9:16: error[pipeline::idle]: `text_pair`: `task: causal_lm` does not read it, but text, messages",
            ),
            ("causal_lm: {}", "    text: a\n    label: b\n", "p.yaml:9:12: error[pipeline::idle]: `label`"),
            ("classify: [a, b]", "    label: b\n    messages: c\n", "p.yaml:9:15: error[pipeline::idle]: `messages`"),
            (
                "tag: [a, b]",
                "    text: a\n    label: b\n    text_pair: c\n",
                "p.yaml:10:16: error[pipeline::idle]: `text_pair`",
            ),
            (
                "regress",
                "    text: a\n    label: b\n    label_map: { a: b }\n",
                "p.yaml:10:5: error[pipeline::idle]: `label_map`",
            ),
            (
                "classify: [a, b]",
                "    text: a\n    label: b\n    label_separator: ;\n",
                "p.yaml:10:22: error[pipeline::idle]: `label_separator`",
            ),
            ("causal_lm: { as_chat: true }", "    text: a\n", "p.yaml:8:11: error[pipeline::idle]: `as_chat`"),
            (
                "causal_lm: { chat_template: \"{{ messages }}\" }",
                "    text: a\n",
                "p.yaml:8:11: error[pipeline::idle]: `chat_template`",
            ),
        ] {
            let got = wrong(task, columns);
            assert!(got.contains(says), "{task}: {got}");
        }
    }

    #[test]
    fn what_is_given_and_who_reads_it_is_told() {
        assert_eq!(split(&[("text", "a"), ("filter", "a == 1"), ("label", "b")]).given(), ["text", "label"]);
        assert_eq!(readers("messages").as_deref(), Some("causal_lm reads it"));
        assert_eq!(readers("nothing"), None);
    }
}
