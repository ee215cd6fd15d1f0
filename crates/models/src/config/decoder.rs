//! Configurations of decoders.

use super::Config;
use super::reader::Reader;
use crate::ModelError;
use serde_json::{Map, Value};
use std::f64::consts::PI;
use std::path::Path;

/// What decoders have beside the sizes that every model has.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Decoder {
    pub(crate) config: Config,
    pub(crate) attention: Attention,
    pub(crate) bias: Bias,
    /// Angle a position of each pair of a head's numbers: `f32[head/2]`. Empty where positions are embedded.
    pub(crate) frequencies: Vec<f32>,
    /// The table of the tokens is also the matrix of the scores.
    pub(crate) tied: bool,
}

/// The sizes of a layer's attention.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Attention {
    /// Width of a head.
    pub(crate) head: usize,
    /// Heads of keys and values: each serves as many heads of queries. Divides the heads.
    pub(crate) groups: usize,
    /// Tokens that a token sees, itself among them; all before it where there is no such limit.
    pub(crate) window: Option<usize>,
}

/// Which linear maps have a bias.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Bias {
    /// Those of queries, keys and values.
    pub(crate) inputs: bool,
    /// That of what attention mixed.
    pub(crate) output: bool,
    /// Those of the feed-forward part.
    pub(crate) mlp: bool,
}

/// The configuration of a GPT-2 that `fields` describe.
///
/// # Errors
/// Every field that is missing or does not fit.
pub(crate) fn gpt2(file: &Path, fields: &Map<String, Value>) -> Result<Decoder, ModelError> {
    let mut reader = Reader::new(file, fields);
    let hidden = reader.size(&["n_embd", "hidden_size"], None);
    let config = Config {
        model_type: reader.model_type(),
        architectures: reader.names("architectures"),
        hidden,
        layers: reader.size(&["n_layer", "num_hidden_layers"], None),
        heads: reader.size(&["n_head", "num_attention_heads"], None),
        intermediate: reader.size(&["n_inner"], Some(hidden.saturating_mul(4))),
        vocab: reader.size(&["vocab_size"], None),
        positions: reader.size(&["n_positions", "n_ctx", "max_position_embeddings"], None),
        token_types: 0,
        epsilon: reader.epsilon(&["layer_norm_epsilon"], 1e-5),
        activation: reader.activation(&["activation_function"], "gelu_new"),
        pad: reader.pad("pad_token_id"),
    };
    reader.divides("n_head", config.heads, hidden);
    reader.only("scale_attn_weights", &Value::from(true));
    reader.only("scale_attn_by_inverse_layer_idx", &Value::from(false));
    reader.only("add_cross_attention", &Value::from(false));
    let attention = Attention { head: hidden / config.heads.max(1), groups: config.heads, window: None };
    let bias = Bias { inputs: true, output: true, mlp: true };
    let tied = reader.flag("tie_word_embeddings", true);
    reader.finish(Decoder { config, attention, bias, frequencies: Vec::new(), tied })
}

/// The configuration of a model of the LLaMA family that `fields` describe.
///
/// # Errors
/// Every field that is missing or does not fit.
pub(crate) fn llama(file: &Path, fields: &Map<String, Value>) -> Result<Decoder, ModelError> {
    let mut reader = Reader::new(file, fields);
    let config = Config {
        model_type: reader.model_type(),
        architectures: reader.names("architectures"),
        hidden: reader.size(&["hidden_size"], None),
        layers: reader.size(&["num_hidden_layers"], None),
        heads: reader.size(&["num_attention_heads"], None),
        intermediate: reader.size(&["intermediate_size"], None),
        vocab: reader.size(&["vocab_size"], None),
        positions: reader.size(&["max_position_embeddings"], Some(2048)),
        token_types: 0,
        epsilon: reader.epsilon(&["rms_norm_eps"], 1e-6),
        activation: reader.activation(&["hidden_act"], "silu"),
        pad: reader.pad("pad_token_id"),
    };
    let groups = reader.size(&["num_key_value_heads"], Some(config.heads));
    let given = reader.get(&["head_dim"]).is_some();
    let head = reader.size(&["head_dim"], Some(config.hidden / config.heads.max(1)));
    if !given {
        reader.divides("num_attention_heads", config.heads, config.hidden);
    }
    reader.divides("num_key_value_heads", groups, config.heads);
    if !head.is_multiple_of(2) {
        reader.fault("head_dim", "an even number", head);
    }
    let frequencies = frequencies(&mut reader, head);
    let bias = match config.model_type.as_str() {
        "qwen2" => Bias { inputs: true, output: false, mlp: false },
        "mistral" => Bias { inputs: false, output: false, mlp: false },
        _ => {
            let attention = reader.flag("attention_bias", false);
            Bias { inputs: attention, output: attention, mlp: reader.flag("mlp_bias", false) }
        }
    };
    let window = match config.model_type.as_str() {
        "mistral" if reader.get(&["sliding_window"]).is_some() => Some(reader.size(&["sliding_window"], None)),
        _ => None,
    };
    reader.only("use_sliding_window", &Value::from(false));
    let tied = reader.flag("tie_word_embeddings", false);
    reader.finish(Decoder { config, attention: Attention { head, groups, window }, bias, frequencies, tied })
}

