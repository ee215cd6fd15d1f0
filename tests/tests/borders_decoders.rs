//! Folders of decoders with a head for classes: trained on that head, deployed, and asked.

use lorac::output::{LabelsFrom, read_peft};
use lorac::pipeline::Loaded;
use lorac::predict::{Options, Predictor};
use lorac::progress::Silent;
use lorac::run::{RunOptions, run};
use lorac::source::Resolver;
use lorac_tests::words::words;
use lorac_tests::{ONNXRUNTIME, data};
use serde_json::{Map, Value, json};
use std::fs;
use std::path::Path;
use std::sync::atomic::AtomicBool;
use tempfile::TempDir;

/// Writes the recorded weights of a decoder, without its scores of tokens, and a head for two classes.
fn weights(model_type: &str, folder: &Path) {
    let file = data("exports").join(format!("{model_type}-torchscript")).join("truth.safetensors");
    let bytes = fs::read(file).expect("a file");
    let (length, rest) = bytes.split_at(8);
    let length = u64::from_le_bytes(length.try_into().expect("eight bytes")) as usize;
    let header: Map<String, Value> = serde_json::from_slice(&rest[..length]).expect("a header");
    let (mut all, mut body) = (Map::new(), Vec::new());
    let mut put = |name: &str, shape: Value, bytes: &[u8]| {
        let from = body.len();
        body.extend_from_slice(bytes);
        all.insert(name.into(), json!({ "dtype": "F32", "shape": shape, "data_offsets": [from, body.len()] }));
    };
    for (name, tensor) in &header {
        let Some(name) = name.strip_prefix("param.").filter(|name| !name.starts_with("lm_head")) else { continue };
        let at = |i: usize| length + tensor["data_offsets"][i].as_u64().expect("an offset") as usize;
        put(name, tensor["shape"].clone(), &rest[at(0)..at(1)]);
    }
    let score: Vec<u8> = (0..64).flat_map(|i| ((i * 7 % 13) as f32 / 13.0 - 0.5).to_le_bytes()).collect();
    put("score.weight", json!([2, 32]), &score);
    let mut header = serde_json::to_vec(&Value::Object(all)).expect("JSON");
    header.resize(header.len().next_multiple_of(8), b' ');
    let file = [&(header.len() as u64).to_le_bytes()[..], &header, &body].concat();
    fs::write(folder.join("model.safetensors"), file).expect("writes");
}

fn folder(model_type: &str, class: &str) -> TempDir {
    let folder = tempfile::tempdir().expect("a folder");
    weights(model_type, folder.path());
    let mut config = json!({
        "model_type": model_type, "architectures": [class], "vocab_size": 97, "id2label": { "0": "bad", "1": "good" },
        "n_embd": 32, "n_layer": 2, "n_head": 4, "n_positions": 64, "activation_function": "gelu_new",
    });
    if model_type != "gpt2" {
        config = json!({
            "model_type": model_type, "architectures": [class], "vocab_size": 97, "id2label": { "0": "bad", "1": "good" },
            "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2,
            "intermediate_size": 64, "max_position_embeddings": 64, "rms_norm_eps": 1e-6,
        });
    }
    let rows = |from: usize, to: usize| -> String {
        let row = |i: usize| format!("{}w{},{}\n", "w5 ".repeat(1 + i % 4), 10 + i % 2, ["bad", "good"][i % 2]);
        format!("text,label\n{}", (from..to).map(row).collect::<String>())
    };
    for (name, text) in [
        ("config.json", config.to_string()),
        ("tokenizer.json", words(97).to_string()),
        ("train.csv", rows(0, 32)),
        ("eval.csv", "text,label\nw7 w10,bad\nw7 w7 w7 w11,good\nw8 w8 w10,bad\nw9 w11,good\n".into()),
    ] {
        fs::write(folder.path().join(name), text).expect("writes");
    }
    folder
}

#[test]
fn a_decoder_that_classifies_is_trained_on_its_own_head() {
    for (model_type, class) in [("gpt2", "GPT2ForSequenceClassification"), ("llama", "LlamaForSequenceClassification")]
    {
        let folder = folder(model_type, class);
        let text = format!(
            "name: d\nmodel: .\ntask: classify\nadapt:\n  - lora: {{ targets: [\"role:query\", \"role:value\"], rank: 4, alpha: 8 }}\n  \
             - full: {{ targets: [\"*score*\"] }}\n\
             data: {{ train: {{ csv: train.csv, text: text, label: label }}, eval: {{ csv: eval.csv, text: text, label: label }}, max_length: 16 }}\n\
             train: {{ steps: 90, batch: 8, optimizer: {{ adamw: {{ lr: 0.02 }} }} }}\nruntime: {{ source: \"{ONNXRUNTIME}\" }}\n"
        );
        let loaded = Loaded::parse(&text, &folder.path().join("p.yaml"), &[]).unwrap_or_else(|e| panic!("{e}"));
        let out = folder.path().join("out");
        let options = RunOptions { out: out.clone(), command: "test".into(), progress: &Silent, emit: None };
        let resolver = Resolver::new(None, folder.path()).expect("a cache");
        let done = run(&loaded, &resolver, &options, &AtomicBool::new(false));
        let manifest = done.unwrap_or_else(|e| panic!("{model_type}: {e}")).manifest;
        assert!(manifest.verify.passed && manifest.verify.nodes_of_head == 0, "{:?}", manifest.verify);
        let own = manifest.notes.iter().any(|note| note.contains("the model's own head is trained: `logits`"));
        assert!(own && manifest.data.labels_from == Some(LabelsFrom::Model), "{:?}", manifest.notes);
        assert_eq!(manifest.eval.after.get("accuracy"), Some(1.0), "{model_type}: {:?}", manifest.eval);
        assert_eq!(read_peft(&out.join("adapter")).expect("an adapter").task, "SEQ_CLS");

        let mut model = Predictor::open(&out.display().to_string(), &Options::default()).expect("opens");
        let texts = ["w7 w10", "w7 w7 w7 w7 w7 w11", "w11"];
        let together: Vec<String> = model.texts(&texts).expect("answers").iter().map(ToString::to_string).collect();
        for (text, answer) in texts.iter().zip(&together) {
            let alone = model.texts(&[text]).expect("an answer")[0].to_string();
            assert_eq!(alone.split('\t').next(), answer.split('\t').next(), "{text}");
        }
        assert!(
            together[0].contains("bad") && together[1].contains("good") && together[2].contains("good"),
            "{together:?}"
        );
    }
}
