//! Parts of a tensor by position: Slice Split Trilu.

use super::index::{scatter_rows, shaped_like};
use super::*;
use crate::Attribute::Int;
use crate::Operand::{Absent, Any, Ints};
use crate::{Backward, Emit, Val, case};
use ndarray::{Axis, Slice as Steps};

pub(super) const OPS: &[Op] = &[SLICE, SPLIT, TRILU];

/// More positions than these are found by the run.
const LISTED: i64 = 1 << 20;

/// One axis of a Slice: `(axis, start, end, step)`.
type Cut = (usize, Dim, Dim, Dim);

const SLICE: Op = Op {
    name: "Slice",
    traits: Traits::MOVES,
    inputs: (3, 5),
    infer: |c| {
        let fact = c.fact(0);
        let Some(dims) = fact.dims() else { return one(fact) };
        let unknown = || Fact::new(fact.dtype, dims.iter().map(|_| Dim::Unknown));
        let Some(cuts) = cuts(c, dims.len())? else { return one(unknown()) };
        let mut out = dims.to_vec();
        for (axis, start, end, step) in &cuts {
            out[*axis] = cut_len(dims[*axis], *start, *end, *step);
        }
        let content = match (c.content(0), cuts.as_slice()) {
            (Some(v), [(0, Dim::Known(start), Dim::Known(end), Dim::Known(step))]) => {
                Some(positions(v.len(), *start, *end, *step).into_iter().map(|i| v[i]).collect())
            }
            _ => None,
        };
        known(Fact::new(fact.dtype, out), content)
    },
    eval: |a| {
        let mut y = a.x(0)?.clone();
        for (axis, start, end, step) in eval_cuts(a)? {
            let at = positions(y.shape()[axis], start, end, step);
            y = y.select(Axis(axis), &at);
        }
        Ok(vec![y])
    },
    grad: Grad::rule(
        |b| vec![Some(slice_grad(b))],
        &[
            case(&[Any(&[4, 5]), Ints(&[1], &[1]), Ints(&[1], &[3]), Ints(&[1], &[1])]),
            case(&[Any(&[4, 5]), Ints(&[2], &[-3, 0]), Ints(&[2], &[i64::MAX, -1])]),
            case(&[Any(&[4, 5]), Ints(&[1], &[7]), Ints(&[1], &[9])]),
            case(&[Any(&[4, 5]), Ints(&[2], &[-1, 0]), Ints(&[2], &[-4, 9]), Absent, Ints(&[2], &[-2, 2])]),
            case(&[
                Any(&[4, 5]),
                Ints(&[2], &[-1, 1]),
                Ints(&[2], &[i64::MIN, 9]),
                Ints(&[2], &[-1, 0]),
                Ints(&[2], &[-3, 1]),
            ]),
        ],
    ),
    ..MOVES
};

