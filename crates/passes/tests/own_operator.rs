//! Operators that a program registers: one with a rule, and one with a lowering, all the way to a gradient.

use lorac_ir::{Graph, ValueId, parse};
use lorac_ops::{Array, Attribute, Grad, Op, Operand, Random, UNARY, case, check_gradient, evaluate, infer, register};
use lorac_passes::{PassError, differentiate, mean_squared_error, prepare};

static SQUARE: Op = Op {
    domain: "own",
    name: "Square",
    since: 1,
    eval: |a| Ok(vec![a.x(0)?.mapv(|x| x * x)]),
    grad: Grad::rule(|b| vec![Some(2.0 * b.gy * b.x[0])], &[case(&[Operand::Any(&[2, 3])])]),
    ..UNARY
};

static SCALE: Op = Op {
    domain: "own",
    name: "Scale",
    since: 1,
    eval: |a| {
        let by = f64::from(a.node.float("by", 1.0));
        Ok(vec![a.x(0)?.mapv(|x| x * by)])
    },
    grad: Grad::lower(
        |_, node, x| vec![x[0] * f64::from(node.float("by", 1.0))],
        &[case(&[Operand::Any(&[2, 3])]).with(&[("by", Attribute::Float(-0.5))])],
    ),
    ..UNARY
};

const OWN: &str = "graph g(%x: f64[N,2], %t: f64[N,2]) -> %y {
    %w = weight \"w\" f64[2,2] = [0.5, -1, 2, 0.25]
    %h = MatMul(%x, %w) : f64[..]
    %s = own.Square(%h) : f64[..]
    %y = own.Scale(%s, by=-0.5) : f64[..]
}";

const PLAIN: &str = "graph g(%x: f64[N,2], %t: f64[N,2]) -> %y {
    %w = weight \"w\" f64[2,2] = [0.5, -1, 2, 0.25]
    %by = weight \"by\" f64[] = [-0.5]
    %h = MatMul(%x, %w) : f64[..]
    %s = Mul(%h, %h) : f64[..]
    %y = Mul(%s, %by) : f64[..]
}";

/// The graph with its loss and the gradient of `w` as outputs.
fn step(text: &str) -> Result<Graph, PassError> {
    let mut graph = parse(text).expect("parses");
    let value = |g: &Graph, name: &str| g.find(name).expect("a value");
    let (w, y, t): (ValueId, ValueId, ValueId) = (value(&graph, "w"), graph.outputs()[0], value(&graph, "t"));
    let loss = mean_squared_error(&mut graph, y, t)?;
    graph.set_outputs(vec![loss]).expect("an output");
    prepare(&mut graph, &[], &[w])?;
    let loss = graph.outputs()[0];
    let grads = differentiate(&mut graph, loss, &[w])?;
    graph.set_outputs(vec![loss, grads[0]]).expect("outputs");
    infer(&mut graph)?;
    Ok(graph)
}

#[test]
fn an_own_rule_and_an_own_lowering_give_the_gradient_of_plain_operators() {
    step(OWN).expect_err("not registered yet");
    for op in [&SQUARE, &SCALE] {
        register(op).expect("registers");
        check_gradient(op, &op.grad.cases()[0]).expect("agrees with finite differences");
    }

    let (own, plain) = (step(OWN).expect("differentiates"), step(PLAIN).expect("differentiates"));
    let ops: Vec<String> = own.nodes().map(|(_, n)| n.op.to_string()).collect();
    assert!(ops.iter().any(|op| op == "own.Square"), "an operator with a rule stays: {ops:?}");
    assert!(!ops.iter().any(|op| op == "own.Scale"), "an operator with a lowering is decomposed: {ops:?}");
    assert_eq!(own.fact(own.outputs()[1]).to_string(), "f64[2,2]");

    let mut random = Random(3);
    let feeds: [(&str, Array); 2] = ["x", "t"].map(|name| (name, random.array(&[3, 2], -1.0, 1.0)));
    let (got, want) = (evaluate(&own, &feeds).expect("evaluates"), evaluate(&plain, &feeds).expect("evaluates"));
    for (got, want) in got.iter().zip(&want) {
        assert!((got - want).iter().all(|e| e.abs() < 1e-12), "{got} is not {want}");
    }
    assert!(want[1].iter().all(|g| g.abs() > 1e-3), "a gradient that says something: {}", want[1]);
}
