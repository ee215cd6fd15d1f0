//! Attention of com.microsoft: Attention GroupQueryAttention MultiHeadAttention, and those that are refused.

use super::*;

mod group_query;
mod mask;
mod multi_head;
mod packed;

pub(in crate::family) const OPS: &[Op] = &[
    packed::ATTENTION,
    group_query::GROUP_QUERY_ATTENTION,
    multi_head::MULTI_HEAD_ATTENTION,
    refused("DecoderAttention", OLD),
    Op { traits: Traits::ATTENTION, ..refused("DecoderMaskedMultiHeadAttention", ONE_TOKEN) },
    Op { traits: PROJECTING, ..refused("DecoderMaskedSelfAttention", ONE_TOKEN) },
    refused("GatedRelativePositionBias", UNPADDED),
    Op {
        traits: PROJECTING,
        ..refused(
            "LongformerAttention",
            "its attention in windows and at chosen tokens has no form in plain operators here",
        )
    },
    Op { traits: PROJECTING, ..refused("PackedAttention", UNPADDED) },
    Op { traits: Traits::ATTENTION, ..refused("PackedMultiHeadAttention", UNPADDED) },
    Op {
        traits: Traits::ATTENTION,
        ..refused("PagedAttention", "a paged cache serves inference; use the model that the pages were made from")
    },
    Op {
        traits: PROJECTING,
        ..refused("QAttention", "it computes in 8-bit integers; train the model before it was quantized")
    },
    refused("RelativePositionBias", "its buckets serve T5; export the model with plain operators"),
    refused("RemovePadding", UNPADDED),
    refused("RestorePadding", UNPADDED),
    Op {
        traits: Traits::ATTENTION,
        ..refused(
            "SparseAttention",
            "its block-sparse cache serves inference on CUDA; export the model with plain operators",
        )
    },
];

/// Of an attention that holds the matrix of its queries, keys and values.
const PROJECTING: Traits = Traits { attention: Some([0; 3]), ..Traits::PROJECTS.bias(&[2]) };

const OLD: &str = "ONNX Runtime replaced it by MultiHeadAttention; export the model again";
const ONE_TOKEN: &str = "it decodes one token at a time; train the model that takes whole sequences";
const UNPADDED: &str =
    "it works on tokens without padding, in CUDA only; use the model before the optimizer removed the padding";
