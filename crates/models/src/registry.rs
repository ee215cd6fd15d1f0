//! The model types that are known: one row each. Types of the BERT family differ by what their [`Layout`] says.

use crate::encoder::{Head, Layout, Positions, TokenTypes};
use crate::{Fault, ModelError};
use lorac_config::nearest;
use serde_json::{Map, Value};
use std::path::Path;

/// What builds the models of a type.
#[derive(Clone, Copy)]
pub(crate) enum Family {
    Encoder(&'static Layout),
    Gpt2,
    /// The names of its classes begin with this.
    Llama(&'static str),
}

pub(crate) const ARCHITECTURES: &[(&str, Family)] = &[
    ("bert", Family::Encoder(&BERT)),
    ("camembert", Family::Encoder(&CAMEMBERT)),
    ("distilbert", Family::Encoder(&DISTILBERT)),
    ("gpt2", Family::Gpt2),
    ("llama", Family::Llama("Llama")),
    ("mistral", Family::Llama("Mistral")),
    ("qwen2", Family::Llama("Qwen2")),
    ("roberta", Family::Encoder(&ROBERTA)),
    ("xlm-roberta", Family::Encoder(&XLM_ROBERTA)),
];

const BERT: Layout = Layout {
    class: "Bert",
    prefix: "bert",
    layers: "encoder.layer",
    attention: "attention.self",
    query: "attention.self.query",
    key: "attention.self.key",
    value: "attention.self.value",
    attention_out: "attention.output.dense",
    attention_norm: "attention.output.LayerNorm",
    up: "intermediate.dense",
    down: "output.dense",
    norm: "output.LayerNorm",
    positions: Positions::FromZero,
    token_types: TokenTypes::Input,
    head: Head { in_base: true, dense: "pooler.dense", activation: "Tanh", out: "classifier" },
};

const ROBERTA: Layout = Layout {
    class: "Roberta",
    prefix: "roberta",
    positions: Positions::AfterPad { default: 1 },
    token_types: TokenTypes::First,
    head: Head { in_base: false, dense: "classifier.dense", activation: "Tanh", out: "classifier.out_proj" },
    ..BERT
};

const CAMEMBERT: Layout = Layout { class: "Camembert", ..ROBERTA };

const XLM_ROBERTA: Layout = Layout { class: "XLMRoberta", ..ROBERTA };

const DISTILBERT: Layout = Layout {
    class: "DistilBert",
    prefix: "distilbert",
    layers: "transformer.layer",
    attention: "attention",
    query: "attention.q_lin",
    key: "attention.k_lin",
    value: "attention.v_lin",
    attention_out: "attention.out_lin",
    attention_norm: "sa_layer_norm",
    up: "ffn.lin1",
    down: "ffn.lin2",
    norm: "output_layer_norm",
    positions: Positions::FromZero,
    token_types: TokenTypes::None,
    head: Head { in_base: false, dense: "pre_classifier", activation: "Relu", out: "classifier" },
};

/// The values of `model_type` that [`crate::build`] knows, sorted.
pub fn model_types() -> impl Iterator<Item = &'static str> {
    ARCHITECTURES.iter().map(|(name, _)| *name)
}

/// The family of the model type that `fields` name.
pub(crate) fn family(file: &Path, fields: &Map<String, Value>) -> Result<Family, ModelError> {
    let Some(got) = fields.get("model_type").and_then(Value::as_str) else {
        let got = fields.get("model_type").map_or_else(|| "absent".into(), Value::to_string);
        let want = format!("one of {}", model_types().collect::<Vec<_>>().join(", "));
        let faults = vec![Fault { field: "model_type".into(), want, got }];
        return Err(ModelError::Config { file: file.into(), faults });
    };
    let found = ARCHITECTURES.iter().find(|(name, _)| *name == got);
    found.map(|(_, family)| *family).ok_or_else(|| ModelError::UnknownType {
        file: file.into(),
        got: got.into(),
        nearest: nearest(got, model_types()).into_iter().next(),
        known: model_types().map(str::to_string).collect(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_type_is_named() {
        let fields = Map::from_iter([("model_type".to_string(), Value::from("robberta"))]);
        let Err(wrong) = family(Path::new("config.json"), &fields) else { panic!("known") };
        let want = "config.json: model_type `robberta` is not known, nearest is `roberta`; \
                    known: bert, camembert, distilbert, gpt2, llama, mistral, qwen2, roberta, xlm-roberta";
        assert_eq!(wrong.to_string(), want);
        assert!(nearest("t5", model_types()).is_empty());
        assert!(model_types().is_sorted());
    }
}
