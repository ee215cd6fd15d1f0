use super::*;
use crate::task::CausalLm;
use proptest::prelude::*;

const QUICKSTART: &str = include_str!("../../../../pipelines/quickstart.yaml");

fn fail(text: &str, sets: &[&str]) -> String {
    let sets: Vec<String> = sets.iter().map(|s| s.to_string()).collect();
    Loaded::parse(text, Path::new("p.yaml"), &sets).expect_err("wrong").to_string()
}

fn with(from: &str, to: &str) -> String {
    assert!(QUICKSTART.contains(from), "{from}");
    QUICKSTART.replacen(from, to, 1)
}

fn position(text: &str, word: &str) -> String {
    let at = text.find(word).expect("present");
    let line = text[..at].matches('\n').count() + 1;
    let column = at - text[..at].rfind('\n').map_or(0, |n| n + 1) + 1;
    format!("{line}:{column}")
}

/// The place of the value in `key: value`.
fn value_of(text: &str, pair: &str) -> String {
    let (key, _) = pair.split_once(' ').expect("a key and a value");
    let at = text.find(pair).expect("present") + key.len() + 1;
    position(&format!("{}\u{0}{}", &text[..at], &text[at..]), "\u{0}")
}

#[test]
fn shipped_pipelines_load() {
    let tasks = std::collections::BTreeMap::from([
        ("causal-lm.yaml", "causal_lm"),
        ("completion.yaml", "causal_lm"),
        ("custom.yaml", "custom"),
        ("digits.yaml", "classify"),
        ("distill.yaml", "distill"),
        ("embed.yaml", "embed"),
        ("exported-onnx.yaml", "classify"),
        ("image.yaml", "classify"),
        ("multi-label.yaml", "multi_label"),
        ("pairs.yaml", "classify"),
        ("quickstart.yaml", "classify"),
        ("regress.yaml", "regress"),
        ("seq2seq.yaml", "seq2seq"),
        ("tag.yaml", "tag"),
    ]);
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../pipelines");
    let mut files: Vec<String> = std::fs::read_dir(&folder)
        .expect("a folder")
        .map(|entry| entry.expect("lists").file_name().into_string().expect("a name"))
        .filter(|name| name.ends_with(".yaml"))
        .collect();
    files.sort();
    assert_eq!(files, tasks.keys().copied().collect::<Vec<_>>());
    for (file, task) in tasks {
        let loaded = Loaded::load(&folder.join(file), &[]).unwrap_or_else(|e| panic!("{e}"));
        assert_eq!(loaded.pipeline.task.name(), task, "{file}");
        assert_eq!(loaded.sha256.len(), 64);
    }
}

#[test]
fn a_share_of_every_class_is_for_tasks_that_have_some() {
    let part = "data.eval={ split: 0.2, stratify: true }";
    let of =
        |task: &str, split: &str| fail(QUICKSTART, &[part, &format!("task={task}"), &format!("data.train={split}")]);
    for (task, split) in [
        ("{ regress: {} }", "{ csv: a.csv, text: text, label: score }"),
        ("{ causal_lm: {} }", "{ csv: a.csv, text: text }"),
    ] {
        let said = of(task, split);
        assert!(said.contains("error[data::no_classes]: `stratify` gives every class its share"), "{said}");
    }
    for task in ["{ classify: [a, b] }", "{ multi_label: [a, b] }", "{ tag: [a, b] }"] {
        let sets = [part, &format!("task={task}"), "data.train={ jsonl: a.jsonl, text: text, label: tags }"];
        let sets: Vec<String> = sets.iter().map(|s| s.to_string()).collect();
        let loaded = Loaded::parse(QUICKSTART, Path::new("p.yaml"), &sets);
        let said = loaded.map(drop).map_or_else(|e| e.to_string(), |()| String::new());
        assert!(!said.contains("no_classes"), "{said}");
    }
}

