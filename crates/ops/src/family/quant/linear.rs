//! Between reals and integers: DequantizeLinear DynamicQuantizeLinear QuantizeLinear.

use super::*;
use crate::Attribute::Int;
use crate::Operand::{Any, Of};
use crate::{Backward, Val, case};
use lorac_ir::Tensor;
use ndarray::IxDyn;

/// Scales or zero points: one for all, one for each slice along an axis, or one for each block along it.
struct Params<'a> {
    data: Option<&'a Array>,
    axis: usize,
    block: usize,
}

impl<'a> Params<'a> {
    fn new(a: &'a Args, slot: usize, dims: &[usize]) -> Result<Params<'a>, EvalError> {
        let data = a.opt(slot);
        let Some(p) = data.filter(|p| p.len() != 1 || p.ndim() > 1) else {
            return Ok(Params { data, axis: 0, block: 0 });
        };
        let axis = a.axis(1, dims.len())?;
        let block = usize::try_from(a.node.int("block_size", 0)).unwrap_or(0);
        let want: Vec<usize> = match block {
            0 => vec![dims[axis]],
            block => {
                let blocks = |(i, n): (usize, &usize)| if i == axis { n.div_ceil(block) } else { *n };
                dims.iter().enumerate().map(blocks).collect()
            }
        };
        match p.shape() == want {
            true => Ok(Params { data, axis, block }),
            false => invalid(format!("scales of {:?}, expected {want:?}", p.shape())),
        }
    }

    fn at(&self, place: &[usize], default: f64) -> f64 {
        let Some(data) = self.data else { return default };
        let found = match (data.len(), data.ndim(), self.block) {
            (1, 0 | 1, _) => data.first(),
            (_, _, 0) => place.get(self.axis).and_then(|i| data.get(IxDyn(&[*i]))),
            (_, _, block) => {
                let mut place = place.to_vec();
                place.iter_mut().skip(self.axis).take(1).for_each(|i| *i /= block);
                data.get(IxDyn(&place))
            }
        };
        found.copied().unwrap_or(default)
    }
}

/// `f(element, scale, zero point)` of every element.
fn each(a: &Args, f: impl Fn(f64, f64, f64) -> Result<f64, EvalError>) -> EvalResult {
    let x = a.x(0)?;
    a.x(1)?;
    let (scale, zero) = (Params::new(a, 1, x.shape())?, Params::new(a, 2, x.shape())?);
    let mut y = x.clone();
    for (at, y) in y.indexed_iter_mut() {
        let place: Vec<usize> = (0..x.ndim()).map(|d| at[d]).collect();
        *y = f(*y, scale.at(&place, 1.0), zero.at(&place, 0.0))?;
    }
    Ok(vec![y])
}

/// Element type of quantized values: the zero point's, else the attribute's, else u8.
fn quantized(node: &lorac_ir::Node, zero_point: Option<DType>) -> DType {
    zero_point.unwrap_or_else(|| match node.int("output_dtype", 0) {
        0 => DType::U8,
        code => DType::from_onnx_code(code),
    })
}

pub(in crate::family) const QUANTIZE_LINEAR: Op = Op {
    name: "QuantizeLinear",
    traits: Traits::CARRIES,
    inputs: (2, 3),
    infer: |c| {
        let zero_point = c.input(2).map(|i| i.fact.dtype);
        one(Fact { dtype: quantized(c.node, zero_point), ..c.fact(0) })
    },
    eval: |a| {
        let zero_point = a.opt(2).map(|_| a.dtype(2));
        let dtype = quantized(a.node, zero_point);
        each(a, |x, scale, zero| quantize(x, scale, zero, a.dtype(0), dtype))
    },
    grad: Grad::Unsupported(
        "its result is an integer. Where DequantizeLinear reads it, the pair is differentiated straight through: \
         gradients pass where x is in the range, and the scale has one too",
    ),
    ..UNARY
};

pub(in crate::family) const DEQUANTIZE_LINEAR: Op = Op {
    name: "DequantizeLinear",
    traits: Traits::CARRIES,
    inputs: (2, 3),
    infer: |c| {
        let dtype = match c.node.int("output_dtype", 0) {
            0 => c.fact(1).dtype,
            code => DType::from_onnx_code(code),
        };
        one(Fact { dtype, ..c.fact(0) })
    },
    eval: |a| each(a, |x, scale, zero| Ok((x - zero) * scale)),
    // Integers have no gradient; the scale has. What it multiplies is what a scale of one gives.
    grad: Grad::rule(
        |b| vec![None, b.want(1, || by_scale(b, b.gy * unscaled(b))), None],
        &[
            case(&[Of(DType::U8, &[2, 3], &[0, 3, 255, 7, 128, 1]), Any(&[]), Of(DType::U8, &[], &[128])]),
            case(&[Of(DType::I8, &[2, 3], &[0, -3, 127, 7, -128, 1]), Any(&[3]), Of(DType::I8, &[3], &[0, 1, -5])]),
            case(&[Of(DType::I8, &[2, 2], &[0, -3, 127, 7]), Any(&[2])]).with(&[("axis", Int(-2))]),
            case(&[Of(DType::I8, &[2, 4], &[0, -3, 127, 7, -128, 1, 9, 8]), Any(&[2, 2])])
                .with(&[("axis", Int(1)), ("block_size", Int(2))])
                .opset(21),
        ],
    ),
    ..UNARY
};

/// The result for a scale of one.
fn unscaled<'e, 'g>(b: &Backward<'e, 'g>) -> Val<'e, 'g> {
    let e = b.emit;
    let one = Tensor::from_f64(b.x[1].fact().dtype, &[1], &[1.0]);
    let attrs: Vec<(&str, lorac_ir::Attr)> = one.into_iter().map(|t| ("value", t.into())).collect();
    let ones = e.op("ConstantOfShape", &[b.x[1].shape()], &attrs);
    let attrs: Vec<(&str, lorac_ir::Attr)> = b.node.attrs.iter().map(|(k, v)| (&**k, v.clone())).collect();
    let zero_point = b.x.get(2).copied().unwrap_or(e.absent());
    e.op("DequantizeLinear", &[b.x[0], ones, zero_point], &attrs).cast(b.gy.fact().dtype)
}

/// `g` summed over what shares a scale.
fn by_scale<'e, 'g>(b: &Backward<'e, 'g>, g: Val<'e, 'g>) -> Val<'e, 'g> {
    let (e, scale) = (b.emit, b.x[1]);
    let rank = b.x[0].rank();
    let fail = |want: String| e.fail(InferError::Operand { slot: 1, got: scale.fact(), want });
    let axis = b.node.int("axis", 1);
    let axis = usize::try_from(if axis < 0 { axis + rank as i64 } else { axis }).ok().filter(|a| *a < rank);
    let (block, of_scale) = (b.node.int("block_size", 0), scale.fact());
    let g = match (of_scale.dims(), axis) {
        (Some([] | [Dim::Known(1)]), _) => e.op("ReduceSum", &[g], &[("keepdims", 0i64.into())]),
        (Some([_]), Some(axis)) => {
            let others: Vec<i64> = (0..rank).filter(|i| *i != axis).map(|i| i as i64).collect();
            g.sum(&others, false)
        }
        (Some(dims), Some(axis)) if dims.len() == rank && block > 0 => {
            let whole = b.x[0].fact().dims().and_then(|d| d.get(axis)?.known()).filter(|n| n % block == 0);
            if whole.is_none() {
                return fail(format!("an operand whose axis {axis} is a multiple of the block size {block}"));
            }
            let part = |start: usize, end: usize| {
                let ends = [("start", (start as i64).into()), ("end", (end as i64).into())];
                e.op("Shape", &[g], &ends)
            };
            let split = [part(0, axis), e.ints(&[-1, block]), part(axis + 1, rank)];
            let split = e.op("Concat", &split, &[("axis", 0i64.into())]);
            g.binary("Reshape", split).sum(&[axis as i64 + 1], false)
        }
        _ => return fail("a scale for the tensor, for an axis or for blocks, of known rank".into()),
    };
    g.cast(scale.fact().dtype).binary("Reshape", scale.shape())
}

pub(in crate::family) const DYNAMIC_QUANTIZE_LINEAR: Op = Op {
    name: "DynamicQuantizeLinear",
    traits: Traits::CARRIES,
    outputs: (3, 3),
    infer: |c| {
        let y = Fact { dtype: DType::U8, ..c.fact(0) };
        Ok(vec![y.into(), Fact::scalar(c.dtype()).into(), Fact::scalar(DType::U8).into()])
    },
    eval: |a| {
        let x = a.x(0)?;
        let lo = x.iter().copied().fold(0.0, f64::min);
        let hi = x.iter().copied().fold(0.0, f64::max);
        // Zeros need no scale.
        let scale = if hi == lo { 1.0 } else { (hi - lo) / 255.0 };
        let scale = if a.dtype(0) == DType::F32 { f64::from(scale as f32) } else { scale };
        let zero = quantize(-lo, scale, 0.0, a.dtype(0), DType::U8)?;
        let y: Result<Vec<f64>, _> = x.iter().map(|x| quantize(*x, scale, zero, a.dtype(0), DType::U8)).collect();
        let scalar = |x| Array::from_elem(vec![], x);
        Ok(vec![Array::from_shape_vec(x.raw_dim(), y?)?, scalar(scale), scalar(zero)])
    },
    flops: |c, _| c.fact(0).volume() * Dim::Known(5),
    grad: Grad::Unsupported(
        "it rounds to integers that integer products read, and its scale follows the data: train the float model and \
         quantize it afterwards, or quantize it with QuantizeLinear and DequantizeLinear",
    ),
    ..UNARY
};
