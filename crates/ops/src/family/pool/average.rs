//! AveragePool.

use super::super::conv::window::{Padding, ones, space_axes, space_of, spread_evenly};
use super::*;
use crate::Attribute::{Int, Ints as List, Str};
use crate::Operand::Any;
use crate::{Val, case};
use lorac_ir::Tensor;

pub(super) const AVERAGE_POOL: Op = Op {
    name: "AveragePool",
    eval: |a| {
        let x = a.x(0)?;
        let lens = x.shape().get(2..).unwrap_or_default();
        let padding_counts = a.node.int("count_include_pad", 0) != 0;
        pool(a, |window, at, channel, seen| {
            let sum: f64 = seen.iter().map(|place| x[at_channel(channel, place)]).sum();
            sum / if padding_counts { cells(window, at, lens) } else { seen.len() as f64 }
        })
    },
    grad: Grad::rule(
        |b| {
            let Some(window) = window(b) else { return Vec::new() };
            let x = b.x[0];
            let share = match sizes(b, &window) {
                Sizes::All(n) => b.gy * (1.0 / n),
                Sizes::Each(sizes) => b.gy / sizes,
            };
            vec![Some(spread_evenly(share, &window, x))]
        },
        &[
            case(&[Any(&[2, 2, 4, 5])]).with(&[
                ("kernel_shape", List(&[3, 2])),
                ("strides", List(&[1, 2])),
                ("pads", List(&[1, 0, 1, 1])),
            ]),
            // A last window that hangs over the padding.
            case(&[Any(&[1, 2, 6, 5])]).with(&[
                ("kernel_shape", List(&[3, 2])),
                ("strides", List(&[2, 2])),
                ("pads", List(&[1, 1, 1, 0])),
                ("count_include_pad", Int(1)),
                ("ceil_mode", Int(1)),
            ]),
            case(&[Any(&[1, 1, 6])]).with(&[
                ("kernel_shape", List(&[2])),
                ("dilations", List(&[2])),
                ("strides", List(&[2])),
            ]),
            case(&[Any(&[1, 1, 5, 4])]).with(&[
                ("kernel_shape", List(&[2, 3])),
                ("auto_pad", Str("SAME_UPPER")),
                ("strides", List(&[2, 2])),
            ]),
        ],
    ),
    ..POOL
};

/// How many cells of the window at `at` lie inside the operand with its padding.
fn cells(window: &Window, at: &[usize], lens: &[usize]) -> f64 {
    let along = |i: usize| {
        let len = lens.get(i).map_or(0, |n| *n as i64);
        let (before, after) = window.pads(i, Some(len)).unwrap_or((0, 0));
        let start = at[i] as i64 * window.strides[i];
        let inside = (0..window.kernel[i]).filter(|k| start + k * window.dilations[i] < len + before + after);
        inside.count() as f64
    };
    (0..window.rank()).map(along).product()
}

/// Over how many elements the windows average.
enum Sizes<'e, 'g> {
    All(f64),
    Each(Val<'e, 'g>),
}

fn sizes<'e, 'g>(b: &Backward<'e, 'g>, window: &Window) -> Sizes<'e, 'g> {
    let (e, x, dtype) = (b.emit, b.x[0], b.gy.fact().dtype);
    let padding_counts = b.node.int("count_include_pad", 0) != 0;
    let unpadded = matches!(&window.padding, Padding::Explicit(pads) if pads.iter().all(|p| *p == (0, 0)));
    if !window.ceil && (unpadded || padding_counts) {
        return Sizes::All(window.volume());
    }
    let fact = x.fact();
    let lens: Option<Vec<usize>> =
        fact.dims().and_then(|d| space(d).iter().map(|d| d.known().and_then(|n| usize::try_from(n).ok())).collect());
    if let Some(lens) = lens.filter(|l| l.len() == window.rank()) {
        let counts = window.counts(&lens);
        let size = |at: &[usize]| match padding_counts {
            true => cells(window, at, &lens),
            false => window.covers(at, &lens).len() as f64,
        };
        let sizes: Vec<f64> = indices(IxDyn(&counts)).into_iter().map(|at| size(at.slice())).collect();
        if let Some(t) = Tensor::from_f64(dtype, &[&[1, 1], counts.as_slice()].concat(), &sizes) {
            return Sizes::Each(e.weight("", t));
        }
    }
    // A sum pool of ones: over the padding too where that counts, over what is behind it never.
    let rank = window.rank();
    let len = e.op("Concat", &[e.ints(&[1, 1]), space_of(x)], &[("axis", 0i64.into())]);
    let one = Tensor::from_f64(dtype, &[1], &[1.0]);
    let value = one.map(|t| ("value", t.into()));
    let full = e.op("ConstantOfShape", &[len], &value.into_iter().collect::<Vec<_>>());
    let pool_pads = |window: &Window| -> Option<Vec<(i64, i64)>> { (0..rank).map(|i| window.pads(i, None)).collect() };
    let padded = match (padding_counts, pool_pads(window)) {
        (true, Some(pads)) => {
            let pads: Vec<i64> = [(0, 0); 2]
                .iter()
                .chain(&pads)
                .map(|p| p.0)
                .chain([(0, 0); 2].iter().chain(&pads).map(|p| p.1))
                .collect();
            e.op("Pad", &[full, e.ints(&pads), e.scalar(1.0, dtype)], &[])
        }
        _ => super::super::conv::window::padded(full, window),
    };
    let behind: Vec<i64> = vec![0; rank + 4].into_iter().chain(window.strides.iter().map(|s| s - 1)).collect();
    let padded = if window.ceil { padded.binary("Pad", e.ints(&behind)) } else { padded };
    let attrs = [
        ("kernel_shape", window.kernel.clone().into()),
        ("strides", window.strides.clone().into()),
        ("dilations", window.dilations.clone().into()),
    ];
    let sizes = e.op("Conv", &[padded, ones(e, window, dtype)], &attrs);
    let axes = space_axes(rank);
    let first = e.ints(&vec![0; rank]);
    Sizes::Each(e.op("Slice", &[sizes, first, space_of(b.gy), e.ints(&axes)], &[]))
}
