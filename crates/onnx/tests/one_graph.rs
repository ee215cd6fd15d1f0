//! A deployed model has one graph field, and what a comparison says of whatever else it has.

mod common;

use common::*;
use lorac_ir::{Attrs, DType, Dim, Fact, Graph, Origin, Tensor};
use lorac_onnx::proto::{
    AttributeProto, FunctionProto, GraphProto, ModelProto, NodeProto, OperatorSetIdProto, StringStringEntryProto,
};
use lorac_onnx::wire::{fields, put_bytes, put_header, put_integer};
use lorac_onnx::{Appendix, Comparison, Edit, EncodeOptions, Model, Part, compare, encode, load, patch};
use prost::Message;
use std::path::{Path, PathBuf};

/// `z = Relu(y) * 2` behind the models of [`graph`].
fn head() -> Appendix {
    let fact = Fact::new(DType::F32, [2i64]);
    let mut g = Graph::new("head", 17);
    g.opsets.insert("com.microsoft".into(), 1);
    let y = g.add_input("y", fact.clone()).expect("y");
    let two = g.add_weight("two", Tensor::vector(&[2.0f32; 2])).expect("two");
    let node = |name: &str| Origin { pass: "".into(), source: name.into() };
    let r = g.add_node("Relu".into(), vec![Some(y)], Attrs::new(), vec![("r", fact.clone())], node("relu"));
    let r = r.expect("r")[0];
    let z = g.add_node("Mul".into(), vec![Some(r), Some(two)], Attrs::new(), vec![("z", fact)], node("mul"));
    g.set_outputs(z.expect("z")).expect("set");
    Appendix::of(g)
}

/// The content of every graph field of a file.
fn graphs(file: &[u8]) -> Vec<&[u8]> {
    fields(file).map(|f| f.expect("well formed")).filter(|f| f.number == 7).map(|f| f.bytes()).collect()
}

fn at(folder: &tempfile::TempDir, name: &str) -> PathBuf {
    folder.path().join(name)
}

/// A model of two graph fields, as lorac wrote them once, with `between` between them.
fn pieces(path: &Path, between: &[u8]) -> Model {
    let first = GraphProto {
        node: vec![node("Add", &["x", "w"], &["y"])],
        input: vec![value("x", &[2])],
        output: vec![value("y", &[2])],
        initializer: vec![raw("w", &[2], &[1.0, 2.0])],
        ..Default::default()
    };
    let second = GraphProto {
        node: vec![node("Add", &["y", "v"], &["u"])],
        output: vec![value("u", &[2])],
        initializer: vec![raw("v", &[2], &[3.0, 4.0])],
        ..Default::default()
    };
    let mut file = model(first).encode_to_vec();
    file.extend_from_slice(between);
    put_bytes(&mut file, 7, &second.encode_to_vec());
    std::fs::write(path, file).expect("written");
    load(path).expect("loads")
}

#[test]
fn readers_that_do_not_merge_see_the_whole_model() {
    let folder = tempfile::tempdir().expect("folder");
    let out = at(&folder, "out.onnx");
    for name in EXPORTS {
        let base = load(export(name)).expect(name);
        let hidden = base.graph.outputs()[0];
        let fact = Fact::new(DType::F32, [Dim::named("N"), Dim::named("S"), Dim::Known(32)]);
        let mut g = Graph::new("head", base.graph.opset());
        let x = g.add_input(&base.graph.name_of(hidden), fact.clone()).expect("x");
        let origin = Origin { pass: "".into(), source: "head".into() };
        let y = g.add_node("Tanh".into(), vec![Some(x)], Attrs::new(), vec![("t", fact)], origin);
        g.set_outputs(y.expect("y")).expect("set");
        let report = patch(&base, &[], Some(&Appendix::of(g)), &out).expect(name);

        let file = std::fs::read(&out).expect("read");
        let [content] = graphs(&file)[..] else { panic!("{name}: {} graph fields", graphs(&file).len()) };
        let seen = GraphProto::decode(content).expect("decodes");
        let before = ModelProto::decode(base.file.clone()).expect("decodes").graph.expect("a graph");
        assert_eq!((seen.node.len(), seen.input.len()), (before.node.len() + 1, before.input.len()), "{name}");
        assert_eq!((&seen.initializer, seen.name), (&before.initializer, before.name), "{name}");
        // Without what was inserted, and with the old length, it is the base byte for byte.
        let base_content = graphs(&base.file)[0];
        assert_eq!(content[..base_content.len()], *base_content, "{name}");
        assert_eq!(content.len() as u64, base_content.len() as u64 + report.inserted, "{name}");
        let rest = |file: &[u8]| -> Vec<u8> {
            let others = fields(file).map(|f| f.expect("well formed")).filter(|f| f.number != 7);
            others.flat_map(|f| f.written().to_vec()).collect()
        };
        assert_eq!(rest(&file), rest(&base.file), "{name}");
    }
}

