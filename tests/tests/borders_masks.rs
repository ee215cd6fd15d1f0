//! Models that take a mask of pairs of tokens are trained, asked, scored and described with one and the same mask.

use lorac::evaluate::evaluate;
use lorac::onnx::SaveOptions;
use lorac::pipeline::Loaded;
use lorac::predict::{Options, Predictor};
use lorac::progress::Silent;
use lorac::source::Resolver;
use lorac_tests::border::{Border, border};
use lorac_tests::serve::{python_snippet, unfed};
use std::fs;
use std::sync::atomic::AtomicBool;

/// A model of tokens whose inputs have names of their own: one layer of attention, and what comes of its states `%h`.
fn model(border: &Border, dtype: &str, masked: &str, rest: &str) {
    let numbers =
        |count: usize| (0..count).map(|i| format!("{:.3}", (i as f64 * 0.7).sin())).collect::<Vec<_>>().join(", ");
    let text = format!(
        r#"graph g opset 17 (%ids: i64[B,S], %mask: {dtype}[B,1,S,S]) -> %logits {{
          %words = weight "words" f32[97,4] = [{}]
          %wq = weight "wq" f32[4,4] = [{}]
          %head = weight "head" f32[4,97] = [{}]
          %two = weight "two" f32[4,2] = [{}]
          %ones = weight "ones" i64[1] = [1]
          %low = weight "low" f32[] = [-1e9]
          %x = Gather(%words, %ids) : f32[B,S,4]
          %q = MatMul(%x, %wq) : f32[B,S,4]
          %k = Transpose(%x, perm=[0,2,1]) : f32[B,4,S]
          %each = MatMul(%q, %k) : f32[B,S,S]
          %scores = Unsqueeze(%each, %ones) : f32[B,1,S,S]
          %seen = {masked} : f32[B,1,S,S]
          %p = Softmax(%seen, axis=-1) : f32[B,1,S,S]
          %a = Squeeze(%p, %ones) : f32[B,S,S]
          %h = MatMul(%a, %x) : f32[B,S,4]
          {rest}
        }}"#,
        numbers(388),
        numbers(16),
        numbers(388),
        numbers(8)
    );
    let graph = lorac::ir::parse(&text).unwrap_or_else(|e| panic!("{e}"));
    lorac::onnx::save(&graph, border.path().join("own.onnx"), &SaveOptions::default()).expect("saves");
}

const SUM: (&str, &str) = ("f32", "Add(%scores, %mask)");
const CHOICE: (&str, &str) = ("bool", "Where(%mask, %scores, %low)");
const TELLS: &str = "%logits = MatMul(%h, %head) : f32[B,S,97]";
const CLASSIFIES: &str =
    "%mean = ReduceMean(%h, axes=[1], keepdims=0) : f32[B,4]\n%logits = MatMul(%mean, %two) : f32[B,2]";
const OWN: [&str; 5] = [
    "model.source=own.onnx",
    "data.inputs={ input_ids: ids, attention_mask: mask }",
    "adapt.0.lora.targets=[wq]",
    "data.max_length=32",
    "train.steps=3",
];

/// What the run and `lorac eval` say of the loss of the deployed model, which is asked as well, and the mask that it is fed.
fn losses(border: &Border, settings: &[&str]) -> ([f64; 2], bool, Vec<String>) {
    let settings = [&OWN, settings].concat();
    let manifest = border.succeeds(&settings).manifest;
    let out = border.out().display().to_string();
    let mut opened = Predictor::open(&out, &Options::default()).unwrap_or_else(|e| panic!("{e}"));
    assert_eq!(opened.texts(&["a fine film"]).expect("answers").len(), 1);
    let settings: Vec<String> = settings.iter().map(ToString::to_string).collect();
    let loaded = Loaded::load(&border.path().join("pipeline.yaml"), &settings).expect("a pipeline");
    let resolver = Resolver::new(None, border.path()).expect("a resolver");
    let scored = evaluate(&out, &loaded, &resolver, &resolver, &Silent, &AtomicBool::new(false));
    let scored = scored.unwrap_or_else(|e| panic!("{e}"));
    let loss = [&manifest.eval.after, &scored.scores].map(|scores| scores.get("loss").expect("a loss"));
    let served = manifest.served.expect("what is served");
    assert_eq!(served.inputs["attention_mask"], "mask");
    assert_eq!(unfed(&border.out()), [] as [String; 0]);
    (loss, served.causal_mask.expect("a mask of pairs"), manifest.notes)
}

fn is_near([a, b]: [f64; 2]) -> bool {
    (a - b).abs() <= 1e-5 * a.abs()
}

#[test]
fn what_a_run_deploys_is_asked_and_scored_with_its_mask() {
    let border = border("merged");
    for ((dtype, masked), made) in [
        (SUM, "np.where((batch[\"attention_mask\"][:, None, None, :] > 0) & np.tri("),
        (CHOICE, "((batch[\"attention_mask\"][:, None, None, :] > 0) & np.tri("),
    ] {
        model(&border, dtype, masked, TELLS);
        let (loss, hides, notes) = losses(&border, &[]);
        assert!(is_near(loss) && hides, "{dtype}: {loss:?}");
        assert!(notes.iter().all(|note| !note.contains("`mask`")), "{notes:?}");
        let snippet = python_snippet(&border.out());
        assert!(snippet.contains(made), "{snippet}");
    }
}

#[test]
fn a_decoder_that_classifies_sees_what_comes_before_alone() {
    let border = border("bert");
    let (dtype, masked) = SUM;
    model(&border, dtype, masked, CLASSIFIES);
    let (loss, hides, notes) = losses(&border, &["metrics={}"]);
    assert!(is_near(loss) && !hides, "{loss:?}");
    assert!(notes.iter().any(|note| note.contains("the mask `mask` lets tokens see those that follow")), "{notes:?}");
    assert!(!python_snippet(&border.out()).contains("np.tri"));

    fs::write(border.path().join("config.json"), r#"{ "model_type": "gpt2" }"#).expect("writes");
    let (of_decoder, hides, notes) = losses(&border, &["metrics={}"]);
    assert!(is_near(of_decoder) && hides && !is_near([loss[0], of_decoder[0]]), "{loss:?}, {of_decoder:?}");
    assert!(notes.iter().all(|note| !note.contains("`mask`")), "{notes:?}");
    assert!(python_snippet(&border.out()).contains("np.tri"));
}
