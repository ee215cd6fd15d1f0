//! From a model to the graph that scores next tokens: with the caches that it has, where it can be fed with them.

use super::{Reading, Writer};
use crate::base::with_caches as with_caches_of;
use crate::error::Error;
use crate::inputs::{FIELDS, caches, feeds, name_fields};
use crate::source::Resolved;
use lorac_data::{PadTo, Tokenizer};
use lorac_ir::Graph;
use lorac_onnx::Model;
use lorac_passes::{
    AdamW, Adaptation, Caches, Cut, FixedInput, Layout, Objective, PassError, TrainingSpec, UpdateSpec, cut,
    fixed_input, input_limits, readable, writer,
};
use lorac_runtime::Backend;
use lorac_train::{CachePair, DecoderPorts, Feeds, Generate};
use std::collections::BTreeMap;

/// What a writer is made of.
pub struct Parts<'a> {
    /// The model's file.
    pub model: &'a Model,
    /// Its graph as it is trained or evaluated: readable, its inputs named, switches off.
    pub base: &'a Graph,
    /// What its inputs are fed with.
    pub feeds: &'a Feeds,
    /// Its caches.
    pub caches: &'a Caches,
    /// What its inputs stand for, where their names do not say it.
    pub names: &'a BTreeMap<String, String>,
    /// The next token.
    pub objective: &'a dyn Objective,
    /// What is trained of it; none where nothing is.
    pub trained: Option<Adapted<'a>>,
    /// The engine.
    pub backend: &'a dyn Backend,
    /// Where it comes from: the same model with caches may be built of it, where the file has none.
    pub source: Option<&'a Resolved>,
    /// How texts are written.
    pub settings: Generate,
    /// Tokens that end a text.
    pub ends: Vec<i64>,
    /// From tokens to texts.
    pub tokenizer: Tokenizer,
    /// Rows that are scored at the same time.
    pub rows: usize,
    /// What the length of rows is a multiple of.
    pub multiple: usize,
    /// The id that a decoder begins with while an encoder reads the prompt; none of a model without an encoder.
    pub start: Option<i64>,
}

/// A model that writes while it is trained.
#[derive(Clone, Copy)]
pub struct Adapted<'a> {
    /// How it is adapted; the same for a graph in which other branches are taken.
    pub adaptations: &'a dyn Fn(&Graph) -> Result<Vec<Adaptation<'a>>, Error>,
    /// How it is trained, which no text depends on.
    pub update: UpdateSpec<'a>,
    /// The layout of what is trained.
    pub layout: &'a Layout,
}

impl<'a> Parts<'a> {
    fn adaptations(&self, graph: &Graph) -> Result<Vec<Adaptation<'a>>, Error> {
        self.trained.as_ref().map_or(Ok(Vec::new()), |trained| (trained.adaptations)(graph))
    }
}

/// Compiles what writes texts.
///
/// # Errors
/// A model that does not score next tokens, or whose adaptations have no targets or others than those that are trained.
pub fn compile(parts: Parts) -> Result<Writer, Error> {
    let tokens = parts.feeds.inputs.iter().find(|binding| binding.field == "input_ids");
    let fixed = tokens.map(|binding| fixed_input(parts.base, &binding.input)).unwrap_or_default();
    // Caches of an encoder are filled by no step of the decoder.
    let any_shape =
        fixed == FixedInput::default() && parts.backend.dialect().reads_any_graph() && parts.start.is_none();
    let cached = if any_shape { with_caches(&parts) } else { None };
    let (made, feeds, caches) = match cached {
        Some(found) => found,
        None => {
            let adaptations = parts.adaptations(parts.base)?;
            let made = made(&parts, parts.base, &adaptations, parts.caches, &[])?;
            if !is_as_trained(&parts, &made) {
                let why = "the graph that writes texts has other parameters than those that are trained";
                return Err(PassError::Unsuitable(why.into()).into());
            }
            (made, parts.feeds.clone(), Vec::new())
        }
    };
    let cut = parts
        .start
        .and_then(|_| cut(&made.graph, &read(&feeds), &made.theta.iter().map(String::as_str).collect::<Vec<_>>()));
    let (graph, encoder) = match cut {
        Some(Cut { first, rest, values, by_rows }) => (rest, Some(Reading { graph: first, values, by_rows })),
        None => (made.graph, None),
    };
    let most = fixed.len.or_else(|| positions(parts.base)).unwrap_or(usize::MAX);
    let pad = match fixed.len {
        Some(len) => PadTo { multiple: 1, min: len, max: len, rows: 0 },
        None => PadTo { multiple: parts.multiple, min: 1, max: most, rows: 0 },
    };
    let mut ends = parts.ends;
    ends.extend(special(&parts.settings.stop_strings, &parts.tokenizer));
    Ok(Writer {
        theta: made.theta,
        graph,
        encoder,
        ports: DecoderPorts {
            feeds,
            at: made.at,
            logits: made.logits,
            caches,
            pad,
            pad_id: parts.tokenizer.pad_id(),
            fixed_rows: fixed.rows,
        },
        settings: parts.settings,
        ends,
        tokenizer: parts.tokenizer,
        rows: parts.rows,
        start: parts.start,
    })
}

