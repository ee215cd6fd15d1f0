//! Node attributes.

use crate::Tensor;
use bytes::Bytes;
use std::collections::BTreeMap;
use std::sync::Arc;

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
    /// Anything else (subgraphs, sparse tensors, types), kept as the file has it; `captures` are the names of outer
    /// values that a subgraph reads.
    Opaque {
        /// The attribute as encoded in the file.
        encoded: Bytes,
        /// Outer values that it reads.
        captures: Vec<Arc<str>>,
    },
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
