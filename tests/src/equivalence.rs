//! What a graph computes before a pass and after it, in f64 on random inputs.

use lorac::ir::{DType, Dim, Graph, Tensor, ValueId};
use lorac::ops::{Array, Random, array, evaluate};
use lorac::passes::{
    Delta, DeltaForm, Init, Inserted, Layout, Method, ParamValues, PassError, THETA, dropout, fold_all, rewrite,
};

/// What a method put into a graph.
#[derive(Debug)]
pub struct Adapted {
    /// The method.
    pub method: Box<dyn Method>,
    /// What it inserted.
    pub inserted: Inserted,
}

/// Arrays by the names of inputs.
type Feeds = Vec<(String, Array)>;

/// Fails unless every output of `before` has its value in `after`. Inputs that are new hold what a method says that they
/// begin with, or zeros, so that an adaptation is none; `theta` holds what the inputs that it replaces held.
///
/// # Errors
/// The first output that differs, and what cannot be evaluated.
pub fn computes_the_same(before: &Graph, after: &Graph, adapted: Option<&Adapted>) -> Result<(), String> {
    let feeds = random_feeds(before)?;
    let mut later = Feeds::new();
    let params = adapted.map_or(&[][..], |adapted| &adapted.inserted.params);
    let begin = |name: &str| match &params.iter().find(|p| p.name == name)?.init {
        Init::Given(tensor) => array(tensor),
        _ => None,
    };
    for &input in after.inputs() {
        let name = after.name_of(input);
        let given = feeds.iter().find(|(n, _)| *n == name).map(|(_, a)| a.clone());
        let fresh = || -> Result<Array, String> {
            let dims = dims(after, input)?;
            let gone: Vec<f64> =
                feeds.iter().filter(|(n, _)| after.find(n).is_none()).flat_map(|(_, a)| a.iter().copied()).collect();
            match name == THETA {
                true => Array::from_shape_vec(dims, gone).map_err(|e| format!("theta: {e}")),
                false => Ok(begin(&name)
                    .or_else(|| weight(before, name.trim_end_matches(".trained")))
                    .unwrap_or_else(|| Array::zeros(dims))),
            }
        };
        later.push((name.clone(), given.map_or_else(fresh, Ok)?));
    }
    // A Cast rounds, the rest is f64.
    let tolerance = if has_halves(after) { 1e-3 } else { 1e-12 };
    same(before, &feeds, after, &later, tolerance)
}

/// Fails unless `after`, with random values of everything that was inserted, computes what `before` computes with its
/// weights folded. Where a training step drops what a branch reads: with noise that drops nothing, and what `before`
/// computes as it is with noise that drops everything.
///
/// # Errors
/// The first output that differs, and what cannot be evaluated or folded.
pub fn computes_the_fold(before: &Graph, after: &Graph, adapted: &Adapted) -> Result<(), String> {
    let feeds = random_feeds(before)?;
    let layout = Layout::of(&adapted.inserted.params);
    let theta: Vec<f32> = Random(2).array(&[layout.len()], -1.0, 1.0).iter().map(|x| *x as f32).collect();
    let mut later = feeds.clone();
    for slot in layout.slots() {
        let tensor = layout.values(&theta).and_then(|v| v.tensor(&slot.name)).map_err(|e| e.to_string())?;
        later.push((slot.name.clone(), array(&tensor).ok_or("no numbers")?));
    }
    let probability = adapted.method.dropout();
    let folded = folded(before, adapted, &layout, &scaled(&theta, adapted, &layout, 1.0 / (1.0 - probability))?)?;
    // A folded weight is rounded, and so is what comes out of a Cast.
    let tolerance = if has_halves(after) { 4e-3 } else { 1e-5 };
    if probability == 0.0 {
        return same(&folded, &feeds, after, &later, tolerance);
    }
    let with_noise = |fraction: f64| -> Result<Feeds, String> {
        let mut later = later.clone();
        for (name, x) in [(dropout::ROWS, 1.0), (dropout::COLUMNS, fraction / dropout::DEPTH as f64)] {
            let input = after.find(name).ok_or(format!("no input `{name}`"))?;
            later.push((name.to_string(), Array::from_elem(dims(after, input)?, x)));
        }
        Ok(later)
    };
    let of =
        |noise: &str, result: Result<(), String>| result.map_err(|e| format!("with noise that drops {noise}: {e}"));
    of("nothing", same(&folded, &feeds, after, &with_noise(31.0 / 32.0)?, tolerance))?;
    of("everything", same(before, &feeds, after, &with_noise(0.0)?, tolerance))
}

/// The theta in which every B is multiplied by `factor`.
fn scaled(theta: &[f32], adapted: &Adapted, layout: &Layout, factor: f64) -> Result<Vec<f32>, String> {
    let mut theta = theta.to_vec();
    for delta in &adapted.inserted.deltas {
        if let DeltaForm::LowRank { b, .. } = &delta.form {
            let slot = layout.slot(b).map_err(|e| e.to_string())?;
            theta[slot.start..slot.start + slot.len()].iter_mut().for_each(|x| *x = (f64::from(*x) * factor) as f32);
        }
    }
    Ok(theta)
}

