//! The random numbers of a step.

use lorac_ir::{Tensor, TensorError};
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{RngCore, SeedableRng};

/// What a step draws its random decisions from: two small matrices, given to the program beside the batch. They depend on
/// nothing but the seed and the number of the step, so that a resumed training goes on as it would have.
#[derive(Clone, Debug, PartialEq)]
pub struct Noise {
    /// The seed of the training.
    pub seed: u64,
    /// The input with a row for every token, f32 `[tokens, depth]`: integers below `row_limit`, the first of a row odd.
    pub rows: String,
    /// What they are below; even.
    pub row_limit: u32,
    /// The input with a column for every element, f32 `[depth, width]`: multiples of `column_step` below 1.
    pub columns: String,
    /// What they are multiples of.
    pub column_step: f32,
    /// Columns of the former, rows of the latter.
    pub depth: usize,
    /// Columns of the latter.
    pub width: usize,
}

impl Noise {
    /// The numbers of a slice of the step after `taken` steps, from 0, on at most so many tokens.
    ///
    /// # Errors
    /// None that a caller can cause.
    pub fn draw(&self, taken: u64, slice: u32, tokens: usize) -> Result<[(String, Tensor); 2], TensorError> {
        let mut random = ChaCha8Rng::seed_from_u64(self.seed);
        // Stream 0 is that of other decisions with the same seed.
        random.set_stream((u64::from(slice) << 40) + taken + 1);
        // Powers of two do not favour any remainder.
        let columns = (1.0 / self.column_step) as u32;
        let width = self.width * self.depth;
        let columns: Vec<f32> = (0..width).map(|_| (random.next_u32() % columns) as f32 * self.column_step).collect();
        let row = |i: usize, n: u32| if i.is_multiple_of(self.depth) { (n | 1) as f32 } else { n as f32 };
        let rows: Vec<f32> = (0..tokens * self.depth).map(|i| row(i, random.next_u32() % self.row_limit)).collect();
        Ok([
            (self.rows.clone(), Tensor::from_slice(&[tokens, self.depth], &rows)?),
            (self.columns.clone(), Tensor::from_slice(&[self.depth, self.width], &columns)?),
        ])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn noise(seed: u64) -> Noise {
        let (rows, columns) = ("rows".to_string(), "columns".to_string());
        Noise { seed, rows, row_limit: 64, columns, column_step: 1.0 / 65536.0, depth: 4, width: 100 }
    }

    fn numbers(seed: u64, taken: u64, tokens: usize) -> [Vec<f32>; 2] {
        noise(seed).draw(taken, 0, tokens).expect("draws").map(|(_, t)| t.to_vec::<f32>().expect("f32"))
    }

    #[test]
    fn every_step_and_seed_has_its_own_numbers_and_keeps_them() {
        let first = numbers(1, 0, 50);
        assert_eq!(first, numbers(1, 0, 50));
        for other in [numbers(1, 1, 50), numbers(2, 0, 50)] {
            assert!(first[0] != other[0] && first[1] != other[1]);
        }
        let [short, columns] = numbers(1, 0, 20);
        assert_eq!((&short[..], &columns), (&first[0][..80], &first[1]), "a longer batch begins as a shorter one");
    }

    #[test]
    fn numbers_are_what_sums_of_them_need() {
        let [rows, columns] = numbers(3, 7, 1000);
        assert!(rows.iter().all(|x| x.fract() == 0.0 && (0.0..64.0).contains(x)));
        assert!(rows.iter().step_by(4).all(|x| x % 2.0 == 1.0));
        assert!(columns.iter().all(|x| (x * 65536.0).fract() == 0.0 && (0.0..1.0).contains(x)));
        let mean = |v: &[f32]| v.iter().sum::<f32>() / v.len() as f32;
        assert!((mean(&rows) - 31.6).abs() < 1.0 && (mean(&columns) - 0.5).abs() < 0.06);
    }
}
