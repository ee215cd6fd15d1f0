//! Examples that share rows: steps, losses and parameters are those of the same examples in rows of their own, of both exporters, on
//! both engines; and a mask or positions of other examples show.

use lorac::data::{Dataset, Example, Field, IGNORE, LABELS, PadTo, pack};
use lorac::inputs::{caches, feeds};
use lorac::ir::{DType, Graph, Tensor};
use lorac::passes::{
    AdamW, Adaptation, Lora, LoraInit, Method, Objective, Training, TrainingSpec, UpdateSpec, first_look, readable,
    training_step,
};
use lorac::runtime::Backend;
use lorac::task::CausalLm;
use lorac::train::{Binding, Feeds, directions_of_inputs, initial_theta, training_program};
use lorac_tests::{data, engines};

const STEPS: usize = 6;

/// So many tell whether something else is computed.
const FEW: usize = 2;

/// Rows of so many tokens.
const ROOM: usize = 24;

/// Four batches of examples, their tokens whatever comes; in every third the first ones are not learnt.
fn batches(vocabulary: usize) -> Vec<Vec<Example>> {
    let mut state = 7usize;
    let mut next = |below: usize| {
        state = (state.wrapping_mul(6364136223846793005)).wrapping_add(1442695040888963407);
        (state >> 33) % below
    };
    let mut example = |at: usize| {
        let ids: Vec<i64> = (0..3 + next(10)).map(|_| 5 + next(vocabulary - 5) as i64).collect();
        let learnt = if at.is_multiple_of(3) { 2 } else { 0 };
        let labels = ids.iter().enumerate().map(|(i, id)| if i < learnt { IGNORE } else { *id }).collect();
        let tokens = |ids, pad| Field::Tokens { ids, pad };
        let types = vec![0; ids.len()];
        Example {
            fields: vec![
                ("input_ids", tokens(ids, 1)),
                ("token_type_ids", tokens(types, 0)),
                (LABELS, tokens(labels, IGNORE)),
            ],
        }
    };
    (0..4).map(|_| (0..9).map(&mut example).collect()).collect()
}

fn compiled(graph: &Graph, objective: &dyn Objective, engine: &dyn Backend, packed: bool) -> Training {
    let lora = Lora { targets: vec!["all-linear".into()], ..Lora::default() };
    let optimizer = AdamW::default();
    let spec = TrainingSpec {
        adaptations: &[Adaptation { method: &lora, targets: lora.select(graph).expect("targets") }],
        objective,
        update: UpdateSpec::of(&optimizer),
        dialect: engine.dialect(),
        tokens: None,
        caches: caches(graph, &feeds(graph).expect("known inputs")),
        packed,
    };
    training_step(graph, &spec, &mut |_| {}).unwrap_or_else(|e| panic!("{e}"))
}

/// The losses of steps on batches, and theta behind them.
fn steps(
    engine: &dyn Backend,
    training: &Training,
    graph: &Graph,
    batches: &[Vec<Example>],
    count: usize,
) -> (Vec<f64>, Vec<f32>) {
    let mut theta = initial_theta(&training.params, 3).expect("a theta");
    theta.iter_mut().enumerate().filter(|(_, x)| **x == 0.0).for_each(|(i, x)| *x = ((i % 7) as f32 - 3.0) / 50.0);
    let mut step = training_program(engine, training, &theta, 0).unwrap_or_else(|e| panic!("{}: {e}", engine.name()));
    let Feeds { mut inputs, constants } = feeds(graph).expect("known inputs");
    let names = &training.names;
    for (field, input) in
        [(LABELS, &names.targets), ("example_ids", &names.example_ids), ("position_ids", &names.example_positions)]
    {
        inputs.push(Binding { field: field.into(), input: input.clone(), dtype: DType::I64 });
    }
    let feeds = Feeds { inputs, constants };
    let losses = (0..count).map(|i| {
        let data = Dataset::new(batches[i % batches.len()].clone(), PadTo { multiple: 4, ..PadTo::default() });
        let rows: Vec<usize> = (0..data.len()).collect();
        let batch = data.batch(&rows, 0).expect("a batch");
        let tensors: Vec<(String, Tensor)> = feeds.for_program(step.program.as_ref(), &batch).expect("fields");
        step.run(&tensors, 5e-3).unwrap_or_else(|e| panic!("{}: {e}", engine.name())).loss
    });
    let losses = losses.collect();
    (losses, step.theta().expect("a theta"))
}

fn far(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(a, b)| (a - b).abs()).fold(0.0, f64::max)
}

/// The rows with other numbers in a field.
fn with(rows: &[Vec<Example>], name: &str, of: fn(usize) -> i64) -> Vec<Vec<Example>> {
    let field = |(known, field): &(&'static str, Field)| match field {
        Field::Tokens { ids, .. } if *known == name => {
            let ids: Vec<i64> = (0..ids.len()).map(of).collect();
            let pad = ids.last().copied().unwrap_or(0);
            (*known, Field::Tokens { ids, pad })
        }
        field => (*known, field.clone()),
    };
    let example = |example: &Example| Example { fields: example.fields.iter().map(field).collect() };
    rows.iter().map(|batch| batch.iter().map(example).collect()).collect()
}

