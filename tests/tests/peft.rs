//! Thirty AdamW steps of a BERT with LoRA and a trained classifier, against PEFT's: from its first adapter and the same
//! batches, every loss, the final adapter, and the logits of the folded model.

use lorac::ir::{DType, Tensor, ValueId};
use lorac::ops::{array, infer};
use lorac::output::{PeftAdapter, PeftModule, read_peft};
use lorac::passes::{
    AdamW, Lora, Matrix, adamw, cross_entropy, differentiate, expose_statistics, fold_lora, insert_lora, lower, pack,
    prepare, remove_dead, select, train_in_full,
};
use lorac::program::program;
use lorac::train::Step;
use lorac_tests::{data, engines, largest_difference, relative_error, truth};

/// The module that an exported matrix came from: found by content in the merged weights of the base, by position here,
/// since both list layers in order.
fn module<'a>(adapter: &'a PeftAdapter, layer: usize, role: &str) -> &'a PeftModule {
    let name = format!("layer.{layer}.attention.self.{role}");
    adapter.modules.iter().find(|m| m.name.ends_with(&name)).unwrap_or_else(|| panic!("no {name}"))
}

fn saved<'a>(adapter: &'a PeftAdapter, key: &str) -> &'a [f32] {
    &adapter.saved.iter().find(|s| s.0 == key).unwrap_or_else(|| panic!("no {key}")).2
}

