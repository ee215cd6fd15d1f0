//! The operator table as jobs for an engine: graphs of f32 with data and what they should compute.

use lorac::ir::{DType, Graph, Tensor, ValueId};
use lorac::ops::{
    Array, Bench, Case, Emit, Grad, Op, Random, TABLE, Val, apply_rule, array, evaluate, infer, named, tensor,
};
use lorac::passes::{fold_constants, lower, remove_dead, upgrade};
use lorac::runtime::Backend;
use lorac::train::compile_graph;

/// Largest difference between f32 on an engine and f64 in the reference, relative to the largest value, and absolute.
const TOLERANCE: f64 = 2e-5;

/// A graph of f32 with its data and what it should compute.
pub struct Job {
    /// The graph.
    pub graph: Graph,
    /// What it is fed.
    pub inputs: Vec<(String, Array)>,
    /// Its outputs.
    pub want: Vec<Array>,
}

/// Every case of every operator of the table.
pub fn cases() -> impl Iterator<Item = (&'static Op, &'static Case)> {
    let ops = TABLE.iter().flat_map(|family| family.iter());
    ops.flat_map(|op| op.grad.cases().iter().map(move |c| (op, c)))
}

/// The case as a graph with data.
///
/// # Errors
/// A case that does not fit its operator.
pub fn bench(op: &Op, case: &Case) -> Result<Bench, String> {
    let mut bench = Bench::new(op, case, DType::F32, false, &mut Random(11)).map_err(|e| e.to_string())?;
    // What the engine is fed is rounded to f32: the reference must start from the same numbers.
    for (_, data) in &mut bench.inputs {
        data.mapv_inplace(|x| f64::from(x as f32));
    }
    infer(&mut bench.graph).map_err(|e| e.to_string())?;
    Ok(bench)
}

/// The operator alone.
///
/// # Errors
/// What stops it.
pub fn forward(op: &Op, case: &Case) -> Result<Job, String> {
    let bench = bench(op, case)?;
    let want = evaluate(&bench.graph, &bench.named()).map_err(|e| e.to_string())?;
    Ok(Job { graph: bench.graph, inputs: bench.inputs, want })
}

/// The gradient that the rule gives for random gradients of the results; `None` for operators without a rule.
///
/// # Errors
/// What stops it.
pub fn gradient(op: &Op, case: &Case) -> Result<Option<Job>, String> {
    let Bench { mut graph, mut inputs, trained } = bench(op, case)?;
    if trained.is_empty() {
        return Ok(None);
    }
    let taken = match op.grad {
        Grad::Rule { outputs, .. } => outputs,
        _ => return Ok(None),
    };
    let ys = evaluate(&graph, &named(&inputs)).map_err(|e| e.to_string())?;
    let shape_data = infer(&mut graph).map_err(|e| e.to_string())?;
    let (_, node) = graph.nodes().next().ok_or("no node")?;
    let emit = Emit::new(&graph, &shape_data, "test");
    let mut random = Random(23);
    let mut gys: Vec<Option<Val>> = Vec::new();
    for (i, (y, data)) in node.outputs.iter().zip(&ys).enumerate() {
        let fact = graph.fact(*y);
        if i >= taken || !fact.dtype.is_float() {
            gys.push(None);
            continue;
        }
        let name = format!("gy{i}");
        gys.push(Some(emit.input(&name, fact)));
        inputs.push((name, random.array(data.shape(), -1.0, 1.0).mapv(|x| f64::from(x as f32))));
    }
    let wants = (0..node.inputs.len()).map(|slot| trained.iter().any(|(s, _)| *s == slot)).collect();
    let grads = apply_rule(&emit, node, gys, wants).ok_or("no rule")?;
    // A gradient may be what was fed, or one value for two operands.
    let copy = |g: Val| emit.op("Identity", &[emit.val(g.id())], &[]).id();
    let outputs: Vec<ValueId> = trained.iter().filter_map(|(slot, _)| grads[*slot].map(copy)).collect();
    if outputs.is_empty() {
        return Ok(None);
    }
    let mut patch = emit.finish().map_err(|e| e.to_string())?;
    patch.set_outputs(outputs);
    patch.apply(&mut graph).map_err(|e| e.to_string())?;
    infer(&mut graph).map_err(|e| e.to_string())?;
    let want = evaluate(&graph, &named(&inputs)).map_err(|e| e.to_string())?;
    Ok(Some(Job { graph, inputs, want }))
}

