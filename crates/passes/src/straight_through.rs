//! Gradients straight through a pair of QuantizeLinear and DequantizeLinear.
//!
//! The pair is a staircase, flat almost everywhere; training takes it for the line that it follows. The forward graph
//! stays as it is, integers and all: only the backward pass knows.

use lorac_ir::{Graph, Node, ValueId};
use lorac_ops::{Emit, Grad, InferError, Val, find};
use std::collections::HashSet;

/// The quantizer whose result `node` turns back into reals.
pub(crate) fn quantizer<'g>(graph: &'g Graph, node: &Node) -> Option<&'g Node> {
    let is = |node: &Node, name: &str| &*node.op.name == name && matches!(&*node.op.domain, "" | "com.microsoft");
    if !is(node, "DequantizeLinear") {
        return None;
    }
    graph.producer(node.input(0)?).map(|(_, source)| source).filter(|source| is(source, "QuantizeLinear"))
}

/// Whether integers that `node` computes from something that moves move with it: those of an operator that should have
/// a gradient and has none, and what is computed from them. Nobody takes them for constants silently.
pub(crate) fn integers_active(graph: &Graph, node: &Node, active: &HashSet<ValueId>) -> bool {
    matches!(find(&node.op).map(|op| &op.grad), Some(Grad::Unsupported(_)))
        || node.inputs.iter().flatten().any(|v| active.contains(v) && graph.fact(*v).dtype.is_int())
}

/// The gradients that pass a DequantizeLinear and its quantizer: of what is quantized, and of the quantizer's scale.
/// With y = s2 (q - z) and q = clamp(round(x / s1) + z), the line is x / s1 inside the range and constant outside.
pub(crate) fn straight_through_grads<'e, 'g>(
    e: &'e Emit<'g>,
    node: &Node,
    gy: Option<Val<'e, 'g>>,
) -> Vec<(Option<ValueId>, Option<Val<'e, 'g>>)> {
    let Some((source, gy)) = quantizer(e.graph(), node).zip(gy) else { return Vec::new() };
    let operand = |node: &Node, slot: usize| node.input(slot).map(|v| e.val(v));
    let operands = (operand(source, 0), operand(source, 1), operand(node, 1), operand(node, 0));
    let (Some(x), Some(s1), Some(s2), Some(q)) = operands else { return Vec::new() };
    e.set_source(&source.origin.source);
    let quantized = q.fact().dtype;
    let Some((lo, hi)) = quantized.range().filter(|_| quantized.size() <= 2) else {
        let want = "8-bit or 16-bit integers, to pass gradients straight through".into();
        return vec![(None, Some(e.fail(InferError::Operand { slot: 2, got: q.fact(), want })))];
    };
    let dtype = gy.fact().dtype;
    let along = |node: &Node, v: Val<'e, 'g>| spread(e, node, x, v.cast(dtype));
    let scale = along(source, s1);
    let mut steps = (x.cast(dtype) / scale).unary("Round");
    if let Some(zero) = operand(source, 2) {
        steps = steps + along(source, zero);
    }
    let inside = steps.binary("GreaterOrEqual", steps.like(lo as f64));
    let inside = inside.binary("And", steps.binary("LessOrEqual", steps.like(hi as f64)));
    let weight = |v: Val<'e, 'g>| e.graph().weight(v.id());
    let same = s1.id() == s2.id() || weight(s1).is_some() && weight(s1) == weight(s2);
    let mut g = gy * inside.cast(dtype);
    if !same {
        g = g * along(node, s2) / scale;
    }
    let by_scale = -(g * x.cast(dtype) / scale);
    vec![(Some(x.id()), Some(g.cast(x.fact().dtype))), (Some(s1.id()), Some(sum_like(source, by_scale, x, s1)))]
}

/// The axis of `x` along which a vector of scales lies.
fn axis(node: &Node, x: Val<'_, '_>) -> usize {
    let axis = node.int("axis", 1);
    (if axis < 0 { axis + x.rank() as i64 } else { axis }).max(0) as usize
}

/// A scale or zero point in a shape that broadcasts with `x`.
fn spread<'e, 'g>(e: &'e Emit<'g>, node: &Node, x: Val<'e, 'g>, v: Val<'e, 'g>) -> Val<'e, 'g> {
    let fact = v.fact();
    match fact.dims() {
        Some([]) => v,
        Some([n]) => {
            let behind: Vec<i64> = (1..x.rank().saturating_sub(axis(node, x)) as i64).collect();
            if n.known() == Some(1) || behind.is_empty() { v } else { v.binary("Unsqueeze", e.ints(&behind)) }
        }
        _ => {
            let want =
                "one scale for the tensor or for each slice of an axis: blocks have no straight-through gradient";
            e.fail(InferError::Operand { slot: 1, got: fact, want: want.into() })
        }
    }
}

/// `g` summed to the shape of a scale.
fn sum_like<'e, 'g>(node: &Node, g: Val<'e, 'g>, x: Val<'e, 'g>, scale: Val<'e, 'g>) -> Val<'e, 'g> {
    let rank = x.rank();
    let kept = match scale.fact().dims() {
        Some([n]) if n.known() != Some(1) => Some(axis(node, x)),
        _ => None,
    };
    let others: Vec<i64> = (0..rank).filter(|i| Some(*i) != kept).map(|i| i as i64).collect();
    g.sum(&others, false).cast(scale.fact().dtype).reshape_like(scale)
}

