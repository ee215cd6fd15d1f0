//! What a model's inputs are fed with, by the names that exporters give them.

use lorac_config::{Problem, nearest};
use lorac_ir::{Dim, Fact, Graph};
use lorac_models::ModelKind;
use lorac_passes::{Caches, PassError, empty_cache};
use lorac_train::{Binding, CAUSAL_MASK, Feeds, ZeroInput};
use std::collections::BTreeMap;

/// Fields of a batch, each for an input of the same name, or of one that a pipeline gives (`data.inputs`).
pub const FIELDS: [&str; 4] = ["input_ids", "attention_mask", "token_type_ids", "position_ids"];

/// Fields of the text that a decoder writes, of a model with an encoder beside it; each for an input of the same name.
pub const DECODER_FIELDS: [&str; 2] = ["decoder_input_ids", "decoder_attention_mask"];

/// The input that is a switch between a graph with and one without a cache.
const SWITCH: &str = "use_cache_branch";

/// The first dimension of the tokens.
fn batch(graph: &Graph) -> Option<Dim> {
    graph.input("input_ids").and_then(|v| graph.fact(v).dims()?.first().copied())
}

/// The caches among the feeds of a graph.
pub fn caches(graph: &Graph, feeds: &Feeds) -> Caches {
    let switches = feeds.constants.iter().filter(|c| c.name == SWITCH).map(|c| c.name.clone()).collect();
    Caches { inputs: feeds.caches().map(String::from).collect(), switches, batch: batch(graph) }
}

/// Notes what the inputs of a graph stand for, by field, where their names do not say it.
///
/// # Errors
/// Names of no input, and inputs that stand for nothing; each with the path of its key, and what it may have been.
pub fn name_fields(graph: &mut Graph, names: &BTreeMap<String, String>) -> Result<(), Vec<Problem>> {
    let inputs: Vec<String> = graph.inputs().iter().map(|id| graph.name_of(*id)).collect();
    let problem = |path: String, message, help| Problem { path, code: "pipeline::inputs", message, help };
    let mut problems = Vec::new();
    for (field, name) in names.iter().filter(|(_, name)| !inputs.contains(name)) {
        let likely = nearest(name, &inputs).into_iter().next();
        let help = likely.map(|name| format!("nearest: {name}"));
        let message = format!("the model has no input `{name}`: its inputs are `{}`", inputs.join("`, `"));
        problems.push(problem(format!("data.inputs.{field}"), message, help));
    }
    if problems.is_empty() {
        graph.aliases.extend(names.clone());
        problems.extend(unknown(graph, &inputs).map(|(message, help)| problem("data.inputs".into(), message, help)));
    }
    if problems.is_empty() { Ok(()) } else { Err(problems) }
}

/// What is said of inputs that stand for nothing, and what they may be.
fn unknown(graph: &Graph, inputs: &[String]) -> Option<(String, Option<String>)> {
    let is_known = |name: &&String| stands_for(graph, name).is_some() || *name == SWITCH || name.starts_with("past");
    let (known, unknown): (Vec<&String>, Vec<&String>) = inputs.iter().partition(is_known);
    if unknown.is_empty() && known.iter().any(|name| stands_for(graph, name) == Some("input_ids")) {
        return None;
    }
    let mut open: Vec<&str> = FIELDS.into_iter().filter(|field| graph.input(field).is_none()).collect();
    let mut offered = Vec::new();
    let mut rest = Vec::new();
    for name in &unknown {
        match likely(name).and_then(|field| open.iter().position(|one| *one == field)) {
            Some(at) => offered.push((open.remove(at), *name)),
            None => rest.push(*name),
        }
    }
    let integers = |name: &&&String| {
        let fact = graph.find(name).map(|id| graph.fact(id));
        fact.is_some_and(|fact| fact.dtype.is_int() && fact.dims().is_some_and(|dims| dims.len() == 2))
    };
    if open.contains(&"input_ids")
        && let Some(name) = rest.iter().find(integers)
    {
        offered.insert(0, ("input_ids", name));
    }
    let pairs: Vec<String> = offered.iter().map(|(field, name)| format!("{field}: {name:?}")).collect();
    let help =
        (!pairs.is_empty()).then(|| format!("say what they stand for, as in data.inputs: {{ {} }}", pairs.join(", ")));
    let fact = |name: &&String| graph.find(name).map_or(String::new(), |id| graph.fact(id).to_string());
    let named: Vec<String> = unknown.iter().map(|name| format!("`{name}` {}", fact(name))).collect();
    let all = format!("{}, past_key_values.* and {SWITCH}", FIELDS.join(", "));
    if unknown.iter().any(|name| name.contains("encoder_hidden_states")) {
        let help = "name the folder that has encoder_model.onnx and decoder_model.onnx, or export both as one file, with the inputs input_ids, \
             attention_mask and decoder_input_ids";
        let message = format!("the input {} comes from an encoder in another file", named.join(", "));
        return Some((message, Some(help.to_string())));
    }
    let message = match &named[..] {
        [] => "the model has no input `input_ids`".to_string(),
        [one] => format!("the input {one} is none of {all}"),
        more => format!("the inputs {} are none of {all}", more.join(", ")),
    };
    Some((message, help))
}

