//! README.md: a model card, with what runs the model in Python and in Rust.

use super::python::python;
use crate::deploy::Trained;
use crate::output::SourceCard;
use crate::served::{Reads, Served};
use crate::source::{HubKind, Source};
use lorac_ir::escape_control;
use lorac_train::{METRICS, Prediction, Scores};
use serde_json::{Value, json};

/// The snippet in Rust, which a test compiles and runs.
const RUST: &str = include_str!("snippet.rs");

/// The same of a model of images.
const RUST_IMAGES: &str = include_str!("snippet_images.rs");

/// The card of a model; without scores before they are known.
/// `typed` says whether config.json has a model type.
pub(super) fn card(trained: &Trained, typed: bool) -> String {
    let (plan, p) = (trained.plan, trained.pipeline);
    let served = &plan.served;
    let mut out = format!("{}\n# {}\n\n{}\n", front(trained), plain(&p.name), about(served));
    if !served.labels.is_empty() {
        let labels = served.labels.iter().enumerate().map(|(i, label)| format!("| {i} | {} |\n", code(label)));
        out += &format!("\n| output | label |\n|---|---|\n{}", labels.collect::<String>());
    }
    if let Some((before, after)) = trained.scores.filter(|(_, after)| !after.scores.is_empty()) {
        out += &format!("\n## How good it is\n\nOn {} that were held out:\n\n{}", after.count, scores(before, after));
    }
    out += "\n## What it was made of\n\n";
    for input in &plan.inputs {
        out += &format!("- {}: {}, sha256 `{}`\n", code(&input.role), code(&input.source), input.sha256);
    }
    let card = plan.data_card();
    let (train, eval) = (&card.train, card.eval.as_ref());
    out += &match &train.stream {
        None => format!("- {} examples to learn from", train.examples),
        Some(stream) => format!("- A stream to learn from: {}", stream.describe()),
    };
    out += &eval.map_or(".\n".to_string(), |eval| format!(", {} held out.\n", eval.examples));
    let of_images = served.reads == Reads::Images;
    let cut = match served.images.as_ref().and_then(|made| made.dims()) {
        Some([height, width]) => format!("Images are made {height} x {width} pixels."),
        None => format!("Texts are cut to {} tokens.", served.max_length),
    };
    out += &format!("\nTrained by lorac {}; manifest.json beside it says all of it. {cut}\n", served.lorac_version);
    if !typed {
        out += "\nNothing says of what type the base model is, so config.json has no `model_type`, which AutoConfig of transformers needs: \
                add it where you know it. What is below needs none.\n";
    }
    let package = if of_images { "pillow" } else { "transformers" };
    out += &format!("\n## Python\n\n`pip install onnxruntime {package}`\n\n```python\n{}```\n", python(trained));
    if served.answers() {
        // Without that it would be asked for a perplexity, which it has not.
        let writes = served.decoder_start.map(|_| "Options { writes: true, ..Options::default() }");
        let (rust, ask) = match of_images {
            true => (RUST_IMAGES, "photo.png"),
            false => (RUST, "--text \"a fine film\""),
        };
        let rust = rust.replace("Options::default()", writes.unwrap_or("Options::default()"));
        out += &format!("\n## Rust\n\n```rust\n{rust}```\n\nWithout any code: `lorac predict . {ask}`.\n");
    }
    out
}

