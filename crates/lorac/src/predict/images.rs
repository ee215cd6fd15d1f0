//! What a model says of images.

use super::{Answer, Predictor};
use crate::arrays::only_image_input;
use crate::error::Error;
use crate::served::{Reads, Served, ServedError};
use lorac_data::encode::{Encode, Image, PIXELS};
use lorac_data::{Cell, DataError, Dataset, Row};
use lorac_ir::Graph;
use lorac_train::Feeds;
use std::path::Path;
use std::sync::Arc;

/// Images that are looked at together, in batches: more would only be held in memory.
const BATCHES: usize = 8;

/// The input of images.
pub(super) fn feeds(graph: &Graph, name: &str) -> Result<Feeds, ServedError> {
    let wrong = || ServedError::Output {
        model: name.into(),
        why: "it has no float input [batch, channels, height, width] alone".into(),
    };
    Ok(Feeds { inputs: vec![only_image_input(graph).ok_or_else(wrong)?], constants: Vec::new() })
}

/// Refuses a model of which nothing says what is done to images.
pub(super) fn check(served: &Served, name: &str) -> Result<(), ServedError> {
    match served.images {
        Some(_) => Ok(()),
        None => Err(ServedError::NoPreprocessing { model: name.into() }),
    }
}

impl Predictor {
    /// What the model says of each image, a PNG or JPEG file, which becomes what those were that it was trained on.
    ///
    /// # Errors
    /// A model of texts, a file that is no image, and what the engine says.
    pub fn images(&mut self, files: &[impl AsRef<Path>]) -> Result<Vec<Answer>, Error> {
        let Some(preprocess) = self.served.images.clone().filter(|_| self.served.reads == Reads::Images) else {
            return Err(ServedError::OtherInput { reads: self.served.reads, given: "images".into() }.into());
        };
        let encoder = Image { column: PIXELS.into(), preprocess };
        let columns: Arc<[String]> = vec![PIXELS.to_string()].into();
        let mut all = Vec::with_capacity(files.len());
        for files in files.chunks(self.rows.saturating_mul(BATCHES)) {
            let row = |(at, file): (usize, &_)| {
                let file: &Path = AsRef::as_ref(file);
                let cell = Cell::Text(file.display().to_string());
                Row::new(file.into(), all.len() + at + 1, columns.clone(), vec![cell])
            };
            let rows: Vec<Row> = files.iter().enumerate().map(row).collect();
            let made = encoder.encode(&rows, None)?;
            if let Some((_, error)) = made.refused.into_iter().next() {
                return Err(DataError::into(error));
            }
            let answers = self.answers(&Dataset::new(made.examples, self.pad), &[], &[])?;
            let of = |(answer, row): (Answer, &Row)| Answer { file: row.text(PIXELS).ok().map(String::from), ..answer };
            all.extend(answers.into_iter().zip(&rows).map(of));
        }
        Ok(all)
    }
}
