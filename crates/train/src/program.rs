//! Graphs to programs of an engine.

use crate::{Noise, Step, TrainError};
use lorac_ir::{DType, Graph, Tensor};
use lorac_onnx::{EncodeOptions, encode};
use lorac_passes::{THETA, Training, dropout};
use lorac_runtime::{Backend, Program, Source, StateSlot};
use std::time::Duration;

/// Name under which encoded graphs refer to the weights that stay in the mapped model.
const WEIGHTS: &str = "weights.bin";

/// Compiles a graph. `state` lists inputs that stay on the device: name, the output that replaces it (empty: none), and
/// first value.
///
/// # Errors
/// What cannot be encoded, and what the engine refuses.
pub fn compile_graph(
    backend: &dyn Backend,
    graph: &Graph,
    state: Vec<(&str, &str, Tensor)>,
) -> Result<Box<dyn Program>, TrainError> {
    let options = EncodeOptions { location: WEIGHTS.into(), ..EncodeOptions::default() };
    let encoded = encode(graph, &options)?;
    let slot =
        |(input, output, init): (&str, &str, Tensor)| StateSlot { input: input.into(), output: output.into(), init };
    let state = state.into_iter().map(slot).collect();
    let source = Source { model: encoded.bytes.into(), weights: encoded.external, state };
    Ok(backend.compile(source)?)
}

/// The program of a training's steps, from one theta; a running mean begins as it does, everything else that the optimizer
/// keeps as zero. `seed` is that of what steps drop.
///
/// # Errors
/// As [`compile_graph`].
pub fn training_program(
    backend: &dyn Backend,
    training: &Training,
    theta: &[f32],
    seed: u64,
) -> Result<Step, TrainError> {
    let mut state = Vec::new();
    for slot in training.update.slots.iter().chain(&training.update.sums) {
        let mean = training.update.average.as_ref() == Some(&slot.input);
        let init = match mean || slot.input == training.names.theta {
            true => Tensor::vector(theta),
            false => Tensor::zeros(DType::F32, &[slot.len])?,
        };
        state.push((slot.input.as_str(), slot.output.as_str(), init));
    }
    let program = compile_graph(backend, &training.step, state)?;
    Ok(Step {
        program,
        update: training.update.clone(),
        layout: training.layout.clone(),
        noise: noise(training, seed),
        names: training.names.clone(),
        taken: 0,
        engine_time: Duration::ZERO,
    })
}

/// The program that evaluates a theta, or runs the model with its adaptations beside the weights.
///
/// # Errors
/// As [`compile_graph`].
pub fn theta_program(backend: &dyn Backend, graph: &Graph, theta: &[f32]) -> Result<Box<dyn Program>, TrainError> {
    let name = graph.given_name(THETA);
    compile_graph(backend, graph, vec![(name.as_str(), "", Tensor::vector(theta))])
}

/// What steps draw from in a training with this seed, if they drop anything.
pub fn noise(training: &Training, seed: u64) -> Option<Noise> {
    (training.dropout > 0).then(|| Noise {
        seed,
        rows: training.names.rows.clone(),
        row_limit: dropout::ROW_LIMIT,
        columns: training.names.columns.clone(),
        column_step: dropout::COLUMN_STEP,
        depth: dropout::DEPTH,
        width: training.dropout,
    })
}
