//! What a pipeline's data are called, how they are written, and what of it a run takes.

use lorac::data::Tokenizer;
use lorac_tests::border::border;
use serde_json::Value;

#[test]
fn inputs_of_any_name_are_fed_what_they_are_said_to_stand_for() {
    let case = border("input_names");
    for (model, ids, mask) in [
        ("model.onnx", "input_ids:0", "attention_mask:0"),
        ("torch.onnx", "input.1", "onnx::Cast_1"),
        ("serving.onnx", "serving_default_input_ids:0", "serving_default_input_mask:0"),
    ] {
        let model = format!("model={model}");
        let refused = case.fails(&[&model]);
        assert!(refused.contains("pipeline.yaml:5:1: error[pipeline::inputs]"), "{refused}");
        assert!(
            refused.contains(&format!("say what they stand for, as in data.inputs: {{ input_ids: {ids:?}")),
            "{refused}"
        );
        let inputs = format!("data.inputs={{ input_ids: \"{ids}\", attention_mask: \"{mask}\" }}");
        case.succeeds(&[&model, &inputs]);
    }
    // Without its mask, nothing is fed to the model that it does not have.
    let one = case.fails(&["data.inputs={ input_ids: \"input_ids:0\" }"]);
    assert!(
        one.contains("the input `attention_mask:0` i64[batch,seq] is none of") && one.contains("attention_mask: "),
        "{one}"
    );
}

/// The numbers are those of transformers' AutoTokenizer.
#[test]
fn a_tokenizer_config_is_followed_as_transformers_does() {
    let folder = lorac_tests::data("tokenizer_config");
    let golden: Value = serde_json::from_slice(&std::fs::read(folder.join("golden.json")).expect("a file")).expect("JSON");
    let texts: Vec<&str> = golden["texts"].as_array().expect("texts").iter().filter_map(Value::as_str).collect();
    for case in golden["cases"].as_array().expect("cases") {
        let (file, config) = (case["tokenizer"].as_str().expect("a name"), &case["config"]);
        let one = tempfile::tempdir().expect("a folder");
        std::fs::copy(folder.join(format!("{file}.json")), one.path().join("tokenizer.json")).expect("copies");
        std::fs::write(one.path().join("tokenizer_config.json"), config.to_string()).expect("writes");
        for (length, key) in [(6, "short"), (64, "whole")] {
            let tokenizer = Tokenizer::from_file(&one.path().join("tokenizer.json"), length).expect("a tokenizer");
            let ids: Vec<Vec<i64>> = tokenizer.encode(&texts).expect("encodes").into_iter().map(|e| e.ids).collect();
            assert_eq!(serde_json::json!(ids), case[key], "{file} {config} {length}");
            assert!(case["pad_id"].as_i64().is_none_or(|id| id == tokenizer.pad_id()), "{file} {config}");
        }
    }
}
