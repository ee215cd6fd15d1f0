//! The matrices of a model: weights that multiply activations, those that can be adapted and those that cannot.

use crate::ReadAs;
use crate::obstacle::{Obstacle, multiplied_inside, odd_product, refusal};
use lorac_ir::{DType, Graph, Node, NodeId, Use, ValueId};
use lorac_ops::{Op, Projection, find};

/// A weight matrix and the products that read it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Matrix {
    /// The weight.
    pub weight: ValueId,
    /// Its name in the model.
    pub name: String,
    /// Whether it is stored `[out, in]` (as `Gemm` with `transB` reads it) and not `[in, out]`.
    pub transposed: bool,
    /// Its shape as it is stored.
    pub dims: Vec<usize>,
    /// Length of the rows that are multiplied.
    pub rows: usize,
    /// Length of the results.
    pub cols: usize,
    /// Every product, look-up or convolution that reads it.
    pub products: Vec<NodeId>,
    /// Whether it is read otherwise too, as the table of an embedding (tied embeddings) or by its transpose: what is added
    /// to it is added for every reader.
    pub shared: bool,
    /// How it is read.
    pub read_as: ReadAs,
}

/// A matrix, and what keeps it from being adapted, where anything does.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Candidate {
    pub matrix: Matrix,
    pub obstacle: Option<Obstacle>,
}

/// Every float weight that is read as the right operand of `MatMul`, `Gemm` or a product that Einsum writes. `Identity`,
/// `Transpose` and a `Cast` between floats may lie between: so exporters write a weight that layers share, or one that is
/// stored in f16 and computed with in f32.
pub fn matrices(graph: &Graph) -> Vec<Matrix> {
    candidates(graph).into_iter().filter(|c| c.obstacle.is_none()).map(|c| c.matrix).collect()
}

/// Every weight that multiplies activations in some way.
pub(crate) fn candidates(graph: &Graph) -> Vec<Candidate> {
    let several = graph.weights().filter(|(_, _, t)| t.dims().len() >= 2 && t.len() > 1);
    several.filter_map(|(weight, value, t)| candidate(graph, weight, &value.name, t.dims(), t.dtype())).collect()
}

fn candidate(graph: &Graph, weight: ValueId, name: &str, dims: &[usize], dtype: DType) -> Option<Candidate> {
    let mut readers = Readers::new(graph);
    readers.walk(weight, &Via::default());
    let Readers { found, mut other, .. } = readers;
    let first = found.first()?;
    if graph.is_output(weight) {
        other.get_or_insert(Obstacle::Output);
    }
    let mut obstacle = found.iter().find_map(|r| r.obstacle.clone());
    // What is inlined has no name of the file's.
    if obstacle.is_none() && name == weight.to_string() {
        obstacle = Some(Obstacle::InFunction);
    }
    if obstacle.is_none() && !dtype.is_float() {
        obstacle = Some(Obstacle::quantized(graph, first.node, dtype));
    }
    let alike = found.iter().all(|r| r.how == first.how);
    let shared = !alike || other.is_some();
    // A sum in the place of the weight is written for plain matrices.
    let summable = dims.len() == 2 && !matches!(other, Some(Obstacle::Output));
    if shared && !summable {
        obstacle = obstacle.or(other).or(Some(Obstacle::BothWays));
    }
    let packed = graph.node(first.node).map(|n| (n.int("K", 0).max(0) as usize, n.int("N", 0).max(0) as usize));
    let packed = packed.filter(|(k, n)| *k > 0 && *n > 0 && !dtype.is_float());
    let (rows, cols) = match first.how {
        _ if packed.is_some() => packed?,
        _ if obstacle.is_some() && dims.len() != 2 => match *dims {
            [.., p, q] if first.how.transposed => (q, p),
            [.., p, q] => (p, q),
            _ => (0, 0),
        },
        Projection { transposed: false, summed } => {
            let (rows, cols) = dims.split_at_checked(summed)?;
            (rows.iter().product(), cols.iter().product())
        }
        Projection { transposed: true, summed } => {
            let (cols, rows) = dims.split_at_checked(dims.len().checked_sub(summed)?)?;
            (rows.iter().product(), cols.iter().product())
        }
    };
    let products = found.iter().map(|r| r.node).collect();
    let transposed = first.how.transposed;
    let (name, dims) = (name.to_string(), dims.to_vec());
    let read_as = ReadAs::Product;
    let matrix = Matrix { weight, name, transposed, dims, rows, cols, products, shared, read_as };
    Some(Candidate { matrix, obstacle })
}