#[test]
fn a_misspelt_key_is_shown_with_the_nearest() {
    let text = with("epochs:", "epoch:");
    let want = format!(
        "p.yaml:{}: error[pipeline::unknown_key]: unknown key `epoch` (nearest: epochs)",
        position(&text, "epoch:")
    );
    assert_eq!(fail(&text, &[]), want);
}

#[test]
fn all_problems_are_named_at_once() {
    let text = with("rank: 8", "rank: 0").replacen("batch: 16", "batch: 0", 1);
    let got = fail(&text, &[]);
    assert!(
        got.contains(&format!("p.yaml:{}: error[pipeline::range]: `rank` is 0", value_of(&text, "rank: 0"))),
        "{got}"
    );
    assert!(
        got.contains(&format!("p.yaml:{}: error[pipeline::range]: `batch` is 0", value_of(&text, "batch: 0"))),
        "{got}"
    );
}

#[test]
fn wrong_filters_labels_and_syntax_are_named() {
    let text = with("labels: [negative, positive]", "labels: [positive, positive]");
    assert!(fail(&text, &[]).contains("`positive` is a duplicate label"));
    let text = with("source == ", "source = ");
    assert!(fail(&text, &[]).contains("error[pipeline::filter]"));
    assert!(fail("name: [", &[]).contains("error[pipeline::syntax]"));
    assert!(fail("", &[]).starts_with("p.yaml"));
    assert!(fail(&with("source: pypi:gt", "source: pypj:gt"), &[]).contains("pypj"));
}

#[test]
fn sets_override_and_their_mistakes_speak_of_them() {
    let sets: Vec<String> =
        ["train.epochs=0.5", "adapt.0.lora.rank=4", "runtime.source=embedded", "train.steps=7", "name=other"]
            .map(String::from)
            .to_vec();
    let loaded = Loaded::parse(QUICKSTART, Path::new("p.yaml"), &sets).expect("applies");
    let p = &loaded.pipeline;
    let rank = serde_json::to_value(&p.adapt[0]).expect("writes")["lora"]["rank"].as_u64();
    assert_eq!((p.train.epochs, rank, p.train.steps, p.name.as_str()), (0.5, Some(4), Some(7), "other"));
    assert_eq!(p.runtime.source, RuntimeSource::Embedded);
    let plain = Loaded::parse(QUICKSTART, Path::new("p.yaml"), &[]).expect("loads");
    assert_ne!(plain.sha256, loaded.sha256);
    let got = fail(QUICKSTART, &["train.epoch=1"]);
    assert_eq!(
        got,
        "p.yaml: error[pipeline::unknown_key]: unknown key `epoch` (with --set train.epoch=1) (nearest: epochs)"
    );
    assert!(fail(QUICKSTART, &["train.batch=0"]).contains("`batch` is 0"));
    assert!(fail(QUICKSTART, &["adapt.3.lora.rank=1"]).contains("`3` is not a position in a list of 1"));
    assert!(fail(QUICKSTART, &["rank"]).contains("expected KEY=VALUE"));
}

const CAUSAL_LM: &str = include_str!("../../../../pipelines/causal-lm.yaml");

#[test]
fn a_task_may_be_named_barely_or_with_settings() {
    let load = |text: &str| Loaded::parse(text, Path::new("p.yaml"), &[]).map(|l| l.pipeline.task);
    assert_eq!(load(CAUSAL_LM).expect("loads"), TaskChoice::CausalLm(CausalLm::default()));
    let full = CAUSAL_LM.replace("task: causal_lm", "task: { causal_lm: { logits: lm } }");
    match load(&full).expect("loads") {
        TaskChoice::CausalLm(CausalLm { logits: Some(name), .. }) => assert_eq!(name.as_str(), "lm"),
        other => panic!("{other:?}"),
    }
    let wrong = |to: &str| fail(&CAUSAL_LM.replace("task: causal_lm", to), &[]);
    assert!(wrong("task: causal").contains("causal_lm"));
    assert!(wrong("task: classify").contains("a classification reads a table"));
    assert!(wrong("task: { causal_lm: { logit: x } }").contains("logit"));
}

