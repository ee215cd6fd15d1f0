//! Whether what a run feeds fits the tables of its model: a token beyond the last row, or a text longer than the
//! positions, would end the run at its first batch, on some engines without a word.

use crate::error::Error;
use lorac_ir::{Graph, Node, ValueId};
use lorac_train::Dataset;
use std::collections::HashSet;

/// Tables of no more rows are of kinds of tokens, or of buckets of distances, and not of positions.
const MOST_KINDS: usize = 32;

/// What a split feeds.
#[derive(Clone, Copy, Debug)]
struct Fed {
    /// The largest id.
    id: i64,
    /// Tokens of the longest row, padding included.
    padded: usize,
    /// The same without padding.
    bare: usize,
}

/// A table of the model.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Table {
    name: String,
    rows: usize,
    /// Whether its rows are counted off from the tokens, so that padding takes none.
    counted: bool,
}

/// Holds the examples of `split`, whose rows are as long as `key` says, against the tables of `graph`, which is inferred.
pub(super) fn check(graph: &Graph, data: &Dataset, split: &str, key: &str) -> Result<(), Error> {
    let fed = fed(data);
    let Some((ids, positions)) = tables(graph) else { return Ok(()) };
    if fed.id >= ids.rows as i64 {
        return Err(Error::Usage(format!(
            "tokenizer and model do not belong together: {split} has token {}, but the model's table '{}' has {} rows \
             (see the keys tokenizer and model)",
            fed.id, ids.name, ids.rows
        )));
    }
    for table in positions {
        let longest = if table.counted { fed.bare } else { fed.padded };
        if longest > table.rows {
            return Err(Error::Usage(format!(
                "{split} has rows of {longest} tokens, but the model's table '{}' has {} positions: lower {key}, or \
                 choose another model",
                table.name, table.rows
            )));
        }
    }
    Ok(())
}

fn fed(data: &Dataset) -> Fed {
    let bare = data.encoded.iter().map(|e| e.ids.len()).max().unwrap_or(0);
    let padded = bare.max(data.pad.min).next_multiple_of(data.pad.multiple.max(1)).min(data.pad.max).max(bare);
    let id = data.encoded.iter().flat_map(|e| &e.ids).copied().max().unwrap_or(0);
    let pads = data.encoded.iter().any(|e| e.ids.len() < padded);
    Fed { id: if pads { id.max(data.pad_id) } else { id }, padded, bare }
}

/// The table of `input_ids`, and those of positions: as wide, and gathered from by what depends on the inputs, but not on
/// the kinds of tokens.
fn tables(graph: &Graph) -> Option<(Table, Vec<Table>)> {
    let start = graph.find("input_ids")?;
    if let Some((_, node)) = graph.nodes().find(|(_, n)| &*n.op.name == "EmbedLayerNormalization") {
        let at = |slot| Some(table(graph, node.input(slot)?, false)?.0);
        return (node.input(0) == Some(start)).then(|| Some((at(2)?, at(3).into_iter().collect())))?;
    }
    let gathers: Vec<(&Node, ValueId, ValueId)> = graph
        .nodes()
        .filter(|(_, n)| &*n.op.name == "Gather" && n.op.domain.is_empty() && n.int("axis", 0) == 0)
        .filter_map(|(_, n)| Some((n, n.input(0)?, n.input(1)?)))
        .collect();
    let (first, data, _) = gathers.iter().find(|(_, _, indices)| reshaped(graph, *indices) == start)?;
    let (ids, width) = table(graph, *data, false)?;
    let kinds = graph.find("token_type_ids");
    let inputs: HashSet<ValueId> = graph.inputs().iter().copied().collect();
    let mut positions = Vec::new();
    for (_, data, indices) in gathers.iter().filter(|(n, ..)| !std::ptr::eq(*n, *first)) {
        let behind = upstream(graph, *indices);
        let fed = behind.values.iter().any(|v| inputs.contains(v));
        if !fed || reshaped(graph, *indices) == start || kinds.is_some_and(|k| behind.values.contains(&k)) {
            continue;
        }
        if let Some((table, its)) = table(graph, *data, behind.counts)
            && its == width
            && table.rows > MOST_KINDS
        {
            positions.push(table);
        }
    }
    Some((ids, positions))
}

