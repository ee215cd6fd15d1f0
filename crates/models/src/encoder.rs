//! The BERT family: embeddings, layers normalised after each residual, perhaps a classifier of the first token.

use crate::weights::Weights;
use crate::write::{Write, parent, write};
use crate::{Built, Config, Form, ModelError};
use lorac_ir::{DType, Dim, Fact};
use lorac_ops::Val;

/// What one type of the family calls its modules, and where it computes otherwise than the others.
pub(crate) struct Layout {
    /// The Hugging Face classes begin with it.
    pub(crate) class: &'static str,
    /// The base model's name inside of models with a head.
    pub(crate) prefix: &'static str,
    /// The list of layers. The following names are inside of a layer.
    pub(crate) layers: &'static str,
    /// The module that the products of attention stand in.
    pub(crate) attention: &'static str,
    pub(crate) query: &'static str,
    pub(crate) key: &'static str,
    pub(crate) value: &'static str,
    pub(crate) attention_out: &'static str,
    pub(crate) attention_norm: &'static str,
    /// The linear map before the nonlinearity.
    pub(crate) up: &'static str,
    /// The linear map after it.
    pub(crate) down: &'static str,
    pub(crate) norm: &'static str,
    pub(crate) positions: Positions,
    pub(crate) token_types: TokenTypes,
    pub(crate) head: Head,
}

/// How tokens are numbered.
pub(crate) enum Positions {
    /// From zero, padding or not.
    FromZero,
    /// Upwards from one more than the padding token, which keeps its own number as position.
    AfterPad {
        /// The padding token where the configuration names none.
        default: i64,
    },
}

/// How token types are given.
pub(crate) enum TokenTypes {
    /// As the input `token_type_ids`.
    Input,
    /// Every token has the first type.
    First,
    /// There are none.
    None,
}

/// A classifier of sequences: the first token through `out(activation(dense(x)))`.
pub(crate) struct Head {
    /// Whether `dense` belongs to the base model.
    pub(crate) in_base: bool,
    pub(crate) dense: &'static str,
    pub(crate) activation: &'static str,
    pub(crate) out: &'static str,
}

/// Builds a model of the family: as it was saved, with its classifier where the configuration names one and the file
/// holds it.
///
/// # Errors
/// Every tensor that is missing or misshapen.
pub(crate) fn encoder(layout: &Layout, config: Config, weights: &Weights, form: Form) -> Result<Built, ModelError> {
    let inner = format!("{}.", layout.prefix);
    let root = if weights.any(&inner) { inner } else { String::new() };
    let classifies = config.architectures.iter().any(|name| name.ends_with("ForSequenceClassification"));
    let classifies = classifies && form == Form::Saved;
    let labels = weights.dims(&format!("{}.weight", layout.head.out)).filter(|_| classifies);
    let labels = labels.map(|dims| dims.first().copied().unwrap_or(1));
    let kind = if labels.is_some() { "ForSequenceClassification" } else { "Model" };
    let pooler = layout.head.in_base && weights.any(&format!("{root}{}.", layout.head.dense));
    let pools = form == Form::Pooled && pooler;
    let graph = write(&config.model_type, weights, |w| {
        let model = Model { w, layout, config: &config, root: &root };
        let name = if labels.is_some() { "" } else { "last_hidden_state" };
        let hidden = model.base(name);
        match labels {
            Some(labels) => vec![model.classifier(hidden, labels)],
            None if pools => vec![hidden, model.pooled("pooler_output", hidden)],
            None => vec![hidden],
        }
    })?;
    Ok(Built { graph, architecture: format!("{}{kind}", layout.class), hidden: config.hidden, config })
}

struct Model<'a, 'e, 'g> {
    w: &'a Write<'e, 'g>,
    layout: &'a Layout,
    config: &'a Config,
    root: &'a str,
}