/// A product that reads a weight.
struct Reader {
    node: NodeId,
    how: Projection,
    obstacle: Option<Obstacle>,
}

/// What lies between a weight and a reader.
#[derive(Clone, Default)]
struct Via {
    turned: bool,
    obstacle: Option<Obstacle>,
    steps: usize,
}

struct Readers<'g> {
    graph: &'g Graph,
    found: Vec<Reader>,
    /// What else reads it.
    other: Option<Obstacle>,
    /// Values that are still followed.
    left: usize,
}

impl<'g> Readers<'g> {
    fn new(graph: &'g Graph) -> Readers<'g> {
        Readers { graph, found: Vec::new(), other: None, left: MOST_LOOKS }
    }

    fn walk(&mut self, value: ValueId, via: &Via) {
        let graph = self.graph;
        let Some(at) = graph.value(value) else { return };
        let as_it_is = via.obstacle.is_none() && matches!(at.def, lorac_ir::Def::Output(..));
        if as_it_is && graph.is_output(value) {
            self.other.get_or_insert(Obstacle::Output);
        }
        let mut before: Option<&Use> = None;
        for u in at.uses() {
            let Some(node) = graph.node(u.node) else { continue };
            let op = find(&node.op);
            let traits = op.map(|op| op.traits).unwrap_or_default();
            // Behind the first, the operands of a sum or a concatenation are alike.
            let alike = |b: &Use| b.node == u.node && b.slot > 0 && (b.slot < traits.moves) == (u.slot < traits.moves);
            if traits.projects.is_none() && u.slot < node.inputs.len() && before.replace(u).is_some_and(alike) {
                continue;
            }
            let rank = graph.fact(value).rank().unwrap_or(2);
            let mut read = |how: Projection, obstacle: Option<Obstacle>| {
                let how = Projection { transposed: how.transposed != via.turned, ..how };
                self.found.push(Reader { node: u.node, how, obstacle: via.obstacle.clone().or(obstacle) });
            };
            if let Some(projects) = traits.projects {
                match projects(node, u.slot, rank) {
                    Some(how) if via.turned && rank != 2 => read(how, Some(Obstacle::Computed("Transpose".into()))),
                    Some(how) => read(how, refusal(graph, value, node, op)),
                    None => match odd_product(graph, node, op, u.slot, rank) {
                        Some(obstacle) => read(Projection::PLAIN, Some(obstacle)),
                        None => self.beside(node),
                    },
                }
                continue;
            }
            if u.slot >= node.inputs.len() {
                match multiplied_inside(node, u.slot - node.inputs.len()) {
                    true => read(Projection::PLAIN, Some(Obstacle::Inside(node.op.to_string()))),
                    false => self.beside(node),
                }
                continue;
            }
            match self.passed(node, op, u.slot, value, via) {
                // What exporters put between is a node or two.
                Some(_) if via.steps >= MOST_STEPS || !spend(&mut self.left) => self.beside(node),
                Some(next) => {
                    let next = Via { steps: via.steps + 1, ..next };
                    let before = self.found.len();
                    node.outputs.iter().for_each(|y| self.walk(*y, &next));
                    if next.obstacle.is_some() && self.found.len() == before {
                        self.beside(node);
                    }
                }
                None => self.beside(node),
            }
        }
    }

    /// What a weight is behind a node that hands it on.
    fn passed(&self, node: &Node, op: Option<&Op>, slot: usize, value: ValueId, via: &Via) -> Option<Via> {
        let graph = self.graph;
        let traits = op?.traits;
        let y = *node.outputs.first()?;
        let mut looks = MOST_LOOKS;
        let mut constant = |v: &ValueId| match graph.weight(*v) {
            Some(_) => spend(&mut looks),
            None => constant(graph, *v, 4, &mut looks),
        };
        let others = || node.inputs.iter().enumerate().filter(|(i, _)| *i != slot).filter_map(|(_, v)| v.as_ref());
        let blocked = |obstacle| Some(Via { obstacle: via.obstacle.clone().or(Some(obstacle)), ..via.clone() });
        let (before, after) = (graph.fact(value), graph.fact(y));
        match &*node.op.name {
            "Transpose" if before.rank() == Some(2) => Some(Via { turned: via.turned != turns(node), ..via.clone() }),
            "DequantizeLinear" => (slot == 0)
                .then_some(())
                .and_then(|()| blocked(Obstacle::Quantized { dtype: before.dtype, op: node.op.to_string() })),
            _ if traits.reshapes && slot == 0 && before.known_dims() == after.known_dims() => {
                let float = before.dtype.is_float() && (after.dtype.is_float() || after.dtype == DType::Opaque);
                float.then(|| via.clone())
            }
            _ if traits.reshapes && slot == 0 => blocked(Obstacle::Computed(node.op.to_string())),
            // One of a stack that is picked by a constant.
            _ if slot < traits.moves && node.op.name.starts_with("Gather") => {
                let stacked = before.rank().is_some_and(|r| r >= 3) && others().all(&mut constant);
                stacked.then(|| blocked(Obstacle::Stacked(before.known_dims().unwrap_or_default())))?
            }
            _ if slot < traits.moves || traits.carries => {
                others().all(&mut constant).then(|| blocked(Obstacle::Computed(node.op.to_string())))?
            }
            _ => None,
        }
    }

    fn beside(&mut self, node: &Node) {
        let looked_up = find(&node.op).is_some_and(|op| op.traits.moves == 1);
        let why = if looked_up { Obstacle::Table } else { Obstacle::Beside(node.op.to_string()) };
        self.other.get_or_insert(why);
    }
}

/// More values are not looked at for what becomes of a weight, nor more operands for being computed from weights alone.
const MOST_LOOKS: usize = 1000;

/// Nodes between a weight and a product that reads it.
pub(crate) const MOST_STEPS: usize = 64;

/// Takes one look of those that are left.
fn spend(looks: &mut usize) -> bool {
    looks.checked_sub(1).map(|left| *looks = left).is_some()
}

/// Whether a value is computed from weights alone, in a few steps, and that is seen in so many looks.
fn constant(graph: &Graph, value: ValueId, steps: usize, looks: &mut usize) -> bool {
    if !spend(looks) {
        return false;
    }
    let Some((_, node)) = graph.producer(value) else { return graph.weight(value).is_some() };
    steps > 0 && node.operands().all(|(_, v)| constant(graph, v, steps - 1, looks))
}

/// Whether a Transpose of a matrix swaps its axes; without `perm` it does.
fn turns(node: &Node) -> bool {
    node.ints("perm").is_none_or(|perm| perm.first() != Some(&0))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Lora, Method, Use, fold_low_rank, select};
    use lorac_ir::{Tensor, parse};
    use lorac_ops::{Array, Random, evaluate, infer};

