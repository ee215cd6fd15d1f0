//! The rows that people have: how files are written and compressed, what is wrong in them, what is held out and drawn.

use lorac::output::{DataCard, Manifest};
use lorac::pipeline::Loaded;
use lorac::progress::Progress;
use lorac::run::{Plan, plan};
use lorac::source::Resolver;
use lorac_tests::border::{Border, border};
use std::fs;
use std::io::Write;
use std::sync::Mutex;

/// Lines and warnings of a run.
#[derive(Debug, Default)]
struct Said(Mutex<Vec<String>>);

impl Progress for Said {
    fn line(&self, text: &str) {
        self.0.lock().expect("nobody panics with it").push(text.into());
    }

    fn warning(&self, text: &str) {
        self.line(&format!("warning   {text}"));
    }

    fn begin(&self, _: &str, _: u64) {}
    fn at(&self, _: u64, _: &str) {}
    fn end(&self) {}
}

/// The small BERT with tables of 120 and 48 rows.
fn tables() -> Border {
    let case = border("bert");
    for name in ["train.csv", "eval.csv"] {
        fs::copy(lorac_tests::data("borders").join("common").join(name), case.path().join(name)).expect("copies");
    }
    case
}

fn planned(case: &Border, settings: &[&str]) -> Result<(Plan, Vec<String>), String> {
    let settings: Vec<String> = settings.iter().map(|s| s.to_string()).collect();
    let loaded = Loaded::load(&case.path().join("pipeline.yaml"), &settings).map_err(|e| e.to_string())?;
    let resolver = Resolver::new(None, case.path()).map_err(|e| e.to_string())?;
    let said = Said::default();
    let plan = plan(&loaded, &resolver, &said, None).map_err(|e| e.to_string())?;
    Ok((plan, said.0.into_inner().expect("lines")))
}

#[track_caller]
fn card(case: &Border, settings: &[&str]) -> DataCard {
    planned(case, settings).unwrap_or_else(|e| panic!("{settings:?}: {e}")).0.card
}

#[track_caller]
fn wrong(case: &Border, settings: &[&str]) -> String {
    match planned(case, settings) {
        Ok((plan, _)) => panic!("{settings:?}: {:?}", plan.card),
        Err(error) => error,
    }
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
    encoder.write_all(bytes).expect("compresses");
    encoder.finish().expect("compresses")
}

/// The rows of the training table as other formats.
fn rows(case: &Border) -> Vec<(String, String)> {
    let table = fs::read_to_string(case.path().join("train.csv")).expect("a table");
    let row = |line: &str| line.split_once(',').map(|(text, label)| (text.to_string(), label.to_string()));
    table.lines().skip(1).filter_map(row).collect()
}

