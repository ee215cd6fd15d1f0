//! What heads are put on: hidden states, pooled to one vector for every sequence.

use crate::PassError;
use lorac_ir::{DType, Graph, ValueId};
use lorac_ops::{Emit, Val};
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
    /// The last token that the mask attends to
    Last,
}

/// What a head is put on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Head {
    /// Hidden states `[batch, sequence, hidden]`.
    pub hidden: ValueId,
    /// The attention mask `[batch, sequence]`; needed by all poolings but [`Pool::Cls`]. A mean of what is not made of tokens
    /// needs none: there every part of an image counts.
    pub mask: Option<ValueId>,
    /// The pooling.
    pub pool: Pool,
}

/// The output called `name`, or a value of that name inside the graph, or the first float output of rank 3: hidden states.
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
        Some(name) => match outputs.iter().copied().find(|v| graph.name_of(*v) == name).or_else(|| graph.find(name)) {
            Some(v) if fits(&v) => Ok(v),
            Some(v) => Err(PassError::Unsuitable(format!("`{name}` is {}, {expected}", graph.fact(v)))),
            None => Err(PassError::Unsuitable(format!("the model has no output `{name}`, only {}", list()))),
        },
        None => outputs.iter().copied().find(fits).ok_or_else(|| {
            PassError::Unsuitable(format!("{expected}, and no float output of the model is: it has {}", list()))
        }),
    }
}

/// Vectors `[.., width]` divided by their lengths; one of less than 1e-12 by that.
pub fn unit<'e, 'g>(x: Val<'e, 'g>) -> Val<'e, 'g> {
    let e = x.emit();
    let axes = e.ints_for("width_axis", &[-1]);
    let squares = e.op("ReduceSum", &[x * x, axes], &[("keepdims", 1i64.into())]);
    // The root of 0 has no slope.
    x / squares.binary("Max", e.scalar_for("least_square", 1e-24, squares.fact().dtype)).unary("Sqrt")
}

impl Pool {
    /// Whether it reads the attention mask.
    pub fn reads_mask(self) -> bool {
        self != Pool::Cls
    }
}

impl Head {
    /// Writes the pooling: `[batch, hidden]`, in the type of the hidden states.
    ///
    /// # Errors
    /// A pooling that needs the mask, where there is none.
    pub fn pooled<'e, 'g>(&self, e: &'e Emit<'g>) -> Result<Val<'e, 'g>, PassError> {
        let hidden = e.val(self.hidden);
        let mask = || {
            let missing = || PassError::Unsuitable(format!("{} pooling needs the input `attention_mask`", self.pool));
            self.mask.map(|mask| e.val(mask)).ok_or_else(missing)
        };
        let new_axis = || e.ints_for("new_axis", &[-1]);
        let sum = |x: Val<'e, 'g>| {
            let tokens = e.ints_for("token_axis", &[1]);
            e.op("ReduceSum", &[x, tokens], &[("keepdims", 0i64.into())])
        };
        Ok(match self.pool {
            Pool::Cls => {
                e.op("Gather", &[hidden, e.scalar_for("first_token", 0.0, DType::I64)], &[("axis", 1i64.into())])
            }
            Pool::Mean if self.mask.is_none() && e.graph().input("input_ids").is_none() => {
                let parts = hidden.unary("Shape").binary("Gather", e.scalar_for("part_axis", 1.0, DType::I64));
                sum(hidden) / parts.cast(hidden.fact().dtype)
            }
            Pool::Mean => {
                let mask = mask()?.cast(hidden.fact().dtype).binary("Unsqueeze", new_axis());
                let total = sum(hidden * mask);
                let count = sum(mask);
                total / count.binary("Max", e.scalar_for("least_tokens", 1.0, count.fact().dtype))
            }
            Pool::Last => {
                let mask = mask()?.cast(DType::I64);
                let one = e.scalar_for("one", 1.0, DType::I64);
                // Counted from the end, the last token is the first that is counted.
                let count = e.op("CumSum", &[mask, one], &[("reverse", 1i64.into())]);
                let last = (count * mask).binary("Equal", one).binary("Unsqueeze", new_axis());
                sum(e.op("Where", &[last, hidden, e.scalar_for("zero", 0.0, hidden.fact().dtype)], &[]))
            }
        })
    }
}

impl std::fmt::Display for Pool {
    fn fmt(&self, f: &mut std::fmt::Formatter) -> std::fmt::Result {
        f.write_str(match self {
            Pool::Mean => "mean",
            Pool::Cls => "cls",
            Pool::Last => "last",
        })
    }
}
