//! Decoders: what GPT-2 and the LLaMA family share. A token sees itself and the tokens before it that are not padding;
//! the scores of the next token come from the table of the tokens where the two are tied.

mod attend;
mod gpt2;
mod llama;

pub(crate) use gpt2::gpt2;
pub(crate) use llama::llama;

use crate::config::Decoder;
use crate::weights::Order;
use crate::write::Write;
use lorac_ir::{DType, Dim, Fact};
use lorac_ops::Val;

/// The output of base classes.
const HIDDEN: &str = "last_hidden_state";

/// The inputs of a decoder, and what all layers need of them.
struct Text<'e, 'g> {
    /// `i64[batch,sequence]`
    ids: Val<'e, 'g>,
    /// `i64[sequence]`, from zero, padding or not.
    positions: Val<'e, 'g>,
    /// Added to the scores, zero where a token sees another, else the lowest number: `f32[batch,1,sequence,sequence]`,
    /// with one axis more where heads share keys.
    bias: Val<'e, 'g>,
}

impl<'e, 'g> Text<'e, 'g> {
    fn new(w: &Write<'e, 'g>, decoder: &Decoder) -> Text<'e, 'g> {
        let at = "attention_mask";
        let input =
            |name: &str| w.emit.input(name, Fact::new(DType::I64, [Dim::named("batch"), Dim::named("sequence")]));
        let op = |op, inputs: &[Val<'e, 'g>]| w.op(at, op, inputs, &[]);
        let int = |x: usize| w.emit.scalar(x as f64, DType::I64);
        let (ids, mask) = (input("input_ids"), input(at));
        let length = w.op("positions", "Gather", &[w.op("positions", "Shape", &[ids], &[]), int(1)], &[]);
        let positions = w.op("positions", "Range", &[int(0), length, int(1)], &[]);

        let rows = op("Unsqueeze", &[positions, w.emit.ints(&[1])]);
        let mut seen = op("LessOrEqual", &[positions, rows]);
        if let Some(window) = decoder.attention.window {
            let near = op("Greater", &[positions, op("Sub", &[rows, int(window)])]);
            seen = op("And", &[seen, near]);
        }
        let axes: &[i64] = if decoder.shares_keys() { &[1, 2, 3] } else { &[1, 2] };
        let tokens = w.cast(at, mask, DType::Bool);
        let seen = op("And", &[seen, op("Unsqueeze", &[tokens, w.emit.ints(axes)])]);
        let number = |x| w.emit.scalar(x, DType::F32);
        // Not minus infinity: a row of padding that sees nothing would become NaN.
        let bias = op("Where", &[seen, number(0.0), number(f64::from(f32::MIN))]);
        Text { ids, positions, bias }
    }

    /// The scores of the next token, `f32[batch,sequence,vocab]`, of the states of a decoder with the table `table`.
    fn logits(&self, w: &Write<'e, 'g>, decoder: &Decoder, table: Val<'e, 'g>, x: Val<'e, 'g>) -> Val<'e, 'g> {
        let (at, c) = ("lm_head", &decoder.config);
        if !decoder.tied {
            return w.product_as("logits", at, x, (c.hidden, c.vocab), Order::Transposed);
        }
        // Gemm reads the table as it is: a runtime would fold a Transpose of it into a second copy.
        let rows = w.op(at, "Reshape", &[x, w.emit.ints(&[-1, c.hidden as i64])], &[]);
        let scores = w.op(at, "Gemm", &[rows, table], &[("transB", 1i64.into())]);
        let shape = w.op(at, "Shape", &[self.ids], &[]);
        let shape = w.op(at, "Concat", &[shape, w.emit.ints(&[c.vocab as i64])], &[("axis", 0i64.into())]);
        w.op_as("logits", at, "Reshape", &[scores, shape], &[])
    }
}
