//! What an adapter of PEFT's holds of a weight, and what merging makes of it: PEFT's formulas, in f64.

use super::Case;
use lorac::ops::Array;
use serde_json::Value;
use std::collections::BTreeMap;

/// What an adapter does to a weight.
#[derive(Clone, Debug)]
pub enum Change {
    /// `s B A` is added; of a convolution A and B are kernels. With a magnitude it is DoRA.
    LowRank {
        /// `[r, in]`, `[r, in, ..kernel]`.
        a: Array,
        /// `[out, r]`, `[out, r, 1, ..]`.
        b: Array,
        /// `[out]`.
        magnitude: Option<Array>,
    },
    /// `s B A` is added to every matrix of a stack.
    Stack {
        /// `[count, r, last]`, by the last axis of the stack.
        a: Array,
        /// `[count, middle, r]`.
        b: Array,
    },
    /// `s (B A)^T` is added to the table of an embedding.
    Lookup {
        /// `[r, entries]`.
        a: Array,
        /// `[width, r]`.
        b: Array,
    },
    /// It is multiplied (IA3): results by `[out, 1]`, inputs by `[1, in]`.
    Scaled(Array),
    /// Rows take the place of its own (trainable tokens).
    Rows {
        /// `[count, width]`.
        rows: Array,
        /// Their numbers.
        ids: Vec<usize>,
    },
    /// It is another.
    Whole(Array),
}

impl Change {
    /// The changes of an adapter, by names of weights in PyTorch.
    ///
    /// # Errors
    /// A key that is half of something.
    pub fn of_adapter(
        config: &Value,
        tensors: BTreeMap<String, Array>,
        merged: &BTreeMap<String, Array>,
    ) -> Result<BTreeMap<String, Change>, String> {
        let mut all = BTreeMap::new();
        for (key, t) in &tensors {
            let other = |of: &str, end: &str| {
                let name = format!("{of}{end}");
                tensors.get(&name).cloned().ok_or(format!("the adapter has `{key}`, and no `{name}`"))
            };
            let of = |end: &str| key.strip_suffix(end);
            if let Some(path) = of(".lora_A.weight") {
                let magnitude =
                    ["", ".weight"].iter().find_map(|end| other(path, &format!(".lora_magnitude_vector{end}")).ok());
                let b = other(path, ".lora_B.weight")?;
                if is_of_parameter(config, path) {
                    let (name, change) = stack(path, t, &b, merged)?;
                    all.insert(name, change);
                    continue;
                }
                all.insert(format!("{path}.weight"), Change::LowRank { a: t.clone(), b, magnitude });
            } else if let Some(path) = of(".lora_embedding_A") {
                let b = other(path, ".lora_embedding_B")?;
                all.insert(format!("{path}.weight"), Change::Lookup { a: t.clone(), b });
            } else if let Some(path) = of(".ia3_l") {
                all.insert(format!("{path}.weight"), Change::Scaled(t.clone()));
                if t.shape().first() != Some(&1) {
                    all.insert(format!("{path}.bias"), Change::Scaled(t.clone()));
                }
            } else if let Some(path) = of(".trainable_tokens_delta") {
                let path = path.strip_suffix(".token_adapter").unwrap_or(path);
                let ids = ids(config, path).ok_or(format!("the configuration has no tokens of `{path}`"))?;
                all.insert(format!("{path}.weight"), Change::Rows { rows: t.clone(), ids });
            } else if ![".lora_B.weight", ".lora_embedding_B"].iter().any(|end| key.ends_with(end))
                && !key.contains(".lora_magnitude_vector")
            {
                all.insert(key.replace(".base_layer.", "."), Change::Whole(t.clone()));
            }
        }
        Ok(all)
    }

