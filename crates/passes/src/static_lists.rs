//! Lists of tensors whose elements are known before anything runs, as the values that they hold: exporters write a Split
//! as SplitToSequence and SequenceAt.

use crate::PassError;
use crate::rewrite::{replace_value, rewrite};
use lorac_ir::{Attr, DType, Graph, Node, ValueId, topological_order};
use lorac_ops::{Emit, Val};
use std::collections::HashMap;

/// Elements of lists that are followed, in all.
const MOST_ELEMENTS: usize = 1 << 14;

const LISTS: [&str; 8] = [
    "SplitToSequence",
    "SequenceConstruct",
    "SequenceEmpty",
    "SequenceInsert",
    "SequenceErase",
    "SequenceAt",
    "SequenceLength",
    "ConcatFromSequence",
];

/// Replaces what is read of a list whose elements are known (at a constant place, its length, all of it joined) by those
/// elements. Nodes that make lists stay until nothing reads them. Returns how many nodes were replaced.
///
/// # Errors
/// Shapes that contradict each other.
pub fn resolve_lists(graph: &mut Graph) -> Result<usize, PassError> {
    if !graph.nodes().any(|(_, n)| n.op.domain.is_empty() && LISTS.contains(&&*n.op.name)) {
        return Ok(0);
    }
    rewrite(graph, "lists", |e| {
        let mut lists = Lists { e, elements: HashMap::new(), values: HashMap::new(), left: MOST_ELEMENTS };
        let mut count = 0;
        for id in topological_order(e.graph()) {
            let Some(node) = e.graph().node(id).filter(|n| n.op.domain.is_empty()) else { continue };
            let Some(&y) = node.outputs.first() else { continue };
            e.set_source(&node.origin.source);
            let (elements, read) = (lists.list(node), lists.read(node));
            // What cannot be written is left as it is, and named where a gradient comes by.
            if e.take_error().is_some() {
                continue;
            }
            if let Some(elements) = elements {
                lists.left = lists.left.saturating_sub(elements.len());
                lists.elements.insert(y, elements);
            }
            if let Some(read) = read {
                lists.values.insert(y, read);
                replace_value(e, y, read);
                e.edit(|p| p.remove(id));
                count += 1;
            }
        }
        Ok(count)
    })
}

struct Lists<'e, 'g> {
    e: &'e Emit<'g>,
    elements: HashMap<ValueId, Vec<Val<'e, 'g>>>,
    /// What was read of lists, by the value that stood for it.
    values: HashMap<ValueId, Val<'e, 'g>>,
    left: usize,
}

impl<'e, 'g> Lists<'e, 'g> {
    fn operand(&self, node: &Node, slot: usize) -> Option<Val<'e, 'g>> {
        let value = node.input(slot)?;
        Some(self.values.get(&value).copied().unwrap_or_else(|| self.e.val(value)))
    }

    fn held(&self, node: &Node) -> Option<&Vec<Val<'e, 'g>>> {
        self.elements.get(&node.input(0)?)
    }

    /// The place that operand `slot` names among `n`; `default` where it is absent.
    fn place(&self, node: &Node, slot: usize, n: usize, default: usize) -> Option<usize> {
        let Some(place) = self.operand(node, slot) else { return Some(default) };
        let [place] = place.known_ints()?[..] else { return None };
        usize::try_from(if place < 0 { place.checked_add(n as i64)? } else { place }).ok()
    }

    /// The elements of the list that a node makes.
    fn list(&self, node: &'g Node) -> Option<Vec<Val<'e, 'g>>> {
        let made = match &*node.op.name {
            "SplitToSequence" => return self.split(node),
            "SequenceEmpty" => Vec::new(),
            "SequenceConstruct" => (0..node.inputs.len()).map(|i| self.operand(node, i)).collect::<Option<_>>()?,
            "SequenceInsert" => {
                let mut held = self.held(node)?.clone();
                let at = self.place(node, 2, held.len(), held.len()).filter(|at| *at <= held.len())?;
                held.insert(at, self.operand(node, 1)?);
                held
            }
            "SequenceErase" => {
                let mut held = self.held(node)?.clone();
                let at = self.place(node, 1, held.len(), held.len().checked_sub(1)?).filter(|at| *at < held.len())?;
                held.remove(at);
                held
            }
            "Identity" => self.held(node)?.clone(),
            _ => return None,
        };
        (made.len() <= self.left).then_some(made)
    }

    /// Pieces of known lengths, or as many as an axis of known length has.
    fn split(&self, node: &Node) -> Option<Vec<Val<'e, 'g>>> {
        let x = self.operand(node, 0)?;
        let fact = x.fact();
        let dims = fact.dims()?;
        let axis = node.int("axis", 0);
        let axis = usize::try_from(if axis < 0 { axis + dims.len() as i64 } else { axis }).ok()?;
        let len = dims.get(axis)?.known();
        let lens: Vec<i64> = match self.operand(node, 1) {
            None => vec![1; self.affordable(len?)?],
            Some(split) if split.fact().rank() == Some(0) => {
                let [piece] = split.known_ints()?[..] else { return None };
                let len = len.filter(|_| piece > 0)?;
                let count = self.affordable(len / piece + i64::from(len % piece > 0))?;
                (0..count as i64).map(|i| piece.min(len - i * piece)).collect()
            }
            Some(split) => split.known_ints().or_else(|| split.tensor()?.to_i64())?,
        };
        self.affordable(lens.len() as i64)?;
        let pieces = match lens.as_slice() {
            [] => return None,
            [_] => vec![x],
            lens => self.e.ops("Split", &[x, self.e.ints(lens)], &[("axis", Attr::Int(axis as i64))], lens.len()),
        };
        // The axis goes only where every piece is of length 1 by itself.
        let squeezed = node.int("keepdims", 1) == 0 && node.input(1).is_none();
        let axes = self.e.ints(&[axis as i64]);
        Some(pieces.into_iter().map(|p| if squeezed { p.binary("Squeeze", axes) } else { p }).collect())
    }

