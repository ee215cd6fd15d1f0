//! Several examples in one row, none of which sees another: scores of attention between tokens of different examples are
//! hidden, and positions begin anew with every example.
//!
//! Wherever an exporter has put the mask, what it is for passes through a `Softmax` over numbers for every pair of tokens: there
//! the pairs of different examples are hidden too. Rows of a table of positions are looked up at the place in the example, as the
//! model itself would look it up at that place of a row. What mixes tokens in any other way is not found here; whoever packs
//! compares what comes out with the examples by themselves.

use crate::input_limits::{counts_tokens, upstream};
use crate::rewrite::{display_name, replace_value, rewrite};
use crate::{PassError, remove_dead};
use lorac_ir::{Attr, DType, Dim, Fact, Graph, Node, NodeId, ValueId, topological_order};
use lorac_ops::{Emit, Val};
use std::collections::{HashMap, HashSet};

/// The input that says which example of its row a token belongs to, i64 `[rows, length]`; padding belongs to the last one.
pub const EXAMPLE_IDS: &str = "example_ids";

/// The input of places in their examples, i64 `[rows, length]`, of a model that has no such input itself.
pub const EXAMPLE_POSITIONS: &str = "example_positions";

/// Where examples were kept apart; each by the name of a node of the user's model.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Isolated {
    /// Attentions.
    pub attentions: Vec<String>,
    /// Lookups of positions.
    pub positions: Vec<String>,
    /// What mixes tokens, or may do so, and was left as it is, each with its operator.
    pub others: Vec<String>,
}

/// Keeps the examples of a row apart, in a graph that [`crate::prepare`] has made, by new inputs [`EXAMPLE_IDS`] and, where there
/// are tables of positions, [`EXAMPLE_POSITIONS`]. Rows of one example give what they gave.
///
/// # Errors
/// Tokens that are no matrix.
pub fn isolate_examples(graph: &mut Graph) -> Result<Isolated, PassError> {
    let isolated = rewrite(graph, "isolate", |e| {
        let graph = e.graph();
        let tokens = graph.input("input_ids").and_then(|v| graph.fact(v).dims().map(<[Dim]>::to_vec));
        let Some(&[rows, length]) = tokens.as_deref() else {
            return Err(PassError::Unsuitable("the model is not fed tokens in rows".into()));
        };
        let mut isolated = Isolated::default();
        attention(e, [rows, length], &mut isolated);
        positions(e, [rows, length], &mut isolated);
        Ok(isolated)
    })?;
    remove_dead(graph)?;
    Ok(isolated)
}

fn is(node: &Node, name: &str) -> bool {
    node.op.domain.is_empty() && &*node.op.name == name
}

/// Operators that mix what is of different tokens.
const MIXERS: [&str; 9] =
    ["Conv", "ConvTranspose", "CumSum", "LSTM", "GRU", "RNN", "Scan", "Loop", "DynamicQuantizeLinear"];

/// Hides the pairs of tokens of different examples from every attention.
fn attention(e: &Emit, [rows, length]: [Dim; 2], isolated: &mut Isolated) {
    let graph = e.graph();
    let mut ids = None;
    let mut masks = HashMap::new();
    for (id, node) in graph.nodes() {
        let Some(scores) = node.input(0) else { continue };
        let fact = graph.fact(scores);
        let dims = fact.dims().unwrap_or_default();
        let name = || display_name(graph, node);
        if MIXERS.contains(&&*node.op.name) && fact.dtype.is_float() {
            isolated.others.push(format!("`{}` ({})", name(), node.op.name));
        }
        if !is(node, "Softmax") {
            continue;
        }
        let pairs = if dims.len() >= 3 { &dims[dims.len() - 2..] } else { &[] };
        // A mask of another input's length leaves one of them open.
        let of_pairs = pairs.iter().any(|dim| dim.same(length))
            && pairs.iter().all(|dim| dim.same(length) || *dim == Dim::Unknown);
        let is_last = [-1, dims.len() as i64 - 1].contains(&node.int("axis", -1));
        if !of_pairs || !is_last || (dims.len() > 3 && !dims[0].same(rows)) {
            isolated.others.push(format!("`{}` (Softmax over {fact})", name()));
            continue;
        }
        let ids = *ids.get_or_insert_with(|| e.input(EXAMPLE_IDS, Fact::new(DType::I64, vec![rows, length])));
        e.set_source(&node.origin.source);
        hide(e, id, scores, ids, rows, &mut masks);
        isolated.attentions.push(name());
    }
}

