//! The directions in which vectors vary most, batch by batch: incremental principal components, as EVA takes them.

use faer::{Mat, Side};

/// Directions as alike as this, of one batch and the next, have converged (EVA's tau).
const ALIKE: f64 = 0.99;

/// Principal components of vectors that come in batches (Ross et al. 2008; scikit-learn's and PEFT's `IncrementalPCA`).
pub(super) struct Principal {
    /// How many.
    count: usize,
    /// Length of a vector.
    width: usize,
    /// Vectors seen.
    seen: f64,
    mean: Vec<f64>,
    /// The sum of the squares of how far they are from it.
    spread: f64,
    /// `[count, width]`, row-major, of length 1, with the largest element of each positive.
    directions: Vec<f64>,
    /// Roots of the sums of squares along them.
    sizes: Vec<f64>,
    /// Of each, whether the last batch has not turned it.
    converged: Vec<bool>,
}

impl Principal {
    /// Of vectors of a length.
    pub(super) fn new(count: usize, width: usize) -> Principal {
        let (mean, directions, sizes) = (vec![0.0; width], Vec::new(), Vec::new());
        Principal { count, width, seen: 0.0, mean, spread: 0.0, directions, sizes, converged: vec![false; count] }
    }

    /// Adds a batch of vectors, `[rows, width]`. One with fewer vectors than there are components says too little and is passed
    /// over. None where there are no components, as the vectors hold what is not finite.
    pub(super) fn add(&mut self, rows: &[f32]) -> Option<()> {
        let (width, batch) = (self.width, rows.len() / self.width.max(1));
        if batch < self.count.max(1) {
            return Some(());
        }
        let row = |i: usize| rows[i * width..(i + 1) * width].iter().copied().map(f64::from);
        let mut own = vec![0.0; width];
        for i in 0..batch {
            own.iter_mut().zip(row(i)).for_each(|(sum, x)| *sum += x);
        }
        own.iter_mut().for_each(|sum| *sum /= batch as f64);
        let (before, all) = (self.seen, self.seen + batch as f64);
        // What is left of earlier batches, this one around its mean, and how far that is from the mean before.
        let known = if before > 0.0 { self.count } else { 0 };
        let shift = (before / all * batch as f64).sqrt();
        let centred: Vec<f64> =
            (0..batch).flat_map(|i| row(i).zip(&own).map(|(x, m)| x - m).collect::<Vec<_>>()).collect();
        let at = |i: usize, j: usize| match i {
            i if i < known => self.sizes[i] * self.directions[i * width + j],
            i if i < known + batch => centred[(i - known) * width + j],
            _ => shift * (self.mean[j] - own[j]),
        };
        let count = known + batch + usize::from(before > 0.0);
        let stacked = Mat::from_fn(count, width, at);
        if (0..count).any(|i| (0..width).any(|j| !stacked[(i, j)].is_finite())) {
            return None;
        }
        let (directions, sizes) = largest(&stacked, self.count)?;
        let alike = |k: usize| {
            let at = k * width..(k + 1) * width;
            let dot: f64 = directions[at.clone()].iter().zip(&self.directions[at]).map(|(x, y)| x * y).sum();
            dot >= ALIKE
        };
        self.converged = (0..self.count).map(|k| before > 0.0 && alike(k)).collect();
        self.spread += centred.iter().map(|x| x * x).sum::<f64>();
        self.spread += self.mean.iter().zip(&own).map(|(m, own)| (shift * (m - own)).powi(2)).sum::<f64>();
        let mean = |(m, own): (&f64, &f64)| (m * before + own * batch as f64) / all;
        self.mean = self.mean.iter().zip(&own).map(mean).collect();
        (self.directions, self.sizes, self.seen) = (directions, sizes, all);
        Some(())
    }

    /// Length of a vector.
    pub(super) fn width(&self) -> usize {
        self.width
    }

    /// Whether the last batch has turned none of the first of them.
    pub(super) fn is_converged(&self, count: usize) -> bool {
        self.converged.iter().take(count).all(|converged| *converged)
    }

    /// The share of the variance along each direction, the largest first; none where no batch had enough vectors.
    pub(super) fn shares(&self) -> Option<Vec<f64>> {
        let all = (!self.sizes.is_empty()).then(|| self.sizes.iter().map(|size| size * size / self.spread));
        all.map(|shares| shares.map(|share| if share.is_finite() { share } else { 0.0 }).collect())
    }

