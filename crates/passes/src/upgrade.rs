//! The standard operators as opset 18 has them, on the training copy: rules and lowerings speak no older dialect.
//!
//! Between opset 11 and 18 attributes became operands (axes, splits, ratios) and defaults changed (Softmax, RoiAlign).
//! Everything not named here means the same in both.

use crate::PassError;
use crate::rewrite::{display_name, replace_value, rewrite};
use lorac_ir::{Attr, Attrs, Graph, Node, NodeId, Patch, Tensor, ValueId};

/// The opset that rules and lowerings may assume at least.
pub const OPSET: i64 = 18;

/// Operators whose axes are an operand since opset 13; those of all other reductions are since 18.
pub(crate) const AXES_SINCE_13: [&str; 3] = ["Squeeze", "Unsqueeze", "ReduceSum"];

/// Raises the standard operator set of a graph, and of the graphs inside its nodes, to [`OPSET`]. A graph that is there
/// or beyond stays as it is. Returns how many nodes were written anew.
///
/// # Errors
/// What cannot be said in opset 18; the graph is then as it was.
pub fn upgrade(graph: &mut Graph) -> Result<usize, PassError> {
    let from = graph.opset();
    if from >= OPSET {
        return Ok(0);
    }
    let mut next = graph.clone();
    let mut count = 0;
    next.edit_bodies(|inner| {
        inner.opsets.insert("".into(), from);
        count += upgrade(inner)?;
        Ok::<(), PassError>(())
    })?;
    count += operands(&mut next, from)?;
    next.opsets.insert("".into(), OPSET);
    if from < 13 {
        count += softmax(&mut next)?;
    }
    *graph = next;
    Ok(count)
}

/// What a node becomes.
struct New {
    inputs: Vec<Option<ValueId>>,
    attrs: Attrs,
    /// Results that are kept; the rest have no successor.
    outputs: usize,
}

/// Attributes that became operands, and attributes that appeared. Needs no inference: old forms defeat it.
fn operands(graph: &mut Graph, from: i64) -> Result<usize, PassError> {
    let mut patch = Patch::new(graph, "upgrade");
    let mut count = 0;
    for (id, node) in graph.nodes().filter(|(_, n)| n.op.domain.is_empty()) {
        let Some(new) = renew(graph, node, from, &mut patch) else { continue };
        replace(graph, id, node, new, &mut patch)?;
        count += 1;
    }
    patch.apply(graph).map_err(|source| PassError::Patch { pass: "upgrade".into(), source })?;
    Ok(count)
}

fn renew(graph: &Graph, node: &Node, from: i64, patch: &mut Patch) -> Option<New> {
    let mut new = New { inputs: node.inputs.clone(), attrs: node.attrs.clone(), outputs: node.outputs.len() };
    match &*node.op.name {
        name if AXES_SINCE_13.contains(&name) || name.starts_with("Reduce") => operand(&mut new, "axes", patch)?,
        "Split" if node.attrs.contains_key("split") => operand(&mut new, "split", patch)?,
        "Split" if node.input(1).is_none() && !node.attrs.contains_key("num_outputs") => {
            new.attrs.insert("num_outputs".into(), Attr::Int(node.outputs.len() as i64));
        }
        "Dropout" if from < 12 => {
            let ratio = node.float("ratio", 0.5);
            new.attrs.remove("ratio");
            new.inputs = vec![node.input(0), Some(patch.weight("", Tensor::scalar(ratio)))];
        }
        "RoiAlign" if from < 16 && node.str("coordinate_transformation_mode").is_none() => {
            new.attrs.insert("coordinate_transformation_mode".into(), "output_half_pixel".into());
        }
        // More results than one asked for training.
        "BatchNormalization" if from < 14 && node.outputs.len() > 1 => {
            new.attrs.insert("training_mode".into(), Attr::Int(1));
            new.outputs = node.outputs.len().min(3);
        }
        // Absent operands were empty tensors.
        "Resize" if from < 13 => {
            let empty = |v: Option<ValueId>| v.filter(|v| graph.weight(*v).is_some_and(Tensor::is_empty)).is_some();
            if !new.inputs.iter().any(|v| empty(*v)) {
                return None;
            }
            new.inputs.iter_mut().filter(|v| empty(**v)).for_each(|v| *v = None);
        }
        _ => return None,
    }
    Some(new)
}

