//! LoRA of full rank on all matrices, with all biases, is as expressive as full fine-tuning (Hu et al. 2021, section 4.1).

use lorac::ir::{DType, Graph, Tensor, parse};
use lorac::ops::{Array, Random, Val, infer, tensor};
use lorac::passes::{
    AdamW, Adaptation, Attached, BiasChoice, Caches, Full, Lora, LossTerms, Method, Objective, Optimizer, PassError,
    Sgd, TrainingSpec, UpdateSpec, readable, squared_error_terms, training_step,
};
use lorac::train::{Step, initial_theta, training_program};
use lorac_tests::objective::FirstOutput;
use lorac_tests::variants::Case;
use lorac_tests::{data, engines};

/// Query, key, value, output and up: none of them has more inputs than results.
const WIDE: [&str; 5] = ["role:query", "role:key", "role:value", "role:output", "role:up"];

fn patterns(all: &[&str]) -> Vec<String> {
    all.iter().map(|p| p.to_string()).collect()
}

/// The losses of as many steps as the case has.
fn losses(graph: &Graph, case: &Case, methods: &[&dyn Method], optimizer: &dyn Optimizer) -> Vec<f64> {
    let mut step = prepared(graph, methods, &FirstOutput::default(), optimizer);
    let feeds = |i: usize| -> Vec<(String, Tensor)> {
        let batch = case.batch(&format!("step{i:02}"));
        batch.into_iter().map(|(field, t)| (field.to_string(), t.tensor())).collect()
    };
    (0..case.losses.len()).map(|i| step.run(&feeds(i), optimizer.lr()).expect("a step").loss).collect()
}

/// A training of methods on the pinned ONNX Runtime.
fn prepared(graph: &Graph, methods: &[&dyn Method], objective: &dyn Objective, optimizer: &dyn Optimizer) -> Step {
    let adaptations: Vec<Adaptation> = methods
        .iter()
        .map(|method| Adaptation { method: *method, targets: method.select(graph).expect("targets") })
        .collect();
    let engine = engines().into_iter().next().expect("an engine");
    let spec = TrainingSpec {
        adaptations: &adaptations,
        objective,
        update: UpdateSpec::of(optimizer),
        dialect: engine.dialect(),
        tokens: None,
        caches: Caches::default(),
        packed: false,
    };
    let training = training_step(graph, &spec, &mut |_| {}).expect("compiles");
    let theta = initial_theta(&training.params, 5).expect("a theta");
    training_program(engine.as_ref(), &training, &theta, 0).expect("a program")
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
    let want = losses(&graph, &case, &[&whole, &biases], &sgd);
    let got = losses(&graph, &case, &[&lora], &sgd);
    for (i, (want, got)) in want.iter().zip(&got).enumerate() {
        assert!((want - got).abs() < 1e-4, "step {i}: {got} instead of {want}");
    }
    let still = losses(&graph, &case, &[&whole, &biases], &Sgd { lr: 1e-12, ..sgd });
    assert!(
        want.iter().zip(&still).any(|(a, b)| (a - b).abs() > 0.01),
        "{want:?} are those of a model that learns nothing"
    );
}

/// The squared distance of what one matrix gives from what another does: `y = x W`, of every row that a basis has.
#[derive(Debug)]
struct Distance;

impl Objective for Distance {
    fn attach(&self, graph: &mut Graph) -> Result<Attached, PassError> {
        Ok(Attached { prediction: graph.outputs()[0], params: Vec::new() })
    }

    fn loss<'e, 'g>(&self, prediction: Val<'e, 'g>) -> Result<LossTerms<'e, 'g>, PassError> {
        Ok(squared_error_terms(prediction, "labels"))
    }

    fn evaluates_prediction(&self) -> bool {
        true
    }
}

/// Rows and columns of the matrix.
const SIZE: usize = 8;

/// With both factors trained by AdamW, a branch of full rank gives any matrix, as the matrix itself does: W0 becomes one that
/// has nothing to do with it. A branch of half the rank does not, and stays above what no matrix of its rank comes nearer than.
#[test]
fn a_branch_of_full_rank_gives_any_matrix_and_one_of_half_of_it_does_not() {
    let text = format!("graph g(%x: f32[{SIZE}, {SIZE}]) -> %y {{\n  %w = weight \"w\" f32[{SIZE}, {SIZE}] = ");
    let mut random = Random(3);
    let mut drawn = || random.array(&[SIZE, SIZE], -0.5, 0.5);
    let (w0, far) = (drawn(), drawn());
    // W0 and the target differ by 2 times a rotation: every singular value of the difference is 2.
    let rotation = orthonormal(&far);
    let numbers: Vec<String> = w0.iter().map(ToString::to_string).collect();
    let mut graph =
        parse(&format!("{text}[{}]\n  %y = MatMul(%x, %w) : f32[{SIZE}, {SIZE}]\n}}\n", numbers.join(", ")))
            .expect("a graph");
    infer(&mut graph).expect("shapes");
    let all = |a: &Array| tensor(DType::F32, a).expect("a tensor");
    let basis = Array::from_shape_fn(vec![SIZE, SIZE], |at| f64::from(u8::from(at[0] == at[1])));
    let feeds = [("x".to_string(), all(&basis)), ("labels".to_string(), all(&(&w0 + &(rotation * 2.0))))];
    let adamw = AdamW { lr: 0.05, weight_decay: 0.0, ..AdamW::default() };
    let last = |method: &dyn Method| {
        let mut step = prepared(&graph, &[method], &Distance, &adamw);
        let all: Vec<f64> =
            (0..400).map(|i| step.run(&feeds, adamw.lr * (1.0 - i as f64 / 400.0)).expect("a step").loss).collect();
        all[399] / all[0]
    };
    let lora = |rank: usize| Lora { targets: patterns(&["w"]), rank, alpha: rank as f64, ..Lora::default() };
    let (whole, full, half) = (last(&Full { targets: patterns(&["w"]) }), last(&lora(SIZE)), last(&lora(SIZE / 2)));
    assert!(whole < 1e-4 && full < 1e-4, "{whole} {full}");
    // Of the squares of equal singular values, half.
    assert!((half - 0.5).abs() < 0.01, "{half}");
}

/// The rows made orthonormal, one after the other.
fn orthonormal(of: &Array) -> Array {
    let mut rows: Vec<Vec<f64>> = Vec::new();
    for row in of.rows() {
        let mut v: Vec<f64> = row.to_vec();
        for u in &rows {
            let along: f64 = u.iter().zip(&v).map(|(a, b)| a * b).sum();
            v.iter_mut().zip(u).for_each(|(x, u)| *x -= along * u);
        }
        let norm = v.iter().map(|x| x * x).sum::<f64>().sqrt();
        rows.push(v.iter().map(|x| x / norm).collect());
    }
    Array::from_shape_vec(of.shape(), rows.concat()).expect("as many")
}
