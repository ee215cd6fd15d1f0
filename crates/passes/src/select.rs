//! Targets of an adaptation: matrices named by a pattern.

use crate::fused_slice::{FusedSlice, fused_slices};
use crate::matrix::Candidate;
use crate::no_match::{NoMatch, NoMatches, explanation, of_weight, within_nodes};
use crate::obstacle::inside;
use crate::role::{Matrices, Operand, ROLES};
use crate::stack::stack;
use crate::tables_and_kernels::{ALL_CONVOLUTIONS, ALL_EMBEDDINGS, ALL_EXPERTS, TablesAndKernels};
use crate::{Matrix, ReadAs, Role, Target};
use globset::GlobBuilder;
use lorac_config::nearest;
use lorac_ir::{Graph, ValueId};
use std::collections::{BTreeMap, BTreeSet};

/// The matrices that the patterns pick, each once, in the model's order.
///
/// A pattern is the name of a weight or of a node that reads it, `role:query` (or `key`, `value`, `output`, `up`, `gate`,
/// `down`, `head`), `all-linear` (every matrix but heads and those that are read otherwise too), or a glob over names; what
/// fits no matrix may fit tables of embeddings, kernels of convolutions and stacks of matrices, all of which are `all-embeddings`,
/// `all-convolutions` and `all-experts`. Of a matrix that does several things, as query, key and value in one, a role picks its
/// columns; a matrix that another pattern picks whole has no slices beside.
///
/// # Errors
/// Every pattern that picks nothing.
pub fn select<S: AsRef<str>>(graph: &Graph, patterns: &[S]) -> Result<Vec<Target>, NoMatches> {
    let known = Matrices::of(graph);
    // Of every matrix, what is picked of it: all, or the slice of a role.
    let mut picked: Vec<BTreeMap<Option<Role>, &str>> = vec![BTreeMap::new(); known.all.len()];
    let mut fused: Option<BTreeMap<ValueId, Vec<FusedSlice>>> = None;
    let (mut wrong, mut beside) = (Vec::new(), TablesAndKernels::default());
    for pattern in patterns.iter().map(AsRef::as_ref) {
        let found = match matching(graph, &known, pattern) {
            Ok(found) => found,
            Err(e) => {
                wrong.push(e);
                continue;
            }
        };
        if found.is_empty() {
            match beside.pick(graph, pattern) {
                Ok(true) => {}
                Ok(false) => {
                    let of_matrices = known.nothing(graph, pattern);
                    let more = matches!(&of_matrices, NoMatch::Nothing { nearest, .. } if nearest.is_empty());
                    let more = more && graph.find(pattern).is_none() && !pattern.starts_with("role:") && pattern != ALL;
                    let beside = more.then(|| beside.nothing(graph, pattern)).flatten();
                    wrong.push(beside.unwrap_or(of_matrices));
                }
                Err(e) => wrong.push(e),
            }
            continue;
        }
        let mut any = false;
        let asked = sliced(pattern).0;
        for i in &found {
            let Candidate { matrix, obstacle: None } = &known.all[*i] else { continue };
            any = true;
            for role in asked.iter().filter(|role| !known.roles_of(matrix).contains(role)) {
                wrong.push(known.no_slice(pattern, matrix, *role));
            }
            let slices = match asked.is_empty() {
                true => vec![known.part(graph, pattern, matrix)],
                false => asked.iter().map(|role| known.part_of(graph, *role, matrix)).collect(),
            };
            for slice in slices {
                if let Some(role) = slice {
                    let slices = fused.get_or_insert_with(|| fused_slices(&known.tracer(graph), &known.operands));
                    let has = slices.get(&matrix.weight).is_some_and(|s| s.iter().any(|s| s.role == role));
                    if !has && known.roles_of(matrix).contains(&role) {
                        wrong.push(known.inseparable(pattern, matrix));
                    }
                }
                picked[*i].entry(slice).or_insert(pattern);
            }
        }
        let unfit = found.iter().map(|i| &known.all[*i]).filter(|c| c.obstacle.is_some());
        let unfit: Vec<ValueId> = unfit.map(|c| c.matrix.weight).collect();
        any |= pattern != ALL && asked.is_empty() && beside.pick_stacks(graph, &unfit, pattern);
        if !any {
            let unfit: Vec<&Candidate> = found.iter().map(|i| &known.all[*i]).collect();
            wrong.push(match unfit.first().and_then(|c| c.obstacle.clone()) {
                Some(obstacle) => NoMatch::unsuitable(pattern, &unfit, obstacle),
                None => known.nothing(graph, pattern),
            });
        }
    }
    if !wrong.is_empty() {
        return Err(NoMatches(wrong));
    }
    let mut fused = fused.unwrap_or_default();
    let mut targets = Vec::new();
    for (Candidate { matrix, .. }, picks) in known.all.iter().zip(picked) {
        let all = |s: &FusedSlice| s.columns.len() == matrix.cols;
        let slices = fused.remove(&matrix.weight).unwrap_or_default();
        let picked_slices = slices.into_iter().filter_map(|s| Some((*picks.get(&Some(s.role))?, s)));
        let picked_slices: Vec<(&str, FusedSlice)> = picked_slices.collect();
        let whole = picks.get(&None).or(picked_slices.iter().find(|(_, s)| all(s)).map(|(pattern, _)| pattern));
        match whole {
            Some(pattern) => targets.push(Target::of_matrix(matrix, known.roles_of(matrix), pattern)),
            None => targets.extend(picked_slices.into_iter().map(|(pattern, slice)| Target {
                slice: Some(slice.clone()),
                ..Target::of_matrix(matrix, [slice.role].into(), pattern)
            })),
        }
    }
    let before = targets.len();
    targets.extend(beside.targets());
    if targets.len() > before {
        targets.sort_by_key(|t| t.weight);
    }
    Ok(targets)
}

