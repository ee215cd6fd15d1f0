//! What every engine must do, run on each.

mod support;

use lorac_ir::{DType, Tensor};
use lorac_runtime::{Program, RuntimeError, Source, StateSlot};
use support::{D, Model, descent, engines, floats, int};

fn slot(init: &[f32]) -> StateSlot {
    StateSlot { input: "theta".into(), output: "theta.next".into(), init: Tensor::vector(init) }
}

fn descend(init: &[f32]) -> Vec<Box<dyn Program>> {
    engines()
        .into_iter()
        .map(|engine| {
            let model = descent(init.len() as i64).bytes();
            engine.compile(Source { model, weights: Vec::new(), state: vec![slot(init)] }).expect("compiles")
        })
        .collect()
}

#[test]
fn a_hundred_steps_equal_the_host() {
    for mut program in descend(&[1.0, -2.0, 0.5]) {
        let (mut theta, lr) = (vec![1.0f32, -2.0, 0.5], Tensor::scalar(0.01f32));
        for step in 0..100 {
            let x: Vec<f32> = theta.iter().map(|t| t + step as f32 * 0.1).collect();
            theta.iter_mut().zip(&x).for_each(|(t, x)| *t -= 0.01 * x);
            let norm: f32 = theta.iter().map(|t| t * t).sum();
            // Fetching nothing must not disturb the swap.
            let fetch: &[&str] = if step % 3 == 0 { &[] } else { &["norm"] };
            let got = program.run(&[("x", &Tensor::vector(&x)), ("lr", &lr)], fetch).expect("runs");
            assert_eq!(got.len(), fetch.len());
            if let Some(got) = got.first() {
                assert_eq!(got.dims(), [0usize; 0]);
                assert!((floats(got)[0] - norm).abs() <= 1e-5 * norm, "{program:?}, step {step}");
            }
            let state = floats(&program.state("theta").expect("is a slot"));
            let near = state.iter().zip(&theta).all(|(a, b)| (a - b).abs() <= 1e-5);
            assert!(near, "{program:?}, step {step}: {state:?} is not {theta:?}");
        }
    }
}

#[test]
fn state_is_what_was_set_in_either_phase() {
    let (zero, one) = (Tensor::vector(&[0.0f32; 2]), Tensor::scalar(1.0f32));
    for mut program in descend(&[0.0, 0.0]) {
        for step in 0..5 {
            let value = Tensor::vector(&[step as f32, 7.5]);
            program.set_state("theta", &value).expect("fits");
            assert_eq!(program.state("theta").expect("is a slot"), value);
            program.run(&[("lr", &one), ("x", &zero)], &[]).expect("runs");
            assert_eq!(program.state("theta").expect("is a slot"), value, "step {step}");
        }
    }
}

#[test]
fn a_slot_without_output_changes_only_when_set() {
    let model = || {
        Model::default()
            .input("theta", DType::F32, &[D::N(2)])
            .input("x", DType::F32, &[D::S("N"), D::N(2)])
            .node("Add", "x theta", "y", &[])
            .output("y", DType::F32, &[D::S("N"), D::N(2)])
    };
    for engine in engines() {
        let state = vec![StateSlot { output: String::new(), ..slot(&[1.0, 2.0]) }];
        let mut program = engine.compile(Source { model: model().bytes(), weights: vec![], state }).expect("compiles");
        let x = Tensor::from_slice(&[1, 2], &[10.0f32, 20.0]).expect("fits");
        for _ in 0..3 {
            assert_eq!(floats(&program.run(&[("x", &x)], &["y"]).expect("runs")[0]), [11.0, 22.0]);
        }
        program.set_state("theta", &Tensor::vector(&[0.0f32, 0.5])).expect("fits");
        assert_eq!(floats(&program.run(&[("x", &x)], &["y"]).expect("runs")[0]), [10.0, 20.5]);
    }
}

