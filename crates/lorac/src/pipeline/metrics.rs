//! `metrics:`: what the result is scored by and must reach.

use super::offer_value;
use crate::output::MissedGate;
use lorac_config::{Check, Problems};
use lorac_train::{METRICS, Prediction, Scores, metric};
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};
use std::borrow::Cow;
use std::collections::BTreeMap;

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
}

impl Metrics {
    /// Names of the metrics that are computed: those of the task, and those that are named here.
    pub fn names<'a>(&'a self, usual: &[&'a str]) -> Vec<&'a str> {
        let more = self.0.keys().map(String::as_str).filter(|name| !usual.contains(name));
        usual.iter().copied().chain(more).collect()
    }

    /// Why the scores are not what was asked for: every gate that they miss, and scores that are not finite.
    pub fn failed_gates(&self, scores: &Scores) -> Vec<MissedGate> {
        let mut failed = Vec::new();
        let mut miss = |name: String, expected, got, message| failed.push(MissedGate { name, expected, got, message });
        if let Some(loss) = scores.get("loss").filter(|loss| !loss.is_finite()) {
            miss("loss".into(), None, loss, format!("the loss on the held-out examples is {loss}"));
        }
        for (name, gate) in &self.0 {
            let score = scores.get(name).unwrap_or(f64::NAN);
            if let Some(min) = gate.min.filter(|min| !(score >= *min)) {
                let message = format!("{name} {score:.4} is below metrics.{name}.min {min}");
                miss(format!("metrics.{name}.min"), Some(min), score, message);
            }
            if let Some(max) = gate.max.filter(|max| !(score <= *max)) {
                let message = format!("{name} {score:.4} is above metrics.{name}.max {max}");
                miss(format!("metrics.{name}.max"), Some(max), score, message);
            }
        }
        failed
    }

    /// Reports metrics that say nothing of such predictions.
    pub fn check_task(&self, kind: Prediction, problems: &mut Problems) {
        for name in self.0.keys().filter(|name| metric(name).is_some_and(|m| !m.suits(kind))) {
            let suiting: Vec<&str> = METRICS.iter().filter(|m| m.1.suits(kind)).map(|m| m.0).collect();
            let message = format!("the task is not evaluated by `{name}`, but by {}", suiting.join(", "));
            problems.report(name, "pipeline::metrics", message);
        }
    }
}

impl Check for Metrics {
    fn check(&self, problems: &mut Problems) {
        for (name, gate) in &self.0 {
            if metric(name).is_none() {
                let known: Vec<&str> = METRICS.iter().map(|m| m.0).collect();
                let help = Some(offer_value(name, &known));
                problems.report_with_help(name, "pipeline::unknown_key", format!("unknown metric `{name}`"), help);
            }
            for (key, bound) in [("min", gate.min), ("max", gate.max)] {
                if bound.is_some_and(|x| !x.is_finite()) {
                    problems
                        .within(name, |p| p.report(key, "pipeline::range", format!("`{key}` is not a finite number")));
                }
            }
        }
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

    #[test]
    fn missed_gates_and_losses_that_are_not_finite_are_named() {
        let gate = |min, max| Metrics([("perplexity".to_string(), Gate { min, max })].into());
        assert_eq!(gate(None, Some(3.0)).failed_gates(&scores(1.0)), Vec::new());
        let failed = gate(None, Some(2.0)).failed_gates(&scores(1.0));
        let message = "perplexity 2.7183 is above metrics.perplexity.max 2".to_string();
        let name = "metrics.perplexity.max".to_string();
        assert_eq!(failed, [MissedGate { name, expected: Some(2.0), got: 1f64.exp(), message }]);
        for sum in [f64::NAN, f64::INFINITY] {
            let failed = gate(Some(1.0), Some(2.0)).failed_gates(&scores(sum));
            assert!(failed[0].message.contains("loss on the held-out") && failed.len() >= 2, "{failed:?}");
        }
        assert_eq!(Metrics::default().names(&["a", "b"]), ["a", "b"]);
        assert_eq!(gate(None, None).names(&["perplexity", "loss"]), ["perplexity", "loss"]);
        assert_eq!(gate(None, None).names(&["loss"]), ["loss", "perplexity"]);
    }
}
