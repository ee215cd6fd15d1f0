//! Thirty AdamW steps of language models with LoRA, compiled as `task: causal_lm` compiles them, against PEFT's: a fused
//! matrix of GPT-2's as a whole, and ranks and alphas by module. Every loss, the final adapter, the folded logits.

use lorac::compile::{Adaptation, CausalLm, Compiled, Spec, Task, compile};
use lorac::ir::Graph;
use lorac::ops::infer;
use lorac::output::{PeftAdapter, PeftModule};
use lorac::passes::{Branch, Lora, Role, Target, fold_lora, select};
use lorac_tests::engines;
use lorac_tests::peft::Training;

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
    let peft = Training::read(case);
    let model = lorac::onnx::load(peft.folder.join(export)).expect(export);
    let mut graph = model.graph.clone();
    infer(&mut graph).expect("infers");
    let adapt = plan(&graph, &peft.first);
    let (engines, orders) = (engines(), [None, Some(1 << 20)]);
    for (engine, tokens) in engines.iter().flat_map(|e| orders.map(|tokens| (e, tokens))) {
        let who = format!("{case}/{export} on {}, in the order for {tokens:?} tokens", engine.name());
        let dialect = engine.dialect();
        let task = Task::CausalLm(CausalLm::default());
        let spec = Spec { adapt: adapt.clone(), task, optimizer: peft.optimizer, dialect, tokens };
        let compiled = compile(&graph, &spec).unwrap_or_else(|e| panic!("{who}: {e}"));
        assert_eq!(compiled.branches.len(), peft.first.modules.len());
        let theta_of = |adapter: &PeftAdapter| -> Vec<f32> {
            let modules = compiled.branches.iter().map(|b| module(adapter, &compiled, b, name));
            modules.flat_map(|m| m.a.iter().chain(&m.b).copied()).collect()
        };
        let ends = [&theta_of(&peft.first)[..], &theta_of(&peft.last)];
        peft.is_done_by(engine.as_ref(), &compiled.step, ends, &who);

        // Folding PEFT's final adapter into the export gives PEFT's final logits.
        let edits = compiled.branches.iter().map(|b| {
            let (m, matrix) = (module(&peft.last, &compiled, b, name), &b.target.matrix);
            assert!((m.scale - b.lora.scale()).abs() < 1e-12, "{who}: '{}' is scaled otherwise", m.name);
            let w0 = model.graph.weight(matrix.weight).expect("a weight");
            lorac::onnx::Edit::new(matrix.weight, fold_lora(&b.target, w0, &m.a, &m.b, m.scale).expect("folds"))
        });
        let out = tempfile::tempdir().expect("temp");
        let deployed = out.path().join("model.onnx");
        lorac::onnx::patch(&model, &edits.collect::<Vec<_>>(), None, &deployed).expect("patches");
        let deployed = lorac::onnx::load(&deployed).expect("loads");
        peft.agrees(engine.as_ref(), [&model.graph, &deployed.graph], &who);
    }
}

fn usual(adapter: &PeftAdapter) -> Lora {
    Lora { rank: adapter.rank, alpha: adapter.alpha, rslora: adapter.rslora }
}

fn whole_fused_matrices(graph: &Graph, adapter: &PeftAdapter) -> Vec<Adaptation> {
    let parts = select(graph, &["role:query"]).expect("targets");
    assert!(
        parts.iter().all(|t| t.slice.is_some() && t.matrix.cols == 3 * t.cols()),
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
