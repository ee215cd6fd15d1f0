//! Reverse-mode differentiation: the gradient of a scalar, written as plain nodes into the same graph.

use crate::PassError;
use crate::error::some;
use crate::rewrite::{display_name, rewrite};
use crate::straight_through::{integers_active, quantizer, straight_through_grads};
use crate::upgrade::OPSET;
use lorac_ir::{DType, Fact, Graph, Node, NodeId, OpName, ValueId, topological_order};
use lorac_ops::{Emit, Grad, Val, apply_rule, find};
use std::collections::{HashMap, HashSet};

/// Adds the gradient of `loss` with respect to each of `wrt` (inputs or weights). Returns the gradients, in order;
/// nothing that no trained value reaches is differentiated. Requires: opset 18 or later, see [`crate::prepare`].
///
/// # Errors
/// As [`gradients`], and values that the loss does not depend on.
pub fn differentiate(graph: &mut Graph, loss: ValueId, wrt: &[ValueId]) -> Result<Vec<ValueId>, PassError> {
    rewrite(graph, "differentiate", |e| reached(e, wrt, backward(e, loss, wrt)?))
}

/// As [`differentiate`], of a loss that depends on `wrt` by way of `value` alone, of whose gradient with respect to it the
/// graph has computed `grad`.
///
/// # Errors
/// As [`differentiate`].
pub fn differentiate_from(
    graph: &mut Graph,
    value: ValueId,
    grad: ValueId,
    wrt: &[ValueId],
) -> Result<Vec<ValueId>, PassError> {
    rewrite(graph, "differentiate", |e| {
        check_trained(e.graph(), wrt)?;
        let active = active(e.graph(), wrt);
        let between = active_between(e.graph(), value, &active);
        check(e, &between, &active)?;
        reached(e, wrt, propagate(e, (value, e.val(grad)), &between, &active, wrt)?)
    })
}

/// The gradients, where all values have one.
fn reached(e: &Emit, wrt: &[ValueId], grads: Vec<Option<ValueId>>) -> Result<Vec<ValueId>, PassError> {
    let unreached = wrt.iter().zip(&grads).filter(|(_, g)| g.is_none());
    let unreached: Vec<String> = unreached.map(|(v, _)| e.graph().name_of(*v)).collect();
    match unreached.is_empty() {
        true => Ok(grads.into_iter().flatten().collect()),
        false => Err(PassError::Unreached(unreached)),
    }
}

/// As [`differentiate`], with no gradient for values that the loss does not depend on.
///
/// # Errors
/// Every operator on the way that has no gradient, at once; a loss that is not a scalar or that depends on none of
/// `wrt`; values that hold no reals; an older opset.
pub fn gradients(graph: &mut Graph, loss: ValueId, wrt: &[ValueId]) -> Result<Vec<Option<ValueId>>, PassError> {
    rewrite(graph, "differentiate", |e| {
        let grads = backward(e, loss, wrt)?;
        match grads.iter().any(Option::is_some) {
            true => Ok(grads),
            false => Err(PassError::Unreached(wrt.iter().map(|v| e.graph().name_of(*v)).collect())),
        }
    })
}

/// Nodes that a gradient of `loss` with respect to `wrt` passes, producers first.
pub fn active_nodes(graph: &Graph, loss: ValueId, wrt: &[ValueId]) -> Vec<NodeId> {
    active_between(graph, loss, &active(graph, wrt))
}

fn backward(e: &Emit, loss: ValueId, wrt: &[ValueId]) -> Result<Vec<Option<ValueId>>, PassError> {
    check_trained(e.graph(), wrt)?;
    let active = active(e.graph(), wrt);
    let between = active_between(e.graph(), loss, &active);
    let scalar = scalar(e.graph(), loss);
    // Of a loss of unknown shape, what stops gradients is the cause and not the loss.
    if scalar.is_ok() || !known(&e.graph().fact(loss)) {
        check(e, &between, &active)?;
    }
    scalar?;
    propagate(e, (loss, one(e, loss)), &between, &active, wrt)
}

