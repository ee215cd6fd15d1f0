//! What is to be trained, named by patterns over weights and inputs.

use crate::PassError;
use crate::select::pick;
use lorac_ir::{Def, Graph, ValueId};
use std::collections::BTreeSet;

/// The real weights and inputs that the patterns name, each once, in the graph's order. A pattern is a name, or a glob
/// over names.
///
/// # Errors
/// Every pattern that names nothing, with the nearest names; patterns that name integers only.
pub fn trained(graph: &Graph, patterns: &[String]) -> Result<Vec<ValueId>, PassError> {
    let values = graph.values().filter(|(_, v)| !matches!(v.def, Def::Output(..)));
    let all: Vec<(ValueId, &str)> = values.map(|(id, v)| (id, &*v.name)).collect();
    let is_float = |id: &ValueId| graph.fact(*id).dtype.is_float();
    let (mut picked, mut unknown, mut integers) = (BTreeSet::new(), Vec::new(), Vec::new());
    for pattern in patterns {
        match pick("weight and no input", pattern, &all) {
            Err(e) => unknown.push(e.to_string()),
            Ok(found) if !found.iter().any(is_float) => {
                integers.extend(found.iter().map(|v| format!("`{}` {}", graph.name_of(*v), graph.fact(*v))));
            }
            Ok(found) => picked.extend(found.into_iter().filter(is_float)),
        }
    }
    match (unknown.is_empty(), integers.is_empty()) {
        (false, _) => Err(PassError::Unsuitable(unknown.join("; "))),
        (_, false) => Err(PassError::NotFloat(integers)),
        _ => Ok(picked.into_iter().collect()),
    }
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
