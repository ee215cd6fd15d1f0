//! Made-up inputs of a model.

use crate::error::Error;
use lorac_ir::{DType, Dim, Fact, Graph, Tensor};
use rand::{Rng, SeedableRng};
use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};

/// The most elements that the inputs of one batch may have together.
const MOST: usize = 1 << 25;

/// Inputs by name: reals between -1 and 1, integers small ones (ones for masks). A dimension's name is the number that
/// `dims` gives it, else a small one of its own.
///
/// # Errors
/// A name in `dims` that no input has, an input without a rank, and inputs of more than 2^25 elements.
pub(super) fn random_batch(
    graph: &Graph,
    seed: u64,
    dims: &BTreeMap<String, i64>,
) -> Result<Vec<(String, Tensor)>, Error> {
    let shapes = shapes(graph, dims)?;
    let mut random = rand_chacha::ChaCha8Rng::seed_from_u64(seed);
    let mut batch = Vec::new();
    for (name, dtype, dims) in shapes {
        let count = dims.iter().product();
        let data: Vec<f64> = (0..count)
            .map(|_| match dtype {
                d if d.is_float() => random.random_range(-1.0..1.0),
                DType::Bool => 1.0,
                _ if name.contains("mask") => 1.0,
                _ if name.contains("type") => 0.0,
                _ => f64::from(random.random_range(1..64)),
            })
            .collect();
        let tensor = Tensor::from_f64(dtype, &dims, &data).ok_or_else(|| {
            Error::Usage(format!("the input `{name}` has {dtype} elements, which are not made up: {FILES_ONLY}"))
        })?;
        batch.push((name, tensor));
    }
    Ok(batch)
}

const FILES_ONLY: &str = "`--samples 0` compares the files alone";

/// Every input with its type and shape, none of which is large.
fn shapes(graph: &Graph, given: &BTreeMap<String, i64>) -> Result<Vec<(String, DType, Vec<usize>)>, Error> {
    let facts = || graph.inputs().iter().map(|input| (graph.name_of(*input), graph.fact(*input)));
    let known: BTreeSet<String> =
        facts().flat_map(|(_, f)| f.dims().map(<[Dim]>::to_vec)).flatten().flat_map(names).collect();
    if let Some(name) = given.keys().find(|name| !known.contains(*name)) {
        let known: Vec<String> = known.iter().map(|n| format!("`{n}`")).collect();
        let known = if known.is_empty() { "none has a name".into() } else { format!("there are {}", known.join(", ")) };
        return Err(Error::Usage(format!("`--dim {name}`: no dimension of the inputs is called so; {known}")));
    }
    let mut shapes = Vec::new();
    let mut left = MOST;
    for (name, fact) in facts() {
        let declared = fact.dims().ok_or_else(|| {
            let why = "has no rank, so that nothing can be made up for it";
            Error::Usage(format!("the input `{name}` {fact} {why}: {FILES_ONLY}"))
        })?;
        let dims: Option<Vec<usize>> = declared.iter().map(|d| size(*d, given)).collect();
        let count = dims.iter().flatten().try_fold(1usize, |n, d| n.checked_mul(*d)).filter(|n| *n <= left);
        let (Some(dims), Some(count)) = (dims, count) else { return Err(too_large(&name, &fact, given)) };
        left -= count;
        shapes.push((name, fact.dtype, dims));
    }
    Ok(shapes)
}

/// The size of a dimension; none where no tensor can have it.
fn size(dim: Dim, given: &BTreeMap<String, i64>) -> Option<usize> {
    let own = |name: &str| 2 + name.bytes().map(i64::from).sum::<i64>() % 7;
    let bind = |name: &str| Some(given.get(name).copied().unwrap_or_else(|| own(name)));
    let open = dim.known().is_none() && names(dim).is_empty();
    let n = if open { 3 } else { dim.eval(&bind)? };
    usize::try_from(n.max(1)).ok()
}

/// The names that a dimension is made of.
fn names(dim: Dim) -> BTreeSet<String> {
    let names = RefCell::new(BTreeSet::new());
    dim.eval(&|name| {
        names.borrow_mut().insert(name.to_string());
        Some(1)
    });
    names.into_inner()
}

fn too_large(name: &str, fact: &Fact, given: &BTreeMap<String, i64>) -> Error {
    let dims = fact.dims().unwrap_or_default();
    let largest = dims.iter().max_by_key(|d| size(**d, given).unwrap_or(usize::MAX));
    let advice = match largest.map(|d| (d, names(*d))) {
        Some((dim, names)) if !names.is_empty() => {
            let options: Vec<String> = names.iter().map(|n| format!("`--dim \"{n}=1\"`")).collect();
            format!("its dimension `{dim}` can be given: {}", options.join(" or "))
        }
        Some((dim, _)) => format!("its dimension {dim} is the model's own: {FILES_ONLY}"),
        None => FILES_ONLY.to_string(),
    };
    let (verb, all) = ("would make", "more elements than the");
    Error::Usage(format!("the input `{name}` {fact} {verb} {all} {MOST} that a batch may have; {advice}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(inputs: &str, given: &[(&str, i64)]) -> Result<Vec<(String, Tensor)>, String> {
        let graph = lorac_ir::parse(&format!("graph g({inputs}) {{ }}")).expect("parses");
        let given = given.iter().map(|(n, v)| (n.to_string(), *v)).collect();
        random_batch(&graph, 0, &given).map_err(|e| e.to_string())
    }

    #[test]
    fn names_are_small_numbers_or_those_that_are_given() {
        let batch = of("%x: f32[N,4], %mask: i64[N+1]", &[("N", 5)]).expect("small");
        assert_eq!((batch[0].1.dims(), batch[1].1.dims()), (&[5, 4][..], &[6][..]));
        assert_eq!(batch[1].1.to_f64(), Some(vec![1.0; 6]));
        let own = of("%x: f32[N,4], %y: f32[N,?]", &[]).expect("small");
        assert!((2..9).contains(&own[0].1.dims()[0]) && own[1].1.dims() == [own[0].1.dims()[0], 3]);
        let error = of("%x: f32[N,4]", &[("M", 5)]).expect_err("no such name");
        assert_eq!(error, "`--dim M`: no dimension of the inputs is called so; there are `N`");
    }

    #[test]
    fn absurd_sizes_are_refused_before_there_is_a_tensor() {
        let error = of("%x: f32[1000000,1000000]", &[]).expect_err("static");
        assert!(error.contains("`x` f32[1000000,1000000]") && error.contains("the model's own"), "{error}");
        let error = of("%x: f32[N,N*1000000000]", &[]).expect_err("derived");
        assert!(error.contains("`--dim \"N=1\"`"), "{error}");
        let error = of("%x: f32[batch,3]", &[("batch", 1 << 40)]).expect_err("given");
        assert!(error.contains("`--dim \"batch=1\"`"), "{error}");
        // Each is small, all of them are not.
        let many = (0..5).map(|i| format!("%x{i}: f32[8000000]")).collect::<Vec<_>>().join(", ");
        assert!(of(&many, &[]).expect_err("together").contains("`x4`"));
        let overflow = of("%x: f32[9223372036854775807,9223372036854775807]", &[]).expect_err("overflow");
        assert!(overflow.contains("more elements"), "{overflow}");
    }
}
