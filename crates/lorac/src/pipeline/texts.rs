//! Metrics of texts that the model writes, and what they need.

use super::Pipeline;
use super::data::named;
use lorac_config::Problems;
use lorac_train::metric;

impl Pipeline {
    /// The metrics of texts that are asked for, each with the path of a key that does so.
    pub fn text_metrics(&self) -> Vec<(String, &str)> {
        let gates = self.metrics.0.keys().map(|name| (format!("metrics.{name}"), name.as_str()));
        let best = self.train.best().map(|name| ("train.checkpoint.best".to_string(), name));
        let stop = self.train.stop.as_ref().and_then(|stop| stop.metric.as_deref());
        let stop = stop.map(|name| ("train.stop.metric".to_string(), name));
        gates.chain(best).chain(stop).filter(|(_, name)| metric(name).is_some_and(|m| m.reads_texts())).collect()
    }

    /// Reports metrics of texts that nobody writes, or that have no prompts to go on from, and settings of texts that nobody asks
    /// for.
    pub(super) fn check_texts(&self, problems: &mut Problems) {
        let asked = self.text_metrics();
        if asked.is_empty() && self.task.generation().is_some() {
            let message = "`generate` says how texts are written that metrics compare with completions, and no such metric is asked for";
            let help = Some("metrics: { bleu: {}, rougeL: {} }".to_string());
            let path = format!("task.{}.generate", self.task.name());
            problems.report_with_help(&path, "pipeline::idle", message, help);
        }
        let Some(held) = &self.data.eval else { return };
        let (key, splits) = match held.part() {
            Some(_) => ("data.train", &self.data.train[..]),
            None => ("data.eval", held.sources()),
        };
        let silent = named(key, splits).find(|(_, split)| split.dialogue().is_none());
        for (path, name) in
            asked.iter().filter(|(_, name)| metric(name).is_some_and(|m| m.suits(self.task.prediction())))
        {
            let message = match (&silent, self.task.generating()) {
                (_, None) => {
                    format!("`{name}` is of texts that the model writes, and `task: {}` writes none", self.task.name())
                }
                (Some((split, _)), _) => {
                    format!(
                        "`{name}` compares what the model writes behind a prompt with its completion, and {split} has no prompts"
                    )
                }
                (None, Some(_)) => continue,
            };
            let help = "name the columns prompt and completion, or messages, or instruction and output";
            problems.report_with_help(path, "pipeline::metrics", message, Some(help.to_string()));
        }
    }
}