/// Moves a list of integers from the attributes to the second operand; `None` where there is no such attribute.
fn operand(new: &mut New, name: &str, patch: &mut Patch) -> Option<()> {
    let Some(Attr::Ints(list)) = new.attrs.remove(name) else { return None };
    new.inputs.truncate(1);
    // No axes at all meant the default; as an operand that is an absent one.
    if !list.is_empty() {
        new.inputs.push(Some(patch.weight("", Tensor::vector(&list))));
    }
    Some(())
}

fn replace(graph: &Graph, id: NodeId, node: &Node, new: New, patch: &mut Patch) -> Result<(), PassError> {
    let source = display_name(graph, node).into();
    for dropped in node.outputs.iter().skip(new.outputs) {
        if graph.value(*dropped).is_some_and(|v| !v.uses().is_empty()) || graph.is_output(*dropped) {
            let name = graph.name_of(*dropped);
            let why = format!("node `{source}` ({}): its result `{name}` does not exist since opset 14", node.op);
            return Err(PassError::Unsuitable(why));
        }
    }
    let facts = node.outputs.iter().take(new.outputs).map(|v| graph.fact(*v)).collect();
    let made = patch.node(node.op.clone(), "", new.inputs, new.attrs, facts, &source);
    node.outputs.iter().zip(made).for_each(|(old, new)| patch.redirect(*old, new));
    patch.remove(id);
    Ok(())
}