/// A weight that patterns pass over.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct LeftOut {
    /// Its name.
    pub name: String,
    /// Why: what follows "is".
    pub why: String,
}

/// What roles, globs and `all-linear` pass over though they fit it, and why: heads, matrices that are read otherwise too,
/// quantized ones; and, of patterns that fit no matrix, kernels of convolutions in groups.
pub fn left_out<S: AsRef<str>>(graph: &Graph, patterns: &[S]) -> Vec<LeftOut> {
    let known = Matrices::of(graph);
    let (mut out, mut taken) = (BTreeMap::new(), BTreeSet::new());
    let (mut bodies, mut beside) = (Vec::new(), TablesAndKernels::default());
    let mut unfit = BTreeMap::new();
    for pattern in patterns.iter().map(AsRef::as_ref) {
        let found: BTreeSet<usize> = matching(graph, &known, pattern).unwrap_or_default().into_iter().collect();
        if pattern == ALL {
            bodies = inside(graph);
        }
        if found.is_empty() {
            unfit.extend(beside.left_out(graph, pattern));
        }
        for (i, Candidate { matrix, obstacle }) in known.all.iter().enumerate() {
            if let (true, Some(why)) = (found.contains(&i), obstacle) {
                match stack(graph, matrix.weight).is_some() {
                    false => _ = out.insert(i, why.to_string()),
                    true if pattern == ALL => _ = out.insert(i, STACK.to_string()),
                    true => _ = taken.insert(i),
                }
            } else if found.contains(&i) {
                taken.insert(i);
            } else if pattern == ALL {
                let why = match known.roles_of(matrix).contains(&Role::Head) {
                    true => "a head: `role:head` picks it",
                    false => "read otherwise too, as an embedding table or transposed: its name picks it",
                };
                out.insert(i, why.to_string());
            }
        }
    }
    out.retain(|i, _| !taken.contains(i));
    let named = out.into_iter().map(|(i, why)| LeftOut { name: known.all[i].matrix.name.clone(), why });
    let bodies = bodies.into_iter().map(|(name, op)| LeftOut { name, why: format!("in a graph inside `{op}`") });
    let unfit = unfit.into_iter().map(|(name, why)| LeftOut { name, why });
    named.chain(bodies).chain(unfit).collect()
}

