//! Distillation: what a model says becomes like what another one says of the same.

use super::unlabelled::Unlabelled;
use super::{Class, LABELS, Resolution, Subject, Targets, Task, TaskChoice, Teacher};
use crate::pipeline::{SourceSpec, Split};
use lorac_config::{Check, Problem, Problems, nearest};
use lorac_data::DataError;
use lorac_ir::{DType, Dim, Fact, Graph, ValueId};
use lorac_models::{Form, ModelKind};
use lorac_ops::{Emit, Val};
use lorac_passes::{Alike, Attached, Head, LossTerms, Objective, ParamValues, PassError, Pool, graft, unit};
use lorac_train::Prediction;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// What another model, the teacher, says of the same texts: its logits, its hidden states or its vectors
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Distill {
    /// The teacher: an .onnx file or a folder, as that of the model. It reads the same tokens
    pub teacher: SourceSpec,
    /// What of both is to be alike. Default: logits
    #[serde(default)]
    pub on: What,
    /// The output of the model. Default: of logits the one called logits, else the first float output of the rank
    #[serde(default)]
    pub output: Option<String>,
    /// The output of the teacher. Default: the one of the model's name, else as that
    #[serde(default)]
    pub teacher_output: Option<String>,
    /// What logits are divided by before the softmax, of `on: logits`: the loss is multiplied by its square. Default: 1
    #[serde(default)]
    pub temperature: Option<f64>,
    /// How hidden states become one vector, of `on: embedding`. Default: mean
    #[serde(default)]
    pub pool: Option<Pool>,
    /// The teacher's graph.
    #[serde(skip)]
    pub graph: Teacher,
}

/// What of two models is to be alike.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum What {
    /// Scores of classes, or of every token: the Kullback-Leibler divergence of their softmax
    #[default]
    Logits,
    /// Hidden states of every token: the mean of the squares of their differences
    Hidden,
    /// Hidden states, pooled to one vector of length 1: the mean of the squares of their differences
    Embedding,
}

impl Distill {
    fn ranks(&self) -> &'static [usize] {
        match self.on {
            What::Logits => &[2, 3],
            What::Hidden | What::Embedding => &[3],
        }
    }

    /// The output of this name, or the usual one.
    fn output_of(&self, graph: &Graph, name: Option<&str>, whose: &str) -> Result<ValueId, String> {
        let fits = |v: &ValueId| {
            let fact = graph.fact(*v);
            let known = fact.dims().and_then(|d| d.last()?.known()).is_some();
            fact.dtype.is_float() && known && fact.rank().is_some_and(|rank| self.ranks().contains(&rank))
        };
        let outputs = graph.outputs();
        let all = || {
            let each = outputs.iter().map(|v| format!("`{}` {}", graph.name_of(*v), graph.fact(*v)));
            each.collect::<Vec<_>>().join(", ")
        };
        let named = |name: &str| outputs.iter().copied().find(|v| graph.name_of(*v) == name);
        match name {
            Some(name) => match named(name) {
                Some(v) if fits(&v) => Ok(v),
                Some(v) => Err(format!("`{name}` of {whose} is {}: {}", graph.fact(v), self.expected())),
                None => {
                    let names: Vec<String> = outputs.iter().map(|v| graph.name_of(*v)).collect();
                    let near =
                        nearest(name, &names).first().map_or(String::new(), |near| format!(" (nearest: {near})"));
                    Err(format!("{whose} has no output `{name}`{near}, only {}", all()))
                }
            },
            None => {
                let usual = named("logits").filter(|v| self.on == What::Logits && fits(v));
                let found = usual.or_else(|| outputs.iter().copied().find(fits));
                found.ok_or_else(|| format!("{}, and no output of {whose} is: it has {}", self.expected(), all()))
            }
        }
    }

    fn expected(&self) -> &'static str {
        match self.on {
            What::Logits => "logits are floats [batch, classes] or [batch, tokens, classes]",
            What::Hidden | What::Embedding => "hidden states are floats [batch, tokens, width]",
        }
    }

    fn teacher_value(&self, student: &str) -> Result<ValueId, String> {
        let graph = self.graph.graph().ok_or_else(|| "the teacher is not read yet".to_string())?;
        let named = self.teacher_output.as_deref();
        match named {
            Some(_) => self.output_of(graph, named, "the teacher"),
            None => self
                .output_of(graph, Some(student), "the teacher")
                .or_else(|_| self.output_of(graph, None, "the teacher")),
        }
    }
}

impl Check for Distill {
    fn check(&self, problems: &mut Problems) {
        problems.within("teacher", |p| {
            crate::pipeline::check_pin("source", &self.teacher.source, self.teacher.sha256.as_deref(), p);
        });
        if let Some(temperature) = self.temperature {
            problems.range("temperature", temperature, 1e-2, 1e3);
            if self.on != What::Logits {
                problems.report("temperature", "pipeline::idle", "`temperature` is for `on: logits`");
            }
        }
        if self.pool.is_some() && self.on != What::Embedding {
            problems.report("pool", "pipeline::idle", "`pool` is for `on: embedding`");
        }
    }
}

impl Objective for Distill {
    fn attach(&self, graph: &mut Graph) -> Result<Attached, PassError> {
        let prediction = self.output_of(graph, self.output.as_deref(), "the model").map_err(PassError::Unsuitable)?;
        // Both are written into one graph, which speaks the newer of their dialects.
        if let Some(teacher) = self.graph.graph()
            && teacher.opset() > graph.opset()
        {
            graph.opsets.insert("".into(), teacher.opset());
        }
        Ok(Attached { prediction, params: Vec::new() })
    }

