//! Writing by index: ScatterElements ScatterND TensorScatter.

use super::*;
use crate::Attribute::{Int, Str};
use crate::Operand::{Any, Apart, Ints};
use crate::{Backward, Val, case};
use ndarray::{Axis, IxDyn};

const SCATTER: Op = Op { inputs: (3, 3), flops: |c, _| c.fact(2).volume(), ..UNARY };

/// How an update meets what is there.
fn reduction(node: &lorac_ir::Node) -> Result<fn(f64, f64) -> f64, EvalError> {
    Ok(match node.str("reduction") {
        None | Some("none") => |_, new| new,
        Some("add") => |old, new| old + new,
        Some("mul") => |old, new| old * new,
        Some("max") => f64::max,
        Some("min") => f64::min,
        Some(other) => return invalid(format!("reduction `{other}`")),
    })
}

/// A scatter and the gather that reads where it wrote.
struct Places<'b, 'e, 'g> {
    b: &'b Backward<'e, 'g>,
    scatter: &'static str,
    gather: &'static str,
    axis: Vec<(&'static str, Attr)>,
}

impl<'e, 'g> Places<'_, 'e, 'g> {
    fn read(&self, from: Val<'e, 'g>) -> Val<'e, 'g> {
        self.b.emit.op(self.gather, &[from, self.b.x[1]], &self.axis)
    }

    fn write(&self, onto: Val<'e, 'g>, updates: Val<'e, 'g>, reduction: &str) -> Val<'e, 'g> {
        let (mut attrs, operands) = (self.axis.clone(), [onto, self.b.x[1], updates]);
        if reduction == "none" {
            return self.b.emit.op(self.scatter, &operands, &attrs);
        }
        attrs.push(("reduction", reduction.into()));
        accumulate(self.scatter, operands, &attrs)
    }
}

fn scatter_grad<'e, 'g>(b: &Backward<'e, 'g>, scatter: &'static str, gather: &'static str) -> Vec<Option<Val<'e, 'g>>> {
    let axis = b.node.attrs.get("axis").map(|a| ("axis", a.clone())).into_iter().collect();
    let places = Places { b, scatter, gather, axis };
    let (x, updates, gy) = (b.x[0], b.x[2], b.gy);
    match b.node.str("reduction").unwrap_or("none") {
        // The operand keeps what was not overwritten, the updates read where they went.
        "none" => {
            vec![b.want(0, || places.write(gy, updates.zeros_like(), "none")), None, b.want(2, || places.read(gy))]
        }
        "add" => vec![Some(gy), None, b.want(2, || places.read(gy))],
        "mul" => {
            let shape = x.shape();
            let ones = || full(shape, x.fact().dtype, 1.0);
            let by_x = b.want(0, || gy * places.write(ones(), updates, "mul"));
            let by_updates = b.want(2, || places.read(gy * x) * others(&places, ones(), updates));
            vec![by_x, None, by_updates]
        }
        // All that attain the extremum share its gradient.
        "max" | "min" => {
            let dtype = gy.fact().dtype;
            let kept = b.y.binary("Equal", x).cast(dtype);
            let hit = places.read(b.y).binary("Equal", updates).cast(dtype);
            let share = gy / places.write(kept, hit, "add");
            vec![Some(share * kept), None, b.want(2, || places.read(share) * hit)]
        }
        other => {
            let want = "none, add, mul, max or min".to_string();
            vec![Some(b.emit.fail(InferError::Attribute { name: "reduction", got: other.into(), want }))]
        }
    }
}

/// For each update the product of the others that meet it: exact with zeros among them.
fn others<'e, 'g>(places: &Places<'_, 'e, 'g>, ones: Val<'e, 'g>, updates: Val<'e, 'g>) -> Val<'e, 'g> {
    let e = updates.emit();
    let dtype = updates.fact().dtype;
    let (nought, unit) = (updates.like(0.0), updates.like(1.0));
    let zero = updates.binary("Equal", nought);
    let safe = e.op("Where", &[zero, unit, updates], &[]);
    let product = places.read(places.write(ones, safe, "mul"));
    let zeros = places.read(places.write(ones - 1.0, zero.cast(dtype), "add"));
    let left = zeros - zero.cast(dtype);
    e.op("Where", &[left.binary("Equal", nought), product / safe, nought], &[])
}

pub(super) const SCATTER_ELEMENTS: Op = Op {
    name: "ScatterElements",
    eval: |a| {
        let (mut y, updates) = (a.x(0)?.clone(), a.x(2)?);
        let axis = a.axis(0, y.ndim())?;
        let dims = y.shape().to_vec();
        let meet = reduction(a.node)?;
        if updates.shape() != a.x(1)?.shape() {
            return invalid(format!("updates {:?} at {:?}", updates.shape(), a.x(1)?.shape()));
        }
        each_element(&dims, a.x(1)?, axis, |row, at| {
            let (old, new) = (y[IxDyn(row)], updates[IxDyn(at)]);
            y[IxDyn(row)] = meet(old, new);
        })?;
        Ok(vec![y])
    },
    grad: Grad::rule(
        |b| scatter_grad(b, "ScatterElements", "GatherElements"),
        &[
            case(&[Any(&[3, 4]), Ints(&[2, 3], &[1, 0, 2, 0, 2, -2]), Any(&[2, 3])]),
            case(&[Any(&[3]), Ints(&[3], &[1, 1, 0]), Any(&[3])]).with(&[("reduction", Str("add"))]),
            case(&[Any(&[2, 3]), Ints(&[2, 2], &[1, 1, 0, 2]), Any(&[2, 2])])
                .with(&[("reduction", Str("mul")), ("axis", Int(-1))]),
            case(&[Apart(&[3]), Ints(&[4], &[1, 1, 0, 2]), Apart(&[4])]).with(&[("reduction", Str("max"))]),
            case(&[Apart(&[3]), Ints(&[4], &[1, 1, 0, 2]), Apart(&[4])]).with(&[("reduction", Str("min"))]),
        ],
    ),
    ..SCATTER
};

