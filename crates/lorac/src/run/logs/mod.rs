//! What is told of a training while it goes on: metrics.jsonl, and what else a pipeline asks for under `log`.

mod command;
mod meter;
mod tensorboard;

pub(crate) use meter::Pace;

use super::folder::{Folder, Log};
use super::{Plan, RunOptions};
use crate::error::Error;
use crate::output::MetricsEval;
use crate::pipeline::{Loaded, LogOptions};
use crate::progress::Progress;
use command::Fed;
use lorac_train::Event;
use meter::Meter;
use serde::Serialize;
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};
use tensorboard::Events;

/// Everything that hears of a training. What cannot be told to one of them is told to the others.
pub(crate) struct Logs {
    log: Log,
    events: Option<(PathBuf, Events)>,
    command: Option<Fed>,
    meter: Meter,
}

/// A line of metrics.jsonl.
#[derive(Serialize)]
struct Line<'a, T> {
    /// What it tells of: `step` or `eval`.
    kind: &'a str,
    /// Seconds since 1970.
    time: f64,
    #[serde(flatten)]
    row: &'a T,
}

/// A step, with its pace.
#[derive(Serialize)]
struct Paced<'a> {
    #[serde(flatten)]
    event: &'a Event,
    #[serde(flatten)]
    pace: Pace,
}

/// What a command is told first.
#[derive(Serialize)]
struct Begin<'a> {
    lorac_version: &'static str,
    name: &'a str,
    /// The output folder.
    out: &'a Path,
    /// The step behind which it goes on: 0 of a training that begins.
    step: u64,
    /// Steps of the whole training.
    steps: u64,
    /// The pipeline with defaults and overrides.
    pipeline: serde_json::Value,
}

/// Refuses a command that cannot be started.
///
/// # Errors
/// [`Error::Pipeline`]
pub(super) fn check(loaded: &Loaded) -> Result<(), Error> {
    match loaded.pipeline.log.command.first() {
        Some(program) if !command::is_there(program) => Err(not_there(loaded, "there is no such program")),
        _ => Ok(()),
    }
}

fn not_there(loaded: &Loaded, why: &str) -> Error {
    let program = loaded.pipeline.log.command.first().map_or("", String::as_str);
    let problem = lorac_config::Problem {
        path: "log.command".into(),
        code: "pipeline::command",
        message: format!("`{program}` cannot be started: {why}"),
        help: Some("a name is looked for in PATH, a path is taken as it is from the folder that lorac runs in".into()),
    };
    Box::new(loaded.errors_at(vec![problem])).into()
}

impl Logs {
    /// Begins to tell of a training. `log` may have lines already: `earlier` are those.
    ///
    /// # Errors
    /// A command that cannot be started, and a place in the folder that is taken.
    pub(super) fn begin(
        log: Log,
        earlier: &[String],
        folder: &Folder,
        loaded: &Loaded,
        plan: &Plan,
        options: &RunOptions,
    ) -> Result<Logs, Error> {
        let LogOptions { tensorboard, command } = &loaded.pipeline.log;
        folder.sweep_events();
        let events = match tensorboard {
            true => {
                let file = folder.begin_events()?;
                let events = Events::begin(&file, now());
                match events.and_then(|events| replayed(events, earlier)) {
                    Ok(events) => Some((file, events)),
                    Err(e) => {
                        options.progress.warning(&unwritten(&file, &e));
                        None
                    }
                }
            }
            false => None,
        };
        let mut fed = None;
        if !command.is_empty() {
            let mut started = Fed::start(command).map_err(|e| not_there(loaded, &e.to_string()))?;
            let row = Begin {
                lorac_version: env!("CARGO_PKG_VERSION"),
                name: &loaded.pipeline.name,
                out: &options.out,
                step: earlier.iter().rev().find_map(|line| step_of(line)).unwrap_or(0),
                steps: plan.rate.total,
                pipeline: serde_json::to_value(&loaded.pipeline).unwrap_or_default(),
            };
            started.write(&line("run", &row));
            fed = Some(started);
        }
        let mut meter = Meter::new(plan.rate.total);
        for event in earlier.iter().filter_map(|line| serde_json::from_str::<Event>(line).ok()) {
            meter.at(&event);
        }
        Ok(Logs { log, events, command: fed, meter })
    }

    /// Tells of a step. Its pace, and what the user should know.
    pub(super) fn step(&mut self, event: &Event) -> (Pace, Vec<String>) {
        let pace = self.meter.at(event);
        (pace, self.write(&line("step", &Paced { event, pace })))
    }

    /// Tells of an evaluation. What the user should know.
    pub(super) fn eval(&mut self, row: &MetricsEval) -> Vec<String> {
        self.write(&line("eval", row))
    }

    fn write(&mut self, line: &str) -> Vec<String> {
        let mut said: Vec<String> = self.log.write_line(line).map(String::from).into_iter().collect();
        if let Some((file, events)) = &mut self.events {
            let row = serde_json::from_str(line).unwrap_or_default();
            if let Err(e) = events.write(&row) {
                said.push(unwritten(file, &e));
                self.events = None;
            }
        }
        said.extend(self.command.as_mut().and_then(|command| command.write(line)));
        said
    }

    /// Ends metrics.jsonl, the event file and the input of the command. Why the log is not complete, if so, and the event
    /// file, which is whole.
    pub(super) fn close(&mut self) -> (Option<String>, Option<PathBuf>) {
        self.command.iter_mut().for_each(Fed::close);
        let events = self.events.take().and_then(|(file, mut events)| events.finish().is_ok().then_some(file));
        (self.log.finish().map(String::from), events)
    }

    /// Waits for the command, and says what the user should know.
    pub(super) fn wait(&mut self, progress: &dyn Progress) {
        if let Some(mut command) = self.command.take() {
            command.finish(&|text| progress.line(text)).iter().for_each(|why| progress.warning(why));
        }
    }
}

/// The events of lines that were written before.
fn replayed(mut events: Events, earlier: &[String]) -> std::io::Result<Events> {
    let lines = earlier.iter().filter_map(|line| serde_json::from_str(line).ok());
    lines.into_iter().try_for_each(|line| events.write(&line))?;
    Ok(events)
}

/// The step of a line of the log.
fn step_of(line: &str) -> Option<u64> {
    serde_json::from_str::<serde_json::Value>(line).ok()?["step"].as_u64()
}

fn unwritten(file: &Path, error: &std::io::Error) -> String {
    format!("{}: {error}: TensorBoard is told no more", file.display())
}

/// A line with its end.
fn line(kind: &str, row: &impl Serialize) -> String {
    let mut text = serde_json::to_string(&Line { kind, time: now(), row }).unwrap_or_default();
    text.push('\n');
    text
}

/// Seconds since 1970, to a thousandth.
fn now() -> f64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    since.as_millis() as f64 / 1000.0
}
