//! Proof that a fold is a fold: bytes and outputs of base and deployed model, held against each other.

use crate::error::Error;
use crate::program::program;
use lorac_ir::{DType, Graph, Tensor};
use lorac_onnx::{Model, compare};
use lorac_runtime::{Backend, Program};
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;

/// What was compared, and how it came out.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Verified {
    /// Largest difference between an output of base + adapter and the same output of the deployed model.
    #[serde(deserialize_with = "lorac_train::number")]
    pub max_abs_diff: f64,
    /// The largest that is accepted.
    pub tolerance: f64,
    /// Batches that were run through both.
    pub samples: usize,
    /// Bytes of the base file that differ in the deployed one and belong to no target.
    pub changed_bytes_outside_targets: u64,
    /// Bytes behind the end of the base file: the head.
    pub appended_bytes: u64,
    /// Nodes of the base.
    pub nodes_before: usize,
    /// Nodes of the deployed model.
    pub nodes_after: usize,
    /// Nodes that the head may add.
    pub nodes_of_head: usize,
    /// Whether all of it is as promised.
    pub passed: bool,
}

/// Largest difference between the outputs that both programs have, over all batches. A NaN on one side only counts as
/// infinite.
pub fn difference(
    left: &mut dyn Program,
    right: &mut dyn Program,
    batches: &[Vec<(String, Tensor)>],
) -> Result<f64, Error> {
    let names = |p: &dyn Program| -> BTreeSet<String> {
        let floats = p.outputs().iter().filter(|o| o.fact.dtype.is_float() || o.fact.dtype == DType::Opaque);
        floats.map(|o| o.name.clone()).collect()
    };
    let (ours, theirs) = (names(left), names(right));
    let common: Vec<&str> = ours.intersection(&theirs).map(String::as_str).collect();
    if common.is_empty() {
        return Err(Error::Gate("the two models have no output in common".into()));
    }
    let mut worst = 0.0f64;
    for batch in batches {
        let (ours, theirs) = (taken(left, batch), taken(right, batch));
        let (x, y) = (left.run(&ours, &common)?, right.run(&theirs, &common)?);
        worst = x.iter().zip(&y).fold(worst, |worst, (x, y)| worst.max(distance(x, y)));
    }
    Ok(worst)
}

/// The tensors that a program takes: a training copy has no caches.
fn taken<'b>(program: &dyn Program, batch: &'b [(String, Tensor)]) -> Vec<(&'b str, &'b Tensor)> {
    let takes = |name: &str| program.inputs().iter().any(|p| p.name == name);
    batch.iter().filter(|(n, _)| takes(n)).map(|(n, t)| (n.as_str(), t)).collect()
}

/// Largest difference of two tensors; infinite where the shapes differ or one is not finite.
fn distance(x: &Tensor, y: &Tensor) -> f64 {
    let (Some(a), Some(b)) = (x.to_f64(), y.to_f64()) else { return f64::INFINITY };
    if x.dims() != y.dims() {
        return f64::INFINITY;
    }
    let each = a.iter().zip(&b).map(|(a, b)| match (a.is_nan(), b.is_nan()) {
        (true, true) => 0.0,
        (false, false) if a == b => 0.0,
        (false, false) => (a - b).abs(),
        _ => f64::INFINITY,
    });
    each.fold(0.0, f64::max)
}

/// Compares bytes and nodes of the files, and the outputs of `adapted` (base + adapter, with `theta`) with the deployed
/// model's on `batches`.
pub struct Check<'a> {
    /// The base model.
    pub base: &'a Model,
    /// The deployed model.
    pub deployed: &'a Model,
    /// Names of the matrices that may differ.
    pub targets: &'a [String],
    /// Nodes that a head may add.
    pub head: usize,
    /// Largest accepted difference.
    pub tolerance: f64,
}

impl Check<'_> {
    /// Runs the check.
    pub fn run(
        &self,
        backend: &dyn Backend,
        adapted: &Graph,
        theta: Tensor,
        batches: &[Vec<(String, Tensor)>],
    ) -> Result<Verified, Error> {
        let mut left = program(backend, adapted, vec![("theta", "", theta)])?;
        let mut right = program(backend, &self.deployed.graph, Vec::new())?;
        let max_abs_diff = difference(left.as_mut(), right.as_mut(), batches)?;
        Ok(self.files(max_abs_diff, batches.len()))
    }

    /// The comparison of the files, with a difference of outputs found elsewhere.
    pub fn files(&self, max_abs_diff: f64, samples: usize) -> Verified {
        let c = compare(self.base, self.deployed, self.targets);
        let nodes = c.nodes_after == c.nodes_before + self.head;
        let passed = max_abs_diff <= self.tolerance && c.changed_bytes_outside_targets == 0 && nodes;
        Verified {
            max_abs_diff,
            tolerance: self.tolerance,
            samples,
            changed_bytes_outside_targets: c.changed_bytes_outside_targets,
            appended_bytes: c.appended_bytes,
            nodes_before: c.nodes_before,
            nodes_after: c.nodes_after,
            nodes_of_head: self.head,
            passed,
        }
    }
}

