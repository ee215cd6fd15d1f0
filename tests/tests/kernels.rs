//! The operator table against engines: every operator's case forward, every rule's gradient, and every lowering against
//! the kernel of the operator that it stands for.

use lorac::ir::{DType, Graph, Tensor, ValueId};
use lorac::ops::{
    Array, Bench, Case, Emit, Grad, Op, Random, TABLE, Val, apply_rule, array, evaluate, infer, named, tensor,
};
use lorac::passes::lower;
use lorac::program::program;
use lorac::runtime::{Backend, Provider};
use lorac_tests::engines;

/// Largest difference between f32 on an engine and f64 in the reference, relative to the largest value, and absolute.
const TOLERANCE: f64 = 2e-5;

/// What an engine does not run or runs otherwise: operator, engine, part, and what it says then. A case that fails in
/// another way is wrong.
const GAPS: &[(&str, Provider, Part, &str)] = &[
    // Kernels for GPUs only.
    ("BiasAdd", Provider::Cpu, Part::Forward, NO_KERNEL),
    ("BiasDropout", Provider::Cpu, Part::Forward, NO_KERNEL),
    ("BiasSoftmax", Provider::Cpu, Part::Forward, NO_KERNEL),
    ("BiasSplitGelu", Provider::Cpu, Part::Forward, NO_KERNEL),
    ("GemmFastGelu", Provider::Cpu, Part::Forward, NO_KERNEL),
    ("GroupNorm", Provider::Cpu, Part::Forward, NO_KERNEL),
    ("NhwcConv", Provider::Cpu, Part::Forward, NO_KERNEL),
    ("NhwcFusedConv", Provider::Cpu, Part::Forward, NO_KERNEL),
    ("SkipGroupNorm", Provider::Cpu, Part::Forward, NO_KERNEL),
    // Operators of models that tract does not run; their gradients it does, where they do not use them.
    ("AffineGrid", Provider::Tract, Part::Forward, NOT_IN_TRACT),
    ("CenterCropPad", Provider::Tract, Part::Forward, NOT_IN_TRACT),
    ("Col2Im", Provider::Tract, Part::Forward, NOT_IN_TRACT),
    ("Det", Provider::Tract, Part::Forward, NOT_IN_TRACT),
    ("LpPool", Provider::Tract, Part::Forward, NOT_IN_TRACT),
    ("MaxUnpool", Provider::Tract, Part::Forward, NOT_IN_TRACT),
    ("ReverseSequence", Provider::Tract, Part::Forward, NOT_IN_TRACT),
    ("CenterCropPad", Provider::Tract, Part::Gradient, NOT_IN_TRACT),
    ("Det", Provider::Tract, Part::Gradient, NOT_IN_TRACT),
    ("ReverseSequence", Provider::Tract, Part::Gradient, NOT_IN_TRACT),
    ("Inverse", Provider::Tract, Part::Gradient, NOT_IN_TRACT),
    // Forms of operators that tract does not run, or runs otherwise.
    ("Compress", Provider::Tract, Part::Forward, "can not be typed"),
    ("DFT", Provider::Tract, Part::Forward, "Output mismatch"),
    ("DequantizeLinear", Provider::Tract, Part::Forward, "y_scale must be a const"),
    ("DequantizeLinear", Provider::Tract, Part::Forward, "blocked quantization is not supported"),
    ("Einsum", Provider::Tract, Part::Forward, "Impossible to unify"),
    ("Einsum", Provider::Tract, Part::Forward, "y0 has shape [2, 3], wanted []"),
    ("Einsum", Provider::Tract, Part::Gradient, "Impossible to unify"),
    ("Gather", Provider::Tract, Part::Gradient, NEGATIVE_INDEX),
    ("GatherND", Provider::Tract, Part::Forward, NEGATIVE_INDEX),
    ("GatherND", Provider::Tract, Part::Gradient, NEGATIVE_INDEX),
    ("MatMul", Provider::Tract, Part::Forward, "a_rank > 1 || b_rank > 1"),
    ("OneHot", Provider::Tract, Part::Forward, "Expected dim and value to be determined"),
    ("OneHot", Provider::Tract, Part::Gradient, "index out of bounds"),
    ("Pad", Provider::Tract, Part::Forward, "Pad constant input must be constant"),
    ("Pad", Provider::Tract, Part::Forward, "could not broadcast array"),
    ("Pad", Provider::Tract, Part::Forward, "Unsupported mode wrap"),
    ("Pad", Provider::Tract, Part::Gradient, "could not broadcast array"),
    ("ReduceSum", Provider::Tract, Part::Forward, "Wrong input number"),
    ("ReduceSum", Provider::Tract, Part::Gradient, "Wrong input number"),
    ("ScatterND", Provider::Tract, Part::Forward, NEGATIVE_INDEX),
    // Forms that ONNX Runtime's processor kernels refuse or compute otherwise.
    ("DFT", Provider::Cpu, Part::Forward, "y0 has -0.2027"),
    ("LSTM", Provider::Cpu, Part::Forward, "Batchwise recurrent operations"),
];

