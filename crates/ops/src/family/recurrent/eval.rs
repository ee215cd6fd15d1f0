//! The networks computed one sample and one step at a time, from the formulas of the standard.

use super::settings::{Kind, Settings};
use super::*;

/// Operands of one direction and one sample.
struct Cell<'a> {
    kind: Kind,
    settings: &'a Settings,
    direction: usize,
    w: &'a Array,
    r: &'a Array,
    b: Option<&'a Array>,
    p: Option<&'a Array>,
    hidden: usize,
}

impl Cell<'_> {
    /// Row `row` of a matrix of this direction times `v`.
    fn dot(&self, matrix: &Array, row: usize, v: &[f64]) -> f64 {
        v.iter().enumerate().map(|(i, v)| matrix[[self.direction, row, i]] * v).sum()
    }

    /// Bias of W (`side` 0) or R (1) for row `row`.
    fn bias(&self, side: usize, row: usize) -> f64 {
        self.b.map_or(0.0, |b| b[[self.direction, side * self.kind.gates() * self.hidden + row]])
    }

    /// x W^T + h R^T + both biases, of one row.
    fn sum(&self, row: usize, x: &[f64], h: &[f64]) -> f64 {
        self.dot(self.w, row, x) + self.dot(self.r, row, h) + self.bias(0, row) + self.bias(1, row)
    }

    fn peephole(&self, gate: usize, j: usize) -> f64 {
        self.p.map_or(0.0, |p| p[[self.direction, gate * self.hidden + j]])
    }

    /// Activation f, g or h of a clipped operand.
    fn act(&self, which: usize, x: f64) -> f64 {
        let x = self.settings.clip.map_or(x, |c| x.clamp(-c, c));
        self.settings.activations[self.direction][which].eval(x)
    }

    fn step(&self, x: &[f64], h: &[f64], c: &[f64]) -> (Vec<f64>, Vec<f64>) {
        let n = self.hidden;
        match self.kind {
            Kind::Rnn => ((0..n).map(|j| self.act(0, self.sum(j, x, h))).collect(), c.to_vec()),
            Kind::Gru => {
                let z: Vec<f64> = (0..n).map(|j| self.act(0, self.sum(j, x, h))).collect();
                let r: Vec<f64> = (0..n).map(|j| self.act(0, self.sum(n + j, x, h))).collect();
                let reset: Vec<f64> = r.iter().zip(h).map(|(r, h)| r * h).collect();
                let new = |j: usize| {
                    let row = 2 * n + j;
                    let recurrent = match self.settings.linear_before_reset {
                        true => r[j] * (self.dot(self.r, row, h) + self.bias(1, row)),
                        false => self.dot(self.r, row, &reset) + self.bias(1, row),
                    };
                    self.act(1, self.dot(self.w, row, x) + self.bias(0, row) + recurrent)
                };
                ((0..n).map(|j| (1.0 - z[j]) * new(j) + z[j] * h[j]).collect(), c.to_vec())
            }
            Kind::Lstm => {
                let (mut next_h, mut next_c) = (Vec::new(), Vec::new());
                for (j, c) in c.iter().enumerate() {
                    let i = self.act(0, self.sum(j, x, h) + self.peephole(0, j) * c);
                    let f = match self.settings.input_forget {
                        true => 1.0 - i,
                        false => self.act(0, self.sum(2 * n + j, x, h) + self.peephole(2, j) * c),
                    };
                    let cell = f * c + i * self.act(1, self.sum(3 * n + j, x, h));
                    let o = self.act(0, self.sum(n + j, x, h) + self.peephole(1, j) * cell);
                    next_c.push(cell);
                    next_h.push(o * self.act(2, cell));
                }
                (next_h, next_c)
            }
        }
    }
}

/// Fails unless an operand has this shape.
fn fits(x: Option<&Array>, dims: &[usize], what: &str) -> Result<(), EvalError> {
    match x {
        Some(x) if x.shape() != dims => invalid(format!("{what} is {:?}, expected {dims:?}", x.shape())),
        _ => Ok(()),
    }
}

pub(super) fn run(a: &Args, kind: Kind) -> EvalResult {
    let settings = Settings::of(a.node, kind).map_err(|e| EvalError::Invalid(e.to_string()))?;
    // To time first, and back.
    let (x_axes, state_axes) = match settings.batch_first {
        true => ([1, 0, 2], [1, 0, 2]),
        false => ([0, 1, 2], [0, 1, 2]),
    };
    let (&[_, _, width], &[directions, rows, hidden]) = (a.x(0)?.shape(), a.x(2)?.shape()) else {
        return invalid("X and R have rank 3");
    };
    let x = a.x(0)?.view().permuted_axes(&x_axes[..]);
    let (seq, batch) = (x.shape()[0], x.shape()[1]);
    let gates = kind.gates();
    let (b, p) = (a.opt(3), a.opt(7));
    if directions != settings.reverse.len() || rows != gates * hidden {
        return invalid(format!("R is {:?} for {} directions", a.x(2)?.shape(), settings.reverse.len()));
    }
    fits(a.opt(1), &[directions, rows, width], "W")?;
    fits(b, &[directions, 2 * rows], "B")?;
    fits(p, &[directions, 3 * hidden], "P")?;
    let lens = if a.opt(4).is_some() { a.ints(4)? } else { vec![seq as i64; batch] };
    if lens.len() != batch || lens.iter().any(|n| !(0..=seq as i64).contains(n)) {
        return invalid(format!("sequence_lens {lens:?} for {batch} sequences of {seq}"));
    }
    let start = |slot: usize| -> Result<Array, EvalError> {
        let Some(state) = a.opt(slot) else { return Ok(Array::zeros(vec![directions, batch, hidden])) };
        if state.ndim() != 3 {
            return invalid("an initial state has rank 3");
        }
        let state = state.view().permuted_axes(&state_axes[..]).to_owned();
        fits(Some(&state), &[directions, batch, hidden], "an initial state")?;
        Ok(state)
    };
    let (mut h_all, mut c_all) = (start(5)?, start(6)?);
    let mut y = Array::zeros(vec![seq, directions, batch, hidden]);
    for (direction, reverse) in settings.reverse.iter().enumerate() {
        let cell = Cell { kind, settings: &settings, direction, w: a.x(1)?, r: a.x(2)?, b, p, hidden };
        for (sample, len) in lens.iter().enumerate() {
            let row = |state: &Array| (0..hidden).map(|j| state[[direction, sample, j]]).collect::<Vec<f64>>();
            let (mut h, mut c) = (row(&h_all), row(&c_all));
            for k in 0..*len as usize {
                let t = if *reverse { *len as usize - 1 - k } else { k };
                let input: Vec<f64> = (0..width).map(|i| x[[t, sample, i]]).collect();
                (h, c) = cell.step(&input, &h, &c);
                (0..hidden).for_each(|j| y[[t, direction, sample, j]] = h[j]);
            }
            for j in 0..hidden {
                h_all[[direction, sample, j]] = h[j];
                c_all[[direction, sample, j]] = c[j];
            }
        }
    }
    let state = |s: Array| s.permuted_axes(&state_axes[..]).as_standard_layout().into_owned();
    let y = match settings.batch_first {
        true => y.permuted_axes(&[2, 0, 1, 3][..]).as_standard_layout().into_owned(),
        false => y,
    };
    Ok(vec![y, state(h_all), state(c_all)])
}
