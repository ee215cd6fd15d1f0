//! All that is trained in one flat vector theta, split at the graph's entry, its gradients joined at the exit. Clipping,
//! the optimizer and checkpoints then act on one buffer, in a dozen kernels instead of hundreds.

use crate::{Layout, Param, PassError, rewrite};
use lorac_ir::{DType, Fact, Graph, ValueId};
use lorac_ops::Val;

/// Name of the input that holds everything trained.
pub const THETA: &str = "theta";

/// A graph over one theta.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Packed {
    /// The input [`THETA`], f32.
    pub theta: ValueId,
    /// The joined gradient, if there are gradients.
    pub grad: Option<ValueId>,
}

/// Replaces the inputs `params` by their slots of one input [`THETA`] and joins their gradients (in the same order, or
/// none).
///
/// # Errors
/// Params that are not those of `layout`.
pub fn pack(graph: &mut Graph, layout: &Layout, params: &[Param], grads: &[ValueId]) -> Result<Packed, PassError> {
    if params.len() != layout.slots().len() {
        let (have, want) = (params.len(), layout.slots().len());
        return Err(PassError::Unsuitable(format!("the graph has {have} params, theta {want}")));
    }
    // In the order of theta.
    let find = |name: &str| params.iter().position(|p| p.name == name);
    let missing = |name: &str| PassError::Unsuitable(format!("the graph has no param `{name}`"));
    let order: Vec<usize> =
        layout.slots().iter().map(|s| find(&s.name).ok_or_else(|| missing(&s.name))).collect::<Result<_, _>>()?;
    rewrite(graph, "pack", |e| {
        let theta = e.input(THETA, Fact::new(DType::F32, [layout.len()]));
        let lens: Vec<i64> = layout.slots().iter().map(|s| s.len() as i64).collect();
        let parts = match lens.len() {
            1 => vec![theta],
            n => e.ops("Split", &[theta, e.ints(&lens)], &[("axis", 0i64.into())], n),
        };
        for ((&at, slot), part) in order.iter().zip(layout.slots()).zip(parts) {
            let param = params[at].value;
            let dims: Vec<i64> = slot.dims.iter().map(|d| *d as i64).collect();
            let value = part.reshape(&dims).cast(e.graph().fact(param).dtype);
            e.edit(|p| {
                p.redirect(param, value.id());
                p.drop_input(param);
            });
        }
        let grads = order.iter().filter_map(|at| grads.get(*at));
        let flat: Vec<Val> = grads.map(|g| e.val(*g).reshape(&[-1]).cast(DType::F32)).collect();
        let grad = match flat.as_slice() {
            [] => None,
            [one] => Some(one.id()),
            many => Some(e.op("Concat", many, &[("axis", 0i64.into())]).id()),
        };
        Ok(Packed { theta: theta.id(), grad })
    })
}
