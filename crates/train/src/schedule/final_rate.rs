//! The rate that a schedule ends at: a rate, or a share of the highest.

use lorac_config::{NumberOrText, Problems};
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};
use std::borrow::Cow;

/// A rate that a schedule does not go below: `1e-5`, or `10%` of the highest.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "NumberOrText", into = "NumberOrText")]
pub enum FinalRate {
    /// This rate.
    Rate(f64),
    /// Part of the highest rate, from 0 to 1.
    Share(f64),
}

impl FinalRate {
    /// The rate, where the highest is `lr`.
    pub fn of(self, lr: f64) -> f64 {
        match self {
            FinalRate::Rate(rate) => rate,
            FinalRate::Share(share) => share * lr,
        }
    }

    /// Reports a rate that is none, or above the highest rate `lr`.
    pub fn check(self, key: &str, lr: f64, problems: &mut Problems) {
        let rate = self.of(lr);
        if !(rate >= 0.0 && rate <= lr) {
            let message =
                format!("`{key}` is {}: expected a rate from 0 to the highest, {lr}", NumberOrText::from(self));
            let share = matches!(self, FinalRate::Rate(rate) if rate > lr && rate <= 1.0);
            let help = share.then(|| format!("a part of the highest rate is written `{key}: {}%`", rate * 100.0));
            problems.report_with_help(key, "pipeline::range", message, help);
        }
    }
}

impl Default for FinalRate {
    /// Zero.
    fn default() -> FinalRate {
        FinalRate::Rate(0.0)
    }
}

impl TryFrom<NumberOrText> for FinalRate {
    type Error = String;

    fn try_from(given: NumberOrText) -> Result<FinalRate, String> {
        match (&given, given.with_unit(&["%"])) {
            (NumberOrText::Number(rate), _) => Ok(FinalRate::Rate(*rate)),
            (_, Some((percent, _))) => Ok(FinalRate::Share(percent / 100.0)),
            _ => Err(format!(
                "`{given}` is not a rate: expected a number (`1e-5`) or a part of the highest rate (`10%`)"
            )),
        }
    }
}

impl From<FinalRate> for NumberOrText {
    fn from(rate: FinalRate) -> NumberOrText {
        match rate {
            FinalRate::Rate(rate) => NumberOrText::Number(rate),
            FinalRate::Share(share) => NumberOrText::Text(format!("{}%", share * 100.0)),
        }
    }
}

impl JsonSchema for FinalRate {
    fn schema_name() -> Cow<'static, str> {
        "FinalRate".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "description": "A learning rate, or 10% of the highest",
            "anyOf": [{ "type": "number", "minimum": 0 }, { "type": "string", "pattern": "^[0-9.]+ *%$" }],
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_is_a_rate_and_a_percentage_a_part_of_the_highest() {
        let read = |json: &str| serde_json::from_str::<FinalRate>(json).map_err(|e| e.to_string());
        assert_eq!((read("1e-5"), read("\"10%\"")), (Ok(FinalRate::Rate(1e-5)), Ok(FinalRate::Share(0.1))));
        assert!(read("\"low\"").is_err());
        assert_eq!(serde_json::to_string(&FinalRate::Share(0.5)).expect("writes"), "\"50%\"");
        let found = |rate: FinalRate| {
            let mut problems = Problems::default();
            rate.check("min", 1e-3, &mut problems);
            problems.finish()
        };
        assert!(found(FinalRate::Rate(1e-3)).is_empty() && found(FinalRate::Share(1.0)).is_empty());
        assert_eq!(
            found(FinalRate::Rate(0.1))[0].help.as_deref(),
            Some("a part of the highest rate is written `min: 10%`")
        );
        assert_eq!(found(FinalRate::Share(1.5)).len() + found(FinalRate::Rate(-1.0)).len(), 2);
    }
}
