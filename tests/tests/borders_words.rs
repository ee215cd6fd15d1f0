//! What messages say of targets, of disks and of graphs: each thing once, and by the names that users know.

use lorac::onnx::load;
use lorac_tests::border::border;
use std::collections::BTreeSet;
use std::path::Path;

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

/// Initializers and values of the deployed model that its base does not have.
fn new_names(pool: &str) -> Vec<String> {
    let border = border("static");
    let task = format!("task={{classify: {{labels: [negative, positive], pool: {pool}}}}}");
    border.succeeds(&[&task, "train.steps=1", "data.eval.take=4"]);
    let names = |path: &Path| -> BTreeSet<String> {
        load(path).expect("loads").graph.values().map(|(_, value)| value.name.to_string()).collect()
    };
    let (base, deployed) = (names(&border.path().join("model.onnx")), names(&border.out().join("model.onnx")));
    deployed.difference(&base).cloned().collect()
}

#[test]
fn what_a_head_is_made_of_is_called_what_it_is() {
    let ours = ["classifier.bias", "classifier.weight", "logits"];
    for (pool, more) in [
        ("cls", &["Gather", "first_token"][..]),
        (
            "mean",
            &[
                "Cast",
                "Div",
                "Max",
                "Mul",
                "ReduceSum",
                "ReduceSum_2",
                "Unsqueeze",
                "least_tokens",
                "new_axis",
                "token_axis",
            ],
        ),
        (
            "last",
            &["CumSum", "Equal", "Mul", "ReduceSum", "Unsqueeze", "Where", "new_axis", "one", "token_axis", "zero"],
        ),
    ] {
        let mut want: Vec<String> = more.iter().map(|name| format!("classifier.{name}")).collect();
        want.extend(ours.map(String::from));
        want.sort();
        assert_eq!(new_names(pool), want, "{pool}");
    }
}