/// Fails unless packed steps are those of rows of one example. `attentions` and `positions` are how many are to be found, and
/// `absolute` says whether positions that do not begin anew show in the losses.
fn are_the_same(
    export: &str,
    task: &dyn Objective,
    is_causal: bool,
    attentions: usize,
    positions: usize,
    absolute: bool,
) {
    let model = lorac::onnx::load(data("exports").join(export).join("model.onnx")).expect(export);
    let graph = readable(&model.graph, &model.functions).expect("readable");
    let batches = batches(60);
    let of = |room: usize| -> Vec<Vec<Example>> { batches.iter().map(|all| pack(all, room, is_causal)).collect() };
    let (packed, apart) = (of(ROOM), of(0));
    assert!(packed.iter().zip(&batches).all(|(rows, all)| rows.len() * 2 <= all.len()), "rows hold several");
    for engine in engines() {
        let who = format!("{export} on {}", engine.name());
        let [plain, training] = [false, true].map(|packed| compiled(&graph, task, engine.as_ref(), packed));
        let isolated = training.isolated.clone().expect("it is packed");
        assert_eq!(
            (isolated.attentions.len(), isolated.positions.len()),
            (attentions, positions),
            "{who}: {isolated:?}"
        );
        assert!(plain.isolated.is_none());
        let run = |training: &Training, rows: &[Vec<Example>], count: usize| {
            steps(engine.as_ref(), training, &graph, rows, count)
        };
        let (want, want_theta) = run(&plain, &apart, STEPS);
        let (got, theta) = run(&training, &packed, STEPS);
        assert!(far(&got, &want) <= 1e-5, "{who}: {got:?}, and {want:?} apart");
        let worst = theta.iter().zip(&want_theta).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
        assert!(worst <= 1e-4, "{who}: theta is off by {worst:e}");
        // Rows of one example give what they gave.
        let (same, _) = run(&training, &apart, FEW);
        assert!(far(&same, &want) <= 1e-6, "{who}: {same:?}, and {want:?} of the plain graph");
        let (seen, _) = run(&training, &with(&packed, "example_ids", |_| 0), FEW);
        assert!(far(&seen, &want) > 1e-3, "{who}: {seen:?} where examples see each other");
        let (running, _) = run(&training, &with(&packed, "position_ids", |i| i as i64), FEW);
        assert_eq!(far(&running, &want) > 1e-4, absolute, "{who}: {running:?} where positions run on");
        assert!(want[4] < want[0], "{who}: {want:?}");
    }
}

#[test]
fn gpt2_with_a_table_of_positions() {
    for export in ["gpt2-torchscript", "gpt2-dynamo", "gpt2-dynamo23"] {
        are_the_same(export, &CausalLm::default(), true, 2, 1, true);
    }
}

#[test]
fn llama_and_qwen2_whose_positions_are_distances() {
    for export in ["llama-torchscript", "llama-dynamo", "qwen2-torchscript", "qwen2-dynamo"] {
        are_the_same(export, &CausalLm::default(), true, 2, 0, false);
    }
}

/// What EVA begins with are directions of what matrices are fed of examples by themselves.
#[test]
fn the_first_look_sees_examples_apart() {
    let model = lorac::onnx::load(data("exports/gpt2-torchscript/model.onnx")).expect("loads");
    let graph = readable(&model.graph, &model.functions).expect("readable");
    let all = &batches(60)[..1];
    let of = |room: usize| vec![pack(&all[0], room, false)];
    let engine = &engines()[0];
    let directions = |rows: &[Vec<Example>], packed: bool| {
        let lora = Lora { targets: vec!["role:up".into()], rank: 2, init: LoraInit::Eva, ..Lora::default() };
        let optimizer = AdamW::default();
        let spec = TrainingSpec {
            adaptations: &[Adaptation { method: &lora, targets: lora.select(&graph).expect("targets") }],
            objective: &CausalLm::default(),
            update: UpdateSpec::of(&optimizer),
            dialect: engine.dialect(),
            tokens: None,
            caches: caches(&graph, &feeds(&graph).expect("known inputs")),
            packed,
        };
        let training = training_step(&graph, &spec, &mut |_| {}).unwrap_or_else(|e| panic!("{e}"));
        let look = first_look(&graph, &spec, &training).expect("compiles").expect("a look");
        let Feeds { mut inputs, constants } = feeds(&graph).expect("known inputs");
        for (field, input) in
            [("example_ids", &training.names.example_ids), ("position_ids", &training.names.example_positions)]
        {
            inputs.push(Binding { field: field.into(), input: input.clone(), dtype: DType::I64 });
        }
        let data = Dataset::new(rows[0].clone(), PadTo { multiple: 4, ..PadTo::default() });
        let batch = data.batch(&(0..data.len()).collect::<Vec<_>>(), 0).expect("a batch");
        let feeds = Feeds { inputs, constants };
        let found = directions_of_inputs(engine.as_ref(), &look.inputs.expect("inputs"), &feeds, &[vec![batch]])
            .expect("looks");
        found.values().flat_map(|a| a.to_f64().expect("reals")).collect::<Vec<f64>>()
    };
    let want = directions(&of(0), false);
    let got = directions(&of(ROOM), true);
    assert!(want.len() >= 4 && far(&got, &want) < 1e-3, "{got:?}, and {want:?} apart");
    let seen = directions(&with(&of(ROOM), "example_ids", |_| 0), true);
    assert!(far(&seen, &want) > 1e-2, "{seen:?} where examples see each other");
}