    const SIDE: [usize; 2] = [3, 4];

    /// A graph that is written around a weight `w` of so many rows and columns.
    fn graph(dims: [usize; 2], w: &[f64], body: &str) -> Graph {
        let [p, q] = dims;
        let text = format!(
            "graph g(%x: f32[N,2,3], %v: f32[M,3]) -> %y, %z {{ %w = weight \"w\" f32[{p},{q}] = {w:?}\n{body} }}"
        );
        let mut graph = parse(&text).expect("parses");
        infer(&mut graph).expect("infers");
        graph
    }

    const SHARED: &str = "%i = Identity(%w) : f32[..]
        %j = Identity(%i) : f32[..]
        %t = Transpose(%j) : f32[..]
        %y = MatMul(%x, %w) : f32[..]
        %h = MatMul(%v, %i) : f32[..]
        %k = Gemm(%v, %t, transB=1) : f32[..]
        %z = Add(%h, %k) : f32[..]";
    const TURNED: &str = "%t = Transpose(%w, perm=[1,0]) : f32[..]
        %same = Transpose(%t, perm=[0,1]) : f32[..]
        %i = Identity(%w) : f32[..]
        %y = MatMul(%x, %same) : f32[..]
        %z = Gemm(%v, %i, transB=1) : f32[..]";
    /// As an autoencoder ties its two ends.
    const BOTH_WAYS: &str = "%y = MatMul(%x, %w) : f32[..]
        %t = Transpose(%w) : f32[..]
        %z = MatMul(%y, %t) : f32[..]";
    /// As a language model ties its embeddings.
    const TABLE: &str = "%two = weight \"two\" i64[2] = [2, 0]
        %y = MatMul(%x, %w) : f32[..]
        %z = Gather(%w, %two) : f32[..]";
    const BESIDE: &str = "%y = MatMul(%x, %w) : f32[..]
        %z = Softplus(%w) : f32[..]";
    const EINSUM: &str = "%y = Einsum(%x, %w, equation=\"...d,do->...o\") : f32[..]
        %z = Einsum(%v, %w, equation=\"bd,do->bo\") : f32[..]";
    const EINSUM_TURNED: &str = "%y = Einsum(%x, %w, equation=\"bsd,od->bso\") : f32[..]
        %z = Gemm(%v, %w, transB=1) : f32[..]";

    #[test]
    fn a_weight_that_one_node_reads_many_times_is_followed_through_it_once() {
        let many = |count: usize, op: &str| {
            let operands = vec!["%w"; count].join(", ");
            let body =
                format!("%s = {op}({operands}) : f32[..]\n%y = MatMul(%x, %s) : f32[..]\n%z = Softplus(%v) : f32[..]");
            let graph = graph(SIDE, &[0.5; 12], &body);
            let weight = graph.weights().next().expect("a weight").0;
            let mut readers = Readers::new(&graph);
            readers.walk(weight, &Via::default());
            let found = candidates(&graph).into_iter().map(|c| c.obstacle).collect::<Vec<_>>();
            (readers.found.len(), found)
        };
        let obstacle = Some(Obstacle::Computed("Sum".into()));
        assert_eq!(many(500, "Sum"), (2, vec![obstacle.clone()]));
        assert_eq!(many(2, "Sum"), (2, vec![obstacle]));
        assert_eq!(many(2000, "Sum"), (0, vec![]), "its operands are not looked through");
    }

    #[test]
    fn a_branch_and_its_fold_reach_every_product_of_a_shared_weight() {
        let mut random = Random(3);
        for (body, transposed, products) in [
            (SHARED, false, 3),
            (TURNED, true, 2),
            (BOTH_WAYS, false, 2),
            (TABLE, false, 1),
            (BESIDE, false, 1),
            (EINSUM, false, 2),
            (EINSUM_TURNED, true, 2),
        ] {
            let dims = if transposed { [SIDE[1], SIDE[0]] } else { SIDE };
            let w: Vec<f64> = random.array(&dims, -1.0, 1.0).iter().map(|w| f64::from(*w as f32)).collect();
            let base = graph(dims, &w, body);
            let targets = select(&base, &["w"]).expect("a target");
            let matrix = targets[0].matrix().expect("a matrix");
            assert_eq!((targets.len(), matrix.transposed, matrix.products.len()), (1, transposed, products));
            assert_eq!([matrix.rows, matrix.cols], SIDE);

            let lora = Lora { rank: 2, alpha: 3.0, ..Lora::default() };
            let mut adapted = base.clone();
            lora.insert(&mut adapted, &targets, Use::Verify).expect("inserts");
            let (a, b) = (random.array(&[2, 3], -1.0, 1.0), random.array(&[4, 2], -1.0, 1.0));
            let narrow = |x: &Array| x.iter().map(|x| *x as f32).collect::<Vec<f32>>();
            let w0 = base.weight(matrix.weight).expect("a weight");
            let bytes = fold_low_rank(&targets[0], w0, &narrow(&a), &narrow(&b), lora.scale()).expect("folds");
            let folded = Tensor::new(w0.dtype(), dims.to_vec(), bytes).expect("fits").to_f64().expect("reals");
            let folded = graph(dims, &folded, body);

            let (x, v) = (random.array(&[2, 2, 3], -1.0, 1.0), random.array(&[5, 3], -1.0, 1.0));
            let feeds = [("x", x), ("v", v), ("w.lora_A", a), ("w.lora_B", b)];
            let run = |graph: &Graph, inputs: usize| evaluate(graph, &feeds[..inputs]).expect("runs");
            let (before, got, want) = (run(&base, 2), run(&adapted, 4), run(&folded, 2));
            for i in 0..2 {
                let far = |a: &Array, b: &Array| (a - b).iter().fold(0.0f64, |m, e| m.max(e.abs()));
                assert!(far(&got[i], &want[i]) < 1e-5, "{body}: {} is not {}", got[i], want[i]);
                assert!(far(&before[i], &want[i]) > 0.1);
            }
        }
    }

    #[test]
    fn a_constant_of_a_function_that_was_inlined_has_no_place_in_a_file() {
        let text = "graph g(%x: f32[N,2]) -> %y { %1 = weight \"%1\" f32[2,2] = [1, 2, 3, 4]
            %y = MatMul(%x, %1) : f32[N,2] }";
        let found = candidates(&lorac_ir::parse(text).expect("parses"));
        assert_eq!(found[0].obstacle, Some(Obstacle::InFunction));
    }

