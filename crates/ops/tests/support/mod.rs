//! Cases as graphs with data.

use lorac_ir::{Attrs, DType, Dim, Fact, Graph, OpName, Origin, Tensor};
use lorac_ops::{Array, Case, Op, Operand};
use std::sync::Arc;

/// A case as a graph of one node, with data for its inputs. Reals are f64.
pub(crate) struct Bench {
    pub(crate) graph: Graph,
    pub(crate) inputs: Vec<(String, Array)>,
    /// For every operand that a gradient may reach: its slot and the name of its input.
    pub(crate) trained: Vec<(usize, String)>,
}

/// A small generator, so that a failing case fails the same everywhere.
pub(crate) struct Random(pub(crate) u64);

impl Random {
    pub(crate) fn unit(&mut self) -> f64 {
        self.0 = self.0.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        (self.0 >> 11) as f64 / (1u64 << 53) as f64
    }

    pub(crate) fn array(&mut self, dims: &[usize], lo: f64, hi: f64) -> Array {
        let n = dims.iter().product();
        let data = (0..n).map(|_| lo + (hi - lo) * self.unit()).collect();
        Array::from_shape_vec(dims.to_vec(), data).expect("count fits")
    }

    /// Distinct values with gaps of at least 0.1, none within 0.1 of zero.
    fn apart(&mut self, dims: &[usize]) -> Array {
        let n: usize = dims.iter().product();
        let mut data: Vec<f64> =
            (0..n).map(|i| (0.2 + 0.2 * i as f64 + 0.1 * self.unit()) * if i % 2 == 0 { 1.0 } else { -1.0 }).collect();
        for i in (1..n).rev() {
            data.swap(i, (self.unit() * (i + 1) as f64) as usize);
        }
        Array::from_shape_vec(dims.to_vec(), data).expect("count fits")
    }
}

/// `symbolic`: shapes are known by name only, as in a model with dynamic axes.
pub(crate) fn bench(op: &Op, case: &Case, symbolic: bool, random: &mut Random) -> Bench {
    let mut graph = Graph::new(op.name, case.opset);
    graph.opsets.insert(op.domain.into(), if op.domain.is_empty() { case.opset } else { 1 });
    let (mut inputs, mut trained, mut operands) = (Vec::new(), Vec::new(), Vec::new());
    for (slot, operand) in case.inputs.iter().enumerate() {
        let name = format!("x{slot}");
        let data = match operand {
            Operand::Any(dims) => random.array(dims, -2.0, 2.0),
            Operand::Positive(dims) => random.array(dims, 0.5, 2.0),
            Operand::Apart(dims) => random.apart(dims),
            Operand::Floats(dims, data) => Array::from_shape_vec(dims.to_vec(), data.to_vec()).expect("count fits"),
            Operand::Ints(dims, data) => {
                let tensor = Tensor::from_slice(dims, data).expect("count fits");
                operands.push(Some(graph.add_weight(&name, tensor).expect("new name")));
                continue;
            }
            Operand::Bools(dims, data) => {
                let tensor = Tensor::from_slice(dims, data).expect("count fits");
                operands.push(Some(graph.add_weight(&name, tensor).expect("new name")));
                continue;
            }
            Operand::Absent => {
                operands.push(None);
                continue;
            }
        };
        if slot > 0 && matches!(operand, Operand::Floats(..)) {
            let tensor = lorac_ops::tensor(DType::F64, &data).expect("reals");
            operands.push(Some(graph.add_weight(&name, tensor).expect("new name")));
            continue;
        }
        let dims = data.shape().iter().enumerate().map(|(i, n)| match symbolic {
            true => Dim::named(&format!("d{slot}_{i}")),
            false => Dim::from(*n),
        });
        let fact = Fact::new(DType::F64, dims);
        operands.push(Some(graph.add_input(&name, fact).expect("new name")));
        trained.push((slot, name.clone()));
        inputs.push((name, data));
    }
    let attrs: Attrs = case.attrs.iter().map(|(k, v)| (Arc::from(*k), (*v).into())).collect();
    let names: Vec<String> = (0..case.outputs).map(|i| format!("y{i}")).collect();
    let outputs = names.iter().map(|n| (n.as_str(), Fact::unranked(DType::Opaque))).collect();
    let origin = Origin { pass: "".into(), source: "case".into() };
    let made =
        graph.add_node(OpName::new(op.domain, op.name), operands, attrs, outputs, origin).expect("operands exist");
    graph.set_outputs(made).expect("outputs exist");
    Bench { graph, inputs, trained }
}

pub(crate) fn named(inputs: &[(String, Array)]) -> Vec<(&str, Array)> {
    inputs.iter().map(|(n, a)| (n.as_str(), a.clone())).collect()
}
