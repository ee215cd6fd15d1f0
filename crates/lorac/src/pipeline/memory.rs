//! `train.memory`: how much memory a step may take.

use lorac_config::{NumberOrText, Problems};
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};
use std::borrow::Cow;
use std::fmt;

/// An amount of memory: `8GiB`, `500 MiB`, `16 GB`.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "NumberOrText", into = "NumberOrText")]
pub struct MemoryLimit {
    /// Bytes.
    pub bytes: u64,
}

/// Units with their bytes: longer ones first, of which shorter ones are ends.
const UNITS: [(&str, u64); 4] = [("GiB", 1 << 30), ("MiB", 1 << 20), ("GB", 1_000_000_000), ("MB", 1_000_000)];

impl MemoryLimit {
    /// Reports a limit of nothing.
    pub fn check(self, key: &str, problems: &mut Problems) {
        problems.range(key, self.bytes as f64, 1.0, (1u64 << 50) as f64);
    }

    /// The largest unit of which it is a whole number, and how many; otherwise in MiB.
    fn in_unit(self) -> (f64, &'static str) {
        let whole = UNITS.iter().find(|(_, size)| self.bytes >= *size && self.bytes.is_multiple_of(*size));
        let (unit, size) = whole.copied().unwrap_or(("MiB", 1 << 20));
        (self.bytes as f64 / size as f64, unit)
    }
}

/// As people write it, to a hundredth.
impl fmt::Display for MemoryLimit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (number, unit) = self.in_unit();
        let number = format!("{number:.2}");
        write!(f, "{} {unit}", number.trim_end_matches('0').trim_end_matches('.'))
    }
}

impl TryFrom<NumberOrText> for MemoryLimit {
    type Error = String;

    fn try_from(given: NumberOrText) -> Result<MemoryLimit, String> {
        let (number, unit) = given.with_unit(&UNITS.map(|(unit, _)| unit)).ok_or_else(|| {
            format!("`{given}` is not an amount of memory: expected a number with its unit, `8GiB` or `500MiB`")
        })?;
        Ok(MemoryLimit { bytes: (number * UNITS[unit].1 as f64) as u64 })
    }
}

impl From<MemoryLimit> for NumberOrText {
    fn from(limit: MemoryLimit) -> NumberOrText {
        let (number, unit) = limit.in_unit();
        NumberOrText::Text(format!("{number}{unit}"))
    }
}

impl JsonSchema for MemoryLimit {
    fn schema_name() -> Cow<'static, str> {
        "MemoryLimit".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "description": "An amount of memory: 8GiB, 500MiB, 16GB",
            "type": "string",
            "pattern": "^[0-9.]+ *(GiB|MiB|GB|MB)$",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_has_a_unit() {
        let read = |json: &str| serde_json::from_str::<MemoryLimit>(json).map(|limit| limit.bytes).ok();
        assert_eq!(
            (read("\"8GiB\""), read("\"0.5 MiB\""), read("\"16 GB\"")),
            (Some(8 << 30), Some(1 << 19), Some(16_000_000_000))
        );
        assert!(["8", "\"8\"", "\"8 apples\"", "\"GiB\""].iter().all(|wrong| read(wrong).is_none()));
        for bytes in [8 << 30, 512 << 20, 1_500_000_000, 3 << 19] {
            let text = serde_json::to_string(&MemoryLimit { bytes }).expect("writes");
            assert_eq!(read(&text), Some(bytes), "{text}");
        }
        let shown = |json: &str| serde_json::from_str::<MemoryLimit>(json).expect("reads").to_string();
        assert_eq!((shown("\"0.8MiB\""), shown("\"10 GB\"")), ("0.8 MiB".into(), "10 GB".into()));
    }
}
