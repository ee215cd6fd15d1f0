//! Models with an encoder and a decoder, from a pipeline to the answers of what is deployed; and those that do not fit.

use lorac::onnx::proto::type_proto::Value as Type;
use lorac::onnx::proto::{ModelProto, tensor_shape_proto::dimension::Value as Size};
use lorac::pipeline::Loaded;
use lorac::predict::{Options, Predictor};
use lorac::progress::Silent;
use lorac::run::{Outcome, RunOptions, run};
use lorac_tests::serve::{in_python, python_snippet, unfed};
use lorac_tests::{ONNXRUNTIME, answers, data, resolver};
use prost::Message;
use serde_json::json;
use std::fs;
use std::path::Path;
use std::sync::atomic::AtomicBool;
use tempfile::TempDir;

/// A folder with a model of the truth, its configuration and data.
fn folder(model: &str) -> TempDir {
    let folder = answers::folder(usize::from(model.starts_with("bart")));
    fs::copy(data("truth/seq2seq").join(model), folder.path().join("model.onnx")).expect("copies");
    folder
}

fn loaded(folder: &Path, sets: &[&str]) -> Result<Loaded, String> {
    answers::pipeline(folder, "model.onnx", sets)
}

fn trained(folder: &Path, sets: &[&str]) -> Result<Outcome, String> {
    let loaded = loaded(folder, sets)?;
    let options = RunOptions { out: folder.join("out"), command: "test".into(), progress: &Silent, emit: None };
    run(&loaded, &resolver(), &options, &AtomicBool::new(false)).map_err(|e| e.to_string())
}

#[test]
fn a_model_learns_to_answer_and_what_is_deployed_answers_alike() {
    // The one is taught to be right, the other to be better.
    for (model, sets) in [("t5.dynamo.onnx", &[][..]), ("bart.torchscript.onnx", &["metrics.exact_match={}"])] {
        let folder = folder(model);
        let outcome = trained(folder.path(), sets).unwrap_or_else(|e| panic!("{model}: {e}"));
        let eval = &outcome.manifest.eval;
        assert_eq!(outcome.gates, [] as [String; 0], "{model}: {eval:?}");
        let get = |name: &str| (eval.before.get(name).expect("a score"), eval.after.get(name).expect("a score"));
        assert!(get("exact_match").0 == 0.0 && get("perplexity").1 < get("perplexity").0, "{model}: {eval:?}");
        let served = outcome.manifest.served.as_ref().expect("served");
        assert_eq!((served.task.as_str(), served.decoder_start.is_some()), ("seq2seq", true));
        let config = fs::read_to_string(folder.path().join("out/adapter/adapter_config.json")).expect("an adapter");
        assert!(config.contains("SEQ_2_SEQ_LM"), "{config}");
        let card = fs::read_to_string(folder.path().join("out/README.md")).expect("a card");
        let feeds = format!("answer = np.full((len(texts), 1), {})", served.decoder_start.unwrap_or(-1));
        assert!(card.contains(&feeds) && card.contains("\"decoder_input_ids\": answer"), "{card}");
        assert!(card.contains("Options { writes: true") && card.contains("text2text-generation"), "{card}");

        let loaded = loaded(folder.path(), &[]).expect("loads");
        let out = folder.path().join("out").display().to_string();
        let options = answers::answer_alike(&out, &loaded, eval);
        let error = Predictor::open(&out, &Options { writes: false, ..options }).map(drop).expect_err("refused");
        assert!(error.to_string().contains("has no perplexity of it"), "{error}");
    }
}

/// Inputs that exporters give such models, and that nothing in this one reads.
fn with_more_inputs(file: &Path) {
    let mut model = ModelProto::decode(&fs::read(file).expect("a model")[..]).expect("decodes");
    let graph = model.graph.as_mut().expect("a graph");
    let like = graph.input.iter().find(|input| input.name.as_deref() == Some("input_ids")).expect("tokens").clone();
    let (named, number) = (|name: &str| Size::DimParam(name.into()), Size::DimValue);
    let past = [None, Some(number(2)), Some(named("past")), Some(number(4))];
    for (name, dtype, dims) in [
        ("position_ids", 7, vec![None, None]),
        ("past_key_values.0.decoder.key", 1, past.to_vec()),
        ("use_cache_branch", 9, vec![Some(number(1))]),
    ] {
        let mut input = like.clone();
        input.name = Some(name.into());
        let Some(Type::TensorType(tensor)) = input.r#type.as_mut().and_then(|t| t.value.as_mut()) else { panic!() };
        tensor.elem_type = Some(dtype);
        let shape = tensor.shape.as_mut().expect("a shape");
        let own = shape.dim.clone();
        let of = |(at, value): (usize, Option<Size>)| {
            let mut dim = own[at.min(own.len() - 1)].clone();
            dim.value = value.or(dim.value);
            dim
        };
        shape.dim = dims.into_iter().enumerate().map(of).collect();
        graph.input.push(input);
    }
    fs::write(file, model.encode_to_vec()).expect("writes");
}