/// The angle a position of each pair: `theta^(-2i/head)`, stretched as the configuration says
/// ([RoFormer](https://arxiv.org/abs/2104.09864), section 3.4.2).
fn frequencies(reader: &mut Reader, head: usize) -> Vec<f32> {
    let positive = |x: f64| x > 0.0;
    let outer = reader.number(&["rope_theta"], 10_000.0, "a number above zero", positive);
    let nested = reader.inner(&["rope_parameters", "rope_scaling"]);
    let (theta, stretch) = match nested {
        None => (outer, Stretch::None),
        Some(mut inner) => {
            let theta = inner.number(&["rope_theta"], outer, "a number above zero", positive);
            let stretch = stretch(&mut inner);
            inner.only("partial_rotary_factor", &Value::from(1.0));
            reader.take(inner);
            (theta, stretch)
        }
    };
    reader.only("partial_rotary_factor", &Value::from(1.0));
    // A head wider than any tensor would be refused later, by the tensors.
    let pairs = (head / 2).min(1 << 16);
    let plain = (0..pairs).map(|i| theta.powf(-2.0 * i as f64 / head.max(1) as f64));
    plain.map(|f| stretch.of(f) as f32).collect()
}

/// How angles are changed for texts longer than those of the first training.
enum Stretch {
    None,
    Linear {
        factor: f64,
    },
    /// The blend of Llama 3.1, by wave length.
    Llama3 {
        factor: f64,
        low: f64,
        high: f64,
        original: f64,
    },
}

impl Stretch {
    fn of(&self, frequency: f64) -> f64 {
        match self {
            Stretch::None => frequency,
            Stretch::Linear { factor } => frequency / factor,
            Stretch::Llama3 { factor, low, high, original } => {
                // 0 for waves too long to have been seen whole, 1 for the short ones.
                let turns = original * frequency / (2.0 * PI);
                let share = ((turns - low) / (high - low)).clamp(0.0, 1.0);
                (1.0 - share) * frequency / factor + share * frequency
            }
        }
    }
}

