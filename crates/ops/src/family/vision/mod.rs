//! Images and boxes: ImageDecoder NonMaxSuppression RoiAlign.

use super::*;

mod boxes;
mod region;

pub(super) const OPS: &[Op] = &[IMAGE_DECODER, boxes::NON_MAX_SUPPRESSION, region::ROI_ALIGN];

const IMAGE_DECODER: Op = Op {
    name: "ImageDecoder",
    since: 20,
    infer: |c| {
        let channels = if c.node.str("pixel_format") == Some("Grayscale") { 1i64 } else { 3 };
        one(Fact::new(DType::U8, [Dim::Unknown, Dim::Unknown, Dim::Known(channels)]))
    },
    eval: |_| invalid("encoded images are not evaluated"),
    grad: Grad::Zero("the bytes of an encoded image have no gradient"),
    ..MOVES
};
