//! Named numbers that say how good a model is.

use crate::metric::{Better, Count, Evaluation, metric};
use serde::de::{MapAccess, Visitor};
use serde::ser::SerializeMap;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// A number with its name.
#[derive(Clone, Debug, PartialEq)]
pub struct Score {
    /// The metric's name.
    pub name: String,
    /// The number; NaN where there is none.
    pub value: f64,
    /// Which of two numbers is the better one.
    pub better: Better,
}

/// What an evaluation says. In JSON a map of names to numbers, with `examples` or `tokens` for what was scored.
#[derive(Clone, Debug, PartialEq)]
pub struct Scores {
    /// Every score, the telling one first.
    pub scores: Vec<Score>,
    /// What was scored.
    pub count: Count,
}

impl Scores {
    /// The scores of an evaluation by the metrics of these names; names of no metric are passed over.
    pub fn of(evaluation: &Evaluation, metrics: &[&str]) -> Scores {
        let score = |name: &&str| {
            let metric = metric(name)?;
            Some(Score { name: name.to_string(), value: metric.score(evaluation), better: metric.better() })
        };
        Scores { scores: metrics.iter().filter_map(score).collect(), count: evaluation.count() }
    }

    /// The score of a name.
    pub fn get(&self, name: &str) -> Option<f64> {
        self.scores.iter().find(|s| s.name == name).map(|s| s.value)
    }
}

impl Serialize for Scores {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(self.scores.len() + 1))?;
        for score in &self.scores {
            map.serialize_entry(&score.name, &score.value)?;
        }
        match self.count {
            Count::Examples(n) => map.serialize_entry("examples", &n)?,
            Count::Tokens(n) => map.serialize_entry("tokens", &n)?,
        }
        map.end()
    }
}

impl<'de> Deserialize<'de> for Scores {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Scores, D::Error> {
        struct Named;
        impl<'de> Visitor<'de> for Named {
            type Value = Scores;
            fn expecting(&self, f: &mut std::fmt::Formatter) -> std::fmt::Result {
                f.write_str("scores by name")
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Scores, A::Error> {
                let mut scores = Scores { scores: Vec::new(), count: Count::Examples(0) };
                while let Some(name) = map.next_key::<String>()? {
                    // JSON has no NaN: it is written as null.
                    let value = map.next_value::<Option<f64>>()?.unwrap_or(f64::NAN);
                    match (name.as_str(), metric(&name)) {
                        ("examples", _) => scores.count = Count::Examples(value as u64),
                        ("tokens", _) => scores.count = Count::Tokens(value as u64),
                        (_, Some(metric)) => scores.scores.push(Score { better: metric.better(), name, value }),
                        // A number beside the scores.
                        (_, None) => {}
                    }
                }
                Ok(scores)
            }
        }
        deserializer.deserialize_map(Named)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metric::Prediction;

    #[test]
    fn scores_are_a_map_and_come_back() {
        let e = Evaluation { loss_sum: f64::NAN, loss_count: 4.0, ..Evaluation::new(Prediction::Tokens) };
        let scores = Scores::of(&e, &["loss", "perplexity"]);
        let text = serde_json::to_string(&scores).expect("writes");
        assert_eq!(text, r#"{"loss":null,"perplexity":null,"tokens":4}"#);
        let back: Scores = serde_json::from_str(&text).expect("reads");
        assert!(back.get("loss").is_some_and(f64::is_nan) && back.count == Count::Tokens(4));
        assert_eq!(back.get("accuracy"), None);
    }
}
