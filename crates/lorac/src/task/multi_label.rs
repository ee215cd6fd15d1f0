//! Several labels at once: the head that the model has, or a new one on its hidden states, with a sigmoid for each label.

use super::existing::{Asked, Found};
use super::head::{HeadKind, NewHead};
use super::{
    Class, ClassWeights, LABELS, Resolution, Subject, Targets, Task, TaskChoice, check_labels, check_target_columns,
};
use crate::pipeline::Split;
use lorac_config::{Check, Problem, Problems};
use lorac_data::{DataError, Field, LabelCells, Labels, Row};
use lorac_ir::Graph;
use lorac_models::{Form, ModelKind};
use lorac_ops::Val;
use lorac_passes::{Attached, BinaryCrossEntropy, LossTerms, Objective, ParamValues, PassError, Pool};
use lorac_train::Prediction;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Any number of labels per text, a yes or no for each: the head that the model has, or a new one on its hidden states
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
#[schemars(extend("x-short" = "labels"))]
pub struct MultiLabel {
    /// Names of the labels, in the order of the logits. Default: the columns, where there is one for each label; else those
    /// that the config.json of a model with a head says, where that is trained; else the different labels of the training set: sorted,
    /// numbers by their value, 1,000 at most
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
    /// What a text that has a label counts against one that has not, as pos_weight of BCEWithLogitsLoss: balanced (texts
    /// without it by texts with it), or a number for each label. Default: 1
    pub pos_weight: Option<ClassWeights>,
}

impl MultiLabel {
    fn asked(&self) -> Asked<'_> {
        Asked {
            kind: self.head,
            pool: self.pool,
            hidden: self.hidden.as_deref(),
            logits: self.logits.as_deref(),
            outputs: (!self.labels.is_empty()).then_some(self.labels.len()),
            undone: Some("Sigmoid"),
        }
    }
}

impl Check for MultiLabel {
    fn check(&self, problems: &mut Problems) {
        self.asked().check(problems);
        check_labels(&self.labels, 1, problems);
        if let Some(weights) = &self.pos_weight {
            problems.within("pos_weight", |p| weights.check(&self.labels, p));
        }
    }
}

impl Objective for MultiLabel {
    fn attach(&self, graph: &mut Graph) -> Result<Attached, PassError> {
        match self.head() {
            Some(head) => head.attach(graph),
            None => self.asked().attach_own(graph),
        }
    }

    fn loss<'e, 'g>(&self, prediction: Val<'e, 'g>) -> Result<LossTerms<'e, 'g>, PassError> {
        let pos_weights = self.pos_weight.as_ref().and_then(|weights| weights.of(&self.labels));
        BinaryCrossEntropy { pos_weights }.terms(prediction, LABELS)
    }

    fn evaluates_prediction(&self) -> bool {
        true
    }
}

impl Task for MultiLabel {
    fn prediction(&self) -> Prediction {
        Prediction::Labels
    }