/// The gradient back where the part was cut, zeros around it: padded for steps of one, scattered along the axis for
/// other steps.
fn slice_grad<'e, 'g>(b: &Backward<'e, 'g>) -> Val<'e, 'g> {
    let (e, x) = (b.emit, b.x[0]);
    let rank = x.rank();
    let operand = |slot: usize| b.x.get(slot).and_then(|v| v.present());
    let listed = match b.x[1].fact().dims() {
        Some([Dim::Known(n @ 0..=64)]) => *n,
        _ => b.x[1].content().map_or(0, |c| c.len() as i64),
    };
    let axes = match operand(3) {
        None => Some((0..listed).collect()),
        Some(axes) => axes.known_ints(),
    };
    let Some(axes) = axes else {
        let want = "axes that are known before the run".into();
        return e.fail(InferError::Operand { slot: 3, got: b.x[3].fact(), want });
    };
    let mut g = b.gy;
    let mut edges = vec![(Edge::Known(0), Edge::Known(0)); rank];
    for (i, axis) in axes.iter().enumerate() {
        let at = if *axis < 0 { axis.saturating_add(rank as i64) } else { *axis };
        let Some(axis) = usize::try_from(at).ok().filter(|a| *a < rank) else {
            return e.fail(InferError::Attribute {
                name: "axes",
                got: axis.to_string(),
                want: format!("one of {rank} axes"),
            });
        };
        let step = operand(4).map(|s| element(s, i));
        if step.is_none_or(|s| s.known_ints().as_deref() == Some(&[1])) {
            if let Some(edge) = edges.get_mut(axis) {
                *edge = around(x, b.y, axis, element(b.x[1], i));
            }
            continue;
        }
        let n = x.lens(axis..axis + 1);
        let known = x.fact().dims().and_then(|d| d.get(axis)?.known());
        let cut = [Some(element(b.x[1], i)), Some(element(b.x[2], i)), step];
        let numbers: Option<Vec<i64>> = cut.iter().map(|v| v.and_then(|v| v.known_ints()?.first().copied())).collect();
        let at = match (known, numbers.as_deref()) {
            (Some(n), Some([start, end, step])) if count(n.max(0), *start, *end, *step) <= LISTED => {
                let at = positions(n.max(0) as usize, *start, *end, *step);
                e.ints(&at.into_iter().map(|i| i as i64).collect::<Vec<_>>())
            }
            // The cut itself says which positions it takes, clamped as it clamps.
            _ => {
                let mut operands = vec![x.positions(axis)];
                operands.extend(cut.iter().flatten().map(|v| v.cast(DType::I64)));
                operands.insert(3, e.ints(&[0]));
                e.op("Slice", &operands, &[])
            }
        };
        g = scatter_rows(g, axis, n, at, "none");
    }
    let before: Option<Vec<i64>> = edges.iter().map(|p| p.0.known()).collect();
    let after: Option<Vec<i64>> = edges.iter().map(|p| p.1.known()).collect();
    let pads = match (before, after) {
        (Some(before), Some(after)) if before.iter().chain(&after).all(|n| *n == 0) => return shaped_like(g, x),
        (Some(before), Some(after)) => e.ints(&[before, after].concat()),
        _ => {
            let all = edges.iter().map(|p| p.0).chain(edges.iter().map(|p| p.1));
            e.op("Concat", &all.map(|edge| edge.vector(e)).collect::<Vec<_>>(), &[("axis", 0i64.into())])
        }
    };
    shaped_like(e.op("Pad", &[g, pads], &[]), x)
}

/// How many zeros one side of an axis gets.
#[derive(Clone, Copy)]
enum Edge<'e, 'g> {
    Known(i64),
    /// A vector of one element.
    AtRunTime(Val<'e, 'g>),
}

impl<'e, 'g> Edge<'e, 'g> {
    fn known(&self) -> Option<i64> {
        match self {
            Edge::Known(n) => Some(*n),
            Edge::AtRunTime(_) => None,
        }
    }

    fn vector(self, e: &'e Emit<'g>) -> Val<'e, 'g> {
        match self {
            Edge::Known(n) => e.ints(&[n]),
            Edge::AtRunTime(v) => v,
        }
    }
}

