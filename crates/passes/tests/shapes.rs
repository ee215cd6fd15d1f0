//! What layers ask of the shapes of their activations is asked once.

use lorac_ir::Graph;
use lorac_ops::{Array, Random, evaluate, infer};
use lorac_passes::fold_constants;

/// Folds a graph over x: f32[N,M,6] and z: f32[K,M,6], compares what it computes, and returns how many nodes of `op`
/// are left.
fn left(body: &str, op: &str) -> usize {
    let text = format!("graph g(%x: f32[N,M,6], %z: f32[K,M,6]) -> %y {{ {body} }}");
    let mut graph = lorac_ir::parse(&text).expect("parses");
    infer(&mut graph).expect("infers");
    let feeds: Vec<(&str, Array)> =
        vec![("x", Random(1).array(&[2, 3, 6], -1.0, 1.0)), ("z", Random(2).array(&[4, 3, 6], -1.0, 1.0))];
    let run = |graph: &Graph| evaluate(graph, &feeds).expect("runs");
    let before = run(&graph);
    fold_constants(&mut graph, &[]).expect("folds");
    infer(&mut graph).expect("infers");
    assert_eq!(run(&graph), before);
    graph.nodes().filter(|(_, n)| &*n.op.name == op).count()
}

const LAYERS: &str = "%two = weight \"two\" i64[1] = [2]
    %rows = weight \"rows\" i64[1] = [-1]
    %a = Relu(%x) : f32[..]
    %sa = Shape(%a, end=2) : i64[..]
    %ta = Concat(%sa, %two, %rows, axis=0) : i64[..]
    %ra = Reshape(%a, %ta) : f32[..]
    %b = Tanh(%ra) : f32[..]
    %fb = Shape(%a) : i64[..]
    %bb = Reshape(%b, %fb) : f32[..]
    %sb = Shape(%bb, end=2) : i64[..]
    %tb = Concat(%sb, %two, %rows, axis=0) : i64[..]
    %y = Reshape(%bb, %tb) : f32[..]";

#[test]
fn layers_share_their_shapes() {
    assert_eq!((left(LAYERS, "Shape"), left(LAYERS, "Concat"), left(LAYERS, "Reshape")), (2, 1, 3));
}

#[test]
fn other_lengths_and_other_ranks_are_not_shared() {
    let other = "%a = Shape(%x) : i64[..]\n %b = Shape(%z) : i64[..]\n %y = Concat(%a, %b, axis=0) : i64[..]";
    assert_eq!(left(other, "Shape"), 2);
    let ranks = "%zero = weight \"zero\" i64[] = [0]
        %first = weight \"first\" i64[1] = [0]
        %s = Shape(%x) : i64[..]
        %n = Gather(%s, %zero) : i64[..]
        %v = Gather(%s, %first) : i64[..]
        %m = Mul(%n, %n) : i64[..]
        %y = Add(%v, %m) : i64[..]";
    assert_eq!(left(ranks, "Gather"), 2);
}
