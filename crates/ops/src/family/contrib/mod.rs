//! Operators of `com.microsoft` that ONNX Runtime's optimizer and exporters write, by family.

use super::*;

pub(super) mod activation;
pub(super) mod attention;
pub(super) mod conv;
pub(super) mod matmul;
pub(super) mod norm;
pub(super) mod quant;
pub(super) mod rotary;

/// The domain.
#[allow(dead_code)]
const MICROSOFT: &str = "com.microsoft";
