//! Which weights of a model are targets, whatever wrote it: each kind is trained, folded and verified, or refused by name.

use lorac::onnx::load;
use lorac_tests::border::border;
use std::collections::BTreeMap;
use std::path::Path;

/// Columns of the weights that differ between two models, by weight; rows of the others.
fn changed(base: &Path, deployed: &Path) -> BTreeMap<String, Vec<usize>> {
    let (base, deployed) = (load(base).expect("loads"), load(deployed).expect("loads"));
    let mut found = BTreeMap::new();
    for (_, value, before) in base.graph.weights() {
        let after = deployed.graph.find(&value.name).and_then(|v| deployed.graph.weight(v)).expect("the weight");
        let (size, last) = (before.dtype().size(), before.dims().last().copied().unwrap_or(1).max(1));
        let pairs = before.bytes().chunks(size).zip(after.bytes().chunks(size)).enumerate();
        let mut columns: Vec<usize> = pairs.filter(|(_, (a, b))| a != b).map(|(i, _)| i % last).collect();
        columns.sort_unstable();
        columns.dedup();
        if !columns.is_empty() {
            found.insert(value.name.to_string(), columns);
        }
    }
    found
}

/// Trains the targets and holds what changed against what may: columns of weights.
#[track_caller]
fn trains(case: &str, targets: &str, want: &[(&str, std::ops::Range<usize>)]) {
    let border = border(case);
    let targets = format!("adapt.0.lora.targets={targets}");
    let outcome = border.succeeds(&[targets.as_str()]);
    let (before, after) = (&outcome.manifest.eval.before, &outcome.manifest.eval.after);
    assert_ne!(format!("{before:?}"), format!("{after:?}"), "{case}: nothing was learnt");
    let found = changed(&border.path().join("model.onnx"), &border.out().join("model.onnx"));
    let mut expected: BTreeMap<String, Vec<usize>> = BTreeMap::new();
    for (name, columns) in want {
        expected.entry(name.to_string()).or_default().extend(columns.clone());
    }
    assert_eq!(found, expected, "{case} {targets}");
}

#[test]
fn slices_of_the_packed_matrix_of_an_attention() {
    trains(
        "target_attention_packed",
        "[\"role:query\", \"role:value\"]",
        &[("qkv.weight", 0..8), ("qkv.weight", 16..24)],
    );
    trains("target_attention_packed_sizes", "[\"role:value\"]", &[("qkv.weight", 16..28)]);
    trains("target_attention_packed", "[\"qkv.weight\", \"role:up\"]", &[("qkv.weight", 0..24), ("up.weight", 0..12)]);
}

#[test]
fn attentions_of_an_optimizer() {
    let whole = [("query.weight", 0..8), ("value.weight", 0..8)];
    trains("target_multi_head", "[\"role:query\", \"role:value\"]", &whole);
    trains("target_group_query", "[\"role:query\", \"role:key\"]", &[("query.weight", 0..16), ("key.weight", 0..8)]);
    trains("target_group_query_packed", "[\"role:key\"]", &[("qkv.weight", 16..24)]);
}

#[test]
fn a_role_of_a_multi_query_matrix_is_its_columns() {
    trains("target_multi_query", "[\"role:query\"]", &[("qkv.weight", 0..8)]);
    trains("target_multi_query", "[\"role:value\"]", &[("qkv.weight", 12..16)]);
}

#[test]
fn halves_of_one_matrix_are_gate_and_up() {
    trains("target_gate_up", "[\"role:gate\"]", &[("gate_up.weight", 0..12)]);
    trains("target_gate_up", "[\"role:up\", \"role:down\"]", &[("gate_up.weight", 12..24), ("down.weight", 0..8)]);
}

/// Heads are axes of the weights; the keys come first in the scores.
#[test]
fn weights_of_einsum() {
    let heads = [("query.weight", 0..4), ("output.weight", 0..8)];
    trains("target_einsum", "[\"role:query\", \"role:output\"]", &heads);
}

