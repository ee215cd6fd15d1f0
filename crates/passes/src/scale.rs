//! Constant factors before and after a `Gemm`, taken into it on the training copy: a pass over the tensor less.

use crate::{PassError, rewrite};
use lorac_ir::{Attr, Graph, Node, NodeId, Tensor, ValueId};
use lorac_ops::Val;
use std::collections::{BTreeMap, HashMap, HashSet};

/// What a Gemm is multiplied by.
#[derive(Clone, Copy)]
struct Factors {
    /// Its product.
    product: f64,
    /// Its bias.
    bias: f64,
}

/// Takes every factor that only scales one Gemm's left operand or result into its `alpha` and its constant bias. Returns
/// how many there were.
pub fn fold_scales(graph: &mut Graph) -> Result<usize, PassError> {
    rewrite(graph, "scale", |e| {
        let g = e.graph();
        let mut factors: BTreeMap<NodeId, Factors> = BTreeMap::new();
        let mut gone: HashMap<ValueId, ValueId> = HashMap::new();
        let mut reduced: HashSet<ValueId> = HashSet::new();
        for (id, node) in g.nodes() {
            let Some((x, factor)) = scaling(g, node) else { continue };
            let y = node.outputs[0];
            // Of factors in a row one is taken.
            let chained = gone.contains_key(&x) || reduced.contains(&y);
            if chained || g.fact(x) != g.fact(y) || g.outputs().contains(&y) {
                continue;
            }
            if let Some(gemm) = after(g, y) {
                factors.entry(gemm).or_insert(Factors { product: 1.0, bias: 1.0 }).product *= factor;
            } else if let Some(gemm) = before(g, x) {
                let found = factors.entry(gemm).or_insert(Factors { product: 1.0, bias: 1.0 });
                (found.product, found.bias) = (found.product * factor, found.bias * factor);
            } else {
                continue;
            }
            gone.insert(y, x);
            reduced.insert(x);
            e.edit(|p| p.remove(id));
        }
        let mut replaced: HashMap<ValueId, ValueId> = HashMap::new();
        for (id, by) in factors {
            let Some(node) = g.node(id) else { continue };
            e.set_source(&node.origin.source);
            let mut inputs: Vec<Val> =
                node.inputs.iter().map(|v| v.map_or(e.absent(), |v| e.val(*gone.get(&v).unwrap_or(&v)))).collect();
            if let Some(bias) = node.input(2).filter(|_| by.bias != 1.0) {
                let scaled = g.weight(bias).and_then(|t| scaled(t, by.bias));
                inputs[2] = scaled.map_or(inputs[2], |t| e.weight("", t));
            }
            let mut attrs: Vec<(&str, Attr)> = node.attrs.iter().map(|(k, v)| (&**k, v.clone())).collect();
            attrs.retain(|(name, _)| *name != "alpha");
            let alpha = f64::from(node.float("alpha", 1.0)) * by.product;
            attrs.push(("alpha", (alpha as f32).into()));
            let new = e.op("Gemm", &inputs, &attrs);
            replaced.insert(node.outputs[0], new.id());
            e.edit(|p| {
                p.redirect(node.outputs[0], new.id());
                p.remove(id);
            });
        }
        for (y, x) in &gone {
            e.edit(|p| p.redirect(*y, *replaced.get(x).unwrap_or(x)));
        }
        Ok(gone.len())
    })
}

/// The operand and the factor of a node that multiplies by a constant number.
fn scaling(g: &Graph, node: &Node) -> Option<(ValueId, f64)> {
    let [Some(a), Some(b)] = *node.inputs.as_slice() else { return None };
    let number = |v: ValueId| g.weight(v).filter(|t| t.len() == 1 && t.dtype().is_float())?.to_f64()?.first().copied();
    match (&*node.op.name, node.op.domain.is_empty(), number(a), number(b)) {
        ("Mul", true, None, Some(s)) => Some((a, s)),
        ("Mul", true, Some(s), None) => Some((b, s)),
        ("Div", true, None, Some(s)) if s != 0.0 => Some((a, s.recip())),
        _ => None,
    }
}

/// The Gemm whose left operand is all that becomes of a value, perhaps in another shape.
fn after(g: &Graph, y: ValueId) -> Option<NodeId> {
    let [only] = g.value(y)?.uses() else { return None };
    let node = g.node(only.node)?;
    match (&*node.op.name, only.slot, node.op.domain.is_empty()) {
        ("Gemm", 0, true) => Some(only.node),
        ("Reshape", 0, true) if !g.outputs().contains(&node.outputs[0]) => after(g, node.outputs[0]),
        _ => None,
    }
}

/// The Gemm whose result, perhaps in another shape, becomes nothing but a value; with a bias that is constant or none.
fn before(g: &Graph, x: ValueId) -> Option<NodeId> {
    let [_] = g.value(x)?.uses() else { return None };
    if g.outputs().contains(&x) {
        return None;
    }
    let (id, node) = g.producer(x)?;
    let plain_bias = || node.input(2).is_none_or(|c| g.weight(c).is_some_and(|t| scaled(t, 1.0).is_some()));
    match (&*node.op.name, node.op.domain.is_empty()) {
        ("Gemm", true) if plain_bias() => Some(id),
        ("Reshape", true) => before(g, node.input(0)?),
        _ => None,
    }
}

/// A small tensor times a number.
fn scaled(t: &Tensor, by: f64) -> Option<Tensor> {
    let data: Vec<f64> = t.to_f64().filter(|_| t.dims().len() <= 1)?.iter().map(|x| x * by).collect();
    Tensor::from_f64(t.dtype(), t.dims(), &data)
}

#[cfg(test)]
mod tests {
    use super::*;
    use lorac_ops::{Array, evaluate, infer};

    fn check(text: &str, folded: usize) {
        let mut graph = lorac_ir::parse(text).expect("parses");
        infer(&mut graph).expect("infers");
        let inputs = |name: &str, dims: &[usize]| {
            let n: usize = dims.iter().product();
            let data = (0..n).map(|i| (i as f64 * 0.7).sin() + name.len() as f64).collect();
            Array::from_shape_vec(dims.to_vec(), data).expect("fits")
        };
        let feeds = [("x", inputs("x", &[2, 3])), ("w", inputs("ww", &[3, 2]))];
        let want = evaluate(&graph, &feeds).expect("evaluates");
        assert_eq!(fold_scales(&mut graph).expect("folds"), folded, "{text}");
        let got = evaluate(&graph, &feeds).expect("evaluates");
        let error = (&got[0] - &want[0]).iter().fold(0.0f64, |m, e| m.max(e.abs()));
        assert!(error <= 1e-6, "off by {error}");
    }

    #[test]
    fn factors_on_both_sides_go_in() {
        check(
            "graph g(%x: f32[2,3], %w: f32[3,2]) -> %z {
                %half = weight \"half\" f32[] = [0.5]
                %c = weight \"c\" f32[2] = [1.0, -2.0]
                %s = Mul(%x, %half) : f32[..]
                %y = Gemm(%s, %w, %c) : f32[..]
                %t = Div(%y, %half) : f32[..]
                %z = Relu(%t) : f32[..]
            }",
            2,
        );
    }

    #[test]
    fn a_factor_that_others_need_stays() {
        check(
            "graph g(%x: f32[2,3], %w: f32[3,2]) -> %z {
                %half = weight \"half\" f32[] = [0.5]
                %y = Gemm(%x, %w) : f32[..]
                %t = Mul(%y, %half) : f32[..]
                %z = Add(%t, %y) : f32[..]
            }",
            0,
        );
    }
}
