//! Images as transformers' processors make them: tests/truth/images.py.

use lorac::data::encode::{Encode, Image, PIXELS};
use lorac::data::{Cell, Field, Preprocess, Row};
use lorac_tests::{data, truth};
use serde_json::Value;
use std::fs;

/// What a byte of the image may be off by: decoders of JPEG round differently, and more so where they make four pixels of one
/// colour.
fn tolerance(image: &str, std: f64) -> f64 {
    let levels = match image {
        "progressive.jpg" => 5.0,
        image if image.ends_with(".jpg") => 3.0,
        _ => 0.0,
    };
    1e-5 + levels / 255.0 / std
}

#[test]
fn images_are_what_transformers_makes_of_them() {
    let folder = data("truth/images");
    let cases: Vec<Value> =
        serde_json::from_slice(&fs::read(folder.join("cases.json")).expect("a file")).expect("JSON");
    let want = truth(&folder.join("data.safetensors"));
    assert_eq!(cases.len(), 20);
    for case in cases {
        let image = case["image"].as_str().expect("a name");
        let preprocess = Preprocess::of_config(case["config"].as_object().expect("a configuration"));
        let preprocess = preprocess.unwrap_or_else(|e| panic!("{case}: {e}"));
        let path = folder.join(image);
        let cells = vec![Cell::Text(path.display().to_string())];
        let row = Row::new(path.as_path().into(), 1, vec!["image".to_string()].into(), cells);
        let encoder = Image { column: "image".into(), preprocess: preprocess.clone() };
        let made = encoder.encode(&[row], None).expect("encodes");
        assert!(made.refused.is_empty(), "{case}: {:?}", made.refused);
        let Some(Field::Image(picture)) = made.examples[0].field(PIXELS) else { panic!("no image") };
        let got = picture.numbers().expect("numbers");
        let want = &want[case["pixels"].as_str().expect("a name")].array;
        assert_eq!(got.dims(), want.shape(), "{case}");
        let got = got.to_f64().expect("numbers");
        let far = got.iter().zip(want).map(|(a, b)| (a - b).abs()).fold(0.0, f64::max);
        let std = preprocess.std.iter().copied().fold(1.0, f64::min);
        assert!(far <= tolerance(image, std), "{case}: {far}");
    }
}
