//! Thirty AdamW steps of language models with LoRA, compiled as `task: causal_lm` compiles them, against PEFT's: a fused
//! matrix of GPT-2's as a whole, and ranks and alphas by module. Every loss, the final adapter, the folded logits.

use lorac::inputs::{caches, feeds};
use lorac::ir::Graph;
use lorac::output::{PeftAdapter, PeftModule};
use lorac::passes::{
    Adaptation, Delta, Lora, Role, Target, Training as Compiled, TrainingSpec, UpdateSpec, fold_low_rank, readable,
    select, training_step,
};
use lorac::task::CausalLm;
use lorac_tests::engines;
use lorac_tests::peft::Training;

/// How the matrices of a model are adapted.
type Plan = fn(&Graph, &PeftAdapter) -> Vec<(Lora, Vec<Target>)>;
/// The end of the name of a branch's module: what it does, and in which layer.
type Name = fn(&Target, usize) -> String;

fn module<'a>(adapter: &'a PeftAdapter, compiled: &Compiled, target: &Target, name: Name) -> &'a PeftModule {
    let alike = |t: &&Target| t.roles == target.roles;
    let mut weights: Vec<_> = compiled.deltas.iter().map(|(_, d)| &d.target).filter(alike).map(|t| t.weight).collect();
    weights.sort();
    let layer = weights.iter().position(|w| *w == target.weight).expect("one of them");
    let end = name(target, layer);
    adapter.modules.iter().find(|m| m.name.ends_with(&end)).unwrap_or_else(|| panic!("no {end}"))
}

fn reproduces(case: &str, export: &str, plan: Plan, name: Name) {
    let peft = Training::read(case);
    let model = lorac::onnx::load(peft.folder.join(export)).expect(export);
    let graph = readable(&model.graph, &model.functions).expect("readable");
    let adapt = plan(&graph, &peft.first);
    let adaptations: Vec<Adaptation> =
        adapt.iter().map(|(lora, targets)| Adaptation { method: lora, targets: targets.clone() }).collect();
    let feeds = feeds(&graph).expect("known inputs");
    let (engines, orders) = (engines(), [None, Some(1 << 20)]);
    for (engine, tokens) in engines.iter().flat_map(|e| orders.map(|tokens| (e, tokens))) {
        let who = format!("{case}/{export} on {}, in the order for {tokens:?} tokens", engine.name());
        let spec = TrainingSpec {
            adaptations: &adaptations,
            objective: &CausalLm::default(),
            update: UpdateSpec::of(&peft.optimizer),
            dialect: engine.dialect(),
            tokens,
            caches: caches(&graph, &feeds),
            packed: false,
        };
        let compiled = training_step(&graph, &spec, &mut |_| {}).unwrap_or_else(|e| panic!("{who}: {e}"));
        let chunks = compiled.step.nodes().filter(|(_, node)| &*node.op.name == "LogSoftmax").count();
        assert_eq!(chunks > 1, tokens.is_some(), "{who}: {chunks} chunks");
        let deltas: Vec<&Delta> = compiled.deltas.iter().map(|(_, d)| d).collect();
        assert_eq!(deltas.len(), peft.first.modules.len());
        let theta_of = |adapter: &PeftAdapter| -> Vec<f32> {
            let modules = deltas.iter().map(|d| module(adapter, &compiled, &d.target, name));
            modules.flat_map(|m| m.a.iter().chain(&m.b).copied()).collect()
        };
        let ends = [&theta_of(&peft.first)[..], &theta_of(&peft.last)];
        peft.is_done_by(engine.as_ref(), &compiled, ends, &who);

        // Folding PEFT's final adapter into the export gives PEFT's final logits.
        let edits = deltas.iter().map(|d| {
            let (m, target) = (module(&peft.last, &compiled, &d.target, name), &d.target);
            let scale = d.form.scale().expect("low rank");
            assert!((m.scale() - scale).abs() < 1e-12, "{who}: `{}` is scaled otherwise", m.name);
            let w0 = model.graph.weight(target.weight).expect("a weight");
            let bytes = fold_low_rank(target, w0, &m.a, &m.b, m.scale()).expect("folds");
            lorac::onnx::Edit::new(target.weight, bytes)
        });
        let out = tempfile::tempdir().expect("temp");
        let deployed = out.path().join("model.onnx");
        lorac::onnx::patch(&model, &edits.collect::<Vec<_>>(), None, &deployed).expect("patches");
        let deployed = lorac::onnx::load(&deployed).expect("loads");
        peft.agrees(engine.as_ref(), [&model.graph, &deployed.graph], &who);
    }
}

fn usual(adapter: &PeftAdapter) -> Lora {
    Lora { rank: adapter.rank, alpha: adapter.alpha, rslora: adapter.rslora, ..Lora::default() }
}

fn whole_fused_matrices(graph: &Graph, adapter: &PeftAdapter) -> Vec<(Lora, Vec<Target>)> {
    let slices = select(graph, &["role:query"]).expect("targets");
    assert!(
        slices.iter().all(|t| t.slice.is_some() && t.dims.contains(&(3 * t.cols()))),
        "query, key and value are one matrix"
    );
    vec![(usual(adapter), select(graph, &["*c_attn*"]).expect("targets"))]
}

fn one_query_otherwise(graph: &Graph, adapter: &PeftAdapter) -> Vec<(Lora, Vec<Target>)> {
    let mut targets: Vec<Target> = select(graph, &["role:query", "role:value", "role:down"]).expect("targets");
    assert_eq!(targets.len(), 6);
    let last = targets.iter().rposition(|t| t.roles.contains(&Role::Query)).expect("a query");
    let query = targets.remove(last);
    let other = Lora { rank: 2, alpha: 3.0, rslora: true, ..Lora::default() };
    vec![(usual(adapter), targets), (other, vec![query])]
}

fn attention_of(_: &Target, layer: usize) -> String {
    format!("h.{layer}.attn.c_attn")
}

fn projection_of(target: &Target, layer: usize) -> String {
    let role = target.roles.iter().next().copied();
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