fn reproduces(export: &str) {
    let folder = data("peft/bert-qv");
    let case: serde_json::Value =
        serde_json::from_slice(&std::fs::read(folder.join("case.json")).expect("case.json")).expect("JSON");
    let losses: Vec<f64> = case["losses"].as_array().expect("losses").iter().filter_map(|x| x.as_f64()).collect();
    assert_eq!(losses.len(), 30);
    let (first, last) = (read_peft(&folder.join("adapter_init")), read_peft(&folder.join("adapter_final")));
    let (first, last) = (first.expect("adapter_init"), last.expect("adapter_final"));
    let batches = truth(&folder.join("data.safetensors"));
    let model = lorac::onnx::load(folder.join(export)).expect(export);

    let mut graph = model.graph.clone();
    infer(&mut graph).expect("infers");
    let targets = select(&graph, &["role:query", "role:value"]).expect("targets");
    assert_eq!(targets.len(), 4);
    let head: Vec<ValueId> = ["classifier.weight", "classifier.bias"]
        .map(|end| graph.weights().find(|w| w.1.name.ends_with(end)).unwrap_or_else(|| panic!("no {end}")).0)
        .to_vec();
    let lora = Lora { rank: first.rank, alpha: first.alpha, rslora: false };
    let branches = insert_lora(&mut graph, &targets, &lora).expect("inserts");
    let mut params: Vec<ValueId> = branches.iter().flat_map(|b| [b.a, b.b]).collect();
    params.extend(train_in_full(&mut graph, &head).expect("classifier"));
    prepare(&mut graph, &model.functions, &[]).expect("prepares");
    let logits = graph.outputs()[0];
    let loss = cross_entropy(&mut graph, logits, "labels").expect("loss");
    expose_statistics(&mut graph).expect("statistics");
    let grads = differentiate(&mut graph, loss, &params).expect("differentiates");
    let arena = pack(&mut graph, &params, &grads).expect("packs");
    let number = |key: &str| case["optimizer"][key].as_f64().expect(key);
    let cfg = AdamW {
        beta1: number("beta1"),
        beta2: number("beta2"),
        eps: number("eps"),
        weight_decay: number("weight_decay"),
        clip: None,
    };
    adamw(&mut graph, &arena, loss, &cfg).expect("optimizer");
    remove_dead(&mut graph).expect("dead");

    let theta_of = |adapter: &PeftAdapter| -> Vec<f32> {
        let mut theta = Vec::new();
        for (i, role) in order(&targets) {
            theta.extend(&module(adapter, i, role).a);
            theta.extend(&module(adapter, i, role).b);
        }
        theta.extend(saved(adapter, "classifier.weight"));
        theta.extend(saved(adapter, "classifier.bias"));
        theta
    };
    for engine in engines() {
        let who = format!("{export} on {}", engine.name());
        let zeros = Tensor::zeros(DType::F32, &[arena.len()]).expect("zeros");
        let state = vec![
            ("theta", "theta.next", Tensor::vector(&theta_of(&first))),
            ("m", "m.next", zeros.clone()),
            ("v", "v.next", zeros),
        ];
        let program_ = program(engine.as_ref(), &graph, state).unwrap_or_else(|e| panic!("{who}: {e}"));
        let mut step = Step { program: program_, betas: [cfg.beta1, cfg.beta2], noise: None, taken: 0 };
        for (i, want) in losses.iter().enumerate() {
            let feeds: Vec<(String, Tensor)> = ["input_ids", "attention_mask", "labels"]
                .iter()
                .map(|part| (part.to_string(), batches[&format!("step{i:02}.{part}")].tensor()))
                .collect();
            let got = step.run(&feeds, number("lr")).unwrap_or_else(|e| panic!("{who}: {e}"));
            assert!((got.loss - want).abs() <= 1e-4, "{who}: step {i}: {} instead of {want}", got.loss);
        }
        let theta = step.theta().expect("theta");
        let vector = |v: &[f32]| array(&Tensor::vector(v)).expect("reals");
        let error = relative_error(&vector(&theta), &vector(&theta_of(&last)));
        assert!(error <= 1e-3, "{who}: the final adapter is off by {error:e}");
    }

    // Folding PEFT's final adapter into the export gives PEFT's final logits.
    let mut edits = Vec::new();
    for (branch, (i, role)) in branches.iter().zip(order(&targets)) {
        let (m, matrix): (&PeftModule, &Matrix) = (module(&last, i, role), &branch.target.matrix);
        let w0 = model.graph.weight(matrix.weight).expect("a weight");
        let bytes = fold_lora(&branch.target, w0, &m.a, &m.b, m.scale).expect("folds");
        edits.push(lorac::onnx::Edit::new(matrix.weight, bytes));
    }
    for (weight, key) in head.iter().zip(["classifier.weight", "classifier.bias"]) {
        let w0 = model.graph.weight(*weight).expect("a weight");
        let new = Tensor::from_slice(w0.dims(), saved(&last, key)).expect("fits");
        edits.push(lorac::onnx::Edit::new(*weight, new.bytes().clone()));
    }
    let out = tempfile::tempdir().expect("temp");
    let deployed = out.path().join("model.onnx");
    lorac::onnx::patch(&model, &edits, None, &deployed).expect("patches");
    let deployed = lorac::onnx::load(&deployed).expect("loads");
    for engine in engines() {
        for (graph, key) in [(&model.graph, "eval.before"), (&deployed.graph, "eval.after")] {
            let mut graph = graph.clone();
            lower(&mut graph).expect("lowers");
            let mut run = program(engine.as_ref(), &graph, Vec::new()).expect("compiles");
            let (ids, mask) = (batches["eval.input_ids"].tensor(), batches["eval.attention_mask"].tensor());
            let got = run.run(&[("input_ids", &ids), ("attention_mask", &mask)], &["logits"]).expect("runs");
            let worst = largest_difference(&array(&got[0]).expect("reals"), &batches[key].array);
            assert!(worst <= 1e-4, "{export} on {}: {key} is off by {worst:e}", engine.name());
        }
    }
}

/// Layer and role of every target, in the order of the targets.
fn order(targets: &[lorac::passes::Target]) -> Vec<(usize, &'static str)> {
    let mut seen = [0usize; 2];
    let each = targets.iter().map(|t| {
        let value = t.roles.contains(&lorac::passes::Role::Value);
        let layer = seen[usize::from(value)];
        seen[usize::from(value)] += 1;
        (layer, if value { "value" } else { "query" })
    });
    each.collect()
}

#[test]
fn the_torchscript_export_trains_as_peft_does() {
    reproduces("base.torchscript.onnx");
}

#[test]
fn the_dynamo_export_trains_as_peft_does() {
    reproduces("base.dynamo.onnx");
}
