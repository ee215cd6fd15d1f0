//! Sampling on grids: AffineGrid GridSample Resize.

use super::*;

mod affine;
mod grid;
mod map;
mod plan;
mod rule;
mod scale;
pub(super) mod taps;

pub(super) const OPS: &[Op] = &[affine::AFFINE_GRID, grid::GRID_SAMPLE, scale::RESIZE];