/// The slices of every matrix that roles share, where the graph tells which columns are whose.
pub fn slices(graph: &Graph) -> BTreeMap<ValueId, Vec<FusedSlice>> {
    let known = Matrices::of(graph);
    let several = |o: &&Operand| !known.is_whole(graph, o) || known.roles.get(&o.weight).is_some_and(|r| r.len() > 1);
    let parts: Vec<Operand> = known.operands.iter().filter(several).copied().collect();
    let mut all = match parts.is_empty() {
        true => BTreeMap::new(),
        false => fused_slices(&known.tracer(graph), &parts),
    };
    let cols: BTreeMap<ValueId, usize> = known.all.iter().map(|c| (c.matrix.weight, c.matrix.cols)).collect();
    all.retain(|weight, slices| slices.iter().any(|s| Some(&s.columns.len()) != cols.get(weight)));
    all
}

const ALL: &str = "all-linear";

/// Why `all-linear` passes over a stack.
const STACK: &str = "a stack of matrices, as of experts: `all-experts` picks it, or its name";

impl Matrices {
    pub(crate) fn roles_of(&self, matrix: &Matrix) -> BTreeSet<Role> {
        self.roles.get(&matrix.weight).cloned().unwrap_or_default()
    }

    /// The role that a pattern names, where it is of a part of the matrix.
    fn part(&self, graph: &Graph, pattern: &str, matrix: &Matrix) -> Option<Role> {
        let role = role_named(pattern).ok().flatten().filter(|r| r.is_fused())?;
        self.part_of(graph, role, matrix)
    }

    /// The role, where it is of a part of the matrix.
    fn part_of(&self, graph: &Graph, role: Role, matrix: &Matrix) -> Option<Role> {
        let several = self.roles_of(matrix).into_iter().filter(|r| r.is_fused()).count() > 1;
        let mut its = self.operands.iter().filter(|o| o.weight == matrix.weight && o.role == role);
        (several || its.any(|o| !self.is_whole(graph, o))).then_some(role)
    }

    fn no_slice(&self, pattern: &str, matrix: &Matrix, role: Role) -> NoMatch {
        let all: Vec<String> =
            self.roles_of(matrix).iter().filter(|r| r.is_fused()).map(|role| format!("`{role}`")).collect();
        let has = match all.is_empty() {
            true => "it is not made of parts that the graph tells".to_string(),
            false => format!("it has {}", all.join(", ")),
        };
        let (pattern, name, slice) = (pattern.to_string(), matrix.name.clone(), role.to_string());
        NoMatch::NoSlice { pattern, name, slice, has }
    }

    fn inseparable(&self, pattern: &str, matrix: &Matrix) -> NoMatch {
        let holds = self.roles_of(matrix).iter().map(Role::to_string).collect::<Vec<_>>().join(", ");
        NoMatch::Fused { pattern: pattern.to_string(), name: matrix.name.clone(), holds }
    }

    /// Why a pattern picks nothing.
    fn nothing(&self, graph: &Graph, pattern: &str) -> NoMatch {
        let what = "weight matrix";
        let pattern = pattern.to_string();
        if pattern == ALL || pattern.starts_with("role:") {
            return NoMatch::Nothing { what, pattern, nearest: Vec::new(), why: explanation(graph, self) };
        }
        let glob = GlobBuilder::new(&pattern).build().ok().map(|g| g.compile_matcher());
        let fits = |name: &str| name == pattern || glob.as_ref().is_some_and(|g| g.is_match(name));
        if let Some(within) = within_nodes(graph, &pattern, fits) {
            return within;
        }
        if let Some(why) = of_weight(graph, &pattern) {
            let trained = graph.find(&pattern).is_some_and(|v| graph.fact(v).dtype.is_float());
            let why = if trained { format!("{why}; `full` trains it as it is") } else { why };
            return NoMatch::Nothing { what, pattern, nearest: Vec::new(), why };
        }
        let names = self.all.iter().filter(|c| c.obstacle.is_none()).flat_map(|c| names(graph, &c.matrix));
        let nearest = nearest(sliced(&pattern).1, names);
        let why = if nearest.is_empty() { explanation(graph, self) } else { String::new() };
        NoMatch::Nothing { what, pattern, nearest, why }
    }
}

