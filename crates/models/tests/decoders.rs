//! Built decoders against numbers that PyTorch computed from the same weights.

mod common;
#[path = "common/folders.rs"]
mod folders;
#[path = "common/numbers.rs"]
mod numbers;

use common::{Stored, Tensors, recorded, under};
use folders::{config, folder};
use lorac_ir::{DType, Dim, Fact, Graph, print, verify};
use lorac_models::{Built, ModelError, build};
use lorac_ops::{Array, evaluate};
use numbers::{array, distance};
use serde_json::{Value, json};

fn truth(model_type: &str) -> Tensors {
    recorded(&format!("exports/{model_type}-torchscript/truth.safetensors"))
}

fn built(config: &Value, weights: &Tensors) -> Built {
    let dir = folder(config, weights);
    build(dir.path()).unwrap_or_else(|e| panic!("{e}"))
}

fn run(graph: &Graph, ids: &Array, mask: &Array) -> Array {
    let given = [("input_ids", ids.clone()), ("attention_mask", mask.clone())];
    evaluate(graph, &given).unwrap_or_else(|e| panic!("{e}")).remove(0)
}

fn check(model_type: &str, class: &str) -> Graph {
    let truth = truth(model_type);
    let built = built(&config(model_type, ""), &under("param.", &truth));
    let graph = built.graph;
    assert_eq!(verify(&graph), []);
    assert_eq!((built.architecture.as_str(), built.hidden, graph.opset()), (class, 32, 20));
    let names = |ids: &[lorac_ir::ValueId]| ids.iter().map(|v| graph.name_of(*v)).collect::<Vec<_>>();
    assert_eq!(names(graph.inputs()), ["input_ids", "attention_mask"]);
    assert_eq!(names(graph.outputs()), ["logits"]);
    let logits = Fact::new(DType::F32, [Dim::named("batch"), Dim::named("sequence"), Dim::Known(97)]);
    assert_eq!(graph.fact(graph.outputs()[0]), logits);
    let certain = |fact: &Fact| fact.dims().is_some_and(|d| !d.contains(&Dim::Unknown));
    assert!(graph.values().all(|(_, v)| certain(&v.fact)), "every shape is inferred");
    assert!(graph.nodes().all(|(_, node)| node.op.domain.is_empty()), "standard operators only");

    let got = run(&graph, &array(&truth["input.input_ids"]), &array(&truth["input.attention_mask"]));
    let error = distance(&got, &array(&truth["output"]));
    assert!(error <= 1e-5, "{model_type} is off by {error}");
    graph
}

/// The operator and the operands of the node of a product.
fn product(graph: &Graph, name: &str, weight: &str) -> String {
    let value = graph.find(name).unwrap_or_else(|| panic!("{name} is a readable name"));
    let (_, node) = graph.producer(value).expect("a node");
    assert_eq!(node.input(1).map(|v| graph.name_of(v)).as_deref(), Some(weight));
    node.op.to_string()
}

#[test]
fn gpt2() {
    let graph = check("gpt2", "GPT2LMHeadModel");
    for part in ["attn/c_attn", "attn/c_proj", "mlp/c_fc", "mlp/c_proj"] {
        let weight = format!("transformer.h.1.{}.weight", part.replace('/', "."));
        assert_eq!(product(&graph, &format!("/transformer/h.1/{part}/MatMul"), &weight), "MatMul");
    }
    assert_eq!(product(&graph, "/lm_head/Gemm", "transformer.wte.weight"), "Gemm");
}

#[test]
fn gpt2_without_its_prefix() {
    let truth = truth("gpt2");
    let graph = built(&config("gpt2", "GPT2LMHeadModel"), &under("param.transformer.", &truth)).graph;
    assert!(graph.find("wte.weight").is_some());
    let got = run(&graph, &array(&truth["input.input_ids"]), &array(&truth["input.attention_mask"]));
    assert!(distance(&got, &array(&truth["output"])) <= 1e-5);
}

