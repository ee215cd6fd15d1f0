//! A value in the making: reading it, and arithmetic that emits nodes.

use super::{ABSENT, Emit};
use crate::InferError;
use lorac_ir::{Attr, DType, Dim, Fact, Tensor, ValueId};
use std::ops::{Add, Div, Mul, Neg, Sub};

/// The first opset whose `Shape` tells the lengths of some axes and of no others.
const SHAPE_OF_SOME_AXES: i64 = 15;

/// A value, and the place where nodes that read it are written. [`Emit::absent`] gives the one that stands for an absent
/// operand.
#[derive(Clone, Copy)]
pub struct Val<'e, 'g> {
    pub(super) id: ValueId,
    pub(super) emit: &'e Emit<'g>,
}

impl<'e, 'g> Val<'e, 'g> {
    /// The value's id.
    pub fn id(self) -> ValueId {
        self.id
    }

    /// Where nodes that read it are written.
    pub fn emit(self) -> &'e Emit<'g> {
        self.emit
    }

    /// Whether this stands for an absent operand.
    pub fn is_absent(self) -> bool {
        self.id == ABSENT
    }

    /// `Some` unless it stands for an absent operand.
    pub fn present(self) -> Option<Val<'e, 'g>> {
        (!self.is_absent()).then_some(self)
    }

    /// What is known of it.
    pub fn fact(self) -> Fact {
        let state = self.emit.state.borrow();
        let value = state.patch.value(self.emit.graph, self.id);
        value.map_or(Fact::unranked(DType::Opaque), |v| v.fact.clone())
    }

    /// Its elements, where they are followed.
    pub fn content(self) -> Option<Vec<Dim>> {
        let state = self.emit.state.borrow();
        let tensor = state.patch.tensor(self.emit.graph, self.id);
        state.shape_data.input(self.id, Fact::unranked(DType::Opaque), tensor).content
    }

    /// Its elements as numbers, where all are known.
    pub fn known_ints(self) -> Option<Vec<i64>> {
        self.content()?.into_iter().map(Dim::known).collect()
    }

    /// The tensor, if it is a weight.
    pub fn tensor(self) -> Option<Tensor> {
        let state = self.emit.state.borrow();
        state.patch.tensor(self.emit.graph, self.id).cloned()
    }

    /// Its rank; 0 where unknown, with the error kept.
    pub fn rank(self) -> usize {
        let fact = self.fact();
        fact.rank().unwrap_or_else(|| {
            self.emit.fail(InferError::Operand { slot: 0, got: fact, want: "a known rank".into() });
            0
        })
    }

    /// `op(self)`.
    pub fn unary(self, op: &str) -> Val<'e, 'g> {
        self.emit.op(op, &[self], &[])
    }

    /// `op(self, other)`.
    pub fn binary(self, op: &str, other: Val<'e, 'g>) -> Val<'e, 'g> {
        self.emit.op(op, &[self, other], &[])
    }

    /// The constant `x` of this value's element type.
    pub fn like(self, x: f64) -> Val<'e, 'g> {
        self.emit.scalar(x, self.fact().dtype)
    }

    /// The shape as a vector of i64: a constant where it is known, else a `Shape` node.
    pub fn shape(self) -> Val<'e, 'g> {
        let known: Option<Vec<i64>> = self.fact().dims().and_then(|d| d.iter().map(|d| d.known()).collect());
        match known {
            Some(dims) => self.emit.ints(&dims),
            None => self.unary("Shape"),
        }
    }

    /// The length of one axis as a scalar of i64.
    pub fn len(self, axis: usize) -> Val<'e, 'g> {
        match self.fact().dims().and_then(|d| d.get(axis)?.known()) {
            Some(n) => self.emit.scalar(n as f64, DType::I64),
            None => self.unary("Shape").binary("Gather", self.emit.scalar(axis as f64, DType::I64)),
        }
    }

    /// The lengths of some axes as a vector of i64.
    pub fn lens(self, axes: std::ops::Range<usize>) -> Val<'e, 'g> {
        let fact = self.fact();
        let known =
            fact.dims().and_then(|d| d.get(axes.clone())?.iter().map(|d| d.known()).collect::<Option<Vec<i64>>>());
        match known {
            Some(dims) => self.emit.ints(&dims),
            None if self.emit.graph().opset() < SHAPE_OF_SOME_AXES => {
                let [start, end] = [axes.start, axes.end].map(|at| self.emit.ints(&[at as i64]));
                self.emit.op("Slice", &[self.unary("Shape"), start, end], &[])
            }
            None => {
                let part = [("start", Attr::Int(axes.start as i64)), ("end", Attr::Int(axes.end as i64))];
                self.emit.op("Shape", &[self], &part)
            }
        }
    }

    /// The numbers from 0 up to this scalar.
    pub fn numbers(self) -> Val<'e, 'g> {
        self.emit.op("Range", &[self.like(0.0), self, self.like(1.0)], &[])
    }

    /// The positions along one axis: `0, 1, ..` as i64.
    pub fn positions(self, axis: usize) -> Val<'e, 'g> {
        self.len(axis).numbers()
    }

