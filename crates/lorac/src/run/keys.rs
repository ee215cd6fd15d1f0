//! What a training depends on, key by key: two trainings with the same keys learn the same.

use crate::output::InputRecord;
use crate::pipeline::Pipeline;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::collections::BTreeMap;
use std::fmt;

/// What a training depends on: the keys of its pipeline with defaults and overrides, files by their sums.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Keys(BTreeMap<String, Value>);

/// A key that two trainings differ in.
#[derive(Clone, Debug, PartialEq)]
pub struct Difference {
    /// The key.
    pub key: String,
    /// Its value in the checkpoint, where it has one.
    pub there: Option<Value>,
    /// Its value in the pipeline, where it has one.
    pub here: Option<Value>,
}

/// Sections and keys that no step depends on.
const IDLE: &[&str] = &[
    "name",
    "runtime",
    "metrics",
    "deploy",
    "log",
    "train.checkpoint.every",
    "train.checkpoint.keep",
    "data.token_cache",
];

/// Those of evaluations on the way, which count where an evaluation decides something.
const EVALUATIONS: &[&str] =
    &["train.evaluate", "train.eval_batch", "task.causal_lm.generate", "task.seq2seq.generate"];

/// Where that is asked for.
const DECIDING: &[&str] = &["train.stop", "train.checkpoint.best"];

/// Sections in which a file or folder is named: its sum counts, wherever it lies.
const WITH_SOURCES: &[&str] = &["model", "tokenizer", "task", "data", "train.init_from"];

impl Keys {
    /// The keys of a pipeline that has read these inputs. `tokenizer` is the sum of the tokenizer's files, where the
    /// pipeline names none.
    pub(super) fn of(pipeline: &Pipeline, inputs: &[InputRecord], tokenizer: Option<&str>) -> Keys {
        let mut keys = BTreeMap::new();
        flatten(String::new(), serde_json::to_value(pipeline).unwrap_or_default(), &mut keys);
        let below = |key: &String, all: &[&str]| all.iter().any(|section| is_below(key, section));
        let decides = keys.keys().any(|key| below(key, DECIDING));
        keys.retain(|key, _| decides || !below(key, EVALUATIONS));
        keys.retain(|key, _| !below(key, IDLE) && !key.ends_with(".sha256"));
        for (key, value) in &mut keys {
            let named = |input: &&InputRecord| value.as_str() == Some(&input.source);
            if below(key, WITH_SOURCES)
                && let Some(input) = inputs.iter().find(named)
            {
                *value = sum(&input.sha256);
            }
        }
        keys.extend(tokenizer.map(|tokenizer| ("tokenizer".to_string(), sum(tokenizer))));
        Keys(keys)
    }

    /// Examples of a batch.
    pub(super) fn batch(&self) -> Option<usize> {
        self.0.get("train.batch")?.as_u64().and_then(|batch| usize::try_from(batch).ok())
    }

    /// What a section comes to, in place of what the pipeline says of it.
    pub(super) fn decide(&mut self, section: &str, value: &impl Serialize) {
        self.0.retain(|key, _| !is_below(key, section));
        flatten(section.to_string(), serde_json::to_value(value).unwrap_or_default(), &mut self.0);
    }

    /// The keys in which `there`, of a checkpoint, differs.
    pub fn differing(&self, there: &Keys) -> Vec<Difference> {
        let all = self.0.keys().chain(there.0.keys().filter(|key| !self.0.contains_key(*key)));
        let one = |key: &String| Difference {
            key: key.clone(),
            there: there.0.get(key).cloned(),
            here: self.0.get(key).cloned(),
        };
        let mut differing: Vec<Difference> = all.map(one).filter(|d| d.there != d.here).collect();
        differing.sort_by(|a, b| a.key.cmp(&b.key));
        differing
    }
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let shown = |value: &Option<Value>| match value {
            None => "not given".to_string(),
            Some(Value::String(text)) => text.clone(),
            Some(other) => other.to_string(),
        };
        write!(f, "`{}` is {} there and {} here", self.key, shown(&self.there), shown(&self.here))
    }
}

fn sum(sha256: &str) -> Value {
    Value::String(format!("sha256:{sha256}"))
}

fn is_below(key: &str, section: &str) -> bool {
    key.strip_prefix(section).is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
}

