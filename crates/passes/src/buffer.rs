//! Float weights that are no parameters: what PyTorch calls buffers, told by what the graph does with them.

use crate::trail::traits;
use lorac_ir::{Graph, Node, Tensor, Use, ValueId};
use std::collections::{BTreeMap, HashMap};

/// What is below this is what masks add to scores.
const MASKED: f64 = -1e3;

const OPERAND: &str = "a constant of the architecture and no parameter";
const ROTATION: &str = "a table of cosines and sines of positions and no parameter";
const FREQUENCY: &str = "multiplied with positions alone, as the frequencies of a rotation are, and no parameter";
const MASK: &str = "a mask and no parameter";

/// Weights that are buffers, and what they are: masks, tables of cosines and sines, what is multiplied with positions alone,
/// operands that an operator takes for constants.
pub(crate) fn buffers(graph: &Graph) -> BTreeMap<ValueId, &'static str> {
    let mut places = Places { graph, known: HashMap::new() };
    let several = graph.weights().filter(|(_, _, t)| t.dtype().is_float() && t.len() > 1);
    several
        .filter_map(|(weight, value, t)| Some((weight, buffer(graph, &mut places, weight, value.uses(), t)?)))
        .collect()
}

fn buffer(graph: &Graph, places: &mut Places, weight: ValueId, uses: &[Use], t: &Tensor) -> Option<&'static str> {
    let readers = moved(graph, weight, 8);
    if uses.is_empty() || readers.is_empty() {
        return None;
    }
    let all = |is: &mut dyn FnMut(&Node, usize, ValueId) -> bool| {
        readers.iter().all(|(value, u)| graph.node(u.node).is_some_and(|n| is(n, u.slot, *value)))
    };
    if all(&mut |n, slot, _| traits(n).constants.contains(&slot)) {
        return Some(OPERAND);
    }
    if all(&mut |n, _, value| {
        let others = n.inputs.iter().flatten().filter(|v| **v != value);
        let product = &*n.op.name == "Mul" || traits(n).projects.is_some();
        product && others.clone().next().is_some() && others.into_iter().all(|v| places.is_place(*v))
    }) {
        return Some(FREQUENCY);
    }
    let wide = t.dims().iter().filter(|d| **d > 1).count() > 1;
    if wide && all(&mut |n, _, value| rotates(graph, n, value)) {
        return Some(ROTATION);
    }
    (wide && is_mask(t)).then_some(MASK)
}

/// The uses of a value, and of what is made of it by moving its elements, each with the value that is used.
fn moved(graph: &Graph, value: ValueId, steps: usize) -> Vec<(ValueId, Use)> {
    let mut found = Vec::new();
    for u in graph.value(value).map(|v| v.uses()).unwrap_or_default() {
        let Some(node) = graph.node(u.node) else { continue };
        let traits = traits(node);
        if steps > 0 && (u.slot < traits.moves || (traits.reshapes && u.slot == 0)) {
            node.outputs.iter().for_each(|y| found.extend(moved(graph, *y, steps - 1)));
        } else {
            found.push((value, *u));
        }
    }
    found
}

/// `x cos + x' sin`: a product whose sum with another product of such a table is all that becomes of it.
fn rotates(graph: &Graph, node: &Node, table: ValueId) -> bool {
    let product = |n: &Node| &*n.op.name == "Mul";
    let Some([u]) = node.outputs.first().and_then(|y| graph.value(*y)).map(|v| v.uses()) else { return false };
    let Some(sum) = graph.node(u.node).filter(|n| traits(n).carries && n.inputs.len() == 2) else { return false };
    let other = sum.input(1 - u.slot.min(1)).and_then(|v| graph.producer(v)).map(|(_, n)| n);
    let by_table = |n: &Node| n.inputs.iter().flatten().any(|v| *v != table && from_weight(graph, *v, 8));
    product(node) && other.is_some_and(|n| product(n) && by_table(n))
}

