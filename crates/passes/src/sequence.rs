//! The one place that knows the order of passes: from a model to the graphs that train, evaluate and check it.
//!
//! Each graph goes through a list of named stages, and an observer sees it after every one of them.

use crate::loss::{mean_loss, slice_loss};
use crate::optimizer::{SliceLoss, StepLoss, Update, UpdateSpec, optimize};
use crate::vocabulary::{HiddenGrad, chunk_vocabulary, chunks};
use crate::{
    Adaptation, Delta, DropoutSite, Layout, NEXT_AT, NEXT_LOGITS, Names, Objective, Packed, Param, PassError, Use,
    cumsum_to_i32, differentiate, differentiate_from, drop_inputs, expose_dropout_masks, expose_layer_norm_stats,
    expose_next_token, fix, fold_constants, fuse_dense, half_gemm_to_matmul, pack, prepare, reassociate, remove_dead,
    rewrite, specialize_empty_cache, take_branches,
};
use lorac_ir::{Dialect, Dim, Function, Graph, Tensor, ValueId};
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
const TRAINED: &[Stage] =
    &[("insert", |b| b.insert()), ("attach", |b| b.attach()), ("prune", |b| b.prune()), ("prepare", |b| b.prepare())];

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

/// A graph on its way.
#[derive(Clone)]
struct Build<'a> {
    graph: Graph,
    spec: &'a TrainingSpec<'a>,
    purpose: Use,
    params: Vec<Param>,
    deltas: Vec<(usize, Delta)>,
    sites: Vec<DropoutSite>,
    /// Inputs with the values of params, by their names, through which no gradient goes.
    detached: Vec<(ValueId, String)>,
    /// Name of the prediction.
    prediction: String,
    layout: Option<Layout>,
    loss: Option<ValueId>,
    /// What is known of the loss's gradient before it is differentiated.
    hidden: Option<HiddenGrad>,
    /// Name of the output that says how much counts, of a step in slices.
    count: Option<String>,
    grads: Vec<ValueId>,
    packed: Option<Packed>,
    update: Option<Update>,
    dropout: usize,
    /// Names of outputs that stay beside those of next tokens.
    kept: Vec<String>,
}

