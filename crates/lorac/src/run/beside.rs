//! Files that lie beside a model and that those who run it need as well.

use crate::base::config_of;
use crate::error::Error;
use crate::output::OutputError;
use crate::source::Resolved;
use crate::writing::{Ends, decoder_start, ends};
use lorac_data::Tokenizer;
use serde_json::{Map, Value};
use std::path::Path;

/// Files of a tokenizer beside its tokenizer.json, as transformers reads and writes them.
const OF_TOKENIZER: [&str; 11] = [
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab.txt",
    "vocab.json",
    "merges.txt",
    "spiece.model",
    "sentencepiece.bpe.model",
    "tokenizer.model",
    "chat_template.jinja",
    "chat_template.json",
];

/// The file of a configuration beside config.json that says how a language model is continued.
const GENERATION: &str = "generation_config.json";

/// Larger files are none of these.
const MOST_BYTES: u64 = 512 << 20;

/// Files of the tokenizer and the configuration of a model, as they were read. What else lies in a folder is not the
/// model's.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Beside {
    /// The tokenizer's, by name; `tokenizer.json` is the first.
    pub tokenizer: Vec<(String, Vec<u8>)>,
    /// The model's config.json, where it has one.
    pub config: Option<Map<String, Value>>,
    /// Its generation_config.json, where it has one.
    pub generation: Option<Vec<u8>>,
}

impl Beside {
    /// The files of a tokenizer; of those beside it, the ones that `may_read` knows.
    ///
    /// # Errors
    /// What cannot be read.
    pub(super) fn of_tokenizer(tokenizer: &Path, may_read: &dyn Fn(&Path) -> bool) -> Result<Beside, Error> {
        let mut files = vec![("tokenizer.json".to_string(), read(tokenizer)?)];
        // Nothing says that files beside one of another name belong to it.
        if tokenizer.file_name().is_some_and(|name| name == "tokenizer.json") {
            for name in OF_TOKENIZER {
                let file = tokenizer.with_file_name(name);
                if small(&file) && may_read(&file) {
                    files.push((name.to_string(), read(&file)?));
                }
            }
        }
        Ok(Beside { tokenizer: files, ..Beside::default() })
    }

    /// Reads the configuration of a model.
    ///
    /// # Errors
    /// What cannot be read.
    pub(super) fn read_config(&mut self, model: &Resolved) -> Result<(), Error> {
        let Some((file, config)) = config_of(model) else { return Ok(()) };
        self.config = Some(config);
        let generation = Some(file.with_file_name(GENERATION)).filter(|file| small(file) && model.has(file));
        self.generation = generation.map(|file| read(&file)).transpose()?;
        Ok(())
    }

    /// The tokens that end a text, by the configuration and a tokenizer.
    pub(crate) fn ends(&self, tokenizer: &Tokenizer) -> Vec<i64> {
        let generation = self.generation();
        ends(&Ends { generation: generation.as_ref(), config: self.config.as_ref(), tokenizer })
    }

    /// The id that a decoder begins with beside an encoder, by the configuration.
    pub(crate) fn decoder_start(&self) -> Option<u32> {
        decoder_start(self.generation().as_ref(), self.config.as_ref())
    }

    fn generation(&self) -> Option<Map<String, Value>> {
        serde_json::from_slice(self.generation.as_deref()?).ok()
    }
}

fn small(file: &Path) -> bool {
    std::fs::metadata(file).is_ok_and(|meta| meta.is_file() && meta.len() <= MOST_BYTES)
}

fn read(file: &Path) -> Result<Vec<u8>, Error> {
    Ok(std::fs::read(file).map_err(|source| OutputError::Io { path: file.into(), source })?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_files_of_the_tokenizer_are_read() {
        let folder = tempfile::tempdir().expect("temp");
        for name in ["tokenizer.json", "merges.txt", "LICENSE", "train.csv", "other.json", "vocab.json"] {
            std::fs::write(folder.path().join(name), name).expect("writes");
        }
        let names = |tokenizer: &str, may_read: &dyn Fn(&Path) -> bool| {
            let found = Beside::of_tokenizer(&folder.path().join(tokenizer), may_read).expect("reads");
            found.tokenizer.into_iter().map(|(name, _)| name).collect::<Vec<_>>()
        };
        assert_eq!(names("tokenizer.json", &|_| true), ["tokenizer.json", "vocab.json", "merges.txt"]);
        assert_eq!(names("tokenizer.json", &|file| !file.ends_with("vocab.json")), ["tokenizer.json", "merges.txt"]);
        assert_eq!(names("other.json", &|_| true), ["tokenizer.json"]);
    }
}
