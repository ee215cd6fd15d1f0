//! `data.pack`: runs whose examples share rows.

use lorac::error::Class;
use lorac::onnx::SaveOptions;
use lorac::run::ResumeFrom;
use lorac_tests::border::{Border, Ears, border};
use lorac_tests::data;
use std::fs;

/// A run of a language model over a table of short texts.
fn run_of(export: &str) -> (Border, Vec<String>) {
    let model = data("exports").join(export).join("model.onnx");
    let settings = [
        format!("model.source={}", model.display()),
        "adapt.0.lora.targets=[\"role:query\"]".into(),
        "data.pack=true".into(),
        "train.batch=3".into(),
        "train.epochs=1".into(),
        "data.max_length=32".into(),
    ];
    (border("merged"), settings.to_vec())
}

fn strs<'a>(settings: &'a [String], more: &[&'a str]) -> Vec<&'a str> {
    settings.iter().map(String::as_str).chain(more.iter().copied()).collect()
}

#[test]
fn a_packed_run_has_few_rows_and_evaluates_as_any_other() {
    for (export, engine) in [("gpt2-dynamo", "pypi:onnxruntime==1.31.1"), ("llama-torchscript", "embedded")] {
        let (border, settings) = run_of(export);
        let engine = format!("runtime.source={engine}");
        let packed = border.succeeds(&strs(&settings, &[&engine])).manifest;
        let card = packed.data.train.packed.expect("it is packed");
        let examples = packed.data.train.examples;
        assert_eq!(packed.data.train.drawn, examples);
        assert!(card.filled > 0.9 && card.rows * 3 < examples, "{card:?} of {examples}");
        assert!((card.examples_per_row - examples as f64 / card.rows as f64).abs() < 1e-9);
        assert_eq!(packed.train.steps, card.rows.div_ceil(3) as u64, "a batch counts rows");
        let plain = border.succeeds(&strs(&settings, &[&engine, "data.pack=false", "train.steps=1"])).manifest;
        assert_eq!(plain.data.train.packed, None);
        for score in &plain.eval.before.scores {
            let other = packed.eval.before.get(&score.name).expect("the same scores");
            assert!((score.value - other).abs() <= 1e-6 * score.value.abs(), "{export}: {score:?}, and {other} packed");
        }
        assert_eq!(plain.eval.before.count, packed.eval.before.count);
    }
}

#[test]
fn it_goes_on_to_the_same_bits_in_slices_and_by_weights() {
    let (border, settings) = run_of("gpt2-torchscript");
    let sources = "data.train=[{ csv: train.csv, text: text, weight: 2 }, { csv: eval.csv, text: text, take: 20 }]";
    let settings = strs(&settings, &[sources, "train.slice=2", "train.epochs=2", "data.eval=null"]);
    let ears = Ears::default();
    let whole = border.go("whole", &settings, None, &ears).unwrap_or_else(|e| panic!("{e}")).manifest;
    let card = whole.data.train.packed.expect("it is packed");
    assert!(ears.text().contains(&format!("packed    {} rows of 32 tokens", card.rows)), "{}", ears.text());
    assert!(whole.data.train.drawn > whole.data.train.examples, "{:?}", whole.data.train);
    let error = border.go("parts", &settings, None, &Ears::until(5)).expect_err("stopped");
    assert_eq!(error.class(), Class::Interrupted, "{error}");
    border.go("parts", &settings, Some(&ResumeFrom::Newest), &Ears::default()).unwrap_or_else(|e| panic!("{e}"));
    let [whole, parts] = ["whole", "parts"].map(|out| border.path().join(out).join("model.onnx"));
    assert!(fs::read(whole).expect("a model") == fs::read(parts).expect("a model"));
}

/// A model of tokens in the text form, whose hidden states `%h` are computed of the words `%x` by these lines.
fn model(border: &Border, inputs: &str, weights: &str, lines: &str) {
    let numbers =
        |count: usize| (0..count).map(|i| format!("{:.3}", (i as f64 * 0.7).sin())).collect::<Vec<_>>().join(", ");
    let text = format!(
        r#"graph lm opset 17 (%input_ids: i64[B,S]{inputs}) -> %logits {{
          %words = weight "words" f32[97,4] = [{}]
          %head = weight "wq" f32[4,97] = [{}]
          %zero = weight "zero" i64[] = [0]
          %one = weight "one" i64[] = [1]
          %zeros = weight "zeros" i64[1] = [0]
          %ones = weight "ones" i64[1] = [1]
          %low = weight "low" f32[] = [-1e9]
          %kernel = weight "kernel" f32[4,4,3] = [{}]
          {weights}
          %x = Gather(%words, %input_ids) : f32[B,S,4]
          %n = Shape(%input_ids, start=1) : i64[1]
          %m = Squeeze(%n) : i64[]
          {lines}
          %logits = MatMul(%h, %head) : f32[B,S,97]
        }}"#,
        numbers(388),
        numbers(388),
        numbers(48)
    );
    let graph = lorac::ir::parse(&text).unwrap_or_else(|e| panic!("{e}"));
    lorac::onnx::save(&graph, border.path().join("own.onnx"), &SaveOptions::default()).expect("saves");
}

const CONVOLUTION: &str = "%t = Transpose(%x, perm=[0,2,1]) : f32[B,4,S]
    %c = Conv(%t, %kernel, pads=[2,0], kernel_shape=[3]) : f32[B,4,S]
    %h = Transpose(%c, perm=[0,2,1]) : f32[B,S,4]";

