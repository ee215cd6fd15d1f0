//! Which columns of a fused matrix are its query, key and value: every column's number is sent from the product to the
//! attention, through all that splits, moves and scales it, and read there.

use crate::role::{Operand, Role};
use crate::trail::{carries, traits};
use lorac_ir::{DType, Graph, Node, NodeId, ValueId};
use lorac_ops::{Args, Array, ShapeData, array, find, infer};
use std::collections::{BTreeMap, BTreeSet, HashMap};

/// A slice of a fused matrix.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FusedSlice {
    /// What it does.
    pub role: Role,
    /// Its columns, of results; rows where the matrix is stored `[out, in]`. In order.
    pub columns: Vec<usize>,
}

impl std::fmt::Display for FusedSlice {
    /// The role and its columns: `key 32..40, 64..72`.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let runs = self.columns.chunk_by(|a, b| a + 1 == *b);
        let runs: Vec<String> = runs.map(|run| format!("{}..{}", run[0], run[0] + run.len())).collect();
        write!(f, "{} {}", self.role, runs.join(", "))
    }
}

/// The slices of every matrix whose columns go to different places and can be told apart, by weight.
pub(crate) fn fused_slices(tracer: &Tracer, operands: &[Operand]) -> BTreeMap<ValueId, Vec<FusedSlice>> {
    // Of every weight and role, the columns that each product sends there; none where one cannot be followed.
    let mut found: BTreeMap<(ValueId, Role), Option<BTreeSet<usize>>> = BTreeMap::new();
    for operand in operands {
        let columns = tracer.columns(operand.value, operand.product);
        let before = found.entry((operand.weight, operand.role)).or_insert_with(|| columns.clone());
        if *before != columns {
            *before = None;
        }
    }
    let mut all: BTreeMap<ValueId, Vec<FusedSlice>> = BTreeMap::new();
    for ((weight, role), columns) in found {
        let columns = columns.map(|c| c.into_iter().collect()).unwrap_or_default();
        all.entry(weight).or_default().push(FusedSlice { role, columns });
    }
    all.retain(|_, slices| {
        let columns: Vec<usize> = slices.iter().flat_map(|p| p.columns.iter().copied()).collect();
        let apart = columns.iter().collect::<BTreeSet<_>>().len() == columns.len();
        apart && slices.iter().all(|p| !p.columns.is_empty())
    });
    all
}

/// Whether an operand holds as much as the product that it comes from: then it is all of the matrix, without following it.
pub(crate) fn is_whole(graph: &Graph, operand: &Operand) -> bool {
    let made = graph.node(operand.product).and_then(|n| n.outputs.first());
    let volume = |v: ValueId| graph.fact(v).volume();
    made.is_some_and(|y| volume(*y).same(volume(operand.value)))
}

/// A graph with what is known of its shapes.
pub(crate) struct Tracer {
    graph: Graph,
    shape_data: Option<ShapeData>,
}

impl Tracer {
    pub(crate) fn new(graph: &Graph) -> Tracer {
        let mut graph = graph.clone();
        let shape_data = infer(&mut graph).ok();
        Tracer { graph, shape_data }
    }

    /// The columns of a product's matrix that come to an operand; `None` where they cannot be followed.
    pub(crate) fn columns(&self, operand: ValueId, product: NodeId) -> Option<BTreeSet<usize>> {
        let (graph, shape_data) = (&self.graph, self.shape_data.as_ref()?);
        let mut trace = Trace { graph, shape_data, product, known: HashMap::new(), depth: 0, held: 0 };
        trace.columns(operand)
    }
}

/// What stands for a length that only the run knows. Where things go does not depend on it.
const LENGTH: i64 = 2;

/// Numbers that are held at a time, in all.
const MOST: usize = 1 << 25;

/// Nodes between an attention and the product, in a row.
const DEEPEST: usize = 256;

/// Numbers of columns on their way from one product.
struct Trace<'g> {
    graph: &'g Graph,
    shape_data: &'g ShapeData,
    product: NodeId,
    /// Values that were asked for; `None` does not come from the product.
    known: HashMap<ValueId, Option<Array>>,
    /// Nodes that are on the way.
    depth: usize,
    /// Numbers held.
    held: usize,
}

/// What cannot be followed.
struct Untraceable;

