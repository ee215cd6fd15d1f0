//! The biases that the method `bias` finds in exports are the parameters that PyTorch calls so.

use lorac::passes::{Bias, Method, readable};
use lorac_tests::{data, truth};
use std::collections::BTreeSet;

#[test]
fn every_export_has_the_biases_of_its_model() {
    let (mut all, mut exports) = (0, 0);
    for folder in std::fs::read_dir(data("exports")).expect("lists").flatten() {
        let name = folder.file_name().to_string_lossy().into_owned();
        let model = lorac::onnx::load(folder.path().join("model.onnx")).expect("loads");
        let graph = readable(&model.graph, &model.functions).unwrap_or_else(|e| panic!("{name}: {e}"));
        let found = Bias::default().select(&graph).unwrap_or_default();
        let found: BTreeSet<String> = found.into_iter().map(|t| t.weight_name).collect();
        let truth = truth(&folder.path().join("truth.safetensors"));
        let params = truth.keys().filter_map(|key| key.strip_prefix("param.")).filter(|key| key.ends_with("bias"));
        // Exporters put the module's own name in front.
        let in_file = |key: &str| [key.to_string(), format!("m.{key}")].into_iter().find(|n| graph.find(n).is_some());
        let torch: BTreeSet<String> = params.filter_map(in_file).collect();
        // Into a convolution of ResNet the exporter folds the norm behind it, whose sum gets a name of its own.
        let folded = |n: &&String| n.starts_with("onnx::Conv_") || n.ends_with("convolution.weight_bias");
        let more: Vec<&String> = found.difference(&torch).filter(|n| !folded(n)).collect();
        let missing: Vec<&String> = torch.difference(&found).collect();
        assert!(more.is_empty() && missing.is_empty(), "{name}: found {more:?} beside, missed {missing:?}");
        (all, exports) = (all + torch.len(), exports + 1);
    }
    assert!(exports == 20 && all > 200, "{all} biases of {exports} exports");
}