#[test]
fn one_table_in_every_form_gives_the_same_examples() {
    let case = tables();
    let rows = rows(&case);
    let lines = |of: &dyn Fn(&(String, String)) -> String| rows.iter().map(of).collect::<String>();
    let csv = fs::read(case.path().join("train.csv")).expect("a table");
    let semicolons = format!("label;text\n{}", lines(&|(t, l)| format!("{l};'{t}'\n")));
    let bare = lines(&|(t, l)| format!("7\t{l}\t{t}\n"));
    let nested = lines(&|(t, l)| format!("{{\"q\":{{\"text\":\"{t}\"}},\"a\":[\"{l}\"]}}\n"));
    let booleans = lines(&|(t, l)| format!("{{\"text\":\"{t}\",\"label\":{}}}\n", l == "positive"));
    let numbers =
        lines(&|(t, l)| format!("{{\"text\":\"{t}\",\"label\":{}}}\n", if l == "positive" { "1.0" } else { "0" }));
    let parts = lines(&|(t, l)| {
        let (head, tail) = t.split_once(' ').unwrap_or((t, ""));
        format!("{{\"head\":\"{head}\",\"tail\":\"{tail}\",\"label\":\"{l}\"}}\n")
    });
    let zstd = ruzstd::encoding::compress_to_vec(&csv[..], ruzstd::encoding::CompressionLevel::Fastest);
    let want = planned(&case, &[]).expect("a plan").0.train;
    for (name, bytes, split) in [
        ("a.csv.gz", gzip(&csv), "{ csv: a.csv.gz, text: text, label: label }"),
        ("a.csv.zst", zstd, "{ csv: a.csv.zst, text: text, label: label }"),
        ("b.csv", semicolons.into_bytes(), "{ csv: b.csv, separator: ;, quote: \"'\", text: text, label: label }"),
        ("c.tsv", bare.into_bytes(), "{ tsv: c.tsv, columns: [id, l, t], text: t, label: l }"),
        ("d.jsonl", nested.into_bytes(), "{ jsonl: d.jsonl, text: q.text, label: a.0 }"),
        (
            "e.jsonl.gz",
            gzip(booleans.as_bytes()),
            "{ jsonl: e.jsonl.gz, text: text, label: label, label_map: { true: positive, false: negative } }",
        ),
        ("f.jsonl", numbers.into_bytes(), "{ jsonl: f.jsonl, text: text, label: label }"),
        ("g.jsonl", parts.into_bytes(), "{ jsonl: g.jsonl, text: \"{head} {tail}\", label: label }"),
    ] {
        fs::write(case.path().join(name), bytes).expect("writes");
        let (plan, _) = planned(&case, &[&format!("data.train={split}")]).unwrap_or_else(|e| panic!("{split}: {e}"));
        assert_eq!(plan.train, want, "{split}");
        assert_eq!((plan.card.train.read, plan.card.train.examples), (120, want.len()), "{split}");
    }
}

#[test]
fn a_file_that_is_not_what_its_name_says_is_named() {
    let case = tables();
    let csv = fs::read(case.path().join("train.csv")).expect("a table");
    for (name, bytes, says) in [
        ("a.csv.gz", csv.clone(), "a.csv.gz: expected a gzip file, found something else"),
        ("b.csv", gzip(&csv), "b.csv: expected a text, found a gzip file"),
        ("c.csv", b"PK\x03\x04\x14\0\x06\0".to_vec(), "c.csv: expected a text, found a zip archive, as .zip, .xlsx"),
        ("d.csv.gz", gzip(&csv)[..400].to_vec(), "cannot read `"),
    ] {
        fs::write(case.path().join(name), bytes).expect("writes");
        let said = wrong(&case, &[&format!("data.train.csv={name}")]);
        assert!(said.contains(says), "{name}: {said}");
    }
}

#[test]
fn wrong_rows_end_the_run_or_are_left_out_and_named() {
    let case = tables();
    let good = fs::read_to_string(case.path().join("train.csv")).expect("a table");
    let bad = "\"two\nlines\",neutral\nno label\nmore,positive,cells\n,positive\n";
    fs::write(case.path().join("train.csv"), format!("{good}{bad}")).expect("writes");
    let said = wrong(&case, &[]);
    assert!(said.contains("train.csv: row 122 (line 124) has 1 cells, but the header has 2"), "{said}");

    let (plan, said) = planned(&case, &["data.on_error=skip"]).expect("a plan");
    let train = &plan.card.train;
    assert_eq!((train.read, train.skipped, train.examples + train.held_out), (124, 3, 121));
    assert_eq!((train.filtered, train.unselected), (0, 0));
    for (error, says) in train.errors.iter().zip([
        "train.csv: row 122 (line 124) has 1 cells",
        "train.csv: row 123 (line 125) has 3 cells",
        "train.csv: row 121 (line 122) has the unknown label `neutral` in `label`",
    ]) {
        assert!(error.contains(says), "{error}");
    }
    assert!(said.iter().any(|line| line.starts_with("data      train: ") && line.contains("; 3 wrong and left out; ")));
    assert!(said.iter().any(|line| line.starts_with("warning   data.train: 3 rows are wrong and were left out: ")));
    let few = wrong(&case, &["data.on_error=skip", "data.max_errors=2"]);
    assert!(
        few.contains("3 rows are wrong, and 2 may be left out; the last of them: ") && few.contains("line 122"),
        "{few}"
    );
    let idle = wrong(&case, &["data.max_errors=2"]);
    assert!(idle.contains("error[pipeline::idle]: `max_errors`"), "{idle}");

    fs::write(case.path().join("train.csv"), "text,label\na,x\nb,y\n").expect("writes");
    let none = wrong(&case, &["data.on_error=skip"]);
    assert!(none.contains("train.csv: all 2 rows are wrong, and are left out"), "{none}");
    let filtered = wrong(&case, &["data.train.filter='label == z'"]);
    assert!(filtered.contains("train.csv: the filter keeps none of its 2 rows"), "{filtered}");
}

