//! The settings of `lora` and `dora`: what they pick, what is written of them, and what is refused before the training.

use lorac::output::{Manifest, PeftAdapter, read_peft};
use lorac_tests::border::{Border, border};
use serde_json::Value;
use std::fs;

/// What `adapt` says, as one setting.
fn adapt(method: &str) -> String {
    format!("adapt=[{{ {method} }}]")
}

fn adapter(border: &Border) -> PeftAdapter {
    read_peft(&border.out().join("adapter")).unwrap_or_else(|e| panic!("{e}"))
}

fn config(border: &Border) -> Value {
    let text = fs::read(border.out().join("adapter/adapter_config.json")).expect("a configuration");
    serde_json::from_slice(&text).expect("JSON")
}

/// Name, rank and scale of every target.
fn targets(manifest: &Manifest) -> Vec<(&str, Option<usize>, Option<f64>)> {
    manifest.targets.iter().map(|t| (t.name.as_str(), t.rank, t.scale)).collect()
}

const ALL: &str = "lora: { targets: [all-linear], rank: 2, alpha: 4";

#[test]
fn exclusions_layers_ranks_and_alphas_by_pattern() {
    let border = border("bert");
    let narrowed = format!(
        "{ALL}, exclude: [\"role:up\", \"role:down\", \"*output.dense*\"], layers: 1, \
         rank_pattern: {{ \"role:query\": 3 }}, alpha_pattern: {{ \"*.1.attention.self.key*\": 5, all-linear: 6 }} }}"
    );
    let outcome = border.succeeds(&[&adapt(&narrowed)]);
    let name = |part: &str| format!("encoder.layer.1.attention.self.{part}.weight");
    let names = ["query", "key", "value"].map(name);
    assert_eq!(
        targets(&outcome.manifest),
        [(&*names[0], Some(3), Some(2.0)), (&*names[1], Some(2), Some(2.5)), (&*names[2], Some(2), Some(3.0))]
    );
    let config = config(&border);
    assert_eq!((&config["r"], &config["lora_alpha"]), (&2.into(), &6.0.into()));
    let key = |part: &str| format!("encoder.layer.1.attention.self.{part}");
    assert_eq!(config["rank_pattern"], serde_json::json!({ key("query"): 3 }));
    assert_eq!(config["alpha_pattern"], serde_json::json!({ key("key"): 5.0 }));
    for layers in ["0..1", "[0]", "..1"] {
        let outcome = border.succeeds(&[&adapt(&format!("{ALL}, layers: {layers} }}"))]);
        let names = targets(&outcome.manifest);
        assert!(
            names.len() == 6 && names.iter().all(|(n, ..)| n.starts_with("encoder.layer.0.")),
            "{layers}: {names:?}"
        );
    }
}

#[test]
fn what_overrides_nothing_is_named() {
    let border = border("bert");
    for (settings, says) in [
        ("exclude: [\"*query*\", \"*pooled*\"]", "`*pooled*` fits none of the targets"),
        ("exclude: [\"role:head\"]", "`role:head` fits none of the targets, `"),
        ("exclude: [all-linear]", "`all-linear` leaves no target"),
        ("layers: 2..4", "`2..4` holds none of the layers that targets are in: those of the targets are 0 to 1"),
        ("layers: [0, 7]", "`7` holds none of the layers"),
        ("layers: 1..1", "`1..1` holds no layer"),
        ("rank_pattern: { \"*.query\": 4 }", "`*.query` fits none of the targets; nearest: "),
        ("alpha_pattern: { \"role:qeury\": 4 }", "roles are query, key, value"),
        ("rank_pattern: { all-linear: 4, \"*query*\": 3 }", "`*query*` overrides nothing: every target"),
        ("rank_pattern: { \"*query*\": 0 }", "`*query*` is 0: expected at least 1"),
        ("init: orthogonal, rank: 3", "`init: orthogonal` halves the rank, and 3 is odd"),
        ("init: pizza", "`pizza`"),
    ] {
        let said = border.fails(&[&adapt(&format!("lora: {{ targets: [all-linear], {settings} }}"))]);
        assert!(said.contains(says), "{settings}: {said}");
    }
    let file = border.path().join("pipeline.yaml");
    let text = fs::read_to_string(&file).expect("reads").replace("rank: 4", "rank_pattern:\n      'role:up': 2");
    fs::write(&file, text).expect("writes");
    let Err(lorac::error::Error::Pipeline(error)) = border.run(&[]) else { panic!("it has no such target") };
    let issue = &error.issues[0];
    assert_eq!((issue.code, issue.line), ("target::idle", 25), "{error}");
}

