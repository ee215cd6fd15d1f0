//! What is learnt, as the graphs of a training see it. A task is an objective; so is any loss of a Rust program.

use crate::{LossTerms, Param, PassError};
use lorac_ir::{Graph, ValueId};
use lorac_ops::Val;

/// What a training makes smaller.
pub trait Objective {
    /// Puts what the objective needs on a model with its adaptations: a new head, or nothing.
    ///
    /// # Errors
    /// A model that does not have what the objective needs.
    fn attach(&self, graph: &mut Graph) -> Result<Attached, PassError>;

    /// Writes the loss of the prediction, against new inputs of targets.
    ///
    /// # Errors
    /// A prediction of an unsuitable shape.
    fn loss<'e, 'g>(&self, prediction: Val<'e, 'g>) -> Result<LossTerms<'e, 'g>, PassError>;

    /// Whether an evaluation reads the prediction itself, beside sum and count of the loss. Where it does not, the
    /// prediction never leaves the device: a batch of a language model's is larger than everything else.
    fn evaluates_prediction(&self) -> bool;
}

/// What an objective put on a model.
#[derive(Clone, Debug, PartialEq)]
pub struct Attached {
    /// What the loss is computed of, an output of the graph.
    pub prediction: ValueId,
    /// What is trained beside the adaptations.
    pub params: Vec<Param>,
}
