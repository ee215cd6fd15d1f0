//! `label:`: the column of a target, or several.

use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde::{Deserialize, Serialize, Serializer};
use std::borrow::Cow;
use std::ops::Deref;

/// The column of a target, or one for each label of a task that has several at once. Dereferences to the first.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(transparent)]
pub struct LabelColumns(Vec<String>);

impl LabelColumns {
    /// All of them.
    pub fn all(&self) -> &[String] {
        &self.0
    }
}

impl Deref for LabelColumns {
    type Target = str;
    fn deref(&self) -> &str {
        self.0.first().map_or("", String::as_str)
    }
}

impl Serialize for LabelColumns {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match &self.0[..] {
            [one] => one.serialize(serializer),
            all => all.serialize(serializer),
        }
    }
}

impl JsonSchema for LabelColumns {
    fn schema_name() -> Cow<'static, str> {
        "LabelColumns".into()
    }

    fn inline_schema() -> bool {
        true
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        Vec::<String>::json_schema(generator)
    }
}
