//! Branches and products in the cheapest order compute what they compute in any other.

use lorac_ir::{Graph, ValueId};
use lorac_ops::{Array, Random, evaluate, infer};
use lorac_passes::{Lora, Method, Use, differentiate, mean_squared_error, prepare, reassociate, remove_dead, select};

fn lora() -> Lora {
    Lora { rank: 2, alpha: 3.0, ..Lora::default() }
}

/// Far more than pays for 12 x 20 matrices, and far less.
const MANY: usize = 1000;
const FEW: usize = 3;

fn parse(text: &str) -> Graph {
    let mut graph = lorac_ir::parse(text).expect("parses");
    infer(&mut graph).expect("infers");
    graph
}

/// A product with a 12 x 20 weight that is stored in either orientation.
fn model(turned: bool) -> Graph {
    let (dims, product) = match turned {
        false => ("12,20", "%y = MatMul(%x, %w) : f32[..]"),
        true => ("20,12", "%y = Gemm(%x, %w, transB=1) : f32[..]"),
    };
    let w: Vec<f64> = Random(5).array(&[240], -1.0, 1.0).iter().copied().collect();
    parse(&format!(
        "graph g(%x: f32[N,12], %t: f32[N,20]) -> %y {{ %w = weight \"w\" f32[{dims}] = {w:?}\n {product} }}"
    ))
}

fn ops(graph: &Graph, name: &str) -> usize {
    graph.nodes().filter(|(_, n)| &*n.op.name == name).count()
}

/// The loss and the gradients of A and B, in the order for so many tokens; without, as a branch.
fn step(turned: bool, tokens: Option<usize>) -> (Graph, Vec<Array>) {
    let mut graph = model(turned);
    let targets = select(&graph, &["w"]).expect("a target");
    let inserted = lora().insert(&mut graph, &targets, Use::Train { tokens }).expect("inserts");
    prepare(&mut graph, &[], &[]).expect("prepares");
    let (y, t) = (graph.outputs()[0], graph.find("t").expect("t"));
    let loss = mean_squared_error(&mut graph, y, t).expect("a loss");
    let trained: Vec<ValueId> = inserted.params.iter().map(|p| p.value).collect();
    let mut outputs = vec![loss];
    outputs.extend(differentiate(&mut graph, loss, &trained).expect("differentiates"));
    graph.set_outputs(outputs).expect("outputs");
    reassociate(&mut graph).expect("reassociates");
    remove_dead(&mut graph).expect("drops");
    infer(&mut graph).expect("infers");
    let mut random = Random(9);
    let feeds: Vec<(&str, Array)> = [("x", [5, 12]), ("t", [5, 20]), ("w.lora_A", [2, 12]), ("w.lora_B", [20, 2])]
        .map(|(name, dims)| (name, random.array(&dims, -1.0, 1.0)))
        .to_vec();
    let results = evaluate(&graph, &feeds).expect("runs");
    (graph, results)
}

fn far(a: &Array, b: &Array) -> f64 {
    assert_eq!(a.shape(), b.shape());
    (a - b).iter().fold(0.0, |m, e| m.max(e.abs()))
}

#[test]
fn both_orders_have_one_loss_and_one_gradient() {
    for turned in [false, true] {
        let (branch, want) = step(turned, None);
        let (few, same) = step(turned, Some(FEW));
        let (sum, got) = step(turned, Some(MANY));
        assert_eq!(ops(&few, "Gemm"), ops(&branch, "Gemm"), "three rows do not pay for a sum of weights");
        assert_eq!(want, same);
        assert!(want[1..].iter().all(|g| g.iter().any(|x| x.abs() > 0.01)));
        for (want, got) in want.iter().zip(&got) {
            assert!(far(want, got) < 1e-6, "{got} is not {want}");
        }
        // Nothing as large as the weight is computed but the sum itself.
        let large = |graph: &Graph| {
            let size = |v: &ValueId| graph.fact(*v).volume().known() == Some(240);
            graph.nodes().flat_map(|(_, n)| n.outputs.iter()).filter(|v| size(v)).count()
        };
        assert_eq!((large(&branch), large(&sum)), (0, 1), "{}", lorac_ir::print(&sum));
    }
}