/// What a cut with a step of one left away before and after it.
fn around<'e, 'g>(x: Val<'e, 'g>, y: Val<'e, 'g>, axis: usize, start: Val<'e, 'g>) -> (Edge<'e, 'g>, Edge<'e, 'g>) {
    let e = x.emit();
    let dim = |v: Val<'e, 'g>| v.fact().dims().and_then(|d| d.get(axis).copied()).unwrap_or(Dim::Unknown);
    let (n, left) = (dim(x), dim(y));
    let start = start.cast(DType::I64);
    let number = start.known_ints().and_then(|v| v.first().copied());
    let before = match (number, n.known()) {
        (Some(s), Some(n)) => Edge::Known((if s < 0 { s.saturating_add(n) } else { s }).clamp(0, n.max(0))),
        // A start behind the end leaves nothing: then what is added behind is negative, and takes it back.
        (Some(s @ 0..), None) if s < i64::from(i32::MAX) => Edge::Known(s),
        _ => {
            let n = x.lens(axis..axis + 1);
            let from_front = match number {
                Some(s @ ..0) => n + e.ints(&[s]),
                Some(_) => start,
                None => e.op("Where", &[start.binary("Less", e.ints(&[0])), start + n, start], &[]),
            };
            Edge::AtRunTime(from_front.binary("Max", e.ints(&[0])).binary("Min", n))
        }
    };
    let length = |v: Val<'e, 'g>| v.lens(axis..axis + 1);
    let after = match (before, (n - left).known()) {
        (Edge::Known(before), Some(gone)) => Edge::Known(gone - before),
        (Edge::Known(0), None) => Edge::AtRunTime(length(x) - length(y)),
        _ => Edge::AtRunTime(length(x) - length(y) - before.vector(e)),
    };
    (before, after)
}

/// Element `i` of a vector, as a vector of one element.
fn element<'e, 'g>(v: Val<'e, 'g>, i: usize) -> Val<'e, 'g> {
    let e = v.emit();
    match v.content().and_then(|c| c.get(i)?.known()) {
        Some(n) => e.ints(&[n]),
        None => e.op("Slice", &[v, e.ints(&[i as i64]), e.ints(&[i as i64 + 1]), e.ints(&[0])], &[]),
    }
}

fn cuts(c: &Ctx, rank: usize) -> Result<Option<Vec<Cut>>, InferError> {
    let count = match (c.content(1), c.dims(1)) {
        (Some(starts), _) => starts.len(),
        (None, Some([Dim::Known(n @ 0..=64)])) => *n as usize,
        _ => return Ok(None),
    };
    let axes = match c.input(3) {
        Some(_) => c.ints(3),
        None => Some((0..count as i64).collect()),
    };
    let Some(axes) = axes else { return Ok(None) };
    let listed = |slot: usize, default: Dim| match (c.content(slot), c.input(slot)) {
        (Some(v), _) => v.to_vec(),
        (None, Some(_)) => vec![Dim::Unknown; count],
        (None, None) => vec![default; count],
    };
    let (starts, ends, steps) = (listed(1, Dim::Unknown), listed(2, Dim::Unknown), listed(4, Dim::Known(1)));
    if [axes.len(), starts.len(), ends.len(), steps.len()].iter().any(|n| *n != count) {
        return Err(InferError::Mismatch(c.fact(1), c.fact(2)));
    }
    let mut cuts = Vec::new();
    for (i, axis) in axes.iter().enumerate() {
        let at = if *axis < 0 { axis + rank as i64 } else { *axis };
        let wrong =
            |got: i64, want: &str| InferError::Attribute { name: "axes", got: got.to_string(), want: want.into() };
        let at = usize::try_from(at).ok().filter(|a| *a < rank).ok_or_else(|| wrong(*axis, "an axis"))?;
        if steps[i] == Dim::Known(0) {
            return Err(wrong(0, "a step"));
        }
        cuts.push((at, starts[i], ends[i], steps[i]));
    }
    Ok(Some(cuts))
}

/// The length that a cut leaves of a dimension. A symbol is taken to be long enough for the cut: true of every symbol
/// but too small a one.
fn cut_len(dim: Dim, start: Dim, end: Dim, step: Dim) -> Dim {
    let open = |b: i64| b >= i64::from(i32::MAX);
    match (dim, start, end, step) {
        (Dim::Known(n), Dim::Known(a), Dim::Known(b), Dim::Known(step)) => Dim::Known(count(n.max(0), a, b, step)),
        (Dim::Unknown, ..) => match (start, end, step) {
            (Dim::Known(0), end @ Dim::Sym(_), Dim::Known(1)) => end,
            _ => Dim::Unknown,
        },
        (n, Dim::Known(a @ 0..), Dim::Known(b), Dim::Known(1)) if open(b) && !open(a) => n - Dim::Known(a),
        (n, Dim::Known(a @ 0..), Dim::Known(b @ ..0), Dim::Known(1)) if !open(a) => n + Dim::Known(b) - Dim::Known(a),
        (_, Dim::Known(a @ ..0), Dim::Known(b), Dim::Known(1)) if open(b) => Dim::Known(0) - Dim::Known(a),
        // An end computed from another shape is taken to lie inside, as the exporter's model had it.
        (_, Dim::Known(0), end @ Dim::Sym(_), Dim::Known(1)) => end,
        _ => Dim::Unknown,
    }
}

