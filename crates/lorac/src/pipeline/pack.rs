//! `data.pack`: several examples in a row.

use super::Pipeline;
use super::data::named;
use lorac_config::Problems;

impl Pipeline {
    /// Reports rows of several examples where they cannot be.
    pub(super) fn check_pack(&self, problems: &mut Problems) {
        if !self.data.pack {
            return;
        }
        if !self.task.packs() {
            let message = format!(
                "`pack`: the task `{}` learns one thing of an example, and not one of each of its tokens",
                self.task.name()
            );
            let help = Some("leave it out: it is for causal_lm, masked_lm and tag".to_string());
            problems.report_with_help("pack", "pipeline::pack", message, help);
        }
        for (path, _) in named("train", &self.data.train).filter(|(_, split)| split.stream.is_some()) {
            let message = "`stream`: examples share rows once all of them are known, and those of a stream never are";
            let help = Some("leave out data.pack or `stream`".to_string());
            problems.within(path, |p| p.report_with_help("stream", "pipeline::pack", message, help));
        }
    }
}
