//! GGUF files: the recorded LLaMA in that format, quantized blocks, tokenizers, damage.

mod common;
#[path = "common/numbers.rs"]
mod numbers;

use common::{Stored, Tensors, recorded, under};
use lorac_models::{ModelError, build, gguf_tokenizer};
use lorac_ops::evaluate;
use numbers::{array, distance};
use std::path::{Path, PathBuf};
use tempfile::TempDir;

/// A file as it is put together.
#[derive(Default)]
struct File {
    keys: Vec<Vec<u8>>,
    tensors: Vec<(String, Vec<usize>, u32, Vec<u8>)>,
}

fn text(s: &str) -> Vec<u8> {
    [&(s.len() as u64).to_le_bytes(), s.as_bytes()].concat()
}

impl File {
    fn key(&mut self, name: &str, kind: u32, value: &[u8]) {
        self.keys.push([text(name).as_slice(), &kind.to_le_bytes(), value].concat());
    }

    fn list(&mut self, name: &str, kind: u32, values: &[Vec<u8>]) {
        let head = [kind.to_le_bytes().as_slice(), &(values.len() as u64).to_le_bytes()].concat();
        self.key(name, 9, &[head, values.concat()].concat());
    }

    fn bytes(&self) -> Vec<u8> {
        let counts = [self.tensors.len() as u64, self.keys.len() as u64].map(u64::to_le_bytes).concat();
        let mut out = [b"GGUF".as_slice(), &3u32.to_le_bytes(), &counts, &self.keys.concat()].concat();
        let mut data: Vec<u8> = Vec::new();
        for (name, dims, kind, bytes) in &self.tensors {
            data.resize(data.len().next_multiple_of(32), 0);
            out.extend([text(name).as_slice(), &(dims.len() as u32).to_le_bytes()].concat());
            dims.iter().rev().for_each(|d| out.extend((*d as u64).to_le_bytes()));
            out.extend([kind.to_le_bytes().as_slice(), &(data.len() as u64).to_le_bytes()].concat());
            data.extend(bytes);
        }
        out.resize(out.len().next_multiple_of(32), 0);
        out.extend(data);
        out
    }

    fn written(&self) -> (TempDir, PathBuf) {
        let dir = tempfile::tempdir().expect("a folder");
        let file = dir.path().join("model.gguf");
        std::fs::write(&file, self.bytes()).expect("writes");
        (dir, file)
    }
}

fn truth() -> Tensors {
    recorded("exports/llama-torchscript/truth.safetensors")
}

/// The rows of each head from halves to neighbouring pairs.
fn paired(t: &Stored, heads: usize) -> Vec<u8> {
    let (rows, width) = (t.dims[0], t.bytes.len() / t.dims[0]);
    let half = rows / heads / 2;
    let from = |row: usize| row / (2 * half) * 2 * half + row % 2 * half + row % (2 * half) / 2;
    (0..rows).flat_map(|row| t.bytes[from(row) * width..][..width].iter().copied()).collect()
}

fn llama() -> File {
    let mut file = File::default();
    file.key("general.architecture", 8, &text("llama"));
    let sizes = [
        ("block_count", 2u32),
        ("context_length", 64),
        ("embedding_length", 32),
        ("feed_forward_length", 64),
        ("attention.head_count", 4),
        ("attention.head_count_kv", 2),
        ("rope.dimension_count", 8),
    ];
    for (name, n) in sizes {
        file.key(&format!("llama.{name}"), 4, &n.to_le_bytes());
    }
    file.key("llama.attention.layer_norm_rms_epsilon", 6, &1e-6f32.to_le_bytes());
    let names = [
        ("model.embed_tokens", "token_embd"),
        ("model.norm", "output_norm"),
        ("model.layers", "blk"),
        ("lm_head", "output"),
        ("input_layernorm", "attn_norm"),
        ("post_attention_layernorm", "ffn_norm"),
        ("self_attn.o_proj", "attn_output"),
        ("self_attn.", "attn_"),
        ("mlp.", "ffn_"),
        ("_proj", ""),
    ];
    for (name, t) in under("param.", &truth()) {
        let name = names.iter().fold(name, |name, (from, to)| name.replace(from, to));
        let bytes = match &name {
            n if n.contains("attn_q") => paired(&t, 4),
            n if n.contains("attn_k") => paired(&t, 2),
            _ => t.bytes,
        };
        file.tensors.push((name, t.dims, 0, bytes));
    }
    file
}

fn refused(file: &File) -> String {
    match build(&file.written().1) {
        Ok(_) => panic!("built"),
        Err(e) => e.to_string(),
    }
}