    /// The weight `name` as PEFT merges it: `self` is what was learnt, `first` what it was before.
    ///
    /// # Errors
    /// Factors that do not fit the weight.
    pub fn merged(&self, case: &Case, name: &str, first: &Change, w0: &Array) -> Result<Array, String> {
        let path = name.rsplit_once('.').map_or(name, |(path, _)| path);
        match self {
            Change::Whole(w) => Ok(w.clone()),
            Change::Rows { rows, ids } => {
                let (mut w, width) = (w0.clone(), rows.len() / ids.len().max(1));
                let all = w.as_slice_mut().ok_or("rows")?;
                for (id, row) in ids.iter().zip(rows.iter().copied().collect::<Vec<_>>().chunks(width)) {
                    all.get_mut(id * width..(id + 1) * width).ok_or(format!("no token {id}"))?.copy_from_slice(row);
                }
                Ok(w)
            }
            Change::Scaled(l) => {
                let out = w0.shape().first().copied().unwrap_or(1);
                let inner = w0.len() / out.max(1);
                let by_result = l.shape().first() != Some(&1);
                let fan_in = case.config["fan_in_fan_out"].as_bool().unwrap_or(false) && w0.ndim() == 2;
                let l: Vec<f64> = l.iter().copied().collect();
                let at = |i: usize| if by_result != fan_in { i / inner } else { i % inner };
                let data: Option<Vec<f64>> = w0.iter().enumerate().map(|(i, w)| Some(w * l.get(at(i))?)).collect();
                shaped(w0, data.ok_or(format!("`{name}`: a scale for every row or column"))?)
            }
            Change::Lookup { a, b } => {
                let delta = product(b, a);
                let (rank, width) = (a.shape()[0], b.shape()[0]);
                let (entries, scale) = (a.len() / rank, case.scale(path, rank));
                let data = (0..w0.len()).map(|i| scale * delta[(i % width) * entries + i / width]);
                Ok(w0 + &shaped(w0, data.collect())?)
            }
            Change::Stack { a, b } => {
                let ([count, rank, last], middle) = (dims3(a)?, dims3(b)?[1]);
                let (mut delta, scale) = (Array::zeros(vec![count, middle, last]), case.scale(path, rank));
                for ((at, x), of) in delta.indexed_iter_mut().zip(0..) {
                    let e: usize = of / (middle * last);
                    *x = scale * (0..rank).map(|k| b[[e, at[1], k]] * a[[e, k, at[2]]]).sum::<f64>();
                }
                match delta.shape() == w0.shape() {
                    true => Ok(w0 + &delta),
                    false => Err(format!("B A of `{name}` is {:?}, the stack {:?}", delta.shape(), w0.shape())),
                }
            }
            Change::LowRank { a, b, magnitude } => {
                let w = w0 + &(low_rank(case, path, w0, a, b)? - taken_out(case, path, w0, first)?);
                let Some(magnitude) = magnitude else { return Ok(w) };
                let out = b.shape()[0];
                let turned = w.ndim() == 2 && w.shape()[0] != out || is_fan_in(case, &w, a, b);
                let inner = w.len() / out;
                let of = |i: usize| if turned { i % out } else { i / inner };
                let mut norms = vec![0.0; out];
                w.iter().enumerate().for_each(|(i, x)| norms[of(i)] += x * x);
                let m: Vec<f64> = magnitude.iter().copied().collect();
                let data = w.iter().enumerate().map(|(i, x)| x * m[of(i)] / norms[of(i)].sqrt());
                shaped(&w, data.collect())
            }
        }
    }
}

/// Whether a module's branch is of a parameter of it (PEFT's target_parameters).
fn is_of_parameter(config: &Value, path: &str) -> bool {
    let module = path.trim_end_matches(".base_layer");
    let parameters = config["target_parameters"].as_array().into_iter().flatten().filter_map(Value::as_str);
    let mut modules = parameters.filter_map(|p| Some(p.rsplit_once('.')?.0));
    modules.any(|m| module == m || module.ends_with(&format!(".{m}")))
}

