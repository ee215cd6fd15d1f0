//! Decoders: what GPT-2 and the LLaMA family share. A token sees itself and the tokens before it that are not padding;
//! the scores of the next token come from the table of the tokens where the two are tied.

mod attend;
mod gpt2;
mod llama;

pub(crate) use gpt2::gpt2;
pub(crate) use llama::llama;

use crate::Form;
use crate::config::Decoder;
use crate::weights::{Order, Weights};
use crate::write::Write;
use lorac_ir::{DType, Dim, Fact};
use lorac_ops::Val;
use std::cell::RefCell;

/// The head of a decoder that classifies.
const SCORE: &str = "score";

/// What is put on the states of a decoder.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    /// Nothing.
    States,
    /// Scores of the next token.
    Tokens,
    /// Scores of so many classes.
    Classes(usize),
}

impl End {
    /// That of a form. A file whose class classifies and that has no head for it is a base model.
    fn of(decoder: &Decoder, weights: &Weights, form: Form) -> End {
        if !form.scores() {
            return End::States;
        }
        let classifies = decoder.config.architectures.iter().any(|name| name.ends_with("ForSequenceClassification"));
        match weights.dims(&format!("{SCORE}.weight")).filter(|_| classifies) {
            Some(dims) => End::Classes(dims.first().copied().unwrap_or(1)),
            None if classifies => End::States,
            None => End::Tokens,
        }
    }

    /// The class that ends so, of a family whose classes begin with `family`.
    fn class(self, family: &str) -> String {
        let end = match self {
            End::States => "Model",
            End::Tokens if family == "GPT2" => "LMHeadModel",
            End::Tokens => "ForCausalLM",
            End::Classes(_) => "ForSequenceClassification",
        };
        format!("{family}{end}")
    }
}

/// The output of base classes.
const HIDDEN: &str = "last_hidden_state";

/// The inputs of a decoder, and what all layers need of them.
struct Text<'e, 'g> {
    /// `i64[batch,sequence]`
    ids: Val<'e, 'g>,
    /// `i64[batch,sequence]`, 1 for each token that is not padding.
    mask: Val<'e, 'g>,
    /// `i64[sequence]`, from zero or from what caches hold, padding or not.
    positions: Val<'e, 'g>,
    /// Added to the scores, zero where a token sees another, else the lowest number: `f32[batch,1,sequence,sequence]`,
    /// with one axis more where heads share keys.
    bias: Val<'e, 'g>,
    /// What fills the caches of the next tokens, where there are any: the outputs so far.
    presents: Option<RefCell<Vec<Val<'e, 'g>>>>,
}

impl<'e, 'g> Text<'e, 'g> {
    fn new(w: &Write<'e, 'g>, decoder: &Decoder, form: Form) -> Text<'e, 'g> {
        let at = "attention_mask";
        let cached = form == Form::Cached;
        let input = |name: &str, length: &str| {
            w.emit.input(name, Fact::new(DType::I64, [Dim::named("batch"), Dim::named(length)]))
        };
        let op = |op, inputs: &[Val<'e, 'g>]| w.op(at, op, inputs, &[]);
        let int = |x: usize| w.emit.scalar(x as f64, DType::I64);
        let (ids, mask) = (input("input_ids", "sequence"), input(at, if cached { "total" } else { "sequence" }));
        let length = w.op("positions", "Gather", &[w.op("positions", "Shape", &[ids], &[]), int(1)], &[]);
        let range = |from, to| w.op("positions", "Range", &[from, to, int(1)], &[]);
        let (positions, keys) = match cached {
            false => {
                let positions = range(int(0), length);
                (positions, positions)
            }
            true => {
                let total = w.op("positions", "Gather", &[w.op("positions", "Shape", &[mask], &[]), int(1)], &[]);
                (range(w.op("positions", "Sub", &[total, length], &[]), total), range(int(0), total))
            }
        };

        let rows = op("Unsqueeze", &[positions, w.emit.ints(&[1])]);
        let mut seen = op("LessOrEqual", &[keys, rows]);
        if let Some(window) = decoder.attention.window {
            let near = op("Greater", &[keys, op("Sub", &[rows, int(window)])]);
            seen = op("And", &[seen, near]);
        }
        let axes: &[i64] = if decoder.shares_keys() { &[1, 2, 3] } else { &[1, 2] };
        let tokens = w.cast(at, mask, DType::Bool);
        let seen = op("And", &[seen, op("Unsqueeze", &[tokens, w.emit.ints(axes)])]);
        let number = |x| w.emit.scalar(x, DType::F32);
        // Not minus infinity: a row of padding that sees nothing would become NaN.
        let bias = op("Where", &[seen, number(0.0), number(f64::from(f32::MIN))]);
        Text { ids, mask, positions, bias, presents: cached.then(RefCell::default) }
    }

    /// The scores of the classes, `f32[batch,labels]`, of the states of each row's last token that is not padding.
    fn scores(&self, w: &Write<'e, 'g>, decoder: &Decoder, labels: usize, x: Val<'e, 'g>) -> Val<'e, 'g> {
        let (at, hidden) = ("last_token", decoder.config.hidden);
        let op = |op, inputs: &[Val<'e, 'g>]| w.op(at, op, inputs, &[]);
        let places = op("Mul", &[self.mask, self.positions]);
        let last = op("ReduceMax", &[places, w.emit.ints(&[1])]);
        let is_last = op("Unsqueeze", &[op("Equal", &[self.positions, last]), w.emit.ints(&[2])]);
        let state = op("Where", &[is_last, x, w.emit.scalar(0.0, DType::F32)]);
        let state = w.op(at, "ReduceSum", &[state, w.emit.ints(&[1])], &[("keepdims", 0i64.into())]);
        w.product_as("logits", SCORE, state, (hidden, labels), Order::Transposed)
    }

    /// Keys or values of a layer behind those of its cache, along `axis`; as they are where there are no caches.
    fn with_cache(
        &self,
        w: &Write<'e, 'g>,
        (layer, at): (usize, &str),
        kind: &str,
        new: Val<'e, 'g>,
        axis: usize,
    ) -> Val<'e, 'g> {
        let Some(presents) = &self.presents else { return new };
        let fact = new.fact();
        let dims = fact.dims().unwrap_or_default().iter().enumerate();
        let dim = |(i, dim): (usize, &Dim)| match i {
            0 => Dim::named("batch"),
            i if i == axis => Dim::named("past"),
            _ => *dim,
        };
        let dims: Vec<Dim> = dims.map(dim).collect();
        let past = w.emit.input(&format!("past_key_values.{layer}.{kind}"), Fact::new(DType::F32, dims));
        let name = format!("present.{layer}.{kind}");
        let all = w.op_as(&name, at, "Concat", &[past, new], &[("axis", (axis as i64).into())]);
        presents.borrow_mut().push(all);
        all
    }

    /// The outputs of a model: its own, and what fills its caches.
    fn outputs(&self, own: Val<'e, 'g>) -> Vec<Val<'e, 'g>> {
        let presents = self.presents.as_ref().map(|presents| presents.borrow().clone()).unwrap_or_default();
        std::iter::once(own).chain(presents).collect()
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