#[test]
fn what_does_not_belong_to_a_language_model_is_named() {
    let got = fail(CAUSAL_LM, &["metrics.accuracy.min=0.5"]);
    assert!(
        got.contains("pipeline::metrics") && got.contains("not evaluated by `accuracy`, but by perplexity"),
        "{got}"
    );
    assert!(fail(CAUSAL_LM, &["metrics.perplexty.max=51"]).contains("nearest: perplexity"));
    assert!(fail(CAUSAL_LM, &["data.train.block=1"]).contains("`block` is 1"));
    assert!(fail(CAUSAL_LM, &["data.train.csv=a.csv"]).contains("exactly one of csv, "));
}

#[test]
fn keys_that_would_do_nothing_are_named() {
    let idle = |text: &str, set: &str, want: &str| {
        let got = fail(text, &[set]);
        assert!(got.contains(want), "{set}: {got}");
    };
    for set in ["text=t", "label=t", "label_map={a: b}", "filter=t == 1"] {
        let key = set.split('=').next().expect("a key");
        idle(CAUSAL_LM, &format!("data.train.{set}"), &format!("error[pipeline::idle]: `{key}`: it is for tables"));
    }
    for set in ["include=[a]", "exclude=[a]", "block=64"] {
        let key = set.split('=').next().expect("a key");
        idle(
            QUICKSTART,
            &format!("data.eval.{set}"),
            &format!("error[pipeline::idle]: `{key}`: it is for plain texts"),
        );
    }
    let sum = "0".repeat(64);
    for source in ["auto", "embedded"] {
        let sets = [format!("runtime.sha256={sum}"), format!("runtime.source={source}")];
        let got = fail(QUICKSTART, &[&sets[0], &sets[1]]);
        assert!(got.contains("error[pipeline::idle]: `sha256` pins"), "{got}");
    }
    let got = fail(QUICKSTART, &["runtime.provider=cuda", "runtime.source=embedded"]);
    assert!(got.contains("error[pipeline::provider]"), "{got}");
    let pinned = [format!("runtime.sha256={sum}"), "runtime.provider=cuda".to_string()];
    assert!(Loaded::parse(QUICKSTART, Path::new("p.yaml"), &pinned).is_ok());
}

#[test]
fn an_unrelated_override_leaves_every_word_as_it_is() {
    let text = with("labels: [negative, positive]", "labels: [no, yes]")
        .replace("label: label", "label: y")
        .replace("text: text", "text: 1.50")
        .replace("name: quickstart", "name: on")
        .replace("take: 3000", "take: 3000\n    label_map: { n: no, y: yes, off: no }");
    let load = |sets: &[&str]| {
        let sets: Vec<String> = sets.iter().map(|s| s.to_string()).collect();
        Loaded::parse(&text, Path::new("p.yaml"), &sets).unwrap_or_else(|e| panic!("{e}")).pipeline
    };
    let plain = load(&[]);
    let train = &plain.data.train[0];
    assert_eq!((train.label.as_deref(), train.text.as_deref(), plain.name.as_str()), (Some("y"), Some("1.50"), "on"));
    assert_eq!(load(&["train.seed=0"]), plain);
    assert_eq!(load(&["data.train.label=n"]).data.train[0].label.as_deref(), Some("n"));
    let loud = text.replace("  batch: 16", "  batch: 16\n  by_length: no");
    let loud = Loaded::parse(&loud, Path::new("p.yaml"), &["train.seed=0".into()]).expect("loads");
    assert!(!loud.pipeline.train.by_length);
}

#[test]
fn the_committed_schema_is_the_generated_one() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../schemas/pipeline.schema.json");
    let mut text = serde_json::to_string_pretty(&schema()).expect("JSON");
    text.push('\n');
    if std::env::var_os("LORAC_BLESS").is_some() {
        std::fs::write(&path, &text).expect("writes");
    }
    let committed = std::fs::read_to_string(&path).expect("schemas/pipeline.schema.json");
    assert!(committed == text, "schemas/pipeline.schema.json is stale: run the tests with LORAC_BLESS=1");
}

