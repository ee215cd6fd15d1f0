//! Cases: small applications of an operator, written as constants beside it.

use lorac_ir::{Attr, DType, Tensor};
use std::sync::Arc;

/// One application of an operator.
#[derive(Clone, Copy, Debug)]
pub struct Case {
    /// Operands.
    pub inputs: &'static [Operand],
    /// Attributes.
    pub attrs: &'static [(&'static str, Attribute)],
    /// Number of results.
    pub outputs: usize,
    /// Version of the operator's domain.
    pub opset: i64,
}

/// An operand of a case.
#[derive(Clone, Copy, Debug)]
pub enum Operand {
    /// Random reals of this shape, from -2 to 2.
    Any(&'static [usize]),
    /// Random reals from 0.5 to 2.
    Positive(&'static [usize]),
    /// Random reals at least 0.1 away from zero and from each other: for operators with kinks.
    Apart(&'static [usize]),
    /// Given reals.
    Floats(&'static [usize], &'static [f64]),
    /// Given integers.
    Ints(&'static [usize], &'static [i64]),
    /// Given integers of another type than i64: quantized values, i32 indices.
    Of(DType, &'static [usize], &'static [i64]),
    /// Given booleans.
    Bools(&'static [usize], &'static [bool]),
    /// Absent.
    Absent,
}

/// An attribute of a case.
#[derive(Clone, Copy, Debug)]
pub enum Attribute {
    /// `INT`.
    Int(i64),
    /// `FLOAT`.
    Float(f32),
    /// `STRING`.
    Str(&'static str),
    /// `INTS`.
    Ints(&'static [i64]),
    /// `FLOATS`.
    Floats(&'static [f32]),
    /// `STRINGS`.
    Strs(&'static [&'static str]),
    /// A rank-1 `TENSOR` of f32.
    Tensor(&'static [f32]),
}

/// A case without attributes, with one result, at opset 20.
pub const fn case(inputs: &'static [Operand]) -> Case {
    Case { inputs, attrs: &[], outputs: 1, opset: 20 }
}

impl Case {
    /// The case with these attributes.
    pub const fn with(self, attrs: &'static [(&'static str, Attribute)]) -> Case {
        Case { attrs, ..self }
    }

    /// The case with this many results.
    pub const fn outputs(self, outputs: usize) -> Case {
        Case { outputs, ..self }
    }

    /// The case at this opset.
    pub const fn opset(self, opset: i64) -> Case {
        Case { opset, ..self }
    }
}

impl From<Attribute> for Attr {
    fn from(a: Attribute) -> Attr {
        match a {
            Attribute::Int(n) => n.into(),
            Attribute::Float(x) => x.into(),
            Attribute::Str(s) => s.into(),
            Attribute::Ints(v) => v.to_vec().into(),
            Attribute::Floats(v) => v.to_vec().into(),
            Attribute::Strs(v) => Attr::Strs(v.iter().map(|s| Arc::from(*s)).collect()),
            Attribute::Tensor(v) => Tensor::vector(v).into(),
        }
    }
}
