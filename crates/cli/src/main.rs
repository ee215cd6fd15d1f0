//! The `lorac` command: what can be typed, what is printed, and the exit code.
//!
//! Results go to standard output, progress and errors to standard error. What the commands do is in the library
//! [`lorac`]; this crate must never know more of it than what it shows.

mod args;
mod diagnostic;
mod doctor;
mod eval;
mod grad;
mod predict;
mod progress;
mod render;
mod signals;
mod terminal;
mod verify;

use args::{Args, CacheAction, Command};
use clap::Parser;
use lorac::error::Error;
use lorac::passes::readable;
use lorac::pipeline::{self, Loaded};
use lorac::progress::Progress;
use lorac::run::{Outcome, ResumeFrom, RunOptions, default_folder, resume, run};
use lorac::source::{Resolver, Source, Stop};
use lorac::{base, coverage, explain, inspect};
use progress::{Downloads, Terminal, Warnings};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::atomic::AtomicBool;

/// Set by Ctrl-C.
static STOP: AtomicBool = AtomicBool::new(false);

fn main() -> ExitCode {
    let args = Args::parse();
    let format = args.format;
    signals::listen(format);
    match signals::interrupts(matches!(args.command, Command::Run { .. }), &STOP).and_then(|()| command(args)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(e) => {
            render::error(&e, format);
            ExitCode::from(e.exit_code())
        }
    }
}

fn command(args: Args) -> Result<(), Error> {
    let format = args.format;
    match args.command {
        Command::Run { pipeline, set, out, resume: from, emit } => {
            let loaded = Loaded::load(&pipeline, &set).map_err(Box::new)?;
            let out = match out {
                Some(out) => out,
                None => default_folder(Path::new(""), loaded.pipeline.name.as_str())?,
            };
            let resolver = resolver(pipeline.parent().unwrap_or(Path::new(".")), args.quiet)?;
            let command = std::env::args().collect::<Vec<_>>().join(" ");
            let terminal = Terminal::default();
            let progress: &dyn Progress = if args.quiet { &Warnings } else { &terminal };
            let emit = emit.or_else(|| std::env::var_os("LORAC_EMIT").filter(|dir| !dir.is_empty()).map(PathBuf::from));
            let options = RunOptions { out: out.clone(), command, progress, emit };
            let from = from.map(|file| file.map_or(ResumeFrom::Newest, ResumeFrom::Path));
            let outcome = match from {
                Some(from) => resume(&loaded, &resolver, &options, &from, &STOP)?,
                None => run(&loaded, &resolver, &options, &STOP)?,
            };
            render::outcome(&outcome, &out, format)?;
            gate(&outcome)
        }
        Command::Inspect { model, text } => {
            let model = open(&model, args.quiet)?;
            if text {
                let graph = readable(&model.graph, &model.functions);
                return render::text(&lorac::ir::print(graph.as_ref().unwrap_or(&model.graph)));
            }
            render::summary(&inspect::summary(&model.graph, &model.functions), format)
        }
        Command::Grad { coverage: true, .. } => match format {
            args::Format::Json => render::json(&coverage::entries()),
            args::Format::Text => render::text(&coverage::markdown()),
        },
        Command::Grad { model, wrt, loss, output, out, fix, dim, coverage: false } => {
            let ask = grad::Ask { wrt, loss: loss.unwrap_or_default(), output, out, fix, dim };
            grad::run(&model.unwrap_or_default(), ask, args.quiet, format)
        }
        Command::Verify { base, deployed, targets, tolerance, allow, samples, dim, runtime } => {
            let ask = verify::Ask { targets, tolerance, allow, samples, dim, runtime };
            verify::run(&base, &deployed, ask, args.quiet, format)
        }
        Command::Cache { action: CacheAction::Add { file, sha256 } } => {
            let added = resolver(Path::new("."), args.quiet)?.add(&file, sha256.as_deref())?;
            render::added(&added, format)
        }
        Command::Predict {
            model,
            file,
            text,
            pair,
            column,
            encoding,
            tokenizer,
            batch,
            perplexity,
            max_new_tokens,
            num_beams,
            stop,
            runtime,
        } => {
            let ask = predict::Ask {
                file,
                texts: text,
                pairs: pair,
                columns: column,
                encoding,
                tokenizer,
                batch,
                perplexity,
                max_new_tokens,
                num_beams,
                stop,
                runtime,
            };
            predict::run(&model, ask, args.quiet, format)
        }
        Command::Eval { model, pipeline, set } => eval::run(&model, &pipeline, &set, args.quiet, format),
        Command::Explain { code } => render::explanation(explain::explain(&code)?, format),
        Command::Schema { markdown: true } => render::text(&pipeline::reference()),
        Command::Schema { markdown: false } => render::json(&pipeline::schema()),
        Command::Doctor { library: Some(library) } => render::doctor(&[doctor::library(&library)], format),
        Command::Doctor { library: None } => render::doctor(&doctor::examine(&resolver(Path::new("."), true)?), format),
    }
}

fn gate(outcome: &Outcome) -> Result<(), Error> {
    match outcome.gates.as_slice() {
        [] => Ok(()),
        gates => Err(Error::Gate(gates.join("; "))),
    }
}

fn resolver(base: &Path, quiet: bool) -> Result<Resolver, Error> {
    let mut resolver = Resolver::new(None, base)?;
    resolver.progress = Downloads::shown(quiet);
    resolver.stop = Stop(Some(&STOP));
    Ok(resolver)
}

/// A model by path or source.
fn open(model: &str, quiet: bool) -> Result<lorac::onnx::Model, Error> {
    let resolver = resolver(Path::new("."), quiet)?;
    let resolved = resolver.resolve(&model.parse::<Source>()?, None)?;
    base::open(&resolved, &resolver)
}
