//! What is known of a value before it is computed.

use crate::{DType, Dim};
use std::fmt;

/// The dimensions of a value; `None` where not even the rank is known.
pub type Shape = Option<Vec<Dim>>;

/// Element type and shape of a value, and nothing else.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Fact {
    /// Element type.
    pub dtype: DType,
    /// Dimensions, outermost first; `None` for an unknown rank.
    pub shape: Shape,
}

impl Fact {
    /// A fact with a known rank.
    pub fn new(dtype: DType, dims: impl IntoIterator<Item = impl Into<Dim>>) -> Fact {
        Fact { dtype, shape: Some(dims.into_iter().map(Into::into).collect()) }
    }

    /// A fact of unknown rank.
    pub fn unranked(dtype: DType) -> Fact {
        Fact { dtype, shape: None }
    }

    /// A rank-0 fact.
    pub fn scalar(dtype: DType) -> Fact {
        Fact { dtype, shape: Some(Vec::new()) }
    }

    /// The rank, where it is known.
    pub fn rank(&self) -> Option<usize> {
        self.shape.as_ref().map(Vec::len)
    }

    /// The dimensions, where the rank is known.
    pub fn dims(&self) -> Option<&[Dim]> {
        self.shape.as_deref()
    }

    /// The shape as numbers, where all of them are known.
    pub fn known_dims(&self) -> Option<Vec<usize>> {
        self.dims()?.iter().map(|d| d.known().and_then(|n| usize::try_from(n).ok())).collect()
    }

    /// The number of elements, symbolic where the shape is.
    pub fn volume(&self) -> Dim {
        match self.dims() {
            Some(dims) => dims.iter().fold(Dim::Known(1), |p, d| p * *d),
            None => Dim::Unknown,
        }
    }

    /// Whether no known dimension of one contradicts the other: unknown fits everything.
    pub fn compatible(&self, other: &Fact) -> bool {
        if self.dtype != other.dtype {
            return false;
        }
        match (self.dims(), other.dims()) {
            (Some(a), Some(b)) => {
                a.len() == b.len()
                    && a.iter().zip(b).all(|(x, y)| match (x, y) {
                        (Dim::Known(m), Dim::Known(n)) => m == n,
                        _ => true,
                    })
            }
            _ => true,
        }
    }
}

impl fmt::Display for Fact {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.shape {
            None => write!(f, "{}[..]", self.dtype),
            Some(dims) => {
                let dims: Vec<String> = dims.iter().map(Dim::to_string).collect();
                write!(f, "{}[{}]", self.dtype, dims.join(","))
            }
        }
    }
}

impl fmt::Debug for Fact {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}
