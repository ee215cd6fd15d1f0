//! Reference evaluation in f64: slow, plain, and what rules are checked against.

use crate::find;
use lorac_ir::{DType, Graph, Node, Tensor, ValueId, topological_order};
use ndarray::{ArrayD, IxDyn};
use std::collections::HashMap;

/// A tensor of f64, whatever its element type in the graph. Integers are exact up to 2^53.
pub type Array = ArrayD<f64>;

/// A node about to be evaluated.
pub struct Args<'a> {
    /// The node: attributes only.
    pub node: &'a Node,
    /// Version of the operator's domain.
    pub opset: i64,
    /// Operands by position.
    pub inputs: Vec<Option<Array>>,
    /// Element types of the operands.
    pub dtypes: Vec<DType>,
    /// Number of results asked for.
    pub outputs: usize,
}

/// Why something has no value.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum EvalError {
    /// The operator is not in the table.
    #[error("{0} has no reference evaluation")]
    Unknown(String),
    /// An operand is missing.
    #[error("operand {0} is missing")]
    Missing(usize),
    /// Operands do not fit each other or the attributes, or have no one result.
    #[error("{0}")]
    Invalid(String),
    /// A graph input was not given.
    #[error("input `{0}` was not given")]
    NoInput(String),
    /// A node failed.
    #[error("{op}: {source}")]
    Node {
        /// Its operator.
        op: String,
        /// What is wrong.
        source: Box<EvalError>,
    },
}

impl EvalError {
    /// A stable name of the fault, for programs and for looking it up: `eval::...`. Of a node it is that of
    /// what is wrong with it.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Unknown(_) => "eval::unknown_operator",
            Self::Missing(_) => "eval::missing_operand",
            Self::Invalid(_) => "eval::invalid",
            Self::NoInput(_) => "eval::no_input",
            Self::Node { source, .. } => source.code(),
        }
    }
}

impl From<ndarray::ShapeError> for EvalError {
    fn from(e: ndarray::ShapeError) -> EvalError {
        EvalError::Invalid(e.to_string())
    }
}

impl Args<'_> {
    /// The operand at `slot`.
    pub fn x(&self, slot: usize) -> Result<&Array, EvalError> {
        self.opt(slot).ok_or(EvalError::Missing(slot))
    }

    /// The operand at `slot`, if present.
    pub fn opt(&self, slot: usize) -> Option<&Array> {
        self.inputs.get(slot)?.as_ref()
    }

    /// The operand at `slot` as integers.
    pub fn ints(&self, slot: usize) -> Result<Vec<i64>, EvalError> {
        Ok(self.x(slot)?.iter().map(|x| *x as i64).collect())
    }

    /// Element type of the operand at `slot`.
    pub fn dtype(&self, slot: usize) -> DType {
        self.dtypes.get(slot).copied().unwrap_or(DType::Opaque)
    }

    /// Axes from the operand at `slot` or the attribute `axes`, normalised and sorted; empty where absent.
    pub fn axes(&self, slot: usize, rank: usize) -> Result<Vec<usize>, EvalError> {
        let axes = match (self.node.ints("axes"), self.opt(slot)) {
            (Some(axes), _) => axes.to_vec(),
            (None, Some(_)) => self.ints(slot)?,
            (None, None) => Vec::new(),
        };
        let mut axes = axes.iter().map(|a| axis(*a, rank)).collect::<Result<Vec<_>, _>>()?;
        axes.sort_unstable();
        axes.dedup();
        Ok(axes)
    }

    /// The attribute `axis`, normalised.
    pub fn axis(&self, default: i64, rank: usize) -> Result<usize, EvalError> {
        axis(self.node.int("axis", default), rank)
    }
}

/// `axis` counted from the front.
pub(crate) fn axis(axis: i64, rank: usize) -> Result<usize, EvalError> {
    let index = if axis < 0 { axis + rank as i64 } else { axis };
    match usize::try_from(index) {
        Ok(i) if i < rank => Ok(i),
        _ => Err(EvalError::Invalid(format!("axis {axis} of rank {rank}"))),
    }
}

