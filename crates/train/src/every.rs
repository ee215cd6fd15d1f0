//! How often something is done in a training.

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use std::borrow::Cow;
use std::fmt;
use std::str::FromStr;
use std::time::Duration;

/// How often something is done in a training: `200 steps`, `10 min`, `1 epoch`, `0.5 epochs`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Every {
    /// Behind every so many steps, at least 1.
    Steps(u64),
    /// Behind the step in which so many epochs, above 0, have passed once more.
    Epochs(f64),
    /// Behind the first step that ends so many seconds, above 0, later than the last time.
    Seconds(f64),
}

/// What is taken.
const FORMS: &str = "a number and its unit: `200 steps`, `1 epoch`, `0.5 epochs`, `10 min`, `2 h` or `30 s`";

/// Units of time, in seconds.
const TIMES: &[(&[&str], f64)] = &[
    (&["s", "sec", "second", "seconds"], 1.0),
    (&["min", "minute", "minutes"], 60.0),
    (&["h", "hour", "hours"], 3600.0),
];

/// Not less often than that.
const LONGEST: f64 = 1e9;

impl Every {
    /// Whether it is due behind step `taken`, in a training of `per_epoch` steps an epoch that did it last `since` ago.
    pub fn is_due(&self, taken: u64, per_epoch: u64, since: Duration) -> bool {
        match self {
            Every::Steps(n) => taken > 0 && taken.is_multiple_of((*n).max(1)),
            Every::Epochs(epochs) => {
                let passed = |step: u64| (step as f64 / (per_epoch.max(1) as f64 * epochs)).floor();
                taken > 0 && passed(taken) > passed(taken - 1)
            }
            Every::Seconds(seconds) => since.as_secs_f64() >= *seconds,
        }
    }
}

impl FromStr for Every {
    type Err = String;

    fn from_str(text: &str) -> Result<Every, String> {
        let wrong = |why: &str| Err(format!("`{text}`{why}: expected {FORMS}"));
        let end = text.trim().find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.trim().len());
        let (number, unit) = text.trim().split_at(end);
        let Ok(n) = number.parse::<f64>() else { return wrong(" does not begin with a number") };
        if !(n > 0.0 && n <= LONGEST) {
            return wrong(" is not above 0 and below a billion");
        }
        let unit = unit.trim().to_ascii_lowercase();
        let time = TIMES.iter().find(|(names, _)| names.contains(&unit.as_str()));
        match (unit.as_str(), time) {
            ("step" | "steps", _) if n.fract() == 0.0 => Ok(Every::Steps(n as u64)),
            ("step" | "steps", _) => wrong(" is not a whole number of steps"),
            ("epoch" | "epochs", _) => Ok(Every::Epochs(n)),
            (_, Some((_, seconds))) => Ok(Every::Seconds(n * seconds)),
            ("", _) => wrong(" has no unit"),
            _ => wrong(" has an unknown unit"),
        }
    }
}

impl fmt::Display for Every {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let s = |n: f64| if n == 1.0 { "" } else { "s" };
        match self {
            Every::Steps(n) => write!(f, "{n} step{}", s(*n as f64)),
            Every::Epochs(n) => write!(f, "{n} epoch{}", s(*n)),
            Every::Seconds(n) if n % 3600.0 == 0.0 => write!(f, "{} h", n / 3600.0),
            Every::Seconds(n) if n % 60.0 == 0.0 => write!(f, "{} min", n / 60.0),
            Every::Seconds(n) => write!(f, "{n} s"),
        }
    }
}

impl Serialize for Every {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Every {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Every, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(de::Error::custom)
    }
}

impl JsonSchema for Every {
    fn schema_name() -> Cow<'static, str> {
        "Every".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        let unit = "(steps?|epochs?|s|sec|seconds?|min|minutes?|h|hours?)";
        json_schema!({
            "type": "string",
            "description": format!("How often: {FORMS}"),
            "pattern": format!("^\\s*[0-9]*\\.?[0-9]+\\s*{unit}\\s*$"),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_with_units_are_read_and_shown() {
        for (text, want, shown) in [
            ("200 steps", Every::Steps(200), "200 steps"),
            ("1 step", Every::Steps(1), "1 step"),
            (" 10min ", Every::Seconds(600.0), "10 min"),
            ("1 epoch", Every::Epochs(1.0), "1 epoch"),
            ("0.5 epochs", Every::Epochs(0.5), "0.5 epochs"),
            (".25 Epochs", Every::Epochs(0.25), "0.25 epochs"),
            ("2 hours", Every::Seconds(7200.0), "2 h"),
            ("45 s", Every::Seconds(45.0), "45 s"),
        ] {
            let every: Every = text.parse().unwrap_or_else(|e| panic!("{e}"));
            assert_eq!((every, every.to_string().as_str()), (want, shown));
            assert_eq!(every.to_string().parse(), Ok(every));
        }
    }

    #[test]
    fn what_is_no_number_with_a_unit_is_answered_with_what_is() {
        for (text, says) in [
            ("200", "`200` has no unit"),
            ("steps", "`steps` does not begin with a number"),
            ("-5 steps", "does not begin with a number"),
            ("0 steps", "not above 0"),
            ("0.0 epochs", "not above 0"),
            ("1.5 steps", "not a whole number of steps"),
            ("3 days", "unknown unit"),
            ("1.2.3 s", "does not begin with a number"),
            ("99999999999 h", "below a billion"),
        ] {
            let error = text.parse::<Every>().expect_err(text);
            assert!(error.contains(says) && error.contains("`200 steps`, `1 epoch`"), "{error}");
        }
    }

    #[test]
    fn steps_epochs_and_seconds_are_due_once_each() {
        let due = |every: Every, seconds: f64| {
            let due = |step: &u64| every.is_due(*step, 4, Duration::from_secs_f64(seconds));
            (0..=12).filter(due).collect::<Vec<u64>>()
        };
        assert_eq!(due(Every::Steps(5), 0.0), [5, 10]);
        assert_eq!(due(Every::Epochs(1.0), 0.0), [4, 8, 12]);
        assert_eq!(due(Every::Epochs(0.5), 0.0), [2, 4, 6, 8, 10, 12]);
        assert_eq!(due(Every::Epochs(0.375), 0.0), [2, 3, 5, 6, 8, 9, 11, 12]);
        assert_eq!(due(Every::Epochs(0.01), 0.0), (1..=12).collect::<Vec<_>>());
        assert_eq!(due(Every::Epochs(2.0), 0.0), [8]);
        assert_eq!((due(Every::Seconds(60.0), 59.9), due(Every::Seconds(60.0), 60.0).len()), (vec![], 13));
    }
}
