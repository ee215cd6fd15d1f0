//! Targets of an adaptation: matrices named by a pattern.

use crate::role::ROLES;
use crate::{Matrix, Role, matrices, roles};
use globset::GlobBuilder;
use lorac_ir::Graph;
use std::collections::BTreeSet;

/// A matrix that a pattern picked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    /// The matrix.
    pub matrix: Matrix,
    /// What it does, where that is known.
    pub roles: BTreeSet<Role>,
    /// The pattern that picked it first.
    pub pattern: String,
}

/// A pattern that picks nothing.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NoMatch {
    /// No matrix fits.
    #[error("'{pattern}' matches no weight matrix{}", nearest_text(.nearest))]
    Nothing {
        /// The pattern.
        pattern: String,
        /// What may have been meant.
        nearest: Vec<String>,
    },
    /// Not a pattern.
    #[error("'{pattern}' is no pattern: {why}")]
    Syntax {
        /// The pattern.
        pattern: String,
        /// What is wrong.
        why: String,
    },
    /// The role is part of a fused matrix.
    #[error("'{pattern}' is a part of the fused matrix '{name}', which holds {holds}: name the whole matrix instead")]
    Fused {
        /// The pattern.
        pattern: String,
        /// The matrix.
        name: String,
        /// Its roles.
        holds: String,
    },
}

impl NoMatch {
    /// The pattern at fault.
    pub fn pattern(&self) -> &str {
        match self {
            NoMatch::Nothing { pattern, .. } | NoMatch::Syntax { pattern, .. } | NoMatch::Fused { pattern, .. } => {
                pattern
            }
        }
    }
}

fn nearest_text(nearest: &[String]) -> String {
    if nearest.is_empty() { String::new() } else { format!("; nearest: {}", nearest.join(", ")) }
}

/// The matrices that the patterns pick, each once, in the model's order.
///
/// A pattern is `role:query` (or `key`, `value`, `output`, `up`, `gate`, `down`, `head`), `all-linear` (every matrix but
/// heads), or a glob over names of weights and of the nodes that read them.
///
/// # Errors
/// Every pattern that picks nothing.
pub fn select(graph: &Graph, patterns: &[&str]) -> Result<Vec<Target>, Vec<NoMatch>> {
    let (all, known) = (matrices(graph), roles(graph));
    let roles_of = |m: &Matrix| known.get(&m.weight).cloned().unwrap_or_default();
    let mut picked: Vec<Option<&str>> = vec![None; all.len()];
    let mut wrong = Vec::new();
    for pattern in patterns {
        let fits = match test(graph, pattern) {
            Ok(fits) => fits,
            Err(e) => {
                wrong.push(e);
                continue;
            }
        };
        let mut any = false;
        for (matrix, pick) in all.iter().zip(&mut picked) {
            let roles = roles_of(matrix);
            if !fits(matrix, &roles) {
                continue;
            }
            any = true;
            let parts = roles.iter().filter(|r| matches!(r, Role::Query | Role::Key | Role::Value)).count();
            if pattern.starts_with("role:") && parts > 1 {
                let holds = roles.iter().map(Role::to_string).collect::<Vec<_>>().join(", ");
                wrong.push(NoMatch::Fused { pattern: pattern.to_string(), name: matrix.name.clone(), holds });
            }
            pick.get_or_insert(pattern);
        }
        if !any {
            wrong.push(NoMatch::Nothing { pattern: pattern.to_string(), nearest: nearest(graph, pattern, &all) });
        }
    }
    if !wrong.is_empty() {
        return Err(wrong);
    }
    let chosen = all.iter().zip(picked).filter_map(|(m, p)| Some((m, p?)));
    let target = |(m, p): (&Matrix, &str)| Target { matrix: m.clone(), roles: roles_of(m), pattern: p.to_string() };
    Ok(chosen.map(target).collect())
}

type Test<'a> = Box<dyn Fn(&Matrix, &BTreeSet<Role>) -> bool + 'a>;

fn test<'a>(graph: &'a Graph, pattern: &str) -> Result<Test<'a>, NoMatch> {
    let syntax = |why: String| NoMatch::Syntax { pattern: pattern.to_string(), why };
    if let Some(name) = pattern.strip_prefix("role:") {
        let role = ROLES.iter().find(|r| r.0 == name).map(|r| r.1).ok_or_else(|| {
            let known: Vec<&str> = ROLES.iter().map(|r| r.0).collect();
            syntax(format!("roles are {}", known.join(", ")))
        })?;
        return Ok(Box::new(move |_, roles| roles.contains(&role)));
    }
    if pattern == "all-linear" {
        return Ok(Box::new(|_, roles| !roles.contains(&Role::Head)));
    }
    let glob = GlobBuilder::new(pattern).build().map_err(|e| syntax(e.kind().to_string()))?.compile_matcher();
    Ok(Box::new(move |matrix, _| names(graph, matrix).iter().any(|n| glob.is_match(n))))
}

/// The matrix's name, and the names of the nodes that read it and of their results.
fn names(graph: &Graph, matrix: &Matrix) -> Vec<String> {
    let mut names = vec![matrix.name.clone()];
    for node in matrix.products.iter().filter_map(|p| graph.node(*p)) {
        names.push(node.origin.source.to_string());
        names.extend(node.outputs.first().map(|v| graph.name_of(*v)));
    }
    names.retain(|n| !n.is_empty());
    names
}

/// Names that look like the pattern, the most alike first.
fn nearest(graph: &Graph, pattern: &str, all: &[Matrix]) -> Vec<String> {
    let bare: String = pattern.chars().filter(|c| *c != '*').collect();
    let score = |name: &String| {
        let part = name.split(['/', '.']).map(|p| strsim::jaro_winkler(p, &bare)).fold(0.0, f64::max);
        part.max(strsim::jaro_winkler(name, &bare))
    };
    let mut names: Vec<String> = all.iter().flat_map(|m| names(graph, m)).collect();
    names.extend(ROLES.iter().map(|r| format!("role:{}", r.0)).filter(|_| pattern.starts_with("role")));
    names.sort_by(|a, b| score(b).total_cmp(&score(a)).then_with(|| a.cmp(b)));
    names.dedup();
    names.truncate(3);
    names
}
