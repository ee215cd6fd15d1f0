//! `lorac grad`: what was asked for, and the summary of what came out.

use super::args::Format;
use super::{open, render};
use crate::terminal::cell;
use lorac::error::Error;
use lorac::grad::{Cost, Gradient, Loss, Request, cost, grad};
use lorac::onnx::{Model, SaveOptions, save};
use serde::Serialize;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// The command's arguments.
pub(super) struct Ask {
    pub(super) wrt: Vec<String>,
    pub(super) loss: String,
    pub(super) output: Option<String>,
    pub(super) out: Option<PathBuf>,
    pub(super) fix: Vec<String>,
    pub(super) dim: Vec<String>,
}

/// What was written.
#[derive(Serialize)]
struct Summary {
    wrote: PathBuf,
    opset: i64,
    nodes: usize,
    inputs: Vec<(String, String)>,
    trained: Vec<String>,
    parameters: usize,
    unreached: Vec<String>,
    active_operators: BTreeMap<String, usize>,
    #[serde(flatten)]
    cost: Cost,
}

pub(super) fn run(name: &str, ask: Ask, quiet: bool, format: Format) -> Result<(), Error> {
    let dims = numbers("--dim", &ask.dim)?;
    let fix = ask.fix.iter().map(|f| fixed(f)).collect::<Result<BTreeMap<String, i64>, Error>>()?;
    let model = open(name, quiet)?;
    let loss = loss(&model, &ask.loss);
    if let (Loss::Output(_), Some(output)) = (&loss, &ask.output) {
        let why = format!("`--output {output}`: the loss `{}` is an output itself", ask.loss);
        return Err(Error::Usage(why));
    }
    let out = ask.out.unwrap_or_else(|| default_place(&model));
    check_place(&model, &out)?;
    let gradient = grad(&model, &Request { wrt: ask.wrt, loss, output: ask.output, fix })?;
    let cost = cost(&gradient, &dims)?;
    let ir_version = model.ir_version.max(SaveOptions::default().ir_version);
    save(&gradient.graph, &out, &SaveOptions { ir_version, ..SaveOptions::default() })?;
    print(summary(gradient, cost, out), format)
}

/// An output of the model goes before the losses that lorac writes.
fn loss(model: &Model, name: &str) -> Loss {
    let is_output = model.graph.outputs().iter().any(|v| model.graph.name_of(*v) == name);
    match name {
        "cross_entropy" if !is_output => Loss::CrossEntropy,
        "mse" if !is_output => Loss::MeanSquaredError,
        name => Loss::Output(name.into()),
    }
}

/// What an option of the form NAME=N says, given any number of times.
pub(super) fn numbers(option: &str, texts: &[String]) -> Result<BTreeMap<String, i64>, Error> {
    texts.iter().map(|text| number(option, text)).collect()
}

fn number(option: &str, text: &str) -> Result<(String, i64), Error> {
    let pair = text.rsplit_once('=').and_then(|(name, n)| Some((name, n.parse::<i64>().ok()?)));
    let pair = pair.filter(|(name, n)| !name.is_empty() && *n >= 0);
    let pair = pair.map(|(name, n)| (name.to_string(), n));
    pair.ok_or_else(|| Error::Usage(format!("`{option} {text}`: expected NAME=N, as in `{option} batch=8`")))
}

/// A number, or a switch.
fn fixed(text: &str) -> Result<(String, i64), Error> {
    match text.split_once('=').filter(|(name, _)| !name.is_empty()) {
        Some((name, "true")) => Ok((name.to_string(), 1)),
        Some((name, "false")) => Ok((name.to_string(), 0)),
        _ => number("--fix", text).map_err(|error| match error {
            Error::Usage(why) => Error::Usage(format!("{why}, or `--fix use_cache_branch=true`")),
            other => other,
        }),
    }
}

/// Beside nothing of the user's: sources lie in a cache.
fn default_place(model: &Model) -> PathBuf {
    let stem = model.path.file_stem().map_or("model".into(), |s| s.to_string_lossy());
    PathBuf::from(format!("{stem}.grad.onnx"))
}

fn check_place(model: &Model, out: &Path) -> Result<(), Error> {
    let folder = out.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
    if !folder.is_dir() {
        return Err(Error::Usage(format!("--out {}: its folder does not exist", out.display())));
    }
    if out.is_dir() {
        return Err(Error::Usage(format!("--out {}: this is a folder, name a file", out.display())));
    }
    let same = |a: &Path, b: &Path| matches!((a.canonicalize(), b.canonicalize()), (Ok(a), Ok(b)) if a == b);
    let models = || std::iter::once(model).chain(model.parts.iter().map(|part| &part.model));
    if models().any(|model| same(&model.path, out)) {
        return Err(Error::Usage(format!("--out {}: this is the model itself, name another file", out.display())));
    }
    let beside = |model: &Model| {
        let folder = model.path.parent().unwrap_or(Path::new(""));
        model.external_files().any(|file| same(&folder.join(file), out))
    };
    match models().any(beside) {
        true => {
            Err(Error::Usage(format!("--out {}: weights of the model lie in it, name another file", out.display())))
        }
        false => Ok(()),
    }
}

fn summary(gradient: Gradient, cost: Cost, wrote: PathBuf) -> Summary {
    let graph = &gradient.graph;
    let facts = graph.inputs().iter().map(|v| (graph.name_of(*v), graph.fact(*v).to_string()));
    Summary {
        wrote,
        opset: graph.opset(),
        nodes: graph.node_count(),
        inputs: facts.collect(),
        trained: gradient.trained,
        parameters: gradient.parameters,
        unreached: gradient.unreached,
        active_operators: gradient.active_operators,
        cost,
    }
}

fn print(s: Summary, format: Format) -> Result<(), Error> {
    if format == Format::Json {
        return render::json(&s);
    }
    let list = |items: Vec<String>| cell(&items.join(", "));
    let inputs = s.inputs.iter().map(|(n, f)| format!("{n}: {f}")).collect();
    let active = s.active_operators.iter().map(|(o, n)| format!("{o} x{n}")).collect();
    let mut out = format!("inputs            {}\n", list(inputs));
    out += &format!("gradients         {} tensors, {} parameters\n", s.trained.len(), s.parameters);
    if !s.unreached.is_empty() {
        const SHOWN: usize = 5;
        let shown = s.unreached.iter().take(SHOWN).cloned().collect();
        let more = if s.unreached.len() > SHOWN { ", ..." } else { "" };
        out += &format!("not reached       {}: {}{more}\n", s.unreached.len(), list(shown));
    }
    out += &format!("active nodes      {}\n", list(active));
    let c = &s.cost;
    for (what, amount, unit) in [
        ("forward", &c.flops_forward, "FLOP"),
        ("backward", &c.flops_backward, "FLOP"),
        ("activations", &c.activation_bytes, "bytes"),
    ] {
        let unknown = match amount.unknown {
            0 => String::new(),
            n => format!(" and {n} values or nodes of unknown shape"),
        };
        out += &format!("{what:<17} {} {unit}{unknown}\n", amount.number.map_or(amount.value.clone(), readable));
    }
    out +=
        &format!("wrote             {}: {} nodes, opset {}\n", cell(&s.wrote.display().to_string()), s.nodes, s.opset);
    render::text(&out)
}

/// `1234567` as `1.235e6`; small numbers as they are.
fn readable(n: i64) -> String {
    if n < 100_000 { n.to_string() } else { format!("{:.3e}", n as f64) }
}
