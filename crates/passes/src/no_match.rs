//! Why a pattern picks nothing.

use crate::ReadAs;
use crate::matrix::Candidate;
use crate::obstacle::Obstacle;
use crate::obstacle::inside;
use crate::role::{Matrices, ROLES};
use lorac_ir::Graph;
use lorac_ops::{Grad, find};
use std::collections::BTreeMap;

/// Every pattern that picks nothing.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{}", .0.iter().map(ToString::to_string).collect::<Vec<_>>().join("; "))]
pub struct NoMatches(pub Vec<NoMatch>);

/// A pattern that picks nothing.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NoMatch {
    /// No matrix fits.
    #[error("`{pattern}` matches no {what}{}{}", nearest_text(.nearest), why_text(.why))]
    Nothing {
        /// What was looked for: `weight matrix`.
        what: &'static str,
        /// The pattern.
        pattern: String,
        /// What may have been meant.
        nearest: Vec<String>,
        /// What the model has instead; empty where that is not known.
        why: String,
    },
    /// What fits cannot be adapted.
    #[error("`{pattern}` {}; {advice}", unsuitable_text(.pattern, .names, .why))]
    Unsuitable {
        /// The pattern.
        pattern: String,
        /// The matrices.
        names: String,
        /// What they are.
        why: String,
        /// What can be done.
        advice: &'static str,
    },
    /// Not a pattern.
    #[error("`{pattern}` is not a valid pattern: {why}")]
    Syntax {
        /// The pattern.
        pattern: String,
        /// What is wrong.
        why: String,
    },
    /// The role is part of a fused matrix, of which the graph does not tell where it lies.
    #[error(
        "`{pattern}` is a slice of the fused matrix `{name}`, which holds {holds} in columns that cannot be told apart: name \
         the whole matrix instead"
    )]
    Fused {
        /// The pattern.
        pattern: String,
        /// The matrix.
        name: String,
        /// Its roles.
        holds: String,
    },
    /// The matrix is read otherwise too, and dropout is asked for.
    #[error(
        "`{pattern}` picks `{name}`, which is read otherwise too, as an embedding table or transposed: what is added to it is \
         added for every reader, and dropout has nothing to drop from; leave dropout out, or choose other targets"
    )]
    Tied {
        /// The pattern.
        pattern: String,
        /// The matrix.
        name: String,
    },
    /// A slice that a matrix does not have.
    #[error("`{pattern}`: `{name}` has no slice `{slice}`; {has}")]
    NoSlice {
        /// The pattern.
        pattern: String,
        /// The matrix.
        name: String,
        /// What was asked for.
        slice: String,
        /// What the matrix has.
        has: String,
    },
    /// A setting that holds for some targets, and for none of those that there are.
    #[error("`{pattern}` {why}")]
    Idle {
        /// Its key below the method's: `exclude.0`.
        path: String,
        /// What was given.
        pattern: String,
        /// Why it says nothing.
        why: String,
    },
    /// A rank that is larger than the smaller side of a target.
    #[error(
        "rank {rank} of `{name}`, a {rows} x {cols} {}: the rank lies between 1 and {}{}",
        kind_text(.read_as),
        if *halved { "half the smaller side: `init: lora_ga` takes two directions of its gradient for each" } else { "the smaller side" },
        small_table_text(.read_as)
    )]
    Rank {
        /// The key below the method's that gives it: `rank_pattern.*query*`.
        path: String,
        /// The end of this key.
        pattern: String,
        /// The rank.
        rank: usize,
        /// The target.
        name: String,
        /// Length of what it multiplies.
        rows: usize,
        /// Length of its results.
        cols: usize,
        /// What it is.
        read_as: ReadAs,
        /// Whether a rank takes two directions of it.
        halved: bool,
    },
    /// A number of a token that the table has no row for.
    #[error("the token {pattern} is not in `{name}`, which has {rows} rows: they are counted from 0")]
    NoToken {
        /// The number.
        pattern: String,
        /// The table.
        name: String,
        /// Its rows.
        rows: usize,
    },
}

