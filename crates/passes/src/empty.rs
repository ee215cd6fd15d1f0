//! Caches without an entry, on the training copy: what is concatenated to nothing is itself.

use crate::{PassError, rewrite};
use lorac_ir::{Dim, Graph, ValueId};
use lorac_ops::Val;

/// Takes the inputs `caches` for empty: their open dimensions behind the first, where they are not the batch of another
/// input, are 0, and nothing is concatenated to them. Inputs that nothing reads any more go. Returns how many nodes and
/// inputs went.
pub fn drop_empty(graph: &mut Graph, caches: &[ValueId]) -> Result<usize, PassError> {
    if caches.is_empty() {
        return Ok(0);
    }
    for &cache in caches {
        let mut fact = graph.fact(cache);
        let batch = fact.dims().and_then(|d| d.first().copied());
        for dim in fact.shape.iter_mut().flat_map(|s| s.iter_mut()).skip(1) {
            if dim.known().is_none() && Some(*dim) != batch {
                *dim = Dim::Known(0);
            }
        }
        graph.set_fact(cache, fact);
    }
    let joined = rewrite(graph, "empty", |e| {
        let mut count = 0;
        for (id, node) in e.graph().nodes() {
            if &*node.op.name != "Concat" || !node.op.domain.is_empty() {
                continue;
            }
            let Some(&y) = node.outputs.first() else { continue };
            let full: Vec<Val> =
                node.inputs.iter().flatten().filter(|v| !caches.contains(v)).map(|v| e.val(*v)).collect();
            if full.len() == node.inputs.len() || full.is_empty() {
                continue;
            }
            e.set_source(&node.origin.source);
            let new = match full.as_slice() {
                [one] => *one,
                many => {
                    let attrs: Vec<_> = node.attrs.iter().map(|(k, v)| (&**k, v.clone())).collect();
                    e.op("Concat", many, &attrs)
                }
            };
            e.edit(|p| {
                p.redirect(y, new.id());
                p.remove(id);
            });
            count += 1;
        }
        Ok(count)
    })?;
    let unread = rewrite(graph, "empty", |e| {
        let idle = |v: &&ValueId| e.graph().value(**v).is_some_and(|x| x.uses().is_empty());
        let outputs = e.graph().outputs();
        let idle: Vec<ValueId> = caches.iter().filter(idle).filter(|v| !outputs.contains(v)).copied().collect();
        idle.iter().for_each(|v| e.edit(|p| p.drop_input(*v)));
        Ok(idle.len())
    })?;
    Ok(joined + unread)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_joined_to_what_is_there() {
        let mut graph = lorac_ir::parse(
            "graph g(%k: f32[B,2,S,4], %past: f32[B,2,P,4]) -> %y {
                %all = Concat(%past, %k, axis=2) : f32[B,2,P+S,4]
                %y = Relu(%all) : f32[..]
            }",
        )
        .expect("parses");
        let past = graph.find("past").expect("an input");
        assert_eq!(drop_empty(&mut graph, &[past]).expect("drops"), 2);
        assert_eq!((graph.inputs().len(), graph.node_count()), (1, 1));
        assert_eq!(graph.fact(graph.outputs()[0]).to_string(), "f32[B,2,S,4]");
    }

    #[test]
    fn a_cache_that_is_read_otherwise_stays_with_a_length_of_nothing() {
        let mut graph =
            lorac_ir::parse("graph g(%past: f32[B,2,P,4]) -> %y { %y = Shape(%past) : i64[4] }").expect("parses");
        let past = graph.find("past").expect("an input");
        assert_eq!(drop_empty(&mut graph, &[past]).expect("drops"), 0);
        assert_eq!(graph.fact(past).to_string(), "f32[B,2,0,4]");
    }
}
