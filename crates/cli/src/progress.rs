//! Bars and lines on stderr. Standard output is for results.

use crate::terminal::{self, shown};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use lorac::progress::Progress;
use lorac::source::{self, Meter};
use std::io::IsTerminal;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// Where a run's progress goes.
#[derive(Debug, Default)]
pub(super) struct Terminal {
    bar: Mutex<Option<ProgressBar>>,
}

impl Terminal {
    fn bar(&self) -> std::sync::MutexGuard<'_, Option<ProgressBar>> {
        self.bar.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Progress for Terminal {
    fn line(&self, text: &str) {
        terminal::say(text);
    }

    /// A bar with what is done, the message, and the time left. Hidden where stderr is not a terminal.
    fn begin(&self, what: &str, len: u64) {
        let target = if std::io::stderr().is_terminal() {
            ProgressDrawTarget::stderr_with_hz(8)
        } else {
            ProgressDrawTarget::hidden()
        };
        let bar = ProgressBar::with_draw_target(Some(len), target);
        bar.set_style(style("{prefix:>10} [{bar:32}] {pos}/{len} {msg} {eta} left").progress_chars("=> "));
        bar.set_prefix(shown(what).into_owned());
        bar.enable_steady_tick(Duration::from_millis(250));
        *self.bar() = Some(bar);
    }

    fn at(&self, position: u64, message: &str) {
        if let Some(bar) = self.bar().as_ref() {
            bar.set_position(position);
            bar.set_message(shown(message).into_owned());
        }
    }

    fn end(&self) {
        if let Some(bar) = self.bar().take() {
            bar.finish_and_clear();
        }
    }
}

/// Downloads, unpacking and waits: bars in bytes on a terminal, else a line as each begins.
#[derive(Clone, Copy, Debug)]
pub(super) struct Downloads;

impl Downloads {
    /// For a resolver.
    pub(super) fn shown(quiet: bool) -> Option<Arc<dyn source::Progress>> {
        (!quiet).then(|| Arc::new(Downloads) as Arc<dyn source::Progress>)
    }
}

impl source::Progress for Downloads {
    fn begin(&self, what: &str) -> Box<dyn Meter> {
        if !std::io::stderr().is_terminal() {
            terminal::say(what);
            return Box::new(Line);
        }
        let bar = ProgressBar::no_length().with_style(style("{spinner} {bytes} [{elapsed}] {wide_msg}"));
        bar.set_message(shown(what).into_owned());
        bar.enable_steady_tick(Duration::from_millis(120));
        Box::new(Bytes(bar))
    }
}

struct Line;

impl Meter for Line {
    fn at(&self, _: u64, _: Option<u64>) {}
}

struct Bytes(ProgressBar);

impl Meter for Bytes {
    fn at(&self, bytes: u64, total: Option<u64>) {
        if let Some(total) = total.filter(|total| self.0.length() != Some(*total)) {
            self.0.set_length(total);
            self.0.set_style(style("[{bar:20}] {bytes}/{total_bytes} {bytes_per_sec} [{elapsed}] {wide_msg}"));
        }
        self.0.set_position(bytes);
    }
}

impl Drop for Bytes {
    fn drop(&mut self) {
        self.0.finish_and_clear();
    }
}

fn style(template: &str) -> ProgressStyle {
    ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar())
}
