//! An encoder and a decoder that come in two graphs, put together to one.

use crate::copy::Copy;
use crate::{OPSET, PassError, upgrade};
use lorac_ir::{Dim, Fact, Graph, GraphError, ValueId};
use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

/// The output of an encoder that a decoder reads.
const HIDDEN: &str = "last_hidden_state";

/// Inputs of a decoder that the encoder gives: what it has computed, and the mask that it was fed.
const READ: &str = "encoder_hidden_states";
const READ_MASK: &str = "encoder_attention_mask";

/// Inputs of a decoder by what they are called beside those of an encoder.
const WRITTEN: [(&str, &str); 2] = [("input_ids", "decoder_input_ids"), ("attention_mask", "decoder_attention_mask")];

/// An encoder and a decoder as one graph.
#[derive(Clone, Debug)]
pub struct Joined {
    /// What both compute: the encoder's inputs and the decoder's but for what the encoder gives, and the decoder's outputs.
    pub graph: Graph,
    /// What the values of each of them are in it, the encoder's first.
    pub values: [HashMap<ValueId, ValueId>; 2],
}

/// Puts two graphs of [`crate::readable`] together: the encoder's hidden states are the decoder's `encoder_hidden_states`, and its
/// `attention_mask` is the decoder's `encoder_attention_mask`. The decoder's `input_ids` become `decoder_input_ids`; other names
/// that both have get `encoder.` and `decoder.` before them, and a number behind them where that is taken.
///
/// # Errors
/// A decoder without `encoder_hidden_states`, one with caches, hidden states of another type or width, an encoder without hidden
/// states, and operator sets that differ and cannot be raised.
pub fn join(encoder: &Graph, decoder: &Graph) -> Result<Joined, PassError> {
    let (mut encoder, mut decoder) = (encoder.clone(), decoder.clone());
    if encoder.opset() != decoder.opset() {
        for graph in [&mut encoder, &mut decoder] {
            if graph.opset() < OPSET {
                upgrade(graph)?;
            }
        }
    }
    let other =
        encoder.opsets.iter().find(|(domain, version)| decoder.opsets.get(*domain).is_some_and(|v| v != *version));
    if let Some((domain, version)) = other {
        let (name, theirs) =
            (if domain.is_empty() { "ai.onnx" } else { domain }, decoder.opsets.get(domain).unwrap_or(&0));
        return Err(unsuitable(format!(
            "the encoder speaks opset {version} of `{name}`, and the decoder opset {theirs}"
        )));
    }
    let hidden = hidden_states(&encoder)?;
    let read = decoder.input(READ).ok_or_else(|| no_hidden_states(&decoder))?;
    if let Some(cache) =
        decoder.inputs().iter().map(|v| decoder.name_of(*v)).find(|n| n.starts_with("past") || n == "use_cache_branch")
    {
        return Err(unsuitable(format!(
            "the decoder has the input `{cache}`: one that is trained takes no caches, as decoder_model.onnx does; \
             decoder_with_past_model.onnx and decoder_model_merged.onnx are of no use here"
        )));
    }
    fits(&encoder, hidden, &decoder, read)?;

    let both = Both::of(&encoder, &decoder);
    let mut graph = Graph::new(&decoder.name, decoder.opset());
    graph
        .opsets
        .extend(encoder.opsets.iter().chain(&decoder.opsets).map(|(domain, version)| (domain.clone(), *version)));
    let of_encoder = |name: &str| both.name(name, "encoder");
    let first = Copy { from: &encoder, needed: None, name: &of_encoder, fact: &Fact::clone };
    let first = first.copy_to(&mut graph, HashMap::new()).map_err(broken)?;
    let mut given = HashMap::new();
    given.extend(first.get(&hidden).map(|v| (read, *v)));
    if let Some((mask, own)) = decoder.input(READ_MASK).zip(encoder.input("attention_mask")) {
        if !encoder.fact(own).compatible(&decoder.fact(mask)) {
            let (fed, takes) = (encoder.fact(own), decoder.fact(mask));
            return Err(unsuitable(format!(
                "the encoder's `attention_mask` is {fed}, and the decoder's `{READ_MASK}` {takes}"
            )));
        }
        given.extend(first.get(&own).map(|own| (mask, *own)));
    }
    let dims = Dims::of(&encoder, encoder.fact(hidden), decoder.fact(read));
    let called = |name: &str| {
        let id = decoder.find(name).filter(|id| decoder.is_input(*id));
        match id.and_then(|_| WRITTEN.iter().find(|(own, _)| *own == name)) {
            Some((_, beside)) => beside.to_string(),
            None if id.is_some() && name == READ_MASK => "attention_mask".to_string(),
            None if id.is_some() && WRITTEN.iter().any(|(_, beside)| *beside == name) => name.to_string(),
            None => both.name(name, "decoder"),
        }
    };
    let second = Copy { from: &decoder, needed: None, name: &called, fact: &|fact| dims.of_decoder(fact) };
    let second = second.copy_to(&mut graph, given).map_err(broken)?;
    let outputs = decoder.outputs().iter().filter_map(|v| second.get(v).copied()).collect();
    graph.set_outputs(outputs).map_err(broken)?;
    Ok(Joined { graph, values: [first, second] })
}