#[test]
fn a_part_of_the_training_set_is_held_out_by_exact_counts() {
    let case = tables();
    let count = |card: &DataCard| {
        let labels = |l: &[lorac::output::LabelCount]| l.iter().map(|l| l.examples).collect::<Vec<_>>();
        let eval = card.eval.as_ref().expect("held out");
        (card.train.split_off, eval.examples, labels(&card.train.labels), labels(&eval.labels))
    };
    let plain = card(&case, &["data.eval={ split: 0.1 }"]);
    assert_eq!(count(&plain).0, 12);
    let all = card(&case, &["data.eval=~"]);
    assert!(all.eval.is_none() && all.train.examples == 120);
    // 49 and 71 of 120: 9.8 and 14.2 of 24.
    let even = card(&case, &["data.eval={ split: 0.2, stratify: true }"]);
    assert_eq!((count(&even).0, count(&even).3), (24, vec![10, 14]));
    assert_eq!(count(&even).2, vec![39, 57]);
    let again = card(&case, &["data.eval={ split: 0.2, stratify: true }"]);
    assert_eq!(even, again);
    let (one, _) = planned(&case, &["data.eval={ split: 24 }"]).expect("a plan");
    let (other, _) = planned(&case, &["data.eval={ split: 24 }", "data.shuffle_seed=5"]).expect("a plan");
    assert_eq!((one.eval.len(), other.eval.len()), (24, 24));
    assert_ne!(one.eval, other.eval);
    for (eval, says) in [
        ("{ split: 0.001 }", "a part of 0 of 120 examples"),
        ("{ split: 120 }", "a part of 120 of 120 examples"),
        ("{ split: 1.5 }", "`split` is 1.5"),
        ("{ split: -1 }", "`split` is -1"),
        ("{ stratify: true }", "the key `split` is missing"),
        ("{ split: 0.1, stratfy: true }", "unknown key `stratfy`"),
        ("{ splt: 0.1 }", "unknown key `splt`"),
    ] {
        let said = wrong(&case, &[&format!("data.eval={eval}")]);
        assert!(said.contains(says), "{eval}: {said}");
    }
    let texts = "text,label\n".to_string() + &"same,positive\n".repeat(9);
    fs::write(case.path().join("train.csv"), texts).expect("writes");
    let said = wrong(&case, &["data.eval={ split: 3 }"]);
    assert!(said.contains("all 6 examples of data.train are also in data.eval"), "{said}");
}

#[test]
fn a_run_without_held_out_examples_trains_verifies_and_says_so() {
    let case = tables();
    let outcome = case.succeeds(&["data.eval=~"]);
    assert!(outcome.manifest.eval.after.scores.is_empty() && outcome.manifest.data.eval.is_none());
    let report = fs::read_to_string(case.out().join("report.html")).expect("a report");
    assert!(report.contains("Nothing is held out to evaluate on."), "{report}");
    let gate = case.fails(&["data.eval=~", "metrics.accuracy.min=0.5"]);
    assert!(gate.contains("`accuracy` is computed on held-out examples, and there are none"), "{gate}");
}

