//! Encoding and saving.

mod common;

use common::*;
use lorac_ir::{Attr, Attrs, Body, DType, Dim, Fact, Graph, OpName, Origin, Tensor, parse, topological_order};
use lorac_onnx::proto::{ModelProto, type_proto};
use lorac_onnx::{EncodeOptions, Location, OnnxError, SaveOptions, decode, encode, load, save};
use prost::Message;
use std::collections::BTreeMap;

fn same(a: &Graph, b: &Graph, facts: bool) {
    let nodes = |g: &Graph| -> Vec<_> {
        let order = topological_order(g).into_iter().filter_map(|id| g.node(id));
        let names = |v: &[Option<lorac_ir::ValueId>]| v.iter().map(|v| v.map(|v| g.name_of(v))).collect::<Vec<_>>();
        order
            .map(|n| {
                (
                    n.op.clone(),
                    names(&n.inputs),
                    n.outputs.iter().map(|v| g.name_of(*v)).collect::<Vec<_>>(),
                    n.attrs.clone(),
                )
            })
            .collect()
    };
    assert_eq!(nodes(a), nodes(b));
    let weights = |g: &Graph| g.weights().map(|(_, v, t)| (v.name.clone(), t.clone())).collect::<BTreeMap<_, _>>();
    assert!(weights(a) == weights(b));
    if facts {
        let known = |g: &Graph| g.values().map(|(_, v)| (v.name.clone(), v.fact.clone())).collect::<BTreeMap<_, _>>();
        assert_eq!(known(a), known(b));
    }
    let signature =
        |g: &Graph, ids: &[lorac_ir::ValueId]| ids.iter().map(|v| (g.name_of(*v), g.fact(*v))).collect::<Vec<_>>();
    assert_eq!(signature(a, a.inputs()), signature(b, b.inputs()));
    assert_eq!(signature(a, a.outputs()), signature(b, b.outputs()));
}

#[test]
fn real_exports_survive_encode_and_save() {
    let folder = tempfile::tempdir().expect("folder");
    for name in EXPORTS {
        let model = load(export(name)).expect(name);
        let opts =
            EncodeOptions { inline_limit: usize::MAX, functions: model.function_protos.clone(), ..Default::default() };
        let encoded = encode(&model.graph, &opts).expect(name);
        assert!(encoded.external.is_empty());
        same(&model.graph, &decode(encoded.bytes.into()).expect(name).graph, false);
        let encoded = encode(&model.graph, &EncodeOptions { value_info: true, ..opts }).expect(name);
        same(&model.graph, &decode(encoded.bytes.into()).expect(name).graph, true);

        for external_threshold in [u64::MAX, 0] {
            let path = folder.path().join(format!("{name}.onnx"));
            let opts = SaveOptions {
                external_threshold,
                metadata: BTreeMap::from([("k".into(), "v".into())]),
                ..Default::default()
            };
            save(&model.graph, &path, &opts).expect(name);
            let again = load(&path).expect(name);
            same(&model.graph, &again.graph, true);
            assert_eq!(again.metadata.get("k").map(String::as_str), Some("v"));
            assert_eq!(again.producer, format!("lorac {}", env!("CARGO_PKG_VERSION")));
            let outside = again.locations.values().filter(|l| {
                matches!(l, Location::External { path, range }
                if path.to_str() == Some(&format!("{name}.onnx.data")) && range.start % 4096 == 0)
            });
            let large = model.graph.weights().filter(|w| w.2.bytes().len() > 1024).count();
            assert_eq!(outside.count(), if external_threshold == 0 { large } else { 0 }, "{name}");
        }
    }
    let left = std::fs::read_dir(folder.path()).expect("folder").count();
    assert_eq!(left, 2 * EXPORTS.len(), "temporary files remain");
}