fn unsuitable(why: String) -> PassError {
    PassError::Unsuitable(why)
}

fn broken(error: GraphError) -> PassError {
    unsuitable(format!("encoder and decoder do not go together: {error}"))
}

fn no_hidden_states(decoder: &Graph) -> PassError {
    let names: Vec<String> = decoder.inputs().iter().map(|v| decoder.name_of(*v)).collect();
    unsuitable(format!(
        "the decoder has no input `{READ}`, by which it would read what the encoder gives: its inputs are `{}`",
        names.join("`, `")
    ))
}

/// What a decoder reads of an encoder: its output `last_hidden_state`, else the first of floats `[batch, length, width]`.
fn hidden_states(encoder: &Graph) -> Result<ValueId, PassError> {
    let fits =
        |v: &&ValueId| encoder.fact(**v).dtype.is_float() && encoder.fact(**v).rank().is_none_or(|rank| rank == 3);
    let named = encoder.outputs().iter().find(|v| encoder.name_of(**v) == HIDDEN);
    named.or_else(|| encoder.outputs().iter().find(fits)).copied().ok_or_else(|| {
        let all: Vec<String> =
            encoder.outputs().iter().map(|v| format!("`{}` {}", encoder.name_of(*v), encoder.fact(*v))).collect();
        unsuitable(format!("the encoder has no output `{HIDDEN}`: its outputs are {}", all.join(", ")))
    })
}

/// Refuses hidden states that are no input of the decoder.
fn fits(encoder: &Graph, hidden: ValueId, decoder: &Graph, read: ValueId) -> Result<(), PassError> {
    let (gives, takes) = (encoder.fact(hidden), decoder.fact(read));
    if gives.compatible(&takes) {
        return Ok(());
    }
    let name = encoder.name_of(hidden);
    Err(unsuitable(format!("the encoder gives `{name}` {gives}, and the decoder takes `{READ}` {takes}")))
}

/// Names of values that both graphs have, each with what it becomes in the encoder and in the decoder.
struct Both(BTreeMap<String, [String; 2]>);

/// What stands before such names.
const SIDES: [&str; 2] = ["encoder", "decoder"];

impl Both {
    fn of(encoder: &Graph, decoder: &Graph) -> Both {
        let common = encoder.values().filter(|(_, v)| decoder.find(&v.name).is_some()).map(|(_, v)| v.name.to_string());
        // The names that the decoder's inputs get are not to be taken.
        let beside = WRITTEN.iter().map(|(_, name)| name.to_string());
        let names = |graph: &Graph| graph.values().map(|(_, v)| v.name.to_string()).collect::<Vec<_>>();
        let common: BTreeSet<String> = common.chain(beside).collect();
        let mut taken: HashSet<String> = names(encoder).into_iter().chain(names(decoder)).collect();
        let mut free = |name: String| {
            let counted = (1..).map(|n| format!("{name}.{n}"));
            let free = std::iter::once(name.clone()).chain(counted).find(|name| !taken.contains(name)).unwrap_or(name);
            taken.insert(free.clone());
            free
        };
        Both(common.into_iter().map(|name| (name.clone(), SIDES.map(|of| free(format!("{of}.{name}"))))).collect())
    }

