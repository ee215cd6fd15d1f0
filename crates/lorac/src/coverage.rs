//! The operator table as a page: what gradients pass through, and why not where they do not.

use lorac_ops::{Grad, Op, TABLE};
use serde::Serialize;
use std::collections::BTreeMap;
use std::fmt::Write;

/// One operator.
#[derive(Clone, Debug, Serialize)]
pub struct Entry {
    /// `ai.onnx` or another domain.
    pub domain: String,
    /// Its name.
    pub name: String,
    /// The first opset whose form of it is known.
    pub since: i64,
    /// `rule`, `lowering`, `zero` or `unsupported`.
    pub how: &'static str,
    /// Why no gradient passes.
    pub why: Option<&'static str>,
}

/// Every operator of the table, by domain and name.
pub fn entries() -> Vec<Entry> {
    let mut all: Vec<Entry> = TABLE.iter().flat_map(|family| family.iter()).map(entry).collect();
    all.sort_by(|a, b| (&a.domain, &a.name).cmp(&(&b.domain, &b.name)));
    all
}

fn entry(op: &Op) -> Entry {
    let (how, why) = match op.grad {
        Grad::Rule { .. } => ("rule", None),
        Grad::Lower { .. } => ("lowering", None),
        Grad::Zero(why) => ("zero", Some(why)),
        Grad::Unsupported(why) => ("unsupported", Some(why)),
    };
    let domain = if op.domain.is_empty() { "ai.onnx" } else { op.domain };
    Entry { domain: domain.into(), name: op.name.into(), since: op.since, how, why }
}

/// The table in Markdown, with counts at the top.
pub fn markdown() -> String {
    let all = entries();
    let mut domains: BTreeMap<&str, Vec<&Entry>> = BTreeMap::new();
    all.iter().for_each(|e| domains.entry(&e.domain).or_default().push(e));
    let mut out = String::from(
        "# Operators\n\nWritten by `lorac grad --coverage`; do not edit. A *rule* is a gradient in plain ONNX operators, a \
         *lowering* decomposes the operator on the training copy, *zero* means that no gradient passes and none should.\n\n\
         | domain | operators | rules | lowerings | zero | unsupported |\n|---|---|---|---|---|---|\n",
    );
    let count = |list: &[&Entry], how: &str| list.iter().filter(|e| e.how == how).count();
    for (domain, list) in &domains {
        let [r, l, z, u] = ["rule", "lowering", "zero", "unsupported"].map(|how| count(list, how));
        let _ = writeln!(out, "| {domain} | {} | {r} | {l} | {z} | {u} |", list.len());
    }
    for (domain, list) in &domains {
        let _ = write!(out, "\n## {domain}\n\n| operator | since | gradient |\n|---|---|---|\n");
        for e in list {
            let why = e.why.map(|w| format!(": {}", w.replace('|', "\\|"))).unwrap_or_default();
            let _ = writeln!(out, "| {} | {} | {}{why} |", e.name, e.since, e.how);
        }
    }
    out
}
