//! ONNX graphs built from a folder with a `config.json` and a `model.safetensors`, as Hugging Face publishes models.
//!
//! [`build`] reads both, picks the builder of the configuration's `model_type` and writes an opset 20 graph in f32. Weights
//! keep their names; those that a product reads are transposed from `[out,in]` to `[in,out]`, all others are ranges
//! of the mapped file. The crate knows no `.onnx` file, no pass and no runtime.
//!
//! ```
//! use lorac_models::{ModelError, build, model_types};
//! assert!(model_types().any(|name| name == "bert"));
//! let wrong = build("no/such/folder".as_ref()).err();
//! assert!(matches!(wrong, Some(ModelError::Read { .. })));
//! ```

mod config;
mod encoder;
mod error;
mod registry;
mod weights;
mod write;

pub use config::{Activation, Config};
pub use error::{Fault, Misfit, ModelError};
pub use registry::model_types;

use lorac_ir::Graph;
use std::path::Path;

/// A model as a graph, and what is known of it.
#[derive(Clone, Debug)]
pub struct Built {
    /// Inputs `input_ids` and `attention_mask`, for bert also `token_type_ids`, each `i64[batch,sequence]`. Output
    /// `last_hidden_state`: `f32[batch,sequence,hidden]`, or `logits`: `f32[batch,labels]` where the file holds a
    /// sequence classifier.
    pub graph: Graph,
    /// The Hugging Face class whose forward pass this is: `BertModel`, `RobertaForSequenceClassification`, ...
    pub architecture: String,
    /// The configuration that was read.
    pub config: Config,
    /// Width of the hidden states.
    pub hidden: usize,
}

/// The model of `folder`.
///
/// # Errors
/// A file that cannot be read, a model type that is not known, every field of the configuration that does not fit, or
/// every tensor that is missing or misshapen.
pub fn build(folder: &Path) -> Result<Built, ModelError> {
    let file = folder.join("config.json");
    let fields = config::fields(&file)?;
    let builder = registry::builder(&file, &fields)?;
    let config = config::config(&file, &fields)?;
    let weights = weights::open(&folder.join("model.safetensors"))?;
    if config.layers > weights.len() {
        let want = format!("at most {}, as many as there are tensors", weights.len());
        let fault = Fault { field: "num_hidden_layers".into(), want, got: config.layers.to_string() };
        return Err(ModelError::Config { file, faults: vec![fault] });
    }
    builder(config, &weights)
}
