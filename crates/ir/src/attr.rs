//! Node attributes.

use crate::{Graph, Tensor, ValueId};
use bytes::Bytes;
use std::collections::BTreeMap;
use std::sync::Arc;

/// A graph inside a node: a branch of an `If`, the body of a `Loop` or a `Scan`.
#[derive(Clone, Debug, PartialEq)]
pub struct Body {
    /// What it computes. Its first inputs are its own; the last ones stand for `captures`, in order.
    pub graph: Arc<Graph>,
    /// Values of the enclosing graph that it reads. The node uses them as it uses its inputs.
    pub captures: Vec<ValueId>,
}

impl Body {
    /// Number of the inputs that the node feeds, as opposed to the captured ones behind them.
    pub fn own_inputs(&self) -> usize {
        self.graph.inputs().len().saturating_sub(self.captures.len())
    }
}

/// The value of an attribute, as in ONNX's `AttributeProto`.
#[derive(Clone, Debug, PartialEq)]
pub enum Attr {
    /// `INT`.
    Int(i64),
    /// `FLOAT`.
    Float(f32),
    /// `STRING`.
    Str(Arc<str>),
    /// `TENSOR`.
    Tensor(Tensor),
    /// `INTS`.
    Ints(Vec<i64>),
    /// `FLOATS`.
    Floats(Vec<f32>),
    /// `STRINGS`.
    Strs(Vec<Arc<str>>),
    /// `GRAPH`.
    Graph(Body),
    /// Inside a function: the attribute of this name of the node that calls it.
    Ref(Arc<str>),
    /// Anything else (sparse tensors, types, strings that are not text), as encoded in the file.
    Opaque(Bytes),
}

/// Attributes by name, in a fixed order.
pub type Attrs = BTreeMap<Arc<str>, Attr>;

macro_rules! from {
    ($($ty:ty => |$x:ident| $e:expr),* $(,)?) => {$(
        impl From<$ty> for Attr {
            fn from($x: $ty) -> Attr { $e }
        }
    )*};
}
from!(
    i64 => |x| Attr::Int(x),
    f32 => |x| Attr::Float(x),
    &str => |x| Attr::Str(x.into()),
    Tensor => |x| Attr::Tensor(x),
    Vec<i64> => |x| Attr::Ints(x),
    Vec<f32> => |x| Attr::Floats(x),
);
