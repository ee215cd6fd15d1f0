//! `deploy:`: what comes out.

use super::offer_value;
use crate::deploy::{FORMATS, PeftOptions};
use lorac_config::{Check, Problems};
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};

/// What comes out.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Deploy {
    /// Artifacts beside the manifest, the metrics and the report
    #[schemars(schema_with = "formats_schema")]
    pub formats: Vec<String>,
    /// The proof that folding changed nothing but the targets
    pub verify: Verify,
    /// Whether labels and provenance stand in the model's own file too, as metadata_props behind what the base has; else the
    /// file is the base's but for weights and head
    pub metadata: bool,
    /// The adapter as PEFT has it
    pub peft: PeftOptions,
}

impl Default for Deploy {
    fn default() -> Deploy {
        Deploy {
            formats: ["onnx", "peft", "serving"].map(String::from).to_vec(),
            verify: Verify::default(),
            metadata: false,
            peft: PeftOptions::default(),
        }
    }
}

/// The proof of a fold.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Verify {
    /// Largest difference between outputs of base + adapter and of the deployed model. Default: by the type that the model
    /// computes in and the size of its outputs; 1e-4 where that is f32 and outputs are not large
    pub max_abs_diff: Option<f64>,
    /// Held-out examples to run through both
    pub samples: usize,
}

impl Default for Verify {
    fn default() -> Verify {
        Verify { max_abs_diff: None, samples: 64 }
    }
}

impl Check for Deploy {
    fn check(&self, problems: &mut Problems) {
        for (i, name) in self.formats.iter().enumerate() {
            let known: Vec<&str> = FORMATS.iter().map(|f| f.0).collect();
            if !known.contains(&name.as_str()) {
                let (message, help) = (format!("unknown format `{name}`"), Some(offer_value(name, &known)));
                problems.within("formats", |p| {
                    p.report_with_help(&i.to_string(), "pipeline::unknown_value", message, help);
                });
            }
        }
        problems.within("verify", |p| {
            if let Some(most) = self.verify.max_abs_diff {
                p.range("max_abs_diff", most, 0.0, 1e6);
            }
            p.range("samples", self.verify.samples as f64, 1.0, 1e6);
        });
    }
}

fn formats_schema(_: &mut SchemaGenerator) -> Schema {
    let each = FORMATS.iter().map(|(name, format)| serde_json::json!({ "const": name, "description": format.about() }));
    json_schema!({ "type": "array", "items": { "oneOf": each.collect::<Vec<_>>() } })
}
