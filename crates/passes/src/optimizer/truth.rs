//! Thirty steps of every optimizer against PyTorch's and transformers': tests/truth/optimizers.py.

use super::*;
use crate::{Delta, DeltaForm, Group, Init, Matrix, Param, Target};
use lorac_ops::{Array, evaluate};
use std::collections::BTreeSet;

const STEPS: usize = 30;
const LEN: usize = 6;
const START: [f64; LEN] = [1.0, -2.0, 0.5, 0.25, 3.0, -0.75];

fn array(v: &[f64], dims: &[usize]) -> Array {
    Array::from_shape_vec(dims.to_vec(), v.to_vec()).expect("fits")
}

/// Two params of three elements, the factors of a branch.
fn params() -> Vec<Param> {
    vec![param("w.lora_A", &[LEN / 2]), param("w.lora_B", &[LEN / 2])]
}

fn param(name: &str, dims: &[usize]) -> Param {
    let (name, dims, init) = (name.to_string(), dims.to_vec(), Init::Zeros);
    Param { value: ValueId(0), name, dims, init, group: Group::Adapter, decay: true }
}

fn branch() -> Delta {
    let (dims, products) = (vec![LEN / 2, LEN / 2], Vec::new());
    let (transposed, shared, rows, cols) = (false, false, LEN / 2, LEN / 2);
    let (name, read_as) = ("w".into(), Default::default());
    let matrix = Matrix { weight: ValueId(0), name, transposed, dims, rows, cols, products, shared, read_as };
    let (a, b) = ("w.lora_A".to_string(), "w.lora_B".to_string());
    let form = DeltaForm::LowRank { a, b, rank: 1, alpha: 1.0, rslora: false, start: None, magnitude: None };
    Delta { target: Target::of_matrix(&matrix, BTreeSet::new(), "w"), form }
}

/// The losses before each update, and theta behind the last.
fn trained(spec: &UpdateSpec, params: &[Param]) -> Vec<f64> {
    let text = format!("graph g(%theta: f32[{LEN}], %target: f32[{LEN}], %curvature: f32[{LEN}]) {{ }}");
    let mut graph = lorac_ir::parse(&text).expect("parses");
    rewrite(&mut graph, "loss", |e| {
        let [theta, target, curvature] =
            ["theta", "target", "curvature"].map(|name| e.val(e.graph().find(name).expect("there")));
        let difference = theta - target;
        let slope = curvature * difference;
        let sum = e.op("ReduceSum", &[slope * difference], &[("keepdims", 0i64.into())]);
        let outputs = vec![(sum * 0.5).id(), slope.id()];
        e.edit(|p| p.set_outputs(outputs));
        Ok(())
    })
    .expect("writes");
    let outputs = graph.outputs().to_vec();
    let deltas = [(0, branch())];
    let layout = Layout::of(params);
    let rates = spec.groups.rates(spec.optimizer.lr(), &layout, params, &deltas).expect("known params");
    let packed = Packed { theta: graph.find("theta").expect("there"), grad: Some(outputs[1]) };
    let update = optimize(&mut graph, &packed, &layout, StepLoss::Whole(outputs[0]), spec, &rates).expect("writes");
    let mut state: Vec<Array> = update
        .slots
        .iter()
        .map(|s| match s.input.as_str() {
            "theta" => array(&START, &[LEN]),
            _ => array(&vec![0.0; s.len], &[s.len]),
        })
        .collect();
    let curvature = array(&[0.5, 1.0, 2.0, 4.0, 0.25, 1.5], &[LEN]);
    let mut found = Vec::new();
    for step in 0..STEPS {
        let target: Vec<f64> = (0..LEN).map(|i| 2.0 * (0.7 * step as f64 + i as f64).sin()).collect();
        let lr = spec.optimizer.lr() * (1.0 - step as f64 / 40.0);
        let mut feeds = vec![("target", array(&target, &[LEN])), ("curvature", curvature.clone())];
        feeds.extend(update.slots.iter().zip(&state).map(|(s, v)| (s.input.as_str(), v.clone())));
        let scalar = |s: &StepScalar| array(&[s.value.at(step as u64, lr, true)], &[]);
        feeds.extend(update.scalars.iter().map(|s| (s.input.as_str(), scalar(s))));
        let out = evaluate(&graph, &feeds).expect("runs");
        found.push(out[0].sum());
        state = out[2..].to_vec();
    }
    found.extend(state[0].iter().copied());
    found
}

#[track_caller]
fn is_the_truth(name: &str, spec: &UpdateSpec) {
    is_the_truth_of(name, spec, &params());
}

#[track_caller]
fn is_the_truth_of(name: &str, spec: &UpdateSpec, params: &[Param]) {
    let lines = include_str!("../../../../tests/data/truth/optimizers/steps.txt").lines();
    let line = lines.filter_map(|l| l.strip_prefix(name)?.strip_prefix(' ')).next();
    let words = line.unwrap_or_else(|| panic!("no {name}")).split_whitespace();
    let want: Vec<f64> = words.map(|w| w.parse().expect("a number")).collect();
    let got = trained(spec, params);
    assert_eq!((got.len(), want.len()), (STEPS + LEN, STEPS + LEN));
    for (i, (got, want)) in got.iter().zip(&want).enumerate() {
        assert!((got - want).abs() <= 1e-6 * want.abs().max(1.0), "{name}, number {i}: {got}, expected {want}");
    }
}