/// The gradients of `wrt` where that of `from` is known, by way of the nodes `between`.
fn propagate(
    e: &Emit,
    from: (ValueId, Val),
    between: &[NodeId],
    active: &HashSet<ValueId>,
    wrt: &[ValueId],
) -> Result<Vec<Option<ValueId>>, PassError> {
    let mut grads: HashMap<ValueId, Val> = HashMap::from([from]);
    let mut failed = Vec::new();
    for id in between.iter().rev() {
        let Some(node) = e.graph().node(*id) else { continue };
        let gys: Vec<Option<Val>> = node.outputs.iter().map(|v| grads.get(v).copied()).collect();
        if gys.iter().all(Option::is_none) {
            continue;
        }
        let wants = node.inputs.iter().map(|v| v.is_some_and(|v| active.contains(&v))).collect();
        let gxs = apply_rule(e, node, gys.clone(), wants).unwrap_or_default();
        let own = node.inputs.iter().copied().zip(gxs);
        let gxs = own.chain(straight_through_grads(e, node, gys.first().copied().flatten()));
        // What a failed rule leaves is not a gradient: nodes upstream would be blamed for it.
        if let Some(why) = e.take_error() {
            failed.push((node, why.to_string()));
            continue;
        }
        for (value, g) in gxs {
            let (Some(value), Some(g)) = (value.filter(|v| active.contains(v)), g) else { continue };
            let sum = grads.get(&value).map_or(g, |old| *old + g);
            match e.take_error() {
                Some(why) => failed.push((node, why.to_string())),
                None => drop(grads.insert(value, sum)),
            }
        }
    }
    report(e.graph(), failed.into_iter())?;
    Ok(wrt.iter().map(|v| grads.get(v).filter(|_| *v != from.0).map(|g| g.id())).collect())
}

/// That the loss is one real number.
fn scalar(graph: &Graph, loss: ValueId) -> Result<(), PassError> {
    let fact = graph.fact(loss);
    if fact.volume().known() == Some(1) && fact.dtype.is_float() {
        return Ok(());
    }
    let why = match first_unknown(graph, loss).filter(|_| !known(&fact)) {
        Some((node, why)) => {
            format!("its shape is not known behind `{}` ({}): {why}", display_name(graph, node), node.op)
        }
        None => "reduce it to its mean".to_string(),
    };
    Err(PassError::NotScalar { name: graph.name_of(loss), fact: fact.to_string(), why })
}

/// Whether type and rank are known.
fn known(fact: &Fact) -> bool {
    fact.dtype != DType::Opaque && fact.shape.is_some()
}

/// The first node before `loss` of whose results less is known than of its operands, and why.
fn first_unknown(graph: &Graph, loss: ValueId) -> Option<(&Node, &'static str)> {
    let (mut before, mut todo) = (HashSet::new(), vec![loss]);
    while let Some(value) = todo.pop() {
        if let Some((id, node)) = graph.producer(value)
            && before.insert(id)
        {
            todo.extend(node.operands().map(|(_, v)| v));
        }
    }
    let all = |mut values: Vec<ValueId>| values.drain(..).all(|v| known(&graph.fact(v)));
    let ordered = topological_order(graph).into_iter().filter(|id| before.contains(id));
    let node = ordered
        .filter_map(|id| graph.node(id))
        .find(|n| all(n.operands().map(|(_, v)| v).collect()) && !all(n.outputs.clone()))?;
    let why = match find(&node.op) {
        None => "lorac does not know the operator, and the model does not declare what it gives",
        Some(_) => {
            "what it gives depends on what it is fed; fix its inputs' dimensions, or declare the shape of its result"
        }
    };
    Some((node, why))
}

fn check_trained(graph: &Graph, wrt: &[ValueId]) -> Result<(), PassError> {
    if graph.opset() < OPSET {
        return Err(PassError::OldOpset(graph.opset()));
    }
    let integers = wrt.iter().filter(|v| !graph.fact(**v).dtype.is_float());
    let integers: Vec<String> = integers.map(|v| format!("`{}` {}", graph.name_of(*v), graph.fact(*v))).collect();
    if integers.is_empty() { Ok(()) } else { Err(PassError::NotFloat(integers)) }
}