pub(super) const SCATTER_ND: Op = Op {
    name: "ScatterND",
    eval: |a| {
        let (mut y, updates) = (a.x(0)?.as_standard_layout().into_owned(), a.x(2)?);
        let meet = reduction(a.node)?;
        let rows = index_rows(a.x(1)?, 0)?;
        let dims = y.shape().to_vec();
        let width = a.x(1)?.shape().last().copied().unwrap_or(0);
        let part: usize = dims.get(width..).map_or(0, |d| d.iter().product());
        if updates.len() != rows.len() * part {
            return invalid(format!("updates {:?} for {} rows of {dims:?}", updates.shape(), rows.len()));
        }
        let flat: Vec<f64> = updates.iter().copied().collect();
        for ((_, row), update) in rows.iter().zip(flat.chunks(part.max(1))) {
            let row = row_at(&[], row, &dims)?;
            let part = row.iter().fold(y.view_mut(), |v, i| v.index_axis_move(Axis(0), *i));
            part.into_iter().zip(update).for_each(|(old, new)| *old = meet(*old, *new));
        }
        Ok(vec![y])
    },
    grad: Grad::rule(
        |b| scatter_grad(b, "ScatterND", "GatherND"),
        &[
            case(&[Any(&[3, 4]), Ints(&[2, 1], &[2, 0]), Any(&[2, 4])]),
            case(&[Any(&[3, 4]), Ints(&[2, 2], &[2, 0, 2, 0]), Any(&[2])]).with(&[("reduction", Str("add"))]),
            case(&[Any(&[3, 2]), Ints(&[3, 1], &[2, 0, 2]), Any(&[3, 2])]).with(&[("reduction", Str("mul"))]),
            case(&[Apart(&[3, 2]), Ints(&[3, 1], &[2, 0, -1]), Apart(&[3, 2])]).with(&[("reduction", Str("max"))]),
        ],
    ),
    ..SCATTER
};

pub(super) const TENSOR_SCATTER: Op = Op {
    name: "TensorScatter",
    since: 24,
    inputs: (2, 3),
    flops: |_, _| Dim::Known(0),
    eval: |a| {
        let (mut y, update) = (a.x(0)?.clone(), a.x(1)?);
        let axis = a.axis(-2, y.ndim())?;
        let dims = y.shape().to_vec();
        let fits = update.ndim() == dims.len()
            && (0..dims.len()).all(|i| update.shape()[i] == dims[i] || i == axis && update.shape()[i] <= dims[i]);
        if axis == 0 || !fits {
            return invalid(format!("an update of {:?} to {dims:?}", update.shape()));
        }
        let starts = if a.opt(2).is_some() { a.ints(2)? } else { vec![0; dims[0]] };
        let n = dims[axis] as i64;
        for (at, new) in update.indexed_iter() {
            let mut place: Vec<usize> = (0..dims.len()).map(|d| at[d]).collect();
            let row = starts.get(at[0]).map(|s| s.saturating_add(at[axis] as i64));
            let row = row.map(|r| if a.node.str("mode") == Some("circular") { r.rem_euclid(n.max(1)) } else { r });
            match row.filter(|r| (0..n).contains(r)) {
                Some(row) => place[axis] = row as usize,
                None => return invalid("an update past the end of the cache"),
            }
            y[IxDyn(&place)] = *new;
        }
        Ok(vec![y])
    },
    grad: Grad::lower(
        |e, node, x| {
            let (cache, update) = (x[0], x[1]);
            let rank = cache.rank();
            let axis = axis_of(e, node, -2, rank);
            let column = |v: Val<'_, '_>, at: usize| {
                let after: Vec<i64> = (1..(rank - at) as i64).collect();
                if after.is_empty() { v.id() } else { v.binary("Unsqueeze", e.ints(&after)).id() }
            };
            let mut at = e.val(column(update.positions(axis), axis));
            if let Some(starts) = x.get(2).and_then(|v| v.present()) {
                at = e.val(column(starts, 0)) + at;
            }
            if node.str("mode") == Some("circular") {
                at = at.binary("Mod", cache.len(axis));
            }
            let at = at.binary("Expand", update.shape());
            vec![e.op("ScatterElements", &[cache, at, update], &[("axis", (axis as i64).into())])]
        },
        &[
            case(&[Any(&[2, 4, 3]), Any(&[2, 2, 3])]).opset(24),
            case(&[Any(&[2, 2, 4, 3]), Any(&[2, 2, 2, 3]), Ints(&[2], &[3, 1])])
                .with(&[("mode", Str("circular"))])
                .opset(24),
            case(&[Any(&[2, 2, 4]), Any(&[2, 2, 1]), Ints(&[2], &[3, 1])]).with(&[("axis", Int(2))]).opset(24),
        ],
    ),
    ..UNARY
};
