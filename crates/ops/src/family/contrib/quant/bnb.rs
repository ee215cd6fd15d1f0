//! MatMulBnb4.

use super::blocks::size;
use super::*;
use crate::Attribute::Int;
use crate::Operand::{Any, Floats, Of};
use crate::{Emit, Val, case};
use lorac_ir::{Node, Tensor};

pub(super) const MATMUL_BNB4: Op = Op {
    name: "MatMulBnb4",
    traits: PACKED_PRODUCT,
    inputs: (3, 3),
    infer: |c| {
        let mut fact = c.fact(0);
        let name = if c.node.int("transB", 1) != 0 { "N" } else { "K" };
        if let Some(last) = fact.shape.as_mut().and_then(|d| d.last_mut()) {
            *last = Dim::Known(c.node.int(name, 0));
        }
        one(fact)
    },
    eval: |a| {
        let (k, n, block) = (size(a.node, "K")?, size(a.node, "N")?, size(a.node, "block_size")?);
        let (x, packed, scales) = (a.x(0)?, a.ints(1)?, a.x(2)?);
        let codes = codes(a.node);
        let turned = a.node.int("transB", 1) != 0;
        let (rows, columns) = if turned { (k, n) } else { (n, k) };
        let element = |i: usize, j: usize| {
            let at = if turned { j * k + i } else { i * k + j };
            let byte = packed.get(at / 2)?;
            let code = if at % 2 == 0 { byte >> 4 } else { byte & 15 };
            Some(codes.get(usize::try_from(code).ok()?)? * scales.iter().nth(at / block)?)
        };
        let Some((_, outer)) = x.shape().split_last().filter(|(last, _)| **last == rows) else {
            return invalid(format!("{:?} has no {rows} columns", x.shape()));
        };
        let flat: Vec<f64> = x.iter().copied().collect();
        let mut y = Vec::new();
        for (row, j) in flat.chunks(rows).flat_map(|row| (0..columns).map(move |j| (row, j))) {
            let terms = row.iter().enumerate().map(|(i, x)| element(i, j).map(|w| x * w));
            let sum: Option<f64> = terms.sum();
            y.push(sum.ok_or_else(|| EvalError::Invalid(format!("a weight that is not {n} rows of {k}")))?);
        }
        Ok(vec![Array::from_shape_vec([outer, &[columns]].concat(), y)?])
    },
    flops: |c, k| {
        let inner = if c.node.int("transB", 1) != 0 { "K" } else { "N" };
        elementwise(c, k) * Dim::Known(c.node.int(inner, 0)) * Dim::Known(2)
    },
    // The weight is frozen: it is unpacked when the lowering is written.
    grad: Grad::lower(
        lower,
        &[
            case(&[Any(&[2, 3, 16]), Of(DType::U8, &[16], &BYTES), Floats(&[2], &[0.5, 0.75])]).with(&[
                ("K", Int(16)),
                ("N", Int(2)),
                ("block_size", Int(16)),
                ("quant_type", Int(1)),
            ]),
            case(&[Any(&[3, 16]), Of(DType::U8, &[16], &BYTES), Floats(&[2], &[0.5, 0.75])]).with(&[
                ("K", Int(16)),
                ("N", Int(2)),
                ("block_size", Int(16)),
                ("quant_type", Int(0)),
            ]),
        ],
    ),
    ..FUSED
};

const BYTES: [i64; 16] =
    [0x12, 0xfe, 0x83, 0x07, 0x5a, 0xc4, 0x99, 0x60, 0xbd, 0x2e, 0x71, 0x48, 0xff, 0x00, 0x3c, 0xa5];

/// The sixteen values of a 4-bit float, and of the normal distribution's quantiles.
fn codes(node: &Node) -> [f64; 16] {
    const FP4: [f64; 8] = [0.0, 0.005_208_333_333, 0.666_666_67, 1.0, 0.333_333_33, 0.5, 0.166_666_67, 0.25];
    const NF4: [f64; 16] = [
        -1.0,
        -0.696_192_800_998_687_7,
        -0.525_073_051_452_636_7,
        -0.394_917_488_098_144_53,
        -0.284_441_381_692_886_35,
        -0.184_773_430_228_233_34,
        -0.091_050_036_251_544_95,
        0.0,
        0.079_580_299_556_255_34,
        0.160_930_201_411_247_25,
        0.246_112_301_945_686_34,
        0.337_915_241_718_292_24,
        0.440_709_829_330_444_34,
        0.562_617_003_917_694_1,
        0.722_956_836_223_602_3,
        1.0,
    ];
    match node.int("quant_type", 0) {
        1 => NF4,
        _ => std::array::from_fn(|i| if i < 8 { FP4[i] } else { -FP4[i - 8] }),
    }
}

fn lower<'e, 'g>(e: &'e Emit<'g>, node: &Node, x: &[Val<'e, 'g>]) -> Vec<Val<'e, 'g>> {
    let weight = x[1].tensor().zip(x[2].tensor());
    match weight.and_then(|(b, scales)| dequantized(node, &b, &scales, x[0].fact().dtype)) {
        Some(weight) => vec![x[0].matmul(e.weight("", weight))],
        None => {
            let want = "a weight that fits K, N and block_size".into();
            vec![e.fail(InferError::Operand { slot: 1, got: x[1].fact(), want })]
        }
    }
}

/// The weight as the product takes it.
fn dequantized(node: &Node, packed: &Tensor, scales: &Tensor, dtype: DType) -> Option<Tensor> {
    let (k, n, block) = (size(node, "K").ok()?, size(node, "N").ok()?, size(node, "block_size").ok()?);
    let (codes, scales) = (codes(node), scales.to_f64()?);
    let nibbles = packed.bytes().iter().flat_map(|b| [b >> 4, b & 15]);
    let flat: Option<Vec<f64>> =
        nibbles.take(k * n).enumerate().map(|(i, c)| Some(codes[usize::from(c)] * scales.get(i / block)?)).collect();
    let flat = flat.filter(|f| f.len() == k * n)?;
    match node.int("transB", 1) {
        0 => Tensor::from_f64(dtype, &[n, k], &flat),
        _ => {
            let turned: Vec<f64> = (0..k * n).map(|at| flat[at % n * k + at / n]).collect();
            Tensor::from_f64(dtype, &[k, n], &turned)
        }
    }
}
