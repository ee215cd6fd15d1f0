//! Operators of your own: one with a gradient rule and one with a lowering, registered, checked and differentiated.
//!
//!     cargo run --release -p lorac-examples --example own_operator

use lorac::ir::{parse, print};
use lorac::ops::{Array, Attribute, Grad, Op, Operand, UNARY, case, check_gradient, evaluate, infer, register};
use lorac::passes::{differentiate, mean_squared_error, prepare};

/// A rule writes the gradient of each operand. The operator stays in the graph, so the runtime must know it too.
static SQUARE: Op = Op {
    domain: "own",
    name: "Square",
    since: 1,
    eval: |a| Ok(vec![a.x(0)?.mapv(|x| x * x)]),
    grad: Grad::rule(|b| vec![Some(2.0 * b.gy * b.x[0])], &[case(&[Operand::Any(&[2, 3])])]),
    ..UNARY
};

/// A lowering writes the operator in plain ONNX operators, which any runtime runs and which have rules.
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

fn main() -> Result<(), Box<dyn std::error::Error>> {
    for op in [&SQUARE, &SCALE] {
        register(op)?;
        for case in op.grad.cases() {
            check_gradient(op, case)?;
        }
    }
    let mut graph = parse(
        r#"graph own(%x: f32[N,2], %target: f32[N,1]) -> %y {
             %w = weight "fc.weight" f32[2,1] = [0.5, -0.25]
             %h = MatMul(%x, %w) : f32[N,1]
             %s = own.Square(%h) : f32[N,1]
             %y = own.Scale(%s, by=0.5) : f32[N,1]
           }"#,
    )?;
    let find = |g: &lorac::ir::Graph, name: &str| g.find(name).ok_or(format!("no value `{name}`"));
    let (w, y, target) = (find(&graph, "fc.weight")?, find(&graph, "y")?, find(&graph, "target")?);
    let loss = mean_squared_error(&mut graph, y, target)?;
    graph.set_outputs(vec![loss])?;
    prepare(&mut graph, &[], &[w])?;
    let grads = differentiate(&mut graph, loss, &[w])?;
    graph.set_outputs([&[loss], grads.as_slice()].concat())?;
    infer(&mut graph)?;
    print!("{}", print(&graph));

    let x = Array::from_shape_vec(vec![2, 2], vec![1.0, 2.0, -1.0, 0.5])?;
    let target = Array::from_shape_vec(vec![2, 1], vec![1.0, 0.0])?;
    for (output, value) in graph.outputs().iter().zip(evaluate(&graph, &[("x", x), ("target", target)])?) {
        println!("{} = {value}", graph.name_of(*output));
    }
    Ok(())
}