impl<'a> Build<'a> {
    fn new(base: &Graph, spec: &'a TrainingSpec<'a>, purpose: Use) -> Build<'a> {
        let mut graph = base.clone();
        graph.reserve_names();
        Build {
            graph,
            spec,
            purpose,
            params: Vec::new(),
            deltas: Vec::new(),
            sites: Vec::new(),
            detached: Vec::new(),
            prediction: String::new(),
            layout: None,
            loss: None,
            hidden: None,
            count: None,
            grads: Vec::new(),
            packed: None,
            update: None,
            dropout: 0,
            kept: Vec::new(),
        }
    }

    fn run(&mut self, program: &'static str, stages: &[Stage], observe: Observer) -> Result<(), PassError> {
        for (i, (stage, pass)) in stages.iter().enumerate() {
            pass(self)?;
            observe(Emitted { program, number: i + 1, stage, graph: &self.graph });
        }
        Ok(())
    }

    /// The prediction.
    fn predicted(&self) -> Result<ValueId, PassError> {
        self.output(&self.prediction)
    }

    /// The output of a name. Passes rewrite values; names and places of outputs stay.
    fn output(&self, name: &str) -> Result<ValueId, PassError> {
        let found = self.graph.outputs().iter().copied().find(|v| self.graph.name_of(*v) == name);
        found.ok_or_else(|| PassError::Unsuitable(format!("the graph has no output `{name}`")))
    }

    fn insert(&mut self) -> Result<(), PassError> {
        for (i, adaptation) in self.spec.adaptations.iter().enumerate() {
            let inserted = adaptation.method.insert(&mut self.graph, &adaptation.targets, self.purpose)?;
            self.params.extend(inserted.params);
            self.deltas.extend(inserted.deltas.into_iter().map(|d| (i, d)));
            self.sites.extend(inserted.dropout);
            self.detached.extend(inserted.detached);
        }
        Ok(())
    }

    fn attach(&mut self) -> Result<(), PassError> {
        let attached = self.spec.objective.attach(&mut self.graph)?;
        self.prediction = self.graph.name_of(attached.prediction);
        self.params.extend(attached.params);
        self.layout.get_or_insert_with(|| Layout::of(&self.params));
        Ok(())
    }

    /// Leaves the prediction as the only output, and nothing that it does not need.
    fn prune(&mut self) -> Result<(), PassError> {
        let prediction = self.predicted()?;
        rewrite(&mut self.graph, "prune", |e| {
            e.edit(|p| p.set_outputs(vec![prediction]));
            Ok(())
        })?;
        remove_dead(&mut self.graph)?;
        Ok(())
    }

    fn prepare(&mut self) -> Result<(), PassError> {
        training_copy(&mut self.graph, &[], &self.spec.caches, &self.spec.dialect)
    }

    fn prepare_for_dialect(&mut self) -> Result<(), PassError> {
        for_dialect(&mut self.graph, &[], &self.spec.caches, &self.spec.dialect)
    }

    /// Products that later passes wrote, as the engine reads them.
    fn speak(&mut self) -> Result<(), PassError> {
        if !self.spec.dialect.half_gemm {
            half_gemm_to_matmul(&mut self.graph)?;
        }
        Ok(())
    }

    fn drop_inputs(&mut self) -> Result<(), PassError> {
        self.dropout = drop_inputs(&mut self.graph, &self.sites)?;
        Ok(())
    }

    fn loss(&mut self) -> Result<(), PassError> {
        let (prediction, objective) = (self.predicted()?, self.spec.objective);
        self.loss = Some(match self.spec.update.slices {
            true => {
                let [mean, count] = slice_loss(&mut self.graph, prediction, |y| objective.loss(y))?;
                self.count = Some(self.graph.name_of(count));
                mean
            }
            false => mean_loss(&mut self.graph, prediction, |y| objective.loss(y))?,
        });
        Ok(())
    }

    fn score(&mut self) -> Result<(), PassError> {
        let (prediction, objective) = (self.predicted()?, self.spec.objective);
        rewrite(&mut self.graph, "score", |e| {
            let terms = objective.loss(e.val(prediction))?;
            let named = [(LOSS_SUM, terms.sum), (LOSS_COUNT, terms.count)];
            let scores = named.iter().flat_map(|(name, v)| e.named(name, "Identity", &[*v], &[], 1));
            let mut outputs: Vec<ValueId> = scores.map(|v| v.id()).collect();
            if objective.evaluates_prediction() {
                outputs.push(prediction);
            }
            e.edit(|p| p.set_outputs(outputs));
            Ok(())
        })
    }

    fn next_token(&mut self) -> Result<(), PassError> {
        let kept = self.kept.iter().map(|name| self.output(name)).collect::<Result<Vec<_>, _>>()?;
        let prediction = self.predicted()?;
        expose_next_token(&mut self.graph, prediction, &kept)
    }

    /// The params that are trained.
    fn trained(&self) -> Vec<ValueId> {
        self.params.iter().filter(|p| p.is_trained()).map(|p| p.value).collect()
    }

    fn differentiate(&mut self) -> Result<(), PassError> {
        let trained = self.trained();
        let loss = self.loss.ok_or_else(|| PassError::Unsuitable("a gradient needs a loss".into()))?;
        self.grads = match self.hidden {
            Some(known) => differentiate_from(&mut self.graph, known.hidden, known.grad, &trained)?,
            None => differentiate(&mut self.graph, loss, &trained)?,
        };
        self.grads = self.gradients_of_all()?;
        Ok(())
    }

    /// Computes the loss of tokens and its gradient chunk by chunk, where their logits would be large.
    fn chunk_loss(&mut self) -> Result<(), PassError> {
        let Some(loss) = self.loss else { return Ok(()) };
        let chunks = chunks(&self.graph, self.spec.tokens);
        if chunks > 1 {
            let trained = self.trained();
            self.hidden = chunk_vocabulary(&mut self.graph, loss, Some(&trained), chunks)?;
        }
        Ok(())
    }

    /// The same of an evaluation that reads no logits.
    fn chunk_evaluation(&mut self) -> Result<(), PassError> {
        let Some(loss) = self.graph.outputs().first().copied().filter(|_| !self.spec.objective.evaluates_prediction())
        else {
            return Ok(());
        };
        let chunks = chunks(&self.graph, self.spec.tokens.map(|tokens| tokens.saturating_mul(EVALUATED)));
        if chunks > 1 {
            chunk_vocabulary(&mut self.graph, loss, None, chunks)?;
            remove_dead(&mut self.graph)?;
        }
        Ok(())
    }

    /// The gradients of all params, in their order: of those that stay as they are, zeros.
    fn gradients_of_all(&mut self) -> Result<Vec<ValueId>, PassError> {
        if self.params.iter().all(Param::is_trained) {
            return Ok(std::mem::take(&mut self.grads));
        }
        let (params, mut grads) = (&self.params, self.grads.iter().copied());
        rewrite(&mut self.graph, "fixed", |e| {
            let grad = |param: &Param| {
                if param.is_trained() {
                    return grads.next();
                }
                let zeros = Tensor::from_slice(&param.dims, &vec![0.0f32; param.len()]);
                Some(zeros.map_or(e.absent(), |zeros| e.weight("", zeros)).id())
            };
            Ok(params.iter().filter_map(grad).collect())
        })
    }

    /// Lets what no gradient goes through read the params themselves, now that there are gradients.
    fn attach_detached(&mut self) -> Result<(), PassError> {
        let (params, detached) = (&self.params, std::mem::take(&mut self.detached));
        if detached.is_empty() {
            return Ok(());
        }
        rewrite(&mut self.graph, "detached", |e| {
            for (input, name) in &detached {
                let Some(param) = params.iter().find(|p| p.name == *name && p.value != *input) else { continue };
                if e.graph().inputs().contains(input) {
                    e.edit(|p| {
                        p.redirect(*input, param.value);
                        p.drop_input(*input);
                    });
                }
            }
            Ok(())
        })
    }

    fn pack(&mut self) -> Result<(), PassError> {
        self.attach_detached()?;
        let layout = self.layout.clone().unwrap_or_default();
        self.packed = Some(pack(&mut self.graph, &layout, &self.params, &self.grads)?);
        Ok(())
    }

    /// Leaves the gradient and what counts in it as the only outputs.
    fn expose_gradient(&mut self) -> Result<(), PassError> {
        let grad = self.packed.and_then(|packed| packed.grad);
        let (Some(grad), Some(count)) = (grad, self.count.clone()) else {
            return Err(PassError::Unsuitable("a gradient needs a loss in slices".into()));
        };
        let count = self.output(&count)?;
        rewrite(&mut self.graph, "expose", |e| {
            let grad = e.named("gradient", "Identity", &[e.val(grad)], &[], 1).first().map_or(grad, |g| g.id());
            e.edit(|p| p.set_outputs(vec![grad, count]));
            Ok(())
        })
    }

    fn optimize(&mut self) -> Result<(), PassError> {
        let layout = self.layout.clone().unwrap_or_default();
        let (Some(packed), Some(loss)) = (self.packed, self.loss) else {
            return Err(PassError::Unsuitable("an update needs a loss and its gradient".into()));
        };
        let spec = &self.spec.update;
        let loss = match &self.count {
            Some(count) => StepLoss::Slice(SliceLoss { mean: loss, count: self.output(count)? }),
            None => StepLoss::Whole(loss),
        };
        let rates = spec.groups.rates(spec.optimizer.lr(), &layout, &self.params, &self.deltas)?;
        self.update = Some(optimize(&mut self.graph, &packed, &layout, loss, spec, &rates)?);
        Ok(())
    }
}
