//! What a model says of a text or an image.

use super::examples::Words;
use crate::served::Served;
use lorac_data::{Example, Measure};
use lorac_train::Prediction;
use serde::Serialize;
use std::fmt;

/// What a model says of a text or an image. As text it is one line: cells with tabs between them, behind them the file of an image.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Answer {
    /// What it says.
    #[serde(flatten)]
    pub says: Says,
    /// Tokens of the text that were cut off.
    #[serde(skip_serializing_if = "is_zero")]
    pub cut: usize,
    /// The file of the image; none of a text.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub file: Option<String>,
}

/// What a model says, by what it predicts.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(untagged)]
pub enum Says {
    /// One label: the likeliest.
    Label {
        /// The label.
        label: String,
        /// Its probability.
        probability: f64,
        /// Every label with its probability, in the order of the outputs.
        probabilities: Vec<Labelled>,
    },
    /// Any number of labels: those more likely than not.
    Labels {
        /// The labels with their probabilities, in the order of the outputs.
        labels: Vec<Labelled>,
        /// Every label with its probability.
        probabilities: Vec<Labelled>,
    },
    /// The vector of a text.
    Embedding {
        /// Its numbers.
        embedding: Vec<f32>,
    },
    /// A number, or several.
    Value {
        /// The numbers of the outputs.
        value: Vec<f64>,
    },
    /// The words of the text, each with its tag.
    Tags {
        /// The words that the model has seen.
        words: Vec<Tagged>,
        /// What the tags say of words that belong together: from B- over I- to the end, or alike and side by side.
        spans: Vec<Span>,
    },
    /// What a language model writes behind the text.
    Text {
        /// The text.
        text: String,
        /// The tokens that it took.
        tokens: usize,
    },
    /// How well the model would have told the text.
    Perplexity {
        /// The mean of the tokens' losses, as a power of e; none of a text of one token.
        perplexity: Option<f64>,
        /// Tokens that were predicted.
        tokens: usize,
    },
}

/// A label with its probability.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[allow(missing_docs)]
pub struct Labelled {
    pub label: String,
    pub probability: f64,
}

/// A word with its tag.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[allow(missing_docs)]
pub struct Tagged {
    pub word: String,
    pub tag: String,
    pub probability: f64,
}

/// Words that belong together.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Span {
    /// What they are: the tag without `B-` and `I-`.
    pub kind: String,
    /// The words, with spaces between them.
    pub text: String,
    /// The first of them, from 0.
    pub begin: usize,
    /// The one behind the last.
    pub end: usize,
}

fn is_zero(n: &usize) -> bool {
    *n == 0
}

/// The outputs of one text.
pub(super) struct Scores<'a> {
    pub(super) served: &'a Served,
    /// Whether they are probabilities.
    pub(super) done: bool,
    pub(super) scores: &'a [f32],
    /// How many outputs there are for a text, or for each of its tokens.
    pub(super) width: usize,
}