/// Softmax and its kin were taken over all axes from one on, as of a matrix.
fn softmax(graph: &mut Graph) -> Result<usize, PassError> {
    rewrite(graph, "upgrade", |e| {
        let mut count = 0;
        for (id, node) in e.graph().nodes() {
            let old = ["Softmax", "LogSoftmax", "Hardmax"].contains(&&*node.op.name) && node.op.domain.is_empty();
            let (Some(x), Some(&y)) = (node.input(0).filter(|_| old), node.outputs.first()) else { continue };
            let axis = node.int("axis", 1);
            let x = e.val(x);
            e.set_source(&node.origin.source);
            let attrs = [("axis", Attr::Int(-1))];
            let new = match x.fact().rank() {
                Some(rank) if axis == -1 || axis == rank as i64 - 1 => e.op(&node.op.name, &[x], &attrs),
                _ => {
                    let flat = e.op("Flatten", &[x], &[("axis", axis.into())]);
                    e.op(&node.op.name, &[flat], &attrs).binary("Reshape", x.unary("Shape"))
                }
            };
            replace_value(e, y, new);
            e.edit(|p| p.remove(id));
            count += 1;
        }
        Ok(count)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use lorac_ir::{Body, DType, Fact, parse, verify};
    use lorac_ops::{Random, evaluate, infer};

    /// Upgraded, a graph computes what it computed, and has the shapes that it had.
    #[track_caller]
    fn same(text: &str, count: usize) -> Graph {
        let old = parse(text).expect("parses");
        let mut new = old.clone();
        assert_eq!(upgrade(&mut new), Ok(count));
        assert_eq!((verify(&new), new.opset()), (vec![], OPSET));
        infer(&mut new).expect("infers");
        let x = Random(7).array(&[2, 3, 4], -2.0, 2.0);
        let y = evaluate(&new, &[("x", x.clone())]).expect("runs");
        let want = evaluate(&old, &[("x", x)]).expect("runs");
        assert_eq!(y, want);
        for (v, w) in new.outputs().iter().zip(old.outputs()) {
            assert_eq!((new.fact(*v), new.name_of(*v)), (old.fact(*w), old.name_of(*w)));
        }
        new
    }

    #[test]
    fn axes_and_splits_become_operands() {
        let g = same(
            "graph g opset 12 (%x: f32[2,3,4]) -> %y {
              %u = ReduceMean(%x, axes=[-1], keepdims=1) : f32[2,3,1]
              %q = Squeeze(%u, axes=[2]) : f32[2,3]
              %y = ReduceSum(%q, keepdims=0) : f32[]
            }",
            2,
        );
        assert!(g.nodes().all(|(_, n)| n.ints("axes").is_none()));
        let text = "graph g opset 12 (%x: f32[2,4]) -> %y, %z { %y, %z = Split(%x, axis=1, split=[1,3]) : f32[2,1], f32[2,3] }";
        let mut g = parse(text).expect("parses");
        assert_eq!(upgrade(&mut g), Ok(1));
        let (_, node) = g.nodes().next().expect("Split");
        let parts = node.input(1).and_then(|v| g.weight(v)).and_then(Tensor::to_i64);
        assert_eq!((parts, node.attrs.len()), (Some(vec![1, 3]), 1));
    }

    #[test]
    fn an_even_split_says_into_how_many() {
        let g = same(
            "graph g opset 13 (%x: f32[2,3,4]) -> %a, %b { %a, %b = Split(%x, axis=2) : f32[2,3,2], f32[2,3,2] }",
            1,
        );
        assert_eq!(g.nodes().next().map(|(_, n)| n.int("num_outputs", 0)), Some(2));
    }

    #[test]
    fn softmax_is_taken_of_a_matrix() {
        let text = |axis: i64| {
            format!("graph g opset 12 (%x: f32[2,3,4]) -> %y {{ %y = Softmax(%x, axis={axis}) : f32[2,3,4] }}")
        };
        // Over the last axis nothing changes.
        for axis in [2, -1] {
            assert_eq!(same(&text(axis), 1).node_count(), 1);
        }
        let mut g = parse(&text(1)).expect("parses");
        assert_eq!(upgrade(&mut g), Ok(1));
        let x = Random(3).array(&[2, 3, 4], -2.0, 2.0);
        let y = &evaluate(&g, &[("x", x)]).expect("runs")[0];
        for row in y.outer_iter() {
            assert!((row.sum() - 1.0).abs() < 1e-12, "{row}");
        }
    }

    #[test]
    fn graphs_inside_nodes_are_upgraded_too() {
        let text = "graph then opset 12 (%c: f32[2,1]) -> %y { %y = Squeeze(%c, axes=[1]) : f32[2] }";
        let inner = parse(text).expect("parses");
        let mut g = parse("graph g opset 12 (%x: f32[2,1], %b: bool[]) { }").expect("parses");
        let (x, b) = (g.find("x").expect("x"), g.find("b").expect("b"));
        let attrs = Attrs::from([("then_branch".into(), Attr::Graph(Body { graph: inner.into(), captures: vec![x] }))]);
        let origin = lorac_ir::Origin { pass: "".into(), source: "if".into() };
        let fact = Fact::new(DType::F32, [2i64]);
        g.add_node("If".into(), vec![Some(b)], attrs, vec![("o", fact)], origin).expect("added");
        assert_eq!(upgrade(&mut g), Ok(1));
        let (_, node) = g.nodes().next().expect("If");
        let body = node.bodies().next().expect("a body");
        assert_eq!(body.graph.opset(), OPSET);
        assert_eq!(body.graph.nodes().map(|(_, n)| n.inputs.len()).collect::<Vec<_>>(), [2]);
    }

    #[test]
    fn a_result_that_is_no_more_is_named() {
        let text = "graph g opset 11 (%x: f32[2,3], %s: f32[3]) -> %y, %d { %y, %a, %b, %c, %d = BatchNormalization(%x, %s, %s, %s, %s) : f32[2,3], f32[3], f32[3], f32[3], f32[3] }";
        let mut g = parse(text).expect("parses");
        let error = upgrade(&mut g).expect_err("has no successor").to_string();
        assert!(error.contains("`d`") && error.contains("`y` (BatchNormalization)"), "{error}");
        assert_eq!(g.opset(), 11);
    }
}
