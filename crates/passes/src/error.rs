//! What can go wrong in a pass.

use lorac_ir::{PatchError, Violation};
use lorac_ops::InferError;

/// Why a pass left the graph as it was.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PassError {
    /// A node contradicts its operands.
    #[error(transparent)]
    Infer(#[from] InferError),
    /// The pass wrote a patch that does not fit: a defect of the pass.
    #[error("{pass}: {source}")]
    Patch {
        /// The pass.
        pass: String,
        /// What does not fit.
        source: PatchError,
    },
    /// The pass broke the graph: a defect of the pass.
    #[error("{pass} broke the graph: {}", .found.iter().map(ToString::to_string).collect::<Vec<_>>().join("; "))]
    Verify {
        /// The pass.
        pass: String,
        /// Every broken invariant.
        found: Vec<Violation>,
    },
    /// Operators on the way from what is trained to the loss that have no gradient, all of them.
    #[error("no gradient through {}", .0.join("; "))]
    NoGradient(Vec<String>),
    /// The loss is no scalar.
    #[error("the loss '{name}' is {fact}: a loss is one number; reduce it to its mean")]
    NotScalar {
        /// Name of the value.
        name: String,
        /// Its fact.
        fact: String,
    },
    /// Nothing that is trained reaches the loss.
    #[error("the loss does not depend on {}: nothing to train", .0.join(", "))]
    Unreached(Vec<String>),
    /// The model does not have what the pass needs.
    #[error("{0}")]
    Unsuitable(String),
}
