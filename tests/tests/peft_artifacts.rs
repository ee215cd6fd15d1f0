//! Adapters as PEFT and transformers load them: tiny models of six types, from folders and from both of PyTorch's
//! exporters, are trained, and what the class computes with the adapter is what the deployed model does. It needs a Python
//! with PyTorch, transformers and PEFT: `LORAC_PEFT_PYTHON`; `tests/peft/venv.sh` makes one. `LORAC_PEFT_JOBS` has parts of
//! the names of those that are done: `init: eva|tied`.

use lorac::pipeline::Loaded;
use lorac::progress::Silent;
use lorac::run::{RunOptions, run};
use lorac::source::Resolver;
use lorac_tests::{ONNXRUNTIME, data, root, skipped};
use serde_json::{Value, json};
use std::fs;
use std::path::Path;
use std::process::{Command, Output};
use std::sync::atomic::AtomicBool;

/// What is trained: a task and a key of its pipeline.
const CLASSIFY: &str = "classify: { labels: [negative, positive] }";
const CLASSIFY_CLS: &str = "classify: { labels: [negative, positive], pool: cls }";
const CLASSIFY_LAST: &str = "classify: { labels: [negative, positive], pool: last }";
const CLASSIFY_OWN: &str = "classify: { labels: [negative, positive], head: architecture }";
const CLASSIFY_EXISTING: &str = "classify: {}";
const REGRESS: &str = "regress";
const REGRESS_OWN: &str = "regress: { head: architecture }";
const CAUSAL_LM: &str = "causal_lm";
const TAG: &str = "tag: [O, B-x, I-x]";

const QUERY_VALUE: &str = "[{ lora: { targets: [\"role:query\", \"role:value\"], rank: 2, alpha: 4 } }]";
const ALL: &str = "[{ lora: { targets: [all-linear], rank: 3, alpha: 6 } }]";
/// Ranks, alphas and scales that differ by module.
const MIXED: &str = "[{ lora: { targets: [\"role:query\"], rank: 2, alpha: 4 } }, \
                     { lora: { targets: [\"role:key\", \"role:down\"], rank: 3, alpha: 9 } }]";
const RSLORA: &str = "[{ lora: { targets: [\"role:query\", \"role:up\"], rank: 4, alpha: 4, rslora: true } }]";

/// Ranks and alphas by pattern, in one layer.
const PATTERNS: &str = "[{ lora: { targets: [all-linear], exclude: [\"role:up\"], layers: 1, rank: 2, alpha: 4, \
                        rank_pattern: { \"role:query\": 3 }, alpha_pattern: { \"role:down\": 5 } } }]";
/// As these, of a matrix that is query, key and value in one, which all-linear takes as a whole.
const PATTERNS_OF_GPT2: &str = "[{ lora: { targets: [\"role:query\", \"role:output\", \"role:down\"], \
                                exclude: [\"role:output\"], layers: 1, rank: 2, alpha: 4, \
                                rank_pattern: { \"role:query\": 3 }, alpha_pattern: { \"role:down\": 5 } } }]";
/// Beginnings that are a part of the weight.
const PISSA: &str = "[{ lora: { targets: [\"role:query\", \"role:down\"], rank: 2, alpha: 6, init: pissa } }]";
const OLORA: &str =
    "[{ lora: { targets: [\"role:value\", \"role:up\"], rank: 3, alpha: 3, rslora: true, init: olora } }]";
/// Beginnings that the first batches say.
const EVA: &str = "[{ lora: { targets: [\"role:query\", \"role:down\"], rank: 2, alpha: 6, init: eva } }]";
const LORA_GA: &str = "[{ lora: { targets: [\"role:query\", \"role:down\"], rank: 2, alpha: 6, init: lora_ga } }]";
/// Both rules of scales, in one module where query and value are one matrix.
const BOTH_SCALES: &str = "[{ lora: { targets: [\"role:query\"], rank: 4, alpha: 4, rslora: true } }, \
                          { lora: { targets: [\"role:value\", \"role:up\"], rank: 2, alpha: 5 } }]";
