//! From a model to the programs that train, evaluate and check it. A task is one file here.

mod causal_lm;
mod classify;
mod inputs;

pub use causal_lm::CausalLm;
pub use classify::{Classify, HEAD_BIAS, HEAD_WEIGHT, HeadNames, head_alone};
pub use inputs::feeds;

use lorac_ir::{Dialect, Graph, ValueId};
use lorac_ops::infer;
use lorac_passes::{
    AdamW, Arena, Branch, Lora, PassError, Target, adamw, cumsum_to_i32, differentiate, drop_inputs, dropout,
    expose_layer_norm_stats, fold_constants, fuse_dense, insert_lora, insert_lora_for, pack, reassociate, remove_dead,
    rewrite, specialize_empty_cache,
};
use lorac_train::{Feeds, Noise};

/// Name of the input of labels.
pub const LABELS: &str = "labels";

/// Matrices, and the branches that they get.
#[derive(Clone, Debug)]
pub struct Adaptation {
    /// The matrices.
    pub targets: Vec<Target>,
    /// Rank and scale of their branches.
    pub lora: Lora,
    /// Probability that an element of what a branch reads is dropped in a training step.
    pub dropout: f64,
}

/// What is to be learnt.
#[derive(Clone, Debug)]
pub enum Task {
    /// One label a text.
    Classify(Classify),
    /// The next token.
    CausalLm(CausalLm),
}

/// What is asked of the compiler.
#[derive(Clone, Debug)]
pub struct Spec {
    /// How the model is adapted. No matrix stands in two of them.
    pub adapt: Vec<Adaptation>,
    /// What it is to learn.
    pub task: Task,
    /// The optimizer.
    pub optimizer: AdamW,
    /// What the engine that is to run the graphs reads.
    pub dialect: Dialect,
    /// Tokens that a step is expected to see: what branches are computed in the cheapest order for.
    /// Without, every one stays a branch.
    pub tokens: Option<usize>,
}

/// A model with branches, as three graphs over one theta.
#[derive(Clone, Debug)]
pub struct Compiled {
    /// One training step: loss, gradient and AdamW.
    pub step: Graph,
    /// theta to what the task is judged by: `logits` of a classification, [`lorac_train::NLL`] and
    /// [`lorac_train::TOKENS`] of a language model.
    pub eval: Graph,
    /// theta to every output of the base model, and `logits` where they are new.
    pub adapted: Graph,
    /// Where trained values lie in theta.
    pub arena: Arena,
    /// The branches.
    pub branches: Vec<Branch>,
    /// Width of the numbers that a step draws what it drops from; 0 where it drops nothing.
    pub dropout: usize,
    /// The new head, where the task needs one.
    pub head: Option<HeadNames>,
    /// The graph's names for the parts of a batch.
    pub feeds: Feeds,
}

impl Compiled {
    /// What steps draw from in a training with this seed, if they drop anything.
    pub fn noise(&self, seed: u64) -> Option<Noise> {
        (self.dropout > 0).then(|| Noise {
            seed,
            rows: dropout::ROWS.into(),
            row_limit: dropout::ROW_LIMIT,
            columns: dropout::COLUMNS.into(),
            column_step: dropout::COLUMN_STEP,
            depth: dropout::DEPTH,
            width: self.dropout,
        })
    }
}

/// What a task puts on a model.
struct Attached {
    /// What the loss is computed of.
    logits: ValueId,
    /// What is trained beside the branches.
    params: Vec<ValueId>,
    /// The new head.
    head: Option<HeadNames>,
}

impl Task {
    fn attach(&self, graph: &mut Graph) -> Result<Attached, PassError> {
        match self {
            Task::Classify(c) => c.attach(graph),
            Task::CausalLm(c) => c.attach(graph),
        }
    }

    /// Adds the loss of a step.
    fn loss(&self, graph: &mut Graph, logits: ValueId) -> Result<ValueId, PassError> {
        match self {
            Task::Classify(c) => c.loss(graph, logits),
            Task::CausalLm(c) => c.loss(graph, logits),
        }
    }

    /// Adds what the task is judged by, where that is not the logits themselves.
    fn score(&self, graph: &mut Graph, logits: ValueId) -> Result<(), PassError> {
        match self {
            Task::Classify(_) => Ok(()),
            Task::CausalLm(c) => c.score(graph, logits),
        }
    }

    fn labels(&self) -> lorac_train::Labels {
        match self {
            Task::Classify(_) => lorac_train::Labels::OfRows(LABELS.into()),
            Task::CausalLm(_) => lorac_train::Labels::OfTokens(LABELS.into()),
        }
    }
}

