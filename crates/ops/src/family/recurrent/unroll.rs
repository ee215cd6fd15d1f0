//! The networks unrolled: a handful of nodes for every step of a known sequence length.

use super::settings::{Kind, Settings};
use super::*;
use crate::{Emit, Val};
use lorac_ir::{Node, Tensor};

/// Longer sequences are refused: the graph grows with every step.
const MAX_STEPS: i64 = 512;

/// One direction of a network.
struct Cell<'s, 'e, 'g> {
    kind: Kind,
    settings: &'s Settings,
    direction: usize,
    hidden: i64,
    /// `[gates * hidden, hidden]`, or for a GRU whose reset comes first the rows of z and r, and those of h.
    r: Vec<Val<'e, 'g>>,
    /// Bias of R, where it is not in what X contributes.
    bias: Val<'e, 'g>,
    /// Peepholes i, o, f.
    p: Vec<Val<'e, 'g>>,
}

/// The number of steps, or why there is none.
fn steps(x: Val<'_, '_>, settings: &Settings) -> Result<i64, InferError> {
    let fact = x.fact();
    let axis = usize::from(settings.batch_first);
    let dim = fact.dims().and_then(|d| d.get(axis).copied()).unwrap_or(Dim::Unknown);
    let want = match dim {
        Dim::Known(n @ 1..=MAX_STEPS) => return Ok(n),
        Dim::Known(n) => format!(
            "1 to {MAX_STEPS} steps along axis {axis}, not {n}: training unrolls the network, one copy per step; \
             shorten the sequences"
        ),
        dim => {
            let how = dim.name().map(|name| format!(", as `lorac grad --fix {name}=16` does")).unwrap_or_default();
            format!(
                "a known length of axis {axis}, not `{dim}`: training unrolls the network, one copy per step; make that \
                 dimension of the model's input a number (at most {MAX_STEPS}){how}"
            )
        }
    };
    Err(InferError::Operand { slot: 0, got: fact, want })
}

/// The parts of a vector or matrix of equal blocks along `axis`.
fn blocks<'e, 'g>(v: Val<'e, 'g>, axis: i64, lens: &[i64]) -> Vec<Val<'e, 'g>> {
    match lens {
        [_] => vec![v],
        lens => v.emit().ops("Split", &[v, v.emit().ints(lens)], &[("axis", axis.into())], lens.len()),
    }
}

/// An operand by direction: its first axis split.
fn by_direction<'e, 'g>(v: Option<Val<'e, 'g>>, directions: usize) -> Vec<Option<Val<'e, 'g>>> {
    let Some(v) = v else { return vec![None; directions] };
    let parts = blocks(v, 0, &vec![1; directions]);
    parts.into_iter().map(|v| Some(v.binary("Squeeze", v.emit().ints(&[0])))).collect()
}

fn dense<'e, 'g>(x: Val<'e, 'g>, w: Val<'e, 'g>, c: Val<'e, 'g>) -> Val<'e, 'g> {
    x.emit().op("Gemm", &[x, w, c], &[("transB", 1i64.into())])
}

