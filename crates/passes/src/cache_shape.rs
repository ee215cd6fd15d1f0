//! Lengths of caches that a file leaves open and the graph does not: exporters give the width of a head a name, as they do
//! the number of cached tokens.

use crate::PassError;
use lorac_ir::{Dim, Graph, ValueId};
use lorac_ops::infer;

/// Fills in the lengths of inputs that a node makes longer along one axis, all others being what they were: where the
/// result's length is a number, so is the input's. The graph is inferred before and after. Returns how many inputs
/// changed.
///
/// # Errors
/// Shapes that contradict each other.
pub(crate) fn settle_cache_shapes(graph: &mut Graph) -> Result<usize, PassError> {
    let settled: Vec<(ValueId, Vec<Dim>)> =
        graph.inputs().iter().filter_map(|input| Some((*input, settled(graph, *input)?))).collect();
    for (input, dims) in &settled {
        let mut fact = graph.fact(*input);
        fact.shape = Some(dims.clone());
        graph.set_fact(*input, fact);
    }
    if !settled.is_empty() {
        infer(graph)?;
    }
    Ok(settled.len())
}

/// The dimensions of an input as the nodes that make it longer have them, where that is more than it says itself.
fn settled(graph: &Graph, input: ValueId) -> Option<Vec<Dim>> {
    let own = graph.fact(input).shape.filter(|dims| dims.iter().filter(|d| d.known().is_none()).count() > 1)?;
    let mut dims = own.clone();
    for reader in graph.value(input)?.uses().iter().filter_map(|u| graph.node(u.node)) {
        for result in &reader.outputs {
            let fact = graph.fact(*result);
            let Some(longer) = fact.dims().filter(|longer| is_longer(&own, longer)) else { continue };
            for (dim, new) in dims.iter_mut().zip(longer) {
                if dim.known().is_none() && new.known().is_some() {
                    *dim = *new;
                }
            }
        }
    }
    (dims != own).then_some(dims)
}

/// Whether `longer` is `own` with something added along one axis, wherever both are known.
fn is_longer(own: &[Dim], longer: &[Dim]) -> bool {
    let grows = |a: Dim, b: Dim| a.name().is_some() && b.known().is_none() && (b - a).name().is_some();
    let pairs = || own.iter().zip(longer).filter(|(a, b)| !a.same(**b));
    own.len() == longer.len()
        && pairs().filter(|(a, b)| grows(**a, **b)).count() == 1
        && pairs().all(|(a, b)| grows(*a, *b) || a.known().is_none() && b.known().is_some())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(past: &str, body: &str) -> String {
        let text = format!("graph g(%k: f32[B,2,S,16], %past: f32[{past}], %q: f32[B,S,128]) {{ {body} }}");
        let mut graph = lorac_ir::parse(&text).expect("parses");
        graph.opsets.insert("com.microsoft".into(), 1);
        infer(&mut graph).expect("infers");
        settle_cache_shapes(&mut graph).expect("settles");
        graph.fact(graph.find("past").expect("an input")).to_string()
    }

    #[test]
    fn the_width_of_a_head_is_read_off_what_makes_the_cache_longer() {
        let joined = "%y = Concat(%past, %k, axis=2) : f32[..]";
        assert_eq!(of("B,2,P,D", joined), "f32[B,2,P,16]");
        assert_eq!(of("B,H,P,D", joined), "f32[B,2,P,16]");
        let fused = "%y, %pk, %pv = com.microsoft.GroupQueryAttention(%q, _, _, %past, %past, num_heads=4, kv_num_heads=2) \
                     : f32[..], f32[..], f32[..]";
        assert_eq!(of("B,2,P,D", fused), "f32[B,2,P,16]");
    }

    #[test]
    fn what_only_looks_like_it_is_left_open() {
        assert_eq!(of("B,2,P,D", "%y = Transpose(%past, perm=[0,1,3,2]) : f32[..]"), "f32[B,2,P,D]");
        assert_eq!(of("B,2,P,D", "%y = Relu(%past) : f32[..]"), "f32[B,2,P,D]");
    }
}
