//! Trainable tokens: some rows of an embedding table are trained, the others stay.

use super::{Delta, DeltaForm, Inserted, Method, MethodChoice, Use};
use crate::rewrite::{replace_value, rewrite};
use crate::role::Matrices;
use crate::select::pick;
use crate::tables_and_kernels;
use crate::{FoldError, Group, Init, NoMatch, NoMatches, Param, ParamValues, PassError, Role, Target, roles};
use bytes::Bytes;
use lorac_config::{Check, Problems};
use lorac_ir::{DType, Fact, Graph, NodeId, Tensor, Use as Read, ValueId};
use lorac_ops::{Emit, Val, find};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;

/// Some tokens of the vocabulary alone: their rows of the embedding table (PEFT's trainable tokens)
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Tokens {
    /// Tables, or heads: names, or globs over names. Default: the table that the tokens of the input are looked up in, and
    /// what else holds the same numbers, as a head that is tied to it
    pub targets: Vec<String>,
    /// Numbers of the tokens
    pub ids: Vec<usize>,
    /// Tokens by their texts: as the tokenizer's vocabulary has them, or texts that are one token each
    pub texts: Vec<String>,
}

impl Check for Tokens {
    fn check(&self, problems: &mut Problems) {
        let mut seen = BTreeSet::new();
        for (i, id) in self.ids.iter().enumerate().filter(|(_, id)| !seen.insert(**id)) {
            problems.within("ids", |p| p.report(&i.to_string(), "pipeline::targets", format!("duplicate token {id}")));
        }
        if self.ids.is_empty() && self.texts.is_empty() {
            let message = "no tokens: `ids` lists the numbers of those that are trained, or `texts` their texts";
            problems.report("ids", "pipeline::targets", message);
        }
    }
}

impl Method for Tokens {
    fn patterns(&self) -> &[String] {
        &self.targets
    }

    fn path(&self, pattern: &str) -> String {
        let targets = self.targets.iter().position(|p| p == pattern).map(|i| format!("targets.{i}"));
        let id = || Some(format!("ids.{}", self.ids.iter().position(|id| id.to_string() == pattern)?));
        targets.or_else(id).unwrap_or("targets".into())
    }

    fn select(&self, graph: &Graph) -> Result<Vec<Target>, NoMatches> {
        let all = tables(graph);
        let targets = match self.targets.is_empty() {
            true => of_the_input(graph, &all)?,
            false => {
                let named: Vec<(ValueId, &str)> =
                    all.iter().filter_map(|(weight, _)| Some((*weight, &*graph.value(*weight)?.name))).collect();
                let matching = |pattern: &str| Ok(pick("table of tokens", pattern, &named)?);
                Target::of_patterns(graph, &self.targets, matching)?
            }
        };
        let mut wrong = Vec::new();
        for target in &targets {
            let axis = all.iter().find(|(w, _)| *w == target.weight).map(|(_, axis)| *axis);
            let rows = axis.and_then(|axis| target.dims.get(axis).copied()).unwrap_or_default();
            wrong.extend(self.ids.iter().filter(|id| **id >= rows).map(|id| NoMatch::NoToken {
                pattern: id.to_string(),
                name: target.weight_name.clone(),
                rows,
            }));
        }
        if wrong.is_empty() { Ok(targets) } else { Err(NoMatches(wrong)) }
    }

    fn token_texts(&self) -> &[String] {
        &self.texts
    }

    fn with_tokens(&self, ids: &[usize]) -> Option<MethodChoice> {
        let ids = self.ids.iter().chain(ids).copied().collect();
        Some(Tokens { ids, texts: Vec::new(), targets: self.targets.clone() }.into())
    }

    fn param_count(&self, graph: &Graph, targets: &[Target]) -> usize {
        let all = tables(graph);
        let mut counted: Vec<(&Tensor, usize)> = Vec::new();
        for target in targets {
            let axis = all.iter().find(|(w, _)| *w == target.weight).map(|(_, axis)| *axis);
            let Some(table) = graph.weight(target.weight).zip(axis) else { continue };
            // Copies of one table have one param.
            if !counted.iter().any(|other| is_same_table(*other, table)) {
                counted.push(table);
            }
        }
        let widths = counted.iter().filter_map(|(table, axis)| table.dims().get(1 - axis));
        self.ids.len() * widths.sum::<usize>()
    }

