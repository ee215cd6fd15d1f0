//! The operator table against engines: every operator's case forward, every rule's gradient, and every lowering against
//! the kernel of the operator that it stands for.

use lorac::ops::{Case, Grad, Op};
use lorac::passes::lower;
use lorac::runtime::Provider;
use lorac_tests::engines;
use lorac_tests::table::{Job, bench, cases, compute, forward, gradient, run};

/// What an engine does not run or runs otherwise: operator, engine, part, what it says then, and for how many
/// cases. A case that fails in another way, or one more of them, is wrong.
const GAPS: &[(&str, Provider, Part, &str, usize)] = &[
    // Kernels for GPUs only.
    ("BiasAdd", Provider::Cpu, Part::Forward, NO_KERNEL, 1),
    ("BiasDropout", Provider::Cpu, Part::Forward, NO_KERNEL, 2),
    ("BiasSoftmax", Provider::Cpu, Part::Forward, NO_KERNEL, 2),
    ("BiasSplitGelu", Provider::Cpu, Part::Forward, NO_KERNEL, 1),
    ("GemmFastGelu", Provider::Cpu, Part::Forward, NO_KERNEL, 1),
    ("GroupNorm", Provider::Cpu, Part::Forward, NO_KERNEL, 2),
    ("NhwcConv", Provider::Cpu, Part::Forward, NO_KERNEL, 1),
    ("NhwcFusedConv", Provider::Cpu, Part::Forward, NO_KERNEL, 1),
    ("SkipGroupNorm", Provider::Cpu, Part::Forward, NO_KERNEL, 2),
    // Operators of models that tract does not run; their gradients it does, where they do not use them.
    ("AffineGrid", Provider::Tract, Part::Forward, NOT_IN_TRACT, 2),
    ("CenterCropPad", Provider::Tract, Part::Forward, NOT_IN_TRACT, 2),
    ("Col2Im", Provider::Tract, Part::Forward, NOT_IN_TRACT, 3),
    ("Det", Provider::Tract, Part::Forward, NOT_IN_TRACT, 4),
    ("LpPool", Provider::Tract, Part::Forward, NOT_IN_TRACT, 3),
    ("MaxUnpool", Provider::Tract, Part::Forward, NOT_IN_TRACT, 2),
    ("ReverseSequence", Provider::Tract, Part::Forward, NOT_IN_TRACT, 2),
    ("CenterCropPad", Provider::Tract, Part::Gradient, NOT_IN_TRACT, 2),
    ("Det", Provider::Tract, Part::Gradient, NOT_IN_TRACT, 4),
    ("ReverseSequence", Provider::Tract, Part::Gradient, NOT_IN_TRACT, 2),
    ("Inverse", Provider::Tract, Part::Gradient, NOT_IN_TRACT, 2),
    ("AffineGrid", Provider::Tract, Part::Gradient, NOT_IN_TRACT, 2),
    ("Col2Im", Provider::Tract, Part::Gradient, NOT_IN_TRACT, 3),
    ("LpPool", Provider::Tract, Part::Gradient, NOT_IN_TRACT, 3),
    ("MaxUnpool", Provider::Tract, Part::Gradient, NOT_IN_TRACT, 2),
    ("DequantizeLinear", Provider::Tract, Part::Gradient, "blocked quantization is not supported", 1),
    ("Pad", Provider::Tract, Part::Gradient, "Unsupported mode wrap", 1),
    ("ScatterND", Provider::Tract, Part::Gradient, NEGATIVE_INDEX, 1),
    // Forms of operators that tract does not run, or runs otherwise.
    ("Compress", Provider::Tract, Part::Forward, "can not be typed", 3),
    ("DFT", Provider::Tract, Part::Forward, "Output mismatch", 2),
    ("DequantizeLinear", Provider::Tract, Part::Forward, "y_scale must be a const", 3),
    ("DequantizeLinear", Provider::Tract, Part::Forward, "blocked quantization is not supported", 1),
    ("Einsum", Provider::Tract, Part::Forward, "Impossible to unify", 2),
    ("Einsum", Provider::Tract, Part::Forward, "y0 has shape [2, 3], wanted []", 1),
    ("Einsum", Provider::Tract, Part::Gradient, "Impossible to unify", 2),
    ("Gather", Provider::Tract, Part::Gradient, NEGATIVE_INDEX, 2),
    ("GatherND", Provider::Tract, Part::Forward, NEGATIVE_INDEX, 2),
    ("GatherND", Provider::Tract, Part::Gradient, NEGATIVE_INDEX, 2),
    ("MatMul", Provider::Tract, Part::Forward, "a_rank > 1 || b_rank > 1", 1),
    ("OneHot", Provider::Tract, Part::Forward, "Expected dim and value to be determined", 2),
    ("OneHot", Provider::Tract, Part::Gradient, "index out of bounds", 1),
    ("Pad", Provider::Tract, Part::Forward, "Pad constant input must be constant", 1),
    ("Pad", Provider::Tract, Part::Forward, "could not broadcast array", 1),
    ("Pad", Provider::Tract, Part::Forward, "y0 has 0.5", 1),
    ("Pad", Provider::Tract, Part::Forward, "Unsupported mode wrap", 1),
    ("Pad", Provider::Tract, Part::Gradient, "could not broadcast array", 2),
    ("ReduceSum", Provider::Tract, Part::Forward, "Wrong input number", 1),
    ("ReduceSum", Provider::Tract, Part::Gradient, "Wrong input number", 1),
    ("ScatterND", Provider::Tract, Part::Forward, NEGATIVE_INDEX, 1),
    // Forms that ONNX Runtime's processor kernels refuse or compute otherwise.
    ("DFT", Provider::Cpu, Part::Forward, "y0 has -0.2027", 1),
    ("LSTM", Provider::Cpu, Part::Forward, "Batchwise recurrent operations", 1),
];

const NO_KERNEL: &str = "Could not find an implementation";
const NOT_IN_TRACT: &str = "operators without an implementation";
const NEGATIVE_INDEX: &str = "index < dim";

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Part {
    Forward,
    Gradient,
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
    let engines = engines();
    let onnxruntime = engines.iter().find(|e| e.provider() != Provider::Tract).expect("ONNX Runtime");
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
                Err(why) if gap(op, onnxruntime.provider(), Part::Forward, &why).is_some() => forward(op, case)?.want,
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
