//! Det.

use super::*;
use crate::Operand::{Any, Floats};
use crate::{Backward, Val, case};

pub(super) const OPS: &[Op] = &[DET];

const DET: Op = Op {
    name: "Det",
    infer: |c| {
        let fact = c.fact(0);
        match fact.dims() {
            None => one(fact),
            Some([batch @ .., m, n]) if m.known().is_none() || n.known().is_none() || m == n => {
                one(Fact::new(fact.dtype, batch.iter().copied()))
            }
            Some(_) => Err(InferError::Operand { slot: 0, got: fact, want: "square matrices".into() }),
        }
    },
    eval: |a| {
        let x = a.x(0)?;
        let [batch @ .., m, n] = x.shape() else { return invalid("a matrix has two axes") };
        if m != n {
            return invalid(format!("a matrix of {m} rows and {n} columns"));
        }
        let flat: Vec<f64> = x.iter().copied().collect();
        let count = batch.iter().product();
        let size = m * n;
        let matrix = |i: usize| flat.get(i * size..(i + 1) * size).unwrap_or_default();
        Ok(vec![Array::from_shape_vec(batch, (0..count).map(|i| determinant(matrix(i).to_vec(), *n)).collect())?])
    },
    flops: |c, _| {
        let n = c.dims(0).and_then(|d| d.last().copied()).unwrap_or(Dim::Unknown);
        c.fact(0).volume() * n
    },
    grad: Grad::rule(
        cofactors,
        &[
            case(&[Any(&[2, 2])]),
            case(&[Any(&[2, 3, 3])]),
            case(&[Any(&[4, 4])]),
            // Of a singular matrix, too.
            case(&[Floats(&[3, 3], &[1.0, 2.0, 3.0, 2.0, 4.0, 6.0, 1.0, 0.0, 1.0])]),
        ],
    ),
    ..UNARY
};

/// By elimination with the largest pivot of each column; `m` holds `n` rows.
fn determinant(mut m: Vec<f64>, n: usize) -> f64 {
    let mut product = 1.0;
    for column in 0..n {
        let size = |row: &usize| m[row * n + column].abs();
        let Some(pivot) = (column..n).max_by(|a, b| size(a).total_cmp(&size(b))) else { return product };
        if m[pivot * n + column] == 0.0 {
            return 0.0;
        }
        if pivot != column {
            product = -product;
            (0..n).for_each(|i| m.swap(pivot * n + i, column * n + i));
        }
        product *= m[column * n + column];
        for row in column + 1..n {
            let factor = m[row * n + column] / m[column * n + column];
            (column..n).for_each(|i| m[row * n + i] -= factor * m[column * n + i]);
        }
    }
    product
}

/// The slope in each element is its cofactor: the signed determinant of what is left without its row and its column.
/// All of them are gathered and taken at once; unlike a product with the inverse, that knows singular matrices.
// CUDA: ONNX Runtime computes Det on the CPU, in the model as here.
fn cofactors<'e, 'g>(b: &Backward<'e, 'g>) -> Vec<Option<Val<'e, 'g>>> {
    let (e, x) = (b.emit, b.x[0]);
    let fact = x.fact();
    let Some([batch @ .., _, n]) = fact.dims() else {
        e.fail(InferError::Operand { slot: 0, got: fact, want: "a known rank".into() });
        return Vec::new();
    };
    let gy = b.gy.binary("Unsqueeze", e.ints(&[-2, -1]));
    if *n == Dim::Known(1) {
        return vec![Some(gy)];
    }
    let rank = batch.len() as i64 + 2;
    let whole = |n: f64| e.scalar(n, DType::I64);
    let n = match n.known() {
        Some(n) => whole(n as f64),
        None => x.unary("Shape").binary("Gather", whole((rank - 1) as f64)),
    };
    let upto = |n: Val<'e, 'g>| e.op("Range", &[whole(0.0), n, whole(1.0)], &[]);
    // Row i lists all positions but i.
    let (positions, rest) = (upto(n), upto(n - 1.0));
    let column = positions.binary("Unsqueeze", e.ints(&[1]));
    let others = rest + rest.binary("GreaterOrEqual", column).cast(DType::I64);
    let narrow = e.op("Gather", &[x, others], &[("axis", (rank - 1).into())]);
    let minors = e.op("Gather", &[narrow, others], &[("axis", (rank - 2).into())]);
    let lead = batch.len();
    let order: Vec<usize> = (0..lead).chain([lead, lead + 2, lead + 1, lead + 3]).collect();
    let signs = 1.0 - positions.binary("Mod", whole(2.0)).cast(b.gy.fact().dtype) * 2.0;
    let signs = signs * signs.binary("Unsqueeze", e.ints(&[1]));
    vec![Some(minors.transpose(&order).unary("Det") * signs * gy)]
}
