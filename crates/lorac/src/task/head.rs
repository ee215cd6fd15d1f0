//! A new head on the hidden states of an encoder: what tasks that have one share.

use lorac_config::{Problem, Problems};
use lorac_ir::{DType, Fact, Graph, Tensor, ValueId};
use lorac_models::{ClassHead, Classes, Form};
use lorac_ops::{Emit, Val};
use lorac_passes::{
    Attached, Group, Head, Init, Param, ParamValues, PassError, Pool, axes_as_attributes, hidden_states, rewrite,
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Name of the head's output `[batch, outputs]`.
pub(crate) const LOGITS: &str = "logits";

/// The output of base models that a BERT's head goes on, where there is one.
const POOLER_OUTPUT: &str = "pooler_output";

/// Spread of a matrix's first values, as BERT initialises them; a bias begins at zero.
const SIGMA: f32 = 0.02;

/// The first opset that has axes as operands.
const AXES_AS_OPERANDS: i64 = 13;

/// What stands between hidden states and the prediction.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum HeadKind {
    /// The pooling and one linear layer. No class of transformers has it: in formats of adapters the head is a file beside
    #[default]
    Linear,
    /// The head that the model has already: an output [batch, outputs]. Nothing is put on the model, and its weights stay as they are
    /// unless they are adapted: adapt: [lora: { .. }, full: { targets: ["*classifier*"] }] trains them in full
    Existing,
    /// The head of the sequence classifier of the model's own type, by its config.json: one of the following
    Architecture,
    /// As BertForSequenceClassification: the first token, pooler, tanh, linear
    Bert,
    /// As RobertaForSequenceClassification: the first token, linear, tanh, linear
    Roberta,
    /// As DistilBertForSequenceClassification: the first token, linear, relu, linear
    Distilbert,
    /// As GPT2ForSequenceClassification, LlamaForSequenceClassification and their kin: the last token, linear without bias
    LastToken,
    /// As BertForTokenClassification and its kin: every token, linear. No choice of a task of whole texts
    #[serde(skip)]
    Token,
}

/// A layer of a head.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Layer {
    /// Its module in the class.
    module: &'static str,
    bias: bool,
    /// The operator behind it.
    activation: Option<&'static str>,
}

impl HeadKind {
    /// The kind that a class has.
    fn of(head: ClassHead) -> HeadKind {
        match head {
            ClassHead::Bert => HeadKind::Bert,
            ClassHead::Roberta => HeadKind::Roberta,
            ClassHead::DistilBert => HeadKind::Distilbert,
            ClassHead::LastToken => HeadKind::LastToken,
        }
    }

    /// The layers behind the pooling, in order.
    fn layers(self) -> Vec<Layer> {
        let out = |module, bias| Layer { module, bias, activation: None };
        let dense = |module, activation| Layer { module, bias: true, activation: Some(activation) };
        match self {
            HeadKind::Linear | HeadKind::Architecture | HeadKind::Existing | HeadKind::Token => {
                vec![out("classifier", true)]
            }
            HeadKind::Bert => vec![dense("pooler.dense", "Tanh"), out("classifier", true)],
            HeadKind::Roberta => vec![dense("classifier.dense", "Tanh"), out("classifier.out_proj", true)],
            HeadKind::Distilbert => vec![dense("pre_classifier", "Relu"), out("classifier", true)],
            HeadKind::LastToken => vec![out("score", false)],
        }
    }

    /// Reports a pooling that is not the kind's own.
    pub(super) fn check(self, pool: Pool, problems: &mut Problems) {
        if self != HeadKind::Linear && pool != Pool::default() {
            let message = format!("`{pool}` pooling is for `head: linear`: other heads have a pooling of their own");
            problems.report("pool", "pipeline::idle", message);
        }
    }
}