/// The graph with the deltas in its weights.
fn folded(graph: &Graph, adapted: &Adapted, layout: &Layout, theta: &[f32]) -> Result<Graph, String> {
    let values = layout.values(theta).map_err(|e| e.to_string())?;
    let mut folded = graph.clone();
    let mut done: Vec<ValueId> = Vec::new();
    for delta in &adapted.inserted.deltas {
        let weight = delta.target.weight;
        if !done.contains(&weight) {
            done.push(weight);
            let all = adapted.inserted.deltas.iter().filter(|d| d.target.weight == weight).collect::<Vec<_>>();
            let tensor = fold(graph, adapted, &all, &values)?;
            replace(&mut folded, weight, tensor).map_err(|e| e.to_string())?;
        }
    }
    Ok(folded)
}

/// A weight with its deltas.
fn fold(graph: &Graph, adapted: &Adapted, deltas: &[&Delta], values: &ParamValues) -> Result<Tensor, String> {
    let target = &deltas[0].target;
    let w0 = graph.weight(target.weight).ok_or(format!("no weight `{}`", target.weight_name))?;
    let deltas: Vec<(&dyn Method, &Delta)> = deltas.iter().map(|d| (&*adapted.method, *d)).collect();
    let bytes = fold_all(w0, &deltas, values).map_err(|e| e.to_string())?;
    Tensor::new(w0.dtype(), w0.dims().to_vec(), bytes).map_err(|e| e.to_string())
}

fn replace(graph: &mut Graph, weight: ValueId, tensor: Tensor) -> Result<(), PassError> {
    rewrite(graph, "fold", |e| {
        let name = e.graph().name_of(weight);
        let new = e.weight(&format!("{name}.folded"), tensor);
        e.edit(|p| p.redirect(weight, new.id()));
        Ok(())
    })
}

fn same(before: &Graph, feeds: &Feeds, after: &Graph, later: &Feeds, tolerance: f64) -> Result<(), String> {
    let results = |graph: &Graph, feeds: &Feeds| {
        let feeds: Vec<(&str, Array)> = feeds.iter().map(|(n, a)| (n.as_str(), a.clone())).collect();
        evaluate(graph, &feeds).map_err(|e| e.to_string())
    };
    let (want, got) = (results(before, feeds)?, results(after, later)?);
    for (output, want) in before.outputs().iter().zip(want) {
        let name = before.name_of(*output);
        let at = after.outputs().iter().position(|v| after.name_of(*v) == name);
        let got = at.and_then(|i| got.get(i)).ok_or(format!("the output %{name} is gone"))?;
        let near = |(a, b): (&f64, &f64)| (a - b).abs() <= tolerance * (1.0 + b.abs());
        if got.shape() != want.shape() || !got.iter().zip(&want).all(near) {
            return Err(format!("expected %{name} {want}\nand it is {got}"));
        }
    }
    Ok(())
}

fn has_halves(graph: &Graph) -> bool {
    let mut values = graph.nodes().flat_map(|(_, n)| n.outputs.iter());
    values.any(|v| [DType::F16, DType::BF16].contains(&graph.fact(*v).dtype))
}

fn random_feeds(graph: &Graph) -> Result<Feeds, String> {
    let mut random = Random(1);
    graph.inputs().iter().map(|v| Ok((graph.name_of(*v), data(graph, *v, &mut random)?))).collect()
}

/// A weight of the graph: what an input that takes its place begins with.
fn weight(graph: &Graph, name: &str) -> Option<Array> {
    array(graph.weight(graph.find(name)?)?)
}

fn data(graph: &Graph, input: ValueId, random: &mut Random) -> Result<Array, String> {
    let (dtype, dims) = (graph.fact(input).dtype, dims(graph, input)?);
    Ok(match dtype {
        _ if dtype.is_float() => random.array(&dims, -1.0, 1.0),
        DType::Bool => random.array(&dims, 0.0, 2.0).mapv(f64::floor),
        _ => random.array(&dims, 0.0, 3.0).mapv(f64::floor),
    })
}

/// Named lengths are 2, 3 and 4, by their first letter.
fn dims(graph: &Graph, value: ValueId) -> Result<Vec<usize>, String> {
    let length = |name: &str| name.bytes().next().map(|b| 2 + i64::from(b % 3));
    let fact = graph.fact(value);
    let known = |d: &Dim| d.eval(&length).and_then(|n| usize::try_from(n).ok());
    let dims = fact.dims().and_then(|dims| dims.iter().map(known).collect());
    dims.ok_or(format!("%{} is {fact}: a case has inputs of lengths with names", graph.name_of(value)))
}