/// The inputs of an encoder.
fn read(feeds: &Feeds) -> Vec<&str> {
    feeds.inputs.iter().filter(|b| FIELDS.contains(&b.made_of())).map(|b| b.input.as_str()).collect()
}

/// Tokens of a row at most, by the model's tables of positions; none where it has none.
fn positions(graph: &Graph) -> Option<usize> {
    input_limits(graph)?.positions.iter().map(|table| table.usable).min()
}

/// The ids of those texts that are special tokens, which no decoded text has in it.
fn special(texts: &[String], tokenizer: &Tokenizer) -> Vec<i64> {
    let special = tokenizer.special_ids();
    let ids = texts.iter().filter_map(|text| tokenizer.token(text).ok());
    ids.filter(|id| special.contains(id)).collect()
}

/// The writer that uses the model's caches, where it has any, and can be trained with them as without.
fn with_caches(parts: &Parts) -> Option<(lorac_passes::Writer, Feeds, Vec<CachePair>)> {
    let (base, feeds) = if !parts.caches.switches.is_empty() {
        let (base, feeds) = switched_on(parts)?;
        (Some(base), feeds)
    } else if parts.caches.inputs.is_empty() {
        let base = readable(&with_caches_of(parts.source?)?, &[]).ok()?;
        let feeds = feeds(&base).ok()?;
        (Some(base), feeds)
    } else {
        (None, parts.feeds.clone())
    };
    let base = base.as_ref().unwrap_or(parts.base);
    let pairs = pairs(base, &feeds)?;
    let adaptations = parts.adaptations(base).ok()?;
    let caches = caches(base, &feeds);
    let kept: Vec<String> = pairs.iter().map(|pair| pair.output.clone()).collect();
    let made = made(parts, base, &adaptations, &caches, &kept).ok()?;
    is_as_trained(parts, &made).then_some((made, feeds, pairs))
}

/// Whether a writer takes what is trained.
fn is_as_trained(parts: &Parts, made: &lorac_passes::Writer) -> bool {
    parts.trained.as_ref().is_none_or(|trained| *trained.layout == made.layout)
}

/// The graph in which the branch with caches is taken, and its inputs.
fn switched_on(parts: &Parts) -> Option<(Graph, Feeds)> {
    let mut graph = readable(&parts.model.graph, &parts.model.functions).ok()?;
    name_fields(&mut graph, parts.names).ok()?;
    let all = caches(&graph, &feeds(&graph).ok()?);
    all.switch_on(&mut graph).ok()?;
    let feeds = feeds(&graph).ok()?;
    Some((graph, feeds))
}

/// The outputs that fill a model's caches; none where not every cache has one.
fn pairs(graph: &Graph, feeds: &Feeds) -> Option<Vec<CachePair>> {
    let outputs: Vec<String> = graph.outputs().iter().map(|v| graph.name_of(*v)).collect();
    let rest = |name: &str, begins: [&str; 2]| {
        begins.iter().find_map(|begin| name.strip_prefix(begin)).map(|rest| rest.trim_matches(['.', '_']).to_string())
    };
    let pair = |input: &str| {
        let of = rest(input, ["past_key_values", "past"])?;
        let fills = |name: &&String| rest(name, ["present_key_values", "present"]).as_ref() == Some(&of);
        Some(CachePair { input: input.into(), output: outputs.iter().find(fills)?.clone() })
    };
    let pairs: Option<Vec<CachePair>> = feeds.caches().map(pair).collect();
    pairs.filter(|pairs| !pairs.is_empty())
}