/// The field that an input of this name takes.
fn stands_for(graph: &Graph, name: &str) -> Option<&'static str> {
    FIELDS
        .into_iter()
        .chain(DECODER_FIELDS)
        .find(|field| graph.aliases.get(*field).map_or(*field, String::as_str) == name)
}

/// The field that a name reminds of: `serving_default_attention_mask:0`.
fn likely(name: &str) -> Option<&'static str> {
    let name = name.to_lowercase();
    let has = |words: &[&str]| words.iter().any(|word| name.contains(word));
    match () {
        // What these are offered for is known by its name alone.
        () if has(&["decoder", "encoder"]) => None,
        () if has(&["mask"]) => Some("attention_mask"),
        () if has(&["type", "segment"]) => Some("token_type_ids"),
        () if has(&["position"]) => Some("position_ids"),
        () if has(&["ids", "tokens", "word"]) => Some("input_ids"),
        () => None,
    }
}

/// The inputs that take a batch, and those that take the same every time: caches of earlier tokens, which are empty,
/// and the switch of a graph that has a branch with and one without a cache.
pub fn feeds(graph: &Graph) -> Result<Feeds, PassError> {
    let mut feeds = Feeds::default();
    let batch = batch(graph);
    for &id in graph.inputs() {
        let (name, fact) = (graph.name_of(id), graph.fact(id));
        match stands_for(graph, &name) {
            // Of a decoder: where what follows is seen, `seeing` says so.
            Some("attention_mask") if fact.rank() == Some(4) => {
                feeds.inputs.push(Binding { field: CAUSAL_MASK.into(), input: name, dtype: fact.dtype });
            }
            Some(field) => feeds.inputs.push(Binding { field: field.into(), input: name, dtype: fact.dtype }),
            None if name == SWITCH => {
                let dims = fact.dims().map(<[Dim]>::to_vec).unwrap_or_default();
                let dims = dims.into_iter().map(|d| d.known().unwrap_or(1).max(1).into()).collect();
                feeds.constants.push(ZeroInput { name, dtype: fact.dtype, dims, batch: None });
            }
            None if name.starts_with("past") => feeds.constants.push(cache(name, &fact, batch)?),
            None => {}
        }
    }
    let inputs: Vec<String> = graph.inputs().iter().map(|id| graph.name_of(*id)).collect();
    match unknown(graph, &inputs) {
        Some((why, _)) => Err(PassError::Unsuitable(why)),
        None => Ok(feeds),
    }
}

/// The feeds of a model, whose mask of pairs of tokens hides what follows a token where the task is to tell that (`is_causal`), and
/// where caches or the configuration show the model to be a decoder. What is read for a decoder beside it is seen whole.
pub(crate) fn seeing(feeds: Feeds, is_causal: bool, kind: Option<&ModelKind>) -> Feeds {
    let reads_for_another = feeds.inputs.iter().any(|binding| binding.field == DECODER_FIELDS[0]);
    let is_decoder = !feeds.constants.is_empty() || kind.is_some_and(|kind| kind.is_decoder);
    if (is_causal || is_decoder) && !reads_for_another { feeds } else { feeds.seeing_all() }
}

/// An empty cache: as [`empty_cache`] says, and what is still open in it is as long as the batch.
fn cache(name: String, fact: &Fact, batch: Option<Dim>) -> Result<ZeroInput, PassError> {
    let dims = empty_cache(fact, batch).filter(|d| d.contains(&Dim::Known(0))).ok_or_else(|| {
        let why = format!("the cache `{name}` {fact} cannot be empty: no dimension but the batch is open");
        PassError::Unsuitable(why)
    })?;
    let open = |d: Dim| if d.known().is_none() && d.name().is_none() { Dim::named("batch") } else { d };
    let dims: Vec<Dim> = dims.into_iter().map(open).collect();
    Ok(ZeroInput { name, dtype: fact.dtype, batch: dims.iter().find_map(|d| d.name()), dims })
}

#[cfg(test)]
mod tests {
    use super::*;
    use lorac_ir::DType;

    fn of(inputs: &str) -> Result<Feeds, PassError> {
        feeds(&lorac_ir::parse(&format!("graph g({inputs}) {{ }}")).expect("parses"))
    }

    #[test]
    fn caches_are_empty_and_as_many_as_the_batch() {
        let feeds =
            of("%input_ids: i64[B,S], %attention_mask: i64[B,P+S], %position_ids: i64[B,S], %past_key_values.0.key: \
             f32[B,2,P,4], %use_cache_branch: bool[1]")
            .expect("known inputs");
        let fields: Vec<&str> = feeds.inputs.iter().map(|b| b.field.as_str()).collect();
        assert_eq!(fields, ["input_ids", "attention_mask", "position_ids"]);
        let tensors: Vec<_> = feeds.constants.iter().map(|c| c.tensor(3).expect("fits")).collect();
        assert_eq!((tensors[0].dims(), tensors[1].dims()), ([3, 2, 0, 4].as_slice(), [1].as_slice()));
        assert_eq!(feeds.caches().collect::<Vec<_>>(), ["past_key_values.0.key"]);
        assert_eq!(tensors[1].dtype(), DType::Bool);
    }

