//! Graphs and model files to programs of an engine.

use crate::error::Error;
use lorac_ir::{DType, Graph, Tensor, ValueId};
use lorac_onnx::{EncodeOptions, Location, Model, encode};
use lorac_runtime::{Backend, Program, RuntimeError, Source, StateSlot};
use lorac_train::{Noise, Step};

/// Name under which encoded graphs refer to the weights that stay in the mapped model.
const WEIGHTS: &str = "weights.bin";

/// Compiles a graph. `state` lists inputs that stay on the device: name, the output that replaces it (empty: none), and
/// first value.
pub fn program(
    backend: &dyn Backend,
    graph: &Graph,
    state: Vec<(&str, &str, Tensor)>,
) -> Result<Box<dyn Program>, Error> {
    let options = EncodeOptions { location: WEIGHTS.into(), ..EncodeOptions::default() };
    let encoded = encode(graph, &options)?;
    let slot =
        |(input, output, init): (&str, &str, Tensor)| StateSlot { input: input.into(), output: output.into(), init };
    let state = state.into_iter().map(slot).collect();
    let source = Source { model: encoded.bytes.into(), weights: encoded.external, state };
    Ok(backend.compile(source)?)
}

/// A training program: a graph with AdamW inside, from one theta and moments of zero.
pub fn training(
    backend: &dyn Backend,
    graph: &Graph,
    theta: &[f32],
    betas: [f64; 2],
    noise: Option<Noise>,
) -> Result<Step, Error> {
    let zeros = Tensor::zeros(DType::F32, &[theta.len()])?;
    let state =
        vec![("theta", "theta.next", Tensor::vector(theta)), ("m", "m.next", zeros.clone()), ("v", "v.next", zeros)];
    Ok(Step { program: program(backend, graph, state)?, betas, noise, taken: 0 })
}

/// Compiles a model's graph over its mapped weights, without a copy of them; functions are inlined. What the engine's
/// [`lorac_ir::Dialect`] does not have is rewritten; where it takes no empty inputs, those called `empty`, which are
/// caches without an entry, are specialized away.
pub fn mapped_program(backend: &dyn Backend, model: &Model, empty: &[String]) -> Result<Box<dyn Program>, Error> {
    let mut graph = model.graph.clone();
    let dialect = backend.dialect();
    if dialect.reads_any_graph() {
        lorac_passes::inline(&mut graph, &model.functions)?;
        return program(backend, &graph, Vec::new());
    }
    lorac_passes::prepare(&mut graph, &model.functions, &[])?;
    if !dialect.empty_inputs {
        let caches: Vec<ValueId> = empty.iter().filter_map(|name| graph.find(name)).collect();
        let batch = graph.find("input_ids").and_then(|v| graph.fact(v).dims()?.first().copied());
        if lorac_passes::specialize_empty_cache(&mut graph, &caches, batch)? > 0 {
            lorac_passes::fold_constants(&mut graph, &[])?;
        }
    }
    if !dialect.i64_cumsum {
        lorac_passes::cumsum_to_i32(&mut graph)?;
    }
    program(backend, &graph, Vec::new())
}

/// Compiles a model as its users do: an engine that reads files gets the bytes of the file, and copies them. For others it
/// is [`mapped_program`].
pub fn model_program(backend: &dyn Backend, model: &Model, empty: &[String]) -> Result<Box<dyn Program>, Error> {
    if !backend.dialect().files {
        return mapped_program(backend, model, empty);
    }
    let external = |(id, location): (&ValueId, &Location)| match location {
        Location::External { .. } => Some((model.graph.name_of(*id), model.graph.weight(*id)?.clone())),
        _ => None,
    };
    let weights = model.locations.iter().filter_map(external).collect();
    match backend.compile(Source { model: model.file.clone(), weights, state: Vec::new() }) {
        // External data of a graph inside a node cannot be bound to the file.
        Err(RuntimeError::Weight { .. }) => mapped_program(backend, model, empty),
        compiled => Ok(compiled?),
    }
}
