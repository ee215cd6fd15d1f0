//! Methods beside LoRA in pipelines: they train, fold into the bytes, and are written as PEFT has them.

use lorac::output::{PeftAdapter, PeftLayer, read_peft};
use lorac_tests::border::{Border, border};
use lorac_tests::data;
use serde_json::Value;
use std::fs;

const IA3: &str = "adapt=[{ia3: {}}]";
const TOKENS: &str = "adapt=[{tokens: {ids: [5, 7]}}]";
const TOKENS_AND_LORA: &str = "adapt=[{lora: {targets: [role:query], rank: 2}}, {tokens: {ids: [5, 7]}}]";
const EMBEDDINGS: &str = "adapt=[{lora: {targets: [role:query, \"*word_embeddings*\"], rank: 2}}]";
const NORMS: &str = "adapt=[{lora: {targets: [role:query], rank: 2}}, {full: {targets: [\"*LayerNorm*\"]}}]";

/// The adapter of the last run, and its configuration.
fn adapter(border: &Border) -> (PeftAdapter, Value) {
    let folder = border.out().join("adapter");
    let config = fs::read(folder.join("adapter_config.json")).expect("a configuration");
    (read_peft(&folder).expect("an adapter"), serde_json::from_slice(&config).expect("JSON"))
}

/// What was learnt is written and read back: one more step that changes nothing ends with the same adapter.
#[test]
fn methods_train_and_their_adapters_are_read_back() {
    for adapt in [IA3, TOKENS, TOKENS_AND_LORA, EMBEDDINGS, NORMS] {
        let border = border("bert");
        border.succeeds(&[adapt, "deploy.formats=[onnx, peft]"]);
        let (learnt, _) = adapter(&border);
        fs::rename(border.out(), border.path().join("first")).expect("renames");
        let still = "train.optimizer={adamw: {lr: 1e-30, weight_decay: 0}}";
        let from = "train.init_from=first/adapter";
        border.succeeds(&[adapt, "deploy.formats=[onnx, peft]", "train.steps=1", still, from]);
        assert_eq!(adapter(&border).0, learnt, "{adapt}");
    }
}

#[test]
fn scales_are_an_adapter_of_ia3() {
    let border = border("bert");
    let outcome = border.succeeds(&[IA3, "deploy.formats=[onnx, peft]"]);
    let (adapter, config) = adapter(&border);
    assert_eq!(config["peft_type"], "IA3");
    let ends = |end: &str| adapter.scaled.iter().filter(|s| s.name.ends_with(end)).collect::<Vec<_>>();
    let [keys, values, down] = ["self.key", "self.value", "output.dense"].map(ends);
    assert!(!keys.is_empty() && keys.len() == values.len() && keys.len() == down.len(), "{config}");
    assert!(keys.iter().all(|s| !s.inputs) && down.iter().all(|s| s.inputs));
    assert_eq!(config["feedforward_modules"].as_array().map(Vec::len), Some(down.len()));
    assert!(keys.iter().any(|s| s.values.iter().any(|x| *x != 1.0)));
    // Weights and their biases.
    assert!(outcome.manifest.targets.iter().any(|t| t.name.ends_with("key.bias")));
}

