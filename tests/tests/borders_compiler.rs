//! Models whose graphs are written as other tools write them, on both engines.

use lorac::ir::{Graph, ValueId};
use lorac::onnx::{SaveOptions, load, save};
use lorac::run::Outcome;
use lorac_tests::border::{Border, border};

const EMBEDDED: &str = "runtime.source=embedded";

/// Held-out texts have a smaller loss than before.
#[track_caller]
fn learns(outcome: &Outcome) {
    let eval = &outcome.manifest.eval;
    let loss = |scores: &lorac::train::Scores| scores.scores.iter().find(|s| s.name == "loss").map(|s| s.value);
    assert!(loss(&eval.after) < loss(&eval.before), "{eval:?}");
}

#[test]
fn a_language_head_with_a_bias_trains() {
    learns(&border("head_bias").succeeds(&[]));
}

/// Of a merged decoder the branch without a cache is trained; the weights of both are the same.
#[test]
fn a_merged_decoder_trains_its_branch_without_a_cache() {
    for settings in [&[][..], &[EMBEDDED]] {
        learns(&border("merged").succeeds(settings));
    }
    let model = lorac::onnx::load(border("merged").path().join("model.onnx")).expect("loads");
    let seen = lorac::inspect::summary(&model.graph, &model.functions);
    let roles: Vec<(&str, &[String])> = seen.matrices.iter().map(|m| (m.name.as_str(), m.roles.as_slice())).collect();
    assert_eq!(roles[0], ("wq", &["query".to_string()][..]), "{roles:?}");
    assert!(seen.without_gradient.is_empty() && seen.operators.contains_key("If"), "{:?}", seen.without_gradient);
}

/// The model builder of onnxruntime-genai gives the width of a head a name.
#[test]
fn a_cache_whose_width_is_a_name_has_that_of_its_attention() {
    for settings in [&[][..], &[EMBEDDED]] {
        learns(&border("genai").succeeds(settings));
    }
}

/// A model that takes 1 x 16 tokens and nothing else: batches and padding follow.
#[test]
fn a_model_of_one_shape_is_trained_in_that_shape() {
    for settings in [&[][..], &[EMBEDDED]] {
        border("static").succeeds(settings);
    }
}

/// What is accepted of a model of halves is what halves can say.
#[test]
fn a_model_of_halves_trains_and_is_held_to_what_they_can_say() {
    for settings in [&[][..], &[EMBEDDED], &["adapt=[{full: {targets: [\"*\"]}}]"]] {
        let verify = border("halves").succeeds(settings).manifest.verify;
        assert!(verify.tolerance_by.starts_with("f16, outputs up to "), "{verify:?}");
        assert!(verify.max_abs_diff < 0.01 && verify.tolerance < 0.1, "{verify:?}");
    }
    let says = border("halves").fails(&["deploy.verify.max_abs_diff=1e-6"]);
    assert!(says.contains("more than 1.000e-6 (deploy.verify.max_abs_diff)"), "{says}");
}

/// What training, heads and their files call things of their own.
const OURS: [&str; 21] = [
    "theta",
    "theta.next",
    "labels",
    "loss",
    "loss.sum",
    "loss.count",
    "grad_norm",
    "lr",
    "m",
    "m.next",
    "v",
    "correction1",
    "correction2",
    "dropout.rows",
    "dropout.columns",
    "logits",
    "classifier.weight",
    "classifier.bias",
    "classifier.new_axis",
    "classifier.ReduceSum",
    "%500",
];

/// The border `static` with values of the model called otherwise.
fn renamed(values: impl FnOnce(&Graph) -> Vec<ValueId>, names: &[&str]) -> Border {
    let border = border("static");
    let path = border.path().join("model.onnx");
    let mut graph = load(&path).expect("loads").graph;
    let values = values(&graph);
    assert!(values.len() >= names.len(), "{} values", values.len());
    for (value, name) in values.into_iter().zip(names) {
        graph.rename(value, name).expect("a name");
    }
    save(&graph, &path, &SaveOptions::default()).expect("saves");
    border
}

#[test]
fn names_of_a_model_clash_with_nothing() {
    let few = ["train.steps=2", "data.eval.take=4"];
    let dropout = "adapt=[{lora: {targets: [\"role:query\", \"role:value\"], rank: 2, alpha: 4, dropout: 0.1}}]";
    let computed = |graph: &Graph| {
        let outputs = graph.outputs().to_vec();
        let values = graph.nodes().flat_map(|(_, n)| n.outputs.clone());
        values.filter(|v| !outputs.contains(v)).skip(60).collect::<Vec<_>>()
    };
    let weights = |graph: &Graph| {
        let all = graph.weights().filter(|(_, v, _)| !v.name.contains("query") && !v.name.contains("value"));
        all.map(|w| w.0).collect::<Vec<_>>()
    };
    for engine in ["runtime.source=pypi:onnxruntime==1.31.1", EMBEDDED] {
        renamed(computed, &OURS).succeeds(&[dropout, few[0], few[1], engine]);
        renamed(weights, &OURS).succeeds(&[dropout, few[0], few[1], engine]);
        let output = |graph: &Graph| graph.outputs().to_vec();
        renamed(output, &["loss.sum"]).succeeds(&[dropout, few[0], few[1], engine]);
        for [ids, mask] in [["theta", "labels"], ["m", "lr"]] {
            let inputs = format!("data.inputs={{input_ids: \"{ids}\", attention_mask: \"{mask}\"}}");
            let named = |graph: &Graph| ["input_ids", "attention_mask"].map(|n| graph.find(n).expect(n)).to_vec();
            renamed(named, &[ids, mask]).succeeds(&[dropout, few[0], few[1], engine, &inputs]);
        }
    }
}

/// A second head beside the model's own: both outputs are in the file.
#[test]
fn a_second_head_has_names_of_its_own() {
    let border = renamed(|graph| graph.outputs().to_vec(), &["logits"]);
    border.succeeds(&[]);
    let deployed = load(border.out().join("model.onnx")).expect("loads").graph;
    let outputs: Vec<String> = deployed.outputs().iter().map(|v| deployed.name_of(*v)).collect();
    assert_eq!(outputs, ["logits", "logits_2"]);
}
