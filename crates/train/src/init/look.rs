//! What a training looks at before its first step: the model on some batches.

use super::initial_theta;
use super::principal::Principal;
use crate::program::compile_graph;
use crate::{Feeds, TrainError};
use lorac_data::{Batch, LABELS};
use lorac_ir::{Graph, Tensor};
use lorac_passes::{
    FactorPair, FactorSource, FedMatrix, FirstLook, GradientsLook, Init, InputsLook, LayoutError, Param, WeightColumns,
    before_the_look,
};
use lorac_runtime::{Backend, Program};
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

/// The inputs that say which tokens of a batch are no padding, and its targets, where -100 does not count.
const MASK: &str = "attention_mask";
const IGNORED: f64 = -100.0;

/// So many batches are looked at, the same ones over and over, where directions do not converge before.
const MOST_LOOKS: usize = 256;

/// Params with what was found about those that begin so: directions of what matrices are fed, whose ranks stay, and of gradients
/// (LoRA-GA, Wang et al. 2024). `seed` is that of the training,
/// each of `batches` comes in slices. What a matrix is fed counts where the batch has a token that its targets do not ignore.
///
/// # Errors
/// What the engine says; fewer tokens in every batch than a rank; what is not finite.
pub fn look(
    backend: &dyn Backend,
    look: &FirstLook,
    params: &[Param],
    seed: u64,
    feeds: &Feeds,
    batches: &[Vec<Batch>],
) -> Result<Vec<Param>, TrainError> {
    let mut found: BTreeMap<String, FactorSource> = BTreeMap::new();
    if let Some(inputs) = &look.inputs {
        let directions = directions_of_inputs(backend, inputs, feeds, batches)?;
        found.extend(directions.into_iter().map(|(a, directions)| (a, FactorSource::Inputs(Some(directions)))));
    }
    if let Some(gradients) = &look.gradients {
        let before = before_the_look(params);
        found.extend(directions(backend, gradients, params, &before, seed, feeds, batches)?);
    }
    Ok(with(params, &found))
}

/// The params with such directions of what matrices are fed, by the names of A, which have their ranks.
#[must_use]
pub fn with_directions(params: &[Param], directions: &BTreeMap<String, Tensor>) -> Vec<Param> {
    let source = |(a, found): (&String, &Tensor)| (a.clone(), FactorSource::Inputs(Some(found.clone())));
    with(params, &directions.iter().map(source).collect())
}

/// The params whose pairs are made of what was found. The two of a pair stay one.
fn with(params: &[Param], found: &BTreeMap<String, FactorSource>) -> Vec<Param> {
    let mut new: HashMap<*const FactorPair, Arc<FactorPair>> = HashMap::new();
    for param in params {
        if let (Init::Factor { pair, .. }, Some(source)) = (&param.init, found.get(&param.name)) {
            let known = FactorPair { source: source.clone(), ..(**pair).clone() };
            new.insert(Arc::as_ptr(pair), Arc::new(known));
        }
    }
    let one = |param: &Param| match &param.init {
        Init::Factor { pair, factor } => {
            let pair = new.get(&Arc::as_ptr(pair)).unwrap_or(pair).clone();
            Param { init: Init::Factor { pair, factor: *factor }, ..param.clone() }
        }
        _ => param.clone(),
    };
    params.iter().map(one).collect()
}

/// Directions `[r, in]` of what matrices are fed by the batches, by the names of A, those in which it varies most first (EVA,
/// Paischer et al. 2024). r is what a matrix got where ranks are shared out, 0 too.
///
/// # Errors
/// What the engine says; fewer tokens in every batch than directions; what is not finite.
pub fn directions_of_inputs(
    backend: &dyn Backend,
    look: &InputsLook,
    feeds: &Feeds,
    batches: &[Vec<Batch>],
) -> Result<BTreeMap<String, Tensor>, TrainError> {
    let mut program = compile_graph(backend, &look.graph, Vec::new())?;
    // Matrices that are fed the same have the same directions.
    let mut all: BTreeMap<&[String], (usize, Option<Principal>)> = BTreeMap::new();
    for matrix in &look.of {
        let (most, _) = all.entry(&matrix.outputs).or_default();
        *most = (*most).max(matrix.most);
    }
    let mut ranks: Vec<usize> = look.of.iter().map(|matrix| matrix.most).collect();
    for batch in batches.iter().cycle().take(MOST_LOOKS.max(batches.len())) {
        let needed = |outputs: &[String]| {
            let of = look.of.iter().zip(&ranks).filter(|(matrix, _)| matrix.outputs == outputs);
            of.map(|(_, rank)| *rank).max().unwrap_or(0)
        };
        let is_done = |(outputs, (_, known)): &(&&[String], &(usize, Option<Principal>))| {
            known.as_ref().is_some_and(|known| known.is_converged(needed(outputs)))
        };
        let wanted: Vec<&[String]> = all.iter().filter(|one| !is_done(one)).map(|(outputs, _)| *outputs).collect();
        if wanted.is_empty() {
            break;
        }
        for group in groups(&wanted, &look.graph, batch) {
            for (outputs, (width, rows)) in rows(program.as_mut(), feeds, batch, &group)? {
                let Some((most, known)) = all.get_mut(outputs) else { continue };
                let known = known.get_or_insert_with(|| Principal::new(*most, width));
                known.add(&rows).ok_or_else(|| not_finite(look, outputs))?;
            }
        }
        let shares = |matrix: &FedMatrix| all.get(&matrix.outputs[..])?.1.as_ref()?.shares();
        if let Some(shares) = look.of.iter().map(shares).collect::<Option<Vec<_>>>() {
            ranks = shared_out(&look.of, &shares);
        }
    }
    let directions = |(matrix, rank): (&FedMatrix, usize)| {
        let known = all.get(&matrix.outputs[..]).and_then(|(_, known)| known.as_ref());
        let few = || TrainError::FewTokens { name: matrix.a.clone(), rank: matrix.most };
        let found = known.and_then(|known| Some((known.width(), known.directions(rank)?)));
        let (width, found) = found.ok_or_else(few)?;
        Ok((matrix.a.clone(), Tensor::from_slice(&[rank, width], &found)?))
    };
    look.of.iter().zip(ranks).map(directions).collect()
}

