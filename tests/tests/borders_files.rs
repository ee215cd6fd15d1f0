//! The files that lorac writes and reads, where they meet other readers, links and hands.

use lorac::onnx::proto::{GraphProto, ModelProto};
use lorac::onnx::wire::fields;
use lorac_tests::border::border;
use lorac_tests::readers::{Counts, READERS};
use lorac_tests::skipped;
use prost::Message;
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
