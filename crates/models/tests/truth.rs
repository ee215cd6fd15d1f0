//! Built models against numbers that PyTorch computed from the same weights.

mod common;
#[path = "common/folders.rs"]
mod folders;
#[path = "common/numbers.rs"]
mod numbers;

use common::{Stored, Tensors, recorded, under};
use folders::{config, folder};
use lorac_ir::{DType, Dim, Fact, Graph, verify};
use lorac_models::{Built, build};
use lorac_ops::{Array, evaluate};
use numbers::{array, distance};
use serde_json::Value;

fn built(config: &Value, weights: &Tensors) -> Built {
    let dir = folder(config, weights);
    // The folder is gone when the weights are read: the map holds the file.
    build(dir.path()).unwrap_or_else(|e| panic!("{e}"))
}

fn run(graph: &Graph, ids: &Stored, mask: &Stored) -> Array {
    let (ids, mask) = (array(ids), array(mask));
    let zeros = Array::zeros(ids.shape());
    let given = [("input_ids", ids), ("attention_mask", mask), ("token_type_ids", zeros)];
    evaluate(graph, &given).unwrap_or_else(|e| panic!("{e}")).remove(0)
}

fn names(graph: &Graph, ids: &[lorac_ir::ValueId]) -> Vec<String> {
    ids.iter().map(|v| graph.name_of(*v)).collect()
}

fn check(model_type: &str, class: &str, output: (&str, Fact)) {
    let truth = recorded(&format!("exports/{model_type}-torchscript/truth.safetensors"));
    let built = built(&config(model_type, class), &under("param.", &truth));
    let graph = &built.graph;
    assert_eq!(verify(graph), []);
    assert_eq!((built.architecture.as_str(), built.hidden, graph.opset()), (class, 32, 20));
    let types = (model_type == "bert").then_some("token_type_ids");
    let want: Vec<&str> = ["input_ids", "attention_mask"].into_iter().chain(types).collect();
    assert_eq!(names(graph, graph.inputs()), want);
    assert_eq!(names(graph, graph.outputs()), [output.0]);
    assert_eq!(graph.fact(graph.outputs()[0]), output.1);
    let mut certain = graph.values().map(|(_, v)| v.fact.dims().is_some_and(|d| !d.contains(&Dim::Unknown)));
    assert!(certain.all(|c| c), "every shape is inferred");

    let got = run(graph, &truth["input.input_ids"], &truth["input.attention_mask"]);
    let error = distance(&got, &array(&truth["output"]));
    assert!(error <= 1e-6, "{model_type} is off by {error}");
}

fn states() -> Fact {
    Fact::new(DType::F32, [Dim::named("batch"), Dim::named("sequence"), Dim::Known(32)])
}

fn logits() -> Fact {
    Fact::new(DType::F32, [Dim::named("batch"), Dim::Known(3)])
}

#[test]
fn bert() {
    check("bert", "BertModel", ("last_hidden_state", states()));
}

#[test]
fn distilbert() {
    check("distilbert", "DistilBertModel", ("last_hidden_state", states()));
}

#[test]
fn roberta_with_its_classifier() {
    check("roberta", "RobertaForSequenceClassification", ("logits", logits()));
}

#[test]
fn bert_with_its_classifier() {
    let weights = recorded("peft/bert-qv/merged.safetensors");
    let data = recorded("peft/bert-qv/data.safetensors");
    let built = built(&config("bert", "BertForSequenceClassification"), &weights);
    assert_eq!(verify(&built.graph), []);
    assert_eq!(built.graph.fact(built.graph.outputs()[0]), logits());
    let got = run(&built.graph, &data["eval.input_ids"], &data["eval.attention_mask"]);
    let error = distance(&got, &array(&data["eval.after"]));
    assert!(error <= 1e-6, "off by {error}");
}