    /// Puts the trained rows in the place of the table's: behind every look-up, or, where the table is read otherwise too,
    /// into the table.
    fn insert(&self, graph: &mut Graph, targets: &[Target], _: Use) -> Result<Inserted, PassError> {
        let mut inserted = Inserted::default();
        // Every table with the position of its param.
        let mut written: Vec<(ValueId, usize, usize)> = Vec::new();
        let all = tables(graph);
        for target in targets {
            let unsuitable = || PassError::Unsuitable(format!("`{}` has no rows of tokens", target.weight_name));
            let axis = all.iter().find(|(w, _)| *w == target.weight).map(|(_, axis)| *axis).ok_or_else(unsuitable)?;
            let table = graph.weight(target.weight).ok_or_else(unsuitable)?;
            let is_copy = |(other, along, _): &&(ValueId, usize, usize)| {
                graph.weight(*other).is_some_and(|other| is_same_table((other, *along), (table, axis)))
            };
            // Copies of one table stay copies.
            let at = match written.iter().find(is_copy) {
                Some((.., at)) => *at,
                None => {
                    let name = format!("{}.tokens", target.weight_name);
                    let rows = rows(table, axis, &self.ids).ok_or_else(unsuitable)?;
                    let dims = rows.dims().to_vec();
                    let (init, group, decay) = (Init::Given(rows), Group::Base, true);
                    inserted.params.push(Param { value: ValueId(0), name, dims, init, group, decay });
                    inserted.params.len() - 1
                }
            };
            written.push((target.weight, axis, at));
            let (param, ids) = (inserted.params[at].name.clone(), self.ids.clone());
            let form = DeltaForm::Rows { param, rows: ids, axis };
            inserted.deltas.push(Delta { target: target.clone(), form });
        }
        let params = &mut inserted.params;
        rewrite(graph, "tokens", |e| {
            for param in params.iter_mut() {
                let dims = [param.dims[0], param.dims[1]];
                param.value = e.input(&param.name, Fact::new(DType::F32, dims)).id();
            }
            for (weight, axis, at) in &written {
                let rows = e.val(params[*at].value);
                match lookups(e.graph(), *weight) {
                    Some(nodes) => nodes.into_iter().for_each(|node| self.behind(e, *weight, node, rows)),
                    None => self.within(e, *weight, *axis, rows),
                }
            }
            Ok(())
        })?;
        Ok(inserted)
    }

    fn fold(&self, delta: &Delta, w0: &Tensor, values: &ParamValues) -> Result<Bytes, FoldError> {
        match &delta.form {
            DeltaForm::Rows { param, rows, axis } => fold(&delta.target, w0, values.get(param)?, rows, *axis),
            _ => Err(FoldError::Foreign { name: delta.target.name() }),
        }
    }
}

impl Tokens {
    /// What a look-up gives, with the trained rows where tokens are theirs.
    fn behind<'e, 'g>(&self, e: &'e Emit<'g>, weight: ValueId, node: NodeId, rows: Val<'e, 'g>) {
        let Some(node) = e.graph().node(node) else { return };
        let (Some(ids), Some(y)) = (node.input(1), node.outputs.first()) else { return };
        e.set_source(&node.origin.source);
        let (y, count) = (e.val(*y), e.graph().weight(weight).map_or(0, |t| t.dims()[0]));
        let (mut places, mut is_trained) = (vec![0i64; count], vec![false; count]);
        for (at, id) in self.ids.iter().enumerate() {
            places[*id] = at as i64;
            is_trained[*id] = true;
        }
        let look = |table: Val<'e, 'g>| e.op("Gather", &[table, e.val(ids)], &[("axis", 0i64.into())]);
        let mask = e.weight("", Tensor::vector(&is_trained));
        let trained = look(mask).binary("Unsqueeze", e.ints(&[-1]));
        let place = look(e.weight("", Tensor::vector(&places)));
        let new = e.op("Gather", &[rows, place], &[("axis", 0i64.into())]).cast(y.fact().dtype);
        let mixed = e.op("Where", &[trained, new, y], &[]);
        replace_value(e, y.id(), mixed);
    }

