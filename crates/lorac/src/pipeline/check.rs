//! What types cannot say: ranges, duplicates, combinations. Every problem at once.

use super::{Adapt, Issue, Located, Pipeline, RuntimeSource, Split, Task};
use lorac_data::Filter;
use lorac_runtime::DeviceChoice;
use std::collections::BTreeSet;

/// Everything that is wrong with a pipeline whose keys and types are right.
pub(super) fn check(p: &Pipeline, text: &str) -> Vec<Issue> {
    let mut c = Checker { text, issues: Vec::new() };
    let name = &p.name;
    if name.is_empty() || name.contains(['/', '\\']) || name.starts_with('.') {
        c.at(name, "pipeline::name", "a name is a word that can name a folder");
    }
    let labels = p.task.labels();
    if matches!(p.task, Task::Classify(_)) && labels.len() < 2 {
        c.key("labels", "pipeline::labels", "a classification needs at least two labels");
    }
    let mut seen = BTreeSet::new();
    for label in labels {
        if !seen.insert(label.as_str()) {
            c.at(label, "pipeline::labels", "this label stands twice");
        }
    }
    c.range("max_length", p.data.max_length as f64, 4.0, 1e6);
    c.range("pad_to_multiple", p.data.pad_to_multiple as f64, 1.0, 1024.0);
    for split in [&p.data.train, &p.data.eval] {
        c.split(split, &p.task);
    }
    if p.adapt.is_empty() {
        c.key("adapt", "pipeline::adapt", "no method: try - lora: { targets: [\"role:query\", \"role:value\"] }");
    }
    for Adapt::Lora(lora) in &p.adapt {
        if lora.targets.is_empty() {
            c.key("targets", "pipeline::targets", "no targets: try [\"role:query\", \"role:value\"]");
        }
        c.range("rank", lora.rank as f64, 1.0, 1e5);
        c.range("alpha", lora.alpha, f64::MIN_POSITIVE, 1e6);
        c.range("dropout", lora.dropout, 0.0, 0.99);
    }
    c.training(p);
    if p.runtime.source == RuntimeSource::Embedded && p.runtime.provider == DeviceChoice::Cuda {
        c.key("provider", "pipeline::provider", "the embedded engine computes on the processor: cuda needs a library");
    }
    if p.runtime.sha256.is_some() && !matches!(p.runtime.source, RuntimeSource::Source(_)) {
        let idle = "runtime.sha256 pins a library or package: this source names none";
        c.key("sha256", "pipeline::idle", idle);
    }
    c.range("threads", p.runtime.threads.unwrap_or(1) as f64, 1.0, 4096.0);
    c.range("max_abs_diff", p.deploy.verify.max_abs_diff, 0.0, 1e6);
    c.range("samples", p.deploy.verify.samples as f64, 1.0, 1e6);
    if let Some(gates) = &p.deploy.metrics {
        c.range("accuracy_min", gates.accuracy_min.unwrap_or(0.0), 0.0, 1.0);
        c.range("perplexity_max", gates.perplexity_max.unwrap_or(1.0), 1.0, f64::MAX);
        let (key, idle) = match p.task {
            Task::Classify(_) => ("perplexity_max", gates.perplexity_max.is_some()),
            Task::CausalLm(_) => ("accuracy_min", gates.accuracy_min.is_some()),
        };
        if idle {
            c.key(key, "pipeline::metrics", "the task is not judged by this score");
        }
    }
    c.issues
}

struct Checker<'a> {
    text: &'a str,
    issues: Vec<Issue>,
}

