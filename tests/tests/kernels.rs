//! The operator table against engines: every operator's case forward, every rule's gradient, and every lowering against
//! the kernel of the operator that it stands for.

use lorac::ops::{Case, Grad, Op};
use lorac::passes::lower;
use lorac_tests::table::{Job, bench, cases, compute, forward, gradient, run};
use lorac_tests::{ONNXRUNTIME, engines, onnxruntime};

/// What an engine does not run or runs otherwise: operator, engine, part, what it says then, and for how many
/// cases. A case that fails in another way, or one more of them, is wrong.
const GAPS: &[(&str, &str, Part, &str, usize)] = &[
    // Kernels for GPUs only.
    ("BiasAdd", ORT, Part::Forward, NO_KERNEL, 1),
    ("BiasDropout", ORT, Part::Forward, NO_KERNEL, 2),
    ("BiasSoftmax", ORT, Part::Forward, NO_KERNEL, 2),
    ("BiasSplitGelu", ORT, Part::Forward, NO_KERNEL, 1),
    ("GemmFastGelu", ORT, Part::Forward, NO_KERNEL, 1),
    ("GroupNorm", ORT, Part::Forward, NO_KERNEL, 2),
    ("NhwcConv", ORT, Part::Forward, NO_KERNEL, 1),
    ("NhwcFusedConv", ORT, Part::Forward, NO_KERNEL, 1),
    ("SkipGroupNorm", ORT, Part::Forward, NO_KERNEL, 2),
    // Operators of models that tract does not run; their gradients it does, where they do not use them.
    ("AffineGrid", TRACT, Part::Forward, NOT_IN_TRACT, 2),
    ("CenterCropPad", TRACT, Part::Forward, NOT_IN_TRACT, 2),
    ("Col2Im", TRACT, Part::Forward, NOT_IN_TRACT, 3),
    ("Det", TRACT, Part::Forward, NOT_IN_TRACT, 4),
    ("LpPool", TRACT, Part::Forward, NOT_IN_TRACT, 3),
    ("MaxUnpool", TRACT, Part::Forward, NOT_IN_TRACT, 2),
    ("ReverseSequence", TRACT, Part::Forward, NOT_IN_TRACT, 2),
    ("CenterCropPad", TRACT, Part::Gradient, NOT_IN_TRACT, 2),
    ("Det", TRACT, Part::Gradient, NOT_IN_TRACT, 4),
    ("ReverseSequence", TRACT, Part::Gradient, NOT_IN_TRACT, 2),
    ("Inverse", TRACT, Part::Gradient, NOT_IN_TRACT, 2),
    ("AffineGrid", TRACT, Part::Gradient, NOT_IN_TRACT, 2),
    ("Col2Im", TRACT, Part::Gradient, NOT_IN_TRACT, 3),
    ("LpPool", TRACT, Part::Gradient, NOT_IN_TRACT, 3),
    ("MaxUnpool", TRACT, Part::Gradient, NOT_IN_TRACT, 2),
    ("DequantizeLinear", TRACT, Part::Gradient, "blocked quantization is not supported", 1),
    ("Pad", TRACT, Part::Gradient, "Unsupported mode wrap", 1),
    ("ScatterND", TRACT, Part::Gradient, NEGATIVE_INDEX, 1),
    // Forms of operators that tract does not run, or runs otherwise.
    ("Compress", TRACT, Part::Forward, "can not be typed", 3),
    ("DFT", TRACT, Part::Forward, "Output mismatch", 2),
    ("DequantizeLinear", TRACT, Part::Forward, "y_scale must be a const", 3),
    ("DequantizeLinear", TRACT, Part::Forward, "blocked quantization is not supported", 1),
    ("Einsum", TRACT, Part::Forward, "Impossible to unify", 2),
    ("Einsum", TRACT, Part::Forward, "y0 has shape [2, 3], expected []", 1),
    ("Einsum", TRACT, Part::Gradient, "Impossible to unify", 2),
    ("Gather", TRACT, Part::Gradient, NEGATIVE_INDEX, 2),
    ("GatherND", TRACT, Part::Forward, NEGATIVE_INDEX, 2),
    ("GatherND", TRACT, Part::Gradient, NEGATIVE_INDEX, 2),
    ("MatMul", TRACT, Part::Forward, "a_rank > 1 || b_rank > 1", 1),
    ("OneHot", TRACT, Part::Forward, "Expected dim and value to be determined", 2),
    ("OneHot", TRACT, Part::Gradient, "index out of bounds", 1),
    ("Pad", TRACT, Part::Forward, "Pad constant input must be constant", 1),
    ("Pad", TRACT, Part::Forward, "could not broadcast array", 1),
    ("Pad", TRACT, Part::Forward, "y0 has 0.5", 1),
    ("Pad", TRACT, Part::Forward, "Unsupported mode wrap", 1),
    ("Pad", TRACT, Part::Gradient, "could not broadcast array", 2),
    ("ReduceSum", TRACT, Part::Forward, "Wrong input number", 1),
    ("ReduceSum", TRACT, Part::Gradient, "Wrong input number", 1),
    ("ScatterND", TRACT, Part::Forward, NEGATIVE_INDEX, 1),
    // Forms that ONNX Runtime's processor kernels refuse or compute otherwise.
    ("DFT", ORT, Part::Forward, "y0 has -0.2027", 1),
    ("LSTM", ORT, Part::Forward, "Batchwise recurrent operations", 1),
];