#[test]
fn an_alias_bomb_is_refused() {
    let mut bomb = String::from("a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n");
    for i in 1..12 {
        let refs = vec![format!("*a{}", i - 1); 10].join(", ");
        bomb.push_str(&format!("a{i}: &a{i} [{refs}]\n"));
    }
    assert!(Loaded::parse(&bomb, Path::new("p.yaml"), &[]).is_err());
}

/// The lines of an error, without the name of the file.
fn findings(text: &str, sets: &[&str]) -> Vec<String> {
    fail(text, sets).lines().map(|line| line.replacen("p.yaml:", "", 1)).collect()
}

const SMALL: &str = "name: t
model: m
task: { classify: { labels: [a, b] } }
data:
  train: { csv: t.csv, text: x, label: y }
  eval: { csv: e.csv, text: x, label: y }
adapt: { lora: all-linear }
train: { batch: 8 }
";

#[test]
fn all_findings_of_a_file_are_shown_in_its_order() {
    let text = SMALL
        .replace("model: m", "model: m\nmodel: n")
        .replace("eval: { csv: e.csv, text: x,", "eval: { csv: e.csv, take: x, tex: x,")
        .replace("adapt: { lora: all-linear }", "adapt: { lora: { targets: [a, [b]], rank: 0, alhpa: 3 } }")
        .replace("batch: 8", "batch: 0, epochs: long, optimizer: { adamw: 3 }")
        + "runtime: { provider: gpu, threads: 1e18 }\nmetrics: { acc: {} }\nextra: 1\n";
    assert_eq!(
        findings(&text, &[]),
        [
            "3:1: error[pipeline::syntax]: the key `model` stands here a second time",
            "7:29: error[pipeline::value]: `take`: expected a whole number that is not negative, found `x`",
            "7:32: error[pipeline::unknown_key]: unknown key `tex` (nearest: text)",
            "8:31: error[pipeline::value]: a target is a pattern, or { match: PATTERN, slice: [q, v] }, and not a list",
            "8:43: error[pipeline::range]: `rank` is 0: expected at least 1 and at most 100000",
            "8:46: error[pipeline::unknown_key]: unknown key `alhpa` (nearest: alpha)",
            "9:17: error[pipeline::range]: `batch` is 0: expected at least 1 and at most 100000",
            "9:28: error[pipeline::value]: `epochs`: expected a number, found `long`",
            "9:54: error[pipeline::value]: `adamw`: expected keys with values (lr, weight_decay, beta1, beta2, eps), found `3`",
            "10:22: error[pipeline::unknown_value]: unknown `gpu` (lorac says this as cuda)",
            "10:36: error[pipeline::value]: `threads`: expected a whole number that is not negative, found `1e18`",
            "11:12: error[pipeline::unknown_key]: unknown metric `acc` (lorac says this as accuracy)",
            "12:1: error[pipeline::unknown_key]: unknown key `extra` (known: name, model, tokenizer, task, data, adapt, train, runtime, log, metrics, deploy)",
        ]
    );
}

#[test]
fn what_follows_from_a_finding_is_not_one() {
    assert_eq!(
        findings(&SMALL.replace("model: m", "modle: m"), &[]),
        ["2:1: error[pipeline::unknown_key]: unknown key `modle` (nearest: model)"]
    );
    assert_eq!(
        findings(&SMALL.replace("task: { classify", "task: { clasify").replace("batch: 8", "batch: 0"), &[]),
        [
            "3:9: error[pipeline::unknown_value]: unknown `clasify` (nearest: classify)",
            "8:17: error[pipeline::range]: `batch` is 0: expected at least 1 and at most 100000",
        ]
    );
    assert_eq!(
        findings("task: causal_lm\n", &[]),
        ["1:1: error[pipeline::missing_key]: the keys `name`, `model`, `data`, `adapt` are missing"]
    );
    // What comes after a syntax error is not known to be missing.
    assert_eq!(
        findings("name: a\nmodle: m\ntask: causal_lm: b\ntrain: { batch: 0 }\n", &[]),
        [
            "2:1: error[pipeline::unknown_key]: unknown key `modle` (nearest: model)",
            "3:16: error[pipeline::syntax]: mapping values are not allowed in this context",
        ]
    );
    assert_eq!(findings(&SMALL.replace("labels: [a, b]", "labels: [a, b"), &[]).len(), 1);
}

