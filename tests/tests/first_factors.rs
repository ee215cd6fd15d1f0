//! What EVA and LoRA-GA begin with, against PEFT's first A and B of the same batches (tests/truth/first_factors.py), of exports of
//! both exporters on both engines.

use lorac::data::Batch;
use lorac::ir::Graph;
use lorac::passes::{
    AdamW, Adaptation, Caches, DeltaForm, Lora, LoraInit, Method, Objective, Param, Role, Training, TrainingSpec,
    UpdateSpec, first_look, readable, training_step,
};
use lorac::runtime::Backend;
use lorac::task::CausalLm;
use lorac::train::{Binding, Feeds, initial_theta, look};
use lorac_tests::objective::FirstOutput;
use lorac_tests::variants::Case;
use lorac_tests::{Truth, data, engines, truth};
use std::collections::BTreeMap;

/// A case, and the modules of its roles in a layer.
struct Of {
    case: &'static str,
    modules: [(Role, &'static str, &'static str); 3],
}

const CASES: [Of; 2] = [
    Of {
        case: "bert-bias-lora",
        modules: [
            (Role::Query, "role:query", "bert.encoder.layer.N.attention.self.query"),
            (Role::Value, "role:value", "bert.encoder.layer.N.attention.self.value"),
            (Role::Up, "role:up", "bert.encoder.layer.N.intermediate.dense"),
        ],
    },
    Of {
        case: "llama-orthogonal",
        modules: [
            (Role::Query, "role:query", "model.layers.N.self_attn.q_proj"),
            (Role::Value, "role:value", "model.layers.N.self_attn.v_proj"),
            (Role::Down, "role:down", "model.layers.N.mlp.down_proj"),
        ],
    },
];

/// The batches of a case: what a model is fed, by the fields' names.
fn batches(case: &Case, count: usize) -> (Feeds, Vec<Vec<Batch>>) {
    let batch = |i: usize| {
        let batch = case.batch(&format!("step{i:02}"));
        let tensors: Vec<_> = batch.into_iter().map(|(field, t)| (field.to_string(), t.tensor())).collect();
        let rows = tensors.first().map_or(0, |(_, t)| t.dims()[0]);
        vec![Batch { tensors, rows, real_rows: rows, tokens: 0 }]
    };
    let all: Vec<Vec<Batch>> = (0..count).map(batch).collect();
    let bind = |(name, t): &(String, lorac::ir::Tensor)| Binding {
        field: name.clone(),
        input: name.clone(),
        dtype: t.dtype(),
    };
    (Feeds { inputs: all[0][0].tensors.iter().map(bind).collect(), constants: Vec::new() }, all)
}

/// A and B of every module before the first step.
fn first(graph: &Graph, case: &Case, of: &Of, lora: Lora, engine: &dyn Backend) -> BTreeMap<String, [Vec<f32>; 2]> {
    let targets = lora.select(graph).expect("targets");
    let adaptations = [Adaptation { method: &lora, targets }];
    let (rows, tokens, optimizer) = (FirstOutput::default(), CausalLm::default(), AdamW::default());
    let objective: &dyn Objective = if case.kind == "lm" { &tokens } else { &rows };
    let spec = TrainingSpec {
        adaptations: &adaptations,
        objective,
        update: UpdateSpec::of(&optimizer),
        dialect: engine.dialect(),
        tokens: None,
        caches: Caches::default(),
    };
    let training = training_step(graph, &spec, &mut |_| {}).expect("compiles");
    assert!(initial_theta(&training.params, 0).is_err(), "nobody has looked");
    let found = first_look(graph, &spec, &training).expect("compiles").expect("something to look at");
    let (feeds, batches) = batches(case, found.batches);
    let params = look(engine, &found, &training.params, 0, &feeds, &batches).expect("looks");
    values(&training, &params, of)
}

fn values(training: &Training, params: &[Param], of: &Of) -> BTreeMap<String, [Vec<f32>; 2]> {
    let theta = initial_theta(params, 0).expect("a theta");
    let theta = training.layout.values(&theta).expect("fits");
    let mut found = BTreeMap::new();
    for (role, _, module) in &of.modules {
        let of_role = training.deltas.iter().filter(|(_, d)| d.target.roles.contains(role));
        for (layer, (_, delta)) in of_role.enumerate() {
            let DeltaForm::LowRank { a, b, start, .. } = &delta.form else { panic!("{delta:?}") };
            let get = |name: &str| theta.get(name).expect("a param").to_vec();
            if let Some([a0, b0]) = start {
                assert_eq!((get(a0), get(b0)), (get(a), get(b)), "what begins is taken out of the weight");
            }
            found.insert(module.replace('N', &layer.to_string()), [get(a), get(b)]);
        }
    }
    found
}

