//! Bars and lines on stderr. Standard output is for results.

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use lorac_source::Meter;
use std::io::IsTerminal;
use std::sync::Arc;
use std::time::Duration;

/// Where progress goes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Progress {
    /// Says nothing at all.
    pub quiet: bool,
}

impl Progress {
    /// A finished stage, as a line.
    pub fn line(&self, text: &str) {
        if !self.quiet {
            eprintln!("{text}");
        }
    }

    /// A bar of `len` steps with what is done, the message, and the time left. Hidden where stderr is no terminal.
    pub fn bar(&self, len: u64, what: &str) -> ProgressBar {
        let shown = !self.quiet && std::io::stderr().is_terminal();
        let target = if shown { ProgressDrawTarget::stderr_with_hz(8) } else { ProgressDrawTarget::hidden() };
        let bar = ProgressBar::with_draw_target(Some(len), target);
        let template = "{prefix:>10} [{bar:32}] {pos}/{len} {msg} {eta} left";
        if let Ok(style) = ProgressStyle::with_template(template) {
            bar.set_style(style.progress_chars("=> "));
        }
        bar.set_prefix(what.to_string());
        bar.enable_steady_tick(Duration::from_millis(250));
        bar
    }
}

/// Downloads and unpacking, in bytes.
#[derive(Clone, Copy, Debug)]
pub struct Downloads;

impl Downloads {
    /// For a resolver: nothing where stderr is no terminal.
    pub fn shown(quiet: bool) -> Option<Arc<dyn lorac_source::Progress>> {
        (!quiet && std::io::stderr().is_terminal()).then(|| Arc::new(Downloads) as Arc<dyn lorac_source::Progress>)
    }
}

impl lorac_source::Progress for Downloads {
    fn begin(&self, what: &str) -> Box<dyn Meter> {
        let bar = styled(ProgressBar::no_length(), "{spinner} {bytes} [{elapsed}] {wide_msg}");
        bar.set_message(what.to_string());
        bar.enable_steady_tick(Duration::from_millis(120));
        Box::new(Bytes(bar))
    }
}

struct Bytes(ProgressBar);

impl Meter for Bytes {
    fn at(&self, bytes: u64, total: Option<u64>) {
        if let Some(total) = total.filter(|total| self.0.length() != Some(*total)) {
            self.0.set_length(total);
            let template = "[{bar:20}] {bytes}/{total_bytes} {bytes_per_sec} [{elapsed}] {wide_msg}";
            self.0.set_style(ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar()));
        }
        self.0.set_position(bytes);
    }
}

impl Drop for Bytes {
    fn drop(&mut self) {
        self.0.finish_and_clear();
    }
}

fn styled(bar: ProgressBar, template: &str) -> ProgressBar {
    match ProgressStyle::with_template(template) {
        Ok(style) => bar.with_style(style),
        Err(_) => bar,
    }
}
