//! Recurrent networks: GRU LSTM RNN.

use super::*;
use crate::Attribute::{Float, Floats, Int, Str, Strs};
use crate::Operand::{Absent, Any, Of};
use crate::case;
use settings::{Kind, Settings};

mod activation;
mod eval;
mod settings;
mod unroll;

pub(super) const OPS: &[Op] = &[GRU, LSTM, RNN];

const RECURRENT: Op = Op { since: 14, ..UNARY };

const GRU: Op = Op {
    name: "GRU",
    inputs: (3, 6),
    outputs: (0, 2),
    infer: |c| infer(c, Kind::Gru),
    eval: |a| eval::run(a, Kind::Gru),
    flops: |c, _| flops(c, Kind::Gru),
    grad: Grad::lower(
        |e, node, x| unroll::unroll(e, node, x, Kind::Gru),
        &[
            case(&[Any(&[3, 2, 4]), Any(&[1, 9, 4]), Any(&[1, 9, 3]), Any(&[1, 18]), Absent, Any(&[1, 2, 3])])
                .with(&[("hidden_size", Int(3))])
                .outputs(2),
            case(&[Any(&[3, 2, 2]), Any(&[2, 6, 2]), Any(&[2, 6, 2]), Any(&[2, 12]), Of(DType::I32, &[2], &[2, 3])])
                .with(&[("direction", Str("bidirectional")), ("linear_before_reset", Int(1)), ("hidden_size", Int(2))])
                .outputs(2),
            case(&[Any(&[2, 2, 2]), Any(&[1, 6, 2]), Any(&[1, 6, 2])])
                .with(&[
                    ("direction", Str("reverse")),
                    ("hidden_size", Int(2)),
                    ("clip", Float(0.7)),
                    ("activations", Strs(&["Affine", "ScaledTanh"])),
                    ("activation_alpha", Floats(&[0.5, 0.8])),
                    ("activation_beta", Floats(&[0.1, 1.5])),
                ])
                .outputs(2),
        ],
    ),
    ..RECURRENT
};

const LSTM: Op = Op {
    name: "LSTM",
    inputs: (3, 8),
    outputs: (0, 3),
    infer: |c| infer(c, Kind::Lstm),
    eval: |a| eval::run(a, Kind::Lstm),
    flops: |c, _| flops(c, Kind::Lstm),
    grad: Grad::lower(
        |e, node, x| unroll::unroll(e, node, x, Kind::Lstm),
        &[
            case(&[
                Any(&[3, 2, 4]),
                Any(&[1, 12, 4]),
                Any(&[1, 12, 3]),
                Any(&[1, 24]),
                Absent,
                Any(&[1, 2, 3]),
                Any(&[1, 2, 3]),
                Any(&[1, 9]),
            ])
            .with(&[("hidden_size", Int(3))])
            .outputs(3),
            case(&[
                Any(&[4, 3, 2]),
                Any(&[2, 8, 2]),
                Any(&[2, 8, 2]),
                Any(&[2, 16]),
                Of(DType::I32, &[3], &[4, 1, 2]),
                Any(&[2, 3, 2]),
            ])
            .with(&[("direction", Str("bidirectional")), ("hidden_size", Int(2))])
            .outputs(3),
            case(&[Any(&[3, 2, 2]), Any(&[1, 8, 2]), Any(&[1, 8, 2])])
                .with(&[
                    ("direction", Str("reverse")),
                    ("hidden_size", Int(2)),
                    ("input_forget", Int(1)),
                    ("clip", Float(0.9)),
                ])
                .outputs(3),
            case(&[Any(&[2, 3, 2]), Any(&[1, 8, 2]), Any(&[1, 8, 2]), Absent, Absent, Any(&[2, 1, 2])])
                .with(&[("layout", Int(1)), ("hidden_size", Int(2))])
                .outputs(3),
        ],
    ),
    ..RECURRENT
};

const RNN: Op = Op {
    name: "RNN",
    inputs: (3, 6),
    outputs: (0, 2),
    infer: |c| infer(c, Kind::Rnn),
    eval: |a| eval::run(a, Kind::Rnn),
    flops: |c, _| flops(c, Kind::Rnn),
    grad: Grad::lower(
        |e, node, x| unroll::unroll(e, node, x, Kind::Rnn),
        &[
            case(&[Any(&[3, 2, 4]), Any(&[1, 3, 4]), Any(&[1, 3, 3]), Any(&[1, 6]), Absent, Any(&[1, 2, 3])])
                .with(&[("hidden_size", Int(3))])
                .outputs(2),
            case(&[Any(&[3, 2, 2]), Any(&[2, 2, 2]), Any(&[2, 2, 2])])
                .with(&[
                    ("direction", Str("bidirectional")),
                    ("hidden_size", Int(2)),
                    ("activations", Strs(&["Relu", "Sigmoid"])),
                ])
                .outputs(2),
        ],
    ),
    ..RECURRENT
};

/// Y, Y_h and, of an LSTM, Y_c.
fn infer(c: &Ctx, kind: Kind) -> InferResult {
    let settings = Settings::of(c.node, kind)?;
    let dtype = c.dtype();
    let x = match c.dims(0) {
        Some([a, b, _]) => [*a, *b],
        Some(_) => return Err(InferError::Operand { slot: 0, got: c.fact(0), want: "rank 3".into() }),
        None => [Dim::Unknown; 2],
    };
    let of_r = c.dims(2).and_then(|d| d.get(2).copied()).unwrap_or(Dim::Unknown);
    let hidden = settings.hidden.map_or(of_r, Dim::from);
    if hidden.known().zip(of_r.known()).is_some_and(|(a, b)| a != b) {
        let got = hidden.to_string();
        return Err(InferError::Attribute { name: "hidden_size", got, want: format!("{of_r}, as R has it") });
    }
    let directions = Dim::from(settings.reverse.len());
    let (y, state) = match settings.batch_first {
        true => ([x[0], x[1], directions, hidden], [x[0], directions, hidden]),
        false => ([x[0], directions, x[1], hidden], [directions, x[1], hidden]),
    };
    let state = Inferred::from(Fact::new(dtype, state));
    Ok(vec![Fact::new(dtype, y).into(), state.clone(), state])
}

fn flops(c: &Ctx, kind: Kind) -> Dim {
    let dim = |slot: usize, axis: usize| c.dims(slot).and_then(|d| d.get(axis).copied()).unwrap_or(Dim::Unknown);
    let weights = dim(1, 0) * dim(1, 1) * (dim(1, 2) + dim(2, 2));
    let elementwise = dim(1, 0) * dim(2, 2) * Dim::Known(5 * kind.gates() as i64);
    dim(0, 0) * dim(0, 1) * (Dim::Known(2) * weights + elementwise)
}
