//! STFT.

use super::dft::{transform, write};
use super::*;
use crate::Attribute::Int;
use crate::Operand::{Absent, Any, Ints, Positive};
use crate::{Emit, Val, case};
use lorac_ir::Node;
use ndarray::{Axis, Slice};

pub(in crate::family) const STFT: Op = Op {
    name: "STFT",
    since: 17,
    inputs: (2, 4),
    infer: |c| {
        let fact = c.fact(0);
        let Some(dims) = fact.dims() else { return one(fact) };
        let [batch, signal, _] = dims else {
            return Err(InferError::Operand { slot: 0, got: fact, want: "batch, signal and parts".into() });
        };
        let number = |slot: usize| c.content(slot).and_then(|v| v.first()?.known());
        let frame = match (c.input(3), c.dims(2)) {
            (Some(_), _) => number(3),
            (None, Some(window)) => window.first().and_then(|d| d.known()),
            (None, None) => {
                if c.input(2).is_none() {
                    signal.known()
                } else {
                    None
                }
            }
        };
        let frames = match (signal.known(), frame, number(1)) {
            (Some(m), Some(n), Some(step)) if step > 0 && m >= n => Dim::Known((m - n) / step + 1),
            _ => Dim::Unknown,
        };
        let onesided = c.node.int("onesided", 1) != 0;
        let bins = frame.map_or(Dim::Unknown, |n| Dim::Known(if onesided { n / 2 + 1 } else { n }));
        one(Fact::new(fact.dtype, [*batch, frames, bins, Dim::Known(2)]))
    },
    eval: |a| {
        let x = a.x(0)?;
        let &[_, signal, _] = x.shape() else { return invalid(format!("a signal of shape {:?}", x.shape())) };
        let number = |slot: usize| match a.x(slot)?.first() {
            Some(n) if *n >= 1.0 => Ok(*n as usize),
            other => invalid(format!("a length of {other:?}")),
        };
        let window = a.opt(2);
        let frame = match (a.opt(3), window) {
            (Some(_), _) => number(3)?,
            (None, Some(window)) => window.len(),
            (None, None) => signal,
        };
        let step = number(1)?;
        if frame == 0 || frame > signal || window.is_some_and(|w| w.len() != frame) {
            return invalid(format!("frames of {frame} in a signal of {signal}"));
        }
        let onesided = a.node.int("onesided", 1) != 0;
        let mut frames = Vec::new();
        for start in (0..=signal - frame).step_by(step) {
            let mut part = x.slice_axis(Axis(1), Slice::from(start..start + frame)).to_owned();
            if let Some(window) = window {
                part = crate::eval::zip(&part, &crate::eval::reshape(window, &[frame, 1])?, |x, w| x * w)?;
            }
            frames.push(transform(&part, 1, frame, false, onesided)?);
        }
        let views: Vec<_> = frames.iter().map(|f| f.view()).collect();
        Ok(vec![ndarray::stack(Axis(1), &views)?])
    },
    flops: |c, k| elementwise(c, k) * Dim::Known(10) + c.fact(0).volume(),
    grad: Grad::lower(
        |e, node, x| vec![lower(e, node, x)],
        &[
            case(&[Any(&[2, 9, 1]), Ints(&[], &[2]), Positive(&[4])]),
            case(&[Any(&[1, 8, 1]), Ints(&[], &[3]), Absent, Ints(&[], &[5])]).opset(18),
            case(&[Any(&[2, 7, 2]), Ints(&[], &[3]), Positive(&[3]), Ints(&[], &[3])]).with(&[("onesided", Int(0))]),
        ],
    ),
    ..UNARY
};

/// Frames gathered from the signal, weighted and transformed.
fn lower<'e, 'g>(e: &'e Emit<'g>, node: &Node, x: &[Val<'e, 'g>]) -> Val<'e, 'g> {
    let operand = |slot: usize| x.get(slot).and_then(|v| v.present());
    let (Some(signal), Some(step)) = (operand(0), operand(1)) else { return e.absent() };
    let scalar = |v: Val<'e, 'g>| match v.known_ints().as_deref() {
        Some([n]) => e.scalar(*n as f64, DType::I64),
        _ => v.cast(DType::I64).reshape(&[]),
    };
    let length = signal.len(1);
    let frame = match (operand(3), operand(2)) {
        (Some(given), _) => scalar(given),
        (None, Some(window)) => window.len(0),
        (None, None) => length,
    };
    let upto = |n: Val<'e, 'g>, step: Val<'e, 'g>| e.op("Range", &[step.like(0.0), n, step], &[]);
    let starts = upto(length - (frame - 1.0), scalar(step));
    let index = starts.binary("Unsqueeze", e.ints(&[1])) + upto(frame, frame.like(1.0));
    let frames = e.op("Gather", &[signal, index], &[("axis", 1i64.into())]);
    let weighted = operand(2).map_or(frames, |window| frames * window.reshape(&[-1, 1]));
    write(e, weighted, 2, false, node.int("onesided", 1) != 0)
}
