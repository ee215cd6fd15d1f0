//! `lorac grad` as a user types it: what it writes and says, and how it ends on bad input.

use lorac::grad::{Loss, Request};
use lorac::ir::{Graph, Tensor};
use lorac::ops::{Array, Grad, Op, Operand, UNARY, case, evaluate, register};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

fn export(name: &str) -> String {
    repository().join("tests/data/exports").join(name).join("model.onnx").display().to_string()
}

/// `lorac grad` with its working folder in `folder`.
fn grad(folder: &Path, args: &[&str]) -> Output {
    let lorac = env!("CARGO_BIN_EXE_lorac");
    Command::new(lorac).args(["grad", "--quiet"]).args(args).current_dir(folder).output().expect("runs")
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// A model in the text form, saved.
fn saved(folder: &Path, model: &str) -> String {
    let graph = lorac::ir::parse(model).expect("parses");
    let path = folder.join("m.onnx");
    lorac::onnx::save(&graph, &path, &Default::default()).expect("saves");
    path.display().to_string()
}

fn outputs(graph: &Graph) -> Vec<String> {
    graph.outputs().iter().map(|v| graph.name_of(*v)).collect()
}

const TINY: &str = r#"graph tiny(%x: f32[N,2], %ids: i64[N]) -> %y, %p, %total {
  %w = weight "fc.w" f32[2,3] = [1, 2, 3, 4, 5, 6]
  %b = weight "fc.b" f32[3] = [0.5, 0.5, 0.5]
  %n = weight "n" i64[1] = [0]
  %u = weight "unused" f32[4] = [0, 0, 0, 0]
  %h = MatMul(%x, %w) : f32[N,3]
  %y = Add(%h, %b) : f32[N,3]
  %p = Shape(%y) : i64[2]
  %total = ReduceSum(%y, keepdims=0) : f32[]
}"#;

#[test]
fn a_plain_graph_with_a_loss_and_gradients() {
    let folder = tempfile::tempdir().expect("temp");
    let model = saved(folder.path(), TINY);
    let output = grad(folder.path(), &[&model, "--loss", "total"]);
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    let said = text(&output.stdout);
    for says in ["gradients         2 tensors, 9 parameters", "MatMul x1", "wrote             m.grad.onnx", "backward"]
    {
        assert!(said.contains(says), "no `{says}` in:\n{said}");
    }
    let written = lorac::onnx::load(folder.path().join("m.grad.onnx")).expect("loads").graph;
    assert_eq!(outputs(&written), ["loss", "grad.fc.w", "grad.fc.b"]);
    // Inputs and weights that the loss does not need are gone; the rest is as it was.
    assert_eq!(written.inputs().iter().map(|v| written.name_of(*v)).collect::<Vec<_>>(), ["x"]);
    assert_eq!((written.find("unused"), written.find("n")), (None, None));
    let weight = written.find("fc.w").and_then(|v| written.weight(v)).map(Tensor::to_vec::<f32>);
    assert_eq!(weight, Some(Ok(vec![1.0, 2.0, 3.0, 4.0, 5.0, 6.0])));
    let x = Array::from_shape_vec(vec![2, 2], vec![1.0, 10.0, 2.0, 20.0]).expect("fits");
    let got = evaluate(&written, &[("x", x)]).expect("runs");
    assert_eq!(got[1].iter().copied().collect::<Vec<_>>(), [3.0, 3.0, 3.0, 30.0, 30.0, 30.0]);
    assert_eq!(got[2].iter().copied().collect::<Vec<_>>(), [2.0; 3]);
}

