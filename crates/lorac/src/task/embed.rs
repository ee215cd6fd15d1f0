//! Embeddings: a vector for every text, so that texts that belong together are alike.

use super::head::behind;
use super::{Class, LABELS, Resolution, Subject, Targets, Task, TaskChoice, check_pairs};
use crate::pipeline::{SliceChoice, Split, Train};
use lorac_config::{Check, Problem, Problems, nearest};
use lorac_data::encode::Texts;
use lorac_data::{DataError, Field, Inputs, Row};
use lorac_ir::{Graph, ValueId};
use lorac_models::{Form, ModelKind};
use lorac_ops::{Emit, Val};
use lorac_passes::{
    Attached, Head, InBatch, LossTerms, Objective, ParamValues, PassError, Pool, cosine_terms, hidden_states, rewrite,
    unit,
};
use lorac_train::Prediction;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Name of the output that is put on a model.
const EMBEDDING: &str = "sentence_embedding";

/// A vector per text, by pairs of texts that belong together (text and text_pair): each is told from those of the other pairs of
/// its batch, and from texts that do not belong to it (negatives)
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Embed {
    /// How hidden states become one vector. Default: mean
    pub pool: Option<Pool>,
    /// The output of hidden states that are pooled. Default: the first float output of rank 3
    pub hidden: Option<String>,
    /// An output [batch, width] that is the vector already: nothing is put on the model. Default: sentence_embedding, where the
    /// model has it and neither pool nor hidden is given
    pub output: Option<String>,
    /// Whether vectors that are pooled are divided by their length. Default: true
    pub normalize: Option<bool>,
    /// What pairs are learnt by
    pub loss: PairLoss,
    /// What cosine similarities are divided by before the softmax of loss: in_batch. 0.05 is the scale 20 of sentence-transformers.
    /// Default: 0.05
    pub temperature: Option<f64>,
    /// Whether first texts are told by second ones as well, of loss: in_batch; both losses count by half
    pub symmetric: bool,
}

impl Default for Embed {
    fn default() -> Embed {
        Embed {
            pool: None,
            hidden: None,
            output: None,
            normalize: None,
            loss: PairLoss::InBatch,
            temperature: None,
            symmetric: false,
        }
    }
}

/// What pairs of texts are learnt by.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum PairLoss {
    /// The second text of every pair among those of the whole batch, by a softmax over cosine similarities
    #[default]
    InBatch,
    /// The square of the difference of their cosine similarity and the score of the pair, its label
    Cosine,
}

/// Where a vector comes from.
enum Place {
    /// An output of the model.
    Output(ValueId),
    /// Its hidden states.
    Pooled(Head),
}

impl Embed {
    fn place(&self, graph: &Graph) -> Result<Place, PassError> {
        match &self.output {
            Some(name) => vector_output(graph, name).map(Place::Output).map_err(PassError::Unsuitable),
            None => {
                let hidden = hidden_states(graph, self.hidden.as_deref())?;
                let pool = self.pool.unwrap_or_default();
                let mask = graph.input("attention_mask").filter(|_| pool.reads_mask());
                Ok(Place::Pooled(Head { hidden, mask, pool }))
            }
        }
    }

    fn normalizes(&self) -> bool {
        self.output.is_none() && self.normalize.unwrap_or(true)
    }

    /// Writes the vector of hidden states and calls it [`EMBEDDING`] or like it.
    fn write<'e, 'g>(&self, e: &'e Emit<'g>, head: &Head) -> Result<Val<'e, 'g>, PassError> {
        let pooled = head.pooled(e)?;
        let vector = if self.normalizes() { unit(pooled) } else { pooled };
        Ok(e.named(EMBEDDING, "Identity", &[vector], &[], 1).first().copied().unwrap_or(vector))
    }
}