/// The graph that scores next tokens, over a base, with the outputs `kept` beside them.
fn made(
    parts: &Parts,
    base: &Graph,
    adaptations: &[Adaptation],
    caches: &Caches,
    kept: &[String],
) -> Result<lorac_passes::Writer, PassError> {
    let usual = AdamW::default();
    let spec = TrainingSpec {
        adaptations,
        objective: parts.objective,
        update: parts.trained.as_ref().map_or(UpdateSpec::of(&usual), |trained| trained.update),
        dialect: parts.backend.dialect(),
        tokens: None,
        caches: caches.clone(),
        packed: false,
    };
    writer(base, &spec, kept, &mut |_| {})
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pairs_of(inputs: &str, outputs: &str) -> Option<Vec<(String, String)>> {
        let body: String = outputs.split(", ").map(|name| format!("{name} = Relu(%x) : f32[B,S,4]\n")).collect();
        let text = format!("graph g(%input_ids: i64[B,S], %x: f32[B,S,4], {inputs}) -> {outputs} {{ {body} }}");
        let mut graph = lorac_ir::parse(&text).expect("parses");
        graph.aliases.insert("attention_mask".into(), "x".into());
        let feeds = feeds(&graph).expect("known inputs");
        Some(pairs(&graph, &feeds)?.into_iter().map(|pair| (pair.input, pair.output)).collect())
    }

    #[test]
    fn an_encoder_reads_its_mask_of_pairs() {
        let inputs = "%input_ids: i64[B,S], %attention_mask: f32[B,1,S,S], %decoder_input_ids: i64[B,T]";
        let graph = lorac_ir::parse(&format!("graph g({inputs}) {{ }}")).expect("parses");
        let feeds = feeds(&graph).expect("known inputs");
        assert_eq!(read(&feeds), ["input_ids", "attention_mask"]);
        assert_eq!(read(&feeds.seeing_all()), ["input_ids", "attention_mask"]);
    }

    /// As OPT has it: the first two rows of the table belong to no token.
    #[test]
    fn rows_of_positions_that_no_token_has_are_no_room() {
        let text = r#"graph opt(%input_ids: i64[B,S], %attention_mask: i64[B,S]) -> %y {
            %words = weight "words" f32[9,1] = [0, 1, 2, 3, 4, 5, 6, 7, 8]
            %places = weight "places" f32[66,1]
            %one = weight "one" i64[] = [1]
            %off = weight "off" i64[] = [2]
            %w = Gather(%words, %input_ids) : f32[B,S,1]
            %sum = CumSum(%attention_mask, %one) : i64[B,S]
            %own = Mul(%sum, %attention_mask) : i64[B,S]
            %at = Sub(%own, %one) : i64[B,S]
            %p = Add(%at, %off) : i64[B,S]
            %q = Gather(%places, %p) : f32[B,S,1]
            %y = Add(%w, %q) : f32[B,S,1]
        }"#;
        assert_eq!(positions(&lorac_ir::parse(text).expect("parses")), Some(64));
    }

    #[test]
    fn caches_are_filled_by_outputs_of_their_names() {
        let cache = |name: &str| format!("%{name}: f32[B,2,P,4]");
        for (input, output) in [
            ("past_key_values.0.key", "present.0.key"),
            ("past_key_values_key_0", "present_key_values_key_0"),
            ("past_0", "present_0"),
        ] {
            let found = pairs_of(&cache(input), &format!("%logits, %{output}"));
            assert_eq!(found, Some(vec![(input.to_string(), output.to_string())]));
        }
        assert_eq!(pairs_of(&cache("past_0"), "%logits, %present_1"), None);
        let two = [cache("past_0"), cache("past_1")].join(", ");
        assert_eq!(pairs_of(&two, "%logits, %present_0"), None);
    }
}
