//! The loss over a large vocabulary in chunks, on both engines: the numbers of the whole, and less memory by size.

use lorac::ir::{Graph, Tensor};
use lorac::passes::{
    AdamW, Adaptation, Caches, Lora, Method, Training, TrainingSpec, UpdateSpec, peak_bytes, readable, training_step,
};
use lorac::runtime::Backend;
use lorac::task::CausalLm;
use lorac::train::{initial_theta, training_program};
use lorac_tests::engines;

const VOCABULARY: usize = 40_000;

/// A model of one layer and a large vocabulary.
fn model() -> Graph {
    let numbers = |len: usize, seed: usize| -> String {
        let one = |i: usize| format!("{:.3}", ((i * 7919 + seed * 31) % 1009) as f64 / 1009.0 - 0.5);
        (0..len).map(one).collect::<Vec<_>>().join(", ")
    };
    let text = format!(
        "graph g(%input_ids: i64[B,S]) -> %logits {{
            %words = weight \"words\" f32[100,8] = [{}]
            %w = weight \"layer.query.weight\" f32[8,8] = [{}]
            %head = weight \"head\" f32[8,{VOCABULARY}] = [{}]
            %e = Gather(%words, %input_ids) : f32[B,S,8]
            %q = MatMul(%e, %w) : f32[B,S,8]
            %t = Tanh(%q) : f32[B,S,8]
            %h = Add(%e, %t) : f32[B,S,8]
            %logits = MatMul(%h, %head) : f32[B,S,{VOCABULARY}]
        }}",
        numbers(800, 1),
        numbers(64, 2),
        numbers(8 * VOCABULARY, 3),
    );
    lorac::ir::parse(&text).expect("parses")
}

fn compiled(engine: &dyn Backend, tokens: usize) -> Training {
    let graph = readable(&model(), &[]).expect("readable");
    let lora = Lora { targets: vec!["layer.query.weight".into()], ..Lora::default() };
    let optimizer = AdamW { lr: 1e-2, ..AdamW::default() };
    let spec = TrainingSpec {
        adaptations: &[Adaptation { method: &lora, targets: lora.select(&graph).expect("targets") }],
        objective: &CausalLm::default(),
        update: UpdateSpec::of(&optimizer),
        dialect: engine.dialect(),
        tokens: Some(tokens),
        caches: Caches::default(),
        packed: false,
    };
    training_step(&graph, &spec, &mut |_| {}).expect("compiles")
}

#[test]
fn chunks_learn_what_the_whole_does_with_less_memory() {
    for engine in engines() {
        let engine = engine.as_ref();
        let [whole, chunks] = [1, 1024].map(|tokens| compiled(engine, tokens));
        let count = |training: &Training, op: &str| training.step.nodes().filter(|(_, n)| &*n.op.name == op).count();
        assert_eq!((count(&whole, "LogSoftmax"), count(&chunks, "LogSoftmax")), (1, 5));
        let shapes = ["input_ids", "labels"].map(|name| (name.to_string(), vec![8, 128]));
        let [all, some] = [&whole, &chunks].map(|training| peak_bytes(&training.step, &shapes).expect("fits"));
        assert!(some * 3 < all && all > 1024 * VOCABULARY * 4, "{some} of {all} bytes");
        // More rows than chunks, fewer, and rows that do not count.
        // What rounds otherwise in a product of one row grows from step to step.
        for (rows, length, ignored, steps) in [(3, 7, 2, 4), (1, 3, 5, 1), (1, 2, 1, 1)] {
            let ids: Vec<i64> = (0..rows * length).map(|i| (i as i64 * 37) % 100).collect();
            let labels: Vec<i64> =
                ids.iter().enumerate().map(|(i, id)| if i % 5 == ignored { -100 } else { *id }).collect();
            let tensor = |v: &[i64]| Tensor::from_slice(&[rows, length], v).expect("fits");
            let fed = vec![("input_ids".to_string(), tensor(&ids)), ("labels".to_string(), tensor(&labels))];
            let run = |training: &Training| {
                let theta = initial_theta(&training.params, 3).expect("theta");
                let mut step = training_program(engine, training, &theta, 0).expect("compiles");
                let said: Vec<f64> =
                    (0..steps).map(|_| step.run(&fed, 1e-2).expect("runs")).flat_map(|r| [r.loss, r.norm]).collect();
                (said, step.theta().expect("theta"))
            };
            let ((said, theta), (want, want_theta)) = (run(&chunks), run(&whole));
            // Sums over the vocabulary, in another order in f32: a rounding times the root of its size.
            let rounding = f64::from(f32::EPSILON) * (VOCABULARY as f64).sqrt();
            let near = |a: f64, b: f64| (a - b).abs() <= rounding * b.abs().max(1.0);
            let who = format!("{} {rows} x {length}", engine.name());
            assert!(said.iter().zip(&want).all(|(a, b)| near(*a, *b)), "{who}: {said:?} {want:?}");
            let pairs = theta.iter().zip(&want_theta);
            assert!(pairs.clone().all(|(a, b)| near((*a).into(), (*b).into())), "{who}");
        }
    }
}