/// What the engine computes.
///
/// # Errors
/// What the engine says.
pub fn compute(
    engine: &dyn Backend,
    graph: &Graph,
    inputs: &[(String, Array)],
) -> Result<Vec<(String, Array)>, String> {
    let mut program = compile_graph(engine, graph, Vec::new()).map_err(|e| e.to_string())?;
    let typed = |name: &str, a: &Array| {
        let dtype = graph.fact(graph.find(name)?).dtype;
        tensor(dtype, a)
    };
    let feeds: Vec<(&str, Tensor)> = inputs.iter().filter_map(|(n, a)| Some((n.as_str(), typed(n, a)?))).collect();
    let feeds: Vec<(&str, &Tensor)> = feeds.iter().map(|(n, t)| (*n, t)).collect();
    let names: Vec<String> = graph.outputs().iter().map(|v| graph.name_of(*v)).collect();
    let fetch: Vec<&str> = names.iter().map(String::as_str).collect();
    let got = program.run(&feeds, &fetch).map_err(|e| e.to_string())?;
    let arrays: Option<Vec<Array>> = got.iter().map(array).collect();
    Ok(names.into_iter().zip(arrays.ok_or("no numbers")?).collect())
}

/// Whether the engine computes what it should.
///
/// # Errors
/// What it says, or the first number that differs.
pub fn run(engine: &dyn Backend, job: &Job) -> Result<(), String> {
    for ((name, got), want) in compute(engine, &job.graph, &job.inputs)?.iter().zip(&job.want) {
        if got.shape() != want.shape() {
            return Err(format!("{name} has shape {:?}, expected {:?}", got.shape(), want.shape()));
        }
        let scale = want.iter().filter(|x| x.is_finite()).fold(1.0f64, |m, x| m.max(x.abs()));
        let near = |a: f64, b: f64| a == b || (a.is_nan() && b.is_nan()) || (a - b).abs() <= TOLERANCE * scale;
        if let Some((a, b)) = got.iter().zip(want).find(|(a, b)| !near(**a, **b)) {
            return Err(format!("{name} has {a}, expected {b}"));
        }
    }
    Ok(())
}

/// What lorac writes into a training graph for a case, at an opset that `newest` allows: the gradient of a rule, or what
/// a lowering makes of its operator. `None` where nothing is written, or the case is of a newer opset.
///
/// # Errors
/// What stops it.
pub fn written(op: &Op, case: &Case, newest: i64) -> Result<Option<Job>, String> {
    if case.opset > newest {
        return Ok(None);
    }
    match op.grad {
        Grad::Rule { .. } => {
            let Some(mut job) = gradient(op, case)? else { return Ok(None) };
            remove_dead(&mut job.graph).map_err(|e| e.to_string())?;
            Ok(Some(job))
        }
        Grad::Lower { .. } => {
            let Job { mut graph, inputs, want } = forward(op, case)?;
            upgrade(&mut graph).map_err(|e| e.to_string())?;
            lower(&mut graph).map_err(|e| e.to_string())?;
            fold_constants(&mut graph, &[]).map_err(|e| e.to_string())?;
            remove_dead(&mut graph).map_err(|e| e.to_string())?;
            Ok(Some(Job { graph, inputs, want }))
        }
        _ => Ok(None),
    }
}

/// What came of [`run_written`].
#[derive(Debug, Default)]
pub struct Written {
    /// Cases that ran.
    pub ran: usize,
    /// Operators of cases that the engine does not run, or not rightly, in the user's own model either.
    pub not_there: Vec<&'static str>,
    /// What went wrong in what lorac wrote.
    pub wrong: Vec<String>,
}

/// Runs what lorac writes for every case on an engine whose newest opset this is.
pub fn run_written(engine: &dyn Backend, newest: i64) -> Written {
    let mut all = Written::default();
    for (op, case) in cases() {
        let result = written(op, case, newest).and_then(|job| job.map(|job| run(engine, &job)).transpose());
        match result {
            Ok(None) => {}
            Ok(Some(())) => all.ran += 1,
            Err(_) if forward(op, case).is_ok_and(|job| run(engine, &job).is_err()) => all.not_there.push(op.name),
            Err(why) => all.wrong.push(format!("{}: {case:?}: {why}", op.name)),
        }
    }
    all
}
