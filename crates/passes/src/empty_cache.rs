//! Caches without an entry, on the training copy: what is concatenated to nothing is itself.

use crate::PassError;
use crate::cache_shape::settle_cache_shapes;
use crate::rewrite::{replace_value, rewrite};
use lorac_ir::{Dim, Fact, Graph, ValueId};
use lorac_ops::{Val, infer};

/// The shape of a cache without an entry, where its rank is known: what is open is 0, but for its batch. That is what is
/// called like `batch`, else the first dimension, else the first of several open ones.
pub fn empty_cache(cache: &Fact, batch: Option<Dim>) -> Option<Vec<Dim>> {
    let dims = cache.dims()?;
    let named = batch.filter(|d| d.name().is_some() && dims.contains(d));
    let open = || dims.iter().enumerate().filter(|(_, d)| d.known().is_none()).map(|(i, _)| i);
    let first = open().next().filter(|i| named.is_none() && (*i == 0 || open().count() > 1));
    let kept = |i: usize, d: Dim| d.known().is_some() || Some(d) == named || Some(i) == first;
    Some(dims.iter().enumerate().map(|(i, d)| if kept(i, *d) { *d } else { Dim::Known(0) }).collect())
}

/// Takes the inputs `caches` for empty, as [`empty_cache`] says of a model whose tokens have the first dimension
/// `batch`: nothing is concatenated to them. Inputs that nothing reads any more go. Returns how many nodes and inputs
/// went.
pub fn specialize_empty_cache(graph: &mut Graph, caches: &[ValueId], batch: Option<Dim>) -> Result<usize, PassError> {
    if caches.is_empty() {
        return Ok(0);
    }
    infer(graph)?;
    settle_cache_shapes(graph)?;
    for &cache in caches {
        let fact = graph.fact(cache);
        if let Some(dims) = empty_cache(&fact, batch) {
            graph.set_fact(cache, Fact::new(fact.dtype, dims));
        }
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
            replace_value(e, y, new);
            e.edit(|p| p.remove(id));
            count += 1;
        }
        Ok(count)
    })?;
    let unread = rewrite(graph, "empty", |e| {
        let idle = |v: &&ValueId| e.graph().value(**v).is_some_and(|x| x.uses().is_empty());
        let idle: Vec<ValueId> = caches.iter().filter(idle).filter(|v| !e.graph().is_output(**v)).copied().collect();
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
        assert_eq!(specialize_empty_cache(&mut graph, &[past], Some(Dim::named("B"))).expect("drops"), 2);
        assert_eq!((graph.inputs().len(), graph.node_count()), (1, 1));
        assert_eq!(graph.fact(graph.outputs()[0]).to_string(), "f32[B,2,S,4]");
    }

    #[test]
    fn a_cache_that_is_read_otherwise_stays_with_a_length_of_nothing() {
        let mut graph =
            lorac_ir::parse("graph g(%past: f32[B,2,P,4]) -> %y { %y = Shape(%past) : i64[4] }").expect("parses");
        let past = graph.find("past").expect("an input");
        assert_eq!(specialize_empty_cache(&mut graph, &[past], None).expect("drops"), 0);
        assert_eq!(graph.fact(past).to_string(), "f32[B,2,0,4]");
    }

    #[test]
    fn the_batch_of_a_cache_is_called_like_that_of_the_tokens() {
        let graph = lorac_ir::parse(
            "graph g(%a: f32[2,B,12,P,64], %b: f32[P,B,64], %c: f32[N,12,P,64], %d: f32[2,N,P], %e: f32[1,12,P,64], \
             %f: f32[B,7]) { }",
        )
        .expect("parses");
        let empty = |name: &str| {
            let fact = graph.fact(graph.find(name).expect(name));
            Fact::new(fact.dtype, empty_cache(&fact, Some(Dim::named("B"))).expect("a rank")).to_string()
        };
        let want = ["2,B,12,0,64", "0,B,64", "N,12,0,64", "2,N,0", "1,12,0,64", "B,7"];
        assert_eq!(["a", "b", "c", "d", "e", "f"].map(empty), want.map(|dims| format!("f32[{dims}]")));
    }

    #[test]
    fn keys_and_values_in_one_cache_keep_their_batch() {
        let mut graph = lorac_ir::parse(
            "graph g(%k: f32[2,B,2,S,4], %past: f32[2,B,2,P,4]) -> %y {
                %all = Concat(%past, %k, axis=3) : f32[2,B,2,P+S,4]
                %n = Shape(%past) : i64[5]
                %y = Relu(%all) : f32[..]
            }",
        )
        .expect("parses");
        let (past, n) = (graph.find("past").expect("an input"), graph.find("n").expect("n"));
        graph.set_outputs(vec![graph.outputs()[0], n]).expect("there");
        assert_eq!(specialize_empty_cache(&mut graph, &[past], Some(Dim::named("B"))).expect("drops"), 1);
        assert_eq!(graph.fact(past).to_string(), "f32[2,B,2,0,4]");
        assert_eq!(graph.fact(graph.outputs()[0]).to_string(), "f32[2,B,2,S,4]");
    }
}