#[test]
fn several_sources_are_drawn_by_their_weights() {
    let case = tables();
    let rows = rows(&case);
    let (head, tail) = rows.split_at(40);
    let csv = |rows: &[(String, String)]| {
        rows.iter().fold("text,label\n".to_string(), |all, (t, l)| all + t + "," + l + "\n")
    };
    let lines: String = tail.iter().map(|(t, l)| format!("{{\"t\":\"{t}\",\"l\":\"{l}\"}}\n")).collect();
    fs::write(case.path().join("a.csv"), csv(head)).expect("writes");
    fs::write(case.path().join("b.jsonl"), lines).expect("writes");
    let train = |weights: [&str; 2]| {
        format!(
            "data.train=[{{ csv: a.csv, text: text, label: label{} }}, {{ jsonl: b.jsonl, text: t, label: l{} }}]",
            weights[0], weights[1]
        )
    };
    let (plain, _) = planned(&case, &[&train(["", ""]), "data.eval=~"]).expect("a plan");
    assert_eq!((plain.train.len(), plain.card.train.drawn, plain.sampler.draws()), (120, 120, 120));
    let roles: Vec<&str> = plain.inputs.iter().map(|i| i.role.as_str()).filter(|r| r.starts_with("data")).collect();
    assert_eq!(roles, ["data.train.0", "data.train.1"]);

    let (plan, said) = planned(&case, &[&train([", weight: 2", ", weight: 0.5"]), "data.eval=~"]).expect("a plan");
    assert_eq!((plan.train, plan.card.train.drawn), (plain.train, 120));
    for epoch in 0..2 {
        let drawn: Vec<usize> = plan.sampler.epoch(epoch).flatten().collect();
        let times = |i| drawn.iter().filter(|d| **d == i).count();
        assert!((0..40).all(|i| times(i) == 2) && (40..120).all(|i| times(i) < 2));
        assert_eq!((40..120).map(times).sum::<usize>(), 40);
    }
    assert!(said.iter().any(|line| line.contains("120 examples of 120 rows")), "{said:?}");
    let manifest = case.succeeds(&[&train([", weight: 3", ""]), "train.epochs=1", "train.steps=~"]).manifest;
    let card = &manifest.data.train;
    assert_eq!(card.drawn, 3 * card.sources[0].examples + card.sources[1].examples);
    assert_eq!(manifest.train.steps as usize, card.drawn.div_ceil(8));
    let zero = wrong(&case, &[&train([", weight: 0", ""])]);
    assert!(zero.contains("`weight` is 0: expected a number above 0"), "{zero}");
    let idle = wrong(&case, &["data.eval.weight=2"]);
    assert!(idle.contains("error[pipeline::idle]: `weight`"), "{idle}");
}

#[test]
fn long_texts_are_cut_where_they_are_said_to_be_or_refused() {
    let case = tables();
    let long = format!("good {} bad", "w1 ".repeat(40).trim());
    fs::write(case.path().join("train.csv"), format!("text,label\ngood film,positive\n{long},negative\n"))
        .expect("writes");
    let of = |settings: &[&str]| planned(&case, &[&["data.max_length=8", "data.eval=~"], settings].concat());
    let ids = |settings: &[&str]| {
        let train = of(settings).unwrap_or_else(|e| panic!("{e}")).0.train;
        train.examples.iter().find(|e| e.length() == 8).expect("a long one").tokens("input_ids").expect("ids").to_vec()
    };
    assert_ne!(ids(&["data.truncate=right"]), ids(&["data.truncate=left"]));
    assert_eq!(ids(&["data.truncate=right"]), ids(&[]));
    let (plan, said) = of(&[]).expect("a plan");
    let cut = plan.card.train.truncated;
    assert_eq!((cut.texts, cut.at_least), (1, false));
    assert!(said.iter().any(|line| line.contains(&format!("; {} cut off", cut.tokens))), "{said:?}");
    assert_eq!(cut.tokens, 82 - (8 - 2), "82 pieces of words, and two of the places are for special tokens");
    let refused = of(&["data.truncate=refuse"]).map(drop).unwrap_err();
    assert!(refused.contains("row 2 (line 3) has a text of 84 tokens, and 8 are the most"), "{refused}");
    let (plan, _) = of(&["data.truncate=refuse", "data.on_error=skip"]).expect("a plan");
    assert_eq!((plan.card.train.skipped, plan.card.train.examples), (1, 1));
}

