//! What an adapter promises, without a Python: keys, shapes and configuration against what PEFT's own `save_pretrained`
//! writes, and what a run says where it cannot promise it. `peft_artifacts` loads adapters with PEFT itself.

use lorac::error::Error;
use lorac::output::read_peft;
use lorac::pipeline::Loaded;
use lorac::progress::Progress;
use lorac::run::{Outcome, RunOptions, run};
use lorac::source::Resolver;
use lorac_tests::{ONNXRUNTIME, data};
use safetensors::SafeTensors;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;
use std::sync::Mutex;
use std::sync::atomic::AtomicBool;
use tempfile::TempDir;

const CLASSIFY: &str = "classify: { labels: [negative, positive] }";
const CLASSIFY_OWN: &str = "classify: { labels: [negative, positive], head: architecture }";
const CLASSIFY_EXISTING: &str = "classify: {}";
const REGRESS_OWN: &str = "regress: { head: architecture }";
const CAUSAL_LM: &str = "causal_lm: {}";
const QUERY_VALUE: &str = "lora: { targets: [\"role:query\", \"role:value\"], rank: 2, alpha: 4 }";

/// A copy of a model of tests/data/peft_artifacts, and what a run has said.
#[derive(Debug)]
struct Case {
    folder: TempDir,
    source: String,
    said: Mutex<Vec<String>>,
}

impl Progress for Case {
    fn line(&self, text: &str) {
        self.said.lock().expect("one thread").push(text.to_string());
    }

    fn begin(&self, _: &str, _: u64) {}

    fn at(&self, _: u64, _: &str) {}

    fn end(&self) {}
}

fn case(model: &str) -> Case {
    let folder = tempfile::tempdir().expect("temp");
    let (name, file) = model.split_once('/').map_or((model, None), |(name, file)| (name, Some(file)));
    let target = folder.path().join("model");
    fs::create_dir(&target).expect("a folder");
    for from in [data("peft_artifacts").join(name), data("borders/common")] {
        for entry in fs::read_dir(&from).expect("a folder").flatten() {
            let to = if entry.path().extension().is_some_and(|e| e == "csv") { folder.path() } else { &target };
            fs::copy(entry.path(), to.join(entry.file_name())).expect("copies");
        }
    }
    let source = file.map_or("model".to_string(), |file| format!("model/{file}"));
    Case { folder, source, said: Mutex::default() }
}

impl Case {
    fn model(&self, name: &str) -> PathBuf {
        self.folder.path().join("model").join(name)
    }

    fn adapter(&self, name: &str) -> PathBuf {
        self.folder.path().join("out/adapter").join(name)
    }

    fn run(&self, task: &str, adapt: &str, more: &str) -> Result<Outcome, Error> {
        let label = if task == CAUSAL_LM { "" } else { ", label: label" };
        let table = |split: &str| format!("{split}: {{ csv: {split}.csv, text: text{label} }}");
        if task == REGRESS_OWN {
            for split in ["train.csv", "eval.csv"] {
                let path = self.folder.path().join(split);
                let text = fs::read_to_string(&path).expect("a table");
                fs::write(path, text.replace(",negative", ",-0.5").replace(",positive", ",0.5")).expect("writes");
            }
        }
        let text = format!(
            "name: artifact\nmodel: {{ source: {} }}\ntask: {{ {task} }}\nadapt: [{{ {adapt} }}]\n\
             data: {{ {}, {}, max_length: 24 }}\ntrain: {{ steps: 2, epochs: 1, batch: 8 }}\n\
             runtime: {{ source: \"{ONNXRUNTIME}\" }}\n{more}",
            self.source,
            table("train"),
            table("eval")
        );
        let loaded = Loaded::parse(&text, &self.folder.path().join("p.yaml"), &[]).map_err(Box::new)?;
        let resolver = Resolver::new(None, self.folder.path())?;
        let out = self.folder.path().join("out");
        let options = RunOptions { out, command: "test".into(), progress: self, emit: None };
        run(&loaded, &resolver, &options, &AtomicBool::new(false))
    }

