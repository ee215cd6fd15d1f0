//! What the A and B of a branch begin with.

use crate::{FactorSource, ReadAs, Target, WeightColumns};
use lorac_ir::Graph;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// What A and B are before the first step.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum LoraInit {
    /// A normal with deviation 1 / sqrt(in), B zero
    #[default]
    Normal,
    /// A uniform within 1 / sqrt(in), B zero (PEFT's default)
    Kaiming,
    /// A normal with deviation 1 / r, B zero (PEFT's gaussian)
    Gaussian,
    /// Orthogonal factors whose product is zero, of an even rank (PEFT's orthogonal)
    Orthogonal,
    /// The largest singular values of the weight with their vectors, taken out of it (PiSSA, Meng et al. 2024)
    Pissa,
    /// The first columns of Q and rows of R of the weight, taken out of it (OLoRA, Buyukakyuz 2024)
    Olora,
    /// A the directions in which what the matrix is fed by the first batches varies most, B zero (EVA, Paischer et al. 2024; ranks
    /// stay as they are). Of tables, kernels and stacks as `normal`
    Eva,
    /// Directions of the gradient of the first batches, taken out of the weight (LoRA-GA, Wang et al. 2024). Of tables, kernels
    /// and stacks as `normal`
    LoraGa,
}

impl LoraInit {
    /// Whether the first branch is a part of the weight, which is taken out of it.
    pub(super) fn is_of_weight(self, target: &Target) -> bool {
        match self {
            LoraInit::Pissa | LoraInit::Olora => true,
            LoraInit::LoraGa => is_product(target),
            _ => false,
        }
    }

    /// What both factors are made of, where they are not drawn each for itself.
    pub(super) fn source(self, graph: &Graph, target: &Target) -> Option<FactorSource> {
        let columns = || {
            let weight = graph.weight(target.weight)?.clone();
            let transposed = target.matrix.as_ref().is_some_and(|m| m.transposed);
            Some(WeightColumns { weight, transposed, columns: target.slice.as_ref().map(|s| s.columns.clone()) })
        };
        match self {
            LoraInit::Normal | LoraInit::Kaiming | LoraInit::Gaussian => None,
            LoraInit::Orthogonal => Some(FactorSource::Orthogonal),
            LoraInit::Pissa => columns().map(FactorSource::Principal),
            LoraInit::Olora => columns().map(FactorSource::Triangular),
            LoraInit::Eva | LoraInit::LoraGa if !is_product(target) => None,
            LoraInit::Eva => Some(FactorSource::Inputs(None)),
            LoraInit::LoraGa => columns().map(|columns| FactorSource::Gradient { columns, is_known: false }),
        }
    }
}

fn is_product(target: &Target) -> bool {
    target.matrix.as_ref().is_some_and(|m| m.read_as == ReadAs::Product)
}
