//! The targets of a pipeline's methods, and what is said of those that are none.

use crate::error::Error;
use crate::pipeline::Loaded;
use lorac_config::Problem;
use lorac_ir::Graph;
use lorac_passes::{Adaptation, MethodChoice, NoMatch, Target, Training, picked_twice};
use std::collections::{BTreeMap, BTreeSet};

/// How many things are named in a line.
const NAMED: usize = 3;

/// The targets of every method, none of which stands in two.
///
/// # Errors
/// Every pattern that picks nothing, and what two pick; what is the same of several is said once.
pub(super) fn adaptations<'a>(
    loaded: &Loaded,
    methods: &'a [MethodChoice],
    graph: &Graph,
) -> Result<Vec<Adaptation<'a>>, Error> {
    let mut all = Vec::new();
    let mut misses: Vec<(String, NoMatch)> = Vec::new();
    let path = |i: usize, pattern: &str| format!("adapt.{i}.{}.{}", methods[i].name(), methods[i].path(pattern));
    let place = |i: usize, miss: &NoMatch| match miss.path() {
        Some(below) => format!("adapt.{i}.{}.{below}", methods[i].name()),
        None => path(i, miss.pattern()),
    };
    for (i, method) in methods.iter().enumerate() {
        match method.select(graph) {
            Ok(targets) => all.push(Adaptation { method: &**method, targets }),
            Err(wrong) => misses.extend(wrong.0.into_iter().map(|miss| (place(i, &miss), miss))),
        }
    }
    let mut problems = said_once(misses);
    yielded(&mut all);
    if problems.is_empty() {
        let twice = picked_twice(&all);
        problems.extend(twice.iter().map(|t| Problem {
            path: path(t.adaptation, &t.later),
            code: "target::twice",
            message: t.to_string(),
            help: None,
        }));
    }
    match problems.is_empty() {
        true => Ok(all),
        false => Err(Box::new(loaded.errors_at(problems)).into()),
    }
}

/// Takes away the targets that a method leaves to others, where another picks their weights, too.
fn yielded(all: &mut [Adaptation]) {
    let picked = |a: &Adaptation, yields: bool| {
        let targets = a.targets.iter().filter(|t| a.method.yields(t) == yields);
        targets.map(|t| t.weight).collect::<Vec<_>>()
    };
    let mut taken: BTreeSet<_> = all.iter().flat_map(|a| picked(a, false)).collect();
    for adaptation in all {
        let method = adaptation.method;
        let own = picked(adaptation, true);
        adaptation.targets.retain(|t| !method.yields(t) || !taken.contains(&t.weight));
        taken.extend(own);
    }
}

/// A problem for each miss, by its path, and one for all that say the same.
fn said_once(misses: Vec<(String, NoMatch)>) -> Vec<Problem> {
    let mut groups: Vec<(String, NoMatch, Vec<String>)> = Vec::new();
    for (path, miss) in misses {
        match groups.iter_mut().find(|(_, first, _)| alike(first, &miss)) {
            None => groups.push((path, miss, Vec::new())),
            Some((place, first, others)) => {
                let other = match miss.pattern() == first.pattern() && path == *place {
                    true => matrix(&miss).filter(|name| Some(*name) != matrix(first)).map(|name| format!("`{name}`")),
                    false => Some(format!("`{}` ({path})", miss.pattern())),
                };
                others.extend(other.filter(|other| !others.contains(other)));
            }
        }
    }
    let problem = |(path, miss, others): (String, NoMatch, Vec<String>)| Problem {
        path,
        code: miss.code(),
        message: miss.to_string(),
        help: (!others.is_empty()).then(|| format!("the same holds for {}", some_of(&others))),
    };
    groups.into_iter().map(problem).collect()
}

/// Whether two patterns meet the same: equal ones, others that fit the same matrices, and one that meets the same in
/// several.
fn alike(one: &NoMatch, other: &NoMatch) -> bool {
    match (one, other) {
        (NoMatch::Unsuitable { names, why, .. }, NoMatch::Unsuitable { names: others, why: reason, .. }) => {
            names == others && why == reason
        }
        (NoMatch::Fused { holds, .. }, NoMatch::Fused { holds: held, .. }) => {
            holds == held && (matrix(one) == matrix(other) || one.pattern() == other.pattern())
        }
        (NoMatch::Tied { .. }, NoMatch::Tied { .. }) => {
            matrix(one) == matrix(other) || one.pattern() == other.pattern()
        }
        (NoMatch::Rank { .. }, NoMatch::Rank { .. }) => one.path() == other.path(),
        _ => one == other,
    }
}

/// The one matrix that a miss is about.
fn matrix(miss: &NoMatch) -> Option<&str> {
    match miss {
        NoMatch::Fused { name, .. }
        | NoMatch::Tied { name, .. }
        | NoMatch::NoSlice { name, .. }
        | NoMatch::Rank { name, .. } => Some(name),
        _ => None,
    }
}

