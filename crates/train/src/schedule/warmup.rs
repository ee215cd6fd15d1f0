//! How long a rate rises: a share of all steps, or steps.

use lorac_config::{NumberOrText, Problems};
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};
use std::borrow::Cow;

/// How long the rate rises from zero: `0.06` or `6%` of all steps, or `100 steps`.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "NumberOrText", into = "NumberOrText")]
pub enum Warmup {
    /// Part of all steps, from 0 to 1.
    Share(f64),
    /// So many steps.
    Steps(u64),
}

/// What a warm-up is written as.
const FORMS: &str = "a part of all steps (`0.06` or `6%`) or a number of them (`100 steps`)";

impl Warmup {
    /// Steps of warm-up in a training of so many.
    pub fn steps(self, total: u64) -> u64 {
        match self {
            Warmup::Share(share) => (share * total as f64).round() as u64,
            Warmup::Steps(steps) => steps,
        }
    }

    /// Reports a share that is none; whether steps are too many shows in [`Warmup::steps`] and the training's length.
    pub fn check(self, key: &str, problems: &mut Problems) {
        if let Warmup::Share(share) = self
            && !(0.0..=1.0).contains(&share)
        {
            let message = format!("`{key}` is {share}: expected {FORMS}");
            let steps = share.fract() == 0.0 && share > 1.0;
            let help = steps.then(|| format!("steps are written `{key}: {share} steps`"));
            problems.report_with_help(key, "pipeline::range", message, help);
        }
    }
}

impl TryFrom<NumberOrText> for Warmup {
    type Error = String;

    fn try_from(given: NumberOrText) -> Result<Warmup, String> {
        let whole = |x: f64| (x >= 0.0 && x.fract() == 0.0 && x <= 1e15).then_some(x as u64);
        let read = match (&given, given.with_unit(&["steps", "step", "%"])) {
            (NumberOrText::Number(share), _) => Some(Warmup::Share(*share)),
            (_, Some((percent, 2))) => Some(Warmup::Share(percent / 100.0)),
            (_, Some((steps, _))) => whole(steps).map(Warmup::Steps),
            _ => None,
        };
        read.ok_or_else(|| format!("`{given}` is not a warm-up: expected {FORMS}"))
    }
}

impl From<Warmup> for NumberOrText {
    fn from(warmup: Warmup) -> NumberOrText {
        match warmup {
            Warmup::Share(share) => NumberOrText::Number(share),
            Warmup::Steps(steps) => NumberOrText::Text(format!("{steps} steps")),
        }
    }
}

impl From<f64> for Warmup {
    fn from(share: f64) -> Warmup {
        Warmup::Share(share)
    }
}

impl JsonSchema for Warmup {
    fn schema_name() -> Cow<'static, str> {
        "Warmup".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "description": "0.06 or 6% of all steps, or 100 steps",
            "anyOf": [
                { "type": "number", "minimum": 0, "maximum": 1 },
                { "type": "string", "pattern": "^[0-9.]+ *(%|steps?)$" },
            ],
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_and_steps_are_read_and_written() {
        let read = |json: &str| serde_json::from_str::<Warmup>(json).map_err(|e| e.to_string());
        assert_eq!(read("0.25").map(|w| w.steps(10)), Ok(3));
        assert_eq!(read("\"50%\""), Ok(Warmup::Share(0.5)));
        for (text, steps) in [("\"100 steps\"", 100), ("\"1 step\"", 1), ("\"0steps\"", 0)] {
            assert_eq!(read(text).map(|w| (w, w.steps(10))), Ok((Warmup::Steps(steps), steps)));
        }
        for wrong in ["\"100\"", "\"1.5 steps\"", "\"-3 steps\"", "\"1 epoch\""] {
            assert!(read(wrong).is_err_and(|e| e.contains("100 steps")), "{wrong}");
        }
        let written = [Warmup::Share(0.06), Warmup::Steps(7)].map(|w| serde_json::to_string(&w).expect("writes"));
        assert_eq!(written, ["0.06", "\"7 steps\""]);
    }

    #[test]
    fn shares_are_from_0_to_1() {
        let found = |warmup: Warmup| {
            let mut problems = Problems::default();
            warmup.check("warmup", &mut problems);
            problems.finish()
        };
        assert!([0.0, 1.0].iter().all(|x| found(Warmup::Share(*x)).is_empty()));
        assert!([-0.1, 1.1, f64::NAN].iter().all(|x| found(Warmup::Share(*x)).len() == 1));
        assert_eq!(found(Warmup::Share(100.0))[0].help.as_deref(), Some("steps are written `warmup: 100 steps`"));
    }
}