impl From<NoMatch> for NoMatches {
    fn from(one: NoMatch) -> NoMatches {
        NoMatches(vec![one])
    }
}

impl NoMatch {
    /// Stable name of the fault.
    pub fn code(&self) -> &'static str {
        match self {
            NoMatch::Nothing { .. } => "target::no_match",
            NoMatch::Unsuitable { .. } => "target::unsuitable",
            NoMatch::Syntax { .. } => "target::syntax",
            NoMatch::Fused { .. } => "target::fused",
            NoMatch::Tied { .. } => "target::tied",
            NoMatch::NoSlice { .. } => "target::slice",
            NoMatch::Idle { .. } => "target::idle",
            NoMatch::Rank { .. } => "target::rank",
            NoMatch::NoToken { .. } => "target::token",
        }
    }

    /// The pattern at fault.
    pub fn pattern(&self) -> &str {
        match self {
            NoMatch::Nothing { pattern, .. }
            | NoMatch::Unsuitable { pattern, .. }
            | NoMatch::Syntax { pattern, .. }
            | NoMatch::Fused { pattern, .. }
            | NoMatch::Tied { pattern, .. }
            | NoMatch::NoSlice { pattern, .. }
            | NoMatch::Rank { pattern, .. }
            | NoMatch::NoToken { pattern, .. }
            | NoMatch::Idle { pattern, .. } => pattern,
        }
    }

    /// The key at fault below the method's, where it is not one of its targets.
    pub fn path(&self) -> Option<&str> {
        match self {
            NoMatch::Idle { path, .. } | NoMatch::Rank { path, .. } => Some(path),
            _ => None,
        }
    }
}

fn kind_text(read_as: &ReadAs) -> &'static str {
    match read_as {
        ReadAs::Product => "matrix",
        ReadAs::Lookup => "table",
        ReadAs::Convolution => "kernel",
        ReadAs::Stack => "matrix of a stack",
    }
}

fn small_table_text(read_as: &ReadAs) -> &'static str {
    match read_as {
        ReadAs::Lookup => "; give the table a rank of its own in `rank_pattern`, or leave it out by `exclude`",
        ReadAs::Product | ReadAs::Convolution | ReadAs::Stack => "",
    }
}

fn nearest_text(nearest: &[String]) -> String {
    if nearest.is_empty() { String::new() } else { format!("; nearest: {}", nearest.join(", ")) }
}

fn unsuitable_text(pattern: &str, names: &str, why: &str) -> String {
    if names == format!("`{pattern}`") { why.to_string() } else { format!("is {names}, which {why}") }
}

fn why_text(why: &str) -> String {
    if why.is_empty() { String::new() } else { format!(": {why}") }
}

/// How many names stand in a message.
const NAMED: usize = 3;

/// The first of some names, and how many there are.
pub(crate) fn some_of(names: &[&str]) -> String {
    let shown: Vec<String> = names.iter().take(NAMED).map(|n| format!("`{n}`")).collect();
    match names.len() {
        n if n > NAMED => format!("{} and {} more", shown.join(", "), n - NAMED),
        _ => shown.join(", "),
    }
}

impl NoMatch {
    pub(crate) fn unsuitable(pattern: &str, found: &[&Candidate], obstacle: Obstacle) -> NoMatch {
        let alike = found.iter().filter(|c| c.obstacle.as_ref() == Some(&obstacle));
        let names: Vec<&str> = alike.map(|c| c.matrix.name.as_str()).collect();
        let are = if names.len() == 1 { "is" } else { "are" };
        NoMatch::Unsuitable {
            pattern: pattern.to_string(),
            names: some_of(&names),
            why: format!("{are} {obstacle}"),
            advice: obstacle.advice(),
        }
    }
}

