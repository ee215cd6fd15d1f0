//! Whatever has a loss of its own: a scalar output of the user's model, which takes arrays.

use super::unlabelled::Unlabelled;
use super::{Class, LABELS, Resolution, Subject, Targets, Task, TaskChoice};
use crate::pipeline::{SliceChoice, Split, Train};
use lorac_config::{Check, Problem, Problems, nearest};
use lorac_data::encode::Arrays;
use lorac_data::{DataError, Inputs};
use lorac_ir::{DType, Dim, Fact, Graph, ValueId};
use lorac_ops::Val;
use lorac_passes::{Attached, LossTerms, Objective, ParamValues, PassError};
use lorac_train::Prediction;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// A loss of the model's own: an output of one number, computed of arrays that are its inputs, its targets among them
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Custom {
    /// The output of the loss, one number: the mean over the batch
    pub loss: String,
    /// Arrays of the file by the inputs of the model that they are for, where they have other names
    #[serde(default)]
    pub inputs: BTreeMap<String, String>,
}

impl Custom {
    /// The output of the loss.
    fn found(&self, graph: &Graph) -> Result<ValueId, String> {
        let outputs = graph.outputs();
        let listed = || {
            let each = outputs.iter().map(|v| format!("`{}` {}", graph.name_of(*v), graph.fact(*v)));
            each.collect::<Vec<_>>().join(", ")
        };
        let Some(found) = outputs.iter().copied().find(|v| graph.name_of(*v) == self.loss) else {
            let names: Vec<String> = outputs.iter().map(|v| graph.name_of(*v)).collect();
            let near = nearest(&self.loss, &names).first().map_or(String::new(), |near| format!(" (nearest: {near})"));
            return Err(format!("the model has no output `{}`{near}, only {}", self.loss, listed()));
        };
        let fact = graph.fact(found);
        let one = matches!(fact.dims(), Some([] | [Dim::Known(1)]));
        match one && fact.dtype.is_float() {
            true => Ok(found),
            false => Err(format!("`{}` is {fact}: a loss is one float number", self.loss)),
        }
    }
}

impl Check for Custom {
    fn check(&self, problems: &mut Problems) {
        if self.loss.is_empty() {
            problems.report("loss", "pipeline::head", "`loss` names an output of the model");
        }
    }
}

impl Objective for Custom {
    fn attach(&self, graph: &mut Graph) -> Result<Attached, PassError> {
        let prediction = self.found(graph).map_err(PassError::Unsuitable)?;
        Ok(Attached { prediction, params: Vec::new() })
    }

    fn loss<'e, 'g>(&self, prediction: Val<'e, 'g>) -> Result<LossTerms<'e, 'g>, PassError> {
        let e = prediction.emit();
        let rows = e.input(LABELS, Fact::new(DType::F32, [Dim::named("rows")]));
        let loss = match prediction.fact().dtype {
            DType::F16 | DType::BF16 => prediction.cast(DType::F32),
            _ => prediction,
        };
        let total = |x: Val<'e, 'g>| e.op("ReduceSum", &[x], &[("keepdims", 0i64.into())]);
        let count = total(rows).cast(loss.fact().dtype);
        Ok(LossTerms { sum: total(loss) * count, count })
    }

    fn evaluates_prediction(&self) -> bool {
        false
    }
}

impl Task for Custom {
    fn prediction(&self) -> Prediction {
        Prediction::Loss
    }

    fn metrics(&self) -> &'static [&'static str] {
        &["loss"]
    }

    fn takes_arrays(&self) -> bool {
        true
    }

    fn reads(&self) -> &'static [&'static str] {
        &["arrays"]
    }

    fn check_split(&self, split: &Split, problems: &mut Problems) {
        if split.is_images() {
            let message = "images alone are nothing that a loss is computed of: arrays hold them with their targets";
            problems.report(&split.format, "pipeline::split", message);
        } else if split.has_texts() && split.arrays.is_empty() {
            let message =
                format!("a {} file has texts: name the columns of numbers for the model's inputs", split.format);
            let help = Some("arrays: { INPUT: COLUMN }".to_string());
            problems.report_with_help("arrays", "pipeline::split", message, help);
        }
    }

    fn check_train(&self, train: &Train, problems: &mut Problems) {
        let whole = "the model computes its loss of a whole batch";
        if train.slice != SliceChoice::Auto {
            problems.report("slice", "pipeline::idle", format!("`slice`: {whole}"));
        }
        if train.accumulate > 1 {
            let help = train.batch.given().map(|batch| format!("batch: {}", batch.saturating_mul(train.accumulate)));
            problems.report_with_help("accumulate", "pipeline::idle", format!("`accumulate`: {whole}"), help);
        }
    }

    fn whole_batch(&self) -> bool {
        true
    }

    fn fills(&self) -> bool {
        false
    }

    /// Columns that the task does not name have the names of inputs, which only the model tells.
    fn inputs(&self, split: &Split) -> Inputs {
        let own = self.inputs.iter().map(|(input, column)| (input.clone(), vec![column.clone()]));
        Arrays { inputs: own.chain(split.arrays.clone()).collect() }.into()
    }

    fn inputs_of(&self, split: &Split, graph: &Graph) -> Inputs {
        let Inputs::Arrays(mut named) = self.inputs(split) else { return self.inputs(split) };
        for input in graph.inputs().iter().map(|id| graph.name_of(*id)) {
            named.inputs.entry(input.clone()).or_insert_with(|| vec![input]);
        }
        named.into()
    }

    fn targets<'a>(&'a self, _: &'a Split) -> Result<Box<dyn Targets + 'a>, DataError> {
        Ok(Box::new(Unlabelled::Examples))
    }

    fn appendix(&self, _: &Graph, _: &Graph, _: &ParamValues) -> Result<Option<Graph>, PassError> {
        Ok(None)
    }

    fn resolved(&self, subject: &Subject) -> Result<Option<Resolution>, Problem> {
        self.found(subject.graph).map(|_| None).map_err(|message| Problem {
            path: "loss".into(),
            code: "pipeline::head",
            message,
            help: None,
        })
    }

    fn own_output(&self) -> Option<&str> {
        Some(&self.loss)
    }

    fn deployed(&self, _: &str) -> Option<TaskChoice> {
        Some(self.clone().into())
    }

    fn class(&self) -> Class {
        Class::Base
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_loss_is_one_float_number_of_the_model() {
        let text = "graph g(%x: f32[N,2], %t: f32[N,2]) -> %y, %loss {
            %y = Tanh(%x) : f32[N,2]
            %d = Sub(%y, %t) : f32[N,2]
            %s = Mul(%d, %d) : f32[N,2]
            %loss = ReduceMean(%s, keepdims=0) : f32[]
        }";
        let graph = lorac_ir::parse(text).expect("parses");
        let subject = Subject { graph: &graph, labels: &[], columns: &[], classes: &|| None, of_data: &|| None };
        let of = |loss: &str| {
            let task = Custom { loss: loss.into(), ..Custom::default() };
            task.resolved(&subject).map(|_| ()).map_err(|p| format!("{}: {}", p.path, p.message))
        };
        assert_eq!(of("loss"), Ok(()));
        assert_eq!(of("y"), Err("loss: `y` is f32[N,2]: a loss is one float number".into()));
        let wrong = of("los").expect_err("no such output");
        assert!(wrong.starts_with("loss: the model has no output `los` (nearest: loss), only `y` f32[N,2]"), "{wrong}");
    }
}