/// The largest difference between a vector and another, whose sign is free where it is.
fn off(got: &[f32], want: &[f32], signed: bool) -> f32 {
    assert_eq!(got.len(), want.len());
    let difference = |sign: f32| got.iter().zip(want).map(|(x, y)| (x - sign * y).abs()).fold(0.0, f32::max);
    if signed { difference(1.0) } else { difference(1.0).min(difference(-1.0)) }
}

fn columns(b: &[f32], rank: usize) -> Vec<f32> {
    (0..rank).flat_map(|k| b.iter().skip(k).step_by(rank).copied().collect::<Vec<_>>()).collect()
}

fn numbers(truth: &BTreeMap<String, Truth>, key: &str) -> Vec<f32> {
    let found = truth.get(key).unwrap_or_else(|| panic!("no `{key}`"));
    found.array.iter().map(|x| *x as f32).collect()
}

fn each(test: impl Fn(&Of, &Case, &Graph, &dyn Backend, &BTreeMap<String, Truth>, &str)) {
    for of in &CASES {
        let case = Case::read(&data("peft2").join(of.case)).expect("a case");
        let truth = truth(&data("truth/first_factors").join(format!("{}.safetensors", of.case)));
        for exporter in ["torchscript", "dynamo"] {
            let model = lorac::onnx::load(case.folder.join(format!("base.{exporter}.onnx"))).expect("loads");
            let graph = readable(&model.graph, &model.functions).expect("readable");
            for (i, engine) in engines().into_iter().enumerate() {
                test(of, &case, &graph, engine.as_ref(), &truth, &format!("{}, {exporter}, {i}", of.case));
            }
        }
    }
}

fn lora(of: &Of, init: LoraInit, rank: usize, batches: usize) -> Lora {
    let targets = of.modules.iter().map(|(_, pattern, _)| pattern.to_string()).collect();
    Lora { targets, rank, alpha: rank as f64, init, init_batches: Some(batches), ..Lora::default() }
}

/// The first of what is tested.
const FIRST: &str = "bert-bias-lora, torchscript, 0";

/// As many as 16 directions of 32: the smallest are close to each other, and those of numbers in f32.
#[test]
fn eva_begins_with_the_directions_of_peft() {
    each(|of, case, graph, engine, truth, name| {
        // Of three batches directions converge slowly: 53 times the model is run.
        let counts = if name == FIRST { &[1, 3][..] } else { &[1] };
        for batches in counts.iter().copied() {
            let found = first(graph, case, of, lora(of, LoraInit::Eva, 16, batches), engine);
            assert_eq!(found.len(), 6);
            for (module, [a, b]) in found {
                let want = numbers(truth, &format!("eva.{batches}.{module}"));
                let off = off(&a, &want, true);
                assert!(off < 1e-3, "{name}, {batches} batches, {module}: A is off by {off}");
                assert!(b.iter().all(|x| *x == 0.0));
            }
        }
    });
}

#[test]
fn lora_ga_begins_with_the_gradients_of_peft() {
    each(|of, case, graph, engine, truth, name| {
        for batches in [1, 3] {
            let found = first(graph, case, of, lora(of, LoraInit::LoraGa, 8, batches), engine);
            assert_eq!(found.len(), 6);
            let mut compared = 0;
            for (module, [a, b]) in found {
                let want = |end: &str| numbers(truth, &format!("ga.{batches}.{module}.{end}"));
                let (sizes, width, most) = (want("S"), a.len() / 8, b.len() / 8);
                // A direction without a size, or with that of a neighbour, is not the gradient's own.
                let is_own = |k: usize| {
                    let near = |other: usize| sizes.get(other).is_some_and(|s| (s - sizes[k]).abs() < 0.02 * sizes[k]);
                    sizes[k] > 1e-3 * sizes[0] && !near(k + 1) && !(k > 0 && near(k - 1))
                };
                let (want_a, want_b, b) = (want("A"), columns(&want("B"), 8), columns(&b, 8));
                for k in (0..8).filter(|k| is_own(*k)) {
                    let off = off(&a[k * width..][..width], &want_a[k * width..][..width], false);
                    assert!(off < 1e-3, "{name}, {batches} batches, {module}: row {k} of A is off by {off}");
                    compared += 1;
                }
                for k in (0..8).filter(|k| is_own(8 + k)) {
                    let off = off(&b[k * most..][..most], &want_b[k * most..][..most], false) / sizes[8 + k];
                    assert!(off < 1e-3, "{name}, {batches} batches, {module}: column {k} of B is off by {off}");
                    compared += 1;
                }
            }
            assert!(compared > 50, "{name}: {compared} of 96 directions are compared");
        }
    });
}
