//! Which weight of an export is which of PyTorch's: exporters lose names, transpose matrices, keep copies and fold the norm
//! behind a convolution into it.

use super::{Case, Change};
use crate::relative_error;
use lorac::ir::{Graph, ValueId};
use lorac::ops::{Array, array};

/// Where a weight of PyTorch's is.
#[derive(Clone, Debug, PartialEq)]
pub struct Place {
    /// The weight.
    pub weight: ValueId,
    /// Whether it is stored transposed.
    pub turned: bool,
    /// What each of its channels is multiplied by, where an exporter has folded a norm into it.
    pub factor: Option<Vec<f64>>,
}

impl Place {
    /// A tensor of PyTorch's as the export stores it, and the other way round.
    pub fn turn(&self, x: &Array) -> Array {
        if self.turned { x.t().as_standard_layout().to_owned() } else { x.clone() }
    }
}

/// As far as two weights that are one may be apart.
const SAME: f64 = 1e-6;

/// The weight that PyTorch calls `name`: of those that have the right content, the one whose name is so, else the one that
/// is read as it should be.
///
/// # Errors
/// None, or several alike.
pub fn place(graph: &Graph, case: &Case, name: &str) -> Result<Place, String> {
    let (first, last) = (&case.first[name], &case.last[name]);
    let named = |w: ValueId| {
        let own = graph.name_of(w);
        own == name || own.ends_with(&format!(".{name}"))
    };
    let mut found: Vec<Place> = Vec::new();
    for (weight, _, tensor) in graph.weights().filter(|(_, _, t)| t.dtype().is_float()) {
        let Some(stored) = array(tensor) else { continue };
        let Some(want) = wanted(case, name, first) else {
            // Without merged weights there is the name alone.
            found.extend(named(weight).then_some(Place { weight, turned: false, factor: None }));
            continue;
        };
        let mut seen = stored.shape().to_vec();
        let same = seen == want.shape();
        seen.reverse();
        for turned in
            [(false, same), (true, seen.len() == 2 && seen == want.shape())].iter().filter(|t| t.1).map(|t| t.0)
        {
            let mut at = Place { weight, turned, factor: None };
            let w0 = at.turn(&stored);
            if is_it(case, name, [first, last], &w0, &want) {
                found.push(at);
                break;
            }
            at.factor = norm_folded(case, name, [first, last], &w0, &want);
            if at.factor.is_some() {
                found.push(at);
                break;
            }
        }
    }
    let mut fit: Vec<Place> = found.iter().filter(|p| named(p.weight)).cloned().collect();
    if fit.is_empty() {
        fit = found.iter().filter(|p| is_read_as(graph, p.weight, last)).cloned().collect();
    }
    match fit.as_slice() {
        [one] => Ok(one.clone()),
        [] => Err(format!("`{name}` is not found in the export: nothing has its name and content")),
        many => {
            let names: Vec<String> = many.iter().map(|p| graph.name_of(p.weight)).collect();
            Err(format!("`{name}` may be any of {}", names.join(", ")))
        }
    }
}

/// What the weight is to become.
fn wanted(case: &Case, name: &str, first: &Change) -> Option<Array> {
    match first {
        Change::Whole(w) => Some(w.clone()),
        _ => case.merged.get(name).cloned(),
    }
}

/// Whether merging makes of a weight what PEFT has made of the one that is looked for.
fn is_it(case: &Case, name: &str, [first, last]: [&Change; 2], w0: &Array, want: &Array) -> bool {
    match first {
        Change::Whole(w) => relative_error(w0, w) <= SAME,
        _ => last.merged(case, name, first, w0).is_ok_and(|w| relative_error(&w, want) <= SAME),
    }
}

/// The factors of the channels of a convolution whose weight is the one that is looked for, but for these.
fn norm_folded(case: &Case, name: &str, [first, last]: [&Change; 2], w0: &Array, want: &Array) -> Option<Vec<f64>> {
    let zero = Array::zeros(w0.shape());
    let delta = match last {
        Change::LowRank { magnitude: None, .. } if w0.ndim() > 2 => last.merged(case, name, first, &zero).ok()?,
        _ => return None,
    };
    let plain: Vec<f64> = (want - &delta).iter().copied().collect();
    let folded: Vec<f64> = w0.iter().copied().collect();
    let inner = w0.len() / w0.shape()[0];
    let factor = |(p, f): (&[f64], &[f64])| {
        let of = |x: &[f64], y: &[f64]| x.iter().zip(y).map(|(x, y)| x * y).sum::<f64>();
        let by = of(p, f) / of(p, p);
        let rest: f64 = p.iter().zip(f).map(|(p, f)| (f - by * p).powi(2)).sum();
        (rest.sqrt() <= SAME * of(f, f).sqrt()).then_some(by)
    };
    plain.chunks(inner).zip(folded.chunks(inner)).map(factor).collect()
}

/// Whether a weight is read as what is changed so is: a table is looked up in, a matrix multiplied.
fn is_read_as(graph: &Graph, weight: ValueId, change: &Change) -> bool {
    let mut readers = graph.value(weight).into_iter().flat_map(|v| v.uses()).filter_map(|u| graph.node(u.node));
    match change {
        Change::Lookup { .. } | Change::Rows { .. } => readers.any(|n| &*n.op.name == "Gather"),
        _ => readers.any(|n| &*n.op.name != "Gather"),
    }
}
