//! Boxes that overlap: NonMaxSuppression.

use super::*;

/// Corners, lower before higher.
#[derive(Clone, Copy)]
struct Corners {
    low: [f64; 2],
    high: [f64; 2],
}

impl Corners {
    fn new(b: [f64; 4], center: bool) -> Corners {
        let ends = match center {
            true => [[b[0] - b[2] / 2.0, b[0] + b[2] / 2.0], [b[1] - b[3] / 2.0, b[1] + b[3] / 2.0]],
            false => [[b[0], b[2]], [b[1], b[3]]],
        };
        Corners { low: ends.map(|[a, b]| a.min(b)), high: ends.map(|[a, b]| a.max(b)) }
    }

    fn area(&self) -> f64 {
        (self.high[0] - self.low[0]) * (self.high[1] - self.low[1])
    }

    /// Intersection over union.
    fn overlap(&self, other: &Corners) -> f64 {
        let side = |i: usize| (self.high[i].min(other.high[i]) - self.low[i].max(other.low[i])).max(0.0);
        let both = side(0) * side(1);
        let either = self.area() + other.area() - both;
        if both > 0.0 && either > 0.0 { both / either } else { 0.0 }
    }
}

pub(in crate::family) const NON_MAX_SUPPRESSION: Op = Op {
    name: "NonMaxSuppression",
    inputs: (2, 5),
    infer: |_| one(Fact::new(DType::I64, [Dim::Unknown, Dim::Known(3)])),
    eval: |a| {
        let (boxes, scores) = (a.x(0)?, a.x(1)?);
        let (&[batches, count, 4], &[of, classes, scored]) = (boxes.shape(), scores.shape()) else {
            return invalid(format!("boxes {:?} with scores {:?}", boxes.shape(), scores.shape()));
        };
        if of != batches || scored != count {
            return invalid(format!("boxes {:?} with scores {:?}", boxes.shape(), scores.shape()));
        }
        let scalar = |slot: usize| a.opt(slot).and_then(|x| x.first().copied());
        let most = scalar(2).unwrap_or(0.0).max(0.0) as usize;
        let (overlap, least) = (scalar(3).unwrap_or(0.0), scalar(4).unwrap_or(f64::NEG_INFINITY));
        let center = a.node.int("center_point_box", 0) != 0;
        let mut selected = Vec::new();
        for (batch, class) in (0..batches).flat_map(|b| (0..classes).map(move |c| (b, c))) {
            let score = |i: usize| scores[[batch, class, i]];
            let corners = |i: usize| Corners::new([0, 1, 2, 3].map(|k| boxes[[batch, i, k]]), center);
            let mut order: Vec<usize> = (0..count).filter(|i| score(*i) > least).collect();
            order.sort_by(|i, j| score(*j).total_cmp(&score(*i)));
            let mut kept: Vec<usize> = Vec::new();
            for i in order {
                if kept.len() < most && kept.iter().all(|k| corners(*k).overlap(&corners(i)) <= overlap) {
                    kept.push(i);
                }
            }
            selected.extend(kept.iter().flat_map(|i| [batch as f64, class as f64, *i as f64]));
        }
        Ok(vec![Array::from_shape_vec(vec![selected.len() / 3, 3], selected)?])
    },
    flops: |_, _| Dim::Unknown,
    grad: Grad::Zero("which boxes are selected has no gradient"),
    ..UNARY
};
