//! Matrices whose results, or inputs, are multiplied by vectors: how that is written and what it makes of the bytes.

use super::branch::{levels, producers_first};
use crate::product_bias::{added_bias, inner_bias};
use crate::rewrite::{replace_value, rewrite};
use crate::{FoldError, Matrix, PassError, Target, group_by_weight};
use bytes::Bytes;
use lorac_ir::{Attr, DType, Fact, Graph, NodeId, Tensor, ValueId};
use lorac_ops::{Emit, Val};
use std::collections::{BTreeSet, HashMap};

/// A vector that scales.
pub(super) struct Scales<'a> {
    /// The matrix.
    pub(super) target: &'a Target,
    /// Whether what it is fed is scaled, and not what it computes.
    pub(super) inputs: bool,
    /// Name of the vector.
    pub(super) param: String,
}

/// What is added to what a matrix computes.
pub(super) enum Bias {
    /// Nothing, or what stays as it is.
    None,
    /// A vector that nothing else reads: it is scaled with the rest.
    Own(ValueId),
    /// Something inside of the product that others read too, by its name: no scale fits between.
    Foreign(String),
}

/// The bias of a matrix.
pub(super) fn bias_of(graph: &Graph, matrix: &Matrix) -> Bias {
    let adders: Vec<Option<(ValueId, NodeId)>> = matrix.products.iter().map(|p| adder(graph, *p)).collect();
    let biases: BTreeSet<ValueId> = adders.iter().flatten().map(|(bias, _)| *bias).collect();
    let nodes: BTreeSet<NodeId> = adders.iter().flatten().map(|(_, node)| *node).collect();
    let inside = matrix.products.iter().find_map(|p| inner_bias(graph.node(*p)?));
    if let (true, Some(bias)) = (adders.iter().all(Option::is_some), biases.first())
        && biases.len() == 1
        && is_vector(graph, *bias, matrix.cols)
        && graph.value(*bias).is_some_and(|v| v.uses().iter().all(|u| nodes.contains(&u.node)))
        && !graph.is_output(*bias)
    {
        return Bias::Own(*bias);
    }
    match inside {
        Some(bias) if !is_zero(graph, bias) => Bias::Foreign(graph.name_of(bias)),
        _ => Bias::None,
    }
}

/// The bias that a product takes itself or that is all that is added to it, and the node that adds it.
fn adder(graph: &Graph, product: NodeId) -> Option<(ValueId, NodeId)> {
    match inner_bias(graph.node(product)?) {
        Some(bias) => Some((bias, product)),
        None => added_bias(graph, product),
    }
}

fn is_vector(graph: &Graph, bias: ValueId, width: usize) -> bool {
    graph.weight(bias).is_some_and(|t| t.dims() == [width] && t.dtype().is_float())
}

fn is_zero(graph: &Graph, weight: ValueId) -> bool {
    graph.weight(weight).and_then(Tensor::to_f64).is_some_and(|values| values.iter().all(|x| *x == 0.0))
}

/// Writes the scales. Returns their inputs.
pub(super) fn insert(graph: &mut Graph, scales: &[Scales]) -> Result<Vec<ValueId>, PassError> {
    let inputs = rewrite(graph, "ia3", |e| {
        let input = |s: &Scales| {
            let width = if s.inputs { s.target.rows() } else { s.target.cols() };
            e.input(&s.param, Fact::new(DType::F32, [width])).id()
        };
        Ok(scales.iter().map(input).collect::<Vec<_>>())
    })?;
    let all: Vec<(&Scales, ValueId)> = scales.iter().zip(inputs.iter().copied()).collect();
    let groups = group_by_weight(&all, |(s, _)| s.target);
    // What one scale writes, the next must read: matrices that follow each other are written one behind the other.
    let matrices: Vec<&Matrix> = groups.iter().filter_map(|group| group.first()?.0.target.matrix.as_ref()).collect();
    let mut steps: Vec<Vec<_>> = Vec::new();
    for (group, level) in groups.into_iter().zip(levels(graph, &matrices)) {
        steps.resize_with(steps.len().max(level + 1), Vec::new);
        steps[level].push(group);
    }
    for step in steps {
        rewrite(graph, "ia3", |e| {
            for group in step {
                let Some((first, _)) = group.first() else { continue };
                let matrix = first.target.matrix()?;
                match first.inputs {
                    true => group.iter().for_each(|(_, l)| scale_inputs(e, matrix, e.val(*l))),
                    false => scale_results(e, matrix, &group),
                }
            }
            Ok(())
        })?;
    }
    Ok(inputs)
}

