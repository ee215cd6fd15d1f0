//! Nodes: applications of operators.

use crate::{Attr, Attrs, Body, ValueId};
use std::fmt;
use std::sync::Arc;

/// An operator's domain and name. The standard domain is the empty string.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct OpName {
    /// `""` for the ONNX standard, else `com.microsoft` and the like.
    pub domain: Arc<str>,
    /// `MatMul`, `FastGelu`, ...
    pub name: Arc<str>,
}

impl OpName {
    /// The operator `name` of `domain`.
    pub fn new(domain: &str, name: &str) -> OpName {
        let domain = if domain == "ai.onnx" { "" } else { domain };
        OpName { domain: domain.into(), name: name.into() }
    }
}

impl From<&str> for OpName {
    /// Splits at the last dot: `com.microsoft.FastGelu`.
    fn from(text: &str) -> OpName {
        let (domain, name) = text.rsplit_once('.').unwrap_or(("", text));
        OpName::new(domain, name)
    }
}

impl fmt::Display for OpName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.domain.is_empty() { f.write_str(&self.name) } else { write!(f, "{}.{}", self.domain, self.name) }
    }
}

impl fmt::Debug for OpName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Who made a node: the pass, and the node of the user's model that it stands for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Origin {
    /// The pass; empty for nodes of the source model.
    pub pass: Arc<str>,
    /// Name of the node in the source model; empty where there is none.
    pub source: Arc<str>,
}

/// One application of an operator.
#[derive(Clone, Debug, PartialEq)]
pub struct Node {
    /// What it computes.
    pub op: OpName,
    /// Operands by position; `None` for an absent optional one.
    pub inputs: Vec<Option<ValueId>>,
    /// Results by position.
    pub outputs: Vec<ValueId>,
    /// Attributes.
    pub attrs: Attrs,
    /// Where it comes from.
    pub origin: Origin,
}

impl Node {
    /// The operand at `slot`, if present.
    pub fn input(&self, slot: usize) -> Option<ValueId> {
        self.inputs.get(slot).copied().flatten()
    }

    /// The graphs inside it.
    pub fn bodies(&self) -> impl Iterator<Item = &Body> {
        self.attrs.values().filter_map(|a| if let Attr::Graph(body) = a { Some(body) } else { None })
    }

    /// Values of the enclosing graph that the graphs inside it read.
    pub fn captures(&self) -> impl Iterator<Item = ValueId> {
        self.bodies().flat_map(|b| b.captures.iter().copied())
    }

    /// Everything it reads with the slots of the uses: its inputs, then its captures.
    pub fn operands(&self) -> impl Iterator<Item = (usize, ValueId)> {
        let inputs = self.inputs.iter().enumerate().filter_map(|(i, v)| Some((i, (*v)?)));
        inputs.chain(self.captures().enumerate().map(|(i, v)| (self.inputs.len() + i, v)))
    }

    /// An integer attribute, or `default`.
    pub fn int(&self, name: &str, default: i64) -> i64 {
        match self.attrs.get(name) {
            Some(Attr::Int(n)) => *n,
            _ => default,
        }
    }

    /// A float attribute, or `default`.
    pub fn float(&self, name: &str, default: f32) -> f32 {
        match self.attrs.get(name) {
            Some(Attr::Float(x)) => *x,
            _ => default,
        }
    }

    /// A list of integers, if present.
    pub fn ints(&self, name: &str) -> Option<&[i64]> {
        match self.attrs.get(name) {
            Some(Attr::Ints(v)) => Some(v),
            _ => None,
        }
    }

    /// A string attribute, if present.
    pub fn str(&self, name: &str) -> Option<&str> {
        match self.attrs.get(name) {
            Some(Attr::Str(s)) => Some(s),
            _ => None,
        }
    }
}
