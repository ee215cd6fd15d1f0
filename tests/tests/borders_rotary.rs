//! Roles of a packed matrix whose queries and keys are rotated between the product and the attention.

use lorac::onnx::load;
use lorac_tests::border::border;

/// `qkv.weight` is `[16, 64]`: two heads of queries, one of keys, one of values, each 16 wide.
const WIDTH: usize = 64;

/// Columns of the packed matrix that a training of these targets changes.
#[track_caller]
fn changed(targets: &str) -> Vec<usize> {
    let border = border("target_group_query_rotary");
    border.succeeds(&[&format!("adapt.0.lora.targets=[{targets}]")]);
    let weight = |path: std::path::PathBuf| {
        let model = load(&path).expect("loads");
        model.graph.find("qkv.weight").and_then(|v| model.graph.weight(v)).expect("the weight").bytes().clone()
    };
    let (before, after) = (weight(border.path().join("model.onnx")), weight(border.out().join("model.onnx")));
    let pairs = before.chunks(4).zip(after.chunks(4)).enumerate();
    let mut columns: Vec<usize> = pairs.filter(|(_, (a, b))| a != b).map(|(i, _)| i % WIDTH).collect();
    columns.sort_unstable();
    columns.dedup();
    columns
}

#[test]
fn a_role_of_a_packed_rotated_attention_is_its_columns() {
    assert_eq!(changed("\"role:query\""), (0..32).collect::<Vec<_>>());
    assert_eq!(changed("\"role:key\""), (32..48).collect::<Vec<_>>());
    assert_eq!(changed("\"role:query\", \"role:value\""), (0..32).chain(48..64).collect::<Vec<_>>());
}