/// What a head is put on, and how wide it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NewHead<'a> {
    /// Outputs.
    pub outputs: usize,
    /// What it is made of.
    pub kind: HeadKind,
    /// How hidden states become one vector, where the kind does not say.
    pub pool: Pool,
    /// The output of hidden states, where the first of rank 3 is not meant.
    pub hidden: Option<&'a str>,
}

/// Where the head begins.
#[derive(Clone, Copy)]
enum Start {
    /// At hidden states.
    Hidden(Head),
    /// Behind the model's own pooler, `[batch, hidden]`.
    Pooled(ValueId),
    /// At the hidden states of every token, `[batch, sequence, hidden]`.
    Tokens(ValueId),
    /// At a map of features, `[batch, features, height, width]`, whose mean is taken.
    Map(ValueId),
}

impl NewHead<'_> {
    /// How hidden states become one vector.
    pub fn pool(&self) -> Pool {
        match self.kind {
            HeadKind::Linear | HeadKind::Architecture | HeadKind::Existing => self.pool,
            HeadKind::LastToken => Pool::Last,
            // The pooling that needs no mask: every token has logits.
            HeadKind::Bert | HeadKind::Roberta | HeadKind::Distilbert | HeadKind::Token => Pool::Cls,
        }
    }

    /// What is built of a model that is not an `.onnx` file: where an output is named, all that there is.
    pub(super) fn form(&self) -> Form {
        match (self.hidden, self.kind) {
            (Some(_), _) => Form::Saved,
            // A model without a pooler is the same in both.
            (None, HeadKind::Bert | HeadKind::Architecture) => Form::Pooled,
            (None, _) => Form::Base,
        }
    }

    /// The paths of its params in the class whose head it is, in their order: `score.weight`. A model's own pooler may
    /// stand for the first of them.
    pub fn paths(&self) -> Vec<String> {
        let of_layer = |l: Layer| ["weight", "bias"].into_iter().take(1 + usize::from(l.bias)).map(move |end| (l, end));
        self.kind.layers().into_iter().flat_map(of_layer).map(|(l, end)| format!("{}.{end}", l.module)).collect()
    }

    /// Where it begins, the width of what comes in, and the layers that it needs.
    fn place(&self, graph: &Graph) -> Result<(Start, usize, Vec<Layer>), PassError> {
        if self.kind == HeadKind::Architecture {
            let why =
                "`head: architecture` needs the type of the model: name the head itself, or put its config.json beside";
            return Err(PassError::Unsuitable(why.into()));
        }
        let width = |v| graph.fact(v).dims().and_then(|d| d.last()?.known()).unwrap_or(0) as usize;
        let mut layers = self.kind.layers();
        let pooler = graph.find(POOLER_OUTPUT).filter(|v| graph.is_output(*v));
        let pooler =
            pooler.filter(|v| self.kind == HeadKind::Bert && graph.fact(*v).dims().is_some_and(|d| d.len() == 2));
        if let Some(pooled) = pooler {
            layers.remove(0);
            return Ok((Start::Pooled(pooled), width(pooled), layers));
        }
        if let Some((start, width)) = self.features(graph) {
            return Ok((start, width, layers));
        }
        let mut hidden = hidden_states(graph, self.hidden)?;
        if self.kind == HeadKind::Token && self.hidden.is_none() && is_logits(graph, hidden) {
            hidden = other_states(graph).unwrap_or(hidden);
        }
        if self.kind != HeadKind::Linear && is_logits(graph, hidden) {
            hidden = before_logits(graph, hidden)?;
        }
        if self.kind == HeadKind::Token {
            return Ok((Start::Tokens(hidden), width(hidden), layers));
        }
        let mask = graph.input("attention_mask");
        Ok((Start::Hidden(Head { hidden, mask, pool: self.pool() }), width(hidden), layers))
    }

    /// Features that are no sequence, of a linear head: those that are named, else, of a model that reads no tokens and has no
    /// hidden states, the first ones among its outputs.
    fn features(&self, graph: &Graph) -> Option<(Start, usize)> {
        let start = |value: ValueId| {
            let fact = graph.fact(value);
            let known = |axis: usize| fact.dims()?.get(axis)?.known().and_then(|n| usize::try_from(n).ok());
            match fact.rank().filter(|_| fact.dtype.is_float())? {
                2 => Some((Start::Pooled(value), known(1)?)),
                4 => Some((Start::Map(value), known(1)?)),
                _ => None,
            }
        };
        if self.kind != HeadKind::Linear {
            return None;
        }
        match self.hidden {
            Some(name) => {
                let output = graph.outputs().iter().copied().find(|v| graph.name_of(*v) == name);
                start(output.or_else(|| graph.find(name))?)
            }
            None if graph.input("input_ids").is_none() && hidden_states(graph, None).is_err() => {
                graph.outputs().iter().copied().find_map(start)
            }
            None => None,
        }
    }

    /// Names and dimensions of the params of layers.
    fn params(&self, layers: &[Layer], width: usize) -> Vec<(String, Vec<usize>)> {
        let mut all = Vec::new();
        for layer in layers {
            let outputs = if layer.activation.is_some() { width } else { self.outputs };
            all.push((format!("{}.weight", layer.module), vec![outputs, width]));
            if layer.bias {
                all.push((format!("{}.bias", layer.module), vec![outputs]));
            }
        }
        all
    }

    /// Puts the head on a model, beside its outputs.
    pub(super) fn attach(&self, graph: &mut Graph) -> Result<Attached, PassError> {
        let (start, width, layers) = self.place(graph)?;
        let params = self.params(&layers, width);
        rewrite(graph, "head", |e| {
            let values: Vec<Val> =
                params.iter().map(|(name, dims)| e.input(name, Fact::new(DType::F32, dims.iter().copied()))).collect();
            let logits = write(e, &start, &layers, &values)?;
            let all = [e.graph().outputs(), &[logits.id()]].concat();
            e.edit(|p| p.set_outputs(all));
            let params = params.into_iter().zip(&values).map(|((name, dims), value)| {
                let init = if dims.len() > 1 { Init::Normal { sigma: SIGMA } } else { Init::Zeros };
                Param { value: value.id(), name, dims, init, group: Group::Head, decay: true }
            });
            Ok(Attached { prediction: logits.id(), params: params.collect() })
        })
    }

    /// The head alone, for appending to the deployed model: its inputs name values of `model`, whose operators it speaks.
    pub(super) fn alone(&self, model: &Graph, readable: &Graph, values: &ParamValues) -> Result<Graph, PassError> {
        let (start, width, layers) = self.place(readable)?;
        let taken: Vec<ValueId> = match start {
            Start::Pooled(one) | Start::Tokens(one) | Start::Map(one) => vec![one],
            Start::Hidden(Head { hidden, mask, pool }) => {
                [hidden].into_iter().chain(mask.filter(|_| pool.reads_mask())).collect()
            }
        };
        let params = self.params(&layers, width).into_iter().map(|(name, _)| {
            let tensor = values.tensor(&name).map_err(|e| PassError::Unsuitable(e.to_string()))?;
            Ok((name, tensor))
        });
        let params = params.collect::<Result<Vec<(String, Tensor)>, PassError>>()?;
        behind(model, readable, &taken, "classifier.", |e, taken| {
            let first = taken.first().copied();
            let start = match (start, first) {
                (Start::Pooled(_), Some(one)) => Start::Pooled(one),
                (Start::Tokens(_), Some(one)) => Start::Tokens(one),
                (Start::Map(_), Some(one)) => Start::Map(one),
                (Start::Hidden(head), Some(hidden)) => {
                    Start::Hidden(Head { hidden, mask: taken.get(1).copied(), ..head })
                }
                (start, None) => start,
            };
            let values: Vec<Val> = params.into_iter().map(|(name, tensor)| e.weight(&name, tensor)).collect();
            write(e, &start, &layers, &values)
        })
    }
}

