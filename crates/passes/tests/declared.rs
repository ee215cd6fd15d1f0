//! Models that declare more than inference finds out: the name of a length that only the run knows.

use lorac_ir::{Dim, Graph, verify};
use lorac_ops::infer;
use lorac_passes::{Lora, Method, PassError, Use, cumsum_to_i32, fuse_dense, select, specialize_empty_cache};

fn check(inputs: &str, body: &str, fact: &str, pass: impl FnOnce(&mut Graph) -> Result<usize, PassError>) {
    let text = format!("graph g({inputs}, %keep: bool[K]) -> %y {{ {body} }}");
    let mut graph = lorac_ir::parse(&text).expect("parses");
    infer(&mut graph).expect("infers");
    assert!(pass(&mut graph).expect("rewrites") > 0);
    infer(&mut graph).expect("infers");
    assert_eq!(verify(&graph), []);
    assert_eq!(
        (graph.fact(graph.outputs()[0]).to_string(), graph.name_of(graph.outputs()[0])),
        (fact.into(), "y".into())
    );
}

const DENSE: &str = "%w = weight \"w\" f32[4,2] = [1, 2, 3, 4, 5, 6, 7, 8]
    %b = weight \"b\" f32[2] = [1, 2]
    %c = Compress(%x, %keep, axis=0) : f32[..]
    %h = MatMul(%c, %w) : f32[..]
    %s = Add(%h, %b) : f32[M,2]
    %y = Relu(%s) : f32[..]";

#[test]
fn a_dense_layer() {
    check("%x: f32[N,4]", DENSE, "f32[M,2]", fuse_dense);
}

#[test]
fn a_branch() {
    check("%x: f32[N,4]", DENSE, "f32[M,2]", |graph| {
        let targets = select(graph, &["w"]).expect("a target");
        let lora = Lora { rank: 1, alpha: 1.0, ..Lora::default() };
        lora.insert(graph, &targets, Use::Verify).map(|inserted| inserted.deltas.len())
    });
}

#[test]
fn a_sum_of_positions() {
    let body = "%axis = weight \"axis\" i64[] = [0]
        %c = Compress(%x, %keep, axis=0) : i64[..]
        %s = CumSum(%c, %axis) : i64[M]
        %y = Neg(%s) : i64[..]";
    check("%x: i64[N]", body, "i64[M]", cumsum_to_i32);
}

#[test]
fn an_empty_cache() {
    let body = "%c = Compress(%x, %keep, axis=2) : f32[..]
        %s = Concat(%past, %c, axis=2) : f32[B,2,M,4]
        %y = Relu(%s) : f32[..]";
    check("%x: f32[B,2,S,4], %past: f32[B,2,P,4]", body, "f32[B,2,M,4]", |graph| {
        let past = graph.find("past").expect("an input");
        specialize_empty_cache(graph, &[past], Some(Dim::named("B")))
    });
}