#[test]
fn operator_sets_of_a_head_and_longer_lengths_find_their_place() {
    let folder = tempfile::tempdir().expect("folder");
    // 127 bytes of a message have a length of one byte, 128 one of two.
    for doc in 0..200 {
        let mut g = graph(vec![raw("w", &[2], &[1.0, 2.0])], vec![]);
        g.doc_string = Some("d".repeat(doc));
        let base = load(write(folder.path(), g)).expect("loads");
        let out = at(&folder, "out.onnx");
        let report = patch(&base, &[], Some(&head()), &out).expect("patched");
        let after = load(&out).expect("loads");
        assert_eq!((graphs(&after.file).len(), after.graph.opsets.get("com.microsoft")), (1, Some(&1)));
        let found = compare(&base, &after, &[] as &[&str]);
        assert_eq!((found.changed_bytes_outside_targets, found.inserted_bytes), (0, report.inserted), "{doc}");
        let parts: Vec<(Part, &str)> = found.inserted.iter().map(|i| (i.part, i.name.as_str())).collect();
        let opset = (Part::Opset, "com.microsoft");
        let nodes = [(Part::Node, "relu"), (Part::Node, "mul"), (Part::Output, "z"), (Part::Weight, "two")];
        assert_eq!(parts, [&[opset], &nodes[..]].concat());
    }
}

#[test]
fn a_graph_in_two_fields_becomes_one() {
    let folder = tempfile::tempdir().expect("folder");
    let mut between = Vec::new();
    put_bytes(&mut between, 8, &OperatorSetIdProto { domain: Some("own".into()), version: Some(1) }.encode_to_vec());
    for between in [&between[..], &[]] {
        joined(&folder, &pieces(&at(&folder, "base.onnx"), between));
    }
}

fn joined(folder: &tempfile::TempDir, base: &Model) {
    assert_eq!((graphs(&base.file).len(), base.node_count), (2, 2));
    let out = at(folder, "out.onnx");
    let edit = |name: &str| Edit::new(base.graph.find(name).expect(name), bytes_of(&[7.0, 8.0]));
    for appendix in [None, Some(head())] {
        let edits = [edit("v"), edit("w")];
        let report = patch(base, &edits, appendix.as_ref(), &out).expect("patched");
        let after = load(&out).expect("loads");
        let [content] = graphs(&after.file)[..] else { panic!("{} graph fields", graphs(&after.file).len()) };
        let nodes = GraphProto::decode(content).expect("decodes").node.len();
        assert_eq!(nodes, if appendix.is_some() { 4 } else { 2 });
        for changed in &report.changed {
            let range = changed.range.start as usize..changed.range.end as usize;
            assert_eq!(after.file[range], bytes_of(&[7.0, 8.0]), "{}", changed.weight);
        }
        assert_eq!(
            after.graph.opsets,
            base.graph
                .opsets
                .iter()
                .map(|(d, v)| (d.clone(), *v))
                .chain(appendix.iter().map(|_| ("com.microsoft".into(), 1)))
                .collect()
        );
        let found = compare(base, &after, &["v", "w"]);
        assert_eq!((found.changed_bytes_outside_targets, found.inserted_bytes), (0, report.inserted), "{found:?}");
        assert_eq!(compare(base, &after, &["v"]).changed, ["weight `w` differs"]);
    }
}

