//! The protobuf types of ONNX, generated from `proto/onnx.proto` (IR version 14).
#![allow(missing_docs, unreachable_pub, clippy::all)]

include!(concat!(env!("OUT_DIR"), "/onnx.rs"));