    /// Reshaped to the shape of `other`: by a constant where at most one dimension is symbolic.
    pub fn reshape_like(self, other: Val<'e, 'g>) -> Val<'e, 'g> {
        let fact = other.fact();
        if fact.shape.is_some() && fact.shape == self.fact().shape && fact.dims().is_some_and(all_certain) {
            return self;
        }
        let open = |d: &Dim| d.known().is_none_or(|n| n == 0);
        match fact.dims() {
            Some(dims) if dims.iter().filter(|d| open(d)).count() <= 1 && self.fact().volume() != Dim::Known(0) => {
                let target: Vec<i64> = dims.iter().map(|d| d.known().unwrap_or(-1)).collect();
                self.reshape(&target)
            }
            _ => self.binary("Reshape", other.shape()),
        }
    }

    /// Reshaped to a constant shape, with ONNX's meaning of 0 and -1.
    pub fn reshape(self, dims: &[i64]) -> Val<'e, 'g> {
        self.binary("Reshape", self.emit.ints(dims))
    }

    /// Its axes permuted. A transposed value is permuted from where it came: two copies are one, or none.
    pub fn transpose(self, perm: &[usize]) -> Val<'e, 'g> {
        if let Some((inner, first)) = self.transposed_from() {
            let both: Vec<usize> = perm.iter().filter_map(|p| first.get(*p).copied()).collect();
            if both.iter().copied().eq(0..perm.len()) {
                return inner;
            }
            return inner.transpose(&both);
        }
        let perm: Vec<i64> = perm.iter().map(|p| *p as i64).collect();
        self.emit.op("Transpose", &[self], &[("perm", perm.into())])
    }

    /// Whether a Transpose made it that moved the last axis.
    pub fn is_turned(self) -> bool {
        self.transposed_from().is_some_and(|(_, perm)| perm.last().is_some_and(|last| last + 1 != perm.len()))
    }

    /// What a Transpose made this value from, and how.
    fn transposed_from(self) -> Option<(Val<'e, 'g>, Vec<usize>)> {
        let state = self.emit.state.borrow();
        let node = state.patch.producer(self.emit.graph, self.id)?;
        let perm = node.ints("perm").filter(|_| &*node.op.name == "Transpose" && node.op.domain.is_empty())?;
        let perm = perm.iter().map(|p| usize::try_from(*p).ok()).collect::<Option<Vec<_>>>()?;
        Some((self.emit.val(node.input(0)?), perm))
    }

    /// The last two axes swapped.
    pub fn t(self) -> Val<'e, 'g> {
        let mut perm: Vec<usize> = (0..self.rank()).collect();
        if let [.., a, b] = perm.as_mut_slice() {
            std::mem::swap(a, b);
        }
        self.transpose(&perm)
    }

    /// The matrix product over the last two axes.
    pub fn matmul(self, other: Val<'e, 'g>) -> Val<'e, 'g> {
        self.binary("MatMul", other)
    }

    /// The sum over some axes.
    pub fn sum(self, axes: &[i64], keep: bool) -> Val<'e, 'g> {
        if axes.is_empty() {
            return self;
        }
        self.emit.op("ReduceSum", &[self, self.emit.ints(axes)], &[("keepdims", i64::from(keep).into())])
    }

    /// Converted to an element type; itself where it is of that type.
    pub fn cast(self, dtype: DType) -> Val<'e, 'g> {
        match dtype.onnx_code() {
            _ if self.fact().dtype == dtype => self,
            Some(code) => self.emit.op("Cast", &[self], &[("to", code.into())]),
            None => {
                let got = self.fact();
                self.emit.fail(InferError::Operand { slot: 0, got, want: format!("to become {dtype}") })
            }
        }
    }

    /// Zeros of its shape and type.
    pub fn zeros_like(self) -> Val<'e, 'g> {
        let zero = Tensor::from_f64(self.fact().dtype, &[1], &[0.0]);
        let attrs: Vec<(&str, Attr)> = zero.into_iter().map(|t| ("value", t.into())).collect();
        self.emit.op("ConstantOfShape", &[self.shape()], &attrs)
    }
}

fn all_certain(dims: &[Dim]) -> bool {
    dims.iter().all(|d| *d != Dim::Unknown)
}

macro_rules! arithmetic {
    ($($trait:ident, $method:ident, $op:literal;)*) => {$(
        impl<'e, 'g> $trait for Val<'e, 'g> {
            type Output = Val<'e, 'g>;
            fn $method(self, other: Val<'e, 'g>) -> Val<'e, 'g> {
                self.binary($op, other)
            }
        }
        impl<'e, 'g> $trait<f64> for Val<'e, 'g> {
            type Output = Val<'e, 'g>;
            fn $method(self, other: f64) -> Val<'e, 'g> {
                self.binary($op, self.like(other))
            }
        }
        impl<'e, 'g> $trait<Val<'e, 'g>> for f64 {
            type Output = Val<'e, 'g>;
            fn $method(self, other: Val<'e, 'g>) -> Val<'e, 'g> {
                other.like(self).binary($op, other)
            }
        }
    )*};
}
arithmetic! {
    Add, add, "Add";
    Sub, sub, "Sub";
    Mul, mul, "Mul";
    Div, div, "Div";
}

impl<'e, 'g> Neg for Val<'e, 'g> {
    type Output = Val<'e, 'g>;
    fn neg(self) -> Val<'e, 'g> {
        self.unary("Neg")
    }
}
