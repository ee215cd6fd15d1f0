//! The order of chained products, by cost: `(x^T g) B` is `x^T (g B)`, and cheaper so where B has few columns. The
//! gradient of `x (W + s A B)` is full of them.

use crate::PassError;
use crate::rewrite::{replace_value, rewrite};
use lorac_ir::{Attr, Dim, Graph, Node, NodeId, ValueId};
use lorac_ops::{Emit, Val};
use std::collections::HashSet;

/// Lengths that are known only at run time are taken for each of these; an order has to be cheaper for all.
const LENGTHS: [i64; 2] = [8, 1024];

/// Computes `Gemm(Gemm(p, q), m)` as `Gemm(p, Gemm(q, m))` (and so on the other side) where that takes fewer
/// operations, for all that read the inner product together. Returns how many inner products went.
pub fn reassociate(graph: &mut Graph) -> Result<usize, PassError> {
    rewrite(graph, "reassociate", |e| {
        let mut count = 0;
        let mut touched = HashSet::new();
        for (id, node) in e.graph().nodes() {
            let Some(chains) = chains(e.graph(), node) else { continue };
            // Of products in a row, only every other one goes at once.
            let operands = node.inputs.iter().flatten().filter_map(|v| e.graph().producer(*v));
            let operands = operands.filter(|(_, n)| factors(n).is_some()).map(|(id, _)| id);
            let around: Vec<NodeId> = operands.chain(chains.iter().map(|c| c.outer)).chain([id]).collect();
            if around.iter().any(|n| touched.contains(n)) {
                continue;
            }
            chains.iter().for_each(|chain| chain.write(e));
            touched.extend(around);
            count += 1;
        }
        Ok(count)
    })
}

/// An operand of a product: a matrix, or its transpose.
#[derive(Clone, Copy)]
struct Factor {
    value: ValueId,
    turned: bool,
}

impl Factor {
    fn turn(self) -> Factor {
        Factor { turned: !self.turned, ..self }
    }

    fn sides(self, graph: &Graph) -> Option<[Dim; 2]> {
        let [p, q] = <[Dim; 2]>::try_from(graph.fact(self.value).dims()?.to_vec()).ok()?;
        Some(if self.turned { [q, p] } else { [p, q] })
    }
}

/// The two operands of a Gemm.
fn factors(node: &Node) -> Option<[Factor; 2]> {
    if &*node.op.name != "Gemm" || !node.op.domain.is_empty() {
        return None;
    }
    let turned = |name| node.int(name, 0) != 0;
    let left = Factor { value: node.input(0)?, turned: turned("transA") };
    Some([left, Factor { value: node.input(1)?, turned: turned("transB") }])
}

/// `first` is computed first, then its product with `last`, which was a factor of the inner product.
struct Chain {
    outer: NodeId,
    first: [Factor; 2],
    last: Factor,
    /// Whether `last` is the left operand.
    leads: bool,
    /// The factor of the inner product.
    alpha: f32,
}

/// What becomes of all that read the product `id`, if that is cheaper.
fn chains(graph: &Graph, inner: &Node) -> Option<Vec<Chain>> {
    let [left, right] = factors(inner)?;
    let alpha = inner.float("alpha", 1.0);
    let value = *inner.outputs.first()?;
    if inner.input(2).is_some() || graph.is_output(value) {
        return None;
    }
    let uses = graph.value(value)?.uses();
    let chain = |user: &lorac_ir::Use| {
        let outer = graph.node(user.node)?;
        let operands = factors(outer)?;
        let turned = operands.get(user.slot)?.turned;
        let other = operands[1 - user.slot];
        let [p, q] = if turned { [right.turn(), left.turn()] } else { [left, right] };
        let leads = user.slot == 0;
        let (first, last) = if leads { ([q, other], p) } else { ([other, p], q) };
        (other.value != value).then_some(Chain { outer: user.node, first, last, leads, alpha })
    };
    let chains: Vec<Chain> = uses.iter().map(chain).collect::<Option<_>>()?;
    let cheaper = |length| {
        chains
            .iter()
            .try_fold(operations(graph, [left, right], length)?, |gain, chain| Some(gain + chain.gain(graph, length)?))
    };
    let all = !chains.is_empty() && LENGTHS.iter().all(|l| cheaper(*l).is_some_and(|gain| gain > 0));
    all.then_some(chains)
}

/// Multiplications of a product, with a number for every length that only the run knows.
fn operations(graph: &Graph, [a, b]: [Factor; 2], length: i64) -> Option<i128> {
    let ([m, k], [_, n]) = (a.sides(graph)?, b.sides(graph)?);
    [m, k, n].into_iter().map(|d| d.eval(&|_| Some(length)).map(i128::from)).product()
}

impl Chain {
    /// What the outer product costs now, less what it will cost.
    fn gain(&self, graph: &Graph, length: i64) -> Option<i128> {
        let now = graph.node(self.outer).and_then(factors)?;
        let number = |d: Dim| d.eval(&|_| Some(length)).map(i128::from);
        let ([m, _], [_, n]) = (now[0].sides(graph)?, now[1].sides(graph)?);
        let inside = self.last.sides(graph)?[usize::from(self.leads)];
        let then = operations(graph, self.first, length)? + number(m)? * number(inside)? * number(n)?;
        Some(operations(graph, now, length)? - then)
    }

    fn write(&self, e: &Emit) {
        let Some(outer) = e.graph().node(self.outer) else { return };
        e.set_source(&outer.origin.source);
        let [a, b] = self.first;
        let first = gemm(e, [(e.val(a.value), a.turned), (e.val(b.value), b.turned)], None, &[("alpha", self.alpha)]);
        let last = (e.val(self.last.value), self.last.turned);
        let pair = if self.leads { [last, (first, false)] } else { [(first, false), last] };
        let scales = [("alpha", outer.float("alpha", 1.0)), ("beta", outer.float("beta", 1.0))];
        let sum = gemm(e, pair, outer.input(2).map(|c| e.val(c)), &scales);
        if let Some(old) = outer.outputs.first() {
            replace_value(e, *old, sum);
        }
    }
}

fn gemm<'e, 'g>(
    e: &'e Emit<'g>,
    [(a, ta), (b, tb)]: [(Val<'e, 'g>, bool); 2],
    c: Option<Val<'e, 'g>>,
    scales: &[(&'static str, f32)],
) -> Val<'e, 'g> {
    let turns = [("transA", ta), ("transB", tb)].into_iter().filter(|(_, on)| *on).map(|(n, _)| (n, Attr::Int(1)));
    let scales = scales.iter().filter(|(_, s)| *s != 1.0).map(|(n, s)| (*n, Attr::Float(*s)));
    let attrs: Vec<(&str, Attr)> = turns.chain(scales).collect();
    let operands: Vec<Val> = [a, b].into_iter().chain(c).collect();
    e.op("Gemm", &operands, &attrs)
}
