//! The operators that training graphs are made of, on both engines: one expected value for each.

mod support;

use lorac_ir::{DType, Tensor};
use lorac_runtime::Source;
use support::{Model, engines, int, text};
use tract_onnx::pb::AttributeProto;

struct Case {
    op: &'static str,
    /// Fed at run time; the shape is declared as it is.
    feeds: Vec<(&'static str, Tensor)>,
    constants: Vec<(&'static str, Tensor)>,
    inputs: &'static str,
    attributes: Vec<AttributeProto>,
    want: Vec<(&'static str, Tensor)>,
}

fn f(dims: &[usize], data: &[f32]) -> Tensor {
    Tensor::from_slice(dims, data).expect("fits")
}

fn i(dims: &[usize], data: &[i64]) -> Tensor {
    Tensor::from_slice(dims, data).expect("fits")
}

fn case(op: &'static str, inputs: &'static str) -> Case {
    Case { op, inputs, feeds: vec![], constants: vec![], attributes: vec![], want: vec![] }
}

impl Case {
    fn feed(mut self, name: &'static str, tensor: Tensor) -> Case {
        self.feeds.push((name, tensor));
        self
    }
    fn constant(mut self, name: &'static str, tensor: Tensor) -> Case {
        self.constants.push((name, tensor));
        self
    }
    fn attribute(mut self, attribute: AttributeProto) -> Case {
        self.attributes.push(attribute);
        self
    }
    fn want(mut self, name: &'static str, tensor: Tensor) -> Case {
        self.want.push((name, tensor));
        self
    }

    fn check(&self) -> Vec<String> {
        let dims = |t: &Tensor| t.dims().iter().map(|d| support::D::N(*d as i64)).collect::<Vec<_>>();
        let model = || {
            let mut model = Model::default();
            for (name, tensor) in &self.feeds {
                model = model.input(name, tensor.dtype(), &dims(tensor));
            }
            for (name, tensor) in &self.constants {
                model = model.constant(name, tensor);
            }
            let outputs: Vec<&str> = self.want.iter().map(|(name, _)| *name).collect();
            model = model.node(self.op, self.inputs, &outputs.join(" "), &self.attributes);
            for (name, tensor) in &self.want {
                model = model.unranked_output(name, tensor.dtype());
            }
            model.bytes()
        };
        let feeds: Vec<(&str, &Tensor)> = self.feeds.iter().map(|(n, t)| (*n, t)).collect();
        let fetch: Vec<&str> = self.want.iter().map(|(name, _)| *name).collect();
        let run = |engine: Box<dyn lorac_runtime::Backend>| {
            let source = Source { model: model(), weights: vec![], state: vec![] };
            let result = engine.compile(source).and_then(|mut program| program.run(&feeds, &fetch));
            let wrong = match result {
                Err(error) => Some(error.to_string()),
                Ok(got) => self.want.iter().zip(&got).find_map(|((name, want), got)| differ(name, want, got)),
            };
            wrong.map(|why| format!("{} {}: {why}", engine.name(), self.op))
        };
        engines().into_iter().filter_map(run).collect()
    }
}

fn differ(name: &str, want: &Tensor, got: &Tensor) -> Option<String> {
    let numbers = |t: &Tensor| t.to_f64().expect("numbers");
    let near = |a: f64, b: f64| (a - b).abs() <= 1e-5 * (1.0 + b.abs());
    let same = want.fact() == got.fact() && numbers(got).iter().zip(numbers(want)).all(|(a, b)| near(*a, b));
    (!same).then(|| format!("{name}: {got:?} {:?} is not {want:?} {:?}", numbers(got), numbers(want)))
}

fn cases() -> Vec<Case> {
    let x23 = || f(&[2, 3], &[1.0, 2.0, 3.0, 4.0, 5.0, 6.0]);
    let d = (1.5f32).sqrt();
    vec![
        case("ScatterND", "data at add")
            .feed("data", f(&[3], &[1.0, 2.0, 3.0]))
            .feed("at", i(&[3, 1], &[0, 2, 0]))
            .feed("add", f(&[3], &[10.0, 20.0, 30.0]))
            .attribute(text("reduction", "add"))
            .want("y", f(&[3], &[41.0, 2.0, 23.0])),
        case("ScatterElements", "data at add")
            .feed("data", f(&[2, 2], &[1.0, 2.0, 3.0, 4.0]))
            .feed("at", i(&[2, 2], &[1, 1, 0, 1]))
            .feed("add", f(&[2, 2], &[10.0, 20.0, 30.0, 40.0]))
            .attribute(text("reduction", "add"))
            .attribute(int("axis", 1))
            .want("y", f(&[2, 2], &[1.0, 32.0, 33.0, 44.0])),
        case("GatherND", "data at")
            .feed("data", x23())
            .feed("at", i(&[2, 2], &[0, 2, 1, 0]))
            .want("y", f(&[2], &[3.0, 4.0])),
        case("GatherElements", "data at")
            .feed("data", x23())
            .feed("at", i(&[2, 1], &[2, 0]))
            .attribute(int("axis", 1))
            .want("y", f(&[2, 1], &[3.0, 4.0])),
        case("LayerNormalization", "x scale bias")
            .feed("x", f(&[1, 3], &[1.0, 2.0, 3.0]))
            .feed("scale", f(&[3], &[1.0, 2.0, 1.0]))
            .feed("bias", f(&[3], &[0.0, 1.0, 0.0]))
            .want("y", f(&[1, 3], &[-d + 9e-6, 1.0, d - 9e-6]))
            .want("mean", f(&[1, 1], &[2.0]))
            .want("inv", f(&[1, 1], &[d - 9e-6])),
        case("Gelu", "x").feed("x", f(&[3], &[-1.0, 0.0, 2.0])).want("y", f(&[3], &[-0.15865526, 0.0, 1.9544997])),
        case("Gelu", "x")
            .feed("x", f(&[2], &[-1.0, 2.0]))
            .attribute(text("approximate", "tanh"))
            .want("y", f(&[2], &[-0.158_808, 1.954_597_7])),
        case("Erf", "x").feed("x", f(&[2], &[0.5, -1.0])).want("y", f(&[2], &[0.520_499_9, -0.842_700_8])),
        case("CumSum", "x axis")
            .feed("x", x23())
            .constant("axis", i(&[], &[1]))
            .want("y", f(&[2, 3], &[1.0, 3.0, 6.0, 4.0, 9.0, 15.0])),
        case("CumSum", "x axis")
            .feed("x", i(&[3], &[1, 2, 3]))
            .constant("axis", i(&[], &[0]))
            .attribute(int("exclusive", 1))
            .attribute(int("reverse", 1))
            .want("y", i(&[3], &[5, 3, 0])),
        case("Range", "from to by")
            .constant("from", i(&[], &[1]))
            .constant("to", i(&[], &[6]))
            .constant("by", i(&[], &[2]))
            .want("y", i(&[3], &[1, 3, 5])),
        case("Split", "x")
            .feed("x", f(&[4], &[1.0, 2.0, 3.0, 4.0]))
            .attribute(int("num_outputs", 2))
            .want("a", f(&[2], &[1.0, 2.0]))
            .want("b", f(&[2], &[3.0, 4.0])),
        case("Split", "x parts")
            .feed("x", x23())
            .constant("parts", i(&[2], &[1, 2]))
            .attribute(int("axis", 1))
            .want("a", f(&[2, 1], &[1.0, 4.0]))
            .want("b", f(&[2, 2], &[2.0, 3.0, 5.0, 6.0])),
        case("Gemm", "a b c")
            .feed("a", x23())
            .feed("b", f(&[2, 3], &[1.0, 0.0, 1.0, 0.0, 1.0, 0.0]))
            .feed("c", f(&[2], &[10.0, 20.0]))
            .attribute(int("transB", 1))
            .want("y", f(&[2, 2], &[14.0, 22.0, 20.0, 25.0])),
        case("Gemm", "a b")
            .feed("a", x23())
            .feed("b", f(&[2, 1], &[1.0, 10.0]))
            .attribute(int("transA", 1))
            .want("y", f(&[3, 1], &[41.0, 52.0, 63.0])),
        case("OneHot", "at depth values")
            .feed("at", i(&[2], &[1, 0]))
            .constant("depth", i(&[], &[3]))
            .constant("values", f(&[2], &[0.0, 1.0]))
            .want("y", f(&[2, 3], &[0.0, 1.0, 0.0, 1.0, 0.0, 0.0])),
        case("Where", "c a b")
            .feed("c", Tensor::from_slice(&[2, 1], &[true, false]).expect("fits"))
            .feed("a", f(&[2], &[1.0, 2.0]))
            .feed("b", f(&[], &[9.0]))
            .want("y", f(&[2, 2], &[1.0, 2.0, 9.0, 9.0])),
        case("Expand", "x to")
            .feed("x", f(&[2, 1], &[1.0, 2.0]))
            .constant("to", i(&[2], &[1, 3]))
            .want("y", f(&[2, 3], &[1.0, 1.0, 1.0, 2.0, 2.0, 2.0])),
        case("Softmax", "x")
            .feed("x", f(&[2, 2], &[0.0, 0.0, 0.0, 3f32.ln()]))
            .attribute(int("axis", 0))
            .want("y", f(&[2, 2], &[0.5, 0.25, 0.5, 0.75])),
        case("LogSoftmax", "x")
            .feed("x", f(&[1, 2], &[0.0, 3f32.ln()]))
            .attribute(int("axis", -1))
            .want("y", f(&[1, 2], &[0.25f32.ln(), 0.75f32.ln()])),
        case("ReduceSum", "x axes")
            .feed("x", x23())
            .constant("axes", i(&[1], &[0]))
            .attribute(int("keepdims", 0))
            .want("y", f(&[3], &[5.0, 7.0, 9.0])),
        case("ReduceSum", "x axes")
            .feed("x", x23())
            .constant("axes", i(&[0], &[]))
            .attribute(int("noop_with_empty_axes", 1))
            .want("y", x23()),
        case("ReduceMean", "x axes")
            .feed("x", x23())
            .constant("axes", i(&[1], &[-1]))
            .want("y", f(&[2, 1], &[2.0, 5.0])),
        case("ReduceMax", "x axes")
            .feed("x", x23())
            .constant("axes", i(&[1], &[1]))
            .attribute(int("keepdims", 0))
            .want("y", f(&[2], &[3.0, 6.0])),
        case("Trilu", "x")
            .feed("x", f(&[2, 2], &[1.0, 2.0, 3.0, 4.0]))
            .attribute(int("upper", 0))
            .want("y", f(&[2, 2], &[1.0, 0.0, 3.0, 4.0])),
        case("Slice", "x from to axes by")
            .feed("x", x23())
            .constant("from", i(&[1], &[-1]))
            .constant("to", i(&[1], &[i64::MIN]))
            .constant("axes", i(&[1], &[1]))
            .constant("by", i(&[1], &[-1]))
            .want("y", f(&[2, 3], &[3.0, 2.0, 1.0, 6.0, 5.0, 4.0])),
        case("Pad", "x by")
            .feed("x", f(&[2], &[1.0, 2.0]))
            .constant("by", i(&[2], &[1, 2]))
            .want("y", f(&[5], &[0.0, 1.0, 2.0, 0.0, 0.0])),
        case("Tile", "x by")
            .feed("x", f(&[1, 2], &[1.0, 2.0]))
            .constant("by", i(&[2], &[2, 1]))
            .want("y", f(&[2, 2], &[1.0, 2.0, 1.0, 2.0])),
        case("Pow", "x y").feed("x", f(&[2], &[2.0, 3.0])).feed("y", f(&[], &[2.0])).want("z", f(&[2], &[4.0, 9.0])),
        case("Sign", "x").feed("x", f(&[3], &[-2.0, 0.0, 5.0])).want("y", f(&[3], &[-1.0, 0.0, 1.0])),
        case("Not", "x").feed("x", Tensor::vector(&[true, false])).want("y", Tensor::vector(&[false, true])),
        case("Cast", "x")
            .feed("x", f(&[2], &[1.9, -1.9]))
            .attribute(int("to", i64::from(support::code(DType::I64))))
            .want("y", i(&[2], &[1, -1])),
        case("ArgMax", "x")
            .feed("x", x23())
            .attribute(int("axis", 1))
            .attribute(int("keepdims", 0))
            .want("y", i(&[2], &[2, 2])),
        case("Mod", "x y").feed("x", i(&[2], &[7, -7])).feed("y", i(&[], &[3])).want("z", i(&[2], &[1, 2])),
        case("Equal", "x y")
            .feed("x", i(&[2], &[7, 3]))
            .feed("y", i(&[], &[3]))
            .want("z", Tensor::vector(&[false, true])),
        case("Einsum", "a b")
            .feed("a", x23())
            .feed("b", x23())
            .attribute(text("equation", "ij,kj->ik"))
            .want("y", f(&[2, 2], &[14.0, 32.0, 32.0, 77.0])),
    ]
}

#[test]
fn engines_compute_what_the_standard_says() {
    let wrong: Vec<String> = cases().iter().flat_map(Case::check).collect();
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// Shapes computed by the graph itself, as exported models do.
#[test]
fn limits_and_shapes_may_be_computed() {
    use support::D;
    for engine in engines() {
        let model = Model::default()
            .input("x", DType::F32, &[D::S("N"), D::N(2)])
            .constant("zero", &i(&[], &[0]))
            .constant("one", &i(&[], &[1]))
            .constant("at", &i(&[1], &[0]))
            .node("Shape", "x", "shape", &[])
            .node("Gather", "shape zero", "n", &[])
            .node("Range", "zero n one", "steps", &[])
            .node("Unsqueeze", "n at", "n1", &[])
            .node("Concat", "n1 n1", "square", &[int("axis", 0)])
            .node("Expand", "steps square", "grid", &[])
            .output("grid", DType::I64, &[D::S("N"), D::S("N")])
            .bytes();
        let name = engine.name();
        let mut program = engine.compile(Source { model, weights: vec![], state: vec![] }).expect("compiles");
        for n in [2usize, 3] {
            let got = program.run(&[("x", &f(&[n, 2], &vec![0.0; n * 2]))], &["grid"]).expect("runs");
            let want: Vec<i64> = (0..n as i64).collect::<Vec<_>>().repeat(n);
            assert_eq!(got[0], i(&[n, n], &want), "{name}");
        }
    }
}
