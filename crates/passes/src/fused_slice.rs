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

/// Columns that come to one element: two where a rotation turns pairs of them.
const MOST_MIXED: usize = 8;

/// For every element of a value the number of the column that it comes from, NaN for none. Where columns are mixed, as by a
/// rotation, there is an array for each that comes to an element; there is none where nothing comes from the product.
type Columns = Vec<Array>;

/// Numbers of columns on their way from one product.
struct Trace<'g> {
    graph: &'g Graph,
    shape_data: &'g ShapeData,
    product: NodeId,
    /// Values that were asked for.
    known: HashMap<ValueId, Columns>,
    /// Nodes that are on the way.
    depth: usize,
    /// Numbers held.
    held: usize,
}

/// What cannot be followed.
struct Untraceable;

impl Trace<'_> {
    fn columns(&mut self, operand: ValueId) -> Option<BTreeSet<usize>> {
        let numbers = self.follow(operand).ok()?;
        (!numbers.is_empty()).then(|| set(&numbers))
    }

    fn follow(&mut self, value: ValueId) -> Result<Columns, Untraceable> {
        if let Some(known) = self.known.get(&value) {
            return Ok(known.clone());
        }
        let Some((id, node)) = self.graph.producer(value) else { return Ok(Columns::new()) };
        self.depth += 1;
        if self.depth > DEEPEST {
            return Err(Untraceable);
        }
        let results: Vec<Columns> = if id == self.product {
            let dims = self.dims(value).ok_or(Untraceable)?;
            vec![vec![self.numbered(dims, node).ok_or(Untraceable)?]]
        } else if !carries(node) {
            vec![Columns::new(); node.outputs.len()]
        } else {
            self.through(node)?
        };
        self.depth -= 1;
        self.held += results.iter().flatten().map(Array::len).sum::<usize>();
        if self.held > MOST {
            return Err(Untraceable);
        }
        self.known.extend(node.outputs.iter().copied().zip(results));
        Ok(self.known.get(&value).cloned().unwrap_or_default())
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

    fn through(&mut self, node: &Node) -> Result<Vec<Columns>, Untraceable> {
        let data = traits(node).moves;
        if data == 0 {
            return self.scaled(node);
        }
        let moved = node.inputs.iter().take(data);
        let followed: Vec<Columns> =
            moved.map(|v| v.map_or(Ok(Columns::new()), |v| self.follow(v))).collect::<Result<_, _>>()?;
        let mixed = followed.iter().map(Vec::len).max().unwrap_or_default();
        let mut results = vec![Columns::new(); node.outputs.len()];
        // What is moved may become larger: not before its size is known.
        if mixed > 0 && node.outputs.iter().any(|y| self.dims(*y).is_none()) {
            return Err(Untraceable);
        }
        for one in 0..mixed {
            let moved = self.moved(node, data, |slot| followed[slot].get(one))?;
            results.iter_mut().zip(moved).for_each(|(columns, moved)| columns.push(moved));
        }
        Ok(results)
    }

    /// What a node that moves elements makes of numbers in the place of those that it moves.
    fn moved<'a>(
        &self,
        node: &Node,
        data: usize,
        numbers: impl Fn(usize) -> Option<&'a Array>,
    ) -> Result<Vec<Array>, Untraceable> {
        let mut inputs = Vec::new();
        for (slot, operand) in node.inputs.iter().enumerate() {
            inputs.push(match operand {
                None => None,
                Some(v) if slot >= data => Some(self.numbers(*v).ok_or(Untraceable)?),
                Some(v) => Some(match numbers(slot) {
                    Some(numbers) => numbers.clone(),
                    // Beside what is followed, numbers of nothing.
                    None => Array::from_elem(self.dims(*v).ok_or(Untraceable)?, f64::NAN),
                }),
            });
        }
        let args = Args {
            node,
            opset: self.graph.opsets.get(&node.op.domain).copied().unwrap_or(1),
            inputs,
            dtypes: node.inputs.iter().map(|v| v.map_or(DType::Opaque, |v| self.graph.fact(v).dtype)).collect(),
            outputs: node.outputs.len(),
        };
        find(&node.op).and_then(|op| (op.eval)(&args).ok()).ok_or(Untraceable)
    }

    /// Through what changes every element for itself: numbers stay where they are. Operands that hold other columns add
    /// theirs.
    fn scaled(&mut self, node: &Node) -> Result<Vec<Columns>, Untraceable> {
        let mut found: Vec<Columns> = Vec::new();
        for v in node.inputs.iter().flatten() {
            found.push(self.follow(*v)?);
        }
        found.retain(|columns| !columns.is_empty());
        let mut results = vec![Columns::new(); node.outputs.len()];
        if let (Some(first), Some(y)) = (found.first(), node.outputs.first()) {
            let (all, dims) = (set(first), self.dims(*y).ok_or(Untraceable)?);
            // A rotation that turns a vector by adding a part of it to the rest brings no other columns.
            let others = found[1..].iter().filter(|other| set(other) != all).flatten();
            for numbers in first.iter().chain(others) {
                results[0].push(numbers.broadcast(dims.clone()).ok_or(Untraceable)?.to_owned());
            }
            if results[0].len() > MOST_MIXED {
                return Err(Untraceable);
            }
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

fn set(numbers: &Columns) -> BTreeSet<usize> {
    numbers.iter().flatten().filter(|x| !x.is_nan()).map(|x| *x as usize).collect()
}

#[cfg(test)]
mod tests {
    use crate::slices;
    use std::fmt::Write;

    /// The slices of `qkv` in a graph of such inputs and body, as text.
    fn found(columns: usize, body: &str) -> Vec<String> {
        let mut text = "graph g(%x: f32[B,9,6], %last: i32[B], %total: i32[]) -> %y {\n".to_string();
        write!(text, "%qkv = weight \"qkv\" f32[6,{columns}]\n %cos = weight \"cos\" f32[9,2]\n").expect("writes");
        write!(text, "%sin = weight \"sin\" f32[9,2]\n %p = MatMul(%x, %qkv) : f32[..]\n{body}\n}}").expect("writes");
        let mut graph = lorac_ir::parse(&text).expect("parses");
        graph.opsets.insert("com.microsoft".into(), 1);
        lorac_ops::infer(&mut graph).expect("infers");
        let all = slices(&graph);
        all.values().flatten().map(ToString::to_string).collect()
    }

    const LAYOUT: [&str; 3] = ["query 0..8", "key 8..12", "value 12..16"];

    #[test]
    fn a_packed_attention_tells_its_columns_whatever_turns_inside() {
        for turn in ["do_rotary=0", "do_rotary=1", "do_rotary=1, rotary_interleaved=1"] {
            let node = format!(
                "%y, %k, %v = com.microsoft.GroupQueryAttention(%p, _, _, _, _, %last, %total, %cos, %sin, \
                 num_heads=2, kv_num_heads=1, {turn}) : f32[..], f32[..], f32[..]"
            );
            assert_eq!(found(16, &node), LAYOUT, "{turn}");
        }
    }

    #[test]
    fn heads_that_hold_their_queries_keys_and_values_side_by_side() {
        let node = "%shape = weight \"shape\" i64[5] = [0, 0, 2, 3, 4]
            %r = Reshape(%p, %shape) : f32[..]
            %y = com.microsoft.MultiHeadAttention(%r, num_heads=2) : f32[..]";
        assert_eq!(found(24, node), ["query 0..4, 12..16", "key 4..8, 16..20", "value 8..12, 20..24"]);
        let node = "%shape = weight \"shape\" i64[5] = [0, 0, 2, 2, 4]
            %q = weight \"q\" f32[6,8]
            %pq = MatMul(%x, %q) : f32[..]
            %r = Reshape(%p, %shape) : f32[..]
            %y = com.microsoft.MultiHeadAttention(%pq, %r, num_heads=2) : f32[..]";
        assert_eq!(found(16, node), ["key 0..4, 8..12", "value 4..8, 12..16"]);
    }

    /// Halves of every head are turned against each other: by slices, by a step of two, by RotaryEmbedding.
    #[test]
    fn a_rotation_that_is_written_out() {
        let split = |[a, b]: [&str; 2], turned: &str| {
            format!(
                "{a}\n {b}\n %ac@ = Mul(%a@, %cos) : f32[..]\n %bs@ = Mul(%b@, %sin) : f32[..]
                %r@ = Sub(%ac@, %bs@) : f32[..]
                %as@ = Mul(%a@, %sin) : f32[..]\n %bc@ = Mul(%b@, %cos) : f32[..]\n %i@ = Add(%as@, %bc@) : f32[..]
                {turned}"
            )
        };
        let halves = ["%a@ = Slice(%@1, %n0, %n2, %n3) : f32[..]", "%b@ = Slice(%@1, %n2, %n4, %n3) : f32[..]"];
        let steps =
            ["%a@ = Slice(%@1, %n0, %n4, %n3, %n2) : f32[..]", "%b@ = Slice(%@1, %n1, %n4, %n3, %n2) : f32[..]"];
        let joined = "%@2 = Concat(%r@, %i@, axis=-1) : f32[..]";
        let woven = "%ru@ = Unsqueeze(%r@, %n4) : f32[..]\n %iu@ = Unsqueeze(%i@, %n4) : f32[..]
            %c@ = Concat(%ru@, %iu@, axis=-1) : f32[..]\n %@2 = Reshape(%c@, %flat) : f32[..]";
        let fused = "%@2 = com.microsoft.RotaryEmbedding(%@1, %n0, %cos, %sin) : f32[..]".to_string();
        for turn in [split(halves, joined), split(steps, woven), fused] {
            let body = format!(
                "%n0 = weight \"n0\" i64[1] = [0]\n %n1 = weight \"n1\" i64[1] = [1]\n %n2 = weight \"n2\" i64[1] = [2]
                %n3 = weight \"n3\" i64[1] = [3]\n %n4 = weight \"n4\" i64[1] = [4]
                %flat = weight \"flat\" i64[4] = [0, 0, 0, 4]
                %shape = weight \"shape\" i64[4] = [0, 0, 4, 4]\n %sizes = weight \"sizes\" i64[3] = [2, 1, 1]
                %h = Reshape(%p, %shape) : f32[..]
                %q0, %k0, %v0 = Split(%h, %sizes, axis=2) : f32[..], f32[..], f32[..]
                %q1 = Transpose(%q0, perm=[0,2,1,3]) : f32[..]
                %k1 = Transpose(%k0, perm=[0,2,1,3]) : f32[..]
                %v1 = Transpose(%v0, perm=[0,2,1,3]) : f32[..]
                {}\n {}
                %kt = Transpose(%k2, perm=[0,1,3,2]) : f32[..]
                %s = MatMul(%q2, %kt) : f32[..]\n %w = Softmax(%s, axis=-1) : f32[..]\n %y = MatMul(%w, %v1) : f32[..]",
                turn.replace('@', "q"),
                turn.replace('@', "k"),
            );
            assert_eq!(found(16, &body), LAYOUT, "{turn}");
        }
    }
}
