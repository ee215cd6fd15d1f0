//! Thirty AdamW steps of a BERT with LoRA and a trained classifier, against PEFT's: every loss, the final adapter, and
//! the logits of the folded model.

use lorac::ir::{Graph, Tensor, ValueId};
use lorac::ops::infer;
use lorac::output::{PeftAdapter, PeftModule};
use lorac::passes::{
    Lora, Role, Target, adamw, cross_entropy, differentiate, expose_layer_norm_stats, fold_lora, insert_lora, lower,
    pack, prepare, remove_dead, select, unfreeze,
};
use lorac_tests::engines;
use lorac_tests::peft::Training;

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
    let peft = Training::read("bert-qv");
    let (first, last) = (&peft.first, &peft.last);
    let model = lorac::onnx::load(peft.folder.join(export)).expect(export);
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
    params.extend(unfreeze(&mut graph, &head).expect("classifier"));
    prepare(&mut graph, &model.functions, &[]).expect("prepares");
    let logits = graph.outputs()[0];
    let loss = cross_entropy(&mut graph, logits, "labels").expect("loss");
    expose_layer_norm_stats(&mut graph).expect("statistics");
    let grads = differentiate(&mut graph, loss, &params).expect("differentiates");
    let arena = pack(&mut graph, &params, &grads).expect("packs");
    adamw(&mut graph, &arena, loss, &peft.optimizer).expect("optimizer");
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

    // Folding PEFT's final adapter into the export gives PEFT's final logits.
    let mut edits = Vec::new();
    for (branch, (i, role)) in branches.iter().zip(order(&targets)) {
        let (m, weight) = (module(last, i, role), branch.target.matrix.weight);
        let w0 = model.graph.weight(weight).expect("a weight");
        edits.push(lorac::onnx::Edit::new(weight, fold_lora(&branch.target, w0, &m.a, &m.b, m.scale).expect("folds")));
    }
    for (weight, key) in head.iter().zip(["classifier.weight", "classifier.bias"]) {
        let w0 = model.graph.weight(*weight).expect("a weight");
        let new = Tensor::from_slice(w0.dims(), saved(last, key)).expect("fits");
        edits.push(lorac::onnx::Edit::new(*weight, new.bytes().clone()));
    }
    let out = tempfile::tempdir().expect("temp");
    let deployed = out.path().join("model.onnx");
    lorac::onnx::patch(&model, &edits, None, &deployed).expect("patches");
    let deployed = lorac::onnx::load(&deployed).expect("loads");
    let lowered = |graph: &Graph| {
        let mut graph = graph.clone();
        lower(&mut graph).expect("lowers");
        graph
    };
    for engine in engines() {
        let who = format!("{export} on {}", engine.name());
        peft.is_done_by(engine.as_ref(), &graph, [&theta_of(first), &theta_of(last)], &who);
        peft.agrees(engine.as_ref(), [&lowered(&model.graph), &lowered(&deployed.graph)], &who);
    }
}

/// Layer and role of every target, in the order of the targets.
fn order(targets: &[Target]) -> Vec<(usize, &'static str)> {
    let mut seen = [0usize; 2];
    let each = targets.iter().map(|t| {
        let value = t.roles.contains(&Role::Value);
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