#[test]
fn large_weights_are_bound_by_name() {
    let model = load(export("bert-dynamo")).expect("loads");
    let encoded = encode(&model.graph, &EncodeOptions::default()).expect("encodes");
    assert!(encoded.bytes.len() < model.file.len() / 2);
    let proto = ModelProto::decode(&encoded.bytes[..]).expect("decodes");
    let graph = proto.graph.expect("graph");
    for (name, tensor) in &encoded.external {
        assert!(tensor.bytes().len() > 1024);
        let t = graph.initializer.iter().find(|t| t.name() == name).expect("listed");
        assert_eq!((t.data_location, &t.raw_data), (Some(1), &None));
        assert_eq!(t.external_data[0].value.as_deref(), Some("weights.bin"));
        // Shared with the mapped file, not copied.
        let at = tensor.bytes().as_ptr() as usize;
        assert!(model.file.as_ptr_range().contains(&(at as *const u8)));
    }
    assert_eq!((proto.ir_version, proto.producer_name.as_deref()), (Some(10), Some("lorac")));
}

#[test]
fn outputs_that_nobody_computes_get_an_identity() {
    let text = "graph g(%x: f32[N,4]) -> %x, %y, %y, %w, %x_output {
        %w = weight \"w\" f32[4]
        %y = Relu(%x) : f32[N,4]
        %x_output = Relu(%y) : f32[N,4] }";
    let encoded = encode(&parse(text).expect("parses"), &EncodeOptions::default()).expect("encodes");
    assert_eq!(encoded.outputs, ["x_output_1", "y", "y_output", "w_output", "x_output"]);
    let again = decode(encoded.bytes.into()).expect("valid").graph;
    assert_eq!((again.node_count(), again.outputs().len()), (5, 5));
}

#[test]
fn facts_become_value_types() {
    let mut g = Graph::new("g", 17);
    let dims = [Dim::Known(2), Dim::named("N") * Dim::Known(3), Dim::Unknown];
    let x = g.add_input("x", Fact::new(DType::F16, dims)).expect("x");
    let y = g.add_node(
        "Foo".into(),
        vec![Some(x), None],
        Attrs::new(),
        vec![("y", Fact::unranked(DType::Bool)), ("z", Fact::unranked(DType::Opaque))],
        origin("", "n"),
    );
    g.set_outputs(y.expect("y")).expect("set");
    let bytes = encode(&g, &EncodeOptions::default()).expect("encodes").bytes;
    same(&g, &decode(bytes.clone().into()).expect("valid").graph, true);
    let graph = ModelProto::decode(&bytes[..]).expect("decodes").graph.expect("graph");
    let Some(Some(type_proto::Value::TensorType(t))) = graph.output[0].r#type.as_ref().map(|t| t.value.clone()) else {
        panic!()
    };
    assert_eq!((t.elem_type, t.shape), (Some(9), None));
    assert_eq!(graph.output[1].r#type, None);
}

fn origin(pass: &str, source: &str) -> Origin {
    Origin { pass: pass.into(), source: source.into() }
}

#[test]
fn node_names_are_unique_and_overloads_survive() {
    let mut g = Graph::new("g", 17);
    let x = g.add_input("x", Fact::scalar(DType::F32)).expect("x");
    let fact = || Fact::scalar(DType::F32);
    for (i, o) in [origin("", "fc"), origin("lora", "fc"), origin("lora", "fc"), origin("", "fc"), origin("lora", "")]
        .into_iter()
        .enumerate()
    {
        let op = OpName::new("custom", "Relu:fast");
        g.add_node(op, vec![Some(x)], Attrs::new(), vec![(&format!("o{i}"), fact())], o).expect("added");
    }
    let bytes = encode(&g, &EncodeOptions::default()).expect("encodes").bytes;
    let graph = ModelProto::decode(&bytes[..]).expect("decodes").graph.expect("graph");
    let names: Vec<_> = graph.node.iter().map(|n| n.name()).collect();
    assert_eq!(names, ["fc", "fc/lora.Relu:fast", "fc/lora.Relu:fast_1", "fc_1", ""]);
    assert!(graph.node.iter().all(|n| (n.domain(), n.op_type(), n.overload()) == ("custom", "Relu", "fast")));
}

