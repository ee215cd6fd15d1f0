//! A batch in slices has the loss and the gradient of the whole batch, and so the same steps: on both engines, of a classifier
//! and of a language model, where padding, labels that do not count and whole slices of them count for nothing.

use lorac::inputs::{caches, feeds};
use lorac::ir::{Graph, Tensor};
use lorac::passes::{
    Adaptation, Clip, Groups, Lora, Method, Objective, Pool, Sgd, Training, TrainingSpec, UpdateSpec, readable,
    training_step,
};
use lorac::runtime::Backend;
use lorac::task::{CausalLm, Classify, HeadKind};
use lorac::train::{StepResult, initial_theta, training_program};
use lorac_tests::{data, engines};

type Feeds = Vec<(String, Tensor)>;

const STEPS: usize = 4;

/// What an example is to give.
enum Label {
    OfRow(i64),
    OfTokens(Vec<i64>),
}

fn compiled(graph: &Graph, objective: &dyn Objective, engine: &dyn Backend, slices: bool) -> Training {
    let lora = Lora { targets: vec!["all-linear".into()], ..Lora::default() };
    let optimizer = Sgd { lr: 0.5, ..Sgd::default() };
    let spec = TrainingSpec {
        adaptations: &[Adaptation { method: &lora, targets: lora.select(graph).expect("targets") }],
        objective,
        update: UpdateSpec {
            optimizer: &optimizer,
            clip: Some(Clip::Norm(0.5)),
            groups: Groups::default(),
            slices,
            average: None,
        },
        dialect: engine.dialect(),
        tokens: None,
        caches: caches(graph, &feeds(graph).expect("known inputs")),
        packed: false,
    };
    training_step(graph, &spec, &mut |_| {}).unwrap_or_else(|e| panic!("{e}"))
}

/// What steps of these slices say, and theta behind them.
fn steps(engine: &dyn Backend, training: &Training, slices: &[Feeds]) -> (Vec<StepResult>, Vec<f32>) {
    let mut theta = initial_theta(&training.params, 3).expect("a theta");
    theta.iter_mut().enumerate().filter(|(_, x)| **x == 0.0).for_each(|(i, x)| *x = ((i % 7) as f32 - 3.0) / 100.0);
    let mut step = training_program(engine, training, &theta, 0).unwrap_or_else(|e| panic!("{}: {e}", engine.name()));
    let results = (0..STEPS).map(|_| step.run_slices(slices, 0.5).unwrap_or_else(|e| panic!("{}: {e}", engine.name())));
    (results.collect(), step.theta().expect("a theta"))
}

/// Rows of these lengths, padded to the longest.
fn batch(ids: &[i64], lens: &[usize], labels: impl Fn(usize, usize) -> Label, inputs: &[&str]) -> Feeds {
    let longest = lens.iter().copied().max().unwrap_or(0);
    let at = |f: &dyn Fn(usize, usize) -> i64| -> Vec<i64> {
        (0..lens.len()).flat_map(|row| (0..longest).map(move |i| (row, i))).map(|(row, i)| f(row, i)).collect()
    };
    let tensor = |v: Vec<i64>| Tensor::from_slice(&[lens.len(), longest], &v).expect("fits");
    let of = |input: &str| match input {
        "input_ids" => tensor(at(&|row, i| if i < lens[row] { ids[row] + i as i64 } else { 0 })),
        "attention_mask" => tensor(at(&|row, i| i64::from(i < lens[row]))),
        "position_ids" => tensor(at(&|row, i| i.min(lens[row] - 1) as i64)),
        _ => tensor(at(&|_, _| 0)),
    };
    let mut feeds: Feeds = inputs.iter().map(|name| (name.to_string(), of(name))).collect();
    let (mut numbers, mut dims) = (Vec::new(), vec![lens.len()]);
    for row in 0..lens.len() {
        match labels(row, longest) {
            Label::OfRow(label) => numbers.push(label),
            Label::OfTokens(labels) => {
                dims = vec![lens.len(), longest];
                numbers.extend(labels);
            }
        }
    }
    feeds.push(("labels".into(), Tensor::from_slice(&dims, &numbers).expect("fits")));
    feeds
}

/// Fails unless seven rows at once and in uneven slices are the same steps.
fn are_the_same(file: &str, objective: &dyn Objective, labels: fn(row: usize, len: usize, longest: usize) -> Label) {
    const LENS: [usize; 7] = [3, 12, 5, 9, 1, 7, 2];
    let ids: Vec<i64> = (0..7).map(|row| 5 + 3 * row).collect();
    let model = lorac::onnx::load(data(file)).expect(file);
    let graph = readable(&model.graph, &model.functions).expect("readable");
    let known = ["input_ids", "attention_mask", "position_ids", "token_type_ids"];
    let inputs: Vec<&str> = known.into_iter().filter(|name| graph.input(name).is_some()).collect();
    let rows = |rows: std::ops::Range<usize>| {
        let lens = &LENS[rows.clone()];
        let labels = |row: usize, longest: usize| labels(rows.start + row, lens[row], longest);
        batch(&ids[rows.clone()], lens, labels, &inputs)
    };
    for engine in engines() {
        let [whole, sliced] = [false, true].map(|slices| compiled(&graph, objective, engine.as_ref(), slices));
        assert_eq!((whole.update.has_slices(), sliced.update.has_slices()), (false, true));
        let (want, want_theta) = steps(engine.as_ref(), &whole, &[rows(0..7)]);
        for cuts in [&[0, 7][..], &[0, 3, 4, 7]] {
            let who = format!("{file} on {} in {cuts:?}", engine.name());
            let slices: Vec<Feeds> = cuts.windows(2).map(|ends| rows(ends[0]..ends[1])).collect();
            let (got, theta) = steps(engine.as_ref(), &sliced, &slices);
            for (step, (got, want)) in got.iter().zip(&want).enumerate() {
                let near = |a: f64, b: f64| (a - b).abs() <= 1e-5 * b.abs();
                let same = near(got.loss, want.loss) && near(got.norm, want.norm);
                assert!(same && got.loss > 0.1, "{who}: step {step}: {got:?} instead of {want:?}");
            }
            let worst = theta.iter().zip(&want_theta).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
            assert!(worst <= 1e-5, "{who}: theta is off by {worst:e}");
        }
        assert!(want[STEPS - 1].loss < 0.99 * want[0].loss, "{file}: {want:?}");
    }
}

#[test]
fn a_classifier_counts_rows_with_a_label() {
    let labels = ["a", "b", "c"].map(String::from).to_vec();
    let task = Classify { labels, head: Some(HeadKind::Linear), pool: Some(Pool::Mean), ..Classify::default() };
    are_the_same("opset12/model.onnx", &task, |row, _, _| Label::OfRow([0, 1, -100, -100, 2, 0, 1][row]));
}

#[test]
fn a_language_model_counts_tokens_that_are_predicted() {
    are_the_same("peft/llama-patterns/base.torchscript.onnx", &CausalLm::default(), |row, len, longest| {
        let label = |i: usize| if i < len && row != 3 { (5 + 3 * row + i) as i64 } else { -100 };
        Label::OfTokens((0..longest).map(label).collect())
    });
}
