//! Targets of an adaptation: matrices named by a pattern.

use crate::fused_slice::{FusedSlice, fused_slices};
use crate::role::ROLES;
use crate::{Matrix, PassError, Role, matrices, roles};
use globset::GlobBuilder;
use lorac_config::nearest;
use lorac_ir::{Graph, ValueId};
use std::collections::{BTreeMap, BTreeSet};

/// A weight, or a slice of one, that a pattern picked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    /// The weight.
    pub weight: ValueId,
    /// Its name in the model.
    pub weight_name: String,
    /// Its shape.
    pub dims: Vec<usize>,
    /// The products that read it, where it is a matrix that multiplies activations.
    pub matrix: Option<Matrix>,
    /// The slice of the matrix that is meant; all of it where there is none.
    pub slice: Option<FusedSlice>,
    /// What it does, where that is known.
    pub roles: BTreeSet<Role>,
    /// The pattern that picked it first.
    pub pattern: String,
}

impl Target {
    /// A matrix as a whole.
    pub fn of_matrix(matrix: &Matrix, roles: BTreeSet<Role>, pattern: &str) -> Target {
        let (rows, cols) = (matrix.rows, matrix.cols);
        Target {
            weight: matrix.weight,
            weight_name: matrix.name.clone(),
            dims: if matrix.transposed { vec![cols, rows] } else { vec![rows, cols] },
            matrix: Some(matrix.clone()),
            slice: None,
            roles,
            pattern: pattern.to_string(),
        }
    }

    /// The weight's name, with that of the slice: `h.0.attn.c_attn.weight.query`.
    pub fn name(&self) -> String {
        match &self.slice {
            Some(slice) => format!("{}.{}", self.weight_name, slice.role),
            None => self.weight_name.clone(),
        }
    }

    /// The matrix.
    ///
    /// # Errors
    /// A weight that multiplies no activations.
    pub fn matrix(&self) -> Result<&Matrix, PassError> {
        let why =
            || PassError::Unsuitable(format!("`{}` is not a matrix that multiplies activations", self.weight_name));
        self.matrix.as_ref().ok_or_else(why)
    }

    /// Length of the rows that the matrix multiplies; 0 where it is none.
    pub fn rows(&self) -> usize {
        self.matrix.as_ref().map_or(0, |m| m.rows)
    }

    /// Length of the results; 0 where the weight is not a matrix.
    pub fn cols(&self) -> usize {
        let all = self.matrix.as_ref().map_or(0, |m| m.cols);
        self.slice.as_ref().map_or(all, |s| s.columns.len())
    }
}

/// Items on slices of one weight together, in the order of the first of each.
pub fn group_by_weight<T>(items: &[T], target: impl Fn(&T) -> &Target) -> Vec<Vec<&T>> {
    let mut groups: Vec<Vec<&T>> = Vec::new();
    let mut place: BTreeMap<ValueId, usize> = BTreeMap::new();
    for item in items {
        let at = *place.entry(target(item).weight).or_insert(groups.len());
        if at == groups.len() {
            groups.push(Vec::new());
        }
        groups[at].push(item);
    }
    groups
}

/// Every pattern that picks nothing.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{}", .0.iter().map(ToString::to_string).collect::<Vec<_>>().join("; "))]
pub struct NoMatches(pub Vec<NoMatch>);

/// A pattern that picks nothing.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NoMatch {
    /// No matrix fits.
    #[error("`{pattern}` matches no {what}{}", nearest_text(.nearest))]
    Nothing {
        /// What was looked for: `weight matrix`.
        what: &'static str,
        /// The pattern.
        pattern: String,
        /// What may have been meant.
        nearest: Vec<String>,
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
    /// The matrix is an embedding table too.
    #[error(
        "`{pattern}` picks `{name}`, which is an embedding table as well (tied embeddings): a branch would change both uses; \
         choose other targets, or export the model with its embeddings untied"
    )]
    Tied {
        /// The pattern.
        pattern: String,
        /// The matrix.
        name: String,
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
            NoMatch::Syntax { .. } => "target::syntax",
            NoMatch::Fused { .. } => "target::fused",
            NoMatch::Tied { .. } => "target::tied",
        }
    }

    /// The pattern at fault.
    pub fn pattern(&self) -> &str {
        match self {
            NoMatch::Nothing { pattern, .. }
            | NoMatch::Syntax { pattern, .. }
            | NoMatch::Fused { pattern, .. }
            | NoMatch::Tied { pattern, .. } => pattern,
        }
    }
}

