//! Classification of texts, arrays and images: the head that the model has, or a new one on its hidden states.

use super::existing::{Asked, Found};
use super::head::{HeadKind, NewHead};
use super::{
    Class, ClassWeights, LABELS, Resolution, Subject, Targets, Task, TaskChoice, check_labels, check_target_column,
};
use crate::pipeline::Split;
use lorac_config::{Check, Problem, Problems};
use lorac_data::{DataError, Field, IGNORE, LabelCells, Labels, Row};
use lorac_ir::Graph;
use lorac_models::{Form, ModelKind};
use lorac_ops::Val;
use lorac_passes::{Attached, CrossEntropy, LossTerms, Objective, ParamValues, PassError, Pool};
use lorac_train::Prediction;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// One label per text, array or image: the head that the model has, or a new one on its hidden states
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
#[schemars(extend("x-short" = "labels"))]
pub struct Classify {
    /// Names of the classes, in the order of the logits. Default: those that the config.json of a model with a head
    /// says, where that is trained; else the different labels of the training set: sorted, numbers by their value, 1,000 at most
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
    /// How much of every label is spread over all classes, as CrossEntropyLoss of PyTorch does
    pub label_smoothing: f64,
    /// gamma of the focal loss (Lin et al. 2017), by which examples that are known count less: each loss is multiplied by
    /// (1 - p)^gamma of the probability of its label. The paper has 2. Default: none
    pub focal: Option<f64>,
    /// What each class counts, as weight of CrossEntropyLoss: balanced (examples by classes and by examples of the class), or a
    /// number for each label. Default: 1
    pub class_weights: Option<ClassWeights>,
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
        check_labels(&self.labels, 2, problems);
        problems.range("label_smoothing", self.label_smoothing, 0.0, 0.999);
        if let Some(gamma) = self.focal {
            problems.positive("focal", gamma, 100.0);
            if self.label_smoothing > 0.0 {
                let message = "`label_smoothing` and `focal`: a focal loss is that of the label alone";
                problems.report("label_smoothing", "pipeline::idle", message);
            }
        }
        if let Some(weights) = &self.class_weights {
            problems.within("class_weights", |p| weights.check(&self.labels, p));
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
        let weights = self.class_weights.as_ref().and_then(|weights| weights.of(&self.labels));
        CrossEntropy { weights, smoothing: self.label_smoothing, focal: self.focal.unwrap_or(0.0) }
            .terms(prediction, LABELS)
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

    fn reads(&self) -> &'static [&'static str] {
        &["text", "text_pair", "label", "label_map", "arrays"]
    }

    fn takes_arrays(&self) -> bool {
        true
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

    fn label_cells<'a>(&self, split: &'a Split) -> Option<LabelCells<'a>> {
        split.label_column().map(LabelCells::One)
    }

    fn targets<'a>(&'a self, split: &'a Split) -> Result<Box<dyn Targets + 'a>, DataError> {
        let labels = Labels::new(&self.labels, split.label_map.as_ref())?;
        Ok(Box::new(ClassTargets { labels, column: split.label_column().unwrap_or_default() }))
    }

    fn appendix(&self, model: &Graph, readable: &Graph, values: &ParamValues) -> Result<Option<Graph>, PassError> {
        self.head().map(|head| head.alone(model, readable, values)).transpose()
    }

    fn resolved(&self, subject: &Subject) -> Result<Option<Resolution>, Problem> {
        let mut task = self.clone();
        if task.labels.is_empty() {
            task.labels = subject.open_labels(|n| self.asked().finds_own(subject, n));
        }
        let Found { kind, own, mut notes } = task.asked().find(subject, "labels")?;
        subject.named_labels(&task.labels, own.as_ref().map(|(_, width)| *width), &mut notes)?;
        task.head = Some(kind);
        task.logits = own.map(|(output, _)| output);
        Ok(Some(Resolution { task: task.into(), notes }))
    }

    fn counted(&self, counts: &[(String, usize)], examples: usize) -> Option<TaskChoice> {
        let classes = counts.iter().filter(|(_, n)| *n > 0).count() as f64;
        let weights = self.class_weights.as_ref()?.counted(counts, |n| examples as f64 / (classes * n as f64));
        Some(Classify { class_weights: Some(weights?), ..self.clone() }.into())
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
        Some(Classify { head, pool: None, hidden: None, logits: Some(output.into()), ..self.clone() }.into())
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
