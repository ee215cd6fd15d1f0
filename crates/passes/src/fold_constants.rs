//! Shape arithmetic that is known before anything runs, on the training copy.

use crate::share_shapes::share_shapes;
use crate::{PassError, remove_dead, rewrite};
use lorac_ir::{DType, Graph, Tensor, ValueId};
use lorac_ops::{Args, array, find, tensor};
use std::collections::{HashMap, HashSet};

/// Results larger than this are left to be computed: folding them would copy weights.
const MAX_ELEMENTS: i64 = 1 << 14;

/// Replaces what is known by constants: results of constants only, and integer vectors whose elements inference
/// knows. Those that it knows to be equal whatever the inputs' lengths are computed once. The weights `trained` are no
/// constants. Returns how many nodes went.
pub fn fold_constants(graph: &mut Graph, trained: &[ValueId]) -> Result<usize, PassError> {
    let trained: HashSet<ValueId> = trained.iter().copied().collect();
    let folded = rewrite(graph, "fold_constants", |e| {
        let mut known: HashMap<ValueId, Tensor> = HashMap::new();
        for id in lorac_ir::topological_order(e.graph()) {
            let Some(node) = e.graph().node(id) else { continue };
            for (&value, tensor) in node.outputs.iter().zip(results(e, id, &known, &trained)) {
                if let Some(tensor) = tensor
                    && tensor.fact() == e.graph().fact(value)
                {
                    known.insert(value, tensor);
                }
            }
        }
        let mut count = 0;
        for (id, node) in e.graph().nodes() {
            // A node goes only if all that is read of it is known.
            let read = |v: &&ValueId| e.graph().value(**v).is_some_and(|v| !v.uses().is_empty());
            let read: Vec<&ValueId> = node.outputs.iter().filter(read).collect();
            let output = node.outputs.iter().any(|v| e.graph().is_output(*v));
            if read.is_empty() || output || !read.iter().all(|v| known.contains_key(v)) {
                continue;
            }
            for value in read {
                if let Some(tensor) = known.get(value) {
                    let constant = e.weight("", tensor.clone());
                    e.edit(|p| p.redirect(*value, constant.id()));
                }
            }
            e.edit(|p| p.remove(id));
            count += 1;
        }
        share_shapes(e);
        Ok(count)
    })?;
    Ok(folded + remove_dead(graph)?)
}

/// What is known of a node's results: from inference, else by computing it from known operands.
fn results(
    e: &lorac_ops::Emit,
    id: lorac_ir::NodeId,
    known: &HashMap<ValueId, Tensor>,
    trained: &HashSet<ValueId>,
) -> Vec<Option<Tensor>> {
    let Some(node) = e.graph().node(id) else { return Vec::new() };
    let inferred: Vec<Option<Tensor>> = node.outputs.iter().map(|v| content(e, *v)).collect();
    let small = |v: &ValueId| e.graph().fact(*v).volume().known().is_some_and(|n| n <= MAX_ELEMENTS);
    if inferred.iter().all(Option::is_some) || !node.outputs.iter().all(small) {
        return inferred;
    }
    let tensor_of = |v: ValueId| {
        let constant = || e.graph().weight(v).filter(|_| !trained.contains(&v));
        let tensor = known.get(&v).or_else(constant)?;
        (tensor.len() as i64 <= 4 * MAX_ELEMENTS).then_some(tensor)
    };
    let operands: Option<Vec<_>> =
        node.inputs.iter().map(|v| v.map_or(Some(None), |v| array(tensor_of(v)?).map(Some))).collect();
    let (Some(op), Some(inputs)) = (find(&node.op).filter(|_| !is_random(&node.op.name)), operands) else {
        return inferred;
    };
    let dtypes = node.inputs.iter().map(|v| v.map_or(DType::Opaque, |v| e.graph().fact(v).dtype)).collect();
    let opset = e.graph().opsets.get(&node.op.domain).copied().unwrap_or(1);
    let args = Args { node, opset, inputs, dtypes, outputs: node.outputs.len() };
    match (op.eval)(&args) {
        Ok(arrays) => {
            let typed = node.outputs.iter().zip(arrays).map(|(v, a)| tensor(e.graph().fact(*v).dtype, &a));
            typed.collect()
        }
        Err(_) => inferred,
    }
}

/// What a node draws is another number each time.
fn is_random(name: &str) -> bool {
    name.starts_with("Random") || ["Bernoulli", "Multinomial", "Dropout"].contains(&name)
}

/// The tensor of a value whose elements inference knows.
fn content(e: &lorac_ops::Emit, value: ValueId) -> Option<Tensor> {
    let val = e.val(value);
    let (fact, ints) = (val.fact(), val.known_ints()?);
    match fact.dtype {
        DType::I64 => Tensor::from_slice(&fact.known_dims()?, &ints).ok(),
        dtype => {
            let data: Vec<f64> = ints.iter().map(|n| *n as f64).collect();
            Tensor::from_f64(dtype, &fact.known_dims()?, &data)
        }
    }
}
