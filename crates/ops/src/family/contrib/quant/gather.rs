//! GatherBlockQuantized.

use super::blocks::{one_of, per_byte};
use super::*;

/// Data of 4-bit types has no bytes here; that of `uint8` is packed along its last axis.
pub(super) const GATHER_BLOCK_QUANTIZED: Op = Op {
    name: "GatherBlockQuantized",
    inputs: (3, 4),
    infer: |c| {
        let (data, at, scales) = (c.fact(0), c.fact(1), c.fact(2));
        let (Some(dims), Some(at)) = (data.dims(), at.dims()) else { return one(Fact::unranked(scales.dtype)) };
        let axis = gather_axis(c.node.int("gather_axis", 0), dims.len());
        let Some(axis) = axis else {
            let want = format!("one of {} axes", dims.len());
            return Err(InferError::Attribute {
                name: "gather_axis",
                got: c.node.int("gather_axis", 0).to_string(),
                want,
            });
        };
        let mut dims = dims.to_vec();
        let per = per_byte(c.node.int("bits", 4)).filter(|_| data.dtype == DType::U8).unwrap_or(1);
        if let Some(last) = dims.last_mut() {
            *last = *last * Dim::Known(per as i64);
        }
        one(Fact::new(scales.dtype, [&dims[..axis], at, &dims[axis + 1..]].concat()))
    },
    eval: |a| {
        let (data, at, scales) = (a.x(0)?, a.x(1)?, a.x(2)?);
        let bits = a.node.int("bits", 4);
        let Some(per) = per_byte(bits) else { return invalid(format!("numbers of {bits} bits")) };
        let rank = data.ndim();
        let along = gather_axis(a.node.int("quantize_axis", 1), rank);
        if a.node.int("gather_axis", 0) != 0 || along != rank.checked_sub(1) || scales.ndim() != rank || rank < 2 {
            return invalid("rows of bytes, quantized along the last axis, are gathered by the first");
        }
        let block = super::blocks::size(a.node, "block_size").unwrap_or(128);
        let (bytes, groups) = (data.shape()[rank - 1], scales.shape()[rank - 1]);
        let width = bytes * per;
        let lines: usize = data.shape()[1..rank - 1].iter().product();
        let rows = data.shape()[0];
        let short = || EvalError::Invalid(format!("scales {:?} of blocks of {block}", scales.shape()));
        let mut y = Vec::new();
        for index in at.iter() {
            let row = if *index < 0.0 { index + rows as f64 } else { *index };
            // An index out of range gives zeros.
            let row = (row >= 0.0 && row < rows as f64).then_some(row as usize);
            for (line, i) in (0..lines).flat_map(|l| (0..width).map(move |i| (l, i))) {
                let Some(row) = row else {
                    y.push(0.0);
                    continue;
                };
                let line = row * lines + line;
                let q = one_of(data, line * bytes, i, bits).ok_or_else(short)?;
                let zero = match a.opt(3) {
                    Some(z) => one_of(z, line * groups.div_ceil(per), i / block, bits).ok_or_else(short)?,
                    None => (1u64 << (bits - 1)) as f64,
                };
                y.push((q - zero) * scales.iter().nth(line * groups + i / block).ok_or_else(short)?);
            }
        }
        let dims = [at.shape(), &data.shape()[1..rank - 1], &[width]].concat();
        Ok(vec![Array::from_shape_vec(dims, y)?])
    },
    flops: |c, k| elementwise(c, k) * Dim::Known(2),
    grad: Grad::Zero("its table is quantized, hence frozen, and indices have no gradient"),
    ..FUSED
};

fn gather_axis(axis: i64, rank: usize) -> Option<usize> {
    let axis = if axis < 0 { axis + rank as i64 } else { axis };
    usize::try_from(axis).ok().filter(|a| *a < rank)
}

#[cfg(test)]
mod tests {
    use super::*;
    use lorac_ir::Node;

    /// Two rows of 32 numbers of 4 bits, in blocks of 16.
    fn gathered(index: &[f64]) -> Vec<f64> {
        let bytes: Vec<f64> = (0..32).map(|i| f64::from((i * 37 + 11) % 256)).collect();
        let array = |dims: &[usize], data: Vec<f64>| Array::from_shape_vec(dims.to_vec(), data).expect("fits");
        let attrs = [("block_size", 16), ("quantize_axis", 1), ("bits", 4)];
        let node = Node {
            op: "GatherBlockQuantized".into(),
            inputs: Vec::new(),
            outputs: Vec::new(),
            attrs: attrs.iter().map(|(k, v)| ((*k).into(), i64::from(*v).into())).collect(),
            origin: lorac_ir::Origin { pass: "".into(), source: "".into() },
        };
        let inputs = vec![
            Some(array(&[2, 16], bytes)),
            Some(array(&[index.len()], index.to_vec())),
            Some(array(&[2, 2], vec![0.5, 0.25, 2.0, 1.0])),
            Some(array(&[2, 1], vec![0x87 as f64, 0x93 as f64])),
        ];
        let dtypes = vec![DType::U8, DType::I64, DType::F32, DType::U8];
        let y = (GATHER_BLOCK_QUANTIZED.eval)(&Args { node: &node, opset: 1, inputs, dtypes, outputs: 1 });
        y.expect("evaluates").iter().flat_map(|y| y.iter().copied()).collect()
    }

    #[test]
    fn rows_of_four_bits() {
        let y = gathered(&[1.0, -2.0, 7.0]);
        assert_eq!(y.len(), 96);
        // Byte 16 is 0x5b: 11 and 5, zero point 3, scale 2. Byte 24 is 0x83: 3 and 8, zero point 9, scale 1.
        assert_eq!((y[0], y[1], y[16], y[17]), (16.0, 4.0, -6.0, -1.0));
        // Byte 0 is 0x0b: 11 and 0, zero point 7, scale 0.5.
        assert_eq!((y[32], y[33]), (2.0, -3.5));
        assert!(y[64..].iter().all(|y| *y == 0.0), "no row 7");
    }
}
