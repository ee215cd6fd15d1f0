//! Thirty AdamW steps of language models with LoRA, compiled as `task: causal_lm` compiles them, against PEFT's: a fused
//! matrix of GPT-2's as a whole, and ranks and alphas by module. Every loss, the final adapter, the folded logits.

use lorac::compile::{Adaptation, CausalLm, Compiled, Spec, Task, compile};
use lorac::ir::{DType, Graph, Tensor};
use lorac::ops::{array, infer};
use lorac::output::{PeftAdapter, PeftModule, read_peft};
use lorac::passes::{AdamW, Branch, Lora, Role, Target, fold_lora, select};
use lorac::program::program;
use lorac::runtime::Provider;
use lorac::train::Step;
use lorac_tests::{data, engines, largest_difference, relative_error, truth};

/// How the matrices of a model are adapted.
type Plan = fn(&Graph, &PeftAdapter) -> Vec<Adaptation>;
/// The end of the name of a branch's module: what it does, and in which layer.
type Name = fn(&Branch, usize) -> String;

fn module<'a>(adapter: &'a PeftAdapter, compiled: &Compiled, branch: &Branch, name: Name) -> &'a PeftModule {
    let alike = |b: &&Branch| b.target.roles == branch.target.roles;
    let mut weights: Vec<_> = compiled.branches.iter().filter(alike).map(|b| b.target.matrix.weight).collect();
    weights.sort();
    let layer = weights.iter().position(|w| *w == branch.target.matrix.weight).expect("one of them");
    let end = name(branch, layer);
    adapter.modules.iter().find(|m| m.name.ends_with(&end)).unwrap_or_else(|| panic!("no {end}"))
}

fn reproduces(case: &str, export: &str, plan: Plan, name: Name) {
    let folder = data("peft").join(case);
    let settings: serde_json::Value =
        serde_json::from_slice(&std::fs::read(folder.join("case.json")).expect("case.json")).expect("JSON");
    let losses: Vec<f64> = settings["losses"].as_array().expect("losses").iter().filter_map(|x| x.as_f64()).collect();
    assert_eq!(losses.len(), 30);
    let read = |part: &str| read_peft(&folder.join(part)).unwrap_or_else(|e| panic!("{e}"));
    let (first, last) = (read("adapter_init"), read("adapter_final"));
    let batches = truth(&folder.join("data.safetensors"));
    let model = lorac::onnx::load(folder.join(export)).expect(export);
    let mut graph = model.graph.clone();
    infer(&mut graph).expect("infers");
    let number = |key: &str| settings["optimizer"][key].as_f64().expect(key);
    let optimizer = AdamW {
        beta1: number("beta1"),
        beta2: number("beta2"),
        eps: number("eps"),
        weight_decay: number("weight_decay"),
        clip: None,
    };
    let adapt = plan(&graph, &first);
    let (engines, orders) = (engines(), [None, Some(1 << 20)]);
    for (engine, tokens) in engines.iter().flat_map(|e| orders.map(|tokens| (e, tokens))) {
        let who = format!("{case}/{export} on {}, in the order for {tokens:?} tokens", engine.name());
        let embedded = engine.provider() == Provider::Tract;
        let task = Task::CausalLm(CausalLm::default());
        let spec = Spec { adapt: adapt.clone(), task, optimizer, embedded, tokens };
        let compiled = compile(&graph, &spec).unwrap_or_else(|e| panic!("{who}: {e}"));
        assert_eq!(compiled.branches.len(), first.modules.len());
        let theta_of = |adapter: &PeftAdapter| -> Vec<f32> {
            let modules = compiled.branches.iter().map(|b| module(adapter, &compiled, b, name));
            modules.flat_map(|m| m.a.iter().chain(&m.b).copied()).collect()
        };
        let zeros = Tensor::zeros(DType::F32, &[compiled.arena.len()]).expect("zeros");
        let state = vec![
            ("theta", "theta.next", Tensor::vector(&theta_of(&first))),
            ("m", "m.next", zeros.clone()),
            ("v", "v.next", zeros),
        ];
        let step = program(engine.as_ref(), &compiled.step, state).unwrap_or_else(|e| panic!("{who}: {e}"));
        let mut step = Step { program: step, betas: [optimizer.beta1, optimizer.beta2], noise: None, taken: 0 };
        for (i, want) in losses.iter().enumerate() {
            let feeds: Vec<(String, Tensor)> = ["input_ids", "attention_mask", "labels"]
                .iter()
                .map(|part| (part.to_string(), batches[&format!("step{i:02}.{part}")].tensor()))
                .collect();
            let got = step.run(&feeds, number("lr")).unwrap_or_else(|e| panic!("{who}: {e}"));
            assert!((got.loss - want).abs() <= 1e-4, "{who}: step {i}: {} instead of {want}", got.loss);
        }
        let vector = |v: &[f32]| array(&Tensor::vector(v)).expect("reals");
        let error = relative_error(&vector(&step.theta().expect("theta")), &vector(&theta_of(&last)));
        assert!(error <= 1e-3, "{who}: the final adapter is off by {error:e}");

        // Folding PEFT's final adapter into the export gives PEFT's final logits.
        let edits = compiled.branches.iter().map(|b| {
            let (m, matrix) = (module(&last, &compiled, b, name), &b.target.matrix);
            assert!((m.scale - b.lora.scale()).abs() < 1e-12, "{who}: '{}' is scaled otherwise", m.name);
            let w0 = model.graph.weight(matrix.weight).expect("a weight");
            lorac::onnx::Edit::new(matrix.weight, fold_lora(&b.target, w0, &m.a, &m.b, m.scale).expect("folds"))
        });
        let out = tempfile::tempdir().expect("temp");
        let deployed = out.path().join("model.onnx");
        lorac::onnx::patch(&model, &edits.collect::<Vec<_>>(), None, &deployed).expect("patches");
        let deployed = lorac::onnx::load(&deployed).expect("loads");
        for (graph, key) in [(&model.graph, "eval.before"), (&deployed.graph, "eval.after")] {
            let mut run = program(engine.as_ref(), graph, Vec::new()).unwrap_or_else(|e| panic!("{who}: {e}"));
            let (ids, mask) = (batches["eval.input_ids"].tensor(), batches["eval.attention_mask"].tensor());
            let got = run.run(&[("input_ids", &ids), ("attention_mask", &mask)], &["logits"]).expect("runs");
            let worst = largest_difference(&array(&got[0]).expect("reals"), &batches[key].array);
            assert!(worst <= 1e-4, "{who}: {key} is off by {worst:e}");
        }
    }
}