#[test]
fn the_recorded_llama_in_this_format() {
    let (dir, file) = llama().written();
    let truth = truth();
    for path in [file.as_path(), dir.path()] {
        let built = build(path).unwrap_or_else(|e| panic!("{e}"));
        assert_eq!(built.architecture, "LlamaForCausalLM");
        let (ids, mask) = (array(&truth["input.input_ids"]), array(&truth["input.attention_mask"]));
        let got = evaluate(&built.graph, &[("input_ids", ids), ("attention_mask", mask)]).expect("runs").remove(0);
        let error = distance(&got, &array(&truth["output"]));
        assert!(error <= 1e-5, "off by {error}");
    }
}

#[test]
fn every_prefix_of_a_file_is_refused() {
    let mut file = llama();
    file.tensors.retain(|t| t.0 == "output_norm.weight");
    let bytes = file.bytes();
    let dir = tempfile::tempdir().expect("a folder");
    let path = dir.path().join("cut.gguf");
    for len in 0..bytes.len() {
        std::fs::write(&path, &bytes[..len]).expect("writes");
        assert!(matches!(build(&path), Err(ModelError::Gguf { .. })), "{len} bytes");
    }
    std::fs::write(&path, &bytes).expect("writes");
    assert!(matches!(build(&path), Err(ModelError::Tensors { .. } | ModelError::Config { .. })));
}

#[test]
fn lengths_that_lie_allocate_nothing() {
    let bytes = llama().bytes();
    let dir = tempfile::tempdir().expect("a folder");
    let path = dir.path().join("lies.gguf");
    for at in (8..400).step_by(4) {
        let mut bytes = bytes.clone();
        bytes[at..at + 8].fill(0xff);
        std::fs::write(&path, &bytes).expect("writes");
        assert!(build(&path).is_err(), "byte {at}");
    }
}

#[test]
fn what_is_not_built_is_named() {
    let mut file = llama();
    file.keys[0] = [text("general.architecture").as_slice(), &8u32.to_le_bytes(), &text("gemma")].concat();
    assert!(refused(&file).contains("model_type `gemma` is not known; known: llama, qwen2"));
    let mut file = llama();
    file.keys.remove(1);
    assert!(refused(&file).contains("llama.block_count is absent, expected a whole number"));
    let mut file = llama();
    file.key("llama.rope.scaling.type", 8, &text("yarn"));
    file.key("llama.rope.scaling.factor", 6, &4f32.to_le_bytes());
    assert!(refused(&file).contains("rope_scaling.rope_type is \"yarn\""));
    let mut file = llama();
    file.tensors[0].2 = 19;
    assert!(refused(&file).contains("has the type 19, which is not known"));
}

fn tokenizer(change: impl FnOnce(&mut File)) -> Result<serde_json::Value, ModelError> {
    let mut file = File::default();
    file.key("tokenizer.ggml.model", 8, &text("gpt2"));
    file.key("tokenizer.ggml.pre", 8, &text("smollm"));
    file.list("tokenizer.ggml.tokens", 8, &["<s>", "a", "b", "ab"].map(text));
    file.list("tokenizer.ggml.merges", 8, &["a b"].map(text));
    file.list("tokenizer.ggml.token_type", 5, &[3i32, 1, 1, 1].map(|n| n.to_le_bytes().to_vec()));
    file.key("tokenizer.ggml.bos_token_id", 4, &0u32.to_le_bytes());
    change(&mut file);
    let (_dir, path) = file.written();
    gguf_tokenizer(Path::new(&path))
}

#[test]
fn a_tokenizer_becomes_a_tokenizer_json() {
    let plain = tokenizer(|_| ()).expect("reads");
    assert_eq!(plain["model"]["vocab"]["ab"], 3);
    assert_eq!(plain["model"]["merges"][0], serde_json::json!(["a", "b"]));
    assert_eq!(plain["added_tokens"].as_array().map(Vec::len), Some(1));
    assert_eq!(plain["pre_tokenizer"]["pretokenizers"][0]["type"], "Digits");
    assert!(plain["post_processor"].is_null());
    let first = tokenizer(|file| file.key("tokenizer.ggml.add_bos_token", 7, &[1])).expect("reads");
    assert_eq!(first["post_processor"]["single"][0]["SpecialToken"]["id"], "<s>");
    let wrong = |change: fn(&mut File)| tokenizer(change).expect_err("refused").to_string();
    let merge = wrong(|file| {
        file.keys.remove(3);
        file.list("tokenizer.ggml.merges", 8, &["b b"].map(text));
    });
    assert!(merge.contains("the merge `b b` does not join two tokens to one"));
    let pad = wrong(|file| file.key("tokenizer.ggml.padding_token_id", 4, &4u32.to_le_bytes()));
    assert!(pad.contains("padding_token_id is 4, which is not a token"));
    assert!(wrong(|file| drop(file.keys.remove(1))).contains("pre is absent; known: gpt-2, smollm"));
}
