//! Proof that a fold is a fold: bytes and outputs of base and deployed model, held against each other.

mod files;
mod outputs;
mod samples;
mod tolerance;

pub use files::{Allow, MAX_SAMPLES, Outputs, Request, Verdict, files};
pub use outputs::{Difference, OutputDifference, difference};

use crate::error::Error;
use crate::program::compile_file;
use crate::stop::Stoppable;
use lorac_ir::{Graph, Tensor};
use lorac_onnx::{Inserted, Model, Part, compare};
use lorac_passes::{Caches, Target, group_by_weight};
use lorac_runtime::Backend;
use lorac_train::theta_program;
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;
use std::sync::atomic::AtomicBool;
use tolerance::{Accepted, computed};

/// What was compared, and how it came out.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct VerifyReport {
    /// Largest difference between an output of base + adapter and the same output of the deployed model.
    #[serde(deserialize_with = "lorac_train::number")]
    pub max_abs_diff: f64,
    /// The largest that is accepted.
    pub tolerance: f64,
    /// What that follows from, in words: the type and the size of the outputs, or the pipeline.
    #[serde(default)]
    pub tolerance_by: String,
    /// Batches that were run through both.
    pub samples: usize,
    /// Bytes of the base file that differ in the deployed one and belong to no target.
    pub changed_bytes_outside_targets: u64,
    /// Bytes that the deployed file has and the base file does not: the head, at the end of the graph.
    #[serde(alias = "appended_bytes")]
    pub inserted_bytes: u64,
    /// Nodes of the base.
    pub nodes_before: usize,
    /// Nodes of the deployed model.
    pub nodes_after: usize,
    /// Nodes that the head may add.
    pub nodes_of_head: usize,
    /// Keys of metadata that the deployed file has and the base file does not, as the pipeline asks.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub metadata: Vec<String>,
    /// What differs outside the targets or was inserted beside the head, in words.
    #[serde(default)]
    pub unexpected: Vec<String>,
    /// Whether all of it is as promised.
    pub passed: bool,
}

/// Compares bytes and nodes of the files, and the outputs of `adapted` (base + adapter, with `theta`) with the deployed
/// model's on `batches`.
pub struct Check<'a> {
    /// The base model.
    pub base: &'a Model,
    /// The deployed model.
    pub deployed: &'a Model,
    /// The matrices that may differ, and parts of matrices, of which the other columns may not.
    pub targets: &'a [&'a Target],
    /// Nodes that a head may add.
    pub head: usize,
    /// Keys of metadata that the deployed model has and the base has not.
    pub metadata: &'a [String],
    /// Inputs that are caches without an entry.
    pub caches: &'a Caches,
    /// Largest accepted difference; by the type and the size of the outputs where there is none.
    pub tolerance: Option<f64>,
    /// Set when the user wants to stop: no further batch is run, and the check fails.
    pub stop: &'a AtomicBool,
}