/// The float output `[batch, width]` of this name.
fn vector_output(graph: &Graph, name: &str) -> Result<ValueId, String> {
    let outputs: Vec<String> = graph.outputs().iter().map(|v| graph.name_of(*v)).collect();
    let Some(found) = graph.outputs().iter().copied().find(|v| graph.name_of(*v) == name) else {
        let near = nearest(name, &outputs).first().map_or(String::new(), |near| format!(" (nearest: {near})"));
        return Err(format!("the model has no output `{name}`{near}, only `{}`", outputs.join("`, `")));
    };
    let fact = graph.fact(found);
    let fits = fact.dtype.is_float() && matches!(fact.dims(), Some([_, width]) if width.known().is_some());
    if fits { Ok(found) } else { Err(format!("`{name}` is {fact}: a vector for every text is [batch, width]")) }
}

impl Check for Embed {
    fn check(&self, problems: &mut Problems) {
        let pooled =
            [("pool", self.pool.is_some()), ("hidden", self.hidden.is_some()), ("normalize", self.normalize.is_some())];
        for (key, _) in pooled.iter().filter(|(_, given)| *given && self.output.is_some()) {
            let message = format!("`{key}`: `output` names the vector itself, and nothing is put on it");
            problems.report(key, "pipeline::idle", message);
        }
        if let Some(temperature) = self.temperature {
            problems.range("temperature", temperature, 1e-4, 1e3);
        }
        for (key, given) in [("temperature", self.temperature.is_some()), ("symmetric", self.symmetric)] {
            if given && self.loss == PairLoss::Cosine {
                problems.report(key, "pipeline::idle", format!("`{key}` is for `loss: in_batch`"));
            }
        }
    }
}

impl Objective for Embed {
    fn attach(&self, graph: &mut Graph) -> Result<Attached, PassError> {
        match self.place(graph)? {
            Place::Output(prediction) => Ok(Attached { prediction, params: Vec::new() }),
            Place::Pooled(head) => rewrite(graph, "head", |e| {
                let prediction = self.write(e, &head)?.id();
                let all = [e.graph().outputs(), &[prediction]].concat();
                e.edit(|p| p.set_outputs(all));
                Ok(Attached { prediction, params: Vec::new() })
            }),
        }
    }

    fn loss<'e, 'g>(&self, prediction: Val<'e, 'g>) -> Result<LossTerms<'e, 'g>, PassError> {
        match self.loss {
            PairLoss::InBatch => {
                let temperature = self.temperature.unwrap_or(0.05);
                InBatch { temperature, symmetric: self.symmetric }.terms(prediction, LABELS)
            }
            PairLoss::Cosine => cosine_terms(prediction, LABELS),
        }
    }

    fn evaluates_prediction(&self) -> bool {
        true
    }
}

impl Task for Embed {
    fn prediction(&self) -> Prediction {
        Prediction::Embeddings
    }