const ATTENTION: &str = "%k = Transpose(%x, perm=[0,2,1]) : f32[B,4,S]
    %scores = MatMul(%x, %k) : f32[B,S,S]
    %r = Range(%zero, %m, %one) : i64[S]
    %c = Unsqueeze(%r, %ones) : i64[S,1]
    %before = GreaterOrEqual(%c, %r) : bool[S,S]
    %seen = Where(%before, %scores, %low) : f32[B,S,S]
    %p = Softmax(%seen, axis=-1) : f32[B,S,S]";

#[test]
fn what_mixes_tokens_otherwise_is_named_with_its_place() {
    let border = border("merged");
    let own = ["model.source=own.onnx", "adapt.0.lora.targets=[wq]", "data.pack=true", "data.max_length=32"];
    model(&border, "", "", CONVOLUTION);
    let said = border.fails(&own);
    assert!(said.contains("pipeline::pack") && said.contains("--set"), "{said}");
    assert!(said.contains("no attention of the model has scores") && said.contains("`c` (Conv)"), "{said}");
    let sums = format!(
        "{ATTENTION}\n%a = MatMul(%p, %x) : f32[B,S,4]\n%s = CumSum(%x, %one) : f32[B,S,4]\n%h = Add(%a, %s) : f32[B,S,4]"
    );
    model(&border, "", "", &sums);
    let said = border.fails(&own);
    assert!(said.contains("pipeline::pack") && said.contains("see other examples of their row"), "{said}");
    assert!(said.contains("kept apart in `p`") && said.contains("`s` (CumSum)"), "{said}");
    // A table of positions that is cut, and not looked up.
    let places = (0..128).map(|i| format!("{:.2}", (i as f64).cos())).collect::<Vec<_>>().join(", ");
    let weights = format!("%places = weight \"places\" f32[32,4] = [{places}]");
    let cut = ATTENTION.replace("%x", "%z");
    let cut = format!(
        "%own = Slice(%places, %zeros, %n, %zeros) : f32[S,4]\n\
         %z = Add(%x, %own) : f32[B,S,4]\n{cut}\n%h = MatMul(%p, %z) : f32[B,S,4]"
    );
    model(&border, "", &weights, &cut);
    let said = border.fails(&own);
    assert!(said.contains("pipeline::pack") && said.contains("its positions do not begin anew"), "{said}");
    // Without positions, it is kept apart.
    model(&border, "", "", &format!("{ATTENTION}\n%h = MatMul(%p, %x) : f32[B,S,4]"));
    border.succeeds(&own);
}

/// A model that is told which tokens see which: as sums, as true and false, and with lengths of its own.
#[test]
fn a_mask_of_pairs_is_fed_and_keeps_examples_apart() {
    let border = border("merged");
    let run = |settings: &[&str]| {
        let own = ["model.source=own.onnx", "adapt.0.lora.targets=[wq]", "data.max_length=32", "train.epochs=1"];
        let manifest = border.succeeds(&[&own, settings].concat()).manifest;
        let scores = [&manifest.eval.before, &manifest.eval.after].map(|scores| scores.get("loss").expect("a loss"));
        (scores, manifest.data.train.packed.is_some())
    };
    model(&border, "", "", &format!("{ATTENTION}\n%h = MatMul(%p, %x) : f32[B,S,4]"));
    let (want, packed) = (run(&[]).0, run(&["data.pack=true", "train.batch=4"]).0);
    let scores = "%k = Transpose(%x, perm=[0,2,1]) : f32[B,4,S]\n%q = MatMul(%x, %k) : f32[B,S,S]\n\
                  %scores = Unsqueeze(%q, %ones) : f32[B,1,S,S]";
    let end = "%a = Squeeze(%p, %ones) : f32[..]\n%h = MatMul(%a, %x) : f32[B,S,4]";
    for (mask, masked) in [
        ("f32[B,1,S,S]", "%seen = Add(%scores, %attention_mask) : f32[B,1,S,S]"),
        ("bool[B,1,S,S]", "%seen = Where(%attention_mask, %scores, %low) : f32[B,1,S,S]"),
        ("f32[N,1,Q,K]", "%seen = Add(%scores, %attention_mask) : f32[..]"),
    ] {
        let lines = format!("{scores}\n{masked}\n%p = Softmax(%seen, axis=-1) : f32[..]\n{end}");
        model(&border, &format!(", %attention_mask: {mask}"), "", &lines);
        for (settings, want, is_packed) in
            [(&[][..], want, false), (&["data.pack=true", "train.batch=4"][..], packed, true)]
        {
            let (got, packed) = run(settings);
            assert_eq!(packed, is_packed);
            let near = got.iter().zip(&want).all(|(a, b)| (a - b).abs() <= 1e-5 * b.abs());
            assert!(near && got[1] < got[0], "{mask}, {settings:?}: {got:?}, expected {want:?}");
        }
    }
}

#[test]
fn where_rows_hold_one_example_is_said_at_the_key() {
    let cases: [(&str, &[&str], &str); 3] = [
        ("bert", &["data.pack=true"], "the task `classify` learns one thing of an example"),
        ("merged", &["data.pack=true", "data.train.stream=true"], "those of a stream never are"),
        ("merged", &["data.packing=true"], "lorac says this as data.pack: true"),
    ];
    for (name, settings, says) in cases {
        let said = border(name).fails(settings);
        assert!(said.contains(says) && said.contains("--set"), "{settings:?}: {said}");
    }
}
