//! The snippet in Python of a model of images: what is done to them, and what it says of them.

use super::feed;
use crate::run::Plan;
use lorac_data::{Preprocess, Size};
use lorac_ir::DType;
use lorac_passes::fixed_input;
use serde_json::json;

/// The snippet, with what becomes of the scores of `files`.
pub(super) fn python(plan: &Plan, made: &Preprocess, answers: &str) -> String {
    let Some(input) = plan.feeds.inputs.first() else { return String::new() };
    let files = match fixed_input(&plan.readable, &input.input).rows {
        Some(rows) => format!("[\"photo.png\"] * {rows}  # as many as the model takes"),
        None => "[\"photo.png\"]".to_string(),
    };
    format!(
        "import json\n\nimport numpy as np\nimport onnxruntime as ort\nfrom PIL import Image\n\n\
         config = json.load(open(\"config.json\", encoding=\"utf-8\"))\n\
         session = ort.InferenceSession(\"model.onnx\")\n\n\n{}\n\nfiles = {files}\n\
         feeds = {{{}: np.stack([pixels(file) for file in files]){}}}\n\
         scores = session.run([{}], feeds)[0].astype(np.float64)\n{answers}",
        pixels(made),
        json!(input.input),
        feed::cast(input.dtype, DType::F32),
        json!(plan.served.output),
    )
}

/// The function that makes of a file what the model takes: `[channels, height, width]`.
fn pixels(made: &Preprocess) -> String {
    let how = format!("{:?}", made.resample).to_uppercase();
    let size = match made.size {
        None => String::new(),
        Some(Size::Exact(height, width)) => {
            format!("    image = image.resize(({width}, {height}), Image.Resampling.{how})\n")
        }
        Some(Size::Shortest(side)) => format!(
            "    sides = [{side} * n // min(image.size) for n in image.size]\n    \
             image = image.resize(sides, Image.Resampling.{how})\n"
        ),
    };
    let crop = made.crop.map_or(String::new(), |[height, width]| {
        format!(
            "    left, top = (image.width - {width}) // 2, (image.height - {height}) // 2\n    \
             image = image.crop((left, top, left + {width}, top + {height}))\n"
        )
    });
    let numbers = match (made.channels, made.flip) {
        (1, _) => "np.asarray(image.convert(\"L\"), np.float32)[None]",
        (_, true) => "np.asarray(image, np.float32).transpose(2, 0, 1)[::-1]",
        (_, false) => "np.asarray(image, np.float32).transpose(2, 0, 1)",
    };
    let each =
        |all: &[f64]| format!("np.array({}, np.float32)[:, None, None]", json!(all[..all.len().min(made.channels)]));
    format!(
        "def pixels(file):\n    image = Image.open(file).convert(\"RGB\")\n{size}{crop}    \
         mean, std = {}, {}\n    \
         return ({numbers} * np.float32({}) - mean) / std\n",
        each(&made.mean),
        each(&made.std),
        json!(made.rescale),
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use lorac_data::Resample;

    #[test]
    fn what_is_done_to_images_is_said_to_pillow() {
        let size = Some(Size::Shortest(20));
        let made = Preprocess { size, crop: Some([16, 18]), resample: Resample::Bicubic, ..Preprocess::default() };
        let text = pixels(&Preprocess { flip: true, mean: vec![0.5, 0.25, 0.0], ..made.clone() });
        for says in [
            "sides = [20 * n // min(image.size) for n in image.size]\n    image = image.resize(sides, Image.Resampling.BICUBIC)",
            "(image.width - 18) // 2, (image.height - 16) // 2",
            "transpose(2, 0, 1)[::-1] * np.float32(0.00392156862745098)",
            "np.array([0.5,0.25,0.0], np.float32)[:, None, None], np.array([1.0], np.float32)",
        ] {
            assert!(text.contains(says), "{says}: {text}");
        }
        let grey =
            pixels(&Preprocess { channels: 1, size: Some(Size::Exact(8, 9)), crop: None, mean: vec![0.5; 3], ..made });
        assert!(
            grey.contains("image.resize((9, 8), ") && grey.contains("convert(\"L\")") && !grey.contains("crop"),
            "{grey}"
        );
        assert!(grey.contains("np.array([0.5], np.float32)"), "{grey}");
    }
}
