//! How far into a table rows of a length look, found by computing the indices.

use crate::dead::remove_dead;
use lorac_ir::{Dim, Graph, ValueId};
use lorac_ops::{Array, evaluate};

/// What a table is to the tokens of a row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Reach {
    /// Each token has a row of its own: so many tokens have one.
    Positions(usize),
    /// Rows stand for something else: kinds of tokens, or distances up to a largest one.
    Other,
    /// The indices cannot be computed.
    Unknown,
}

/// Longer rows are not computed: those are tables of positions by their size.
const MOST: usize = 64;

/// What computes indices out of lengths and masks has no more nodes, and no more numbers in its weights.
const MOST_NODES: usize = 256;
const MOST_NUMBERS: usize = 1 << 22;

/// What a table of so many rows is that is looked up at `indices`, which depend on the inputs.
pub(super) fn reach(graph: &Graph, indices: ValueId, rows: usize) -> Reach {
    let Some(looked) = Lookup::new(graph, indices) else { return Reach::Unknown };
    let (Some(first), Some(second)) = (looked.at(1), looked.at(2)) else { return Reach::Unknown };
    let most = match usize::try_from(first.largest) {
        Ok(offset) if second.largest == first.largest + 1 && offset < rows => rows - offset,
        _ => return Reach::Other,
    };
    if rows > MOST {
        return Reach::Positions(most);
    }
    // Distances are cut off at the last row, or grow ever slower.
    let last = looked.at(most).is_some_and(|last| last.largest + 1 == rows as i64);
    let ends = looked.at(most + 1).is_none_or(|beyond| beyond.largest >= rows as i64 || beyond.tokens <= most);
    if last && ends { Reach::Positions(most) } else { Reach::Other }
}

/// Whether indices, `[.., length]`, are numbers that follow each other from token to token.
pub(crate) fn counts_tokens(graph: &Graph, indices: ValueId) -> bool {
    const TOKENS: usize = 5;
    let Some(lookup) = Lookup::new(graph, indices) else { return false };
    let follow = |array: &Array| {
        let all: Vec<f64> = array.iter().copied().collect();
        all.len() == TOKENS && all.windows(2).all(|pair| pair[1] == pair[0] + 1.0)
    };
    TOKEN_IDS.into_iter().any(|token| lookup.indices(TOKENS, token).is_some_and(|array| follow(&array)))
}

/// One of two tokens is not what pads.
const TOKEN_IDS: [f64; 2] = [0.0, 3.0];

/// The part of a graph that computes indices.
struct Lookup {
    graph: Graph,
    rows: Dim,
    length: Dim,
}

/// Indices for a row of some length.
struct Looked {
    largest: i64,
    /// How many stand beside each other.
    tokens: usize,
}

impl Lookup {
    fn new(graph: &Graph, indices: ValueId) -> Option<Lookup> {
        let tokens = graph.fact(graph.input("input_ids")?).shape?;
        let [rows, length] = &tokens[..] else { return None };
        let (rows, length) = (*rows, *length);
        let mut graph = graph.clone();
        graph.set_outputs(vec![indices]).ok()?;
        remove_dead(&mut graph).ok()?;
        graph.remove_unused_weights();
        let numbers: usize = graph.weights().map(|(_, _, tensor)| tensor.dims().iter().product::<usize>()).sum();
        if graph.node_count() > MOST_NODES || numbers > MOST_NUMBERS {
            return None;
        }
        length.known().is_none().then_some(Lookup { graph, rows, length })
    }

    /// The indices for one row of so many tokens, none of which is padding.
    fn at(&self, len: usize) -> Option<Looked> {
        let both = TOKEN_IDS.map(|token| self.indices(len, token));
        let largest = |array: &Array| array.iter().copied().fold(f64::NEG_INFINITY, f64::max) as i64;
        let found: Vec<Array> = both.into_iter().flatten().collect();
        let tokens = found.first()?.shape().last().copied()?;
        Some(Looked { largest: found.iter().map(largest).max()?, tokens })
    }

    fn indices(&self, len: usize, token: f64) -> Option<Array> {
        let mut inputs = Vec::new();
        for input in self.graph.inputs() {
            let name = self.graph.name_of(*input);
            let dims = self.graph.fact(*input).shape.unwrap_or_default();
            let size = |dim: &Dim| match dim.known().and_then(|n| usize::try_from(n).ok()) {
                Some(n) => n,
                None if *dim == self.rows => 1,
                None if *dim == self.length || name == "attention_mask" => len,
                // What was there before.
                None => 0,
            };
            let dims: Vec<usize> = dims.iter().map(size).collect();
            let value = |at: usize| match name.as_str() {
                "input_ids" => token,
                "attention_mask" => 1.0,
                "position_ids" => (at % len) as f64,
                _ => 0.0,
            };
            let count = dims.iter().product::<usize>().min(MOST * MOST * MOST);
            inputs.push((name.clone(), Array::from_shape_vec(dims, (0..count).map(value).collect()).ok()?));
        }
        let inputs: Vec<(&str, Array)> = inputs.iter().map(|(name, array)| (name.as_str(), array.clone())).collect();
        evaluate(&self.graph, &inputs).ok()?.into_iter().next()
    }
}
