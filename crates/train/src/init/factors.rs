//! The first A and B of a low-rank branch that begin together: made of one random rotation, or of the weight.

use super::{normal, orthogonal};
use faer::Mat;
use lorac_passes::{FactorPair, FactorSource, WeightColumns};
use rand_chacha::ChaCha8Rng;

/// A `[r, in]` and B `[out, r]`, row-major.
pub(super) type Factors = [Vec<f32>; 2];

/// Both factors of a pair. None where the weight is not of its size, or has no decomposition, as it holds what is not finite.
pub(super) fn factors(pair: &FactorPair, random: &mut ChaCha8Rng) -> Option<Factors> {
    match &pair.source {
        FactorSource::Orthogonal => Some(halves(pair, random)),
        FactorSource::Principal(weight) => principal(pair, &matrix(pair, weight)?),
        FactorSource::Triangular(weight) => triangular(pair, &matrix(pair, weight)?),
        FactorSource::Inputs(directions) => {
            let a = directions.as_ref()?.to_vec::<f32>().ok().filter(|a| a.len() == pair.rank * pair.rows)?;
            Some([a, vec![0.0; pair.cols * pair.rank]])
        }
        FactorSource::Gradient { columns, .. } => of_gradient(pair, &matrix(pair, columns)?),
    }
}

/// The weight as `[out, in]`, in f64.
fn matrix(pair: &FactorPair, from: &WeightColumns) -> Option<Mat<f64>> {
    let values = from.weight.to_f64()?;
    let whole = values.len().checked_div(pair.rows)?;
    let column = |i: usize| from.columns.as_ref().map_or(Some(i), |columns| columns.get(i).copied());
    let fits = whole * pair.rows == values.len() && (0..pair.cols).all(|i| column(i).is_some_and(|j| j < whole));
    if !fits || values.iter().any(|x| !x.is_finite()) {
        return None;
    }
    let at = |i: usize, k: usize| {
        let j = column(i).unwrap_or_default();
        values[if from.transposed { j * pair.rows + k } else { k * whole + j }]
    };
    Some(Mat::from_fn(pair.cols, pair.rows, at))
}

/// `B = U sqrt(S / s)`, `A = sqrt(S / s) V^T`, of the r largest singular values (Meng et al. 2024, section 3).
fn principal(pair: &FactorPair, weight: &Mat<f64>) -> Option<Factors> {
    let svd = weight.thin_svd().ok()?;
    let (u, s, v) = (svd.U(), svd.S(), svd.V());
    let root = |k: usize| (s[k] / pair.scale).sqrt();
    Some([
        rows(pair.rank, pair.rows, |k, j| root(k) * v[(j, k)]),
        rows(pair.cols, pair.rank, |i, k| u[(i, k)] * root(k)),
    ])
}

/// gamma of what keeps the results of a branch of one size (Wang et al. 2024, section 3.3).
const GAMMA: f64 = 16.0;

/// `A = V[:, :r]^T`, `B = U[:, r:2r] S[r:2r] out^(1/4) / sqrt(gamma)` of the singular vectors of a gradient, the largest element of
/// each of V positive (PEFT's `ArB2r`, `stable`).
fn of_gradient(pair: &FactorPair, gradient: &Mat<f64>) -> Option<Factors> {
    let svd = gradient.thin_svd().ok()?;
    let (u, s, v) = (svd.U(), svd.S(), svd.V());
    let rank = pair.rank;
    if 2 * rank > pair.rows.min(pair.cols) {
        return None;
    }
    let sign = |k: usize| {
        let largest =
            (0..pair.rows).map(|j| v[(j, k)]).fold(0.0f64, |best, x| if x.abs() > best.abs() { x } else { best });
        if largest < 0.0 { -1.0 } else { 1.0 }
    };
    let signs: Vec<f64> = (0..2 * rank).map(sign).collect();
    let size = (pair.cols as f64).powf(0.25) / GAMMA.sqrt();
    Some([
        rows(rank, pair.rows, |k, j| signs[k] * v[(j, k)]),
        rows(pair.cols, rank, |i, k| signs[rank + k] * u[(i, rank + k)] * s[rank + k] * size),
    ])
}

