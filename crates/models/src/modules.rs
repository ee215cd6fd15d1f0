//! What the classes of `transformers` call their modules: where the base model lies in classes with a head, how its own
//! modules begin, and which head a sequence classifier of the type has. One row for model types that are alike.

/// The classes of a model type, as far as their modules go.
#[derive(Debug, PartialEq, Eq)]
pub struct Classes {
    /// Values of `model_type` in a `config.json`.
    pub model_types: &'static [&'static str],
    /// Path of the base model in the classes with a head; empty where its modules are the class's own.
    pub base: &'static str,
    /// How paths of modules in the base model begin: `encoder.layer.#`, where `#` is a number.
    pub begins: &'static [&'static str],
    /// Whether linear maps are `Conv1D`, which keep weights as `[in,out]`.
    pub conv1d: bool,
    /// The head of `<Type>ForSequenceClassification`, where it is one of the known ones.
    pub head: Option<ClassHead>,
    /// The modules of a layer of the base model by what they do: `query`, `encoder.layer.#.attention.self.query`.
    layer: &'static [(&'static str, &'static str)],
}

impl Classes {
    /// The module of `<Type>ForTokenClassification` behind its dropout: one linear layer with a bias.
    pub fn token_head(&self) -> &'static str {
        match self.base {
            "model" => "score",
            _ => "classifier",
        }
    }
}

/// The head of a sequence classifier.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ClassHead {
    /// `classifier(tanh(pooler.dense(first token)))`, the pooler in the base model.
    Bert,
    /// `classifier.out_proj(tanh(classifier.dense(first token)))`.
    Roberta,
    /// `classifier(relu(pre_classifier(first token)))`.
    DistilBert,
    /// `score(last token)`, without a bias.
    LastToken,
}

const ENCODER: &[&str] = &["encoder.layer.#", "embeddings", "pooler.dense"];
const LAYERS: &[&str] = &["layers.#", "embed_tokens", "embed_in", "norm", "final_layernorm", "final_layer_norm"];
const BLOCKS: &[&str] = &["h.#", "wte", "wpe", "ln_f", "word_embeddings", "word_embeddings_layernorm"];
const PAIR: &[&str] = &[
    "encoder.layers.#",
    "decoder.layers.#",
    "encoder.layernorm_embedding",
    "decoder.layernorm_embedding",
    "encoder.layer_norm",
    "decoder.layer_norm",
    "shared",
];
const OF_VIT: &[&str] = &["encoder.layer.#", "embeddings", "layernorm", "pooler.dense"];

const fn classes(
    model_types: &'static [&'static str],
    base: &'static str,
    begins: &'static [&'static str],
    head: Option<ClassHead>,
) -> Classes {
    Classes { model_types, base, begins, conv1d: false, head, layer: &[] }
}

const ALL: &[Classes] = &[
    Classes { layer: BERT_LAYER, ..classes(&["bert"], "bert", ENCODER, Some(ClassHead::Bert)) },
    Classes {
        layer: BERT_LAYER,
        ..classes(&["roberta", "camembert", "xlm-roberta"], "roberta", ENCODER, Some(ClassHead::Roberta))
    },
    Classes {
        layer: DISTILBERT_LAYER,
        ..classes(&["distilbert"], "distilbert", &["transformer.layer.#", "embeddings"], Some(ClassHead::DistilBert))
    },
    Classes {
        conv1d: true,
        layer: GPT2_LAYER,
        ..classes(&["gpt2"], "transformer", BLOCKS, Some(ClassHead::LastToken))
    },
    Classes { conv1d: true, ..classes(&["openai-gpt"], "transformer", BLOCKS, None) },
    Classes {
        layer: LLAMA_LAYER,
        ..classes(
            &["llama", "mistral", "qwen2", "qwen3", "gemma", "gemma2", "smollm3"],
            "model",
            LAYERS,
            Some(ClassHead::LastToken),
        )
    },
    classes(&["mixtral", "phi", "phi3", "qwen2_moe", "stablelm"], "model", LAYERS, Some(ClassHead::LastToken)),
    classes(&["cohere", "granite", "modernbert", "olmo", "olmo2", "starcoder2"], "model", LAYERS, None),
    classes(&["bloom", "codegen", "falcon", "gpt_bigcode", "gpt_neo", "gptj"], "transformer", BLOCKS, None),
    classes(&["gpt_neox"], "gpt_neox", LAYERS, None),
    classes(&["opt"], "model", &["decoder.layers.#", "decoder.embed_tokens", "decoder.final_layer_norm"], None),
    classes(&["bart", "marian", "mbart", "m2m_100", "pegasus"], "model", PAIR, None),
    classes(
        &["t5", "mt5"],
        "",
        &["encoder.block.#", "decoder.block.#", "encoder.final_layer_norm", "decoder.final_layer_norm", "shared"],
        None,
    ),
    classes(&["albert"], "albert", &["encoder.albert_layer_groups.#", "embeddings", "pooler"], None),
    classes(&["big_bird"], "bert", ENCODER, None),
    classes(&["deberta", "deberta-v2"], "deberta", ENCODER, None),
    classes(&["electra"], "electra", ENCODER, None),
    classes(&["longformer"], "longformer", ENCODER, None),
    classes(&["mpnet"], "mpnet", ENCODER, None),
    classes(&["vit"], "vit", OF_VIT, None),
];

