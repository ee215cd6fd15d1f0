//! Numbers in the place of what only a run knows: lengths of inputs, and inputs that are one integer or one switch.

use crate::PassError;
use lorac_ir::{DType, Dim, Fact, Graph, Patch, Tensor};
use std::collections::{BTreeMap, BTreeSet};

/// Makes dimensions of the inputs, and inputs that are one integer or one boolean (0 is false), numbers. Such an input
/// goes, and what reads it reads a constant.
///
/// # Errors
/// A name that is neither.
pub fn fix(graph: &mut Graph, numbers: &BTreeMap<String, i64>) -> Result<(), PassError> {
    if numbers.is_empty() {
        return Ok(());
    }
    let mut known = BTreeSet::new();
    let mut patch = Patch::new(graph, "fix");
    let mut bound = Vec::new();
    for &input in graph.inputs() {
        let mut fact = graph.fact(input);
        let name = graph.name_of(input);
        known.extend(fact.dims().into_iter().flatten().filter_map(|d| d.name()));
        let value = |d: &Dim| d.eval(&|name| numbers.get(name).copied()).map_or(*d, Dim::Known);
        fact.shape = fact.shape.map(|dims| dims.iter().map(value).collect());
        let one = is_one(&fact);
        known.extend(one.then(|| name.clone()));
        match numbers.get(&name).filter(|_| one).and_then(|n| constant(&fact, *n)) {
            Some(tensor) => {
                let constant = patch.weight("", tensor);
                patch.redirect(input, constant);
                patch.drop_input(input);
            }
            None => bound.push((input, fact)),
        }
    }
    if let Some(unknown) = numbers.keys().find(|n| !known.contains(*n)) {
        let known: Vec<String> = known.iter().map(|n| format!("`{n}`")).collect();
        let why = format!("`{unknown}` is neither a dimension of an input nor an input of one integer or boolean");
        return Err(PassError::Unsuitable(format!("{why}; there are {}", known.join(", "))));
    }
    patch.apply(graph).map_err(|source| PassError::Patch { pass: "fix".into(), source })?;
    bound.into_iter().for_each(|(input, fact)| graph.set_fact(input, fact));
    Ok(())
}

/// One integer or boolean, as a scalar or as a tensor of one element.
fn is_one(fact: &Fact) -> bool {
    (fact.dtype.is_int() || fact.dtype == DType::Bool) && fact.volume() == Dim::Known(1)
}

fn constant(fact: &Fact, n: i64) -> Option<Tensor> {
    let dims = fact.known_dims()?;
    match fact.dtype {
        DType::I64 => Tensor::from_slice(&dims, &[n]).ok(),
        DType::Bool => Tensor::from_slice(&dims, &[n != 0]).ok(),
        dtype => Tensor::from_f64(dtype, &dims, &[n as f64]),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_integers_and_switches_become_numbers() {
        let text = "graph g(%x: f32[N,S], %n: i64[], %on: bool[1]) -> %y {
            %a = Add(%n, %n) : i64[]
            %b = Not(%on) : bool[1]
            %y = Relu(%x) : f32[N,S]
        }";
        let mut graph = lorac_ir::parse(text).expect("parses");
        let numbers = [("N", 4), ("n", 3), ("on", 1)].map(|(name, n)| (name.to_string(), n));
        fix(&mut graph, &numbers.into_iter().collect()).expect("fixes");
        assert_eq!(graph.inputs().iter().map(|v| graph.fact(*v).to_string()).collect::<Vec<_>>(), ["f32[4,S]"]);
        let constants: Vec<String> = graph.weights().map(|(_, v, _)| v.fact.to_string()).collect();
        assert_eq!(constants, ["i64[]", "bool[1]"]);
        let error = fix(&mut graph, &BTreeMap::from([("T".to_string(), 1)])).expect_err("no such name").to_string();
        assert!(
            error.ends_with(
                "`T` is neither a dimension of an input nor an input of one integer or boolean; there are `S`"
            ),
            "{error}"
        );
    }
}
