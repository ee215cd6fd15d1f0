//! Facts and shape data of values, from the inputs down.
//!
//! *Shape data* are the elements of small integer tensors, as far as they are known: the shapes that exporters compute
//! at run time. With them `Reshape(x, Concat(Shape(x)[0], 12, 32))` has the fact `[N,12,32]` and not three unknowns.
//! ONNX calls following them *data propagation*.

use crate::{Args, find, tensor};
use fnv::FnvHashMap;
use lorac_ir::{DType, Dim, Fact, Graph, Node, NodeId, Tensor, ValueId, topological_order};

/// What inference finds of one result: its fact, and its elements if it is a small vector of integers (in ONNX's words,
/// by shape inference and by data propagation).
#[derive(Clone, Debug, PartialEq)]
pub struct Inferred {
    /// Element type and shape.
    pub fact: Fact,
    /// The elements, rank 0 or 1 only.
    pub content: Option<Vec<Dim>>,
}

impl From<Fact> for Inferred {
    fn from(fact: Fact) -> Inferred {
        Inferred { fact, content: None }
    }
}

/// What is known of one operand.
#[derive(Clone, Debug)]
pub struct Input<'a> {
    /// Element type and shape.
    pub fact: Fact,
    /// The elements, where the operand is a small integer vector or scalar.
    pub content: Option<Vec<Dim>>,
    /// The tensor, where the operand is a weight.
    pub tensor: Option<&'a Tensor>,
}

/// A node about to be inferred: attributes and what is known of its operands.
pub struct Ctx<'a> {
    /// The node. Its ids mean nothing here; operands are in `inputs`.
    pub node: &'a Node,
    /// Version of the operator's domain.
    pub opset: i64,
    /// Operands by position.
    pub inputs: Vec<Option<Input<'a>>>,
    /// Number of results asked for.
    pub outputs: usize,
}

/// Why a node cannot be.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InferError {
    /// An operand is missing or one too many.
    #[error("takes {want} inputs, got {got}")]
    Arity {
        /// What the operator takes.
        want: String,
        /// What the node gives.
        got: usize,
    },
    /// The shapes of two operands do not fit.
    #[error("{0} and {1} do not fit")]
    Mismatch(Fact, Fact),
    /// An attribute is missing or out of range.
    #[error("attribute `{name}` is {got}, expected {want}")]
    Attribute {
        /// Its name.
        name: &'static str,
        /// Its value.
        got: String,
        /// What fits.
        want: String,
    },
    /// An operand has the wrong rank or type.
    #[error("input {slot} is {got}, expected {want}")]
    Operand {
        /// Position of the operand.
        slot: usize,
        /// Its fact.
        got: Fact,
        /// What fits.
        want: String,
    },
    /// A result would have a negative dimension.
    #[error("the result would be {0}: a dimension is negative")]
    NegativeDim(Fact),
    /// The operator as a whole cannot be inferred.
    #[error("node `{name}` ({op}): {source}")]
    Node {
        /// The node's name in the user's model, else its first output.
        name: String,
        /// Its operator.
        op: String,
        /// What is wrong.
        source: Box<InferError>,
    },
    /// Several nodes are wrong.
    #[error("{}", .0.iter().map(ToString::to_string).collect::<Vec<_>>().join("; "))]
    Many(Vec<InferError>),
}

impl InferError {
    /// A stable name of the fault, for programs and for looking it up: `infer::...`. Of a node it is that of
    /// what is wrong with it, of several nodes that of the first.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Arity { .. } => "infer::arity",
            Self::Mismatch(..) => "infer::mismatch",
            Self::Attribute { .. } => "infer::attribute",
            Self::Operand { .. } => "infer::operand",
            Self::NegativeDim(_) => "infer::negative_dim",
            Self::Node { source, .. } => source.code(),
            Self::Many(all) => all.first().map_or("infer::many", Self::code),
        }
    }
}

/// Elements of tensors with more of them are not followed.
const MAX_CONTENT: usize = 64;