#[test]
fn a_column_of_ten_thousand_values_is_none_of_labels() {
    let case = tables();
    let rows: String = (0..10_000).map(|i| format!("good film {i},id{i}\n")).collect();
    fs::write(case.path().join("train.csv"), format!("text,label\n{rows}")).expect("writes");
    for task in ["classify", "multi_label"] {
        let said = wrong(&case, &[&format!("task={{ {task}: [negative, positive] }}")]);
        let place = "train.csv: row 1 (line 2) has the unknown label `id0` in `label`";
        assert!(said.contains(place) && said.contains("9995 more rows are wrong in other ways"), "{said}");
        assert!(said.len() < 1000, "{said}");
        let left_out = wrong(&case, &[&format!("task={{ {task}: [negative, positive] }}"), "data.on_error=skip"]);
        assert!(left_out.contains("100 may be left out") && left_out.len() < 1000, "{left_out}");
    }
    let values = wrong(&case, &["task={ regress: {} }"]);
    assert!(values.contains("row 1 (line 2)") && values.contains("`label`") && values.len() < 1000, "{values}");
}

#[test]
fn every_row_is_accounted_for() {
    let case = tables();
    let some =
        "data.train={ csv: train.csv, text: text, label: label, filter: label == \"positive\", skip: 2, take: 30 }";
    let train = card(&case, &[some, "data.eval=~"]).train;
    assert_eq!((train.read, train.filtered, train.unselected, train.examples), (120, 49, 41, 30));
    // What is held out is not trained on, however often it stands there.
    let rows = fs::read_to_string(case.path().join("train.csv")).expect("a table");
    let first = rows.lines().nth(1).expect("a row");
    fs::write(case.path().join("train.csv"), format!("{rows}{first}\n")).expect("writes");
    fs::write(case.path().join("eval.csv"), format!("text,label\n{first}\nnever seen,positive\n")).expect("writes");
    let found = card(&case, &[]).train;
    assert_eq!((found.read, found.held_out, found.examples), (121, 2, 119));
}

#[test]
fn the_data_card_is_in_the_manifest_the_output_and_the_report() {
    let case = tables();
    let good = fs::read_to_string(case.path().join("train.csv")).expect("a table");
    let first = good.lines().nth(1).and_then(|line| line.split_once(',')).expect("a row").0.to_string();
    let more = format!("{first},negative\n{first},positive\n\u{4e00}\u{4e8c}\u{4e09},positive\n");
    fs::write(case.path().join("train.csv"), format!("{good}{more}")).expect("writes");
    fs::write(case.path().join("eval.csv"), "text,label\ngood film,positive\nnice film,positive\n").expect("writes");
    case.succeeds(&[]);
    let card = Manifest::read(&case.out()).expect("a manifest").data;
    assert_eq!((card.train.read, card.train.duplicates, card.train.contradictions), (123, 2, 1));
    let lengths = card.train.lengths;
    assert!(lengths.p50 > 2 && lengths.p50 <= lengths.p90 && lengths.p99 <= lengths.max && lengths.max <= 32);
    for says in ["every held-out example has the label `positive`", "repeat an earlier one with another label"] {
        assert!(card.warnings.iter().any(|w| w.contains(says)), "{says}: {:?}", card.warnings);
    }
    let report = fs::read_to_string(case.out().join("report.html")).expect("a report");
    for says in ["<h2>Data</h2>", "tokens: 50 %, 90 %, 99 %, most", "label positive", "every held-out example"] {
        assert!(report.contains(says), "{says}");
    }
}

