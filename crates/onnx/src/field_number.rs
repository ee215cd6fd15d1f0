//! Numbers of the fields of onnx.proto that are read and written by [`crate::wire`].
#![allow(missing_docs)]

pub const MODEL_GRAPH: u32 = 7;

pub const GRAPH_NODE: u32 = 1;
pub const GRAPH_INITIALIZER: u32 = 5;
pub const GRAPH_INPUT: u32 = 11;
pub const GRAPH_OUTPUT: u32 = 12;

pub const NODE_OUTPUT: u32 = 2;
pub const NODE_NAME: u32 = 3;
pub const NODE_OP_TYPE: u32 = 4;
pub const NODE_ATTRIBUTE: u32 = 5;

pub const ATTRIBUTE_NAME: u32 = 1;
pub const ATTRIBUTE_STRING: u32 = 4;
pub const ATTRIBUTE_TENSOR: u32 = 5;
pub const ATTRIBUTE_TYPE: u32 = 20;

pub const TENSOR_DIMS: u32 = 1;
pub const TENSOR_DATA_TYPE: u32 = 2;
pub const TENSOR_NAME: u32 = 8;
pub const TENSOR_RAW_DATA: u32 = 9;
pub const TENSOR_EXTERNAL_DATA: u32 = 13;
pub const TENSOR_DATA_LOCATION: u32 = 14;
/// Every field of a `TensorProto` that holds elements or says where they are.
pub const TENSOR_ELEMENTS: [u32; 9] = [4, 5, 6, 7, TENSOR_RAW_DATA, 10, 11, TENSOR_EXTERNAL_DATA, TENSOR_DATA_LOCATION];

pub const MODEL_OPSET: u32 = 8;
pub const MODEL_METADATA: u32 = 14;
pub const MODEL_FUNCTION: u32 = 25;
pub const GRAPH_VALUE_INFO: u32 = 13;
pub const GRAPH_SPARSE_INITIALIZER: u32 = 15;
pub const GRAPH_METADATA: u32 = 16;
pub const SPARSE_VALUES: u32 = 1;
pub const VALUE_NAME: u32 = 1;
pub const ENTRY_KEY: u32 = 1;
pub const OPSET_DOMAIN: u32 = 1;
pub const FUNCTION_NAME: u32 = 1;
pub const FUNCTION_DOMAIN: u32 = 10;
pub const FUNCTION_OVERLOAD: u32 = 13;
