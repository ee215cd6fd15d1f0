//! Byte patches, appended heads, re-encoded tensors, external files, and what is refused.

mod common;

use bytes::Bytes;
use common::*;
use lorac_ir::{Attrs, DType, Dim, Fact, Graph, Origin, Tensor, verify};
use lorac_onnx::proto::{AttributeProto, ModelProto, TensorProto};
use lorac_onnx::{
    Appendix, Edit, Location, Model, OnnxError, Part, Problem, SaveOptions, check_patch, compare, decode, load, patch,
    save,
};
use proptest::prelude::*;
use prost::Message;
use std::path::Path;

fn edit(model: &Model, name: &str, bytes: Bytes) -> Edit<'static> {
    Edit::new(model.graph.find(name).expect(name), bytes)
}

fn floats(model: &Model, name: &str) -> Vec<f64> {
    let id = model.graph.find(name).expect(name);
    model.graph.weight(id).and_then(|t| t.to_f64()).expect(name)
}

/// The largest matrices of a model, with as many new bytes.
fn edits(model: &Model, count: usize) -> (Vec<Edit<'static>>, Vec<String>) {
    let mut weights: Vec<_> =
        model.graph.weights().filter(|(_, _, t)| t.dtype() == DType::F32 && t.dims().len() == 2).collect();
    weights.sort_by_key(|w| std::cmp::Reverse((w.2.bytes().len(), w.0)));
    weights.truncate(count);
    let new = |t: &Tensor| t.bytes().iter().map(|b| b ^ 0x11).collect::<Vec<u8>>();
    weights.iter().map(|(id, v, t)| (Edit::new(*id, new(t)), v.name.to_string())).unzip()
}

fn head(model: &Model) -> Graph {
    let base = model.graph.outputs()[0];
    let mut g = Graph::new("head", model.graph.opset());
    let fact = Fact::new(DType::F32, [Dim::named("N"), Dim::named("S"), Dim::Known(32)]);
    let x = g.add_input(&model.graph.name_of(base), fact.clone()).expect("x");
    let w = g.add_weight("head.weight", Tensor::zeros(DType::F32, &[32, 2]).expect("zeros")).expect("w");
    let origin = Origin { pass: "head".into(), source: "classifier".into() };
    let y = g.add_node("MatMul".into(), vec![Some(x), Some(w)], Attrs::new(), vec![("logits", fact)], origin);
    g.set_outputs(y.expect("y")).expect("set");
    g
}

fn names_in(folder: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(folder).expect("folder");
    let mut names: Vec<_> = entries.map(|e| e.expect("entry").file_name().to_string_lossy().into_owned()).collect();
    names.sort();
    names
}

#[test]
fn only_the_targets_bytes_change() {
    let folder = tempfile::tempdir().expect("folder");
    for name in EXPORTS {
        let base = load(export(name)).expect(name);
        let (edits, targets) = edits(&base, 4);
        let out = folder.path().join(format!("{name}.onnx"));
        let report = patch(&base, &edits, None, &out).expect(name);
        assert_eq!((report.reencoded.len(), report.inserted, report.changed.len()), (0, 0, 4));
        let after = load(&out).expect(name);
        assert_eq!(after.file.len(), base.file.len());
        for (changed, edit) in report.changed.iter().zip(&edits) {
            assert_eq!(
                &after.file[changed.range.start as usize..changed.range.end as usize],
                &edit.bytes().expect("there")[..]
            );
            assert_eq!(after.graph.weight(edit.weight).map(|t| t.bytes()), edit.bytes().ok().as_ref());
        }
        let found = compare(&base, &after, &targets);
        assert_eq!((found.changed_bytes_outside_targets, found.inserted_bytes), (0, 0), "{name}");
        assert_eq!((found.nodes_before, found.changed_targets.len()), (found.nodes_after, 4));
        // The comparison is not a tautology: without a target, its bytes count.
        assert!(compare(&base, &after, &targets[1..]).changed_bytes_outside_targets > 0);
        assert_eq!(compare(&base, &base, &targets).changed_targets, [] as [&str; 0]);
    }
    assert_eq!(names_in(folder.path()).len(), EXPORTS.len(), "temporary files remain");
}