    /// A run that must succeed; returns what it said before the training of what comes out.
    #[track_caller]
    fn notes(&self, task: &str, adapt: &str, more: &str) -> String {
        let outcome = self.run(task, adapt, more).unwrap_or_else(|e| panic!("{task}: {e}"));
        assert!(outcome.gates.is_empty(), "{task}: {:?}", outcome.gates);
        // Two steps may well do harm.
        let is_before = |note: &&String| !note.starts_with("the model got worse");
        let notes: Vec<&str> = outcome.manifest.notes.iter().filter(is_before).map(String::as_str).collect();
        let said = self.said.lock().expect("one thread");
        let before = said.iter().position(|l| l.starts_with("before")).expect("an evaluation");
        for note in &notes {
            assert!(said[..before].iter().any(|l| l.ends_with(note)), "`{note}` is not said before the training");
        }
        notes.join("\n")
    }

    fn config(&self) -> Value {
        let text = fs::read(self.adapter("adapter_config.json")).expect("a configuration");
        serde_json::from_slice(&text).expect("JSON")
    }

    fn shapes(&self, file: &str) -> BTreeMap<String, Vec<usize>> {
        let bytes = fs::read(self.adapter(file)).expect("tensors");
        let tensors = SafeTensors::deserialize(&bytes).expect("safetensors");
        tensors.tensors().into_iter().map(|(name, view)| (name, view.shape().to_vec())).collect()
    }

    fn modules(&self) -> Vec<String> {
        let adapter = read_peft(&self.adapter("")).expect("an adapter");
        adapter.modules.into_iter().map(|m| m.name).collect()
    }
}

fn golden(model_type: &str, task: &str) -> Value {
    let text = fs::read(data("peft_artifacts/golden.json")).expect("golden.json");
    let all: Value = serde_json::from_slice(&text).expect("JSON");
    all[model_type][task].clone()
}

#[track_caller]
fn is_as_peft_saves(model: &str, model_type: &str, task: &str, kind: &str) {
    let case = case(model);
    case.notes(task, QUERY_VALUE, "");
    let golden = golden(model_type, kind);
    let want: BTreeMap<String, Vec<usize>> = serde_json::from_value(golden["tensors"].clone()).expect("shapes");
    let mut want = want;
    if task == REGRESS_OWN {
        for (key, shape) in &mut want {
            if shape.first() == Some(&2) && !key.contains("lora") {
                shape[0] = 1;
            }
        }
    }
    assert_eq!(case.shapes("adapter_model.safetensors"), want, "{model}, {task}");
    let config = case.config();
    let wanted = &golden["config"];
    for (key, value) in wanted.as_object().expect("an object") {
        assert_eq!(&config[key], value, "{model}, {task}: {key}");
    }
    let readme = fs::read_to_string(case.adapter("README.md")).expect("README.md");
    let base = if model.ends_with(".onnx") && !case.model("config.json").exists() { "MODEL" } else { "model" };
    assert!(readme.contains(kind) && readme.contains(&format!("from_pretrained(\"{base}\"")), "{readme}");
    assert_eq!(case.adapter("head.safetensors").exists(), kind == "FEATURE_EXTRACTION");
    assert_eq!(config["base_model_name_or_path"], "model");
}

#[test]
fn adapters_of_folders_are_as_peft_saves_them() {
    for model in ["bert", "roberta", "distilbert", "gpt2", "llama", "qwen2"] {
        is_as_peft_saves(model, model, CLASSIFY, "FEATURE_EXTRACTION");
        is_as_peft_saves(model, model, CLASSIFY_OWN, "SEQ_CLS");
        if ["gpt2", "llama", "qwen2"].contains(&model) {
            is_as_peft_saves(model, model, CAUSAL_LM, "CAUSAL_LM");
        }
    }
    is_as_peft_saves("bert", "bert", REGRESS_OWN, "SEQ_CLS");
    is_as_peft_saves("roberta-cls", "roberta", CLASSIFY_EXISTING, "SEQ_CLS");
    is_as_peft_saves("gpt2-bare", "gpt2", CAUSAL_LM, "CAUSAL_LM");
}

