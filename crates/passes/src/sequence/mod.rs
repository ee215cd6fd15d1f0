//! The one place that knows the order of passes: from a model to the graphs that train, evaluate and check it.
//!
//! Each graph goes through a list of named stages, and an observer sees it after every one of them.

mod build;

use crate::optimizer::{Update, UpdateSpec};
use crate::{
    Adaptation, Delta, Isolated, Layout, NEXT_AT, NEXT_LOGITS, Names, Objective, Param, PassError, Use, cumsum_to_i32,
    expose_dropout_masks, expose_layer_norm_stats, fix, fold_constants, fuse_dense, half_gemm_to_matmul,
    isolate_examples, prepare, reassociate, remove_dead, specialize_empty_cache, take_branches,
};
use build::Build;
use lorac_ir::{Dialect, Dim, Function, Graph, ValueId};
use lorac_ops::infer;
use std::collections::BTreeMap;

/// Name of the evaluation's output that sums the loss of a batch.
pub const LOSS_SUM: &str = "loss.sum";

/// Name of the evaluation's output that counts what the loss is summed over.
pub const LOSS_COUNT: &str = "loss.count";

/// What a training is compiled from.
pub struct TrainingSpec<'a> {
    /// How the model is adapted. No weight stands in two of them, see [`crate::picked_twice`].
    pub adaptations: &'a [Adaptation<'a>],
    /// What is learnt.
    pub objective: &'a dyn Objective,
    /// How.
    pub update: UpdateSpec<'a>,
    /// What the engine reads that is to run the graphs.
    pub dialect: Dialect,
    /// Tokens that a step is expected to see, where a cheaper form may be written for them.
    pub tokens: Option<usize>,
    /// Inputs that are caches without an entry, and the batch's dimension.
    pub caches: Caches,
    /// Whether a row may hold several examples, which are kept apart: see [`crate::isolate_examples`].
    pub packed: bool,
}

/// Inputs that hold what came before the tokens of a batch, nothing in training, and those that say whether they do.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Caches {
    /// Names of the inputs.
    pub inputs: Vec<String>,
    /// Names of inputs that choose between a branch with and one without a cache: off.
    pub switches: Vec<String>,
    /// The first dimension of the tokens.
    pub batch: Option<Dim>,
}

impl Caches {
    /// Takes the branches without a cache, in a graph without functions. Returns how many there were; the inputs that
    /// chose them are gone.
    ///
    /// # Errors
    /// A branch that gives less than it is asked for.
    pub fn switch_off(&self, graph: &mut Graph) -> Result<usize, PassError> {
        self.switch(graph, 0)
    }

    /// Takes the branches with a cache, in a graph without functions. Returns how many there were; the inputs that chose them are
    /// gone.
    ///
    /// # Errors
    /// As [`Caches::switch_off`].
    pub fn switch_on(&self, graph: &mut Graph) -> Result<usize, PassError> {
        self.switch(graph, 1)
    }

    fn switch(&self, graph: &mut Graph, to: i64) -> Result<usize, PassError> {
        let is_input = |name: &String| graph.inputs().iter().any(|v| graph.name_of(*v) == **name);
        let switches: BTreeMap<String, i64> =
            self.switches.iter().filter(|n| is_input(n)).map(|name| (name.clone(), to)).collect();
        if switches.is_empty() {
            return Ok(0);
        }
        fix(graph, &switches)?;
        let taken = take_branches(graph)?;
        infer(graph)?;
        Ok(taken)
    }
}