#[test]
fn wrong_names_and_shapes_are_named_and_leave_the_program_usable() {
    let (x, lr) = (Tensor::vector(&[1.0f32; 2]), Tensor::scalar(0.5f32));
    for mut program in descend(&[1.0, 1.0]) {
        let mut fails = |feeds: &[(&str, &Tensor)], fetch: &[&str]| {
            program.run(feeds, fetch).expect_err("must be refused").to_string()
        };
        let long = Tensor::vector(&[1.0f32; 3]);
        let ints = Tensor::vector(&[1i64; 2]);
        assert_eq!(fails(&[("y", &x), ("lr", &lr)], &[]), "no input `y` (there is x, lr)");
        assert_eq!(fails(&[("theta", &x), ("x", &x), ("lr", &lr)], &[]), "no input `theta` (there is x, lr)");
        assert_eq!(fails(&[("x", &long), ("lr", &lr)], &[]), "`x`: expected f32[2], got f32[3]");
        assert_eq!(fails(&[("x", &ints), ("lr", &lr)], &[]), "`x`: expected f32[2], got i64[2]");
        assert_eq!(fails(&[("x", &x)], &[]), "input `lr` is fed 0 times");
        assert_eq!(fails(&[("x", &x), ("x", &x), ("lr", &lr)], &[]), "input `x` is fed 2 times");
        assert_eq!(fails(&[("x", &x), ("lr", &lr)], &["theta.next"]), "no output `theta.next` (there is norm)");
        let error = program.set_state("theta", &long).expect_err("too long");
        assert_eq!(error.to_string(), "`theta`: expected f32[2], got f32[3]");
        assert!(matches!(program.state("x"), Err(RuntimeError::NoSuchState { .. })));
        program.run(&[("x", &x), ("lr", &lr)], &[]).expect("still runs");
        assert_eq!(floats(&program.state("theta").expect("is a slot")), [0.5, 0.5]);
    }
}

#[test]
fn sources_that_do_not_fit_are_refused() {
    let weights = || Model::default().input("x", DType::F32, &[D::N(2)]).weight("w", DType::F32, &[2], "w.bin");
    let weights = || weights().node("Add", "x w", "y", &[]).output("y", DType::F32, &[D::N(2)]).bytes();
    let w = |data: &[f32]| ("w".to_string(), Tensor::vector(data));
    for engine in engines() {
        let fails = |model, weights, state| {
            engine.compile(Source { model, weights, state }).expect_err("must be refused").to_string()
        };
        let garbage = fails(b"this is not a model"[..].into(), vec![], vec![]);
        assert!(garbage.ends_with("the bytes are not a serialized ONNX model"), "{garbage}");
        assert_eq!(fails(weights(), vec![], vec![]), "weight `w`: its data is external and no tensor is bound to it");
        let short = fails(weights(), vec![w(&[1.0])], vec![]);
        assert_eq!(short, "weight `w`: the model declares f32[2], the tensor is f32[1]");
        let other = ("v".to_string(), Tensor::vector(&[1.0f32]));
        assert_eq!(
            fails(weights(), vec![w(&[1.0, 2.0]), other], vec![]),
            "weight `v`: the model has no such initializer"
        );
        let state = StateSlot { input: "z".into(), ..slot(&[0.0]) };
        assert_eq!(fails(descent(1).bytes(), vec![], vec![state]), "no input `z` (there is theta, x, lr)");
        let state = slot(&[0.0; 3]);
        assert_eq!(fails(descent(2).bytes(), vec![], vec![state]), "`theta`: expected f32[2], got f32[3]");
    }
}

#[test]
fn an_unknown_operator_is_an_error_that_names_its_node() {
    for engine in engines() {
        let model = Model::default().input("x", DType::F32, &[D::S("N")]).node("NoSuchOp", "x", "y", &[]);
        let model = model.output("y", DType::F32, &[D::S("N")]).bytes();
        match engine.compile(Source { model, weights: vec![], state: vec![] }) {
            Err(RuntimeError::Compile { node, why, .. }) => {
                assert_eq!(node.as_deref(), Some("NoSuchOp_y"), "{}: {why}", engine.name());
            }
            other => panic!("{}: {other:?}", engine.name()),
        }
    }
}

