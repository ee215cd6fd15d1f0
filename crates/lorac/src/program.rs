//! Graphs to programs of an engine.

use crate::error::Error;
use lorac_ir::{Graph, Tensor};
use lorac_onnx::{EncodeOptions, encode};
use lorac_runtime::{Backend, Program, Source, StateSlot};

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