/// The first of some things, and how many there are.
fn some_of(all: &[String]) -> String {
    let shown = all[..all.len().min(NAMED)].join(", ");
    match all.len().saturating_sub(NAMED) {
        0 => shown,
        more => format!("{shown} and {more} more"),
    }
}

/// What patterns leave out and no other takes, a line for each reason.
pub(super) fn passed_over(adaptations: &[Adaptation], graph: &Graph) -> Vec<String> {
    let taken: BTreeSet<&str> =
        adaptations.iter().flat_map(|a| &a.targets).map(|target| target.weight_name.as_str()).collect();
    let mut by_reason: BTreeMap<String, Vec<String>> = BTreeMap::new();
    let mut said = BTreeSet::new();
    for weight in adaptations.iter().flat_map(|a| a.method.left_out(graph)) {
        if !taken.contains(weight.name.as_str()) && said.insert(weight.name.clone()) {
            by_reason.entry(weight.why).or_default().push(format!("`{}`", weight.name));
        }
    }
    let lines = by_reason.into_iter().map(|(why, names)| {
        let is = if names.len() == 1 { "is" } else { "are" };
        format!("left out  {}: {is} {why}", some_of(&names))
    });
    lines.collect()
}

/// Refuses names of modules for weights that are no targets.
pub(super) fn named_targets(loaded: &Loaded, training: &Training) -> Result<(), Error> {
    let targets: Vec<&Target> = training.deltas.iter().map(|(_, d)| &d.target).collect();
    let problems = loaded.pipeline.deploy.peft.unknown(&targets).map(|(name, near)| Problem {
        path: format!("deploy.peft.names.{name}"),
        code: "pipeline::names",
        message: format!("`{name}` is not a weight that is adapted"),
        help: (!near.is_empty()).then(|| format!("nearest: {}", near.join(", "))),
    });
    let problems: Vec<Problem> = problems.collect();
    if problems.is_empty() { Ok(()) } else { Err(Box::new(loaded.errors_at(problems)).into()) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use lorac_passes::{Lora, Method};

    fn unsuitable(pattern: &str, names: &str) -> NoMatch {
        let (pattern, names, why) = (pattern.into(), names.into(), "are quantized".into());
        NoMatch::Unsuitable { pattern, names, why, advice: "adapt the model before" }
    }

    #[test]
    fn what_is_the_same_of_several_patterns_is_said_once() {
        let fused = |pattern: &str, name: &str| NoMatch::Fused {
            pattern: pattern.into(),
            name: name.into(),
            holds: "query, key".into(),
        };
        let syntax = |pattern: &str| NoMatch::Syntax { pattern: pattern.into(), why: "no".into() };
        let said = |misses: &[(&str, NoMatch)]| {
            let misses = misses.iter().map(|(path, miss)| (path.to_string(), miss.clone())).collect();
            said_once(misses).into_iter().map(|p| (p.path, p.help)).collect::<Vec<_>>()
        };
        let one = |path: &str, help: Option<&str>| (path.to_string(), help.map(String::from));
        assert_eq!(said(&[("0.0", syntax("x")), ("0.0", syntax("x"))]), [one("0.0", None)]);
        assert_eq!(
            said(&[("0.0", unsuitable("*", "`a`")), ("0.1", unsuitable("a*", "`a`")), ("1.0", unsuitable("*", "`a`"))]),
            [one("0.0", Some("the same holds for `a*` (0.1), `*` (1.0)"))]
        );
        assert_eq!(
            said(&[("0.0", fused("q", "l.0")), ("0.1", fused("k", "l.0")), ("0.0", fused("q", "l.1"))]),
            [one("0.0", Some("the same holds for `k` (0.1), `l.1`"))]
        );
        assert_eq!(
            said(&[("0.0", unsuitable("a", "`a`")), ("0.1", unsuitable("b", "`b`")), ("0.2", syntax("b"))]),
            [one("0.0", None), one("0.1", None), one("0.2", None)]
        );
    }

    #[test]
    fn a_weight_is_left_out_once_and_only_where_nothing_takes_it() {
        let graph = lorac_ir::parse(
            "graph g(%ids: i64[N]) -> %y {
                %wte = weight \"wte\" f32[3,2] = [1, 2, 3, 4, 5, 6]
                %w = weight \"w\" f32[2,2] = [1, 2, 3, 4]
                %x = Gather(%wte, %ids) : f32[N,2]
                %h = MatMul(%x, %w) : f32[N,2]
                %y = Gemm(%h, %wte, transB=1) : f32[N,3]
            }",
        )
        .expect("parses");
        let lora = |targets: &[&str]| Lora {
            targets: targets.iter().map(|t| t.to_string()).collect(),
            rank: 2,
            ..Lora::default()
        };
        let (all, head) = (lora(&["all-linear"]), lora(&["wte"]));
        let of = |method| Adaptation { method, targets: Method::select(method, &graph).expect("targets") };
        let said = passed_over(&[of(&all), of(&all)], &graph);
        assert_eq!(said, ["left out  `wte`: is a head: `role:head` picks it"]);
        assert_eq!(passed_over(&[of(&all), of(&head)], &graph), Vec::<String>::new());
    }
}
