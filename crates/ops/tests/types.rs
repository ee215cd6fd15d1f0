//! Element types of what rules and lowerings write: no arithmetic mixes two, and halves, which end at 65504, are neither
//! squared and summed nor counted.

mod common;

use common::{differentiated, lowered};
use lorac_ir::{DType, Graph, parse};
use lorac_ops::{Array, Bench, Grad, Random, TABLE, evaluate, infer};
use std::collections::BTreeSet;

/// Operators that need a length as a number, and say so where it is a name.
const NEED_NUMBERS: &[&str] = &["DeformConv", "GRU", "LSTM", "RNN"];

/// Operands that the standard wants of one type, by operator.
fn alike(op: &str) -> Option<&'static [usize]> {
    Some(match op {
        "Add" | "Sub" | "Mul" | "Div" | "MatMul" | "Equal" | "Less" | "LessOrEqual" | "Greater" | "GreaterOrEqual"
        | "Mod" => &[0, 1],
        "Gemm" | "Max" | "Min" | "Concat" | "Range" | "Conv" => &[0, 1, 2],
        "Where" => &[1, 2],
        "Pad" | "ScatterElements" | "ScatterND" => &[0, 2],
        _ => return None,
    })
}

/// What a written node does that it should not.
fn wrong(graph: &Graph) -> Vec<String> {
    let mut found = Vec::new();
    for (_, node) in graph.nodes().filter(|(_, node)| !node.origin.pass.is_empty() && node.op.domain.is_empty()) {
        let dtype = |slot: usize| node.input(slot).map(|v| graph.fact(v).dtype);
        let types: Vec<DType> = alike(&node.op.name).unwrap_or_default().iter().filter_map(|s| dtype(*s)).collect();
        if types.windows(2).any(|pair| pair[0] != pair[1]) {
            found.push(format!("{} of {types:?}", node.op.name));
        }
        let squares = matches!(&*node.op.name, "ReduceSumSquare" | "ReduceL2")
            || matches!(&*node.op.name, "ReduceSum" | "ReduceMean")
                && node
                    .input(0)
                    .and_then(|v| graph.producer(v))
                    .is_some_and(|(_, producer)| &*producer.op.name == "Mul" && producer.input(0) == producer.input(1));
        if squares && dtype(0) == Some(DType::F16) {
            found.push(format!("{} of squares of halves", node.op.name));
        }
    }
    found
}

#[test]
fn no_case_mixes_types_or_sums_squares_of_halves() {
    let (mut all, mut refused) = (Vec::new(), BTreeSet::new());
    for op in TABLE.iter().flat_map(|family| family.iter()) {
        for (case, symbolic) in op.grad.cases().iter().flat_map(|c| [(c, false), (c, true)]) {
            let bench = Bench::new(op, case, DType::F16, symbolic, &mut Random(5)).expect("a case");
            let written = match op.grad {
                Grad::Lower { .. } => lowered(&bench.graph),
                _ => differentiated(&bench.graph),
            };
            let graph = match written {
                Ok(graph) => graph,
                Err(why) => {
                    assert!(symbolic, "{} {:?}: {why}", op.name, case.attrs);
                    refused.insert(op.name);
                    continue;
                }
            };
            all.extend(wrong(&graph).into_iter().map(|w| format!("{} {:?}: {w}", op.name, case.attrs)));
            if let Grad::Lower { .. } = op.grad {
                let mut given = bench.graph.clone();
                infer(&mut given).expect("infers");
                for (said, made) in given.outputs().iter().zip(graph.outputs()) {
                    let (said, made) = (given.fact(*said).dtype, graph.fact(*made).dtype);
                    if said != made {
                        all.push(format!("{} {:?}: {made} for {said}", op.name, case.attrs));
                    }
                }
            }
        }
    }
    all.sort();
    all.dedup();
    assert!(all.is_empty(), "{}", all.join("\n"));
    assert_eq!(refused.into_iter().collect::<Vec<_>>(), NEED_NUMBERS);
}

#[test]
fn parameters_of_another_type_than_the_data() {
    let cases = [
        ("graph g opset 23 (%x: f16[2,3], %s: f32[3]) -> %y { %y = RMSNormalization(%x, %s) : f32[2,3] }", DType::F32),
        ("graph g opset 23 (%x: f32[2,3], %s: f16[3]) -> %y { %y = RMSNormalization(%x, %s) : f16[2,3] }", DType::F16),
        (
            "graph g opset 20 (%x: f16[2,3,4], %s: f32[3], %b: f32[3], %m: f32[3], %v: f32[3]) -> %y \
             { %y = BatchNormalization(%x, %s, %b, %m, %v) : f16[2,3,4] }",
            DType::F16,
        ),
        (
            "graph g opset 20 (%x: f16[2,3,4], %s: f32[3], %b: f32[3], %m: f32[3], %v: f32[3]) -> %y, %n, %w \
             { %y, %n, %w = BatchNormalization(%x, %s, %b, %m, %v, training_mode=1) : f16[2,3,4], f32[3], f32[3] }",
            DType::F16,
        ),
        (
            "graph g opset 20 (%x: f16[2,3], %s: f32[3]) -> %y { %y = SimplifiedLayerNormalization(%x, %s) : f32[2,3] }",
            DType::F32,
        ),
    ];
    for (text, dtype) in cases {
        let mut graph = parse(text).expect("parses");
        infer(&mut graph).expect("infers");
        assert_eq!(graph.fact(graph.outputs()[0]).dtype, dtype, "{text}");
        let written = lowered(&graph).expect("lowers");
        assert_eq!(wrong(&written), [""; 0], "{text}");
        for (said, made) in graph.outputs().iter().zip(written.outputs()) {
            assert_eq!(graph.fact(*said).dtype, written.fact(*made).dtype, "{text}");
        }
    }
}

#[test]
fn more_elements_than_a_half_can_count() {
    let texts = [
        "graph g opset 20 (%x: f16[N,C,L]) -> %y { %y = GlobalAveragePool(%x) : f16[..] }",
        "graph g opset 20 (%x: f16[N,C,L]) -> %y { %y = ReduceMean(%x, keepdims=1) : f16[..] }",
    ];
    for (text, rows) in texts.into_iter().zip([2usize, 1]) {
        let graph = differentiated(&parse(text).expect("parses")).expect("a gradient");
        let gy = Array::from_elem(vec![1, rows, 1], 1024.0);
        let x = Array::zeros(vec![1, 2, 40_000]);
        let gx = evaluate(&graph, &[("x", x), ("gy0", gy)]).expect("evaluates");
        let want = 1024.0 * rows as f64 / 80_000.0;
        // A half holds three digits.
        assert!(gx[0].iter().all(|g| (g / want - 1.0).abs() < 2e-2), "{text}: {} is not {want}", gx[0][[0, 0, 0]]);
    }
}