/// A model with its adaptations, as three graphs over one theta.
#[derive(Clone, Debug)]
pub struct Training {
    /// One training step: loss, gradient and update.
    pub step: Graph,
    /// theta to what the objective is evaluated by: [`LOSS_SUM`], [`LOSS_COUNT`] and, where the objective asks for it,
    /// the prediction.
    pub eval: Graph,
    /// theta to every output of the base model, and the prediction where it is new.
    pub adapted: Graph,
    /// Inputs and outputs of a step beside the batch.
    pub update: Update,
    /// What is trained.
    pub params: Vec<Param>,
    /// Where it lies in theta.
    pub layout: Layout,
    /// What becomes of weights, each with the position of its adaptation.
    pub deltas: Vec<(usize, Delta)>,
    /// Name of the prediction.
    pub prediction: String,
    /// Names of the inputs and outputs that are not the model's.
    pub names: Names,
    /// Width of the numbers that a step draws what it drops from; 0 where it drops nothing.
    pub dropout: usize,
    /// Where the examples of a row are kept apart, of rows that may hold several.
    pub isolated: Option<Isolated>,
}

impl Training {
    /// Number of elements that change.
    pub fn trained_len(&self) -> usize {
        self.params.iter().filter(|p| p.is_trained()).map(Param::len).sum()
    }
}

/// A graph after a stage.
#[derive(Clone, Copy, Debug)]
pub struct Emitted<'a> {
    /// The graph that is built: `adapted`, `trained`, `eval`, `step`.
    pub program: &'static str,
    /// The stage's number, from 1.
    pub number: usize,
    /// The stage.
    pub stage: &'static str,
    /// The graph.
    pub graph: &'a Graph,
}

/// What sees graphs after their stages.
pub type Observer<'a> = &'a mut dyn FnMut(Emitted);

