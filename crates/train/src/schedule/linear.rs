//! Straight down to zero.

use super::{Place, Schedule, Warmup, check_warmup, usual_warmup};
use lorac_config::{Check, Problems};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Up during the warm-up, then straight down to zero
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Linear {
    /// How long the rate rises: 0.06 or 6% of all steps, or 100 steps
    pub warmup: Warmup,
}

impl Default for Linear {
    fn default() -> Linear {
        Linear { warmup: usual_warmup() }
    }
}

impl Check for Linear {
    fn check(&self, problems: &mut Problems) {
        check_warmup(self.warmup, problems);
    }
}

impl Schedule for Linear {
    fn warmup(&self) -> Warmup {
        self.warmup
    }

    fn after_warmup(&self, lr: f64, at: Place) -> f64 {
        lr * at.total.saturating_sub(at.step) as f64 / at.span() as f64
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::rates;
    use super::*;

    #[test]
    fn falls_to_zero_at_the_end() {
        let rates = rates(Linear { warmup: Warmup::Steps(4) }, 1.0, 12);
        assert_eq!((rates[4], rates[8], rates[12]), (1.0, 0.5, 0.0));
        assert!(rates[..12].iter().all(|r| *r > 0.0));
    }
}
