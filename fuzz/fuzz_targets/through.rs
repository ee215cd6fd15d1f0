//! What any model goes through on its way to a training step.

use lorac::ir::{Def, Graph, ValueId, print};
use lorac::onnx::{EncodeOptions, encode};
use lorac::ops::infer;
use lorac::passes::{AdamW, inline, mean_squared_error, select};
use lorac::passes::{Lora, adamw, differentiate, gradients, insert_lora, matrices, pack, prepare, remove_dead, roles};

/// Nothing here may panic, hang, or take memory that the model does not account for; what does not fit is an error.
pub fn through(mut graph: Graph, functions: &[lorac::ir::Function]) {
    if inline(&mut graph, functions).is_err() || infer(&mut graph).is_err() {
        return;
    }
    drop((matrices(&graph), roles(&graph)));
    let _ = encode(&graph, &EncodeOptions::default());
    for targets in [["all-linear"], ["role:query"]].iter().filter_map(|p| select(&graph, p).ok()) {
        let mut adapted = graph.clone();
        if let Ok(branches) = insert_lora(&mut adapted, &targets, &Lora { rank: 1, alpha: 1.0, rslora: false }) {
            let params: Vec<ValueId> = branches.iter().flat_map(|b| [b.a, b.b]).collect();
            train(adapted, &params);
        }
    }
    let floats = graph.values().filter(|(_, v)| !matches!(v.def, Def::Output(..)) && v.fact.dtype.is_float());
    let floats: Vec<ValueId> = floats.map(|(id, _)| id).collect();
    if prepare(&mut graph, &[], &floats).is_ok()
        && let Some(&y) = graph.outputs().first()
        && let Ok(loss) = mean_squared_error(&mut graph, y, y)
    {
        let _ = gradients(&mut graph, loss, &floats);
    }
    drop(print(&graph));
}

fn train(mut graph: Graph, params: &[ValueId]) {
    let Some(&y) = graph.outputs().first() else { return };
    let cfg = AdamW { beta1: 0.9, beta2: 0.999, eps: 1e-8, weight_decay: 0.01, clip: Some(1.0) };
    let step = |graph: &mut Graph| -> Result<(), lorac::passes::PassError> {
        prepare(graph, &[], &[])?;
        let loss = mean_squared_error(graph, y, y)?;
        let grads = differentiate(graph, loss, params)?;
        let arena = pack(graph, params, &grads)?;
        adamw(graph, &arena, loss, &cfg)?;
        remove_dead(graph)?;
        Ok(())
    };
    let _ = step(&mut graph);
}
