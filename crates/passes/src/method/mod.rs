//! Methods of adapting a model: which weights they change, what they put into the graph, how it folds into the weights'
//! bytes. One file each.

mod branch;
mod by_pattern;
mod lora_init;
mod lora_refusals;
mod low_rank;
mod magnitude;
mod narrow;
mod replaced;
mod scaled;
mod stack;
mod tables_and_kernels;
mod target_list;

pub use by_pattern::ByPattern;
pub use lora::{BiasChoice, TiedChoice};
pub use lora_init::LoraInit;

use crate::no_match::some_of;
use crate::{FoldError, LeftOut, NoMatches, Param, ParamValues, PassError, Target};
use bytes::Bytes;
use lorac_ir::{Graph, Tensor, ValueId};
use std::collections::BTreeMap;

lorac_config::choices! {
    /// A way of adapting a model.
    pub enum MethodChoice: Method {
        lora: Lora,
        dora: Dora,
        bias: Bias,
        full: Full,
        ia3: Ia3,
        tokens: Tokens,
    }
}

/// A way of adapting a model.
pub trait Method: std::fmt::Debug {
    /// The patterns that pick its targets.
    fn patterns(&self) -> &[String];

    /// Where one of them stands in the method: `targets.2`.
    fn path(&self, pattern: &str) -> String {
        let at = self.patterns().iter().position(|p| p == pattern);
        at.map_or("targets".into(), |i| format!("targets.{i}"))
    }

    /// The weights that it changes, each once, in the model's order.
    ///
    /// # Errors
    /// Every pattern that picks nothing.
    fn select(&self, graph: &Graph) -> Result<Vec<Target>, NoMatches>;

    /// The weights that its patterns pass over, and why.
    fn left_out(&self, _: &Graph) -> Vec<LeftOut> {
        Vec::new()
    }

    /// How many parameters are trained for targets in this graph: their elements, unless others are.
    fn param_count(&self, _: &Graph, targets: &[Target]) -> usize {
        targets.iter().map(|target| target.dims.iter().product::<usize>()).sum()
    }

    /// Whether a target is left to another adaptation that changes its weight, too.
    fn yields(&self, _: &Target) -> bool {
        false
    }

    /// Probability that a training step drops an element of what an adaptation reads.
    fn dropout(&self) -> f64 {
        0.0
    }

    /// Tokens that it names by their texts, which only a tokenizer knows.
    fn token_texts(&self) -> &[String] {
        &[]
    }

    /// The same with the numbers of those tokens in their place; none where it names no tokens.
    fn with_tokens(&self, _: &[usize]) -> Option<MethodChoice> {
        None
    }

    /// Whether the head is to have a weight of its own where it is a table of embeddings as well, see [`crate::untie`].
    fn unties(&self) -> bool {
        false
    }

    /// How many of the training's first batches are looked at before the first step, for what it begins with.
    fn first_batches(&self) -> usize {
        0
    }

    /// The most that the rank of a target may become, in its own, where the ranks of all are shared out by what the first
    /// batches say.
    fn rank_factor(&self) -> Option<f64> {
        None
    }

    /// The same with the ranks that targets got, by their names: what got none is no target. None where there are no ranks.
    fn with_ranks(&self, _: &BTreeMap<String, usize>) -> Option<MethodChoice> {
        None
    }

    /// Puts the adaptation of `targets`, which [`Method::select`] picked in this graph, into the graph.
    ///
    /// Ensures: with the params as [`Param::init`] says, every output is what it was.
    fn insert(&self, graph: &mut Graph, targets: &[Target], purpose: Use) -> Result<Inserted, PassError>;

    /// The bytes of a weight with one of the deltas that [`Method::insert`] gave, in the layout and type of `w0`, rounded
    /// once.
    fn fold(&self, delta: &Delta, w0: &Tensor, values: &ParamValues) -> Result<Bytes, FoldError>;
}

/// What a graph with an adaptation is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Use {
    /// Training steps that see about so many tokens: anything that computes the same may be written, the cheapest best.
    /// Without a number, the plain form.
    Train {
        /// Tokens of a step.
        tokens: Option<usize>,
    },
    /// The comparison with the folded model: the adaptation beside the weights, unfolded.
    Verify,
}

/// What a method put into a graph.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Inserted {
    /// What is trained.
    pub params: Vec<Param>,
    /// What becomes of the weights.
    pub deltas: Vec<Delta>,
    /// Where training steps drop elements.
    pub dropout: Vec<DropoutSite>,
    /// Inputs that have the values of a param, by its name, and through which no gradient goes.
    pub detached: Vec<(ValueId, String)>,
}

/// The change of a weight, or of a slice of one.
#[derive(Clone, Debug, PartialEq)]
pub struct Delta {
    /// What changes.
    pub target: Target,
    /// How.
    pub form: DeltaForm,
}

