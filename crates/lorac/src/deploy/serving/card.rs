//! README.md: a model card, with what runs the model in Python and in Rust.

use super::answering;
use super::tokenizer::words_need_space;
use crate::deploy::Trained;
use crate::output::SourceCard;
use crate::served::Served;
use crate::source::{HubKind, Source};
use lorac_ir::{DType, escape_control};
use lorac_passes::fixed_input;
use lorac_train::{METRICS, Prediction, Scores};
use serde_json::{Value, json};

/// The snippet in Rust, which a test compiles and runs.
const RUST: &str = include_str!("snippet.rs");

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
    let (version, cut) = (&served.lorac_version, served.max_length);
    out += &format!(
        "\nTrained by lorac {version}; manifest.json beside it says all of it. Texts are cut to {cut} tokens.\n"
    );
    if !typed {
        out += "\nNothing says of what type the base model is, so config.json has no `model_type`, which AutoConfig of transformers needs: \
                add it where you know it. What is below needs none.\n";
    }
    out += &format!("\n## Python\n\n`pip install onnxruntime transformers`\n\n```python\n{}```\n", python(trained));
    // Without that it would be asked for a perplexity, which it has not.
    let writes = served.decoder_start.map(|_| "Options { writes: true, ..Options::default() }");
    let rust = RUST.replace("Options::default()", writes.unwrap_or("Options::default()"));
    out += &format!("\n## Rust\n\n```rust\n{rust}```\n\nWithout any code: `lorac predict . --text \"a fine film\"`.\n");
    out
}

