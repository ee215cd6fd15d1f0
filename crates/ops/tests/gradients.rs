//! Every rule of the table against finite differences, every lowering against the operator's own evaluation.

use lorac_ir::OpName;
use lorac_ops::{Grad, TABLE, check_gradient, find};
use std::collections::HashSet;

/// How many cases there are of the rules, or of the lowerings, of the table; each of them holds.
fn checked(chosen: impl Fn(&Grad) -> bool) -> usize {
    let ops = TABLE.iter().flat_map(|family| family.iter()).filter(|op| chosen(&op.grad));
    let cases: Vec<_> = ops.flat_map(|op| op.grad.cases().iter().map(move |case| (op, case))).collect();
    let wrong: Vec<String> =
        cases.iter().filter_map(|(op, case)| Some(format!("{case:?}: {}", check_gradient(op, case).err()?))).collect();
    assert!(wrong.is_empty(), "{} of {} wrong:\n{}", wrong.len(), cases.len(), wrong.join("\n"));
    cases.len()
}

#[test]
fn every_rule_agrees_with_finite_differences() {
    assert!(checked(|grad| matches!(grad, Grad::Rule { .. })) > 100);
}

#[test]
fn every_lowering_means_the_operator() {
    assert!(checked(|grad| matches!(grad, Grad::Lower { .. })) > 100);
}

#[test]
fn names_are_unique_and_every_entry_is_found() {
    let mut seen = HashSet::new();
    for op in TABLE.iter().flat_map(|f| f.iter()) {
        assert!(seen.insert((op.domain, op.name)), "{} is a duplicate", op.name);
        let found = find(&OpName::new(op.domain, op.name)).expect("found");
        assert_eq!(found.name, op.name);
        assert!(op.inputs.0 <= op.inputs.1 && op.outputs.0 <= op.outputs.1);
        assert!(op.since >= 13 || !op.domain.is_empty());
    }
}
