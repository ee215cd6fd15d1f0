//! The LLaMA family: rotary positions, root mean square normalisation before each part, a gated feed-forward part.

use super::attend::{Rotation, attend};
use super::{End, HIDDEN, Text};
use crate::config::Decoder;
use crate::weights::{Order, Weights};
use crate::write::{Write, write};
use crate::{Built, Form, ModelError};
use lorac_ops::Val;

/// Builds a model of the family: as it was saved, with its scores of the next token or of classes. The names of its classes begin with
/// `class`.
///
/// # Errors
/// Every tensor that is missing or misshapen.
pub(crate) fn llama(class: &str, decoder: Decoder, weights: &Weights, form: Form) -> Result<Built, ModelError> {
    let root = if weights.any("model.") { "model." } else { "" };
    let c = &decoder.config;
    let end = End::of(&decoder, weights, form);
    let graph = write(&c.model_type, weights, |w| {
        let text = Text::new(w, &decoder, form);
        let words = format!("{root}embed_tokens");
        let table = w.table(&words, c.vocab, c.hidden);
        let mut x = w.op(&words, "Gather", &[table, text.ids], &[]);
        let rotation = Rotation::new(w, &format!("{root}rotary_emb"), &decoder, text.positions);
        for i in 0..c.layers {
            x = layer(w, &decoder, (i, &format!("{root}layers.{i}")), x, rotation, &text);
        }
        let norm = format!("{root}norm");
        if end == End::States {
            return vec![w.rms_norm_as(HIDDEN, &norm, x, c.hidden, c.epsilon)];
        }
        let x = w.rms_norm(&norm, x, c.hidden, c.epsilon);
        text.outputs(match end {
            End::Classes(labels) => text.scores(w, &decoder, labels, x),
            _ => text.logits(w, &decoder, table, x),
        })
    })?;
    let config = decoder.config;
    Ok(Built { graph, architecture: end.class(class), hidden: config.hidden, config })
}

fn layer<'e, 'g>(
    w: &Write<'e, 'g>,
    d: &Decoder,
    (number, path): (usize, &str),
    x: Val<'e, 'g>,
    rotation: Rotation<'e, 'g>,
    text: &Text<'e, 'g>,
) -> Val<'e, 'g> {
    let (c, a, bias) = (&d.config, &d.attention, d.bias);
    let part = |name: &str| format!("{path}.{name}");
    let linear = |name: &str, x, dims: (usize, usize), biased: bool| {
        let module = part(name);
        let product = w.product_as("", &module, x, dims, Order::Transposed);
        if biased { w.biased("", &module, product, dims.1) } else { product }
    };
    let norm = |name: &str, x| w.rms_norm(&part(name), x, c.hidden, c.epsilon);
    let (queries, keys) = (c.heads.saturating_mul(a.head), a.groups.saturating_mul(a.head));

    let n = norm("input_layernorm", x);
    let input = |name: &str, width| linear(&format!("self_attn.{name}"), n, (c.hidden, width), bias.inputs);
    let inputs = [input("q_proj", queries), input("k_proj", keys), input("v_proj", keys)];
    let mixed = attend(w, (number, &part("self_attn")), d, inputs, Some(rotation), text);
    let x = w.op(path, "Add", &[x, linear("self_attn.o_proj", mixed, (queries, c.hidden), bias.output)], &[]);

    let (n, at) = (norm("post_attention_layernorm", x), part("mlp"));
    let wide = |name: &str| linear(name, n, (c.hidden, c.intermediate), bias.mlp);
    let gate = w.activation(&at, wide("mlp.gate_proj"), c.activation);
    let gated = w.op(&at, "Mul", &[gate, wide("mlp.up_proj")], &[]);
    w.op(path, "Add", &[x, linear("mlp.down_proj", gated, (c.intermediate, c.hidden), bias.mlp)], &[])
}