fn usual(adapter: &PeftAdapter) -> Lora {
    Lora { rank: adapter.rank, alpha: adapter.alpha, rslora: adapter.rslora }
}

fn whole_fused_matrices(graph: &Graph, adapter: &PeftAdapter) -> Vec<Adaptation> {
    let parts = select(graph, &["role:query"]).expect("targets");
    assert!(
        parts.iter().all(|t| t.part.is_some() && t.matrix.cols == 3 * t.cols()),
        "query, key and value are one matrix"
    );
    vec![Adaptation { targets: select(graph, &["*c_attn*"]).expect("targets"), lora: usual(adapter), dropout: 0.0 }]
}

fn one_query_otherwise(graph: &Graph, adapter: &PeftAdapter) -> Vec<Adaptation> {
    let mut targets: Vec<Target> = select(graph, &["role:query", "role:value", "role:down"]).expect("targets");
    assert_eq!(targets.len(), 6);
    let last = targets.iter().rposition(|t| t.roles.contains(&Role::Query)).expect("a query");
    let query = targets.remove(last);
    let other = Lora { rank: 2, alpha: 3.0, rslora: true };
    vec![
        Adaptation { targets, lora: usual(adapter), dropout: 0.0 },
        Adaptation { targets: vec![query], lora: other, dropout: 0.0 },
    ]
}

fn attention_of(_: &Branch, layer: usize) -> String {
    format!("h.{layer}.attn.c_attn")
}

fn projection_of(branch: &Branch, layer: usize) -> String {
    let role = branch.target.roles.iter().next().copied();
    let name = match role {
        Some(Role::Query) => "self_attn.q_proj",
        Some(Role::Value) => "self_attn.v_proj",
        _ => "mlp.down_proj",
    };
    format!("layers.{layer}.{name}")
}

#[test]
fn fused_matrices_of_the_torchscript_export() {
    reproduces("gpt2-cattn", "base.torchscript.onnx", whole_fused_matrices, attention_of);
}

#[test]
fn fused_matrices_of_the_dynamo_export() {
    reproduces("gpt2-cattn", "base.dynamo.onnx", whole_fused_matrices, attention_of);
}

#[test]
fn ranks_and_alphas_by_module_of_the_torchscript_export() {
    reproduces("llama-patterns", "base.torchscript.onnx", one_query_otherwise, projection_of);
}

#[test]
fn ranks_and_alphas_by_module_of_the_dynamo_export() {
    reproduces("llama-patterns", "base.dynamo.onnx", one_query_otherwise, projection_of);
}