#[test]
fn adapters_of_exports_are_as_peft_saves_them() {
    for export in ["bert-torchscript-base", "bert-dynamo-base", "bert-packed"] {
        let model = format!("{export}/model.onnx");
        is_as_peft_saves(&model, "bert", CLASSIFY, "FEATURE_EXTRACTION");
        is_as_peft_saves(&model, "bert", CLASSIFY_OWN, "SEQ_CLS");
    }
    is_as_peft_saves("bert-dynamo-cls/model.onnx", "bert", CLASSIFY_EXISTING, "SEQ_CLS");
    is_as_peft_saves("gpt2-dynamo-lm/model.onnx", "gpt2", CAUSAL_LM, "CAUSAL_LM");
    is_as_peft_saves("llama-torchscript-lm/model.onnx", "llama", CAUSAL_LM, "CAUSAL_LM");
}

/// A head that is tied to the table gets a weight of its own where lorac builds the model; PEFT has it so as well.
#[test]
fn an_untied_head_is_a_module_of_its_own() {
    for more in ["", ", dropout: 0.1"] {
        let adapt = format!("lora: {{ targets: [\"role:head\"], rank: 2, alpha: 4, tied: untie{more} }}");
        let case = case("gpt2");
        case.notes(CAUSAL_LM, &adapt, "");
        assert_eq!(case.modules(), ["lm_head"]);
    }
    let tied = case("gpt2");
    let outcome = tied.run(CAUSAL_LM, "lora: { targets: [\"role:head\"], rank: 2, alpha: 4 }", "").expect("runs");
    assert!(outcome.manifest.targets[0].name.contains("wte") && !tied.adapter("adapter_config.json").exists());
}

#[test]
fn a_head_of_no_class_is_said_and_lies_beside() {
    let case = case("bert");
    let notes = case.notes(CLASSIFY, QUERY_VALUE, "");
    assert!(notes.contains("AutoModel (FEATURE_EXTRACTION)") && notes.contains("head: architecture"), "{notes}");
    let want = [("classifier.bias", vec![2]), ("classifier.weight", vec![2, 8])];
    assert_eq!(case.shapes("head.safetensors"), want.map(|(k, v)| (k.to_string(), v)).into());
    let described: Value =
        serde_json::from_slice(&fs::read(case.adapter("head_config.json")).expect("a file")).expect("JSON");
    assert_eq!((&described["pool"], &described["input"]), (&json!("mean"), &json!("last_hidden_state")));
    assert_eq!(described["labels"], json!(["negative", "positive"]));
    assert_eq!(self::case("bert").notes(CLASSIFY_OWN, QUERY_VALUE, ""), "");
}

/// Names of dynamo's export go with its scopes, and the type with the config.json.
fn nameless() -> Case {
    let case = case("bert-packed/model.onnx");
    fs::remove_file(case.model("config.json")).expect("removes");
    case
}

#[test]
fn what_cannot_be_named_is_said_before_the_training() {
    let case = nameless();
    let notes = case.notes(CLASSIFY, "lora: { targets: [\"role:output\"], rank: 2 }", "");
    assert!(notes.contains("there will be no adapter: the PyTorch modules of `t"), "{notes}");
    assert!(notes.contains("deploy.peft.names: { \"t"), "{notes}");
    assert!(!case.folder.path().join("out/adapter").exists());
}

