//! `train.batch`: how many examples a step has.

use lorac_config::{NumberOrText, Problems};
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize, Serializer};
use std::borrow::Cow;

/// How many examples a batch has: `auto`, or so many.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "NumberOrText")]
pub enum BatchChoice {
    /// As many as fit into memory at once, up to [`BatchChoice::MOST`].
    Auto,
    /// So many.
    Examples(usize),
}

impl BatchChoice {
    /// No more are chosen unasked: learning rates are written for batches of usual sizes.
    pub const MOST: usize = 64;

    /// How many, where that is said.
    pub fn given(self) -> Option<usize> {
        match self {
            BatchChoice::Auto => None,
            BatchChoice::Examples(examples) => Some(examples),
        }
    }

    /// How many; the most that may be chosen where that is not said.
    pub fn most(self) -> usize {
        self.given().unwrap_or(BatchChoice::MOST)
    }

    /// Reports a number of examples that is none.
    pub fn check(self, key: &str, problems: &mut Problems) {
        problems.range(key, self.most() as f64, 1.0, 1e5);
    }
}

impl TryFrom<NumberOrText> for BatchChoice {
    type Error = String;

    fn try_from(given: NumberOrText) -> Result<BatchChoice, String> {
        match &given {
            NumberOrText::Text(word) if word == "auto" => Ok(BatchChoice::Auto),
            NumberOrText::Number(n) if *n >= 0.0 && n.fract() == 0.0 => Ok(BatchChoice::Examples(*n as usize)),
            _ => Err(format!("`{given}` is not a batch: expected auto or a number of examples")),
        }
    }
}

impl Serialize for BatchChoice {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            BatchChoice::Auto => serializer.serialize_str("auto"),
            BatchChoice::Examples(examples) => serializer.serialize_u64(*examples as u64),
        }
    }
}

impl JsonSchema for BatchChoice {
    fn schema_name() -> Cow<'static, str> {
        "BatchChoice".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "description": "auto, or how many examples",
            "anyOf": [{ "const": "auto" }, { "type": "integer", "minimum": 1 }],
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn auto_or_examples() {
        let read = |json: &str| serde_json::from_str::<BatchChoice>(json).map_err(|e| e.to_string());
        assert_eq!((read("\"auto\""), read("8")), (Ok(BatchChoice::Auto), Ok(BatchChoice::Examples(8))));
        assert!(["\"all\"", "1.5", "-1"].iter().all(|wrong| read(wrong).is_err()));
        let written = |batch: BatchChoice| serde_json::to_string(&batch).expect("writes");
        assert_eq!((written(BatchChoice::Auto), written(BatchChoice::Examples(8))), ("\"auto\"".into(), "8".into()));
        let mut problems = Problems::default();
        BatchChoice::Examples(0).check("batch", &mut problems);
        BatchChoice::Auto.check("batch", &mut problems);
        let said: Vec<String> = problems.finish().into_iter().map(|p| p.message).collect();
        assert_eq!(said, ["`batch` is 0: expected at least 1 and at most 100000"]);
    }
}
