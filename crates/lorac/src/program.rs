//! Model files to programs of an engine.

use crate::chain::Chain;
use crate::error::Error;
use lorac_ir::ValueId;
use lorac_onnx::{Location, Model};
use lorac_passes::{Caches, for_dialect};
use lorac_runtime::{Backend, Program, RuntimeError, Source};
use lorac_train::compile_graph;

/// Compiles a model's graph over its mapped weights, without a copy of them; functions are inlined, and what the engine's
/// [`lorac_ir::Dialect`] does not have is rewritten.
///
/// # Errors
/// A file of the model that changed since it was loaded, what cannot be rewritten, and what the engine refuses.
pub fn compile_in_place(backend: &dyn Backend, model: &Model, caches: &Caches) -> Result<Box<dyn Program>, Error> {
    model.check_unchanged()?;
    let mut graph = model.graph.clone();
    for_dialect(&mut graph, &model.functions, caches, &backend.dialect())?;
    Ok(compile_graph(backend, &graph, Vec::new())?)
}

/// Compiles a model as its users do: an engine that reads files gets the bytes of the file, and copies them; of a model of
/// several files each of them is a program, which is fed what those before give. For others it is [`compile_in_place`].
///
/// # Errors
/// As [`compile_in_place`].
pub fn compile_file(backend: &dyn Backend, model: &Model, caches: &Caches) -> Result<Box<dyn Program>, Error> {
    if !backend.dialect().files {
        return compile_in_place(backend, model, caches);
    }
    if !model.parts.is_empty() {
        let programs = model.parts.iter().map(|part| Ok((part, compile_file(backend, &part.model, caches)?)));
        return Ok(Box::new(Chain::of(programs.collect::<Result<_, Error>>()?)));
    }
    model.check_unchanged()?;
    let external = |(id, location): (&ValueId, &Location)| match location {
        Location::External { .. } => Some((model.graph.name_of(*id), model.graph.weight(*id)?.clone())),
        _ => None,
    };
    let weights = model.locations.iter().filter_map(external).collect();
    match backend.compile(Source { model: model.file.clone(), weights, state: Vec::new() }) {
        // External data of a graph inside a node cannot be bound to the file.
        Err(RuntimeError::Weight { .. }) => compile_in_place(backend, model, caches),
        compiled => Ok(compiled?),
    }
}
