//! Limits of a gradient.

use lorac_config::Problems;
use lorac_ops::Val;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::{Error, MapAccess, Visitor};
use serde::ser::SerializeMap;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::borrow::Cow;
use std::fmt;

/// How long a gradient may be: `1.0` or `{ norm: 1.0 }`, or how large its elements: `{ value: 0.5 }`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Clip {
    /// A longer one (global norm, over everything trained) is scaled down to this length; 0 for any length.
    Norm(f64),
    /// Elements beyond this magnitude are cut to it.
    Value(f64),
}

/// Added to the norm before dividing by it, as PyTorch's `clip_grad_norm_` does.
const NORM_EPS: f64 = 1e-6;

impl Clip {
    /// The limit, where there is one.
    pub fn limit(self) -> Option<Clip> {
        (self != Clip::Norm(0.0)).then_some(self)
    }

    /// Reports a limit that is none.
    pub fn check(self, key: &str, problems: &mut Problems) {
        match self {
            Clip::Norm(norm) => problems.range(key, norm, 0.0, f64::MAX),
            Clip::Value(value) => problems.within(key, |p| p.positive("value", value, f64::MAX)),
        }
    }

    /// The gradient within the limit; `norm` is its global norm.
    pub(super) fn apply<'e, 'g>(self, grad: Val<'e, 'g>, norm: Val<'e, 'g>) -> Val<'e, 'g> {
        match self {
            Clip::Norm(clip) => grad * (norm.like(clip) / (norm + NORM_EPS)).binary("Min", norm.like(1.0)),
            Clip::Value(clip) => grad.emit().op("Clip", &[grad, norm.like(-clip), norm.like(clip)], &[]),
        }
    }
}

/// The keys of the long form.
const KEYS: &[&str] = &["norm", "value"];

impl Serialize for Clip {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Clip::Norm(norm) => serializer.serialize_f64(*norm),
            Clip::Value(value) => {
                let mut map = serializer.serialize_map(Some(1))?;
                map.serialize_entry("value", value)?;
                map.end()
            }
        }
    }
}

impl<'de> Deserialize<'de> for Clip {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Forms;
        impl<'de> Visitor<'de> for Forms {
            type Value = Clip;
            fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
                f.write_str("a number, `norm: X` or `value: X`")
            }
            fn visit_f64<E: Error>(self, norm: f64) -> Result<Clip, E> {
                Ok(Clip::Norm(norm))
            }
            fn visit_i64<E: Error>(self, norm: i64) -> Result<Clip, E> {
                Ok(Clip::Norm(norm as f64))
            }
            fn visit_u64<E: Error>(self, norm: u64) -> Result<Clip, E> {
                Ok(Clip::Norm(norm as f64))
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Clip, A::Error> {
                let mut clip = None;
                while let Some(key) = map.next_key::<String>()? {
                    let one = match key.as_str() {
                        "norm" => Clip::Norm(map.next_value()?),
                        "value" => Clip::Value(map.next_value()?),
                        _ => return Err(Error::unknown_field(&key, KEYS)),
                    };
                    if clip.replace(one).is_some() {
                        return Err(Error::custom("`clip` has one limit: `norm` or `value`"));
                    }
                }
                clip.ok_or_else(|| Error::custom("`clip` has one limit: `norm` or `value`"))
            }
        }
        deserializer.deserialize_any(Forms)
    }
}

impl JsonSchema for Clip {
    fn schema_name() -> Cow<'static, str> {
        "Clip".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "description": "Longest gradient (global norm; 0 for any), or the largest magnitude of its elements",
            "anyOf": [
                { "type": "number", "minimum": 0 },
                {
                    "type": "object",
                    "properties": { "norm": { "type": "number", "minimum": 0, "description": "Longest gradient (global norm)" } },
                    "required": ["norm"],
                    "additionalProperties": false,
                },
                {
                    "type": "object",
                    "properties": { "value": { "type": "number", "minimum": 0, "description": "Largest magnitude of an element" } },
                    "required": ["value"],
                    "additionalProperties": false,
                },
            ],
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_is_a_norm() {
        let read = |json: &str| serde_json::from_str::<Clip>(json).map_err(|e| e.to_string());
        assert_eq!((read("1"), read("{\"norm\": 0.5}")), (Ok(Clip::Norm(1.0)), Ok(Clip::Norm(0.5))));
        assert_eq!(read("{\"value\": 0.5}"), Ok(Clip::Value(0.5)));
        for wrong in ["{}", "{\"norm\": 1, \"value\": 1}", "{\"max\": 1}", "\"one\""] {
            assert!(read(wrong).is_err(), "{wrong}");
        }
        for clip in [Clip::Norm(0.5), Clip::Value(2.0)] {
            assert_eq!(read(&serde_json::to_string(&clip).expect("writes")), Ok(clip));
        }
        assert_eq!((Clip::Norm(0.0).limit(), Clip::Value(1.0).limit()), (None, Some(Clip::Value(1.0))));
    }
}