    /// An input of the encoder keeps its name: the data is for it.
    fn name(&self, name: &str, of: &str) -> String {
        let kept = of == "encoder" && ["input_ids", "attention_mask"].contains(&name);
        let found =
            self.0.get(name).filter(|_| !kept).and_then(|to| to.iter().zip(SIDES).find(|(_, side)| *side == of));
        found.map_or_else(|| name.to_string(), |(to, _)| to.clone())
    }
}

/// Dimensions of a decoder by those of the encoder: batch and length of what is read are one, all else of the same name is not.
struct Dims {
    known: HashMap<String, Dim>,
    taken: BTreeSet<String>,
}

impl Dims {
    fn of(encoder: &Graph, gives: Fact, takes: Fact) -> Dims {
        let pairs = takes.dims().unwrap_or_default().iter().zip(gives.dims().unwrap_or_default());
        let known = pairs.filter(|(_, gives)| **gives != Dim::Unknown);
        let known = known.filter_map(|(takes, gives)| Some((takes.name()?, *gives))).collect();
        let taken = std::cell::RefCell::new(BTreeSet::new());
        for dim in encoder.values().flat_map(|(_, v)| v.fact.dims().unwrap_or_default().iter()) {
            dim.eval(&|name| {
                taken.borrow_mut().insert(name.to_string());
                Some(1)
            });
        }
        Dims { known, taken: taken.into_inner() }
    }

