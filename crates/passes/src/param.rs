//! What is trained, and where it lies in theta.

use lorac_ir::{Tensor, ValueId};
use std::collections::HashMap;
use std::sync::Arc;

/// A tensor that is trained: an input of the graph.
#[derive(Clone, Debug, PartialEq)]
pub struct Param {
    /// The input.
    pub value: ValueId,
    /// Its name, which is the same in every graph over one theta.
    pub name: String,
    /// Its shape.
    pub dims: Vec<usize>,
    /// Its values before the first step.
    pub init: Init,
    /// What it is part of.
    pub group: Group,
    /// Whether an optimizer's weight decay applies to it.
    pub decay: bool,
}

impl Param {
    /// Number of elements.
    pub fn len(&self) -> usize {
        self.dims.iter().product()
    }

    /// Whether there are no elements.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Whether it changes.
    pub fn is_trained(&self) -> bool {
        self.group != Group::Fixed
    }
}

/// Values before the first step.
#[derive(Clone, Debug, PartialEq)]
pub enum Init {
    /// All zero.
    Zeros,
    /// Normally distributed around 0.
    Normal {
        /// Standard deviation.
        sigma: f32,
    },
    /// Evenly distributed between `-bound` and `bound`.
    Uniform {
        /// The largest magnitude.
        bound: f32,
    },
    /// Orthonormal rows, or columns where there are more rows than columns (Saxe et al. 2014).
    Orthogonal,
    /// These, of the param's shape and of any float type.
    Given(Tensor),
    /// One of two factors that begin together.
    Factor {
        /// Both.
        pair: Arc<FactorPair>,
        /// Which.
        factor: Factor,
    },
    /// `(A A^T + 1e-8 I)^-1 / s^2`, of another param A. The gradient of B is multiplied by it (LoRA-FA).
    InverseGram {
        /// Name of A.
        of: String,
        /// s.
        scale: f64,
        /// Name of B, `[out, r]`.
        projects: String,
    },
}

/// A `[r, in]` and B `[out, r]` of a low-rank branch that are not drawn for themselves.
#[derive(Clone, Debug, PartialEq)]
pub struct FactorPair {
    /// r.
    pub rank: usize,
    /// in.
    pub rows: usize,
    /// out.
    pub cols: usize,
    /// s: what `B A` is multiplied by.
    pub scale: f64,
    /// What they are made of.
    pub source: FactorSource,
}

/// What a pair of factors is made of.
#[derive(Clone, Debug, PartialEq)]
pub enum FactorSource {
    /// Rows of one random rotation, every other one: B A is 0 and neither factor is.
    Orthogonal,
    /// The r largest singular values of a weight with their vectors, `sqrt(S / s)` in each.
    Principal(WeightColumns),
    /// The first r columns of Q and rows of R, with `Q R` the weight.
    Triangular(WeightColumns),
    /// `A`, `[r, in]`: directions of what the matrix is fed; B is 0. Nothing before that is looked at (EVA).
    Inputs(Option<Tensor>),
    /// Directions of a gradient: the first r of its inputs are A, of its results the r behind these B (LoRA-GA).
    Gradient {
        /// The gradient, in the form of the weight; the weight itself before the gradient is known.
        columns: WeightColumns,
        /// Whether it is.
        is_known: bool,
    },
}

impl FactorSource {
    /// Whether it has to be looked at what batches do.
    pub fn is_unknown(&self) -> bool {
        matches!(self, FactorSource::Inputs(None) | FactorSource::Gradient { is_known: false, .. })
    }
}

/// A weight, or columns of one, as `[out, in]`.
#[derive(Clone, Debug, PartialEq)]
pub struct WeightColumns {
    /// The weight as it is stored.
    pub weight: Tensor,
    /// Whether it is stored `[out, in]`.
    pub transposed: bool,
    /// The columns of results that are meant; all where there are none.
    pub columns: Option<Vec<usize>>,
}

/// One of the two factors of a branch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Factor {
    /// What is multiplied first, `[r, in]`.
    A,
    /// What is multiplied last, `[out, r]`.
    B,
}

/// What a param is part of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Group {
    /// An adapter: nothing of the base model is lost with it.
    Adapter,
    /// A new head.
    Head,
    /// The base model itself.
    Base,
    /// Stays as it begins: it is kept with the others because they make no sense without it.
    Fixed,
}

/// Where a param lies in theta.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Slot {
    /// Name of the param.
    pub name: String,
    /// Its shape.
    pub dims: Vec<usize>,
    /// First element in theta.
    pub start: usize,
    /// Whether weight decay applies to it.
    pub decay: bool,
    /// The slot, `[r, r]`, that its gradient is multiplied by when it is clipped, by its position.
    pub projected_by: Option<usize>,
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
}