    fn affordable(&self, n: i64) -> Option<usize> {
        usize::try_from(n).ok().filter(|n| *n <= self.left)
    }

    /// What a node reads of a list.
    fn read(&self, node: &Node) -> Option<Val<'e, 'g>> {
        let e = self.e;
        match &*node.op.name {
            "SequenceAt" => {
                let held = self.held(node)?;
                held.get(self.place(node, 1, held.len(), 0)?).copied()
            }
            "SequenceLength" => Some(e.scalar(self.held(node)?.len() as f64, DType::I64)),
            "ConcatFromSequence" => {
                let held = self.held(node).filter(|held| !held.is_empty())?;
                let axis = node.int("axis", 0);
                let joined = match node.int("new_axis", 0) {
                    0 => held.clone(),
                    _ => held.iter().map(|v| v.binary("Unsqueeze", e.ints(&[axis]))).collect(),
                };
                Some(e.op("Concat", &joined, &[("axis", Attr::Int(axis))]))
            }
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::remove_dead;
    use lorac_ops::{Array, evaluate, infer};

    fn run(body: &str) -> (Graph, usize) {
        let text = format!("graph g(%x: f32[2,6], %n: i64[]) {{ {body} }}");
        let mut graph = lorac_ir::parse(&text).expect("parses");
        let y = graph.find("y").expect("y");
        graph.set_outputs(vec![y]).expect("y");
        let count = resolve_lists(&mut graph).expect("resolves");
        remove_dead(&mut graph).expect("removes");
        infer(&mut graph).expect("infers");
        (graph, count)
    }

    fn values(body: &str) -> (Vec<usize>, Vec<f64>) {
        let (graph, _) = run(body);
        let x = Array::from_shape_vec(vec![2, 6], (0..12).map(f64::from).collect()).expect("fits");
        let y = evaluate(&graph, &[("x", x), ("n", Array::from_elem(vec![], 1.0))]).expect("no list is left").remove(0);
        assert_eq!(graph.fact(graph.outputs()[0]).known_dims().as_deref(), Some(y.shape()));
        (y.shape().to_vec(), y.into_iter().collect())
    }

    const SPLIT: &str = "%two = weight \"two\" i64[] = [2]\n%last = weight \"last\" i64[] = [-1]
        %s = SplitToSequence(%x, %two, axis=1) : opaque[..]\n";

    #[test]
    fn what_is_read_of_a_split_is_a_part() {
        let (dims, y) = values(&format!("{SPLIT} %y = SequenceAt(%s, %last) : f32[..]"));
        assert_eq!((dims, y), (vec![2, 2], vec![4.0, 5.0, 10.0, 11.0]));
        let lens = "%lens = weight \"lens\" i64[2] = [4, 2]\n%at = weight \"at\" i64[] = [1]";
        let (dims, _) = values(&format!(
            "{lens}\n%s = SplitToSequence(%x, %lens, axis=-1) : opaque[..]\n%y = SequenceAt(%s, %at) : f32[..]"
        ));
        assert_eq!(dims, [2, 2]);
        let (dims, y) = values(
            "%at = weight \"at\" i64[] = [1]\n%s = SplitToSequence(%x, keepdims=0) : opaque[..]
             %y = SequenceAt(%s, %at) : f32[..]",
        );
        assert_eq!((dims, y), (vec![6], vec![6.0, 7.0, 8.0, 9.0, 10.0, 11.0]));
    }

    #[test]
    fn lists_are_built_counted_and_joined() {
        let built = "%s1 = SequenceErase(%s, %last) : opaque[..]\n%s2 = SequenceInsert(%s1, %x) : opaque[..]";
        let (dims, _) = values(&format!("{SPLIT} {built}\n%y = ConcatFromSequence(%s2, axis=1) : f32[..]"));
        assert_eq!(dims, [2, 10]);
        let (_, y) = values(&format!("{SPLIT} {built}\n%y = SequenceLength(%s2) : i64[]"));
        assert_eq!(y, [3.0]);
        let (dims, _) = values(
            "%s = SequenceConstruct(%x, %x) : opaque[..]\n%y = ConcatFromSequence(%s, axis=0, new_axis=1) : f32[..]",
        );
        assert_eq!(dims, [2, 2, 6]);
    }

    #[test]
    fn what_the_run_decides_stays() {
        assert_eq!(run(&format!("{SPLIT} %y = SequenceAt(%s, %n) : f32[..]")).1, 0);
        assert_eq!(run("%s = SplitToSequence(%x, %n) : opaque[..]\n%y = SequenceLength(%s) : i64[]").1, 0);
    }
}
