//! What this folder predicts, in Rust: `cargo add lorac`.

use lorac::error::Error;
use lorac::predict::{Options, Predictor};

pub fn predict(folder: &str, texts: &[&str]) -> Result<Vec<String>, Error> {
    let mut model = Predictor::open(folder, &Options::default())?;
    let answers = model.texts(texts)?;
    Ok(answers.iter().map(|answer| answer.to_string()).collect())
}

pub fn main() -> Result<(), Error> {
    for answer in predict(".", &["a fine film", "a dull one"])? {
        println!("{answer}");
    }
    Ok(())
}
