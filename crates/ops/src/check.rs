//! What every rule and every lowering of the table passes, for whoever writes one.

use crate::{Array, Bench, Case, Emit, Grad, Lowering, Op, Random, Val, apply_rule, evaluate, find, infer, named};
use lorac_ir::{DType, Dim, OpName, verify};

const TOLERANCE: f64 = 1e-7;
const STEP: f64 = 1e-5;
/// Largest difference of what a lowering computes from what the operator does.
const LOWERED: f64 = 1e-9;

/// Tries the gradient of `op` on `case`, in f64: with known shapes, and with shapes that are known by name only. A rule is
/// held against central finite differences with a random cotangent, a lowering against the operator's own evaluation; a
/// lowering may refuse shapes that it needs as numbers. Requires: the operator is in [`crate::TABLE`] or
/// [registered](crate::register()).
///
/// # Errors
/// What differs, what cannot be computed, or that the operator has no gradient.
pub fn check_gradient(op: &Op, case: &Case) -> Result<(), String> {
    let name = OpName::new(op.domain, op.name);
    if find(&name).is_none() {
        return Err(format!("`{name}` is not registered"));
    }
    for symbolic in [false, true] {
        let tried = match op.grad {
            Grad::Rule { outputs, .. } => check_rule(op, case, outputs, symbolic),
            Grad::Lower { lower, .. } => check_lowering(op, case, lower, symbolic),
            Grad::Zero(why) | Grad::Unsupported(why) => Err(format!("no gradient: {why}")),
        };
        let shapes = if symbolic { "shapes known by name" } else { "known shapes" };
        tried.map_err(|e| format!("`{name}` with {shapes}: {e}"))?;
    }
    Ok(())
}

fn check_rule(op: &Op, case: &Case, outputs: usize, symbolic: bool) -> Result<(), String> {
    let mut random = Random(17);
    let mut bench = Bench::new(op, case, DType::F64, symbolic, &mut random).map_err(|e| e.to_string())?;
    infer(&mut bench.graph).map_err(|e| e.to_string())?;
    let ys = evaluate(&bench.graph, &bench.named()).map_err(|e| e.to_string())?;
    let cotangents: Vec<(String, Array)> = ys
        .iter()
        .enumerate()
        .map(|(i, y)| {
            let scale = if i < outputs { 1.0 } else { 0.0 };
            (format!("gy{i}"), random.array(y.shape(), -1.0, 1.0) * scale)
        })
        .collect();
    check_facts(&bench, &ys)?;
    let asked = cotangents.len().min(outputs.max(1));
    let grads = by_rule(&bench, &cotangents[..asked])?;
    compare(&bench, &cotangents, &grads)
}

/// Inferred shapes against computed ones.
fn check_facts(bench: &Bench, ys: &[Array]) -> Result<(), String> {
    for (value, y) in bench.graph.outputs().iter().zip(ys) {
        let fact = bench.graph.fact(*value);
        let fits = |d: &Dim, n: usize| d.eval(&|name| length(bench, name)).is_none_or(|d| d == n as i64);
        let fits = |dims: &[Dim]| dims.len() == y.ndim() && dims.iter().zip(y.shape()).all(|(d, n)| fits(d, *n));
        if !fact.dims().is_none_or(fits) {
            return Err(format!("inferred {fact}, computed {:?}", y.shape()));
        }
    }
    Ok(())
}

/// The number that a case has for a symbol of its shapes: `d1_0` is the first length of the second operand.
fn length(bench: &Bench, symbol: &str) -> Option<i64> {
    let (slot, axis) = symbol.strip_prefix('d')?.split_once('_')?;
    let (_, x) = bench.inputs.iter().find(|(name, _)| *name == format!("x{slot}"))?;
    Some(*x.shape().get(axis.parse::<usize>().ok()?)? as i64)
}

