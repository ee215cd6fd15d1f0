//! MatMulNBits.

use super::blocks::{one_of, per_byte, size, unpacked};
use super::*;
use crate::Attribute::Int;
use crate::Operand::{Absent, Any, Floats, Of};
use crate::{Emit, Val, case};
use lorac_ir::{Node, Tensor};

pub(super) const MATMUL_NBITS: Op = Op {
    name: "MatMulNBits",
    traits: PACKED_PRODUCT,
    inputs: (3, 6),
    infer: |c| {
        let mut fact = c.fact(0);
        if let Some(last) = fact.shape.as_mut().and_then(|d| d.last_mut()) {
            if let Dim::Known(k) = last
                && *k != c.node.int("K", 0)
            {
                let want = format!("{} columns", c.node.int("K", 0));
                return Err(InferError::Operand { slot: 0, got: c.fact(0), want });
            }
            *last = Dim::Known(c.node.int("N", 0));
        }
        one(fact)
    },
    eval,
    flops: |c, k| elementwise(c, k) * Dim::Known(c.node.int("K", 0)) * Dim::Known(2),
    // The weight is frozen: it is unpacked when the lowering is written.
    grad: Grad::lower(
        lower,
        &[
            case(&[
                Any(&[2, 3, 20]),
                Of(DType::U8, &[2, 2, 8], &BYTES),
                Floats(&[2, 2], &[0.1, 0.2, 0.05, 0.3]),
                Of(DType::U8, &[2, 1], &[0x97, 0x58]),
                Absent,
                Any(&[2]),
            ])
            .with(&[("K", Int(20)), ("N", Int(2)), ("bits", Int(4)), ("block_size", Int(16))]),
            case(&[
                Any(&[3, 16]),
                Of(DType::U8, &[2, 1, 16], &BYTES),
                Floats(&[2], &[0.01, 0.02]),
                Of(DType::U8, &[2], &[100, 140]),
            ])
            .with(&[("K", Int(16)), ("N", Int(2)), ("bits", Int(8)), ("block_size", Int(16))]),
            case(&[Any(&[3, 32]), Of(DType::U8, &[2, 1, 16], &BYTES), Floats(&[2, 1], &[0.1, 0.2])]).with(&[
                ("K", Int(32)),
                ("N", Int(2)),
                ("block_size", Int(32)),
            ]),
            case(&[
                Any(&[3, 32]),
                Of(DType::U8, &[2, 1, 16], &BYTES),
                Floats(&[2, 1], &[0.1, 0.2]),
                Floats(&[2, 1], &[7.5, 6.25]),
            ])
            .with(&[("K", Int(32)), ("N", Int(2)), ("bits", Int(4)), ("block_size", Int(32))]),
            case(&[Any(&[1, 64]), Of(DType::U8, &[2, 1, 16], &BYTES), Floats(&[2, 1], &[0.1, 0.2])]).with(&[
                ("K", Int(64)),
                ("N", Int(2)),
                ("bits", Int(2)),
                ("block_size", Int(64)),
            ]),
        ],
    ),
    ..FUSED
};

const BYTES: [i64; 32] = [
    0x12, 0xfe, 0x83, 0x07, 0x5a, 0xc4, 0x99, 0x60, 0xbd, 0x2e, 0x71, 0x48, 0xff, 0x00, 0x3c, 0xa5, 0xd6, 0x1b, 0x84,
    0xe9, 0x32, 0x57, 0xc0, 0x7f, 0x08, 0xb3, 0x4d, 0xa1, 0x6e, 0x95, 0x2a, 0xf8,
];

/// The zero point where none is given: the middle.
fn middle(bits: i64) -> f64 {
    (1u64 << (bits.clamp(1, 8) - 1)) as f64
}

fn lower<'e, 'g>(e: &'e Emit<'g>, node: &Node, x: &[Val<'e, 'g>]) -> Vec<Val<'e, 'g>> {
    let tensor = |slot: usize| x.get(slot).and_then(|v| v.present()).map(|v| v.tensor());
    let weight = match (tensor(1), tensor(2), tensor(3), tensor(4)) {
        // An operand that is there must be a weight.
        (Some(Some(b)), Some(Some(scales)), zeros, groups) if zeros != Some(None) && groups != Some(None) => {
            dequantized(node, &b, &scales, zeros.flatten().as_ref(), groups.flatten().as_ref(), x[0].fact().dtype)
        }
        _ => None,
    };
    let Some(weight) = weight else {
        let want = "a weight of 2, 4 or 8 bits that fits K, N and block_size".into();
        return vec![e.fail(InferError::Operand { slot: 1, got: x[1].fact(), want })];
    };
    let y = x[0].matmul(e.weight("", weight));
    vec![x.get(5).and_then(|b| b.present()).map_or(y, |bias| y + bias)]
}