/// One step that changes nothing.
const STANDS_STILL: [&str; 2] = ["train.steps=1", "train.optimizer={adamw: {lr: 1e-30, weight_decay: 0}}"];

#[test]
fn every_beginning_computes_what_the_model_does_and_can_be_gone_on_from() {
    let border = border("bert");
    let plain = border.succeeds(&[&adapt(&format!("{ALL} }}"))]).manifest;
    // What is drawn before the head decides what the head is: these two draw nothing.
    let mut before = Vec::new();
    for init in ["kaiming", "gaussian", "orthogonal", "pissa", "olora"] {
        let setting = adapt(&format!("{ALL}, init: {init} }}"));
        let outcome = border.succeeds(&[&setting]).manifest;
        assert_eq!(outcome.trainable_parameters, plain.trainable_parameters, "{init}");
        let learnt = adapter(&border);
        let of_weight = ["pissa", "olora"].contains(&init);
        before.extend(outcome.eval.before.get("loss").filter(|_| of_weight));
        assert_eq!(learnt.rank, if of_weight { 4 } else { 2 }, "{init}");
        assert!(learnt.modules.iter().all(|m| (m.scale() - 2.0).abs() < 1e-12), "{init}");
        let first = border.path().join("first");
        _ = fs::remove_dir_all(&first);
        fs::rename(border.out(), &first).expect("renames");
        for from in ["train.init_from=first/adapter", "train.init_from=first/checkpoints/trained.safetensors"] {
            if from.ends_with("safetensors") && !first.join("checkpoints/trained.safetensors").exists() {
                continue;
            }
            border.succeeds(&[&STANDS_STILL[..], &[&setting, from]].concat());
            assert_eq!(adapter(&border), learnt, "{init}, {from}");
        }
    }
    assert!(before.len() == 2 && (before[0] - before[1]).abs() < 1e-5, "{before:?}");
}

#[test]
fn magnitudes_of_whole_matrices_of_slices_and_of_tied_ones() {
    for (case, targets) in [
        ("bert", "[\"role:query\", \"role:down\"]"),
        ("target_attention_packed", "[\"role:query\", \"role:value\"]"),
        ("target_gate_up", "[\"role:up\", \"role:down\"]"),
        ("target_tied", "[\"role:head\"]"),
        ("target_einsum", "[\"role:query\", \"role:output\"]"),
        ("target_cast_f16", "[\"role:query\"]"),
        ("head_bias", "[all-linear]"),
    ] {
        for more in ["", ", init: pissa", ", freeze_a: true", ", dropout: 0.2"] {
            if case == "target_tied" && more.contains("dropout") {
                continue;
            }
            let border = border(case);
            let outcome =
                border.succeeds(&[&adapt(&format!("dora: {{ targets: {targets}, rank: 2, alpha: 4{more} }}"))]);
            let (before, after) = (&outcome.manifest.eval.before, &outcome.manifest.eval.after);
            assert_ne!(format!("{before:?}"), format!("{after:?}"), "{case}{more}: nothing was learnt");
        }
    }
    let border = border("target_attention_packed");
    border.succeeds(&[&adapt("dora: { targets: [\"role:query\", \"role:value\"], rank: 2, alpha: 4 }")]);
    let learnt = adapter(&border);
    assert_eq!(config(&border)["use_dora"], Value::Bool(true));
    let [module] = &learnt.modules[..] else { panic!("{learnt:?}") };
    assert_eq!(module.magnitude.as_ref().map(Vec::len), Some(module.cols));
    let first = border.path().join("first");
    fs::rename(border.out(), &first).expect("renames");
    let again = adapt("dora: { targets: [\"role:query\", \"role:value\"], rank: 2, alpha: 4 }");
    border.succeeds(&[&STANDS_STILL[..], &[&again, "train.init_from=first/adapter"]].concat());
    assert_eq!(adapter(&border), learnt);
    let said = border.fails(&[
        &adapt("lora: { targets: [\"role:query\", \"role:value\"], rank: 2, alpha: 4 }"),
        "train.init_from=first/adapter",
    ]);
    assert!(said.contains("has magnitudes there: `dora` trains such an adapter"), "{said}");
}

