//! Writes the data of small weights into the model.
//!
//! ONNX Runtime reads shapes, axes and scalars while it loads a model, and folds small constants. It looks for such
//! data in the model or in its external file, never in bound initializers. Large weights stay out: see `session.rs`.

use lorac_ir::Tensor;
use lorac_onnx::field_number::{GRAPH_INITIALIZER, MODEL_GRAPH, TENSOR_ELEMENTS, TENSOR_NAME, TENSOR_RAW_DATA};
use lorac_onnx::wire::{Field, Malformed, fields, put_bytes};
use std::collections::HashMap;

/// The model with these tensors as the data of the initializers so called.
///
/// # Errors
/// A model with a malformed field.
pub(crate) fn inline(model: &[u8], tensors: &HashMap<&str, &Tensor>) -> Result<Vec<u8>, Malformed> {
    let mut out = Vec::with_capacity(model.len());
    for field in fields(model) {
        let field = field?;
        match field.number {
            MODEL_GRAPH => put_bytes(&mut out, MODEL_GRAPH, &inline_graph(&field, tensors)?),
            _ => out.extend_from_slice(field.written()),
        }
    }
    Ok(out)
}

fn inline_graph(graph: &Field, tensors: &HashMap<&str, &Tensor>) -> Result<Vec<u8>, Malformed> {
    let mut out = Vec::new();
    for field in graph.fields() {
        let field = field?;
        let tensor = match field.number {
            GRAPH_INITIALIZER => tensors.get(field.find_text(TENSOR_NAME)?.as_str()),
            _ => None,
        };
        match tensor {
            Some(tensor) => {
                let mut filled = Vec::new();
                field.put_without(&mut filled, &TENSOR_ELEMENTS)?;
                put_bytes(&mut filled, TENSOR_RAW_DATA, tensor.bytes());
                put_bytes(&mut out, GRAPH_INITIALIZER, &filled);
            }
            None => out.extend_from_slice(field.written()),
        }
    }
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::manifest::read_manifest;

    #[test]
    fn only_the_named_initializer_changes() {
        let mut tensors = Vec::new();
        for name in ["small", "large"] {
            let mut tensor = vec![8, 2, 16, 1];
            put_bytes(&mut tensor, TENSOR_NAME, name.as_bytes());
            let mut entry = Vec::new();
            put_bytes(&mut entry, 1, b"location");
            put_bytes(&mut entry, 2, b"w.bin");
            put_bytes(&mut tensor, 13, &entry);
            tensor.extend([14 << 3, 1]);
            put_bytes(&mut tensors, GRAPH_INITIALIZER, &tensor);
        }
        let mut model = vec![8, 9];
        put_bytes(&mut model, MODEL_GRAPH, &tensors);
        let tensor = Tensor::vector(&[1.5f32, 2.5]);
        let inlined = inline(&model, &HashMap::from([("small", &tensor)])).expect("a model");
        let manifest = read_manifest(&inlined).expect("a model");
        let locations: Vec<_> = manifest.initializers.iter().map(|i| i.location.as_deref()).collect();
        assert_eq!(locations, [None, Some("w.bin")]);
        assert!(inlined.windows(8).any(|bytes| bytes == tensor.bytes()));
        assert_eq!(inline(&model, &HashMap::new()), Ok(model));
        assert_eq!(inline(&[0x3a, 9], &HashMap::new()), Err(Malformed { at: 0 }));
    }
}