    fn metrics(&self) -> &'static [&'static str] {
        match self.loss {
            PairLoss::InBatch => &["recall_at_1", "mrr", "loss"],
            PairLoss::Cosine => &["spearman", "loss"],
        }
    }

    fn reads(&self) -> &'static [&'static str] {
        &["text", "text_pair", "negatives", "label"]
    }

    fn check_split(&self, split: &Split, problems: &mut Problems) {
        check_pairs(split, problems);
        if self.loss == PairLoss::Cosine {
            if split.label.is_none() && split.is_table() {
                let message = "`loss: cosine` needs the column of the pairs' scores: label: COLUMN";
                problems.report("label", "pipeline::split", message);
            }
            if !split.negatives.is_empty() {
                let message = "`negatives` are for `loss: in_batch`: a pair with its score needs no others";
                problems.report("negatives", "pipeline::idle", message);
            }
        }
    }

    fn check_train(&self, train: &Train, problems: &mut Problems) {
        if self.loss != PairLoss::InBatch {
            return;
        }
        let whole = "a text is told from those of its whole batch, which is computed at once";
        if train.slice != SliceChoice::Auto {
            problems.report("slice", "pipeline::idle", format!("`slice`: {whole}"));
        }
        if train.accumulate > 1 {
            let help = train.batch.given().map(|batch| format!("batch: {}", batch.saturating_mul(train.accumulate)));
            problems.report_with_help("accumulate", "pipeline::idle", format!("`accumulate`: {whole}"), help);
        }
        if train.batch.most() < 2 {
            let message = "`batch` is 1: a text is told from those of the other pairs of its batch, and there are none";
            problems.report("batch", "pipeline::range", message);
        }
    }

    fn whole_batch(&self) -> bool {
        self.loss == PairLoss::InBatch
    }

    fn inputs(&self, split: &Split) -> Inputs {
        let columns = split.text.iter().chain(&split.text_pair).chain(&split.negatives);
        Texts { columns: columns.cloned().collect() }.into()
    }

    fn targets<'a>(&'a self, split: &'a Split) -> Result<Box<dyn Targets + 'a>, DataError> {
        Ok(Box::new(Scores { column: split.label.as_deref() }))
    }

    fn appendix(&self, model: &Graph, readable: &Graph, _: &ParamValues) -> Result<Option<Graph>, PassError> {
        let Place::Pooled(Head { hidden, mask, pool }) = self.place(readable)? else { return Ok(None) };
        let taken: Vec<ValueId> = [hidden].into_iter().chain(mask).collect();
        behind(model, readable, &taken, "embedding.", |e, taken| {
            let (hidden, mask) = (taken.first().copied().unwrap_or(hidden), taken.get(1).copied());
            self.write(e, &Head { hidden, mask, pool })
        })
        .map(Some)
    }

    fn resolved(&self, subject: &Subject) -> Result<Option<Resolution>, Problem> {
        let graph = subject.graph;
        let problem = |path: &str, message| {
            let help = Some("`hidden` names the output of hidden states that are pooled".to_string());
            Problem { path: path.into(), code: "pipeline::head", message, help }
        };
        if let Some(name) = &self.output {
            return vector_output(graph, name).map(|_| None).map_err(|message| problem("output", message));
        }
        let own = vector_output(graph, EMBEDDING);
        if let (Ok(_), None, None, None) = (own, self.pool, &self.hidden, self.normalize) {
            let notes = vec![format!("the model's own vectors are trained: `{EMBEDDING}`")];
            let task = Embed { output: Some(EMBEDDING.into()), ..self.clone() };
            return Ok(Some(Resolution { task: task.into(), notes }));
        }
        let at = if self.hidden.is_some() { "hidden" } else { "output" };
        hidden_states(graph, self.hidden.as_deref()).map(|_| None).map_err(|e| Problem {
            path: at.into(),
            code: "pipeline::head",
            message: e.to_string(),
            help: Some("`output` names one [batch, width] that is the vector already".into()),
        })
    }

    fn form(&self, _: Option<&ModelKind>) -> Form {
        if self.output.is_some() || self.hidden.is_some() { Form::Saved } else { Form::Base }
    }

    fn pool(&self) -> Option<Pool> {
        self.output.is_none().then(|| self.pool.unwrap_or_default())
    }

    fn own_output(&self) -> Option<&str> {
        self.output.as_deref()
    }

    fn deployed(&self, output: &str) -> Option<TaskChoice> {
        let task = Embed { pool: None, hidden: None, normalize: None, output: Some(output.into()), ..self.clone() };
        Some(task.into())
    }

    fn class(&self) -> Class {
        Class::Base
    }
}

/// How alike the texts of a pair are said to be, where something says it.
struct Scores<'a> {
    column: Option<&'a str>,
}

