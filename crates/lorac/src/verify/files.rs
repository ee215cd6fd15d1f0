//! `lorac verify`: two files, and what their programs compute.

use super::outputs::difference_of;
use super::samples::random_batch;
use crate::error::Error;
use crate::program::compile_file;
use lorac_ir::{DType, Tensor};
use lorac_onnx::{Comparison, Inserted, Model, Part, compare};
use lorac_passes::Caches;
use lorac_runtime::Backend;
use serde::Serialize;
use std::collections::BTreeMap;

/// What a deployed model may have that its base does not.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Allow {
    /// Nodes behind those of the base, the operator sets that they need, weights and outputs: what the base computes stays.
    Head,
    /// Inputs, and values that inputs have where none is given.
    Inputs,
    /// Functions.
    Functions,
    /// Key-value pairs of the model or its graph.
    Metadata,
    /// All else: nodes between those of the base, operator sets that no inserted node needs, types of inner values, fields
    /// that ONNX does not know, bytes that are no field.
    Other,
}

impl Allow {
    /// What has to be allowed for this to be inserted.
    pub fn of(inserted: &Inserted) -> Allow {
        match inserted.part {
            Part::Node if inserted.between => Allow::Other,
            Part::Opset if inserted.idle => Allow::Other,
            Part::Node | Part::Weight | Part::Output | Part::Opset => Allow::Head,
            Part::Input | Part::InputDefault => Allow::Inputs,
            Part::Function => Allow::Functions,
            Part::Metadata => Allow::Metadata,
            Part::ValueInfo | Part::Graph | Part::Field | Part::Unreadable => Allow::Other,
        }
    }

    /// Its name on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Allow::Head => "head",
            Allow::Inputs => "inputs",
            Allow::Functions => "functions",
            Allow::Metadata => "metadata",
            Allow::Other => "other",
        }
    }
}

/// The most random batches that two files are run on.
pub const MAX_SAMPLES: usize = 100_000;

/// What is asked of two files.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Request {
    /// Weights that may differ; where none is named, all may.
    pub targets: Vec<String>,
    /// What the deployed model may have that the base does not.
    pub allow: Vec<Allow>,
    /// Largest accepted difference of outputs; any where there is none.
    pub tolerance: Option<f64>,
    /// Random batches to run, at most [`MAX_SAMPLES`]; with none, outputs are not compared.
    pub samples: usize,
    /// Numbers for names of the inputs' dimensions.
    pub dims: BTreeMap<String, i64>,
}

/// Whether outputs were compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Outputs {
    /// They were.
    Compared,
    /// No batch was asked for: nothing is known of them.
    NotCompared,
    /// The files already differ in what may not.
    FilesDiffer,
}

/// What `lorac verify` found about two files.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Verdict {
    /// Weights whose bytes differ.
    pub changed: Vec<String>,
    /// Bytes that differ and belong to none of the weights that may.
    pub changed_bytes_outside_targets: u64,
    /// What else of the base differs, in words.
    pub changed_otherwise: Vec<String>,
    /// Bytes that the base does not have.
    pub inserted_bytes: u64,
    /// What was inserted: `node classifier`.
    pub inserted: Vec<String>,
    /// Nodes of the base.
    pub nodes_before: usize,
    /// Nodes of the deployed model.
    pub nodes_after: usize,
    /// Whether outputs were compared.
    pub outputs: Outputs,
    /// Random batches that were run through both.
    pub samples: usize,
    /// Largest difference of the outputs that both have; none where they were not compared.
    pub max_abs_diff: Option<f64>,
    /// Whether everything that was looked at is as it should be.
    pub passed: bool,
    /// What is not.
    pub failures: Vec<String>,
}

/// Compares two model files, and their outputs on random batches where there are to be any. The `backend` is asked for
/// only then.
///
/// # Errors
/// More than [`MAX_SAMPLES`], targets and dimensions that the base does not have, inputs for which nothing can be made up, an engine that cannot be
/// opened and what it refuses.
pub fn files<B: AsRef<dyn Backend>>(
    base: &Model,
    deployed: &Model,
    request: &Request,
    backend: impl FnOnce() -> Result<B, Error>,
) -> Result<Verdict, Error> {
    if request.samples > MAX_SAMPLES {
        let samples = request.samples;
        return Err(Error::Usage(format!("`--samples {samples}`: at most {MAX_SAMPLES} random batches are run")));
    }
    let missing: Vec<String> =
        request.targets.iter().filter(|t| !is_weight(base, t)).map(|t| format!("`{t}`")).collect();
    if !missing.is_empty() {
        return Err(Error::Usage(format!("the base has no weight {}", missing.join(", "))));
    }
    base.check_unchanged()?;
    deployed.check_unchanged()?;
    let all: Vec<String> = base.graph.weights().map(|w| w.1.name.to_string()).collect();
    let c = compare(base, deployed, if request.targets.is_empty() { &all } else { &request.targets });
    let mut failures = failures(&c, &request.allow);
    let mut max_abs_diff = None;
    let outputs = match (request.samples, failures.is_empty()) {
        (0, _) => Outputs::NotCompared,
        (_, false) => Outputs::FilesDiffer,
        _ => {
            let first = random_batch(&base.graph, 0, &request.dims)?;
            let largest = outputs(base, deployed, request, first, backend()?.as_ref())?;
            if !largest.is_finite() || request.tolerance.is_some_and(|t| !(largest <= t)) {
                failures.push(format!("outputs differ by {largest:e}"));
            }
            max_abs_diff = Some(largest);
            Outputs::Compared
        }
    };
    Ok(Verdict {
        changed: c.changed_targets,
        changed_bytes_outside_targets: c.changed_bytes_outside_targets,
        changed_otherwise: c.changed,
        inserted_bytes: c.inserted_bytes,
        inserted: c.inserted.iter().map(named).collect(),
        nodes_before: c.nodes_before,
        nodes_after: c.nodes_after,
        outputs,
        samples: if outputs == Outputs::Compared { request.samples } else { 0 },
        max_abs_diff,
        passed: failures.is_empty(),
        failures,
    })
}