/// The layout of theta, the vector of everything trained.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Layout {
    slots: Vec<Slot>,
}

/// A theta that does not fit its layout.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LayoutError {
    /// A name that theta has no param of.
    #[error("nothing that is trained is called `{name}`")]
    Unknown {
        /// The name.
        name: String,
    },
    /// A vector of another length.
    #[error("theta has {got} elements, expected {want}")]
    Length {
        /// Elements of the layout.
        want: usize,
        /// Elements given.
        got: usize,
    },
    /// What a branch begins with has not been looked at.
    #[error("`{name}` begins with what the first batches say, which nobody has looked at")]
    Unseen {
        /// Name of the param.
        name: String,
    },
    /// What matrices are fed, or a gradient, holds what is not finite.
    #[error("`{name}` cannot begin with what the first batches say: it holds values that are not finite")]
    NotFinite {
        /// Name of the param.
        name: String,
    },
    /// A weight that has no singular values: it holds what is not finite.
    #[error("`{name}` cannot begin as a part of its weight: the weight holds values that are not finite")]
    Undecomposable {
        /// Name of the param.
        name: String,
    },
}

impl Layout {
    /// Params one after the other, in their order.
    pub fn of(params: &[Param]) -> Layout {
        let mut start = 0;
        let projections = params.iter().enumerate().filter_map(|(at, p)| match &p.init {
            Init::InverseGram { projects, .. } => Some((projects.as_str(), at)),
            _ => None,
        });
        let projections: HashMap<&str, usize> = projections.collect();
        let slots = params.iter().map(|p| {
            let projected_by = projections.get(p.name.as_str()).copied();
            let slot = Slot { name: p.name.clone(), dims: p.dims.clone(), start, decay: p.decay, projected_by };
            start += slot.len();
            slot
        });
        Layout { slots: slots.collect() }
    }

    /// The slots, in order.
    pub fn slots(&self) -> &[Slot] {
        &self.slots
    }

    /// Number of trained elements.
    pub fn len(&self) -> usize {
        self.slots.iter().map(Slot::len).sum()
    }

    /// Whether nothing is trained.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The slot of a param.
    ///
    /// # Errors
    /// A name that is not in the layout.
    pub fn slot(&self, name: &str) -> Result<&Slot, LayoutError> {
        self.slots.iter().find(|s| s.name == name).ok_or_else(|| LayoutError::Unknown { name: name.to_string() })
    }

    /// The values of a theta by param.
    ///
    /// # Errors
    /// A theta of another length.
    pub fn values<'a>(&'a self, theta: &'a [f32]) -> Result<ParamValues<'a>, LayoutError> {
        match theta.len() == self.len() {
            true => Ok(ParamValues { layout: self, theta }),
            false => Err(LayoutError::Length { want: self.len(), got: theta.len() }),
        }
    }
}

/// A theta, read by param.
#[derive(Clone, Copy, Debug)]
pub struct ParamValues<'a> {
    layout: &'a Layout,
    theta: &'a [f32],
}

impl<'a> ParamValues<'a> {
    /// The elements of a param, row-major.
    ///
    /// # Errors
    /// A name that is not in the layout.
    pub fn get(&self, name: &str) -> Result<&'a [f32], LayoutError> {
        let slot = self.layout.slot(name)?;
        Ok(self.theta.get(slot.start..slot.start + slot.len()).unwrap_or_default())
    }

    /// A param as an f32 tensor of its shape.
    ///
    /// # Errors
    /// A name that is not in the layout.
    pub fn tensor(&self, name: &str) -> Result<Tensor, LayoutError> {
        let (slot, data) = (self.layout.slot(name)?, self.get(name)?);
        let length = |_| LayoutError::Length { want: slot.len(), got: data.len() };
        Tensor::from_slice(&slot.dims, data).map_err(length)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn param(name: &str, dims: &[usize]) -> Param {
        let (init, group) = (Init::Zeros, Group::Adapter);
        Param { value: ValueId(0), name: name.into(), dims: dims.to_vec(), init, group, decay: true }
    }

    #[test]
    fn params_lie_one_after_the_other_and_are_found_by_name() {
        let layout = Layout::of(&[param("a", &[2, 3]), param("b", &[]), param("c", &[2])]);
        let theta: Vec<f32> = (0..9u8).map(f32::from).collect();
        let values = layout.values(&theta).expect("fits");
        assert_eq!((layout.len(), values.get("b"), values.get("c")), (9, Ok(&[6.0f32][..]), Ok(&[7.0f32, 8.0][..])));
        assert_eq!(values.tensor("a").expect("there").dims(), [2, 3]);
        assert_eq!(values.get("d"), Err(LayoutError::Unknown { name: "d".into() }));
        assert!(layout.values(&theta[1..]).is_err());
    }
}