#[test]
fn biases_beside_the_branches() {
    let border = border("bert");
    let plain = "lora: { targets: [\"role:query\"], rank: 2, alpha: 4";
    let outcome = border.succeeds(&[&adapt(&format!("{plain}, bias: lora }}"))]);
    assert_eq!(config(&border)["bias"], "lora_only");
    let names: Vec<&str> = outcome.manifest.targets.iter().map(|t| t.name.as_str()).collect();
    let layer = |i: usize, what: &str| format!("encoder.layer.{i}.attention.self.query.{what}");
    assert_eq!(names, [layer(0, "weight"), layer(1, "weight"), layer(0, "bias"), layer(1, "bias")]);
    let learnt = adapter(&border);
    let keys: Vec<&str> = learnt.saved.iter().map(|s| s.0.as_str()).collect();
    assert_eq!(keys, [0, 1].map(|i| format!("encoder.layer.{i}.attention.self.query.base_layer.bias")));
    let outcome = border.succeeds(&[&adapt(&format!("{plain}, bias: all }}"))]);
    assert_eq!(config(&border)["bias"], "all");
    assert!(outcome.manifest.targets.iter().any(|t| t.name.ends_with("LayerNorm.bias")));
    // Another entry that picks a bias has it.
    let both =
        "adapt=[{ lora: { targets: [\"role:query\"], rank: 2, bias: all } }, { full: { targets: [\"*LayerNorm*\"] } }]";
    let outcome = border.succeeds(&[both]);
    let norms = outcome.manifest.targets.iter().filter(|t| t.name.contains("LayerNorm.bias"));
    assert!(
        norms.clone().count() == 5 && norms.into_iter().all(|t| t.pattern == "*LayerNorm*"),
        "{:?}",
        outcome.manifest.targets
    );
    let said =
        self::border("target_einsum").fails(&[&adapt("lora: { targets: [\"role:query\"], rank: 2, bias: lora }")]);
    assert!(said.contains("`lora` asks for the biases of the targets, and none of them has one"), "{said}");
}

#[test]
fn slices_by_their_names() {
    let border = border("target_attention_packed");
    let names = |targets: &str| {
        let outcome = border.succeeds(&[&adapt(&format!("lora: {{ targets: {targets}, rank: 2 }}"))]);
        outcome.manifest.targets.iter().map(|t| t.name.clone()).collect::<Vec<_>>()
    };
    let both = ["qkv.weight.query", "qkv.weight.value"];
    assert_eq!(names("[{ match: \"qkv*\", slice: [q, v] }]"), both);
    assert_eq!(names("{ match: \"qkv*\", slice: [value, query] }"), both);
    assert_eq!(names("[{ match: qkv.weight, slice: k }, \"role:up\"]"), ["qkv.weight.key", "up.weight"]);
    // A slice may have a rank of its own.
    let ranks = "lora: { targets: [\"role:query\", \"role:value\"], rank: 2, rank_pattern: { qkv.weight.value: 3 } }";
    let outcome = border.succeeds(&[&adapt(ranks)]);
    assert_eq!(outcome.manifest.targets.iter().map(|t| t.rank).collect::<Vec<_>>(), [Some(2), Some(3)]);
    for (targets, says) in [
        ("[{ match: \"qkv*\", slice: [q, gate] }]", "`qkv.weight` has no slice `gate`; it has `query`, `key`, `value`"),
        ("[{ match: \"*out*\", slice: [q] }]", "has no slice `query`; it is not made of parts"),
        ("[{ match: \"qkv*\", slice: [z] }]", "`z` is not a slice: expected q, k, v, gate or up"),
        ("[{ match: \"qkv*\", slice: [] }]", "`slice` is empty"),
        ("[{ match: \"qvk*\", slice: [q] }]", "nearest: qkv.weight"),
        ("[{ match: \"qkv*\" }]", "slice"),
    ] {
        let said = border.fails(&[&adapt(&format!("lora: {{ targets: {targets}, rank: 2 }}"))]);
        assert!(said.contains(says), "{targets}: {said}");
    }
}
