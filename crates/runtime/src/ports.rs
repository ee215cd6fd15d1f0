//! Checks of names and shapes that every engine shares, so that both give the same errors.

use crate::manifest::{Manifest, read_manifest};
use crate::{RuntimeError, Source, StateSlot};
use lorac_ir::{Fact, Tensor};
use std::collections::{HashMap, HashSet};
use std::fmt;

/// An input or output of a program.
#[derive(Clone, PartialEq)]
pub struct Port {
    /// Its name in the graph.
    pub name: String,
    /// Element type and declared shape.
    pub fact: Fact,
}

impl fmt::Debug for Port {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.name, self.fact)
    }
}

/// What a program is fed and asked for, and what it keeps.
pub(crate) struct Ports {
    pub(crate) manifest: Manifest,
    /// Inputs to feed.
    pub(crate) feeds: Vec<Port>,
    /// Outputs to fetch.
    pub(crate) fetches: Vec<Port>,
}

fn names(ports: &[Port]) -> Vec<String> {
    ports.iter().map(|p| p.name.clone()).collect()
}

fn find<'a>(ports: &'a [Port], name: &str) -> Option<&'a Port> {
    ports.iter().find(|p| p.name == name)
}

fn fit(port: &Port, tensor: &Tensor) -> Result<(), RuntimeError> {
    if port.fact.compatible(&tensor.fact()) {
        return Ok(());
    }
    Err(RuntimeError::ShapeMismatch { value: port.name.clone(), want: port.fact.clone(), got: tensor.fact() })
}

impl Ports {
    /// Reads a source's interface and checks that its weights and state fit.
    pub(crate) fn of(backend: &str, source: &Source) -> Result<Ports, RuntimeError> {
        let manifest = read_manifest(&source.model).ok_or_else(|| RuntimeError::Compile {
            backend: backend.to_string(),
            node: None,
            why: "the bytes are not a serialized ONNX model".to_string(),
        })?;
        check_weights(&manifest, &source.weights)?;
        check_slots(&manifest, &source.state)?;
        let reads: HashSet<&str> = source.state.iter().map(|s| s.input.as_str()).collect();
        let writes: HashSet<&str> = source.state.iter().map(|s| s.output.as_str()).collect();
        let feeds = manifest.inputs.iter().filter(|p| !reads.contains(p.name.as_str())).cloned().collect();
        let fetches = manifest.outputs.iter().filter(|p| !writes.contains(p.name.as_str())).cloned().collect();
        Ok(Ports { manifest, feeds, fetches })
    }

    /// Checks that every input is fed exactly once with a tensor that fits, and that every fetch is an output.
    pub(crate) fn check_run(&self, feeds: &[(&str, &Tensor)], fetch: &[&str]) -> Result<(), RuntimeError> {
        for (name, tensor) in feeds {
            let port = find(&self.feeds, name)
                .ok_or_else(|| RuntimeError::NoSuchInput { name: name.to_string(), have: names(&self.feeds) })?;
            fit(port, tensor)?;
        }
        for port in &self.feeds {
            let times = feeds.iter().filter(|(name, _)| *name == port.name).count();
            if times != 1 {
                return Err(RuntimeError::Feed { name: port.name.clone(), times });
            }
        }
        match fetch.iter().find(|name| find(&self.fetches, name).is_none()) {
            Some(name) => Err(RuntimeError::NoSuchOutput { name: name.to_string(), have: names(&self.fetches) }),
            None => Ok(()),
        }
    }
}

fn check_weights(manifest: &Manifest, weights: &[(String, Tensor)]) -> Result<(), RuntimeError> {
    let fail = |name: &str, why: String| Err(RuntimeError::Weight { name: name.to_string(), why });
    let declared: HashMap<&str, &Fact> = manifest.initializers.iter().map(|i| (i.name.as_str(), &i.fact)).collect();
    let mut bound = HashSet::new();
    for (name, tensor) in weights {
        if !bound.insert(name.as_str()) {
            return fail(name, "is bound twice".to_string());
        }
        match declared.get(name.as_str()) {
            None => return fail(name, "the model has no such initializer".to_string()),
            Some(fact) if **fact != tensor.fact() => {
                return fail(name, format!("the model declares {fact}, the tensor is {}", tensor.fact()));
            }
            Some(_) => {}
        }
    }
    match manifest.initializers.iter().find(|i| i.location.is_some() && !bound.contains(i.name.as_str())) {
        Some(i) => fail(&i.name, "its data is external and no tensor is bound to it".to_string()),
        None => Ok(()),
    }
}

fn check_slots(manifest: &Manifest, state: &[StateSlot]) -> Result<(), RuntimeError> {
    let (mut reads, mut writes) = (HashSet::new(), HashSet::new());
    for slot in state {
        let input = find(&manifest.inputs, &slot.input)
            .ok_or_else(|| RuntimeError::NoSuchInput { name: slot.input.clone(), have: names(&manifest.inputs) })?;
        fit(input, &slot.init)?;
        if !reads.insert(&slot.input) {
            return Err(RuntimeError::Feed { name: slot.input.clone(), times: 2 });
        }
        if slot.output.is_empty() {
            continue;
        }
        let output = find(&manifest.outputs, &slot.output)
            .filter(|_| writes.insert(&slot.output))
            .ok_or_else(|| RuntimeError::NoSuchOutput { name: slot.output.clone(), have: names(&manifest.outputs) })?;
        fit(output, &slot.init)?;
    }
    Ok(())
}

/// The position of the slot that reads `input`.
pub(crate) fn slot_of<'a>(
    mut inputs: impl Iterator<Item = &'a str> + Clone,
    input: &str,
) -> Result<usize, RuntimeError> {
    let have = || inputs.clone().map(str::to_string).collect();
    let have: Vec<String> = have();
    inputs.position(|name| name == input).ok_or(RuntimeError::NoSuchState { name: input.to_string(), have })
}

/// Checks that a tensor has a slot's type and shape.
pub(crate) fn fits_slot(input: &str, want: Fact, value: &Tensor) -> Result<(), RuntimeError> {
    if want == value.fact() {
        return Ok(());
    }
    Err(RuntimeError::ShapeMismatch { value: input.to_string(), want, got: value.fact() })
}
