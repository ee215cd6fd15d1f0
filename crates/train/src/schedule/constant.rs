//! Level.

use super::{Place, Schedule, Warmup, check_warmup, usual_warmup};
use lorac_config::{Check, Problems};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Up during the warm-up, then level
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Constant {
    /// How long the rate rises: 0.06 or 6% of all steps, or 100 steps
    pub warmup: Warmup,
}

impl Default for Constant {
    fn default() -> Constant {
        Constant { warmup: usual_warmup() }
    }
}

impl Check for Constant {
    fn check(&self, problems: &mut Problems) {
        check_warmup(self.warmup, problems);
    }
}

impl Schedule for Constant {
    fn warmup(&self) -> Warmup {
        self.warmup
    }

    fn after_warmup(&self, lr: f64, _: Place) -> f64 {
        lr
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::rates;
    use super::*;

    #[test]
    fn without_a_warm_up_it_starts_and_stays_at_the_top() {
        assert_eq!(rates(Constant { warmup: Warmup::Steps(0) }, 2.0, 4), [2.0; 5]);
    }
}