#[cfg(test)]
mod tests {
    use crate::{PassError, differentiate, mean_squared_error};
    use lorac_ir::{Attrs, DType, Dim, Fact, Graph, Origin, Tensor, ValueId};
    use lorac_ops::{Array, evaluate, infer};

    /// y = DequantizeLinear(QuantizeLinear(x)) of a `[N, 3]`, with a scale for each column.
    struct Pair {
        graph: Graph,
        x: ValueId,
        scale: ValueId,
        y: ValueId,
    }

    fn node(graph: &mut Graph, op: &str, inputs: &[ValueId], name: &str) -> ValueId {
        let origin = Origin { pass: "".into(), source: name.into() };
        let inputs = inputs.iter().map(|v| Some(*v)).collect();
        let outputs = vec![(name, Fact::unranked(DType::Opaque))];
        graph.add_node(op.into(), inputs, Attrs::new(), outputs, origin).expect("fits")[0]
    }

    const SCALES: [f32; 3] = [0.5, 0.25, 2.0];
    const ZERO: [f64; 3] = [1.0, -2.0, 0.0];

    fn pair() -> Pair {
        let mut graph = Graph::new("pair", 20);
        let x = graph.add_input("x", Fact::new(DType::F32, [Dim::named("N"), Dim::Known(3)])).expect("new");
        let scale = graph.add_weight("scale", Tensor::vector(&SCALES)).expect("new");
        let zero = graph.add_weight("zero", Tensor::vector(&[1i8, -2, 0])).expect("new");
        // Exporters write the parameters twice.
        let again = graph.add_weight("again", Tensor::vector(&SCALES)).expect("new");
        let q = node(&mut graph, "QuantizeLinear", &[x, scale, zero], "q");
        let y = node(&mut graph, "DequantizeLinear", &[q, again, zero], "y");
        graph.set_outputs(vec![y]).expect("there");
        infer(&mut graph).expect("infers");
        Pair { graph, x, scale, y }
    }

    #[test]
    fn gradients_pass_inside_the_range_only() {
        let Pair { mut graph, x, scale, y } = pair();
        let target = graph.add_input("t", graph.fact(y)).expect("new");
        let loss = mean_squared_error(&mut graph, y, target).expect("a loss");
        let grads = differentiate(&mut graph, loss, &[x, scale]).expect("differentiates");
        graph.set_outputs(vec![y, grads[0], grads[1]]).expect("there");
        // The first column of the first row lies above the range, the second column of the second below it.
        let values = [100.0, 1.1, -3.0, 0.7, -90.0, 5.0];
        let data = Array::from_shape_vec(vec![2, 3], values.to_vec()).expect("fits");
        let zeros = Array::zeros(vec![2, 3]);
        let got = evaluate(&graph, &[("x", data.clone()), ("t", zeros)]).expect("evaluates");
        let mut by_scale = [0.0; 3];
        for (i, x) in values.iter().enumerate() {
            let column = i % 3;
            let scale = f64::from(SCALES[column]);
            let steps = ((x / scale).round_ties_even() + ZERO[column]).clamp(-128.0, 127.0) - ZERO[column];
            let inside = ((x / scale).round_ties_even() + ZERO[column]).abs() <= 127.0;
            let y = steps * scale;
            assert_eq!(got[0].as_slice().expect("flat")[i], y);
            let gy = 2.0 * y / 6.0;
            let want = if inside { gy } else { 0.0 };
            assert!((got[1].as_slice().expect("flat")[i] - want).abs() < 1e-12, "{i}: {:?}", got[1]);
            by_scale[column] -= want * x / scale;
        }
        for (got, want) in got[2].iter().zip(by_scale) {
            assert!((got - want).abs() < 1e-9, "{got} is not {want}");
        }
    }

    #[test]
    fn integers_that_are_read_as_such_stop_with_a_reason() {
        let Pair { mut graph, x, .. } = pair();
        let q = graph.find("q").expect("q");
        let ones = Tensor::from_slice(&[3, 2], &[1i8; 6]).expect("fits");
        let w = graph.add_weight("w", ones).expect("new");
        let product = node(&mut graph, "MatMulInteger", &[q, w], "product");
        let cast = {
            let origin = Origin { pass: "".into(), source: "cast".into() };
            let attrs = Attrs::from([("to".into(), 1i64.into())]);
            let outputs = vec![("cast", Fact::unranked(DType::Opaque))];
            graph.add_node("Cast".into(), vec![Some(product)], attrs, outputs, origin).expect("fits")[0]
        };
        graph.set_outputs(vec![cast]).expect("there");
        infer(&mut graph).expect("infers");
        let target = graph.add_input("t", graph.fact(cast)).expect("new");
        let loss = mean_squared_error(&mut graph, cast, target).expect("a loss");
        let Err(PassError::NoGradient(wrong)) = differentiate(&mut graph, loss, &[x]) else { panic!("it has none") };
        assert!(wrong.iter().any(|w| w.starts_with("`q` (QuantizeLinear)")), "{wrong:?}");
        assert!(wrong.iter().any(|w| w.starts_with("`product` (MatMulInteger)")), "{wrong:?}");
    }
}
