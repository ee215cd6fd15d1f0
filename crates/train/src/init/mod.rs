//! The first theta.

mod factors;
mod look;
mod principal;

use factors::{Factors, factors, inverse_gram};
use lorac_passes::{Factor, FactorPair, Init, LayoutError, Param};
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{RngCore, SeedableRng};
use rand_distr::{Distribution, Normal};
use std::collections::HashMap;
use std::sync::Arc;

pub use look::{directions_of_inputs, look, with_directions};

/// The values of params before the first step, one after the other, drawn from the seed.
///
/// # Errors
/// Given values of another number than the param has; weights that cannot be decomposed; what has to be looked at first.
pub fn initial_theta(params: &[Param], seed: u64) -> Result<Vec<f32>, LayoutError> {
    let mut random = ChaCha8Rng::seed_from_u64(seed);
    let mut theta = Vec::with_capacity(params.iter().map(Param::len).sum());
    let mut pairs: HashMap<*const FactorPair, Factors> = HashMap::new();
    for param in params {
        let len = param.len();
        match &param.init {
            Init::Zeros => theta.extend(std::iter::repeat_n(0.0, len)),
            Init::Normal { sigma } => theta.extend(normal(*sigma, len, &mut random)),
            Init::Uniform { bound } => theta.extend((0..len).map(|_| (2.0 * unit(&mut random) - 1.0) * bound)),
            Init::Orthogonal => theta.extend(orthogonal(&param.dims, &mut random)),
            Init::Given(tensor) => {
                let values = tensor.to_f64().unwrap_or_default();
                if values.len() != len {
                    return Err(LayoutError::Length { want: len, got: values.len() });
                }
                theta.extend(values.iter().map(|x| *x as f32));
            }
            Init::Factor { pair, .. } if pair.source.is_unknown() => {
                return Err(LayoutError::Unseen { name: param.name.clone() });
            }
            Init::Factor { pair, factor } => {
                let both = match pairs.entry(Arc::as_ptr(pair)) {
                    std::collections::hash_map::Entry::Occupied(known) => known.into_mut(),
                    std::collections::hash_map::Entry::Vacant(new) => {
                        let both = factors(pair, &mut random);
                        new.insert(both.ok_or_else(|| LayoutError::Undecomposable { name: param.name.clone() })?)
                    }
                };
                theta.extend_from_slice(&both[usize::from(*factor == Factor::B)]);
            }
            Init::InverseGram { .. } => theta.extend(std::iter::repeat_n(0.0, len)),
        }
    }
    derive(params, &mut theta)?;
    Ok(theta)
}

/// Computes the params of a theta that follow from others.
///
/// # Errors
/// Others that are not there, and such as have no inverse.
pub fn derive(params: &[Param], theta: &mut [f32]) -> Result<(), LayoutError> {
    let mut start = 0;
    let mut places: HashMap<&str, std::ops::Range<usize>> = HashMap::new();
    for param in params {
        places.insert(&param.name, start..start + param.len());
        start += param.len();
    }
    if start != theta.len() {
        return Err(LayoutError::Length { want: start, got: theta.len() });
    }
    for param in params {
        let Init::InverseGram { of, scale, .. } = &param.init else { continue };
        let unknown = || LayoutError::Unknown { name: of.clone() };
        let (from, to) = (places.get(of.as_str()).ok_or_else(unknown)?, &places[param.name.as_str()]);
        let rank = param.dims.first().copied().unwrap_or(1);
        let inverse = inverse_gram(&theta[from.clone()], rank, *scale);
        let inverse = inverse.ok_or_else(|| LayoutError::Undecomposable { name: of.clone() })?;
        theta[to.clone()].copy_from_slice(&inverse);
    }
    Ok(())
}

fn normal(sigma: f32, len: usize, random: &mut ChaCha8Rng) -> Vec<f32> {
    match Normal::new(0.0, sigma) {
        Ok(normal) => (0..len).map(|_| normal.sample(random)).collect(),
        // Not a deviation: the caller's number is not finite.
        Err(_) => vec![0.0; len],
    }
}