/// `o = If(x) { y = Not(c) }` where `c` stands for `late`, and the body has a weight of the name `late`.
fn with_body() -> Graph {
    let mut g = Graph::new("g", 17);
    let flag = || Fact::scalar(DType::Bool);
    let x = g.add_input("x", flag()).expect("x");
    let late = g.add_node("Not".into(), vec![Some(x)], Attrs::new(), vec![("late", flag())], origin("", "not"));
    let late = late.expect("added")[0];
    let mut inner = Graph::new("then", 17);
    let c = inner.add_input("c", flag()).expect("c");
    let w = inner.add_weight("late", Tensor::scalar(true)).expect("late");
    let y = inner.add_node("And".into(), vec![Some(c), Some(w)], Attrs::new(), vec![("y", flag())], origin("", "and"));
    inner.set_outputs(y.expect("added")).expect("y");
    let attrs = Attrs::from([("then_branch".into(), Attr::Graph(Body { graph: inner.into(), captures: vec![late] }))]);
    g.add_node("If".into(), vec![Some(x)], attrs, vec![("o", flag())], origin("", "if")).expect("added");
    g
}

#[test]
fn graphs_inside_nodes_know_captures_by_their_names_outside() {
    let mut g = with_body();
    let (x, late) = (g.find("x").expect("x"), g.find("late").expect("late"));
    let body = |g: &Graph| {
        let bytes = encode(g, &EncodeOptions::default()).expect("encodes").bytes;
        let graph = ModelProto::decode(&bytes[..]).expect("decodes").graph.expect("graph");
        graph.node.iter().find(|n| n.op_type() == "If").and_then(|n| n.attribute[0].g.clone()).expect("a body")
    };
    let then = body(&g);
    assert_eq!(then.node[0].input, ["late", "then.late"]);
    assert_eq!((then.initializer[0].name(), then.input.len(), then.output[0].name()), ("then.late", 0, "y"));
    // What is redirected is read by its new name, and now the body's own name is free.
    let mut patch = lorac_ir::Patch::new(&g, "test");
    patch.redirect(late, x);
    patch.remove(g.producer(late).expect("Not").0);
    patch.apply(&mut g).expect("fits");
    assert_eq!(lorac_ir::verify(&g), []);
    let then = body(&g);
    assert_eq!(then.node[0].input, ["x", "late"]);
    assert_eq!(
        lorac_onnx::decode(encode(&g, &EncodeOptions::default()).expect("encodes").bytes.into())
            .expect("loads")
            .graph
            .find("o")
            .map(|_| ()),
        Some(())
    );
}

#[test]
fn what_cannot_be_written_is_named() {
    let mut g = Graph::new("g", 17);
    let opaque = Tensor::new(DType::Opaque, vec![4], bytes::Bytes::new()).expect("tensor");
    g.add_weight("fp8", opaque).expect("added");
    let err = encode(&g, &EncodeOptions::default()).expect_err("opaque");
    assert!(matches!(&err, OnnxError::OpaqueTensor { weight, dtype: DType::Opaque } if weight == "fp8"), "{err}");

    let mut g = Graph::new("g", 17);
    let w = g.add_weight("w", Tensor::scalar(1.0f32)).expect("added");
    g.set_fact(w, Fact::new(DType::F32, [3i64]));
    assert!(matches!(encode(&g, &EncodeOptions::default()), Err(OnnxError::BadGraph(v)) if v.len() == 1));
}

#[test]
fn saving_over_the_mapped_file_and_into_nowhere() {
    let folder = tempfile::tempdir().expect("folder");
    let path = folder.path().join("m.onnx");
    std::fs::copy(export("bert-torchscript"), &path).expect("copied");
    let model = load(&path).expect("loads");
    save(&model.graph, &path, &SaveOptions::default()).expect("saved over itself");
    same(&model.graph, &load(&path).expect("loads").graph, true);

    let nowhere = folder.path().join("absent/m.onnx");
    assert!(matches!(save(&model.graph, &nowhere, &SaveOptions::default()), Err(OnnxError::NoFolder { .. })));
    std::fs::create_dir(folder.path().join("taken")).expect("made");
    let taken = folder.path().join("taken");
    assert!(matches!(save(&model.graph, &taken, &SaveOptions::default()), Err(OnnxError::Write { .. })));
    assert_eq!(std::fs::read_dir(folder.path()).expect("folder").count(), 2);
}
