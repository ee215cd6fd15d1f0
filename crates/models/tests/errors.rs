//! Folders that hold no model.

mod common;
#[path = "common/folders.rs"]
mod folders;

use common::{Stored, Tensors, recorded, under};
use folders::{config, folder};
use lorac_models::{ModelError, build};
use safetensors::Dtype;
use std::path::Path;

fn weights() -> Tensors {
    under("param.", &recorded("exports/bert-torchscript/truth.safetensors"))
}

fn fails(dir: &Path) -> ModelError {
    match build(dir) {
        Ok(built) => panic!("built a {}", built.architecture),
        Err(e) => e,
    }
}

#[test]
fn all_tensors_that_do_not_fit_are_named_at_once() {
    let mut weights = weights();
    weights.remove("embeddings.LayerNorm.bias");
    weights.remove("encoder.layer.1.output.dense.weight");
    weights.insert("encoder.layer.0.attention.self.key.weight".into(), Stored::f32(&[32, 31], &[0.0; 32 * 31]));
    let ints = Stored { dtype: Dtype::I32, dims: vec![97, 32], bytes: vec![0; 97 * 32 * 4] };
    weights.insert("embeddings.word_embeddings.weight".into(), ints);
    let dir = folder(&config("bert", "BertModel"), &weights);
    let error = fails(dir.path());
    assert_eq!(error.code(), "model::tensors");
    let ModelError::Tensors { file, missing, wrong } = error else { panic!("another error") };
    assert!(file.ends_with("model.safetensors"));
    assert_eq!(missing, ["embeddings.LayerNorm.bias", "encoder.layer.1.output.dense.weight"]);
    let wrong: Vec<String> = wrong.iter().map(ToString::to_string).collect();
    let want = [
        "embeddings.word_embeddings.weight is i32[97,32], expected f32[97,32]",
        "encoder.layer.0.attention.self.key.weight is f32[32,31], expected f32[32,32]",
    ];
    assert_eq!(wrong, want);
}

#[test]
fn a_configuration_that_contradicts_the_weights_allocates_nothing() {
    let mut config = config("bert", "BertModel");
    config["hidden_size"] = 4_000_000_000u64.into();
    config["vocab_size"] = 4_000_000_000u64.into();
    let ModelError::Tensors { missing, wrong, .. } = fails(folder(&config, &weights()).path()) else {
        panic!("another error")
    };
    // Nothing is missing, and all tensors but the biases of the wide parts follow the hidden size.
    assert_eq!((missing.len(), wrong.len()), (0, 5 + 2 * 15));
    config["num_hidden_layers"] = 4_000_000_000u64.into();
    let ModelError::Config { faults, .. } = fails(folder(&config, &weights()).path()) else { panic!("another error") };
    assert_eq!(faults[0].field, "num_hidden_layers");
}

#[test]
fn files_that_are_absent_or_malformed() {
    let dir = folder(&config("bert", "BertModel"), &weights());
    let (json, model) = (dir.path().join("config.json"), dir.path().join("model.safetensors"));
    let bytes = std::fs::read(&model).expect("reads");
    for len in [0, 7, 8, 100, bytes.len() - 1] {
        std::fs::write(&model, &bytes[..len]).expect("writes");
        let wrong = fails(dir.path());
        assert!(matches!(wrong, ModelError::Safetensors { .. }), "{len} bytes: {wrong}");
    }
    std::fs::write(&model, [[0xff; 8].as_slice(), &bytes[8..]].concat()).expect("writes");
    assert!(matches!(fails(dir.path()), ModelError::Safetensors { .. }));
    std::fs::remove_file(&model).expect("removes");
    assert!(matches!(fails(dir.path()), ModelError::Read { file, .. } if file == model));
    std::fs::create_dir(&model).expect("creates");
    assert!(fails(dir.path()).to_string().contains("not a regular file"));
    for text in ["", "[1]", "{\"model_type\": "] {
        std::fs::write(&json, text).expect("writes");
        assert!(matches!(fails(dir.path()), ModelError::Json { .. }), "{text}");
    }
    std::fs::write(&json, "{}").expect("writes");
    assert!(matches!(fails(dir.path()), ModelError::Config { .. }));
    std::fs::remove_file(&json).expect("removes");
    assert!(matches!(fails(dir.path()), ModelError::Read { file, .. } if file == json));
}

#[test]
fn a_type_that_is_not_known() {
    let dir = folder(&config("distilbart", "X"), &weights());
    let ModelError::UnknownType { got, nearest, known, .. } = fails(dir.path()) else { panic!("another error") };
    assert_eq!((got.as_str(), nearest.as_deref()), ("distilbart", Some("distilbert")));
    assert!(known.contains(&"roberta".to_string()));
}

#[test]
fn a_head_that_is_half_there() {
    let mut weights = under("param.", &recorded("exports/roberta-torchscript/truth.safetensors"));
    weights.remove("classifier.dense.bias");
    let dir = folder(&config("roberta", "RobertaForSequenceClassification"), &weights);
    let ModelError::Tensors { missing, .. } = fails(dir.path()) else { panic!("another error") };
    assert_eq!(missing, ["classifier.dense.bias"]);
}
