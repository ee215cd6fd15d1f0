//! Writes the data of small weights into the model.
//!
//! ONNX Runtime reads shapes, axes and scalars while it loads a model, and folds small constants. It looks for such
//! data in the model or in its external file, never in bound initializers. Large weights stay out: see `session.rs`.

use crate::manifest::{GRAPH_INITIALIZER, MODEL_GRAPH, TENSOR_NAME};
use crate::wire::{Wire, fields, write_bytes};
use lorac_ir::Tensor;
use std::collections::HashMap;

const RAW_DATA: u64 = 9;
/// Every field of a `TensorProto` that holds data or says where it is.
const DATA: [u64; 9] = [4, 5, 6, 7, RAW_DATA, 10, 11, 13, 14];

/// The model with these tensors as the data of the initializers so called. `None` where it is no model.
pub(crate) fn inline(model: &[u8], tensors: &HashMap<&str, &Tensor>) -> Option<Vec<u8>> {
    let mut out = Vec::with_capacity(model.len());
    for field in fields(model).written() {
        match field? {
            (MODEL_GRAPH, graph, _) => write_bytes(&mut out, MODEL_GRAPH, &inline_graph(graph, tensors)?),
            (_, _, written) => out.extend_from_slice(written),
        }
    }
    Some(out)
}

fn inline_graph(graph: Wire, tensors: &HashMap<&str, &Tensor>) -> Option<Vec<u8>> {
    let mut out = Vec::new();
    for field in graph.fields().written() {
        let (number, content, written) = field?;
        match tensors.get(name_of(number, content)?.as_str()) {
            Some(tensor) => write_bytes(&mut out, GRAPH_INITIALIZER, &fill(content, tensor)?),
            None => out.extend_from_slice(written),
        }
    }
    Some(out)
}

/// The initializer's name; empty, which no weight is called, for other fields.
fn name_of(number: u64, field: Wire) -> Option<String> {
    let mut name = String::new();
    if number == GRAPH_INITIALIZER {
        for field in field.fields() {
            if let (TENSOR_NAME, text) = field? {
                name = text.text();
            }
        }
    }
    Some(name)
}

fn fill(initializer: Wire, tensor: &Tensor) -> Option<Vec<u8>> {
    let mut out = Vec::new();
    for field in initializer.fields().written() {
        let (number, _, written) = field?;
        if !DATA.contains(&number) {
            out.extend_from_slice(written);
        }
    }
    write_bytes(&mut out, RAW_DATA, tensor.bytes());
    Some(out)
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
            write_bytes(&mut tensor, TENSOR_NAME, name.as_bytes());
            let mut entry = Vec::new();
            write_bytes(&mut entry, 1, b"location");
            write_bytes(&mut entry, 2, b"w.bin");
            write_bytes(&mut tensor, 13, &entry);
            tensor.extend([14 << 3, 1]);
            write_bytes(&mut tensors, GRAPH_INITIALIZER, &tensor);
        }
        let mut model = vec![8, 9];
        write_bytes(&mut model, MODEL_GRAPH, &tensors);
        let tensor = Tensor::vector(&[1.5f32, 2.5]);
        let inlined = inline(&model, &HashMap::from([("small", &tensor)])).expect("a model");
        let manifest = read_manifest(&inlined).expect("a model");
        let locations: Vec<_> = manifest.initializers.iter().map(|i| i.location.as_deref()).collect();
        assert_eq!(locations, [None, Some("w.bin")]);
        assert!(inlined.windows(8).any(|bytes| bytes == tensor.bytes()));
        assert_eq!(inline(&model, &HashMap::new()), Some(model));
        assert_eq!(inline(&[0x3a, 9], &HashMap::new()), None);
    }
}
