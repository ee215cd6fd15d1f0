//! What can go wrong in a pass.

use crate::NoMatch;
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
    /// A function that calls itself: the chain of calls.
    #[error("the model's functions call each other in a ring: {0}")]
    Recursion(String),
    /// Functions that call functions that call functions.
    #[error("the model's function {function} calls others more than {limit} deep")]
    TooDeep {
        /// The outermost one.
        function: String,
        /// The most that is followed.
        limit: usize,
    },
    /// An old operator set, in which rules do not speak.
    #[error("the graph is of opset {0}: gradients are written in opset 18 or later; run the pass `upgrade` first")]
    OldOpset(i64),
    /// Values that cannot be trained because they hold no real numbers.
    #[error("no gradient with respect to {}: only real numbers have gradients", .0.join(", "))]
    NotFloat(Vec<String>),
    /// The loss is not a scalar.
    #[error("the loss `{name}` is {fact}: a loss is one number; {why}")]
    NotScalar {
        /// Name of the value.
        name: String,
        /// Its fact.
        fact: String,
        /// What makes it something else, or what to do.
        why: String,
    },
    /// Nothing that is trained reaches the loss.
    #[error("the loss does not depend on {}: nothing to train", some(.0))]
    Unreached(Vec<String>),
    /// Patterns of parameters that pick nothing, each with its path in the settings of the update.
    #[error("{}", .0.iter().map(|(_, why)| why.to_string()).collect::<Vec<_>>().join("; "))]
    NoParam(Vec<(String, NoMatch)>),
    /// The model does not have what the pass needs.
    #[error("{0}")]
    Unsuitable(String),
}

impl PassError {
    /// Stable name of the fault.
    pub fn code(&self) -> &'static str {
        match self {
            PassError::Infer(e) => e.code(),
            PassError::Patch { .. } => "pass::patch",
            PassError::Verify { .. } => "pass::verify",
            PassError::NoGradient(_) => "pass::no_gradient",
            PassError::Recursion(_) => "pass::recursion",
            PassError::TooDeep { .. } => "pass::too_deep",
            PassError::OldOpset(_) => "pass::old_opset",
            PassError::NotFloat(_) => "pass::not_float",
            PassError::NotScalar { .. } => "pass::not_scalar",
            PassError::Unreached(_) => "pass::unreached",
            PassError::NoParam(_) => "pass::no_param",
            PassError::Unsuitable(_) => "pass::unsuitable",
        }
    }
}

/// The first few of a list of names.
pub(crate) fn some(names: &[String]) -> String {
    const SHOWN: usize = 8;
    let shown = names.iter().take(SHOWN).cloned().collect::<Vec<_>>().join(", ");
    if names.len() > SHOWN { format!("{shown} and {} more", names.len() - SHOWN) } else { shown }
}