/// Where a cut of an axis of length `n` begins and where it has ended, counted from the front.
fn bounds(n: i64, start: i64, end: i64, step: i64) -> (i64, i64) {
    let from_front = |i: i64| if i < 0 { i.saturating_add(n) } else { i };
    let (lo, hi) = if step > 0 { (0, n) } else { (-1, n - 1) };
    (from_front(start).clamp(lo.max(0), hi.max(0)), from_front(end).clamp(lo, hi))
}

/// How many positions a cut takes.
fn count(n: i64, start: i64, end: i64, step: i64) -> i64 {
    let (at, end) = bounds(n, start, end, step);
    let (far, by) = if step > 0 { (end - at, step) } else { (at - end, step.saturating_neg()) };
    if n > 0 && far > 0 { (far - 1) / by + 1 } else { 0 }
}

/// The positions of an axis of length `n` that a cut takes, in order.
fn positions(n: usize, start: i64, end: i64, step: i64) -> Vec<usize> {
    let n = n as i64;
    let (mut at, end) = bounds(n, start, end, step);
    let mut out = Vec::new();
    while (step > 0 && at < end) || (step < 0 && at > end && at < n) {
        out.push(at as usize);
        at = at.saturating_add(step);
    }
    out
}

fn eval_cuts(a: &Args) -> Result<Vec<(usize, i64, i64, i64)>, EvalError> {
    let (starts, ends) = (a.ints(1)?, a.ints(2)?);
    let rank = a.x(0)?.ndim();
    let axes = if a.opt(3).is_some() { a.ints(3)? } else { (0..starts.len() as i64).collect() };
    let steps = if a.opt(4).is_some() { a.ints(4)? } else { vec![1; starts.len()] };
    let rows = axes.iter().zip(starts).zip(ends).zip(steps);
    rows.map(|(((axis, start), end), step)| match step {
        0 => invalid("a step of zero"),
        _ => Ok((crate::eval::axis(*axis, rank)?, start, end, step)),
    })
    .collect()
}

