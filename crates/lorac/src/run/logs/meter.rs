//! How fast a training is, and how long it will take.

use lorac_train::Event;
use serde::Serialize;
use std::collections::VecDeque;

/// The pace of a training over its last steps.
#[derive(Clone, Debug)]
pub(super) struct Meter {
    total: u64,
    /// Step, seconds and tokens of the last steps.
    last: VecDeque<(u64, f64, u64)>,
}

/// What a step says of the pace.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub(crate) struct Pace {
    /// Tokens a second, padding excluded, over the last steps; NaN behind the first one that is seen of a training that
    /// goes on.
    #[serde(skip_serializing_if = "is_nan")]
    pub(crate) tokens_per_second: f64,
    /// Seconds that the steps to come will take at this pace, or NaN.
    #[serde(skip_serializing_if = "is_nan")]
    pub(crate) seconds_left: f64,
    /// Resident size of the process, where the system tells.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) memory_bytes: Option<u64>,
}

/// Steps that the pace is taken over.
const WINDOW: usize = 20;

impl Meter {
    /// Of a training with that many steps.
    pub(super) fn new(total: u64) -> Meter {
        Meter { total, last: VecDeque::new() }
    }

    /// Hears of a step.
    pub(super) fn at(&mut self, event: &Event) -> Pace {
        if self.last.len() > WINDOW {
            self.last.pop_front();
        }
        self.last.push_back((event.step, event.seconds, event.tokens));
        let first = self.last.front().copied().unwrap_or_default();
        // The time of the first step of all is from the beginning on; of others it is where the window begins.
        let (steps, seconds, tokens) = match self.last.len() {
            1 if event.step == 1 => (1, event.seconds, event.tokens),
            _ => (
                event.step.saturating_sub(first.0),
                event.seconds - first.1,
                self.last.iter().skip(1).map(|(.., tokens)| tokens).sum(),
            ),
        };
        let left = self.total.saturating_sub(event.step) as f64;
        Pace {
            tokens_per_second: thousandths(tokens as f64 / seconds),
            seconds_left: thousandths(left * seconds / steps as f64),
            memory_bytes: resident(),
        }
    }
}

fn is_nan(x: &f64) -> bool {
    x.is_nan()
}

/// Rounded to what anybody reads.
fn thousandths(x: f64) -> f64 {
    (x * 1000.0).round() / 1000.0
}

/// Resident size of this process in bytes.
fn resident() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    Some(line.trim().trim_end_matches(" kB").trim().parse::<u64>().ok()? * 1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_pace_is_that_of_the_last_steps() {
        let event =
            |step, seconds, tokens| Event { step, seconds, tokens, epoch: 1, loss: 0.5, lr: 0.1, grad_norm: 1.0 };
        let mut meter = Meter::new(100);
        let pace = meter.at(&event(1, 2.0, 50));
        assert_eq!((pace.tokens_per_second, pace.seconds_left), (25.0, 198.0));
        let pace = meter.at(&event(2, 3.0, 100));
        assert_eq!((pace.tokens_per_second, pace.seconds_left), (100.0, 98.0));
        // From the third step on everything takes half a second.
        let all: Vec<Pace> = (3..=60).map(|i| meter.at(&event(i, 3.0 + (i - 2) as f64 / 2.0, 100))).collect();
        assert_eq!((all[57].tokens_per_second, all[57].seconds_left), (200.0, 20.0));
        assert!(all[57].memory_bytes.is_none_or(|bytes| bytes > 1 << 16));
    }

    #[test]
    fn a_training_that_goes_on_is_measured_from_its_second_step() {
        let event = |step, seconds| Event { step, seconds, tokens: 10, epoch: 1, loss: 0.5, lr: 0.1, grad_norm: 1.0 };
        let mut meter = Meter::new(12);
        assert!(meter.at(&event(7, 50.0)).tokens_per_second.is_nan());
        let pace = meter.at(&event(8, 51.0));
        assert_eq!((pace.tokens_per_second, pace.seconds_left), (10.0, 4.0));
    }
}
