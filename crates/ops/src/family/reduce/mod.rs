//! Reductions: ArgMax ArgMin CumSum ReduceL1 ReduceL2 ReduceLogSum ReduceLogSumExp ReduceMax ReduceMean ReduceMin
//! ReduceProd ReduceSum ReduceSumSquare.

use super::*;
use crate::{Backward, Val};
use integer::wrapped;

mod extreme;
mod norm;
mod position;
mod sum;

pub(super) const OPS: &[Op] = &[
    extreme::REDUCE_MAX,
    extreme::REDUCE_MIN,
    norm::REDUCE_L1,
    norm::REDUCE_L2,
    norm::REDUCE_LOG_SUM,
    norm::REDUCE_LOG_SUM_EXP,
    norm::REDUCE_SUM_SQUARE,
    position::ARG_MAX,
    position::ARG_MIN,
    position::CUM_SUM,
    sum::REDUCE_MEAN,
    sum::REDUCE_PROD,
    sum::REDUCE_SUM,
];

const REDUCE: Op = Op {
    inputs: (1, 2),
    infer: |c| {
        let fact = c.fact(0);
        let keep = c.node.int("keepdims", 1) != 0;
        let Some(dims) = fact.dims() else { return one(unranked(c, fact, keep)) };
        match axes(c, dims.len())? {
            Some(axes) => one(Fact::new(fact.dtype, without(dims, &axes, keep))),
            None if keep => one(Fact::new(fact.dtype, dims.iter().map(|_| Dim::Unknown))),
            // Of axes that only the run knows, their number is enough for a rank.
            None => {
                let gone = c.dims(1).and_then(|d| d.first()?.known()).filter(|n| *n > 0);
                let left = gone.and_then(|n| dims.len().checked_sub(usize::try_from(n).ok()?));
                one(Fact { dtype: fact.dtype, shape: left.map(|n| vec![Dim::Unknown; n]) })
            }
        }
    },
    flops: |c, _| c.fact(0).volume(),
    ..UNARY
};

/// What becomes of an operand whose rank only the run knows.
fn unranked(c: &Ctx, fact: Fact, keep: bool) -> Fact {
    let given = c.node.attrs.contains_key("axes") || c.input(1).is_some();
    let noop = c.node.int("noop_with_empty_axes", 0) != 0;
    if given || noop || keep { fact } else { Fact::scalar(fact.dtype) }
}

/// Reduced axes; none given means all, unless the node says otherwise.
fn axes(c: &Ctx, rank: usize) -> Result<Option<Vec<usize>>, InferError> {
    let noop = c.node.int("noop_with_empty_axes", 0) != 0;
    Ok(c.axes(1, rank)?.map(|a| if a.is_empty() && !noop { (0..rank).collect() } else { a }))
}

fn without(dims: &[Dim], axes: &[usize], keep: bool) -> Vec<Dim> {
    let numbered = dims.iter().enumerate();
    let kept = numbered.filter_map(|(i, d)| match axes.contains(&i) {
        true => keep.then_some(Dim::Known(1)),
        false => Some(*d),
    });
    kept.collect()
}

/// `f` of the elements that become one; integers are truncated and wrapped around. Over no axes, every element by itself.
fn reduce(a: &Args, f: impl Fn(&[f64]) -> f64) -> EvalResult {
    let dtype = a.dtype(0);
    let f = |row: &[f64]| if dtype.is_int() { wrapped(dtype, f(row) as i128) } else { f(row) };
    let y = a.x(0)?.clone();
    let mut axes = a.axes(1, y.ndim())?;
    if axes.is_empty() && a.node.int("noop_with_empty_axes", 0) == 0 {
        axes = (0..y.ndim()).collect();
    }
    // All reduced axes go last and become one.
    let kept: Vec<usize> = (0..y.ndim()).filter(|i| !axes.contains(i)).collect();
    let order: Vec<usize> = kept.iter().chain(&axes).copied().collect();
    let keep = a.node.int("keepdims", 1) != 0;
    let shape: Vec<usize> = match keep {
        true => (0..y.ndim()).map(|i| if axes.contains(&i) { 1 } else { y.shape()[i] }).collect(),
        false => kept.iter().map(|i| y.shape()[*i]).collect(),
    };
    let width: usize = axes.iter().map(|i| y.shape()[*i]).product();
    let flat: Vec<f64> = y.permuted_axes(order).iter().copied().collect();
    let rows = if width == 0 { vec![f(&[]); shape.iter().product()] } else { flat.chunks(width).map(&f).collect() };
    Ok(vec![Array::from_shape_vec(shape, rows)?])
}

