//! How texts are written.

use lorac_config::{Check, Problems};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// How a language model writes texts: by the likeliest token each time, or by beam search, as transformers' `generate` does without
/// sampling
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Generate {
    /// Tokens of a text at most
    pub max_new_tokens: usize,
    /// Beginnings of a text that are followed at the same time: 1 takes the likeliest token each time
    pub num_beams: usize,
    /// The exponent of the length that the log-likelihood of a text is divided by, of beam search: the higher, the longer the text
    pub length_penalty: f64,
    /// Whether beam search ends once as many texts are whole as it has beams, without looking for better ones
    pub early_stopping: bool,
    /// Tokens in a row that may not come twice; 0 lets all. Those of the prompt count
    pub no_repeat_ngram_size: usize,
    /// What the score of a token that came already is divided by, or multiplied where it is below 0; 1 changes nothing
    pub repetition_penalty: f64,
    /// Texts that end a text before them: ["\n"]
    pub stop_strings: Vec<String>,
}

impl Default for Generate {
    fn default() -> Generate {
        Generate {
            max_new_tokens: 64,
            num_beams: 1,
            length_penalty: 1.0,
            early_stopping: false,
            no_repeat_ngram_size: 0,
            repetition_penalty: 1.0,
            stop_strings: Vec::new(),
        }
    }
}

/// Longer texts are not what a model is judged by.
const MOST_TOKENS: f64 = 16384.0;

/// More stop strings, or longer ones, are looked for in vain.
const MOST_STRINGS: usize = 64;

impl Check for Generate {
    fn check(&self, problems: &mut Problems) {
        problems.range("max_new_tokens", self.max_new_tokens as f64, 1.0, MOST_TOKENS);
        problems.range("num_beams", self.num_beams as f64, 1.0, 256.0);
        problems.range("length_penalty", self.length_penalty, -100.0, 100.0);
        problems.range("no_repeat_ngram_size", self.no_repeat_ngram_size as f64, 0.0, MOST_TOKENS);
        problems.positive("repetition_penalty", self.repetition_penalty, 1000.0);
        let usual = Generate::default();
        let of_beams = [
            ("length_penalty", self.length_penalty != usual.length_penalty),
            ("early_stopping", self.early_stopping != usual.early_stopping),
        ];
        for (key, given) in of_beams.into_iter().filter(|(_, given)| *given && self.num_beams == 1) {
            let message = format!("`{key}` is of beam search, and `num_beams` is {}", self.num_beams);
            problems.report_with_help(key, "pipeline::idle", message, given.then(|| "num_beams: 4".to_string()));
        }
        if self.stop_strings.len() > MOST_STRINGS {
            let message = format!("`stop_strings` are {}: at most {MOST_STRINGS}", self.stop_strings.len());
            problems.report("stop_strings", "pipeline::range", message);
        }
        for (at, _) in self.stop_strings.iter().enumerate().filter(|(_, text)| text.is_empty()) {
            let message = "an empty text is in every text: nothing would be written";
            problems.within("stop_strings", |p| p.report(&at.to_string(), "pipeline::value", message));
        }
    }
}

impl Generate {
    /// The text before the first of the stop strings; none where there is no stop string in it.
    pub fn before_stop<'t>(&self, text: &'t str) -> Option<&'t str> {
        let first = self.stop_strings.iter().filter_map(|stop| text.find(stop.as_str())).min()?;
        text.get(..first)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn problems(settings: &Generate) -> Vec<(String, &'static str)> {
        let mut problems = Problems::default();
        settings.check(&mut problems);
        problems.finish().into_iter().map(|p| (p.path, p.code)).collect()
    }

    #[test]
    fn settings_that_cannot_be_followed_are_reported_at_their_keys() {
        let usual = Generate::default;
        assert_eq!(problems(&usual()), []);
        let range = |key: &str| vec![(key.to_string(), "pipeline::range")];
        assert_eq!(problems(&Generate { max_new_tokens: 0, ..usual() }), range("max_new_tokens"));
        assert_eq!(problems(&Generate { num_beams: 1000, ..usual() }), range("num_beams"));
        assert_eq!(problems(&Generate { repetition_penalty: f64::NAN, ..usual() }), range("repetition_penalty"));
        let idle = Generate { length_penalty: 2.0, early_stopping: true, ..usual() };
        assert_eq!(problems(&idle).iter().map(|p| p.1).collect::<Vec<_>>(), ["pipeline::idle"; 2]);
        assert_eq!(problems(&Generate { num_beams: 2, ..idle }), []);
        let empty = Generate { stop_strings: vec!["a".into(), String::new()], ..usual() };
        assert_eq!(problems(&empty), [("stop_strings.1".into(), "pipeline::value")]);
    }

    #[test]
    fn the_first_stop_string_ends_a_text() {
        let settings = Generate { stop_strings: vec!["\n\n".into(), "é!".into()], ..Generate::default() };
        assert_eq!(settings.before_stop("one é! two\n\n"), Some("one "));
        assert_eq!(settings.before_stop("one\ntwo"), None);
    }
}
