//! A new head on the hidden states of an encoder: what tasks that have one share.

use super::check_free;
use lorac_ir::{DType, Fact, Graph, Tensor};
use lorac_passes::{
    Attached, Group, Head, Init, Param, ParamValues, PassError, Pool, attach_head, axes_as_attributes, hidden_states,
    rewrite,
};

/// Name of the head's matrix `[outputs, hidden]`.
const WEIGHT: &str = "classifier.weight";
/// Name of the head's bias `[outputs]`.
const BIAS: &str = "classifier.bias";
/// Name of the head's output `[batch, outputs]`.
const LOGITS: &str = "logits";

/// Spread of the matrix's first values, as BERT initialises them; the bias begins at zero.
const SIGMA: f32 = 0.02;

/// The first opset that has axes as operands.
const AXES_AS_OPERANDS: i64 = 13;

/// What a head is put on, and how wide it is.
pub(super) struct NewHead<'a> {
    /// Outputs.
    pub(super) outputs: usize,
    /// How hidden states become one vector.
    pub(super) pool: Pool,
    /// The output of hidden states, where the first of rank 3 is not meant.
    pub(super) hidden: Option<&'a str>,
}

impl NewHead<'_> {
    fn place(&self, graph: &Graph) -> Result<(Head, usize), PassError> {
        let hidden = hidden_states(graph, self.hidden)?;
        let width = graph.fact(hidden).dims().and_then(|d| d.last()?.known()).unwrap_or(0) as usize;
        let mask = graph.input("attention_mask");
        Ok((Head { hidden, mask, pool: self.pool }, width))
    }

    /// Puts the head on a model, beside its outputs; `more` are names that the task gives to inputs.
    pub(super) fn attach(&self, graph: &mut Graph, more: &[&str]) -> Result<Attached, PassError> {
        check_free(graph, &[&[WEIGHT, BIAS, LOGITS], more].concat(), "a new head")?;
        let (head, width) = self.place(graph)?;
        let outputs = self.outputs;
        rewrite(graph, "head", |e| {
            let weight = e.input(WEIGHT, Fact::new(DType::F32, [outputs, width]));
            let bias = e.input(BIAS, Fact::new(DType::F32, [outputs]));
            let logits = attach_head(&head, weight, bias)?;
            let all = [e.graph().outputs(), &[logits.id()]].concat();
            e.edit(|p| p.set_outputs(all));
            let param = |value, name: &str, dims: &[usize], init| {
                let (name, dims) = (name.to_string(), dims.to_vec());
                Param { value, name, dims, init, group: Group::Head, decay: true }
            };
            let params = vec![
                param(weight.id(), WEIGHT, &[outputs, width], Init::Normal { sigma: SIGMA }),
                param(bias.id(), BIAS, &[outputs], Init::Zeros),
            ];
            Ok(Attached { prediction: logits.id(), params })
        })
    }

    /// The head alone, for appending to the deployed model: its inputs name values of `model`, whose operators it speaks.
    pub(super) fn alone(&self, model: &Graph, readable: &Graph, values: &ParamValues) -> Result<Graph, PassError> {
        let (place, _) = self.place(readable)?;
        // Written in a form that is known, then in the model's own.
        let mut graph = Graph::new("head", model.opset().max(AXES_AS_OPERANDS));
        let unfit = |e: lorac_ir::GraphError| PassError::Unsuitable(e.to_string());
        let mut take = |value| graph.add_input(&readable.name_of(value), readable.fact(value)).map_err(unfit);
        let hidden = take(place.hidden)?;
        let mask = place.mask.filter(|_| self.pool == Pool::Mean).map(&mut take).transpose()?;
        let tensor = |name: &str| -> Result<Tensor, PassError> {
            values.tensor(name).map_err(|e| PassError::Unsuitable(e.to_string()))
        };
        let (weight, bias) = (tensor(WEIGHT)?, tensor(BIAS)?);
        rewrite(&mut graph, "head", |e| {
            e.set_prefix("classifier.");
            let (weight, bias) = (e.weight(WEIGHT, weight), e.weight(BIAS, bias));
            let logits = attach_head(&Head { hidden, mask, pool: self.pool }, weight, bias)?;
            e.edit(|p| p.set_outputs(vec![logits.id()]));
            Ok(())
        })?;
        if model.opset() < AXES_AS_OPERANDS {
            axes_as_attributes(&mut graph)?;
        }
        graph.opsets = model.opsets.clone();
        Ok(graph)
    }
}
