//! Along an axis: Hardmax LogSoftmax Softmax.

use super::*;
use crate::Attribute::Int;
use crate::Operand::{Any, Floats};
use crate::{Backward, Val, case};
use ndarray::Axis;

/// Along `axis`, each row through `f`.
fn rows(a: &Args, f: impl Fn(&mut [f64])) -> EvalResult {
    let mut y = a.x(0)?.as_standard_layout().into_owned();
    let axis = a.axis(-1, y.ndim())?;
    for mut lane in y.lanes_mut(Axis(axis)) {
        let mut row = lane.to_vec();
        f(&mut row);
        lane.iter_mut().zip(row).for_each(|(y, x)| *y = x);
    }
    Ok(vec![y])
}

const ALONG: Op = Op {
    infer: |c| {
        if let Some(rank) = c.fact(0).rank() {
            c.axis(-1, rank)?;
        }
        like_first(c)
    },
    flops: |c, k| elementwise(c, k) * Dim::Known(5),
    ..UNARY
};

/// The result, without NaN where the model has no use for it.
fn settled<'e, 'g>(b: &Backward<'e, 'g>) -> Val<'e, 'g> {
    if guard::is_guarded(b.emit.graph(), b.node) { guard::settled(b) } else { b.y }
}

pub(super) const HARDMAX: Op = Op {
    name: "Hardmax",
    eval: |a| {
        rows(a, |row| {
            let mut first = 0;
            for (i, x) in row.iter().enumerate() {
                if *x > row[first] {
                    first = i;
                }
            }
            row.iter_mut().enumerate().for_each(|(i, x)| *x = f64::from(u8::from(i == first)));
        })
    },
    flops: elementwise,
    grad: Grad::Zero("which element is largest is constant almost everywhere"),
    ..ALONG
};

pub(super) const LOG_SOFTMAX: Op = Op {
    name: "LogSoftmax",
    eval: |a| {
        rows(a, |row| {
            let max = row.iter().copied().fold(f64::NEG_INFINITY, f64::max);
            let log_sum = row.iter().map(|x| (x - max).exp()).sum::<f64>().ln();
            row.iter_mut().for_each(|x| *x = *x - max - log_sum);
        })
    },
    grad: Grad::rule(
        |b| {
            let axis = b.node.int("axis", -1);
            vec![Some(b.gy - settled(b).unary("Exp") * b.gy.sum(&[axis], true))]
        },
        &[case(&[Any(&[2, 5])]), case(&[Any(&[4, 2])]).with(&[("axis", Int(0))])],
    ),
    ..ALONG
};

pub(super) const SOFTMAX: Op = Op {
    name: "Softmax",
    eval: |a| {
        rows(a, |row| {
            let max = row.iter().copied().fold(f64::NEG_INFINITY, f64::max);
            row.iter_mut().for_each(|x| *x = (*x - max).exp());
            let sum: f64 = row.iter().sum();
            row.iter_mut().for_each(|x| *x /= sum);
        })
    },
    grad: Grad::rule(
        |b| {
            let y = settled(b);
            let weighted = b.gy * y;
            let total = weighted.sum(&[b.node.int("axis", -1)], true);
            vec![Some(weighted - y * total)]
        },
        &[
            case(&[Any(&[2, 5])]),
            case(&[Any(&[4, 2])]).with(&[("axis", Int(0))]),
            case(&[Floats(&[1, 3], &[-1e30, 0.5, 1.0])]),
        ],
    ),
    ..ALONG
};

#[cfg(test)]
mod tests {
    use super::*;
    use crate::eval::zip;

    #[test]
    fn a_row_that_the_model_guards_has_a_gradient_of_zero_and_only_there() {
        let of = |op: &str, guard: &str| {
            let text = format!(
                "graph g(%x: f64[2,2], %zero: f64[], %gy: f64[2,2]) -> %y {{
                    %s = {op}(%x) : f64[2,2]
                    %c = Identity(%s) : f64[2,2]
                    {guard}
                }}"
            );
            let mut graph = lorac_ir::parse(&text).expect("parses");
            let shape_data = crate::infer(&mut graph).expect("infers");
            let (_, node) = graph.nodes().next().expect("a node");
            let emit = crate::Emit::new(&graph, &shape_data, "test");
            let gy = emit.val(graph.find("gy").expect("an input"));
            let grads = crate::apply_rule(&emit, node, vec![Some(gy)], vec![true]).expect("a rule");
            let gx = grads[0].expect("a gradient").id();
            let mut patch = emit.finish().expect("fits");
            patch.set_outputs(vec![gx]);
            patch.apply(&mut graph).expect("fits");
            move |gy: [f64; 4]| {
                let inf = f64::NEG_INFINITY;
                let array = |v: [f64; 4]| Array::from_shape_vec(vec![2, 2], v.to_vec()).expect("fits");
                let zero = ndarray::arr0(0.0).into_dyn();
                let inputs = [("x", array([inf, inf, 0.0, 0.0])), ("zero", zero), ("gy", array(gy))];
                crate::evaluate(&graph, &inputs).expect("evaluates").remove(0).into_iter().collect::<Vec<f64>>()
            }
        };
        let guard = "%n = IsNaN(%c) : bool[2,2]\n%y = Where(%n, %zero, %c) : f64[2,2]";
        assert_eq!(of("Softmax", guard)([0.0, 0.0, 1.0, 0.0]), [0.0, 0.0, 0.25, -0.25]);
        assert_eq!(of("LogSoftmax", guard)([0.0, 0.0, 1.0, 0.0]), [0.0, 0.0, 0.5, -0.5]);
        assert!(of("Softmax", guard)([0.0, 1.0, 1.0, 0.0])[0].is_nan());
        let open = of("Softmax", "%y = Relu(%c) : f64[2,2]");
        assert!(open([0.0, 0.0, 1.0, 0.0])[0].is_nan());
    }

    #[test]
    fn softmax_of_large_numbers_is_finite() {
        let x = Array::from_shape_vec(vec![1, 2], vec![1e4, 1e4]).expect("fits");
        let g = lorac_ir::parse("graph g(%x: f64[1,2]) -> %y { %y = Softmax(%x) : f64[1,2] }").expect("parses");
        let y = crate::evaluate(&g, &[("x", x.clone())]).expect("evaluates");
        assert_eq!(y[0], zip(&x, &x, |_, _| 0.5).expect("fits"));
    }
}