/// What is done to the file of a model.
type Change<'a> = &'a dyn Fn(&Path);

/// Gives the inputs of a model this shape and no other.
fn fixed(file: &Path, shape: [i64; 2]) {
    let mut model = ModelProto::decode(&fs::read(file).expect("a model")[..]).expect("decodes");
    for input in &mut model.graph.as_mut().expect("a graph").input {
        let Some(Type::TensorType(tensor)) = input.r#type.as_mut().and_then(|t| t.value.as_mut()) else { continue };
        let dims = tensor.shape.as_mut().map(|shape| &mut shape.dim).into_iter().flatten();
        dims.zip(shape).for_each(|(dim, n)| dim.value = Some(Size::DimValue(n)));
    }
    fs::write(file, model.encode_to_vec()).expect("writes");
}

#[test]
fn the_snippet_of_a_card_writes_whatever_the_model_takes() {
    let mut rows = Vec::new();
    let shapes: [(&str, Change, usize); 3] = [
        ("t5.dynamo.onnx", &|_| (), 2),
        ("t5.dynamo.onnx", &with_more_inputs, 2),
        ("bart.torchscript.onnx", &|file| fixed(file, [4, 16]), 4),
    ];
    let cases = shapes.map(|(model, change, texts)| (model, folder(model), change, texts));
    for (model, folder, change, texts) in &cases {
        change(&folder.path().join("model.onnx"));
        let sets = [
            "train.epochs=15",
            "train.batch=4",
            "metrics={ bleu: {} }",
            "deploy={ formats: [onnx, serving], metadata: true }",
        ];
        trained(folder.path(), &sets).unwrap_or_else(|e| panic!("{model}: {e}"));
        let out = folder.path().join("out");
        assert_eq!(unfed(&out), [] as [String; 0], "{model}: {}", python_snippet(&out));
        let runtime = ONNXRUNTIME.to_string().try_into().expect("a source");
        let options = Options { runtime, writes: true, ..Options::default() };
        let asked = if *texts == 2 { vec!["a fine film", "a dull one"] } else { vec!["a fine film"; *texts] };
        let said = Predictor::open(&out.display().to_string(), &options).and_then(|mut model| model.texts(&asked));
        let said = said.unwrap_or_else(|e| panic!("{model}: {e}"));
        rows.push(json!({ "name": "seq2seq", "folder": out, "predict": said, "texts": asked }));
    }
    in_python(rows);
}

#[test]
fn models_and_tasks_that_do_not_belong_together_are_named() {
    let folder = folder("t5.torchscript.onnx");
    let fails = |sets: &[&str]| trained(folder.path(), sets).map(|_| ()).expect_err("refused");
    let said = fails(&["task=causal_lm", "metrics={}"]);
    assert!(said.contains("the model has an encoder and a decoder") && said.contains("task: seq2seq"), "{said}");
    assert!(said.contains("p.yaml:") && said.contains("pipeline::decoder"), "{said}");
    let decoder = format!("model={}", data("cached/llama/model.onnx").display());
    let here = format!("tokenizer={}", folder.path().display());
    let said = fails(&[&decoder, &here]);
    assert!(said.contains("the model has no input `decoder_input_ids`") && said.contains("task: causal_lm"), "{said}");
    let said = fails(&[&format!("data.eval={{ jsonl: {}/eval.jsonl, text: prompt }}", folder.path().display())]);
    assert!(said.contains("prompt: COLUMN, completion: COLUMN") && said.contains("does not read it"), "{said}");
    let said = fails(&["data.max_length=1"]);
    assert!(said.contains("max_length"), "{said}");

    fs::remove_file(folder.path().join("config.json")).expect("removes");
    let said = fails(&[]);
    assert!(said.contains("nothing says which token the decoder begins with"), "{said}");
    let outcome =
        trained(folder.path(), &["task.seq2seq.decoder_start_token_id=0", "train.steps=1", "metrics={ bleu: {} }"]);
    assert_eq!(outcome.unwrap_or_else(|e| panic!("{e}")).gates, [] as [String; 0]);
    let said = fails(&["task.seq2seq.decoder_start_token_id=99", "train.steps=1", "metrics={ bleu: {} }"]);
    assert!(said.contains("token 99") && said.contains("41 rows"), "{said}");
}