    #[test]
    fn what_lies_far_behind_a_weight_is_not_followed_to_the_end() {
        let chain = |count: usize| {
            let mut body = "%s0 = Identity(%w) : f32[..]\n".to_string();
            for i in 0..count {
                body += &format!("%s{} = Identity(%s{i}) : f32[..]\n", i + 1);
            }
            body += &format!("%y = MatMul(%x, %s{count}) : f32[..]\n%z = Softplus(%v) : f32[..]");
            matrices(&graph(SIDE, &[0.5; 12], &body)).len()
        };
        assert_eq!([chain(3), chain(20_000)], [1, 0]);
        // Every layer doubles the ways.
        let mut body = "%s0 = Identity(%w) : f32[..]\n".to_string();
        for i in 0..50 {
            body += &format!("%a{i} = Identity(%s{i}) : f32[..]\n%b{i} = Identity(%s{i}) : f32[..]\n");
            body += &format!("%s{} = Concat(%a{i}, %b{i}, axis=0) : f32[..]\n", i + 1);
        }
        body += "%y = Softplus(%x) : f32[..]\n%z = Softplus(%v) : f32[..]";
        assert!(matrices(&graph(SIDE, &[0.5; 12], &body)).is_empty());
    }

    /// Heads as axes of a weight, as `flax` and `keras_nlp` write them: `[in, heads, width]` and `[heads, width, out]`.
    #[test]
    fn a_weight_of_several_axes_is_a_matrix() {
        let text = |split: &[f64], merge: &[f64]| {
            format!(
                "graph g(%x: f32[N,2,3]) -> %y {{
                    %q = weight \"q\" f32[3,2,2] = {split:?}
                    %o = weight \"o\" f32[2,2,3] = {merge:?}
                    %h = Einsum(%x, %q, equation=\"bsd,dhk->bshk\") : f32[..]
                    %y = Einsum(%h, %o, equation=\"bshk,hkd->bsd\") : f32[..]
                }}"
            )
        };
        let read = |split: &[f64], merge: &[f64]| {
            let mut graph = parse(&text(split, merge)).expect("parses");
            infer(&mut graph).expect("infers");
            graph
        };
        let mut random = Random(3);
        let mut some =
            |n: usize| random.array(&[n], -1.0, 1.0).iter().map(|w| f64::from(*w as f32)).collect::<Vec<_>>();
        let (q, o, qa, qb, oa, ob, x) = (some(12), some(12), some(6), some(8), some(8), some(6), some(12));
        let base = read(&q, &o);
        let targets = select(&base, &["q", "o"]).expect("targets");
        let sides: Vec<_> = targets.iter().map(|t| (t.rows(), t.cols(), t.dims.clone())).collect();
        assert_eq!(sides, [(3, 4, vec![3, 2, 2]), (4, 3, vec![2, 2, 3])]);
        let lora = Lora { rank: 2, alpha: 3.0, ..Lora::default() };
        let mut adapted = base.clone();
        lora.insert(&mut adapted, &targets, Use::Train { tokens: Some(1 << 20) }).expect("inserts");
        let fold = |i: usize, a: &[f64], b: &[f64]| {
            let narrow = |x: &[f64]| x.iter().map(|x| *x as f32).collect::<Vec<f32>>();
            let w0 = base.weight(targets[i].weight).expect("a weight");
            let bytes = fold_low_rank(&targets[i], w0, &narrow(a), &narrow(b), lora.scale()).expect("folds");
            Tensor::new(w0.dtype(), w0.dims().to_vec(), bytes).expect("fits").to_f64().expect("reals")
        };
        let folded = read(&fold(0, &qa, &qb), &fold(1, &oa, &ob));
        let shaped = |dims: &[usize], x: &[f64]| Array::from_shape_vec(dims.to_vec(), x.to_vec()).expect("fits");
        let x = ("x", shaped(&[2, 2, 3], &x));
        let want = evaluate(&folded, std::slice::from_ref(&x)).expect("runs").remove(0);
        let factors = [
            ("q.lora_A", [2, 3], &qa),
            ("q.lora_B", [4, 2], &qb),
            ("o.lora_A", [2, 4], &oa),
            ("o.lora_B", [3, 2], &ob),
        ];
        let mut feeds = vec![x];
        feeds.extend(factors.map(|(name, dims, x)| (name, shaped(&dims, x))));
        let got = evaluate(&adapted, &feeds).expect("runs").remove(0);
        assert!((&got - &want).iter().all(|e| e.abs() < 1e-5), "{got} is not {want}");
    }

    #[test]
    fn a_weight_whose_own_value_is_an_output_is_no_target() {
        let square = [3, 3];
        for (body, found) in [
            ("%y = MatMul(%x, %w) : f32[..]\n %z = Identity(%w) : f32[..]", 0),
            ("%y = MatMul(%x, %w) : f32[..]\n %i = Identity(%w) : f32[..]\n %z = MatMul(%v, %i) : f32[..]", 1),
        ] {
            assert_eq!(matrices(&graph(square, &[0.5; 9], body)).len(), found, "{body}");
        }
    }
}