/// The role that a pattern names by `role:`, if it does.
///
/// # Errors
/// A role that there is not.
pub(crate) fn role_named(pattern: &str) -> Result<Option<Role>, NoMatch> {
    let Some(name) = pattern.strip_prefix("role:") else { return Ok(None) };
    if let Some((_, role)) = ROLES.iter().find(|r| r.0 == name) {
        return Ok(Some(*role));
    }
    let known: Vec<&str> = ROLES.iter().map(|r| r.0).collect();
    let meant = nearest(name, &known).first().map_or(String::new(), |r| format!("; did you mean `role:{r}`?"));
    let why = format!("roles are {}{meant}", known.join(", "));
    Err(NoMatch::Syntax { pattern: pattern.to_string(), why })
}

/// What stands between the slices of a pattern and the pattern that they are of.
const OF: &str = " of ";

/// Short names of slices.
const SLICES: [(&str, Role); 8] = [
    ("q", Role::Query),
    ("k", Role::Key),
    ("v", Role::Value),
    ("query", Role::Query),
    ("key", Role::Key),
    ("value", Role::Value),
    ("gate", Role::Gate),
    ("up", Role::Up),
];

/// The pattern of slices of what another picks: `query, value of *c_attn*`.
///
/// # Errors
/// Words that are no slices, in words.
pub(crate) fn slice_pattern(pattern: &str, slices: &[String]) -> Result<String, String> {
    let roles = slices.iter().map(|word| {
        let known = SLICES.iter().find(|(name, _)| name == word).map(|(_, role)| role.to_string());
        known.ok_or_else(|| format!("`{word}` is not a slice: expected q, k, v, gate or up"))
    });
    let roles: Vec<String> = roles.collect::<Result<_, _>>()?;
    match roles.is_empty() {
        true => Err("`slice` is empty: name the whole matrix by its pattern alone".into()),
        false => Ok(format!("{}{OF}{pattern}", roles.join(", "))),
    }
}

/// The roles of the slices that a pattern asks for, and the pattern that picks the matrices.
fn sliced(pattern: &str) -> (Vec<Role>, &str) {
    let role = |word: &str| SLICES.iter().find(|(name, _)| *name == word.trim()).map(|(_, role)| *role);
    let split = pattern.split_once(OF);
    let read = split.and_then(|(words, inner)| Some((words.split(',').map(role).collect::<Option<_>>()?, inner)));
    read.unwrap_or((Vec::new(), pattern))
}

/// Positions of the matrices that a pattern fits, of those that cannot be adapted too.
fn matching(graph: &Graph, known: &Matrices, pattern: &str) -> Result<Vec<usize>, NoMatch> {
    let pattern = sliced(pattern).1;
    let fitting = |fits: &dyn Fn(&Matrix) -> bool| {
        let all = known.all.iter().enumerate();
        Ok(all.filter(|(_, c)| fits(&c.matrix)).map(|(i, _)| i).collect::<Vec<usize>>())
    };
    let by_weight = fitting(&|m| m.name == pattern)?;
    if !by_weight.is_empty() {
        return Ok(by_weight);
    }
    if let Some(role) = role_named(pattern)? {
        return fitting(&|m| known.roles.get(&m.weight).is_some_and(|r| r.contains(&role)));
    }
    if pattern == ALL {
        return fitting(&|m| !m.shared && !known.roles.get(&m.weight).is_some_and(|r| r.contains(&Role::Head)));
    }
    let by_node = fitting(&|m| names(graph, m).iter().any(|n| n == pattern))?;
    if !by_node.is_empty() {
        return Ok(by_node);
    }
    let glob = GlobBuilder::new(pattern).build().map_err(|e| syntax(pattern, &e))?.compile_matcher();
    fitting(&|m| names(graph, m).iter().any(|n| glob.is_match(n)))
}