/// The leaves of a value by their paths; a list of plain values is one leaf, and what is not given is none.
fn flatten(path: String, value: Value, into: &mut BTreeMap<String, Value>) {
    let below = |key: &str| if path.is_empty() { key.to_string() } else { format!("{path}.{key}") };
    match value {
        Value::Null => {}
        Value::Object(map) if !map.is_empty() => {
            map.into_iter().for_each(|(key, value)| flatten(below(&key), value, into));
        }
        Value::Array(list) if list.iter().any(|v| v.is_object() || v.is_array()) => {
            list.into_iter().enumerate().for_each(|(i, value)| flatten(below(&i.to_string()), value, into));
        }
        leaf => _ = into.insert(path, leaf),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pipeline::Loaded;
    use lorac_data::{Preprocess, Size};
    use std::path::Path;

    #[test]
    fn what_a_section_comes_to_counts_whole() {
        let of = |made: &Preprocess| {
            let mut keys = Keys::default();
            keys.decide("data.images", &Preprocess::default());
            keys.decide("data.images", made);
            keys
        };
        let plain = Preprocess::default();
        assert!(of(&plain).differing(&of(&plain)).is_empty());
        let changed = Preprocess { flip: true, size: Some(Size::Shortest(8)), ..plain.clone() };
        let said: Vec<String> = of(&changed).differing(&of(&plain)).into_iter().map(|d| d.key).collect();
        assert_eq!(said, ["data.images.flip", "data.images.size.shortest"]);
    }

    const TEXT: &str = "name: p\nmodel: m.onnx\ntask: { classify: { labels: [a, b] } }\nadapt: [lora: { targets: [q, v] }]\n\
                        data: { train: { csv: t.csv, text: t, label: l }, eval: { csv: e.csv, text: t, label: l } }\n";

    fn keys(sets: &[&str], sums: [&str; 3]) -> Keys {
        let sets: Vec<String> = sets.iter().map(|s| s.to_string()).collect();
        let pipeline = Loaded::parse(TEXT, Path::new("p.yaml"), &sets).unwrap_or_else(|e| panic!("{e}")).pipeline;
        let held = pipeline.data.eval.as_ref().map_or(&[][..], |held| held.sources());
        let splits = pipeline.data.train.iter().chain(held).map(|split| split.source.to_string());
        let sources = [pipeline.model.source.to_string()].into_iter().chain(splits);
        let record = |(source, sum): (String, &str)| InputRecord {
            role: String::new(),
            source,
            sha256: sum.into(),
            path: String::new(),
        };
        let inputs: Vec<InputRecord> = sources.zip(sums).map(record).collect();
        Keys::of(&pipeline, &inputs, Some("t"))
    }

    const SUMS: [&str; 3] = ["a", "b", "c"];

    #[test]
    fn what_no_step_depends_on_may_differ() {
        let same = [
            "name=other",
            "metrics.accuracy.min=0.5",
            "deploy.formats=[onnx]",
            "runtime.threads=2",
            "train.checkpoint=5 steps",
            "train.eval_batch=7",
            "data.token_cache=true",
            "train.evaluate=5 steps",
            "log={ tensorboard: true, command: cat }",
            "model=elsewhere/m.onnx",
            "data.train.csv=elsewhere/t.csv",
        ];
        for set in same {
            assert_eq!(keys(&[], SUMS).differing(&keys(&[set], SUMS)), [], "{set}");
        }
    }

    #[test]
    fn every_other_key_and_every_file_counts() {
        let shown = |there: &Keys, here: &Keys| {
            here.differing(there).iter().map(ToString::to_string).collect::<Vec<_>>().join("; ")
        };
        let base = keys(&[], SUMS);
        for (set, want) in [
            ("train.seed=7", "`train.seed` is 0 there and 7 here"),
            ("train.steps=9", "`train.steps` is not given there and 9 here"),
            ("adapt.0.lora.rank=4", "`adapt.0.lora.rank` is 8 there and 4 here"),
            ("adapt.0.lora.targets=[q]", "`adapt.0.lora.targets` is [\"q\",\"v\"] there and [\"q\"] here"),
            ("data.max_length=64", "`data.max_length` is 128 there and 64 here"),
            ("data.train.filter=label == \"x\"", "`data.train.filter` is not given there and label == \"x\" here"),
        ] {
            assert_eq!(shown(&base, &keys(&[set], SUMS)), want);
        }
        assert_eq!(shown(&base, &keys(&[], ["d", "b", "c"])), "`model.source` is sha256:a there and sha256:d here");
        assert_eq!(shown(&base, &keys(&[], ["a", "b", "d"])), "`data.eval.csv` is sha256:c there and sha256:d here");
        let best = ["train.checkpoint={every: 5 steps, best: loss}", "train.eval_batch=7"];
        let differing = keys(&best, SUMS).differing(&base);
        let differing: Vec<&str> = differing.iter().map(|d| d.key.as_str()).collect();
        assert_eq!(differing, ["train.checkpoint.best", "train.eval_batch"]);
        let both = keys(&["train.seed=7", "train.batch=3"], SUMS);
        assert_eq!((both.batch(), keys(&["train.batch=auto"], SUMS).batch()), (Some(3), None));
        assert_eq!(both.differing(&base).len(), 2);
        let text = serde_json::to_string(&base).expect("JSON");
        assert_eq!(serde_json::from_str::<Keys>(&text).expect("JSON"), base);
    }
}