#[test]
fn llama_with_its_own_matrix_of_scores() {
    let graph = check("llama", "LlamaForCausalLM");
    let parts = ["q_proj", "k_proj", "v_proj", "o_proj"].map(|p| ("self_attn", p));
    for (module, part) in parts.into_iter().chain(["gate_proj", "up_proj", "down_proj"].map(|p| ("mlp", p))) {
        let weight = format!("model.layers.1.{module}.{part}.weight");
        assert_eq!(product(&graph, &format!("/model/layers.1/{module}/{part}/MatMul"), &weight), "MatMul");
    }
    assert_eq!(product(&graph, "logits", "lm_head.weight"), "MatMul");
}

#[test]
fn qwen2_with_a_table_for_both_ends() {
    let graph = check("qwen2", "Qwen2ForCausalLM");
    let table = graph.find("model.embed_tokens.weight").expect("the table");
    let readers = graph.nodes().filter(|(_, node)| node.inputs.contains(&Some(table)));
    assert_eq!(readers.count(), 2, "one table for the tokens and the scores");
    let sizes = graph.values().filter_map(|(id, _)| graph.weight(id)).filter(|t| t.dims() == [97, 32]);
    assert_eq!(sizes.count(), 1);
}

/// The numbers are those of transformers: tests/truth/decoder_heads.py.
#[test]
fn classifiers_read_the_last_token_of_each_row() {
    let file = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/data/truth/decoder_heads.json");
    let golden: Value = serde_json::from_slice(&std::fs::read(file).expect("a file")).expect("JSON");
    for (model_type, class) in [
        ("gpt2", "GPT2ForSequenceClassification"),
        ("llama", "LlamaForSequenceClassification"),
        ("qwen2", "Qwen2ForSequenceClassification"),
    ] {
        let numbers = |key: &str| -> Vec<f64> {
            let all = golden[model_type][key].as_array().into_iter().flatten();
            all.filter_map(Value::as_f64).collect()
        };
        let of = |key: &str, dims: [usize; 2]| Array::from_shape_vec(dims.to_vec(), numbers(key)).expect("fits");
        let mut weights = under("param.", &truth(model_type));
        weights.remove("lm_head.weight");
        let score: Vec<f32> = numbers("score").iter().map(|x| *x as f32).collect();
        weights.insert("score.weight".into(), Stored::f32(&[3, 32], &score));
        let made = built(&config(model_type, class), &weights);
        assert_eq!((made.architecture.as_str(), verify(&made.graph)), (class, vec![]));
        let logits = Fact::new(DType::F32, [Dim::named("batch"), Dim::Known(3)]);
        assert_eq!(made.graph.fact(made.graph.outputs()[0]), logits);
        let got = run(&made.graph, &of("ids", [2, 9]), &of("mask", [2, 9]));
        let error = distance(&got, &of("logits", [2, 3]));
        assert!(error <= 1e-5, "{model_type} is off by {error}");

        weights.remove("score.weight");
        let headless = built(&config(model_type, class), &weights);
        assert_eq!(headless.architecture, class.replace("ForSequenceClassification", "Model"));
    }
}

#[test]
fn a_window_hides_what_is_far_before() {
    let truth = truth("llama");
    let weights = under("param.", &truth);
    let (ids, ones) = (array(&truth["input.input_ids"]), Array::ones(vec![2, 9]));
    let logits = |model_type: &str, window: Value| {
        let mut config = config("llama", "LlamaForCausalLM");
        config["model_type"] = model_type.into();
        config["sliding_window"] = window;
        run(&built(&config, &weights).graph, &ids, &ones)
    };
    let all = logits("llama", Value::Null);
    assert_eq!(logits("mistral", Value::Null), all);
    assert_eq!(logits("mistral", 9.into()), all);
    let (near, last) =
        (logits("mistral", 3.into()), |x: &Array, i: usize| x.index_axis(ndarray::Axis(1), i).to_owned());
    assert_eq!(last(&near, 2), last(&all, 2));
    assert!(distance(&last(&near, 3), &last(&all, 3)) > 1e-4);
    // Two layers of three tokens: the fifth before is out of sight, the fourth is not.
    let mut other = ids.clone();
    other[[0, 3]] = 96.0 - other[[0, 3]];
    let graph = {
        let mut config = config("llama", "LlamaForCausalLM");
        config["model_type"] = "mistral".into();
        config["sliding_window"] = 3.into();
        built(&config, &weights).graph
    };
    let other = run(&graph, &other, &ones);
    assert_eq!(last(&other, 8), last(&near, 8));
    assert!(distance(&last(&other, 7), &last(&near, 7)) > 1e-9);
}

