//! From a model to its training copy: the one way that every command takes.

use crate::{PassError, fold_constants, inline, lower, take_branches, upgrade};
use lorac_ir::{Function, Graph, ValueId};

/// Lowerings may write operators that are lowered in turn.
const MAX_LOWERINGS: usize = 8;

/// Makes a graph fit for [`crate::differentiate`]: standard operators as in opset 18 or later, functions written out,
/// branches with a known condition taken, fused operators taken apart, constants folded. What is computed of the weights
/// `trained` is no constant.
///
/// # Errors
/// What any of these passes cannot do.
pub fn prepare(graph: &mut Graph, functions: &[Function], trained: &[ValueId]) -> Result<(), PassError> {
    upgrade(graph)?;
    let mut functions = functions.to_vec();
    for function in functions.iter_mut().filter(|f| f.graph.opsets.contains_key("")) {
        upgrade(&mut function.graph)?;
    }
    inline(graph, &functions)?;
    if graph.nodes().any(|(_, n)| &*n.op.name == "If") {
        // A branch may hold further ones.
        loop {
            fold_constants(graph, trained)?;
            if take_branches(graph)? == 0 {
                break;
            }
        }
    }
    let mut rounds = 0;
    while lower(graph)? > 0 {
        rounds += 1;
        if rounds == MAX_LOWERINGS {
            let why = format!("its operators are taken apart {MAX_LOWERINGS} times without an end");
            return Err(PassError::Unsuitable(format!("the model cannot be trained: {why}")));
        }
    }
    fold_constants(graph, trained)?;
    Ok(())
}
