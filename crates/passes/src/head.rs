//! A classification head on top of hidden states: pooling and one dense layer.

use crate::PassError;
use lorac_ir::{DType, Graph, ValueId};
use lorac_ops::Val;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// How the hidden states of a sequence become one vector.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Pool {
    /// The mean over the tokens that the mask attends to
    #[default]
    Mean,
    /// The first token
    Cls,
}

/// What a head is put on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Head {
    /// Hidden states `[batch, sequence, hidden]`.
    pub hidden: ValueId,
    /// The attention mask `[batch, sequence]`; needed by [`Pool::Mean`].
    pub mask: Option<ValueId>,
    /// The pooling.
    pub pool: Pool,
}

/// The output called `name`, or the first float output of rank 3: hidden states.
pub fn hidden_states(graph: &Graph, name: Option<&str>) -> Result<ValueId, PassError> {
    sequence_output(graph, name, "hidden states are [batch, sequence, hidden]")
}

/// The output called `name`, else `logits`, else the first float output of rank 3: logits of the next token.
pub fn language_logits(graph: &Graph, name: Option<&str>) -> Result<ValueId, PassError> {
    let usual = "logits";
    let named = graph.outputs().iter().any(|v| graph.name_of(*v) == usual);
    let name = name.or(named.then_some(usual));
    sequence_output(graph, name, "logits are [batch, sequence, vocabulary]")
}

/// The output called `name`, or the first float output of rank 3 whose last dimension is known.
fn sequence_output(graph: &Graph, name: Option<&str>, expected: &str) -> Result<ValueId, PassError> {
    let fits = |v: &ValueId| {
        let fact = graph.fact(*v);
        fact.dtype.is_float() && fact.dims().is_some_and(|d| matches!(d, [_, _, last] if last.known().is_some()))
    };
    let outputs = graph.outputs();
    let list = || {
        let each = outputs.iter().map(|v| format!("`{}` {}", graph.name_of(*v), graph.fact(*v)));
        each.collect::<Vec<_>>().join(", ")
    };
    match name {
        Some(name) => match outputs.iter().find(|v| graph.name_of(**v) == name) {
            Some(v) if fits(v) => Ok(*v),
            Some(v) => Err(PassError::Unsuitable(format!("`{name}` is {}, {expected}", graph.fact(*v)))),
            None => Err(PassError::Unsuitable(format!("the model has no output `{name}`, only {}", list()))),
        },
        None => outputs.iter().copied().find(fits).ok_or_else(|| {
            PassError::Unsuitable(format!("{expected}, and no float output of the model is: it has {}", list()))
        }),
    }
}

/// Writes pooling and dense layer and names the result `logits`: `[batch, classes]`.
/// `weight` is `[classes, hidden]`, `bias` `[classes]`.
pub fn attach_head<'e, 'g>(head: &Head, weight: Val<'e, 'g>, bias: Val<'e, 'g>) -> Result<Val<'e, 'g>, PassError> {
    let e = weight.emit();
    let hidden = e.val(head.hidden);
    let pooled = match (head.pool, head.mask) {
        (Pool::Cls, _) => e.op("Gather", &[hidden, e.scalar(0.0, DType::I64)], &[("axis", 1i64.into())]),
        (Pool::Mean, Some(mask)) => {
            let mask = e.val(mask).cast(hidden.fact().dtype).binary("Unsqueeze", e.ints(&[-1]));
            let sum = (hidden * mask).sum(&[1], false);
            let count = mask.sum(&[1], false);
            sum / count.binary("Max", count.like(1.0))
        }
        (Pool::Mean, None) => {
            return Err(PassError::Unsuitable("mean pooling needs the input `attention_mask`".into()));
        }
    };
    let pooled = pooled.cast(weight.fact().dtype);
    let logits = e.named("logits", "Gemm", &[pooled, weight, bias], &[("transB", 1i64.into())], 1);
    logits.first().copied().ok_or_else(|| PassError::Unsuitable("the head has no result".into()))
}