/// Key and value of GPT-2 are columns of one matrix and of its bias: the query's stay to the byte.
#[test]
fn scales_of_a_fused_matrix_reach_its_columns_and_their_bias_alone() {
    let border = border("bert");
    let folder = border.path().join("gpt2");
    fs::create_dir(&folder).expect("a folder");
    for entry in fs::read_dir(data("peft_artifacts/gpt2")).expect("a model").flatten() {
        fs::copy(entry.path(), folder.join(entry.file_name())).expect("copies");
    }
    let settings =
        ["model.source=gpt2", "tokenizer={source: tokenizer.json}", "task={classify: {labels: [negative, positive]}}"];
    let manifest = border.succeeds(&[&settings[..], &[IA3]].concat()).manifest;
    assert!(manifest.targets.iter().any(|t| t.name.contains("c_attn.bias")), "{:?}", manifest.targets);
    assert_eq!(manifest.verify.changed_bytes_outside_targets, 0);
    let weights = || {
        let model = lorac::onnx::load(border.out().join("model.onnx")).unwrap_or_else(|e| panic!("{e}"));
        let fused = model.graph.weights().filter(|(_, value, _)| value.name.contains("c_attn"));
        fused.map(|(_, value, t)| (value.name.to_string(), t.clone())).collect::<Vec<_>>()
    };
    let learnt = weights();
    border.succeeds(
        &[&settings[..], &[IA3, "train.steps=1", "train.optimizer={adamw: {lr: 1e-30, weight_decay: 0}}"]].concat(),
    );
    let (mut matrices, mut vectors) = (0, 0);
    for ((name, after), (_, before)) in learnt.iter().zip(weights()) {
        let width = before.dims().last().copied().unwrap_or(0);
        let columns = |t: &lorac::ir::Tensor| -> Vec<Vec<u8>> {
            let rows = t.bytes().chunks(4 * width);
            rows.fold(vec![Vec::new(); width], |mut columns, row| {
                row.chunks(4).zip(&mut columns).for_each(|(x, column)| column.extend_from_slice(x));
                columns
            })
        };
        let same: Vec<bool> = columns(after).iter().zip(columns(&before)).map(|(a, b)| *a == b).collect();
        assert!(same[..width / 3].iter().all(|same| *same), "{name}: the query's columns");
        assert!(same[width / 3..].iter().any(|same| !*same), "{name}: those of key and value");
        matrices += usize::from(before.dims().len() == 2);
        vectors += usize::from(before.dims().len() != 2);
    }
    assert!(matrices > 0 && vectors > 0, "{learnt:?}");
}

#[test]
fn rows_of_tokens_are_an_adapter_of_their_own_or_stand_beside_branches() {
    let border = border("bert");
    border.succeeds(&[TOKENS, "deploy.formats=[onnx, peft]"]);
    let (alone, config) = adapter(&border);
    assert_eq!(config["peft_type"], "TRAINABLE_TOKENS");
    assert_eq!(config["token_indices"], Value::from(vec![5, 7]));
    assert!(alone.tokens[0].name.ends_with("word_embeddings"), "{:?}", alone.tokens);
    border.succeeds(&[TOKENS_AND_LORA, "deploy.formats=[onnx, peft]"]);
    let (beside, config) = adapter(&border);
    assert_eq!(config["peft_type"], "LORA");
    assert_eq!(config["trainable_token_indices"][&beside.tokens[0].name], Value::from(vec![5, 7]));
}

#[test]
fn a_table_has_the_factors_of_an_embedding() {
    let border = border("bert");
    border.succeeds(&[EMBEDDINGS, "deploy.formats=[onnx, peft]"]);
    let (adapter, _) = adapter(&border);
    let tables: Vec<_> = adapter.modules.iter().filter(|m| m.layer == PeftLayer::Embedding).collect();
    assert_eq!(tables.len(), 1);
    assert!(tables[0].name.ends_with("word_embeddings") && tables[0].rows > tables[0].cols, "{}", tables[0].name);
}

#[test]
fn norms_that_are_trained_are_modules_to_save() {
    let border = border("bert");
    border.succeeds(&[NORMS, "deploy.formats=[onnx, peft]"]);
    let (adapter, _) = adapter(&border);
    let norms = adapter.modules_to_save.iter().filter(|m| m.ends_with("LayerNorm")).count();
    assert!(norms >= 3, "{:?}", adapter.modules_to_save);
    assert_eq!(adapter.saved.iter().filter(|(key, ..)| key.contains("LayerNorm")).count(), 2 * norms);
}

/// `good` and `fine` are the tokens 5 and 7.
#[test]
fn tokens_by_their_texts_are_those_of_the_tokenizer() {
    let learnt = |adapt: &str| {
        let border = border("bert");
        border.succeeds(&[adapt, "deploy.formats=[onnx, peft]"]);
        adapter(&border)
    };
    let (by_ids, config) = learnt(TOKENS);
    for adapt in ["adapt=[{tokens: {texts: [good, fine]}}]", "adapt=[{tokens: {ids: [5], texts: [Fine]}}]"] {
        assert_eq!(learnt(adapt), (by_ids.clone(), config.clone()), "{adapt}");
    }
}

