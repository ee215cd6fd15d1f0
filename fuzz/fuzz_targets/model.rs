//! Models that graphs are built for: `cargo +nightly fuzz run model`. A GGUF file, or a folder with config.json and
//! model.safetensors, which the first byte 0 parts.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let Ok(folder) = tempfile::tempdir() else { return };
    let write = |name: &str, bytes: &[u8]| std::fs::write(folder.path().join(name), bytes).expect("a temporary file");
    if bytes.starts_with(b"GGUF") {
        write("model.gguf", bytes);
        let _ = lorac::models::gguf_tokenizer(&folder.path().join("model.gguf"));
    } else if let Some(at) = bytes.iter().position(|b| *b == 0) {
        write("config.json", &bytes[..at]);
        write("model.safetensors", &bytes[at + 1..]);
    } else {
        return;
    }
    if let Ok(built) = lorac::models::build(folder.path()) {
        drop(lorac::ir::print(&built.graph));
    }
});