    fn of_decoder(&self, fact: &Fact) -> Fact {
        let dim = |dim: &Dim| match dim.name() {
            Some(name) => match self.known.get(&name) {
                Some(known) => *known,
                None if self.taken.contains(&name) => Dim::named(&format!("decoder_{name}")),
                None => *dim,
            },
            None => dim.known().map_or(Dim::Unknown, Dim::Known),
        };
        Fact { dtype: fact.dtype, shape: fact.dims().map(|dims| dims.iter().map(dim).collect()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use lorac_ops::{Array, evaluate};

    const ENCODER: &str = r#"graph e(%input_ids: i64[B,S], %attention_mask: i64[B,S]) -> %last_hidden_state {
        %table = weight "table" f32[3,2] = [1, 2, 3, 4, 5, 6]
        %last_hidden_state = Gather(%table, %input_ids) : f32[B,S,2]
    }"#;
    const DECODER: &str = r#"graph d(%input_ids: i64[N,S], %encoder_attention_mask: i64[N,R], %encoder_hidden_states: f32[N,R,2]) -> %logits {
        %table = weight "table" f32[3,2] = [10, 20, 30, 40, 50, 60]
        %x = Gather(%table, %input_ids) : f32[N,S,2]
        %m = Cast(%encoder_attention_mask, to=1) : f32[N,R]
        %axes = weight "axes" i64[1] = [2]
        %wide = Unsqueeze(%m, %axes) : f32[N,R,1]
        %read = Mul(%encoder_hidden_states, %wide) : f32[N,R,2]
        %one = weight "one" i64[1] = [1]
        %sum = ReduceSum(%read, %one) : f32[N,1,2]
        %logits = Add(%x, %sum) : f32[N,S,2]
    }"#;

    fn graph(text: &str) -> Graph {
        lorac_ir::parse(text).expect("parses")
    }

    #[test]
    fn what_an_encoder_gives_is_read_by_the_decoder() {
        let (encoder, decoder) = (graph(ENCODER), graph(DECODER));
        let Joined { graph, values } = join(&encoder, &decoder).expect("joins");
        assert_eq!(lorac_ir::verify(&graph), vec![]);
        let inputs: Vec<String> =
            graph.inputs().iter().map(|v| format!("{} {}", graph.name_of(*v), graph.fact(*v))).collect();
        assert_eq!(inputs, ["input_ids i64[B,S]", "attention_mask i64[B,S]", "decoder_input_ids i64[B,decoder_S]"]);
        let weights: Vec<&str> = graph.weights().map(|(_, v, _)| &*v.name).collect();
        assert_eq!(weights, ["encoder.table", "decoder.table", "axes", "one"]);
        let table = decoder.find("table").expect("a weight");
        assert_eq!(values[1].get(&table).copied(), graph.find("decoder.table"));
        let array = |dims: &[usize], v: &[f64]| Array::from_shape_vec(dims.to_vec(), v.to_vec()).expect("fits");
        let fed = [
            ("input_ids", array(&[1, 2], &[0.0, 2.0])),
            ("attention_mask", array(&[1, 2], &[1.0, 0.0])),
            ("decoder_input_ids", array(&[1, 1], &[1.0])),
        ];
        assert_eq!(evaluate(&graph, &fed).expect("runs")[0], array(&[1, 1, 2], &[31.0, 42.0]));
    }

    #[test]
    fn names_that_one_of_them_has_already_are_left_to_it() {
        let encoder =
            ENCODER.replace("%table", "%encoder.table").replace("weight \"table\"", "weight \"encoder.table\"");
        let encoder = encoder
            .replace("%last_hidden_state = ", "%table = Relu(%encoder.table) : f32[3,2]\n %last_hidden_state = ");
        let decoder = DECODER.replace("%x ", "%decoder.table ").replace("(%x, ", "(%decoder.table, ");
        let (encoder, decoder) = (graph(&encoder), graph(&decoder));
        let Joined { graph, values } = join(&encoder, &decoder).expect("joins");
        assert_eq!(lorac_ir::verify(&graph), vec![]);
        let become_of = |of: &Graph, side: usize, name: &str| {
            graph.name_of(values[side][&of.find(name).unwrap_or_else(|| panic!("{name}"))])
        };
        assert_eq!(become_of(&encoder, 0, "encoder.table"), "encoder.table");
        assert_eq!(become_of(&encoder, 0, "table"), "encoder.table.1");
        assert_eq!(become_of(&decoder, 1, "table"), "decoder.table.1");
        assert_eq!(become_of(&decoder, 1, "decoder.table"), "decoder.table");
    }

    #[test]
    fn what_does_not_go_together_is_named() {
        let said =
            |encoder: &str, decoder: &str| join(&graph(encoder), &graph(decoder)).expect_err("refused").to_string();
        let other = DECODER.replace("encoder_hidden_states", "states");
        assert!(said(ENCODER, &other).contains("no input `encoder_hidden_states`"), "{}", said(ENCODER, &other));
        let wide = DECODER.replace("%encoder_hidden_states: f32[N,R,2]", "%encoder_hidden_states: f32[N,R,3]");
        let text = said(ENCODER, &wide);
        assert!(text.contains("`last_hidden_state` f32[B,S,2]") && text.contains("f32[N,R,3]"), "{text}");
        let past = DECODER.replace("graph d(", "graph d(%past_key_values.0.key: f32[N,2,P,4], ");
        assert!(said(ENCODER, &past).contains("`past_key_values.0.key`"), "{}", said(ENCODER, &past));
        let none = "graph e(%input_ids: i64[B,S]) -> %y { %y = Relu(%input_ids) : i64[B,S] }";
        assert!(said(none, DECODER).contains("no output `last_hidden_state`"), "{}", said(none, DECODER));
        let old = DECODER.replace("graph d(", "graph d opset 21 (");
        let text = said(&ENCODER.replace("graph e(", "graph e opset 18 ("), &old);
        assert!(text.contains("opset 18") && text.contains("opset 21"), "{text}");
    }
}