/// A graph for appending to the deployed model, of what `write` writes of values of `model`: its inputs name them, its output is
/// the result, and it speaks the model's operators. Values that are given no name begin with `prefix`.
pub(super) fn behind(
    model: &Graph,
    readable: &Graph,
    taken: &[ValueId],
    prefix: &str,
    write: impl for<'e, 'g> FnOnce(&'e Emit<'g>, &[ValueId]) -> Result<Val<'e, 'g>, PassError>,
) -> Result<Graph, PassError> {
    // Written in a form that is known, then in the model's own.
    let mut graph = Graph::new("head", model.opset().max(AXES_AS_OPERANDS));
    graph.reserve_as(readable);
    let unfit = |e: lorac_ir::GraphError| PassError::Unsuitable(e.to_string());
    let mut inputs = Vec::with_capacity(taken.len());
    for value in taken {
        let name = readable.name_of(*value);
        if model.find(&name).is_none() {
            return Err(PassError::Unsuitable(format!("the file of the model has no value `{name}` for a head")));
        }
        inputs.push(graph.add_input(&name, readable.fact(*value)).map_err(unfit)?);
    }
    rewrite(&mut graph, "head", |e| {
        e.set_prefix(prefix);
        let result = write(e, &inputs)?;
        e.edit(|p| p.set_outputs(vec![result.id()]));
        Ok(())
    })?;
    if model.opset() < AXES_AS_OPERANDS {
        axes_as_attributes(&mut graph)?;
    }
    graph.opsets = model.opsets.clone();
    Ok(graph)
}

