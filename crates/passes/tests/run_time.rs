//! Gradients where only the run knows: cuts computed by the model, batches of any size through an unrolled network.

use lorac_ir::{Attr, Attrs, DType, Dim, Fact, Graph, Origin, Tensor, ValueId, verify};
use lorac_ops::{Array, Random, evaluate, infer, named};
use lorac_passes::{differentiate, lower, mean_squared_error};

const STEP: f64 = 1e-5;

fn node(graph: &mut Graph, op: &str, inputs: &[Option<ValueId>], attrs: &[(&str, Attr)], outputs: &[&str]) {
    let origin = Origin { pass: "".into(), source: op.into() };
    let attrs: Attrs = attrs.iter().map(|(k, v)| ((*k).into(), v.clone())).collect();
    let outputs: Vec<_> = outputs.iter().map(|n| (*n, Fact::unranked(DType::Opaque))).collect();
    graph.add_node(op.into(), inputs.to_vec(), attrs, outputs, origin).expect("fits");
}

/// Compares the gradients of the mean squared output `y` with differences, for every named input.
fn check(mut graph: Graph, inputs: &[(String, Array)], trained: &[&str]) {
    let y = graph.find("y").expect("y");
    graph.set_outputs(vec![y]).expect("there");
    infer(&mut graph).expect("infers");
    lower(&mut graph).expect("lowers");
    let y = graph.outputs()[0];
    let target = graph.add_input("t", graph.fact(y)).expect("new");
    let shape = evaluate(&graph, &with_target(inputs, Array::zeros(vec![1]))).expect("evaluates")[0].raw_dim();
    let loss = mean_squared_error(&mut graph, y, target).expect("a loss");
    let wrt: Vec<ValueId> = trained.iter().map(|n| graph.find(n).expect("an input")).collect();
    let grads = differentiate(&mut graph, loss, &wrt).expect("differentiates");
    for (value, grad) in wrt.iter().zip(&grads) {
        assert_eq!(graph.fact(*value), graph.fact(*grad));
    }
    assert_eq!(verify(&graph), []);
    graph.set_outputs([&[loss][..], &grads].concat()).expect("there");
    let run = |inputs: &[(String, Array)]| {
        evaluate(&graph, &with_target(inputs, Array::zeros(shape.clone()))).expect("evaluates")
    };
    let got = run(inputs);
    for (name, grad) in trained.iter().zip(&got[1..]) {
        for (i, got) in grad.iter().enumerate() {
            let at = |by: f64| {
                let mut moved = inputs.to_vec();
                let (_, x) = moved.iter_mut().find(|(n, _)| n == name).expect("an input");
                *x.iter_mut().nth(i).expect("an element") += by;
                run(&moved)[0].sum()
            };
            let want = (at(STEP) - at(-STEP)) / (2.0 * STEP);
            assert!((got - want).abs() <= 1e-7, "{name}[{i}]: {got} is not {want}");
        }
    }
}

fn with_target(inputs: &[(String, Array)], target: Array) -> Vec<(&str, Array)> {
    let mut all = named(inputs);
    all.push(("t", target));
    all
}

fn ints(v: &[i64]) -> Array {
    Array::from_shape_vec(vec![v.len()], v.iter().map(|n| *n as f64).collect()).expect("fits")
}

/// Starts, ends and steps are inputs; axes are constants.
#[test]
fn cuts_computed_at_run_time_are_clamped_as_slice_clamps() {
    for (starts, ends, steps) in [
        ([1, 0], [3, 4], None),
        ([-2, 1], [99, -1], None),
        ([-99, 3], [2, 99], None),
        ([9, 0], [12, 2], None),
        ([2, 1], [1, 3], None),
        ([-1, 0], [-99, 4], Some([-2, 1])),
        ([0, 3], [4, 0], Some([3, -1])),
    ] {
        let mut graph = Graph::new("cuts", 18);
        let dims = [Dim::named("A"), Dim::Known(2), Dim::named("B")];
        let x = graph.add_input("x", Fact::new(DType::F64, dims)).expect("new");
        let mut operands = vec![Some(x)];
        let mut inputs = vec![("x".to_string(), Random(7).array(&[4, 2, 4], -2.0, 2.0))];
        for (name, v) in [("starts", starts), ("ends", ends)] {
            operands.push(Some(graph.add_input(name, Fact::new(DType::I64, [2i64])).expect("new")));
            inputs.push((name.into(), ints(&v)));
        }
        operands.push(Some(graph.add_weight("axes", Tensor::vector(&[0i64, -1])).expect("new")));
        if let Some(steps) = steps {
            operands.push(Some(graph.add_input("steps", Fact::new(DType::I64, [2i64])).expect("new")));
            inputs.push(("steps".into(), ints(&steps)));
        }
        node(&mut graph, "Slice", &operands, &[], &["part"]);
        let part = graph.find("part").expect("part");
        node(&mut graph, "ReduceSum", &[Some(part)], &[("keepdims", Attr::Int(0))], &["sum"]);
        let (sum, one) = (graph.find("sum"), graph.add_weight("one", Tensor::scalar(1.0f64)).expect("new"));
        node(&mut graph, "Add", &[sum, Some(one)], &[], &["y"]);
        check(graph, &inputs, &["x"]);
    }
}