/// Positions of the targets that a pattern fits, which says something of what others picked. A role is a slice's own, and that
/// of a whole matrix only where it has no other.
///
/// # Errors
/// A pattern that is not valid.
pub(crate) fn fitting(
    graph: &Graph,
    known: &Matrices,
    pattern: &str,
    targets: &[Target],
) -> Result<Vec<usize>, NoMatch> {
    let (slices, inner) = sliced(pattern);
    let role = role_named(inner)?;
    let found: BTreeSet<ValueId> =
        matching(graph, known, pattern)?.into_iter().filter_map(|i| Some(known.all.get(i)?.matrix.weight)).collect();
    let glob = GlobBuilder::new(pattern).build().map_err(|e| syntax(pattern, &e))?.compile_matcher();
    let is_beside = |t: &Target| match t.matrix.as_ref().map(|m| (m, m.read_as)) {
        None | Some((_, ReadAs::Product)) => false,
        Some((_, ReadAs::Lookup)) if pattern == ALL_EMBEDDINGS => true,
        Some((_, ReadAs::Convolution)) if pattern == ALL_CONVOLUTIONS => true,
        Some((_, ReadAs::Stack)) if pattern == ALL_EXPERTS => true,
        Some((matrix, _)) => names(graph, matrix).iter().any(|name| name == pattern || glob.is_match(name)),
    };
    let fits = |t: &Target| match (role, &t.slice) {
        (_, slice) if !slices.is_empty() => {
            found.contains(&t.weight) && slice.as_ref().is_some_and(|s| slices.contains(&s.role))
        }
        (Some(role), Some(slice)) => slice.role == role,
        (Some(role), None) => {
            found.contains(&t.weight) && (!role.is_fused() || t.roles.iter().all(|r| *r == role || !r.is_fused()))
        }
        (None, Some(_)) => found.contains(&t.weight) || t.name() == pattern || glob.is_match(t.name()),
        (None, None) => found.contains(&t.weight) || is_beside(t),
    };
    Ok(targets.iter().enumerate().filter(|(_, t)| fits(t)).map(|(i, _)| i).collect())
}

/// Positions of the things that have a name which the pattern is, or else fits.
pub(crate) fn fitting_names(pattern: &str, all: &[Vec<String>]) -> Result<Vec<usize>, NoMatch> {
    let positions = |fits: &dyn Fn(&String) -> bool| -> Vec<usize> {
        all.iter().enumerate().filter(|(_, names)| names.iter().any(fits)).map(|(i, _)| i).collect()
    };
    let exact = positions(&|name| name == pattern);
    if !exact.is_empty() || pattern.starts_with("role:") || pattern == ALL {
        return Ok(exact);
    }
    let glob = GlobBuilder::new(pattern).build().map_err(|e| syntax(pattern, &e))?.compile_matcher();
    Ok(positions(&|name| glob.is_match(name)))
}

fn syntax(pattern: &str, e: &globset::Error) -> NoMatch {
    NoMatch::Syntax { pattern: pattern.to_string(), why: e.kind().to_string() }
}

/// What a pattern picks of named things: the one of this name, or those that it fits as a glob. `what` says what they are.
///
/// # Errors
/// A pattern that is not valid, or that picks nothing.
pub(crate) fn pick<T: Copy>(what: &'static str, pattern: &str, all: &[(T, &str)]) -> Result<Vec<T>, NoMatch> {
    if let Some((exact, _)) = all.iter().find(|(_, name)| *name == pattern) {
        return Ok(vec![*exact]);
    }
    let glob = GlobBuilder::new(pattern).build().map_err(|e| syntax(pattern, &e))?.compile_matcher();
    let found: Vec<T> = all.iter().filter(|(_, name)| glob.is_match(name)).map(|(item, _)| *item).collect();
    if found.is_empty() {
        let nearest = nearest(pattern, all.iter().map(|(_, name)| name));
        return Err(NoMatch::Nothing { what, pattern: pattern.to_string(), nearest, why: String::new() });
    }
    Ok(found)
}

/// The matrix's name, and the names of the nodes that read it and of their results.
pub(crate) fn names(graph: &Graph, matrix: &Matrix) -> Vec<String> {
    let mut names = vec![matrix.name.clone()];
    for node in matrix.products.iter().filter_map(|p| graph.node(*p)) {
        names.push(node.origin.source.to_string());
        names.extend(node.outputs.first().map(|v| graph.name_of(*v)));
    }
    names.retain(|n| !n.is_empty());
    names
}

#[cfg(test)]
mod tests {
    use super::*;

    fn patterns_of(graph: &Graph, patterns: &[&str]) -> Vec<String> {
        select(graph, patterns)
            .map(|all| all.iter().map(Target::name).collect())
            .unwrap_or_else(|e| vec![e.to_string()])
    }