    /// The table with the trained rows.
    fn within(&self, e: &Emit, weight: ValueId, axis: usize, rows: Val) {
        let w = e.val(weight);
        let ids: Vec<i64> = self.ids.iter().map(|id| *id as i64).collect();
        let at = e.ints(&ids).reshape(&[-1, 1]);
        let upright = if axis == 0 { w } else { w.transpose(&[1, 0]) };
        let mixed = e.op("ScatterND", &[upright, at, rows.cast(w.fact().dtype)], &[]);
        let mixed = if axis == 0 { mixed } else { mixed.transpose(&[1, 0]) };
        e.edit(|p| p.redirect(weight, mixed.id()));
    }
}

/// Weights of two axes with a row, or a column, for every token, and which axis the tokens are: tables that are looked up
/// in, and heads.
fn tables(graph: &Graph) -> Vec<(ValueId, usize)> {
    let known = Matrices::of(graph);
    let head = |weight: ValueId| {
        let candidate = known.all.iter().find(|c| c.matrix.weight == weight && c.obstacle.is_none())?;
        let is_head = known.roles.get(&weight).is_some_and(|roles| roles.contains(&Role::Head));
        is_head.then_some(usize::from(!candidate.matrix.transposed))
    };
    let float = graph.weights().filter(|(_, _, t)| t.dims().len() == 2 && t.dtype().is_float());
    float
        .filter_map(|(weight, value, _)| {
            let looked_up = value.uses().iter().any(|u| is_lookup(graph, u));
            Some((weight, if looked_up { 0 } else { head(weight)? }))
        })
        .collect()
}

fn is_lookup(graph: &Graph, u: &Read) -> bool {
    graph.node(u.node).is_some_and(|n| tables_and_kernels::is_lookup(n, u.slot))
}

/// The look-ups of a table that is read by nothing else.
fn lookups(graph: &Graph, weight: ValueId) -> Option<Vec<NodeId>> {
    let uses = graph.value(weight)?.uses();
    let all = !graph.is_output(weight) && uses.iter().all(|u| is_lookup(graph, u));
    all.then(|| uses.iter().map(|u| u.node).collect())
}

/// The table that the tokens of the input are looked up in, and weights that hold the same numbers, as they are or transposed.
fn of_the_input(graph: &Graph, tables: &[(ValueId, usize)]) -> Result<Vec<Target>, NoMatches> {
    let mut found = BTreeSet::new();
    let mut at: Vec<ValueId> = graph.input("input_ids").into_iter().collect();
    while let Some(value) = at.pop() {
        for u in graph.value(value).map(|v| v.uses()).unwrap_or_default() {
            let Some(node) = graph.node(u.node) else { continue };
            match find(&node.op) {
                Some(op) if op.traits.reshapes && u.slot == 0 => at.extend(&node.outputs),
                _ if u.slot == 1 => found.extend(node.input(0).filter(|w| tables.iter().any(|(t, _)| t == w))),
                _ => {}
            }
        }
    }
    let Some(first) = found.first().copied() else {
        let named: Vec<String> = tables.iter().map(|(w, _)| graph.name_of(*w)).collect();
        let why = "the tokens of the input are looked up in none: name it in `targets`".to_string();
        let (what, pattern) = ("table of tokens", "input_ids".to_string());
        return Err(NoMatch::Nothing { what, pattern, nearest: named, why }.into());
    };
    let table = graph.weight(first);
    let is_copy = |w: ValueId, axis: usize| {
        table.zip(graph.weight(w)).is_some_and(|(table, other)| is_same_table((table, 0), (other, axis)))
    };
    let copies = tables.iter().filter(|(w, axis)| *w == first || is_copy(*w, *axis));
    let known = roles(graph);
    let target = |(w, _): &(ValueId, usize)| {
        Target::of_weight(graph, *w, known.get(w).cloned().unwrap_or_default(), "input_ids")
    };
    Ok(copies.map(target).collect())
}

/// Whether two tables hold the same, each with the axis that its tokens are.
fn is_same_table((one, along): (&Tensor, usize), (other, axis): (&Tensor, usize)) -> bool {
    let size = one.dtype().size();
    let [rows, cols] = *one.dims() else { return false };
    if one.dtype() != other.dtype() || one.len() != other.len() || size == 0 {
        return false;
    }
    if along == axis {
        return one.dims() == other.dims() && one.bytes() == other.bytes();
    }
    let (one_bytes, other_bytes) = (one.bytes(), other.bytes());
    let place = |at: usize| at * size..(at + 1) * size;
    *other.dims() == [cols, rows]
        && (0..rows)
            .all(|i| (0..cols).all(|j| one_bytes.get(place(i * cols + j)) == other_bytes.get(place(j * rows + i))))
}

