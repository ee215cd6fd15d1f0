//! What EVA and LoRA-GA begin with, against PEFT's first A and B of the same batches (tests/truth/first_factors.py), of exports of
//! both exporters on both engines.

use lorac::data::Batch;
use lorac::ir::Graph;
use lorac::passes::{
    AdamW, Adaptation, Caches, Delta, DeltaForm, FirstLook, Lora, LoraInit, Method, MethodChoice, Objective, Param,
    Role, Target, Training, TrainingSpec, UpdateSpec, before_the_look, first_look, readable, training_step,
};
use lorac::runtime::Backend;
use lorac::task::CausalLm;
use lorac::train::{Binding, Feeds, directions_of_inputs, initial_theta, look, with_directions};
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

/// A training, and what is looked at before its first step.
fn compiled(graph: &Graph, case: &Case, lora: &Lora, engine: &dyn Backend) -> (Training, FirstLook) {
    let (rows, tokens, optimizer) = (FirstOutput::default(), CausalLm::default(), AdamW::default());
    let objective: &dyn Objective = if case.kind == "lm" { &tokens } else { &rows };
    let targets = lora.select(graph).expect("targets");
    let adaptations = [Adaptation { method: lora, targets }];
    let spec = TrainingSpec {
        adaptations: &adaptations,
        objective,
        update: UpdateSpec::of(&optimizer),
        dialect: engine.dialect(),
        tokens: None,
        caches: Caches::default(),
        packed: false,
    };
    let training = training_step(graph, &spec, &mut |_| {}).expect("compiles");
    let found = first_look(graph, &spec, &training).expect("compiles").expect("something to look at");
    let known = Training { params: before_the_look(&training.params), ..training.clone() };
    assert!(first_look(graph, &spec, &known).expect("compiles").is_none(), "nothing that is known is looked at");
    (training, found)
}

/// A and B of every module before the first step.
fn first(graph: &Graph, case: &Case, of: &Of, lora: Lora, engine: &dyn Backend) -> BTreeMap<String, [Vec<f32>; 2]> {
    let (training, found) = compiled(graph, case, &lora, engine);
    assert!(initial_theta(&training.params, 0).is_err(), "nobody has looked");
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

/// Ranks that are shared out are PEFT's, as are directions and scales.
#[test]
fn ranks_are_shared_out_as_peft_does() {
    each(|of, case, graph, engine, truth, name| {
        let counts = if name.ends_with("torchscript, 0") { &[1, 3][..] } else { &[1] };
        for count in counts.iter().copied() {
            let lora = Lora { init_rho: Some(2.0), alpha: 4.0, ..lora(of, LoraInit::Eva, 8, count) };
            let (training, found) = compiled(graph, case, &lora, engine);
            let (feeds, batches) = batches(case, count);
            let directions =
                directions_of_inputs(engine, found.shares_ranks().expect("ranks"), &feeds, &batches).expect("looks");
            let target = |a: &str| {
                let is_a = |d: &Delta| matches!(&d.form, DeltaForm::LowRank { a: name, .. } if name == a);
                training.deltas.iter().find(|(_, d)| is_a(d)).map(|(_, d)| d.target.name()).expect("a target")
            };
            let ranks: BTreeMap<String, usize> =
                directions.iter().map(|(a, found)| (target(a), found.dims()[0])).collect();
            assert_eq!(ranks.values().sum::<usize>(), 6 * 8, "{name}: {ranks:?}");
            let Some(MethodChoice::Lora(lora)) = lora.with_ranks(&ranks) else { panic!("LoRA has ranks") };
            let (training, _) = compiled(graph, case, &lora, engine);
            let params = with_directions(&training.params, &directions);
            for (_, delta) in &training.deltas {
                assert_eq!(delta.form.scale(), Some(0.5), "{name}");
            }
            for (module, [a, b]) in values(&training, &params, of) {
                let want = numbers(truth, &format!("shared.{count}.{module}"));
                assert_eq!(numbers(truth, &format!("shared.{count}.{module}.scale")), [0.5]);
                assert_eq!(a.len(), want.len(), "{name}, {count} batches: the rank of {module}");
                let off = off(&a, &want, true);
                assert!(off < 1e-3, "{name}, {count} batches, {module}: A is off by {off}");
                assert!(b.iter().all(|x| *x == 0.0));
            }
        }
    });
}

#[test]
fn a_matrix_that_gets_no_rank_is_no_target() {
    let of = &CASES[0];
    let case = Case::read(&data("peft2").join(of.case)).expect("a case");
    let model = lorac::onnx::load(case.folder.join("base.dynamo.onnx")).expect("loads");
    let graph = readable(&model.graph, &model.functions).expect("readable");
    let all = lora(of, LoraInit::Eva, 8, 1);
    let names: Vec<String> = all.select(&graph).expect("targets").iter().map(Target::name).collect();
    let ranks = BTreeMap::from([(names[1].clone(), 0), (names[2].clone(), 11)]);
    let Some(MethodChoice::Lora(lora)) = all.with_ranks(&ranks) else { panic!("LoRA has ranks") };
    let left = lora.select(&graph).expect("targets");
    let found: Vec<(String, usize)> = left.iter().map(|t| (t.name(), lora.rank_of(t))).collect();
    let want = names.iter().enumerate().filter(|(i, _)| *i != 1);
    assert_eq!(found, want.map(|(i, name)| (name.clone(), if i == 2 { 11 } else { 8 })).collect::<Vec<_>>());
    assert_eq!(lora.alpha_of(&left[1]), 8.0 * 11.0 / 8.0);
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