/// The roles that a model has, and its matrices that cannot be adapted.
pub(crate) fn explanation(graph: &Graph, known: &Matrices) -> String {
    let fit = known.all.iter().filter(|c| c.obstacle.is_none());
    let mut counts = BTreeMap::new();
    fit.clone().flat_map(|c| known.roles_of(&c.matrix)).for_each(|r| *counts.entry(r).or_insert(0) += 1);
    let counts: Vec<String> =
        ROLES.iter().filter_map(|(name, role)| Some(format!("{name} ({})", counts.get(role)?))).collect();
    let roles = match (fit.count(), counts.is_empty()) {
        (0, _) => "the model has no matrix that can be adapted".to_string(),
        (n, true) => format!("of its {n} matrices none has a role that the graph tells; their names pick them"),
        (_, false) => format!("the roles in this model are {}", counts.join(", ")),
    };
    let mut unfit: BTreeMap<String, Vec<&str>> = BTreeMap::new();
    for candidate in &known.all {
        if let Some(obstacle) = &candidate.obstacle {
            unfit.entry(obstacle.to_string()).or_default().push(&candidate.matrix.name);
        }
    }
    let bodies = inside(graph);
    for (name, op) in &bodies {
        unfit.entry(Obstacle::Inside(op.clone()).to_string()).or_default().push(name);
    }
    let unfit = unfit.iter().take(NAMED).map(|(why, names)| {
        let are = if names.len() == 1 { "is" } else { "are" };
        format!("; {} {are} {why}", some_of(names))
    });
    format!("{roles}{}{}", unfit.collect::<String>(), refused_attention(graph).unwrap_or_default())
}

/// An attention that no gradient passes, whose queries, keys and values no matrix is known to be.
fn refused_attention(graph: &Graph) -> Option<String> {
    graph.nodes().find_map(|(_, node)| {
        let op = find(&node.op).filter(|op| op.traits.attention.is_some())?;
        let Grad::Unsupported(why) = op.grad else { return None };
        Some(format!("; the attention is `{}`, which has no gradient here: {why}", node.op))
    })
}

/// What a weight of this name is, and what reads it.
pub(crate) fn of_weight(graph: &Graph, name: &str) -> Option<String> {
    let (id, value, _) = graph.weights().find(|(_, v, _)| &*v.name == name)?;
    let mut readers: Vec<String> =
        value.uses().iter().filter_map(|u| graph.node(u.node)).map(|n| format!("`{}`", n.op)).collect();
    readers.dedup();
    readers.truncate(NAMED);
    let read = if readers.is_empty() { "nothing reads".to_string() } else { format!("{} reads", readers.join(", ")) };
    Some(format!("it is {}, which {read}", graph.fact(id)))
}

/// Matrices in graphs inside nodes that a pattern fits.
pub(crate) fn within_nodes(graph: &Graph, pattern: &str, fits: impl Fn(&str) -> bool) -> Option<NoMatch> {
    let all = inside(graph);
    let found: Vec<&(String, String)> = all.iter().filter(|(name, _)| fits(name)).collect();
    let obstacle = Obstacle::Inside(found.first()?.1.clone());
    let names: Vec<&str> = found.iter().map(|(name, _)| name.as_str()).collect();
    let are = if names.len() == 1 { "is" } else { "are" };
    Some(NoMatch::Unsuitable {
        pattern: pattern.to_string(),
        names: some_of(&names),
        why: format!("{are} {obstacle}"),
        advice: obstacle.advice(),
    })
}

#[cfg(test)]
mod tests {
    #[test]
    fn a_role_in_an_attention_without_a_gradient_says_why_there_is_none() {
        let mut graph = lorac_ir::parse(
            "graph g(%x: f32[N,6]) -> %y {
                %qkv = weight \"qkv\" f32[6,12]
                %p = MatMul(%x, %qkv) : f32[N,12]
                %y = com.microsoft.PagedAttention(%p, num_heads=2, kv_num_heads=2) : f32[N,4]
            }",
        )
        .expect("parses");
        graph.opsets.insert("com.microsoft".into(), 1);
        let said = crate::select(&graph, &["role:query"]).expect_err("no role").to_string();
        assert!(
            said.contains("the attention is `com.microsoft.PagedAttention`, which has no gradient here: "),
            "{said}"
        );
    }
}
