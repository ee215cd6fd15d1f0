//! Results and errors, for people and for machines.

use super::args::Format;
use crate::diagnostic::diagnostics;
use crate::doctor::Finding;
use crate::terminal::{self, cell};
use lorac::error::Error;
use lorac::explain::Explanation;
use lorac::inspect::Summary;
use lorac::run::Outcome;
use lorac::source::Resolved;
use serde::Serialize;
use std::path::Path;

pub(super) fn text(text: &str) -> Result<(), Error> {
    terminal::print(text)
}

pub(super) fn json(value: &impl Serialize) -> Result<(), Error> {
    let text = serde_json::to_string_pretty(value).map_err(|e| Error::Usage(e.to_string()))?;
    terminal::print_json(&text)
}

pub(super) fn error(error: &Error, format: Format) {
    if format == Format::Json {
        let issues = match error {
            Error::Pipeline(p) => serde_json::to_value(&p.issues).unwrap_or_default(),
            _ => serde_json::Value::Null,
        };
        let value = serde_json::json!({
            "error": error.to_string(),
            "code": error.code(),
            "class": error.class(),
            "exit_code": error.exit_code(),
            "issues": issues,
        });
        terminal::say_json(&value.to_string());
        return;
    }
    match error {
        Error::Pipeline(p) => diagnostics(p).for_each(|d| terminal::say_drawn(&miette::Report::new(d))),
        other => {
            terminal::say(&format!("error[{}]: {other}", other.code()));
            if let Some(advice) = other.advice() {
                terminal::say(&format!("  help: {advice}"));
            }
        }
    }
    // Of the others the message is all there is to say.
    if error.code().contains("::") {
        terminal::say(&format!("for more: lorac explain {}", error.code()));
    }
}

pub(super) fn outcome(outcome: &Outcome, out: &Path, format: Format) -> Result<(), Error> {
    let m = &outcome.manifest;
    if format == Format::Json {
        return json(m);
    }
    let pairs = m.eval.before.scores.iter().zip(&m.eval.after.scores);
    let mut lines: String = pairs.map(|(b, a)| format!("{:<9} {:.4} -> {:.4}\n", a.name, b.value, a.value)).collect();
    for artifact in m.artifacts.iter().map(|a| a.path.as_str()).chain(["manifest.json"]) {
        lines.push_str(&format!("wrote     {}\n", cell(&out.join(artifact).display().to_string())));
    }
    text(&lines)
}

/// A file that was put into the cache.
pub(super) fn added(added: &Resolved, format: Format) -> Result<(), Error> {
    match format {
        Format::Json => json(&serde_json::json!({ "sha256": added.sha256, "path": added.path })),
        Format::Text => text(&format!("{}  {}\n", added.sha256, cell(&added.path.display().to_string()))),
    }
}

pub(super) fn summary(s: &Summary, format: Format) -> Result<(), Error> {
    match format {
        Format::Json => json(s),
        _ => text(&summary_text(s)),
    }
}

/// Every name is a [`cell`].
fn summary_text(s: &Summary) -> String {
    let list = |items: &[(String, String)]| {
        items.iter().map(|(n, f)| format!("  {}: {}\n", cell(n), cell(f))).collect::<String>()
    };
    let mut out = if s.name.is_empty() { "(no name)\n".to_owned() } else { format!("{}\n", cell(&s.name)) };
    let opsets: Vec<String> = s.opsets.iter().map(|(d, v)| format!("{} {v}", cell(d))).collect();
    out += &format!("opset {}; {} nodes; {} parameters", opsets.join(", "), s.nodes, s.parameters);
    out += &format!("; {:.1} MB of weights\n", s.weight_bytes as f64 / 1e6);
    out += &format!("inputs\n{}outputs\n{}", list(&s.inputs), list(&s.outputs));
    let operators: Vec<String> = s.operators.iter().map(|(o, n)| format!("{} x{n}", cell(o))).collect();
    out += &format!("operators\n  {}\n", operators.join(", "));
    out += "matrices that can be adapted\n";
    let names: Vec<String> = s.matrices.iter().map(|m| cell(&m.name)).collect();
    let width = names.iter().map(String::len).max().unwrap_or(0);
    for (m, name) in s.matrices.iter().zip(names) {
        let [rows, cols] = m.shape;
        let shape = format!("{rows} x {cols}");
        let roles = if m.slices.is_empty() { m.roles.join(", ") } else { m.slices.join("; ") };
        out += &format!("  {name:width$}  {shape:>13}  {}\n", cell(&roles));
    }
    for left in &s.left_out {
        out += &format!("left out by all-linear: {}, which is {}\n", cell(&left.name), cell(&left.why.to_string()));
    }
    for (op, why) in &s.without_gradient {
        out += &format!("no gradient through {}: {}\n", cell(op), cell(why));
    }
    if let Some(problem) = &s.problem {
        out += &format!("problem: {}\n", cell(problem));
    }
    out
}

pub(super) fn doctor(found: &[Finding], format: Format) -> Result<(), Error> {
    if format == Format::Json {
        return json(&found);
    }
    let line = |f: &Finding| format!("{} {}\n     {}\n", if f.ok { "ok  " } else { "no  " }, f.what, f.detail);
    text(&found.iter().map(line).collect::<String>())
}

pub(super) fn explanation(found: &Explanation, format: Format) -> Result<(), Error> {
    if format == Format::Json {
        return json(found);
    }
    text(&format!("{} ({}, exit code {})\n\n{}\n", found.code, found.class, found.class.exit_code(), found.text))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_forges_no_line() {
        let model = lorac::ir::Graph::new("", 17);
        let mut summary = lorac::inspect::summary(&model, &[]);
        let honest = summary_text(&summary).lines().count();
        let forged = "x\nproblem: none\n".to_owned();
        (summary.name, summary.problem) = (forged.clone(), Some(forged.clone()));
        summary.opsets.insert(forged.clone(), 1);
        summary.inputs = vec![(forged.clone(), forged.clone())];
        summary.operators.insert(forged.clone(), 1);
        summary.without_gradient.insert(forged.clone(), forged);
        let text = summary_text(&summary);
        assert_eq!(text.lines().count(), honest + 3, "{text}");
        assert!(text.starts_with("x\\nproblem: none\\n\n"), "{text}");
    }
}
