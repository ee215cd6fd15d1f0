//! What operators write, by operator.

use lorac_ir::Graph;
use lorac_ops::{Emit, Grad, InferError, Val, apply_rule, find, infer};

/// The graph with its first node lowered, the results as outputs.
pub(crate) fn lowered(graph: &Graph) -> Result<Graph, InferError> {
    let mut graph = graph.clone();
    let shape_data = infer(&mut graph)?;
    let (_, node) = graph.nodes().next().expect("a node");
    let Some(Grad::Lower { lower, .. }) = find(&node.op).map(|op| &op.grad) else { panic!("no lowering") };
    let emit = Emit::new(&graph, &shape_data, "lower");
    let x: Vec<Val> = node.inputs.iter().map(|v| v.map_or(emit.absent(), |v| emit.val(v))).collect();
    let ids = lower(&emit, node, &x).iter().take(node.outputs.len()).map(|v| v.id()).collect();
    let mut patch = emit.finish()?;
    patch.set_outputs(ids);
    patch.apply(&mut graph).expect("fits");
    Ok(graph)
}

/// The graph with a gradient of its first node for every operand, which are the outputs; `gy0`, .. are inputs.
pub(crate) fn differentiated(graph: &Graph) -> Result<Graph, InferError> {
    let mut graph = graph.clone();
    let shape_data = infer(&mut graph)?;
    let (_, node) = graph.nodes().next().expect("a node");
    let Some(Grad::Rule { outputs, .. }) = find(&node.op).map(|op| &op.grad) else { panic!("no rule") };
    let emit = Emit::new(&graph, &shape_data, "rule");
    let gy = |(i, y)| {
        let fact = graph.fact(y);
        (i < *outputs && fact.dtype.is_float()).then(|| emit.input(&format!("gy{i}"), fact))
    };
    let gys = node.outputs.iter().copied().enumerate().map(gy).collect();
    let wants = node.inputs.iter().map(|v| v.is_some_and(|v| graph.fact(v).dtype.is_float())).collect();
    let grads = apply_rule(&emit, node, gys, wants).expect("a rule");
    let ids = grads.into_iter().flatten().map(|v| v.id()).collect();
    let mut patch = emit.finish()?;
    patch.set_outputs(ids);
    patch.apply(&mut graph).expect("fits");
    Ok(graph)
}
