//! lorac-onnx.
