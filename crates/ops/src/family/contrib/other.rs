//! The rest of com.microsoft: CDist ExpandDims GatedAdd GatherND Inverse ScaledSiLU Trilu, and those that are refused.

use super::*;
use crate::Attribute::{Float, Int, Str};
use crate::Operand::{Any, Floats, Ints, Of};
use crate::case;

pub(in crate::family) const OPS: &[Op] = &[
    CDIST,
    EXPAND_DIMS,
    GATED_ADD,
    GATHER_ND,
    INVERSE,
    SCALED_SILU,
    TRILU,
    refused("AttnLSTM", "its attention at every step has no form in plain operators; export the model with LSTM"),
    refused("BeamSearch", SEARCH),
    refused("BifurcationDetector", SEARCH),
    refused("BitmaskBiasDropout", TRAINING),
    refused("BitmaskDropout", TRAINING),
    refused("CausalConvWithState", STATE),
    refused("ComplexMul", SPECTRUM),
    refused("ComplexMulConj", SPECTRUM),
    refused("ConvTransposeWithDynamicPads", "its padding is data; export the model with ConvTranspose"),
    refused("CropAndResize", "boxes cut out by data have no gradient here; export the model with RoiAlign"),
    refused("DequantizeBFP", FORMAT),
    refused("DequantizeWithOrder", FORMAT),
    refused("DynamicSparseAttention", STATE),
    refused("DynamicTimeWarping", "an alignment is a choice of indices, which has no gradient"),
    refused("EPContext", COMPILED),
    refused("EngramGate", STATE),
    refused("GatedDeltaNet", STATE),
    refused("GemmFloat8", FORMAT),
    refused("GreedySearch", SEARCH),
    refused("GridSample", "the standard has GridSample since opset 16; export the model with it"),
    refused("HyperConnectionPostMix", STATE),
    refused("HyperConnectionPreMix", STATE),
    refused("Irfft", SPECTRUM),
    refused("IsAllFinite", TRAINING),
    refused("LinearAttention", STATE),
    refused("LinearAttentionGate", STATE),
    refused("MatMulBlockQuantizedFp4Weight", FORMAT),
    refused("MatMulBlockQuantizedFp8Weight", FORMAT),
    refused("MaxpoolWithMask", "the mask of a pooling is data; export the model with MaxPool"),
    Op {
        traits: EXPERTS,
        ..refused(
            "MoE",
            "its experts are chosen by sorting; export the model with plain operators, or train a dense one",
        )
    },
    refused("MurmurHash3", TEXT),
    refused("NGramHashMapping", TEXT),
    refused("NGramRepeatBlock", SEARCH),
    refused("PackedSparseAttentionIndexer", STATE),
    refused("Pad", "the standard has Pad with pads as an input since opset 11; export the model with it"),
    refused("QuantizeBFP", FORMAT),
    refused("QuantizeWithOrder", FORMAT),
    refused("Range", "the standard has Range since opset 11; export the model with it"),
    refused("Rfft", SPECTRUM),
    refused("SampleOp", "it is an example without a use"),
    refused("Sampling", SEARCH),
    refused("Snpe", COMPILED),
    refused("SparseAttentionIndexer", STATE),
    refused("SparsePagedAttention", STATE),
    refused("SparseToDenseMatMul", "a sparse operand has no form in plain operators; store the weight densely"),
    refused("Tokenizer", TEXT),
    refused("TorchEmbedding", "the standard has Gather; export the model with it"),
    refused("UnfoldTensor", "export the model with plain operators"),
    refused("Unique", "the standard has Unique since opset 11; export the model with it"),
    refused("VarlenCausalConvWithState", STATE),
    refused("VarlenNGramHashMapping", TEXT),
    refused("WhisperBeamSearch", SEARCH),
    refused("WordConvEmbedding", "its characters are looked up inside; export the model with plain operators"),
];

const COMPILED: &str = "it holds a model compiled for one device; train the model that it was compiled from";
const FORMAT: &str = "its number format belongs to one device; train the model before it was quantized";
const SEARCH: &str = "it generates text step by step; train the decoder inside it, as a model of its own";
const SPECTRUM: &str = "complex numbers have no gradient here; export the model with plain operators";
const STATE: &str = "it serves inference, token by token; export the model with plain operators";
const TEXT: &str = "text and its hashes have no gradient; train what comes after it";
const TRAINING: &str = "it belongs to a training graph; train the deployed model";

