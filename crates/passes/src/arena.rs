//! All trained values in one flat vector theta, split at the graph's entry, their gradients joined at its exit.
//! Clipping, AdamW and checkpoints then act on one buffer, in a dozen kernels instead of hundreds.

use crate::{PassError, rewrite};
use lorac_ir::{DType, Fact, Graph, ValueId};
use lorac_ops::Val;

/// Where a trained value lies in theta.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Slot {
    /// Name of the value.
    pub name: String,
    /// Its shape.
    pub dims: Vec<usize>,
    /// First element in theta.
    pub start: usize,
}

impl Slot {
    /// Number of elements.
    pub fn len(&self) -> usize {
        self.dims.iter().product()
    }

    /// Whether there are no elements.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The slot's part of a vector laid out like theta.
    pub fn of<'a, T>(&self, theta: &'a [T]) -> &'a [T] {
        theta.get(self.start..self.start + self.len()).unwrap_or_default()
    }
}

/// The layout of theta.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Arena {
    /// The input `theta`, f32.
    pub theta: ValueId,
    /// The joined gradient, if there are gradients.
    pub grad: Option<ValueId>,
    /// The trained values in order.
    pub slots: Vec<Slot>,
}

impl Arena {
    /// Number of trained elements.
    pub fn len(&self) -> usize {
        self.slots.iter().map(Slot::len).sum()
    }

    /// Whether nothing is trained.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// Replaces the inputs `params` by parts of one input `theta` and joins their gradients (in the same order, or none).
pub fn pack(graph: &mut Graph, params: &[ValueId], grads: &[ValueId]) -> Result<Arena, PassError> {
    rewrite(graph, "arena", |e| {
        let mut slots = Vec::new();
        let mut start = 0;
        for &param in params {
            let (name, fact) = (e.graph().name_of(param), e.graph().fact(param));
            let Some(dims) = fact.known_dims() else {
                return Err(PassError::Unsuitable(format!("'{name}' is {fact}: what is trained has a fixed shape")));
            };
            let slot = Slot { name, dims, start };
            start += slot.len();
            slots.push(slot);
        }
        let theta = e.input("theta", Fact::new(DType::F32, [start]));
        let lens: Vec<i64> = slots.iter().map(|s| s.len() as i64).collect();
        let parts = match slots.len() {
            1 => vec![theta],
            n => e.ops("Split", &[theta, e.ints(&lens)], &[("axis", 0i64.into())], n),
        };
        for ((&param, slot), part) in params.iter().zip(&slots).zip(parts) {
            let dims: Vec<i64> = slot.dims.iter().map(|d| *d as i64).collect();
            let value = part.reshape(&dims).cast(e.graph().fact(param).dtype);
            e.edit(|p| {
                p.redirect(param, value.id());
                p.drop_input(param);
            });
        }
        let flat: Vec<Val> = grads.iter().map(|g| e.val(*g).reshape(&[-1]).cast(DType::F32)).collect();
        let grad = match flat.as_slice() {
            [] => None,
            [one] => Some(one.id()),
            many => Some(e.op("Concat", many, &[("axis", 0i64.into())]).id()),
        };
        Ok(Arena { theta: theta.id(), grad, slots })
    })
}
