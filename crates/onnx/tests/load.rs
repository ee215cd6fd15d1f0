//! Reading: real exports, every kind of tensor, everything that is refused, and arbitrary bytes.

mod common;

use bytes::Bytes;
use common::*;
use lorac_ir::{Attr, DType, Def, Dim, Fact, verify};
use lorac_onnx::proto::{AttributeProto, GraphProto, ModelProto, NodeProto, SparseTensorProto};
use lorac_onnx::{ExternalFault, Location, Model, OnnxError, Problem, TensorFault, decode, load};
use proptest::prelude::*;
use prost::Message;
use std::os::unix::fs::symlink;

fn read(model: &ModelProto) -> Result<Model, OnnxError> {
    decode(model.encode_to_vec().into())
}

fn problems(result: Result<Model, OnnxError>) -> Vec<Problem> {
    match result {
        Err(OnnxError::Invalid { problems, .. }) => problems,
        other => panic!("not refused as invalid: {:?}", other.map(|m| m.path)),
    }
}

#[test]
fn real_exports_load_whole() {
    for name in EXPORTS {
        let model = load(export(name)).expect(name);
        assert_eq!(verify(&model.graph), [], "{name}");
        let constants = model.node_count - model.graph.node_count();
        assert!(model.graph.weights().count() > constants && model.graph.outputs().len() == 1, "{name}");
        assert!(model.producer.starts_with("pytorch"), "{name}: {}", model.producer);
        for (id, value, tensor) in model.graph.weights() {
            match &model.locations[&id] {
                Location::Inline { range } => {
                    let bytes = &model.file[range.start as usize..range.end as usize];
                    assert_eq!(bytes, &tensor.bytes()[..], "{name}: {}", value.name);
                }
                other => assert!(tensor.bytes().len() < 64, "{name}: {} is {other:?}", value.name),
            }
        }
        let input = model.graph.fact(model.graph.inputs()[0]);
        assert_eq!((input.dtype, input.rank()), (DType::I64, Some(2)), "{name}");
        assert!(input.dims().is_some_and(|d| d.iter().all(|d| matches!(d, Dim::Sym(_)))), "{name}: {input}");
    }
}