#[test]
fn a_head_is_appended_behind_the_base() {
    let folder = tempfile::tempdir().expect("folder");
    let out = folder.path().join("out.onnx");
    for name in EXPORTS {
        let base = load(export(name)).expect(name);
        let (edits, targets) = edits(&base, 2);
        let appendix = Appendix::of(head(&base));
        let report = patch(&base, &edits, Some(&appendix), &out).expect(name);
        let after = load(&out).expect(name);
        assert_eq!(verify(&after.graph), []);
        assert_eq!(after.file.len() as u64, base.file.len() as u64 + report.inserted);
        assert_eq!(after.graph.name, base.graph.name, "the model keeps its name");
        assert_eq!(after.graph.inputs().len(), base.graph.inputs().len());
        let outputs: Vec<_> = after.graph.outputs().iter().map(|v| after.graph.name_of(*v)).collect();
        assert_eq!(outputs.last().map(String::as_str), Some("logits"));
        assert_eq!(outputs.len(), base.graph.outputs().len() + 1);
        let found = compare(&base, &after, &targets);
        assert_eq!((found.changed_bytes_outside_targets, found.inserted_bytes), (0, report.inserted), "{name}");
        assert_eq!(found.nodes_after, found.nodes_before + 1);

        // Once more, on top: names are taken, others are free.
        let again = folder.path().join("again.onnx");
        let clash = patch(&after, &[], Some(&appendix), &again).expect_err("the names are taken");
        assert!(matches!(clash, OnnxError::Appendix { problems } if problems.len() == 2));
        let (edits, _) = self::edits(&after, 1);
        patch(&after, &edits, None, &again).expect("patched");
    }
}

#[test]
fn metadata_stands_behind_the_base_and_no_key_twice() {
    let folder = tempfile::tempdir().expect("folder");
    let out = folder.path().join("out.onnx");
    for name in EXPORTS {
        let base = load(export(name)).expect(name);
        let metadata = [("lorac.labels", "[\"a\"]"), ("lorac.task", "")].map(|(k, v)| (k.to_string(), v.to_string()));
        let appendix = Appendix { metadata: metadata.clone().into(), ..Appendix::default() };
        let report = patch(&base, &[], Some(&appendix), &out).expect(name);
        let after = load(&out).expect(name);
        assert_eq!(&after.file[..base.file.len()], &base.file[..], "{name}: the base's bytes are in front");
        assert_eq!(after.file.len() as u64, base.file.len() as u64 + report.inserted);
        let mut want = base.metadata.clone();
        want.extend(metadata);
        assert_eq!(after.metadata, want);
        let found = compare(&base, &after, &[] as &[&str]);
        assert_eq!((found.changed_bytes_outside_targets, found.inserted_bytes), (0, report.inserted), "{name}");
        assert!(found.inserted.iter().all(|i| i.part == Part::Metadata) && found.inserted.len() == 2);
        let again = patch(&after, &[], Some(&appendix), folder.path().join("again.onnx"));
        let Err(OnnxError::Appendix { problems }) = again else { panic!("{again:?}") };
        assert_eq!(problems.len(), 2);
        assert!(matches!(&problems[0], Problem::DuplicateMetadata(key) if key == "lorac.labels"));
    }
}