/// The stored bytes are f16 and computed with in f32: what the fold rounds is half of the last of 11 bits of weights below 2.
#[test]
fn weights_behind_a_cast() {
    let whole = [("query.weight", 0..8), ("value.weight", 0..8)];
    trains("target_cast_f16", "[\"role:query\", \"role:value\"]", &whole);
}

#[test]
fn tied_embeddings_change_for_both_readers() {
    trains("target_tied", "[\"role:head\"]", &[("emb.weight", 0..8)]);
    let wrong = border("target_tied").fails(&["adapt.0.lora.targets=[\"role:head\"]", "adapt.0.lora.dropout=0.1"]);
    assert!(wrong.contains("`emb.weight`, which is read otherwise too"), "{wrong}");
}

#[test]
fn a_role_of_quantized_matrices_names_them() {
    for (case, how) in [
        ("target_int8_dynamic", "i8, read by `MatMulInteger`"),
        ("target_int8_qdq", "i8, read by `DequantizeLinear`"),
        ("target_int8_qoperator", "i8, read by `QLinearMatMul`"),
        ("target_int4", "u8, read by `com.microsoft.MatMulNBits`"),
    ] {
        let said = border(case).fails(&[]);
        for role in ["query", "value"] {
            let want = format!("`role:{role}` is `{role}.weight");
            assert!(said.contains(&want), "{case}: {said}");
        }
        assert!(said.contains(&format!("is quantized ({how}); adapt the model before it was quantized")), "{said}");
        assert!(!said.contains("nearest"), "{case}: {said}");
    }
}

#[test]
fn what_is_out_of_reach_is_named_with_its_reason() {
    let said = border("target_in_if").fails(&[]);
    assert!(
        said.contains("`role:query` matches no weight matrix: the roles in this model are up (1), down (1)"),
        "{said}"
    );
    assert!(
        said.contains("`query.weight`, `key.weight`, `value.weight` and 1 more are multiplied in a graph inside `If`"),
        "{said}"
    );
    let said = border("target_in_if").fails(&["adapt.0.lora.targets=[query.weight, \"key*\"]"]);
    for is in ["`query.weight` is multiplied", "`key*` is `key.weight`, which is multiplied"] {
        assert!(said.contains(&format!("{is} in a graph inside `If`")), "{said}");
    }
    // A table of embeddings is one that branches reach.
    let manifest = border("target_experts").succeeds(&["adapt.0.lora.targets=[emb.weight]"]).manifest;
    assert_eq!(manifest.targets.iter().map(|t| t.name.as_str()).collect::<Vec<_>>(), ["emb.weight"]);
}

#[test]
fn stacks_of_the_matrices_of_experts() {
    let both = [("experts.up", 0..12), ("experts.down", 0..8)];
    trains("target_experts", "[\"role:up\", \"experts.down\"]", &both);
    trains("target_experts", "[all-experts]", &both);
    trains("target_experts", "[all-experts, \"role:query\"]", &[&both[..], &[("query.weight", 0..8)]].concat());
    let border = border("target_experts");
    let outcome = border.succeeds(&["adapt.0.lora.targets=[\"experts.*\"]"]);
    // Of two matrices of 8 to 12 and two of 12 to 8, A and B of rank 2 each; and the new head.
    assert_eq!(outcome.manifest.trainable_parameters, 2 * 2 * 2 * (8 + 12) + 2 * 8 + 2);
    let no_adapter = "`experts.up` is a stack of matrices, a parameter that no module of PyTorch's has for itself";
    assert!(format!("{:?}", outcome.manifest).contains(no_adapter), "{:?}", outcome.manifest);
    let said = border.fails(&["adapt=[{dora: {targets: [\"role:up\"]}}]"]);
    let no_dora = "`role:up` is `experts.up`, which is a stack of matrices, as of experts, for which there is no DoRA";
    assert!(said.contains(no_dora), "{said}");
}