#[test]
fn distilbert_with_its_classifier() {
    let truth = recorded("exports/distilbert-torchscript/truth.safetensors");
    let base = under("param.", &truth);
    let mut weights: Tensors = base.iter().map(|(k, t)| (format!("distilbert.{k}"), t.clone())).collect();
    // The classifier is a permutation and then the sum of what is positive of it: easy to compute beside it.
    let turned: Vec<f32> = (0..32 * 32).map(|i| f32::from(u8::from((i / 32 + 1) % 32 == i % 32))).collect();
    weights.insert("pre_classifier.weight".into(), Stored::f32(&[32, 32], &turned));
    weights.insert("pre_classifier.bias".into(), Stored::f32(&[32], &[0.25; 32]));
    weights.insert("classifier.weight".into(), Stored::f32(&[1, 32], &[1.0; 32]));
    weights.insert("classifier.bias".into(), Stored::f32(&[1], &[-1.0]));
    let built = built(&config("distilbert", "DistilBertForSequenceClassification"), &weights);
    assert_eq!(verify(&built.graph), []);
    let got = run(&built.graph, &truth["input.input_ids"], &truth["input.attention_mask"]);
    for (row, states) in array(&truth["output"]).outer_iter().enumerate() {
        let want =
            states.outer_iter().next().map_or(f64::NAN, |s| s.iter().map(|x| (x + 0.25).max(0.0)).sum::<f64>() - 1.0);
        assert!((got[[row, 0]] - want).abs() <= 1e-5, "{} is not {want}", got[[row, 0]]);
    }
}

#[test]
fn a_head_needs_its_class_and_its_weights() {
    let truth = recorded("exports/roberta-torchscript/truth.safetensors");
    let weights = under("param.", &truth);
    let masked = built(&config("roberta", "RobertaForMaskedLM"), &weights);
    assert_eq!(
        (masked.architecture.as_str(), names(&masked.graph, masked.graph.outputs())),
        ("RobertaModel", vec!["last_hidden_state".into()])
    );
    let headless = weights.into_iter().filter(|(name, _)| !name.starts_with("classifier")).collect();
    let headless = built(&config("camembert", "CamembertForSequenceClassification"), &headless);
    assert_eq!(headless.architecture, "CamembertModel");
}

#[test]
fn names_and_orders_of_weights() {
    let truth = recorded("exports/bert-torchscript/truth.safetensors");
    let weights = under("param.", &truth);
    let graph = built(&config("bert", "BertModel"), &weights).graph;
    let up = "encoder.layer.1.intermediate.dense.weight";
    let id = graph.find(up).expect("the weight has its name");
    assert_eq!(graph.fact(id), Fact::new(DType::F32, [32i64, 64]));
    let stored = array(&weights[up]);
    let held = lorac_ops::array(graph.weight(id).expect("a weight")).expect("numbers");
    assert_eq!(held, stored.t());
    let words = graph.find("embeddings.word_embeddings.weight").and_then(|v| graph.weight(v)).expect("a weight");
    assert_eq!(lorac_ops::array(words), Some(array(&weights["embeddings.word_embeddings.weight"])));
    let product = graph.find("/encoder/layer.0/attention/self/query/MatMul").expect("a readable name");
    let (_, node) = graph.producer(product).expect("a node");
    assert_eq!(&*node.origin.source, "/encoder/layer.0/attention/self/query/MatMul");
    assert!(graph.find("pooler.dense.weight").is_none());
}

#[test]
fn every_activation() {
    let truth = recorded("exports/bert-torchscript/truth.safetensors");
    let weights = under("param.", &truth);
    let states = |name: &str| {
        let mut config = config("bert", "BertModel");
        config["hidden_act"] = name.into();
        run(&built(&config, &weights).graph, &truth["input.input_ids"], &truth["input.attention_mask"])
    };
    let exact = states("gelu");
    let near = |name| distance(&states(name), &exact);
    assert!((1e-9..1e-2).contains(&near("gelu_new")));
    assert_eq!(near("gelu_python"), 0.0);
    assert!(near("relu") > 1e-3 && near("silu") > 1e-3);
}
