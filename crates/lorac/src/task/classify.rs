//! Classification of texts: the head that the model has, or a new one on its hidden states.

use super::existing::{Asked, Found};
use super::head::{HeadKind, NewHead};
use super::{Class, LABELS, Resolution, Subject, Targets, Task, check_target_column};
use crate::pipeline::Split;
use lorac_config::{Check, Problem, Problems};
use lorac_data::{DataError, Field, IGNORE, Labels, Row};
use lorac_ir::Graph;
use lorac_models::{Form, ModelKind};
use lorac_ops::Val;
use lorac_passes::{Attached, LossTerms, Objective, ParamValues, PassError, Pool, cross_entropy_terms};
use lorac_train::Prediction;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;

/// One label per text: the head that the model has, or a new one on its hidden states
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
#[schemars(extend("x-short" = "labels"))]
pub struct Classify {
    /// Names of the classes, in the order of the logits. Default: those that the config.json of a model with a head says
    pub labels: Vec<String>,
    /// What stands between hidden states and the logits. Default: existing, where the model has an output [batch, labels] and
    /// neither pool nor hidden is given, else linear
    pub head: Option<HeadKind>,
    /// How hidden states become one vector, of a new head. Default: mean
    pub pool: Option<Pool>,
    /// The output of hidden states that a new head is put on. Default: the first float output of rank 3
    pub hidden: Option<String>,
    /// The output of the model's own head. Default: the one called logits, else the first float output [batch, labels]
    pub logits: Option<String>,
}

impl Classify {
    fn asked(&self) -> Asked<'_> {
        Asked {
            kind: self.head,
            pool: self.pool,
            hidden: self.hidden.as_deref(),
            logits: self.logits.as_deref(),
            outputs: (!self.labels.is_empty()).then_some(self.labels.len()),
            undone: Some("Softmax"),
        }
    }
}

impl Check for Classify {
    fn check(&self, problems: &mut Problems) {
        self.asked().check(problems);
        if self.labels.len() == 1 {
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
        match self.head() {
            Some(head) => head.attach(graph),
            None => self.asked().attach_own(graph),
        }
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
            if !self.labels.is_empty() && !self.labels.contains(name) {
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
        self.head().map(|head| head.alone(model, readable, values)).transpose()
    }

    fn resolved(&self, subject: &Subject) -> Result<Option<Resolution>, Problem> {
        let Found { kind, own, mut notes } = self.asked().find(subject, "labels")?;
        let mut task = Classify { head: Some(kind), ..self.clone() };
        if let Some((output, width)) = own {
            let said = if subject.labels.len() == width { subject.labels } else { &[] };
            task.logits = Some(output);
            if task.labels.is_empty() {
                task.labels = said.to_vec();
            } else if !said.is_empty() && said != self.labels && said.iter().all(|name| self.labels.contains(name)) {
                notes.push(format!(
                    "the model's config.json has the labels in another order than the pipeline: {}",
                    said.join(", ")
                ));
            }
        }
        if task.labels.is_empty() {
            let message = "the task needs its labels, in the order of the logits: no config.json of a model with a head says \
                           them";
            let help = Some("labels: [negative, positive]".to_string());
            return Err(Problem { path: "labels".into(), code: "pipeline::labels", message: message.into(), help });
        }
        Ok(Some(Resolution { task: task.into(), notes }))
    }

    fn form(&self, kind: Option<&ModelKind>) -> Form {
        self.asked().form(kind)
    }

    fn head(&self) -> Option<NewHead<'_>> {
        self.asked().new_head()
    }

    fn labels(&self) -> &[String] {
        &self.labels
    }

    fn class(&self) -> Class {
        Class::of(self.head().as_ref())
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
