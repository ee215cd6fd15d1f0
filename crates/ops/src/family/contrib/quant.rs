//! Quantization of com.microsoft: DequantizeLinear GatherBlockQuantized MatMulBnb4 MatMulNBits QuantizeLinear, and
//! integer arithmetic that is refused.

use super::*;

mod blocks;
mod bnb;
mod gather;
mod linear;
mod matmul;

pub(in crate::family) const OPS: &[Op] = &[
    linear::DEQUANTIZE_LINEAR,
    gather::GATHER_BLOCK_QUANTIZED,
    bnb::MATMUL_BNB4,
    matmul::MATMUL_NBITS,
    linear::QUANTIZE_LINEAR,
    refused("DynamicQuantizeLSTM", ROUNDED),
    product(refused("DynamicQuantizeMatMul", ROUNDED)),
    product(refused(
        "MatMulFpQ4",
        "only ONNX Runtime can read its packed weights; quantize the model with MatMulNBits",
    )),
    product(refused("MatMulInteger16", INTEGERS)),
    product(refused("MatMulIntegerToFloat", ROUNDED)),
    refused("MatMulNBitsMlp", "only the WebGPU provider writes it; save the model before that optimizer"),
    refused("MatMulNBitsQkv", "only the WebGPU provider writes it; save the model before that optimizer"),
    refused("MulInteger", INTEGERS),
    Op { traits: Traits::NORMALIZES, ..refused("QEmbedLayerNormalization", INTEGERS) },
    Op {
        traits: Traits::NONE.projects(|_, slot, _| (slot == 3).then_some(Projection::PLAIN)),
        ..refused("QGemm", INTEGERS)
    },
    refused("QLinearAdd", INTEGERS),
    refused("QLinearAveragePool", INTEGERS),
    refused("QLinearConcat", INTEGERS),
    refused("QLinearConv", INTEGERS),
    refused("QLinearGlobalAveragePool", INTEGERS),
    refused("QLinearLeakyRelu", INTEGERS),
    refused("QLinearMul", INTEGERS),
    refused("QLinearReduceMean", INTEGERS),
    refused("QLinearSigmoid", INTEGERS),
    refused("QLinearSoftmax", INTEGERS),
    refused("QLinearWhere", INTEGERS),
    Op {
        traits: EXPERTS,
        ..refused(
            "QMoE",
            "its experts are chosen by sorting and their weights are packed for one kernel; train a dense model",
        )
    },
    product(refused("QOrderedAttention", INTEGERS)),
    refused("QOrderedGelu", INTEGERS),
    Op { traits: Traits::NORMALIZES, ..refused("QOrderedLayerNormalization", INTEGERS) },
    refused("QOrderedLongformerAttention", INTEGERS),
    product(refused("QOrderedMatMul", INTEGERS)),
    refused("ReduceSumInteger", INTEGERS),
];

/// Of a product by a weight whose packed form tells nothing of its axes.
const PACKED_PRODUCT: Traits = Traits::NONE.projects(|_, slot, _| (slot == 1).then_some(Projection::TRANSPOSED));

/// A product that computes in integers.
const fn product(op: Op) -> Op {
    Op { traits: PACKED_PRODUCT, ..op }
}

const INTEGERS: &str = "it computes in integers, which have no gradient; train the model before it was quantized";
const ROUNDED: &str = "it rounds its operand to 8 bits at run time, which has no gradient; train the model before it was \
                       quantized";