    fn metrics(&self) -> &'static [&'static str] {
        &["f1_micro", "subset_accuracy", "loss"]
    }

    fn reads(&self) -> &'static [&'static str] {
        &["text", "text_pair", "label", "label_separator", "label_map", "arrays"]
    }

    fn takes_arrays(&self) -> bool {
        true
    }

    fn check_split(&self, split: &Split, problems: &mut Problems) {
        check_target_columns(split, "a classification by several labels", problems);
        let columns = split.label.as_ref().map_or(&[][..], |label| label.all());
        if columns.len() > 1 {
            if !self.labels.is_empty() && self.labels.len() != columns.len() {
                let (n, labels) = (columns.len(), self.labels.len());
                let message =
                    format!("there are {n} columns of labels, and {labels} labels: one column for each label");
                problems.report("label", "pipeline::split", message);
            }
            for (key, given) in
                [("label_separator", split.label_separator.is_some()), ("label_map", split.label_map.is_some())]
            {
                if given {
                    problems.report(
                        key,
                        "pipeline::idle",
                        format!("`{key}`: every label has a column of its own, of 0 and 1"),
                    );
                }
            }
        }
    }

    fn label_cells<'a>(&self, split: &'a Split) -> Option<LabelCells<'a>> {
        let column = split.label.as_ref().filter(|label| label.all().len() == 1)?;
        Some(LabelCells::Any { column, separator: split.label_separator.as_deref() })
    }

    fn targets<'a>(&'a self, split: &'a Split) -> Result<Box<dyn Targets + 'a>, DataError> {
        let labels = Labels::new(&self.labels, split.label_map.as_ref())?;
        let columns = split.label.as_ref().map_or(&[][..], |label| label.all());
        Ok(Box::new(Sets { labels, columns, separator: split.label_separator.as_deref() }))
    }

    fn appendix(&self, model: &Graph, readable: &Graph, values: &ParamValues) -> Result<Option<Graph>, PassError> {
        self.head().map(|head| head.alone(model, readable, values)).transpose()
    }

    fn resolved(&self, subject: &Subject) -> Result<Option<Resolution>, Problem> {
        let mut task = self.clone();
        if task.labels.is_empty() && subject.columns.len() > 1 {
            task.labels = subject.columns.to_vec();
        }
        if task.labels.is_empty() {
            task.labels = subject.open_labels(|n| self.asked().finds_own(subject, n));
        }
        let Found { kind, own, mut notes } = task.asked().find(subject, "labels")?;
        subject.named_labels(&task.labels, own.as_ref().map(|(_, width)| *width), &mut notes)?;
        task.head = Some(kind);
        task.logits = own.map(|(output, _)| output);
        Ok(Some(Resolution { task: task.into(), notes }))
    }

    fn own_output(&self) -> Option<&str> {
        self.logits.as_deref()
    }

    fn deployed(&self, output: &str) -> Option<TaskChoice> {
        let head = Some(HeadKind::Existing);
        Some(MultiLabel { head, pool: None, hidden: None, logits: Some(output.into()), ..self.clone() }.into())
    }

    fn counted(&self, counts: &[(String, usize)], examples: usize) -> Option<TaskChoice> {
        let weights = self.pos_weight.as_ref()?.counted(counts, |n| (examples as f64 - n as f64).max(1.0) / n as f64);
        Some(MultiLabel { pos_weight: Some(weights?), ..self.clone() }.into())
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

/// Labels out of one column, or of one for each.
struct Sets<'a> {
    labels: Labels,
    columns: &'a [String],
    separator: Option<&'a str>,
}

impl Targets for Sets<'_> {
    fn columns(&self) -> Vec<&str> {
        self.columns.iter().map(String::as_str).collect()
    }

    fn of_row(&self, row: &Row) -> Result<Option<Field>, DataError> {
        let mut has = vec![0.0; self.labels.names().len()];
        match self.columns {
            [column] => {
                for label in self.labels.set(row, column, self.separator)? {
                    has[label] = 1.0;
                }
            }
            columns => {
                for (has, column) in has.iter_mut().zip(columns) {
                    *has = if row.flag(column)? { 1.0 } else { 0.0 };
                }
            }
        }
        Ok(Some(Field::Reals(has)))
    }

    fn classes(&self) -> &[String] {
        self.labels.names()
    }

    fn of_tokens(&self, _: &[i64]) -> Field {
        Field::Reals(vec![f32::NAN; self.labels.names().len()])
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use lorac_data::Cell;
    use std::path::Path;

    #[test]
    fn labels_are_a_list_or_a_column_each() {
        let labels = ["toxic", "insult", "threat"].map(String::from).to_vec();
        let of = |names: &[&str], cells: Vec<Cell>, separator| {
            let names: Vec<String> = names.iter().map(|name| name.to_string()).collect();
            let row = Row::new(Path::new("f").into(), 1, names.clone().into(), cells);
            let sets = Sets { labels: Labels::new(&labels, None).expect("labels"), columns: &names, separator };
            sets.of_row(&row).expect("a target")
        };
        let text = |raw: &str| Cell::Text(raw.into());
        let reals = |x: [f32; 3]| Some(Field::Reals(x.to_vec()));
        let list = Cell::Other { kind: "an array", text: r#"["threat", "toxic"]"#.into() };
        assert_eq!(of(&["tags"], vec![list], None), reals([1.0, 0.0, 1.0]));
        assert_eq!(of(&["tags"], vec![text("insult|threat")], Some("|")), reals([0.0, 1.0, 1.0]));
        assert_eq!(of(&["tags"], vec![text("")], Some("|")), reals([0.0; 3]));
        let flags = vec![text("0"), text("1"), Cell::Bool(true)];
        assert_eq!(of(&["a", "b", "c"], flags, None), reals([0.0, 1.0, 1.0]));
    }
}
