//! Every rule against central finite differences in f64, with a random cotangent; every lowering against the operator's
//! own evaluation. Each rule's case runs with known and with symbolic shapes.

use lorac_ir::{DType, Dim, verify};
use lorac_ops::{Array, Bench, Case, Emit, Grad, Op, Random, TABLE, Val, apply_rule, evaluate, infer, named};
use std::collections::{BTreeMap, HashSet};

const TOLERANCE: f64 = 1e-7;
const STEP: f64 = 1e-5;

/// Operators whose lowering is laid out by lengths that it must know as numbers.
const NEED_NUMBERS: &[&str] = &["DeformConv", "GRU", "LSTM", "RNN"];

fn every_case() -> impl Iterator<Item = (&'static Op, &'static Case, bool)> {
    let ops = TABLE.iter().flat_map(|family| family.iter());
    ops.flat_map(|op| op.grad.cases().iter().flat_map(move |c| [(op, c, false), (op, c, true)]))
}

/// The gradients that the rule gives, by input.
fn by_rule(bench: &Bench, cotangents: &[(String, Array)]) -> Result<Vec<Array>, String> {
    let mut graph = bench.graph.clone();
    let shape_data = infer(&mut graph).map_err(|e| e.to_string())?;
    let (_, node) = graph.nodes().next().ok_or("no node")?;
    let emit = Emit::new(&graph, &shape_data, "test");
    let gys: Vec<Option<Val>> = node
        .outputs
        .iter()
        .zip(cotangents)
        .map(|(y, (name, _))| graph.fact(*y).dtype.is_float().then(|| emit.input(name, graph.fact(*y))))
        .collect();
    let wants = (0..node.inputs.len()).map(|slot| bench.trained.iter().any(|(s, _)| *s == slot)).collect();
    let grads = apply_rule(&emit, node, gys, wants).ok_or("no rule")?;
    let mut outputs = Vec::new();
    for (slot, name) in &bench.trained {
        let grad = grads[*slot].unwrap_or_else(|| emit.val(graph.find(name).expect("input")).zeros_like());
        outputs.push(grad.id());
    }
    let mut patch = emit.finish().map_err(|e| e.to_string())?;
    patch.set_outputs(outputs);
    patch.apply(&mut graph).map_err(|e| e.to_string())?;
    if let Some(violation) = verify(&graph).first() {
        return Err(violation.to_string());
    }
    let inputs = [bench.inputs.as_slice(), cotangents].concat();
    evaluate(&graph, &named(&inputs)).map_err(|e| e.to_string())
}

/// The sum of cotangents times outputs.
fn objective(bench: &Bench, inputs: &[(String, Array)], cotangents: &[(String, Array)]) -> Result<f64, String> {
    let ys = evaluate(&bench.graph, &named(inputs)).map_err(|e| e.to_string())?;
    Ok(ys.iter().zip(cotangents).map(|(y, (_, g))| (y * g).sum()).sum())
}

fn check(op: &Op, case: &Case, symbolic: bool) -> Result<(), String> {
    let mut random = Random(17);
    let mut bench = Bench::new(op, case, DType::F64, symbolic, &mut random).map_err(|e| e.to_string())?;
    infer(&mut bench.graph).map_err(|e| e.to_string())?;
    let ys = evaluate(&bench.graph, &named(&bench.inputs)).map_err(|e| e.to_string())?;
    let taken = match op.grad {
        Grad::Rule { outputs, .. } => outputs,
        _ => 0,
    };
    let cotangents: Vec<(String, Array)> = ys
        .iter()
        .enumerate()
        .map(|(i, y)| {
            let scale = if i < taken { 1.0 } else { 0.0 };
            (format!("gy{i}"), random.array(y.shape(), -1.0, 1.0) * scale)
        })
        .collect();
    for (value, y) in bench.graph.outputs().iter().zip(&ys) {
        let fact = bench.graph.fact(*value);
        let fits = |d: &Dim, n: usize| d.eval(&|name| length(&bench, name)).is_none_or(|d| d == n as i64);
        let fits = |dims: &[Dim]| dims.len() == y.ndim() && dims.iter().zip(y.shape()).all(|(d, n)| fits(d, *n));
        if !fact.dims().is_none_or(fits) {
            return Err(format!("inferred {fact}, computed {:?}", y.shape()));
        }
    }
    let asked = cotangents.len().min(taken.max(1));
    let grads = by_rule(&bench, &cotangents[..asked])?;
    compare(&bench, &cotangents, &grads)
}

/// The number that a case has for a symbol of its shapes: `d1_0` is the first length of the second operand.
fn length(bench: &Bench, symbol: &str) -> Option<i64> {
    let (slot, axis) = symbol.strip_prefix('d')?.split_once('_')?;
    let (_, x) = bench.inputs.iter().find(|(name, _)| *name == format!("x{slot}"))?;
    Some(*x.shape().get(axis.parse::<usize>().ok()?)? as i64)
}