/// The gradients that the rule gives, by input.
fn by_rule(bench: &Bench, cotangents: &[(String, Array)]) -> Result<Vec<Array>, String> {
    let mut graph = bench.graph.clone();
    let shape_data = infer(&mut graph).map_err(|e| e.to_string())?;
    let (_, node) = graph.nodes().next().ok_or("no node")?;
    let emit = Emit::new(&graph, &shape_data, "check");
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
        let x = graph.find(name).ok_or("no operand")?;
        outputs.push(grads[*slot].unwrap_or_else(|| emit.val(x).zeros_like()).id());
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

/// Gradients against central differences.
fn compare(bench: &Bench, cotangents: &[(String, Array)], grads: &[Array]) -> Result<(), String> {
    for ((slot, name), grad) in bench.trained.iter().zip(grads) {
        let at = bench.inputs.iter().position(|(n, _)| n == name).ok_or("no operand")?;
        if grad.shape() != bench.inputs[at].1.shape() {
            return Err(format!("the gradient of operand {slot} has shape {:?}", grad.shape()));
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
                return Err(format!("the gradient of operand {slot} is {got} at {i}, finite differences give {want}"));
            }
        }
    }
    Ok(())
}

/// The sum of cotangents times outputs.
fn objective(bench: &Bench, inputs: &[(String, Array)], cotangents: &[(String, Array)]) -> Result<f64, String> {
    let ys = evaluate(&bench.graph, &named(inputs)).map_err(|e| e.to_string())?;
    Ok(ys.iter().zip(cotangents).map(|(y, (_, g))| (y * g).sum()).sum())
}

fn check_lowering(op: &Op, case: &Case, lower: Lowering, symbolic: bool) -> Result<(), String> {
    let mut bench = Bench::new(op, case, DType::F64, symbolic, &mut Random(5)).map_err(|e| e.to_string())?;
    let shape_data = infer(&mut bench.graph).map_err(|e| e.to_string())?;
    let want = evaluate(&bench.graph, &bench.named()).map_err(|e| e.to_string())?;
    let (_, node) = bench.graph.nodes().next().ok_or("no node")?;
    let emit = Emit::new(&bench.graph, &shape_data, "check");
    let x: Vec<Val> = node.inputs.iter().map(|v| v.map_or(emit.absent(), |v| emit.val(v))).collect();
    let ids: Vec<_> = lower(&emit, node, &x).iter().take(node.outputs.len()).map(|v| v.id()).collect();
    match emit.take_error() {
        Some(_) if symbolic => return Ok(()),
        Some(why) => return Err(why.to_string()),
        None => {}
    }
    let mut graph = bench.graph.clone();
    let mut patch = emit.finish().map_err(|e| e.to_string())?;
    patch.set_outputs(ids);
    patch.apply(&mut graph).map_err(|e| e.to_string())?;
    let found = evaluate(&graph, &bench.named()).map_err(|e| e.to_string())?;
    if found.len() != want.len() {
        return Err(format!("the lowering has {} results of {}", found.len(), want.len()));
    }
    for (got, want) in found.iter().zip(&want) {
        // NaN is a failure.
        if got.shape() != want.shape() || !got.iter().zip(want).all(|(a, b)| a == b || (a - b).abs() <= LOWERED) {
            return Err(format!("the lowering gives {got}, the operator {want}"));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wrong_rules_fail() {
        let op = find(&"Tanh".into()).expect("Tanh");
        let mut bench = Bench::new(op, &op.grad.cases()[0], DType::F64, false, &mut Random(3)).expect("a case");
        infer(&mut bench.graph).expect("infers");
        let y = evaluate(&bench.graph, &bench.named()).expect("evaluates").remove(0);
        let gy = Random(17).array(y.shape(), -1.0, 1.0);
        let cotangents = [("gy0".to_string(), gy.clone())];
        let fails =
            |grad: Array| compare(&bench, &cotangents, &[grad]).expect_err("wrong").contains("finite differences give");
        compare(&bench, &cotangents, &by_rule(&bench, &cotangents).expect("a rule")).expect("the rule of Tanh");
        assert!(fails(&gy * &y), "the rule of Exp");
        assert!(fails((&gy * &y.mapv(|y| 1.0 - y * y)).mapv(|g| g + 1e-5)), "something added");
        assert!(fails(y.mapv(|_| f64::NAN)), "not a number");
    }
}