/// `y = l (x W + b)`; of slices every one has its own columns of l, and the others are not scaled.
fn scale_results(e: &Emit, matrix: &Matrix, group: &[&(&Scales, ValueId)]) {
    let graph = e.graph();
    let all: Vec<usize> = (0..matrix.cols).collect();
    let parts: Vec<Val> = group.iter().map(|(_, l)| e.val(*l)).collect();
    let mut places = vec![None; matrix.cols];
    let mut from = 0;
    for (scales, _) in group {
        let columns = scales.target.slice.as_ref().map_or(&all, |s| &s.columns);
        columns.iter().enumerate().for_each(|(i, column)| places[*column] = Some(from + i));
        from += columns.len();
    }
    let whole = places.iter().enumerate().all(|(i, at)| *at == Some(i));
    let l = match parts.as_slice() {
        [l] if whole => *l,
        parts => {
            let ones = e.weight("", Tensor::vector(&[1.0f32]));
            let joined = e.op("Concat", &[parts, &[ones]].concat(), &[("axis", 0i64.into())]);
            let at: Vec<i64> = places.iter().map(|at| at.unwrap_or(from) as i64).collect();
            e.op("Gather", &[joined, e.ints(&at)], &[("axis", 0i64.into())])
        }
    };
    let with_bias = matches!(bias_of(graph, matrix), Bias::Own(_));
    for product in &matrix.products {
        let Some(node) = graph.node(*product) else { continue };
        e.set_source(&node.origin.source);
        let sum = adder(graph, *product).filter(|_| with_bias).and_then(|(_, n)| graph.node(n)).unwrap_or(node);
        let Some(y) = sum.outputs.first().map(|y| e.val(*y)) else { continue };
        let scaled = times(e, matrix, y, l, matrix.cols);
        replace_value(e, y.id(), scaled);
    }
}

/// `y = (l x) W + b`, with products of their own.
fn scale_inputs(e: &Emit, matrix: &Matrix, l: Val) {
    // Where a matrix is applied to its own result, the product reads what the one before it computes now.
    let mut now: HashMap<ValueId, ValueId> = HashMap::new();
    for product in producers_first(e.graph(), &matrix.products) {
        let Some(node) = e.graph().node(product) else { continue };
        let (Some(x), Some(y)) = (node.input(0), node.outputs.first()) else { continue };
        e.set_source(&node.origin.source);
        let read = |v: ValueId| e.val(now.get(&v).copied().unwrap_or(v));
        let operands = node.inputs.iter().map(|v| v.map_or_else(|| e.absent(), read));
        let mut operands: Vec<Val> = operands.collect();
        operands[0] = times(e, matrix, read(x), l, matrix.rows);
        let attrs: Vec<(&str, Attr)> = node.attrs.iter().map(|(k, v)| (&**k, v.clone())).collect();
        let again = e.op(&node.op.to_string(), &operands, &attrs);
        let new = replace_value(e, *y, again);
        now.insert(*y, new);
        e.edit(|p| p.remove(product));
    }
}

/// A value times a vector along its last axis, or its last axes where the weight has more than two.
fn times<'e, 'g>(e: &'e Emit<'g>, matrix: &Matrix, x: Val<'e, 'g>, l: Val<'e, 'g>, width: usize) -> Val<'e, 'g> {
    let dtype = x.fact().dtype;
    if e.val(matrix.weight).rank() == 2 {
        return (x.cast(DType::F32) * l).cast(dtype);
    }
    let flat = x.reshape(&[-1, width as i64]).cast(DType::F32) * l;
    flat.cast(dtype).reshape_like(x)
}

/// The bytes of a matrix, or of its bias, with its columns, or rows, scaled; of a slice its columns only. Products in f64,
/// rounded once.
pub(super) fn fold(target: &Target, w0: &Tensor, l: &[f32], inputs: bool) -> Result<Bytes, FoldError> {
    let (name, dtype) = (target.name(), w0.dtype());
    let (rows, cols, transposed) = match &target.matrix {
        Some(m) => (m.rows, m.cols, m.transposed),
        None => (1, w0.len(), false),
    };
    let all: Vec<usize> = (0..cols).collect();
    let columns = target.slice.as_ref().map_or(&all, |s| &s.columns);
    let want = if inputs { rows } else { columns.len() };
    if l.len() != want || rows * cols != w0.len() {
        return Err(FoldError::Length { name, want, got: l.len() });
    }
    let mut scales = vec![1.0f64; if inputs { rows } else { cols }];
    match inputs {
        true => scales.iter_mut().zip(l).for_each(|(s, l)| *s = f64::from(*l)),
        false => columns.iter().zip(l).for_each(|(column, l)| scales[*column] = f64::from(*l)),
    }
    let inner = if transposed { rows } else { cols };
    let at = |i: usize| if transposed != inputs { i / inner } else { i % inner };
    let unfit = || FoldError::DType { name: name.clone(), dtype };
    let stored = w0.to_f64().filter(|_| dtype.is_float()).ok_or_else(unfit)?;
    let scaled: Vec<f64> = stored.iter().enumerate().map(|(i, w)| w * scales[at(i)]).collect();
    if scaled.iter().any(|x| !x.is_finite()) {
        return Err(FoldError::NotFinite { name });
    }
    let tensor = Tensor::from_f64(dtype, w0.dims(), &scaled).ok_or_else(unfit)?;
    match tensor.to_f64().is_some_and(|values| values.iter().all(|x| x.is_finite())) {
        true => Ok(tensor.bytes().clone()),
        false => Err(FoldError::NotFinite { name }),
    }
}