impl<'e, 'g> Cell<'_, 'e, 'g> {
    fn act(&self, which: usize, x: Val<'e, 'g>) -> Val<'e, 'g> {
        let x = match self.settings.clip {
            Some(c) => x.emit().op("Clip", &[x, x.like(-c), x.like(c)], &[]),
            None => x,
        };
        match self.settings.activations.get(self.direction).and_then(|a| a.get(which)) {
            Some(activation) => activation.emit(x),
            None => x,
        }
    }

    /// The next state from what X contributes to this step, `[batch, gates * hidden]`, and the state.
    fn step(&self, x: Val<'e, 'g>, h: Val<'e, 'g>, c: Val<'e, 'g>) -> (Val<'e, 'g>, Val<'e, 'g>) {
        let n = self.hidden;
        let split = |v: Val<'e, 'g>, lens: &[i64]| blocks(v, -1, lens);
        let r = |i: usize| self.r.get(i).copied().unwrap_or(x.emit().absent());
        let at = |v: &[Val<'e, 'g>], i: usize| v.get(i).copied().unwrap_or(x.emit().absent());
        match self.kind {
            Kind::Rnn => (self.act(0, dense(h, r(0), x)), c),
            Kind::Gru => {
                let x = split(x, &[2 * n, n]);
                let (gates, new) = match self.settings.linear_before_reset {
                    true => {
                        let recurrent = split(dense(h, r(0), self.bias), &[2 * n, n]);
                        let gates = split(self.act(0, at(&x, 0) + at(&recurrent, 0)), &[n, n]);
                        let new = at(&x, 1) + at(&gates, 1) * at(&recurrent, 1);
                        (gates, new)
                    }
                    false => {
                        let gates = split(self.act(0, dense(h, r(0), at(&x, 0))), &[n, n]);
                        let new = dense(at(&gates, 1) * h, r(1), at(&x, 1));
                        (gates, new)
                    }
                };
                let (z, new) = (at(&gates, 0), self.act(1, new));
                (new + z * (h - new), c)
            }
            Kind::Lstm => {
                let gates = split(dense(h, r(0), x), &[n; 4]);
                let peep = |gate: usize, i: usize, c: Val<'e, 'g>| match self.p.get(i) {
                    Some(p) => at(&gates, gate) + *p * c,
                    None => at(&gates, gate),
                };
                let input = self.act(0, peep(0, 0, c));
                let forget = match self.settings.input_forget {
                    true => 1.0 - input,
                    false => self.act(0, peep(2, 2, c)),
                };
                let cell = forget * c + input * self.act(1, at(&gates, 3));
                let output = self.act(0, peep(1, 1, cell));
                (output * self.act(2, cell), cell)
            }
        }
    }
}

