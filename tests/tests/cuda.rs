//! What lorac writes has kernels for GPUs: every node that a rule or a lowering writes, against the list of kernels in
//! the documentation of ONNX Runtime (tests/data/cuda_kernels.txt says which). What is not there runs on the processor,
//! with copies there and back; which those are stands here.

use lorac::ir::{DType, Graph, Node};
use lorac_tests::table::{cases, written};
use std::collections::{BTreeMap, BTreeSet};

/// Written operators without a kernel for GPUs, and the type of their data.
const ON_THE_PROCESSOR: &[(&str, DType)] = &[
    // In the rules of these operators themselves or of their like: the model runs there already.
    ("CenterCropPad", DType::F32),
    ("Cosh", DType::F32),
    ("DFT", DType::F32),
    ("Det", DType::F32),
    ("Sinh", DType::F32),
    // In the rule of Pad by reflection, edge or wrapping.
    ("Pad", DType::I64),
];

/// Types by operator.
fn kernels() -> BTreeMap<&'static str, BTreeSet<&'static str>> {
    let lines = include_str!("../data/cuda_kernels.txt").lines().filter(|l| !l.starts_with('#'));
    let row = |line: &'static str| line.split_once(':').map(|(op, types)| (op, types.split_whitespace().collect()));
    lines.map(|l| row(l).unwrap_or_else(|| panic!("{l}"))).collect()
}

/// As the list spells it.
fn spelled(dtype: DType) -> String {
    let text = dtype.to_string();
    let (letter, bits) = text.split_at(1);
    match letter {
        "f" => {
            if bits == "64" {
                "float64".into()
            } else {
                format!("float{bits}")
            }
        }
        "i" => format!("int{bits}"),
        "u" => format!("uint{bits}"),
        _ => text,
    }
}

/// The type of the data that a node's kernel is chosen by.
fn data(graph: &Graph, node: &Node) -> Option<DType> {
    let of_result = ["Cast", "Where", "Range"].contains(&&*node.op.name);
    let value = if of_result { node.outputs.first().copied() } else { node.inputs.first().copied().flatten() };
    value.map(|v| graph.fact(v).dtype)
}

#[test]
fn nodes_have_kernels_for_gpus_or_are_listed() {
    let kernels = kernels();
    assert!(kernels.len() > 140, "only {}", kernels.len());
    let (mut absent, mut seen) = (BTreeMap::new(), 0);
    for (op, case) in cases() {
        let Some(job) = written(op, case, i64::MAX).unwrap_or_else(|e| panic!("{}: {e}", op.name)) else { continue };
        // What no pass made is the user's.
        for (_, node) in job.graph.nodes().filter(|(_, n)| !n.origin.pass.is_empty()) {
            seen += 1;
            let Some(dtype) = data(&job.graph, node) else { continue };
            let there = kernels.get(&*node.op.name).is_some_and(|t| t.contains("any") || t.contains(&*spelled(dtype)));
            if !there {
                absent
                    .entry((node.op.name.to_string(), dtype.to_string()))
                    .or_insert_with(BTreeSet::new)
                    .insert(op.name);
            }
        }
    }
    let listed: BTreeSet<(String, String)> =
        ON_THE_PROCESSOR.iter().map(|(op, dtype)| (op.to_string(), dtype.to_string())).collect();
    let found: BTreeSet<(String, String)> = absent.keys().cloned().collect();
    assert_eq!(found, listed, "{absent:#?}");
    assert!(seen > 2000, "only {seen}");
}