/// The branches of the matrices of a stack: the parameter of the module that has the sides of these factors.
fn stack(path: &str, a: &Array, b: &Array, merged: &BTreeMap<String, Array>) -> Result<(String, Change), String> {
    let module = path.trim_end_matches(".base_layer");
    let fits = |w: &Array| matches!(*w.shape(), [_, p, q] if p == b.shape()[0] && q == a.shape()[1]);
    let of_module = |name: &str| name.rsplit_once('.').is_some_and(|(m, _)| m == module);
    let mut found = merged.iter().filter(|(name, w)| of_module(name) && fits(w));
    let (Some((name, w)), None) = (found.next(), found.next()) else {
        return Err(format!("`{path}` is of no parameter, or of several"));
    };
    let (count, middle) = (w.shape()[0], b.shape()[0]);
    let rank = a.shape()[0] / count;
    let shaped = |x: &Array, dims: [usize; 3]| {
        Array::from_shape_vec(dims.to_vec(), x.iter().copied().collect()).map_err(|e| e.to_string())
    };
    let a = shaped(a, [count, rank, a.shape()[1]])?;
    let b = shaped(b, [middle, rank, count])?.permuted_axes(vec![2, 0, 1]).as_standard_layout().to_owned();
    Ok((name.clone(), Change::Stack { a, b }))
}

fn dims3(x: &Array) -> Result<[usize; 3], String> {
    x.shape().try_into().map_err(|_| format!("{:?} are not three axes", x.shape()))
}

/// `s B A` in the layout of the weight.
fn low_rank(case: &Case, path: &str, w0: &Array, a: &Array, b: &Array) -> Result<Array, String> {
    let (rank, out) = (a.shape()[0], b.shape()[0]);
    let (rows, scale, delta) = (a.len() / rank, case.scale(path, rank), product(b, a));
    if delta.len() != w0.len() {
        return Err(format!("B A of `{path}` has {} elements, its weight {}", delta.len(), w0.len()));
    }
    let at = |i: usize| if is_fan_in(case, w0, a, b) { (i % out) * rows + i / out } else { i };
    shaped(w0, (0..w0.len()).map(|i| scale * delta[at(i)]).collect())
}

/// What initializations from the weight itself leave of it: PEFT takes `s B A` out of it before the training.
fn taken_out(case: &Case, path: &str, w0: &Array, first: &Change) -> Result<Array, String> {
    let init = case.config["init_lora_weights"].as_str().unwrap_or_default();
    let residual = ["pissa", "olora", "corda", "lora_ga"].iter().any(|name| init.starts_with(name));
    match first {
        Change::LowRank { a, b, .. } if residual => low_rank(case, path, w0, a, b),
        _ => Ok(Array::zeros(w0.shape())),
    }
}

/// Whether the weight is stored `[in, out]`, as `Conv1D` keeps it.
fn is_fan_in(case: &Case, w0: &Array, a: &Array, b: &Array) -> bool {
    let fan_in = case.config["fan_in_fan_out"].as_bool().unwrap_or(false);
    w0.ndim() == 2 && (fan_in || w0.shape() != [b.shape()[0], a.len() / a.shape()[0]])
}

/// B A, row-major: A and B as matrices, whatever their further axes.
fn product(b: &Array, a: &Array) -> Vec<f64> {
    let (rank, out) = (a.shape()[0], b.shape()[0]);
    let rows = a.len() / rank;
    let (a, b): (Vec<f64>, Vec<f64>) = (a.iter().copied().collect(), b.iter().copied().collect());
    let one = |o: usize, i: usize| (0..rank).map(|k| b[o * rank + k] * a[k * rows + i]).sum();
    (0..out).flat_map(|o| (0..rows).map(move |i| one(o, i))).collect()
}

fn shaped(like: &Array, data: Vec<f64>) -> Result<Array, String> {
    Array::from_shape_vec(like.shape(), data).map_err(|e| e.to_string())
}

/// The tokens that are trained in a table.
fn ids(config: &Value, path: &str) -> Option<Vec<usize>> {
    let fits = |key: &str| path == key || path.ends_with(&format!(".{key}"));
    let list = |v: &Value| Some(v.as_array()?.iter().filter_map(Value::as_u64).map(|id| id as usize).collect());
    match &config["trainable_token_indices"] {
        Value::Object(tables) => tables.iter().find(|(key, _)| fits(key)).and_then(|(_, v)| list(v)),
        Value::Null => list(&config["token_indices"]),
        all => list(all),
    }
}
