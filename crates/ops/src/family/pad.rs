//! Padding: Pad.

use super::index::accumulate;
use super::*;
use crate::Attribute::Str;
use crate::Operand::{Absent, Any, Floats, Ints};
use crate::{Backward, Val, case};
use lorac_ir::Attr;
use ndarray::Axis;

pub(super) const OPS: &[Op] = &[PAD];

const PAD: Op = Op {
    name: "Pad",
    traits: Traits::NONE.constants(&[2]),
    inputs: (2, 4),
    infer: |c| {
        mode(c.node.str("mode"))?;
        let fact = c.fact(0);
        let Some(dims) = fact.dims() else { return one(fact) };
        let unknown = || one(Fact::new(fact.dtype, dims.iter().map(|_| Dim::Unknown)));
        let axes = match (c.input(3), c.ints(3)) {
            (Some(_), None) => return unknown(),
            (_, axes) => axes.unwrap_or_else(|| (0..dims.len() as i64).collect()),
        };
        let Some(pads) = c.content(1) else { return unknown() };
        if pads.len() != 2 * axes.len() {
            let want = format!("{} pads for {} axes", 2 * axes.len(), axes.len());
            return Err(InferError::Operand { slot: 1, got: c.fact(1), want });
        }
        let mut out = dims.to_vec();
        for (i, axis) in axes.iter().enumerate() {
            let at = if *axis < 0 { axis + dims.len() as i64 } else { *axis };
            let len = usize::try_from(at).ok().and_then(|at| out.get_mut(at));
            let Some(len) = len else {
                let want = format!("axes of rank {}", dims.len());
                return Err(InferError::Operand { slot: 3, got: c.fact(3), want });
            };
            *len = match *len + pads[i] + pads[i + axes.len()] {
                Dim::Known(n) => Dim::Known(n.max(0)),
                len => len,
            };
        }
        one(Fact::new(fact.dtype, out))
    },
    eval: |a| {
        let mode = mode(a.node.str("mode")).map_err(|e| EvalError::Invalid(e.to_string()))?;
        let mut y = a.x(0)?.clone();
        let value = a.opt(2).and_then(|v| v.iter().next().copied()).unwrap_or(0.0);
        let axes = if a.opt(3).is_some() { a.ints(3)? } else { (0..y.ndim() as i64).collect() };
        let pads = a.ints(1)?;
        if pads.len() != 2 * axes.len() {
            return invalid(format!("{} pads for {} axes", pads.len(), axes.len()));
        }
        for (i, axis) in axes.iter().enumerate() {
            let axis = Axis(crate::eval::axis(*axis, y.ndim())?);
            let (before, after) = (pads[i], pads[i + axes.len()]);
            let len = y.len_of(axis) as i64;
            let longer = usize::try_from(len.saturating_add(before).saturating_add(after)).unwrap_or(0);
            affordable(
                &y.shape().iter().enumerate().map(|(i, n)| if i == axis.0 { longer } else { *n }).collect::<Vec<_>>(),
            )?;
            if len == 0 && mode != Mode::Constant && before.max(after) > 0 {
                return invalid("an empty axis has nothing to pad with");
            }
            let sources: Vec<Option<usize>> =
                (0i64.saturating_sub(before)..len.saturating_add(after)).map(|at| mode.source(at, len)).collect();
            let mut shape = y.shape().to_vec();
            shape[axis.0] = sources.len();
            let mut wide = Array::from_elem(shape, value);
            for (at, source) in sources.iter().enumerate() {
                if let Some(source) = source {
                    wide.index_axis_mut(axis, at).assign(&y.index_axis(axis, *source));
                }
            }
            y = wide;
        }
        Ok(vec![y])
    },
    grad: Grad::rule(
        |b| match mode(b.node.str("mode")) {
            Ok(Mode::Constant) => vec![b.want(0, || cut(b)), None, b.want(2, || by_value(b))],
            _ => vec![b.want(0, || gathered(b))],
        },
        &[
            case(&[Any(&[2, 3]), Ints(&[4], &[1, 0, 2, 3])]),
            case(&[Any(&[4, 3]), Ints(&[4], &[-1, 1, 2, -2]), Any(&[])]),
            case(&[Any(&[2, 4, 3]), Ints(&[2], &[0, 2]), Absent, Ints(&[1], &[-2])]),
            case(&[Any(&[3, 4]), Ints(&[4], &[2, 1, 0, 3])]).with(&[("mode", Str("reflect"))]),
            case(&[Any(&[3, 4]), Ints(&[4], &[2, -1, 1, 3])]).with(&[("mode", Str("edge"))]),
            case(&[Any(&[3, 4]), Ints(&[4], &[1, 0, 0, 2]), Floats(&[], &[0.5])]).with(&[("mode", Str("reflect"))]),
            case(&[Any(&[3, 4]), Ints(&[2], &[5, 2]), Absent, Ints(&[1], &[0])]).with(&[("mode", Str("wrap"))]),
        ],
    ),
    ..MOVES
};

