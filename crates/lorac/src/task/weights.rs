//! What each class counts in a loss.

use lorac_config::{Problems, nearest};
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::{self, MapAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::borrow::Cow;
use std::collections::BTreeMap;

/// A weight for every class.
#[derive(Clone, Debug, PartialEq)]
pub enum ClassWeights {
    /// By how many examples to train on have it.
    Balanced,
    /// By its name; 1 where it is not named.
    Of(BTreeMap<String, f64>),
}

/// The word for [`ClassWeights::Balanced`].
const BALANCED: &str = "balanced";

impl ClassWeights {
    /// The weights of labels, in their order.
    pub(super) fn of(&self, labels: &[String]) -> Option<Vec<f64>> {
        match self {
            ClassWeights::Balanced => None,
            ClassWeights::Of(weights) => Some(labels.iter().map(|l| weights.get(l).copied().unwrap_or(1.0)).collect()),
        }
    }

    /// Weights by `of`, which is given how many examples have a label and how many do not, where they are to be balanced.
    pub(super) fn counted(&self, counts: &[(String, usize)], of: impl Fn(usize) -> f64) -> Option<ClassWeights> {
        let weights = || counts.iter().filter(|(_, n)| *n > 0).map(|(label, n)| (label.clone(), of(*n))).collect();
        (*self == ClassWeights::Balanced).then(|| ClassWeights::Of(weights()))
    }

    /// Reports weights that are none, and names of no label, where `labels` are known.
    pub(super) fn check(&self, labels: &[String], problems: &mut Problems) {
        let ClassWeights::Of(weights) = self else { return };
        for (name, weight) in weights {
            problems.range(name, *weight, 0.0, 1e6);
            if !labels.is_empty() && !labels.contains(name) {
                let help = nearest(name, labels).first().map(|near| format!("nearest: {near}"));
                let message = format!("`{name}` is not one of the labels {}", labels.join(", "));
                problems.report_with_help(name, "pipeline::labels", message, help);
            }
        }
        if !labels.is_empty() && labels.iter().all(|label| weights.get(label) == Some(&0.0)) {
            problems.report("", "pipeline::range", "every class has the weight 0: nothing would be learnt");
        }
    }
}

impl Serialize for ClassWeights {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            ClassWeights::Balanced => BALANCED.serialize(serializer),
            ClassWeights::Of(weights) => weights.serialize(serializer),
        }
    }
}

impl<'de> Deserialize<'de> for ClassWeights {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<ClassWeights, D::Error> {
        struct Weights;
        impl<'de> Visitor<'de> for Weights {
            type Value = ClassWeights;
            fn expecting(&self, f: &mut std::fmt::Formatter) -> std::fmt::Result {
                write!(f, "`{BALANCED}`, or a weight for each label")
            }
            fn visit_str<E: de::Error>(self, word: &str) -> Result<ClassWeights, E> {
                match word {
                    BALANCED => Ok(ClassWeights::Balanced),
                    _ => Err(E::unknown_variant(word, &[BALANCED])),
                }
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<ClassWeights, A::Error> {
                let mut weights = BTreeMap::new();
                while let Some((label, weight)) = map.next_entry::<String, f64>()? {
                    weights.insert(label, weight);
                }
                Ok(ClassWeights::Of(weights))
            }
        }
        deserializer.deserialize_any(Weights)
    }
}

impl JsonSchema for ClassWeights {
    fn schema_name() -> Cow<'static, str> {
        "ClassWeights".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "description": "A weight for every class",
            "anyOf": [
                { "const": BALANCED, "description": "By how many examples to train on have it" },
                { "type": "object", "additionalProperties": { "type": "number" }, "description": "By its label; 1 where it is not named" },
            ],
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::task::TaskChoice;
    use serde_json::json;

    #[test]
    fn weights_are_a_word_or_a_map() {
        let read = |value| serde_json::from_value::<ClassWeights>(value);
        assert_eq!(read(json!("balanced")).expect("reads"), ClassWeights::Balanced);
        let some = read(json!({ "b": 2.5, "a": 0 })).expect("reads");
        let labels = ["a", "b", "c"].map(String::from);
        assert_eq!(some.of(&labels), Some(vec![0.0, 2.5, 1.0]));
        assert_eq!(serde_json::to_value(&some).expect("writes"), json!({ "a": 0.0, "b": 2.5 }));
        assert!(read(json!("balance")).is_err() && read(json!(["balanced"])).is_err());
        let counts = [("a".to_string(), 6), ("b".to_string(), 0), ("c".to_string(), 3)];
        let balanced = ClassWeights::Balanced.counted(&counts, |n| 9.0 / n as f64).expect("counts");
        assert_eq!(balanced.of(&labels), Some(vec![1.5, 1.0, 3.0]));
        assert_eq!(some.counted(&counts, |_| 1.0), None);
    }

    /// sklearn.utils.class_weight.compute_class_weight("balanced"); of several labels, texts without one by texts with it.
    #[test]
    fn balanced_weights_are_those_of_scikit_learn() {
        let labels = ["a", "b", "c"].map(String::from).to_vec();
        let counts: Vec<(String, usize)> = labels.iter().cloned().zip([6, 2, 0]).collect();
        let of = |task: serde_json::Value, examples| {
            let task: TaskChoice = serde_json::from_value(task).expect("a task");
            let weights = match task.counted(&counts, examples).expect("it depends on them") {
                TaskChoice::Classify(task) => task.class_weights,
                TaskChoice::MultiLabel(task) => task.pos_weight,
                TaskChoice::Tag(task) => task.class_weights,
                other => panic!("{other:?}"),
            };
            weights.and_then(|weights| weights.of(&labels)).expect("weights")
        };
        // Of a class that no example has nothing is known: it counts 1.
        let balanced = [8.0 / (2.0 * 6.0), 8.0 / (2.0 * 2.0), 1.0];
        assert_eq!(of(json!({ "classify": { "labels": labels, "class_weights": "balanced" } }), 8), balanced);
        assert_eq!(of(json!({ "tag": { "labels": labels, "class_weights": "balanced" } }), 3), balanced, "by words");
        let of_labels = of(json!({ "multi_label": { "labels": labels, "pos_weight": "balanced" } }), 10);
        assert_eq!(of_labels, [4.0 / 6.0, 8.0 / 2.0, 1.0]);
    }

    #[test]
    fn names_of_no_label_and_weights_of_nothing_are_reported() {
        let labels = ["spam", "ham"].map(String::from);
        let found = |weights: &[(&str, f64)]| {
            let mut problems = Problems::default();
            let weights = weights.iter().map(|(name, w)| (name.to_string(), *w)).collect();
            ClassWeights::Of(weights).check(&labels, &mut problems);
            problems.finish().into_iter().map(|p| format!("{}: {}", p.path, p.message)).collect::<Vec<_>>()
        };
        assert_eq!(found(&[("spam", 3.0)]), Vec::<String>::new());
        assert_eq!(found(&[("spam", -1.0)]), ["spam: `spam` is -1: expected at least 0 and at most 1000000"]);
        assert_eq!(found(&[("span", 1.0)]), ["span: `span` is not one of the labels spam, ham"]);
        assert!(found(&[("spam", 0.0), ("ham", 0.0)])[0].contains("nothing would be learnt"));
    }
}