const UNTIED: &str = "[{ lora: { targets: [\"role:query\", \"role:head\"], rank: 2, alpha: 4, tied: untie } }]";
const DORA: &str = "[{ dora: { targets: [\"role:query\", \"role:value\", \"role:down\"], rank: 2, alpha: 4 } }]";
const DORA_PISSA: &str = "[{ dora: { targets: [all-linear], rank: 2, alpha: 4, init: pissa } }]";
const BIAS_LORA: &str = "[{ lora: { targets: [\"role:query\", \"role:output\"], rank: 2, alpha: 4, bias: lora } }]";
const BIAS_ALL: &str = "[{ lora: { targets: [\"role:query\"], rank: 2, alpha: 4, freeze_a: true, bias: all } }]";

const IA3: &str = "[{ ia3: {} }]";
const TOKENS: &str = "[{ tokens: { ids: [5, 7] } }]";
const TOKENS_AND_LORA: &str = "[{ lora: { targets: [\"role:query\"], rank: 2 } }, { tokens: { ids: [5, 7] } }]";
/// A branch on a table, with a rank of its own.
const EMBEDDINGS: &str = "[{ lora: { targets: [\"role:query\", all-embeddings], rank: 2, alpha: 6, \
                          rank_pattern: { \"role:query\": 3 } } }]";
const TRAIN_ALSO: &str = "[{ lora: { targets: [\"role:query\"], rank: 2, train_also: [\"*norm*\"] } }]";
const NORMS_OF_BERT: &str =
    "[{ lora: { targets: [\"role:query\"], rank: 2 } }, { full: { targets: [\"*LayerNorm*\"] } }]";

/// LoRA on the head of a sequence classifier, and the head trained as it is.
const AND_HEAD: &str = "[{ lora: { targets: [\"role:query\", \"*classifier*\"], rank: 2, alpha: 4 } }]";
const HEAD_FULL: &str = "[{ lora: { targets: [\"role:query\"], rank: 2 } }, { full: { targets: [\"*classifier*\"] } }]";

const CONV1D_AND_LINEAR: &str = "[{ lora: { targets: [all-linear, \"role:head\"], rank: 2, alpha: 4 } }]";

const ENCODERS: [&str; 3] = ["bert", "roberta", "distilbert"];
const CLASSIFIERS: [&str; 3] = ["bert-cls", "roberta-cls", "distilbert-cls"];
const LAST_TOKEN_CLASSIFIERS: [&str; 3] = ["gpt2-cls", "llama-cls", "qwen2-cls"];
const DECODERS: [&str; 3] = ["gpt2", "llama", "qwen2"];

/// A model below the folder of models, the folder that transformers load it from, and what is done with it.
type Job<'a> = (String, &'a str, &'a str, &'a str);