#[test]
fn a_thousand_findings_are_fifty() {
    let many = format!("{SMALL}deploy: {{ formats: [{}] }}\n", vec!["[x]"; 20_000].join(", "));
    assert_eq!(findings(&many, &[]).len(), 50);
    let keys: String = (0..20_000).map(|i| format!("k{i}: 1\n")).collect();
    assert_eq!(findings(&format!("{SMALL}{keys}"), &[]).len(), 50);
    let long = "k".repeat(200_000);
    let of_long = format!("{SMALL}{long}: 1\n? {long}\n: {long}\nruntime: {{ provider: {long} }}\n");
    assert!(fail(&of_long, &[]).len() < 1000);
}

#[test]
fn lines_end_in_any_way() {
    let text = QUICKSTART.replacen("batch: 16", "batch: 0", 1).replacen("rank: 8", "rank: x", 1);
    let want = fail(&text, &[]);
    for ends in ["\r\n", "\r"] {
        assert_eq!(fail(&text.replace('\n', ends), &[]), want, "{ends:?}");
    }
    assert_eq!(fail(&format!("\u{feff}{text}"), &[]), want);
}

#[test]
fn mistakes_of_overrides_name_the_key_and_the_override() {
    assert_eq!(
        findings(SMALL, &["train.batch=abc", "train.epoch=1", "runtime.provider=gpu", "name.x=1"]),
        [
            " error[pipeline::value]: `abc` is not a batch: expected auto or a number of examples (with --set train.batch=abc)",
            " error[pipeline::unknown_key]: unknown key `epoch` (with --set train.epoch=1) (nearest: epochs)",
            " error[pipeline::unknown_value]: unknown `gpu` (with --set runtime.provider=gpu) (lorac says this as cuda)",
            " error[pipeline::value]: `name`: expected a word, found `t` with a key `x` below it (with --set name.x=1)",
        ]
    );
}

/// Whole sections and lists, and sections of the file that an override has added something to.
#[test]
fn mistakes_in_values_of_overrides_are_not_placed_in_the_file() {
    for (sets, says) in [
        (&["task.classify.labels=[a, a]"][..], "`a` is a duplicate label (with --set task.classify.labels=[a, a])"),
        (&["train.batch=4", "adapt=[]"], "(with --set adapt=[])"),
        (&["data.train={csv: a.csv, label: y}"], "(with --set data.train={csv: a.csv, label: y})"),
        (
            &["data={eval: {csv: a.csv, text: x, label: y}}"],
            "(with --set data={eval: {csv: a.csv, text: x, label: y}})",
        ),
        (&["train.steps=3", "data.train.txt=a.txt"], "a split names exactly one of csv, tsv, jsonl"),
        (&["data.inputs={word: w}"], "unknown field `word` (with --set data.inputs={word: w})"),
        (&["metrics={perplexity: {max: 5}}"], "(with --set metrics={perplexity: {max: 5}})"),
        (&["adapt.0.lora={targets: [], rank: 0}"], "(with --set adapt.0.lora={targets: [], rank: 0})"),
    ] {
        let got = findings(SMALL, sets);
        assert!(got.iter().all(|line| line.starts_with(" error[")), "{sets:?}: {got:?}");
        assert!(got.iter().any(|line| line.contains(says)), "{sets:?}: {got:?}");
    }
    let loaded = Loaded::parse(SMALL, Path::new("p.yaml"), &["adapt.0.lora.targets=[q]".into()]).expect("loads");
    let late = lorac_config::Problem {
        path: "adapt.0.lora.targets".into(),
        code: "target::no_match",
        message: "nothing".into(),
        help: None,
    };
    let late = loaded.errors_at(vec![late]).to_string();
    assert_eq!(late, "p.yaml: error[target::no_match]: nothing (with --set adapt.0.lora.targets=[q])");
}

