//! Fields of a JSON object as sizes, numbers and names, with every one that does not fit.

use super::Activation;
use crate::{Fault, ModelError};
use serde_json::{Map, Value};
use std::path::Path;

const ACTIVATIONS: &[(&str, Activation)] = &[
    ("gelu", Activation::Gelu),
    ("gelu_python", Activation::Gelu),
    ("gelu_new", Activation::GeluTanh),
    ("gelu_fast", Activation::GeluTanh),
    ("gelu_pytorch_tanh", Activation::GeluTanh),
    ("relu", Activation::Relu),
    ("silu", Activation::Silu),
    ("swish", Activation::Silu),
];

/// Reads fields and keeps what is wrong with them.
pub(super) struct Reader<'a> {
    file: &'a Path,
    fields: &'a Map<String, Value>,
    /// Before the names of fields in messages.
    path: String,
    faults: Vec<Fault>,
}

impl<'a> Reader<'a> {
    pub(super) fn new(file: &'a Path, fields: &'a Map<String, Value>) -> Reader<'a> {
        Reader { file, fields, path: String::new(), faults: Vec::new() }
    }

    /// `config`, unless a field of it did not fit.
    pub(super) fn finish<T>(self, config: T) -> Result<T, ModelError> {
        match self.faults.is_empty() {
            true => Ok(config),
            false => Err(ModelError::Config { file: self.file.into(), faults: self.faults }),
        }
    }

    pub(super) fn model_type(&self) -> String {
        self.fields.get("model_type").and_then(Value::as_str).unwrap_or_default().to_string()
    }

    pub(super) fn fault(&mut self, field: &str, want: &str, got: impl ToString) {
        self.faults.push(Fault { field: format!("{}{field}", self.path), want: want.into(), got: got.to_string() });
    }

    /// The first of `names` that is there and not null, with its value.
    pub(super) fn get<'n>(&self, names: &[&'n str]) -> Option<(&'n str, &'a Value)> {
        let given = names.iter().filter_map(|name| Some((*name, self.fields.get(*name)?)));
        given.into_iter().find(|(_, value)| !value.is_null())
    }

    pub(super) fn size(&mut self, names: &[&str], default: Option<usize>) -> usize {
        let want = "a whole number above zero";
        let found = match (self.get(names), default) {
            (Some((name, value)), _) => match value.as_u64().and_then(|n| u32::try_from(n).ok()) {
                Some(n) if n > 0 => Some(n as usize),
                _ => {
                    self.fault(name, want, value);
                    None
                }
            },
            (None, Some(n)) => Some(n),
            (None, None) => {
                self.fault(&names.join(" or "), want, "absent");
                None
            }
        };
        found.unwrap_or(0)
    }

    pub(super) fn epsilon(&mut self, names: &[&str], default: f32) -> f32 {
        self.number(names, f64::from(default), "a number, not negative", |x| x >= 0.0) as f32
    }

    pub(super) fn number(&mut self, names: &[&str], default: f64, want: &str, fits: fn(f64) -> bool) -> f64 {
        let Some((name, value)) = self.get(names) else { return default };
        match value.as_f64() {
            Some(x) if fits(x) && (x as f32).is_finite() => x,
            _ => {
                self.fault(name, want, value);
                default
            }
        }
    }

    /// The object under the first of `names`, whose faults come back through [`Reader::take`].
    pub(super) fn inner(&mut self, names: &[&str]) -> Option<Reader<'a>> {
        let (name, value) = self.get(names)?;
        let Some(fields) = value.as_object() else {
            self.fault(name, "an object", value);
            return None;
        };
        Some(Reader { file: self.file, fields, path: format!("{}{name}.", self.path), faults: Vec::new() })
    }

    pub(super) fn take(&mut self, inner: Reader<'a>) {
        self.faults.extend(inner.faults);
    }

    /// Refuses `part` unless it divides `whole`; zeros have been refused already.
    pub(super) fn divides(&mut self, name: &str, part: usize, whole: usize) {
        if part > 0 && !whole.is_multiple_of(part) {
            self.fault(name, &format!("a divisor of {whole}"), part);
        }
    }

    pub(super) fn flag(&mut self, name: &str, default: bool) -> bool {
        let Some((_, value)) = self.get(&[name]) else { return default };
        value.as_bool().unwrap_or_else(|| {
            self.fault(name, "true or false", value);
            default
        })
    }

    pub(super) fn activation(&mut self, names: &[&str], default: &str) -> Activation {
        let default = Value::from(default);
        let (name, value) = self.get(names).unwrap_or(("", &default));
        match ACTIVATIONS.iter().find(|(a, _)| value.as_str() == Some(*a)) {
            Some((_, activation)) => *activation,
            None => {
                let known: Vec<&str> = ACTIVATIONS.iter().map(|(a, _)| *a).collect();
                self.fault(name, &format!("one of {}", known.join(", ")), value);
                Activation::Gelu
            }
        }
    }

    pub(super) fn pad(&mut self, name: &str) -> Option<i64> {
        let (_, value) = self.get(&[name])?;
        let token = value.as_i64().filter(|n| (0..=i64::from(u32::MAX)).contains(n));
        if token.is_none() {
            self.fault(name, "a token", value);
        }
        token
    }

    pub(super) fn names(&mut self, name: &str) -> Vec<String> {
        let Some((_, value)) = self.get(&[name]) else { return Vec::new() };
        let texts = value.as_array().and_then(|v| v.iter().map(|x| Some(x.as_str()?.to_string())).collect());
        if texts.is_none() {
            self.fault(name, "a list of names", value);
        }
        texts.unwrap_or_default()
    }

    /// Refuses any value of the field but `want`: other values mean a computation that is not built.
    pub(super) fn only(&mut self, name: &str, want: &Value) {
        if let Some((_, value)) = self.get(&[name])
            && value != want
        {
            self.fault(name, &want.to_string(), value);
        }
    }
}