#[test]
fn an_appendix_that_does_not_fit_is_refused() {
    let folder = tempfile::tempdir().expect("folder");
    let base = load(export("bert-dynamo")).expect("loads");
    let mut g = Graph::new("head", base.graph.opset() + 1);
    g.opsets.insert("com.microsoft".into(), 1);
    g.add_input("nowhere", Fact::scalar(DType::F32)).expect("added");
    let out = folder.path().join("o.onnx");
    let Err(OnnxError::Appendix { problems }) = patch(&base, &[], Some(&Appendix::of(g)), &out) else {
        panic!("not refused");
    };
    assert_eq!(problems.len(), 2);
    assert!(matches!(&problems[0], Problem::Undefined { value, .. } if value == "nowhere"));
    assert!(names_in(folder.path()).is_empty());

    let mut g = Graph::new("head", base.graph.opset());
    g.opsets.insert("com.microsoft".into(), 1);
    let input = base.graph.name_of(base.graph.inputs()[0]);
    let x = g.add_input(&input, base.graph.fact(base.graph.inputs()[0])).expect("added");
    g.set_outputs(vec![x]).expect("set");
    patch(&base, &[], Some(&Appendix::of(g)), &out).expect("fits");
    let after = load(&out).expect("loads");
    assert_eq!(after.graph.opsets.get("com.microsoft"), Some(&1));
    let last = after.graph.outputs().last().map(|v| after.graph.name_of(*v));
    assert_eq!(last, Some(format!("{input}_output")));
}

