//! What any model goes through on its way to a training step.

use lorac::ir::{Def, Dialect, Graph, ValueId, print};
use lorac::onnx::{EncodeOptions, encode};
use lorac::ops::Val;
use lorac::passes::{
    AdamW, Adaptation, Attached, Caches, Clip, Groups, Lora, LossTerms, Method, Objective, PassError, Target,
    TrainingSpec, UpdateSpec, gradients, matrices, mean_squared_error, prepare, readable, roles, squared_error_terms,
    training_step,
};

/// The square of the first output.
struct Square;

impl Objective for Square {
    fn attach(&self, graph: &mut Graph) -> Result<Attached, PassError> {
        let first = graph.outputs().first().copied();
        let prediction = first.ok_or_else(|| PassError::Unsuitable("no output".into()))?;
        Ok(Attached { prediction, params: Vec::new() })
    }

    fn loss<'e, 'g>(&self, prediction: Val<'e, 'g>) -> Result<LossTerms<'e, 'g>, PassError> {
        Ok(squared_error_terms(prediction, "fuzz.targets"))
    }

    fn evaluates_prediction(&self) -> bool {
        true
    }
}

/// Nothing here may panic, hang, or take memory that the model does not account for; what does not fit is an error.
pub fn through(graph: Graph, functions: &[lorac::ir::Function]) {
    let Ok(mut graph) = readable(&graph, functions) else { return };
    drop((matrices(&graph), roles(&graph)));
    let _ = encode(&graph, &EncodeOptions::default());
    for pattern in ["all-linear", "role:query"] {
        let lora = Lora { targets: vec![pattern.into()], rank: 1, alpha: 1.0, dropout: 0.1, ..Lora::default() };
        if let Ok(targets) = lora.select(&graph) {
            train(&graph, &lora, targets);
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

fn train(graph: &Graph, lora: &Lora, targets: Vec<Target>) {
    let spec = TrainingSpec {
        adaptations: &[Adaptation { method: lora, targets }],
        objective: &Square,
        update: UpdateSpec {
            optimizer: &AdamW::default(),
            clip: Some(Clip::Norm(1.0)),
            groups: Groups::default(),
            slices: false,
            average: None,
        },
        dialect: Dialect { fused: false, i64_cumsum: false, half_gemm: false, empty_inputs: false, files: false },
        tokens: None,
        caches: Caches::default(),
        packed: false,
    };
    // Names that a model has already are its own affair; a graph that a pass broke is not.
    if let Err(defect @ PassError::Verify { .. }) = training_step(graph, &spec, &mut |_| {}) {
        panic!("{defect}");
    }
}
