//! `metrics:`: what the result is scored by and must reach.

use super::offer_value;
use crate::output::MissedGate;
use lorac_config::{Check, Problems};
use lorac_train::{METRICS, Metric, Prediction, Scores, metric};
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};
use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};

/// Metrics by name, with what the result must reach, else the exit code is 1.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Metrics(pub BTreeMap<String, Gate>);

/// What a score must reach.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Gate {
    /// Lowest score that passes
    pub min: Option<f64>,
    /// Highest score that passes
    pub max: Option<f64>,
    /// What the score must not be worse than: that of the model before the training
    pub not_worse_than: Option<Reference>,
    /// How much worse than `not_worse_than` still passes
    pub margin: Option<f64>,
}

/// What a score is compared with.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Reference {
    /// The model before the training
    Before,
}

impl Metrics {
    /// Names of the metrics that are computed: those of the task, and those that are named here.
    pub fn names<'a>(&'a self, usual: &[&'a str]) -> Vec<&'a str> {
        let more = self.0.keys().map(String::as_str).filter(|name| !usual.contains(name));
        usual.iter().copied().chain(more).collect()
    }

    /// Why the scores after a training are not what was asked for: every gate that they miss, and scores that are not
    /// finite.
    pub fn failed_gates(&self, before: &Scores, after: &Scores) -> Vec<MissedGate> {
        let mut failed = Vec::new();
        let mut miss = |name: String, expected, got, message| failed.push(MissedGate { name, expected, got, message });
        if let Some(loss) = after.get("loss").filter(|loss| !loss.is_finite()) {
            miss("loss".into(), None, loss, format!("the loss on the held-out examples is {loss}"));
        }
        for (name, gate) in &self.0 {
            let score = after.get(name).unwrap_or(f64::NAN);
            if let Some(min) = gate.min.filter(|min| !(score >= *min)) {
                let message = format!("{name} {score:.4} is below metrics.{name}.min {min}");
                miss(format!("metrics.{name}.min"), Some(min), score, message);
            }
            if let Some(max) = gate.max.filter(|max| !(score <= *max)) {
                let message = format!("{name} {score:.4} is above metrics.{name}.max {max}");
                miss(format!("metrics.{name}.max"), Some(max), score, message);
            }
            let (margin, old) = (gate.margin.unwrap_or(0.0), before.get(name).unwrap_or(f64::NAN));
            if gate.not_worse_than.is_some() && metric(name).is_some_and(|m| m.better().is_worse(score, old, margin)) {
                let by =
                    if margin > 0.0 { format!(" by more than metrics.{name}.margin {margin}") } else { String::new() };
                let message = format!("{name} {score:.4} is worse than the {old:.4} before the training{by}");
                miss(format!("metrics.{name}.not_worse_than"), Some(old), score, message);
            }
        }
        failed
    }

    /// What is to be said of a model whose telling score or loss is worse than before the training, where no gate says
    /// whether that is good enough.
    pub fn worse(&self, before: &Scores, after: &Scores) -> Vec<String> {
        let telling = after.scores.first().map(|score| score.name.as_str());
        let names: BTreeSet<&str> = telling.into_iter().chain(["loss"]).collect();
        let says = |gate: &Gate| gate.min.is_some() || gate.max.is_some() || gate.not_worse_than.is_some();
        let silent = names.into_iter().filter(|name| !self.0.get(*name).is_some_and(says));
        let worse = silent.filter_map(|name| {
            let (new, old) = (after.get(name)?, before.get(name)?);
            let worse = new.is_finite() && metric(name)?.better().is_worse(new, old, 0.0);
            let gate = format!("metrics: {{ {name}: {{ not_worse_than: before }} }}");
            worse.then(|| {
                format!(
                    "the model got worse: {name} {new:.4} on the held-out examples, {old:.4} before the training; \
                     `{gate}` would have rejected it"
                )
            })
        });
        worse.collect()
    }

    /// Reports metrics that say nothing of such predictions, or of that many classes: none where it is not known.
    pub fn check_task(&self, kind: Prediction, classes: Option<usize>, problems: &mut Problems) {
        for name in self.0.keys() {
            unsuited(name, name, kind, classes, problems);
        }
    }
}

/// Reports a metric at `key` that says nothing of such predictions, or of that many classes: none where it is not known.
pub(super) fn unsuited(key: &str, name: &str, kind: Prediction, classes: Option<usize>, problems: &mut Problems) {
    let fits = |m: &dyn Metric| m.definition().classes.is_none_or(|n| classes.is_none_or(|classes| classes == n));
    let Some(metric) = metric(name).filter(|m| !m.suits(kind) || !fits(*m)) else { return };
    let suiting: Vec<&str> = METRICS.iter().filter(|m| m.1.suits(kind) && fits(m.1)).map(|m| m.0).collect();
    let suiting = suiting.join(", ");
    let message = match metric.definition().classes.filter(|_| metric.suits(kind)) {
        Some(n) => {
            let classes = classes.unwrap_or_default();
            format!("`{name}` is of {n} classes, and the task has {classes}: it is evaluated by {suiting}")
        }
        None => format!("the task is not evaluated by `{name}`, but by {suiting}"),
    };
    problems.report(key, "pipeline::metrics", message);
}

/// Reports a metric at `key` that there is not.
pub(super) fn unknown_metric(key: &str, name: &str, problems: &mut Problems) {
    if metric(name).is_none() {
        let help = Some(offer_metric(name));
        problems.report_with_help(key, "pipeline::unknown_value", format!("unknown metric `{name}`"), help);
    }
}

impl Check for Metrics {
    fn check(&self, problems: &mut Problems) {
        for (name, gate) in &self.0 {
            if metric(name).is_none() {
                let help = Some(offer_metric(name));
                problems.report_with_help(name, "pipeline::unknown_key", format!("unknown metric `{name}`"), help);
            }
            problems.within(name, |p| gate.check(p));
        }
    }
}

impl Check for Gate {
    fn check(&self, problems: &mut Problems) {
        for (key, bound) in [("min", self.min), ("max", self.max)] {
            if bound.is_some_and(|x| !x.is_finite()) {
                problems.report(key, "pipeline::range", format!("`{key}` is not a finite number"));
            }
        }
        if let (Some(min), Some(max)) = (self.min, self.max)
            && min > max
        {
            problems.report("min", "pipeline::range", format!("`min` {min} is above `max` {max}: nothing passes"));
        }
        if let Some(margin) = self.margin.filter(|margin| !(*margin >= 0.0 && margin.is_finite())) {
            problems.report("margin", "pipeline::range", format!("`margin` is {margin}: expected a number from 0 on"));
        }
        if self.margin.is_some() && self.not_worse_than.is_none() {
            let message = "`margin` is of `not_worse_than: before`, which is not here";
            problems.report("margin", "pipeline::idle", message);
        }
    }
}

/// The metric that may have been meant.
fn offer_metric(name: &str) -> String {
    let lower = name.to_lowercase();
    let meant = METRICS.iter().find(|(known, m)| *known == lower || m.definition().synonyms.contains(&lower.as_str()));
    match meant {
        Some((ours, _)) => format!("lorac says this as {ours}"),
        None => offer_value(name, &METRICS.iter().map(|m| m.0).collect::<Vec<_>>()),
    }
}

impl JsonSchema for Metrics {
    fn schema_name() -> Cow<'static, str> {
        "Metrics".into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let gate = generator.subschema_for::<Gate>();
        let mut properties = serde_json::Map::new();
        for (name, metric) in METRICS {
            let one = serde_json::json!({ "description": metric.definition().about, "allOf": [gate] });
            properties.insert(name.to_string(), one);
        }
        json_schema!({
            "type": "object",
            "description": "Metrics by name, with what the result must reach, else the exit code is 1",
            "properties": properties,
            "additionalProperties": false,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use lorac_train::Evaluation;

    fn scores(sum: f64) -> Scores {
        let e = Evaluation { loss_sum: sum, loss_count: 1.0, ..Evaluation::new(Prediction::Tokens) };
        Scores::of(&e, &["perplexity", "loss"])
    }

    fn gates(name: &str, gate: Gate) -> Metrics {
        Metrics([(name.to_string(), gate)].into())
    }

    #[test]
    fn missed_gates_and_losses_that_are_not_finite_are_named() {
        let gate = |min, max| gates("perplexity", Gate { min, max, ..Gate::default() });
        let failed = |gate: Metrics, sum| gate.failed_gates(&scores(0.0), &scores(sum));
        assert_eq!(failed(gate(None, Some(3.0)), 1.0), Vec::new());
        let message = "perplexity 2.7183 is above metrics.perplexity.max 2".to_string();
        let name = "metrics.perplexity.max".to_string();
        let missed = MissedGate { name, expected: Some(2.0), got: 1f64.exp(), message };
        assert_eq!(failed(gate(None, Some(2.0)), 1.0), [missed]);
        for sum in [f64::NAN, f64::INFINITY] {
            let failed = failed(gate(Some(1.0), Some(2.0)), sum);
            assert!(failed[0].message.contains("loss on the held-out") && failed.len() >= 2, "{failed:?}");
        }
        // What is just reached passes, and no number reaches anything.
        assert_eq!(failed(gate(Some(1.0), Some(1.0)), 0.0), Vec::new());
        let of =
            |gate: Metrics| gate.failed_gates(&scores(0.0), &scores(f64::NAN)).into_iter().map(|missed| missed.name);
        assert_eq!(of(gate(Some(1.0), None)).collect::<Vec<_>>(), ["loss", "metrics.perplexity.min"]);
        assert_eq!(of(gate(None, Some(1.0))).collect::<Vec<_>>(), ["loss", "metrics.perplexity.max"]);
        assert_eq!(Metrics::default().names(&["a", "b"]), ["a", "b"]);
        assert_eq!(gate(None, None).names(&["perplexity", "loss"]), ["perplexity", "loss"]);
        assert_eq!(gate(None, None).names(&["loss"]), ["loss", "perplexity"]);
    }

    #[test]
    fn a_score_may_be_held_to_the_one_before() {
        let gate = |margin| gates("loss", Gate { not_worse_than: Some(Reference::Before), margin, ..Gate::default() });
        let failed = |margin, before, after| gate(margin).failed_gates(&scores(before), &scores(after));
        assert_eq!(failed(None, 2.0, 2.0), Vec::new());
        assert_eq!(failed(None, 2.0, 1.0), Vec::new());
        assert_eq!(failed(Some(0.5), 2.0, 2.5), Vec::new());
        assert_eq!(failed(None, f64::NAN, 2.5), Vec::new());
        let missed = failed(None, 2.0, 2.25).remove(0);
        assert_eq!(
            (missed.name.as_str(), missed.expected, missed.got),
            ("metrics.loss.not_worse_than", Some(2.0), 2.25)
        );
        assert_eq!(missed.message, "loss 2.2500 is worse than the 2.0000 before the training");
        let missed = failed(Some(0.1), 2.0, 2.25).remove(0);
        assert!(missed.message.ends_with("before the training by more than metrics.loss.margin 0.1"), "{missed:?}");
    }

    #[test]
    fn a_model_that_got_worse_is_told_of_where_no_gate_says_so() {
        let worse = |metrics: &Metrics, before, after| metrics.worse(&scores(before), &scores(after)).len();
        assert_eq!(worse(&Metrics::default(), 1.0, 1.0), 0);
        assert_eq!(worse(&Metrics::default(), 1.0, 0.5), 0);
        assert_eq!(worse(&Metrics::default(), 1.0, 1.5), 2, "of perplexity and of loss");
        assert_eq!(worse(&Metrics::default(), 1.0, f64::NAN), 0, "which is said already");
        assert_eq!(worse(&gates("loss", Gate { max: Some(9.0), ..Gate::default() }), 1.0, 1.5), 1);
        assert_eq!(worse(&gates("loss", Gate::default()), 1.0, 1.5), 2);
    }

    #[test]
    fn metrics_that_do_not_fit_are_refused() {
        let found = |name: &str, kind, classes| {
            let mut problems = Problems::default();
            gates(name, Gate::default()).check_task(kind, classes, &mut problems);
            problems.finish().into_iter().map(|p| p.message).collect::<Vec<_>>()
        };
        assert!(found("accuracy", Prediction::Classes, Some(3)).is_empty());
        assert!(found("f1_binary", Prediction::Classes, Some(2)).is_empty());
        assert!(found("f1_binary", Prediction::Classes, None).is_empty());
        let of_three = found("f1_binary", Prediction::Classes, Some(3)).remove(0);
        assert!(
            of_three.starts_with("`f1_binary` is of 2 classes, and the task has 3: it is evaluated by acc"),
            "{of_three}"
        );
        assert!(!of_three.contains("recall_binary") && of_three.contains("recall_macro"), "{of_three}");
        let of_values = found("accuracy", Prediction::Values, None).remove(0);
        assert!(of_values.contains("but by mse, mae, r2, pearson, spearman, loss"), "{of_values}");
    }

    #[test]
    fn names_of_other_tools_are_answered_with_ours() {
        for (theirs, ours) in
            [("mcc", "matthews"), ("pearsonr", "pearson"), ("ROC_AUC", "auc"), ("macro_f1", "f1_macro")]
        {
            assert_eq!(offer_metric(theirs), format!("lorac says this as {ours}"));
        }
        assert_eq!(offer_metric("acuracy"), "nearest: accuracy");
    }

    #[test]
    fn gates_that_nothing_passes_or_that_do_nothing_are_refused() {
        let codes = |gate: Gate| {
            let mut problems = Problems::default();
            gate.check(&mut problems);
            problems.finish().into_iter().map(|p| (p.path, p.code)).collect::<Vec<_>>()
        };
        let margin = |margin| Gate { margin: Some(margin), not_worse_than: Some(Reference::Before), ..Gate::default() };
        assert!(codes(margin(0.01)).is_empty());
        assert_eq!(codes(margin(-0.5)), [("margin".into(), "pipeline::range")]);
        assert_eq!(codes(Gate { margin: Some(0.5), ..Gate::default() }), [("margin".into(), "pipeline::idle")]);
        let none = Gate { min: Some(0.9), max: Some(0.5), ..Gate::default() };
        assert_eq!(codes(none), [("min".into(), "pipeline::range")]);
    }
}
