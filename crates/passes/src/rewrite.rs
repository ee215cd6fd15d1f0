//! How every pass edits: infer, write a patch, apply it, verify.

use crate::PassError;
use lorac_ir::{Graph, verify};
use lorac_ops::{Emit, infer};

/// Lets `write` write nodes on behalf of `pass` and applies them. The graph is inferred before and verified after.
///
/// # Errors
/// What `write` says, and anything that does not fit; the graph is then as it was, but for facts.
pub fn rewrite<T>(
    graph: &mut Graph,
    pass: &str,
    write: impl FnOnce(&Emit) -> Result<T, PassError>,
) -> Result<T, PassError> {
    let contents = infer(graph)?;
    let emit = Emit::new(graph, &contents, pass);
    let result = write(&emit)?;
    let patch = emit.finish()?;
    if patch.is_empty() {
        return Ok(result);
    }
    let before = graph.clone();
    patch.apply(graph).map_err(|source| PassError::Patch { pass: pass.into(), source })?;
    let found = verify(graph);
    if found.is_empty() {
        return Ok(result);
    }
    *graph = before;
    Err(PassError::Verify { pass: pass.into(), found })
}
