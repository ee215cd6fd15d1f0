//! report.html: one page that says what was asked, what was done and how good it is. It needs nothing but itself.

use super::{DataCard, Lengths, Manifest, OutputError, SplitCard, Status, WrittenTexts};
use lorac_train::{Breakdown, ClassScores, Event, Mistake, OtherClasses, Score, Scores};
use plotters::prelude::*;
use serde_json::Value;
use std::fmt::Write;
use std::path::Path;

const STYLE: &str = include_str!("report.css");

/// The page.
pub fn report(m: &Manifest, steps: &[Event]) -> Result<String, OutputError> {
    let (before, after) = (&m.eval.before, &m.eval.after);
    let verdict = if m.verify.passed { "passed" } else { "failed" };
    let mut page = String::new();
    let title = escape(&m.pipeline.name);
    let _ = write!(
        page,
        "<!doctype html><html lang=\"en\"><meta charset=\"utf-8\"><meta name=\"viewport\" \
         content=\"width=device-width\"><title>{title}: lorac</title><style>{STYLE}</style><main><h1>{title}</h1>\
         <p class=\"lead\">{} Verification {verdict}.</p>",
        headline(before, after),
    );
    for gate in &m.gates {
        let _ = write!(page, "<p class=\"missed\">Gate missed: {}.</p>", escape(&gate.message));
    }
    if m.status == Status::Rejected {
        let rejected = "The result is rejected: its files have names with <code>rejected</code>.";
        let _ = write!(page, "<p class=\"missed\">{rejected}</p>");
    }
    for note in &m.notes {
        let _ = write!(page, "<p>Note: {}.</p>", escape(note.trim_end_matches('.')));
    }
    let row = |name: &str, a: f64, b: f64| format!("<tr><th>{}<td>{b:.4}<td>{a:.4}<td>{:+.4}", escape(name), a - b);
    let pairs = after.scores.iter().zip(&before.scores);
    let scores: Vec<String> = pairs.map(|(a, b)| row(&a.name, a.value, b.value)).collect();
    if !scores.is_empty() {
        section(&mut page, "Before and after", &table(&["", "before", "after", "change"], &scores));
    }
    if let Some(by_class) = &m.eval.by_class {
        section(&mut page, "By class", &breakdown(by_class));
    }
    if !m.eval.texts.is_empty() {
        section(&mut page, "What it writes", &written(&m.eval.texts));
    }
    section(&mut page, "Data", &data(&m.data));
    let chart = curve(steps).map_err(|e| OutputError::content(Path::new("report.html"), e))?;
    let rate = format!(
        "{} steps in {:.1} s, {:.0} tokens a second; loss {:.4} at first, {:.4} over the last tenth.",
        m.train.steps, m.train.seconds, m.train.tokens_per_second, m.train.loss_first, m.train.loss_last
    );
    section(&mut page, "Loss", &format!("<figure>{chart}<figcaption>{}</figcaption></figure>", escape(&rate)));
    section(&mut page, "What was asked", &asked(m));
    let targets: Vec<String> = m
        .targets
        .iter()
        .map(|t| {
            let (name, roles) = (escape(&t.name), escape(&t.roles.join(", ")));
            let shape = t.shape.iter().map(ToString::to_string).collect::<Vec<_>>().join(" x ");
            let rank = t.rank.map_or("-".to_string(), |r| r.to_string());
            let scale = t.scale.map_or("-".to_string(), |s| s.to_string());
            let facts = [roles, shape, rank, scale];
            format!("<tr><td>{name}{}", facts.map(whole).concat())
        })
        .collect();
    let share = 100.0 * m.trainable_parameters as f64 / m.model_parameters.max(1) as f64;
    let count = format!(
        "<p>{} weights, {} trained parameters, {share:.2} % of the model's {}.</p>",
        m.targets.len(),
        m.trainable_parameters,
        m.model_parameters
    );
    let matched = table(&["weight", "role", "in x out", "LoRA rank r", "alpha / r"], &targets);
    section(&mut page, "What was matched", &(count + &matched));
    section(&mut page, "Verification", &verification(m));
    let files: Vec<String> = m
        .artifacts
        .iter()
        .map(|a| {
            let facts = [a.kind.clone(), a.size.to_string()];
            format!("<tr><td>{}{}<td><code>{}</code>", escape(&a.path), facts.map(whole).concat(), a.sha256)
        })
        .collect();
    if !files.is_empty() {
        section(&mut page, "Files", &table(&["file", "kind", "bytes", "sha256"], &files));
    }
    page.push_str("</main></html>\n");
    Ok(page)
}