/// A base, and what a comparison says of a copy that `tamper` has had its hands on.
fn tampered(tamper: impl Fn(&mut ModelProto), raw_end: &[u8]) -> Comparison {
    let folder = tempfile::tempdir().expect("folder");
    let g = graph(vec![raw("w", &[2], &[1.0, 2.0])], vec![node("Relu", &["x"], &["r"])]);
    let base = load(write(folder.path(), g)).expect("loads");
    let mut proto = ModelProto::decode(base.file.clone()).expect("decodes");
    tamper(&mut proto);
    let mut bytes = proto.encode_to_vec();
    bytes.extend_from_slice(raw_end);
    let path = at(&folder, "deployed.onnx");
    std::fs::write(&path, bytes).expect("written");
    compare(&base, &load(path).expect("loads"), &["w"])
}

#[test]
fn whatever_is_inserted_is_named() {
    let entry = |k: &str| StringStringEntryProto { key: Some(k.into()), value: Some("v".into()) };
    let inserted = |part: Part, name: &str, tamper: &dyn Fn(&mut ModelProto), raw_end: &[u8]| {
        let found = tampered(tamper, raw_end);
        assert_eq!((found.changed_bytes_outside_targets, &found.changed), (0, &Vec::new()), "{part} {found:?}");
        let named: Vec<_> = found.inserted.iter().map(|i| (i.part, i.name.as_str())).collect();
        assert_eq!(named, [(part, name)]);
        assert!(found.inserted_bytes > 0);
    };
    let graph = |m: &mut ModelProto, change: &dyn Fn(&mut GraphProto)| change(m.graph.as_mut().expect("a graph"));
    let inner = |change: &'static dyn Fn(&mut GraphProto)| move |m: &mut ModelProto| graph(m, change);
    inserted(Part::Node, "Neg_n", &inner(&|g| g.node.push(node("Neg", &["y"], &["n"]))), &[]);
    // In the middle as well, and before all others.
    inserted(Part::Node, "Neg_n", &inner(&|g| g.node.insert(0, node("Neg", &["x"], &["n"]))), &[]);
    let between = |last: bool| {
        let insert = |g: &mut GraphProto| {
            let at = if last { g.node.len() } else { 0 };
            g.node.insert(at, node("Neg", &["x"], &["n"]));
        };
        tampered(|m: &mut ModelProto| graph(m, &insert), &[]).inserted[0].between
    };
    assert_eq!([false, true].map(between), [true, false]);
    inserted(Part::Weight, "u", &inner(&|g| g.initializer.push(raw("u", &[1], &[1.0]))), &[]);
    inserted(Part::InputDefault, "x", &inner(&|g| g.initializer.push(raw("x", &[2], &[1.0, 1.0]))), &[]);
    inserted(Part::Input, "extra", &inner(&|g| g.input.push(value("extra", &[1]))), &[]);
    inserted(Part::Output, "r", &inner(&|g| g.output.push(value("r", &[2]))), &[]);
    inserted(Part::ValueInfo, "r", &inner(&|g| g.value_info.push(value("r", &[2]))), &[]);
    inserted(Part::Field, "doc_string of the graph", &inner(&|g| g.doc_string = Some("d".into())), &[]);
    inserted(Part::Metadata, "k", &|m| m.metadata_props.push(entry("k")), &[]);
    inserted(Part::Field, "producer_name of the model", &|m| m.producer_name = Some("p".into()), &[]);
    let own = || OperatorSetIdProto { domain: Some("own".into()), version: Some(1) };
    // Needed by a node, by one in a graph of a node, imported twice, by no node, and one that the base imports.
    let idle = |nodes: &[NodeProto], domains: &[&str]| {
        let found = tampered(
            |m: &mut ModelProto| {
                graph(m, &|g| g.node.extend_from_slice(nodes));
                let import = |d: &&str| OperatorSetIdProto {
                    domain: Some(d.to_string()),
                    version: Some(m.opset_import[0].version()),
                };
                let imports: Vec<_> = domains.iter().map(import).collect();
                m.opset_import.extend(imports);
            },
            &[],
        );
        found.inserted.iter().filter(|i| i.part == Part::Opset).map(|i| i.idle).collect::<Vec<_>>()
    };
    let of_own = NodeProto { domain: Some("own".into()), ..node("Own", &["y"], &["o"]) };
    let inner_graph =
        GraphProto { node: vec![NodeProto { output: vec!["p".into()], ..of_own.clone() }], ..GraphProto::default() };
    let within = AttributeProto {
        name: Some("body".into()),
        r#type: Some(5),
        g: Some(inner_graph),
        ..AttributeProto::default()
    };
    let holds = NodeProto { domain: Some("own".into()), ..node("Holds", &["y"], &["h"]) };
    let holds = NodeProto { domain: Some("other".into()), attribute: vec![within], ..holds };
    assert_eq!(idle(std::slice::from_ref(&of_own), &["own", "own", "other", ""]), [false, true, true, true]);
    assert_eq!(idle(&[holds], &["other", "own"]), [false, false]);
    assert_eq!(idle(&[], &["own", "ai.onnx"]), [true, true]);
    inserted(Part::Opset, "own", &|m| m.opset_import.push(own()), &[]);
    let function = || FunctionProto { name: Some("F".into()), domain: Some("own".into()), ..FunctionProto::default() };
    inserted(Part::Function, "own.F", &|m| m.functions.push(function()), &[]);

    let mut unknown = Vec::new();
    put_bytes(&mut unknown, 4000, b"hidden");
    inserted(Part::Field, "4000 of the model", &|_| {}, &unknown);
    // A group, which protobuf still reads over.
    let mut group = Vec::new();
    prost::encoding::encode_varint(4001 << 3 | 3, &mut group);
    prost::encoding::encode_varint(4001 << 3 | 4, &mut group);
    put_bytes(&mut group, 8, &own().encode_to_vec());
    inserted(Part::Unreadable, "", &|_| {}, &group);
    // A version that takes the place of the first.
    let mut version = Vec::new();
    put_integer(&mut version, 1, 9);
    inserted(Part::Field, "ir_version of the model", &|_| {}, &version);

    let mut second = Vec::new();
    put_bytes(
        &mut second,
        7,
        &GraphProto { node: vec![node("Neg", &["y"], &["n"])], ..Default::default() }.encode_to_vec(),
    );
    let found = tampered(|_| {}, &second);
    let parts: Vec<Part> = found.inserted.iter().map(|i| i.part).collect();
    assert_eq!((parts, found.inserted_bytes), (vec![Part::Graph, Part::Node], second.len() as u64));
}