impl<'a> Ctx<'a> {
    /// The operand at `slot`.
    pub fn input(&self, slot: usize) -> Option<&Input<'a>> {
        self.inputs.get(slot)?.as_ref()
    }

    /// The operand's fact; an opaque one where the operand is absent.
    pub fn fact(&self, slot: usize) -> Fact {
        self.input(slot).map_or(Fact::unranked(DType::Opaque), |i| i.fact.clone())
    }

    /// The operand's dimensions, where its rank is known.
    pub fn dims(&self, slot: usize) -> Option<&[Dim]> {
        self.input(slot)?.fact.dims()
    }

    /// The operand's elements, where they are followed.
    pub fn content(&self, slot: usize) -> Option<&[Dim]> {
        self.input(slot)?.content.as_deref()
    }

    /// The operand's elements as numbers, where all are known.
    pub fn ints(&self, slot: usize) -> Option<Vec<i64>> {
        self.content(slot)?.iter().map(|d| d.known()).collect()
    }

    /// Element type of the first operand.
    pub fn dtype(&self) -> DType {
        self.fact(0).dtype
    }

    /// Axes from the operand at `slot` or the attribute `axes` (the two forms that opsets had), normalised to
    /// `0..rank` and sorted. `Ok(None)`: given but unknown. Absent axes are an empty list.
    pub fn axes(&self, slot: usize, rank: usize) -> Result<Option<Vec<usize>>, InferError> {
        let axes = match (self.node.ints("axes"), self.input(slot)) {
            (Some(axes), _) => axes.to_vec(),
            (None, None) => Vec::new(),
            (None, Some(_)) => match self.ints(slot) {
                Some(axes) => axes,
                None => return Ok(None),
            },
        };
        let mut axes = axes.iter().map(|a| self.axis_in(*a, rank, "axes")).collect::<Result<Vec<_>, _>>()?;
        axes.sort_unstable();
        axes.dedup();
        Ok(Some(axes))
    }

    /// The attribute `axis` normalised to `0..rank`.
    pub fn axis(&self, default: i64, rank: usize) -> Result<usize, InferError> {
        self.axis_in(self.node.int("axis", default), rank, "axis")
    }

    fn axis_in(&self, axis: i64, rank: usize, name: &'static str) -> Result<usize, InferError> {
        let index = if axis < 0 { axis + rank as i64 } else { axis };
        match usize::try_from(index) {
            Ok(i) if i < rank => Ok(i),
            _ => Err(InferError::Attribute { name, got: axis.to_string(), want: format!("one of {rank} axes") }),
        }
    }
}

/// The shape to which two shapes broadcast; `None` where a rank is unknown.
pub(crate) fn broadcast(a: &Fact, b: &Fact) -> Result<Option<Vec<Dim>>, InferError> {
    let (Some(x), Some(y)) = (a.dims(), b.dims()) else { return Ok(None) };
    let rank = x.len().max(y.len());
    let at = |dims: &[Dim], i: usize| (i + dims.len()).checked_sub(rank).map_or(Dim::Known(1), |i| dims[i]);
    let mut out = Vec::with_capacity(rank);
    for i in 0..rank {
        out.push(match (at(x, i), at(y, i)) {
            (m, n) if m.same(n) => m,
            (Dim::Known(1), n) => n,
            (m, Dim::Known(1)) => m,
            (Dim::Known(_), Dim::Known(_)) => return Err(InferError::Mismatch(a.clone(), b.clone())),
            // A symbol that meets a number above one is that number, or one.
            (Dim::Known(n), _) | (_, Dim::Known(n)) => Dim::Known(n),
            _ => Dim::Unknown,
        });
    }
    Ok(Some(out))
}

