//! Products of quantized values: ConvInteger MatMulInteger QLinearConv QLinearMatMul.

use super::*;
use crate::Attribute::Ints as List;
use crate::Operand::{Floats, Of};
use crate::{Emit, Input, Val, case, find};
use lorac_ir::Node;

const WHY: &str = "products of integers have no gradient: train the float model and quantize it afterwards, or quantize \
                   it with QuantizeLinear and DequantizeLinear, which are differentiated straight through";

/// The fact of the float operator `op` on the operands at `slots`, with another element type.
fn like_float(c: &Ctx, op: &str, slots: [usize; 2], dtype: DType) -> InferResult {
    let Some(float) = find(&op.into()) else { return one(Fact::unranked(dtype)) };
    let inputs = slots.map(|slot| {
        let fact = Fact { dtype: DType::F32, ..c.fact(slot) };
        Some(Input { fact, content: None, tensor: None })
    });
    let ctx = Ctx { node: c.node, opset: c.opset, inputs: inputs.into(), outputs: 1 };
    let known = (float.infer)(&ctx)?;
    one(Fact { dtype, shape: known.first().and_then(|k| k.fact.shape.clone()) })
}

/// The float operator `op` on exact integers.
fn by_float(a: &Args, op: &str, x: Array, w: Array) -> Result<Array, EvalError> {
    let float = find(&op.into()).ok_or_else(|| EvalError::Unknown(op.into()))?;
    let args =
        Args { node: a.node, opset: a.opset, inputs: vec![Some(x), Some(w)], dtypes: vec![DType::F64; 2], outputs: 1 };
    (float.eval)(&args)?.into_iter().next().ok_or(EvalError::Missing(0))
}

/// The operand at `slot` less its zero point, a vector of which stands along `axis` of it (counted from the end).
fn shifted(a: &Args, slot: usize, zero: usize, axis: usize) -> Result<Array, EvalError> {
    let x = a.x(slot)?;
    match a.opt(zero) {
        None => Ok(x.clone()),
        Some(zero) => crate::eval::zip(x, &along(zero, axis)?, |x, z| x - z),
    }
}

/// A vector moved to the axis `behind` places before the last; other ranks stay.
fn along(v: &Array, behind: usize) -> Result<Array, EvalError> {
    match v.shape() {
        [n] if *n != 1 => crate::eval::reshape(v, &[&[*n][..], &vec![1; behind]].concat()),
        _ => Ok(v.clone()),
    }
}

/// Axes behind the channels of a weight, of which the channels are the first.
fn behind_channels(a: &Args, slot: usize) -> Result<usize, EvalError> {
    Ok(a.x(slot)?.ndim().saturating_sub(1))
}

pub(in crate::family) const MATMUL_INTEGER: Op = Op {
    name: "MatMulInteger",
    traits: Traits::PROJECTS,
    inputs: (2, 4),
    infer: |c| like_float(c, "MatMul", [0, 1], DType::I32),
    eval: |a| Ok(vec![by_float(a, "MatMul", shifted(a, 0, 2, 1)?, shifted(a, 1, 3, 0)?)?]),
    flops: |c, k| flops_of(c, k, "MatMul", [0, 1]),
    grad: Grad::Unsupported(WHY),
    ..UNARY
};

pub(in crate::family) const CONV_INTEGER: Op = Op {
    name: "ConvInteger",
    inputs: (2, 4),
    infer: |c| like_float(c, "Conv", [0, 1], DType::I32),
    eval: |a| {
        let w = shifted(a, 1, 3, behind_channels(a, 1)?)?;
        Ok(vec![by_float(a, "Conv", shifted(a, 0, 2, 0)?, w)?])
    },
    flops: |c, k| flops_of(c, k, "Conv", [0, 1]),
    grad: Grad::Unsupported(WHY),
    ..UNARY
};

fn flops_of(c: &Ctx, known: &[Inferred], op: &str, slots: [usize; 2]) -> Dim {
    let inputs = slots.map(|slot| Some(Input { fact: c.fact(slot), content: None, tensor: None })).into();
    find(&op.into())
        .map_or(Dim::Unknown, |op| (op.flops)(&Ctx { node: c.node, opset: c.opset, inputs, outputs: 1 }, known))
}

/// Sums of products scaled and quantized again: operands x, its scale and zero point, w, scale, zero point, those of y.
fn requantized(a: &Args, sums: &Array, of_w: &Array) -> EvalResult {
    let scalar = |slot: usize| a.x(slot).map(|s| s.first().copied().unwrap_or(1.0));
    let (y_scale, zero) = (scalar(6)?, scalar(7)?);
    let scale = crate::eval::zip(a.x(1)?, of_w, |x, w| x * w / y_scale)?;
    let scaled = crate::eval::zip(sums, &scale, |sum, scale| sum * scale)?;
    let y: Result<Vec<f64>, _> = scaled.iter().map(|x| quantize(*x, 1.0, zero, DType::F64, a.dtype(7))).collect();
    Ok(vec![Array::from_shape_vec(scaled.raw_dim(), y?)?])
}

