//! A copy of one graph inside another.

use crate::PassError;
use crate::rewrite::display_name;
use lorac_ir::{Attr, Attrs, Def, Fact, Graph, Node, OpName, Patch, ValueId, topological_order};
use std::collections::{HashMap, HashSet};
use std::sync::Arc;

/// Puts what `inner` computes in the place of `node`, whose operands are `args`. Results have the node's facts.
///
/// # Errors
/// Results that the node asks for and `inner` does not give.
pub(crate) fn instantiate(
    graph: &Graph,
    patch: &mut Patch,
    node: &Node,
    inner: &Graph,
    args: &[Option<ValueId>],
) -> Result<(), PassError> {
    let caller = display_name(graph, node);
    let wrong = |why: String| PassError::Unsuitable(format!("node `{caller}` ({}): {why}", node.op));
    let (takes, gives) = (inner.inputs().len(), inner.outputs().len());
    if args.len() > takes || node.outputs.len() > gives {
        let why = format!("its definition takes {takes} inputs and gives {gives} outputs");
        return Err(wrong(format!("{why}, the node has {} and {}", args.len(), node.outputs.len())));
    }
    let mut to: HashMap<ValueId, Option<ValueId>> =
        inner.inputs().iter().enumerate().map(|(i, v)| (*v, args.get(i).copied().flatten())).collect();
    for (id, _, tensor) in inner.weights() {
        to.insert(id, Some(patch.weight("", tensor.clone())));
    }
    let declared: HashMap<ValueId, Fact> =
        inner.outputs().iter().zip(&node.outputs).map(|(v, outer)| (*v, graph.fact(*outer))).collect();
    for id in topological_order(inner) {
        let Some(n) = inner.node(id) else { continue };
        let inputs = n.inputs.iter().map(|v| v.and_then(|v| to.get(&v).copied().flatten())).collect();
        let mut attrs = n.attrs.clone();
        for attr in attrs.values_mut() {
            let Attr::Graph(body) = attr else { continue };
            for capture in &mut body.captures {
                let absent = || wrong(format!("a graph inside reads `{}`, which is absent", inner.name_of(*capture)));
                *capture = to.get(capture).copied().flatten().ok_or_else(absent)?;
            }
        }
        let source: Arc<str> = match &*n.origin.source {
            "" => caller.as_str().into(),
            name => format!("{caller}/{name}").into(),
        };
        let facts = n.outputs.iter().map(|v| declared.get(v).cloned().unwrap_or_else(|| inner.fact(*v))).collect();
        let made = patch.node(n.op.clone(), "", inputs, attrs, facts, &source);
        to.extend(n.outputs.iter().copied().zip(made.into_iter().map(Some)));
    }
    let mut given = HashSet::new();
    for (result, outer) in inner.outputs().iter().zip(&node.outputs) {
        let Some(value) = to.get(result).copied().flatten() else {
            let used = graph.value(*outer).is_some_and(|v| !v.uses().is_empty()) || graph.is_output(*outer);
            if used {
                return Err(wrong(format!("its result `{}` is an absent operand", graph.name_of(*outer))));
            }
            continue;
        };
        let computed = matches!(inner.value(*result).map(|v| v.def), Some(Def::Output(..)));
        let new = if computed && given.insert(value) {
            value
        } else {
            let (op, facts) = (OpName::new("", "Identity"), vec![graph.fact(*outer)]);
            let made = patch.node(op, "", vec![Some(value)], Attrs::new(), facts, &caller.as_str().into());
            made.first().copied().unwrap_or(value)
        };
        patch.redirect(*outer, new);
    }
    Ok(())
}
