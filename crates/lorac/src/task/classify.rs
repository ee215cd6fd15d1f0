//! Classification of texts: a new head on the model's hidden states.

use super::head::{HeadKind, NewHead, resolve};
use super::{Class, LABELS, Targets, Task, TaskChoice, check_target_column};
use crate::pipeline::Split;
use lorac_config::{Check, Problems};
use lorac_data::{DataError, Field, IGNORE, Labels, Row};
use lorac_ir::Graph;
use lorac_models::{Classes, Form};
use lorac_ops::Val;
use lorac_passes::{Attached, LossTerms, Objective, ParamValues, PassError, Pool, cross_entropy_terms};
use lorac_train::Prediction;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;

/// One label per text: a new head on the model's hidden states
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Classify {
    /// Names of the classes, in the order of the logits
    pub labels: Vec<String>,
    /// What stands between hidden states and the logits
    #[serde(default)]
    pub head: HeadKind,
    /// How hidden states become one vector
    #[serde(default)]
    pub pool: Pool,
    /// The output of hidden states. Default: the first float output of rank 3
    pub hidden: Option<String>,
}

impl Classify {
    fn new_head(&self) -> NewHead<'_> {
        NewHead { outputs: self.labels.len(), kind: self.head, pool: self.pool, hidden: self.hidden.as_deref() }
    }
}

impl Check for Classify {
    fn check(&self, problems: &mut Problems) {
        self.head.check(self.pool, problems);
        if self.labels.len() < 2 {
            problems.report("labels", "pipeline::labels", "a classification needs at least two labels");
        }
        let mut seen = BTreeSet::new();
        for (i, label) in self.labels.iter().enumerate() {
            if !seen.insert(label) {
                let message = format!("`{label}` is a duplicate label");
                problems.within("labels", |p| p.report(&i.to_string(), "pipeline::labels", message));
            }
        }
    }
}

impl Objective for Classify {
    fn attach(&self, graph: &mut Graph) -> Result<Attached, PassError> {
        self.new_head().attach(graph)
    }

    fn loss<'e, 'g>(&self, prediction: Val<'e, 'g>) -> Result<LossTerms<'e, 'g>, PassError> {
        cross_entropy_terms(prediction, LABELS)
    }

    fn evaluates_prediction(&self) -> bool {
        true
    }
}

impl Task for Classify {
    fn prediction(&self) -> Prediction {
        Prediction::Classes
    }

    fn metrics(&self) -> &'static [&'static str] {
        &["accuracy", "f1", "loss"]
    }

    fn check_split(&self, split: &Split, problems: &mut Problems) {
        check_target_column(split, "a classification", problems);
        for (value, name) in split.label_map.iter().flatten() {
            if !self.labels.contains(name) {
                let known = self.labels.join(", ");
                let message = format!("label_map names `{name}`, which is not one of {known}");
                problems.within("label_map", |p| p.report(value, "pipeline::labels", message));
            }
        }
    }

    fn targets<'a>(&'a self, split: &'a Split) -> Result<Box<dyn Targets + 'a>, DataError> {
        let labels = Labels::new(&self.labels, split.label_map.as_ref())?;
        Ok(Box::new(ClassTargets { labels, column: split.label.as_deref().unwrap_or_default() }))
    }

    fn appendix(&self, model: &Graph, readable: &Graph, values: &ParamValues) -> Result<Option<Graph>, PassError> {
        self.new_head().alone(model, readable, values).map(Some)
    }

    fn resolved(&self, classes: Option<&Classes>) -> Result<Option<TaskChoice>, PassError> {
        resolve(self.head, classes, |head| Classify { head, ..self.clone() }.into())
    }

    fn form(&self) -> Form {
        self.new_head().form()
    }

    fn head(&self) -> Option<NewHead<'_>> {
        Some(self.new_head())
    }

    fn labels(&self) -> &[String] {
        &self.labels
    }

    fn class(&self) -> Class {
        Class::of(&self.new_head())
    }
}

struct ClassTargets<'a> {
    labels: Labels,
    column: &'a str,
}

impl Targets for ClassTargets<'_> {
    fn columns(&self) -> Vec<&str> {
        vec![self.column]
    }

    fn of_row(&self, row: &Row) -> Result<Option<Field>, DataError> {
        Ok(Some(Field::Int(self.labels.index(row, self.column)? as i64)))
    }

    fn classes(&self) -> &[String] {
        self.labels.names()
    }

    fn of_tokens(&self, _: &[i64]) -> Field {
        Field::Int(IGNORE)
    }
}