/// What is wrong with the file itself, whatever is set beside it.
#[test]
fn mistakes_of_the_file_stay_in_the_file() {
    let two = SMALL.replace("train: { csv: t.csv,", "train: { csv: t.csv, txt: t.txt,");
    assert_eq!(
        findings(&two, &["data.train.take=3", "train.steps=3"]),
        [format!("5:10: error[pipeline::value]: a split names exactly one of {}", super::data::names())]
    );
    let nameless = SMALL.replace("name: t\nmodel: m\n", "");
    assert_eq!(findings(&nameless, &["name=x"]), ["1:1: error[pipeline::missing_key]: the key `model` is missing"]);
    let unknown = SMALL.replace("batch: 8", "batch: 8, epoch: 1");
    assert!(findings(&unknown, &["train.epoch=2"])[0].starts_with("8:20: error[pipeline::unknown_key]"));
}

#[test]
fn one_value_stands_for_a_section_or_a_list_that_it_says_all_of() {
    let load = |text: &str, sets: &[&str]| {
        let sets: Vec<String> = sets.iter().map(|s| s.to_string()).collect();
        Loaded::parse(text, Path::new("p.yaml"), &sets).unwrap_or_else(|e| panic!("{e}")).pipeline
    };
    let long = SMALL
        .replace("model: m", "model: { source: m }")
        .replace("adapt: { lora: all-linear }", "adapt: [{ lora: { targets: [all-linear] } }]")
        + "tokenizer: { source: tok }\ndeploy: { formats: [onnx] }\n";
    let short = SMALL.replace("{ classify: { labels: [a, b] } }", "{ classify: [a, b] }")
        + "tokenizer: tok\ndeploy: { formats: onnx }\n";
    assert_eq!(load(&short, &[]), load(&long, &[]));
    let sets = ["model.sha256=aa", "adapt.0.lora.rank=3", "task.classify.labels.1=c", "adapt.0.lora.targets=q"];
    let sets_of_short = ["model.sha256=aa", "adapt.0.lora.rank=3", "task.classify.1=c", "adapt.0.lora.targets=q"];
    assert_eq!(load(&short, &sets_of_short), load(&long, &sets));
    assert_eq!(load(&short, &["model.source=n"]), load(&long, &["model.source=n"]));
    let plain =
        load("name: t\nmodel: m\ntask: causal_lm\ndata: { train: a.txt, eval: b.txt }\nadapt: { full: fc }\n", &[]);
    let held = &plain.data.eval.as_ref().expect("held out").sources()[0];
    assert_eq!((plain.data.train[0].format.as_str(), held.source.to_string()), ("txt", "b.txt".into()));
    let table =
        findings("name: t\nmodel: m\ntask: causal_lm\ndata: { train: a.csv, eval: b.xyz }\nadapt: { full: fc }\n", &[]);
    assert!(table[0].starts_with("4:16: error[pipeline::split]: a table needs the column of its texts"), "{table:?}");
    assert!(table[1].starts_with("4:29: error[pipeline::value]: the end of `b.xyz` names no format"), "{table:?}");
}