pub(super) fn unroll<'e, 'g>(e: &'e Emit<'g>, node: &Node, x: &[Val<'e, 'g>], kind: Kind) -> Vec<Val<'e, 'g>> {
    let operand = |slot: usize| x.get(slot).and_then(|v| v.present());
    let (Some(input), Some(w), Some(r)) = (operand(0), operand(1), operand(2)) else { return Vec::new() };
    let settings = match Settings::of(node, kind) {
        Ok(settings) => settings,
        Err(error) => return vec![e.fail(error)],
    };
    let seq = match steps(input, &settings) {
        Ok(seq) => seq,
        Err(error) => return vec![e.fail(error)],
    };
    let of_r = r.fact().dims().and_then(|d| d.get(2)?.known());
    let Some(hidden) = settings.hidden.map(|h| h as i64).or(of_r) else {
        return vec![e.fail(InferError::Operand { slot: 2, got: r.fact(), want: "a known last dimension".into() })];
    };
    let rows = kind.gates() as i64 * hidden;
    let directions = settings.reverse.len();
    let time_first = |v: Val<'e, 'g>| if settings.batch_first { v.transpose(&[1, 0, 2]) } else { v };
    let input = time_first(input);
    let state = |slot: usize| by_direction(operand(slot).map(time_first), directions);
    let (w, r, b) =
        (by_direction(Some(w), directions), by_direction(Some(r), directions), by_direction(operand(3), directions));
    let (h0, c0, p) = (state(5), state(6), by_direction(operand(7), directions));
    let flat = e.op("Flatten", &[input], &[("axis", 2i64.into())]);
    let zeros = || {
        let zero = Tensor::from_f64(input.fact().dtype, &[1], &[0.0]);
        let attrs: Vec<(&str, lorac_ir::Attr)> = zero.into_iter().map(|t| ("value", t.into())).collect();
        let shape = e.op("Concat", &[input.lens(1..2), e.ints(&[hidden])], &[("axis", 0i64.into())]);
        e.op("ConstantOfShape", &[shape], &attrs)
    };
    let masks = masks(operand(4), seq);

    let (mut ys, mut hs, mut cs) = (Vec::new(), Vec::new(), Vec::new());
    for direction in 0..directions {
        let part = |v: &[Option<Val<'e, 'g>>]| v.get(direction).copied().flatten();
        let (Some(w), Some(r)) = (part(&w), part(&r)) else { continue };
        let biases = part(&b).map(|b| blocks(b, 0, &[rows, rows]));
        let bias = |side: usize| biases.as_ref().and_then(|b| b.get(side).copied());
        let apart = kind == Kind::Gru && settings.linear_before_reset;
        let of_x = match (bias(0), bias(1)) {
            (Some(of_w), Some(of_r)) if !apart => of_w + of_r,
            (Some(of_w), _) => of_w,
            _ => e.absent(),
        };
        let cell = Cell {
            kind,
            settings: &settings,
            direction,
            hidden,
            r: if kind == Kind::Gru && !apart { blocks(r, 0, &[2 * hidden, hidden]) } else { vec![r] },
            bias: bias(1).filter(|_| apart).unwrap_or(e.absent()),
            p: part(&p).map(|p| blocks(p, 0, &[hidden; 3])).unwrap_or_default(),
        };
        // What X contributes to all steps is one product.
        let all = dense(flat, w, of_x).reshape(&[seq, -1, rows]);
        let parts: Vec<Val> = blocks(all, 0, &vec![1; seq as usize]);
        let (mut h, mut c) = (part(&h0).unwrap_or_else(zeros), part(&c0).unwrap_or_else(zeros));
        let mut y = vec![h; parts.len()];
        let mut order: Vec<usize> = (0..parts.len()).collect();
        if settings.reverse.get(direction) == Some(&true) {
            order.reverse();
        }
        for t in order {
            let step = parts.get(t).map(|v| v.binary("Squeeze", e.ints(&[0]))).unwrap_or(all);
            let (new_h, new_c) = cell.step(step, h, c);
            let shown;
            (h, c, shown) = match masks.as_ref().and_then(|m| m.get(t)) {
                Some(mask) => {
                    let either = |new: Val<'e, 'g>, old: Val<'e, 'g>| e.op("Where", &[*mask, new, old], &[]);
                    let c = if kind == Kind::Lstm { either(new_c, c) } else { c };
                    (either(new_h, h), c, either(new_h, new_h.like(0.0)))
                }
                None => (new_h, new_c, new_h),
            };
            if let Some(slot) = y.get_mut(t) {
                *slot = shown;
            }
        }
        ys.push(e.op("Concat", &y, &[("axis", 0i64.into())]).reshape(&[seq, 1, -1, hidden]));
        hs.push(h.binary("Unsqueeze", e.ints(&[0])));
        cs.push(c.binary("Unsqueeze", e.ints(&[0])));
    }
    let join = |v: &[Val<'e, 'g>], axis: i64| match v {
        [one] => *one,
        all => e.op("Concat", all, &[("axis", axis.into())]),
    };
    let y = join(&ys, 1);
    let y = if settings.batch_first { y.transpose(&[2, 0, 1, 3]) } else { y };
    let mut results = vec![y, time_first(join(&hs, 0))];
    if kind == Kind::Lstm {
        results.push(time_first(join(&cs, 0)));
    }
    results
}

/// For each step which sequences it belongs to, `[batch, 1]`; `None` where all do.
fn masks<'e, 'g>(lens: Option<Val<'e, 'g>>, seq: i64) -> Option<Vec<Val<'e, 'g>>> {
    let lens = lens?;
    if lens.known_ints().is_some_and(|v| v.iter().all(|n| *n == seq)) {
        return None;
    }
    let e = lens.emit();
    let lens = lens.cast(DType::I64).binary("Unsqueeze", e.ints(&[1]));
    Some((0..seq).map(|t| lens.binary("Greater", e.scalar(t as f64, DType::I64))).collect())
}