/// A stage: its name and what it does.
type Stage = (&'static str, fn(&mut Build) -> Result<(), PassError>);

/// An evaluation sees so many times as many tokens at once as a step, about: its batch is larger, and never in slices.
const EVALUATED: usize = 4;

/// The model with its adaptations beside the weights, for the comparison with the folded file.
const ADAPTED: &[Stage] = &[
    ("insert", |b| b.insert()),
    ("attach", |b| b.attach()),
    ("prepare", |b| b.prepare_for_dialect()),
    ("pack", |b| b.pack()),
];

/// What evaluation and training have in common.
const TRAINED: &[Stage] = &[
    ("insert", |b| b.insert()),
    ("attach", |b| b.attach()),
    ("prune", |b| b.prune()),
    ("prepare", |b| b.prepare()),
    ("isolate", |b| b.isolate()),
];

const SCORED: &[Stage] = &[("score", |b| b.score()), ("vocabulary", |b| b.chunk_evaluation())];

const EVAL: &[Stage] = &[("score", |b| b.score()), ("vocabulary", |b| b.chunk_evaluation()), ("pack", |b| b.pack())];

/// A gradient by itself, of a loss in slices.
const GRADIENT: &[Stage] = &[
    ("loss", |b| b.loss()),
    ("layer_norm_stats", |b| expose_layer_norm_stats(&mut b.graph).map(drop)),
    ("dropout_mask", |b| expose_dropout_masks(&mut b.graph).map(drop)),
    ("vocabulary", |b| b.chunk_loss()),
    ("differentiate", |b| b.differentiate()),
    ("pack", |b| b.pack()),
    ("expose", |b| b.expose_gradient()),
    ("reassociate", |b| reassociate(&mut b.graph).map(drop)),
    ("fold_constants", |b| fold_constants(&mut b.graph, &[]).map(drop)),
    ("remove_dead", |b| remove_dead(&mut b.graph).map(drop)),
    ("dialect", |b| b.speak()),
    ("infer", |b| Ok(infer(&mut b.graph).map(drop)?)),
];

/// What writes texts.
const WRITER: &[Stage] = &[
    ("insert", |b| b.insert()),
    ("attach", |b| b.attach()),
    ("next_token", |b| b.next_token()),
    ("prepare", |b| b.prepare_for_dialect()),
    ("pack", |b| if b.params.is_empty() { Ok(()) } else { b.pack() }),
];

const STEP: &[Stage] = &[
    ("dropout", |b| b.drop_inputs()),
    ("fuse_dense", |b| fuse_dense(&mut b.graph).map(drop)),
    ("loss", |b| b.loss()),
    ("layer_norm_stats", |b| expose_layer_norm_stats(&mut b.graph).map(drop)),
    ("dropout_mask", |b| expose_dropout_masks(&mut b.graph).map(drop)),
    ("vocabulary", |b| b.chunk_loss()),
    ("differentiate", |b| b.differentiate()),
    ("pack", |b| b.pack()),
    ("optimizer", |b| b.optimize()),
    ("reassociate", |b| reassociate(&mut b.graph).map(drop)),
    ("fold_constants", |b| fold_constants(&mut b.graph, &[]).map(drop)),
    ("remove_dead", |b| remove_dead(&mut b.graph).map(drop)),
    ("dialect", |b| b.speak()),
    ("infer", |b| Ok(infer(&mut b.graph).map(drop)?)),
];

/// The gradient of the loss of what a spec trains.
#[derive(Clone, Debug)]
pub struct Gradients {
    /// theta and a batch to [`Gradients::gradient`] and [`Gradients::count`].
    pub graph: Graph,
    /// What is trained.
    pub params: Vec<Param>,
    /// Where it lies in theta and in the gradient.
    pub layout: Layout,
    /// What becomes of weights, each with the position of its adaptation.
    pub deltas: Vec<(usize, Delta)>,
    /// Name of the input theta.
    pub theta: String,
    /// Name of the output that holds the gradient of the mean loss, as long as theta.
    pub gradient: String,
    /// Name of the output that holds how much counts in the mean.
    pub count: String,
}

/// Compiles the gradient of a training of `base`, a graph from [`crate::readable`], by itself.
///
/// # Errors
/// What any stage cannot do.
pub(crate) fn gradients_of(base: &Graph, spec: &TrainingSpec) -> Result<Gradients, PassError> {
    let mut build = Build::new(base, spec, Use::Train { tokens: spec.tokens });
    build.run("trained", TRAINED, &mut |_| {})?;
    build.run("gradient", GRADIENT, &mut |_| {})?;
    let outputs: Vec<String> = build.graph.outputs().iter().map(|v| build.graph.name_of(*v)).collect();
    let [gradient, count] =
        <[String; 2]>::try_from(outputs).map_err(|_| PassError::Unsuitable("a gradient needs a loss".into()))?;
    let (theta, layout) = (build.graph.given_name(crate::THETA), build.layout.unwrap_or_default());
    Ok(Gradients { graph: build.graph, params: build.params, layout, deltas: build.deltas, theta, gradient, count })
}

/// Compiles a training of `base`, a graph from [`crate::readable`].
///
/// # Errors
/// What any stage cannot do.
pub fn training_step(base: &Graph, spec: &TrainingSpec, observe: Observer) -> Result<Training, PassError> {
    let mut adapted = Build::new(base, spec, Use::Verify);
    adapted.run("adapted", ADAPTED, observe)?;
    let mut trained = Build::new(base, spec, Use::Train { tokens: spec.tokens });
    trained.layout = adapted.layout.clone();
    trained.run("trained", TRAINED, observe)?;
    let mut eval = trained.clone();
    eval.run("eval", EVAL, observe)?;
    let mut step = trained;
    step.run("step", STEP, observe)?;
    let Some(update) = step.update else { return Err(PassError::Unsuitable("a step without an update".into())) };
    Ok(Training {
        step: step.graph,
        eval: eval.graph,
        update,
        layout: Layout::of(&adapted.params),
        params: adapted.params,
        deltas: adapted.deltas,
        prediction: adapted.prediction,
        names: Names::of(&adapted.graph),
        adapted: adapted.graph,
        dropout: step.dropout,
        isolated: step.isolated,
    })
}

/// A model with the loss of an objective, to be evaluated as it is.
#[derive(Clone, Debug)]
pub struct Evaluated {
    /// The model to what the objective is evaluated by, as [`Training::eval`].
    pub graph: Graph,
    /// Name of the prediction.
    pub prediction: String,
    /// Names of the inputs and outputs that are not the model's.
    pub names: Names,
}

/// Compiles the evaluation of `base`, a graph from [`crate::readable`], with nothing trained.
///
/// # Errors
/// What any stage cannot do; an objective that puts something on the model that would have to be trained.
pub fn evaluation(base: &Graph, spec: &TrainingSpec, observe: Observer) -> Result<Evaluated, PassError> {
    let mut eval = Build::new(base, spec, Use::Train { tokens: spec.tokens });
    eval.run("trained", TRAINED, observe)?;
    if let Some(param) = eval.params.first() {
        let why = format!("the model does not have `{}` yet, which a training would put on it", param.name);
        return Err(PassError::Unsuitable(why));
    }
    eval.run("eval", SCORED, observe)?;
    Ok(Evaluated { names: Names::of(&eval.graph), prediction: eval.prediction, graph: eval.graph })
}

/// A language model with its adaptations that scores the token behind each row.
#[derive(Clone, Debug)]
pub struct Writer {
    /// theta, where there is anything trained, to [`NEXT_LOGITS`] and the outputs that were to be kept.
    pub graph: Graph,
    /// Where what is trained lies in theta.
    pub layout: Layout,
    /// The input of theta, where the graph has it.
    pub theta: Option<String>,
    /// The input of the places of last tokens, [`NEXT_AT`].
    pub at: String,
    /// The output of logits, [`NEXT_LOGITS`].
    pub logits: String,
}

/// Compiles what `base`, a graph from [`crate::readable`], scores next tokens by, as an objective of next tokens names its logits.
/// Of the outputs of `base` those called as in `kept` stay: what fills caches.
///
/// # Errors
/// What any stage cannot do.
pub fn writer(base: &Graph, spec: &TrainingSpec, kept: &[String], observe: Observer) -> Result<Writer, PassError> {
    let mut build = Build::new(base, spec, Use::Verify);
    build.kept = kept.to_vec();
    build.run("writer", WRITER, observe)?;
    let layout = build.layout.unwrap_or_default();
    Ok(Writer {
        theta: (!layout.is_empty()).then(|| build.graph.given_name(crate::THETA)),
        at: build.graph.given_name(NEXT_AT),
        logits: build.graph.given_name(NEXT_LOGITS),
        graph: build.graph,
        layout,
    })
}

/// Makes a model's graph fit for an engine that does not read it as it is: functions inlined, and for a dialect without
/// them, fused operators decomposed, caches without an entry specialized away, sums of i64 in i32.
///
/// # Errors
/// What any of the passes cannot do.
pub fn for_dialect(
    graph: &mut Graph,
    functions: &[Function],
    caches: &Caches,
    dialect: &Dialect,
) -> Result<(), PassError> {
    if dialect.reads_any_graph() {
        crate::inline(graph, functions)?;
        return Ok(());
    }
    training_copy(graph, functions, caches, dialect)
}

/// A graph of the model that computes what a training's does of the same batches: examples of a row are kept apart.
pub(crate) fn as_trained(graph: &mut Graph, spec: &TrainingSpec) -> Result<(), PassError> {
    if !spec.packed {
        return for_dialect(graph, &[], &spec.caches, &spec.dialect);
    }
    training_copy(graph, &[], &spec.caches, &spec.dialect)?;
    isolate_examples(graph)?;
    Ok(())
}

/// A graph that can be differentiated and that the dialect has words for.
fn training_copy(
    graph: &mut Graph,
    functions: &[Function],
    caches: &Caches,
    dialect: &Dialect,
) -> Result<(), PassError> {
    caches.switch_off(graph)?;
    prepare(graph, functions, &[])?;
    let inputs: Vec<ValueId> = caches.inputs.iter().filter_map(|name| graph.find(name)).collect();
    if specialize_empty_cache(graph, &inputs, caches.batch)? > 0 {
        fold_constants(graph, &[])?;
    }
    if !dialect.i64_cumsum {
        cumsum_to_i32(graph)?;
    }
    if !dialect.half_gemm {
        half_gemm_to_matmul(graph)?;
    }
    Ok(())
}
