//! Bars on a terminal, and lines where there is none, on stderr. Standard output is for results.

use crate::terminal::{say, shown};
use indicatif::{HumanBytes, HumanDuration, ProgressBar, ProgressDrawTarget, ProgressStyle};
use lorac::progress::Progress;
use lorac::source::{self, Meter};
use std::io::IsTerminal;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// Where a run's progress goes.
#[derive(Debug, Default)]
pub(super) struct Terminal {
    work: Mutex<Option<Work>>,
}

/// What is under way.
#[derive(Debug)]
enum Work {
    Bar(ProgressBar),
    Lines { what: String, len: u64, every: Every, pace: Pace },
}

impl Terminal {
    fn work(&self) -> MutexGuard<'_, Option<Work>> {
        self.work.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Progress for Terminal {
    fn line(&self, text: &str) {
        match self.work().as_ref() {
            Some(Work::Bar(bar)) => bar.suspend(|| say(text)),
            _ => say(text),
        }
    }

    /// A bar with what is done, the message, and the time left; a line every ten seconds where stderr is not a terminal.
    fn begin(&self, what: &str, len: u64) {
        let work = match std::io::stderr().is_terminal() {
            true => {
                let bar = ProgressBar::with_draw_target(Some(len), ProgressDrawTarget::stderr_with_hz(8));
                bar.set_style(style("{prefix:>10} [{bar:32}] {pos}/{len} {msg} {eta} left").progress_chars("=> "));
                bar.set_prefix(shown(what).into_owned());
                bar.enable_steady_tick(Duration::from_millis(250));
                Work::Bar(bar)
            }
            false => {
                let every = Every::new(BETWEEN_LINES, Instant::now());
                Work::Lines { what: what.into(), len, every, pace: Pace::default() }
            }
        };
        *self.work() = Some(work);
    }

    fn at(&self, position: u64, message: &str) {
        match self.work().as_mut() {
            Some(Work::Bar(bar)) => {
                bar.set_position(position);
                bar.set_message(shown(message).into_owned());
            }
            Some(Work::Lines { what, len, every, pace }) => {
                let now = Instant::now();
                let left = pace.left(position, *len, now);
                every.is_due(now).then(|| say(&at_line(what, position, *len, message, left)));
            }
            None => {}
        }
    }

    fn end(&self) {
        if let Some(Work::Bar(bar)) = self.work().take() {
            bar.finish_and_clear();
        }
    }
}

fn at_line(what: &str, position: u64, len: u64, message: &str, left: Option<Duration>) -> String {
    let left = left.map_or(String::new(), |left| format!("  {} left", HumanDuration(left)));
    format!("{what:<9} {position}/{len} {message}").trim_end().to_string() + &left
}

/// How fast work goes on, from the place at which it was first looked at.
#[derive(Clone, Copy, Debug, Default)]
struct Pace(Option<(u64, Instant)>);

impl Pace {
    /// The time that the rest will take; none at first.
    fn left(&mut self, position: u64, len: u64, now: Instant) -> Option<Duration> {
        let (first, start) = *self.0.get_or_insert((position, now));
        let done = position.checked_sub(first).filter(|done| *done > 0)?;
        let rest = len.saturating_sub(position) as f64 / done as f64;
        Duration::try_from_secs_f64(now.saturating_duration_since(start).as_secs_f64() * rest).ok()
    }
}

/// Says nothing but what the user must know.
#[derive(Clone, Copy, Debug)]
pub(super) struct Warnings;

impl Progress for Warnings {
    fn line(&self, _text: &str) {}
    fn warning(&self, text: &str) {
        say(&format!("warning   {text}"));
    }
    fn begin(&self, _what: &str, _len: u64) {}
    fn at(&self, _position: u64, _message: &str) {}
    fn end(&self) {}
}

const BETWEEN_LINES: Duration = Duration::from_secs(10);

/// What is due once in a span of time.
#[derive(Clone, Copy, Debug)]
struct Every {
    span: Duration,
    last: Instant,
}

impl Every {
    fn new(span: Duration, now: Instant) -> Every {
        Every { span, last: now }
    }

    fn is_due(&mut self, now: Instant) -> bool {
        let due = now.saturating_duration_since(self.last) >= self.span;
        if due {
            self.last = now;
        }
        due
    }
}

/// Downloads, unpacking and waits: bars in bytes on a terminal, else a line as each begins and one every ten seconds.
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
            say(what);
            return Box::new(Lines { what: what.into(), every: Mutex::new(Every::new(BETWEEN_LINES, Instant::now())) });
        }
        let bar = ProgressBar::no_length().with_style(style("{spinner} {bytes} [{elapsed}] {wide_msg}"));
        bar.set_message(shown(what).into_owned());
        bar.enable_steady_tick(Duration::from_millis(120));
        Box::new(Bytes(bar))
    }
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

/// A line every ten seconds.
struct Lines {
    what: String,
    every: Mutex<Every>,
}

impl Meter for Lines {
    fn at(&self, bytes: u64, total: Option<u64>) {
        if self.every.lock().unwrap_or_else(PoisonError::into_inner).is_due(Instant::now()) {
            let of = total.map(|total| format!("/{}", HumanBytes(total))).unwrap_or_default();
            say(&format!("{}: {}{of}", self.what, HumanBytes(bytes)));
        }
    }
}

fn style(template: &str) -> ProgressStyle {
    ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_due_once_in_ten_seconds() {
        let start = Instant::now();
        let mut every = Every::new(BETWEEN_LINES, start);
        let seconds = [0, 9, 10, 11, 19, 20, 45, 54, 55];
        let due: Vec<u64> = seconds.into_iter().filter(|s| every.is_due(start + Duration::from_secs(*s))).collect();
        assert_eq!(due, [10, 20, 45, 55]);
    }

    #[test]
    fn the_time_left_is_that_of_the_rest_at_the_same_pace() {
        let (start, mut pace) = (Instant::now(), Pace::default());
        let mut left = |position, seconds| pace.left(position, 100, start + Duration::from_secs(seconds));
        assert_eq!([left(40, 7), left(40, 8)], [None, None]);
        assert_eq!([left(50, 17), left(100, 67)], [50, 0].map(|s| Some(Duration::from_secs(s))));
    }

    #[test]
    fn lines_say_what_is_at_which_place() {
        let left = Some(Duration::from_secs(150));
        assert_eq!(at_line("training", 120, 1000, "loss 0.5", left), "training  120/1000 loss 0.5  3 minutes left");
        assert_eq!(at_line("before", 32, 64, "", None), "before    32/64");
    }
}