impl<'e, 'g> Model<'_, 'e, 'g> {
    fn ids(&self, name: &str) -> Val<'e, 'g> {
        self.w.emit.input(name, Fact::new(DType::I64, [Dim::named("batch"), Dim::named("sequence")]))
    }

    /// The hidden states of the last layer, called `name`.
    fn base(&self, name: &str) -> Val<'e, 'g> {
        let (ids, mask) = (self.ids("input_ids"), self.ids("attention_mask"));
        let mut x = self.embeddings(ids);
        let mask = self.mask(mask);
        for i in 0..self.config.layers {
            let name = if i + 1 == self.config.layers { name } else { "" };
            x = self.layer(&format!("{}{}.{i}", self.root, self.layout.layers), x, mask, name);
        }
        x
    }

    fn embeddings(&self, ids: Val<'e, 'g>) -> Val<'e, 'g> {
        let (w, c) = (self.w, self.config);
        let path = format!("{}embeddings", self.root);
        let part = |name: &str| format!("{path}.{name}");
        let words = part("word_embeddings");
        let mut sum = w.op(&words, "Gather", &[w.table(&words, c.vocab, c.hidden), ids], &[]);
        let types = part("token_type_embeddings");
        let type_ids = match self.layout.token_types {
            TokenTypes::Input => Some(self.ids("token_type_ids")),
            TokenTypes::First => Some(w.emit.scalar(0.0, DType::I64)),
            TokenTypes::None => None,
        };
        if let Some(type_ids) = type_ids {
            let table = w.table(&types, c.token_types, c.hidden);
            let rows = w.op(&types, "Gather", &[table, type_ids], &[]);
            sum = w.op(&path, "Add", &[sum, rows], &[]);
        }
        let positions = self.positions(&part("position_embeddings"), ids);
        sum = w.op(&path, "Add", &[sum, positions], &[]);
        w.norm_as("", &part("LayerNorm"), sum, c.hidden, c.epsilon)
    }

    /// The rows of the position table, `f32[sequence,hidden]` or `f32[batch,sequence,hidden]`.
    fn positions(&self, module: &str, ids: Val<'e, 'g>) -> Val<'e, 'g> {
        let (w, c) = (self.w, self.config);
        let op = |op, inputs: &[Val<'e, 'g>]| w.op(module, op, inputs, &[]);
        let table = w.table(module, c.positions, c.hidden);
        match self.layout.positions {
            Positions::FromZero => {
                let length = w.op(module, "Shape", &[ids], &[("start", 1i64.into()), ("end", 2i64.into())]);
                op("Slice", &[table, w.emit.ints(&[0]), length, w.emit.ints(&[0])])
            }
            Positions::AfterPad { default } => {
                let pad = w.emit.scalar(c.pad.unwrap_or(default) as f64, DType::I64);
                let is_token = op("Not", &[op("Equal", &[ids, pad])]);
                let is_token = w.cast(module, is_token, DType::I64);
                let count = op("CumSum", &[is_token, w.emit.scalar(1.0, DType::I64)]);
                let position = op("Add", &[op("Mul", &[count, is_token]), pad]);
                op("Gather", &[table, position])
            }
        }
    }

    /// What is added to the scores, `f32[batch,1,1,sequence]`: zero for tokens, the lowest number for padding.
    fn mask(&self, mask: Val<'e, 'g>) -> Val<'e, 'g> {
        let (w, at) = (self.w, "attention_mask");
        let float = w.cast(at, mask, DType::F32);
        let wide = w.op(at, "Unsqueeze", &[float, w.emit.ints(&[1, 2])], &[]);
        let padding = w.op(at, "Sub", &[w.emit.scalar(1.0, DType::F32), wide], &[]);
        w.op(at, "Mul", &[padding, w.emit.scalar(f64::from(f32::MIN), DType::F32)], &[])
    }

    fn layer(&self, path: &str, x: Val<'e, 'g>, mask: Val<'e, 'g>, name: &str) -> Val<'e, 'g> {
        let (w, l, c) = (self.w, self.layout, self.config);
        let part = |name: &str| format!("{path}.{name}");
        let mixed = w.linear(&part(l.attention_out), self.attention(path, x, mask), (c.hidden, c.hidden));
        let norm = part(l.attention_norm);
        let sum = w.op(parent(&norm), "Add", &[mixed, x], &[]);
        let x = w.norm_as("", &norm, sum, c.hidden, c.epsilon);
        let up = part(l.up);
        let wide = w.activation(parent(&up), w.linear(&up, x, (c.hidden, c.intermediate)), c.activation);
        let narrow = w.linear(&part(l.down), wide, (c.intermediate, c.hidden));
        let norm = part(l.norm);
        let sum = w.op(parent(&norm), "Add", &[narrow, x], &[]);
        w.norm_as(name, &norm, sum, c.hidden, c.epsilon)
    }

    fn attention(&self, path: &str, x: Val<'e, 'g>, mask: Val<'e, 'g>) -> Val<'e, 'g> {
        let (w, l, c) = (self.w, self.layout, self.config);
        let at = format!("{path}.{}", l.attention);
        let op = |op, inputs: &[Val<'e, 'g>]| w.op(&at, op, inputs, &[]);
        let linear = |name: &str| w.linear(&format!("{path}.{name}"), x, (c.hidden, c.hidden));
        let width = c.hidden / c.heads;
        let split = w.emit.ints(&[0, 0, c.heads as i64, width as i64]);
        let heads = |x: Val<'e, 'g>, perm: [i64; 4]| {
            w.op(&at, "Transpose", &[op("Reshape", &[x, split])], &[("perm", perm.to_vec().into())])
        };
        let (query, key, value) = (linear(l.query), linear(l.key), linear(l.value));
        // Scaling the query touches fewer numbers than scaling the scores.
        let query = op("Mul", &[query, w.emit.scalar(1.0 / (width as f64).sqrt(), DType::F32)]);
        let scores = op("MatMul", &[heads(query, [0, 2, 1, 3]), heads(key, [0, 2, 3, 1])]);
        let scores = op("Add", &[scores, mask]);
        let share = w.op(&at, "Softmax", &[scores], &[("axis", (-1i64).into())]);
        let mixed = op("MatMul", &[share, heads(value, [0, 2, 1, 3])]);
        let mixed = w.op(&at, "Transpose", &[mixed], &[("perm", vec![0i64, 2, 1, 3].into())]);
        op("Reshape", &[mixed, w.emit.ints(&[0, 0, c.hidden as i64])])
    }

    /// The scores of `labels` classes, `f32[batch,labels]`.
    fn classifier(&self, x: Val<'e, 'g>, labels: usize) -> Val<'e, 'g> {
        let (head, pooled) = (&self.layout.head, self.pooled("", x));
        self.w.linear_as("logits", head.out, pooled, (self.config.hidden, labels))
    }

    /// The first token behind the head's dense layer, `f32[batch,hidden]`, called `name`.
    fn pooled(&self, name: &str, x: Val<'e, 'g>) -> Val<'e, 'g> {
        let (w, head, hidden) = (self.w, &self.layout.head, self.config.hidden);
        let dense = format!("{}{}", if head.in_base { self.root } else { "" }, head.dense);
        let first = w.op(&dense, "Gather", &[x, w.emit.scalar(0.0, DType::I64)], &[("axis", 1i64.into())]);
        let pooled = w.linear(&dense, first, (hidden, hidden));
        w.op_as(name, &dense, head.activation, &[pooled], &[])
    }
}