/// What is known of the results of `node`. `opset` is the version of the node's domain.
pub fn infer_node(
    node: &Node,
    opset: i64,
    inputs: Vec<Option<Input<'_>>>,
    outputs: usize,
) -> Result<Vec<Inferred>, InferError> {
    let Some(op) = find(&node.op) else {
        return Ok(vec![Fact::unranked(DType::Opaque).into(); outputs]);
    };
    let ctx = Ctx { node, opset, inputs, outputs };
    let present = ctx.inputs.len();
    let absent = |slot: usize| ctx.input(slot).is_none();
    if present > op.inputs.1 || (0..op.inputs.0).any(absent) {
        let want = match op.inputs {
            (min, max) if min == max => min.to_string(),
            (min, usize::MAX) => format!("at least {min}"),
            (min, max) => format!("{min} to {max}"),
        };
        return Err(InferError::Arity { want, got: present });
    }
    let mut known = (op.infer)(&ctx)?;
    known.truncate(outputs);
    known.resize(outputs, Fact::unranked(DType::Opaque).into());
    for result in &mut known {
        let negative = |dims: &[Dim]| dims.iter().any(|d| matches!(d, Dim::Known(n) if *n < 0));
        if result.fact.dims().is_some_and(negative) {
            return Err(InferError::NegativeDim(result.fact.clone()));
        }
        result.content = result.content.take().filter(|c| c.len() <= MAX_CONTENT);
    }
    if known.iter().all(|k| k.content.is_none()) && known.iter().any(followed) {
        fold_shape_data(op, &ctx, &mut known);
    }
    Ok(known)
}

/// Whether the elements of a result are worth following.
fn followed(known: &Inferred) -> bool {
    let small = match known.fact.dims() {
        Some([]) => true,
        Some([Dim::Known(n)]) => *n as usize <= MAX_CONTENT,
        _ => false,
    };
    small && (known.fact.dtype.is_int() || known.fact.dtype == DType::Bool)
}

/// Where every element of every operand is known, so is the result.
fn fold_shape_data(op: &crate::Op, ctx: &Ctx, known: &mut [Inferred]) {
    let mut inputs = Vec::new();
    for input in &ctx.inputs {
        let Some(input) = input else {
            inputs.push(None);
            continue;
        };
        let dims = input.fact.known_dims();
        let numbers: Option<Vec<f64>> =
            input.content.as_ref().and_then(|c| c.iter().map(|d| d.known().map(|n| n as f64)).collect());
        let numbers = numbers.or_else(|| input.tensor.filter(|t| t.len() <= MAX_CONTENT).and_then(Tensor::to_f64));
        let array = dims.zip(numbers).and_then(|(d, n)| crate::Array::from_shape_vec(d, n).ok());
        let Some(array) = array else { return };
        inputs.push(Some(array));
    }
    let dtypes = ctx.inputs.iter().map(|i| i.as_ref().map_or(DType::Opaque, |i| i.fact.dtype)).collect();
    let args = Args { node: ctx.node, opset: ctx.opset, inputs, dtypes, outputs: ctx.outputs };
    let Ok(arrays) = (op.eval)(&args) else { return };
    for (known, array) in known.iter_mut().zip(arrays) {
        let fits = known.fact.known_dims().as_deref() == Some(array.shape());
        if followed(known)
            && fits
            && let Some(t) = tensor(known.fact.dtype, &array)
        {
            known.content = content_of(&t);
        }
    }
}

/// The elements of a small integer or boolean tensor of rank 0 or 1.
fn content_of(tensor: &Tensor) -> Option<Vec<Dim>> {
    if tensor.dims().len() > 1 || tensor.len() > MAX_CONTENT {
        return None;
    }
    let ints = match tensor.dtype() {
        DType::Bool => tensor.to_vec::<bool>().ok()?.into_iter().map(i64::from).collect(),
        _ => tensor.to_i64()?,
    };
    Some(ints.into_iter().map(Dim::Known).collect())
}

/// The elements of a graph's small integer values, as far as they are known: what ONNX's data propagation computes.
#[derive(Clone, Debug, Default)]
pub struct ShapeData(FnvHashMap<ValueId, Vec<Dim>>);