#[test]
fn whatever_changes_is_named() {
    let changed = |says: &[&str], tamper: &dyn Fn(&mut GraphProto)| {
        let found = tampered(|m| tamper(m.graph.as_mut().expect("a graph")), &[]);
        assert_eq!(found.changed, says, "{found:?}");
        assert!(found.changed_bytes_outside_targets > 0);
    };
    changed(&["node `Add_y` differs"], &|g| g.node[1].op_type = Some("Sub".into()));
    changed(&["node `Relu_r` is missing"], &|g| _ = g.node.remove(0));
    changed(&["node `Relu_r` is elsewhere"], &|g| g.node.swap(0, 1));
    changed(&["input `x` differs"], &|g| g.input[0] = value("x", &[3]));
    changed(&["weight `w` differs"], &|g| g.initializer[0].doc_string = Some("d".into()));
    changed(&["weight `w` differs"], &|g| g.initializer[0].dims = vec![1, 2]);
    // The data of a target is its own matter, and nothing else is.
    let found =
        tampered(|m| m.graph.as_mut().expect("a graph").initializer[0].raw_data = Some(bytes_of(&[9.0, 9.0])), &[]);
    assert_eq!((found.changed, found.changed_targets), (vec![], vec!["w".to_string()]));
}

#[test]
fn external_data_that_changed_or_moved_is_seen() {
    let folder = tempfile::tempdir().expect("folder");
    let data = |name: &str, file: &str, offset: &str| external(name, &[2], &[("location", file), ("offset", offset)]);
    let deployed = |of_w: (&str, &str), bytes: &[f32]| {
        let out = tempfile::tempdir().expect("folder");
        for file in ["a.bin", "b.bin"] {
            std::fs::write(at(&out, file), bytes_of(bytes)).expect("written");
        }
        let g = graph(vec![data("w", of_w.0, of_w.1), data("v", "a.bin", "8"), data("u", "a.bin", "4")], vec![]);
        load(write(out.path(), g)).expect("loads")
    };
    std::fs::write(at(&folder, "a.bin"), bytes_of(&[1.0, 2.0, 3.0, 4.0])).expect("written");
    let g = graph(vec![data("w", "a.bin", "0"), data("v", "a.bin", "8"), data("u", "a.bin", "4")], vec![]);
    let base = load(write(folder.path(), g)).expect("loads");
    let same = [1.0, 2.0, 3.0, 4.0];
    assert_eq!(compare(&base, &deployed(("a.bin", "0"), &same), &["w"]), compare(&base, &base, &["w"]));
    let found = compare(&base, &deployed(("b.bin", "0"), &same), &["w"]);
    assert_eq!(found.changed, ["weight `w` differs"], "a target that refers to another file");
    let found = compare(&base, &deployed(("a.bin", "8"), &same), &["w"]);
    assert_eq!(found.changed, ["weight `w` differs"], "a target that refers to other bytes");
    let found = compare(&base, &deployed(("a.bin", "0"), &[1.0, 2.0, 3.0, 5.0]), &["w"]);
    assert_eq!(found.changed, ["external file `a.bin` differs"]);
    let found = compare(&base, &deployed(("a.bin", "0"), &[1.0, 2.0, 3.0, 4.0, 5.0]), &["w"]);
    assert_eq!(
        (found.changed_bytes_outside_targets, &found.changed[..]),
        (4, &["external file `a.bin` differs".to_string()][..])
    );
    let found = compare(&base, &deployed(("a.bin", "0"), &[9.0, 2.0, 3.0, 4.0]), &["w"]);
    assert_eq!((found.changed, found.changed_targets), (vec![], vec!["w".to_string()]));
    // `u` begins where the second element of `w` is.
    let found = compare(&base, &deployed(("a.bin", "0"), &[1.0, 9.0, 3.0, 4.0]), &["w"]);
    assert_eq!(found.changed, ["weight `u` differs, since it shares bytes with a target"]);
}