fn jobs() -> Vec<Job<'static>> {
    let mut jobs: Vec<Job> = Vec::new();
    let exported =
        |name: &str, what: &str| ["torchscript", "dynamo"].map(|by| format!("{name}-{by}-{what}/model.onnx"));
    for name in ENCODERS.into_iter().chain(DECODERS) {
        let folder = name.to_string();
        jobs.push((folder.clone(), name, CLASSIFY, QUERY_VALUE));
        jobs.push((folder.clone(), name, CLASSIFY_OWN, ALL));
        jobs.push((folder.clone(), name, REGRESS_OWN, MIXED));
        jobs.push((folder.clone(), name, TAG, QUERY_VALUE));
        for export in exported(name, "base") {
            jobs.push((export.clone(), name, TAG, ALL));
            jobs.push((export.clone(), name, CLASSIFY, ALL));
            jobs.push((export, name, CLASSIFY_OWN, MIXED));
        }
    }
    for name in DECODERS {
        jobs.push((name.to_string(), name, CAUSAL_LM, MIXED));
        for export in exported(name, "lm") {
            jobs.push((export, name, CAUSAL_LM, ALL));
        }
    }
    for name in CLASSIFIERS.into_iter().chain(LAST_TOKEN_CLASSIFIERS) {
        let encoder = CLASSIFIERS.contains(&name);
        let head = if encoder { [AND_HEAD, HEAD_FULL] } else { [QUERY_VALUE, MIXED] };
        for (export, adapt) in exported(name.trim_end_matches("-cls"), "cls").into_iter().zip(head) {
            jobs.push((export, name, CLASSIFY_EXISTING, adapt));
        }
        if encoder {
            jobs.push((name.to_string(), name, CLASSIFY_EXISTING, QUERY_VALUE));
            jobs.push((name.to_string(), name, CLASSIFY_EXISTING, HEAD_FULL));
        }
    }
    jobs.push(("bert".into(), "bert", CLASSIFY_CLS, RSLORA));
    jobs.push(("bert".into(), "bert", REGRESS, RSLORA));
    jobs.push(("llama".into(), "llama", CLASSIFY_LAST, RSLORA));
    jobs.push(("gpt2-untied".into(), "gpt2-untied", CAUSAL_LM, CONV1D_AND_LINEAR));
    // Heads on what a language model's export has before its logits, and on the logits themselves.
    for name in ["qwen2", "gpt2"] {
        let [_, export] = exported(name, "lm");
        jobs.push((export.clone(), name, CLASSIFY_OWN, QUERY_VALUE));
        jobs.push((export, name, CLASSIFY, QUERY_VALUE));
    }
    for name in ["bert", "gpt2", "llama"] {
        jobs.push((format!("{name}-stripped/model.onnx"), name, CLASSIFY_OWN, ALL));
    }
    jobs.push(("bert-packed/model.onnx".into(), "bert", CLASSIFY_OWN, QUERY_VALUE));
    jobs.push(("bert-packed/model.onnx".into(), "bert", CLASSIFY, MIXED));
    jobs.push(("bert-mlm".into(), "bert-mlm", CLASSIFY_OWN, QUERY_VALUE));
    jobs.push(("gpt2-bare".into(), "gpt2-bare", CAUSAL_LM, QUERY_VALUE));
    jobs.push(("gpt2-bare".into(), "gpt2-bare", CLASSIFY_OWN, QUERY_VALUE));
    for name in ["bert", "gpt2", "llama"] {
        let [torchscript, dynamo] = exported(name, "base");
        let patterns = if name == "gpt2" { PATTERNS_OF_GPT2 } else { PATTERNS };
        jobs.push((name.to_string(), name, CLASSIFY_OWN, patterns));
        jobs.push((torchscript.clone(), name, CLASSIFY_OWN, PISSA));
        jobs.push((name.to_string(), name, CLASSIFY_OWN, OLORA));
        jobs.push((dynamo, name, CLASSIFY_OWN, DORA));
        jobs.push((torchscript, name, CLASSIFY_OWN, DORA_PISSA));
    }
    jobs.push(("bert-packed/model.onnx".into(), "bert", CLASSIFY_OWN, DORA));
    for name in ["bert", "gpt2", "llama"] {
        let [torchscript, dynamo] = exported(name, "base");
        jobs.push((torchscript, name, CLASSIFY_OWN, EVA));
        jobs.push((dynamo, name, CLASSIFY_OWN, LORA_GA));
        jobs.push((name.to_string(), name, CLASSIFY_OWN, BOTH_SCALES));
    }
    jobs.push(("gpt2".into(), "gpt2", CAUSAL_LM, UNTIED));
    for name in ["bert", "gpt2", "llama"] {
        let [_, dynamo] = exported(name, "base");
        for adapt in [IA3, TOKENS, TOKENS_AND_LORA, EMBEDDINGS] {
            jobs.push((name.to_string(), name, CLASSIFY_OWN, adapt));
            jobs.push((dynamo.clone(), name, CLASSIFY_OWN, adapt));
        }
    }
    jobs.push(("bert".into(), "bert", CLASSIFY_OWN, NORMS_OF_BERT));
    jobs.push(("llama".into(), "llama", CLASSIFY_OWN, TRAIN_ALSO));
    for adapt in [BIAS_LORA, BIAS_ALL] {
        jobs.push(("bert".into(), "bert", CLASSIFY_OWN, adapt));
        jobs.push(("gpt2".into(), "gpt2", CLASSIFY_OWN, adapt));
    }
    jobs
}

fn pipeline(model: &str, task: &str, adapt: &str) -> String {
    let label = match task {
        CAUSAL_LM => "",
        REGRESS | REGRESS_OWN => ", label: score",
        _ => ", label: label",
    };
    let source = |split: &str| match task {
        TAG => format!("{{ conll: {split}.conll }}"),
        _ => format!("{{ csv: {split}.csv, text: text{label} }}"),
    };
    let (train, eval) = (source("train"), source("eval"));
    format!(
        "name: artifact\nmodel: {{ source: {model} }}\ntask: {{ {task} }}\nadapt: {adapt}\n\
         data: {{ train: {train}, eval: {eval}, max_length: 24 }}\n\
         train: {{ steps: 12, epochs: 4, batch: 8, optimizer: {{ adamw: {{ lr: 0.02 }} }} }}\n\
         runtime: {{ source: \"{ONNXRUNTIME}\" }}\n"
    )
    .replace("task: { causal_lm }", "task: causal_lm")
    .replace("task: { regress }", "task: regress")
}