/// Texts that the model writes behind prompts.
fn written(texts: &[WrittenTexts]) -> String {
    let row = |one: &WrittenTexts| {
        let references = one.references.iter().map(|text| escape(text)).collect::<Vec<_>>().join("<br>");
        let [prompt, before, after] = [&one.prompt, &one.before, &one.after].map(|text| escape(text));
        format!("<tr><td>{prompt}<td>{before}<td>{after}<td>{references}")
    };
    table(&["prompt", "before", "after", "references"], &texts.iter().map(row).collect::<Vec<_>>())
}

/// The telling score, and how it changed.
fn headline(before: &Scores, after: &Scores) -> String {
    let Some(Score { name, value, .. }) = after.scores.first() else {
        return "Nothing is held out to evaluate on.".into();
    };
    let name = name.chars().take(1).flat_map(char::to_uppercase).chain(name.chars().skip(1)).collect::<String>();
    let before = before.scores.first().map_or(f64::NAN, |s| s.value);
    format!("{} <b>{value:.4}</b>, {before:.4} before training, on {} held out.", escape(&name), after.count)
}

/// The scores of every class, and which are taken for which.
fn breakdown(b: &Breakdown) -> String {
    let rows = |classes: &[ClassScores], others: &Option<OtherClasses>| -> Vec<String> {
        let row = |c: &ClassScores| {
            let cells = [c.precision, c.recall, c.f1].map(|x| format!("<td>{x:.4}")).concat();
            format!("<tr><td>{}{cells}<td>{}", escape(&c.name), c.support)
        };
        let other =
            |o: &OtherClasses| format!("<tr><td>{} others<td>-<td>-<td>{:.4}<td>{}", o.count, o.f1_macro, o.support);
        classes.iter().map(row).chain(others.iter().map(other)).collect()
    };
    const SCORES: [&str; 4] = ["precision", "recall", "F1", "support"];
    let scores = |what: &'static str, rows: &[String]| table(&[&[what], &SCORES[..]].concat(), rows);
    let mut text = String::new();
    if !b.spans.is_empty() {
        text += "<p>Spans, which are right where their kind and both of their ends are:</p>";
        text += &scores("kind", &rows(&b.spans, &b.other_spans));
        text += "<p>Tokens by their tags:</p>";
    }
    text += &scores("class", &rows(&b.classes, &b.other_classes));
    if let Some(counts) = &b.confusion {
        text += &matrix(&b.classes, counts);
    }
    if !b.mistakes.is_empty() {
        let row = |m: &Mistake| format!("<tr><td>{}<td>{}<td>{}", escape(&m.class), escape(&m.predicted), m.count);
        let rows: Vec<String> = b.mistakes.iter().map(row).collect();
        text += &format!("<p>The most frequent mistakes:</p>{}", table(&["true", "predicted", "times"], &rows));
    }
    if b.unpredicted > 0 {
        text += &format!("<p>Nothing is predicted for {}: their logits are no numbers.</p>", b.unpredicted);
    }
    text
}