#[test]
fn heads_go_into_models_of_every_size_of_length() {
    // A length that is written longer than it needs to be, as some tools do.
    let folder = tempfile::tempdir().expect("folder");
    let inner = graph(vec![raw("w", &[2], &[1.0, 2.0])], vec![]).encode_to_vec();
    let mut file = model(GraphProto::default());
    file.graph = None;
    let mut file = file.encode_to_vec();
    let mut header = Vec::new();
    put_header(&mut header, 7, inner.len() as u64);
    let last = header.len() - 1;
    header[last] |= 0x80;
    header.extend([0x80, 0x80, 0x00]);
    file.extend(header);
    file.extend(&inner);
    let path = at(&folder, "padded.onnx");
    std::fs::write(&path, file).expect("written");
    let base = load(&path).expect("loads");
    let out = at(&folder, "out.onnx");
    patch(&base, &[], None, &out).expect("patched");
    assert_eq!(std::fs::read(&out).expect("read"), base.file, "nothing to change, nothing changed");
    patch(&base, &[], Some(&head()), &out).expect("patched");
    let found = compare(&base, &load(&out).expect("loads"), &[] as &[&str]);
    assert_eq!((found.changed_bytes_outside_targets, found.nodes_after), (0, 3));
    // Its graph can be written by lorac again.
    encode(&load(&out).expect("loads").graph, &EncodeOptions::default()).expect("encodes");
}
