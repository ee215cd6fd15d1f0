//! Methods on exports of real architectures.

use lorac::ir::{Dialect, Graph};
use lorac::onnx::Model;
use lorac::passes::{
    AdamW, Adaptation, Bias, Caches, Full, Groups, Lora, Method, MethodChoice, TrainingSpec, UpdateSpec, readable,
    training_step,
};
use lorac_tests::objective::FirstOutput;
use lorac_tests::{data, truth};
use std::collections::BTreeSet;
use std::path::PathBuf;

/// Every export: its folder, its file, and its graph as methods see it.
fn exports() -> Vec<(PathBuf, Model, Graph)> {
    let folders = std::fs::read_dir(data("exports")).expect("lists").flatten().map(|e| e.path());
    let open = |folder: PathBuf| {
        let model = lorac::onnx::load(folder.join("model.onnx")).expect("loads");
        let graph = readable(&model.graph, &model.functions).unwrap_or_else(|e| panic!("{}: {e}", folder.display()));
        (folder, model, graph)
    };
    folders.map(open).collect()
}

/// What is selected has bytes in the file, and a step that trains it compiles.
#[test]
fn every_export_can_be_trained_by_every_method() {
    let all: [MethodChoice; 3] = [
        Lora { targets: vec!["all-linear".into()], ..Lora::default() }.into(),
        Bias::default().into(),
        Full { targets: vec!["*".into()] }.into(),
    ];
    for (folder, model, graph) in exports() {
        for method in &all {
            let who = format!("{} of {}", method.name(), folder.display());
            let Ok(targets) = method.select(&graph) else {
                // LLaMA has no biases, ResNet no matrix but its head.
                let without = [("bias", "llama"), ("lora", "resnet")];
                assert!(without.iter().any(|(m, e)| method.name() == *m && who.contains(e)), "{who} finds nothing");
                continue;
            };
            let in_file = targets.iter().all(|t| model.location(&t.weight_name).is_some());
            let spec = TrainingSpec {
                adaptations: &[Adaptation { method: &**method, targets }],
                objective: &FirstOutput::default(),
                update: UpdateSpec {
                    optimizer: &AdamW::default(),
                    clip: None,
                    groups: Groups::default(),
                    slices: false,
                    average: None,
                },
                dialect: Dialect::FULL,
                tokens: None,
                caches: Caches::default(),
                packed: false,
            };
            let compiled = training_step(&graph, &spec, &mut |_| {}).unwrap_or_else(|e| panic!("{who}: {e}"));
            assert!(in_file && !compiled.layout.is_empty(), "{who}");
        }
    }
}

/// The biases that `bias` finds are the parameters that PyTorch calls so.
#[test]
fn every_export_has_the_biases_of_its_model() {
    let (mut all, mut seen) = (0, 0);
    for (folder, _, graph) in exports() {
        let name = folder.display();
        let found = Bias::default().select(&graph).unwrap_or_default();
        let found: BTreeSet<String> = found.into_iter().map(|t| t.weight_name).collect();
        let truth = truth(&folder.join("truth.safetensors"));
        let params = truth.keys().filter_map(|key| key.strip_prefix("param.")).filter(|key| key.ends_with("bias"));
        // Exporters put the module's own name in front.
        let in_file = |key: &str| [key.to_string(), format!("m.{key}")].into_iter().find(|n| graph.find(n).is_some());
        let torch: BTreeSet<String> = params.filter_map(in_file).collect();
        // Into a convolution of ResNet the exporter folds the norm behind it, whose sum gets a name of its own.
        let folded = |n: &&String| n.starts_with("onnx::Conv_") || n.ends_with("convolution.weight_bias");
        let more: Vec<&String> = found.difference(&torch).filter(|n| !folded(n)).collect();
        let missing: Vec<&String> = torch.difference(&found).collect();
        assert!(more.is_empty() && missing.is_empty(), "{name}: found {more:?} beside, missed {missing:?}");
        (all, seen) = (all + torch.len(), seen + 1);
    }
    assert!(seen == 20 && all > 200, "{all} biases of {seen} exports");
}
