//! Cases as graphs with data: what finite differences, lowerings and engines are tried on.

use crate::{Array, Case, Op, Operand};
use lorac_ir::{Attrs, DType, Dim, Fact, Graph, GraphError, OpName, Origin, Tensor, TensorError};
use std::sync::Arc;

/// A case as a graph of one node `y0, y1, .. = Op(x0, x1, ..)`, with data for its inputs.
#[derive(Clone, Debug)]
pub struct Bench {
    /// The graph; integers, booleans and given reals after the first operand are weights, other operands inputs.
    pub graph: Graph,
    /// Data of the inputs by name.
    pub inputs: Vec<(String, Array)>,
    /// For every operand that a gradient may reach: its slot and the name of its input.
    pub trained: Vec<(usize, String)>,
}

/// Why a case is not valid.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BenchError {
    /// An operand's data does not fill its shape.
    #[error("operand {0} does not fill its shape")]
    Operand(usize),
    /// The data is not a valid tensor.
    #[error(transparent)]
    Tensor(#[from] TensorError),
    /// The graph cannot be made.
    #[error(transparent)]
    Graph(#[from] GraphError),
}

impl BenchError {
    /// A stable name of the fault, for programs and for looking it up: `case::...`, or that of the tensor or
    /// the graph.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Operand(_) => "case::operand",
            Self::Tensor(e) => e.code(),
            Self::Graph(e) => e.code(),
        }
    }
}

/// A small generator, so that a failing case fails the same everywhere.
#[derive(Clone, Debug)]
pub struct Random(pub u64);

impl Random {
    /// The next number from 0 to 1.
    pub fn unit(&mut self) -> f64 {
        self.0 = self.0.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        (self.0 >> 11) as f64 / (1u64 << 53) as f64
    }

    /// An array of numbers from `lo` to `hi`.
    pub fn array(&mut self, dims: &[usize], lo: f64, hi: f64) -> Array {
        Array::from_shape_simple_fn(dims.to_vec(), || lo + (hi - lo) * self.unit())
    }

    /// Distinct values with gaps of at least 0.1, none within 0.1 of zero.
    fn apart(&mut self, dims: &[usize]) -> Array {
        let n: usize = dims.iter().product();
        let mut data: Vec<f64> =
            (0..n).map(|i| (0.2 + 0.2 * i as f64 + 0.1 * self.unit()) * if i % 2 == 0 { 1.0 } else { -1.0 }).collect();
        for i in (1..n).rev() {
            data.swap(i, (self.unit() * (i + 1) as f64) as usize);
        }
        let mut data = data.into_iter();
        Array::from_shape_simple_fn(dims.to_vec(), || data.next().unwrap_or(0.0))
    }
}

impl Bench {
    /// The case as a graph whose reals are of type `real`. `symbolic`: shapes are known by name only, as in a model with
    /// dynamic axes.
    ///
    /// # Errors
    /// Data that does not fill its shape.
    pub fn new(op: &Op, case: &Case, real: DType, symbolic: bool, random: &mut Random) -> Result<Bench, BenchError> {
        let mut graph = Graph::new(op.name, case.opset);
        if !op.domain.is_empty() {
            graph.opsets.insert(op.domain.into(), 1);
        }
        let (mut inputs, mut trained, mut operands) = (Vec::new(), Vec::new(), Vec::new());
        for (slot, operand) in case.inputs.iter().enumerate() {
            let name = format!("x{slot}");
            let given = |dims: &[usize], data: &[f64]| {
                Array::from_shape_vec(dims.to_vec(), data.to_vec()).map_err(|_| BenchError::Operand(slot))
            };
            let data = match operand {
                Operand::Any(dims) => random.array(dims, -2.0, 2.0),
                Operand::Positive(dims) => random.array(dims, 0.5, 2.0),
                Operand::Apart(dims) => random.apart(dims),
                Operand::Floats(dims, data) if slot == 0 => given(dims, data)?,
                Operand::Floats(dims, data) => {
                    let tensor = crate::tensor(real, &given(dims, data)?).ok_or(BenchError::Operand(slot))?;
                    operands.push(Some(graph.add_weight(&name, tensor)?));
                    continue;
                }
                Operand::Ints(dims, data) => {
                    operands.push(Some(graph.add_weight(&name, Tensor::from_slice(dims, data)?)?));
                    continue;
                }
                Operand::Of(dtype, dims, data) => {
                    let data: Vec<f64> = data.iter().map(|n| *n as f64).collect();
                    let tensor = Tensor::from_f64(*dtype, dims, &data).ok_or(BenchError::Operand(slot))?;
                    operands.push(Some(graph.add_weight(&name, tensor)?));
                    continue;
                }
                Operand::Bools(dims, data) => {
                    operands.push(Some(graph.add_weight(&name, Tensor::from_slice(dims, data)?)?));
                    continue;
                }
                Operand::Absent => {
                    operands.push(None);
                    continue;
                }
            };
            let dims = data.shape().iter().enumerate().map(|(i, n)| match symbolic {
                true => Dim::named(&format!("d{slot}_{i}")),
                false => Dim::from(*n),
            });
            operands.push(Some(graph.add_input(&name, Fact::new(real, dims))?));
            trained.push((slot, name.clone()));
            inputs.push((name, data));
        }
        let attrs: Attrs = case.attrs.iter().map(|(k, v)| (Arc::from(*k), (*v).into())).collect();
        let names: Vec<String> = (0..case.outputs).map(|i| format!("y{i}")).collect();
        let outputs = names.iter().map(|n| (n.as_str(), Fact::unranked(DType::Opaque))).collect();
        let origin = Origin { pass: "".into(), source: "case".into() };
        let made = graph.add_node(OpName::new(op.domain, op.name), operands, attrs, outputs, origin)?;
        graph.set_outputs(made)?;
        Ok(Bench { graph, inputs, trained })
    }

    /// The data as [`crate::evaluate`] takes it.
    pub fn named(&self) -> Vec<(&str, Array)> {
        named(&self.inputs)
    }
}

/// Data by name as [`crate::evaluate`] takes it.
pub fn named(inputs: &[(String, Array)]) -> Vec<(&str, Array)> {
    inputs.iter().map(|(n, a)| (n.as_str(), a.clone())).collect()
}