/// The card's head, as model hubs read it.
fn front(trained: &Trained) -> String {
    let (plan, p) = (trained.plan, trained.pipeline);
    let answers = plan.served.decoder_start.is_some();
    let kind = if answers { "text2text-generation" } else { pipeline_tag(plan.served.predicts, plan.served.reads) };
    let mut lines = Vec::new();
    if let Source::Hf { kind: HubKind::Model, org, name, .. } = &p.model.source {
        lines.push(format!("base_model: {}", json!(format!("{org}/{name}"))));
    }
    lines.push(format!("library_name: onnx\npipeline_tag: {kind}\ntags: [onnx, lorac]"));
    if let Some((_, after)) = trained.scores.filter(|(_, after)| !after.scores.is_empty()) {
        let metrics: Vec<Value> = after.scores.iter().map(|s| json!({ "type": s.name, "value": s.value })).collect();
        let dataset = json!({ "name": sources(trained), "type": "held-out" });
        let result = json!({ "task": { "type": kind }, "dataset": dataset, "metrics": metrics });
        lines.push(format!("model-index: {}", json!([{ "name": p.name, "results": [result] }])));
    }
    let read =
        plan.inputs.iter().map(|input| json!({ "role": input.role, "source": input.source, "sha256": input.sha256 }));
    let about =
        json!({ "version": plan.served.lorac_version, "task": plan.served.task, "inputs": read.collect::<Vec<_>>() });
    lines.push(format!("lorac: {about}"));
    format!("---\n{}\n---\n", lines.join("\n"))
}

/// What was held out, in words.
fn sources(trained: &Trained) -> String {
    let card = &trained.plan.card;
    let of = |sources: &[SourceCard]| sources.iter().map(|s| s.source.clone()).collect::<Vec<_>>().join(", ");
    match card.eval.as_ref().map(|eval| of(&eval.sources)).filter(|names| !names.is_empty()) {
        Some(names) => names,
        None => format!("a part of {}", of(&card.train.sources)),
    }
}

/// What model hubs call such a model.
fn pipeline_tag(kind: Prediction, reads: Reads) -> &'static str {
    match kind {
        Prediction::Classes | Prediction::Labels if reads == Reads::Images => "image-classification",
        Prediction::Values | Prediction::Embeddings if reads == Reads::Images => "image-feature-extraction",
        Prediction::Classes | Prediction::Labels | Prediction::Values => "text-classification",
        Prediction::Tags => "token-classification",
        Prediction::Tokens => "text-generation",
        Prediction::Embeddings => "sentence-similarity",
        Prediction::Masked => "fill-mask",
        Prediction::Loss => "other",
    }
}

/// What the outputs mean.
fn about(served: &Served) -> String {
    let output = code(&served.output);
    let one = if served.reads == Reads::Images { "an image" } else { "a text" };
    let what = match served.predicts {
        Prediction::Classes => format!(
            "the scores of {one}, one for each label: the highest is the answer, softmax makes them probabilities"
        ),
        Prediction::Labels => format!(
            "the scores of {one}, one for each label, each by itself: the sigmoid makes them probabilities, those above 0.5 \
             are the answer"
        ),
        Prediction::Values => format!("one number for {one}"),
        Prediction::Tags => {
            "the scores of every token, one for each label: of a word, those of its first token count".to_string()
        }
        Prediction::Tokens => "the scores of the token that follows, for every token of a text".to_string(),
        Prediction::Masked => "the scores of every token of the vocabulary, for every token of a text".to_string(),
        Prediction::Loss => format!("what it says of {one}, as it was taught"),
        Prediction::Embeddings => {
            format!("the vector of {one}: those of what belongs together have a high cosine similarity")
        }
    };
    let what_pools = if served.predicts == Prediction::Embeddings { "It is made of" } else { "Its head reads" };
    let pool =
        served.pool.map_or(String::new(), |pool| format!(" {what_pools} the hidden states by `{pool}` pooling."));
    format!("An ONNX model ({}). Its output {output} has {what}.{pool}", code(&served.task))
}

fn scores(before: &Scores, after: &Scores) -> String {
    let mut out = "| metric | before | after |\n|---|---|---|\n".to_string();
    for score in &after.scores {
        let about = METRICS.iter().find(|m| m.0 == score.name).map_or("", |m| m.1.definition().about);
        let old = before.get(&score.name).map_or(String::new(), |x| format!("{x:.4}"));
        out += &format!("| {} ({about}) | {old} | {:.4} |\n", score.name, score.value);
    }
    out
}

/// A text of the user's as Markdown shows code, on one line.
fn code(text: &str) -> String {
    format!("`{}`", plain(text).replace('`', "'"))
}

/// The same without marks.
fn plain(text: &str) -> String {
    escape_control(text).replace(['\n', '\t'], " ").replace('|', "\\|")
}