#[test]
fn classes_that_training_never_saw_and_labels_as_strings_are_warned_of() {
    let case = tables();
    let (_, said) = planned(&case, &["data.train.filter='label == positive'"]).expect("a plan");
    let unseen = "held-out examples have the label `negative`, which no example to train on has";
    assert!(said.iter().any(|line| line.starts_with("warning ") && line.contains(unseen)), "{said:?}");
    let lines: String = rows(&case)
        .iter()
        .map(|(t, l)| format!("{{\"text\":\"{t}\",\"label\":\"{}\"}}\n", u8::from(l == "positive")))
        .collect();
    fs::write(case.path().join("a.jsonl"), lines).expect("writes");
    let card = card(&case, &["data.train={ jsonl: a.jsonl, text: text, label: label }"]);
    assert!(card.warnings[0].contains("120 labels are strings of numbers"), "{:?}", card.warnings);
}

#[test]
fn settings_that_say_nothing_about_a_format_or_are_none_are_named() {
    let case = tables();
    for (set, says) in [
        (
            "data.train={ jsonl: a.jsonl, separator: ;, text: t, label: l }",
            "`separator`: it says nothing about a jsonl file",
        ),
        ("data.train={ tsv: a.tsv, quote: none, text: t, label: l }", "`quote`: it says nothing about a tsv file"),
        ("data.train.separator=ab", "`ab` is not one character of ASCII"),
        ("data.train.quote=é", "`é` is not one character of ASCII"),
        ("data.train.columns=[a, b, a]", "two columns are called `a`"),
        ("data.train.text='{text'", "this `{` is never closed, at byte 0 of the template `{text`"),
        ("data.train.text='{txt}'", "no column `txt` (nearest: `text`)"),
    ] {
        let said = wrong(&case, &[set]);
        assert!(said.contains(says), "{set}: {said}");
    }
}

#[test]
fn a_tokenizer_of_another_vocabulary_is_refused_with_the_numbers() {
    let case = tables();
    let words: Vec<String> = (0..5000).map(|i| format!("\"word{i}\":{i}")).collect();
    let tokenizer = format!(
        "{{\"model\":{{\"type\":\"WordLevel\",\"vocab\":{{{},\"w0\":4999}},\"unk_token\":\"word1\"}},\
         \"pre_tokenizer\":{{\"type\":\"Whitespace\"}}}}",
        words.join(",")
    );
    fs::write(case.path().join("other.json"), tokenizer).expect("writes");
    let said = wrong(&case, &["tokenizer=other.json"]);
    assert!(
        said.contains("tokenizer and model do not belong together: data.train has token 4999, but the model's table")
    );
    assert!(said.contains(" rows"), "{said}");
}

#[test]
fn an_address_needs_its_sum_and_a_file_with_that_sum_needs_no_network() {
    let case = tables();
    let bare = wrong(&case, &["data.train.csv=https://host.invalid/a.csv"]);
    assert!(bare.contains("error[source::no_pin]: `https://host.invalid/a.csv` needs the sha256"), "{bare}");
    let model = wrong(&case, &["model=https://host.invalid/model.onnx"]);
    assert!(model.contains("error[source::no_pin]"), "{model}");

    let cache = tempfile::tempdir().expect("a folder");
    let mut resolver = Resolver::new(Some(cache.path().into()), case.path()).expect("a resolver");
    resolver.offline = true;
    let added = resolver.add(&case.path().join("train.csv"), None).expect("adds");
    let sets = ["data.train.csv=https://host.invalid/a.csv".to_string(), format!("data.train.sha256={}", added.sha256)];
    let sets: Vec<String> = sets.into_iter().chain(["runtime.source=embedded".to_string()]).collect();
    let loaded = Loaded::load(&case.path().join("pipeline.yaml"), &sets).expect("a pipeline");
    let plan = plan(&loaded, &resolver, &Said::default(), None).unwrap_or_else(|e| panic!("{e}"));
    let train = plan.inputs.iter().find(|i| i.role == "data.train").expect("an input");
    assert_eq!((train.source.as_str(), &train.sha256), ("https://host.invalid/a.csv", &added.sha256));
}