impl Checker<'_> {
    fn at(&mut self, at: &Located, code: &'static str, message: &str) {
        let message = format!("'{at}': {message}");
        self.issues.push(Issue { code, message, line: at.line, column: at.column, help: None });
    }

    /// A problem of the value behind a key: it is shown at the first line that has the key.
    fn key(&mut self, key: &str, code: &'static str, message: &str) {
        let (line, column) = find_key(self.text, key);
        self.issues.push(Issue { code, message: message.to_string(), line, column, help: None });
    }

    fn range(&mut self, key: &str, x: f64, min: f64, max: f64) {
        if !(x >= min && x <= max) {
            let least = if min == f64::MIN_POSITIVE { "above 0".into() } else { format!("at least {min}") };
            let most = if max > 1e8 { String::new() } else { format!(" and at most {max}") };
            self.key(key, "pipeline::range", &format!("{key} is {x}: it must be {least}{most}"));
        }
    }

    fn training(&mut self, p: &Pipeline) {
        let (train, adamw) = (&p.train, p.train.optimizer.adamw());
        self.range("epochs", train.epochs, f64::MIN_POSITIVE, 1e6);
        self.range("batch", train.batch as f64, 1.0, 1e5);
        self.range("eval_batch", train.eval_batch as f64, 1.0, 1e5);
        self.range("clip", train.clip, 0.0, f64::MAX);
        for (key, steps) in [("steps", train.steps), ("checkpoint_every", train.checkpoint_every)] {
            self.range(key, steps.unwrap_or(1) as f64, 1.0, 1e9);
        }
        self.range("lr", adamw.lr, f64::MIN_POSITIVE, 10.0);
        self.range("weight_decay", adamw.weight_decay, 0.0, 10.0);
        self.range("beta1", adamw.beta1, 0.0, 1.0 - 1e-9);
        self.range("beta2", adamw.beta2, 0.0, 1.0 - 1e-9);
        self.range("eps", adamw.eps, f64::MIN_POSITIVE, 1.0);
        let warmup = match &train.schedule {
            super::Schedule::Linear(w) | super::Schedule::Constant(w) => w.warmup,
        };
        self.range("warmup", warmup, 0.0, 1.0);
    }

    fn split(&mut self, split: &Split, task: &Task) {
        let labels = task.labels();
        let classify = matches!(task, Task::Classify(_));
        let (plain, table) = (split.txt.is_some(), split.csv.is_some() || split.jsonl.is_some());
        let named = [split.csv.is_some(), split.jsonl.is_some(), plain].iter().filter(|x| **x).count();
        if named != 1 {
            self.key("data", "pipeline::split", "a split names exactly one of csv, jsonl and txt");
        } else if plain && classify {
            self.key("txt", "pipeline::split", "plain texts have no labels: a classification reads csv or jsonl");
        } else if table && split.text.is_none() {
            self.key("data", "pipeline::split", "a table needs the column of its texts: text: COLUMN");
        } else if table && classify && split.label.is_none() {
            self.key("data", "pipeline::split", "a classification needs the column of labels: label: COLUMN");
        }
        if named == 1 {
            let of_tables = [
                ("text", split.text.is_some()),
                ("label", split.label.is_some()),
                ("label_map", split.label_map.is_some()),
                ("filter", split.filter.is_some()),
            ];
            let of_texts = [
                ("include", !split.include.is_empty()),
                ("exclude", !split.exclude.is_empty()),
                ("block", split.block.is_some()),
            ];
            let (keys, why): (&[_], _) = match plain {
                true => (&of_tables, "it is for csv and jsonl: plain texts have no columns"),
                false => (&of_texts, "it is for txt: it says nothing about a table"),
            };
            for (key, _) in keys.iter().filter(|(_, given)| *given) {
                self.key(key, "pipeline::idle", &format!("'{key}': {why}"));
            }
        }
        for pattern in split.include.iter().chain(&split.exclude) {
            if let Err(e) = globset::Glob::new(pattern) {
                self.at(pattern, "pipeline::glob", &e.kind().to_string());
            }
        }
        if let Some(block) = split.block {
            self.range("block", block as f64, 2.0, 1e6);
        }
        if split.take == Some(0) {
            self.key("take", "pipeline::range", "take is 0: it must be at least 1");
        }
        if let Some(filter) = &split.filter
            && let Err(e) = Filter::parse(filter)
        {
            self.at(filter, "pipeline::filter", &e.to_string());
        }
        for name in split.label_map.iter().flat_map(|m| m.values()) {
            if !labels.iter().any(|l| l.as_str() == name) {
                let known: Vec<&str> = labels.iter().map(|l| l.as_str()).collect();
                let message = format!("label_map names '{name}', which is none of {}", known.join(", "));
                self.key("label_map", "pipeline::labels", &message);
            }
        }
    }
}

/// Line and column, from 1, of the first place that has `key` as a key; 0 where there is none.
fn find_key(text: &str, key: &str) -> (usize, usize) {
    for (i, line) in text.lines().enumerate() {
        for (at, _) in line.match_indices(key) {
            let before = line[..at].chars().next_back();
            let after = line[at + key.len()..].trim_start().starts_with(':');
            if after && before.is_none_or(|c| !c.is_alphanumeric() && c != '_') && !line.trim_start().starts_with('#') {
                return (i + 1, line[..at].chars().count() + 1);
            }
        }
    }
    (0, 0)
}
