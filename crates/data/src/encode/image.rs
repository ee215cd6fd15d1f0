//! One image per row.

use super::{Encode, Encodings};
use crate::error::DataError;
use crate::example::{Example, Field};
use crate::image::{Picture, Preprocess};
use crate::row::Row;
use crate::tokenize::Tokenizer;
use lorac_config::{Check, Problems};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::panic::resume_unwind;
use std::path::Path;

/// The field of the numbers of an image.
pub const PIXELS: &str = "pixel_values";

/// The column of the paths of images. Each becomes `pixel_values`, preprocessed as the model's configuration says. Errors: `BadImage`
/// and `LargeImage` of a row, `Io`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Image {
    /// Column of the paths
    pub column: String,
    /// What is done to them
    #[serde(skip)]
    pub preprocess: Preprocess,
}

impl Check for Image {
    fn check(&self, _: &mut Problems) {}
}

impl Encode for Image {
    fn columns(&self) -> Vec<&str> {
        vec![&self.column]
    }

    fn one_per_row(&self) -> bool {
        true
    }

    fn reads_texts(&self) -> bool {
        false
    }

    fn fields(&self) -> Vec<&str> {
        vec![PIXELS]
    }

    fn encode(&self, rows: &[Row], _: Option<&Tokenizer>) -> Result<Encodings, DataError> {
        let levels = self.preprocess.levels();
        let one = |row: &Row| {
            let path = row.text(&self.column)?;
            self.preprocess.picture(Path::new(path), row.position, &levels)
        };
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        let read: Vec<Result<Picture, DataError>> = std::thread::scope(|scope| {
            let parts: Vec<_> = rows
                .chunks(rows.len().div_ceil(cores).max(1))
                .map(|part| scope.spawn(move || part.iter().map(one).collect::<Vec<_>>()))
                .collect();
            let joined = parts.into_iter().map(|part| part.join().unwrap_or_else(|panic| resume_unwind(panic)));
            joined.flatten().collect()
        });
        let mut made = Encodings::default();
        for (at, picture) in read.into_iter().enumerate() {
            let fields = match picture {
                Ok(picture) => vec![(PIXELS, Field::Image(picture))],
                Err(error) => {
                    made.refused.push((at, error));
                    Vec::new()
                }
            };
            made.examples.push(Example { fields });
        }
        Ok(made)
    }
}