    #[test]
    fn slices_are_written_as_patterns() {
        let written =
            |words: &[&str]| slice_pattern("*c_attn*", &words.iter().map(|w| w.to_string()).collect::<Vec<_>>());
        assert_eq!(written(&["q", "value"]).as_deref(), Ok("query, value of *c_attn*"));
        assert!(written(&["z"]).is_err_and(|e| e.starts_with("`z` is not a slice")) && written(&[]).is_err());
        assert_eq!(sliced("query, value of *c_attn*"), (vec![Role::Query, Role::Value], "*c_attn*"));
        assert_eq!(sliced("part of it"), (Vec::new(), "part of it"));
    }

    #[test]
    fn kernels_in_groups_are_left_out_beside_plain_ones_whatever_picks_these() {
        let graph = lorac_ir::parse(
            "graph g(%x: f32[N,2,4]) -> %y {
                %a = weight \"stem.one.weight\" f32[2,2,1] = [1, 2, 3, 4]
                %b = weight \"stem.two.weight\" f32[2,1,1] = [1, 2]
                %h = Conv(%x, %a) : f32[N,2,4]
                %y = Conv(%h, %b, group=2) : f32[N,2,4]
            }",
        )
        .expect("parses");
        for pattern in ["stem.*", "all-convolutions"] {
            assert_eq!(patterns_of(&graph, &[pattern]), ["stem.one.weight"], "{pattern}");
            let out = left_out(&graph, &[pattern]);
            let names: Vec<&str> = out.iter().map(|o| o.name.as_str()).collect();
            assert_eq!(names, ["stem.two.weight"], "{pattern}");
            assert!(out[0].why.contains("in groups"), "{out:?}");
        }
        assert_eq!(left_out(&graph, &["stem.one*"]), []);
    }

    #[test]
    fn a_tied_matrix_is_picked_by_name_and_by_role_and_not_with_all() {
        let graph = lorac_ir::parse(
            "graph g(%ids: i64[N]) -> %y {
                %wte = weight \"wte\" f32[3,2] = [1, 2, 3, 4, 5, 6]
                %x = Gather(%wte, %ids) : f32[N,2]
                %y = Gemm(%x, %wte, transB=1) : f32[N,3]
            }",
        )
        .expect("parses");
        for pattern in ["wte", "w*", "role:head"] {
            assert_eq!(patterns_of(&graph, &[pattern]), ["wte"], "{pattern}");
        }
        let [all] = &patterns_of(&graph, &["all-linear"])[..] else { panic!("one answer") };
        assert!(all.contains("the roles in this model are head (1)"), "{all}");
        assert!(left_out(&graph, &["all-linear"])[0].why.starts_with("a head"));
        assert!(matches!(select(&graph, &["lm_head"]).expect_err("nothing").0[..], [NoMatch::Nothing { .. }]));
        let dropping = crate::Lora { targets: vec!["wte".into()], dropout: 0.5, ..Default::default() };
        let wrong = crate::Method::select(&dropping, &graph).expect_err("refused");
        assert_eq!(wrong.0[0].code(), "target::tied");
    }

    #[test]
    fn a_name_is_a_name_before_it_is_a_glob() {
        let graph = lorac_ir::parse(
            "graph g(%x: f32[N,2]) -> %y {
                %a = weight \"layers[0].q\" f32[2,2] = [1, 2, 3, 4]
                %b = weight \"layers0.q\" f32[2,2] = [1, 2, 3, 4]
                %c = weight \"role:head\" f32[2,2] = [1, 2, 3, 4]
                %d = weight \"*\" f32[2,2] = [1, 2, 3, 4]
                %h = MatMul(%x, %a) : f32[N,2]
                %i = MatMul(%h, %b) : f32[N,2]
                %j = MatMul(%i, %c) : f32[N,2]
                %y = MatMul(%j, %d) : f32[N,2]
            }",
        )
        .expect("parses");
        for (pattern, want) in [
            ("layers[0].q", &["layers[0].q"][..]),
            ("layers[0-9].q", &["layers0.q"]),
            ("layers*", &["layers[0].q", "layers0.q"]),
            ("role:head", &["role:head"]),
            ("*", &["*"]),
            ("**", &["layers[0].q", "layers0.q", "role:head", "*"]),
        ] {
            assert_eq!(patterns_of(&graph, &[pattern]), want, "{pattern}");
        }
    }
}