/// Counts by true class, then by predicted one. Columns of many classes have numbers for names.
fn matrix(classes: &[ClassScores], counts: &[Vec<u64>]) -> String {
    const NARROW: usize = 6;
    let numbered = classes.len() > NARROW;
    let name = |(i, c): (usize, &ClassScores)| match numbered {
        true => format!("{} {}", i + 1, escape(&c.name)),
        false => escape(&c.name),
    };
    let names: Vec<String> = classes.iter().enumerate().map(name).collect();
    let column = |(i, name): (usize, &String)| if numbered { (i + 1).to_string() } else { name.clone() };
    let columns: Vec<String> = names.iter().enumerate().map(column).collect();
    let row = |(i, (name, counts)): (usize, (&String, &Vec<u64>))| {
        let cell = |(j, n): (usize, &u64)| whole(if i == j { format!("<b>{n}</b>") } else { n.to_string() });
        format!("<tr><th>{name}{}", counts.iter().enumerate().map(cell).collect::<String>())
    };
    let rows: Vec<String> = names.iter().zip(counts).enumerate().map(row).collect();
    let head: Vec<&str> = ["true \\ predicted"].into_iter().chain(columns.iter().map(String::as_str)).collect();
    format!("<p>What is taken for what:</p>{}", table(&head, &rows))
}

fn verification(m: &Manifest) -> String {
    let v = &m.verify;
    let cells = [
        (
            "largest difference of outputs",
            format!("{:.3e}, at most {:.0e} accepted ({})", v.max_abs_diff, v.tolerance, v.tolerance_by),
        ),
        ("bytes changed outside the targets", v.changed_bytes_outside_targets.to_string()),
        ("nodes", format!("{} before, {} after, {} of them the head", v.nodes_before, v.nodes_after, v.nodes_of_head)),
        ("bytes inserted (the head)", v.inserted_bytes.to_string()),
    ];
    let rows: Vec<String> = cells.iter().map(|(k, v)| format!("<tr><th>{k}<td>{v}")).collect();
    format!(
        "<p>Base model with adapter beside it against the deployed model, {} batches of held-out examples: <b>{}</b>.</p>{}",
        v.samples,
        if v.passed { "passed" } else { "failed" },
        table(&[], &rows)
    )
}

/// The data card.
fn data(card: &DataCard) -> String {
    let warnings: String = card.warnings.iter().map(|w| format!("<p class=\"missed\">{}.</p>", escape(w))).collect();
    let splits: Vec<(&str, &SplitCard)> =
        std::iter::once(("train", &card.train)).chain(card.eval.iter().map(|eval| ("held out", eval))).collect();
    type Say = fn(&SplitCard) -> String;
    let facts: [(&str, Say); 12] = [
        ("rows read", |s| s.read.to_string()),
        ("filtered out", |s| s.filtered.to_string()),
        ("wrong, left out", |s| s.skipped.to_string()),
        ("not taken", |s| s.unselected.to_string()),
        ("dropped or split off because held out", |s| (s.held_out + s.split_off).to_string()),
        ("examples", |s| s.examples.to_string()),
        ("drawn in an epoch", |s| s.drawn.to_string()),
        ("duplicates", |s| s.duplicates.to_string()),
        ("tokens: 50 %, 90 %, 99 %, most", |s| {
            let Lengths { p50, p90, p99, max, .. } = s.lengths;
            format!("{p50}, {p90}, {p99}, {max}")
        }),
        ("texts cut, tokens lost", |s| {
            let least = if s.truncated.at_least { "at least " } else { "" };
            format!("{}, {least}{}", s.truncated.texts, s.truncated.tokens)
        }),
        ("unknown tokens", |s| format!("{} ({:.2} %)", s.unknown.tokens, 100.0 * s.unknown.share)),
        ("tokens", |s| s.lengths.total.to_string()),
    ];
    let row = |name: &str, cells: Vec<String>| {
        format!("<tr><th>{}{}", escape(name), cells.iter().map(|c| format!("<td>{}", escape(c))).collect::<String>())
    };
    let mut rows: Vec<String> =
        facts.iter().map(|(name, say)| row(name, splits.iter().map(|(_, split)| say(split)).collect())).collect();
    for (at, label) in card.train.labels.iter().enumerate() {
        let count = |split: &SplitCard| split.labels.get(at).map_or(0, |l| l.examples).to_string();
        rows.push(row(&format!("label {}", label.name), splits.iter().map(|(_, split)| count(split)).collect()));
    }
    let head: Vec<&str> = std::iter::once("").chain(splits.iter().map(|(name, _)| *name)).collect();
    let stream = card.train.stream.as_ref().map_or(String::new(), |stream| {
        format!("<p>Of the stream: {}. The table is of what comes first.</p>", escape(&stream.describe()))
    });
    warnings + &stream + &table(&head, &rows)
}

