//! How long a model's inputs may be, and how large its token ids: a token beyond the last row of its table, or a text
//! longer than the positions, ends a run at its first batch, on some engines without a word.

mod reach;

use lorac_ir::{Graph, Node, ValueId};
pub(crate) use reach::counts_tokens;
use reach::{Reach, reach};
use std::collections::HashSet;
use std::fmt;

/// Tables of no more rows are taken for kinds of tokens or buckets of distances, where their indices cannot be computed.
const MOST_KINDS: usize = 32;

/// What a model is fed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct InputStats {
    /// The largest token id, padding included where there is any.
    pub largest_id: i64,
    /// Tokens of the longest row, padding included.
    pub padded_len: usize,
    /// The same without padding.
    pub unpadded_len: usize,
}

/// What the shape of a model's tokens `[rows, length]` fixes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FixedInput {
    /// Rows of a batch, where no other number of them is taken.
    pub rows: Option<usize>,
    /// Tokens of a row, likewise.
    pub len: Option<usize>,
}

/// The numbers in the shape of the input called `tokens`.
pub fn fixed_input(graph: &Graph, tokens: &str) -> FixedInput {
    let dims = graph.find(tokens).and_then(|v| graph.fact(v).shape).unwrap_or_default();
    let number = |axis: usize| usize::try_from(dims.get(axis)?.known()?).ok().filter(|n| *n > 0);
    FixedInput { rows: number(0), len: number(1) }
}

/// The tables that a model looks tokens and positions up in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InputLimits {
    /// The table of `input_ids`.
    pub tokens: Table,
    /// Tables of positions.
    pub positions: Vec<Table>,
}

/// A table of a model.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Table {
    /// Its name.
    pub name: String,
    /// How many rows it has.
    pub rows: usize,
    /// Those among them that a token can have: of positions fewer, where the first ones are for padding.
    pub usable: usize,
    /// Whether positions are counted over the tokens alone, so that padding takes none.
    pub padding_excluded: bool,
}

/// What a model is fed that one of its tables does not have.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LimitExceeded {
    /// A token id beyond the last row.
    Token {
        /// The id.
        id: i64,
        /// The table.
        table: Table,
    },
    /// More tokens than positions.
    Length {
        /// Tokens of a row.
        len: usize,
        /// The table.
        table: Table,
    },
}

impl fmt::Display for LimitExceeded {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        match self {
            LimitExceeded::Token { id, table } => {
                write!(f, "token {id}, but the model's table `{}` has {} rows", table.name, table.rows)
            }
            LimitExceeded::Length { len, table } => {
                write!(f, "rows of {len} tokens, but the model's table `{}` has {} positions", table.name, table.usable)
            }
        }
    }
}

impl InputLimits {
    /// The first limit that the inputs exceed.
    pub fn exceeded(&self, stats: &InputStats) -> Option<LimitExceeded> {
        if stats.largest_id >= self.tokens.rows as i64 {
            return Some(LimitExceeded::Token { id: stats.largest_id, table: self.tokens.clone() });
        }
        self.positions.iter().find_map(|table| {
            let len = if table.padding_excluded { stats.unpadded_len } else { stats.padded_len };
            (len > table.usable).then(|| LimitExceeded::Length { len, table: table.clone() })
        })
    }
}

/// The table of `input_ids`, and those of positions: as wide, and gathered from by what depends on the inputs, but not on
/// the kinds of tokens.
pub fn input_limits(graph: &Graph) -> Option<InputLimits> {
    let start = graph.input("input_ids")?;
    if let Some((_, node)) = graph.nodes().find(|(_, n)| &*n.op.name == "EmbedLayerNormalization") {
        let at = |slot| Some(table(graph, node.input(slot)?, false)?.0);
        let limits = || Some(InputLimits { tokens: at(2)?, positions: at(3).into_iter().collect() });
        return (node.input(0) == Some(start)).then(limits)?;
    }
    let gathers: Vec<(&Node, ValueId, ValueId)> = graph
        .nodes()
        .filter(|(_, n)| &*n.op.name == "Gather" && n.op.domain.is_empty() && n.int("axis", 0) == 0)
        .filter_map(|(_, n)| Some((n, n.input(0)?, n.input(1)?)))
        .collect();
    let (first, data, _) = gathers.iter().find(|(_, _, indices)| reshaped(graph, *indices) == start)?;
    let (ids, width) = table(graph, *data, false)?;
    let kinds = graph.input("token_type_ids");
    let inputs: HashSet<ValueId> = graph.inputs().iter().copied().collect();
    let mut positions = Vec::new();
    for (_, data, indices) in gathers.iter().filter(|(n, ..)| !std::ptr::eq(*n, *first)) {
        let behind = upstream(graph, *indices);
        let reached = behind.values.iter().any(|v| inputs.contains(v));
        if !reached || reshaped(graph, *indices) == start || kinds.is_some_and(|k| behind.values.contains(&k)) {
            continue;
        }
        let Some((table, _)) = table(graph, *data, behind.cumulative).filter(|(_, its)| *its == width) else {
            continue;
        };
        match reach(graph, *indices, table.rows) {
            Reach::Positions(usable) => positions.push(Table { usable, ..table }),
            Reach::Unknown if table.rows > MOST_KINDS => positions.push(table),
            Reach::Unknown | Reach::Other => {}
        }
    }
    Some(InputLimits { tokens: ids, positions })
}

