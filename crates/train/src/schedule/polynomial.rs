//! Down along a power of what is left.

use super::{FinalRate, Place, Schedule, Warmup, check_warmup, usual_warmup};
use lorac_config::{Check, Problems};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Up during the warm-up, then down along a power of what is left
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Polynomial {
    /// How long the rate rises: 0.06 or 6% of all steps, or 100 steps
    pub warmup: Warmup,
    /// The power: 1 is a straight line, 2 falls faster at first
    pub power: f64,
    /// The last rate: 1e-7, or 10% of the highest
    pub end: FinalRate,
}

impl Default for Polynomial {
    fn default() -> Polynomial {
        Polynomial { warmup: usual_warmup(), power: 1.0, end: FinalRate::default() }
    }
}

impl Check for Polynomial {
    fn check(&self, problems: &mut Problems) {
        check_warmup(self.warmup, problems);
        problems.positive("power", self.power, 100.0);
    }
}

impl Schedule for Polynomial {
    fn warmup(&self) -> Warmup {
        self.warmup
    }

    fn after_warmup(&self, lr: f64, at: Place) -> f64 {
        let end = self.end.of(lr);
        (lr - end) * (1.0 - at.part()).powf(self.power) + end
    }

    fn final_rate(&self) -> Option<(&'static str, FinalRate)> {
        Some(("end", self.end))
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::rates;
    use super::*;

    #[test]
    fn falls_with_the_power_of_what_is_left() {
        let polynomial = |power| Polynomial { warmup: Warmup::Steps(0), power, end: FinalRate::Rate(0.5) };
        assert_eq!(rates(polynomial(1.0), 2.5, 4), [2.5, 2.0, 1.5, 1.0, 0.5]);
        assert_eq!(rates(polynomial(2.0), 2.5, 2), [2.5, 1.0, 0.5]);
    }
}