/// Whether a value is the scores of tokens that a language model has for an output: called so, or a product of narrower
/// states with a matrix.
pub(crate) fn is_logits(graph: &Graph, value: ValueId) -> bool {
    graph.name_of(value) == LOGITS || states_of(graph, value).is_some()
}

/// The first float output `[batch, sequence, width]` that does not hold scores.
fn other_states(graph: &Graph) -> Option<ValueId> {
    let is_states = |v: &ValueId| {
        let fact = graph.fact(*v);
        fact.dtype.is_float() && matches!(fact.dims(), Some([_, _, width]) if width.known().is_some())
    };
    graph.outputs().iter().copied().find(|v| is_states(v) && !is_logits(graph, *v))
}

/// The hidden states that the scores of tokens are computed of.
fn before_logits(graph: &Graph, logits: ValueId) -> Result<ValueId, PassError> {
    states_of(graph, logits).ok_or_else(|| {
        let why = "the model's output is the scores of tokens, and what they are computed of is not found: export the base \
                   class, whose output is last_hidden_state";
        PassError::Unsuitable(why.into())
    })
}

/// The states `[batch, sequence, hidden]` whose product with a matrix a value is, where that makes them wider.
fn states_of(graph: &Graph, value: ValueId) -> Option<ValueId> {
    let (_, product) = graph.producer(value).filter(|(_, node)| &*node.op.name == "MatMul")?;
    let states = product.input(0)?;
    let width = |v| graph.fact(v).dims().and_then(|d| if let [_, _, w] = d { w.known() } else { None });
    (width(value)? > width(states)?).then_some(states)
}

