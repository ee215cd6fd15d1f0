//! What an engine reads.

/// What an engine reads: where a field is `false`, a graph has to be rewritten before that engine gets it. Each engine
/// says its own, so that nothing has to ask which engine it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Dialect {
    /// Knows the operators of `com.microsoft`; otherwise they must be decomposed into those of the standard.
    pub fused: bool,
    /// Sums symbolic i64 up along an axis (`CumSum`); otherwise such a sum must run in i32.
    pub i64_cumsum: bool,
    /// Multiplies matrices of f16 and bf16 by `Gemm`; otherwise such a product must be a `MatMul`.
    pub half_gemm: bool,
    /// Takes inputs with a dimension of 0; otherwise caches without an entry must be specialized away.
    pub empty_inputs: bool,
    /// Reads the bytes of a model file as they are, external data and functions included; otherwise it is given an
    /// encoded graph with functions inlined.
    pub files: bool,
}

impl Dialect {
    /// Reads everything.
    pub const FULL: Dialect =
        Dialect { fused: true, i64_cumsum: true, half_gemm: true, empty_inputs: true, files: true };

    /// Whether every graph can be given as it is, functions aside.
    pub fn reads_any_graph(&self) -> bool {
        self.fused && self.i64_cumsum && self.half_gemm && self.empty_inputs
    }
}