/// A model with branches and what its task puts on it.
struct Adapted {
    graph: Graph,
    branches: Vec<Branch>,
    /// Of every branch, how much a step drops.
    dropout: Vec<f64>,
    attached: Attached,
    /// What is trained.
    params: Vec<ValueId>,
}

fn adapt(base: &Graph, spec: &Spec, tokens: Option<usize>) -> Result<Adapted, PassError> {
    let mut graph = base.clone();
    let (mut branches, mut dropout) = (Vec::new(), Vec::new());
    for part in &spec.adapt {
        // A sum of weights has nothing in front of A to drop from.
        branches.extend(match tokens.filter(|_| part.dropout == 0.0) {
            Some(tokens) => insert_lora_for(&mut graph, &part.targets, &part.lora, tokens)?,
            None => insert_lora(&mut graph, &part.targets, &part.lora)?,
        });
        dropout.resize(branches.len(), part.dropout);
    }
    let attached = spec.task.attach(&mut graph)?;
    let params = branches.iter().flat_map(|b| [b.a, b.b]).chain(attached.params.iter().copied()).collect();
    Ok(Adapted { graph, branches, dropout, attached, params })
}

/// Compiles the three graphs of a task.
pub fn compile(base: &Graph, spec: &Spec) -> Result<Compiled, PassError> {
    let mut base = base.clone();
    infer(&mut base)?;
    let mut feeds = feeds(&base)?;

    // What is verified is the branch itself, unfolded.
    let Adapted { graph: mut adapted, branches, attached, params, .. } = adapt(&base, spec, None)?;
    if !spec.dialect.reads_any_graph() {
        prepare(&mut adapted, spec, &feeds)?;
    }
    pack(&mut adapted, &params, &[])?;
    let head = attached.head;

    let Adapted { graph, branches: trained, dropout: probabilities, attached: Attached { logits, .. }, params } =
        adapt(&base, spec, spec.tokens)?;
    let mut eval = graph.clone();
    only(&mut eval, logits)?;
    prepare(&mut eval, spec, &feeds)?;
    spec.task.score(&mut eval, logits)?;
    pack(&mut eval, &params, &[])?;

    let mut step = graph;
    only(&mut step, logits)?;
    prepare(&mut step, spec, &feeds)?;
    let drops: Vec<(&Branch, f64)> = trained.iter().zip(probabilities).filter(|d| d.1 > 0.0).collect();
    if !drops.is_empty() {
        free(&step, &[dropout::ROWS, dropout::COLUMNS], "dropout")?;
    }
    let dropout = drop_inputs(&mut step, &drops)?;
    fuse_dense(&mut step)?;
    let loss = spec.task.loss(&mut step, logits)?;
    expose_layer_norm_stats(&mut step)?;
    let grads = differentiate(&mut step, loss, &params)?;
    let arena = pack(&mut step, &params, &grads)?;
    adamw(&mut step, &arena, loss, &spec.optimizer)?;
    reassociate(&mut step)?;
    fold_constants(&mut step, &[])?;
    remove_dead(&mut step)?;
    infer(&mut step)?;
    feeds.labels = Some(spec.task.labels());
    Ok(Compiled { step, eval, adapted, arena, branches, dropout, head, feeds })
}

/// The training copy of a base whose functions are written out already, for the engine that is to run it; caches of
/// earlier tokens are empty in it.
fn prepare(graph: &mut Graph, spec: &Spec, feeds: &Feeds) -> Result<(), PassError> {
    let caches: Vec<ValueId> = feeds.caches().filter_map(|name| graph.find(name)).collect();
    lorac_passes::prepare(graph, &[], &[])?;
    let batch = inputs::batch(graph);
    if specialize_empty_cache(graph, &caches, batch)? > 0 {
        fold_constants(graph, &[])?;
    }
    if !spec.dialect.i64_cumsum {
        cumsum_to_i32(graph)?;
    }
    Ok(())
}

/// Makes `output` the graph's only output and drops what it does not need.
fn only(graph: &mut Graph, output: ValueId) -> Result<(), PassError> {
    rewrite(graph, "outputs", |e| {
        e.edit(|p| p.set_outputs(vec![output]));
        Ok(())
    })?;
    remove_dead(graph)?;
    Ok(())
}

/// Refuses a model that has values of these names already.
fn free(graph: &Graph, names: &[&str], what: &str) -> Result<(), PassError> {
    match names.iter().find(|n| graph.find(n).is_some()) {
        Some(taken) => {
            let why = format!("the model has a value called '{taken}' already: {what} would clash with it");
            Err(PassError::Unsuitable(why))
        }
        None => Ok(()),
    }
}