const BERT_LAYER: &[(&str, &str)] = &[
    ("query", "encoder.layer.#.attention.self.query"),
    ("key", "encoder.layer.#.attention.self.key"),
    ("value", "encoder.layer.#.attention.self.value"),
    ("output", "encoder.layer.#.attention.output.dense"),
    ("up", "encoder.layer.#.intermediate.dense"),
    ("down", "encoder.layer.#.output.dense"),
];

const DISTILBERT_LAYER: &[(&str, &str)] = &[
    ("query", "transformer.layer.#.attention.q_lin"),
    ("key", "transformer.layer.#.attention.k_lin"),
    ("value", "transformer.layer.#.attention.v_lin"),
    ("output", "transformer.layer.#.attention.out_lin"),
    ("up", "transformer.layer.#.ffn.lin1"),
    ("down", "transformer.layer.#.ffn.lin2"),
];

const GPT2_LAYER: &[(&str, &str)] = &[
    ("query", "h.#.attn.c_attn"),
    ("key", "h.#.attn.c_attn"),
    ("value", "h.#.attn.c_attn"),
    ("output", "h.#.attn.c_proj"),
    ("up", "h.#.mlp.c_fc"),
    ("down", "h.#.mlp.c_proj"),
];

const LLAMA_LAYER: &[(&str, &str)] = &[
    ("query", "layers.#.self_attn.q_proj"),
    ("key", "layers.#.self_attn.k_proj"),
    ("value", "layers.#.self_attn.v_proj"),
    ("output", "layers.#.self_attn.o_proj"),
    ("gate", "layers.#.mlp.gate_proj"),
    ("up", "layers.#.mlp.up_proj"),
    ("down", "layers.#.mlp.down_proj"),
];

/// Modules of classes with a head that are not the base model's.
const HEADS: &[&str] = &[
    "classifier",
    "cls",
    "embed_out",
    "lm_head",
    "pre_classifier",
    "qa_outputs",
    "score",
    "vocab_projector",
    "vocab_transform",
];

/// Types without a known head of [`ClassHead::LastToken`] whose tokens see those before them alone.
const DECODERS: &[&str] = &[
    "bloom",
    "codegen",
    "cohere",
    "falcon",
    "gpt_bigcode",
    "gpt_neo",
    "gpt_neox",
    "gptj",
    "granite",
    "olmo",
    "olmo2",
    "openai-gpt",
    "opt",
    "starcoder2",
];

/// Whether tokens of models of a type see those before them alone.
pub(crate) fn is_decoder(model_type: &str) -> bool {
    let head = classes_of(model_type).and_then(|classes| classes.head);
    head == Some(ClassHead::LastToken) || DECODERS.contains(&model_type)
}

/// What is known of the classes of a model type; `xlm_roberta` is `xlm-roberta`.
pub fn classes_of(model_type: &str) -> Option<&'static Classes> {
    let plain = |name: &str| name.replace('-', "_");
    ALL.iter().find(|c| c.model_types.iter().any(|t| plain(t) == plain(model_type)))
}

/// Where a module lies.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Place {
    /// In the base model, at this path: `encoder.layer.0.attention.self.query`.
    Base(String),
    /// In a head, at this path of the class: `lm_head`.
    Head(String),
}

impl Classes {
    /// The module of a layer that does something, by its path in the base model.
    pub fn module(&self, role: &str, layer: usize) -> Option<String> {
        let (_, path) = self.layer.iter().find(|(name, _)| *name == role)?;
        Some(path.replace('#', &layer.to_string()))
    }