const NO_KERNEL: &str = "Could not find an implementation";
const NOT_IN_TRACT: &str = "operators without an implementation";
const NEGATIVE_INDEX: &str = "index < dim";

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Part {
    Forward,
    Gradient,
}

/// A graph of f32 with its data and what it should compute.
struct Job {
    graph: Graph,
    inputs: Vec<(String, Array)>,
    want: Vec<Array>,
}

fn cases() -> impl Iterator<Item = (&'static Op, &'static Case)> {
    let ops = TABLE.iter().flat_map(|family| family.iter());
    ops.flat_map(|op| op.grad.cases().iter().map(move |c| (op, c)))
}

fn bench(op: &Op, case: &Case) -> Result<Bench, String> {
    let mut bench = Bench::new(op, case, DType::F32, false, &mut Random(11)).map_err(|e| e.to_string())?;
    // What the engine is fed is rounded to f32: the reference must start from the same numbers.
    for (_, data) in &mut bench.inputs {
        data.mapv_inplace(|x| f64::from(x as f32));
    }
    infer(&mut bench.graph).map_err(|e| e.to_string())?;
    Ok(bench)
}

fn forward(op: &Op, case: &Case) -> Result<Job, String> {
    let bench = bench(op, case)?;
    let want = evaluate(&bench.graph, &bench.named()).map_err(|e| e.to_string())?;
    Ok(Job { graph: bench.graph, inputs: bench.inputs, want })
}

