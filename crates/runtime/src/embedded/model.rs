//! Parses a model once, with its weights shared by everything that is compiled from it.

use super::NAME;
use super::convert::{copy_in, datum_type, refused};
use crate::RuntimeError;
use crate::ports::Ports;
use lorac_ir::Tensor;
use std::collections::HashMap;
use std::sync::Arc;
use tract_onnx::pb;
use tract_onnx::prelude::*;
use tract_onnx::tract_hir::internal::Framework;
use tract_onnx::tract_hir::ops::konst::Const;
use tract_onnx::tract_hir::ops::unimpl::UnimplementedOp;

/// Parses a model and binds its weights.
///
/// A weight is declared as an input, so that tract reads no data, and its node is then replaced by a constant over our
/// one copy. Patching the data into the message instead would hold every weight twice while parsing.
pub(super) fn parse(
    model: &[u8],
    weights: Vec<(String, Tensor)>,
    ports: &Ports,
) -> Result<InferenceModel, RuntimeError> {
    // Declared shapes would contradict the concrete ones that plans are made for.
    let framework = tract_onnx::onnx().with_ignore_value_info(true).with_ignore_output_shapes(true);
    let mut proto = framework.proto_model_for_read(&mut &*model).map_err(refused)?;
    if let Some(graph) = proto.graph.as_mut() {
        let bound: HashMap<&str, &Tensor> = weights.iter().map(|(name, t)| (name.as_str(), t)).collect();
        graph.initializer.retain(|i| !bound.contains_key(i.name.as_str()));
        graph.input.retain(|i| !bound.contains_key(i.name.as_str()));
        for initializer in ports.manifest.initializers.iter().filter(|i| bound.contains_key(i.name.as_str())) {
            graph.input.push(declare(&initializer.name));
        }
    }
    let parsed = framework.parse(&proto, None).map_err(refused)?;
    if !parsed.unresolved_inputs.is_empty() {
        let names = parsed.unresolved_inputs.join(", ");
        return Err(refused(TractError::msg(format!("nothing computes {names}"))));
    }
    let mut model = parsed.model;
    all_known(&model)?;
    for (name, tensor) in weights {
        let outlet = parsed.outlets_by_name.get(&name).copied();
        let outlet =
            outlet.ok_or_else(|| RuntimeError::Weight { name: name.clone(), why: "tract dropped it".into() })?;
        let constant = Arc::new(copy_in(&name, &tensor)?);
        let fact = InferenceFact::from(TypedFact::try_from(constant.clone()).map_err(refused)?);
        let op = Const::new(constant).map_err(refused)?;
        model.inputs.retain(|input| *input != outlet);
        model.node_mut(outlet.node).op = Box::new(op);
        model.set_outlet_fact(outlet, fact).map_err(refused)?;
    }
    Ok(model)
}

/// Names every operator that tract has no implementation of; it would say so only when a shape is first run.
fn all_known(model: &InferenceModel) -> Result<(), RuntimeError> {
    let unknown: Vec<_> = model.nodes().iter().filter(|node| node.op_is::<UnimplementedOp>()).collect();
    let Some(first) = unknown.first() else { return Ok(()) };
    let all: Vec<String> = unknown.iter().map(|node| format!("{} (node `{}`)", node.op.name(), node.name)).collect();
    Err(RuntimeError::Compile {
        backend: NAME.to_string(),
        node: Some(first.name.clone()),
        why: format!("operators without an implementation: {}", all.join(", ")),
    })
}

/// An input of unknown shape; its fact is set when the constant is.
fn declare(name: &str) -> pb::ValueInfoProto {
    let tensor = pb::type_proto::Tensor { elem_type: pb::tensor_proto::DataType::Float as i32, shape: None };
    let kind = pb::TypeProto { value: Some(pb::type_proto::Value::TensorType(tensor)), ..Default::default() };
    pb::ValueInfoProto { name: name.to_string(), r#type: Some(kind), ..Default::default() }
}

/// The model with the type and shape of every input given.
pub(super) fn specialize(
    model: &InferenceModel,
    inputs: &[(String, lorac_ir::DType, Vec<usize>)],
) -> Result<InferenceModel, RuntimeError> {
    let mut model = model.clone();
    for (at, (name, dtype, dims)) in inputs.iter().enumerate() {
        let fact = InferenceFact::dt_shape(datum_type(name, *dtype)?, dims);
        model.set_input_fact(at, fact).map_err(refused)?;
    }
    Ok(model)
}
