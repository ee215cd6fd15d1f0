//! Progress on stderr, silent when quiet or when stderr is no terminal.

use std::path::Path;
use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};

/// Makes spinners and bars, or hidden ones.
#[derive(Debug, Clone, Copy)]
pub(super) struct Progress {
    /// Show nothing.
    pub(super) quiet: bool,
}

impl Progress {
    /// For work of unknown length.
    pub(super) fn spinner(self, message: String) -> ProgressBar {
        let bar = self.show(ProgressBar::no_length(), "{spinner} {bytes} [{elapsed}] {wide_msg}");
        bar.set_message(message);
        if !bar.is_hidden() {
            bar.enable_steady_tick(Duration::from_millis(120));
        }
        bar
    }

    /// For `total` bytes of work.
    pub(super) fn bar(self, message: String, total: u64) -> ProgressBar {
        let bar = self
            .show(ProgressBar::new(total), "[{bar:20}] {bytes}/{total_bytes} {bytes_per_sec} [{elapsed}] {wide_msg}");
        bar.set_message(message);
        bar
    }

    fn show(self, bar: ProgressBar, template: &str) -> ProgressBar {
        if self.quiet {
            return ProgressBar::hidden();
        }
        match ProgressStyle::with_template(template) {
            Ok(style) => bar.with_style(style),
            Err(_) => bar,
        }
    }
}

/// The bytes in all files below `folder`.
pub(super) fn bytes_below(folder: &Path) -> u64 {
    let Ok(entries) = std::fs::read_dir(folder) else { return 0 };
    entries
        .flatten()
        .map(|entry| match entry.metadata() {
            Ok(meta) if meta.is_dir() => bytes_below(&entry.path()),
            Ok(meta) => meta.len(),
            Err(_) => 0,
        })
        .sum()
}