#[test]
fn a_bad_index_is_an_error_and_the_program_still_works() {
    // tract panics at a bad index.
    for (engine, panics) in engines().into_iter().zip([false, true]) {
        let model = Model::default()
            .constant("table", &Tensor::from_slice(&[2, 2], &[1.0f32, 2.0, 3.0, 4.0]).expect("fits"))
            .input("theta", DType::F32, &[D::N(2)])
            .input("at", DType::I64, &[D::N(1)])
            .node("Gather", "table at", "row", &[])
            .node("Add", "theta row", "sum", &[])
            .constant("axes", &Tensor::vector(&[0i64]))
            .node("ReduceSum", "sum axes", "theta.next", &[int("keepdims", 0)])
            .output("theta.next", DType::F32, &[D::N(2)])
            .bytes();
        let state = vec![slot(&[0.0, 0.0])];
        let mut program = engine.compile(Source { model, weights: vec![], state }).expect("compiles");
        program.run(&[("at", &Tensor::vector(&[1i64]))], &[]).expect("in range");
        let error = program.run(&[("at", &Tensor::vector(&[7i64]))], &[]).expect_err("out of range");
        match &error {
            RuntimeError::Run { node, .. } if !panics => assert_eq!(node.as_deref(), Some("Gather_row"), "{error}"),
            RuntimeError::Panic { .. } if panics => {}
            _ => panic!("{}: {error:?}", engine.name()),
        }
        assert_eq!(floats(&program.state("theta").expect("is a slot")), [3.0, 4.0], "the state is untouched");
        program.run(&[("at", &Tensor::vector(&[0i64]))], &[]).expect("works again");
        assert_eq!(floats(&program.state("theta").expect("is a slot")), [4.0, 6.0]);
    }
}

#[test]
fn symbolic_dimensions_take_any_size() {
    for engine in engines() {
        let model = Model::default()
            .input("x", DType::F32, &[D::S("N"), D::N(2)])
            .weight("w", DType::F32, &[2, 3], "sub/w.bin")
            .node("MatMul", "x w", "y", &[])
            .node("Shape", "y", "shape", &[])
            .output("y", DType::F32, &[D::S("N"), D::N(3)])
            .output("shape", DType::I64, &[D::N(2)])
            .bytes();
        let w = Tensor::from_slice(&[2, 3], &[1.0f32, 2.0, 3.0, 4.0, 5.0, 6.0]).expect("fits");
        let source = Source { model, weights: vec![("w".into(), w)], state: vec![] };
        let mut program = engine.compile(source).expect("compiles");
        for n in [3usize, 1, 8, 3, 0, 1].into_iter().chain(1..24) {
            let x = Tensor::from_slice(&[n, 2], &vec![1.0f32; n * 2]).expect("fits");
            let got = program.run(&[("x", &x)], &["shape", "y"]).expect("runs");
            assert_eq!(got[0], Tensor::vector(&[n as i64, 3]), "{}", engine.name());
            assert_eq!(floats(&got[1]), [5.0f32, 7.0, 9.0].repeat(n), "{}", engine.name());
        }
    }
}

#[test]
fn misaligned_weights_and_feeds_are_read_right() {
    let shifted = |data: &[f32]| {
        let bytes: Vec<u8> = [0u8].into_iter().chain(data.iter().flat_map(|x| x.to_le_bytes())).collect();
        let bytes = bytes::Bytes::from(bytes).slice(1..);
        Tensor::new(DType::F32, vec![data.len()], bytes).expect("fits")
    };
    for engine in engines() {
        let model = Model::default().input("x", DType::F32, &[D::N(3)]).weight("w", DType::F32, &[3], "w");
        let model = model.node("Mul", "x w", "y", &[]).output("y", DType::F32, &[D::N(3)]).bytes();
        let weights = vec![("w".to_string(), shifted(&[2.0, 3.0, 4.0]))];
        let mut program = engine.compile(Source { model, weights, state: vec![] }).expect("compiles");
        let got = program.run(&[("x", &shifted(&[1.0, 10.0, 100.0]))], &["y"]).expect("runs");
        assert_eq!(floats(&got[0]), [2.0, 30.0, 400.0]);
    }
}

/// An engine may want a large weight's data while compiling: here, to fold the row that is gathered.
#[test]
fn a_row_of_a_large_weight_is_gathered() {
    for engine in engines() {
        let n = 256usize;
        let model = Model::default()
            .input("x", DType::F32, &[D::N(1), D::N(n as i64)])
            .weight("w", DType::F32, &[n as i64, n as i64], "w.bin")
            .constant("at", &Tensor::vector(&[3i64]))
            .node("Gather", "w at", "row", &[])
            .node("Add", "x row", "y", &[])
            .output("y", DType::F32, &[D::N(1), D::N(n as i64)])
            .bytes();
        let w: Vec<f32> = (0..n * n).map(|i| i as f32).collect();
        let weights = vec![("w".to_string(), Tensor::from_slice(&[n, n], &w).expect("fits"))];
        let mut program = engine.compile(Source { model, weights, state: vec![] }).expect("compiles");
        let x = Tensor::from_slice(&[1, n], &vec![0.5f32; n]).expect("fits");
        let want: Vec<f32> = (0..n).map(|c| (3 * n + c) as f32 + 0.5).collect();
        assert_eq!(floats(&program.run(&[("x", &x)], &["y"]).expect("runs")[0]), want, "{}", engine.name());
    }
}