/// Writes the head and calls its result `logits` or like it; `values` are the params of its layers, in order.
fn write<'e, 'g>(
    e: &'e Emit<'g>,
    start: &Start,
    layers: &[Layer],
    values: &[Val<'e, 'g>],
) -> Result<Val<'e, 'g>, PassError> {
    let mut x = match start {
        Start::Pooled(pooled) | Start::Tokens(pooled) => e.val(*pooled),
        Start::Hidden(head) => head.pooled(e)?,
        Start::Map(map) => e.val(*map).unary("GlobalAveragePool").unary("Flatten"),
    };
    let mut values = values.iter().copied();
    let missing = || PassError::Unsuitable("the head has no result".into());
    for layer in layers {
        let weight = values.next().ok_or_else(missing)?;
        let bias = if layer.bias { Some(values.next().ok_or_else(missing)?) } else { None };
        let operands: Vec<Val> = [x.cast(weight.fact().dtype), weight].into_iter().chain(bias).collect();
        let name = if layer.activation.is_some() { "" } else { LOGITS };
        if let Start::Tokens(_) = start {
            let product = x.cast(weight.fact().dtype).binary("MatMul", weight.unary("Transpose"));
            let logits = match bias {
                Some(bias) => e.named(name, "Add", &[product, bias], &[], 1),
                None => e.named(name, "Identity", &[product], &[], 1),
            };
            x = logits.first().copied().ok_or_else(missing)?;
            continue;
        }
        x = e.named(name, "Gemm", &operands, &[("transB", 1i64.into())], 1).first().copied().ok_or_else(missing)?;
        x = layer.activation.map_or(x, |activation| x.unary(activation));
    }
    Ok(x)
}

/// The head of the model's own type, for [`HeadKind::Architecture`].
///
/// # Errors
/// A type that is not known, or whose head is not.
pub(super) fn architecture(classes: Option<&Classes>) -> Result<HeadKind, Problem> {
    let named = "bert, roberta, distilbert, last_token";
    let message = match classes {
        None => format!(
            "`head: architecture`: the type of the model is not known, as no config.json beside it says: name the \
                         head ({named}), or put the config.json there"
        ),
        Some(Classes { head: Some(head), .. }) => return Ok(HeadKind::of(*head)),
        Some(Classes { model_types, .. }) => {
            format!(
                "`head: architecture`: the head of {} is none of {named}: take `head: linear`",
                model_types.join(", ")
            )
        }
    };
    Err(Problem { path: "head".into(), code: "pipeline::head", message, help: None })
}

#[cfg(test)]
mod tests {
    use super::*;
    use lorac_ops::{Array, array, evaluate};
    use lorac_passes::Layout;

