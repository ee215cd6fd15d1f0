//! Proof that a fold is a fold: bytes and outputs of base and deployed model, held against each other.

use crate::error::Error;
use crate::program::compile_file;
use lorac_ir::{DType, Graph, Tensor};
use lorac_onnx::{Model, compare};
use lorac_passes::{Caches, Target, group_by_weight};
use lorac_runtime::{Backend, Program};
use lorac_train::theta_program;
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;

/// What was compared, and how it came out.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct VerifyReport {
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

/// How far the outputs of two programs are apart.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Difference {
    /// The largest difference. A NaN on one side only counts as infinite.
    pub largest: f64,
    /// Whether there is a NaN that both sides have.
    pub nan: bool,
}

/// The difference between the outputs that both programs have, over all batches. A NaN that both have does not count,
/// unless there is a `base` that does not have it: then both are equally broken.
pub fn difference(
    left: &mut dyn Program,
    right: &mut dyn Program,
    mut base: Option<&mut dyn Program>,
    batches: &[Vec<(String, Tensor)>],
) -> Result<Difference, Error> {
    let (ours, theirs) = (floats(left), floats(right));
    let common: Vec<&str> = ours.intersection(&theirs).map(String::as_str).collect();
    if common.is_empty() {
        return Err(Error::Gate("the two models have no output in common".into()));
    }
    let known = base.as_deref().map(floats);
    let mut found = Difference { largest: 0.0, nan: false };
    for batch in batches {
        let (ours, theirs) = (accepted(left, batch), accepted(right, batch));
        let (x, y) = (left.run(&ours, &common)?, right.run(&theirs, &common)?);
        let mut excuses: Vec<Option<Vec<f64>>> = Vec::new();
        if let (Some(base), Some(known)) = (base.as_deref_mut(), &known) {
            let asked: Vec<&str> = common.iter().copied().filter(|name| known.contains(*name)).collect();
            let mut run =
                if asked.is_empty() { Vec::new() } else { base.run(&accepted(base, batch), &asked)? }.into_iter();
            let given = common.iter().map(|name| if known.contains(*name) { run.next()?.to_f64() } else { None });
            excuses = given.collect();
        }
        for (i, (x, y)) in x.iter().zip(&y).enumerate() {
            let excused = |at: usize| match excuses.get(i) {
                None => true,
                Some(given) => given.as_ref().and_then(|v| v.get(at)).is_some_and(|v| v.is_nan()),
            };
            let (distance, nan) = distance(x, y, excused);
            found.largest = found.largest.max(distance);
            found.nan |= nan;
        }
    }
    Ok(found)
}

/// The outputs that can be compared.
fn floats(program: &dyn Program) -> BTreeSet<String> {
    let floats = program.outputs().iter().filter(|o| o.fact.dtype.is_float() || o.fact.dtype == DType::Opaque);
    floats.map(|o| o.name.clone()).collect()
}

/// The tensors that a program takes: a training copy has no caches.
fn accepted<'b>(program: &dyn Program, batch: &'b [(String, Tensor)]) -> Vec<(&'b str, &'b Tensor)> {
    let takes = |name: &str| program.inputs().iter().any(|p| p.name == name);
    batch.iter().filter(|(n, _)| takes(n)).map(|(n, t)| (n.as_str(), t)).collect()
}

