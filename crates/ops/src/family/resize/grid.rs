//! GridSample.

use super::taps::{Tap, clamped, gathered, inside, linear};
use super::*;
use crate::Attribute::{Int, Str};
use crate::Operand::{Any, Floats};
use crate::{Emit, Val, case};
use lorac_ir::Node;
use ndarray::{Dimension, IxDyn, indices};

pub(super) const GRID_SAMPLE: Op = Op {
    name: "GridSample",
    since: 16,
    inputs: (2, 2),
    infer: |c| {
        let fact = c.fact(0);
        Grid::of(c.node)?;
        let (Some([n, channels, lens @ ..]), Some([_, places @ .., _])) = (fact.dims(), c.dims(1)) else {
            return one(Fact { dtype: fact.dtype, shape: fact.rank().map(|r| vec![Dim::Unknown; r]) });
        };
        if lens.len() != places.len() || lens.is_empty() {
            return Err(InferError::Mismatch(fact.clone(), c.fact(1)));
        }
        one(Fact::new(fact.dtype, [*n, *channels].into_iter().chain(places.iter().copied())))
    },
    eval,
    flops: |c, k| elementwise(c, k) * Dim::Known(1 << (c.fact(0).rank().unwrap_or(4).min(8) + 1)),
    grad: Grad::lower(
        lower,
        &[
            case(&[Any(&[2, 2, 3, 4]), Floats(&[2, 1, 3, 2], GRID)]),
            case(&[Any(&[2, 2, 3, 4]), Floats(&[2, 1, 3, 2], GRID)])
                .with(&[("align_corners", Int(1)), ("padding_mode", Str("border"))]),
            case(&[Any(&[2, 1, 4, 3]), Floats(&[2, 3, 1, 2], GRID)]).with(&[("padding_mode", Str("reflection"))]),
            case(&[Any(&[2, 1, 4, 3]), Floats(&[2, 3, 1, 2], GRID)]).with(&[
                ("mode", Str("nearest")),
                ("padding_mode", Str("reflection")),
                ("align_corners", Int(1)),
            ]),
            case(&[Any(&[2, 1, 4, 5]), Floats(&[2, 3, 1, 2], GRID)])
                .with(&[("mode", Str("cubic")), ("padding_mode", Str("border"))]),
            case(&[Any(&[1, 1, 2, 3, 2]), Floats(&[1, 2, 2, 1, 3], GRID)]),
        ],
    ),
    ..UNARY
};

const GRID: &[f64] = &[-1.13, 0.31, 0.57, -0.42, 1.93, 0.05, 0.61, -1.71, -0.27, 0.83, 0.14, 1.09];

