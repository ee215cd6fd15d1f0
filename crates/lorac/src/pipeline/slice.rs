//! `train.slice`: how much of a batch is computed at once.

use lorac_config::{NumberOrText, Problems};
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};
use std::borrow::Cow;

/// How much of a batch is computed at once: `auto`, or so many rows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "NumberOrText", into = "NumberOrText")]
pub enum SliceChoice {
    /// What is usually fastest.
    #[default]
    Auto,
    /// At most so many rows.
    Rows(usize),
}

impl SliceChoice {
    /// Reports a number of rows that is none.
    pub fn check(self, key: &str, problems: &mut Problems) {
        if let SliceChoice::Rows(rows) = self {
            problems.range(key, rows as f64, 1.0, 1e5);
        }
    }
}

impl TryFrom<NumberOrText> for SliceChoice {
    type Error = String;

    fn try_from(given: NumberOrText) -> Result<SliceChoice, String> {
        match &given {
            NumberOrText::Text(word) if word == "auto" => Ok(SliceChoice::Auto),
            NumberOrText::Number(rows) if *rows >= 0.0 && rows.fract() == 0.0 => Ok(SliceChoice::Rows(*rows as usize)),
            _ => Err(format!("`{given}` is not a slice: expected auto or a number of rows")),
        }
    }
}

impl From<SliceChoice> for NumberOrText {
    fn from(slice: SliceChoice) -> NumberOrText {
        match slice {
            SliceChoice::Auto => NumberOrText::Text("auto".into()),
            SliceChoice::Rows(rows) => NumberOrText::Number(rows as f64),
        }
    }
}

impl JsonSchema for SliceChoice {
    fn schema_name() -> Cow<'static, str> {
        "SliceChoice".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "description": "auto, or the most rows that are computed at once",
            "anyOf": [{ "const": "auto" }, { "type": "integer", "minimum": 1 }],
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn auto_or_rows() {
        let read = |json: &str| serde_json::from_str::<SliceChoice>(json).map_err(|e| e.to_string());
        assert_eq!((read("\"auto\""), read("8")), (Ok(SliceChoice::Auto), Ok(SliceChoice::Rows(8))));
        assert!(["\"all\"", "1.5", "-1"].iter().all(|wrong| read(wrong).is_err()));
        let mut problems = Problems::default();
        SliceChoice::Rows(0).check("slice", &mut problems);
        assert_eq!(problems.finish()[0].message, "`slice` is 0: expected at least 1 and at most 100000");
    }
}
