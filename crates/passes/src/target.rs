//! What an adaptation changes: a weight, or a slice of one.

use crate::fused_slice::FusedSlice;
use crate::{Matrix, PassError, ReadAs, Role};
use lorac_ir::ValueId;
use std::collections::{BTreeMap, BTreeSet};

/// A weight, or a slice of one, that a pattern picked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    /// The weight.
    pub weight: ValueId,
    /// Its name in the model.
    pub weight_name: String,
    /// Its shape.
    pub dims: Vec<usize>,
    /// How it is read, where it is a linear map: a matrix, a table, a kernel, a stack of matrices.
    pub matrix: Option<Matrix>,
    /// The slice of the matrix that is meant; all of it where there is none.
    pub slice: Option<FusedSlice>,
    /// What it does, where that is known.
    pub roles: BTreeSet<Role>,
    /// The pattern that picked it first.
    pub pattern: String,
    /// Of the method's settings that hold for some targets only, the position of the entry that holds for this one.
    pub entries: BTreeMap<&'static str, usize>,
}

impl Target {
    /// A matrix as a whole.
    pub fn of_matrix(matrix: &Matrix, roles: BTreeSet<Role>, pattern: &str) -> Target {
        Target {
            weight: matrix.weight,
            weight_name: matrix.name.clone(),
            dims: matrix.dims.clone(),
            matrix: Some(matrix.clone()),
            slice: None,
            roles,
            pattern: pattern.to_string(),
            entries: BTreeMap::new(),
        }
    }

    /// The weight's name, with that of the slice: `h.0.attn.c_attn.weight.query`.
    pub fn name(&self) -> String {
        match &self.slice {
            Some(slice) => format!("{}.{}", self.weight_name, slice.role),
            None => self.weight_name.clone(),
        }
    }

    /// The matrix.
    ///
    /// # Errors
    /// A weight that is trained as it is.
    pub fn matrix(&self) -> Result<&Matrix, PassError> {
        let why = || PassError::Unsuitable(format!("`{}` is not a matrix, a table or a kernel", self.weight_name));
        self.matrix.as_ref().ok_or_else(why)
    }

    /// Length of the rows that the matrix multiplies; 0 where it is none.
    pub fn rows(&self) -> usize {
        self.matrix.as_ref().map_or(0, |m| m.rows)
    }

    /// How many matrices the weight holds: one, but of a stack.
    pub fn count(&self) -> usize {
        let stack = self.matrix.as_ref().filter(|m| m.read_as == ReadAs::Stack);
        stack.and_then(|m| m.dims.first().copied()).unwrap_or(1)
    }

    /// Length of the results; 0 where the weight is not a matrix.
    pub fn cols(&self) -> usize {
        let all = self.matrix.as_ref().map_or(0, |m| m.cols);
        self.slice.as_ref().map_or(all, |s| s.columns.len())
    }
}

/// Items on slices of one weight together, in the order of the first of each.
pub fn group_by_weight<T>(items: &[T], target: impl Fn(&T) -> &Target) -> Vec<Vec<&T>> {
    let mut groups: Vec<Vec<&T>> = Vec::new();
    let mut place: BTreeMap<ValueId, usize> = BTreeMap::new();
    for item in items {
        let at = *place.entry(target(item).weight).or_insert(groups.len());
        if at == groups.len() {
            groups.push(Vec::new());
        }
        groups[at].push(item);
    }
    groups
}
