//! The compiler on its own: a model's loss and the gradients of its weights as a plain ONNX graph.

pub use lorac_passes::grad::{Amount, Cost, Gradient, Loss, Request, Subject, TARGET, cost};

use lorac_onnx::Model;
use lorac_passes::PassError;

/// Differentiates a model.
///
/// # Errors
/// As [`lorac_passes::grad::grad`].
pub fn grad(model: &Model, request: &Request) -> Result<Gradient, PassError> {
    let subject = Subject { graph: &model.graph, functions: &model.functions, constants: &model.constants };
    lorac_passes::grad::grad(&subject, request)
}