/// Gradients against central differences.
fn compare(bench: &Bench, cotangents: &[(String, Array)], grads: &[Array]) -> Result<(), String> {
    for ((slot, name), grad) in bench.trained.iter().zip(grads) {
        let at = bench.inputs.iter().position(|(n, _)| n == name).expect("input");
        if grad.shape() != bench.inputs[at].1.shape() {
            return Err(format!("gradient of x{slot} has shape {:?}", grad.shape()));
        }
        for (i, got) in grad.iter().enumerate() {
            let shifted = |by: f64| {
                let mut inputs = bench.inputs.clone();
                if let Some(x) = inputs[at].1.iter_mut().nth(i) {
                    *x += by;
                }
                objective(bench, &inputs, cotangents)
            };
            let want = (shifted(STEP)? - shifted(-STEP)?) / (2.0 * STEP);
            let err = (got - want).abs() / want.abs().max(1.0);
            // NaN is a failure.
            if !(err <= TOLERANCE) {
                return Err(format!("gradient of x{slot}[{i}] is {got}, differences say {want}"));
            }
        }
    }
    Ok(())
}

#[test]
fn every_rule_agrees_with_finite_differences() {
    let mut wrong = Vec::new();
    let mut checked = 0;
    for (op, case, symbolic) in every_case() {
        if let Grad::Rule { .. } = op.grad {
            checked += 1;
            if let Err(e) = check(op, case, symbolic) {
                wrong.push(format!("{} (symbolic: {symbolic}) {case:?}: {e}", op.name));
            }
        }
    }
    assert!(wrong.is_empty(), "{} of {checked} wrong:\n{}", wrong.len(), wrong.join("\n"));
    assert!(checked > 100);
}

#[test]
fn every_lowering_means_the_operator() {
    let (mut wrong, mut refused) = (Vec::new(), BTreeMap::new());
    for (op, case, symbolic) in every_case() {
        let Grad::Lower { lower, .. } = op.grad else { continue };
        let mut bench = Bench::new(op, case, DType::F64, symbolic, &mut Random(5)).expect("a case");
        let shape_data = infer(&mut bench.graph).expect("infers");
        let want = evaluate(&bench.graph, &named(&bench.inputs)).expect("evaluates");
        let mut graph = bench.graph.clone();
        let (_, node) = bench.graph.nodes().next().expect("one node");
        let emit = Emit::new(&bench.graph, &shape_data, "lower");
        let x: Vec<Val> = node.inputs.iter().map(|v| v.map_or(emit.absent(), |v| emit.val(v))).collect();
        let ids: Vec<_> = lower(&emit, node, &x).iter().take(node.outputs.len()).map(|v| v.id()).collect();
        if let Some(why) = emit.take_error().filter(|_| symbolic) {
            refused.insert(op.name, why.to_string());
            continue;
        }
        let mut patch = emit.finish().unwrap_or_else(|e| panic!("{}: {e}", op.name));
        patch.set_outputs(ids);
        patch.apply(&mut graph).expect("fits");
        let got = evaluate(&graph, &named(&bench.inputs)).expect("evaluates");
        for (got, want) in got.iter().zip(&want) {
            // NaN is a failure.
            if got.shape() != want.shape() || !got.iter().zip(want).all(|(a, b)| a == b || (a - b).abs() <= 1e-9) {
                wrong.push(format!("{} {case:?}: {got} is not {want}", op.name));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    let names: Vec<&str> = refused.keys().copied().collect();
    assert_eq!(names, NEED_NUMBERS, "{refused:#?}");
}

#[test]
fn names_are_unique_and_every_entry_is_found() {
    let mut seen = HashSet::new();
    for op in TABLE.iter().flat_map(|f| f.iter()) {
        assert!(seen.insert((op.domain, op.name)), "{} stands twice", op.name);
        let found = lorac_ops::find(&lorac_ir::OpName::new(op.domain, op.name)).expect("found");
        assert_eq!(found.name, op.name);
        assert!(op.inputs.0 <= op.inputs.1 && op.outputs.0 <= op.outputs.1);
        assert!(op.since >= 13 || !op.domain.is_empty());
    }
}

#[test]
fn wrong_rules_fail() {
    let op = lorac_ops::find(&"Tanh".into()).expect("Tanh");
    let mut bench = Bench::new(op, &op.grad.cases()[0], DType::F64, false, &mut Random(3)).expect("a case");
    infer(&mut bench.graph).expect("infers");
    let y = evaluate(&bench.graph, &named(&bench.inputs)).expect("evaluates").remove(0);
    let gy = Random(17).array(y.shape(), -1.0, 1.0);
    let cotangents = [("gy0".to_string(), gy.clone())];
    let fails = |grad: Array| compare(&bench, &cotangents, &[grad]).expect_err("wrong").contains("differences say");
    compare(&bench, &cotangents, &by_rule(&bench, &cotangents).expect("a rule")).expect("the rule of Tanh");
    assert!(fails(&gy * &y), "the rule of Exp");
    assert!(fails((&gy * &y.mapv(|y| 1.0 - y * y)).mapv(|g| g + 1e-5)), "something added");
    assert!(fails(y.mapv(|_| f64::NAN)), "no number");
}