impl Check<'_> {
    /// Runs the check.
    pub fn run(
        &self,
        backend: &dyn Backend,
        adapted: &Graph,
        theta: &[f32],
        batches: &[Vec<(String, Tensor)>],
    ) -> Result<VerifyReport, Error> {
        let mut left = theta_program(backend, adapted, theta)?;
        let mut right = compile_file(backend, self.deployed, self.caches)?;
        let mut left = Stoppable { program: left.as_mut(), stop: self.stop };
        let mut found = difference(&mut left, right.as_mut(), None, batches)?;
        if found.nan {
            let mut base = compile_file(backend, self.base, self.caches)?;
            found = difference(&mut left, right.as_mut(), Some(base.as_mut()), batches)?;
        }
        self.base.check_unchanged()?;
        let accepted = match self.tolerance {
            Some(tolerance) => Accepted::at_most(found.largest, tolerance),
            None => Accepted::by_type(&found.outputs, computed(&self.base.graph, self.targets)),
        };
        Ok(self.report(accepted, batches.len()))
    }

    /// The comparison of the files, with a difference of outputs found elsewhere.
    pub fn files(&self, max_abs_diff: f64, samples: usize) -> VerifyReport {
        self.report(Accepted::at_most(max_abs_diff, self.tolerance.unwrap_or_default()), samples)
    }

    fn report(&self, accepted: Accepted, samples: usize) -> VerifyReport {
        let names: Vec<&str> = self.targets.iter().map(|t| t.weight_name.as_str()).collect();
        let c = compare(self.base, self.deployed, &names);
        let nodes = c.nodes_after == c.nodes_before + self.head;
        let changed = c.changed_bytes_outside_targets.saturating_add(self.changed_beside_slices());
        let allowed: &[Allow] = if self.head > 0 { &[Allow::Head] } else { &[] };
        let ours = |i: &&Inserted| i.part == Part::Metadata && self.metadata.contains(&i.name);
        let (metadata, others): (Vec<&Inserted>, Vec<&Inserted>) = c.inserted.iter().partition(ours);
        let complete = metadata.len() == self.metadata.len() * self.base.parts.len().max(1);
        let metadata: BTreeSet<String> = metadata.into_iter().map(|i| i.name.clone()).collect();
        let metadata: Vec<String> = metadata.into_iter().collect();
        let inserted = files::refused(&others.into_iter().cloned().collect::<Vec<_>>(), allowed);
        let unexpected: Vec<String> = c.changed.into_iter().chain(inserted).collect();
        let passed = accepted.passed() && changed == 0 && nodes && complete && unexpected.is_empty();
        VerifyReport {
            max_abs_diff: accepted.largest,
            tolerance: accepted.tolerance,
            tolerance_by: accepted.by,
            samples,
            changed_bytes_outside_targets: changed,
            inserted_bytes: c.inserted_bytes,
            nodes_before: c.nodes_before,
            nodes_after: c.nodes_after,
            nodes_of_head: self.head,
            metadata,
            unexpected,
            passed,
        }
    }

    /// Bytes that differ in columns of fused matrices of which other columns are targets.
    fn changed_beside_slices(&self) -> u64 {
        let slices: Vec<&&Target> = self.targets.iter().filter(|t| t.slice.is_some()).collect();
        let changed = |slices: Vec<&&&Target>| {
            let target = slices[0];
            // The bias of a fused matrix is one row.
            let (rows, cols, transposed) = target.matrix.as_ref().map_or_else(
                || (1, target.dims.iter().product(), false),
                |matrix| (matrix.rows, matrix.cols, matrix.transposed),
            );
            let (before, after) =
                (self.base.graph.weight(target.weight), self.deployed.graph.find(&target.weight_name));
            let after = after.and_then(|id| self.deployed.graph.weight(id));
            let (Some(before), Some(after)) = (before, after) else { return u64::MAX };
            let mut may = vec![false; cols];
            slices.iter().flat_map(|t| &t.slice).flat_map(|s| &s.columns).for_each(|column| may[*column] = true);
            let column = |i: usize| if transposed { i / rows } else { i % cols };
            let size = before.dtype().size().max(1);
            let elements = before.bytes().chunks(size).zip(after.bytes().chunks(size)).enumerate();
            let beside = elements.filter(|(i, _)| !may[column(*i)]);
            beside.map(|(_, (a, b))| a.iter().zip(b).filter(|(a, b)| a != b).count() as u64).sum()
        };
        group_by_weight(&slices, |t| t).into_iter().map(changed).fold(0, u64::saturating_add)
    }
}

impl VerifyReport {
    /// Why the verification failed, in words.
    pub fn failures(&self) -> String {
        let mut why = Vec::new();
        if !(self.max_abs_diff <= self.tolerance) {
            let (differ, tolerance, by) = (self.max_abs_diff, self.tolerance, &self.tolerance_by);
            why.push(format!("outputs differ by {differ:.3e}, more than {tolerance:.3e} ({by})"));
        }
        if self.changed_bytes_outside_targets > 0 {
            why.push(format!("{} bytes changed outside the targets", self.changed_bytes_outside_targets));
        }
        if !self.unexpected.is_empty() {
            why.push(files::few(&self.unexpected));
        }
        if self.nodes_after != self.nodes_before + self.nodes_of_head {
            let expected = self.nodes_before + self.nodes_of_head;
            why.push(format!("{} nodes instead of {expected}", self.nodes_after));
        }
        format!("verification failed: {}", why.join("; "))
    }
}
