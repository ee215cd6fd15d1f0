//! What any model goes through on its way to a training step.

use lorac::ir::{Def, Graph, ValueId, print};
use lorac::onnx::{EncodeOptions, encode};
use lorac::ops::infer;
use lorac::passes::{
    AdamW, Branch, Lora, PassError, adamw, differentiate, drop_inputs, expose_layer_norm_stats, fold_constants, fuse_dense,
    gradients, inline, insert_lora, matrices, mean_squared_error, cumsum_to_i32, pack, prepare, reassociate, remove_dead,
    roles, select,
};

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
            train(adapted, &branches);
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

fn train(mut graph: Graph, branches: &[Branch]) {
    let Some(&y) = graph.outputs().first() else { return };
    let cfg = AdamW { beta1: 0.9, beta2: 0.999, eps: 1e-8, weight_decay: 0.01, clip: Some(1.0) };
    let params: Vec<ValueId> = branches.iter().flat_map(|b| [b.a, b.b]).collect();
    let drops: Vec<(&Branch, f64)> = branches.iter().map(|b| (b, 0.1)).collect();
    let step = |graph: &mut Graph| -> Result<(), PassError> {
        prepare(graph, &[], &[])?;
        cumsum_to_i32(graph)?;
        drop_inputs(graph, &drops)?;
        fuse_dense(graph)?;
        let loss = mean_squared_error(graph, y, y)?;
        expose_layer_norm_stats(graph)?;
        let grads = differentiate(graph, loss, &params)?;
        let arena = pack(graph, &params, &grads)?;
        adamw(graph, &arena, loss, &cfg)?;
        reassociate(graph)?;
        fold_constants(graph, &[])?;
        remove_dead(graph)?;
        Ok(())
    };
    // Names that a model has already are its own affair; a graph that a pass broke is not.
    if let Err(defect @ PassError::Verify { .. }) = step(&mut graph) {
        panic!("{defect}");
    }
}