/// The table with a column of numbers beside the labels.
fn scored(table: &str) -> String {
    let rows = table.lines().enumerate().map(|(i, line)| match i {
        0 => format!("{line},score\n"),
        _ => format!("{line},{}\n", if line.ends_with("negative") { -0.75 } else { 0.5 }),
    });
    rows.collect()
}

/// The words of the table's texts, with tags: a span begins with every third word.
fn tagged(table: &str) -> String {
    let tags = ["O", "B-x", "I-x"];
    let texts = table.lines().skip(1).filter_map(|line| Some(line.split_once(',')?.0));
    let word = |(at, word): (usize, &str)| format!("{word}\t{}\n", tags[at % 3]);
    texts.map(|text| text.split_whitespace().enumerate().map(word).collect::<String>() + "\n").collect()
}

fn text(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

fn python(program: &str, script: &str, arguments: &[&Path]) -> Output {
    let script = root().join("tests/peft").join(script);
    let output = Command::new(program).arg(script).args(arguments).output();
    output.unwrap_or_else(|e| panic!("LORAC_PEFT_PYTHON, {program}: {e}"))
}

#[test]
fn the_class_computes_with_the_adapter_what_the_deployed_model_does() {
    let Ok(program) = std::env::var("LORAC_PEFT_PYTHON") else {
        return skipped("LORAC_PEFT_PYTHON, a Python with PyTorch, transformers and PEFT (tests/peft/venv.sh)");
    };
    let folder = tempfile::tempdir().expect("temp");
    let common = data("borders/common");
    let made = python(&program, "models.py", &[folder.path(), &common.join("tokenizer.json")]);
    assert!(made.status.success(), "{}", text(&made));
    let mut rows = Vec::new();
    for table in ["train.csv", "eval.csv"] {
        let content = scored(&fs::read_to_string(common.join(table)).expect("a table"));
        rows = content.lines().skip(1).take(6).filter_map(|l| Some(l.split_once(',')?.0.to_string())).collect();
        fs::write(folder.path().join(table), &content).expect("writes");
        fs::write(folder.path().join(table).with_extension("conll"), tagged(&content)).expect("writes");
    }
    let resolver = Resolver::new(None, folder.path()).expect("a cache");
    let (mut checks, mut failed): (Vec<Value>, Vec<String>) = Default::default();
    let only = std::env::var("LORAC_PEFT_JOBS").unwrap_or_default();
    for (i, (model, base, task, adapt)) in jobs().iter().enumerate() {
        let name = format!("{model}, {task}, {adapt}");
        if !only.split('|').any(|part| name.contains(part)) {
            continue;
        }
        let source = pipeline(model, task, adapt);
        let loaded =
            Loaded::parse(&source, &folder.path().join("p.yaml"), &[]).unwrap_or_else(|e| panic!("{name}: {e}"));
        let out = folder.path().join(format!("out-{i}"));
        let options = RunOptions { out: out.clone(), command: "test".into(), progress: &Silent, emit: None };
        let outcome = run(&loaded, &resolver, &options, &AtomicBool::new(false));
        match outcome.map_err(|e| e.to_string()) {
            Ok(outcome) if outcome.gates.is_empty() => {}
            Ok(outcome) => failed.push(format!("{name}: {:?}", outcome.gates)),
            Err(why) => failed.push(format!("{name}: {why}")),
        }
        let (mixed, untied) = ([CONV1D_AND_LINEAR, UNTIED].contains(adapt), *adapt == UNTIED);
        let base = folder.path().join(base);
        checks.push(json!({ "name": name, "out": out, "base": base, "rows": rows, "mixed": mixed, "untied": untied }));
    }
    let list = folder.path().join("jobs.json");
    assert!(!checks.is_empty(), "no job has {only:?} in its name");
    fs::write(&list, serde_json::to_vec(&checks).expect("JSON")).expect("writes");
    let checked = python(&program, "check.py", &[&list]);
    println!("{}", String::from_utf8_lossy(&checked.stdout));
    assert!(failed.is_empty(), "{}", failed.join("\n"));
    assert!(checked.status.success(), "{}", text(&checked));
    let good = String::from_utf8_lossy(&checked.stdout).lines().filter(|l| l.starts_with("ok ")).count();
    assert_eq!(good, checks.len());
}