impl Scores<'_> {
    pub(super) fn answer(&self, example: &Example, words: Option<&Words>, measure: Measure) -> Answer {
        let says = match self.served.predicts {
            Prediction::Classes => self.label(),
            Prediction::Labels => self.labels(),
            Prediction::Values | Prediction::Loss => {
                Says::Value { value: self.scores.iter().map(|x| f64::from(*x)).collect() }
            }
            Prediction::Embeddings => Says::Embedding { embedding: self.scores.to_vec() },
            Prediction::Tags => self.tags(words),
            Prediction::Tokens | Prediction::Masked => self.perplexity(example.tokens("input_ids").unwrap_or_default()),
        };
        Answer { says, cut: measure.lost, file: None }
    }

    fn name(&self, at: usize) -> String {
        self.served.labels.get(at).cloned().unwrap_or_else(|| format!("LABEL_{at}"))
    }

    fn named(&self, probabilities: &[f64]) -> Vec<Labelled> {
        let each = probabilities.iter().enumerate();
        each.map(|(at, p)| Labelled { label: self.name(at), probability: *p }).collect()
    }

    /// The probabilities of one row of scores.
    fn softmax(&self, scores: &[f32]) -> Vec<f64> {
        if self.done {
            return scores.iter().map(|p| f64::from(*p)).collect();
        }
        let sum = log_sum(scores);
        scores.iter().map(|x| (f64::from(*x) - sum).exp()).collect()
    }

    fn label(&self) -> Says {
        let probabilities = self.softmax(self.scores);
        let at = largest(&probabilities);
        Says::Label {
            label: self.name(at),
            probability: probabilities.get(at).copied().unwrap_or(f64::NAN),
            probabilities: self.named(&probabilities),
        }
    }

    fn labels(&self) -> Says {
        let sigmoid = |x: &f32| if self.done { f64::from(*x) } else { 1.0 / (1.0 + (-f64::from(*x)).exp()) };
        let probabilities = self.named(&self.scores.iter().map(sigmoid).collect::<Vec<_>>());
        let labels = probabilities.iter().filter(|one| one.probability > 0.5).cloned().collect();
        Says::Labels { labels, probabilities }
    }

    fn tags(&self, words: Option<&Words>) -> Says {
        let Some(words) = words else { return Says::Tags { words: Vec::new(), spans: Vec::new() } };
        let rows = self.scores.chunks_exact(self.width.max(1));
        let first = words.begins.iter().zip(rows).filter_map(|(word, row)| Some((words.words.get((*word)?)?, row)));
        let tagged: Vec<Tagged> = first
            .map(|(word, row)| {
                let probabilities = self.softmax(row);
                let at = largest(&probabilities);
                let probability = probabilities.get(at).copied().unwrap_or(f64::NAN);
                Tagged { word: word.clone(), tag: self.name(at), probability }
            })
            .collect();
        Says::Tags { spans: spans(&tagged), words: tagged }
    }

    fn perplexity(&self, ids: &[i64]) -> Says {
        let rows = self.scores.chunks_exact(self.width.max(1));
        let next = ids.iter().skip(1).zip(rows).filter_map(|(id, row)| {
            let score = f64::from(*row.get(usize::try_from(*id).ok()?)?);
            Some(if self.done { -score.ln() } else { log_sum(row) - score })
        });
        let losses: Vec<f64> = next.collect();
        let mean = (!losses.is_empty()).then(|| losses.iter().sum::<f64>() / losses.len() as f64);
        Says::Perplexity { perplexity: mean.map(f64::exp), tokens: losses.len() }
    }
}

/// The logarithm of the sum of powers of e.
fn log_sum(scores: &[f32]) -> f64 {
    let most = scores.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let most = if most.is_finite() { f64::from(most) } else { 0.0 };
    most + scores.iter().map(|x| (f64::from(*x) - most).exp()).sum::<f64>().ln()
}

/// Where the largest number is; the first of several.
fn largest(numbers: &[f64]) -> usize {
    let best = numbers.iter().enumerate().fold(
        (0, f64::NEG_INFINITY),
        |best, (at, x)| {
            if *x > best.1 { (at, *x) } else { best }
        },
    );
    best.0
}

/// Words that belong together by their tags.
fn spans(words: &[Tagged]) -> Vec<Span> {
    let mut spans: Vec<Span> = Vec::new();
    for (at, Tagged { word, tag, .. }) in words.iter().enumerate() {
        let (goes_on, kind) = match (tag.strip_prefix("B-"), tag.strip_prefix("I-")) {
            (Some(kind), _) => (false, kind),
            (_, Some(kind)) => (true, kind),
            _ if tag == "O" => continue,
            _ => (true, tag.as_str()),
        };
        match spans.last_mut().filter(|last| goes_on && last.end == at && last.kind == kind) {
            Some(last) => {
                last.text = format!("{} {word}", last.text);
                last.end = at + 1;
            }
            None => spans.push(Span { kind: kind.into(), text: word.clone(), begin: at, end: at + 1 }),
        }
    }
    spans
}