/// `B = Q[:, :r]`, `A = R[:r]`, with `Q R` the weight (Buyukakyuz 2024, algorithm 1).
fn triangular(pair: &FactorPair, weight: &Mat<f64>) -> Option<Factors> {
    let qr = weight.qr();
    let (q, r) = (qr.compute_thin_Q(), qr.thin_R());
    Some([rows(pair.rank, pair.rows, |k, j| r[(k, j)]), rows(pair.cols, pair.rank, |i, k| q[(i, k)])])
}

/// A and B over every other row of one random rotation, as PEFT's `orthogonal`: A reads what B does not write.
fn halves(pair: &FactorPair, random: &mut ChaCha8Rng) -> Factors {
    let (rank, half) = (pair.rank, pair.rank / 2);
    let q = orthogonal(&[rank, rank], random);
    let a = normal(0.1, pair.rows * half, random);
    let b = normal(0.1, pair.cols * half, random);
    // Row `2 l + odd` of the rotation.
    let q = |l: usize, odd: usize, k: usize| f64::from(q[(2 * l + odd) * rank + k]);
    let mixed = |of: &[f32], i: usize, odd: usize, k: usize| {
        (0..half).map(|l| f64::from(of[i * half + l]) * q(l, odd, k)).sum::<f64>()
    };
    [rows(rank, pair.rows, |k, j| mixed(&a, j, 0, k)), rows(pair.cols, rank, |i, k| mixed(&b, i, 1, k))]
}

fn rows(count: usize, width: usize, at: impl Fn(usize, usize) -> f64) -> Vec<f32> {
    (0..count * width).map(|i| at(i / width, i % width) as f32).collect()
}

