//! Down along half a cosine, once or several times (Loshchilov & Hutter 2017).

use super::{FinalRate, Place, Schedule, Warmup, check_warmup, usual_warmup};
use lorac_config::{Check, Problems};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::f64::consts::PI;

/// Up during the warm-up, then down along half a cosine
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Cosine {
    /// How long the rate rises: 0.06 or 6% of all steps, or 100 steps
    pub warmup: Warmup,
    /// The lowest rate: 1e-5, or 10% of the highest
    pub min: FinalRate,
    /// How often it goes back to the highest rate, in parts of equal length
    pub restarts: u32,
}

impl Default for Cosine {
    fn default() -> Cosine {
        Cosine { warmup: usual_warmup(), min: FinalRate::default(), restarts: 0 }
    }
}

impl Check for Cosine {
    fn check(&self, problems: &mut Problems) {
        check_warmup(self.warmup, problems);
        problems.range("restarts", f64::from(self.restarts), 0.0, 1e6);
    }
}

impl Schedule for Cosine {
    fn warmup(&self) -> Warmup {
        self.warmup
    }

    fn after_warmup(&self, lr: f64, at: Place) -> f64 {
        let (part, min) = (at.part(), self.min.of(lr));
        let along = if part < 1.0 { (part * (f64::from(self.restarts) + 1.0)).fract() } else { 1.0 };
        (lr - min) * 0.5 * (1.0 + (PI * along).cos()) + min
    }

    fn final_rate(&self) -> Option<(&'static str, FinalRate)> {
        Some(("min", self.min))
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::rates;
    use super::*;

    #[test]
    fn falls_slowly_at_both_ends_and_is_zero_at_the_last() {
        let rates = rates(Cosine { warmup: Warmup::Steps(4), ..Cosine::default() }, 2.0, 12);
        let near = |a: f64, b: f64| (a - b).abs() < 1e-12;
        assert!(near(rates[4], 2.0) && near(rates[8], 1.0) && near(rates[12], 0.0), "{rates:?}");
        assert!(near(rates[6], 1.0 + 0.5f64.sqrt()) && near(rates[10], 1.0 - 0.5f64.sqrt()), "{rates:?}");
        assert!(rates[4..].windows(2).all(|w| w[1] < w[0]), "{rates:?}");
    }

    #[test]
    fn restarts_at_the_highest_rate_and_stays_above_the_lowest() {
        let min = FinalRate::Share(0.25);
        let rates = rates(Cosine { warmup: Warmup::Steps(0), min, restarts: 1 }, 2.0, 8);
        assert_eq!((rates[0], rates[4], rates[8]), (2.0, 2.0, 0.5));
        assert!(rates.iter().all(|r| *r >= 0.5) && rates[3] < rates[1], "{rates:?}");
    }
}