impl Trace<'_> {
    fn columns(&mut self, operand: ValueId) -> Option<BTreeSet<usize>> {
        let numbers = self.follow(operand).ok()??;
        Some(set(&numbers))
    }

    fn follow(&mut self, value: ValueId) -> Result<Option<Array>, Untraceable> {
        if let Some(known) = self.known.get(&value) {
            return Ok(known.clone());
        }
        let Some((id, node)) = self.graph.producer(value) else { return Ok(None) };
        self.depth += 1;
        if self.depth > DEEPEST {
            return Err(Untraceable);
        }
        let results: Vec<Option<Array>> = if id == self.product {
            let dims = self.dims(value).ok_or(Untraceable)?;
            vec![Some(self.numbered(dims, node).ok_or(Untraceable)?)]
        } else if !carries(node) {
            vec![None; node.outputs.len()]
        } else {
            self.through(node)?
        };
        self.depth -= 1;
        self.held += results.iter().flatten().map(Array::len).sum::<usize>();
        if self.held > MOST {
            return Err(Untraceable);
        }
        self.known.extend(node.outputs.iter().copied().zip(results));
        Ok(self.known.get(&value).cloned().flatten())
    }

    /// The number of its column for every element of a product's result: columns may take several axes.
    fn numbered(&self, dims: Vec<usize>, node: &Node) -> Option<Array> {
        let rank = self.graph.fact(node.input(1)?).rank()?;
        let summed = traits(node).projects.and_then(|how| how(node, 1, rank)).map_or(1, |how| how.summed);
        let rows = dims.len().checked_sub(rank.checked_sub(summed)?)?;
        let count = dims[rows..].iter().product::<usize>().max(1);
        let all = (0..dims.iter().product::<usize>()).map(|i| (i % count) as f64).collect();
        Array::from_shape_vec(dims, all).ok()
    }

    fn through(&mut self, node: &Node) -> Result<Vec<Option<Array>>, Untraceable> {
        let data = traits(node).moves;
        if data == 0 {
            return self.scaled(node);
        }
        let followed: Vec<Option<Array>> =
            node.inputs.iter().take(data).map(|v| v.map_or(Ok(None), |v| self.follow(v))).collect::<Result<_, _>>()?;
        if followed.iter().all(Option::is_none) {
            return Ok(vec![None; node.outputs.len()]);
        }
        // What is moved may become larger: not before its size is known.
        if node.outputs.iter().any(|y| self.dims(*y).is_none()) {
            return Err(Untraceable);
        }
        let mut inputs = Vec::new();
        for (slot, operand) in node.inputs.iter().enumerate() {
            inputs.push(match (followed.get(slot), operand) {
                (_, None) => None,
                (Some(Some(numbers)), _) => Some(numbers.clone()),
                // Beside what is followed, numbers of nothing.
                (Some(None), Some(v)) => Some(Array::from_elem(self.dims(*v).ok_or(Untraceable)?, f64::NAN)),
                (None, Some(v)) => Some(self.numbers(*v).ok_or(Untraceable)?),
            });
        }
        let args = Args {
            node,
            opset: self.graph.opsets.get(&node.op.domain).copied().unwrap_or(1),
            inputs,
            dtypes: node.inputs.iter().map(|v| v.map_or(DType::Opaque, |v| self.graph.fact(v).dtype)).collect(),
            outputs: node.outputs.len(),
        };
        let moved = find(&node.op).and_then(|op| (op.eval)(&args).ok()).ok_or(Untraceable)?;
        Ok(moved.into_iter().map(Some).collect())
    }

    /// Through what changes every element for itself: numbers stay where they are. Several operands, as of a rotary
    /// embedding, must hold the same ones.
    fn scaled(&mut self, node: &Node) -> Result<Vec<Option<Array>>, Untraceable> {
        let mut found: Vec<Array> = Vec::new();
        for v in node.inputs.iter().flatten() {
            found.extend(self.follow(*v)?);
        }
        let mut results = vec![None; node.outputs.len()];
        if let (Some(first), Some(y)) = (found.first(), node.outputs.first()) {
            let all = set(first);
            let spread = first.broadcast(self.dims(*y).ok_or(Untraceable)?).ok_or(Untraceable)?;
            if found.iter().any(|other| set(other) != all) {
                return Err(Untraceable);
            }
            results[0] = Some(spread.to_owned());
        }
        Ok(results)
    }

    fn dims(&self, value: ValueId) -> Option<Vec<usize>> {
        let fact = self.graph.fact(value);
        let dims = fact.dims()?.iter().map(|d| usize::try_from(d.eval(&|_| Some(LENGTH))?).ok());
        let dims: Vec<usize> = dims.collect::<Option<_>>()?;
        let size = dims.iter().try_fold(1usize, |n, d| n.checked_mul(*d))?;
        (size <= MOST - self.held).then_some(dims)
    }

    /// The elements of a vector that tells where things go.
    fn numbers(&self, value: ValueId) -> Option<Array> {
        if let Some(weight) = self.graph.weight(value) {
            return array(weight);
        }
        let known = self.shape_data.get(value)?.iter().map(|d| Some(d.eval(&|_| Some(LENGTH))? as f64));
        Array::from_shape_vec(self.dims(value)?, known.collect::<Option<_>>()?).ok()
    }
}

fn set(numbers: &Array) -> BTreeSet<usize> {
    numbers.iter().filter(|x| !x.is_nan()).map(|x| *x as usize).collect()
}
