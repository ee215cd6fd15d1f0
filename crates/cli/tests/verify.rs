//! `lorac verify` as a user types it, and what foreign names do to the terminal: nothing.

use lorac::ir::{Attrs, Origin, Tensor, escape_control, is_control, parse};
use lorac::onnx::{Appendix, SaveOptions, load, patch, save};
use serde_json::Value;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

fn lorac(folder: &Path, args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_lorac")).args(args).arg("--quiet").current_dir(folder).output().expect("runs")
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).expect("UTF-8")
}

/// A model of the text form, saved as `name` in a folder.
fn saved(folder: &Path, name: &str, model: &str) -> PathBuf {
    let path = folder.join(name);
    let options = SaveOptions { metadata: [("by".into(), "test".into())].into(), ..SaveOptions::default() };
    save(&parse(model).expect("parses"), &path, &options).expect("saves");
    path
}

const SMALL: &str = "graph g opset 17 (%x: f32[N,2]) -> %y {
    %w = weight \"w\" f32[2] = [1, 2]
    %y = Add(%x, %w) : f32[N,2]
}";

/// A base, and the same with a node behind it.
fn base_and_head(folder: &Path) {
    let base = load(saved(folder, "base.onnx", SMALL)).expect("loads");
    let mut head = lorac::ir::Graph::new("head", 17);
    let fact = base.graph.fact(base.graph.outputs()[0]);
    let y = head.add_input("y", fact.clone()).expect("y");
    let origin = Origin { pass: "".into(), source: "last".into() };
    let z = head.add_node("Relu".into(), vec![Some(y)], Attrs::new(), vec![("z", fact)], origin).expect("z");
    head.set_outputs(z).expect("set");
    patch(&base, &[], Some(&Appendix::of(head)), folder.join("head.onnx")).expect("patched");
}

#[test]
fn a_runtime_is_what_it_is_in_a_pipeline_and_no_file_of_this_folder() {
    let folder = tempfile::tempdir().expect("temp");
    base_and_head(folder.path());
    for file in ["embedded", "auto"] {
        std::fs::write(folder.path().join(file), "no library").expect("writes");
    }
    for runtime in ["embedded", "auto"] {
        let command = ["verify", "base.onnx", "base.onnx", "--runtime", runtime];
        let output = Command::new(env!("CARGO_BIN_EXE_lorac"))
            .args(command)
            .env("LORAC_CACHE", folder.path().join("cache"))
            .env("LORAC_OFFLINE", "1")
            .env_remove("ORT_DYLIB_PATH")
            .current_dir(folder.path())
            .output()
            .expect("runs");
        assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    }
    let named = lorac(folder.path(), &["verify", "base.onnx", "base.onnx", "--runtime", "./embedded"]);
    assert!(text(&named.stderr).contains("runtime::not_a_library"), "{}", text(&named.stderr));
}

#[test]
fn what_is_inserted_is_refused_unless_it_is_allowed() {
    let folder = tempfile::tempdir().expect("temp");
    base_and_head(folder.path());
    let files_only = ["verify", "base.onnx", "head.onnx", "--samples", "0"];
    let refused = lorac(folder.path(), &files_only);
    assert_eq!(refused.status.code(), Some(1));
    assert!(text(&refused.stdout).contains("  node `last`\n  output `z`\n"), "{}", text(&refused.stdout));
    assert!(text(&refused.stderr).contains("node `last` was inserted, output `z` was inserted; `--allow head`"));
    for wrong in ["metadata", "inputs,functions,other"] {
        assert_eq!(lorac(folder.path(), &[&files_only[..], &["--allow", wrong]].concat()).status.code(), Some(1));
    }
    let allowed = lorac(folder.path(), &[&files_only[..], &["--allow", "head"]].concat());
    assert_eq!(allowed.status.code(), Some(0), "{}", text(&allowed.stderr));
    // Nothing stands behind what the base has.
    let back = lorac(folder.path(), &["verify", "head.onnx", "base.onnx", "--allow", "head", "--samples", "0"]);
    assert!(text(&back.stderr).contains("node `last` is missing"), "{}", text(&back.stderr));
}

#[test]
fn without_samples_nothing_is_said_of_outputs() {
    let folder = tempfile::tempdir().expect("temp");
    saved(folder.path(), "base.onnx", SMALL);
    // No runtime is opened either.
    let none = ["verify", "base.onnx", "base.onnx", "--samples", "0", "--runtime", "no/such/runtime"];
    let output = lorac(folder.path(), &none);
    let said = text(&output.stdout);
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    assert!(said.contains("not compared (--samples 0): nothing is proven"), "{said}");
    assert!(said.ends_with("passed (files only)\n"), "{said}");
    let output = lorac(folder.path(), &[&none[..], &["--format", "json"]].concat());
    let verdict: Value = serde_json::from_slice(&output.stdout).expect("JSON");
    let of = |key: &str| verdict[key].clone();
    assert_eq!((of("outputs"), of("samples"), of("max_abs_diff")), ("not_compared".into(), 0.into(), Value::Null));
    assert_eq!(of("passed"), true);
}