const ADAMW: AdamW = AdamW { lr: 0.05, weight_decay: 0.1, beta1: 0.8, beta2: 0.95, eps: 1e-6 };
const SGD: Sgd = Sgd { lr: 0.1, momentum: 0.0, nesterov: false, weight_decay: 0.0 };
const CLIP: Option<Clip> = Some(Clip::Norm(1.0));

#[test]
fn steps_are_those_of_pytorch() {
    let adam = Adam { lr: 0.05, weight_decay: 0.0, beta1: 0.8, beta2: 0.95, eps: 1e-6 };
    let momentum = Sgd { momentum: 0.7, weight_decay: 0.1, ..SGD };
    is_the_truth("adamw", &UpdateSpec::of(&ADAMW));
    is_the_truth("adam", &UpdateSpec::of(&adam));
    is_the_truth("adam_decay", &UpdateSpec::of(&Adam { weight_decay: 0.1, ..adam }));
    is_the_truth("sgd", &UpdateSpec::of(&SGD));
    is_the_truth("sgd_momentum", &UpdateSpec::of(&momentum));
    is_the_truth("sgd_nesterov", &UpdateSpec::of(&Sgd { nesterov: true, ..momentum }));
}

#[test]
fn steps_of_lion_are_those_of_its_reference() {
    is_the_truth("lion", &UpdateSpec::of(&Lion { lr: 0.05, weight_decay: 0.1, beta1: 0.8, beta2: 0.95 }));
}

#[test]
fn steps_of_adafactor_are_those_of_transformers() {
    let plain = Adafactor { lr: 0.1, ..Adafactor::default() };
    is_the_truth_of("adafactor", &UpdateSpec::of(&plain), &[param("w.lora_A", &[2, 3])]);
    let scaled = Adafactor {
        lr: 0.2,
        weight_decay: 0.1,
        decay_rate: -0.6,
        clip_threshold: 0.7,
        scale_parameter: true,
        scale_eps: 1e-2,
        eps: 1e-8,
        beta1: Some(0.8),
    };
    let both = [param("w.lora_A", &[2]), param("w.lora_B", &[2, 2])];
    is_the_truth_of("adafactor_scaled", &UpdateSpec { clip: CLIP, ..UpdateSpec::of(&scaled) }, &both);
}

#[test]
fn gradients_are_clipped_as_in_pytorch() {
    is_the_truth("clip_norm", &UpdateSpec { clip: CLIP, ..UpdateSpec::of(&ADAMW) });
    is_the_truth("clip_value", &UpdateSpec { clip: Some(Clip::Value(0.5)), ..UpdateSpec::of(&SGD) });
}

fn group(pattern: &str, lr: Option<GroupRate>, weight_decay: Option<f64>) -> ParamGroup {
    ParamGroup { patterns: vec![pattern.into()], lr, weight_decay }
}

#[test]
fn groups_have_their_own_rates_and_decays() {
    let groups = [group("*.lora_B", Some(GroupRate::Times(2.0)), Some(0.5))];
    let no_decay = ["w.lora_A".to_string()];
    let own = Groups { groups: &groups, no_decay: &no_decay, lora_plus: None };
    is_the_truth("groups", &UpdateSpec { clip: CLIP, groups: own, ..UpdateSpec::of(&ADAMW) });
    // The first group that a param fits counts.
    let groups =
        [group("w.lora_A", Some(GroupRate::Rate(0.025)), Some(0.3)), group("*", Some(GroupRate::Times(1.0)), None)];
    let own = Groups { groups: &groups, ..Groups::default() };
    is_the_truth("groups_sgd", &UpdateSpec { clip: CLIP, groups: own, ..UpdateSpec::of(&SGD) });
    let own = Groups { lora_plus: Some(16.0), ..Groups::default() };
    let adamw = AdamW { lr: 0.01, weight_decay: 0.1, ..AdamW::default() };
    is_the_truth("lora_plus", &UpdateSpec { clip: CLIP, groups: own, ..UpdateSpec::of(&adamw) });
}

#[test]
fn patterns_that_no_param_fits_are_all_named_with_their_places() {
    let groups = [group("*.lora_C", None, Some(0.0)), group("role:query", None, Some(0.0))];
    let no_decay = ["w.lora_A".to_string(), "role:quer".to_string()];
    let own = Groups { groups: &groups, no_decay: &no_decay, lora_plus: None };
    let error = own.rates(0.1, &Layout::of(&params()), &params(), &[(0, branch())]).expect_err("unknown");
    let PassError::NoParam(found) = &error else { panic!("{error}") };
    let paths: Vec<&str> = found.iter().map(|(path, _)| path.as_str()).collect();
    assert_eq!(paths, ["groups.0.match.0", "groups.1.match.0", "no_decay.1"]);
    assert!(error.to_string().contains("did you mean `role:query`?"), "{error}");
}

#[test]
fn roles_pick_what_is_adapted_there_and_a_new_head() {
    let mut delta = branch();
    delta.target.roles = BTreeSet::from([crate::Role::Query]);
    let mut params = params();
    params.push(Param { name: "classifier.weight".into(), group: Group::Head, ..params[0].clone() });
    let layout = Layout::of(&params);
    let scales = |pattern: &str| -> Vec<f64> {
        let groups = [group(pattern, Some(GroupRate::Rate(0.1)), None)];
        let own = Groups { groups: &groups, ..Groups::default() };
        own.rates(0.5, &layout, &params, &[(0, delta.clone())]).expect("known").iter().map(|r| r.scale).collect()
    };
    assert_eq!((scales("role:query"), scales("role:head")), (vec![0.2, 0.2, 1.0], vec![1.0, 1.0, 0.2]));
}