/// The ranks of matrices. Where they are shared out, as many directions as the ranks of all are kept, those with the largest
/// shares of the variance of what their own matrix is fed.
fn shared_out(of: &[FedMatrix], shares: &[Vec<f64>]) -> Vec<usize> {
    let mut ranks: Vec<usize> = of.iter().map(|matrix| matrix.rank).collect();
    let adaptations: BTreeSet<usize> = of.iter().filter_map(|matrix| matrix.shared_in).collect();
    for adaptation in adaptations {
        let members = || (0..of.len()).filter(|at| of[*at].shared_in == Some(adaptation));
        let budget: usize = members().map(|at| of[at].rank).sum();
        let mut kept: Vec<(f64, usize)> =
            members().flat_map(|at| shares[at].iter().take(of[at].most).map(move |share| (*share, at))).collect();
        kept.sort_by(|(one, _), (other, _)| other.total_cmp(one));
        members().for_each(|at| ranks[at] = 0);
        kept.iter().take(budget).for_each(|(_, at)| ranks[*at] += 1);
    }
    ranks
}

/// Bytes of rows that are held at once.
const HELD: usize = 256 << 20;

/// What matrices are fed, in groups whose rows are held at once.
fn groups<'a>(wanted: &[&'a [String]], graph: &Graph, batch: &[Batch]) -> Vec<Vec<&'a [String]>> {
    let tokens: usize = batch.iter().map(|slice| slice.tokens.max(slice.rows)).sum();
    let width = |name: &String| {
        let known = graph.find(name).and_then(|v| usize::try_from(graph.fact(v).dims()?.last()?.known()?).ok());
        known.unwrap_or(1)
    };
    let mut groups: Vec<Vec<&[String]>> = Vec::new();
    let mut held = 0usize;
    for outputs in wanted {
        let bytes = outputs.iter().map(width).sum::<usize>().saturating_mul(tokens).saturating_mul(4);
        held = held.saturating_add(bytes);
        match groups.last_mut() {
            Some(group) if held <= HELD => group.push(*outputs),
            _ => {
                groups.push(vec![*outputs]);
                held = bytes;
            }
        }
    }
    groups
}

/// Rows that matrices are fed, one behind the other, with how long one is.
type Fed<'a> = BTreeMap<&'a [String], (usize, Vec<f32>)>;

/// The rows of a batch that matrices are fed, as far as they count.
fn rows<'a>(
    program: &mut dyn Program,
    feeds: &Feeds,
    batch: &[Batch],
    wanted: &[&'a [String]],
) -> Result<Fed<'a>, TrainError> {
    let mut rows = Fed::new();
    let names: Vec<&str> = wanted.iter().flat_map(|outputs| outputs.iter()).map(String::as_str).collect();
    for slice in batch {
        let counts = counted(slice);
        let fed = feeds.for_program(&*program, slice)?;
        let fed: Vec<(&str, &Tensor)> = fed.iter().map(|(name, tensor)| (name.as_str(), tensor)).collect();
        let mut values = program.run(&fed, &names)?.into_iter();
        for outputs in wanted {
            for value in values.by_ref().take(outputs.len()) {
                let width = value.dims().last().copied().unwrap_or(1).max(1);
                let (_, rows) = rows.entry(outputs).or_insert_with(|| (width, Vec::new()));
                let value = value.to_vec::<f32>()?;
                let is_counted = |i: usize| match counts.len() == value.len() / width {
                    true => counts.get(i).copied().unwrap_or(true),
                    false => true,
                };
                rows.extend(value.chunks(width).enumerate().filter(|(i, _)| is_counted(*i)).flat_map(|(_, row)| row));
            }
        }
    }
    Ok(rows)
}

