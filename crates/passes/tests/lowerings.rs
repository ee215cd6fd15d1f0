//! The gradient of every lowering, as `lower` and `differentiate` make it, against central finite differences of the
//! operator's own evaluation in f64.

use lorac_ir::{DType, Graph, ValueId};
use lorac_ops::{Array, Bench, Case, Emit, Grad, Op, Random, TABLE, Val, evaluate, infer, named, tensor};
use lorac_passes::{differentiate, lower};
use std::collections::{BTreeMap, BTreeSet};

const TOLERANCE: f64 = 1e-6;
const STEP: f64 = 1e-5;

/// The sum of all real results, each element times a number; what is masked to something huge is left out.
fn objective(graph: &mut Graph, ys: &[Array], random: &mut Random) -> Result<ValueId, String> {
    let shape_data = infer(graph).map_err(|e| e.to_string())?;
    let emit = Emit::new(graph, &shape_data, "test");
    let mut loss: Option<Val> = None;
    for (id, y) in graph.outputs().iter().zip(ys).filter(|(id, _)| graph.fact(**id).dtype.is_float()) {
        let mut weights = random.array(y.shape(), -1.0, 1.0);
        weights.zip_mut_with(y, |w, y| *w = if y.abs() < 1e20 { *w } else { 0.0 });
        let weights = emit.weight("", tensor(DType::F64, &weights).ok_or("no tensor")?);
        let sum = emit.op("ReduceSum", &[emit.val(*id) * weights], &[("keepdims", 0i64.into())]);
        loss = Some(loss.map_or(sum, |l| l + sum));
    }
    let loss = loss.ok_or("no real result")?.id();
    let mut patch = emit.finish().map_err(|e| e.to_string())?;
    patch.set_outputs(vec![loss]);
    patch.apply(graph).map_err(|e| e.to_string())?;
    infer(graph).map_err(|e| e.to_string())?;
    graph.outputs().first().copied().ok_or("no loss".into())
}

/// What is unrolled or laid out when it is written: it needs numbers where a shape has names.
const UNROLLED: [&str; 4] = ["DeformConv", "GRU", "LSTM", "RNN"];

/// Elements that lie at a jump, of all cases, with known shapes and with named ones: a row of zeros has no direction.
const JUMPS: [(&str, usize); 1] = [("LpNormalization", 4)];

/// How many elements were compared, how many lie at a jump, and whether nothing was because the shape has names.
#[derive(Default)]
struct Checked {
    compared: usize,
    jumps: usize,
    needs_numbers: bool,
}

fn check(op: &Op, case: &Case, symbolic: bool) -> Result<Checked, String> {
    let mut random = Random(29);
    let mut bench = Bench::new(op, case, DType::F64, symbolic, &mut random).map_err(|e| e.to_string())?;
    infer(&mut bench.graph).map_err(|e| e.to_string())?;
    let ys = evaluate(&bench.graph, &named(&bench.inputs)).map_err(|e| e.to_string())?;
    if bench.graph.outputs().iter().all(|y| !bench.graph.fact(*y).dtype.is_float()) {
        return Ok(Checked::default());
    }
    let mut whole = bench.graph.clone();
    let loss = objective(&mut whole, &ys, &mut random)?;
    let mut graph = whole.clone();
    let mut checked = Checked::default();
    lower(&mut graph).map_err(|e| e.to_string())?;
    let empty = |name: &str| bench.inputs.iter().any(|(n, x)| n == name && x.is_empty());
    bench.trained.retain(|(_, name)| !empty(name));
    let wrt: Vec<ValueId> = bench.trained.iter().filter_map(|(_, name)| graph.find(name)).collect();
    let loss = graph.find(&whole.name_of(loss)).ok_or("no loss")?;
    let grads = match differentiate(&mut graph, loss, &wrt).map_err(|e| e.to_string()) {
        Err(e) if symbolic && UNROLLED.contains(&op.name) && e.contains("known length") => {
            return Ok(Checked { needs_numbers: true, ..checked });
        }
        other => other?,
    };
    let shape_data = infer(&mut graph).map_err(|e| e.to_string())?;
    let emit = Emit::new(&graph, &shape_data, "test");
    // One gradient may serve two operands.
    let copies = grads.iter().map(|g| emit.op("Identity", &[emit.val(*g)], &[]).id()).collect();
    let mut patch = emit.finish().map_err(|e| e.to_string())?;
    patch.set_outputs(copies);
    patch.apply(&mut graph).map_err(|e| e.to_string())?;
    let grads = evaluate(&graph, &named(&bench.inputs)).map_err(|e| e.to_string())?;
    for ((slot, name), grad) in bench.trained.iter().zip(&grads) {
        let at = bench.inputs.iter().position(|(n, _)| n == name).ok_or("no input")?;
        if grad.shape() != bench.inputs[at].1.shape() {
            return Err(format!("gradient of x{slot} has shape {:?}", grad.shape()));
        }
        for (i, got) in grad.iter().enumerate() {
            let shifted = |by: f64| -> Result<f64, String> {
                let mut inputs = bench.inputs.clone();
                inputs[at].1.iter_mut().skip(i).take(1).for_each(|x| *x += by);
                let y = evaluate(&whole, &named(&inputs)).map_err(|e| e.to_string())?;
                y.first().and_then(|y| y.first().copied()).ok_or("no loss".into())
            };
            let slope = |step: f64| Ok::<f64, String>((shifted(step)? - shifted(-step)?) / (2.0 * step));
            let want = slope(STEP)?;
            let near = |a: f64, b: f64, by: f64| (a - b).abs() <= by * b.abs().max(1.0);
            // NaN is a failure; a jump, whose slope depends on the step, has no gradient.
            let smooth = || Ok::<bool, String>(!want.is_finite() || near(slope(STEP / 2.0)?, want, 0.01));
            match near(*got, want, TOLERANCE) {
                true => checked.compared += 1,
                false if smooth()? => {
                    return Err(format!("gradient of x{slot}[{i}] is {got}, differences say {want}"));
                }
                false => checked.jumps += 1,
            }
        }
    }
    Ok(checked)
}

#[test]
fn every_lowering_differentiates() {
    let (mut wrong, mut compared, mut jumps) = (Vec::new(), 0, BTreeMap::new());
    let mut need_numbers = BTreeSet::new();
    for op in TABLE.iter().flat_map(|family| family.iter()).filter(|op| matches!(op.grad, Grad::Lower { .. })) {
        for (case, symbolic) in op.grad.cases().iter().flat_map(|c| [(c, false), (c, true)]) {
            match check(op, case, symbolic) {
                Ok(checked) => {
                    compared += checked.compared;
                    *jumps.entry(op.name).or_insert(0) += checked.jumps;
                    need_numbers.extend(checked.needs_numbers.then_some(op.name));
                }
                Err(e) => wrong.push(format!("{} (symbolic: {symbolic}) {case:?}: {e}", op.name)),
            }
        }
    }
    jumps.retain(|_, count| *count > 0);
    println!("{compared} gradients compared, at jumps: {jumps:?}");
    assert!(wrong.is_empty(), "{} wrong:\n{}", wrong.len(), wrong.join("\n"));
    assert!(compared > 1000);
    assert_eq!(jumps, JUMPS.into());
    assert_eq!(need_numbers, UNROLLED.into());
}
