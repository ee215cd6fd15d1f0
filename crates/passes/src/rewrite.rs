//! How every pass edits: infer, write a patch, apply it, verify.

use crate::PassError;
use lorac_ir::{Attrs, Def, Graph, Node, ValueId, verify};
use lorac_ops::{Emit, Val, infer};

/// Lets `write` write nodes on behalf of `pass` and applies them. The graph is inferred before and verified after.
///
/// # Errors
/// What `write` says, and anything that does not fit; the graph is then as it was, but for facts.
pub fn rewrite<T>(
    graph: &mut Graph,
    pass: &str,
    write: impl FnOnce(&Emit) -> Result<T, PassError>,
) -> Result<T, PassError> {
    let shape_data = infer(graph)?;
    let emit = Emit::new(graph, &shape_data, pass);
    let result = write(&emit)?;
    let patch = emit.finish()?;
    if patch.is_empty() {
        return Ok(result);
    }
    let next = patch.applied(graph).map_err(|source| PassError::Patch { pass: pass.into(), source })?;
    let found = verify(&next);
    if !found.is_empty() {
        return Err(PassError::Verify { pass: pass.into(), found });
    }
    *graph = next;
    Ok(result)
}

/// Lets what the graph has of `old` read `new`. Where less, or more, is known of `new` than of `old`, an Identity keeps
/// what the graph knew; where an output becomes an input or a weight, it keeps their name from being taken. Returns what is
/// read instead.
pub(crate) fn replace_value(e: &Emit, old: ValueId, new: Val) -> ValueId {
    let (want, got) = (e.graph().fact(old), new.fact());
    let unknown = [want.dtype, got.dtype].contains(&lorac_ir::DType::Opaque);
    let kept = e.graph().is_output(old) && e.graph().value(new.id()).is_some_and(|v| !matches!(v.def, Def::Output(..)));
    let id = match !kept && (want == got || !(unknown || want.compatible(&got))) {
        true => new.id(),
        false => {
            let inputs = vec![Some(new.id())];
            let made = e.edit(|p| p.node("Identity".into(), "", inputs, Attrs::new(), vec![want], &"".into()));
            made.first().copied().unwrap_or(new.id())
        }
    };
    e.edit(|p| p.redirect(old, id));
    id
}

/// What the user's model calls a node: its name, else that of its first result.
pub(crate) fn display_name(graph: &Graph, node: &Node) -> String {
    match &*node.origin.source {
        "" => node.outputs.first().map(|v| graph.name_of(*v)).unwrap_or_default(),
        name => name.to_string(),
    }
}
