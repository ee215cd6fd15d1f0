//! Writing a model: modules by their Hugging Face paths, weights by their names.

use crate::weights::{Lack, Order, Weights};
use crate::{Activation, ModelError, ShapeMismatch};
use lorac_ir::{Attr, DType, Graph};
use lorac_ops::{Emit, ShapeData, Val};
use std::cell::RefCell;
use std::collections::HashMap;
use std::sync::Arc;

const OPSET: i64 = 20;

/// The graph that `body` writes; `body` returns its outputs.
///
/// # Errors
/// Every tensor that was asked for and is missing or misshapen, else the first node that could not be written.
pub(crate) fn write(
    name: &str,
    weights: &Weights,
    body: impl for<'e, 'g> FnOnce(&Write<'e, 'g>) -> Vec<Val<'e, 'g>>,
) -> Result<Graph, ModelError> {
    let mut graph = Graph::new(name, OPSET);
    // The empty pass: these nodes are the user's model.
    let emit = Emit::new(&graph, &ShapeData::default(), "");
    let write = Write { emit: &emit, weights, state: RefCell::default() };
    let outputs = body(&write).iter().map(|v| v.id()).collect();
    let State { missing, wrong, .. } = write.state.into_inner();
    if !missing.is_empty() || !wrong.is_empty() {
        return Err(ModelError::Tensors { file: weights.file.clone(), missing, wrong });
    }
    emit.edit(|patch| patch.set_outputs(outputs));
    emit.finish()?.apply(&mut graph)?;
    Ok(graph)
}

/// Writes nodes and asks for weights. A weight that cannot be had is absent, and kept for the error.
pub(crate) struct Write<'e, 'g> {
    pub(crate) emit: &'e Emit<'g>,
    pub(crate) weights: &'e Weights,
    state: RefCell<State>,
}

#[derive(Default)]
struct State {
    missing: Vec<String>,
    wrong: Vec<ShapeMismatch>,
    taken: HashMap<String, usize>,
}

impl<'e, 'g> Write<'e, 'g> {
    /// The result of an operator of `module`, called `/module/Op`, or `/module/Op_1` and so on after the first.
    pub(crate) fn op(&self, module: &str, op: &str, inputs: &[Val<'e, 'g>], attrs: &[(&str, Attr)]) -> Val<'e, 'g> {
        self.op_as("", module, op, inputs, attrs)
    }

    /// `x` converted to elements of `dtype` by a Cast of `module`.
    pub(crate) fn cast(&self, module: &str, x: Val<'e, 'g>, dtype: DType) -> Val<'e, 'g> {
        let to = dtype.onnx_code().map(|code| ("to", code.into()));
        self.op(module, "Cast", &[x], to.as_slice())
    }

    /// The result of an operator of `module`, called `name`.
    pub(crate) fn op_as(
        &self,
        name: &str,
        module: &str,
        op: &str,
        inputs: &[Val<'e, 'g>],
        attrs: &[(&str, Attr)],
    ) -> Val<'e, 'g> {
        let made = self.named(name, module, op, inputs, attrs, 1);
        made.first().copied().unwrap_or_else(|| self.emit.absent())
    }

    /// The `N` results of an operator of `module`.
    pub(crate) fn split<const N: usize>(
        &self,
        module: &str,
        op: &str,
        inputs: &[Val<'e, 'g>],
        attrs: &[(&str, Attr)],
    ) -> [Val<'e, 'g>; N] {
        let made = self.named("", module, op, inputs, attrs, N);
        std::array::from_fn(|i| made.get(i).copied().unwrap_or_else(|| self.emit.absent()))
    }

    fn named(
        &self,
        name: &str,
        module: &str,
        op: &str,
        inputs: &[Val<'e, 'g>],
        attrs: &[(&str, Attr)],
        count: usize,
    ) -> Vec<Val<'e, 'g>> {
        let path = self.unique(format!("{}/{op}", slashed(module)));
        self.emit.set_source(&Arc::from(path.as_str()));
        let name = if name.is_empty() { &path } else { name };
        self.emit.named(name, op, inputs, attrs, count)
    }

    fn unique(&self, path: String) -> String {
        let mut state = self.state.borrow_mut();
        let count = state.taken.entry(path.clone()).or_default();
        *count += 1;
        if *count == 1 { path } else { format!("{path}_{}", *count - 1) }
    }

    /// The weight `name`, stored with the dimensions `dims`.
    pub(crate) fn weight(&self, name: &str, dims: &[usize], order: Order) -> Val<'e, 'g> {
        match self.weights.tensor(name, dims, order) {
            Ok(tensor) => return self.emit.weight(name, tensor),
            Err(Lack::Missing) => self.state.borrow_mut().missing.push(name.into()),
            Err(Lack::Wrong(mismatch)) => self.state.borrow_mut().wrong.push(mismatch),
        }
        self.emit.absent()
    }