/// A matrix that no input reaches, with its width.
fn table(graph: &Graph, data: ValueId, counted: bool) -> Option<(Table, usize)> {
    let [rows, width] = graph.fact(data).known_dims()?[..] else { return None };
    let fixed = upstream(graph, data).values.iter().all(|v| !graph.inputs().contains(v));
    fixed.then(|| (Table { name: graph.name_of(data), rows, counted }, width))
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
struct Upstream {
    values: HashSet<ValueId>,
    /// Whether a running sum is part of it.
    counts: bool,
}

fn upstream(graph: &Graph, value: ValueId) -> Upstream {
    let mut found = Upstream { values: HashSet::new(), counts: false };
    let mut open = vec![value];
    while let Some(value) = open.pop() {
        if !found.values.insert(value) {
            continue;
        }
        if let Some((_, node)) = graph.producer(value) {
            found.counts |= &*node.op.name == "CumSum";
            open.extend(node.operands().map(|(_, v)| v));
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;
    use lorac_data::{Encoded, PadTo};

    fn data(ids: &[i64], lengths: &[usize], max: usize) -> Dataset {
        let row = |(id, len): (&i64, &usize)| Encoded { ids: vec![*id; *len], type_ids: vec![0; *len] };
        Dataset {
            encoded: ids.iter().zip(lengths).map(row).collect(),
            labels: vec![0; ids.len()],
            pad_id: 1,
            pad: PadTo { max, ..PadTo::default() },
        }
    }

    fn bert() -> Graph {
        lorac_ir::parse(
            r#"graph bert(%input_ids: i64[B,S], %token_type_ids: i64[B,S]) -> %y {
              %words = weight "words" f32[100,8]
              %places = weight "places" f32[68,8]
              %kinds = weight "kinds" f32[80,8]
              %all = weight "all" i64[1,68]
              %zero = weight "zero" i64[1]
              %one = weight "one" i64[1]
              %s = Shape(%input_ids, start=1) : i64[1]
              %p = Slice(%all, %zero, %s, %one) : i64[1,S]
              %w = Gather(%words, %input_ids) : f32[B,S,8]
              %q = Gather(%places, %p) : f32[1,S,8]
              %k = Gather(%kinds, %token_type_ids) : f32[B,S,8]
              %wq = Add(%w, %q) : f32[B,S,8]
              %y = Add(%wq, %k) : f32[B,S,8]
            }"#,
        )
        .expect("parses")
    }

    #[test]
    fn tokens_and_lengths_beyond_the_tables_are_named() {
        let graph = bert();
        let (ids, positions) = tables(&graph).expect("tables");
        assert_eq!((ids.rows, positions.len(), positions[0].rows, positions[0].counted), (100, 1, 68, false));
        let fails =
            |d: Dataset| check(&graph, &d, "data.eval", "data.max_length").expect_err("does not fit").to_string();
        check(&graph, &data(&[99, 3], &[64, 2], 512), "data.eval", "data.max_length").expect("fits");
        check(&graph, &data(&[99, 3], &[68, 2], 68), "data.eval", "data.max_length").expect("fits");

        let text = fails(data(&[100, 3], &[4, 2], 64));
        assert!(text.contains("token 100") && text.contains("100 rows"), "{text}");
        assert!(text.contains("tokenizer and model") && text.contains("data.eval"), "{text}");
        let text = fails(data(&[9], &[69], 512));
        assert!(
            text.contains("72 tokens") && text.contains("68 positions") && text.contains("data.max_length"),
            "{text}"
        );

        let padded = Dataset { pad_id: 100, ..data(&[9, 9], &[8, 7], 512) };
        assert!(fails(padded).contains("token 100"));
        let whole = Dataset { pad_id: 100, ..data(&[9, 9], &[8, 8], 512) };
        check(&graph, &whole, "data.eval", "data.max_length").expect("nothing is padded");
    }

    #[test]
    fn real_exports_have_their_tables() {
        let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/data/exports");
        let mut seen = 0;
        for entry in std::fs::read_dir(root).expect("exports") {
            let folder = entry.expect("an entry").path();
            let name = folder.file_name().expect("a name").to_string_lossy().into_owned();
            let Ok(model) = lorac_onnx::load(folder.join("model.onnx")) else { continue };
            let mut graph = model.graph.clone();
            lorac_passes::inline(&mut graph, &model.functions).expect("inlines");
            lorac_ops::infer(&mut graph).expect("infers");
            if graph.find("input_ids").is_none() {
                continue;
            }
            let (ids, positions) = tables(&graph).unwrap_or_else(|| panic!("{name}: no table"));
            assert_eq!(ids.rows, 97, "{name}");
            let rotary = name.starts_with("llama") || name.starts_with("qwen");
            let found: Vec<_> = positions.iter().map(|t| (t.rows, t.counted)).collect();
            let want = if rotary { vec![] } else { vec![(64, name.starts_with("roberta"))] };
            assert_eq!(found, want, "{name}");
            seen += 1;
        }
        assert!(seen >= 15, "{seen} models");
    }
}