    fn loss<'e, 'g>(&self, prediction: Val<'e, 'g>) -> Result<LossTerms<'e, 'g>, PassError> {
        let e = prediction.emit();
        let rows = e.input(LABELS, Fact::new(DType::F32, [Dim::named("rows")]));
        let real = rows.unary("IsNaN").unary("Not");
        let name = e.name_of(prediction.id());
        let output = self.teacher_value(&name).map_err(PassError::Unsuitable)?;
        let graph = self.graph.graph().ok_or_else(|| PassError::Unsuitable("the teacher is not read yet".into()))?;
        let output = graph.name_of(output);
        let outputs = graft(e, graph)?;
        let teacher = outputs.into_iter().find(|(name, _)| *name == output);
        let (_, teacher) =
            teacher.ok_or_else(|| PassError::Unsuitable(format!("the teacher has no output `{output}`")))?;
        let mask = e.graph().input("attention_mask");
        let tokens = || {
            let new_axis = real.binary("Unsqueeze", e.ints(&[-1]));
            match mask {
                Some(mask) => e.val(mask).cast(DType::Bool).binary("And", new_axis),
                None => new_axis,
            }
        };
        match self.on {
            What::Embedding => {
                let pool = self.pool.unwrap_or_default();
                let pooled = |hidden: Val<'e, 'g>| pooled(e, hidden, mask, pool);
                Alike::Squares.terms(pooled(prediction)?, pooled(teacher)?, real)
            }
            What::Hidden => Alike::Squares.terms(prediction, teacher, tokens()),
            What::Logits => {
                let counted = if prediction.fact().rank() == Some(3) { tokens() } else { real };
                let temperature = self.temperature.unwrap_or(1.0);
                Alike::Divergence { temperature }.terms(prediction, teacher, counted)
            }
        }
    }

    fn evaluates_prediction(&self) -> bool {
        false
    }
}

/// Hidden states as one vector of length 1.
fn pooled<'e, 'g>(
    e: &'e Emit<'g>,
    hidden: Val<'e, 'g>,
    mask: Option<ValueId>,
    pool: Pool,
) -> Result<Val<'e, 'g>, PassError> {
    Ok(unit(Head { hidden: hidden.id(), mask, pool }.pooled(e)?))
}

impl Task for Distill {
    fn prediction(&self) -> Prediction {
        Prediction::Loss
    }

    fn metrics(&self) -> &'static [&'static str] {
        &["loss"]
    }

    fn teacher(&self) -> Option<&SourceSpec> {
        Some(&self.teacher)
    }

    fn taught_by(&self) -> Option<&Graph> {
        self.graph.graph()
    }

    fn with_teacher(&self, teacher: Teacher) -> Option<TaskChoice> {
        Some(Distill { graph: teacher, ..self.clone() }.into())
    }

    fn takes_arrays(&self) -> bool {
        true
    }

    fn reads(&self) -> &'static [&'static str] {
        &["text", "text_pair", "arrays"]
    }

    fn check_split(&self, _: &Split, _: &mut Problems) {}

    fn targets<'a>(&'a self, _: &'a Split) -> Result<Box<dyn Targets + 'a>, DataError> {
        Ok(Box::new(Unlabelled::Examples))
    }

    fn appendix(&self, _: &Graph, _: &Graph, _: &ParamValues) -> Result<Option<Graph>, PassError> {
        Ok(None)
    }

    fn resolved(&self, subject: &Subject) -> Result<Option<Resolution>, Problem> {
        let problem = |path: &str, message| Problem { path: path.into(), code: "pipeline::head", message, help: None };
        let student = self.output_of(subject.graph, self.output.as_deref(), "the model");
        let student = student.map_err(|message| problem("output", message))?;
        let name = subject.graph.name_of(student);
        let Some(teacher) = self.graph.graph() else { return Ok(None) };
        let other = self.teacher_value(&name).map_err(|message| problem("teacher_output", message))?;
        let (have, want) = (subject.graph.fact(student), teacher.fact(other));
        let width = |fact: &Fact| fact.dims().and_then(|d| d.last()?.known());
        if have.rank() != want.rank() || width(&have) != width(&want) {
            let other = teacher.name_of(other);
            let message =
                format!("the model's `{name}` is {have}, and the teacher's `{other}` {want}: they cannot be alike");
            return Err(problem("teacher_output", message));
        }
        let task = Distill { output: Some(name), ..self.clone() };
        Ok(Some(Resolution { task: task.into(), notes: Vec::new() }))
    }

    fn form(&self, _: Option<&ModelKind>) -> Form {
        match self.on {
            What::Logits => Form::Saved,
            What::Hidden | What::Embedding if self.output.is_some() => Form::Saved,
            What::Hidden | What::Embedding => Form::Base,
        }
    }

    fn own_output(&self) -> Option<&str> {
        self.output.as_deref()
    }

    fn deployed(&self, output: &str) -> Option<TaskChoice> {
        Some(Distill { output: Some(output.into()), ..self.clone() }.into())
    }

    fn class(&self) -> Class {
        if self.on == What::Logits { Class::SequenceClassification } else { Class::Base }
    }
}