fn stretch(reader: &mut Reader) -> Stretch {
    let Some((name, kind)) = reader.get(&["rope_type", "type"]) else { return Stretch::None };
    let want = "a number above zero";
    let mut number = |name: &str| match reader.get(&[name]) {
        Some(_) => reader.number(&[name], 1.0, want, |x| x > 0.0),
        None => {
            reader.fault(name, want, "absent");
            1.0
        }
    };
    match kind.as_str() {
        Some("default") => Stretch::None,
        Some("linear") => Stretch::Linear { factor: number("factor") },
        Some("llama3") => {
            let (factor, low, high) = (number("factor"), number("low_freq_factor"), number("high_freq_factor"));
            let original = number("original_max_position_embeddings");
            if high <= low {
                reader.fault("high_freq_factor", "above low_freq_factor", high);
            }
            Stretch::Llama3 { factor, low, high, original }
        }
        _ => {
            reader.fault(name, "one of default, linear, llama3", kind);
            Stretch::None
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Activation;
    use serde_json::json;

    fn read(changes: Value) -> Result<Decoder, ModelError> {
        let mut fields = json!({"model_type": "llama", "hidden_size": 32, "num_hidden_layers": 2,
            "num_attention_heads": 4, "intermediate_size": 64, "vocab_size": 97});
        let fields = fields.as_object_mut().expect("an object");
        changes.as_object().into_iter().flatten().for_each(|(k, v)| drop(fields.insert(k.clone(), v.clone())));
        llama(Path::new("config.json"), fields)
    }

    fn refused(changes: Value) -> Vec<String> {
        let Err(ModelError::Config { faults, .. }) = read(changes) else { panic!("accepted") };
        faults.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn angles_as_both_generations_of_files_name_them() {
        let plain = read(json!({})).expect("reads").frequencies;
        assert_eq!(plain.len(), 4);
        assert_eq!((plain[0], plain[2]), (1.0, 0.01));
        let old = json!({"rope_theta": 5e5, "rope_scaling": {"type": "linear", "factor": 2.0}});
        let new = json!({"rope_parameters": {"rope_type": "linear", "factor": 2.0, "rope_theta": 5e5}});
        let old = read(old).expect("reads");
        assert_eq!(old, read(new).expect("reads"));
        assert_eq!(old.frequencies[2], (5e5f64.powf(-0.5) / 2.0) as f32);
    }

    #[test]
    fn llama3_keeps_short_waves_and_stretches_long_ones() {
        let blend = json!({"head_dim": 64, "rope_scaling": {"rope_type": "llama3", "factor": 8.0,
            "low_freq_factor": 1.0, "high_freq_factor": 4.0, "original_max_position_embeddings": 8192}});
        let (blend, plain) = (read(blend).expect("reads"), read(json!({"head_dim": 64})).expect("reads"));
        let ratio: Vec<f32> = plain.frequencies.iter().zip(&blend.frequencies).map(|(p, b)| p / b).collect();
        assert_eq!(ratio[0], 1.0);
        assert!((ratio[31] - 1.0).abs() < 1e-6 || (ratio[31] - 8.0).abs() < 1e-4);
        assert!(ratio.is_sorted_by(|a, b| a <= &(b * 1.000_01)));
    }

    #[test]
    fn other_computations_are_refused() {
        let yarn = json!({"rope_scaling": {"rope_type": "yarn", "factor": 4.0}});
        assert_eq!(refused(yarn), ["rope_scaling.rope_type is \"yarn\", expected one of default, linear, llama3"]);
        let absent = json!({"rope_scaling": {"rope_type": "linear"}, "num_key_value_heads": 3, "head_dim": 7,
            "attention_bias": 1, "rope_theta": 0});
        let want = [
            "num_key_value_heads is 3, expected a divisor of 4",
            "head_dim is 7, expected an even number",
            "rope_theta is 0, expected a number above zero",
            "rope_scaling.factor is absent, expected a number above zero",
            "attention_bias is 1, expected true or false",
        ];
        assert_eq!(refused(absent), want);
        assert_eq!(refused(json!({"rope_scaling": 3})), ["rope_scaling is 3, expected an object"]);
        let windowed = json!({"model_type": "qwen2", "use_sliding_window": true});
        assert_eq!(refused(windowed), ["use_sliding_window is true, expected false"]);
    }

    #[test]
    fn gpt2_has_its_own_names() {
        let fields = json!({"model_type": "gpt2", "n_embd": 32, "n_layer": 2, "n_head": 4, "n_inner": null,
            "n_positions": 64, "vocab_size": 97, "scale_attn_by_inverse_layer_idx": true});
        let mut fields = fields.as_object().expect("an object").clone();
        let Err(ModelError::Config { faults, .. }) = gpt2(Path::new("c"), &fields) else { panic!("accepted") };
        assert_eq!(faults.len(), 1);
        fields.remove("scale_attn_by_inverse_layer_idx");
        let read = gpt2(Path::new("c"), &fields).expect("reads");
        assert_eq!((read.config.intermediate, read.config.activation), (128, Activation::GeluTanh));
        assert_eq!((read.attention.head, read.tied), (8, true));
    }
}