/// The card's head, as model hubs read it.
fn front(trained: &Trained) -> String {
    let (plan, p) = (trained.plan, trained.pipeline);
    let answers = plan.served.decoder_start.is_some();
    let kind = if answers { "text2text-generation" } else { pipeline_tag(plan.served.predicts) };
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
fn pipeline_tag(kind: Prediction) -> &'static str {
    match kind {
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
    let what = match served.predicts {
        Prediction::Classes => {
            "the scores of a text, one for each label: the highest is the answer, softmax makes them probabilities"
        }
        Prediction::Labels => {
            "the scores of a text, one for each label, each by itself: the sigmoid makes them probabilities, those above 0.5 \
             are the answer"
        }
        Prediction::Values => "one number for a text",
        Prediction::Tags => "the scores of every token, one for each label: of a word, those of its first token count",
        Prediction::Tokens => "the scores of the token that follows, for every token of a text",
        Prediction::Masked => "the scores of every token of the vocabulary, for every token of a text",
        Prediction::Loss => "what it says of a text, as its teacher does",
        Prediction::Embeddings => {
            "the vector of a text: those of texts that belong together have a high cosine similarity"
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

/// The snippet in Python.
fn python(trained: &Trained) -> String {
    let plan = trained.plan;
    let served = &plan.served;
    if let Some(start) = served.decoder_start {
        return answering::python(plan, start);
    }
    let tags = served.predicts == Prediction::Tags;
    let feeds = plan.feeds.inputs.iter().filter_map(|b| {
        let of = match b.field.as_str() {
            "token_type_ids" => "batch.get(\"token_type_ids\", np.zeros_like(batch[\"input_ids\"]))".to_string(),
            "position_ids" => "np.maximum(batch[\"attention_mask\"].cumsum(1) - 1, 0)".to_string(),
            field if served.inputs.contains_key(field) => format!("batch[\"{field}\"]"),
            _ => return None,
        };
        let cast = if b.dtype == DType::I64 { "" } else { ".astype(np.int32)" };
        Some(format!("    {}: {of}{cast},\n", json!(b.input)))
    });
    let feeds: String = feeds.collect();
    let caches = plan.feeds.constants.iter().filter_map(|c| {
        let dims = c.dims.iter().map(|d| d.known().map_or("len(texts)".to_string(), |n| n.to_string()));
        let kind = match c.dtype {
            DType::F32 => "float32",
            DType::F16 => "float16",
            DType::Bool => "bool",
            DType::I64 => "int64",
            _ => return None,
        };
        Some(format!("    {}: np.zeros(({},), np.{kind}),\n", json!(c.name), dims.collect::<Vec<_>>().join(", ")))
    });
    let caches: String = caches.collect();
    let fixed = served.inputs.get("input_ids").map(|ids| fixed_input(&plan.readable, ids)).unwrap_or_default();
    // Some classes of tokenizers ask for the word, and others heed only the setting of what is behind them.
    let (space, behind) = match words_need_space(&plan.beside.tokenizer, served) {
        true => (", add_prefix_space=True", "tokenizer.backend_tokenizer.pre_tokenizer.add_prefix_space = True\n"),
        false => ("", ""),
    };
    let padding = if fixed.len.is_some() { "\"max_length\"" } else { "True" };
    let texts = match (fixed.rows, tags) {
        (Some(rows), _) => format!("texts = [\"a fine film\"] * {rows}  # as many as the model takes"),
        (None, _) => "texts = [\"a fine film\", \"a dull one\"]".to_string(),
    };
    let (given, words) = match (tags, &served.text_pair) {
        (true, _) => ("[text.split() for text in texts]", ", is_split_into_words=True"),
        (false, Some(_)) => ("texts, [\"this is the second text\"] * len(texts)", ""),
        (false, None) => ("texts", ""),
    };
    format!(
        "import json\n\nimport numpy as np\nimport onnxruntime as ort\nfrom transformers import AutoTokenizer\n\n\
         config = json.load(open(\"config.json\", encoding=\"utf-8\"))\n\
         tokenizer = AutoTokenizer.from_pretrained(\".\", padding_side=\"right\"{space})\n{behind}\
         session = ort.InferenceSession(\"model.onnx\")\n\n{texts}\n\
         batch = tokenizer({given}, padding={padding}, truncation=True, max_length={}, return_tensors=\"np\"{words})\n\
         feeds = {{\n{feeds}{caches}}}\n\
         scores = session.run([{}], feeds)[0].astype(np.float64)\n{}",
        served.max_length,
        json!(served.output),
        answers(served, is_probability(trained)),
    )
}

/// Whether the output is what a softmax or sigmoid has made already.
fn is_probability(trained: &Trained) -> bool {
    crate::served::is_probability(&trained.plan.readable, &trained.plan.served.output)
}

/// What becomes of the scores.
fn answers(served: &Served, done: bool) -> String {
    let softmax = "scores = np.exp(scores - scores.max(-1, keepdims=True))\nscores /= scores.sum(-1, keepdims=True)\n";
    match (served.predicts, done) {
        (Prediction::Classes, _) => {
            let softmax = if done { "" } else { softmax };
            format!(
                "{softmax}for text, row in zip(texts, scores):\n    \
                 print(config[\"id2label\"][str(row.argmax())], round(float(row.max()), 4), text, sep=\"\\t\")\n"
            )
        }
        (Prediction::Labels, _) => {
            let sigmoid = if done { "" } else { "scores = 1 / (1 + np.exp(-scores))\n" };
            format!(
                "{sigmoid}for text, row in zip(texts, scores):\n    \
                 print({{config[\"id2label\"][str(i)]: round(float(p), 4) for i, p in enumerate(row) if p > 0.5}}, text, sep=\"\\t\")\n"
            )
        }
        (Prediction::Loss, _) => "print(scores.round(4))\n".into(),
        (Prediction::Masked, _) => "print(tokenizer.batch_decode(scores.argmax(-1)))\n".into(),
        (Prediction::Values, _) => {
            "for text, row in zip(texts, scores.reshape(len(scores), -1)):\n    print(round(float(row[0]), 4), text, sep=\"\\t\")\n".into()
        }
        (Prediction::Embeddings, _) => {
            "scores /= np.linalg.norm(scores, axis=1, keepdims=True)\nprint((scores @ scores.T).round(4))\n".into()
        }
        (Prediction::Tags, _) => "for i, text in enumerate(texts):\n    words, ids = text.split(), batch.word_ids(i)\n    \
             first = {w: ids.index(w) for w in range(len(words)) if w in ids}\n    \
             print(*(f\"{words[w]}/{config['id2label'][str(scores[i, at].argmax())]}\" for w, at in first.items()))\n"
            .into(),
        (Prediction::Tokens, _) => format!(
            "{softmax}for i, text in enumerate(texts):\n    n = int(batch[\"attention_mask\"][i].sum())\n    \
             next_token = scores[i, np.arange(n - 1), batch[\"input_ids\"][i, 1:n]]\n    \
             print(\"perplexity\", float(np.exp(-np.log(next_token).mean())), text, sep=\"\\t\")\n"
        ),
    }
}

/// A text of the user's as Markdown shows code, on one line.
fn code(text: &str) -> String {
    format!("`{}`", plain(text).replace('`', "'"))
}

/// The same without marks.
fn plain(text: &str) -> String {
    escape_control(text).replace(['\n', '\t'], " ").replace('|', "\\|")
}