fn nearest_text(nearest: &[String]) -> String {
    if nearest.is_empty() { String::new() } else { format!("; nearest: {}", nearest.join(", ")) }
}

/// The matrices that the patterns pick, each once, in the model's order.
///
/// A pattern is `role:query` (or `key`, `value`, `output`, `up`, `gate`, `down`, `head`), `all-linear` (every matrix but
/// heads), or a glob over names of weights and of the nodes that read them. Of a matrix that is query, key and value in
/// one, `role:query` picks the query's columns; a matrix that another pattern picks whole has no slices beside.
///
/// # Errors
/// Every pattern that picks nothing.
pub fn select<S: AsRef<str>>(graph: &Graph, patterns: &[S]) -> Result<Vec<Target>, NoMatches> {
    let (all, known) = (matrices(graph), roles(graph));
    let roles_of = |m: &Matrix| known.get(&m.weight).cloned().unwrap_or_default();
    // Of every matrix, what is picked of it: all, or the slice of a role.
    let mut picked: Vec<BTreeMap<Option<Role>, &str>> = vec![BTreeMap::new(); all.len()];
    let mut fused: Option<BTreeMap<ValueId, Vec<FusedSlice>>> = None;
    let mut wrong = Vec::new();
    for pattern in patterns.iter().map(AsRef::as_ref) {
        let fits = match test(graph, pattern) {
            Ok(fits) => fits,
            Err(e) => {
                wrong.push(e);
                continue;
            }
        };
        let mut any = false;
        for (matrix, picks) in all.iter().zip(&mut picked) {
            let roles = roles_of(matrix);
            if !fits(matrix, &roles) {
                continue;
            }
            any = true;
            let slice = role_in_fused(pattern, &roles);
            if let Some(role) = slice {
                let slices = fused.get_or_insert_with(|| fused_slices(graph));
                if !slices.get(&matrix.weight).is_some_and(|s| s.iter().any(|s| s.role == role)) {
                    let holds = roles.iter().map(Role::to_string).collect::<Vec<_>>().join(", ");
                    wrong.push(NoMatch::Fused { pattern: pattern.to_string(), name: matrix.name.clone(), holds });
                }
            }
            picks.entry(slice).or_insert(pattern);
        }
        let tied = tied(graph).find(|(name, node)| match pattern.strip_prefix("role:") {
            Some(role) => role == "head",
            None => pattern != "all-linear" && (glob_fits(pattern, name) || glob_fits(pattern, node)),
        });
        if !any && let Some((name, _)) = tied {
            wrong.push(NoMatch::Tied { pattern: pattern.to_string(), name });
        } else if !any {
            let nearest = nearest_names(graph, pattern, &all);
            wrong.push(NoMatch::Nothing { what: "weight matrix", pattern: pattern.to_string(), nearest });
        }
    }
    if !wrong.is_empty() {
        return Err(NoMatches(wrong));
    }
    let mut fused = fused.unwrap_or_default();
    let mut targets = Vec::new();
    for (matrix, picks) in all.iter().zip(picked) {
        let whole = picks.get(&None).copied();
        let slices = fused.remove(&matrix.weight).unwrap_or_default();
        let slices = slices.into_iter().filter_map(|s| Some((*picks.get(&Some(s.role))?, s)));
        match whole {
            Some(pattern) => targets.push(Target::of_matrix(matrix, roles_of(matrix), pattern)),
            None => targets.extend(slices.map(|(pattern, slice)| Target {
                slice: Some(slice.clone()),
                ..Target::of_matrix(matrix, [slice.role].into(), pattern)
            })),
        }
    }
    Ok(targets)
}

