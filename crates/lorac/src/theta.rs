//! The first theta, and its parts.

use crate::compile::{Compiled, HEAD_WEIGHT};
use lorac_passes::Slot;
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::SeedableRng;
use rand_distr::{Distribution, Normal};

/// Spread of the head's first weights, as BERT initialises them.
const HEAD_SIGMA: f32 = 0.02;

/// A from a normal distribution of deviation 1/sqrt(in), B zero: the adapted model starts as the base model. The head's
/// matrix is drawn too, its bias is zero.
pub fn initial(compiled: &Compiled, seed: u64) -> Vec<f32> {
    let mut random = ChaCha8Rng::seed_from_u64(seed);
    let mut theta = vec![0.0f32; compiled.arena.len()];
    for slot in &compiled.arena.slots {
        let sigma = match slot.dims.as_slice() {
            [_, width] if slot.name.ends_with(".lora_A") => 1.0 / (*width as f32).sqrt(),
            _ if slot.name == HEAD_WEIGHT => HEAD_SIGMA,
            _ => continue,
        };
        if let Ok(normal) = Normal::new(0.0, sigma) {
            let part = theta.iter_mut().skip(slot.start).take(slot.len());
            part.for_each(|x| *x = normal.sample(&mut random));
        }
    }
    theta
}

/// The part of theta called `name`.
pub fn part<'a>(compiled: &Compiled, theta: &'a [f32], name: &str) -> (Vec<usize>, &'a [f32]) {
    let slot = compiled.arena.slots.iter().find(|s| s.name == name);
    slot.map_or((Vec::new(), &[]), |s: &Slot| (s.dims.clone(), s.of(theta)))
}