#[test]
fn constants_of_every_kind_are_weights_or_stay() {
    let attr = |name: &str| AttributeProto { name: Some(name.into()), ..Default::default() };
    let nodes = vec![
        constant("t", AttributeProto { t: Some(raw("", &[1], &[2.0])), r#type: Some(4), ..attr("value") }),
        constant("f", AttributeProto { f: Some(0.5), r#type: Some(1), ..attr("value_float") }),
        constant("fs", AttributeProto { floats: vec![1.0, 2.0], r#type: Some(6), ..attr("value_floats") }),
        constant("i", AttributeProto { i: Some(-1), r#type: Some(2), ..attr("value_int") }),
        constant("is", AttributeProto { ints: vec![3], r#type: Some(7), ..attr("value_ints") }),
        constant("s", AttributeProto { s: Some(b"text".to_vec()), r#type: Some(3), ..attr("value_string") }),
        constant("q", AttributeProto { t: Some(untyped("", 17, &[4])), r#type: Some(4), ..attr("value") }),
    ];
    let model = read(&model(graph(vec![raw("w", &[2], &[1.0, 2.0])], nodes))).expect("loads");
    let find = |name: &str| model.location(name).map(|(id, l)| (model.graph.fact(id), l.clone()));
    assert!(matches!(find("t"), Some((_, Location::Inline { .. }))));
    assert_eq!(find("f"), Some((Fact::scalar(DType::F32), Location::Encoded { why: "value_float" })));
    assert_eq!(find("fs").map(|f| f.0), Some(Fact::new(DType::F32, [2i64])));
    assert_eq!(find("i").map(|f| f.0), Some(Fact::scalar(DType::I64)));
    assert_eq!(find("is").map(|f| f.0), Some(Fact::new(DType::I64, [1i64])));
    assert_eq!((find("s"), find("q")), (None, None));
    assert_eq!((model.graph.node_count(), model.node_count), (3, 8));
}

#[test]
fn opaque_strings_and_sparse_tensors_are_carried() {
    let strings = lorac_onnx::proto::TensorProto { string_data: vec![b"a".to_vec()], ..untyped("names", 8, &[1]) };
    let weights = vec![raw("w", &[2], &[1.0, 2.0]), untyped("fp8", 17, &[4]), strings];
    let mut graph = graph(weights, vec![]);
    let values = Some(untyped("sparse", 1, &[1]));
    graph.sparse_initializer.push(SparseTensorProto { values, indices: None, dims: vec![3, 3] });
    let model = read(&model(graph)).expect("loads");
    let fact = |name| model.graph.find(name).map(|id| model.graph.fact(id));
    assert_eq!(fact("fp8"), Some(Fact::new(DType::Opaque, [4i64])));
    assert_eq!(fact("names"), Some(Fact::new(DType::Str, [1i64])));
    assert_eq!(fact("sparse"), Some(Fact::new(DType::Opaque, [3i64, 3])));
}

#[test]
fn old_signatures_omitted_outputs_and_unsorted_nodes() {
    let mut g = graph(vec![raw("w", &[2], &[1.0, 2.0])], vec![node("Relu", &["b"], &["c"])]);
    g.input.push(value("w", &[2]));
    g.node.push(node("Dropout", &["y", "", ""], &["a", ""]));
    g.node.push(node("LSTM", &["a"], &["", "b"]));
    g.output.push(value("c", &[-1]));
    let model = read(&model(g)).expect("loads");
    let g = &model.graph;
    assert_eq!(verify(g), []);
    assert_eq!(g.inputs(), &[g.find("x").expect("x")]);
    let ops: Vec<_> = g.nodes().map(|(_, n)| n.op.to_string()).collect();
    assert_eq!(ops, ["Add", "Dropout", "LSTM", "Relu"]);
    let (_, lstm) = g.producer(g.find("b").expect("b")).expect("node");
    assert_eq!((lstm.outputs.len(), g.name_of(lstm.outputs[0])), (2, "LSTM_:0".to_string()));
    let (_, dropout) = g.producer(g.find("a").expect("a")).expect("node");
    assert_eq!((dropout.outputs.len(), dropout.inputs[1]), (1, None));
    assert_eq!(g.fact(g.find("c").expect("c")), Fact::new(DType::F32, [Dim::Unknown]));
    assert_eq!(g.fact(g.find("a").expect("a")), Fact::unranked(DType::Opaque));
}

/// `o = If(w) { i = Add(late, w) }`.
fn branch() -> NodeProto {
    let inner = GraphProto {
        name: Some("then".into()),
        node: vec![node("Add", &["late", "w"], &["i"])],
        output: vec![value("i", &[])],
        ..Default::default()
    };
    let attr =
        AttributeProto { name: Some("then_branch".into()), g: Some(inner), r#type: Some(5), ..Default::default() };
    NodeProto { attribute: vec![attr], ..node("If", &["w"], &["o"]) }
}

#[test]
fn graphs_inside_nodes_are_read_and_use_what_they_capture() {
    let g = graph(vec![raw("w", &[2], &[1.0, 2.0])], vec![branch(), node("Relu", &["x"], &["late"])]);
    let m = read(&model(g)).expect("loads");
    assert_eq!(lorac_ir::verify(&m.graph), []);
    // The node that a subgraph reads comes first, though nothing but the subgraph says so.
    let (_, first) = m.graph.nodes().next().expect("nodes");
    assert_eq!(first.op.to_string(), "Relu");
    let (id, branch_node) = m.graph.producer(m.graph.find("o").expect("o")).expect("If");
    let late = m.graph.find("late").expect("late");
    assert_eq!(branch_node.captures().collect::<Vec<_>>(), [late, m.graph.find("w").expect("w")]);
    assert_eq!(m.graph.value(late).expect("late").uses(), [lorac_ir::Use { node: id, slot: 1 }]);
    let body = branch_node.bodies().next().expect("a body");
    assert_eq!((body.own_inputs(), body.graph.node_count()), (0, 1));

    let missing = read(&model(graph(vec![raw("w", &[2], &[1.0, 2.0])], vec![branch()])));
    assert_eq!(problems(missing), [Problem::Undefined { node: "If_o".into(), value: "late".into() }]);
}

#[test]
fn functions_are_graphs_whose_attributes_may_refer_to_the_callers() {
    let mut alpha = AttributeProto { name: Some("alpha".into()), r#type: Some(1), ..Default::default() };
    alpha.ref_attr_name = Some("slope".into());
    let leaky = NodeProto { attribute: vec![alpha], ..node("LeakyRelu", &["a"], &["b"]) };
    let f = lorac_onnx::proto::FunctionProto {
        name: Some("Act".into()),
        domain: Some("own".into()),
        overload: Some("fast".into()),
        input: vec!["a".into()],
        output: vec!["b".into()],
        attribute: vec!["slope".into()],
        node: vec![leaky],
        ..Default::default()
    };
    let mut m = model(graph(vec![raw("w", &[2], &[1.0, 2.0])], vec![]));
    m.functions = vec![f.clone()];
    let read_back = read(&m).expect("loads").functions;
    let [function] = &read_back[..] else { panic!("{read_back:?}") };
    assert_eq!(function.op.to_string(), "own.Act:fast");
    let slope = |attrs: &lorac_ir::Attrs| {
        let bound = function.bind(attrs);
        let (_, node) = bound.nodes().next().expect("a node");
        node.attrs.get("alpha").cloned()
    };
    assert_eq!(slope(&[("slope".into(), Attr::Float(0.5))].into()), Some(Attr::Float(0.5)));
    assert_eq!(slope(&lorac_ir::Attrs::new()), None);

    m.functions = vec![f.clone(), f];
    m.functions[1].node[0].input[0] = "nothing".into();
    let undefined = Problem::Undefined { node: "LeakyRelu_b".into(), value: "nothing".into() };
    let inside = Problem::Function { function: "own.Act:fast".into(), problem: Box::new(undefined) };
    assert_eq!(problems(read(&m)), [Problem::DuplicateFunction("own.Act:fast".into()), inside]);
}

#[test]
fn all_problems_are_found_at_once() {
    let mut g = graph(vec![raw("w", &[3], &[1.0]), raw("w", &[1], &[1.0]), raw("n", &[-4], &[])], vec![]);
    g.input.extend([value("x", &[2]), value("", &[2]), value("neg", &[-7])]);
    g.node.extend([node("Relu", &["nowhere"], &["r"]), node("Relu", &["x"], &["y"]), node("", &["x"], &["z"])]);
    g.output.push(value("ghost", &[1]));
    let found = problems(read(&model(g)));
    let has = |p: &Problem| assert!(found.contains(p), "{p} is not among {found:?}");
    has(&Problem::DuplicateValue("w".into()));
    has(&Problem::DuplicateValue("x".into()));
    has(&Problem::DuplicateValue("y".into()));
    has(&Problem::Unnamed { what: "input", index: 2 });
    has(&Problem::NegativeDim { value: "neg".into(), dim: -7 });
    has(&Problem::Undefined { node: "Relu_r".into(), value: "nowhere".into() });
    has(&Problem::NoOperator("_z".into()));
    has(&Problem::UncomputedOutput("ghost".into()));
    has(&Problem::Tensor { tensor: "n".into(), fault: TensorFault::NegativeDim(-4) });
    assert!(found.iter().any(|p| p.to_string().contains("`w`: f32[3] needs 12 bytes, got 4")));
    assert_eq!(found.len(), 10);

    let mut g =
        graph(vec![raw("w", &[2], &[1.0, 2.0])], vec![node("Relu", &["b"], &["a"]), node("Relu", &["a"], &["b"])]);
    g.output.push(value("b", &[2]));
    assert_eq!(problems(read(&model(g))), [Problem::Cycle("Relu_a".into())]);
}

#[test]
fn versions_out_of_range_are_named_with_the_way_out() {
    let good = model(graph(vec![raw("w", &[2], &[1.0, 2.0])], vec![]));
    let with = |opset: i64, ir: i64| {
        let mut m = good.clone();
        m.opset_import[0].version = Some(opset);
        m.ir_version = Some(ir);
        read(&m)
    };
    for opset in [11, 12, 13, 17, 26] {
        assert_eq!(with(opset, 8).expect("loads").graph.opset(), opset);
    }
    for opset in [-1, 0, 10, 27, i64::MAX] {
        let text = with(opset, 8).expect_err("refused").to_string();
        assert!(text.contains(&format!("opset {opset} ")) && text.contains("onnx.version_converter"), "{text}");
    }
    for ir in [0, -3, 2, 15] {
        assert!(matches!(with(17, ir), Err(OnnxError::IrVersion { got, .. }) if got == ir));
    }
    let mut m = good.clone();
    m.opset_import.push(lorac_onnx::proto::OperatorSetIdProto { domain: Some("ai.onnx".into()), version: Some(18) });
    assert_eq!(problems(read(&m)), [Problem::OpsetConflict { domain: "".into(), a: 17, b: 18 }]);
}

#[test]
fn files_that_are_no_models() {
    let folder = tempfile::tempdir().expect("folder");
    let at = |name: &str| folder.path().join(name);
    std::fs::write(at("empty"), b"").expect("written");
    std::fs::write(at("text"), b"import onnx\n").expect("written");
    std::fs::write(at("nograph"), [8, 8]).expect("written");
    let real = std::fs::read(export("bert-torchscript")).expect("read");
    std::fs::write(at("half"), &real[..real.len() / 2]).expect("written");
    assert!(matches!(load(at("absent")), Err(OnnxError::Read { .. })));
    assert!(matches!(load(folder.path()), Err(OnnxError::NotRegular { .. })));
    assert!(matches!(load("/dev/zero"), Err(OnnxError::NotRegular { .. })));
    assert!(matches!(load(at("empty")), Err(OnnxError::Empty { .. })));
    assert!(matches!(load(at("text")), Err(OnnxError::Garbage { .. })));
    assert!(matches!(load(at("half")), Err(OnnxError::Garbage { .. })));
    assert!(matches!(load(at("nograph")), Err(OnnxError::NoGraph { .. })));
}

#[test]
fn graphs_that_are_nested_too_deeply_are_said_to_be() {
    let nested = |depth: usize| {
        let mut nodes = vec![node("Relu", &["x"], &["y"])];
        for _ in 0..depth {
            let body = GraphProto { node: nodes, ..Default::default() };
            let attr =
                AttributeProto { name: Some("body".into()), r#type: Some(5), g: Some(body), ..Default::default() };
            nodes = vec![NodeProto { attribute: vec![attr], ..node("Loop", &[], &["y"]) }];
        }
        read(&model(GraphProto { node: nodes, ..Default::default() }))
    };
    for depth in [1, 32] {
        assert!(!matches!(nested(depth), Err(OnnxError::Nesting { .. } | OnnxError::Garbage { .. })), "{depth}");
    }
    for depth in [33, 90, 1000] {
        let error = nested(depth).expect_err("too deep");
        assert_eq!((error.code(), matches!(error, OnnxError::Nesting { limit: 32, .. })), ("onnx::nesting", true));
    }
}

#[test]
fn external_data_is_mapped() {
    let folder = tempfile::tempdir().expect("folder");
    std::fs::create_dir(folder.path().join("sub")).expect("made");
    std::fs::write(folder.path().join("sub/w.bin"), bytes_of(&[9.0, 1.0, 2.0])).expect("written");
    let entries = [("location", "./sub/w.bin"), ("offset", "4"), ("length", "8"), ("checksum", "x"), ("odd", "y")];
    let path = write(folder.path(), graph(vec![external("w", &[2], &entries)], vec![]));
    let model = load(path).expect("loads");
    let (id, location) = model.location("w").expect("w");
    assert_eq!(*location, Location::External { path: "sub/w.bin".into(), range: 4..12 });
    assert_eq!(model.graph.weight(id).and_then(|t| t.to_f64()), Some(vec![1.0, 2.0]));
    assert!(matches!(model.graph.value(id).map(|v| v.def), Some(Def::Weight(_))));
}

#[test]
fn external_data_cannot_lead_astray() {
    let outer = tempfile::tempdir().expect("folder");
    let secret = outer.path().join("secret");
    std::fs::write(&secret, [0; 64]).expect("written");
    let folder = outer.path().join("model");
    std::fs::create_dir(&folder).expect("made");
    let at = |name: &str| folder.join(name);
    std::fs::write(at("good"), [0; 64]).expect("written");
    symlink(&secret, at("link")).expect("linked");
    symlink(outer.path(), at("up")).expect("linked");
    symlink(at("good"), at("inside")).expect("linked");
    std::fs::write(outer.path().join("other"), [0; 64]).expect("written");
    std::fs::hard_link(outer.path().join("other"), at("hard")).expect("linked");
    std::fs::create_dir(at("dir")).expect("made");

    let fault = |entries: &[(&str, &str)]| -> Option<ExternalFault> {
        let path = write(&folder, graph(vec![external("w", &[2], entries)], vec![]));
        match load(path) {
            Ok(_) => None,
            Err(OnnxError::Invalid { problems, .. }) => match &problems[..] {
                [Problem::Tensor { fault: TensorFault::External(fault), .. }] => Some(fault.clone()),
                other => panic!("{other:?}"),
            },
            Err(other) => panic!("{other}"),
        }
    };
    let refused = |location: &str| fault(&[("location", location)]).expect(location);
    assert_eq!(fault(&[("location", "good")]), None);
    assert_eq!(fault(&[("location", "inside")]), None);
    assert_eq!(fault(&[]), Some(ExternalFault::NoLocation));
    assert_eq!(refused("."), ExternalFault::NoLocation);
    for location in ["../secret", "dir/../../secret", "/etc/passwd", ".."] {
        assert_eq!(refused(location), ExternalFault::NotRelative(location.into()));
    }
    assert_eq!(refused("link"), ExternalFault::Outside("link".into()));
    assert_eq!(refused("up/secret"), ExternalFault::Outside("up/secret".into()));
    assert_eq!(refused("hard"), ExternalFault::HardLinked { location: "hard".into(), links: 2 });
    assert_eq!(refused("dir"), ExternalFault::NotRegular("dir".into()));
    assert_eq!(refused("model.onnx"), ExternalFault::IsTheModel("model.onnx".into()));
    assert!(matches!(refused("absent"), ExternalFault::Unreadable { .. }));
    assert!(matches!(refused("nul\0"), ExternalFault::Unreadable { .. }));

    let number = |key: &str, text: &str| fault(&[("location", "good"), (key, text)]).expect(text);
    for text in ["-1", "+1", "0x10", "", "1e3", "99999999999999999999999"] {
        assert_eq!(number("offset", text), ExternalFault::BadNumber { key: "offset".into(), text: text.into() });
    }
    assert_eq!(number("length", "9"), ExternalFault::Length { want: 8, got: 9 });
    for offset in ["57", "64", "18446744073709551615"] {
        assert!(matches!(number("offset", offset), ExternalFault::OutOfRange { file: 64, .. }));
    }
    assert_eq!(fault(&[("location", "good"), ("offset", "56")]), None);
    let huge = external("w", &[1 << 40, 1 << 40], &[("location", "good")]);
    assert!(load(write(&folder, graph(vec![huge], vec![]))).is_err());
    assert!(decode(Bytes::from(std::fs::read(at("model.onnx")).expect("read"))).is_err());
}

#[test]
fn data_is_found_behind_the_links_of_a_hub() {
    let outer = tempfile::tempdir().expect("folder");
    let at = |name: &str| outer.path().join(name);
    for folder in ["hub/blobs/sub", "hub/snapshots/rev/onnx", "elsewhere", "other"] {
        std::fs::create_dir_all(at(folder)).expect("made");
    }
    for file in ["hub/blobs/b1", "hub/blobs/sub/b2", "elsewhere/w"] {
        std::fs::write(at(file), bytes_of(&[1.0, 2.0])).expect("written");
    }
    let model = |location: &str| {
        let path = write(&at("hub/blobs"), graph(vec![external("w", &[2], &[("location", location)])], vec![]));
        std::fs::rename(path, at("hub/blobs/b0")).expect("moved");
    };
    let link = |to: &str, from: &str| symlink(to, at(from)).expect("linked");
    link("../../blobs/b0", "hub/snapshots/rev/model.onnx");
    link("../../blobs/b1", "hub/snapshots/rev/model.onnx_data");
    link("../../blobs/sub/b2", "hub/snapshots/rev/deeper");
    link("../../../elsewhere/w", "hub/snapshots/rev/astray");
    link("../../../blobs/b0", "hub/snapshots/rev/onnx/model.onnx");
    link("../../../blobs/b1", "hub/snapshots/rev/onnx/model.onnx_data");
    let loaded = |path: &str, location: &str| {
        model(location);
        let model = load(at(path));
        model.map(|m| m.graph.weight(m.graph.find("w").expect("w")).and_then(|t| t.to_f64()))
    };
    let ones = || Some(vec![1.0, 2.0]);
    let snapshot = "hub/snapshots/rev/model.onnx";
    assert_eq!(loaded(snapshot, "model.onnx_data").expect("loads"), ones());
    assert_eq!(loaded("hub/snapshots/rev/onnx/model.onnx", "model.onnx_data").expect("loads"), ones());
    assert_eq!(loaded(snapshot, "deeper").expect("loads"), ones());
    let refused = |path: &str, location: &str| match loaded(path, location) {
        Err(OnnxError::Invalid { problems, .. }) => problems[0].to_string(),
        other => panic!("{location}: {other:?}"),
    };
    assert!(refused(snapshot, "astray").contains("leads out"));
    assert!(refused(snapshot, "../../blobs/b1").contains("relative"));
    assert!(refused(snapshot, at("hub/blobs/b1").to_str().expect("UTF-8")).contains("relative"));
    // What lies only behind the model's link is not beside the model.
    assert!(refused(snapshot, "b1").contains("No such file"));
    // A model that is not a link itself has its own folder and nothing else.
    std::fs::copy(at("hub/blobs/b0"), at("other/model.onnx")).expect("copied");
    link("../hub/blobs/b1", "other/b1");
    assert!(refused("other/model.onnx", "unused").contains("leads out"));

    // The result has the data beside it, as a file of its own.
    model("model.onnx_data");
    let base = load(at(snapshot)).expect("loads");
    lorac_onnx::patch(&base, &[], None, at("elsewhere/m.onnx")).expect("patched");
    let data = std::fs::symlink_metadata(at("elsewhere/model.onnx_data")).expect("written");
    assert!(data.is_file() && load(at("elsewhere/m.onnx")).is_ok());
}

#[test]
fn a_mapped_file_that_is_shortened_is_an_error() {
    let folder = tempfile::tempdir().expect("folder");
    let at = |name: &str| folder.path().join(name);
    let large = (17 << 20) / 4;
    std::fs::File::create(at("w.bin")).and_then(|f| f.set_len(4 * large as u64 + 8)).expect("a hole");
    let data = external("big", &[large], &[("location", "w.bin"), ("offset", "8")]);
    let path = write(folder.path(), graph(vec![data, raw("w", &[2], &[1.0, 2.0])], vec![]));
    let base = load(&path).expect("loads");
    assert!(base.check_unchanged().is_ok());
    std::fs::create_dir(at("out")).expect("made");
    let shorten = || std::fs::File::options().write(true).open(at("w.bin")).and_then(|f| f.set_len(8));
    shorten().expect("shortened");
    assert!(matches!(base.check_unchanged(), Err(OnnxError::ChangedOnDisk { path }) if path.ends_with("w.bin")));
    let refused = lorac_onnx::patch(&base, &[], None, at("out/m.onnx"));
    assert!(matches!(refused, Err(OnnxError::ChangedOnDisk { .. })), "{refused:?}");

    // Between two edits as well: the second would be made of what is gone.
    std::fs::File::create(at("w.bin")).and_then(|f| f.set_len(4 * large as u64 + 8)).expect("a hole");
    let base = load(&path).expect("loads");
    let id = base.graph.find("big").expect("big");
    let w0 = base.graph.weight(id).expect("a weight").bytes().clone();
    let late = lorac_onnx::Edit::lazy(id, || {
        let new = w0.to_vec();
        shorten().map(|()| Bytes::from(new))
    });
    let refused = lorac_onnx::patch(&base, &[late], None, at("out/m.onnx"));
    assert!(matches!(refused, Err(OnnxError::ChangedOnDisk { .. })), "{refused:?}");
    assert_eq!(std::fs::read_dir(at("out")).expect("folder").count(), 0);
}

#[test]
fn a_missing_data_file_is_one_problem() {
    let folder = tempfile::tempdir().expect("folder");
    let tensors = ["w", "u", "v"].map(|n| external(n, &[2], &[("location", "model.onnx.data")]));
    let found = problems(load(write(folder.path(), graph(tensors.to_vec(), vec![]))));
    assert_eq!(found.len(), 1, "{found:?}");
}

fn attempt(bytes: Vec<u8>) -> Result<(), TestCaseError> {
    if let Ok(model) = decode(bytes.into()) {
        prop_assert_eq!(verify(&model.graph), []);
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(300) })]

    #[test]
    fn mutated_models_never_panic(flips in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..20), cut in prop::option::weighted(0.2, any::<prop::sample::Index>())) {
        let mut bytes = std::fs::read(export("distilbert-dynamo")).expect("read");
        for (at, byte) in flips {
            let at = at.index(bytes.len());
            bytes[at] = byte;
        }
        bytes.truncate(cut.map_or(usize::MAX, |c| c.index(bytes.len())));
        attempt(bytes)?;
    }

    #[test]
    fn small_models_with_mutations_never_panic(flips in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..6)) {
        let attr = AttributeProto { name: Some("value_ints".into()), ints: vec![3], r#type: Some(7), ..Default::default() };
        let weights = vec![raw("w", &[2], &[1.0, 2.0]), external("e", &[2], &[("location", "z")])];
        let g = graph(weights, vec![constant("c", attr), node("If", &["x"], &["q", "", "k"])]);
        let mut bytes = model(g).encode_to_vec();
        for (at, byte) in flips {
            let at = at.index(bytes.len());
            bytes[at] = byte;
        }
        attempt(bytes)?;
    }

    #[test]
    fn any_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        attempt(bytes)?;
    }
}
