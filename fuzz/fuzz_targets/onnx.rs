//! Model files, and every pass behind them: `cargo +nightly fuzz run onnx`.
#![no_main]

mod through;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    if let Ok(model) = lorac::onnx::decode(bytes::Bytes::copy_from_slice(bytes)) {
        through::through(model.graph.clone(), &model.functions);
    }
});