    /// Where a module lies by its path in any module around one of the classes: what is before the class is dropped.
    pub fn place(&self, path: &str) -> Option<Place> {
        let parts: Vec<&str> = path.split('.').collect();
        let at = |i: usize| self.begins.iter().any(|begin| fits(begin, &parts[i..]));
        if let Some(i) = (0..parts.len()).find(|i| at(*i)) {
            return Some(Place::Base(parts[i..].join(".")));
        }
        let head = parts.iter().position(|part| HEADS.contains(part))?;
        Some(Place::Head(parts[head..].join(".")))
    }

    /// Whether a path names the base model before one of its modules: `m.bert.encoder.layer.0...`.
    fn named_in(&self, path: &str) -> bool {
        let parts: Vec<&str> = path.split('.').collect();
        let starts = |i: usize| self.begins.iter().any(|begin| fits(begin, &parts[i..]));
        (1..parts.len()).any(|i| parts[i - 1] == self.base && starts(i))
    }
}

/// The classes that paths of modules are of, where the model's type is not known: those whose base model they name. The
/// types may be several; what they call their base model is the same.
pub fn classes_by_paths<'a>(mut paths: impl Iterator<Item = &'a str>) -> Option<&'static Classes> {
    paths.find_map(|path| ALL.iter().find(|c| !c.base.is_empty() && c.named_in(path)))
}

/// The path in a base model of a module whose type is not known, where all the types that it may be of agree.
pub fn base_path(path: &str) -> Option<String> {
    let mut places = ALL.iter().filter_map(|c| match c.place(path)? {
        Place::Base(base) => Some(base),
        Place::Head(_) => None,
    });
    let first = places.next()?;
    places.all(|other| other == first).then_some(first)
}

fn fits(begin: &str, parts: &[&str]) -> bool {
    let begin = begin.split('.');
    let number = |part: &str| !part.is_empty() && part.bytes().all(|b| b.is_ascii_digit());
    let mut parts = parts.iter();
    begin
        .into_iter()
        .all(|want| parts.next().is_some_and(|part| if want == "#" { number(part) } else { *part == want }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_module_is_found_behind_any_wrapper() {
        let place = |kind: &str, path: &str| classes_of(kind).expect("known").place(path);
        let base = |path: &str| Some(Place::Base(path.into()));
        for wrapper in ["", "m.", "bert.", "encoder.", "model.bert."] {
            let path = format!("{wrapper}encoder.layer.11.attention.self.query");
            assert_eq!(place("bert", &path), base("encoder.layer.11.attention.self.query"), "{path}");
        }
        assert_eq!(place("distilbert", "m.distilbert.transformer.layer.0.attention.q_lin"), {
            base("transformer.layer.0.attention.q_lin")
        });
        assert_eq!(place("gpt2", "transformer.h.0.attn.c_attn"), base("h.0.attn.c_attn"));
        assert_eq!(place("llama", "m.model.layers.3.mlp.up_proj"), base("layers.3.mlp.up_proj"));
        assert_eq!(place("llama", "m.model.norm"), base("norm"));
        assert_eq!(place("gpt2", "transformer.ln_f"), base("ln_f"));
        assert_eq!(place("llama", "m.lm_head"), Some(Place::Head("lm_head".into())));
        assert_eq!(place("llama", "vision.blocks.0.fc"), None);
    }

    #[test]
    fn types_are_found_by_name_and_by_paths() {
        assert_eq!(classes_of("xlm_roberta").map(|c| c.base), Some("roberta"));
        assert!(classes_of("no").is_none());
        let by = |paths: &[&str]| classes_by_paths(paths.iter().copied()).map(|c| c.base);
        assert_eq!(by(&["score", "m.roberta.encoder.layer.0.output.dense"]), Some("roberta"));
        assert_eq!(by(&["model.layers.0.mlp.gate_proj"]), Some("model"));
        assert_eq!(by(&["encoder.layer.0.output.dense"]), None);
        assert_eq!(base_path("m.encoder.layer.0.output.dense").as_deref(), Some("encoder.layer.0.output.dense"));
        assert_eq!(base_path("decoder.layers.0.fc1").as_deref(), None);
    }

    #[test]
    fn every_type_that_can_be_built_has_its_classes() {
        for model_type in crate::model_types() {
            let classes = classes_of(model_type).unwrap_or_else(|| panic!("{model_type}"));
            assert!(classes.head.is_some(), "{model_type}");
            let query = classes.module("query", 3).unwrap_or_else(|| panic!("{model_type}"));
            assert_eq!(classes.place(&query), Some(Place::Base(query)), "{model_type}");
        }
    }
}
