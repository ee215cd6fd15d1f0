//! Thirty AdamW steps of a BERT with LoRA and a trained classifier, against PEFT's: every loss, the final adapter, and
//! the logits of the folded model.

use lorac::ir::{Graph, Tensor, ValueId};
use lorac::output::{PeftAdapter, PeftModule};
use lorac::passes::{
    Adaptation, Caches, Lora, Method, Role, Target, TrainingSpec, UpdateSpec, fold_low_rank, lower, readable,
    training_step,
};
use lorac_tests::engines;
use lorac_tests::objective::FirstOutput;
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
    let graph = readable(&model.graph, &model.functions).expect(export);
    let lora = Lora { rank: first.rank, alpha: first.alpha, ..Lora::default() };
    let targets = lora.select(&graph).expect("targets");
    assert_eq!(targets.len(), 4);
    let head: Vec<ValueId> = ["classifier.weight", "classifier.bias"]
        .map(|end| graph.weights().find(|w| w.1.name.ends_with(end)).unwrap_or_else(|| panic!("no {end}")).0)
        .to_vec();
    let objective = FirstOutput { trained: head.clone() };

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
    for (target, (i, role)) in targets.iter().zip(order(&targets)) {
        let m = module(last, i, role);
        let w0 = model.graph.weight(target.weight).expect("a weight");
        let bytes = fold_low_rank(target, w0, &m.a, &m.b, m.scale()).expect("folds");
        edits.push(lorac::onnx::Edit::new(target.weight, bytes));
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
        let spec = TrainingSpec {
            adaptations: &[Adaptation { method: &lora, targets: targets.clone() }],
            objective: &objective,
            update: UpdateSpec::of(&peft.optimizer),
            dialect: engine.dialect(),
            tokens: None,
            caches: Caches::default(),
            packed: false,
        };
        let compiled = training_step(&graph, &spec, &mut |_| {}).unwrap_or_else(|e| panic!("{who}: {e}"));
        peft.is_done_by(engine.as_ref(), &compiled, [&theta_of(first), &theta_of(last)], &who);
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
