//! Dropout in front of A, with masks that every engine computes alike.
//!
//! An operator that draws random numbers gives others on every engine and after every resumption. Here they come from
//! outside, few of them, anew for every step: `R`, a row of [`DEPTH`] integers below [`ROW_LIMIT`] for every token, and
//! `C`, a column of [`DEPTH`] multiples of [`COLUMN_STEP`] below 1 for every element of what is dropped from. Element
//! (i, j) is dropped where the fraction of `(R C)[i, j]` is below p.
//!
//! Such sums are multiples of 2^-16 below 2^8: f32 adds them without rounding, in any order. With an odd number first in
//! every row of R, all fractions are equally likely, and any two elements are as good as independent (linear hashing,
//! Carter & Wegman 1979).

use crate::rewrite::{display_name, replace_value, rewrite};
use crate::{DropoutSite, PassError};
use lorac_ir::{Attr, DType, Dim, Fact, Graph, NodeId, ValueId};
use lorac_ops::{Emit, Val};
use std::collections::HashMap;

/// The input that holds R, f32 `[any number, DEPTH]`; row i is for token i, from the start again where there are more.
pub const ROWS: &str = "dropout.rows";

/// The input that holds C, f32 `[DEPTH, width]`.
pub const COLUMNS: &str = "dropout.columns";

/// Columns of R, rows of C.
pub const DEPTH: usize = 4;

/// What the integers of R are below.
pub const ROW_LIMIT: u32 = 64;

/// What the numbers of C are multiples of.
pub const COLUMN_STEP: f32 = 1.0 / 65536.0;

/// A product with A: its node and its rows.
struct Place {
    node: NodeId,
    rows: ValueId,
    a: ValueId,
    width: usize,
    probability: f64,
}

/// Drops every element that a branch reads with the site's probability, independently for every product, and scales
/// the others by 1 / (1 - p). Returns the width of [`COLUMNS`]; 0, and no new inputs, where nothing is dropped.
///
/// Requires: opset 13 or later, sites from [`crate::Method::insert`] into this graph.
pub fn drop_inputs(graph: &mut Graph, sites: &[DropoutSite]) -> Result<usize, PassError> {
    let mut places = Vec::new();
    for site in sites.iter().filter(|s| s.probability > 0.0) {
        places.extend(products(graph, site)?);
    }
    let width = places.iter().map(|p| p.width).sum();
    if places.is_empty() {
        return Ok(0);
    }
    rewrite(graph, "dropout", |e| {
        let rows = e.input(ROWS, Fact::new(DType::F32, [Dim::named(ROWS), Dim::from(DEPTH)]));
        let columns = e.input(COLUMNS, Fact::new(DType::F32, [DEPTH, width]));
        let widths: Vec<i64> = places.iter().map(|p| p.width as i64).collect();
        let parts = match places.len() {
            1 => vec![columns],
            n => e.ops("Split", &[columns, e.ints(&widths)], &[("axis", Attr::Int(1))], n),
        };
        let mut of_tokens = HashMap::new();
        for (place, part) in places.iter().zip(parts) {
            let Some(node) = e.graph().node(place.node) else { continue };
            e.set_source(&node.origin.source);
            let x = e.val(place.rows);
            let mine = match x.fact().dims().and_then(|d| d.first().copied()) {
                Some(n) if n != Dim::Unknown => *of_tokens.entry(n).or_insert_with(|| each(e, x, rows)),
                _ => each(e, x, rows),
            };
            let mixed = mine.matmul(part);
            let fraction = mixed - mixed.unary("Floor");
            let dropped = fraction.binary("Less", fraction.like(place.probability));
            let kept = fraction.like(1.0 / (1.0 - place.probability));
            let x = x * e.op("Where", &[dropped, fraction.like(0.0), kept], &[]);
            let new = e.op("Gemm", &[x, e.val(place.a)], &[("transB", Attr::Int(1))]);
            if let Some(old) = node.outputs.first() {
                replace_value(e, *old, new);
            }
            e.edit(|p| p.remove(place.node));
        }
        Ok(width)
    })
}

/// A row of R for every row of `x`.
fn each<'e, 'g>(e: &'e Emit<'g>, x: Val<'e, 'g>, rows: Val<'e, 'g>) -> Val<'e, 'g> {
    let numbers = x.positions(0).binary("Mod", rows.len(0));
    e.op("Gather", &[rows, numbers], &[("axis", Attr::Int(0))])
}

/// The products with a branch's A.
fn products(graph: &Graph, site: &DropoutSite) -> Result<Vec<Place>, PassError> {
    let uses = graph.value(site.factor).map(|v| v.uses()).unwrap_or_default();
    let place = |u: &lorac_ir::Use| {
        let node = graph.node(u.node)?;
        let first = &*node.op.name == "Gemm" && u.slot == 1 && node.int("transB", 0) == 1 && node.input(2).is_none();
        let rows = node.input(0).filter(|_| first)?;
        Some(Place { node: u.node, rows, a: site.factor, width: site.width, probability: site.probability })
    };
    let other = |u: &lorac_ir::Use| graph.node(u.node).map(|n| display_name(graph, n)).unwrap_or_default();
    uses.iter()
        .map(|u| {
            let (other, name) = (other(u), &site.weight);
            let why = format!("`{other}` reads A of `{name}` otherwise than a branch does: nothing to drop from");
            place(u).ok_or(PassError::Unsuitable(why))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_factor_that_no_branch_reads_is_refused() {
        let text = "graph g(%x: f32[N,2], %a: f32[1,2]) -> %y { %y = Add(%x, %a) : f32[N,2] }";
        let mut graph = lorac_ir::parse(text).expect("parses");
        let factor = graph.find("a").expect("an input");
        let site = DropoutSite { factor, weight: "w".into(), width: 2, probability: 0.1 };
        let error = drop_inputs(&mut graph, &[site]).expect_err("nothing to drop from").to_string();
        assert!(error.contains("reads A of `w` otherwise than a branch does"), "{error}");
    }
}