/// The weight `[K, N]`.
fn dequantized(
    node: &Node,
    packed: &Tensor,
    scales: &Tensor,
    zeros: Option<&Tensor>,
    groups: Option<&Tensor>,
    dtype: DType,
) -> Option<Tensor> {
    let bits = node.int("bits", 4);
    let per = per_byte(bits).filter(|_| bits > 1)?;
    let at_least_1 = |name: &str| usize::try_from(node.int(name, 0)).ok().filter(|n| *n > 0);
    let (k, n, block) = (at_least_1("K")?, at_least_1("N")?, at_least_1("block_size")?);
    if !block.is_multiple_of(per) {
        return None;
    }
    let blocks = k.div_ceil(block);
    let (row, bytes) = (blocks * (block / per), packed.bytes());
    let scales = scales.to_f64()?;
    if bytes.len() != n * row || scales.len() != n * blocks {
        return None;
    }
    let zeros = match zeros {
        None => vec![middle(bits); n * blocks],
        Some(z) if z.dtype().is_float() => z.to_f64()?,
        Some(z) => {
            let rows = z.bytes().chunks(blocks.div_ceil(per));
            rows.flat_map(|r| unpacked(r, bits).into_iter().take(blocks).map(f64::from)).collect()
        }
    };
    if zeros.len() != n * blocks {
        return None;
    }
    let groups: Option<Vec<i64>> = match groups {
        Some(g) => Some(g.to_i64()?),
        None => None,
    };
    let group = |i: usize| match &groups {
        Some(g) => g.get(i).and_then(|g| usize::try_from(*g).ok()).filter(|g| *g < blocks),
        None => Some(i / block),
    };
    let mut weight = vec![0.0; k * n];
    for (j, row) in bytes.chunks(row).enumerate() {
        for (i, q) in unpacked(row, bits).into_iter().take(k).enumerate() {
            let at = j * blocks + group(i)?;
            weight[i * n + j] = (f64::from(q) - zeros[at]) * scales[at];
        }
    }
    Tensor::from_f64(dtype, &[k, n], &weight)
}

fn eval(a: &Args) -> EvalResult {
    let (k, n, block) = (size(a.node, "K")?, size(a.node, "N")?, size(a.node, "block_size")?);
    let bits = a.node.int("bits", 4);
    let Some(per) = per_byte(bits) else { return invalid(format!("numbers of {bits} bits")) };
    let blocks = k.div_ceil(block);
    let (x, packed, scales) = (a.x(0)?, a.x(1)?, a.x(2)?);
    let short = || EvalError::Invalid(format!("a weight that is not {n} rows of {blocks} blocks of {block}"));
    let element = |i: usize, j: usize| -> Result<f64, EvalError> {
        let block_at = match a.opt(4) {
            Some(g) => *g.iter().nth(i).ok_or_else(short)? as usize,
            None => i / block,
        };
        let zero = match a.opt(3) {
            None => middle(bits),
            Some(z) if a.dtype(3).is_float() => *z.iter().nth(j * blocks + block_at).ok_or_else(short)?,
            Some(z) => one_of(z, j * blocks.div_ceil(per), block_at, bits).ok_or_else(short)?,
        };
        let q = one_of(packed, j * blocks * block / per, i, bits).ok_or_else(short)?;
        Ok((q - zero) * scales.iter().nth(j * blocks + block_at).ok_or_else(short)?)
    };
    let Some((last, outer)) = x.shape().split_last().filter(|(last, _)| **last == k) else {
        return invalid(format!("{:?} has no {k} columns", x.shape()));
    };
    let rows: Vec<f64> = x.iter().copied().collect();
    let mut y = Vec::with_capacity(rows.len() / last * n);
    for row in rows.chunks(k) {
        for j in 0..n {
            let mut sum = a.opt(5).and_then(|b| b.iter().nth(j)).copied().unwrap_or(0.0);
            for (i, x) in row.iter().enumerate() {
                sum += x * element(i, j)?;
            }
            y.push(sum);
        }
    }
    Ok(vec![Array::from_shape_vec([outer, &[n]].concat(), y)?])
}
