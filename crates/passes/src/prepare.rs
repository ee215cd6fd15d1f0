//! From a model to its training copy: the one way that every command takes.

use crate::lower::lowerable;
use crate::readable::inline_known;
use crate::upgrade::OPSET;
use crate::{PassError, fold_constants, lower, resolve_lists, take_branches};
use lorac_ir::{Function, Graph, ValueId};

/// Lowerings may write operators that are lowered in turn.
const MAX_ROUNDS: usize = 8;

/// Makes a graph fit for [`crate::differentiate`]: standard operators as in opset 18 or later, functions inlined,
/// branches with a known condition taken, fused operators decomposed, constants folded. What is computed of the weights
/// `trained` is not a constant.
///
/// # Errors
/// What any of these passes cannot do.
pub fn prepare(graph: &mut Graph, functions: &[Function], trained: &[ValueId]) -> Result<(), PassError> {
    inline_known(graph, functions, OPSET)?;
    if graph.nodes().any(|(_, n)| &*n.op.name == "If") {
        // A branch may hold further ones.
        loop {
            fold_constants(graph, trained)?;
            if take_branches(graph)? == 0 {
                break;
            }
        }
    }
    resolve_lists(graph)?;
    // Folding tells shapes that some lowerings wait for.
    for _ in 0..MAX_ROUNDS {
        let lowered = lower(graph)?;
        let folded = fold_constants(graph, trained)? + resolve_lists(graph)?;
        if !lowerable(graph) || (lowered == 0 && folded == 0) {
            return Ok(());
        }
    }
    let why = format!("its operators are decomposed {MAX_ROUNDS} times without an end");
    Err(PassError::Unsuitable(format!("the model cannot be trained: {why}")))
}
