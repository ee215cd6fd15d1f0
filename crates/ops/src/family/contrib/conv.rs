//! Convolutions of com.microsoft: FusedConv NhwcConv NhwcFusedConv.

use super::matmul::{activate, activated};
use super::*;
use crate::Attribute::{Floats as Reals, Int, Ints as List, Str};
use crate::Operand::{Absent, Any};
use crate::{Emit, Val, case};
use lorac_ir::{Attr, Node};

pub(in crate::family) const OPS: &[Op] = &[FUSED_CONV, NHWC_CONV, NHWC_FUSED_CONV, NHWC_MAX_POOL];

/// The operand `axes` in the order in which the standard's Conv takes them: channels before space.
fn inward(rank: usize) -> Vec<usize> {
    let mut perm: Vec<usize> = (0..rank).collect();
    if rank > 1 {
        perm[1..].rotate_right(1);
    }
    perm
}

/// Back again.
fn outward(rank: usize) -> Vec<usize> {
    let mut perm: Vec<usize> = (0..rank).collect();
    if rank > 1 {
        perm[1..].rotate_left(1);
    }
    perm
}

fn permuted(fact: &Fact, perm: fn(usize) -> Vec<usize>) -> Fact {
    let shape = fact.dims().map(|d| perm(d.len()).into_iter().map(|i| d[i]).collect());
    Fact { dtype: fact.dtype, shape }
}

/// What the standard's Conv infers of the first three operands, channels last or not.
fn infer(c: &Ctx, last: bool) -> InferResult {
    let Some(conv) = crate::find(&"Conv".into()) else { return one(Fact::unranked(c.dtype())) };
    let mut inputs: Vec<_> = c.inputs.iter().take(3).cloned().collect();
    if let (true, Some(Some(x))) = (last, inputs.first_mut()) {
        x.fact = permuted(&x.fact, inward);
    }
    let known = (conv.infer)(&Ctx { node: c.node, opset: c.opset, inputs, outputs: 1 })?;
    Ok(known.into_iter().map(|k| if last { permuted(&k.fact, outward).into() } else { k }).collect())
}

fn eval(a: &Args, last: bool) -> EvalResult {
    let conv = crate::find(&"Conv".into()).ok_or_else(|| EvalError::Unknown("Conv".into()))?;
    let mut inputs: Vec<_> = a.inputs.iter().take(3).cloned().collect();
    if let (true, Some(Some(x))) = (last, inputs.first_mut()) {
        *x = x.clone().permuted_axes(inward(x.ndim()));
    }
    let args = Args { node: a.node, opset: a.opset, inputs, dtypes: a.dtypes.clone(), outputs: 1 };
    let f = activated(a.node)?;
    let mut made = Vec::new();
    for y in (conv.eval)(&args)? {
        let y = if last { y.view().permuted_axes(outward(y.ndim())).as_standard_layout().into_owned() } else { y };
        let sum = match a.opt(3) {
            Some(z) => zip(&y, z, |y, z| y + z)?,
            None => y,
        };
        made.push(sum.mapv(&f));
    }
    Ok(made)
}

fn flops(c: &Ctx, k: &[Inferred]) -> Dim {
    let products = c.dims(1).and_then(|d| d.get(1..)).map(|d| d.iter().fold(Dim::Known(2), |p, d| p * *d));
    elementwise(c, k) * products.unwrap_or(Dim::Unknown)
}

fn lower<'e, 'g>(e: &'e Emit<'g>, node: &Node, x: &[Val<'e, 'g>], last: bool) -> Vec<Val<'e, 'g>> {
    let kept = ["auto_pad", "dilations", "group", "kernel_shape", "pads", "strides"];
    let attrs: Vec<(&str, Attr)> = kept.iter().filter_map(|k| Some((*k, node.attrs.get(*k)?.clone()))).collect();
    let data = if last { x[0].transpose(&inward(x[0].rank())) } else { x[0] };
    let bias = x.get(2).copied().unwrap_or(e.absent());
    let y = e.op("Conv", &[data, x[1], bias], &attrs);
    let y = if last { y.transpose(&outward(y.rank())) } else { y };
    let y = x.get(3).and_then(|z| z.present()).map_or(y, |z| y + z);
    vec![activate(e, node, y)]
}

const FUSED_CONV: Op = Op {
    name: "FusedConv",
    traits: Traits::NONE.bias(&[2]),
    inputs: (2, 4),
    infer: |c| infer(c, false),
    eval: |a| eval(a, false),
    flops,
    grad: Grad::lower(
        |e, node, x| lower(e, node, x, false),
        &[
            case(&[Any(&[2, 2, 4, 4]), Any(&[3, 2, 2, 2]), Any(&[3])]).with(&[
                ("activation", Str("Relu")),
                ("kernel_shape", List(&[2, 2])),
                ("strides", List(&[2, 1])),
            ]),
            case(&[Any(&[1, 2, 4, 4]), Any(&[2, 1, 3, 3]), Any(&[2]), Any(&[1, 2, 4, 4])]).with(&[
                ("activation", Str("LeakyRelu")),
                ("activation_params", Reals(&[0.2])),
                ("kernel_shape", List(&[3, 3])),
                ("pads", List(&[1, 1, 1, 1])),
                ("group", Int(2)),
            ]),
            case(&[Any(&[1, 2, 5]), Any(&[2, 2, 2]), Absent]).with(&[
                ("activation", Str("Clip")),
                ("activation_params", Reals(&[-1.0, 1.0])),
                ("kernel_shape", List(&[2])),
            ]),
            case(&[Any(&[1, 1, 3, 3]), Any(&[2, 1, 2, 2])]).with(&[
                ("activation", Str("HardSigmoid")),
                ("activation_params", Reals(&[0.25, 0.4])),
                ("kernel_shape", List(&[2, 2])),
            ]),
        ],
    ),
    ..FUSED
};

// No kernel on the CPU.
const NHWC_CONV: Op = Op {
    name: "NhwcConv",
    inputs: (2, 3),
    infer: |c| infer(c, true),
    eval: |a| eval(a, true),
    flops,
    grad: Grad::lower(
        |e, node, x| lower(e, node, x, true),
        &[case(&[Any(&[2, 4, 3, 2]), Any(&[3, 2, 2, 2]), Any(&[3])])
            .with(&[("kernel_shape", List(&[2, 2])), ("pads", List(&[1, 0, 0, 1]))])],
    ),
    ..FUSED
};

// No kernel of f32 on the CPU.
const NHWC_FUSED_CONV: Op = Op {
    name: "NhwcFusedConv",
    inputs: (2, 4),
    grad: Grad::lower(
        |e, node, x| lower(e, node, x, true),
        &[case(&[Any(&[1, 3, 3, 2]), Any(&[2, 2, 2, 2]), Any(&[2]), Any(&[1, 2, 2, 2])])
            .with(&[("kernel_shape", List(&[2, 2])), ("activation", Str("Relu"))])],
    ),
    ..NHWC_CONV
};

const NHWC_MAX_POOL: Op = refused("NhwcMaxPool", "it pools 8-bit integers; train the model before it was quantized");
