//! What makes a folder of the deployable model one that serves: the tokenizer, a config.json and a model card; of a model of
//! images, config.json, preprocessor_config.json and a model card.

mod answering;
mod card;
mod config;
mod feed;
mod images;
mod python;
mod tokenizer;

use super::{DeployFormat, Trained, Written};
use crate::arrays::CONFIG;
use crate::error::Error;
use crate::output::{OutputError, write_atomic};
use crate::run::Plan;
use crate::served::Reads;
use lorac_data::Preprocess;
use serde::Serialize;
use std::path::Path;

/// The tokenizer, a config.json and a model card.
pub struct Serving;

/// What its files are in a manifest.
const KIND: &str = "serving";

impl DeployFormat for Serving {
    fn about(&self) -> &'static str {
        "The tokenizer, a config.json and a model card beside the model, so that the folder serves as it is"
    }

    fn check(&self, _: &Plan, _: &Path) -> Result<Vec<String>, Error> {
        // What there will not be is said when it is tried.
        Ok(Vec::new())
    }

    fn write(&self, trained: &Trained, folder: &Path) -> Result<Written, Error> {
        let plan = trained.plan;
        let config = config::config(plan);
        let typed = config.get("model_type").is_some_and(|name| name.as_str().is_some_and(|name| !name.is_empty()));
        let mut written = Written::default();
        let files = match plan.served.reads {
            Reads::Texts => {
                let mut files = tokenizer::files(&plan.beside.tokenizer, &plan.served, typed);
                files.push(("config.json".into(), pretty(&config)?));
                files.extend(
                    plan.beside.generation.iter().map(|bytes| ("generation_config.json".into(), bytes.clone())),
                );
                files.push(("README.md".into(), card::card(trained, typed).into_bytes()));
                files
            }
            Reads::Images => {
                let mut files = vec![
                    ("config.json".into(), pretty(&config)?),
                    ("README.md".into(), card::card(trained, typed).into_bytes()),
                ];
                match plan.served.images.as_ref().and_then(Preprocess::config) {
                    Some(made) => files.push((CONFIG.into(), pretty(&made)?)),
                    None => {
                        let why = "no class of transformers makes images as this model takes them";
                        written.skipped = Some(format!("there will be no {CONFIG}: {why}"));
                    }
                }
                files
            }
            reads @ Reads::Arrays => {
                let why = format!(
                    "there will be no serving folder: it is for texts and images, and this model reads {reads}"
                );
                written.skipped = Some(why);
                Vec::new()
            }
        };
        for (name, bytes) in files {
            let path = folder.join(name);
            write_atomic(&path, &bytes)?;
            written.files.push((path, KIND));
        }
        Ok(written)
    }
}

/// JSON for readers, with an end of line.
fn pretty(value: &impl Serialize) -> Result<Vec<u8>, OutputError> {
    let wrong = |e: serde_json::Error| OutputError::Content { path: "config.json".into(), why: e.to_string() };
    let mut text = serde_json::to_vec_pretty(value).map_err(wrong)?;
    text.push(b'\n');
    Ok(text)
}
