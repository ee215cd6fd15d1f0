//! `lorac eval`: scores, and the exit code of gates.

use super::args::Format;
use super::progress::{Terminal, Warnings};
use super::{STOP, render, resolver, terminal};
use lorac::error::Error;
use lorac::evaluate::evaluate;
use lorac::pipeline::Loaded;
use lorac::progress::Progress;
use std::path::Path;

pub(super) fn run(model: &str, pipeline: &Path, sets: &[String], quiet: bool, format: Format) -> Result<(), Error> {
    let loaded = Loaded::load(pipeline, sets).map_err(Box::new)?;
    // Paths of the pipeline begin beside it, and the model's here.
    let beside = resolver(pipeline.parent().unwrap_or(Path::new(".")), quiet)?;
    let here = resolver(Path::new("."), quiet)?;
    let terminal = Terminal::default();
    let progress: &dyn Progress = if quiet { &Warnings } else { &terminal };
    let found = evaluate(model, &loaded, &beside, &here, progress, &STOP)?;
    found.notes.iter().for_each(|note| terminal::say(&format!("warning: {note}")));
    match format {
        Format::Json => render::json(&found)?,
        Format::Text => {
            let width = found.scores.scores.iter().map(|score| score.name.len()).max().unwrap_or(0);
            let lines = found.scores.scores.iter().map(|s| format!("{:<width$} {:.6}\n", s.name, s.value));
            render::text(&format!("{}on {}\n", lines.collect::<String>(), found.scores.count))?;
        }
    }
    match found.failures().as_slice() {
        [] => Ok(()),
        missed => Err(Error::Gate(missed.join("; "))),
    }
}