const CDIST: Op = Op {
    name: "CDist",
    inputs: (2, 2),
    infer: |c| {
        let (a, b) = (c.fact(0), c.fact(1));
        match (a.dims(), b.dims()) {
            (Some([m, _]), Some([k, _])) => one(Fact::new(a.dtype, [*m, *k])),
            (None, _) | (_, None) => one(Fact::new(a.dtype, [Dim::Unknown, Dim::Unknown])),
            _ => Err(InferError::Mismatch(a, b)),
        }
    },
    eval: |a| {
        let (x, y) = (a.x(0)?, a.x(1)?);
        let ([m, n], [k, l]) = (x.shape(), y.shape()) else { return invalid("CDist takes two matrices") };
        if n != l {
            return invalid(format!("rows of {n} and of {l}"));
        }
        let root = match a.node.str("metric").unwrap_or("sqeuclidean") {
            "sqeuclidean" => false,
            "euclidean" => true,
            other => return invalid(format!("the metric {other}")),
        };
        let distance = |i: usize, j: usize| (0..*n).map(|d| (x[[i, d]] - y[[j, d]]).powi(2)).sum::<f64>();
        let distances = Array::from_shape_fn(vec![*m, *k], |at| distance(at[0], at[1]));
        Ok(vec![if root { distances.mapv(f64::sqrt) } else { distances }])
    },
    flops: |c, k| {
        let width = c.dims(0).and_then(|d| d.last().copied()).unwrap_or(Dim::Unknown);
        elementwise(c, k) * width * Dim::Known(3)
    },
    grad: Grad::lower(
        |e, node, x| {
            let apart = wide(x[0].binary("Unsqueeze", e.ints(&[1])) - x[1]);
            let square = (apart * apart).sum(&[-1], false);
            let narrow = x[0].fact().dtype;
            match node.str("metric") {
                Some("euclidean") => vec![square.unary("Sqrt").cast(narrow)],
                None | Some("sqeuclidean") => vec![square.cast(narrow)],
                Some(other) => vec![e.fail(InferError::Attribute {
                    name: "metric",
                    got: other.into(),
                    want: "euclidean or sqeuclidean".into(),
                })],
            }
        },
        &[
            case(&[Any(&[3, 2]), Any(&[4, 2])]),
            case(&[Any(&[3, 2]), Any(&[4, 2])]).with(&[("metric", Str("euclidean"))]),
        ],
    ),
    ..FUSED
};

const EXPAND_DIMS: Op = Op {
    name: "ExpandDims",
    traits: Traits { moves: 1, ..Traits::RESHAPES },
    inputs: (2, 2),
    infer: |c| {
        let mut fact = c.fact(0);
        let axis = c.ints(1).and_then(|v| v.first().copied());
        let rank = fact.rank();
        fact.shape = match (fact.shape.take(), axis) {
            (Some(mut dims), Some(axis)) => {
                let at = if axis < 0 { axis + dims.len() as i64 + 1 } else { axis };
                let Some(at) = usize::try_from(at).ok().filter(|at| *at <= dims.len()) else {
                    let want = format!("one of {} places", dims.len() + 1);
                    return Err(InferError::Attribute { name: "axis", got: axis.to_string(), want });
                };
                dims.insert(at, Dim::Known(1));
                Some(dims)
            }
            _ => rank.map(|r| vec![Dim::Unknown; r + 1]),
        };
        one(fact)
    },
    eval: |a| {
        let x = a.x(0)?;
        let axis = a.ints(1)?.first().copied().unwrap_or(0);
        let at = if axis < 0 { axis + x.ndim() as i64 + 1 } else { axis };
        match usize::try_from(at).ok().filter(|at| *at <= x.ndim()) {
            Some(at) => Ok(vec![x.clone().insert_axis(ndarray::Axis(at))]),
            None => invalid(format!("axis {axis} of rank {}", x.ndim() + 1)),
        }
    },
    flops: |_, _| Dim::Known(0),
    grad: Grad::lower(
        |_, _, x| vec![x[0].binary("Unsqueeze", x[1].cast(DType::I64).reshape(&[-1]))],
        &[case(&[Any(&[2, 3]), Of(DType::I32, &[], &[-1])]), case(&[Any(&[2, 3]), Of(DType::I32, &[], &[1])])],
    ),
    ..FUSED
};

const GATED_ADD: Op = Op {
    name: "GatedAdd",
    inputs: (3, 3),
    eval: |a| Ok(vec![zip(a.x(0)?, &zip(a.x(1)?, a.x(2)?, |y, g| y * g)?, |x, y| x + y)?]),
    flops: |c, k| elementwise(c, k) * Dim::Known(2),
    grad: Grad::lower(
        |_, _, x| vec![x[0] + x[1] * x[2]],
        &[case(&[Any(&[2, 3, 4]), Any(&[2, 3, 4]), Any(&[2, 3, 1])])],
    ),
    ..FUSED
};