fn not_finite(look: &InputsLook, outputs: &[String]) -> TrainError {
    let name = look.of.iter().find(|m| m.outputs == outputs).map_or(String::new(), |m| m.a.clone());
    LayoutError::NotFinite { name }.into()
}

/// Which tokens of a slice count; nothing where it does not say.
fn counted(slice: &Batch) -> Vec<bool> {
    let Some(mask) = slice.get(MASK) else { return Vec::new() };
    let mut counts: Vec<bool> = mask.to_f64().unwrap_or_default().into_iter().map(|x| x > 0.5).collect();
    if let Some(labels) = slice.get(LABELS).filter(|labels| labels.dims() == mask.dims()) {
        let labels = labels.to_f64().unwrap_or_default();
        counts.iter_mut().zip(labels).for_each(|(counts, label)| *counts &= label != IGNORED);
    }
    counts
}

/// The gradients of weights, as means over the batches, by the names of A.
fn directions(
    backend: &dyn Backend,
    look: &GradientsLook,
    params: &[Param],
    before: &[Param],
    seed: u64,
    feeds: &Feeds,
    batches: &[Vec<Batch>],
) -> Result<BTreeMap<String, FactorSource>, TrainError> {
    let gradients = &look.gradients;
    // A new head is what it will be in the training.
    let drawn = initial_theta(before, seed)?;
    let layout = lorac_passes::Layout::of(before);
    let drawn = layout.values(&drawn)?;
    let as_drawn = |p: &Param| match drawn.tensor(&p.name) {
        Ok(value) if value.dims() == &p.dims[..] => Param { init: Init::Given(value), ..p.clone() },
        _ => p.clone(),
    };
    let own: Vec<Param> = gradients.params.iter().map(as_drawn).collect();
    let theta = Tensor::vector(&initial_theta(&own, seed)?);
    let mut program = compile_graph(backend, &gradients.graph, vec![(&gradients.theta, "", theta)])?;
    let mut mean = vec![0.0f64; gradients.layout.len()];
    for batch in batches {
        let (sum, count) = summed(program.as_mut(), look, feeds, batch)?;
        let by = 1.0 / (count.max(1.0) * batches.len() as f64);
        mean.iter_mut().zip(sum).for_each(|(mean, x)| *mean += x * by);
    }
    let mut found = BTreeMap::new();
    for (a, of) in &look.of {
        let slot = gradients.layout.slot(of)?;
        let values: Vec<f32> = mean[slot.start..slot.start + slot.len()].iter().map(|x| *x as f32).collect();
        if values.iter().any(|x| !x.is_finite()) {
            return Err(LayoutError::NotFinite { name: a.clone() }.into());
        }
        let pair = params.iter().find_map(|p| match &p.init {
            Init::Factor { pair, .. } if p.name == *a => Some(pair),
            _ => None,
        });
        let Some(FactorSource::Gradient { columns, .. }) = pair.map(|pair| &pair.source) else { continue };
        let gradient = Tensor::from_slice(&slot.dims, &values)?;
        let columns = WeightColumns { weight: gradient, ..columns.clone() };
        found.insert(a.clone(), FactorSource::Gradient { columns, is_known: true });
    }
    Ok(found)
}

/// The gradient of the summed loss of a batch, and how much counts in it.
fn summed(
    program: &mut dyn Program,
    look: &GradientsLook,
    feeds: &Feeds,
    batch: &[Batch],
) -> Result<(Vec<f64>, f64), TrainError> {
    let (mut sum, mut all) = (vec![0.0f64; look.gradients.layout.len()], 0.0);
    for slice in batch {
        let fed = feeds.for_program(program, slice)?;
        let fed: Vec<(&str, &Tensor)> = fed.iter().map(|(name, tensor)| (name.as_str(), tensor)).collect();
        let out = program.run(&fed, &[&look.gradients.gradient, &look.gradients.count])?;
        let numbers = |at: usize| out.get(at).and_then(Tensor::to_f64).unwrap_or_default();
        let count = numbers(1).first().copied().unwrap_or_default();
        // What the mean of the slice was divided by.
        let weight = count.max(1.0);
        sum.iter_mut().zip(numbers(0)).for_each(|(sum, x)| *sum += x * weight);
        all += count;
    }
    Ok((sum, all))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_largest_shares_get_ranks_and_no_matrix_more_than_its_most() {
        let matrix = |rank: usize, most: usize, shared_in: Option<usize>| {
            let (a, outputs) = (String::new(), Vec::new());
            FedMatrix { a, rank, most, shared_in, outputs }
        };
        let of = [matrix(2, 4, Some(0)), matrix(2, 4, Some(0)), matrix(1, 2, Some(0)), matrix(3, 3, None)];
        let even = vec![0.1; 4];
        let shares = [vec![0.2, 0.1, 0.05, 0.01], vec![0.3, 0.02, 0.01, 0.0], vec![0.9, 0.8, 0.7, 0.6], even];
        // The third one is fed what the others are, and has room for two.
        assert_eq!(shared_out(&of, &shares), [2, 1, 2, 3]);
        assert_eq!(shared_out(&of[3..], &shares[3..]), [3]);
    }
}
