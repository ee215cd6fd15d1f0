//! Axes where opset 12 has them, for what is appended to a model that old.

use crate::PassError;
use crate::upgrade::AXES_SINCE_13;
use lorac_ir::{Attr, Graph, Patch, Tensor};

/// Turns the axes of every `Squeeze`, `Unsqueeze` and `ReduceSum` of a graph of opset 13 from an operand into an attribute,
/// as before that. Returns how many there were.
///
/// # Errors
/// Axes that are not constant.
pub fn axes_as_attributes(graph: &mut Graph) -> Result<usize, PassError> {
    let mut patch = Patch::new(graph, "axes");
    let (mut count, mut names) = (0, Vec::new());
    for (id, node) in graph.nodes() {
        let Some(axes) = node.input(1).filter(|_| AXES_SINCE_13.contains(&&*node.op.name)) else {
            continue;
        };
        let Some(axes) = graph.weight(axes).and_then(Tensor::to_i64) else {
            return Err(PassError::Unsuitable(format!("the axes of {} are not constant", node.op)));
        };
        let mut attrs = node.attrs.clone();
        attrs.insert("axes".into(), Attr::Ints(axes));
        let facts = node.outputs.iter().map(|v| graph.fact(*v)).collect();
        let made = patch.node(node.op.clone(), "", vec![node.input(0)], attrs, facts, &node.origin.source);
        for (old, new) in node.outputs.iter().zip(made) {
            patch.redirect(*old, new);
            // Outputs keep their names themselves.
            names.extend(
                graph
                    .value(*old)
                    .filter(|v| !graph.is_output(*old) && !v.name.is_empty())
                    .map(|v| (new, v.name.clone())),
            );
        }
        patch.remove(id);
        count += 1;
    }
    patch.apply(graph).map_err(|source| PassError::Patch { pass: "axes".into(), source })?;
    for (value, name) in names {
        graph.rename(value, &name).map_err(|e| PassError::Unsuitable(e.to_string()))?;
    }
    graph.remove_unused_weights();
    Ok(count)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::upgrade;
    use std::collections::BTreeSet;

    #[test]
    fn upgraded_again_a_graph_is_what_it_was() {
        let text = "graph g opset 18 (%x: f32[2,3], %m: f32[2]) -> %y {
            %axes = weight \"axes\" i64[1] = [1]
            %u = Unsqueeze(%m, %axes) : f32[2,1]
            %p = Mul(%x, %u) : f32[2,3]
            %y = ReduceSum(%p, %axes, keepdims=0) : f32[2]
        }";
        let before = lorac_ir::parse(text).expect("parses");
        let mut graph = before.clone();
        assert_eq!(axes_as_attributes(&mut graph), Ok(2));
        let names = |graph: &Graph| {
            graph.nodes().flat_map(|(_, n)| n.outputs.clone()).map(|v| graph.name_of(v)).collect::<BTreeSet<_>>()
        };
        assert_eq!(names(&graph), names(&before));
        assert!(graph.weights().next().is_none() && graph.nodes().all(|(_, n)| n.inputs.len() < 3));
        graph.opsets.insert("".into(), 12);
        assert_eq!(upgrade(&mut graph), Ok(2));
        let run = |graph: &Graph| {
            let x = lorac_ops::Random(3).array(&[2, 3], -1.0, 1.0);
            let m = lorac_ops::Random(4).array(&[2], -1.0, 1.0);
            lorac_ops::evaluate(graph, &[("x", x), ("m", m)]).expect("runs")
        };
        lorac_ops::infer(&mut graph).expect("infers");
        assert_eq!(run(&graph), run(&before));
    }
}