    /// The table of an embedding.
    pub(crate) fn table(&self, module: &str, rows: usize, width: usize) -> Val<'e, 'g> {
        self.weight(&format!("{module}.weight"), &[rows, width], Order::Stored)
    }

    /// `x W^T + b` of the module; `dims` are input and output width.
    pub(crate) fn linear(&self, module: &str, x: Val<'e, 'g>, dims: (usize, usize)) -> Val<'e, 'g> {
        self.linear_as("", module, x, dims)
    }

    /// [`Write::linear`] with a name for its result.
    pub(crate) fn linear_as(&self, name: &str, module: &str, x: Val<'e, 'g>, dims: (usize, usize)) -> Val<'e, 'g> {
        let product = self.product_as("", module, x, dims, Order::Transposed);
        self.biased(name, module, product, dims.1)
    }

    /// `x W^T` of the module, or `x W` of a weight that is stored as `[in,out]`. An empty name is made up.
    pub(crate) fn product_as(
        &self,
        name: &str,
        module: &str,
        x: Val<'e, 'g>,
        (input, output): (usize, usize),
        order: Order,
    ) -> Val<'e, 'g> {
        let dims = if order == Order::Transposed { [output, input] } else { [input, output] };
        let weight = self.weight(&format!("{module}.weight"), &dims, order);
        self.op_as(name, module, "MatMul", &[x, weight], &[])
    }

    /// `x + b` of the module. An empty name is made up.
    pub(crate) fn biased(&self, name: &str, module: &str, x: Val<'e, 'g>, width: usize) -> Val<'e, 'g> {
        let bias = self.weight(&format!("{module}.bias"), &[width], Order::Stored);
        self.op_as(name, module, "Add", &[x, bias], &[])
    }

    /// The nonlinearity of a feed-forward part.
    pub(crate) fn activation(&self, module: &str, x: Val<'e, 'g>, activation: Activation) -> Val<'e, 'g> {
        match activation {
            Activation::Gelu => self.op(module, "Gelu", &[x], &[]),
            Activation::GeluTanh => self.op(module, "Gelu", &[x], &[("approximate", "tanh".into())]),
            Activation::Relu => self.op(module, "Relu", &[x], &[]),
            Activation::Silu => self.op(module, "Mul", &[self.op(module, "Sigmoid", &[x], &[]), x], &[]),
        }
    }

    /// The layer normalisation of the module over the last axis. An empty name is made up.
    pub(crate) fn norm_as(&self, name: &str, module: &str, x: Val<'e, 'g>, width: usize, epsilon: f32) -> Val<'e, 'g> {
        let scale = self.weight(&format!("{module}.weight"), &[width], Order::Stored);
        let bias = self.weight(&format!("{module}.bias"), &[width], Order::Stored);
        let attrs: [(&str, Attr); 2] = [("axis", (-1i64).into()), ("epsilon", epsilon.into())];
        self.op_as(name, module, "LayerNormalization", &[x, scale, bias], &attrs)
    }

    /// The root mean square normalisation of the module over the last axis: the operators, in the order in which
    /// ONNX Runtime's optimizer looks for them.
    pub(crate) fn rms_norm(&self, module: &str, x: Val<'e, 'g>, width: usize, epsilon: f32) -> Val<'e, 'g> {
        self.rms_norm_as("", module, x, width, epsilon)
    }

    /// [`Write::rms_norm`] with a name for its result.
    pub(crate) fn rms_norm_as(
        &self,
        name: &str,
        module: &str,
        x: Val<'e, 'g>,
        width: usize,
        epsilon: f32,
    ) -> Val<'e, 'g> {
        let op = |op, inputs: &[Val<'e, 'g>]| self.op(module, op, inputs, &[]);
        let scalar = |x: f64| self.emit.scalar(x, DType::F32);
        let square = op("Pow", &[x, scalar(2.0)]);
        let mean = op("ReduceMean", &[square, self.emit.ints(&[-1])]);
        let root = op("Sqrt", &[op("Add", &[mean, scalar(f64::from(epsilon))])]);
        let scale = self.weight(&format!("{module}.weight"), &[width], Order::Stored);
        self.op_as(name, module, "Mul", &[op("Div", &[x, root]), scale], &[])
    }
}

/// The module that `module` is a part of.
pub(crate) fn parent(module: &str) -> &str {
    module.rsplit_once('.').map_or(module, |(parent, _)| parent)
}

/// `bert.encoder.layer.0.output` as `/bert/encoder/layer.0/output`: a number stays with what it counts.
fn slashed(module: &str) -> String {
    let parts = module.split('.').map(|part| {
        let counts = part.starts_with(|c: char| c.is_ascii_digit());
        format!("{}{part}", if counts { '.' } else { '/' })
    });
    parts.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_module_reads_as_a_path() {
        assert_eq!(slashed("bert.encoder.layer.10.output"), "/bert/encoder/layer.10/output");
        assert_eq!(slashed("logits"), "/logits");
    }
}
