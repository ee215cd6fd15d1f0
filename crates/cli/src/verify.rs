//! `lorac verify`: what was asked for, and the verdict.

use super::args::{Allowed, Format};
use super::{grad, open, render, resolver, terminal};
use lorac::engine;
use lorac::error::Error;
use lorac::pipeline::RuntimeSource;
use lorac::verify::{Allow, Outputs, Request, Verdict, files};
use std::path::Path;

/// The command's arguments.
pub(super) struct Ask {
    pub(super) targets: Vec<String>,
    pub(super) tolerance: Option<f64>,
    pub(super) allow: Vec<Allowed>,
    pub(super) samples: usize,
    pub(super) dim: Vec<String>,
    pub(super) runtime: Option<String>,
}

pub(super) fn run(base: &str, deployed: &str, ask: Ask, quiet: bool, format: Format) -> Result<(), Error> {
    let request = Request {
        allow: ask.allow.into_iter().map(allowed).collect(),
        dims: grad::numbers("--dim", &ask.dim)?,
        targets: ask.targets,
        tolerance: ask.tolerance,
        samples: ask.samples,
    };
    let (base, deployed) = (open(base, quiet)?, open(deployed, quiet)?);
    let verdict = files(&base, &deployed, &request, || {
        let source = ask.runtime.map(RuntimeSource::try_from).transpose()?.unwrap_or_default();
        let engine = engine::open(&source.choice(None), &Default::default(), &resolver(Path::new("."), quiet)?)?;
        if let Some(why) = &engine.fallback {
            terminal::say(&format!("warning: the embedded engine is used: {why}"));
        }
        Ok(engine.backend)
    })?;
    match format {
        Format::Json => render::json(&verdict)?,
        Format::Text => render::text(&text(&verdict, &request))?,
    }
    match verdict.passed {
        true => Ok(()),
        false => Err(Error::Gate(verdict.failures.join("; "))),
    }
}

fn allowed(what: Allowed) -> Allow {
    match what {
        Allowed::Head => Allow::Head,
        Allowed::Inputs => Allow::Inputs,
        Allowed::Functions => Allow::Functions,
        Allowed::Metadata => Allow::Metadata,
        Allowed::Other => Allow::Other,
    }
}

fn text(v: &Verdict, request: &Request) -> String {
    let list = |items: &[String]| items.iter().map(|item| format!("  {}\n", terminal::cell(item))).collect::<String>();
    let any = if request.targets.is_empty() && !v.changed.is_empty() { " (`--target` says which may)" } else { "" };
    let mut out = format!("changed weights                   {}{any}\n{}", v.changed.len(), list(&v.changed));
    out += &format!("bytes changed outside the targets {}\n", v.changed_bytes_outside_targets);
    out += &list(&v.changed_otherwise);
    out += &format!("bytes inserted                    {}\n{}", v.inserted_bytes, list(&v.inserted));
    out += &format!("nodes                             {} -> {}\n", v.nodes_before, v.nodes_after);
    let compared = match (v.outputs, v.max_abs_diff) {
        (Outputs::FilesDiffer, _) => "not compared, since the files differ".to_string(),
        (Outputs::Compared, Some(largest)) => {
            let any = if request.tolerance.is_none() { " (any is accepted; `--tolerance` sets a bound)" } else { "" };
            format!("{largest:.3e} on {} batches{any}", v.samples)
        }
        _ => "not compared (--samples 0): nothing is proven of what the model computes".to_string(),
    };
    out += &format!("largest difference of outputs     {compared}\n");
    let files = if v.outputs == Outputs::NotCompared { " (files only)" } else { "" };
    out + &format!("{}{files}\n", if v.passed { "passed" } else { "failed" })
}