#[test]
fn an_unrolled_lstm_takes_any_batch() {
    let mut graph = Graph::new("lstm", 20);
    let mut random = Random(11);
    let batch = Dim::named("N");
    let facts: [(&str, Vec<Dim>, &[usize]); 4] = [
        ("x", vec![Dim::Known(5), batch, Dim::Known(3)], &[5, 2, 3]),
        ("w", vec![Dim::Known(2), Dim::Known(8), Dim::Known(3)], &[2, 8, 3]),
        ("r", vec![Dim::Known(2), Dim::Known(8), Dim::Known(2)], &[2, 8, 2]),
        ("b", vec![Dim::Known(2), Dim::Known(16)], &[2, 16]),
    ];
    let (mut operands, mut inputs) = (Vec::new(), Vec::new());
    for (name, dims, shape) in facts {
        operands.push(Some(graph.add_input(name, Fact::new(DType::F64, dims)).expect("new")));
        inputs.push((name.to_string(), random.array(shape, -1.0, 1.0)));
    }
    operands.push(Some(graph.add_input("lens", Fact::new(DType::I32, [batch])).expect("new")));
    inputs.push(("lens".into(), ints(&[5, 3])));
    let attrs = [("direction", "bidirectional".into()), ("hidden_size", 2i64.into())];
    node(&mut graph, "LSTM", &operands, &attrs, &["y", "y_h", "y_c"]);
    check(graph, &inputs, &["x", "w", "r", "b"]);
}

/// The graph grows with the steps, not with their square.
#[test]
fn an_unrolled_network_is_linear_in_its_length() {
    let nodes = |steps: i64| {
        let text = format!(
            "graph g(%x: f32[{steps},N,4], %w: f32[1,9,4], %r: f32[1,9,3]) -> %y {{ %y = GRU(%x, %w, %r) : f32[..] }}"
        );
        let mut graph = lorac_ir::parse(&text).expect("parses");
        graph.opsets.insert("".into(), 20);
        infer(&mut graph).expect("infers");
        lower(&mut graph).expect("lowers");
        let (y, w) = (graph.outputs()[0], graph.find("w").expect("w"));
        let target = graph.add_input("t", graph.fact(y)).expect("new");
        let loss = mean_squared_error(&mut graph, y, target).expect("a loss");
        differentiate(&mut graph, loss, &[w]).expect("differentiates");
        graph.node_count()
    };
    let (short, long) = (nodes(16), nodes(64));
    assert!(long - short <= 4 * (nodes(32) - short), "{short} nodes for 16 steps, {long} for 64");
    assert!(long < 64 * 60, "{long} nodes for 64 steps");
}

#[test]
fn an_unknown_length_is_named() {
    let text = "graph g(%x: f32[S,2,4], %w: f32[1,9,4], %r: f32[1,9,3]) -> %y { %y = GRU(%x, %w, %r) : f32[..] }";
    let mut graph = lorac_ir::parse(text).expect("parses");
    graph.opsets.insert("".into(), 20);
    infer(&mut graph).expect("infers");
    lower(&mut graph).expect("leaves it");
    let (y, w) = (graph.outputs()[0], graph.find("w").expect("w"));
    let target = graph.add_input("t", graph.fact(y)).expect("new");
    let loss = mean_squared_error(&mut graph, y, target).expect("a loss");
    let error = differentiate(&mut graph, loss, &[w]).expect_err("nothing to unroll").to_string();
    assert!(error.contains("a known length of axis 0, not `S`"), "{error}");
}
