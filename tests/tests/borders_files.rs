//! The files that lorac writes and reads, where they meet other readers, links and hands.

use lorac::ir::Tensor;
use lorac::onnx::proto::{FunctionProto, GraphProto, ModelProto, NodeProto, OperatorSetIdProto};
use lorac::onnx::wire::fields;
use lorac::onnx::{SaveOptions, load, save};
use lorac::passes::Caches;
use lorac::program::{compile_file, compile_in_place};
use lorac_tests::border::border;
use lorac_tests::readers::{Counts, READERS};
use lorac_tests::{engines, skipped};
use prost::Message;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;

fn counts(g: &GraphProto) -> Counts {
    [g.node.len(), g.input.len(), g.output.len(), g.initializer.len()]
}

/// What a reader that merges fields, as protobuf asks for, sees in a file.
fn merged(file: &Path) -> Counts {
    let bytes = std::fs::read(file).expect("read");
    counts(&ModelProto::decode(&*bytes).expect("decodes").graph.expect("a graph"))
}

#[test]
fn every_reader_sees_a_model_with_a_head_whole() {
    let run = border("one_graph");
    run.succeeds(&["runtime.source=embedded"]);
    let (base, deployed) = (run.path().join("model.onnx"), run.out().join("model.onnx"));
    let (before, after) = (merged(&base), merged(&deployed));
    let head = [after[0] - before[0], after[1] - before[1], after[2] - before[2]];
    assert!(head[0] > 0 && head[1..] == [0, 1], "{before:?} {after:?}");

    let bytes = std::fs::read(&deployed).expect("read");
    let graphs = fields(&bytes).map(|f| f.expect("well formed")).filter(|f| f.number == 7);
    let alone: Vec<Counts> = graphs.map(|f| counts(&GraphProto::decode(f.bytes()).expect("decodes"))).collect();
    assert_eq!(alone, [after], "one graph field, with everything in it");
    let other = <onnx_protobuf::ModelProto as onnx_protobuf::Message>::parse_from_bytes(&bytes).expect("parses").graph;
    assert_eq!([other.node.len(), other.input.len(), other.output.len(), other.initializer.len()], after);

    for reader in &READERS {
        match reader.counts(&deployed) {
            Some(seen) => assert_eq!((reader.counts(&base), seen), (Some(before), after), "{}", reader.needs),
            None => skipped(reader.needs),
        }
    }
}

#[test]
fn a_model_behind_the_links_of_a_hub_is_trained() {
    let run = border("one_graph");
    let at = |name: &str| run.path().join(name);
    let model = load(at("model.onnx")).expect("loads");
    for folder in ["hub/blobs", "hub/snapshots/rev"] {
        fs::create_dir_all(at(folder)).expect("made");
    }
    let outside = SaveOptions { external_threshold: 0, ..SaveOptions::default() };
    save(&model.graph, at("hub/blobs/model.onnx"), &outside).expect("saved");
    for (blob, file) in [("b0", "model.onnx"), ("b1", "model.onnx.data"), ("b2", "tokenizer.json")] {
        let from = if blob == "b2" { at(file) } else { at("hub/blobs").join(file) };
        fs::rename(from, at("hub/blobs").join(blob)).expect("moved");
        symlink(format!("../../blobs/{blob}"), at("hub/snapshots/rev").join(file)).expect("linked");
    }
    run.succeeds(&["runtime.source=embedded", "model.source=hub/snapshots/rev/model.onnx"]);
    let data = fs::symlink_metadata(run.out().join("model.onnx.data")).expect("written");
    assert!(data.is_file(), "a file of its own beside the deployed model");
    let deployed = load(run.out().join("model.onnx")).expect("loads");
    assert_eq!(deployed.external_files().count(), 1);
}

/// `y = Relu(x)` in a model that has functions called so, all of which negate.
fn shadowed(path: &Path) {
    let opsets = |domains: &[&str]| -> Vec<OperatorSetIdProto> {
        let version = |d: &&str| OperatorSetIdProto {
            domain: Some(d.to_string()),
            version: Some(if d.is_empty() { 17 } else { 1 }),
        };
        domains.iter().map(version).collect()
    };
    let node = |op: &str, domain: &str, input: &str, output: &str| NodeProto {
        op_type: Some(op.into()),
        domain: Some(domain.into()),
        input: vec![input.into()],
        output: vec![output.into()],
        ..NodeProto::default()
    };
    let function = |domain: &str, name: &str, inner: NodeProto| FunctionProto {
        domain: Some(domain.into()),
        name: Some(name.into()),
        input: vec!["a".into()],
        output: vec!["b".into()],
        node: vec![inner],
        opset_import: opsets(&["", "own"]),
        ..FunctionProto::default()
    };
    let graph = lorac::ir::parse("graph g opset 17 (%x: f32[3]) -> %y { %y = Relu(%x) : f32[3] }").expect("parses");
    save(&graph, path, &SaveOptions { ir_version: 8, ..SaveOptions::default() }).expect("saved");
    let mut model = ModelProto::decode(&*fs::read(path).expect("read")).expect("decodes");
    model.opset_import = opsets(&["", "own"]);
    let negate = || node("Neg", "", "a", "b");
    // What the model's own function calls is an operator as well.
    let own = function("own", "Twice", node("Relu", "", "a", "b"));
    model.functions = vec![function("", "Relu", negate()), own];
    model.graph.as_mut().expect("a graph").node = vec![node("Twice", "own", "x", "h"), node("Relu", "", "h", "y")];
    fs::write(path, model.encode_to_vec()).expect("written");
}

#[test]
fn a_function_called_like_an_operator_is_read_as_onnx_runtime_reads_it() {
    let folder = tempfile::tempdir().expect("temp");
    let path = folder.path().join("shadow.onnx");
    shadowed(&path);
    let model = load(&path).expect("loads");
    let x = Tensor::vector(&[-1.0f32, 0.0, 2.0]);
    for engine in engines() {
        let backend = engine.as_ref();
        for compile in [compile_file, compile_in_place] {
            let mut program = compile(backend, &model, &Caches::default()).expect("compiles");
            let y = program.run(&[("x", &x)], &["y"]).expect("runs");
            assert_eq!(y[0].to_f64(), Some(vec![0.0, 0.0, 2.0]), "{}", backend.name());
        }
    }
    let operators = lorac::inspect::summary(&model.graph, &model.functions).operators;
    assert_eq!(operators.into_iter().collect::<Vec<_>>(), [("Relu".to_string(), 2)]);
}