    /// The first of the directions, `[count, width]`; none where no batch had enough vectors.
    pub(super) fn directions(&self, count: usize) -> Option<Vec<f32>> {
        let all = self.directions.get(..count * self.width)?;
        Some(all.iter().map(|x| *x as f32).collect())
    }
}

/// The right singular vectors of the largest singular values, row by row, and these.
fn largest(of: &Mat<f64>, count: usize) -> Option<(Vec<f64>, Vec<f64>)> {
    let width = of.ncols();
    // Of many rows the squares are the smaller matrix.
    let (vectors, values) = if of.nrows() >= width {
        let eigen = (of.transpose() * of).self_adjoint_eigen(Side::Lower).ok()?;
        let (u, s) = (eigen.U().to_owned(), eigen.S());
        (u, (0..width).map(|k| s[k].max(0.0).sqrt()).collect::<Vec<f64>>())
    } else {
        let svd = of.thin_svd().ok()?;
        let s = svd.S();
        (svd.V().to_owned(), (0..of.nrows().min(width)).map(|k| s[k]).collect())
    };
    let mut order: Vec<usize> = (0..values.len()).collect();
    order.sort_by(|i, j| values[*j].total_cmp(&values[*i]));
    if order.len() < count {
        return None;
    }
    let mut directions = Vec::with_capacity(count * width);
    for k in &order[..count] {
        let vector = || (0..width).map(|j| vectors[(j, *k)]);
        let largest = vector().fold(0.0f64, |best, x| if x.abs() > best.abs() { x } else { best });
        let sign = if largest < 0.0 { -1.0 } else { 1.0 };
        directions.extend(vector().map(|x| sign * x));
    }
    Some((directions, order[..count].iter().map(|k| values[*k]).collect()))
}

#[cfg(test)]
mod tests {
    use super::super::normal;
    use super::*;
    use rand_chacha::ChaCha8Rng;
    use rand_chacha::rand_core::SeedableRng;

    /// Vectors of 6 numbers that vary most in the last, then in the second, around a mean.
    fn batch(rows: usize, seed: u64) -> Vec<f32> {
        let drawn = normal(1.0, rows * 6, &mut ChaCha8Rng::seed_from_u64(seed));
        let size = [0.1, 2.0, 0.2, 0.1, 0.3, 5.0];
        drawn.iter().enumerate().map(|(i, x)| x * size[i % 6] + 10.0).collect()
    }

    #[test]
    fn directions_of_the_largest_variance_whatever_the_mean() {
        for rows in [10, 200] {
            let mut principal = Principal::new(2, 6);
            principal.add(&batch(rows, 1)).expect("finite");
            assert!(!principal.is_converged(1) && principal.is_converged(0));
            principal.add(&batch(rows, 1)).expect("finite");
            assert!(principal.is_converged(2));
            let found = principal.directions(2).expect("there");
            assert!(found[5] > 0.9 && found[7] > 0.9, "{rows}: {found:?}");
        }
    }

    /// As many components as there are numbers lose nothing between batches.
    #[test]
    fn batches_one_after_the_other_are_as_one() {
        let (first, second) = (batch(20, 1), batch(30, 2));
        let mut whole = Principal::new(6, 6);
        whole.add(&[&first[..], &second].concat()).expect("finite");
        let mut parts = Principal::new(6, 6);
        parts.add(&first).expect("finite");
        parts.add(&second).expect("finite");
        let (one, other) = (whole.shares().expect("there"), parts.shares().expect("there"));
        assert!(one.iter().zip(&other).all(|(x, y)| (x - y).abs() < 1e-6), "{one:?} {other:?}");
        assert!((one.iter().sum::<f64>() - 1.0).abs() < 1e-6 && one[0] > 0.8, "{one:?}");
        let (whole, parts) = (whole.directions(6).expect("there"), parts.directions(6).expect("there"));
        assert!(whole.iter().zip(&parts).all(|(x, y)| (x - y).abs() < 1e-6), "{whole:?} {parts:?}");
    }

    #[test]
    fn what_says_too_little_or_nothing() {
        let mut principal = Principal::new(4, 6);
        principal.add(&batch(3, 1)).expect("passed over");
        assert_eq!(principal.directions(4), None);
        assert_eq!(principal.add(&[f32::NAN; 30]), None);
    }
}