/// How a weight changes, by the names of params: what formats of adapters store.
#[derive(Clone, Debug, PartialEq)]
pub enum DeltaForm {
    /// `W0 + scale B A`, with A `[r, in]` and B `[out, r]`; of a stack, with one of each for every matrix. Where A and B begin as a
    /// part of W0, their first product is taken out. Where there are magnitudes, each column has the length of its own.
    LowRank {
        /// Name of A.
        a: String,
        /// Name of B.
        b: String,
        /// r.
        rank: usize,
        /// alpha, as it was asked for.
        alpha: f64,
        /// Whether the scale is `alpha / sqrt(r)` and not `alpha / r`.
        rslora: bool,
        /// Names of A and B as they were before the first step, whose product is taken out of W0.
        start: Option<[String; 2]>,
        /// Name of the lengths of the columns, `[out]`.
        magnitude: Option<String>,
    },
    /// The values of a param in the place of W0.
    Replaced {
        /// Name of the param.
        param: String,
    },
    /// Columns times the values of a param, or rows, which are multiplied with inputs.
    Scaled {
        /// Name of the param.
        param: String,
        /// Whether rows are scaled.
        inputs: bool,
    },
    /// The rows of a param in the place of some of a table's.
    Rows {
        /// Name of the param, `[rows, width]`.
        param: String,
        /// Which rows.
        rows: Vec<usize>,
        /// The axis of the table that they are counted along.
        axis: usize,
    },
}

impl DeltaForm {
    /// What `B A` is multiplied by.
    pub fn scale(&self) -> Option<f64> {
        match self {
            DeltaForm::LowRank { rank, alpha, rslora, .. } => Some(low_rank_scale(*rank, *alpha, *rslora)),
            DeltaForm::Replaced { .. } | DeltaForm::Scaled { .. } | DeltaForm::Rows { .. } => None,
        }
    }
}

/// s: alpha / r, or alpha / sqrt(r) of rank-stabilised LoRA (Kalajdzievski 2023).
pub(crate) fn low_rank_scale(rank: usize, alpha: f64, rslora: bool) -> f64 {
    let rank = rank as f64;
    alpha / if rslora { rank.sqrt() } else { rank }
}

/// Where a training step drops elements of what is multiplied with A.
#[derive(Clone, Debug, PartialEq)]
pub struct DropoutSite {
    /// A, `[r, in]`.
    pub factor: ValueId,
    /// Name of the weight that the branch adapts.
    pub weight: String,
    /// in.
    pub width: usize,
    /// Probability that an element is dropped.
    pub probability: f64,
}

/// A method with the targets that it selected.
#[derive(Clone, Debug)]
pub struct Adaptation<'a> {
    /// The method.
    pub method: &'a dyn Method,
    /// Its targets.
    pub targets: Vec<Target>,
}

/// Weights that two patterns of two adaptations pick.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "{} picked twice, by `{earlier}` and by `{later}`: a weight, or a slice of one, is adapted once",
    some_are(.names)
)]
pub struct PickedTwice {
    /// The weights.
    pub names: Vec<String>,
    /// The pattern that picked it first.
    pub earlier: String,
    /// Position of the second adaptation.
    pub adaptation: usize,
    /// The pattern that picked it again.
    pub later: String,
}

fn some_are(names: &[String]) -> String {
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    format!("{} {}", some_of(&names), if names.len() == 1 { "is" } else { "are" })
}

/// Every weight that two adaptations change, together where the same patterns pick them. Slices of one matrix may be adapted each.
pub fn picked_twice(adaptations: &[Adaptation]) -> Vec<PickedTwice> {
    let mut found: Vec<PickedTwice> = Vec::new();
    for (i, one) in adaptations.iter().enumerate() {
        for t in &one.targets {
            let apart = |o: &Target| o.slice.is_some() && t.slice.is_some() && o.slice != t.slice;
            let mut others = adaptations[..i].iter().flat_map(|a| &a.targets);
            if let Some(earlier) = others.find(|o| o.weight == t.weight && !apart(o)) {
                let (earlier, later) = (&earlier.pattern, &t.pattern);
                let same = |f: &&mut PickedTwice| (f.adaptation, &f.earlier, &f.later) == (i, earlier, later);
                match found.iter_mut().find(same) {
                    Some(same) => same.names.push(t.name()),
                    None => found.push(PickedTwice {
                        names: vec![t.name()],
                        earlier: earlier.clone(),
                        adaptation: i,
                        later: later.clone(),
                    }),
                }
            }
        }
    }
    found
}

/// The bytes of a weight with all its deltas, each with its method.
///
/// # Errors
/// What a method cannot fold.
pub fn fold_all(w0: &Tensor, deltas: &[(&dyn Method, &Delta)], values: &ParamValues) -> Result<Bytes, FoldError> {
    let mut folded = w0.clone();
    for (method, delta) in deltas {
        let bytes = method.fold(delta, &folded, values)?;
        folded = Tensor::new(w0.dtype(), w0.dims().to_vec(), bytes)?;
    }
    Ok(folded.bytes().clone())
}
