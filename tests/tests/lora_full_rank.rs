//! LoRA of full rank on all matrices, with all biases, is as expressive as full fine-tuning (Hu et al. 2021, section 4.1).

use lorac::ir::{Graph, Tensor};
use lorac::passes::{
    AdamW, Adaptation, BiasChoice, Caches, Full, Groups, Lora, Method, Optimizer, Sgd, TrainingSpec, UpdateSpec,
    readable, training_step,
};
use lorac::train::{initial_theta, training_program};
use lorac_tests::objective::FirstOutput;
use lorac_tests::variants::Case;
use lorac_tests::{data, engines};

/// Query, key, value, output and up: none of them has more inputs than results.
const WIDE: [&str; 5] = ["role:query", "role:key", "role:value", "role:output", "role:up"];

fn patterns(all: &[&str]) -> Vec<String> {
    all.iter().map(|p| p.to_string()).collect()
}

/// The losses of as many steps as the case has.
fn losses(
    graph: &Graph,
    case: &Case,
    methods: &[&dyn Method],
    optimizer: &dyn Optimizer,
    same_batch: bool,
) -> Vec<f64> {
    let adaptations: Vec<Adaptation> = methods
        .iter()
        .map(|method| Adaptation { method: *method, targets: method.select(graph).expect("targets") })
        .collect();
    let engine = engines().into_iter().next().expect("an engine");
    let spec = TrainingSpec {
        adaptations: &adaptations,
        objective: &FirstOutput::default(),
        update: UpdateSpec { optimizer, clip: None, groups: Groups::default(), slices: false },
        dialect: engine.dialect(),
        tokens: None,
        caches: Caches::default(),
    };
    let training = training_step(graph, &spec, &mut |_| {}).expect("compiles");
    let theta = initial_theta(&training.params, 5).expect("a theta");
    let mut step = training_program(engine.as_ref(), &training, &theta, 0).expect("a program");
    let feeds = |i: usize| -> Vec<(String, Tensor)> {
        let batch = case.batch(&format!("step{:02}", if same_batch { 0 } else { i }));
        batch.into_iter().map(|(field, t)| (field.to_string(), t.tensor())).collect()
    };
    (0..case.losses.len()).map(|i| step.run(&feeds(i), optimizer.lr()).expect("a step").loss).collect()
}

fn model(case: &Case) -> Graph {
    let model = lorac::onnx::load(case.folder.join("base.torchscript.onnx")).expect("loads");
    readable(&model.graph, &model.functions).expect("readable")
}

/// With A square and fixed, and the gradient of B projected onto it, every step of gradient descent changes the weights as one
/// of full fine-tuning does: s B A with s = 1 and (A A^T)^-1 behind the gradient of B.
#[test]
fn every_step_is_that_of_full_fine_tuning() {
    let case = Case::read(&data("peft2").join("bert-layers")).expect("a case");
    let graph = model(&case);
    let lora = Lora {
        targets: patterns(&WIDE),
        rank: 32,
        alpha: 32.0,
        freeze_a: true,
        bias: BiasChoice::All,
        ..Lora::default()
    };
    let whole = Full { targets: patterns(&WIDE) };
    let biases = lorac::passes::Bias::default();
    let sgd = Sgd { lr: 0.2, ..Sgd::default() };
    let want = losses(&graph, &case, &[&whole, &biases], &sgd, false);
    let got = losses(&graph, &case, &[&lora], &sgd, false);
    for (i, (want, got)) in want.iter().zip(&got).enumerate() {
        assert!((want - got).abs() < 1e-4, "step {i}: {got} instead of {want}");
    }
    assert!((want[0] - want[29]).abs() > 0.01, "{want:?}");
}

/// With both factors trained on every matrix there is, the same batch is learnt as well.
#[test]
fn all_matrices_and_biases_learn_what_full_fine_tuning_does() {
    let case = Case::read(&data("peft2").join("bert-layers")).expect("a case");
    let graph = model(&case);
    let all = ["all-linear", "role:head"];
    let head = Lora { targets: patterns(&["role:head"]), rank: 3, alpha: 3.0, ..Lora::default() };
    let lora = Lora { targets: patterns(&all[..1]), rank: 32, alpha: 32.0, bias: BiasChoice::All, ..Lora::default() };
    let (whole, biases) = (Full { targets: patterns(&all) }, lorac::passes::Bias::default());
    let adamw = AdamW { lr: 0.01, weight_decay: 0.0, ..AdamW::default() };
    let want = losses(&graph, &case, &[&whole, &biases], &adamw, true);
    let got = losses(&graph, &case, &[&lora, &head], &adamw, true);
    assert!(want[29] < 0.02 * want[0] && got[29] < 0.02 * got[0], "{} {}", want[29], got[29]);
}
