//! Classification of texts: a new head on the model's hidden states.

use super::{Attached, LABELS, free};
use lorac_ir::{DType, Fact, Graph, Tensor, ValueId};
use lorac_passes::{Head, PassError, Pool, attach_head, cross_entropy, hidden_states, rewrite};

/// Name of the head's matrix `[classes, hidden]`.
pub const HEAD_WEIGHT: &str = "classifier.weight";
/// Name of the head's bias `[classes]`.
pub const HEAD_BIAS: &str = "classifier.bias";
/// The first opset that has the operators of a head, which joins the deployed model as it is.
const HEAD_OPSET: i64 = 13;

/// One label a text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Classify {
    /// Number of classes of the new head.
    pub classes: usize,
    /// How hidden states become one vector.
    pub pool: Pool,
    /// The output of hidden states, where the first of rank 3 is not meant.
    pub hidden: Option<String>,
}

/// A head's place in the model, by name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HeadNames {
    /// Hidden states.
    pub hidden: String,
    /// The attention mask.
    pub mask: Option<String>,
    /// The pooling.
    pub pool: Pool,
}

impl Classify {
    pub(super) fn attach(&self, graph: &mut Graph) -> Result<Attached, PassError> {
        if graph.opset() < HEAD_OPSET {
            let opset = graph.opset();
            let why = format!("the model is of opset {opset}, and the head that is put on it needs {HEAD_OPSET}");
            return Err(PassError::Unsuitable(format!("{why}: convert the model with onnx.version_converter")));
        }
        free(graph, &[HEAD_WEIGHT, HEAD_BIAS, "logits", LABELS], "a new head")?;
        let hidden = hidden_states(graph, self.hidden.as_deref())?;
        let width = graph.fact(hidden).dims().and_then(|d| d.last()?.known()).unwrap_or(0) as usize;
        let mask = graph.find("attention_mask").filter(|m| graph.inputs().contains(m));
        let names = HeadNames { hidden: graph.name_of(hidden), mask: mask.map(|m| graph.name_of(m)), pool: self.pool };
        let (logits, params) = head(graph, &Head { hidden, mask, pool: self.pool }, self.classes, width)?;
        Ok(Attached { logits, params: params.to_vec(), head: Some(names) })
    }

    pub(super) fn loss(&self, graph: &mut Graph, logits: ValueId) -> Result<ValueId, PassError> {
        cross_entropy(graph, logits, LABELS)
    }
}

fn head(graph: &mut Graph, head: &Head, classes: usize, width: usize) -> Result<(ValueId, [ValueId; 2]), PassError> {
    rewrite(graph, "head", |e| {
        let weight = e.input(HEAD_WEIGHT, Fact::new(DType::F32, [classes, width]));
        let bias = e.input(HEAD_BIAS, Fact::new(DType::F32, [classes]));
        let logits = attach_head(head, weight, bias)?;
        let outputs = [e.graph().outputs(), &[logits.id()]].concat();
        e.edit(|p| p.set_outputs(outputs));
        Ok((logits.id(), [weight.id(), bias.id()]))
    })
}

/// The head alone, for appending to the deployed model: its inputs name values of `base`, whose operators it speaks. The
/// facts of these values are those of `adapted`, which may be of another opset.
pub fn head_alone(
    base: &Graph,
    adapted: &Graph,
    names: &HeadNames,
    weight: Tensor,
    bias: Tensor,
) -> Result<Graph, PassError> {
    let mut graph = Graph::new("head", base.opset());
    graph.opsets = base.opsets.clone();
    let missing = |name: &str| PassError::Unsuitable(format!("the model has no value '{name}'"));
    let mut take = |name: &str| {
        let fact = adapted.find(name).map(|v| adapted.fact(v)).ok_or_else(|| missing(name))?;
        graph.add_input(name, fact).map_err(|e| PassError::Unsuitable(e.to_string()))
    };
    let hidden = take(&names.hidden)?;
    let mask = names.mask.as_deref().filter(|_| names.pool == Pool::Mean).map(&mut take).transpose()?;
    rewrite(&mut graph, "head", |e| {
        e.set_prefix("classifier.");
        let (weight, bias) = (e.weight(HEAD_WEIGHT, weight), e.weight(HEAD_BIAS, bias));
        let logits = attach_head(&Head { hidden, mask, pool: names.pool }, weight, bias)?;
        e.edit(|p| p.set_outputs(vec![logits.id()]));
        Ok(())
    })?;
    Ok(graph)
}