    #[test]
    fn the_batch_of_a_cache_need_not_come_first() {
        for (past, want) in [("2,B,12,P,64", [2, 3, 12, 0, 64]), ("2,N,12,P,64", [2, 3, 12, 0, 64])] {
            let feeds = of(&format!("%input_ids: i64[B,S], %past_0: f32[{past}]")).expect("known inputs");
            assert_eq!(feeds.constants[0].tensor(3).expect("fits").dims(), want, "{past}");
            assert_eq!(feeds.caches().collect::<Vec<_>>(), ["past_0"]);
        }
    }

    #[test]
    fn inputs_of_other_names_are_taken_for_what_they_are_said_to_be() {
        let mut graph =
            lorac_ir::parse("graph g(%input.1: i64[N,S], %\"mask:0\": i32[N,S], %past_0: f32[N,2,P,4]) { }")
                .expect("parses");
        let offered = name_fields(&mut graph.clone(), &BTreeMap::new()).expect_err("unknown");
        let [Problem { path, message, help, .. }] = &offered[..] else { panic!("{offered:?}") };
        assert_eq!(path, "data.inputs");
        assert!(
            message.starts_with("the inputs `input.1` i64[N,S], `mask:0` i32[N,S] are none of input_ids, "),
            "{message}"
        );
        let offer =
            "say what they stand for, as in data.inputs: { input_ids: \"input.1\", attention_mask: \"mask:0\" }";
        assert_eq!(help.as_deref(), Some(offer));

        let names = |pairs: &[(&str, &str)]| pairs.iter().map(|(a, b)| (a.to_string(), b.to_string())).collect();
        let wrong = name_fields(&mut graph, &names(&[("input_ids", "input.2")])).expect_err("no such input");
        assert_eq!(wrong[0].path, "data.inputs.input_ids");
        assert_eq!(wrong[0].help.as_deref(), Some("nearest: input.1"));
        name_fields(&mut graph, &names(&[("input_ids", "input.1"), ("attention_mask", "mask:0")])).expect("named");
        let feeds = feeds(&graph).expect("known inputs");
        let bound: Vec<(&str, &str)> = feeds.inputs.iter().map(|b| (b.field.as_str(), b.input.as_str())).collect();
        assert_eq!(bound, [("input_ids", "input.1"), ("attention_mask", "mask:0")]);
        assert_eq!(feeds.constants[0].tensor(3).expect("fits").dims(), [3, 2, 0, 4], "the batch is that of the tokens");
    }

    #[test]
    fn a_mask_of_pairs_hides_what_follows_from_decoders() {
        let kind = |is_decoder| ModelKind { is_decoder, ..ModelKind::default() };
        let mask = "%input_ids: i64[B,S], %attention_mask: f32[B,1,S,S]";
        let past = format!("{mask}, %past_0: f32[B,2,P,4]");
        let pair = format!("{mask}, %decoder_input_ids: i64[B,T]");
        for (inputs, is_causal, kind, hides) in [
            (mask, false, None, false),
            (mask, true, None, true),
            (mask, false, Some(kind(false)), false),
            (mask, false, Some(kind(true)), true),
            (&past, false, None, true),
            (&pair, true, Some(kind(true)), false),
        ] {
            let fed = seeing(of(inputs).expect("known inputs"), is_causal, kind.as_ref());
            assert_eq!(fed.hides_what_follows(), Some(hides), "{inputs}, {is_causal}, {kind:?}");
        }
    }

    #[test]
    fn names_of_exporters_are_recognised_for_an_offer() {
        for (name, field) in [
            ("input_ids:0", Some("input_ids")),
            ("serving_default_input_ids:0", Some("input_ids")),
            ("serving_default_attention_mask:0", Some("attention_mask")),
            ("input_mask", Some("attention_mask")),
            ("segment_ids", Some("token_type_ids")),
            ("input_type_ids", Some("token_type_ids")),
            ("position_ids.1", Some("position_ids")),
            ("onnx::Gather_0", None),
        ] {
            assert_eq!(likely(name), field, "{name}");
        }
    }

    #[test]
    fn other_inputs_are_named() {
        let error = of("%input_ids: i64[B,S], %pixels: f32[B,3]").expect_err("unknown").to_string();
        assert!(error.contains("`pixels` f32[B,3]"), "{error}");
        assert!(of("%tokens: i64[B,S]").is_err());
        let error = of("%input_ids: i64[B,S], %past.0: f32[B,2,7,4]").expect_err("full").to_string();
        assert!(error.contains("`past.0`"), "{error}");
    }
}