/// What `lorac verify` found about two files.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Verdict {
    /// Weights whose bytes differ.
    pub changed: Vec<String>,
    /// Bytes that differ and belong to none of the weights that may.
    pub changed_bytes_outside_targets: u64,
    /// Bytes behind the end of the base.
    pub appended_bytes: u64,
    /// Nodes of the base.
    pub nodes_before: usize,
    /// Nodes of the deployed model.
    pub nodes_after: usize,
    /// Largest difference of the outputs that both have.
    pub max_abs_diff: f64,
    /// Whether everything is as it should be.
    pub passed: bool,
    /// What is not.
    pub failures: Vec<String>,
}

/// Compares two model files, and their outputs on `samples` random batches. Without targets, every weight of the base
/// may differ.
pub fn files(
    base: &Model,
    deployed: &Model,
    targets: &[String],
    tolerance: Option<f64>,
    samples: usize,
    backend: &dyn Backend,
) -> Result<Verdict, Error> {
    let missing: Vec<&str> = targets.iter().filter(|t| base.location(t).is_none()).map(String::as_str).collect();
    if !missing.is_empty() {
        return Err(Error::Usage(format!("the base has no weight {}", missing.join(", "))));
    }
    let all: Vec<String> = base.graph.weights().map(|w| w.1.name.to_string()).collect();
    let allowed = if targets.is_empty() { &all } else { targets };
    let c = compare(base, deployed, allowed);
    let mut left = program(backend, &base.graph, Vec::new())?;
    let mut right = program(backend, &deployed.graph, Vec::new())?;
    let batches: Vec<_> = (0..samples).map(|i| random_batch(&base.graph, i as u64)).collect::<Result<_, _>>()?;
    let max_abs_diff = difference(left.as_mut(), right.as_mut(), &batches)?;
    let mut failures = Vec::new();
    if c.changed_bytes_outside_targets > 0 {
        failures.push(format!("{} bytes changed outside the targets", c.changed_bytes_outside_targets));
    }
    if c.nodes_after < c.nodes_before || (c.nodes_after > c.nodes_before && c.appended_bytes == 0) {
        failures.push(format!("{} nodes became {}", c.nodes_before, c.nodes_after));
    }
    if !max_abs_diff.is_finite() || tolerance.is_some_and(|t| !(max_abs_diff <= t)) {
        failures.push(format!("outputs differ by {max_abs_diff:e}"));
    }
    Ok(Verdict {
        changed: c.changed_targets,
        changed_bytes_outside_targets: c.changed_bytes_outside_targets,
        appended_bytes: c.appended_bytes,
        nodes_before: c.nodes_before,
        nodes_after: c.nodes_after,
        max_abs_diff,
        passed: failures.is_empty(),
        failures,
    })
}

/// Inputs made up: symbols are small numbers, integers small ones (ones for masks), reals between -1 and 1.
fn random_batch(graph: &Graph, seed: u64) -> Result<Vec<(String, Tensor)>, Error> {
    use rand::{Rng, SeedableRng};
    let mut random = rand_chacha::ChaCha8Rng::seed_from_u64(seed);
    let size = |name: &str| 2 + name.bytes().map(i64::from).sum::<i64>() % 7;
    let mut batch = Vec::new();
    for &input in graph.inputs() {
        let (name, fact) = (graph.name_of(input), graph.fact(input));
        let unknown = || Error::Usage(format!("the input '{name}' {fact} has no rank: outputs cannot be compared"));
        let dims =
            fact.dims().ok_or_else(unknown)?.iter().map(|d| d.eval(&|n| Some(size(n))).unwrap_or(3).max(1) as usize);
        let dims: Vec<usize> = dims.collect();
        let count = dims.iter().product();
        let data: Vec<f64> = (0..count)
            .map(|_| match fact.dtype {
                d if d.is_float() => random.random_range(-1.0..1.0),
                DType::Bool => 1.0,
                _ if name.contains("mask") => 1.0,
                _ if name.contains("type") => 0.0,
                _ => f64::from(random.random_range(1..64)),
            })
            .collect();
        batch.push((name.clone(), Tensor::from_f64(fact.dtype, &dims, &data).ok_or_else(unknown)?));
    }
    Ok(batch)
}