fn is_weight(model: &Model, name: &str) -> bool {
    model.graph.find(name).is_some_and(|id| model.graph.weight(id).is_some())
}

/// The largest difference of outputs, one batch after the other.
fn outputs(
    base: &Model,
    deployed: &Model,
    request: &Request,
    first: Vec<(String, Tensor)>,
    backend: &dyn Backend,
) -> Result<f64, Error> {
    let mut left = compile_file(backend, base, &Caches::default())?;
    let mut right = compile_file(backend, deployed, &Caches::default())?;
    let mut apart = |batch| {
        let numbers = |dtype| dtype != DType::Str;
        Ok::<f64, Error>(difference_of(left.as_mut(), right.as_mut(), None, &[batch], numbers)?.largest)
    };
    let mut largest = apart(first)?;
    for seed in 1..request.samples as u64 {
        largest = largest.max(apart(random_batch(&base.graph, seed, &request.dims)?)?);
    }
    Ok(largest)
}

fn failures(c: &Comparison, allow: &[Allow]) -> Vec<String> {
    let mut failures = Vec::new();
    if c.changed_bytes_outside_targets > 0 {
        let what = if c.changed.is_empty() { String::new() } else { format!(": {}", few(&c.changed)) };
        failures.push(format!("{} bytes changed outside the targets{what}", c.changed_bytes_outside_targets));
    }
    let refused = refused(&c.inserted, allow);
    if !refused.is_empty() {
        let mut needed: Vec<&str> = Vec::new();
        for allowed in c.inserted.iter().map(Allow::of).filter(|a| !allow.contains(a)) {
            if !needed.contains(&allowed.name()) {
                needed.push(allowed.name());
            }
        }
        failures.push(format!("{}; `--allow {}` accepts that", few(&refused), needed.join(",")));
    }
    failures
}

/// What of the inserted is not allowed, in words.
pub(super) fn refused(inserted: &[Inserted], allow: &[Allow]) -> Vec<String> {
    let refused = inserted.iter().filter(|i| !allow.contains(&Allow::of(i)));
    refused.map(|i| format!("{} was inserted", named(i))).collect()
}

fn named(inserted: &Inserted) -> String {
    let more = match inserted.part {
        Part::Node if inserted.between => " between those of the base",
        Part::Opset if inserted.idle => ", which no inserted node needs,",
        _ => "",
    };
    match inserted.name.as_str() {
        "" => format!("{} ({} bytes){more}", inserted.part, inserted.bytes),
        name => format!("{} `{name}`{more}", inserted.part),
    }
}

/// The first of a list that may be long.
pub(super) fn few(items: &[String]) -> String {
    const SHOWN: usize = 10;
    let more = items.len().saturating_sub(SHOWN);
    let more = if more > 0 { format!(" and {more} more") } else { String::new() };
    items.iter().take(SHOWN).cloned().collect::<Vec<_>>().join(", ") + &more
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_head_has_its_nodes_behind_those_of_the_base() {
        let node = |between| Inserted { part: Part::Node, name: "n".into(), bytes: 9, between, idle: false };
        assert_eq!([false, true].map(|between| Allow::of(&node(between))), [Allow::Head, Allow::Other]);
        let refused = refused(&[node(true), node(false)], &[Allow::Head]);
        assert_eq!(refused, ["node `n` between those of the base was inserted"]);
    }

    #[test]
    fn a_head_has_the_operator_sets_that_its_nodes_need() {
        let opset = |idle| Inserted { part: Part::Opset, name: "own".into(), bytes: 9, between: false, idle };
        let refused = refused(&[opset(true), opset(false)], &[Allow::Head]);
        assert_eq!(refused, ["operator set `own`, which no inserted node needs, was inserted"]);
    }
}
