//! What messages say of targets, of disks and of graphs: each thing once, and by the names that users know.

use lorac_tests::border::border;

/// The findings of a run that ends before its training.
fn findings(case: &str, adapt: &str) -> Vec<String> {
    border(case).fails(&[&format!("adapt={adapt}")]).lines().map(|line| line.replace('`', "'")).collect()
}

#[test]
fn targets_that_meet_the_same_are_one_finding() {
    let lora = |targets: &str| format!("{{lora: {{targets: [{targets}]}}}}");
    let equal = findings("bert", &format!("[{}, {}]", lora("role:no, role:no"), lora("role:no")));
    assert_eq!(equal.len(), 1, "{equal:?}");
    assert!(equal[0].ends_with("(the same holds for 'role:no' (adapt.1.lora.targets.0))"), "{equal:?}");
    let alike = findings("target_int8_qdq", &format!("[{}]", lora("all-linear, '*', all-linear")));
    assert_eq!(alike.len(), 1, "{alike:?}");
    assert!(alike[0].ends_with("(the same holds for '*' (adapt.0.lora.targets.1))"), "{alike:?}");
    let twice = findings("bert", &format!("[{}, {}]", lora("role:query"), lora("role:query")));
    let [twice] = twice.as_slice() else { panic!("{twice:?}") };
    let names = "'encoder.layer.0.attention.self.query.weight', 'encoder.layer.1.attention.self.query.weight'";
    assert!(twice.contains(&format!("{names} are picked twice, by 'role:query' and by 'role:query'")), "{twice}");
}