/// Hides pairs of different examples from a Softmax: in the mask that is added to its scores, where one is for all heads, else in
/// the scores.
fn hide<'e, 'g>(
    e: &'e Emit<'g>,
    softmax: NodeId,
    scores: ValueId,
    ids: Val<'e, 'g>,
    rows: Dim,
    masks: &mut HashMap<ValueId, Val<'e, 'g>>,
) {
    let graph = e.graph();
    if let Some((own, mask)) = added_mask(graph, scores) {
        let masked = *masks.entry(mask).or_insert_with(|| only_within(e.val(mask), ids));
        replace_value(e, scores, e.val(own) + masked);
        return;
    }
    let value = e.val(scores);
    let dims = graph.fact(scores).dims().map(<[Dim]>::to_vec).unwrap_or_default();
    let hidden = match dims.len() == 3 && !dims[0].same(rows) {
        false => only_within(value, ids),
        true => {
            // Heads are part of the rows.
            let heads = e.op("Concat", &[ids.lens(0..1), e.ints(&[-1]), value.lens(1..3)], &[("axis", 0i64.into())]);
            only_within(value.binary("Reshape", heads), ids).reshape_like(value)
        }
    };
    let Some(node) = graph.node(softmax) else { return };
    let attrs: Vec<(&str, Attr)> = node.attrs.iter().map(|(name, attr)| (&**name, attr.clone())).collect();
    let made = e.op("Softmax", &[hidden], &attrs);
    if let Some(old) = node.outputs.first() {
        replace_value(e, *old, made);
    }
}

/// What a mask `[.., 1, length, length]` is added to, and the mask; nothing where there is none.
fn added_mask(graph: &Graph, scores: ValueId) -> Option<(ValueId, ValueId)> {
    let (_, node) = graph.producer(scores).filter(|(_, node)| is(node, "Add"))?;
    let (a, b) = (node.input(0)?, node.input(1)?);
    let whole = graph.fact(scores).dims()?.to_vec();
    let rank = whole.len();
    let is_mask = |v: ValueId| {
        let fact = graph.fact(v);
        let dims = fact.dims().unwrap_or_default();
        let heads = |dims: &[Dim]| dims[1..rank - 2].iter().all(|dim| *dim == Dim::Known(1));
        dims.len() == rank && rank > 3 && dims[rank - 2..] == whole[rank - 2..] && heads(dims) && !heads(&whole)
    };
    match (is_mask(a), is_mask(b)) {
        (false, true) => Some((a, b)),
        (true, false) => Some((b, a)),
        _ => None,
    }
}

/// The numbers `[rows, .., length, length]`, of pairs of different examples the lowest of their type.
fn only_within<'e, 'g>(x: Val<'e, 'g>, ids: Val<'e, 'g>) -> Val<'e, 'g> {
    let (e, rank) = (x.emit(), x.rank() as i64);
    let of = |last: i64| {
        let axes: Vec<i64> = (1..rank - 2).chain([last]).collect();
        ids.binary("Unsqueeze", e.ints(&axes))
    };
    let same = of(rank - 1).binary("Equal", of(rank - 2));
    let lowest = match x.fact().dtype {
        DType::F16 => -65504.0,
        DType::BF16 => -3.389_531_389_251_535_5e38,
        DType::F64 => f64::MIN,
        _ => f64::from(f32::MIN),
    };
    // An infinity would be NaN where nothing else of a row counts.
    e.op("Where", &[same, x, x.like(lowest)], &[])
}

/// Looks positions up at places in examples.
fn positions(e: &Emit, [rows, length]: [Dim; 2], isolated: &mut Isolated) {
    let graph = e.graph();
    let own = graph.input("position_ids");
    let mut places = None;
    for (id, node) in graph.nodes().filter(|(_, node)| is(node, "Gather") && node.int("axis", 0) == 0) {
        let (Some(data), Some(indices)) = (node.input(0), node.input(1)) else { continue };
        let fact = graph.fact(indices);
        let of_rows = match fact.dims() {
            Some([n]) => n.same(length),
            Some([b, n]) => n.same(length) && (b.same(rows) || *b == Dim::Known(1)),
            _ => false,
        };
        let is_fixed = |v: ValueId| upstream(graph, v).values.iter().all(|v| !graph.is_input(*v));
        let given = || own.is_some_and(|own| upstream(graph, indices).values.contains(&own));
        if !of_rows || !is_fixed(data) || given() || !counts_tokens(graph, indices) {
            continue;
        }
        let at = *places.get_or_insert_with(|| e.input(EXAMPLE_POSITIONS, Fact::new(DType::I64, vec![rows, length])));
        e.set_source(&node.origin.source);
        let all = e.val(indices);
        let all = if fact.dims().is_some_and(|d| d.first().is_some_and(|b| b.same(rows)) && d.len() == 2) {
            all
        } else {
            all.binary("Expand", at.shape())
        };
        let restarted = e.op("GatherElements", &[all, at], &[("axis", 1i64.into())]);
        let looked = e.op("Gather", &[e.val(data), restarted], &[("axis", 0i64.into())]);
        reread(e, id, looked);
        match e.take_error() {
            None => isolated.positions.push(display_name(graph, node)),
            Some(_) => isolated.others.push(format!("`{}` (Gather of positions)", display_name(graph, node))),
        }
    }
}

