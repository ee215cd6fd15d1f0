//! Regression of texts: the head with one output that the model has, or a new one on its hidden states.

use super::existing::{Asked, Found};
use super::head::{HeadKind, NewHead};
use super::{Class, LABELS, Resolution, Subject, Targets, Task, TaskChoice, check_target_column};
use crate::pipeline::Split;
use lorac_config::{Check, Problem, Problems};
use lorac_data::{DataError, Field, Row};
use lorac_ir::Graph;
use lorac_models::{Form, ModelKind};
use lorac_ops::Val;
use lorac_passes::{Attached, Distance, LossTerms, Objective, ParamValues, PassError, Pool};
use lorac_train::Prediction;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// One number per text: the head that the model has, or a new one on its hidden states
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Regress {
    /// What stands between hidden states and the prediction. Default: existing, where the model has an output [batch, 1] and
    /// neither pool nor hidden is given, else linear
    pub head: Option<HeadKind>,
    /// How hidden states become one vector, of a new head. Default: mean
    pub pool: Option<Pool>,
    /// The output of hidden states that a new head is put on. Default: the first float output of rank 3
    pub hidden: Option<String>,
    /// The output of the model's own head. Default: the one called logits, else the first float output [batch, 1]
    pub logits: Option<String>,
    /// How far a prediction is from its target
    pub loss: Distance,
    /// Difference up to which loss: huber is a square. Default: 1
    pub delta: Option<f64>,
}

impl Regress {
    fn asked(&self) -> Asked<'_> {
        Asked {
            kind: self.head,
            pool: self.pool,
            hidden: self.hidden.as_deref(),
            logits: self.logits.as_deref(),
            outputs: Some(1),
            undone: None,
        }
    }
}

impl Check for Regress {
    fn check(&self, problems: &mut Problems) {
        self.asked().check(problems);
        if let Some(delta) = self.delta {
            problems.positive("delta", delta, 1e9);
            if self.loss != Distance::Huber {
                problems.report("delta", "pipeline::idle", "`delta` is for `loss: huber`");
            }
        }
    }
}

impl Objective for Regress {
    fn attach(&self, graph: &mut Graph) -> Result<Attached, PassError> {
        match self.head() {
            Some(head) => head.attach(graph),
            None => self.asked().attach_own(graph),
        }
    }

    fn loss<'e, 'g>(&self, prediction: Val<'e, 'g>) -> Result<LossTerms<'e, 'g>, PassError> {
        // A number for every text: without its axis of one output the prediction has the shape of the targets.
        let values = prediction.binary("Squeeze", prediction.emit().ints(&[-1]));
        Ok(self.loss.terms(values, LABELS, self.delta.unwrap_or(1.0)))
    }

    fn evaluates_prediction(&self) -> bool {
        true
    }
}

impl Task for Regress {
    fn prediction(&self) -> Prediction {
        Prediction::Values
    }

    fn metrics(&self) -> &'static [&'static str] {
        &["r2", "mae", "pearson", "loss"]
    }

    fn reads(&self) -> &'static [&'static str] {
        &["text", "text_pair", "label", "arrays"]
    }

    fn takes_arrays(&self) -> bool {
        true
    }

    fn check_split(&self, split: &Split, problems: &mut Problems) {
        check_target_column(split, "a regression", problems);
    }

    fn targets<'a>(&'a self, split: &'a Split) -> Result<Box<dyn Targets + 'a>, DataError> {
        Ok(Box::new(Numbers { column: split.label_column().unwrap_or_default() }))
    }

    fn appendix(&self, model: &Graph, readable: &Graph, values: &ParamValues) -> Result<Option<Graph>, PassError> {
        self.head().map(|head| head.alone(model, readable, values)).transpose()
    }

    fn resolved(&self, subject: &Subject) -> Result<Option<Resolution>, Problem> {
        let Found { kind, own, notes } = self.asked().find(subject, "head")?;
        let mut task = Regress { head: Some(kind), ..self.clone() };
        task.logits = own.map(|(output, _)| output).or(task.logits);
        Ok(Some(Resolution { task: task.into(), notes }))
    }

    fn form(&self, kind: Option<&ModelKind>) -> Form {
        self.asked().form(kind)
    }

    fn head(&self) -> Option<NewHead<'_>> {
        self.asked().new_head()
    }

    fn own_output(&self) -> Option<&str> {
        self.logits.as_deref()
    }

    fn deployed(&self, output: &str) -> Option<TaskChoice> {
        let head = Some(HeadKind::Existing);
        Some(Regress { head, pool: None, hidden: None, logits: Some(output.into()), ..self.clone() }.into())
    }

    fn class(&self) -> Class {
        Class::of(self.head().as_ref())
    }
}

struct Numbers<'a> {
    column: &'a str,
}

impl Targets for Numbers<'_> {
    fn columns(&self) -> Vec<&str> {
        vec![self.column]
    }

    fn of_row(&self, row: &Row) -> Result<Option<Field>, DataError> {
        Ok(Some(Field::Real(row.number(self.column)? as f32)))
    }

    fn of_tokens(&self, _: &[i64]) -> Field {
        Field::Real(f32::NAN)
    }
}