/// The gradient that the rule, or the lowering's rules, give for random gradients of the results.
fn gradient(op: &Op, case: &Case) -> Result<Option<Job>, String> {
    let Bench { mut graph, mut inputs, trained } = bench(op, case)?;
    if trained.is_empty() {
        return Ok(None);
    }
    let taken = match op.grad {
        Grad::Rule { outputs, .. } => outputs,
        _ => return Ok(None),
    };
    let ys = evaluate(&graph, &named(&inputs)).map_err(|e| e.to_string())?;
    let contents = infer(&mut graph).map_err(|e| e.to_string())?;
    let (_, node) = graph.nodes().next().ok_or("no node")?;
    let emit = Emit::new(&graph, &contents, "test");
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
fn compute(engine: &dyn Backend, graph: &Graph, inputs: &[(String, Array)]) -> Result<Vec<(String, Array)>, String> {
    let mut program = program(engine, graph, Vec::new()).map_err(|e| e.to_string())?;
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

fn run(engine: &dyn Backend, job: &Job) -> Result<(), String> {
    for ((name, got), want) in compute(engine, &job.graph, &job.inputs)?.iter().zip(&job.want) {
        if got.shape() != want.shape() {
            return Err(format!("{name} has shape {:?}, wanted {:?}", got.shape(), want.shape()));
        }
        let scale = want.iter().filter(|x| x.is_finite()).fold(1.0f64, |m, x| m.max(x.abs()));
        let near = |a: f64, b: f64| a == b || (a.is_nan() && b.is_nan()) || (a - b).abs() <= TOLERANCE * scale;
        if let Some((a, b)) = got.iter().zip(want).find(|(a, b)| !near(**a, **b)) {
            return Err(format!("{name} has {a}, wanted {b}"));
        }
    }
    Ok(())
}

/// The gap that explains a failure.
fn gap(op: &Op, provider: Provider, part: Part, why: &str) -> Option<usize> {
    GAPS.iter().position(|g| (g.0, g.1, g.2) == (op.name, provider, part) && why.contains(g.3))
}

/// Runs a part of every case on every engine that is meant to have it.
fn check(part: Part, job: impl Fn(&'static Op, &'static Case) -> Result<Option<Job>, String>) {
    let engines = engines();
    let (mut wrong, mut checked, mut gaps) = (Vec::new(), 0, Vec::new());
    for (op, case) in cases() {
        let job = match job(op, case) {
            Ok(Some(job)) => job,
            Ok(None) => continue,
            Err(why) => {
                wrong.push(format!("{}: {case:?}: {why}", op.name));
                continue;
            }
        };
        for engine in &engines {
            let provider = engine.provider();
            // tract runs training copies: the standard's operators, and those only that are not taken apart.
            let taken_apart = matches!(op.grad, Grad::Lower { .. }) || !op.domain.is_empty();
            if provider == Provider::Tract && part == Part::Forward && taken_apart {
                continue;
            }
            checked += 1;
            let Err(why) = run(engine.as_ref(), &job) else { continue };
            match gap(op, provider, part, &why) {
                Some(gap) => gaps.push(gap),
                None => wrong.push(format!("{provider:?} {}: {case:?}: {why}", op.name)),
            }
        }
    }
    println!("{part:?}: {checked} checked, {} wrong", wrong.len());
    assert!(wrong.is_empty(), "{} of {checked} wrong:\n{}", wrong.len(), wrong.join("\n"));
    for (i, gap) in GAPS.iter().enumerate().filter(|(_, g)| g.2 == part) {
        assert!(gaps.contains(&i), "{gap:?} is no gap any more");
    }
    assert!(checked > 200, "only {checked}");
}

#[test]
fn engines_compute_every_case() {
    check(Part::Forward, |op, case| forward(op, case).map(Some));
}

#[test]
fn engines_compute_every_gradient() {
    check(Part::Gradient, gradient);
}

/// The lowering on ONNX Runtime against ONNX Runtime's own kernel.
#[test]
fn every_lowering_computes_what_the_kernel_does() {
    let engines = engines();
    let onnxruntime = engines.iter().find(|e| e.provider() != Provider::Tract).expect("ONNX Runtime");
    let (mut wrong, mut checked) = (Vec::new(), 0);
    for (op, case) in cases().filter(|(op, _)| matches!(op.grad, Grad::Lower { .. })) {
        checked += 1;
        let against = || -> Result<(), String> {
            let bench = bench(op, case)?;
            let whole = compute(onnxruntime.as_ref(), &bench.graph, &bench.inputs)?;
            let mut graph = bench.graph.clone();
            lower(&mut graph).map_err(|e| e.to_string())?;
            let want = whole.into_iter().map(|w| w.1).collect();
            run(onnxruntime.as_ref(), &Job { graph, inputs: bench.inputs, want })
        };
        if let Err(why) = against()
            && gap(op, onnxruntime.provider(), Part::Forward, &why).is_none()
        {
            wrong.push(format!("{}: {case:?}: {why}", op.name));
        }
    }
    assert!(wrong.is_empty(), "{} of {checked} wrong:\n{}", wrong.len(), wrong.join("\n"));
    assert!(checked > 3, "only {checked}");
}
