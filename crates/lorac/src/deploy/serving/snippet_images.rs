//! What this folder predicts, in Rust: `cargo add lorac`.

use lorac::error::Error;
use lorac::predict::{Options, Predictor};

pub fn predict(folder: &str, files: &[&str]) -> Result<Vec<String>, Error> {
    let mut model = Predictor::open(folder, &Options::default())?;
    let answers = model.images(files)?;
    Ok(answers.iter().map(|answer| answer.to_string()).collect())
}

pub fn main() -> Result<(), Error> {
    for answer in predict(".", &["photo.png"])? {
        println!("{answer}");
    }
    Ok(())
}
