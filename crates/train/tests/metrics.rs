//! Metrics against the numbers of scikit-learn, scipy and seqeval, which `tests/truth/metrics.py` writes, and of sacrebleu and
//! rouge-score, which `tests/truth/text_metrics.py` does.

use lorac_train::{Evaluation, Generated, METRICS, Prediction};
use serde::Deserialize;
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

#[derive(Deserialize)]
struct Case {
    name: String,
    kind: String,
    width: usize,
    predictions: Vec<f32>,
    targets: Vec<f64>,
    #[serde(default)]
    classes: Vec<String>,
    counts: Option<Vec<usize>>,
    want: BTreeMap<String, Option<f64>>,
}

impl Case {
    fn evaluation(&self) -> Evaluation {
        let kind = match self.kind.as_str() {
            "classes" => Prediction::Classes,
            "labels" => Prediction::Labels,
            "values" => Prediction::Values,
            "tags" => Prediction::Tags,
            other => panic!("{other}"),
        };
        let rows = self.predictions.len() / self.width;
        Evaluation {
            predictions: self.predictions.clone(),
            width: self.width,
            targets: self.targets.clone(),
            counts: self.counts.clone().unwrap_or_else(|| vec![1; rows]),
            classes: self.classes.clone(),
            ..Evaluation::new(kind)
        }
    }
}

#[test]
fn scores_are_those_of_the_libraries_that_define_them() {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/data/truth/metrics/cases.json");
    let text = std::fs::read_to_string(file).expect("the cases");
    let (mut wrong, mut seen) = (Vec::new(), BTreeSet::new());
    for line in text.lines() {
        let case: Case = serde_json::from_str(line).expect("a case");
        let evaluation = case.evaluation();
        for (name, want) in &case.want {
            let metric = lorac_train::metric(name).unwrap_or_else(|| panic!("{name}"));
            assert!(metric.suits(evaluation.kind), "{name} of {}", case.kind);
            let got = metric.score(&evaluation);
            let right = match want {
                Some(want) => (got - want).abs() <= 1e-12 * want.abs().max(1.0),
                None => got.is_nan(),
            };
            if !right {
                wrong.push(format!("{}: {name} is {got}, not {want:?}", case.name));
            }
            seen.insert((name.clone(), case.kind.clone()));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    let of_numbers = METRICS.iter().filter(|m| !m.1.reads_texts());
    let of_ranks = ["recall_at_1", "recall_at_5", "recall_at_10", "mrr"];
    let without = of_numbers.map(|m| m.0).filter(|name| seen.iter().all(|s| s.0 != *name) && !of_ranks.contains(name));
    let without: Vec<&str> = without.collect();
    assert_eq!(without, ["perplexity", "loss"], "which no such library has");
}

#[derive(Deserialize)]
struct TextCase {
    name: String,
    texts: Vec<(String, Vec<String>)>,
    want: BTreeMap<String, f64>,
}

#[test]
fn scores_of_texts_are_those_of_sacrebleu_and_rouge_score() {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/data/truth/metrics/texts.json");
    let text = std::fs::read_to_string(file).expect("the cases");
    let names: BTreeSet<&str> = METRICS.iter().filter(|m| m.1.reads_texts()).map(|m| m.0).collect();
    let (mut wrong, mut cases) = (Vec::new(), 0);
    for line in text.lines() {
        let case: TextCase = serde_json::from_str(line).expect("a case");
        assert!(case.want.keys().map(String::as_str).eq(names.iter().copied()), "{}", case.name);
        let one = |(text, references)| Generated { prompt: String::new(), text, references };
        let texts = case.texts.into_iter().map(one).collect();
        let evaluation = Evaluation { texts, ..Evaluation::new(Prediction::Tokens) };
        for (name, want) in &case.want {
            let metric = lorac_train::metric(name).unwrap_or_else(|| panic!("{name}"));
            let got = metric.score(&evaluation);
            if (got - want).abs() > 1e-12 * want.max(1.0) {
                wrong.push(format!("{}: {name} is {got}, not {want}", case.name));
            }
        }
        cases += 1;
    }
    assert!(wrong.is_empty() && cases > 30, "{}", wrong.join("\n"));
}

/// What stands for the generated part in docs/metrics.md.
const MARK: &str = "<!-- Written by LORAC_BLESS=1 cargo test -p lorac-train --test metrics -->\n";

fn names(kind: Prediction) -> &'static str {
    match kind {
        Prediction::Classes => "a class an example",
        Prediction::Labels => "several labels an example",
        Prediction::Values => "a number an example",
        Prediction::Tags => "a class a token",
        Prediction::Tokens => "the next token",
        Prediction::Embeddings => "a vector a text",
        Prediction::Masked => "the hidden tokens",
        Prediction::Loss => "the loss alone",
    }
}

#[test]
fn texts_without_references_have_nothing_in_common_with_them() {
    let text = Generated { prompt: String::new(), text: "a b c d e".into(), references: Vec::new() };
    let evaluation = Evaluation { texts: vec![text], ..Evaluation::new(Prediction::Tokens) };
    for (name, metric) in METRICS.iter().filter(|m| m.1.reads_texts()) {
        let score = metric.score(&evaluation);
        assert!(score == 0.0 || score.is_nan(), "{name}: {score}");
    }
}

fn table() -> String {
    let mut text = String::from("| metric | what it is | formula | worst to best | of |\n|---|---|---|---|---|\n");
    for (name, metric) in METRICS {
        let about = metric.definition();
        let of: Vec<&str> = match about.suits.len() == Prediction::ALL.len() {
            true => vec!["all"],
            false => about.suits.iter().map(|kind| names(*kind)).collect(),
        };
        let classes = about.classes.map_or(String::new(), |n| format!(", of {n} classes"));
        let (formula, of) = (about.formula.replace('|', "\\|"), of.join(", ") + &classes);
        let of = if metric.reads_texts() { "texts that the model writes".to_string() } else { of };
        text += &format!("| `{name}` | {} | {formula} | {} | {of} |\n", about.about, about.range);
    }
    text += "\n| metric | the same elsewhere | also called |\n|---|---|---|\n";
    for (name, metric) in METRICS {
        let about = metric.definition();
        let also: Vec<String> = about.synonyms.iter().map(|name| format!("`{name}`")).collect();
        text += &format!("| `{name}` | {} | {} |\n", about.source, also.join(", "));
    }
    text
}

#[test]
fn the_document_has_every_metric() {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/metrics.md");
    let text = std::fs::read_to_string(&file).expect("docs/metrics.md");
    let (before, written) = text.split_once(MARK).expect("the mark");
    let (_, behind) = written.split_once("\n## ").expect("a section behind it");
    let want = format!("{before}{MARK}\n{}\n## {behind}", table());
    if std::env::var_os("LORAC_BLESS").is_some() {
        std::fs::write(&file, &want).expect("writes");
    } else {
        assert!(text == want, "docs/metrics.md is not what the metrics say: LORAC_BLESS=1 writes it");
    }
}

#[test]
fn definitions_say_everything() {
    for (name, metric) in METRICS {
        let about = metric.definition();
        let all = [about.about, about.formula, about.source, about.range];
        assert!(all.iter().all(|text| !text.is_empty()) && !about.suits.is_empty(), "{name}");
        assert!(about.range.contains(" to "), "{name}: {}", about.range);
    }
}
