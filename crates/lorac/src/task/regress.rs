//! Regression of texts: a new head with one output on the model's hidden states.

use super::head::{HeadKind, NewHead, resolve};
use super::{Class, LABELS, Targets, Task, TaskChoice, check_target_column};
use crate::pipeline::Split;
use lorac_config::{Check, Problems};
use lorac_data::{DataError, Field, Row};
use lorac_ir::Graph;
use lorac_models::{Classes, Form};
use lorac_ops::Val;
use lorac_passes::{Attached, LossTerms, Objective, ParamValues, PassError, Pool, squared_error_terms};
use lorac_train::Prediction;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// One number per text: a new head on the model's hidden states, trained on the squared error
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Regress {
    /// What stands between hidden states and the prediction
    pub head: HeadKind,
    /// How hidden states become one vector
    pub pool: Pool,
    /// The output of hidden states. Default: the first float output of rank 3
    pub hidden: Option<String>,
}

impl Regress {
    fn new_head(&self) -> NewHead<'_> {
        NewHead { outputs: 1, kind: self.head, pool: self.pool, hidden: self.hidden.as_deref() }
    }
}

impl Check for Regress {
    fn check(&self, problems: &mut Problems) {
        self.head.check(self.pool, problems);
    }
}

impl Objective for Regress {
    fn attach(&self, graph: &mut Graph) -> Result<Attached, PassError> {
        self.new_head().attach(graph)
    }

    fn loss<'e, 'g>(&self, prediction: Val<'e, 'g>) -> Result<LossTerms<'e, 'g>, PassError> {
        // A number for every text: without its axis of one output the prediction has the shape of the targets.
        let values = prediction.binary("Squeeze", prediction.emit().ints(&[-1]));
        Ok(squared_error_terms(values, LABELS))
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
        &["loss"]
    }

    fn check_split(&self, split: &Split, problems: &mut Problems) {
        check_target_column(split, "a regression", problems);
        if split.label_map.is_some() && split.is_table() {
            let message = "`label_map`: the targets of a regression are numbers";
            problems.report("label_map", "pipeline::idle", message);
        }
    }

    fn targets<'a>(&'a self, split: &'a Split) -> Result<Box<dyn Targets + 'a>, DataError> {
        Ok(Box::new(Numbers { column: split.label.as_deref().unwrap_or_default() }))
    }

    fn appendix(&self, model: &Graph, readable: &Graph, values: &ParamValues) -> Result<Option<Graph>, PassError> {
        self.new_head().alone(model, readable, values).map(Some)
    }

    fn resolved(&self, classes: Option<&Classes>) -> Result<Option<TaskChoice>, PassError> {
        resolve(self.head, classes, |head| Regress { head, ..self.clone() }.into())
    }

    fn form(&self) -> Form {
        self.new_head().form()
    }

    fn head(&self) -> Option<NewHead<'_>> {
        Some(self.new_head())
    }

    fn class(&self) -> Class {
        Class::of(&self.new_head())
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