/// Evenly between 0 and 1, with the 24 bits that f32 has.
fn unit(random: &mut ChaCha8Rng) -> f32 {
    (random.next_u32() >> 8) as f32 / (1u32 << 24) as f32
}

/// Orthonormal rows of a matrix, columns where it is taller than wide: normal vectors, orthogonalised one after the other
/// (modified Gram-Schmidt, twice for the rounding).
fn orthogonal(dims: &[usize], random: &mut ChaCha8Rng) -> Vec<f32> {
    let rows = dims.first().copied().unwrap_or(1);
    let cols = dims.iter().skip(1).product::<usize>();
    let (count, width) = (rows.min(cols), rows.max(cols));
    let mut vectors: Vec<Vec<f64>> = Vec::new();
    for _ in 0..count {
        let mut v: Vec<f64> = normal(1.0, width, random).into_iter().map(f64::from).collect();
        for _ in 0..2 {
            for u in &vectors {
                let along: f64 = u.iter().zip(&v).map(|(a, b)| a * b).sum();
                v.iter_mut().zip(u).for_each(|(x, u)| *x -= along * u);
            }
        }
        let norm = v.iter().map(|x| x * x).sum::<f64>().sqrt().max(f64::MIN_POSITIVE);
        v.iter_mut().for_each(|x| *x /= norm);
        vectors.push(v);
    }
    let at = |i: usize, j: usize| if rows <= cols { vectors[i][j] } else { vectors[j][i] };
    (0..rows * cols).map(|k| at(k / cols, k % cols) as f32).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use lorac_ir::{Tensor, ValueId};
    use lorac_passes::Group;

    fn param(dims: &[usize], init: Init) -> Param {
        let (name, dims) = ("p".to_string(), dims.to_vec());
        Param { value: ValueId(0), name, dims, init, group: Group::Adapter, decay: true }
    }

    fn drawn(dims: &[usize], init: Init) -> Vec<f32> {
        initial_theta(&[param(dims, init)], 7).expect("fits")
    }

    #[test]
    fn normal_and_even_numbers_have_their_spread() {
        let deviation = |v: &[f32]| (v.iter().map(|x| x * x).sum::<f32>() / v.len() as f32).sqrt();
        assert!((deviation(&drawn(&[100, 100], Init::Normal { sigma: 0.5 })) - 0.5).abs() < 0.01);
        let even = drawn(&[100, 100], Init::Uniform { bound: 0.3 });
        assert!(even.iter().all(|x| x.abs() <= 0.3) && (deviation(&even) - 0.3 / 3.0f32.sqrt()).abs() < 0.01);
    }

    #[test]
    fn rows_or_columns_are_orthonormal() {
        for [rows, cols] in [[4, 9], [9, 4], [5, 5]] {
            let m = drawn(&[rows, cols], Init::Orthogonal);
            let of = |i: usize, k: usize| if rows <= cols { m[i * cols + k] } else { m[k * cols + i] };
            for (i, j) in (0..rows.min(cols)).flat_map(|i| (0..=i).map(move |j| (i, j))) {
                let dot: f32 = (0..rows.max(cols)).map(|k| of(i, k) * of(j, k)).sum();
                assert!((dot - f32::from(u8::from(i == j))).abs() < 1e-6, "{rows} x {cols}: {i}, {j}: {dot}");
            }
        }
    }

    #[test]
    fn zeros_draw_nothing_and_given_values_are_taken() {
        let a = param(&[2], Init::Normal { sigma: 1.0 });
        let given = param(&[2], Init::Given(Tensor::vector(&[1.5f32, -2.0])));
        let theta = initial_theta(&[a.clone(), param(&[3], Init::Zeros), a.clone(), given], 1).expect("fits");
        let both = initial_theta(&[a.clone(), a], 1).expect("fits");
        assert_eq!((&theta[..2], &theta[5..7]), (&both[..2], &both[2..]));
        assert_eq!((&theta[2..5], &theta[7..]), (&[0.0f32; 3][..], &[1.5f32, -2.0][..]));
        let short = param(&[3], Init::Given(Tensor::vector(&[1.0f32])));
        assert!(initial_theta(&[short], 1).is_err());
    }
}
