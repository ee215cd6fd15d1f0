//! config.json: the base's own with what became of it, or one of what is known.

use crate::module_paths::ModulePaths;
use crate::run::Plan;
use crate::served::{Reads, SECTION};
use lorac_passes::input_limits;
use lorac_train::Prediction;
use serde_json::{Map, Value, json};

/// The configuration of the deployed model, as transformers and optimum read it; what lorac knows is the section `lorac`.
pub(super) fn config(plan: &Plan) -> Map<String, Value> {
    let served = &plan.served;
    let mut config = plan.beside.config.clone().unwrap_or_else(|| known(plan));
    let labels: Vec<String> = match served.predicts {
        Prediction::Values => vec!["LABEL_0".into()],
        _ => served.labels.clone(),
    };
    if let Some(class) = class(&config, served.predicts, served.reads) {
        config.insert("architectures".into(), json!([class]));
    }
    if !labels.is_empty() {
        let numbered = labels.iter().enumerate();
        let names: Map<String, Value> = numbered.clone().map(|(i, name)| (i.to_string(), json!(name))).collect();
        let numbers: Map<String, Value> = numbered.map(|(i, name)| (name.clone(), json!(i))).collect();
        config.insert("num_labels".into(), labels.len().into());
        config.insert("id2label".into(), names.into());
        config.insert("label2id".into(), numbers.into());
    }
    match problem_type(served.predicts) {
        Some(kind) => config.insert("problem_type".into(), kind.into()),
        None => config.remove("problem_type"),
    };
    if served.reads == Reads::Texts && config.get("pad_token_id").is_none_or(Value::is_null) {
        config.insert("pad_token_id".into(), served.pad_id.into());
    }
    config.insert(SECTION.into(), serde_json::to_value(served).unwrap_or_default());
    config
}

/// What transformers calls the kind of a sequence classifier.
fn problem_type(kind: Prediction) -> Option<&'static str> {
    match kind {
        Prediction::Classes => Some("single_label_classification"),
        Prediction::Labels => Some("multi_label_classification"),
        Prediction::Values => Some("regression"),
        Prediction::Tags | Prediction::Tokens | Prediction::Embeddings | Prediction::Masked | Prediction::Loss => None,
    }
}

/// The class whose outputs those of the deployed model are: of the family that the configuration names, with the head of
/// the task. A language model is of the class that it was.
fn class(config: &Map<String, Value>, kind: Prediction, reads: Reads) -> Option<String> {
    let named = config.get("architectures")?.as_array()?.first()?.as_str()?;
    let ends = ["For", "LMHead", "DoubleHeads", "PreTrained", "Model"];
    let family = &named[..ends.iter().filter_map(|end| named.find(end)).min()?];
    let head = match kind {
        Prediction::Classes | Prediction::Labels | Prediction::Values if reads == Reads::Images => {
            "ForImageClassification"
        }
        Prediction::Classes | Prediction::Labels | Prediction::Values => "ForSequenceClassification",
        Prediction::Tags => "ForTokenClassification",
        Prediction::Tokens | Prediction::Embeddings | Prediction::Masked | Prediction::Loss => return None,
    };
    (!family.is_empty()).then(|| format!("{family}{head}"))
}

/// What can be told of a model without a configuration.
fn known(plan: &Plan) -> Map<String, Value> {
    let mut config = Map::new();
    let paths = ModulePaths::new(&plan.model, &plan.readable, plan.kind.clone());
    config.extend(paths.model_type().map(|name| ("model_type".to_string(), json!(name))));
    if let Some(limits) = input_limits(&plan.readable) {
        config.insert("vocab_size".into(), limits.tokens.rows.into());
        let positions = limits.positions.iter().map(|table| table.rows).min();
        config.extend(positions.map(|rows| ("max_position_embeddings".to_string(), json!(rows))));
    }
    config
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_class_is_of_the_family_with_the_head_of_the_task() {
        let of = |named: &str, kind, reads| {
            let config = json!({ "architectures": [named] });
            class(config.as_object().expect("an object"), kind, reads)
        };
        let class = |named: &str, kind| of(named, kind, Reads::Texts);
        let images = of("ViTModel", Prediction::Classes, Reads::Images);
        assert_eq!(images.as_deref(), Some("ViTForImageClassification"));
        for (named, want) in [
            ("BertModel", "BertForSequenceClassification"),
            ("DistilBertForMaskedLM", "DistilBertForSequenceClassification"),
            ("GPT2LMHeadModel", "GPT2ForSequenceClassification"),
            ("XLMRobertaForTokenClassification", "XLMRobertaForSequenceClassification"),
        ] {
            assert_eq!(class(named, Prediction::Classes).as_deref(), Some(want));
        }
        assert_eq!(class("BertModel", Prediction::Tags).as_deref(), Some("BertForTokenClassification"));
        assert_eq!((class("LlamaForCausalLM", Prediction::Tokens), class("Model", Prediction::Values)), (None, None));
    }
}