/// The gradient of the loss with respect to itself.
fn one<'e, 'g>(e: &'e Emit<'g>, loss: ValueId) -> Val<'e, 'g> {
    let fact = e.graph().fact(loss);
    let one = lorac_ir::Tensor::from_f64(fact.dtype, &fact.known_dims().unwrap_or_default(), &[1.0]);
    one.map_or(e.absent(), |t| e.weight("", t))
}

/// Float values that change when any of `wrt` does, and integers that an operator without a gradient computes from
/// them: what reads those is not silently taken for constant.
fn active(graph: &Graph, wrt: &[ValueId]) -> HashSet<ValueId> {
    let mut active: HashSet<ValueId> = wrt.iter().copied().collect();
    for id in topological_order(graph) {
        let Some(node) = graph.node(id) else { continue };
        let zero = matches!(find(&node.op).map(|op| &op.grad), Some(Grad::Zero(_)));
        if !zero && node.operands().any(|(_, v)| active.contains(&v)) {
            let integers = integers_active(graph, node, &active);
            let moved = node.outputs.iter().filter(|v| {
                let dtype = graph.fact(**v).dtype;
                dtype.is_float() || dtype == DType::Opaque || integers && dtype.is_int()
            });
            active.extend(moved);
        }
    }
    active
}

/// Nodes between what moves and the loss, producers first.
fn active_between(graph: &Graph, loss: ValueId, active: &HashSet<ValueId>) -> Vec<NodeId> {
    let (mut on, mut todo) = (HashSet::new(), vec![loss]);
    while let Some(value) = todo.pop() {
        let Some((id, node)) = graph.producer(value).filter(|_| active.contains(&value)) else { continue };
        if on.insert(id) {
            match quantizer(graph, node) {
                Some(source) => todo.extend(node.inputs.iter().skip(1).chain(&source.inputs).flatten()),
                None => todo.extend(node.operands().map(|(_, v)| v)),
            }
        }
    }
    topological_order(graph).into_iter().filter(|id| on.contains(id)).collect()
}

/// Names the active nodes that cannot be differentiated: every operator with its reason, and the first of its nodes.
fn check(e: &Emit, between: &[NodeId], active: &HashSet<ValueId>) -> Result<(), PassError> {
    let nodes = between.iter().filter_map(|id| e.graph().node(*id));
    report(e.graph(), nodes.filter_map(|node| Some((node, why_not_differentiable(e, node, active)?))))
}

/// Nodes with the reasons why no gradient passes them, as an error if there are any.
fn report<'g>(graph: &Graph, nodes: impl Iterator<Item = (&'g Node, String)>) -> Result<(), PassError> {
    let mut wrong: Vec<(String, &OpName, Vec<String>)> = Vec::new();
    for (node, why) in nodes {
        let name = display_name(graph, node);
        match wrong.iter_mut().find(|(known, op, _)| *known == why && **op == node.op) {
            Some((_, _, names)) => names.push(name),
            None => wrong.push((why, &node.op, vec![name])),
        }
    }
    let one = |(why, op, names): (String, &OpName, Vec<String>)| {
        let first = names.first().cloned().unwrap_or_default();
        let more = if names.len() > 1 { format!(" and {} more nodes", names.len() - 1) } else { String::new() };
        format!("`{first}`{more} ({op}): {why}")
    };
    if wrong.is_empty() { Ok(()) } else { Err(PassError::NoGradient(wrong.into_iter().map(one).collect())) }
}

/// Why an active node cannot be differentiated.
fn why_not_differentiable(e: &Emit, node: &Node, active: &HashSet<ValueId>) -> Option<String> {
    let graph = e.graph();
    if node.bodies().next().is_some() {
        return Some(inside(graph, node, active));
    }
    match find(&node.op).map(|op| &op.grad) {
        None if node.op.domain.is_empty() => Some("lorac does not know the operator".into()),
        None => Some(format!(
            "lorac does not know the operator, and the model has no function of this name; export it without operators \
             of `{}`, or train only what comes after it",
            node.op.domain
        )),
        Some(Grad::Unsupported(why)) => Some(why.to_string()),
        Some(Grad::Lower { lower, .. }) => {
            let x: Vec<Val> = node.inputs.iter().map(|v| v.map_or(e.absent(), |v| e.val(v))).collect();
            lower(e, node, &x);
            let why = e.take_error().map(|why| why.to_string());
            Some(why.unwrap_or("it is not decomposed yet: run the pass `lower` first".into()))
        }
        Some(Grad::Zero(_)) => None,
        Some(Grad::Rule { outputs, .. }) => {
            let read = |v: &ValueId| active.contains(v) && graph.value(*v).is_some_and(|v| !v.uses().is_empty());
            let beyond = node.outputs.iter().skip(*outputs).position(read)?;
            Some(format!("a gradient reaches its output {}", outputs + beyond))
        }
    }
}

