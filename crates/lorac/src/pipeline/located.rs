//! Strings that know where in the YAML they stand.

use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::borrow::Cow;
use std::fmt;

/// A string with the position of its first character, both counted from 1; 0 where unknown.
#[derive(Clone, Debug, Eq)]
pub struct Located {
    text: String,
    /// Line.
    pub line: usize,
    /// Column.
    pub column: usize,
}

impl Located {
    /// The string.
    pub fn as_str(&self) -> &str {
        &self.text
    }
}

impl PartialEq for Located {
    fn eq(&self, other: &Located) -> bool {
        self.text == other.text
    }
}

impl std::ops::Deref for Located {
    type Target = str;
    fn deref(&self) -> &str {
        &self.text
    }
}

impl fmt::Display for Located {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl<'de> Deserialize<'de> for Located {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Located, D::Error> {
        let spanned = serde_saphyr::Spanned::<String>::deserialize(d)?;
        let at = spanned.referenced;
        Ok(Located { text: spanned.value, line: at.line() as usize, column: at.column() as usize })
    }
}

impl Serialize for Located {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        s.serialize_str(&self.text)
    }
}

impl JsonSchema for Located {
    fn inline_schema() -> bool {
        true
    }
    fn schema_name() -> Cow<'static, str> {
        "String".into()
    }
    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        String::json_schema(generator)
    }
}