#[test]
fn a_weight_that_two_products_share_keeps_its_branches() {
    let mut graph = parse(
        "graph g(%x: f32[N,4]) -> %y {
            %w = weight \"w\" f32[4,4] = [1, 2, 3, 4, 5, 6, 7, 8, 9, 1, 2, 3, 4, 5, 6, 7]
            %h = MatMul(%x, %w) : f32[..]
            %y = MatMul(%h, %w) : f32[..]
        }",
    );
    let targets = select(&graph, &["w"]).expect("a target");
    lora().insert(&mut graph, &targets, Use::Train { tokens: Some(MANY) }).expect("inserts");
    assert_eq!(ops(&graph, "Gemm"), 4, "{}", lorac_ir::print(&graph));
}

/// Reassociates the body of a graph over p, q and m, and compares what it computes. Returns how many products went.
fn chain(inputs: &str, body: &str, dims: [[usize; 2]; 3]) -> usize {
    let graph = parse(&format!("graph g({inputs}) -> %y {{ {body} }}"));
    let mut next = graph.clone();
    let count = reassociate(&mut next).expect("reassociates");
    remove_dead(&mut next).expect("drops");
    let mut random = Random(2);
    let feeds: Vec<(&str, Array)> =
        ["p", "q", "m"].into_iter().zip(dims).map(|(name, d)| (name, random.array(&d, -1.0, 1.0))).collect();
    let run = |graph: &Graph| evaluate(graph, &feeds).expect("runs").remove(0);
    assert!(far(&run(&graph), &run(&next)) < 1e-12, "{}", lorac_ir::print(&next));
    assert_eq!(ops(&graph, "Gemm"), ops(&next, "Gemm"), "{}", lorac_ir::print(&next));
    count
}

#[test]
fn products_go_from_the_narrow_side() {
    let thin = "%p: f64[8,N], %q: f64[N,8], %m: f64[8,1]";
    let right = "%a = Gemm(%p, %q, alpha=2.0) : f64[..]\n %y = Gemm(%a, %m, alpha=3.0) : f64[..]";
    assert_eq!(chain(thin, right, [[8, 5], [5, 8], [8, 1]]), 1);
    let turned = "%a = Gemm(%p, %q) : f64[..]\n %y = Gemm(%m, %a, transA=1, transB=1) : f64[..]";
    assert_eq!(chain(thin, turned, [[8, 5], [5, 8], [8, 1]]), 1);
    let tall = "%p: f64[N,8], %q: f64[N,8], %m: f64[1,8]";
    let inner = "%a = Gemm(%p, %q, transA=1) : f64[..]\n %y = Gemm(%m, %a) : f64[..]";
    assert_eq!(chain(tall, inner, [[5, 8], [5, 8], [1, 8]]), 1);
}

#[test]
fn products_stay_where_another_order_costs_more_or_the_middle_is_read() {
    let wide = "%p: f64[8,N], %q: f64[N,8], %m: f64[8,64]";
    let body = "%a = Gemm(%p, %q) : f64[..]\n %y = Gemm(%a, %m) : f64[..]";
    assert_eq!(chain(wide, body, [[8, 5], [5, 8], [8, 64]]), 0);
    let thin = "%p: f64[8,N], %q: f64[N,8], %m: f64[8,1]";
    let read = "%a = Gemm(%p, %q) : f64[..]\n %b = Gemm(%a, %m) : f64[..]\n %c = Tanh(%a) : f64[..]
        %y = Add(%b, %c) : f64[..]";
    assert_eq!(chain(thin, read, [[8, 5], [5, 8], [8, 1]]), 0);
    let biased = "%a = Gemm(%p, %q, %m) : f64[..]\n %y = Gemm(%a, %m) : f64[..]";
    assert_eq!(chain(thin, biased, [[8, 5], [5, 8], [8, 1]]), 0);
}
