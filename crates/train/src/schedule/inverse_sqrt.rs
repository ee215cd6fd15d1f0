//! Down with the root of the steps taken (Vaswani et al. 2017).

use super::{Place, Schedule, Warmup, check_warmup, usual_warmup};
use lorac_config::{Check, Problems};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Up during the warm-up, then down with the root of the steps taken: never to zero
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct InverseSqrt {
    /// How long the rate rises: 0.06 or 6% of all steps, or 100 steps
    pub warmup: Warmup,
    /// Steps that the decay is measured in. Default: those of the warm-up, or 10,000 without one
    pub timescale: Option<u64>,
}

impl Default for InverseSqrt {
    fn default() -> InverseSqrt {
        InverseSqrt { warmup: usual_warmup(), timescale: None }
    }
}

impl Check for InverseSqrt {
    fn check(&self, problems: &mut Problems) {
        check_warmup(self.warmup, problems);
        problems.range("timescale", self.timescale.unwrap_or(1) as f64, 1.0, 1e12);
    }
}

/// Steps that the decay is measured in where there is no warm-up.
const TIMESCALE: u64 = 10_000;

impl Schedule for InverseSqrt {
    fn warmup(&self) -> Warmup {
        self.warmup
    }

    fn after_warmup(&self, lr: f64, at: Place) -> f64 {
        let timescale = self.timescale.unwrap_or(if at.warmup > 0 { at.warmup } else { TIMESCALE }) as f64;
        let shift = timescale - at.warmup as f64;
        lr / ((at.step as f64 + shift) / timescale).sqrt()
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::rates;
    use super::*;

    #[test]
    fn four_times_the_steps_have_half_the_rate() {
        let rates = rates(InverseSqrt { warmup: Warmup::Steps(4), timescale: None }, 2.0, 64);
        assert_eq!((rates[4], rates[16], rates[64]), (2.0, 1.0, 0.5));
    }
}