    const BASE: &str = "graph g(%ids: i64[N,S], %attention_mask: i64[N,S]) -> %hidden {
        %table = weight \"table\" f32[4,2] = [0.5, -1, 1, 2, -0.25, 0.75, 3, 1]
        %hidden = Gather(%table, %ids) : f32[N,S,2]
    }";

    /// A matrix, row by row, a bias and an activation.
    type Dense<'a> = (&'a [f64], Option<&'a [f64]>, fn(f64) -> f64);

    /// Logits by hand: layers applied to the token that is picked.
    fn by_hand(x: &[f64], layers: &[Dense]) -> Vec<f64> {
        layers.iter().fold(x.to_vec(), |x, (weight, bias, activation)| {
            let rows = weight.chunks(x.len()).enumerate();
            let row = |(i, row): (usize, &[f64])| {
                let sum: f64 = row.iter().zip(&x).map(|(w, x)| w * x).sum();
                activation(sum + bias.map_or(0.0, |b| b[i]))
            };
            rows.map(row).collect()
        })
    }

    #[test]
    fn every_head_computes_what_its_class_does() {
        let table = [[0.5, -1.0], [1.0, 2.0], [-0.25, 0.75], [3.0, 1.0]];
        let (w, v): (&[f64], &[f64]) = (&[0.5, -0.25, 1.0, 0.75], &[1.0, -0.5, 0.25, 2.0]);
        let (b, c): (Option<&[f64]>, Option<&[f64]>) = (Some(&[0.125, -0.5]), Some(&[0.25, -1.0]));
        let same: fn(f64) -> f64 = |x| x;
        let relu: fn(f64) -> f64 = |x| x.max(0.0);
        for (kind, token, layers) in [
            (HeadKind::Bert, 0, vec![(w, b, f64::tanh as fn(f64) -> f64), (v, c, same)]),
            (HeadKind::Roberta, 0, vec![(w, b, f64::tanh), (v, c, same)]),
            (HeadKind::Distilbert, 0, vec![(w, b, relu), (v, c, same)]),
            (HeadKind::LastToken, 1, vec![(v, None, same)]),
        ] {
            let base = lorac_ir::parse(BASE).expect("parses");
            let mut base = base;
            lorac_ops::infer(&mut base).expect("infers");
            let head = NewHead { outputs: 2, kind, pool: Pool::Mean, hidden: None };
            let mut whole = base.clone();
            let attached = head.attach(&mut whole).expect("attaches");
            let names: Vec<&str> = attached.params.iter().map(|p| p.name.as_str()).collect();
            assert_eq!(names, head.paths(), "{kind:?}");
            let theta: Vec<f64> =
                layers.iter().flat_map(|(w, b, _)| w.iter().chain(b.unwrap_or_default())).copied().collect();
            let theta: Vec<f32> = theta.iter().map(|x| *x as f32).collect();
            let layout = Layout::of(&attached.params);
            let values = layout.values(&theta).expect("fits");

            // Two rows, the first with two tokens of three, the second with all.
            let ids = Array::from_shape_vec(vec![2, 3], vec![1.0, 3.0, 0.0, 2.0, 0.0, 3.0]).expect("fits");
            let mask = Array::from_shape_vec(vec![2, 3], vec![1.0, 1.0, 0.0, 1.0, 1.0, 1.0]).expect("fits");
            let picked = if token == 0 { [1, 2] } else { [3, 3] };
            let want: Vec<f64> = picked.iter().flat_map(|i| by_hand(&table[*i], &layers)).collect();

            let mut feeds = vec![("ids", ids.clone()), ("attention_mask", mask.clone())];
            for param in &attached.params {
                feeds.push((&param.name, array(&values.tensor(&param.name).expect("there")).expect("reals")));
            }
            let got = evaluate(&whole, &feeds).expect("runs").pop().expect("logits");
            let alone = head.alone(&base, &base, &values).expect("stands alone");
            let hidden = evaluate(&base, &feeds[..2]).expect("runs").remove(0);
            let inputs = [("hidden", hidden), ("attention_mask", mask)];
            let taken = if kind == HeadKind::LastToken { 2 } else { 1 };
            let again = evaluate(&alone, &inputs[..taken]).expect("runs").pop().expect("logits");
            for got in [got, again] {
                let far = got.iter().zip(&want).map(|(a, b)| (a - b).abs()).fold(0.0, f64::max);
                assert!(got.len() == 4 && far < 1e-6, "{kind:?}: {got} is not {want:?}");
            }
        }
    }

    #[test]
    fn a_model_s_own_pooler_stands_for_the_first_layer() {
        let text = BASE.replace("-> %hidden", "-> %hidden, %pooler_output").replace(
            "f32[N,S,2]\n",
            "f32[N,S,2]\n %zero = weight \"zero\" i64[] = [0]\n %first = Gather(%hidden, %zero, axis=1) : f32[N,2]\n \
             %pooler_output = Tanh(%first) : f32[N,2]\n",
        );
        let mut graph = lorac_ir::parse(&text).expect("parses");
        lorac_ops::infer(&mut graph).expect("infers");
        for (kind, params) in [(HeadKind::Bert, 2), (HeadKind::Roberta, 4)] {
            let head = NewHead { outputs: 3, kind, pool: Pool::Mean, hidden: None };
            assert_eq!(head.attach(&mut graph.clone()).expect("attaches").params.len(), params, "{kind:?}");
        }
    }

    #[test]
    fn the_architecture_is_the_one_of_the_model() {
        let kind = |model_type| architecture(lorac_models::classes_of(model_type));
        assert_eq!(kind("xlm-roberta"), Ok(HeadKind::Roberta));
        assert_eq!(kind("qwen2"), Ok(HeadKind::LastToken));
        assert!(kind("electra").expect_err("no head").message.contains("electra"));
        assert!(kind("new").expect_err("no type").message.contains("config.json"));
    }
}
