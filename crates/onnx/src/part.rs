//! The parts of a model's file by name: which field is what, and which of several it is.

use crate::field_number::*;
use crate::wire::Field;
use std::fmt;

/// What a field of a model's file is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Part {
    /// A node of the graph.
    Node,
    /// An initializer, dense or sparse, of the graph.
    Weight,
    /// An initializer called like an input: the value that the input has where none is given.
    InputDefault,
    /// An input of the graph.
    Input,
    /// An output of the graph.
    Output,
    /// A type of an inner value.
    ValueInfo,
    /// A function of the model.
    Function,
    /// A key-value pair of the model or of the graph.
    Metadata,
    /// An import of an operator set.
    Opset,
    /// A further field for the graph, which some readers take for the whole graph.
    Graph,
    /// A field of another kind, known to ONNX or not.
    Field,
    /// Bytes that are no field.
    Unreadable,
}

impl fmt::Display for Part {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Part::Node => "node",
            Part::Weight => "weight",
            Part::InputDefault => "default of the input",
            Part::Input => "input",
            Part::Output => "output",
            Part::ValueInfo => "type of the value",
            Part::Function => "function",
            Part::Metadata => "metadata",
            Part::Opset => "operator set",
            Part::Graph => "second graph field",
            Part::Field => "field",
            Part::Unreadable => "unreadable bytes",
        })
    }
}

/// Where a field stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Level {
    Model,
    Graph,
}

/// A field, or the bytes behind the last one that can be read.
#[derive(Debug, Clone)]
pub(crate) enum Piece<'a> {
    Field(Field<'a>),
    Unreadable(&'a [u8]),
}

/// What a piece is, and what sets it apart from others of its kind: a name, or nothing where there is one of the kind.
pub(crate) type Identity = (Part, String);

impl<'a> Piece<'a> {
    pub(crate) fn written(&self) -> &'a [u8] {
        match self {
            Piece::Field(field) => field.written(),
            Piece::Unreadable(bytes) => bytes,
        }
    }

    /// Bytes of its content.
    pub(crate) fn content(&self) -> usize {
        match self {
            Piece::Field(field) => field.payload.len(),
            Piece::Unreadable(bytes) => bytes.len(),
        }
    }

    pub(crate) fn is(&self, number: u32) -> bool {
        matches!(self, Piece::Field(field) if field.number == number)
    }

    pub(crate) fn identity(&self, level: Level) -> Identity {
        let Piece::Field(field) = self else { return (Part::Unreadable, String::new()) };
        // What cannot be read has no name.
        let text = |number| field.find_text(number).unwrap_or_default();
        match (level, field.number) {
            (Level::Graph, GRAPH_NODE) => (Part::Node, first_named(text(NODE_NAME), || text(NODE_OUTPUT))),
            (Level::Graph, GRAPH_INITIALIZER) => (Part::Weight, text(TENSOR_NAME)),
            (Level::Graph, GRAPH_SPARSE_INITIALIZER) => {
                let values = field.find(SPARSE_VALUES).ok().flatten();
                (Part::Weight, values.and_then(|v| v.find_text(TENSOR_NAME).ok()).unwrap_or_default())
            }
            (Level::Graph, GRAPH_INPUT) => (Part::Input, text(VALUE_NAME)),
            (Level::Graph, GRAPH_OUTPUT) => (Part::Output, text(VALUE_NAME)),
            (Level::Graph, GRAPH_VALUE_INFO) => (Part::ValueInfo, text(VALUE_NAME)),
            (Level::Graph, GRAPH_METADATA) | (Level::Model, MODEL_METADATA) => (Part::Metadata, text(ENTRY_KEY)),
            (Level::Model, MODEL_OPSET) => (Part::Opset, first_named(text(OPSET_DOMAIN), || "ai.onnx".into())),
            (Level::Model, MODEL_FUNCTION) => {
                let name = [text(FUNCTION_DOMAIN), text(FUNCTION_NAME), text(FUNCTION_OVERLOAD)];
                (Part::Function, name.into_iter().filter(|n| !n.is_empty()).collect::<Vec<_>>().join("."))
            }
            (Level::Model, MODEL_GRAPH) => (Part::Graph, String::new()),
            (level, number) => (Part::Field, field_name(level, number)),
        }
    }
}

fn first_named(name: String, other: impl FnOnce() -> String) -> String {
    if name.is_empty() { other() } else { name }
}

fn field_name(level: Level, number: u32) -> String {
    let of = if level == Level::Model { "the model" } else { "the graph" };
    let known = match (level, number) {
        (Level::Model, 1) => "ir_version",
        (Level::Model, 2) => "producer_name",
        (Level::Model, 3) => "producer_version",
        (Level::Model, 4) => "domain",
        (Level::Model, 5) => "model_version",
        (Level::Model, 6) | (Level::Graph, 10) => "doc_string",
        (Level::Model, 20) => "training_info",
        (Level::Model, 26) => "configuration",
        (Level::Graph, 2) => "name",
        (Level::Graph, 14) => "quantization_annotation",
        _ => return format!("{number} of {of}"),
    };
    format!("{known} of {of}")
}
