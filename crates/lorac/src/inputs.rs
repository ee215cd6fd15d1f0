//! What a model's inputs are fed with, by the names that exporters give them.

use lorac_ir::{Dim, Fact, Graph};
use lorac_passes::{Caches, PassError, empty_cache};
use lorac_train::{Binding, Feeds, ZeroInput};

/// Inputs that take a field of the batch of the same name.
const FIELDS: [&str; 4] = ["input_ids", "attention_mask", "token_type_ids", "position_ids"];

/// The first dimension of the tokens.
fn batch(graph: &Graph) -> Option<Dim> {
    graph.find("input_ids").and_then(|v| graph.fact(v).dims()?.first().copied())
}

/// The input that chooses between a branch with and one without a cache.
const SWITCH: &str = "use_cache_branch";

/// The caches among the feeds of a graph.
pub fn caches(graph: &Graph, feeds: &Feeds) -> Caches {
    let switches = feeds.constants.iter().filter(|c| c.name == SWITCH).map(|c| c.name.clone()).collect();
    Caches { inputs: feeds.caches().map(String::from).collect(), switches, batch: batch(graph) }
}

/// The inputs that take a batch, and those that take the same every time: caches of earlier tokens, which are empty,
/// and the switch of a graph that has a branch with and one without a cache.
pub fn feeds(graph: &Graph) -> Result<Feeds, PassError> {
    let mut feeds = Feeds::default();
    let batch = batch(graph);
    for &id in graph.inputs() {
        let (name, fact) = (graph.name_of(id), graph.fact(id));
        match name.as_str() {
            field if FIELDS.contains(&field) => {
                feeds.inputs.push(Binding { field: name.clone(), input: name, dtype: fact.dtype });
            }
            SWITCH => {
                let dims = fact.dims().map(<[Dim]>::to_vec).unwrap_or_default();
                let dims = dims.into_iter().map(|d| d.known().unwrap_or(1).max(1).into()).collect();
                feeds.constants.push(ZeroInput { name, dtype: fact.dtype, dims, batch: None });
            }
            _ if name.starts_with("past") => feeds.constants.push(cache(name, &fact, batch)?),
            _ => {
                let known = FIELDS.join(", ");
                let why = format!("the input `{name}` {fact} is none of {known}, past_key_values.* and {SWITCH}");
                return Err(PassError::Unsuitable(why));
            }
        }
    }
    match feeds.inputs.iter().any(|b| b.field == "input_ids") {
        true => Ok(feeds),
        false => Err(PassError::Unsuitable("the model has no input `input_ids`".into())),
    }
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
    fn other_inputs_are_named() {
        let error = of("%input_ids: i64[B,S], %pixels: f32[B,3]").expect_err("unknown").to_string();
        assert!(error.contains("`pixels` f32[B,3]"), "{error}");
        assert!(of("%tokens: i64[B,S]").is_err());
        let error = of("%input_ids: i64[B,S], %past.0: f32[B,2,7,4]").expect_err("full").to_string();
        assert!(error.contains("`past.0`"), "{error}");
    }
}