#[derive(Clone, Copy, PartialEq, Eq)]
enum Mode {
    Constant,
    Reflect,
    Edge,
    Wrap,
}

fn mode(name: Option<&str>) -> Result<Mode, InferError> {
    match name.unwrap_or("constant") {
        "constant" => Ok(Mode::Constant),
        "reflect" => Ok(Mode::Reflect),
        "edge" => Ok(Mode::Edge),
        "wrap" => Ok(Mode::Wrap),
        other => {
            let want = "constant, reflect, edge or wrap".to_string();
            Err(InferError::Attribute { name: "mode", got: other.to_string(), want })
        }
    }
}

impl Mode {
    /// Where the element at `at` of an axis of length `len` comes from, `at` reaching past both ends.
    fn source(self, at: i64, len: i64) -> Option<usize> {
        if (0..len).contains(&at) {
            return usize::try_from(at).ok();
        }
        let source = match self {
            Mode::Constant => return None,
            Mode::Edge => at.clamp(0, len - 1),
            Mode::Wrap => at.rem_euclid(len),
            Mode::Reflect => {
                let period = (2 * (len - 1)).max(1);
                let at = at.rem_euclid(period);
                at.min(period - at) % len
            }
        };
        usize::try_from(source).ok()
    }
}

/// The gradient without what was padded, and with zeros where something was cut off.
fn cut<'e, 'g>(b: &Backward<'e, 'g>) -> Val<'e, 'g> {
    let (e, x) = (b.emit, b.x[0]);
    let given = |slot: usize| b.x.get(slot).and_then(|v| v.present());
    let axes = match given(3) {
        Some(axes) => axes.known_ints(),
        None => Some((0..x.rank() as i64).collect()),
    };
    let (Some(pads), Some(axes)) = (b.x[1].known_ints(), axes) else {
        // tract pads by constants only.
        let axes = given(3).unwrap_or(e.absent());
        return e.op("Pad", &[b.gy, -b.x[1], e.absent(), axes], &[]);
    };
    let (before, after) = pads.split_at(pads.len() / 2);
    let mut g = b.gy;
    if pads.iter().any(|n| *n > 0) {
        let starts: Vec<i64> = before.iter().map(|n| (*n).max(0)).collect();
        let ends: Vec<i64> = after.iter().map(|n| if *n > 0 { -n } else { i64::MAX }).collect();
        g = e.op("Slice", &[g, e.ints(&starts), e.ints(&ends), e.ints(&axes)], &[]);
    }
    if pads.iter().any(|n| *n < 0) {
        let back: Vec<i64> = pads.iter().map(|n| n.saturating_neg().max(0)).collect();
        g = e.op("Pad", &[g, e.ints(&back), e.absent(), e.ints(&axes)], &[]);
    }
    conv::window::stated(g, x)
}

/// The gradient of the padding's value: the sum over what was padded.
fn by_value<'e, 'g>(b: &Backward<'e, 'g>) -> Val<'e, 'g> {
    let axes = b.x.get(3).copied().unwrap_or(b.emit.absent());
    let added = b.emit.op("Pad", &[b.x[0].zeros_like(), b.x[1], b.gy.like(1.0), axes], &[]);
    let sum = b.emit.op("ReduceSum", &[b.gy * added], &[("keepdims", 0i64.into())]);
    sum.reshape_like(b.x[2])
}

/// The gradient summed to where each element came from: the same padding of the positions tells.
// CUDA: has no Pad of integers; the positions are padded on the CPU.
fn gathered<'e, 'g>(b: &Backward<'e, 'g>) -> Val<'e, 'g> {
    let (e, x) = (b.emit, b.x[0]);
    let number = |n: f64| e.scalar(n, DType::I64);
    let positions = e.op("Range", &[number(0.0), x.unary("Size"), number(1.0)], &[]).binary("Reshape", x.shape());
    let operands = [positions, b.x[1], e.absent(), b.x.get(3).copied().unwrap_or(e.absent())];
    let attrs: Vec<(&str, Attr)> = b.node.str("mode").map(|m| ("mode", m.into())).into_iter().collect();
    let sources = e.op("Pad", &operands, &attrs).reshape(&[-1]);
    let zeros = x.zeros_like().reshape(&[-1]);
    let attrs = [("axis", 0i64.into()), ("reduction", "add".into())];
    accumulate("ScatterElements", [zeros, sources, b.gy.reshape(&[-1])], &attrs).binary("Reshape", x.shape())
}