/// The form that GatherND had before the standard took it.
const GATHER_ND: Op = Op {
    name: "GatherND",
    traits: Traits::MOVES,
    inputs: (2, 2),
    infer: |c| match crate::find(&"GatherND".into()) {
        Some(op) => (op.infer)(c),
        None => one(Fact::unranked(c.dtype())),
    },
    eval: |a| match crate::find(&"GatherND".into()) {
        Some(op) => (op.eval)(a),
        None => invalid("GatherND is not in the table"),
    },
    flops: |_, _| Dim::Known(0),
    grad: Grad::lower(
        |e, _, x| vec![e.op("GatherND", &[x[0], x[1].cast(DType::I64)], &[])],
        &[case(&[Any(&[3, 2, 2]), Ints(&[2, 2], &[0, 1, 2, 0])])],
    ),
    ..FUSED
};

const INVERSE: Op = Op {
    name: "Inverse",
    eval: |a| {
        let mut y = a.x(0)?.as_standard_layout().into_owned();
        let [.., rows, n] = *y.shape() else { return invalid("Inverse takes matrices") };
        if rows != n || n == 0 {
            return invalid(format!("the inverse of {rows} by {n}"));
        }
        let Some(flat) = y.as_slice_mut() else { return invalid("Inverse takes matrices") };
        flat.chunks_mut(n * n).try_for_each(|m| invert(m, n))?;
        Ok(vec![y])
    },
    flops: |c, k| {
        let n = c.dims(0).and_then(|d| d.last().copied()).unwrap_or(Dim::Unknown);
        elementwise(c, k) * n * Dim::Known(2)
    },
    grad: Grad::rule(
        |b| vec![Some(-b.y.t().matmul(b.gy).matmul(b.y.t()))],
        &[
            case(&[Floats(&[2, 2], &[2.0, 0.5, -0.25, 1.5])]),
            case(&[Floats(&[2, 2, 2], &[0.0, 1.0, 2.0, 0.5, 1.0, 0.5, 0.25, 2.0])]),
        ],
    ),
    ..FUSED
};

/// Gauss and Jordan, the largest element of a column first.
fn invert(m: &mut [f64], n: usize) -> Result<(), EvalError> {
    let mut right: Vec<f64> = (0..n * n).map(|i| if i / n == i % n { 1.0 } else { 0.0 }).collect();
    for i in 0..n {
        let best = (i..n).max_by(|p, q| m[p * n + i].abs().total_cmp(&m[q * n + i].abs())).unwrap_or(i);
        let pivot = m[best * n + i];
        if pivot == 0.0 {
            return invalid("a matrix without an inverse");
        }
        for j in 0..n {
            m.swap(i * n + j, best * n + j);
            right.swap(i * n + j, best * n + j);
        }
        for j in 0..n {
            m[i * n + j] /= pivot;
            right[i * n + j] /= pivot;
        }
        for k in (0..n).filter(|k| *k != i) {
            let factor = m[k * n + i];
            for j in 0..n {
                m[k * n + j] -= factor * m[i * n + j];
                right[k * n + j] -= factor * right[i * n + j];
            }
        }
    }
    m.copy_from_slice(&right);
    Ok(())
}

const SCALED_SILU: Op = Op {
    name: "ScaledSiLU",
    inputs: (1, 2),
    eval: |a| {
        let scale = match a.opt(1).and_then(|s| s.first()) {
            Some(scale) => *scale,
            None => f64::from(a.node.float("alpha", 1.0)),
        };
        map(a, |x| scale * x / (1.0 + (-scale * x).exp()))
    },
    flops: |c, k| elementwise(c, k) * Dim::Known(4),
    grad: Grad::lower(
        |_, node, x| {
            let scaled = match x.get(1).and_then(|s| s.present()) {
                Some(scale) => x[0] * scale.cast(x[0].fact().dtype),
                None => x[0] * f64::from(node.float("alpha", 1.0)),
            };
            vec![scaled * scaled.unary("Sigmoid")]
        },
        &[case(&[Any(&[2, 3])]).with(&[("alpha", Float(0.5))]), case(&[Any(&[2, 3]), Floats(&[], &[0.75])])],
    ),
    ..FUSED
};

const TRILU: Op = Op {
    name: "Trilu",
    inputs: (1, 2),
    eval: |a| {
        let k = match a.opt(1) {
            Some(_) => a.ints(1)?.first().copied().unwrap_or(0),
            None => 0,
        };
        let mut y = a.x(0)?.clone();
        let rank = y.ndim();
        if rank < 2 {
            return invalid("Trilu takes matrices");
        }
        let upper = a.node.int("upper", 1) != 0;
        for (at, y) in y.indexed_iter_mut() {
            let off = at[rank - 1] as i64 - at[rank - 2] as i64;
            if if upper { off < k } else { off > k } {
                *y = 0.0;
            }
        }
        Ok(vec![y])
    },
    flops: |_, _| Dim::Known(0),
    grad: Grad::lower(
        |e, node, x| vec![e.op("Trilu", x, &[("upper", node.int("upper", 1).into())])],
        &[case(&[Any(&[2, 3, 4])]), case(&[Any(&[3, 4]), Ints(&[], &[1])]).with(&[("upper", Int(0))])],
    ),
    ..FUSED
};