const SPLIT: Op = Op {
    name: "Split",
    traits: Traits::MOVES,
    inputs: (1, 2),
    outputs: (1, usize::MAX),
    infer: |c| {
        let fact = c.fact(0);
        let Some(dims) = fact.dims() else { return Ok(vec![fact.into(); c.outputs]) };
        let axis = c.axis(0, dims.len())?;
        let lens: Vec<Dim> = match (c.content(1), c.input(1), dims[axis]) {
            (Some(lens), _, n) => {
                let total = lens.iter().fold(Dim::Known(0), |t, d| t + *d);
                if lens.len() != c.outputs || (n - total).known().is_some_and(|rest| rest != 0) {
                    let want = format!("{} lengths whose sum is {n}", c.outputs);
                    return Err(InferError::Operand { slot: 1, got: c.fact(1), want });
                }
                lens.to_vec()
            }
            (None, None, Dim::Known(n)) => even(n, c.outputs as i64).into_iter().map(Dim::Known).collect(),
            (None, None, d) => {
                let share = d.div_exact(Dim::Known(c.outputs as i64)).unwrap_or(Dim::Unknown);
                vec![share; c.outputs]
            }
            _ => vec![Dim::Unknown; c.outputs],
        };
        let part = |len: &Dim| {
            let mut dims = dims.to_vec();
            dims[axis] = *len;
            Inferred::from(Fact::new(fact.dtype, dims))
        };
        Ok(lens.iter().map(part).collect())
    },
    eval: |a| {
        let x = a.x(0)?;
        let axis = a.axis(0, x.ndim())?;
        let n = x.shape()[axis] as i64;
        let lens = if a.opt(1).is_some() { a.ints(1)? } else { even(n, a.outputs as i64) };
        let mut at = 0i64;
        let mut parts = Vec::new();
        for len in lens {
            let end = at.saturating_add(len);
            if len < 0 || end > n {
                return invalid(format!("Split past the end of {:?}", x.shape()));
            }
            parts.push(x.slice_axis(Axis(axis), Steps::new(at as isize, Some(end as isize), 1)).to_owned());
            at = end;
        }
        Ok(parts)
    },
    grad: Grad::rule_of_all(
        |b| {
            let parts: Vec<Val> = b.gys.iter().zip(&b.ys).map(|(g, y)| g.unwrap_or_else(|| y.zeros_like())).collect();
            vec![Some(b.emit.op("Concat", &parts, &[("axis", b.node.int("axis", 0).into())])), None]
        },
        &[
            case(&[Any(&[2, 5]), Ints(&[2], &[2, 3])]).with(&[("axis", Int(1))]).outputs(2),
            case(&[Any(&[4, 2])]).with(&[("num_outputs", Int(2))]).outputs(2),
            case(&[Any(&[2, 7])]).with(&[("num_outputs", Int(4)), ("axis", Int(-1))]).outputs(4),
            case(&[Any(&[4])]).opset(13).outputs(2),
        ],
    ),
    ..MOVES
};

/// `n` in `parts` equal shares, the last one smaller where they do not divide it.
fn even(n: i64, parts: i64) -> Vec<i64> {
    let share = (n + parts - 1) / parts.max(1);
    (0..parts).map(|i| share.min(n - i * share).max(0)).collect()
}

const TRILU: Op = Op {
    name: "Trilu",
    since: 14,
    inputs: (1, 2),
    eval: |a| {
        let mut y = a.x(0)?.as_standard_layout().into_owned();
        let k = if a.opt(1).is_some() { a.ints(1)?.first().copied().unwrap_or(0) } else { 0 };
        let upper = a.node.int("upper", 1) != 0;
        let [.., rows, cols] = *y.shape() else { return invalid("Trilu of a vector") };
        for (at, y) in y.iter_mut().enumerate() {
            let (row, col) = ((at / cols.max(1) % rows.max(1)) as i64, (at % cols.max(1)) as i64);
            let keep = if upper { col - row >= k } else { col - row <= k };
            *y = if keep { *y } else { 0.0 };
        }
        Ok(vec![y])
    },
    grad: Grad::rule(
        |b| {
            let inputs: Vec<Val> = [b.gy].into_iter().chain(b.x.get(1).copied()).collect();
            vec![Some(b.emit.op("Trilu", &inputs, &[("upper", b.node.int("upper", 1).into())])), None]
        },
        &[case(&[Any(&[3, 4])]), case(&[Any(&[2, 3, 3]), Ints(&[], &[-1])]).with(&[("upper", Int(0))])],
    ),
    ..MOVES
};

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counted_as_listed() {
        let ends = [i64::MIN, -7, -3, -1, 0, 1, 2, 4, 9, i64::MAX];
        let pairs: Vec<(i64, i64)> = ends.iter().flat_map(|a| ends.map(|b| (*a, b))).collect();
        for (n, (start, end)) in (0..6).flat_map(|n| pairs.iter().map(move |p| (n, *p))) {
            for step in [i64::MIN, -3, -1, 1, 2, i64::MAX] {
                let listed = positions(n as usize, start, end, step).len() as i64;
                assert_eq!(count(n, start, end, step), listed, "{n}: {start} to {end} by {step}");
            }
        }
        assert_eq!(count(1_000_000_000_000, 0, i64::MAX, 1), 1_000_000_000_000);
    }
}