#[test]
fn columns_with_types_train_a_model() {
    let case = tables();
    for name in ["snappy.parquet", "lz4.feather", "stream.arrow"] {
        fs::copy(lorac_tests::data("tables").join(name), case.path().join(name)).expect("copies");
        let format = if name.ends_with("parquet") { "parquet" } else { "arrow" };
        let split = format!(
            "{{ {format}: {name}, text: \"{{word}} {{answer.text}}\", label: ok, label_map: {{ true: positive, false: negative }} }}"
        );
        let (plan, _) = planned(&case, &[&format!("data.train={split}"), "data.eval={ split: 0.25, stratify: true }"])
            .unwrap_or_else(|e| panic!("{name}: {e}"));
        let eval = plan.card.eval.expect("held out");
        assert_eq!((plan.card.train.read, eval.examples), (40, 10), "{name}");
        assert_eq!(eval.labels.iter().map(|l| l.examples).collect::<Vec<_>>(), [5, 5], "{name}");
    }
    let filter = "data.train.filter='score > 2 and double < 3'";
    let train = "data.train={ parquet: snappy.parquet, text: text, label: small }";
    assert_eq!(card(&case, &[train, filter]).train.filtered, 40 - 21);
    let missing = wrong(&case, &["data.train={ parquet: snappy.parquet, text: txt, label: small }"]);
    assert!(missing.contains("no column `txt` (nearest: `text`)"), "{missing}");
    let csv = wrong(&case, &["data.train={ csv: snappy.parquet, text: text, label: small }"]);
    assert!(csv.contains("expected a text, found a Parquet file"), "{csv}");
    fs::write(case.path().join("a.parquet.gz"), gzip(&fs::read(case.path().join("snappy.parquet")).expect("reads")))
        .expect("writes");
    assert_eq!(card(&case, &["data.train={ parquet: a.parquet.gz, text: text, label: small }"]).train.examples, 40);
}

#[test]
fn the_examples_of_the_documentation_are_pipelines() {
    let page = include_str!("../../docs/data.md");
    let blocks = page.split("```yaml\n").skip(1).filter_map(|rest| rest.split("```").next());
    let examples: Vec<&str> = blocks.flat_map(|block| block.split("---\n")).collect();
    let load = |example: &str| {
        let task = match example.contains("task:") {
            true => "",
            false => "task: { classify: { labels: [negative, positive] } }\n",
        };
        let text = format!("name: n\nmodel: m.onnx\n{task}adapt: {{ lora: all-linear }}\n{example}");
        Loaded::parse(&text, "p.yaml".as_ref(), &[]).unwrap_or_else(|e| panic!("{example}: {e}"))
    };
    assert!(examples.len() > 4 && examples.iter().all(|example| load(example).pipeline.name == "n"));
    let weighted = examples.iter().find(|example| example.contains("weight: 2")).expect("an example");
    let data = load(weighted).pipeline.data;
    assert_eq!((data.train.len(), data.train[0].drawn(), data.train[1].format.as_str()), (2, 2.0, "jsonl"));
    assert!(data.eval.as_ref().and_then(|held| held.part()).is_some_and(|part| part.stratify));
}