impl fmt::Display for Answer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let labelled = |one: &Labelled| format!("{}\t{:.4}", one.label, one.probability);
        match &self.says {
            Says::Label { label, probability, .. } => write!(f, "{label}\t{probability:.4}"),
            Says::Labels { labels, .. } if labels.is_empty() => f.write_str("-"),
            Says::Labels { labels, .. } => f.write_str(&labels.iter().map(labelled).collect::<Vec<_>>().join("\t")),
            Says::Value { value } => {
                f.write_str(&value.iter().map(|x| format!("{x:.6}")).collect::<Vec<_>>().join("\t"))
            }
            Says::Embedding { embedding } => {
                f.write_str(&embedding.iter().map(|x| format!("{x:.6}")).collect::<Vec<_>>().join("\t"))
            }
            Says::Tags { words, .. } => {
                f.write_str(&words.iter().map(|w| format!("{}/{}", w.word, w.tag)).collect::<Vec<_>>().join(" "))
            }
            Says::Text { text, .. } => f.write_str(text),
            Says::Perplexity { perplexity, tokens } => match perplexity {
                Some(x) => write!(f, "perplexity\t{x:.4}\t{tokens} tokens"),
                None => f.write_str("perplexity\t-\tnothing to predict"),
            },
        }?;
        self.file.as_ref().map_or(Ok(()), |file| write!(f, "\t{file}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn served(predicts: Prediction) -> Served {
        let section = json!({ "lorac_version": "0", "task": "t", "predicts": predicts, "output": "logits",
            "labels": ["O", "B-per", "I-per"], "max_length": 24 });
        serde_json::from_value(section).expect("a section")
    }

    fn answer(predicts: Prediction, scores: &[f32], done: bool) -> Answer {
        let ids = lorac_data::Field::Tokens { ids: vec![0, 2, 1], pad: 0 };
        let words = ["Ann", "Lee", "ran"].map(String::from).to_vec();
        let words = Words { words, begins: vec![None, Some(0), None, Some(1), Some(2)] };
        let example = Example { fields: vec![("input_ids", ids)] };
        Scores { served: &served(predicts), done, scores, width: 3 }.answer(&example, Some(&words), Measure::default())
    }

    #[test]
    fn scores_become_labels_with_probabilities() {
        let one = answer(Prediction::Classes, &[0.0, 2.0, 1.0], false);
        assert_eq!(one.to_string(), "B-per\t0.6652");
        assert_eq!(answer(Prediction::Classes, &[0.1, 0.7, 0.2], true).to_string(), "B-per\t0.7000");
        let several = answer(Prediction::Labels, &[1.0, -1.0, 3.0], false);
        assert_eq!(several.to_string(), "O\t0.7311\tI-per\t0.9526");
        assert_eq!(answer(Prediction::Labels, &[-1.0, -1.0, 0.0], false).to_string(), "-");
        assert_eq!(answer(Prediction::Values, &[1.5], false).to_string(), "1.500000");
        let json = serde_json::to_value(&one).expect("JSON");
        assert_eq!((&json["label"], json.get("cut")), (&json!("B-per"), None));
        assert_eq!(json["probabilities"][1]["label"], "B-per");
    }

    #[test]
    fn probabilities_of_the_model_are_taken_as_they_are() {
        let several = answer(Prediction::Labels, &[0.25, 0.75, 0.5], true);
        assert_eq!(several.to_string(), "B-per\t0.7500");
        // The tokens that follow are 2 and 1.
        let next = [[0.5, 0.25, 0.25], [0.0, 0.5, 0.5], [1.0, 0.0, 0.0]].concat();
        let found = answer(Prediction::Tokens, &next, true);
        assert_eq!(found.to_string(), format!("perplexity\t{:.4}\t2 tokens", 8f64.sqrt()));
    }

    #[test]
    fn what_was_cut_off_is_said() {
        let example = Example { fields: Vec::new() };
        let scores = Scores { served: &served(Prediction::Values), done: false, scores: &[1.5], width: 1 };
        let measure = Measure { lost: 7, ..Measure::default() };
        let found = scores.answer(&example, None, measure);
        assert_eq!(Answer { file: Some("a.png".into()), ..found.clone() }.to_string(), "1.500000\ta.png");
        assert_eq!((found.cut, serde_json::to_value(&found).expect("JSON")["cut"].clone()), (7, json!(7)));
    }

    #[test]
    fn tags_are_those_of_the_first_tokens_and_make_spans() {
        let rows = [[9., 0., 0.], [0., 5., 0.], [9., 0., 0.], [0., 0., 5.], [5., 0., 0.]].concat();
        let found = answer(Prediction::Tags, &rows, false);
        assert_eq!(found.to_string(), "Ann/B-per Lee/I-per ran/O");
        let Says::Tags { spans, .. } = found.says else { panic!("tags") };
        assert_eq!(spans, [Span { kind: "per".into(), text: "Ann Lee".into(), begin: 0, end: 2 }]);
    }

    #[test]
    fn a_language_model_says_how_well_it_would_have_told() {
        // Of three tokens all equally likely.
        let found = answer(Prediction::Tokens, &[0.0; 9], false);
        assert_eq!(found.to_string(), "perplexity\t3.0000\t2 tokens");
    }
}