fn asked(m: &Manifest) -> String {
    let mut rows: Vec<String> = vec![
        format!("<tr><th>pipeline<td>{}", escape(&m.pipeline.path)),
        format!("<tr><th>engine<td>{}: {}", escape(&m.runtime.engine), escape(&m.runtime.reason)),
    ];
    for input in &m.inputs {
        rows.push(format!("<tr><th>{}<td>{}", escape(&input.role), escape(&input.source)));
    }
    for key in ["task", "adapt", "train"] {
        let text = m.pipeline.resolved.get(key).map(|v| given(v).to_string()).unwrap_or_default();
        rows.push(format!("<tr><th>{key}<td><code>{}</code>", escape(&text)));
    }
    table(&[], &rows)
}

/// A value without the keys that are left open.
fn given(value: &Value) -> Value {
    let is_open = |v: &Value| v.is_null() || v.as_array().is_some_and(Vec::is_empty);
    match value {
        Value::Object(map) => map.iter().filter(|(_, v)| !is_open(v)).map(|(key, v)| (key.clone(), given(v))).collect(),
        Value::Array(all) => all.iter().map(given).collect(),
        other => other.clone(),
    }
}

fn section(page: &mut String, title: &str, body: &str) {
    let _ = write!(page, "<section><h2>{title}</h2>{body}</section>");
}

fn table(head: &[&str], rows: &[String]) -> String {
    let head: String = head.iter().map(|h| format!("<th>{h}")).collect();
    format!("<div class=\"scroll\"><table><thead><tr>{head}</thead><tbody>{}</tbody></table></div>", rows.join(""))
}

/// A cell that is not broken into lines.
fn whole(text: String) -> String {
    format!("<td class=\"whole\">{text}")
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

/// The loss of every step, and its running mean, as SVG.
fn curve(steps: &[Event]) -> Result<String, String> {
    let points: Vec<(f64, f64)> = steps.iter().map(|s| (s.step as f64, s.loss)).collect();
    if points.is_empty() {
        return Ok(String::new());
    }
    let width = (points.len() / 20).max(1);
    let smooth: Vec<(f64, f64)> = (0..points.len())
        .map(|i| {
            let window = &points[i.saturating_sub(width)..(i + width + 1).min(points.len())];
            (points[i].0, window.iter().map(|p| p.1).sum::<f64>() / window.len() as f64)
        })
        .collect();
    let top = points.iter().map(|p| p.1).fold(f64::MIN, f64::max) * 1.05;
    let last = points.last().map_or(1.0, |p| p.0).max(2.0);
    let mut svg = String::new();
    {
        let area = SVGBackend::with_string(&mut svg, (860, 320)).into_drawing_area();
        let mut chart = ChartBuilder::on(&area)
            .margin(12)
            .x_label_area_size(36)
            .y_label_area_size(52)
            .build_cartesian_2d(1.0..last, 0.0..top.max(1e-6))
            .map_err(|e| e.to_string())?;
        let grey = RGBColor(128, 128, 128);
        chart
            .configure_mesh()
            .light_line_style(TRANSPARENT)
            .bold_line_style(grey.mix(0.25))
            .axis_style(grey)
            .label_style(("sans-serif", 13).into_font().color(&grey))
            .x_desc("step")
            .y_desc("loss")
            .x_label_formatter(&|x| format!("{x:.0}"))
            .draw()
            .map_err(|e| e.to_string())?;
        let raw = points.iter().map(|p| Circle::new(*p, 2, RGBColor(70, 130, 220).mix(0.6).filled()));
        chart.draw_series(raw).map_err(|e| e.to_string())?;
        let line = LineSeries::new(smooth, RGBColor(220, 90, 40).stroke_width(2));
        chart.draw_series(line).map_err(|e| e.to_string())?;
        area.present().map_err(|e| e.to_string())?;
    }
    Ok(svg)
}