/// Whether a value is a weight with its elements moved.
fn from_weight(graph: &Graph, value: ValueId, steps: usize) -> bool {
    match graph.producer(value) {
        None => graph.weight(value).is_some_and(|t| t.dims().iter().filter(|d| **d > 1).count() > 1),
        Some((_, n)) if steps > 0 && (traits(n).moves == 1 || traits(n).reshapes) => {
            n.input(0).is_some_and(|x| from_weight(graph, x, steps - 1))
        }
        Some(_) => false,
    }
}

/// Zeros and what is far below them, and both.
fn is_mask(t: &Tensor) -> bool {
    let Some(values) = t.to_f64() else { return false };
    let (mut open, mut closed) = (false, false);
    for x in values {
        match x {
            0.0 => open = true,
            x if x <= MASKED => closed = true,
            _ => return false,
        }
    }
    open && closed
}

/// Values that tell where tokens stand and not what they are.
struct Places<'g> {
    graph: &'g Graph,
    known: HashMap<ValueId, bool>,
}

impl Places<'_> {
    /// Whether a value is computed from integers, without a table and without a float weight of more than one number.
    fn is_place(&mut self, value: ValueId) -> bool {
        if let Some(known) = self.known.get(&value) {
            return *known;
        }
        let mut todo = vec![(value, false)];
        while let Some((at, asked)) = todo.pop() {
            let Some((_, node)) = self.graph.producer(at) else {
                let is = match self.graph.weight(at) {
                    Some(t) => t.len() <= 1 || !t.dtype().is_float(),
                    None => !self.graph.fact(at).dtype.is_float(),
                };
                self.known.insert(at, is);
                continue;
            };
            let operands = || node.operands().map(|(_, v)| v);
            if asked {
                let is = operands().all(|v| self.known.get(&v).copied().unwrap_or(false));
                self.known.insert(at, is);
            } else if !self.known.contains_key(&at) {
                todo.push((at, true));
                todo.extend(operands().filter(|v| !self.known.contains_key(v)).map(|v| (v, false)));
            }
        }
        self.known.get(&value).copied().unwrap_or(false)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frequencies_tables_and_masks_are_buffers_and_embeddings_are_not() {
        let graph = lorac_ir::parse(
            r#"graph g(%ids: i64[B,S], %at: i64[1,S]) -> %y {
              %words = weight "words" f32[9,2]
              %places = weight "places" f32[9,2]
              %scale = weight "scale" f32[2]
              %inv = weight "inv_freq" f32[2]
              %cos = weight "cos" f32[9,2]
              %sin = weight "sin" f32[9,2]
              %mask = weight "mask" f32[2,2] = [0, -10000, 0, 0]
              %w = weight "w" f32[2,2] = [0, 1, 2, 3]
              %e = Gather(%words, %ids) : f32[B,S,2]
              %p = Gather(%places, %at) : f32[1,S,2]
              %x = Add(%e, %p) : f32[B,S,2]
              %f = Cast(%at, to=1) : f32[1,S]
              %g = Unsqueeze(%f, %at) : f32[1,S,1]
              %m = Mul(%g, %inv) : f32[1,S,2]
              %c = Cos(%m) : f32[1,S,2]
              %k = Mul(%x, %c) : f32[B,S,2]
              %tc = Gather(%cos, %at) : f32[1,S,2]
              %ts = Gather(%sin, %at) : f32[1,S,2]
              %a = Mul(%k, %tc) : f32[B,S,2]
              %b = Mul(%x, %ts) : f32[B,S,2]
              %r = Add(%a, %b) : f32[B,S,2]
              %s = Mul(%r, %scale) : f32[B,S,2]
              %d = Add(%s, %mask) : f32[B,S,2]
              %y = MatMul(%d, %w) : f32[B,S,2]
            }"#,
        )
        .expect("parses");
        let found: Vec<String> = buffers(&graph).into_keys().map(|v| graph.name_of(v)).collect();
        assert_eq!(found, ["inv_freq", "cos", "sin", "mask"]);
    }
}