/// `(A A^T + 1e-8 I)^-1 / s^2` of A `[r, in]`, `[r, r]`: by the eigenvalues, those that are nearly 0 left out.
pub(super) fn inverse_gram(a: &[f32], rank: usize, scale: f64) -> Option<Vec<f32>> {
    let width = a.len().checked_div(rank)?;
    let row = |i: usize| a[i * width..(i + 1) * width].iter().map(|x| f64::from(*x));
    let gram = Mat::from_fn(rank, rank, |i, j| {
        row(i).zip(row(j)).map(|(x, y)| x * y).sum::<f64>() + if i == j { 1e-8 } else { 0.0 }
    });
    let svd = gram.thin_svd().ok()?;
    let (u, s, v) = (svd.U(), svd.S(), svd.V());
    // As a pseudo-inverse does.
    let least = 1e-15 * rank as f64 * s[0];
    let inverse = |k: usize| if s[k] > least { 1.0 / s[k] } else { 0.0 };
    Some(rows(rank, rank, |i, j| (0..rank).map(|k| v[(i, k)] * inverse(k) * u[(j, k)]).sum::<f64>() / (scale * scale)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use lorac_ir::Tensor;
    use rand_chacha::rand_core::SeedableRng;

    const ROWS: usize = 5;
    const WHOLE: usize = 7;

    fn values() -> Vec<f32> {
        normal(1.0, ROWS * WHOLE, &mut ChaCha8Rng::seed_from_u64(3))
    }

    fn pair(transposed: bool, columns: Option<Vec<usize>>, rank: usize, principal: bool) -> FactorPair {
        let dims = if transposed { [WHOLE, ROWS] } else { [ROWS, WHOLE] };
        let weight = Tensor::from_slice(&dims, &values()).expect("fits");
        let cols = columns.as_ref().map_or(WHOLE, Vec::len);
        let columns = WeightColumns { weight, transposed, columns };
        let source = if principal { FactorSource::Principal(columns) } else { FactorSource::Triangular(columns) };
        FactorPair { rank, rows: ROWS, cols, scale: 0.5, source }
    }

    /// Element (i, j) of s B A.
    fn product(pair: &FactorPair, [a, b]: &Factors, i: usize, j: usize) -> f64 {
        let terms = (0..pair.rank).map(|k| f64::from(b[i * pair.rank + k]) * f64::from(a[k * pair.rows + j]));
        pair.scale * terms.sum::<f64>()
    }

    #[test]
    fn all_singular_values_give_the_weight_and_fewer_the_nearest_to_it() {
        let mut random = ChaCha8Rng::seed_from_u64(0);
        for (transposed, columns) in [(true, None), (false, None), (false, Some(vec![1, 4, 5, 6, 0]))] {
            let whole = pair(transposed, columns.clone(), ROWS, true);
            let weight = matrix(
                &whole,
                match &whole.source {
                    FactorSource::Principal(w) => w,
                    _ => panic!(),
                },
            )
            .expect("fits");
            let all = factors(&whole, &mut random).expect("decomposes");
            for (i, j) in (0..whole.cols).flat_map(|i| (0..ROWS).map(move |j| (i, j))) {
                assert!((product(&whole, &all, i, j) - weight[(i, j)]).abs() < 1e-6, "{i}, {j}");
            }
            let few = pair(transposed, columns, 2, true);
            let [a, b] = factors(&few, &mut random).expect("decomposes");
            assert_eq!((&a[..], few.rank * ROWS), (&all[0][..2 * ROWS], a.len()));
            // The lengths of both are the root of S / s.
            let length = |v: Vec<f32>| v.iter().map(|x| x * x).sum::<f32>();
            let (of_a, of_b) = (length(a[..ROWS].to_vec()), length(b.iter().step_by(2).copied().collect()));
            assert!((of_a - of_b).abs() < 1e-5, "{of_a} {of_b}");
        }
    }

    #[test]
    fn a_triangular_pair_has_orthonormal_columns_and_gives_the_weight() {
        let mut random = ChaCha8Rng::seed_from_u64(0);
        let whole = FactorPair { scale: 1.0, ..pair(true, None, ROWS, false) };
        let all = factors(&whole, &mut random).expect("decomposes");
        let weight = matrix(
            &whole,
            match &whole.source {
                FactorSource::Triangular(w) => w,
                _ => panic!(),
            },
        )
        .expect("fits");
        for (i, j) in (0..WHOLE).flat_map(|i| (0..ROWS).map(move |j| (i, j))) {
            assert!((product(&whole, &all, i, j) - weight[(i, j)]).abs() < 1e-6);
        }
        let dot: f32 = (0..WHOLE).map(|i| all[1][i * ROWS] * all[1][i * ROWS + 1]).sum();
        assert!(dot.abs() < 1e-6);
    }

    #[test]
    fn orthogonal_factors_change_nothing_and_are_not_zero() {
        let pair = FactorPair { rank: 4, rows: 6, cols: 5, scale: 1.0, source: FactorSource::Orthogonal };
        let both = factors(&pair, &mut ChaCha8Rng::seed_from_u64(1)).expect("draws");
        assert!(both.iter().all(|f| f.iter().any(|x| x.abs() > 0.01)));
        for (i, j) in (0..5).flat_map(|i| (0..6).map(move |j| (i, j))) {
            assert!(product(&pair, &both, i, j).abs() < 1e-6);
        }
    }

    #[test]
    fn an_inverse_of_a_gram_matrix() {
        let inverse = inverse_gram(&[2.0, 0.0, 0.0, 0.0, 4.0, 0.0], 2, 0.5).expect("inverts");
        let want = [1.0, 0.0, 0.0, 0.25];
        assert!(inverse.iter().zip(want).all(|(x, y)| (x - y).abs() < 1e-6), "{inverse:?}");
    }
}