/// A model whose tensors are all stored in ways that cannot be patched in place, with unknown fields and a long tail.
fn encoded(folder: &Path) -> Model {
    let halves =
        TensorProto { int32_data: vec![0x3c00, 1, 0xbc00], doc_string: Some("d".into()), ..untyped("h", 10, &[3]) };
    let typed = TensorProto { float_data: vec![1.0, 2.0], ..untyped("w", 1, &[2]) };
    let attr = |name: &str| AttributeProto { name: Some(name.into()), ..Default::default() };
    let list = AttributeProto { floats: vec![1.0; 40], r#type: Some(6), ..attr("value_floats") };
    let inner = AttributeProto {
        t: Some(TensorProto { int64_data: vec![7, -1], ..untyped("", 7, &[2]) }),
        r#type: Some(4),
        ..attr("value")
    };
    let number = AttributeProto { i: Some(5), r#type: Some(2), ..attr("value_int") };
    let nodes = vec![constant("list", list), constant("ints", inner), constant("n", number)];
    let mut g = graph(vec![halves, typed, raw("inline", &[2], &[5.0, 6.0])], nodes);
    g.doc_string = Some("long ".repeat(50));
    let mut bytes = model(g).encode_to_vec();
    // A field that no version of ONNX has.
    bytes.extend([0xfa, 0x3f, 2, b'h', b'i']);
    let path = folder.join("model.onnx");
    std::fs::write(&path, bytes).expect("written");
    load(path).expect("loads")
}

#[test]
fn tensors_without_a_place_are_written_anew() {
    let folder = tempfile::tempdir().expect("folder");
    let base = encoded(folder.path());
    let ints = |v: &[i64]| -> Bytes { v.iter().flat_map(|x| x.to_le_bytes()).collect::<Vec<u8>>().into() };
    let halves: Bytes = [0x4000u16, 0x4200, 0x4400].iter().flat_map(|x| x.to_le_bytes()).collect::<Vec<u8>>().into();
    let edits = [
        edit(&base, "h", halves),
        edit(&base, "inline", bytes_of(&[-5.0, -6.0])),
        edit(&base, "w", bytes_of(&[3.0, 4.0])),
        edit(&base, "list", bytes_of(&[2.0; 40])),
        Edit::lazy(base.graph.find("ints").expect("ints"), || Ok::<_, OnnxError>(ints(&[8, 9]))),
        edit(&base, "n", ints(&[6])),
    ];
    let out = folder.path().join("out.onnx");
    let report = patch(&base, &edits, None, &out).expect("patched");
    assert_eq!(report.reencoded, ["h", "w", "list", "ints", "n"]);
    let after = load(&out).expect("loads");
    for (edit, changed) in edits.iter().zip(&report.changed) {
        assert_eq!(
            &after.file[changed.range.start as usize..changed.range.end as usize],
            &edit.bytes().expect("there")[..]
        );
        let (id, location) = after.location(&changed.weight).expect("still there");
        assert_eq!(*location, Location::Inline { range: changed.range.clone() }, "{}", changed.weight);
        assert_eq!(after.graph.fact(id), base.graph.fact(edit.weight));
    }
    assert_eq!(floats(&after, "h"), [2.0, 3.0, 4.0]);
    assert_eq!(floats(&after, "n"), [6.0]);
    assert!(after.file.ends_with(&[0xfa, 0x3f, 2, b'h', b'i']));
    let before = ModelProto::decode(base.file.clone()).expect("decodes");
    let proto = ModelProto::decode(after.file.clone()).expect("decodes");
    let (before, graph) = (before.graph.expect("graph"), proto.graph.expect("graph"));
    assert_eq!((graph.doc_string, &graph.node[3]), (before.doc_string, &before.node[3]));
    assert_eq!(graph.initializer[0].doc_string.as_deref(), Some("d"));

    let all = ["h", "inline", "w", "list", "ints", "n"];
    let found = compare(&base, &after, &all);
    assert_eq!((found.changed_bytes_outside_targets, found.inserted_bytes), (0, 0));
    assert_eq!((found.nodes_before, found.nodes_after, found.changed_targets.len()), (4, 4, 6));
    for (i, missing) in all.iter().enumerate() {
        let rest: Vec<_> = all.iter().filter(|n| *n != missing).collect();
        let rest: Vec<&str> = rest.into_iter().copied().collect();
        assert!(compare(&base, &after, &rest).changed_bytes_outside_targets > 0, "{i} {missing}");
    }
}

#[test]
fn reencoding_and_appending_go_together() {
    let folder = tempfile::tempdir().expect("folder");
    let base = encoded(folder.path());
    let mut g = Graph::new("head", 17);
    let x = g.add_input("y", Fact::new(DType::F32, [2i64])).expect("x");
    let origin = Origin { pass: "".into(), source: "Add_y".into() };
    let y = g.add_node("Relu".into(), vec![Some(x)], Attrs::new(), vec![("z", Fact::new(DType::F32, [2i64]))], origin);
    g.set_outputs(y.expect("y")).expect("set");
    let out = folder.path().join("out.onnx");
    let edits = [edit(&base, "w", bytes_of(&[3.0, 4.0]))];
    let report = patch(&base, &edits, Some(&Appendix::of(g)), &out).expect("patched");
    let after = load(&out).expect("loads");
    assert_eq!(floats(&after, "w"), [3.0, 4.0]);
    // ONNX Runtime refuses two nodes of one name.
    let (_, relu) = after.graph.producer(after.graph.find("z").expect("z")).expect("node");
    assert_eq!(&*relu.origin.source, "Add_y_1");
    let found = compare(&base, &after, &["w"]);
    assert_eq!((found.changed_bytes_outside_targets, found.inserted_bytes), (0, report.inserted));
}

#[test]
fn external_files_are_copied_and_patched_in_the_copy() {
    let folder = tempfile::tempdir().expect("folder");
    let at = |name: &str| folder.path().join(name);
    std::fs::create_dir_all(at("in/sub")).expect("made");
    std::fs::create_dir(at("out")).expect("made");
    std::fs::write(at("in/sub/w.bin"), bytes_of(&[9.0, 1.0, 2.0])).expect("written");
    let g = graph(vec![external("w", &[2], &[("location", "sub/w.bin"), ("offset", "4")])], vec![]);
    let base = load(write(&at("in"), g)).expect("loads");
    let edits = [edit(&base, "w", bytes_of(&[3.0, 4.0]))];
    let report = patch(&base, &edits, None, at("out/m.onnx")).expect("patched");
    assert_eq!((&report.changed[0].file, report.changed[0].range.clone()), (&at("out/sub/w.bin"), 4..12));
    let after = load(at("out/m.onnx")).expect("loads");
    assert_eq!(floats(&after, "w"), [3.0, 4.0]);
    assert_eq!(std::fs::read(at("in/sub/w.bin")).expect("read"), bytes_of(&[9.0, 1.0, 2.0]));
    assert_eq!(compare(&base, &after, &["w"]).changed_bytes_outside_targets, 0);
    assert!(compare(&base, &after, &[] as &[&str]).changed_bytes_outside_targets > 0);

    // In the model's own folder, only what is not edited may be shared.
    let err = patch(&base, &edits, None, at("in/m.onnx")).expect_err("would change the base");
    assert!(matches!(err, OnnxError::Overwrites { path } if path == at("in/sub/w.bin")));
    assert!(matches!(patch(&base, &[], None, at("in/sub/w.bin")), Err(OnnxError::Overwrites { .. })));
    patch(&base, &[], None, at("in/m.onnx")).expect("shares the data");
    assert_eq!(floats(&load(at("in/m.onnx")).expect("loads"), "w"), [1.0, 2.0]);

    // A link in the folder of the result leads nowhere else.
    std::fs::create_dir_all(at("trap")).expect("made");
    std::os::unix::fs::symlink(at("in"), at("trap/sub")).expect("linked");
    let err = patch(&base, &edits, None, at("trap/m.onnx")).expect_err("leads out");
    assert!(matches!(err, OnnxError::OutsideFolder { .. }), "{err}");
    assert_eq!(names_in(&at("trap")), ["sub"]);
}

#[test]
fn bad_edits_and_places_leave_nothing_behind() {
    let folder = tempfile::tempdir().expect("folder");
    let at = |name: &str| folder.path().join(name);
    std::fs::write(at("w.bin"), bytes_of(&[9.0, 1.0, 2.0])).expect("written");
    let shared = |name: &str, offset: &str| external(name, &[2], &[("location", "w.bin"), ("offset", offset)]);
    let g = graph(vec![shared("w", "0"), shared("u", "0"), shared("v", "4"), untyped("fp8", 17, &[4])], vec![]);
    let base = load(write(folder.path(), g)).expect("loads");
    std::fs::create_dir(at("out")).expect("made");
    let out = at("out/m.onnx");
    let new = bytes_of(&[3.0, 4.0]);
    let (w, u) = (edit(&base, "w", new.clone()), edit(&base, "u", new.clone()));
    let refused = |edits: &[Edit]| patch(&base, edits, None, &out).expect_err("refused");
    assert!(matches!(refused(&[w.clone(), u]), OnnxError::SharedBytes { other, .. } if other == "v"));
    assert!(matches!(refused(&[w.clone(), w.clone()]), OnnxError::EditedTwice { .. }));
    assert!(matches!(refused(&[edit(&base, "w", bytes_of(&[1.0]))]), OnnxError::Length { want: 8, got: 4, .. }));
    assert!(matches!(refused(&[edit(&base, "x", new.clone())]), OnnxError::NotAWeight { .. }));
    assert!(matches!(refused(&[edit(&base, "fp8", Bytes::new())]), OnnxError::OpaqueTensor { .. }));
    assert!(names_in(&at("out")).is_empty());

    // What is made late is held to the same.
    let solo = graph(vec![raw("w", &[2], &[1.0, 2.0])], vec![]);
    std::fs::create_dir(at("solo")).expect("made");
    let solo = load(write(&at("solo"), solo)).expect("loads");
    let id = solo.graph.find("w").expect("w");
    let late = |make: fn() -> Result<Bytes, std::io::Error>| {
        patch(&solo, &[Edit::lazy(id, make)], None, &out).expect_err("refused")
    };
    assert!(matches!(late(|| Ok(bytes_of(&[1.0]))), OnnxError::Length { want: 8, got: 4, .. }));
    let error = late(|| Err(std::io::Error::other("not finite")));
    assert!(matches!(error, OnnxError::Edit { .. }), "{error}");
    assert_eq!(error.to_string(), "cannot replace `w`: not finite");
    assert!(names_in(&at("out")).is_empty());

    let place = |path: &str| patch(&base, &[], None, at(path)).expect_err("refused");
    assert!(matches!(place("model.onnx"), OnnxError::Overwrites { .. }));
    assert!(matches!(place("out/../model.onnx"), OnnxError::Overwrites { .. }));
    assert!(matches!(place("absent/m.onnx"), OnnxError::NoFolder { .. }));
    assert!(matches!(place("out"), OnnxError::Write { .. }));
    assert!(matches!(place("w.bin"), OnnxError::Overwrites { .. }));
    std::os::unix::fs::symlink(at("model.onnx"), at("alias.onnx")).expect("linked");
    assert!(matches!(place("alias.onnx"), OnnxError::Overwrites { .. }));
    assert_eq!(names_in(folder.path()), ["alias.onnx", "model.onnx", "out", "solo", "w.bin"]);

    std::fs::write(at("w.bin"), bytes_of(&[9.0, 1.0, 2.0, 3.0])).expect("written");
    assert!(matches!(patch(&base, &[], None, &out), Err(OnnxError::ChangedOnDisk { .. })));
    assert!(names_in(&at("out")).is_empty());
}

#[test]
fn what_would_be_refused_is_found_before_there_are_bytes() {
    let folder = tempfile::tempdir().expect("folder");
    let at = |name: &str| folder.path().join(name);
    std::fs::create_dir_all(at("in")).expect("made");
    std::fs::create_dir(at("out")).expect("made");
    std::fs::write(at("in/w.bin"), bytes_of(&[9.0, 1.0, 2.0])).expect("written");
    let data = |name: &str, offset: &str| external(name, &[1], &[("location", "w.bin"), ("offset", offset)]);
    let weights = vec![data("w", "0"), data("u", "4"), data("v", "4"), untyped("fp8", 17, &[4])];
    let base = load(write(&at("in"), graph(weights, vec![]))).expect("loads");
    let check = |targets: &[&str], out: &str| {
        let targets: Vec<_> = targets.iter().map(|t| base.graph.find(t).expect("there")).collect();
        check_patch(&base, &targets, at(out))
    };
    assert!(check(&["w", "w"], "out/m.onnx").is_ok() && names_in(&at("out")).is_empty());
    assert!(matches!(check(&["x"], "out/m.onnx"), Err(OnnxError::NotAWeight { .. })));
    assert!(matches!(check(&["fp8"], "out/m.onnx"), Err(OnnxError::OpaqueTensor { .. })));
    // Nobody knows yet whether both are to get the same.
    let shared = check(&["u", "v"], "out/m.onnx");
    assert!(matches!(shared, Err(OnnxError::SharedBytes { weight, other }) if (&*weight, &*other) == ("u", "v")));
    assert!(matches!(check(&[], "in/model.onnx"), Err(OnnxError::Overwrites { .. })));
    assert!(matches!(check(&["w"], "in/m.onnx"), Err(OnnxError::Overwrites { path }) if path == at("in/w.bin")));
    assert!(check(&[], "in/m.onnx").is_ok(), "the data is not edited, and stays");
    assert!(matches!(check(&[], "absent/m.onnx"), Err(OnnxError::NoFolder { .. })));
    // Nothing but a file is replaced by one.
    std::fs::create_dir(at("out/folder.onnx")).expect("made");
    let fifo = at("out/fifo.onnx");
    assert!(std::process::Command::new("mkfifo").arg(&fifo).status().is_ok_and(|s| s.success()));
    for taken in ["out/folder.onnx", "out/fifo.onnx"] {
        assert!(matches!(check(&[], taken), Err(OnnxError::Write { .. })), "{taken}");
        assert!(matches!(patch(&base, &[], None, at(taken)), Err(OnnxError::Write { .. })), "{taken}");
    }
    assert!(matches!(check_patch(&base, &[], "/dev/null"), Err(OnnxError::Write { .. })));
    // A link is replaced, not followed.
    std::fs::write(at("elsewhere"), b"kept").expect("written");
    std::os::unix::fs::symlink(at("elsewhere"), at("out/link.onnx")).expect("linked");
    patch(&base, &[], None, at("out/link.onnx")).expect("patched");
    assert_eq!(std::fs::read(at("elsewhere")).expect("read"), b"kept");
    std::fs::remove_file(at("out/w.bin")).expect("removed");
    // A file of the model under another name is not replaced by a copy of another one.
    std::fs::hard_link(at("in/model.onnx"), at("out/w.bin")).expect("linked");
    assert!(matches!(check(&[], "out/m.onnx"), Err(OnnxError::Overwrites { path }) if path == at("out/w.bin")));
    let memory = decode(load(export("bert-dynamo")).expect("loads").file).expect("decodes");
    assert!(matches!(check_patch(&memory, &[], at("out/m.onnx")), Err(OnnxError::Read { .. })));
}

#[test]
fn an_existing_result_is_replaced_whole() {
    let folder = tempfile::tempdir().expect("folder");
    let out = folder.path().join("m.onnx");
    std::fs::write(&out, vec![1; 1_000_000]).expect("written");
    let base = load(export("bert-dynamo")).expect("loads");
    patch(&base, &[], None, &out).expect("patched");
    assert_eq!(std::fs::read(&out).expect("read"), base.file);
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(40) })]

    #[test]
    fn any_choice_of_weights_changes_those_only(
        sizes in prop::collection::vec((1usize..60, any::<bool>(), any::<bool>()), 1..8),
        external in any::<bool>(),
    ) {
        let folder = tempfile::tempdir().expect("folder");
        let at = |name: &str| folder.path().join(name);
        let mut weights = vec![raw("w", &[2], &[0.0, 0.0])];
        for (i, (n, typed, _)) in sizes.iter().enumerate() {
            let (name, dims, data) = (format!("t{i}"), [*n as i64], vec![i as f32; *n]);
            weights.push(match typed {
                true => TensorProto { float_data: data, ..untyped(&name, 1, &dims) },
                false => raw(&name, &dims, &data),
            });
        }
        std::fs::create_dir(at("in")).expect("made");
        std::fs::create_dir(at("out")).expect("made");
        let mut base = load(write(&at("in"), graph(weights, vec![]))).expect("loads");
        if external {
            let options = SaveOptions { external_threshold: 0, ..Default::default() };
            save(&base.graph, at("in/saved.onnx"), &options).expect("saved");
            base = load(at("in/saved.onnx")).expect("loads");
        }
        let chosen = sizes.iter().enumerate().filter(|(_, s)| s.2).map(|(i, s)| (format!("t{i}"), s.0));
        let chosen: Vec<(String, usize)> = chosen.collect();
        let edits: Vec<_> = chosen.iter().map(|(name, n)| edit(&base, name, bytes_of(&vec![-1.0; *n]))).collect();
        patch(&base, &edits, None, at("out/m.onnx")).expect("patched");
        let after = load(at("out/m.onnx")).expect("loads");
        for (i, (n, _, change)) in sizes.iter().enumerate() {
            let want = if *change { -1.0 } else { i as f64 };
            prop_assert_eq!(floats(&after, &format!("t{i}")), vec![want; *n]);
        }
        let targets: Vec<&str> = chosen.iter().map(|c| c.0.as_str()).collect();
        let found = compare(&base, &after, &targets);
        prop_assert_eq!((found.changed_bytes_outside_targets, found.inserted_bytes), (0, 0));
        prop_assert_eq!(found.changed_targets.len(), targets.len());
    }

    #[test]
    fn mutated_models_are_patched_or_refused(
        flips in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..8),
    ) {
        let folder = tempfile::tempdir().expect("folder");
        let path = encoded(folder.path()).path;
        let mut bytes = std::fs::read(&path).expect("read");
        for (at, byte) in flips {
            let at = at.index(bytes.len());
            bytes[at] = byte;
        }
        std::fs::write(&path, bytes).expect("written");
        let Ok(base) = load(&path) else { return Ok(()) };
        let out = folder.path().join("out.onnx");
        let weights = base.graph.weights().filter(|w| w.2.dtype().size() > 0);
        let edits: Vec<_> = weights.map(|(id, _, t)| Edit::new(id, vec![7; t.bytes().len()])).collect();
        let targets: Vec<_> = edits.iter().map(|e| base.graph.name_of(e.weight)).collect();
        if patch(&base, &edits, None, &out).is_ok() {
            let after = load(&out).expect("still a model");
            for edit in &edits {
                let found = after.graph.find(&base.graph.name_of(edit.weight)).and_then(|id| after.graph.weight(id));
                let want = edit.bytes().expect("there");
                prop_assert_eq!(found.map(|t| t.bytes()), Some(&want));
            }
            prop_assert_eq!(compare(&base, &after, &targets).changed_bytes_outside_targets, 0);
        }
    }
}