/// An engine may want a large weight's data while compiling: here, to scale it and to lay it out anew.
#[test]
fn a_large_convolution_is_scaled() {
    for engine in engines() {
        let (channels, size) = (64i64, 4i64);
        let ones = |len: i64| Tensor::vector(&vec![1.0f32; len as usize]);
        let model = Model::default()
            .input("x", DType::F32, &[D::N(1), D::N(channels), D::N(size), D::N(size)])
            .weight("w", DType::F32, &[channels, channels, 3, 3], "w.bin")
            .constant("one", &ones(channels))
            .constant("var", &Tensor::vector(&vec![0.25f32 - 1e-5; channels as usize]))
            .node("Conv", "x w", "c", &[])
            .node("BatchNormalization", "c one one one var", "n", &[])
            .node("Relu", "n", "y", &[])
            .output("y", DType::F32, &[D::N(1), D::N(channels), D::N(2), D::N(2)])
            .bytes();
        let count = (channels * channels * 9) as usize;
        let dims = [channels as usize, channels as usize, 3, 3];
        let w = Tensor::from_slice(&dims, &vec![0.5f32; count]).expect("fits");
        let mut program =
            engine.compile(Source { model, weights: vec![("w".into(), w)], state: vec![] }).expect("compiles");
        let dims = [1, channels as usize, size as usize, size as usize];
        let x = Tensor::from_slice(&dims, &vec![1.0f32; (channels * size * size) as usize]).expect("fits");
        let y = floats(&program.run(&[("x", &x)], &["y"]).expect("runs")[0]);
        // (64 * 9 * 0.5 - 1) / 0.5 + 1
        assert!(y.len() == 256 && y.iter().all(|y| (y - 575.0).abs() < 1e-2), "{}: {}", engine.name(), y[0]);
    }
}

/// An engine may want a bound weight's data while compiling: to fold, to fuse, to transpose.
#[test]
fn weights_that_optimizers_look_into_compile() {
    for engine in engines() {
        let n = 96i64;
        let model = Model::default()
            .input("x", DType::F32, &[D::N(1), D::N(n)])
            .weight("w", DType::F32, &[n, n], "w.bin")
            .weight("b", DType::F32, &[n], "w.bin")
            .weight("s", DType::F32, &[], "w.bin")
            .weight("to", DType::I64, &[2], "w.bin")
            .node("Transpose", "w", "wt", &[])
            .node("Mul", "wt s", "ws", &[])
            .node("MatMul", "x ws", "h", &[])
            .node("Mul", "b s", "bs", &[])
            .node("Add", "h bs", "hb", &[])
            .node("Reshape", "hb to", "y", &[])
            .output("y", DType::F32, &[D::N(2), D::N(n / 2)])
            .bytes();
        let count = (n * n) as usize;
        let w: Vec<f32> = (0..count).map(|i| (i % 7) as f32).collect();
        let w = Tensor::from_slice(&[n as usize, n as usize], &w).expect("fits");
        let weights = vec![
            ("w".to_string(), w.clone()),
            ("b".to_string(), Tensor::vector(&vec![1.0f32; n as usize])),
            ("s".to_string(), Tensor::scalar(2.0f32)),
            ("to".to_string(), Tensor::vector(&[2i64, n / 2])),
        ];
        let mut program = engine.compile(Source { model, weights, state: vec![] }).expect("compiles");
        let x = Tensor::from_slice(&[1, n as usize], &vec![1.0f32; n as usize]).expect("fits");
        let got = program.run(&[("x", &x)], &["y"]).expect("runs");
        let rows = floats(&w);
        let want: Vec<f32> = rows.chunks(n as usize).map(|row| 2.0 * row.iter().sum::<f32>() + 2.0).collect();
        assert_eq!(got[0].dims(), [2, n as usize / 2]);
        assert_eq!(floats(&got[0]), want, "{}", engine.name());
    }
}