/// Largest difference of two tensors, infinite where the shapes differ or one is not finite, and whether both have a NaN
/// in the same place. That is a difference where it is not excused.
fn distance(x: &Tensor, y: &Tensor, excused: impl Fn(usize) -> bool) -> (f64, bool) {
    let (Some(a), Some(b)) = (x.to_f64(), y.to_f64()) else { return (f64::INFINITY, false) };
    if x.dims() != y.dims() {
        return (f64::INFINITY, false);
    }
    let each = a.iter().zip(&b).enumerate().map(|(i, (a, b))| match (a.is_nan(), b.is_nan()) {
        (true, true) if excused(i) => 0.0,
        (false, false) if a == b => 0.0,
        (false, false) => (a - b).abs(),
        _ => f64::INFINITY,
    });
    (each.fold(0.0, f64::max), a.iter().zip(&b).any(|(a, b)| a.is_nan() && b.is_nan()))
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
    /// Inputs that are caches without an entry.
    pub caches: &'a Caches,
    /// Largest accepted difference.
    pub tolerance: f64,
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
        let mut found = difference(left.as_mut(), right.as_mut(), None, batches)?;
        if found.nan {
            let mut base = compile_file(backend, self.base, self.caches)?;
            found = difference(left.as_mut(), right.as_mut(), Some(base.as_mut()), batches)?;
        }
        Ok(self.files(found.largest, batches.len()))
    }

    /// The comparison of the files, with a difference of outputs found elsewhere.
    pub fn files(&self, max_abs_diff: f64, samples: usize) -> VerifyReport {
        let names: Vec<&str> = self.targets.iter().map(|t| t.weight_name.as_str()).collect();
        let c = compare(self.base, self.deployed, &names);
        let nodes = c.nodes_after == c.nodes_before + self.head;
        let changed = c.changed_bytes_outside_targets.saturating_add(self.changed_beside_slices());
        let passed = max_abs_diff <= self.tolerance && changed == 0 && nodes;
        VerifyReport {
            max_abs_diff,
            tolerance: self.tolerance,
            samples,
            changed_bytes_outside_targets: changed,
            appended_bytes: c.appended_bytes,
            nodes_before: c.nodes_before,
            nodes_after: c.nodes_after,
            nodes_of_head: self.head,
            passed,
        }
    }

    /// Bytes that differ in columns of fused matrices of which other columns are targets.
    fn changed_beside_slices(&self) -> u64 {
        let slices: Vec<&&Target> = self.targets.iter().filter(|t| t.slice.is_some()).collect();
        let changed = |slices: Vec<&&&Target>| {
            let Some(matrix) = &slices[0].matrix else { return u64::MAX };
            let (before, after) = (self.base.graph.weight(matrix.weight), self.deployed.location(&matrix.name));
            let after = after.and_then(|(id, _)| self.deployed.graph.weight(id));
            let (Some(before), Some(after)) = (before, after) else { return u64::MAX };
            let mut may = vec![false; matrix.cols];
            slices.iter().flat_map(|t| &t.slice).flat_map(|s| &s.columns).for_each(|column| may[*column] = true);
            let column = |i: usize| if matrix.transposed { i / matrix.rows } else { i % matrix.cols };
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
            why.push(format!("outputs differ by {:e}, more than {:e}", self.max_abs_diff, self.tolerance));
        }
        if self.changed_bytes_outside_targets > 0 {
            why.push(format!("{} bytes changed outside the targets", self.changed_bytes_outside_targets));
        }
        if self.nodes_after != self.nodes_before + self.nodes_of_head {
            let expected = self.nodes_before + self.nodes_of_head;
            why.push(format!("{} nodes instead of {expected}", self.nodes_after));
        }
        format!("verification failed: {}", why.join("; "))
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
    let mut left = compile_file(backend, base, &Caches::default())?;
    let mut right = compile_file(backend, deployed, &Caches::default())?;
    let batches: Vec<_> = (0..samples).map(|i| random_batch(&base.graph, i as u64)).collect::<Result<_, _>>()?;
    let max_abs_diff = difference(left.as_mut(), right.as_mut(), None, &batches)?.largest;
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
        let unknown = || Error::Usage(format!("the input `{name}` {fact} has no rank: outputs cannot be compared"));
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

#[cfg(test)]
mod tests {
    use super::*;
    use lorac_ir::Fact;
    use lorac_runtime::{Port, RuntimeError};

    /// A program without inputs that always gives the same.
    struct Fixed(Vec<Port>, Tensor);

    impl Fixed {
        fn new(name: &str, data: &[f32]) -> Fixed {
            let port = Port { name: name.into(), fact: Fact::new(DType::F32, [data.len()]) };
            Fixed(vec![port], Tensor::vector(data))
        }
    }

    impl Program for Fixed {
        fn inputs(&self) -> &[Port] {
            &[]
        }

        fn outputs(&self) -> &[Port] {
            &self.0
        }

        fn run(&mut self, _: &[(&str, &Tensor)], fetch: &[&str]) -> Result<Vec<Tensor>, RuntimeError> {
            Ok(fetch.iter().map(|_| self.1.clone()).collect())
        }

        fn state(&self, input: &str) -> Result<Tensor, RuntimeError> {
            Err(RuntimeError::NoSuchState { name: input.into(), have: Vec::new() })
        }

        fn set_state(&mut self, input: &str, _: &Tensor) -> Result<(), RuntimeError> {
            Err(RuntimeError::NoSuchState { name: input.into(), have: Vec::new() })
        }
    }

    #[test]
    fn a_nan_is_excused_by_the_base_alone() {
        let broken = || Fixed::new("y", &[1.0, f32::NAN]);
        let batches = [Vec::new()];
        let beside = |base: Option<&mut dyn Program>| {
            difference(&mut broken(), &mut broken(), base, &batches).expect("an output in common")
        };
        assert_eq!(beside(None), Difference { largest: 0.0, nan: true });
        assert_eq!(beside(Some(&mut broken())).largest, 0.0);
        for mut base in [Fixed::new("y", &[1.0, 2.0]), Fixed::new("y", &[f32::NAN, 2.0]), Fixed::new("z", &[f32::NAN])]
        {
            assert_eq!(beside(Some(&mut base)).largest, f64::INFINITY);
        }
        let one = difference(&mut broken(), &mut Fixed::new("y", &[1.0, 2.0]), None, &batches).expect("compares");
        assert_eq!(one, Difference { largest: f64::INFINITY, nan: false });
    }
}