/// How a node samples.
#[derive(Clone, Copy)]
struct Grid {
    mode: Mode,
    padding: Padding,
    corners: bool,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Mode {
    Nearest,
    Linear,
    Cubic,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Padding {
    Zeros,
    Border,
    Reflection,
}

impl Grid {
    fn of(node: &Node) -> Result<Grid, InferError> {
        let wrong = |name, got: &str, want: &str| InferError::Attribute { name, got: got.into(), want: want.into() };
        let mode = match node.str("mode").unwrap_or("linear") {
            "nearest" => Mode::Nearest,
            "linear" | "bilinear" => Mode::Linear,
            "cubic" | "bicubic" => Mode::Cubic,
            other => return Err(wrong("mode", other, "nearest, linear or cubic")),
        };
        let padding = match node.str("padding_mode").unwrap_or("zeros") {
            "zeros" => Padding::Zeros,
            "border" => Padding::Border,
            "reflection" => Padding::Reflection,
            other => return Err(wrong("padding_mode", other, "zeros, border or reflection")),
        };
        Ok(Grid { mode, padding, corners: node.int("align_corners", 0) != 0 })
    }

    /// Where an axis of length `len` begins and ends.
    fn ends(self, len: f64) -> (f64, f64) {
        if self.corners { (0.0, len - 1.0) } else { (-0.5, len - 0.5) }
    }

    /// The elements that a place on an axis is made of, with their weights.
    fn taps(self, at: f64, len: usize) -> Vec<(usize, f64)> {
        let (lo, hi) = self.ends(len as f64);
        let last = len as f64 - 1.0;
        let mut x = if self.corners { (at + 1.0) / 2.0 * last } else { ((at + 1.0) * len as f64 - 1.0) / 2.0 };
        if self.mode == Mode::Nearest {
            x = x.round_ties_even();
        }
        if x < lo || x > hi {
            x = match self.padding {
                Padding::Zeros => x,
                // Beyond the border a cubic's taps are moved inside, not the place itself, as engines do.
                Padding::Border if self.mode == Mode::Cubic => x,
                Padding::Border => x.clamp(0.0, last),
                Padding::Reflection => reflect(x, lo, hi),
            };
        }
        let first = x.floor();
        let taps: Vec<(f64, f64)> = match self.mode {
            Mode::Nearest => vec![(x, 1.0)],
            Mode::Linear => (0..2).map(|i| first + f64::from(i)).map(|i| (i, 1.0 - (x - i).abs())).collect(),
            Mode::Cubic => (-1..3).map(|i| first + f64::from(i)).map(|i| (i, cubic((x - i).abs()))).collect(),
        };
        let kept = taps.into_iter().filter_map(|(i, weight)| {
            let i = match self.padding {
                Padding::Zeros if !(0.0..=last).contains(&i) => return None,
                Padding::Reflection => reflect(i, lo, hi).trunc(),
                _ => i,
            };
            Some((i.clamp(0.0, last) as usize, weight))
        });
        kept.collect()
    }
}

/// `x` thrown back at both ends until it lies between them.
fn reflect(x: f64, lo: f64, hi: f64) -> f64 {
    let range = hi - lo;
    if range <= 0.0 {
        return lo;
    }
    let past = if x < lo {
        lo - x
    } else if x > hi {
        x - hi
    } else {
        return x;
    };
    let (turns, rest) = ((past / range).floor(), past % range);
    if (turns % 2.0 == 0.0) == (x < lo) { lo + rest } else { hi - rest }
}

/// Keys' kernel with `a = -0.75`.
fn cubic(x: f64) -> f64 {
    const A: f64 = -0.75;
    match x {
        x if x <= 1.0 => ((A + 2.0) * x - (A + 3.0)) * x * x + 1.0,
        x if x < 2.0 => ((A * x - 5.0 * A) * x + 8.0 * A) * x - 4.0 * A,
        _ => 0.0,
    }
}

fn eval(a: &Args) -> EvalResult {
    let (x, grid) = (a.x(0)?, a.x(1)?);
    let how = Grid::of(a.node).map_err(|e| EvalError::Invalid(e.to_string()))?;
    let ([n, channels, lens @ ..], [m, places @ .., width]) = (x.shape(), grid.shape()) else {
        return invalid("GridSample takes rank 3 or more");
    };
    if lens.len() != places.len() || *width != lens.len() || n != m || lens.contains(&0) {
        return invalid(format!("GridSample of {:?} at {:?}", x.shape(), grid.shape()));
    }
    let mut y = Array::zeros([&[*n, *channels], places].concat());
    for (row, at) in (0..*n).flat_map(|row| indices(IxDyn(places)).into_iter().map(move |at| (row, at))) {
        let place = |axis: usize| grid[IxDyn(&[&[row], at.slice(), &[width - 1 - axis]].concat())];
        let taps: Vec<Vec<(usize, f64)>> = lens.iter().enumerate().map(|(i, len)| how.taps(place(i), *len)).collect();
        let counts: Vec<usize> = taps.iter().map(Vec::len).collect();
        for pick in indices(IxDyn(&counts)) {
            let chosen = || pick.slice().iter().zip(&taps).map(|(i, taps)| taps[*i]);
            let weight: f64 = chosen().map(|t| t.1).product();
            let from: Vec<usize> = chosen().map(|t| t.0).collect();
            for c in 0..*channels {
                let value = x[IxDyn(&[&[row, c], from.as_slice()].concat())];
                y[IxDyn(&[&[row, c], at.slice()].concat())] += weight * value;
            }
        }
    }
    Ok(vec![y])
}

/// Every place is a weighted sum of gathered elements.
fn lower<'e, 'g>(e: &'e Emit<'g>, node: &Node, x: &[Val<'e, 'g>]) -> Vec<Val<'e, 'g>> {
    let how = match Grid::of(node) {
        Ok(how) => how,
        Err(error) => return vec![e.fail(error)],
    };
    let (x, grid) = (x[0], x[1]);
    let rank = x.rank().saturating_sub(2);
    let lens: Vec<Val> = (0..rank).map(|axis| x.len(2 + axis).cast(x.fact().dtype)).collect();
    let place = |axis: usize| {
        let part = e.scalar((rank - 1 - axis) as f64, DType::I64);
        e.op("Gather", &[grid, part], &[("axis", (-1i64).into())]).reshape(&[0, -1]).cast(x.fact().dtype)
    };
    let axes: Vec<Vec<Tap>> = (0..rank).map(|axis| taps(how, place(axis), lens[axis])).collect();
    let sum = gathered(x, &lens, &axes);
    vec![sum.binary("Reshape", shape(x, grid))]
}

/// Rows and channels of `x`, and the places of `grid`.
fn shape<'e, 'g>(x: Val<'e, 'g>, grid: Val<'e, 'g>) -> Val<'e, 'g> {
    let e = x.emit();
    let (from, to) = (x.fact(), grid.fact());
    let known = || {
        let (x, grid) = (from.dims()?, to.dims()?);
        let dims = x.get(..2)?.iter().chain(grid.get(1..grid.len() - 1)?);
        dims.map(|d| d.known()).collect::<Option<Vec<i64>>>()
    };
    match known() {
        Some(dims) => e.ints(&dims),
        None => {
            let first = e.op("Shape", &[x], &[("start", 0i64.into()), ("end", 2i64.into())]);
            let rest = e.op("Shape", &[grid], &[("start", 1i64.into()), ("end", (-1i64).into())]);
            e.op("Concat", &[first, rest], &[("axis", 0i64.into())])
        }
    }
}

/// The elements that each place on an axis is made of.
fn taps<'e, 'g>(how: Grid, at: Val<'e, 'g>, len: Val<'e, 'g>) -> Vec<Tap<'e, 'g>> {
    let e = at.emit();
    let last = len - 1.0;
    let (lo, hi) = if how.corners { (len.like(0.0), last) } else { (len.like(-0.5), len - 0.5) };
    let mut x = if how.corners { (at + 1.0) * (last * 0.5) } else { ((at + 1.0) * len - 1.0) * 0.5 };
    if how.mode == Mode::Nearest {
        x = x.unary("Round");
    }
    let clamp = |v: Val<'e, 'g>| clamped(v, last);
    let reflect = |v: Val<'e, 'g>| {
        let range = hi - lo;
        // An axis of one element has no range; what then comes out is clamped to that element.
        let period = range.binary("Max", range.like(1.0)) * 2.0;
        let along = (v - lo).unary("Abs");
        let within = along - period * (along / period).unary("Floor");
        lo + (range - (within - range).unary("Abs"))
    };
    x = match how.padding {
        Padding::Zeros => x,
        Padding::Border if how.mode == Mode::Cubic => x,
        Padding::Border => {
            let outside = x.binary("Less", lo).binary("Or", x.binary("Greater", hi));
            e.op("Where", &[outside, clamp(x), x], &[])
        }
        Padding::Reflection => reflect(x),
    };
    const A: f64 = -0.75;
    let near = |t: Val<'e, 'g>| (t * (A + 2.0) - (A + 3.0)) * t * t + 1.0;
    let far = |t: Val<'e, 'g>| ((t * A - 5.0 * A) * t + 8.0 * A) * t - 4.0 * A;
    let taps: Vec<Tap> = match how.mode {
        Mode::Nearest => vec![(x, None)],
        Mode::Linear => linear(x),
        Mode::Cubic => {
            let first = x.unary("Floor");
            let t = x - first;
            vec![
                (first - 1.0, Some(far(t + 1.0))),
                (first, Some(near(t))),
                (first + 1.0, Some(near(1.0 - t))),
                (first + 2.0, Some(far(2.0 - t))),
            ]
        }
    };
    let kept = taps.into_iter().map(|(position, weight)| match how.padding {
        Padding::Zeros => inside((position, weight), last),
        Padding::Border => (clamp(position), weight),
        Padding::Reflection => (clamp(reflect(position)), weight),
    });
    kept.collect()
}
