//! Roles of matrices in decoders, as the exporters write them: through rotary embeddings and repeated heads.

use lorac::ops::infer;
use lorac::passes::{Role, roles, select};
use lorac_tests::data;
use std::collections::BTreeMap;

fn counts(name: &str) -> BTreeMap<Role, usize> {
    let model = lorac::onnx::load(data("exports").join(name).join("model.onnx")).expect(name);
    let mut graph = model.graph.clone();
    infer(&mut graph).expect(name);
    let mut counts = BTreeMap::new();
    for role in roles(&graph).into_values().flatten() {
        *counts.entry(role).or_insert(0) += 1;
    }
    counts
}

#[test]
fn gated_decoders_have_seven_matrices_a_layer_and_a_head() {
    use Role::*;
    let want: BTreeMap<Role, usize> =
        [Query, Key, Value, Output, Up, Gate, Down].map(|r| (r, 2)).into_iter().chain([(Head, 1)]).collect();
    for name in ["llama-torchscript", "llama-dynamo", "qwen2-torchscript", "qwen2-dynamo"] {
        assert_eq!(counts(name), want, "{name}");
    }
}

#[test]
fn packed_decoders_have_one_matrix_for_query_key_and_value() {
    use Role::*;
    let want: BTreeMap<Role, usize> =
        [Query, Key, Value, Output, Up, Down].map(|r| (r, 2)).into_iter().chain([(Head, 1)]).collect();
    for name in ["gpt2-torchscript", "gpt2-dynamo", "gpt2-dynamo23"] {
        assert_eq!(counts(name), want, "{name}");
    }
}

#[test]
fn parts_of_packed_matrices_are_thirds() {
    for name in ["gpt2-torchscript", "gpt2-dynamo", "gpt2-dynamo23"] {
        let model = lorac::onnx::load(data("exports").join(name).join("model.onnx")).expect(name);
        let mut graph = model.graph.clone();
        infer(&mut graph).expect(name);
        for (i, role) in ["query", "key", "value"].iter().enumerate() {
            let targets = select(&graph, &[&format!("role:{role}")]).unwrap_or_else(|e| panic!("{name}: {e:?}"));
            assert_eq!(targets.len(), 2, "{name}");
            for target in targets {
                let third = target.matrix.as_ref().expect("a matrix").cols / 3;
                let slice = target.slice.unwrap_or_else(|| panic!("{name}: {role} is all of {}", target.weight_name));
                assert_eq!(slice.columns, (i * third..(i + 1) * third).collect::<Vec<_>>(), "{name}: {role}");
            }
        }
    }
}

#[test]
fn layers_that_share_their_weights_share_their_matrices() {
    use Role::*;
    let want: BTreeMap<Role, usize> = [Query, Key, Value, Output, Up, Down].map(|r| (r, 1)).into();
    assert_eq!(counts("albert-torchscript"), want);
}
