//! What is to be trained, named by patterns over weights and inputs.

use crate::PassError;
use globset::GlobBuilder;
use lorac_config::nearest;
use lorac_ir::{Def, Graph, ValueId};
use std::collections::BTreeSet;

/// The real weights and inputs that the patterns name, each once, in the graph's order. A pattern is a name, or a glob
/// over names.
///
/// # Errors
/// Every pattern that names nothing, with the nearest names; patterns that name integers only.
pub fn trained(graph: &Graph, patterns: &[String]) -> Result<Vec<ValueId>, PassError> {
    let all: Vec<(ValueId, &str, bool)> = graph
        .values()
        .filter(|(_, v)| !matches!(v.def, Def::Output(..)))
        .map(|(id, v)| (id, &*v.name, v.fact.dtype.is_float()))
        .collect();
    let (mut picked, mut unknown, mut integers) = (BTreeSet::new(), Vec::new(), Vec::new());
    for pattern in patterns {
        let exact = all.iter().find(|(_, name, _)| name == pattern);
        let matches: Vec<&(ValueId, &str, bool)> = match (exact, GlobBuilder::new(pattern).build()) {
            (Some(one), _) => vec![one],
            (None, Ok(glob)) => {
                let glob = glob.compile_matcher();
                all.iter().filter(|(_, name, _)| glob.is_match(name)).collect()
            }
            (None, Err(e)) => {
                unknown.push(format!("`{pattern}` is not a valid pattern: {}", e.kind()));
                continue;
            }
        };
        let floats: Vec<ValueId> = matches.iter().filter(|m| m.2).map(|m| m.0).collect();
        if matches.is_empty() {
            let nearest = nearest_text(pattern, all.iter().filter(|m| m.2).map(|m| m.1));
            unknown.push(format!("`{pattern}` matches no weight and no input{nearest}"));
        } else if floats.is_empty() {
            integers.extend(matches.iter().map(|m| format!("`{}` {}", m.1, graph.fact(m.0))));
        }
        picked.extend(floats);
    }
    match (unknown.is_empty(), integers.is_empty()) {
        (false, _) => Err(PassError::Unsuitable(unknown.join("; "))),
        (_, false) => Err(PassError::NotFloat(integers)),
        _ => Ok(picked.into_iter().collect()),
    }
}

/// `; nearest: a, b, c`.
fn nearest_text<'a>(pattern: &str, names: impl Iterator<Item = &'a str>) -> String {
    let names = nearest(pattern, names);
    if names.is_empty() { String::new() } else { format!("; nearest: {}", names.join(", ")) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_globs_and_what_is_wrong_with_them() {
        let text = "graph g (%x: f32[2], %ids: i64[2]) { %a = weight \"fc.w\" f32[2]\n %b = weight \"fc[0].b\" f32[2]\n %n = weight \"n\" i64[1] }";
        let g = lorac_ir::parse(text).expect("parses");
        let pick = |patterns: &[&str]| {
            let patterns: Vec<String> = patterns.iter().map(|p| p.to_string()).collect();
            let names = |ids: Vec<ValueId>| ids.iter().map(|v| g.name_of(*v)).collect::<Vec<_>>().join(" ");
            trained(&g, &patterns).map(names).map_err(|e| e.to_string())
        };
        assert_eq!(pick(&["fc*"]).as_deref(), Ok("fc.w fc[0].b"));
        assert_eq!(pick(&["fc[0].b", "x", "x"]).as_deref(), Ok("x fc[0].b"));
        assert_eq!(pick(&["*"]).as_deref(), Ok("x fc.w fc[0].b"));
        let error = pick(&["fd.w", "*.q"]).expect_err("nothing");
        assert!(error.contains("`fd.w`") && error.contains("nearest: fc.w") && error.contains("`*.q`"), "{error}");
        let error = pick(&["n", "i*"]).expect_err("integers");
        assert!(error.contains("`n` i64[1]") && error.contains("`ids` i64[2]"), "{error}");
    }
}
