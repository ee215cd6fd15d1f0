//! Model folders made from recorded weights.

use crate::common::{Stored, Tensors};
use safetensors::Dtype;
use safetensors::tensor::TensorView;
use serde_json::{Value, json};
use tempfile::TempDir;

impl Stored {
    pub(crate) fn f32(dims: &[usize], data: &[f32]) -> Stored {
        let bytes = data.iter().flat_map(|x| x.to_le_bytes()).collect();
        Stored { dtype: Dtype::F32, dims: dims.to_vec(), bytes }
    }
}

/// The configuration of the recorded models of the family.
pub(crate) fn config(model_type: &str, class: &str) -> Value {
    let mut config = match model_type {
        "distilbert" => json!({"dim": 32, "n_layers": 2, "n_heads": 4, "hidden_dim": 64, "activation": "gelu",
            "max_position_embeddings": 64}),
        "gpt2" => json!({"n_embd": 32, "n_layer": 2, "n_head": 4, "n_positions": 64,
            "activation_function": "gelu_new", "layer_norm_epsilon": 1e-5}),
        "llama" | "mistral" | "qwen2" => json!({"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4,
            "num_key_value_heads": 2, "intermediate_size": 64, "max_position_embeddings": 64, "rms_norm_eps": 1e-6,
            "tie_word_embeddings": model_type == "qwen2"}),
        _ => json!({"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 64,
            "hidden_act": "gelu", "layer_norm_eps": 1e-12, "type_vocab_size": 2, "max_position_embeddings": 64}),
    };
    config["model_type"] = model_type.into();
    config["architectures"] = json!([class]);
    config["vocab_size"] = 97.into();
    config
}

/// A folder with the two files of a model.
pub(crate) fn folder(config: &Value, weights: &Tensors) -> TempDir {
    let dir = tempfile::tempdir().expect("a folder");
    std::fs::write(dir.path().join("config.json"), config.to_string()).expect("writes");
    let views = weights.iter().map(|(name, t)| {
        let view = TensorView::new(t.dtype, t.dims.clone(), &t.bytes).expect("fits");
        (name, view)
    });
    let bytes = safetensors::serialize(views, None).expect("serializes");
    std::fs::write(dir.path().join("model.safetensors"), bytes).expect("writes");
    dir
}