#[test]
fn what_no_method_can_do_is_refused_before_the_training() {
    let border = border("bert");
    for (adapt, said) in [
        ("adapt=[{tokens: {ids: [999999]}}]", "the token 999999 is not in"),
        ("adapt=[{tokens: {ids: [5, 5]}}]", "duplicate token 5"),
        ("adapt=[{tokens: {}}]", "no tokens"),
        ("adapt=[{tokens: {texts: [good, goodgreat]}}]", "no token `goodgreat`"),
        ("adapt=[{tokens: {texts: [\"good, great\"]}}]", "no token `good, great`"),
        ("adapt=[{tokens: {ids: [7], texts: [good, fine]}}]", "token 7"),
        ("adapt=[{ia3: {feedforward: [\"role:dwon\"]}}]", "did you mean `role:down`"),
        ("adapt=[{ia3: {}}, {bias: {}}]", "picked twice"),
        ("adapt=[{lora: {targets: [all-convolutions]}}]", "matches no kernel of a convolution"),
    ] {
        let error = border.fails(&[adapt]);
        assert!(error.contains(said), "{adapt}: {error}");
    }
}

#[test]
fn what_is_trained_beside_branches_is_so_in_full() {
    let border = border("bert");
    let adapt = "adapt=[{lora: {targets: [role:query], rank: 2, train_also: [\"*LayerNorm*\"]}}]";
    let outcome = border.succeeds(&[adapt, "deploy.formats=[onnx, peft]"]);
    assert!(outcome.manifest.targets.iter().any(|t| t.name.ends_with("LayerNorm.weight") && t.rank.is_none()));
    let (adapter, _) = adapter(&border);
    assert!(adapter.modules_to_save.iter().any(|m| m.ends_with("LayerNorm")), "{:?}", adapter.modules_to_save);
    for (also, said) in [("role:query", "has a branch"), ("*LayerNrom*", "matches no weight")] {
        let adapt = format!("adapt=[{{lora: {{targets: [role:query], rank: 2, train_also: [\"{also}\"]}}}}]");
        let error = border.fails(&[&adapt]);
        assert!(error.contains(said), "{also}: {error}");
    }
}

/// What an adapter of PEFT cannot say is said before the training, and the model is trained and written all the same.
#[test]
fn what_one_adapter_cannot_say() {
    let (lora, dora) = ("targets: [role:query], rank: 2", "targets: [role:value], rank: 2");
    let mixed = format!("adapt=[{{lora: {{{lora}}}}}, {{dora: {{{dora}}}}}]");
    let words = "{tokens: {targets: [\"*word_embeddings*\"], ids: [5]}}";
    let types = "{tokens: {targets: [\"*token_type_embeddings*\"], ids: [1]}}";
    let others = format!("adapt=[{words}, {types}]");
    let same = format!("adapt=[{}, {types}]", words.replace("[5]", "[1]"));
    let beside = format!("adapt=[{{lora: {{{lora}}}}}, {words}, {types}]");
    for (adapt, has_adapter) in [(&mixed, false), (&others, false), (&same, true), (&beside, true)] {
        let border = border("bert");
        border.succeeds(&[adapt, "deploy.formats=[onnx, peft]"]);
        assert_eq!(border.out().join("adapter").exists(), has_adapter, "{adapt}");
    }
}

#[test]
fn cards_say_what_kind_of_adapter_it_is() {
    for (adapt, kind) in
        [(IA3, "An adapter of IA3"), (TOKENS, "An adapter of trained tokens"), (NORMS, "A LoRA adapter")]
    {
        let border = border("bert");
        border.succeeds(&[adapt, "deploy.formats=[onnx, peft]"]);
        let card = fs::read_to_string(border.out().join("adapter/README.md")).expect("a card");
        assert!(card.contains(kind), "{card}");
    }
}