pub(in crate::family) const Q_LINEAR_MATMUL: Op = Op {
    name: "QLinearMatMul",
    traits: Traits::NONE.projects(|_, slot, rank| match (slot, rank) {
        (3, 2) => Some(Projection::PLAIN),
        _ => None,
    }),
    inputs: (8, 8),
    infer: |c| like_float(c, "MatMul", [0, 3], c.fact(7).dtype),
    eval: |a| {
        let sums = by_float(a, "MatMul", shifted(a, 0, 2, 1)?, shifted(a, 3, 5, 0)?)?;
        match a.x(1)?.len() {
            1 => requantized(a, &sums, a.x(4)?),
            _ => invalid("a scale for each row"),
        }
    },
    flops: |c, k| flops_of(c, k, "MatMul", [0, 3]),
    grad: Grad::lower(
        |e, _, x| {
            let product = real(e, x, 0, 0).matmul(real(e, x, 3, x[3].rank() as i64 - 1));
            vec![e.op("QuantizeLinear", &[product, x[6], x[7]], &[])]
        },
        &[
            case(&[
                Of(DType::U8, &[2, 3], &[208, 236, 0, 238, 3, 214]),
                Floats(&[], &[0.0066]),
                Of(DType::U8, &[], &[113]),
                Of(DType::U8, &[3, 2], &[152, 51, 244, 60, 26, 255]),
                Floats(&[], &[0.00705]),
                Of(DType::U8, &[], &[114]),
                Floats(&[], &[0.0107]),
                Of(DType::U8, &[], &[118]),
            ]),
            case(&[
                Of(DType::U8, &[1, 2, 2], &[208, 236, 0, 238]),
                Floats(&[], &[0.0066]),
                Of(DType::U8, &[], &[113]),
                Of(DType::I8, &[2, 2], &[-52, 51, 44, 60]),
                Floats(&[2], &[0.00705, 0.02]),
                Of(DType::I8, &[2], &[3, -4]),
                Floats(&[], &[0.0107]),
                Of(DType::U8, &[], &[118]),
            ]),
        ],
    ),
    ..UNARY
};

/// The reals that a quantized operand stands for; its scale and zero point follow it.
fn real<'e, 'g>(e: &'e Emit<'g>, x: &[Val<'e, 'g>], slot: usize, axis: i64) -> Val<'e, 'g> {
    let operands: Vec<Val> = x.iter().skip(slot).take(3).copied().collect();
    e.op("DequantizeLinear", &operands, &[("axis", axis.into())])
}

fn lower_conv<'e, 'g>(e: &'e Emit<'g>, node: &Node, x: &[Val<'e, 'g>]) -> Vec<Val<'e, 'g>> {
    let mut operands = vec![real(e, x, 0, 1), real(e, x, 3, 0)];
    if let Some(bias) = x.get(8).and_then(|b| b.present()) {
        operands.push(e.op("DequantizeLinear", &[bias, (x[1] * x[4]).reshape_like(x[4])], &[("axis", 0i64.into())]));
    }
    let attrs: Vec<(&str, lorac_ir::Attr)> = node.attrs.iter().map(|(k, v)| (&**k, v.clone())).collect();
    vec![e.op("QuantizeLinear", &[e.op("Conv", &operands, &attrs), x[6], x[7]], &[])]
}

pub(in crate::family) const Q_LINEAR_CONV: Op = Op {
    name: "QLinearConv",
    inputs: (8, 9),
    infer: |c| like_float(c, "Conv", [0, 3], c.fact(7).dtype),
    eval: |a| {
        let behind = behind_channels(a, 3)?;
        let mut sums = by_float(a, "Conv", shifted(a, 0, 2, 0)?, shifted(a, 3, 5, behind)?)?;
        let space = sums.ndim().saturating_sub(2);
        if let Some(bias) = a.opt(8) {
            sums = crate::eval::zip(&sums, &along(bias, space)?, |sum, b| sum + b)?;
        }
        requantized(a, &sums, &along(a.x(4)?, space)?)
    },
    flops: |c, k| flops_of(c, k, "Conv", [0, 3]),
    grad: Grad::lower(
        lower_conv,
        &[case(&[
            Of(DType::U8, &[1, 1, 3, 3], &[255, 174, 162, 25, 203, 168, 58, 15, 59]),
            Floats(&[], &[0.00369]),
            Of(DType::U8, &[], &[132]),
            Of(DType::I8, &[2, 1, 2, 2], &[0, 3, -7, 100, 90, -128, 2, 5]),
            Floats(&[2], &[0.00172, 0.004]),
            Of(DType::I8, &[2], &[0, 2]),
            Floats(&[], &[0.00162]),
            Of(DType::U8, &[], &[123]),
            Of(DType::I32, &[2], &[300, -200]),
        ])
        .with(&[("pads", List(&[1, 0, 0, 1]))])],
    ),
    ..UNARY
};