/// The reduced axes as an operand; absent for all of them.
fn axes_operand<'e, 'g>(b: &Backward<'e, 'g>) -> Val<'e, 'g> {
    match b.node.ints("axes") {
        Some(axes) => b.emit.ints(axes),
        None => b.x.get(1).copied().unwrap_or(b.emit.absent()),
    }
}

/// A reduced value with its axes of length one again, so that it broadcasts against the operand.
fn spread<'e, 'g>(b: &Backward<'e, 'g>, g: Val<'e, 'g>) -> Val<'e, 'g> {
    let rank = b.x[0].fact().rank();
    if b.node.int("keepdims", 1) != 0 || rank.is_some() && g.fact().rank() == rank {
        return g;
    }
    let axes = axes_operand(b).present().filter(|axes| axes.known_ints().is_none_or(|a| !a.is_empty()));
    match (axes, rank) {
        (Some(axes), _) => g.binary("Unsqueeze", axes),
        (None, Some(rank)) => g.reshape(&vec![1; rank]),
        // One number, or as many as there were: both broadcast.
        (None, None) => g,
    }
}

/// `v`, shaped like the operand, reduced over the same axes by `op`, with its axes kept.
fn again<'e, 'g>(b: &Backward<'e, 'g>, op: &str, v: Val<'e, 'g>) -> Val<'e, 'g> {
    let (noop, axes) = (b.node.int("noop_with_empty_axes", 0), axes_operand(b));
    // Old versions of ONNX Runtime refuse to reduce nothing.
    if noop != 0 && (axes.is_absent() || axes.known_ints().is_some_and(|a| a.is_empty())) {
        return v;
    }
    let attrs = [("keepdims", 1i64.into()), ("noop_with_empty_axes", noop.into())];
    b.emit.op(op, &[v, axes], &attrs)
}

#[cfg(test)]
mod tests {

    /// Gradients of reductions of a tensor whose rank only the run knows, against those of one of known rank.
    #[test]
    fn an_unknown_rank_changes_no_gradient() {
        let of = |op: &str, attrs: &str, axes: &str, rank: &str| {
            let text = format!(
                "graph g(%x: f64{rank}) -> %y {{
                    %axes = weight \"axes\" i64[1] = [-1]
                    %y = {op}(%x{axes}{attrs}) : f64[..]
                }}"
            );
            let mut graph = lorac_ir::parse(&text).expect("parses");
            let shape_data = crate::infer(&mut graph).expect("infers");
            let (_, node) = graph.nodes().next().expect("a node");
            let fact = graph.fact(graph.outputs()[0]);
            let emit = crate::Emit::new(&graph, &shape_data, "test");
            let gy = emit.input("gy", fact.clone());
            let grads = crate::apply_rule(&emit, node, vec![Some(gy)], vec![true]).expect("a rule");
            let gx = grads[0].expect("a gradient").id();
            let mut patch = emit.finish().unwrap_or_else(|e| panic!("{op}{attrs}{axes}: {e}"));
            patch.set_outputs(vec![gx]);
            patch.apply(&mut graph).expect("fits");
            let x = crate::Random(5).array(&[2, 3], 0.5, 2.0);
            let y = crate::evaluate(&lorac_ir::parse(&text).expect("parses"), &[("x", x.clone())]).expect("runs");
            let gy = crate::Random(7).array(y[0].shape(), -1.0, 1.0);
            (fact, crate::evaluate(&graph, &[("x", x), ("gy", gy)]).expect("evaluates").remove(0))
        };
        let all = ["ReduceSum", "ReduceMean", "ReduceProd", "ReduceMax", "ReduceMin", "ReduceL1", "ReduceL2"];
        for op in all.into_iter().chain(["ReduceLogSum", "ReduceLogSumExp", "ReduceSumSquare"]) {
            for attrs in [", keepdims=0", ", keepdims=1", ", keepdims=0, noop_with_empty_axes=1"] {
                for axes in ["", ", %axes"] {
                    let (fact, unranked) = of(op, attrs, axes, "[..]");
                    assert_eq!(unranked, of(op, attrs, axes, "[2,3]").1, "{op}{attrs}{axes}");
                    assert_eq!(fact.rank(), (attrs == ", keepdims=0" && axes.is_empty()).then_some(0), "{op}{attrs}");
                }
            }
        }
    }
}