#[test]
fn losses_globs_inputs_and_numbers_for_machines() {
    let folder = tempfile::tempdir().expect("temp");
    let model = saved(folder.path(), TINY);
    let args =
        [&model, "--loss", "mse", "--wrt", "x", "--wrt", "*.b", "--dim", "N=4", "-o", "t.onnx", "--format", "json"];
    let output = grad(folder.path(), &args);
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    let said: serde_json::Value = serde_json::from_slice(&output.stdout).expect("JSON");
    assert_eq!(said["trained"], serde_json::json!(["x", "fc.b"]));
    assert_eq!(said["inputs"][1], serde_json::json!(["target", "f32[N,3]"]));
    // 2 x 4 x 2 x 3 of the product, and at least one for each of the elements after it.
    assert!(said["flops_forward"]["number"].as_i64().is_some_and(|n| n >= 48 + 12), "{said}");
    assert_eq!(outputs(&lorac::onnx::load(folder.path().join("t.onnx")).expect("loads").graph).len(), 3);

    let output = grad(folder.path(), &[&model, "--loss", "cross_entropy", "--output", "y", "-o", "c.onnx"]);
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    // Without numbers for symbols costs are polynomials.
    assert!(text(&output.stdout).contains("*N"), "{}", text(&output.stdout));
    let written = lorac::onnx::load(folder.path().join("c.onnx")).expect("loads").graph;
    assert_eq!(written.find("target").map(|v| written.fact(v).to_string()).as_deref(), Some("i64[N]"));
}

#[test]
fn real_exports_are_upgraded_and_differentiated_whole() {
    for name in ["bert-torchscript", "distilbert-dynamo"] {
        let folder = tempfile::tempdir().expect("temp");
        let output = grad(folder.path(), &[&export(name), "--loss", "mse", "--format", "json"]);
        assert_eq!(output.status.code(), Some(0), "{name}: {}", text(&output.stderr));
        let said: serde_json::Value = serde_json::from_slice(&output.stdout).expect("JSON");
        let trained = said["trained"].as_array().map_or(0, Vec::len);
        assert!(trained >= 30 && said["opset"].as_i64() >= Some(18), "{name}: {said}");
        let written = lorac::onnx::load(folder.path().join("model.grad.onnx")).expect("loads").graph;
        assert_eq!(written.outputs().len(), trained + 1);
    }
}