/// What a pattern picks of named things: the one of this name, or those that it fits as a glob. `what` says what they are.
///
/// # Errors
/// A pattern that is not valid, or that picks nothing.
pub(crate) fn pick<T: Copy>(what: &'static str, pattern: &str, all: &[(T, &str)]) -> Result<Vec<T>, NoMatch> {
    if let Some((exact, _)) = all.iter().find(|(_, name)| *name == pattern) {
        return Ok(vec![*exact]);
    }
    let syntax = |e: globset::Error| NoMatch::Syntax { pattern: pattern.to_string(), why: e.kind().to_string() };
    let glob = GlobBuilder::new(pattern).build().map_err(syntax)?.compile_matcher();
    let found: Vec<T> = all.iter().filter(|(_, name)| glob.is_match(name)).map(|(item, _)| *item).collect();
    if found.is_empty() {
        let nearest = nearest(pattern, all.iter().map(|(_, name)| name));
        return Err(NoMatch::Nothing { what, pattern: pattern.to_string(), nearest });
    }
    Ok(found)
}

/// The role that a pattern names, where the matrix has others of an attention beside.
fn role_in_fused(pattern: &str, roles: &BTreeSet<Role>) -> Option<Role> {
    let name = pattern.strip_prefix("role:")?;
    let attention = [Role::Query, Role::Key, Role::Value];
    let role = attention.into_iter().find(|r| r.to_string() == name)?;
    (roles.iter().filter(|r| attention.contains(r)).count() > 1).then_some(role)
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

/// Weight matrices that are both looked up in and multiplied with, and the node that does the latter.
fn tied(graph: &Graph) -> impl Iterator<Item = (String, String)> {
    graph.weights().filter(|w| w.2.dims().len() == 2 && w.2.dtype().is_float()).filter_map(|(_, value, _)| {
        let nodes = || value.uses().iter().filter_map(|u| Some((u.slot, graph.node(u.node)?)));
        let table = nodes().any(|(slot, n)| slot == 0 && &*n.op.name == "Gather");
        let product = nodes().find(|(_, n)| ["MatMul", "Gemm", "Transpose"].contains(&&*n.op.name));
        product.filter(|_| table).map(|(_, n)| (value.name.to_string(), n.origin.source.to_string()))
    })
}

fn glob_fits(pattern: &str, name: &str) -> bool {
    GlobBuilder::new(pattern).build().is_ok_and(|g| g.compile_matcher().is_match(name))
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
fn nearest_names(graph: &Graph, pattern: &str, all: &[Matrix]) -> Vec<String> {
    let names = all.iter().flat_map(|m| names(graph, m));
    let roles = ROLES.iter().map(|r| format!("role:{}", r.0)).filter(|_| pattern.starts_with("role"));
    nearest(pattern, names.chain(roles))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tied_matrix_is_refused_by_its_name() {
        let graph = lorac_ir::parse(
            "graph g(%ids: i64[N]) -> %y {
                %wte = weight \"wte\" f32[3,2] = [1, 2, 3, 4, 5, 6]
                %x = Gather(%wte, %ids) : f32[N,2]
                %y = Gemm(%x, %wte, transB=1) : f32[N,3]
            }",
        )
        .expect("parses");
        for pattern in ["wte", "w*", "role:head"] {
            let wrong = select(&graph, &[pattern]).expect_err("tied");
            let want = NoMatch::Tied { pattern: pattern.into(), name: "wte".into() };
            assert_eq!(wrong.0, [want], "{pattern}");
        }
        assert!(matches!(select(&graph, &["lm_head"]).expect_err("nothing").0[..], [NoMatch::Nothing { .. }]));
    }
}
