//! Thirty steps of every optimizer on both engines, against PyTorch's and the reference's (tests/truth/optimizers.py).

use lorac::ir::{Graph, Tensor, ValueId};
use lorac::passes::{
    Adafactor, Adam, AdamW, Clip, Group, Groups, Init, Layout, Lion, Optimizer, Packed, Param, Sgd, StateSlot,
    StepLoss, UpdateSpec, optimize, rewrite,
};
use lorac::train::compile_graph;
use lorac_tests::{data, engines};

const STEPS: usize = 30;
const START: [f32; 6] = [1.0, -2.0, 0.5, 0.25, 3.0, -0.75];

/// `sum(curvature (theta - target)^2) / 2` and its gradient.
fn parabola() -> (Graph, [ValueId; 2]) {
    let text = "graph g(%theta: f32[6], %target: f32[6]) { %c = weight \"c\" f32[6] = [0.5, 1, 2, 4, 0.25, 1.5] }";
    let mut graph = lorac::ir::parse(text).expect("parses");
    rewrite(&mut graph, "loss", |e| {
        let [theta, target, curvature] =
            ["theta", "target", "c"].map(|name| e.val(e.graph().find(name).expect("there")));
        let slope = curvature * (theta - target);
        let loss = e.op("ReduceSum", &[slope * (theta - target)], &[("keepdims", 0i64.into())]) * 0.5;
        let outputs = vec![loss.id(), slope.id()];
        e.edit(|p| p.set_outputs(outputs));
        Ok(())
    })
    .expect("writes");
    let outputs = [graph.outputs()[0], graph.outputs()[1]];
    (graph, outputs)
}

/// Fails unless every loss, and theta at the end, is the truth's to 1e-4.
#[track_caller]
fn reproduces(name: &str, optimizer: &dyn Optimizer, clip: Option<Clip>) {
    reproduces_of(name, optimizer, clip, &[&[START.len()]]);
}

/// The same of params of these shapes.
#[track_caller]
fn reproduces_of(name: &str, optimizer: &dyn Optimizer, clip: Option<Clip>, shapes: &[&[usize]]) {
    let text = std::fs::read_to_string(data("truth").join("optimizers/steps.txt")).expect("the truth");
    let line = text.lines().find_map(|l| l.strip_prefix(name)?.strip_prefix(' ')).expect(name);
    let want: Vec<f64> = line.split_whitespace().map(|w| w.parse().expect("a number")).collect();
    let (mut graph, [loss, grad]) = parabola();
    let param = |dims: &&[usize]| {
        let (name, dims, init, group) = (format!("p{dims:?}"), dims.to_vec(), Init::Zeros, Group::Adapter);
        Param { value: ValueId(0), name, dims, init, group, decay: true }
    };
    let packed = Packed { theta: graph.find("theta").expect("there"), grad: Some(grad) };
    let spec = UpdateSpec { clip, groups: Groups::default(), ..UpdateSpec::of(optimizer) };
    let layout = Layout::of(&shapes.iter().map(param).collect::<Vec<_>>());
    let update = optimize(&mut graph, &packed, &layout, StepLoss::Whole(loss), &spec, &[]).expect("writes");
    let loss = graph.name_of(loss);
    for engine in engines() {
        let first = |s: &StateSlot| match s.input.as_str() {
            "theta" => Tensor::vector(&START),
            _ => Tensor::vector(&vec![0.0f32; s.len]),
        };
        let state = update.slots.iter().map(|s| (s.input.as_str(), s.output.as_str(), first(s))).collect();
        let mut program = compile_graph(engine.as_ref(), &graph, state).expect("compiles");
        let mut got = Vec::new();
        for step in 0..STEPS {
            let lr = optimizer.lr() * (1.0 - step as f64 / 40.0);
            let target: Vec<f32> =
                (0..START.len()).map(|i| (2.0 * (0.7 * step as f64 + i as f64).sin()) as f32).collect();
            let mut feeds = vec![("target", Tensor::vector(&target))];
            let scalars = update.scalars.iter();
            feeds.extend(scalars.map(|s| (s.input.as_str(), Tensor::scalar(s.value.at(step as u64, lr, true) as f32))));
            let feeds: Vec<(&str, &Tensor)> = feeds.iter().map(|(name, t)| (*name, t)).collect();
            let out = program.run(&feeds, &[&loss]).expect("runs");
            got.extend(out[0].to_f64().expect("a number"));
        }
        got.extend(program.state("theta").expect("theta").to_f64().expect("numbers"));
        assert_eq!(got.len(), want.len(), "{name}");
        for (i, (got, want)) in got.iter().zip(&want).enumerate() {
            let who = format!("{name} on {}, number {i}", engine.name());
            assert!((got - want).abs() <= 1e-4 * want.abs().max(1.0), "{who}: {got}, expected {want}");
        }
    }
}

const ADAM: Adam = Adam { lr: 0.05, weight_decay: 0.0, beta1: 0.8, beta2: 0.95, eps: 1e-6 };
const ADAMW: AdamW = AdamW { lr: 0.05, weight_decay: 0.1, beta1: 0.8, beta2: 0.95, eps: 1e-6 };
const SGD: Sgd = Sgd { lr: 0.1, momentum: 0.0, nesterov: false, weight_decay: 0.0 };

#[test]
fn adafactor() {
    reproduces_of("adafactor", &Adafactor { lr: 0.1, ..Adafactor::default() }, None, &[&[2, 3]]);
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
    reproduces_of("adafactor_scaled", &scaled, Some(Clip::Norm(1.0)), &[&[2], &[2, 2]]);
}

#[test]
fn adam_with_and_without_decay() {
    reproduces("adamw", &ADAMW, None);
    reproduces("adam", &ADAM, None);
    reproduces("adam_decay", &Adam { weight_decay: 0.1, ..ADAM }, None);
}

#[test]
fn gradient_descent() {
    let momentum = Sgd { momentum: 0.7, weight_decay: 0.1, ..SGD };
    reproduces("sgd", &SGD, None);
    reproduces("sgd_momentum", &momentum, None);
    reproduces("sgd_nesterov", &Sgd { nesterov: true, ..momentum }, None);
}

#[test]
fn lion() {
    reproduces("lion", &Lion { lr: 0.05, weight_decay: 0.1, beta1: 0.8, beta2: 0.95 }, None);
}

#[test]
fn clipping() {
    reproduces("clip_norm", &ADAMW, Some(Clip::Norm(1.0)));
    reproduces("clip_value", &SGD, Some(Clip::Value(0.5)));
}