/// Lets what reads the result of a node read `new`, which may have a shape of its own: what is computed of it is computed anew up
/// to where shapes are what they were.
fn reread<'e, 'g>(e: &'e Emit<'g>, node: NodeId, new: Val<'e, 'g>) {
    let graph = e.graph();
    let Some(old) = graph.node(node).and_then(|node| node.outputs.first().copied()) else { return };
    if graph.fact(old) == new.fact() {
        replace_value(e, old, new);
        return;
    }
    let mut known = HashMap::from([(old, new)]);
    let mut done = HashSet::from([node]);
    for id in topological_order(graph) {
        let Some(node) = graph.node(id) else { continue };
        if !done.insert(id) || !node.operands().any(|(_, v)| known.contains_key(&v)) {
            continue;
        }
        let inputs: Vec<Val> = node
            .inputs
            .iter()
            .map(|v| v.map_or(e.absent(), |v| known.get(&v).copied().unwrap_or_else(|| e.val(v))))
            .collect();
        let attrs: Vec<(&str, Attr)> = node.attrs.iter().map(|(name, attr)| (&**name, attr.clone())).collect();
        e.set_source(&node.origin.source);
        let unsqueezed =
            is(node, "Unsqueeze") && inputs[0].rank() > graph.fact(node.inputs[0].unwrap_or(old)).rank().unwrap_or(0);
        let made = match unsqueezed {
            // The axis of rows is there already.
            true => vec![inputs[0]],
            false => e.ops(&node.op.name, &inputs, &attrs, node.outputs.len()),
        };
        for (was, is) in node.outputs.iter().zip(made) {
            match graph.fact(*was) == is.fact() {
                true => drop(replace_value(e, *was, is)),
                false => drop(known.insert(*was, is)),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use lorac_ops::{Array, evaluate};

    fn isolated(text: &str) -> (Graph, Isolated) {
        let mut graph = lorac_ir::parse(text).unwrap_or_else(|e| panic!("{e}"));
        let found = isolate_examples(&mut graph).unwrap_or_else(|e| panic!("{e}"));
        (graph, found)
    }

    fn numbers(graph: &Graph, feeds: &[(&str, &[usize], &[f64])]) -> Vec<f64> {
        let array = |dims: &[usize], data: &[f64]| Array::from_shape_vec(dims, data.to_vec()).expect("fits");
        let feeds: Vec<(&str, Array)> = feeds.iter().map(|(name, dims, data)| (*name, array(dims, data))).collect();
        evaluate(graph, &feeds).unwrap_or_else(|e| panic!("{e}")).into_iter().flatten().collect()
    }

    fn softmax(lines: &str, scores: &str) -> String {
        format!(
            "graph g(%input_ids: i64[B,S], %x: {scores}, %mask: f32[B,1,S,S]) -> %p {{ {lines} %p = Softmax(%s, axis=-1) : {scores} }}"
        )
    }

    const TOKENS: (&str, &[usize], &[f64]) = ("input_ids", &[1, 3], &[5.0; 3]);
    const IDS: (&str, &[usize], &[f64]) = ("example_ids", &[1, 3], &[0.0, 0.0, 1.0]);
    const APART: [f64; 9] = [0.5, 0.5, 0.0, 0.5, 0.5, 0.0, 0.0, 0.0, 1.0];

    #[test]
    fn pairs_of_other_examples_are_hidden_in_scores_of_any_rank_and_in_the_mask_of_all_heads() {
        let plain = "%s = Identity(%x) : ";
        for (scores, dims) in
            [("f32[B,S,S]", &[1, 3, 3][..]), ("f32[B,2,S,S]", &[1, 2, 3, 3]), ("f32[2*B,S,S]", &[2, 3, 3])]
        {
            let (graph, found) = isolated(&softmax(&format!("{plain}{scores}"), scores));
            assert_eq!((found.attentions, found.others), (vec!["p".to_string()], Vec::<String>::new()), "{scores}");
            let got = numbers(
                &graph,
                &[TOKENS, IDS, ("mask", &[1, 1, 3, 3], &[0.0; 9]), ("x", dims, &vec![0.25; dims.iter().product()])],
            );
            assert!(got.chunks(9).all(|head| head == APART), "{scores}: {got:?}");
        }
        let text = softmax("%s = Add(%x, %mask) : f32[B,2,S,S]\n", "f32[B,2,S,S]");
        let two = text
            .replace("-> %p", "-> %p, %q")
            .replace(" }", "\n%t = Add(%x, %mask) : f32[B,2,S,S]\n%q = Softmax(%t, axis=3) : f32[B,2,S,S] }");
        let (graph, found) = isolated(&two);
        let wheres = graph.nodes().filter(|(_, node)| is(node, "Where")).count();
        assert_eq!((found.attentions.len(), wheres), (2, 1), "both read one mask");
        let got =
            numbers(&graph, &[TOKENS, IDS, ("x", &[1, 2, 3, 3], &[0.25; 18]), ("mask", &[1, 1, 3, 3], &[0.0; 9])]);
        assert!(got.len() == 36 && got.chunks(9).all(|head| head == APART), "{got:?}");
    }

    #[test]
    fn what_is_no_attention_over_the_row_is_left_and_named() {
        let text = softmax("%s = Identity(%x) : f32[B,2,S,7]\n", "f32[B,2,S,7]");
        let (graph, found) = isolated(&text);
        assert!(found.attentions.is_empty() && graph.find(EXAMPLE_IDS).is_none());
        assert_eq!(found.others, ["`p` (Softmax over f32[B,2,S,7])"]);
        let sum = "graph g(%input_ids: i64[B,S], %x: f32[B,S]) -> %y { %one = weight \"one\" i64[] = [1]\n\
                   %y = CumSum(%x, %one) : f32[B,S] }";
        assert_eq!(isolated(sum).1.others, ["`y` (CumSum)"]);
    }

    #[test]
    fn positions_begin_anew_whatever_shape_they_have() {
        let model = |lines: &str, of: &str| {
            format!(
                "graph g(%input_ids: i64[B,S], %attention_mask: i64[B,S], %x: f32[B,S,1]) -> %y {{
                    %table = weight \"table\" f32[9,1] = [0, 10, 20, 30, 40, 50, 60, 70, 80]
                    %zero = weight \"zero\" i64[] = [0]
                    %one = weight \"one\" i64[] = [1]
                    %zeros = weight \"zeros\" i64[1] = [0]
                    %n = Shape(%input_ids, start=1) : i64[1]
                    %m = Squeeze(%n) : i64[]
                    %r = Range(%zero, %m, %one) : i64[S]
                    {lines}
                    %y = Add(%x, %{of}) : f32[B,S,1] }}"
            )
        };
        let rows = [
            ("%t = Gather(%table, %r) : f32[S,1]", "t", 0.0),
            ("%g = Gather(%table, %r) : f32[S,1]\n%t = Unsqueeze(%g, %zeros) : f32[1,S,1]", "t", 0.0),
            ("%u = Unsqueeze(%r, %zeros) : i64[1,S]\n%t = Gather(%table, %u) : f32[1,S,1]", "t", 0.0),
            // Counted over what is no padding, from the second row on.
            ("%p = CumSum(%attention_mask, %one) : i64[B,S]\n%t = Gather(%table, %p) : f32[B,S,1]", "t", 10.0),
        ];
        for (lines, of, first) in rows {
            let (graph, found) = isolated(&model(lines, of));
            assert_eq!(found.positions.len(), 1, "{lines}: {found:?}");
            let places: (&str, &[usize], &[f64]) = ("example_positions", &[1, 4], &[0.0, 1.0, 0.0, 1.0]);
            let mask: (&str, &[usize], &[f64]) = ("attention_mask", &[1, 4], &[1.0; 4]);
            let ids: (&str, &[usize], &[f64]) = ("input_ids", &[1, 4], &[3.0; 4]);
            let got = numbers(&graph, &[ids, places, mask, ("x", &[1, 4, 1], &[0.0; 4])]);
            assert_eq!(got, [0.0, 10.0, 0.0, 10.0].map(|x| x + first), "{lines}");
        }
        // Kinds of tokens stay as they are.
        let kinds = "%k = Mul(%r, %zero) : i64[S]\n%t = Gather(%table, %k) : f32[S,1]";
        assert_eq!(isolated(&model(kinds, "t")).1, Isolated::default());
    }
}
