//! Which of the targets that patterns pick remain, and which of a method's settings hold for them.

use crate::layer::{Layers, layers};
use crate::no_match::some_of;
use crate::role::Matrices;
use crate::select::fitting;
use crate::{NoMatch, NoMatches, Target};
use lorac_config::nearest;
use lorac_ir::Graph;
use std::collections::BTreeSet;

/// What narrows the choice of targets.
#[derive(Clone, Copy, Default)]
pub(super) struct Narrow<'a> {
    /// Patterns of targets that are none.
    pub(super) exclude: &'a [String],
    /// The layers that they are in.
    pub(super) layers: Option<&'a Layers>,
}

impl Narrow<'_> {
    /// The targets that remain.
    ///
    /// # Errors
    /// Every exclusion and every layer that changes nothing; that nothing remains.
    pub(super) fn remaining(self, graph: &Graph, targets: Vec<Target>) -> Result<Vec<Target>, NoMatches> {
        if self.exclude.is_empty() && self.layers.is_none() {
            return Ok(targets);
        }
        let known = Matrices::of(graph);
        let (mut out, mut wrong) = (BTreeSet::new(), Vec::new());
        for (i, pattern) in self.exclude.iter().enumerate() {
            match found(graph, &known, pattern, &targets, &format!("exclude.{i}")) {
                Ok(found) => out.extend(found),
                Err(miss) => wrong.push(miss),
            }
        }
        if let Some(asked) = self.layers {
            let of = layers(graph, &known);
            let all: BTreeSet<usize> = targets.iter().filter_map(|t| of.get(&t.weight)).copied().collect();
            let has = match (all.first(), all.last()) {
                (Some(first), Some(last)) => format!("those of the targets are {first} to {last}"),
                _ => "the graph does not tell the layers of any; name them by globs such as *.layer.6.*".to_string(),
            };
            let idle = |pattern: String| {
                let why = format!("holds none of the layers that targets are in: {has}");
                NoMatch::Idle { path: "layers".into(), pattern, why }
            };
            wrong.extend(asked.empty_among(&all).into_iter().map(idle));
            let outside = |t: &Target| !of.get(&t.weight).is_some_and(|layer| asked.contains(*layer));
            out.extend(targets.iter().enumerate().filter(|(_, t)| outside(t)).map(|(i, _)| i));
        }
        if !wrong.is_empty() {
            return Err(NoMatches(wrong));
        }
        if out.len() == targets.len() {
            let (path, pattern) = match self.exclude.last() {
                Some(last) => (format!("exclude.{}", self.exclude.len() - 1), last.clone()),
                None => ("layers".to_string(), "layers".to_string()),
            };
            let why = "leaves no target".to_string();
            return Err(NoMatch::Idle { path, pattern, why }.into());
        }
        Ok(targets.into_iter().enumerate().filter(|(i, _)| !out.contains(i)).map(|(_, t)| t).collect())
    }
}

/// Notes for every target the first of the patterns that it fits. `key` is the setting's.
///
/// # Errors
/// Every pattern that fits no target, or only those that patterns before it fit.
pub(super) fn note_entries<'p>(
    graph: &Graph,
    targets: &mut [Target],
    key: &'static str,
    patterns: impl Iterator<Item = &'p str>,
) -> Result<(), NoMatches> {
    let (mut known, mut wrong) = (None, Vec::new());
    for (i, pattern) in patterns.enumerate() {
        let known = known.get_or_insert_with(|| Matrices::of(graph));
        let path = format!("{key}.{pattern}");
        match found(graph, known, pattern, targets, &path) {
            Err(miss) => wrong.push(miss),
            Ok(found) => {
                let mut any = false;
                for at in found {
                    let entries = &mut targets[at].entries;
                    any |= !entries.contains_key(key);
                    entries.entry(key).or_insert(i);
                }
                if !any {
                    let why = "overrides nothing: every target that it fits has the value of a pattern before it";
                    wrong.push(NoMatch::Idle { path, pattern: pattern.into(), why: why.into() });
                }
            }
        }
    }
    if wrong.is_empty() { Ok(()) } else { Err(NoMatches(wrong)) }
}

/// The targets that a pattern fits, one at least.
fn found(
    graph: &Graph,
    known: &Matrices,
    pattern: &str,
    targets: &[Target],
    path: &str,
) -> Result<Vec<usize>, NoMatch> {
    let idle = |why: String| NoMatch::Idle { path: path.to_string(), pattern: pattern.to_string(), why };
    let found = fitting(graph, known, pattern, targets).map_err(|wrong| match wrong {
        NoMatch::Syntax { why, .. } => idle(format!("is not a valid pattern: {why}")),
        other => other,
    })?;
    if !found.is_empty() {
        return Ok(found);
    }
    let names: Vec<String> = targets.iter().map(Target::name).collect();
    let near = nearest(pattern, &names);
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    Err(idle(match near.is_empty() {
        true => format!("fits none of the targets, {}", some_of(&names)),
        false => format!("fits none of the targets; nearest: {}", near.join(", ")),
    }))
}