#[test]
fn later_tokens_and_padding_do_not_matter() {
    for model_type in ["gpt2", "llama", "qwen2"] {
        let truth = truth(model_type);
        let graph = built(&config(model_type, ""), &under("param.", &truth)).graph;
        let (ids, mut mask) = (array(&truth["input.input_ids"]), Array::ones(vec![2, 9]));
        mask[[1, 8]] = 0.0;
        let before = run(&graph, &ids, &mask);
        let mut changed = ids.clone();
        (changed[[0, 8]], changed[[1, 8]]) = (5.0, 6.0);
        let after = run(&graph, &changed, &mask);
        let early = |x: &Array| x.slice_axis(ndarray::Axis(1), (..8).into()).to_owned().into_dyn();
        assert_eq!(early(&before), early(&after));
        assert!(distance(&before, &after) > 1e-3);
        // Nothing to see at all gives numbers, if no meaning.
        mask[[1, 0]] = 0.0;
        assert!(run(&graph, &ids, &mask).iter().all(|x| x.is_finite()));
    }
}

#[test]
fn several_files_are_one_model() {
    let truth = truth("llama");
    let weights = under("param.", &truth);
    let whole = folder(&config("llama", "LlamaForCausalLM"), &weights);
    let (first, second): (Vec<_>, Vec<_>) = weights.iter().partition(|(name, _)| name.contains("layers.0"));
    let part = |half: Vec<(&String, &Stored)>| {
        folder(&config("llama", "LlamaForCausalLM"), &half.into_iter().map(|(k, t)| (k.clone(), t.clone())).collect())
    };
    let index: serde_json::Map<String, Value> = weights
        .keys()
        .map(|name| (name.clone(), if name.contains("layers.0") { "a.safetensors" } else { "b.safetensors" }.into()))
        .collect();
    let (first, second) = (part(first), part(second));
    let sharded = tempfile::tempdir().expect("a folder");
    let place = |name: &str| sharded.path().join(name);
    for (dir, name) in [(&first, "a.safetensors"), (&second, "b.safetensors")] {
        std::fs::copy(dir.path().join("model.safetensors"), place(name)).expect("copies");
    }
    std::fs::write(place("config.json"), config("llama", "LlamaForCausalLM").to_string()).expect("writes");
    let write = |map: Value| std::fs::write(place("model.safetensors.index.json"), map.to_string()).expect("writes");
    write(json!({ "weight_map": index.clone() }));
    let text = |dir: &std::path::Path| build(dir).map(|b| print(&b.graph)).unwrap_or_else(|e| panic!("{e}"));
    assert_eq!(text(sharded.path()), text(whole.path()));

    for outside in ["../b.safetensors", "/b.safetensors", ".."] {
        write(json!({ "weight_map": { "x": outside } }));
        let Err(ModelError::Config { faults, .. }) = build(sharded.path()) else { panic!("opened {outside}") };
        assert_eq!(faults[0].field, "weight_map.x");
    }
    write(json!({ "weight_map": 3 }));
    assert!(matches!(build(sharded.path()), Err(ModelError::Config { .. })));
    write(json!({ "weight_map": { "x": "c.safetensors" } }));
    assert!(matches!(build(sharded.path()), Err(ModelError::Read { file, .. }) if file.ends_with("c.safetensors")));
}

#[test]
fn what_a_decoder_lacks_is_named() {
    let mut weights = under("param.", &truth("llama"));
    weights.remove("lm_head.weight");
    weights.insert("model.layers.0.self_attn.k_proj.weight".into(), Stored::f32(&[32, 32], &[0.0; 1024]));
    let Err(ModelError::Tensors { missing, wrong, .. }) =
        build(folder(&config("llama", "LlamaForCausalLM"), &weights).path())
    else {
        panic!("built")
    };
    assert_eq!(missing, ["lm_head.weight"]);
    assert_eq!(wrong[0].to_string(), "model.layers.0.self_attn.k_proj.weight is f32[32,32], expected f32[16,32]");
}