impl Targets for Scores<'_> {
    fn columns(&self) -> Vec<&str> {
        self.column.into_iter().collect()
    }

    fn of_row(&self, row: &Row) -> Result<Option<Field>, DataError> {
        let score = self.column.map_or(Ok(1.0), |column| row.number(column))?;
        Ok(Some(Field::Real(score as f32)))
    }

    fn of_tokens(&self, _: &[i64]) -> Field {
        Field::Real(f32::NAN)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BASE: &str = "graph g(%ids: i64[N,S], %attention_mask: i64[N,S]) -> %hidden, %pooled {
        %table = weight \"table\" f32[4,2] = [0.5, -1, 1, 2, -0.25, 0.75, 3, 1]
        %hidden = Gather(%table, %ids) : f32[N,S,2]
        %pooled = ReduceMean(%hidden, axes=[1], keepdims=0) : f32[N,2]
    }";

    fn resolved(task: Embed, text: &str) -> Result<Option<Resolution>, String> {
        let mut graph = lorac_ir::parse(text).expect("parses");
        lorac_ops::infer(&mut graph).expect("infers");
        let subject = Subject { graph: &graph, labels: &[], columns: &[], of_data: &|| None, classes: &|| None };
        task.resolved(&subject).map_err(|p| format!("{}: {}", p.path, p.message))
    }

    #[test]
    fn an_output_that_is_the_vector_is_taken_as_it_is() {
        let own = BASE.replace("%pooled", "%sentence_embedding");
        let found = resolved(Embed::default(), &own).expect("has one").expect("chosen");
        assert_eq!(found.task, Embed { output: Some(EMBEDDING.into()), ..Embed::default() }.into());
        assert_eq!(resolved(Embed { pool: Some(Pool::Cls), ..Embed::default() }, &own), Ok(None));
        assert_eq!(resolved(Embed::default(), BASE), Ok(None));
        let of = |output: &str| Embed { output: Some(output.into()), ..Embed::default() };
        assert_eq!(resolved(of("pooled"), BASE), Ok(None));
        let wrong = resolved(of("poled"), BASE).expect_err("no such output");
        assert!(wrong.starts_with("output: the model has no output `poled` (nearest: pooled)"), "{wrong}");
        let wrong = resolved(of("hidden"), BASE).expect_err("no vector");
        assert!(wrong.starts_with("output: `hidden` is f32[N,S,2]"), "{wrong}");
    }

    #[test]
    fn what_is_deployed_is_the_mean_of_the_tokens_divided_by_its_length() {
        use lorac_ops::{Array, evaluate};
        let mut base = lorac_ir::parse(BASE).expect("parses");
        lorac_ops::infer(&mut base).expect("infers");
        let layout = lorac_passes::Layout::of(&[]);
        let none = layout.values(&[]).expect("nothing");
        let array = |dims: [usize; 2], v: &[f64]| Array::from_shape_vec(dims.to_vec(), v.to_vec()).expect("fits");
        let (ids, mask) = (array([1, 3], &[1.0, 3.0, 0.0]), array([1, 3], &[1.0, 1.0, 0.0]));
        let feeds = [("ids", ids), ("attention_mask", mask.clone())];
        for (normalize, want) in [(None, [0.8, 0.6]), (Some(false), [2.0, 1.5])] {
            let task = Embed { normalize, ..Embed::default() };
            let mut whole = base.clone();
            let attached = task.attach(&mut whole).expect("attaches");
            assert_eq!(whole.name_of(attached.prediction), EMBEDDING);
            let got = evaluate(&whole, &feeds).expect("runs").pop().expect("a vector");
            let alone = task.appendix(&base, &base, &none).expect("stands alone").expect("nodes");
            let hidden = evaluate(&base, &feeds).expect("runs").remove(0);
            let again = evaluate(&alone, &[("hidden", hidden), ("attention_mask", mask.clone())]).expect("runs");
            for got in [&got, &again[0]] {
                assert!(got.iter().zip(want).all(|(a, b)| (a - b).abs() < 1e-6), "{got} is not {want:?}");
            }
        }
        let own = Embed { output: Some("pooled".into()), ..Embed::default() };
        assert_eq!(own.appendix(&base, &base, &none).expect("none"), None);
    }
}