// How the names of engines begin.
const ORT: &str = "onnxruntime";
const TRACT: &str = "tract";

const NO_KERNEL: &str = "Could not find an implementation";
const NOT_IN_TRACT: &str = "operators without an implementation";
const NEGATIVE_INDEX: &str = "index < dim";

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Part {
    Forward,
    Gradient,
}

/// The gap that explains a failure on the engine called `engine`.
fn gap(op: &Op, engine: &str, part: Part, why: &str) -> Option<usize> {
    let here = |g: &(&str, &str, Part, &str, usize)| (g.0, g.2) == (op.name, part) && engine.starts_with(g.1);
    GAPS.iter().position(|g| here(g) && why.contains(g.3))
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
            // Without fused operators an engine runs training copies: the standard's operators, and those only that are
            // not decomposed.
            let decomposed = matches!(op.grad, Grad::Lower { .. }) || !op.domain.is_empty();
            if !engine.dialect().fused && part == Part::Forward && decomposed {
                continue;
            }
            checked += 1;
            let Err(why) = run(engine.as_ref(), &job) else { continue };
            match gap(op, &engine.name(), part, &why) {
                Some(gap) => gaps.push(gap),
                None => wrong.push(format!("{} {}: {case:?}: {why}", engine.name(), op.name)),
            }
        }
    }
    println!("{part:?}: {checked} checked, {} wrong", wrong.len());
    assert!(wrong.is_empty(), "{} of {checked} wrong:\n{}", wrong.len(), wrong.join("\n"));
    let counted = |i: usize| gaps.iter().filter(|g| **g == i).count();
    let moved: Vec<String> = GAPS
        .iter()
        .enumerate()
        .filter(|(i, g)| g.2 == part && counted(*i) != g.4)
        .map(|(i, g)| format!("{g:?}: {} cases", counted(i)))
        .collect();
    assert!(moved.is_empty(), "gaps that are others now:\n{}", moved.join("\n"));
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
    let onnxruntime = onnxruntime(ONNXRUNTIME);
    let (mut wrong, mut checked) = (Vec::new(), 0);
    for (op, case) in cases().filter(|(op, _)| matches!(op.grad, Grad::Lower { .. })) {
        checked += 1;
        let against = || -> Result<(), String> {
            let bench = bench(op, case)?;
            let whole = compute(onnxruntime.as_ref(), &bench.graph, &bench.inputs);
            let mut graph = bench.graph.clone();
            lower(&mut graph).map_err(|e| e.to_string())?;
            let want = match whole {
                Ok(whole) => whole.into_iter().map(|w| w.1).collect(),
                // Without a kernel the reference has to do.
                Err(why) if gap(op, &onnxruntime.name(), Part::Forward, &why).is_some() => forward(op, case)?.want,
                Err(why) => return Err(why),
            };
            run(onnxruntime.as_ref(), &Job { graph, inputs: bench.inputs, want })
        };
        if let Err(why) = against() {
            wrong.push(format!("{}: {case:?}: {why}", op.name));
        }
    }
    assert!(wrong.is_empty(), "{} of {checked} wrong:\n{}", wrong.len(), wrong.join("\n"));
    assert!(checked > 140, "only {checked}");
}