/// `x` with its shape replaced, row-major.
pub(crate) fn reshape(x: &Array, dims: &[usize]) -> Result<Array, EvalError> {
    Ok(Array::from_shape_vec(IxDyn(dims), x.iter().copied().collect())?)
}

/// Elementwise `f` of two operands that broadcast.
pub(crate) fn zip(a: &Array, b: &Array, f: impl Fn(f64, f64) -> f64) -> Result<Array, EvalError> {
    let dims = broadcast(a.shape(), b.shape())?;
    let invalid = || EvalError::Invalid(format!("{:?} and {:?} do not broadcast", a.shape(), b.shape()));
    let x = a.broadcast(IxDyn(&dims)).ok_or_else(invalid)?;
    let y = b.broadcast(IxDyn(&dims)).ok_or_else(invalid)?;
    Ok(Array::from_shape_vec(IxDyn(&dims), x.iter().zip(y.iter()).map(|(x, y)| f(*x, *y)).collect())?)
}

/// The shape to which two shapes broadcast.
pub(crate) fn broadcast(a: &[usize], b: &[usize]) -> Result<Vec<usize>, EvalError> {
    let rank = a.len().max(b.len());
    let at = |dims: &[usize], i: usize| (i + dims.len()).checked_sub(rank).map_or(1, |i| dims[i]);
    let pairs = (0..rank).map(|i| (at(a, i), at(b, i)));
    let dims = pairs.map(|pair| match pair {
        (m, n) if m == n => Ok(m),
        (1, n) | (n, 1) => Ok(n),
        _ => Err(EvalError::Invalid(format!("{a:?} and {b:?} do not broadcast"))),
    });
    dims.collect()
}

/// The elements of a tensor as f64; `None` for strings and opaque types.
pub fn array(tensor: &Tensor) -> Option<Array> {
    Array::from_shape_vec(IxDyn(tensor.dims()), tensor.to_f64()?).ok()
}

/// The array as a tensor of `dtype`.
pub fn tensor(dtype: DType, array: &Array) -> Option<Tensor> {
    let data: Vec<f64> = array.iter().copied().collect();
    Tensor::from_f64(dtype, array.shape(), &data)
}

/// The graph's outputs for the given inputs, by name.
///
/// # Errors
/// The first node that cannot be computed.
pub fn evaluate(graph: &Graph, inputs: &[(&str, Array)]) -> Result<Vec<Array>, EvalError> {
    let mut values: HashMap<ValueId, Array> = HashMap::new();
    for &id in graph.inputs() {
        let name = graph.name_of(id);
        let given = inputs.iter().find(|(n, _)| *n == name);
        values.insert(id, given.map(|(_, a)| a.clone()).ok_or(EvalError::NoInput(name))?);
    }
    for (id, _, tensor) in graph.weights() {
        values.extend(array(tensor).map(|a| (id, a)));
    }
    for id in topological_order(graph) {
        let Some(node) = graph.node(id) else { continue };
        let opset = graph.opsets.get(&node.op.domain).copied().unwrap_or(1);
        let fail = |e: EvalError| EvalError::Node { op: node.op.to_string(), source: Box::new(e) };
        let op = find(&node.op).ok_or_else(|| EvalError::Unknown(node.op.to_string()))?;
        let args = Args {
            node,
            opset,
            inputs: node.inputs.iter().map(|v| values.get(&(*v)?).cloned()).collect(),
            dtypes: node.inputs.iter().map(|v| v.map_or(DType::Opaque, |v| graph.fact(v).dtype)).collect(),
            outputs: node.outputs.len(),
        };
        let results = (op.eval)(&args).map_err(fail)?;
        values.extend(node.outputs.iter().copied().zip(results));
    }
    let outputs = graph.outputs().iter();
    outputs.map(|v| values.get(v).cloned().ok_or_else(|| EvalError::NoInput(graph.name_of(*v)))).collect()
}