impl ShapeData {
    /// The elements of a value, where they are followed.
    pub fn get(&self, id: ValueId) -> Option<&Vec<Dim>> {
        self.0.get(&id)
    }

    pub(crate) fn set(&mut self, id: ValueId, content: Option<Vec<Dim>>) {
        match content {
            Some(c) => drop(self.0.insert(id, c)),
            None => drop(self.0.remove(&id)),
        }
    }

    /// What is known of a value given its fact and, for a weight, its tensor.
    pub(crate) fn input<'a>(&self, id: ValueId, fact: Fact, tensor: Option<&'a Tensor>) -> Input<'a> {
        let content = self.get(id).cloned().or_else(|| content_of(tensor?));
        Input { fact, content, tensor }
    }
}

/// Fills in the facts of every node's outputs and returns the elements of small integer values. A fact that the file
/// declares is kept only where inference knows less.
///
/// # Errors
/// Every node whose operands contradict it, at once.
pub fn infer(graph: &mut Graph) -> Result<ShapeData, InferError> {
    let mut shape_data = ShapeData::default();
    let mut wrong = Vec::new();
    for id in topological_order(graph) {
        match infer_one(graph, &shape_data, id) {
            Ok(known) => {
                for (value, known) in known {
                    shape_data.set(value, known.content);
                    graph.set_fact(value, known.fact);
                }
            }
            Err(e) => wrong.push(e),
        }
    }
    match wrong.len() {
        0 => Ok(shape_data),
        1 => Err(wrong.remove(0)),
        _ => Err(InferError::Many(wrong)),
    }
}

fn infer_one(graph: &Graph, shape_data: &ShapeData, id: NodeId) -> Result<Vec<(ValueId, Inferred)>, InferError> {
    let Some(node) = graph.node(id) else { return Ok(Vec::new()) };
    let inputs = node.inputs.iter().map(|v| v.map(|v| shape_data.input(v, graph.fact(v), graph.weight(v)))).collect();
    let opset = graph.opsets.get(&node.op.domain).copied().unwrap_or(1);
    let known = infer_node(node, opset, inputs, node.outputs.len()).map_err(|e| {
        let name = match &*node.origin.source {
            "" => node.outputs.first().map_or_else(String::new, |v| graph.name_of(*v)),
            name => name.to_string(),
        };
        InferError::Node { name, op: node.op.to_string(), source: Box::new(e) }
    })?;
    let merged = node.outputs.iter().zip(known).map(|(value, mut known)| {
        let declared = graph.fact(*value);
        if known.fact.dtype == DType::Opaque {
            known.fact = declared;
        } else if let (Some(dims), Some(file)) = (&mut known.fact.shape, declared.dims()) {
            if dims.len() == file.len() {
                let pairs = dims.iter_mut().zip(file);
                pairs.filter(|(d, _)| **d == Dim::Unknown).for_each(|(d, f)| *d = *f);
            }
        } else if known.fact.shape.is_none() && declared.dtype == known.fact.dtype {
            known.fact.shape = declared.shape;
        }
        (*value, known)
    });
    Ok(merged.collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn elements_that_double_are_not_followed_for_long() {
        let mut text = "graph g(%x: f32[N,4]) -> %s40 {\n%s0 = Shape(%x) : i64[2]\n".to_string();
        (0..40).for_each(|i| text += &format!("%s{} = Concat(%s{i}, %s{i}, axis=0) : i64[..]\n", i + 1));
        let mut graph = lorac_ir::parse(&(text + "}")).expect("parses");
        let shape_data = infer(&mut graph).expect("infers");
        let len = |name: &str| shape_data.get(graph.find(name).expect(name)).map(Vec::len);
        assert_eq!((len("s5"), len("s6"), len("s40")), (Some(64), None, None));
        assert_eq!(graph.fact(graph.outputs()[0]).to_string(), format!("i64[{}]", 1i64 << 41));
    }
}