/// Gradients stop at a graph inside a node.
fn inside(graph: &Graph, node: &Node, active: &HashSet<ValueId>) -> String {
    let read: Vec<ValueId> = node.captures().filter(|v| active.contains(v)).collect();
    let names = |values: &[ValueId]| -> Vec<String> {
        let mut names: Vec<String> = values.iter().map(|v| format!("`{}`", graph.name_of(*v))).collect();
        names.sort();
        names.dedup();
        names
    };
    let list = |values: &[ValueId]| some(&names(values));
    let what = match read.as_slice() {
        [] => {
            let fed: Vec<ValueId> = node.inputs.iter().flatten().copied().filter(|v| active.contains(v)).collect();
            format!("its inputs {} depend", list(&fed))
        }
        read => format!("the graph inside it reads {}, which depends", list(read)),
    };
    format!(
        "{what} on what is trained, and no gradient passes through graphs inside nodes; train only what comes after it, \
         or export the model without control flow"
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mean_squared_error;

    #[test]
    fn a_rule_that_fails_is_not_blamed_on_the_nodes_before_it() {
        let mut graph = lorac_ir::parse(
            "graph g(%x: f32[4,3], %t: f32[4,3]) -> %y {
                %s = weight \"s\" f32[2,3] = [1, 2, 3, 4, 5, 6]
                %z = weight \"z\" i8[2,3] = [0, 0, 0, 0, 0, 0]
                %h = Tanh(%x) : f32[4,3]
                %q = QuantizeLinear(%h, %s, %z, axis=0, block_size=2) : i8[4,3]
                %y = DequantizeLinear(%q, %s, %z, axis=0, block_size=2) : f32[4,3]
            }",
        )
        .expect("parses");
        graph.opsets.insert("".into(), 21);
        let (x, y, t) = (graph.find("x").expect("x"), graph.outputs()[0], graph.find("t").expect("t"));
        let loss = mean_squared_error(&mut graph, y, t).expect("a loss");
        let Err(PassError::NoGradient(wrong)) = differentiate(&mut graph, loss, &[x]) else { panic!("it has none") };
        assert!(wrong.len() == 1 && wrong[0].contains("(DequantizeLinear)"), "{wrong:?}");
    }

    #[test]
    fn a_loss_of_unknown_shape_is_not_blamed_for_what_stands_before_it() {
        let of = |body: &str, wrt: &str| {
            let text = format!("graph g(%x: f32[4,3]) {{ %w = weight \"w\" f32[3,3]\n{body} }}");
            let mut graph = lorac_ir::parse(&text).expect("parses");
            let (wrt, y) = (graph.find(wrt).expect("wrt"), graph.find("y").expect("y"));
            differentiate(&mut graph, y, &[wrt]).expect_err("no gradient").to_string()
        };
        let unknown =
            of("%z = acme.Sum(%x) : opaque[..]\n%m = MatMul(%z, %w) : opaque[..]\n%y = Identity(%m) : opaque[..]", "w");
        assert!(unknown.contains("not known behind `z` (acme.Sum): lorac does not know the operator"), "{unknown}");
        let active = of("%m = MatMul(%x, %w) : f32[4,3]\n%z = acme.Sum(%m) : f32[..]\n%y = Relu(%z) : f32[..]", "w");
        assert!(active.contains("no gradient through `z` (acme.Sum)"), "{active}");
        let wide = of("%m = MatMul(%x, %w) : f32[4,3]\n%y = Relu(%m) : f32[4,3]", "w");
        assert!(wide.ends_with("the loss `y` is f32[4,3]: a loss is one number; reduce it to its mean"), "{wide}");
    }
}