/// Where the elements of tokens' rows are in a weight, row by row.
fn places(dims: &[usize], axis: usize, ids: &[usize]) -> Option<Vec<usize>> {
    let [rows, cols] = *dims else { return None };
    let (count, width) = if axis == 0 { (rows, cols) } else { (cols, rows) };
    let place = |id: usize, j: usize| if axis == 0 { id * cols + j } else { j * cols + id };
    let fits = ids.iter().all(|id| *id < count);
    fits.then(|| ids.iter().flat_map(|id| (0..width).map(move |j| place(*id, j))).collect())
}

/// The rows of tokens, `[tokens, width]`, in f32.
fn rows(table: &Tensor, axis: usize, ids: &[usize]) -> Option<Tensor> {
    let (size, places) = (table.dtype().size(), places(table.dims(), axis, ids)?);
    let width = places.len() / ids.len().max(1);
    let mut bytes = Vec::with_capacity(places.len() * size);
    for at in places {
        bytes.extend_from_slice(table.bytes().get(at * size..(at + 1) * size)?);
    }
    let rows = Tensor::new(table.dtype(), vec![ids.len(), width], bytes.into()).ok()?.to_f64()?;
    Tensor::from_f64(DType::F32, &[ids.len(), width], &rows)
}

/// The bytes of a table with other rows: those of the rest stay.
fn fold(target: &Target, w0: &Tensor, values: &[f32], ids: &[usize], axis: usize) -> Result<Bytes, FoldError> {
    let (name, dtype) = (target.name(), w0.dtype());
    let at = places(w0.dims(), axis, ids).unwrap_or_default();
    if at.len() != values.len() {
        return Err(FoldError::Length { name, want: at.len(), got: values.len() });
    }
    let wide: Vec<f64> = values.iter().copied().map(f64::from).collect();
    let unfit = FoldError::DType { name: name.clone(), dtype };
    let new = Tensor::from_f64(dtype, &[wide.len()], &wide).filter(|_| dtype.is_float()).ok_or(unfit)?;
    if new.to_f64().is_none_or(|values| values.iter().any(|x| !x.is_finite())) {
        return Err(FoldError::NotFinite { name });
    }
    let (mut bytes, size) = (w0.bytes().to_vec(), dtype.size());
    for (from, to) in at.into_iter().enumerate() {
        bytes[to * size..(to + 1) * size].copy_from_slice(&new.bytes()[from * size..(from + 1) * size]);
    }
    Ok(bytes.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// More tokens than the table is wide, and fewer; a head that is tied to it has the same rows.
    #[test]
    fn rows_count_once_and_with_their_width() {
        let graph = |vocabulary: usize, width: usize| {
            let numbers = |n: usize| (0..n).map(|i| i.to_string()).collect::<Vec<_>>().join(", ");
            let (v, w, all) = (vocabulary, width, numbers(vocabulary * width));
            let text = format!(
                "graph g(%input_ids: i64[N]) -> %y {{
                    %t = weight \"table\" f32[{v},{w}] = [{all}]
                    %h = weight \"head\" f32[{v},{w}] = [{all}]
                    %x = Gather(%t, %input_ids) : f32[N,{w}]
                    %y = Gemm(%x, %h, transB=1) : f32[N,{v}]
                }}"
            );
            lorac_ir::parse(&text).expect("parses")
        };
        let tokens = Tokens { ids: vec![0, 2], ..Tokens::default() };
        for (vocabulary, width) in [(5, 3), (3, 5)] {
            let mut graph = graph(vocabulary, width);
            let targets = tokens.select(&graph).expect("selects");
            let count = tokens.param_count(&graph, &targets);
            let inserted = tokens.insert(&mut graph, &targets, Use::Verify).expect("fits");
            assert_eq!((count, inserted.deltas.len()), (2 * width, 2), "{vocabulary} x {width}");
            assert_eq!(count, inserted.params.iter().map(Param::len).sum::<usize>());
        }
    }
}
