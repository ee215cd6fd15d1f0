//! Thirty AdamW steps of every task against PyTorch's: tests/truth/tasks.py has those over whole texts, tests/truth/tokens.py
//! those over tokens, tests/truth/further.py those over several texts and other losses.

use lorac::ir::Tensor;
use lorac::ops::Array;
use lorac::passes::{
    AdamW, Adaptation, Caches, DeltaForm, Full, Lora, Method, Role, Target, Training, TrainingSpec, UpdateSpec,
    readable, training_step,
};
use lorac::task::{Subject, TaskChoice, Teacher};
use lorac::train::{initial_theta, training_program};
use lorac_tests::{Truth, data, engines, truth};
use serde::Deserialize;
use std::collections::BTreeMap;

#[derive(Deserialize)]
struct Cases {
    optimizer: Settings,
    cases: Vec<Case>,
}

#[derive(Deserialize)]
struct Settings {
    rank: usize,
    alpha: f64,
    lr: f64,
    weight_decay: f64,
}

#[derive(Deserialize)]
struct Case {
    model: String,
    task: TaskChoice,
    targets: String,
    /// Whether the head that the model has is trained as it is.
    #[serde(default)]
    full: bool,
    losses: Vec<f64>,
}

/// What is known of a weight: its layer and its role, of the order of the targets.
fn places(targets: &[Target]) -> Vec<String> {
    let mut seen = [0usize; 2];
    let each = targets.iter().map(|target| {
        let value = target.roles.contains(&Role::Value);
        let layer = seen[usize::from(value)];
        seen[usize::from(value)] += 1;
        format!("{layer}.{}", if value { "value" } else { "query" })
    });
    each.collect()
}

/// The first theta: as the truth has it, and weights of the model as they are.
fn theta(compiled: &Training, case: &Case, places: &[String], truth: &BTreeMap<String, Truth>) -> Vec<f32> {
    let mut theta = initial_theta(&compiled.params, 0).expect("first values");
    let mut set = |name: &str, key: &str| {
        let slot = compiled.layout.slots().iter().find(|slot| slot.name == name).unwrap_or_else(|| panic!("no {name}"));
        let values = truth[key].tensor().to_vec::<f32>().expect("f32");
        assert_eq!(values.len(), slot.len(), "{key}");
        theta[slot.start..slot.start + slot.len()].copy_from_slice(&values);
    };
    let low_rank = compiled.deltas.iter().filter_map(|(_, delta)| match &delta.form {
        DeltaForm::LowRank { a, b, .. } => Some([a, b]),
        _ => None,
    });
    for (params, place) in low_rank.zip(places) {
        for (param, part) in params.into_iter().zip(["A", "B"]) {
            set(param, &format!("{}.{place}.{part}", case.model));
        }
    }
    if case.task.head().is_some() {
        // Of several widths each has its own.
        let width = if case.targets == "values" { 1 } else { 3 };
        let head = if truth.contains_key("head.weight") { "head".to_string() } else { format!("head.{width}") };
        for part in ["weight", "bias"] {
            set(&format!("classifier.{part}"), &format!("{head}.{part}"));
        }
    }
    theta
}

#[test]
fn thirty_steps_of_every_task_over_whole_texts_are_those_of_pytorch() {
    are_those_of_pytorch("truth/tasks", 13);
}

#[test]
fn thirty_steps_of_every_task_over_tokens_are_those_of_pytorch() {
    are_those_of_pytorch("truth/tokens", 5);
}

#[test]
fn thirty_steps_over_several_texts_and_of_other_losses_are_those_of_pytorch() {
    are_those_of_pytorch("truth/further", 12);
}

fn are_those_of_pytorch(folder: &str, count: usize) {
    let folder = data(folder);
    let text = std::fs::read_to_string(folder.join("cases.json")).expect("cases.json");
    let Cases { optimizer, cases } = serde_json::from_str(&text).expect("cases");
    let truth = truth(&folder.join("data.safetensors"));
    assert_eq!(cases.len(), count);
    let adamw = AdamW { lr: optimizer.lr, weight_decay: optimizer.weight_decay, ..AdamW::default() };
    for (at, mut case) in cases.into_iter().enumerate() {
        let model = lorac::onnx::load(folder.join(format!("{}.onnx", case.model))).expect("loads");
        let graph = readable(&model.graph, &model.functions).expect("readable");
        if let Some(spec) = case.task.teacher() {
            let teacher = lorac::onnx::load(folder.join(spec.source.to_string())).expect("a teacher");
            let teacher = Teacher::of(teacher).unwrap_or_else(|e| panic!("case {at}: {e}"));
            case.task = case.task.with_teacher(teacher).expect("is taught");
        }
        let subject = Subject { graph: &graph, labels: &[], columns: &[], classes: &|| None, of_data: &|| None };
        let resolved = case.task.resolved(&subject).unwrap_or_else(|e| panic!("case {at}: {e:?}"));
        case.task = resolved.map_or(case.task.clone(), |found| found.task);
        let lora = Lora { rank: optimizer.rank, alpha: optimizer.alpha, ..Lora::default() };
        let targets = lora.select(&graph).expect("targets");
        let places = places(&targets);
        let head = Full { targets: vec!["*classifier*".into()] };
        let mut adaptations = vec![Adaptation { method: &lora as &dyn Method, targets }];
        if case.full {
            adaptations.push(Adaptation { method: &head, targets: head.select(&graph).expect("the head") });
        }
        for engine in engines() {
            let who = format!("case {at}, {} of {} on {}", case.task.name(), case.model, engine.name());
            let spec = TrainingSpec {
                adaptations: &adaptations,
                objective: &*case.task,
                update: UpdateSpec::of(&adamw),
                dialect: engine.dialect(),
                tokens: None,
                caches: Caches::default(),
                packed: false,
            };
            let compiled = training_step(&graph, &spec, &mut |_| {}).unwrap_or_else(|e| panic!("{who}: {e}"));
            let start = theta(&compiled, &case, &places, &truth);
            let mut step =
                training_program(engine.as_ref(), &compiled, &start, 0).unwrap_or_else(|e| panic!("{who}: {e}"));
            let inputs = graph.inputs().iter().map(|input| (graph.name_of(*input), graph.name_of(*input)));
            let fed: Vec<(String, String)> =
                inputs.chain([(compiled.names.targets.clone(), case.targets.clone())]).collect();
            for (i, want) in case.losses.iter().enumerate() {
                let feeds: Vec<(String, Tensor)> =
                    fed.iter().map(|(input, key)| (input.clone(), row(&truth[key], i))).collect();
                let got = step.run(&feeds, optimizer.lr).unwrap_or_else(|e| panic!("{who}: {e}"));
                assert!((got.loss - want).abs() <= 1e-4, "{who}: step {i}: {} instead of {want}", got.loss);
            }
        }
    }
}

/// A batch of all of them.
fn row(all: &Truth, at: usize) -> Tensor {
    let (count, dims) = all.array.shape().split_first().expect("batches");
    let numbers: Vec<f64> = all.array.iter().copied().collect();
    let size = numbers.len() / count;
    let own = numbers[at * size..(at + 1) * size].to_vec();
    let array = Array::from_shape_vec(dims, own).expect("fits");
    Truth { integers: all.integers, array }.tensor()
}