#[test]
fn words_stay_words_and_numbers_that_are_none_are_refused() {
    let labels = |text: &str| {
        let text = SMALL.replace("[a, b]", text);
        let loaded = Loaded::parse(&text, Path::new("p.yaml"), &[]).unwrap_or_else(|e| panic!("{e}"));
        serde_json::to_value(&loaded.pipeline.task).expect("writes")["classify"]["labels"].to_string()
    };
    assert_eq!(labels("[no, yes, off]"), r#"["no","yes","off"]"#);
    assert_eq!(labels("[0, 1.50, 0x1f, 1e3]"), r#"["0","1.50","0x1f","1e3"]"#);
    assert!(fail(&SMALL.replace("[a, b]", "[a, ~]"), &[]).contains("`labels`: expected a word, found `~`"));
    for (key, huge) in [
        ("train.batch", "`batch` is 1000000000000000000: expected at least 1 and at most 100000"),
        ("train.steps", "`steps` is 1000000000000000000"),
        ("train.epochs", "`epochs` is 1000000000000000000"),
        ("train.eval_batch", "`eval_batch` is"),
        ("data.max_length", "`max_length` is 1000000000000000000"),
        ("data.train.take", "`take` is 1000000000000000000"),
        ("data.train.skip", "`skip` is 1000000000000000000"),
        ("adapt.0.lora.rank", "`rank` is 1000000000000000000"),
        ("runtime.threads", "`threads` is 1000000000000000000: expected at least 1 and at most 1024"),
        ("deploy.verify.samples", "`samples` is 1000000000000000000"),
    ] {
        let got = fail(SMALL, &[&format!("{key}=1000000000000000000")]);
        assert!(got.contains(huge), "{got}");
    }
}

#[test]
fn files_that_hold_no_pipeline_are_named() {
    let folder = tempfile::tempdir().expect("a folder");
    let load = |bytes: &[u8]| {
        let file = folder.path().join("p.yaml");
        std::fs::write(&file, bytes).expect("writes");
        Loaded::load(&file, &[]).expect_err("no pipeline").to_string()
    };
    let utf16: Vec<u8> = SMALL.encode_utf16().flat_map(u16::to_le_bytes).collect();
    assert!(load(&utf16).contains("it is UTF-16: save it as UTF-8"));
    assert!(load(&[&[0xff, 0xfe], &utf16[..]].concat()).contains("it is UTF-16"));
    assert!(load(b"name: \xff").contains("it is not UTF-8"));
    assert!(load(&vec![b' '; 2 << 20]).contains("2097152 bytes"));
    assert!(load(b"").contains("are missing"));
    assert!(load(&[SMALL.as_bytes(), b"x: ", &b"[".repeat(10_000)].concat()).contains("error[pipeline::syntax]"));
    assert!(load(SMALL.replace("  eval", "\teval").as_bytes()).contains("tabs"));
    let directory = Loaded::load(folder.path(), &[]).expect_err("a folder").to_string();
    assert!(directory.contains("it is not a regular file"), "{directory}");
}

proptest! {
    #[test]
    fn never_panics(cut in 0usize..QUICKSTART.len(), noise in "[ -~\n]{0,12}", set in "[ -~]{0,20}") {
        if QUICKSTART.is_char_boundary(cut) {
            let text = format!("{}{noise}{}", &QUICKSTART[..cut], &QUICKSTART[cut..]);
            if let Err(e) = Loaded::parse(&text, Path::new("p.yaml"), &[set]) {
                drop(e.to_string());
            }
        }
    }
}

#[test]
fn a_command_is_given_where_the_run_is_started() {
    let own = SMALL.replace("train: { batch: 8 }", "train: { batch: 8 }\nlog: { command: [sh, run.sh] }");
    for sets in [&[][..], &["log.command.0=bash"]] {
        let got = findings(&own, sets);
        let want =
            "9:8: error[pipeline::command]: a pipeline's file runs no commands (give it where the run is started";
        assert!(got.len() == 1 && got[0].starts_with(want), "{got:?}");
    }
    for set in ["log.command=[cat]", "log={command: [cat]}"] {
        for text in [SMALL, &own] {
            let loaded =
                Loaded::parse(text, Path::new("p.yaml"), &[set.into()]).unwrap_or_else(|e| panic!("{set}: {e}"));
            assert_eq!(loaded.pipeline.log.command, ["cat"]);
        }
    }
}
