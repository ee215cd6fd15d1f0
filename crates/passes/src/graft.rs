//! What another graph computes, beside a graph: a teacher that is not trained.

use crate::PassError;
use lorac_ir::{Attr, DType, Fact, Graph, ValueId, topological_order};
use lorac_ops::{Emit, Val};
use std::collections::HashMap;

/// Writes what `inner` computes, a graph of [`crate::prepare`]. Its inputs are those of the graph of the same names, and new ones
/// where it has none of a name. Returns its outputs, each with its name.
///
/// # Errors
/// An input of another type or rank than the graph's; nodes with graphs inside.
pub fn graft<'e, 'g>(e: &'e Emit<'g>, inner: &Graph) -> Result<Vec<(String, Val<'e, 'g>)>, PassError> {
    let mut to: HashMap<ValueId, Val<'e, 'g>> = HashMap::new();
    for id in inner.inputs() {
        let (name, fact) = (inner.name_of(*id), inner.fact(*id));
        let own = e.graph().input(&name).or_else(|| e.graph().find(&name).filter(|v| e.graph().is_input(*v)));
        let value = match own {
            None => e.input(&name, fact),
            Some(own) => {
                let have = e.graph().fact(own);
                if have.rank() != fact.rank() && have.rank().is_some() && fact.rank().is_some() {
                    let why = format!("the input `{name}` is {have} in the model and {fact} in the other");
                    return Err(PassError::Unsuitable(why));
                }
                converted(e.val(own), &fact)
            }
        };
        to.insert(*id, value);
    }
    for (id, _, tensor) in inner.weights() {
        to.insert(id, e.weight("", tensor.clone()));
    }
    for id in topological_order(inner) {
        let Some(node) = inner.node(id) else { continue };
        if node.attrs.values().any(|attr| matches!(attr, Attr::Graph(_))) {
            let why = format!("the operator {} has a graph inside, which is not put beside another", node.op);
            return Err(PassError::Unsuitable(why));
        }
        let inputs: Vec<Val> =
            node.inputs.iter().map(|v| v.and_then(|v| to.get(&v).copied()).unwrap_or_else(|| e.absent())).collect();
        let attrs: Vec<(&str, Attr)> = node.attrs.iter().map(|(name, attr)| (&**name, attr.clone())).collect();
        e.set_source(&node.origin.source);
        let made = e.ops(&node.op.to_string(), &inputs, &attrs, node.outputs.len());
        to.extend(node.outputs.iter().copied().zip(made));
    }
    e.set_source(&"".into());
    let output = |id: &ValueId| Some((inner.name_of(*id), *to.get(id)?));
    Ok(inner.outputs().iter().filter_map(output).collect())
}

/// An input in the type that the other graph takes.
fn converted<'e, 'g>(value: Val<'e, 'g>, fact: &Fact) -> Val<'e, 'g> {
    if fact.dtype == DType::Opaque { value } else { value.cast(fact.dtype) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rewrite;
    use lorac_ops::{Array, evaluate};

    #[test]
    fn another_graph_reads_the_inputs_of_its_names() {
        let mut graph = lorac_ir::parse("graph g(%x: f32[N,2]) -> %y { %y = Tanh(%x) : f32[N,2] }").expect("parses");
        let other = "graph t(%x: f32[B,2], %more: f32[B,2]) -> %z {
            %w = weight \"w\" f32[2] = [2, 3]
            %s = Mul(%x, %w) : f32[B,2]
            %z = Add(%s, %more) : f32[B,2]
        }";
        let other = lorac_ir::parse(other).expect("parses");
        rewrite(&mut graph, "test", |e| {
            let all = graft(e, &other)?;
            let mut outputs = e.graph().outputs().to_vec();
            outputs.extend(all.iter().map(|(_, v)| v.id()));
            e.edit(|p| p.set_outputs(outputs));
            Ok(())
        })
        .expect("grafts");
        let names: Vec<String> = graph.inputs().iter().map(|v| graph.name_of(*v)).collect();
        assert_eq!(names, ["x", "more"]);
        let array = |v: [f64; 2]| Array::from_shape_vec(vec![1, 2], v.to_vec()).expect("fits");
        let found = evaluate(&graph, &[("x", array([1.0, 2.0])), ("more", array([0.5, 0.25]))]).expect("runs");
        assert_eq!(found[1], array([2.5, 6.25]));
    }
}
