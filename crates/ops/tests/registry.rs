//! Operators that a program registers: found, inferred, evaluated and checked as those of the table are.

use lorac_ir::parse;
use lorac_ops::{
    Array, Grad, Op, Operand, RegisterError, UNARY, case, check_gradient, evaluate, find, infer, register,
};

static SQUARE: Op = Op {
    name: "Square",
    grad: Grad::rule(|b| vec![Some(2.0 * b.gy * b.x[0])], &[case(&[Operand::Any(&[2, 3])])]),
    ..own()
};

static WRONG_RULE: Op = Op {
    name: "WrongRule",
    grad: Grad::rule(|b| vec![Some(3.0 * b.gy * b.x[0])], &[case(&[Operand::Any(&[2, 3])])]),
    ..own()
};

static WRONG_LOWERING: Op = Op {
    name: "WrongLowering",
    grad: Grad::lower(|_, _, x| vec![x[0] + x[0]], &[case(&[Operand::Any(&[2, 3])])]),
    ..own()
};

static SAME_NAME: Op = Op { name: "Square", ..own() };
static STANDARD: Op = Op { domain: "", name: "Relu", ..own() };
static UNNAMED: Op = own();
static LATE: Op = Op { name: "Late", ..own() };

/// A square without a name and a gradient.
const fn own() -> Op {
    Op { domain: "own", since: 1, eval: |a| Ok(vec![a.x(0)?.mapv(|x| x * x)]), ..UNARY }
}

#[test]
fn an_own_operator_is_one_of_the_table() {
    assert!(find(&"own.Square".into()).is_none());
    let unknown = check_gradient(&SQUARE, &SQUARE.grad.cases()[0]).expect_err("not yet");
    assert_eq!(unknown, "`own.Square` is not registered");

    register(&SQUARE).expect("registers");
    assert!(find(&"own.Square".into()).is_some_and(|op| std::ptr::eq(op, &SQUARE)));
    check_gradient(&SQUARE, &SQUARE.grad.cases()[0]).expect("the rule holds");
    let mut graph = parse("graph g(%x: f32[N,2]) -> %y { %y = own.Square(%x) : f32[..] }").expect("parses");
    infer(&mut graph).expect("infers");
    assert_eq!(graph.fact(graph.outputs()[0]).to_string(), "f32[N,2]");
    let x = Array::from_shape_vec(vec![1, 2], vec![2.0, -3.0]).expect("an array");
    let y = evaluate(&graph, &[("x", x)]).expect("evaluates");
    assert_eq!(y[0].iter().copied().collect::<Vec<_>>(), [4.0, 9.0]);

    let taken = register(&SAME_NAME).expect_err("taken");
    assert_eq!(taken, RegisterError::Registered("own.Square".into()));
    assert_eq!(taken.to_string(), "`own.Square` is registered already");
    assert!(find(&"own.Square".into()).is_some_and(|op| std::ptr::eq(op, &SQUARE)), "the first one stays");
}

#[test]
fn names_of_the_table_and_no_name_are_refused() {
    assert_eq!(register(&STANDARD), Err(RegisterError::InTable("Relu".into())));
    assert_eq!(register(&UNNAMED), Err(RegisterError::NoName));
}

#[test]
fn wrong_rules_and_lowerings_are_told() {
    for (op, says) in [(&WRONG_RULE, "finite differences give"), (&WRONG_LOWERING, "the lowering gives")] {
        register(op).expect("registers");
        let why = check_gradient(op, &op.grad.cases()[0]).expect_err("wrong");
        assert!(why.contains(op.name) && why.contains(says), "{why}");
    }
    let none = find(&"Ceil".into()).expect("Ceil");
    let why = check_gradient(none, &case(&[Operand::Any(&[2])])).expect_err("no gradient");
    assert!(why.contains("constant almost everywhere"), "{why}");
}

#[test]
fn one_of_several_threads_registers() {
    let done: Vec<bool> = std::thread::scope(|scope| {
        let tries: Vec<_> = (0..8).map(|_| scope.spawn(|| register(&LATE).is_ok())).collect();
        tries.into_iter().map(|t| t.join().expect("ends")).collect()
    });
    assert_eq!(done.iter().filter(|ok| **ok).count(), 1);
    assert!(find(&"own.Late".into()).is_some());
}