#[test]
fn names_of_a_user_are_the_modules() {
    let case = nameless();
    let outcome = case.run(CLASSIFY, "lora: { targets: [\"role:output\"], rank: 2 }", "").expect("runs");
    let weights: Vec<String> = outcome.manifest.targets.iter().map(|t| t.name.clone()).collect();
    let module = |i| format!("encoder.layer.{i}.attention.output.dense");
    let named = |second: usize, first_weight: &str| {
        format!(
            "deploy: {{ peft: {{ names: {{ {first_weight}: {}, {}: {} }} }} }}\n",
            module(0),
            weights[1],
            module(second)
        )
    };
    let case = nameless();
    let notes = case.notes(CLASSIFY, "lora: { targets: [\"role:output\"], rank: 2 }", &named(1, &weights[0]));
    assert!(notes.contains("its type is not known"), "{notes}");
    assert_eq!(case.modules(), [module(0), module(1)]);
    let readme = fs::read_to_string(case.adapter("README.md")).expect("README.md");
    assert!(readme.contains("from_pretrained(\"MODEL\""), "{readme}");
    // Two weights are not one module, and what is named is a target.
    let notes = nameless().notes(CLASSIFY, "lora: { targets: [\"role:output\"], rank: 2 }", &named(0, &weights[0]));
    assert!(notes.contains("`encoder.layer.0.attention.output.dense` is the module of"), "{notes}");
    let wrong = nameless().run(CLASSIFY, "lora: { targets: [\"role:output\"], rank: 2 }", &named(1, "other"));
    let wrong = wrong.expect_err("no such weight").to_string();
    assert!(wrong.contains("`other` is not a weight that is adapted"), "{wrong}");
}

#[test]
fn the_type_is_told_by_scopes_where_no_configuration_is() {
    let case = case("gpt2-dynamo-lm/model.onnx");
    fs::remove_file(case.model("config.json")).expect("removes");
    assert_eq!(case.notes(CAUSAL_LM, "lora: { targets: [all-linear], rank: 2 }", ""), "");
    let modules = case.modules();
    assert!(modules.contains(&"transformer.h.1.mlp.c_proj".to_string()), "{modules:?}");
    assert_eq!(case.config()["fan_in_fan_out"], json!(true));
}

#[test]
fn what_peft_has_no_form_for_is_said_before_the_training() {
    for adapt in ["bias: {}", "full: { targets: [\"role:query\"] }"] {
        let case = case("bert");
        let notes = case.notes(CLASSIFY, adapt, "");
        assert!(notes.contains("there will be no adapter: PEFT's format holds LoRA"), "{notes}");
        assert!(!case.folder.path().join("out/adapter").exists());
    }
}

/// The one would be in the adapter twice, by itself and in the module as a whole.
#[test]
fn a_module_that_is_scaled_is_not_trained_in_full_as_well() {
    let adapt = "ia3: { targets: [], feedforward: [\"role:down\"] } }, { full: { targets: [\"*.output.dense.bias\"] }";
    let case = case("bert");
    let notes = case.notes(CLASSIFY, adapt, "");
    assert!(notes.contains("there will be no adapter: PEFT has no module with scales and `"), "{notes}");
    assert!(!case.folder.path().join("out/adapter").exists());
}

#[test]
fn the_head_of_an_unknown_type_is_asked_for_by_name() {
    let wrong = nameless().run(CLASSIFY_OWN, QUERY_VALUE, "").expect_err("no type").to_string();
    assert!(wrong.contains("head: architecture") && wrong.contains("config.json"), "{wrong}");
    let own = "classify: { labels: [negative, positive], head: bert }";
    let outcome = nameless().run(own, QUERY_VALUE, "").expect("runs");
    assert!(outcome.gates.is_empty());
    let idle = case("bert").run("classify: { labels: [a, b], head: bert, pool: cls }", QUERY_VALUE, "");
    assert!(idle.expect_err("idle").to_string().contains("`head: linear`"));
}

/// As onnxruntime-genai's model builder names weights: after the nodes that read them.
#[test]
fn a_weight_that_is_named_after_a_node_is_no_module() {
    let notes = lorac_tests::border::border("genai").succeeds(&[]).manifest.notes;
    let says = |n: &String| n.starts_with("there will be no adapter") && n.contains("deploy.peft.names");
    assert!(notes.iter().any(says), "{notes:?}");
}
