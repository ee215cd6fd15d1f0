//! GPT-2: positions from a table, layers normalised before each part, weights stored as `[in,out]`.

use super::attend::attend;
use super::{End, HIDDEN, Text};
use crate::config::Decoder;
use crate::weights::{Order, Weights};
use crate::write::{Write, write};
use crate::{Built, Form, ModelError};
use lorac_ops::Val;

/// Builds a GPT-2: as it was saved, with its scores of the next token or of classes.
///
/// # Errors
/// Every tensor that is missing or misshapen.
pub(crate) fn gpt2(decoder: Decoder, weights: &Weights, form: Form) -> Result<Built, ModelError> {
    let root = if weights.any("transformer.") { "transformer." } else { "" };
    let c = &decoder.config;
    let end = End::of(&decoder, weights, form);
    let graph = write(&c.model_type, weights, |w| {
        let text = Text::new(w, &decoder, form);
        let (words, places) = (format!("{root}wte"), format!("{root}wpe"));
        let table = w.table(&words, c.vocab, c.hidden);
        let tokens = w.op(&words, "Gather", &[table, text.ids], &[]);
        let positions = w.op(&places, "Gather", &[w.table(&places, c.positions, c.hidden), text.positions], &[]);
        let mut x = w.op(root.trim_end_matches('.'), "Add", &[tokens, positions], &[]);
        for i in 0..c.layers {
            x = layer(w, &decoder, (i, &format!("{root}h.{i}")), x, &text);
        }
        let name = if end == End::States { HIDDEN } else { "" };
        let x = w.norm_as(name, &format!("{root}ln_f"), x, c.hidden, c.epsilon);
        text.outputs(match end {
            End::States => x,
            End::Tokens => text.logits(w, &decoder, table, x),
            End::Classes(labels) => text.scores(w, &decoder, labels, x),
        })
    })?;
    let config = decoder.config;
    Ok(Built { graph, architecture: end.class("GPT2"), hidden: config.hidden, config })
}

fn layer<'e, 'g>(
    w: &Write<'e, 'g>,
    d: &Decoder,
    (number, path): (usize, &str),
    x: Val<'e, 'g>,
    text: &Text<'e, 'g>,
) -> Val<'e, 'g> {
    let c = &d.config;
    let part = |name: &str| format!("{path}.{name}");
    let linear = |name: &str, x, dims: (usize, usize)| {
        let module = part(name);
        w.biased("", &module, w.product_as("", &module, x, dims, Order::Stored), dims.1)
    };
    let norm = |name: &str, x| w.norm_as("", &part(name), x, c.hidden, c.epsilon);
    let at = part("attn");
    let mixed = linear("attn.c_attn", norm("ln_1", x), (c.hidden, c.hidden.saturating_mul(3)));
    let inputs = w.split(&at, "Split", &[mixed], &[("axis", (-1i64).into()), ("num_outputs", 3i64.into())]);
    let mixed = attend(w, (number, &at), d, inputs, None, text);
    let x = w.op(path, "Add", &[linear("attn.c_proj", mixed, (c.hidden, c.hidden)), x], &[]);
    let wide = linear("mlp.c_fc", norm("ln_2", x), (c.hidden, c.intermediate));
    let wide = w.activation(&part("mlp"), wide, c.activation);
    w.op(path, "Add", &[linear("mlp.c_proj", wide, (c.intermediate, c.hidden)), x], &[])
}
