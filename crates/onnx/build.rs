//! Generates the protobuf types from `proto/onnx.proto`, without protoc.

fn main() -> Result<(), Box<dyn std::error::Error>> {
    println!("cargo:rerun-if-changed=proto/onnx.proto");
    let files = protox::compile(["proto/onnx.proto"], ["proto"])?;
    prost_build::Config::new()
        .bytes([".onnx.TensorProto.raw_data"])
        // Its comments are not written as rustdoc.
        .disable_comments(["."])
        .compile_fds(files)?;
    Ok(())
}
