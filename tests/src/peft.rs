//! Trainings that PEFT has done: from its first adapter and the same batches, its losses, its last adapter, its logits.

use crate::{Truth, data, largest_difference, relative_error, truth};
use lorac::ir::{Graph, Tensor};
use lorac::ops::array;
use lorac::output::{PeftAdapter, read_peft};
use lorac::passes::{AdamW, Training as Compiled};
use lorac::runtime::Backend;
use lorac::train::{compile_graph, training_program};
use std::collections::BTreeMap;
use std::path::PathBuf;

/// A folder of tests/data/peft.
pub struct Training {
    /// The folder: the exports of the base are in it.
    pub folder: PathBuf,
    /// The adapter before the first step.
    pub first: PeftAdapter,
    /// The adapter after the last.
    pub last: PeftAdapter,
    /// PEFT's optimizer.
    pub optimizer: AdamW,
    losses: Vec<f64>,
    batches: BTreeMap<String, Truth>,
}

impl Training {
    /// Thirty steps.
    pub fn read(name: &str) -> Training {
        let folder = data("peft").join(name);
        let bytes = std::fs::read(folder.join("case.json")).unwrap_or_else(|e| panic!("{name}: {e}"));
        let case: serde_json::Value = serde_json::from_slice(&bytes).unwrap_or_else(|e| panic!("{name}: {e}"));
        let losses: Vec<f64> = case["losses"].as_array().into_iter().flatten().filter_map(|x| x.as_f64()).collect();
        assert_eq!(losses.len(), 30, "{name}");
        let number = |key: &str| case["optimizer"][key].as_f64().unwrap_or_else(|| panic!("{name}: no {key}"));
        let adapter = |part: &str| read_peft(&folder.join(part)).unwrap_or_else(|e| panic!("{e}"));
        Training {
            first: adapter("adapter_init"),
            last: adapter("adapter_final"),
            optimizer: AdamW {
                beta1: number("beta1"),
                beta2: number("beta2"),
                eps: number("eps"),
                weight_decay: number("weight_decay"),
                lr: number("lr"),
            },
            losses,
            batches: truth(&folder.join("data.safetensors")),
            folder,
        }
    }

    /// Takes the steps from one theta, and fails unless every loss is PEFT's to 1e-4 and the theta at the end the other to
    /// 1e-3. `who` does it.
    pub fn is_done_by(&self, engine: &dyn Backend, compiled: &Compiled, [from, to]: [&[f32]; 2], who: &str) {
        let mut step = training_program(engine, compiled, from, 0).unwrap_or_else(|e| panic!("{who}: {e}"));
        for (i, want) in self.losses.iter().enumerate() {
            let feeds = ["input_ids", "attention_mask", "labels"]
                .map(|part| (part.to_string(), self.batches[&format!("step{i:02}.{part}")].tensor()));
            let got = step.run(&feeds, self.optimizer.lr).unwrap_or_else(|e| panic!("{who}: {e}"));
            assert!((got.loss - want).abs() <= 1e-4, "{who}: step {i}: {} instead of {want}", got.loss);
        }
        let vector = |v: &[f32]| array(&Tensor::vector(v)).unwrap_or_else(|| panic!("{who}: no reals"));
        let theta = step.theta().unwrap_or_else(|e| panic!("{who}: {e}"));
        let error = relative_error(&vector(&theta), &vector(to));
        assert!(error <= 1e-3, "{who}: the final adapter is off by {error:e}");
    }

    /// Fails unless the logits of both models on the held-out batch are PEFT's to 1e-4: the base's before the first step,
    /// the folded one's after the last.
    pub fn agrees(&self, engine: &dyn Backend, [base, folded]: [&Graph; 2], who: &str) {
        for (graph, key) in [(base, "eval.before"), (folded, "eval.after")] {
            let mut run = compile_graph(engine, graph, Vec::new()).unwrap_or_else(|e| panic!("{who}: {e}"));
            let [ids, mask] = ["input_ids", "attention_mask"].map(|n| self.batches[&format!("eval.{n}")].tensor());
            let got = run.run(&[("input_ids", &ids), ("attention_mask", &mask)], &["logits"]);
            let got = got.ok().and_then(|t| array(t.first()?)).unwrap_or_else(|| panic!("{who}: {key} does not run"));
            let worst = largest_difference(&got, &self.batches[key].array);
            assert!(worst <= 1e-4, "{who}: {key} is off by {worst:e}");
        }
    }
}