/// A matrix that no input reaches, with its width.
fn table(graph: &Graph, data: ValueId, padding_excluded: bool) -> Option<(Table, usize)> {
    let [rows, width] = graph.fact(data).known_dims()?[..] else { return None };
    let fixed = upstream(graph, data).values.iter().all(|v| !graph.is_input(*v));
    fixed.then(|| (Table { name: graph.name_of(data), rows, usable: rows, padding_excluded }, width))
}

/// What `value` is when its shape and integer type do not count.
fn reshaped(graph: &Graph, mut value: ValueId) -> ValueId {
    while let Some((_, node)) = graph.producer(value) {
        let same = lorac_ops::find(&node.op).is_some_and(|op| op.traits.reshapes);
        match node.input(0) {
            Some(before) if same => value = before,
            _ => break,
        }
    }
    value
}

/// Everything that a value is computed from.
pub(crate) struct Upstream {
    /// It, and all values before it.
    pub(crate) values: HashSet<ValueId>,
    /// Whether a running sum is part of it.
    cumulative: bool,
}

/// What a value is computed from.
pub(crate) fn upstream(graph: &Graph, value: ValueId) -> Upstream {
    let mut found = Upstream { values: HashSet::new(), cumulative: false };
    let mut open = vec![value];
    while let Some(value) = open.pop() {
        if !found.values.insert(value) {
            continue;
        }
        if let Some((_, node)) = graph.producer(value) {
            found.cumulative |= &*node.op.name == "CumSum";
            open.extend(node.operands().map(|(_, v)| v));
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A model whose tokens are looked up in a table of `rows`, at indices that `lines` compute as `%p` of `shape`.
    fn model(rows: usize, lines: &str, shape: &str) -> Graph {
        let text = format!(
            r#"graph bert(%input_ids: i64[B,S], %token_type_ids: i64[B,S], %attention_mask: i64[B,S]) -> %y, %q {{
              %words = weight "words" f32[100,8]
              %places = weight "places" f32[{rows},8]
              %kinds = weight "kinds" f32[80,8]
              %zero = weight "zero" i64[] = [0]
              %one = weight "one" i64[] = [1]
              %zeros = weight "zeros" i64[1] = [0]
              %ones = weight "ones" i64[1] = [1]
              {lines}
              %w = Gather(%words, %input_ids) : f32[B,S,8]
              %q = Gather(%places, %p) : f32{shape}
              %k = Gather(%kinds, %token_type_ids) : f32[B,S,8]
              %y = Add(%w, %k) : f32[B,S,8]
            }}"#
        );
        lorac_ir::parse(&text).unwrap_or_else(|e| panic!("{text}: {e}"))
    }

    /// Positions out of a buffer as long as the table, as BERT has them.
    fn buffer(rows: usize) -> Graph {
        let all: Vec<String> = (0..rows).map(|i| i.to_string()).collect();
        let lines = format!(
            "%all = weight \"all\" i64[1,{rows}] = [{}]
             %s = Shape(%input_ids, start=1) : i64[1]
             %p = Slice(%all, %zeros, %s, %ones) : i64[1,S]",
            all.join(", ")
        );
        model(rows, &lines, "[1,S,8]")
    }

    const RANGE: &str = "%s = Shape(%input_ids, start=1) : i64[1]
             %n = Squeeze(%s) : i64[]
             %r = Range(%zero, %n, %one) : i64[S]";

    fn places(graph: &Graph) -> Vec<(usize, usize)> {
        let limits = input_limits(graph).expect("tables");
        limits.positions.iter().map(|table| (table.rows, table.usable)).collect()
    }

    #[test]
    fn numbers_in_the_shape_of_tokens_are_fixed() {
        let of = |dims: &str| {
            fixed_input(&lorac_ir::parse(&format!("graph g(%ids: i64{dims}) {{ }}")).expect("parses"), "ids")
        };
        assert_eq!(of("[1,16]"), FixedInput { rows: Some(1), len: Some(16) });
        assert_eq!(of("[B,16]"), FixedInput { rows: None, len: Some(16) });
        assert_eq!((of("[B,S]"), of("[..]")), Default::default());
    }

    #[test]
    fn tokens_and_lengths_beyond_the_tables_are_named() {
        let limits = input_limits(&buffer(68)).expect("tables");
        let [table] = limits.positions.as_slice() else { panic!("{limits:?}") };
        assert_eq!((limits.tokens.rows, table.rows, table.padding_excluded), (100, 68, false));
        let stats = |largest_id, padded_len, unpadded_len| InputStats { largest_id, padded_len, unpadded_len };
        let exceeded = |s| limits.exceeded(&s).map(|e| e.to_string());
        assert_eq!((exceeded(stats(99, 64, 64)), exceeded(stats(99, 68, 3))), (None, None));
        let token = exceeded(stats(100, 8, 8)).expect("a token");
        assert_eq!(token, "token 100, but the model's table `words` has 100 rows");
        let length = exceeded(stats(9, 72, 69)).expect("a length");
        assert_eq!(length, "rows of 72 tokens, but the model's table `places` has 68 positions");
    }

    #[test]
    fn small_tables_of_positions_are_told_from_other_small_tables() {
        for rows in [2, 3, 16, 32, 64, 100] {
            assert_eq!(places(&buffer(rows)), [(rows, rows)], "a buffer");
            let range = model(rows, &format!("{RANGE}\n%p = Unsqueeze(%r, %zeros) : i64[1,S]"), "[1,S,8]");
            assert_eq!(places(&range), [(rows, rows)], "a range");
        }
        // Kinds of tokens that are not asked for.
        let kinds = "%s = Shape(%input_ids) : i64[2]\n%p = Expand(%zeros, %s) : i64[B,S]";
        for rows in [1, 2, 16, 64] {
            assert_eq!(places(&model(rows, kinds, "[B,S,8]")), [], "{rows} kinds");
        }
        // Distances between tokens, cut off at 4 before and behind.
        let cut = format!(
            "{RANGE}
             %four = weight \"four\" i64[] = [4]
             %less = weight \"less\" i64[] = [-4]
             %row = Unsqueeze(%r, %zeros) : i64[1,S]
             %column = Unsqueeze(%r, %ones) : i64[S,1]
             %d = Sub(%row, %column) : i64[S,S]
             %c = Clip(%d, %less, %four) : i64[S,S]
             %p = Add(%c, %four) : i64[S,S]"
        );
        assert_eq!(places(&model(9, &cut, "[S,S,8]")), [], "distances");
        // Distances that grow ever slower, as the buckets of T5.
        let slower = format!(
            "{RANGE}
             %f = Cast(%r, to=1) : f32[S]
             %root = Sqrt(%f) : f32[S]
             %p = Cast(%root, to=7) : i64[S]"
        );
        assert_eq!(places(&model(8, &slower, "[S,8]")), [], "buckets");
    }

    #[test]
    fn rows_for_padding_are_no_positions() {
        // As RoBERTa counts them: over what is not padding, from the row behind that of padding.
        let counted = "%pad = weight \"pad\" i64[] = [1]
             %is = Equal(%input_ids, %pad) : bool[B,S]
             %not = Not(%is) : bool[B,S]
             %m = Cast(%not, to=7) : i64[B,S]
             %sum = CumSum(%m, %one) : i64[B,S]
             %own = Mul(%sum, %m) : i64[B,S]
             %p = Add(%own, %pad) : i64[B,S]";
        for rows in [18, 64, 514] {
            let graph = model(rows, counted, "[B,S,8]");
            assert_eq!(places(&graph), [(rows, rows - 2)]);
            assert!(input_limits(&graph).expect("tables").positions[0].padding_excluded);
        }
    }
}