#[test]
fn bad_input_is_named_and_leaves_nothing() {
    let broken =
        TINY.replace("%h = MatMul(%x, %w) : f32[N,3]", "%z = Relu(%b) : f32[3]\n %h = MatMul(%x, %z) : f32[N,3]");
    let foreign = TINY.replace("MatMul(%x, %w)", "odd.Blend(%x, %w)").replace("Add(%h", "other.Mix(%h");
    let all: [(&str, &[&str], &[&str]); 12] = [
        (TINY, &["--loss", "nll"], &["no output `nll`", "`total` f32[]", "cross_entropy"]),
        (TINY, &["--loss", "y"], &["loss `y`", "f32[N,3]", "a loss is one number"]),
        (TINY, &["--loss", "mse", "--output", "p"], &["`p` is i64[2]", "real numbers"]),
        (TINY, &["--loss", "mse", "--output", "q"], &["no output `q`"]),
        (TINY, &["--loss", "mse", "--wrt", "fc.q"], &["`fc.q` matches no weight", "nearest: fc."]),
        (TINY, &["--loss", "mse", "--wrt", "n"], &["`n` i64[1]", "only real numbers"]),
        (TINY, &["--loss", "mse", "--wrt", "unused"], &["does not depend on unused"]),
        (TINY, &["--loss", "mse", "--fix", "M=2"], &["`M` is neither a dimension", "there are `N`"]),
        (TINY, &["--loss", "mse", "--dim", "N"], &["--dim N", "NAME=N"]),
        (TINY, &["--loss", "mse", "-o", "no/such/g.onnx"], &["no/such/g.onnx", "folder"]),
        (&broken, &["--loss", "total"], &["MatMul", "do not fit"]),
        (&foreign, &["--loss", "total"], &["odd.Blend", "other.Mix", "does not know", "`odd`"]),
    ];
    for (model, args, says) in all {
        let folder = tempfile::tempdir().expect("temp");
        let path = saved(folder.path(), model);
        let output = grad(folder.path(), &[&[path.as_str()], args].concat());
        let error = text(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{args:?}: {error}");
        assert!(!error.contains("panicked"), "{error}");
        says.iter().for_each(|s| assert!(error.contains(s), "{args:?}: no `{s}` in:\n{error}"));
        let left: Vec<_> = std::fs::read_dir(folder.path()).expect("lists").flatten().map(|e| e.file_name()).collect();
        assert_eq!(left, ["m.onnx"], "{args:?}");
    }
}

static SQUARE: Op = Op {
    domain: "own",
    name: "Square",
    since: 1,
    eval: |a| Ok(vec![a.x(0)?.mapv(|x| x * x)]),
    grad: Grad::rule(|b| vec![Some(2.0 * b.gy * b.x[0])], &[case(&[Operand::Any(&[2, 3])])]),
    ..UNARY
};

#[test]
fn a_program_differentiates_a_file_with_an_operator_of_its_own() {
    register(&SQUARE).expect("registers");
    let folder = tempfile::tempdir().expect("temp");
    let text = TINY.replace("%y = Add(%h, %b)", "%s = own.Square(%h) : f32[N,3]\n %y = Add(%s, %b)");
    let mut graph = lorac::ir::parse(&text).expect("parses");
    graph.opsets.insert("own".into(), 1);
    let path = folder.path().join("m.onnx");
    lorac::onnx::save(&graph, &path, &Default::default()).expect("saves");
    let model = lorac::onnx::load(&path).expect("loads");
    let request =
        Request { wrt: vec!["fc.w".into()], loss: Loss::Output("total".into()), output: None, fix: Default::default() };
    let found = lorac::grad::grad(&model, &request).expect("differentiates");
    assert_eq!(found.active_operators.get("own.Square"), Some(&1), "{:?}", found.active_operators);
    assert!(found.graph.opsets.contains_key("own"), "{:?}", found.graph.opsets);
    let x = Array::from_shape_vec(vec![1, 2], vec![1.0, -1.0]).expect("an array");
    let results = evaluate(&found.graph, &[("x", x)]).expect("evaluates");
    let gradient: Vec<f64> = results[1].iter().copied().collect();
    assert_eq!(gradient, [-6.0, -6.0, -6.0, 6.0, 6.0, 6.0]);
}

#[test]
fn the_model_is_never_overwritten() {
    let folder = tempfile::tempdir().expect("temp");
    let model = saved(folder.path(), TINY);
    let before = std::fs::read(&model).expect("reads");
    let output = grad(folder.path(), &[&model, "--loss", "total", "-o", "./m.onnx"]);
    assert_eq!(output.status.code(), Some(2));
    assert!(text(&output.stderr).contains("the model itself"), "{}", text(&output.stderr));
    assert_eq!(std::fs::read(&model).expect("reads"), before);
}

/// Nor is any of the two files of one with an encoder and a decoder.
#[test]
fn no_file_of_a_model_is_overwritten() {
    let folder = tempfile::tempdir().expect("temp");
    let pair = repository().join("tests/data/truth/seq2seq_pair/t5.torchscript");
    let files = ["encoder_model.onnx", "decoder_model.onnx"];
    std::fs::create_dir(folder.path().join("t5")).expect("a folder");
    for file in files {
        std::fs::copy(pair.join(file), folder.path().join("t5").join(file)).expect("copies");
    }
    for file in files {
        let output = grad(folder.path(), &["t5", "--loss", "logits", "--out", &format!("t5/{file}")]);
        assert_eq!(output.status.code(), Some(2), "{file}: {}", text(&output.stderr));
        assert!(text(&output.stderr).contains("the model itself"), "{file}: {}", text(&output.stderr));
        let read = |folder: &Path| std::fs::read(folder.join(file)).expect("reads");
        assert_eq!(read(&folder.path().join("t5")), read(&pair), "{file}");
    }
}

#[test]
fn the_page_of_operators_is_the_table() {
    let output = grad(&repository(), &["--coverage"]);
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    let page = repository().join("docs/operators.md");
    if std::env::var_os("LORAC_BLESS").is_some() {
        std::fs::write(&page, &output.stdout).expect("writes");
    }
    let committed = std::fs::read_to_string(&page).unwrap_or_default();
    assert!(committed == text(&output.stdout), "docs/operators.md is outdated: run this test with LORAC_BLESS=1");
    let supported =
        lorac::coverage::entries().iter().filter(|e| e.domain == "ai.onnx" && e.how != "unsupported").count();
    assert!(supported >= 150, "only {supported} of the standard's operators have a gradient or rightly none");
}
