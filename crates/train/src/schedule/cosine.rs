//! Down to zero along half a cosine (Loshchilov & Hutter 2017, without restarts).

use super::{Place, Schedule, check_warmup, usual_warmup};
use lorac_config::{Check, Problems};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::f64::consts::PI;

/// Up during the warm-up, then down to zero along half a cosine
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Cosine {
    /// Part of all steps, from 0 to 1
    pub warmup: f64,
}

impl Default for Cosine {
    fn default() -> Cosine {
        Cosine { warmup: usual_warmup() }
    }
}

impl Check for Cosine {
    fn check(&self, problems: &mut Problems) {
        check_warmup(self.warmup, problems);
    }
}

impl Schedule for Cosine {
    fn warmup(&self) -> f64 {
        self.warmup
    }

    fn after_warmup(&self, lr: f64, at: Place) -> f64 {
        let part = at.step.saturating_sub(at.warmup) as f64 / at.span() as f64;
        lr * 0.5 * (1.0 + (PI * part.min(1.0)).cos())
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::rates;
    use super::*;

    #[test]
    fn falls_slowly_at_both_ends_and_is_zero_at_the_last() {
        let rates = rates(Cosine { warmup: 1.0 / 3.0 }, 2.0, 12);
        let near = |a: f64, b: f64| (a - b).abs() < 1e-12;
        assert!(near(rates[4], 2.0) && near(rates[8], 1.0) && near(rates[12], 0.0), "{rates:?}");
        assert!(near(rates[6], 1.0 + 0.5f64.sqrt()) && near(rates[10], 1.0 - 0.5f64.sqrt()), "{rates:?}");
        assert!(rates[4..].windows(2).all(|w| w[1] < w[0]), "{rates:?}");
    }
}