#[test]
fn inputs_of_absurd_size_are_refused_by_dimension() {
    let folder = tempfile::tempdir().expect("temp");
    saved(folder.path(), "static.onnx", &SMALL.replace("[N,2]", "[3000000000,2]"));
    saved(folder.path(), "named.onnx", &SMALL.replace("[N,2]", "[1000000000*N,2]"));
    for (file, says) in [
        ("static.onnx", "`x` f32[3000000000,2] would make more elements than the 33554432"),
        ("named.onnx", "its dimension `1000000000*N` can be given: `--dim \"N=1\"`"),
    ] {
        let output = lorac(folder.path(), &["verify", file, file]);
        assert!(text(&output.stderr).contains(says), "{}", text(&output.stderr));
        assert_eq!(output.status.code(), Some(2));
        assert_eq!(lorac(folder.path(), &["verify", file, file, "--samples", "0"]).status.code(), Some(0));
    }
    let wrong = lorac(folder.path(), &["verify", "named.onnx", "named.onnx", "--dim", "M=1"]);
    assert!(text(&wrong.stderr).contains("`--dim M`") && text(&wrong.stderr).contains("there are `N`"));
}

#[test]
fn foreign_names_do_nothing_to_the_terminal() {
    let folder = tempfile::tempdir().expect("temp");
    let name = "w\u{1b}]0;title\u{7}\u{9b}31m\u{202e}";
    let shown = escape_control(name).into_owned();
    let model = |value: &str| {
        format!(
            "graph \"g{shown}\" opset 17 (%\"x{shown}\": f32[2,2]) -> %\"y{shown}\" {{
                %\"{shown}\" = weight \"{shown}\" f32[2,2] = [1, 2, 3, {value}]
                %\"y{shown}\" = MatMul(%\"x{shown}\", %\"{shown}\") : f32[2,2]
            }}"
        )
    };
    saved(folder.path(), "a.onnx", &model("4"));
    saved(folder.path(), "b.onnx", &model("5"));
    for args in [
        &["inspect", "a.onnx"][..],
        &["inspect", "a.onnx", "--text"],
        &["inspect", "a.onnx", "--format", "json"],
        &["verify", "a.onnx", "b.onnx", "--samples", "0"],
        &["verify", "a.onnx", "b.onnx", "--samples", "0", "--format", "json"],
        &["verify", "a.onnx", "b.onnx", "--samples", "0", "--target", name],
        &["verify", "a.onnx", "b.onnx", "--samples", "0", "--target", "x\u{1b}[2J"],
        &["grad", "a.onnx", "--loss", "mse", "--out", "g.onnx"],
        &["grad", "a.onnx", "--loss", "no\u{1b}[2J", "--format", "json"],
        &["inspect", "no\u{1b}[2Jmodel.onnx"],
        &["explain", "no\u{9b}2Jcode"],
    ] {
        let output = lorac(folder.path(), args);
        let said = text(&output.stdout) + &text(&output.stderr);
        assert!(!said.contains(is_control) && said.contains("\\u"), "{args:?}: {said:?}");
        if args.contains(&"json") && output.status.success() {
            let value: Value = serde_json::from_slice(&output.stdout).expect("JSON");
            assert!(value.to_string().contains(name) || value.to_string().contains("\\u001b"), "{value}");
        }
    }
}

/// The test touches bytes that are gone while the command does.
#[cfg(target_os = "linux")]
#[test]
fn a_file_that_is_shortened_under_a_command_ends_it_with_an_error() {
    let folder = tempfile::tempdir().expect("temp");
    let at = |name: &str| folder.path().join(name);
    let len = 96 << 20;
    let zeros = Tensor::zeros(lorac::ir::DType::F32, &[len / 4]).expect("zeros");
    let mut graph = lorac::ir::Graph::new("g", 17);
    let w = graph.add_weight("w", zeros).expect("w");
    graph.set_outputs(vec![w]).expect("set");
    save(&graph, at("a.onnx"), &SaveOptions { external_threshold: 0, ..SaveOptions::default() }).expect("saved");
    std::fs::create_dir(at("b")).expect("made");
    for (from, to) in [("a.onnx", "b/a.onnx"), ("a.onnx.data", "b/a.onnx.data")] {
        std::fs::copy(at(from), at(to)).expect("copied");
    }
    let data = |file: &str| std::fs::File::options().write(true).open(at(file)).expect("opens");
    let mut ended_by_it = 0;
    for _ in 0..10 {
        data("a.onnx.data").set_len(len as u64).expect("whole again");
        let args = ["verify", "a.onnx", "b/a.onnx", "--samples", "0"];
        let mut command = Command::new(env!("CARGO_BIN_EXE_lorac"));
        command.args(args).current_dir(folder.path()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().expect("starts");
        let maps = format!("/proc/{}/maps", child.id());
        while child.try_wait().expect("waits").is_none() {
            if std::fs::read_to_string(&maps).is_ok_and(|m| m.contains("b/a.onnx.data")) {
                data("a.onnx.data").set_len(4096).expect("shortened");
                break;
            }
        }
        let output = child.wait_with_output().expect("ends");
        let code = output.status.code().unwrap_or_else(|| panic!("killed: {}", output.status));
        if code == 3 {
            assert!(text(&output.stderr).contains("error[onnx::changed_on_disk]"), "{}", text(&output.stderr));
            ended_by_it += 1;
        }
    }
    assert!(ended_by_it > 0, "never found at work");
}

#[test]
fn samples_have_a_bound() {
    let folder = tempfile::tempdir().expect("temp");
    saved(folder.path(), "base.onnx", SMALL);
    for samples in ["100001", "99999999999"] {
        let refused = lorac(folder.path(), &["verify", "base.onnx", "base.onnx", "--samples", samples]);
        assert_eq!(refused.status.code(), Some(2));
        let says = text(&refused.stderr);
        assert!(says.contains(&format!("`--samples {samples}`: at most 100000")), "{says}");
    }
}
