//! Writes what fuzzing begins with: `fuzz/corpus/<target>/*` and `fuzz/ops.dict`, from the operators' own cases, the
//! golden cases and the pipelines.

use lorac::ir::{DType, print};
use lorac::onnx::{EncodeOptions, encode};
use lorac::ops::{Bench, Random, TABLE, infer};
use std::error::Error;
use std::fs;

fn main() -> Result<(), Box<dyn Error>> {
    let here = &lorac_tests::root().join("fuzz");
    let folder = |name: &str| here.join("corpus").join(name);
    for name in ["graph", "onnx", "pipeline", "model", "table"] {
        fs::create_dir_all(folder(name))?;
    }
    let options = EncodeOptions { inline_limit: usize::MAX, ..EncodeOptions::default() };
    let mut dictionary = String::new();
    for op in TABLE.iter().flat_map(|family| family.iter()) {
        let domain = if op.domain.is_empty() { String::new() } else { format!("{}.", op.domain) };
        dictionary += &format!("\"{domain}{}(\"\n", op.name);
        for (i, case) in op.grad.cases().iter().enumerate() {
            for symbolic in [false, true] {
                let Ok(mut bench) = Bench::new(op, case, DType::F32, symbolic, &mut Random(1)) else { continue };
                if infer(&mut bench.graph).is_ok() {
                    let name = format!("{}-{i}-{symbolic}", op.name);
                    fs::write(folder("graph").join(&name), print(&bench.graph))?;
                    fs::write(folder("onnx").join(&name), encode(&bench.graph, &options)?.bytes)?;
                }
            }
        }
    }
    fs::write(here.join("ops.dict"), dictionary)?;
    for pass in fs::read_dir(here.join("../tests/cases"))? {
        for file in fs::read_dir(pass?.path())? {
            let file = file?.path();
            let text = fs::read_to_string(&file)?;
            for (i, block) in text.split("```graph\n").skip(1).enumerate() {
                let graph = block.split("```").next().unwrap_or_default();
                let stem = file.file_stem().unwrap_or_default().to_string_lossy().into_owned();
                fs::write(folder("graph").join(format!("golden-{stem}-{i}")), graph)?;
            }
        }
    }
    for file in fs::read_dir(here.join("../pipelines"))? {
        let file = file?.path();
        let text = fs::read_to_string(&file)? + "\n--set train.steps=3\n--set adapt.0.lora.rank=4\n";
        fs::write(folder("pipeline").join(file.file_name().unwrap_or_default()), text)?;
    }
    let config = r#"{"model_type":"bert","hidden_size":4,"num_hidden_layers":1,"num_attention_heads":2,"vocab_size":5,
        "intermediate_size":8,"max_position_embeddings":6,"type_vocab_size":2,"hidden_act":"gelu","layer_norm_eps":1e-12}"#;
    let header = r#"{"embeddings.word_embeddings.weight":{"dtype":"F32","shape":[5,4],"data_offsets":[0,80]}}"#;
    let mut folder_of = [config.as_bytes(), &[0], &(header.len() as u64).to_le_bytes(), header.as_bytes()].concat();
    folder_of.extend([0; 80]);
    fs::write(folder("model").join("bert"), folder_of)?;
    fs::write(folder("model").join("gguf"), gguf())?;
    for (name, text) in [
        ("csv", "label == \"a\" and text != \"\"\nx.csv\ntext,label\n\"a, b\",a\nc,b\n"),
        (
            "jsonl",
            "text contains \"x\" or label in [\"a\"]\nx.jsonl\n{\"text\":\"x\",\"label\":\"a\"}\n{\"text\":\"y\",\"label\":1}\n",
        ),
        ("txt", "\nx.txt\nTo be, or not to be\n\nthat is the question\n"),
    ] {
        fs::write(folder("table").join(name), text)?;
    }
    Ok(())
}

/// A small GGUF file: three metadata, one tensor.
fn gguf() -> Vec<u8> {
    let text = |s: &str| [&(s.len() as u64).to_le_bytes(), s.as_bytes()].concat();
    let mut out = [&b"GGUF"[..], &3u32.to_le_bytes(), &1u64.to_le_bytes(), &3u64.to_le_bytes()].concat();
    out.extend([text("general.architecture"), 8u32.to_le_bytes().to_vec(), text("llama")].concat());
    out.extend([text("llama.block_count"), 4u32.to_le_bytes().to_vec(), 1u32.to_le_bytes().to_vec()].concat());
    out.extend([text("llama.rope.freq_base"), 6u32.to_le_bytes().to_vec(), 1e4f32.to_le_bytes().to_vec()].concat());
    out.extend([text("token_embd.weight"), 2u32.to_le_bytes().to_vec()].concat());
    out.extend([4u64.to_le_bytes(), 2u64.to_le_bytes()].concat());
    out.extend([0u32.to_le_bytes().to_vec(), 0u64.to_le_bytes().to_vec()].concat());
    out.resize(out.len().next_multiple_of(32) + 32, 0);
    out
}
