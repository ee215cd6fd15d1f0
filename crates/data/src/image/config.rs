//! `preprocessor_config.json` of transformers.

use super::preprocess::{Preprocess, Size};
use super::resample::Resample;
use serde_json::{Map, Value, json};

/// Why a configuration says nothing that can be followed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{key}`: {why}")]
pub struct PreprocessError {
    /// The key.
    pub key: String,
    /// What is wrong.
    pub why: String,
}

/// The largest side.
const MOST_SIDE: usize = 1 << 13;

/// What a class of image processors does where a configuration leaves it open: that of transformers 5.24, and of all versions but
/// for what is `disputed`.
struct Class {
    /// Its names, without what all such names end with.
    names: &'static [&'static str],
    /// Keys that versions of transformers take differently where they are left open, and that a configuration has to say.
    disputed: &'static [&'static str],
    size: Size,
    /// Whether a size of one number is that of both sides, else that of the shorter one.
    square: bool,
    resample: Resample,
    /// The size of what is cut out, where it does that unasked.
    crop: Option<usize>,
    mean: [f64; 3],
    std: [f64; 3],
    normalises: bool,
    flips: bool,
}

const HALF: [f64; 3] = [0.5; 3];

/// Of transformers' ViT, which stands for configurations that name no class.
const VIT: Class = Class {
    names: &["vit"],
    disputed: &[],
    size: Size::Exact(224, 224),
    square: true,
    resample: Resample::Bilinear,
    crop: None,
    mean: HALF,
    std: HALF,
    normalises: true,
    flips: false,
};

const CLASSES: &[Class] = &[
    VIT,
    Class { names: &["beit"], disputed: &["size", "do_center_crop"], resample: Resample::Bicubic, ..VIT },
    Class { names: &["siglip"], resample: Resample::Bicubic, square: false, ..VIT },
    Class { names: &["deit"], size: Size::Exact(256, 256), resample: Resample::Bicubic, crop: Some(224), ..VIT },
    Class {
        names: &["clip", "chineseclip", "bit"],
        size: Size::Shortest(224),
        square: false,
        resample: Resample::Bicubic,
        crop: Some(224),
        mean: [0.48145466, 0.4578275, 0.40821073],
        std: [0.26862954, 0.26130258, 0.27577711],
        ..VIT
    },
    Class { names: &[CONVNEXT], size: Size::Shortest(384), square: false, resample: Resample::Bicubic, ..VIT },
    Class { names: &["mobilenetv1", "mobilenetv2"], size: Size::Shortest(256), square: false, crop: Some(224), ..VIT },
    Class {
        names: &[EFFICIENTNET],
        disputed: &["resample"],
        size: Size::Exact(346, 346),
        resample: Resample::Bicubic,
        ..VIT
    },
    Class {
        names: &["mobilevit"],
        disputed: &["resample"],
        size: Size::Shortest(224),
        square: false,
        resample: Resample::Bicubic,
        crop: Some(256),
        normalises: false,
        flips: true,
        ..VIT
    },
];

/// Crops a larger image where it is small, and else bends it to its size.
const CONVNEXT: &str = "convnext";

/// Normalises twice, unless it is said that it does not.
const EFFICIENTNET: &str = "efficientnet";

/// Classes that do more than their keys say.
const NOT_FOLLOWED: [&str; 3] = ["levit", "poolformer", "dinov3vit"];

/// What names of classes end with.
const ENDS: [&str; 4] = ["imageprocessorfast", "imageprocessorpil", "imageprocessor", "featureextractor"];

/// Keys that are followed.
const FOLLOWED: [&str; 11] = [
    "do_resize",
    "size",
    "default_to_square",
    "resample",
    "do_center_crop",
    "crop_size",
    "do_rescale",
    "rescale_factor",
    "do_normalize",
    "image_mean",
    "image_std",
];

/// Keys that change no pixel of an image with three channels.
const IDLE: [&str; 15] = [
    "image_processor_type",
    "feature_extractor_type",
    "processor_class",
    "transformers_version",
    "_valid_processor_keys",
    "_name_or_path",
    "model_input_names",
    "do_convert_rgb",
    "do_reduce_labels",
    "reduce_labels",
    "input_data_format",
    "data_format",
    "return_tensors",
    "disable_grouping",
    "device",
];

impl Preprocess {
    /// Whether blue comes first by a `preprocessor_config.json`, whatever else it says.
    ///
    /// # Errors
    /// What is neither true nor false.
    pub fn flips(config: &Map<String, Value>) -> Result<bool, PreprocessError> {
        let key = "do_flip_channel_order";
        match config.get(key) {
            None | Some(Value::Null) => {
                let of_class = named(config).and_then(|(_, name)| known_class(name));
                Ok(of_class.is_some_and(|class| class.flips))
            }
            Some(value) => {
                value.as_bool().ok_or_else(|| PreprocessError { key: key.into(), why: format!("it is {value}") })
            }
        }
    }

    /// What a `preprocessor_config.json` says, with the defaults of the class that it names.
    ///
    /// # Errors
    /// What no image can be brought to, keys that change pixels in another way, and classes of which it is not known what they
    /// do where the configuration leaves that open.
    pub fn of_config(config: &Map<String, Value>) -> Result<Self, PreprocessError> {
        let wrong = |key: &str, why: String| PreprocessError { key: key.into(), why };
        let is = |key: &str, value: &Value| wrong(key, format!("it is {value}"));
        let given = |key: &str| config.get(key).filter(|value| !value.is_null());
        let class = class_of(config)?;
        let is_class = |name: &str| class.names.contains(&name);
        let asks = |key: &str| match given(key) {
            None => Ok(None),
            Some(value) => value.as_bool().map(Some).ok_or_else(|| is(key, value)),
        };
        if is_class(EFFICIENTNET) && asks("include_top")?.unwrap_or(true) {
            return Err(wrong("include_top", "numbers are divided by `image_std` once more, which is not done".into()));
        }
        for (key, value) in config {
            let known = FOLLOWED.contains(&key.as_str())
                || IDLE.contains(&key.as_str())
                || key == "do_flip_channel_order"
                || (key == "crop_pct" && is_class(CONVNEXT));
            if !known && !matches!(value, Value::Null | Value::Bool(false)) {
                return Err(wrong(key, format!("it is {value}, which is not followed")));
            }
        }

        let mut made = Preprocess { flip: Self::flips(config)?, ..Preprocess::default() };
        let resizes = asks("do_resize")?.unwrap_or(true);
        let idle = |key: &str| !resizes && key != "do_center_crop";
        let open: Vec<&str> = class.disputed.iter().copied().filter(|key| given(key).is_none() && !idle(key)).collect();
        if let (Some(key), Some(name)) = (open.first(), named(config).map(|(_, name)| name)) {
            let open = open.join("`, `");
            return Err(wrong(
                key,
                format!(
                    "versions of transformers differ in what a {name} does, and the configuration leaves open `{open}`"
                ),
            ));
        }
        let square = asks("default_to_square")?.unwrap_or(class.square);
        if resizes {
            made.size = Some(match given("size") {
                None => class.size,
                Some(value) => size_of(value, square).ok_or_else(|| is("size", value))?,
            });
        }
        made.resample = match given("resample") {
            None => class.resample,
            Some(value) => value.as_i64().and_then(Resample::of_number).ok_or_else(|| is("resample", value))?,
        };
        let crops = asks("do_center_crop")?.unwrap_or(class.crop.is_some());
        if is_class(CONVNEXT) {
            let pct = given("crop_pct").map_or(Some(224.0 / 256.0), Value::as_f64);
            let pct = pct.filter(|pct| *pct > 0.0 && *pct <= 1.0);
            let pct = pct.ok_or_else(|| wrong("crop_pct", "it is not a number above 0 and at most 1".into()))?;
            if let Some(Size::Shortest(shortest)) = made.size {
                let resized = (shortest as f64 / pct) as usize;
                made.size = Some(match shortest < 384 {
                    true if resized > MOST_SIDE => {
                        let why =
                            format!("images are resized to {resized} pixels a side, and {MOST_SIDE} are the most");
                        return Err(wrong("crop_pct", why));
                    }
                    true => Size::Shortest(resized),
                    false => Size::Exact(shortest, shortest),
                });
                made.crop = (shortest < 384).then_some([shortest, shortest]);
            }
        } else if crops {
            let crop = match given("crop_size") {
                None if is_class(EFFICIENTNET) => Some(Size::Exact(289, 289)),
                None => class.crop.or(Some(224)).map(|n| Size::Exact(n, n)),
                Some(value) => size_of(value, true),
            };
            let Some(Size::Exact(height, width)) = crop else {
                return Err(is("crop_size", given("crop_size").unwrap_or(&Value::Null)));
            };
            made.crop = Some([height, width]);
        }
        made.rescale = match (asks("do_rescale")?.unwrap_or(true), given("rescale_factor")) {
            (false, _) => 1.0,
            (true, None) => made.rescale,
            (true, Some(value)) => value.as_f64().ok_or_else(|| is("rescale_factor", value))?,
        };
        if asks("do_normalize")?.unwrap_or(class.normalises) {
            let numbers = |key: &str, usual: [f64; 3]| match given(key) {
                None => Ok(usual.to_vec()),
                Some(value) => {
                    let all = value.as_array().map_or_else(|| vec![value.clone()], Clone::clone);
                    let all: Option<Vec<f64>> = all.iter().map(Value::as_f64).collect();
                    all.filter(|all| [1, 3].contains(&all.len())).ok_or_else(|| is(key, value))
                }
            };
            (made.mean, made.std) = (numbers("image_mean", class.mean)?, numbers("image_std", class.std)?);
            if made.std.contains(&0.0) {
                return Err(wrong("image_std", "it is 0".into()));
            }
        }
        Ok(made)
    }

    /// The `preprocessor_config.json` that says the same, of a class of transformers that does it; none where none does: where
    /// blue comes first and numbers are normalised, and of images of one channel.
    #[must_use]
    pub fn config(&self) -> Option<Map<String, Value>> {
        let normalises = self.mean.iter().any(|x| *x != 0.0) || self.std.iter().any(|x| *x != 1.0);
        let class = match (self.flip, normalises) {
            _ if self.channels != 3 => return None,
            (true, true) => return None,
            (true, false) => "MobileViTImageProcessor",
            (false, _) => "CLIPImageProcessor",
        };
        let three = |all: &[f64]| if let [one] = all { vec![*one; 3] } else { all.to_vec() };
        let mut config = json!({
            "image_processor_type": class,
            "do_resize": self.size.is_some(),
            "resample": self.resample.number(),
            "do_center_crop": self.crop.is_some(),
            "do_rescale": self.rescale != 1.0,
            "rescale_factor": self.rescale,
            "do_normalize": normalises,
            "do_flip_channel_order": self.flip,
        });
        match self.size {
            Some(Size::Exact(height, width)) => config["size"] = json!({ "height": height, "width": width }),
            Some(Size::Shortest(n)) => config["size"] = json!({ "shortest_edge": n }),
            None => {}
        }
        if let Some([height, width]) = self.crop {
            config["crop_size"] = json!({ "height": height, "width": width });
        }
        if normalises {
            (config["image_mean"], config["image_std"]) = (json!(three(&self.mean)), json!(three(&self.std)));
        }
        match config {
            Value::Object(config) => Some(config),
            _ => None,
        }
    }
}

/// The key that names a class, and the name.
fn named(config: &Map<String, Value>) -> Option<(&'static str, &str)> {
    let keys = ["image_processor_type", "feature_extractor_type"];
    keys.into_iter().find_map(|key| Some((key, config.get(key)?.as_str()?)))
}

/// A name of a class without what all such names end with.
fn short(name: &str) -> String {
    let lower = name.to_lowercase();
    ENDS.iter().find_map(|end| lower.strip_suffix(end)).unwrap_or(&lower).to_string()
}

fn known_class(name: &str) -> Option<&'static Class> {
    let short = short(name);
    CLASSES.iter().find(|class| class.names.contains(&short.as_str()))
}

/// The class that a configuration names. One that is not known does what the configuration says, where that says all.
fn class_of(config: &Map<String, Value>) -> Result<&'static Class, PreprocessError> {
    let Some((key, name)) = named(config) else { return Ok(&VIT) };
    if let Some(class) = known_class(name) {
        return Ok(class);
    }
    let wrong = |why: String| PreprocessError { key: key.into(), why };
    if NOT_FOLLOWED.contains(&short(name).as_str()) {
        return Err(wrong(format!("what a {name} does is not followed")));
    }
    let does = |key: &str| config.get(key).and_then(Value::as_bool);
    let mut open: Vec<&str> =
        ["do_resize", "do_rescale", "do_normalize"].into_iter().filter(|key| does(key).is_none()).collect();
    for (key, needs) in [("do_resize", ["size", "resample"]), ("do_normalize", ["image_mean", "image_std"])] {
        let lacks = |key: &&str| config.get(*key).is_none_or(Value::is_null);
        open.extend(needs.into_iter().filter(lacks).filter(|_| does(key) == Some(true)));
    }
    match open.is_empty() {
        true => Ok(&VIT),
        false => {
            Err(wrong(format!("a {name} is not known, and the configuration leaves open `{}`", open.join("`, `"))))
        }
    }
}

/// A size of a configuration: a number, or height and width, or the shortest edge.
fn size_of(value: &Value, square: bool) -> Option<Size> {
    let key = |key: &str| value.get(key).and_then(side);
    match side(value) {
        Some(n) if square => Some(Size::Exact(n, n)),
        Some(n) => Some(Size::Shortest(n)),
        None => match (key("height"), key("width"), key("shortest_edge")) {
            (Some(height), Some(width), _) => Some(Size::Exact(height, width)),
            (_, _, Some(n)) if value.get("longest_edge").is_none_or(Value::is_null) => Some(Size::Shortest(n)),
            _ => None,
        },
    }
}

/// A number of pixels on a side.
fn side(value: &Value) -> Option<usize> {
    value.as_u64().and_then(|n| usize::try_from(n).ok()).filter(|n| (1..=MOST_SIDE).contains(n))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn of(config: Value) -> Result<Preprocess, String> {
        Preprocess::of_config(config.as_object().expect("an object")).map_err(|e| e.to_string())
    }

    #[test]
    fn configurations_say_what_their_classes_do() {
        let vit =
            of(json!({ "image_processor_type": "ViTImageProcessor", "size": 224, "resample": 2 })).expect("reads");
        assert_eq!((vit.size, vit.crop, vit.mean), (Some(Size::Exact(224, 224)), None, vec![0.5; 3]));
        let clip = of(json!({ "image_processor_type": "CLIPImageProcessor", "size": { "shortest_edge": 30 },
            "crop_size": { "height": 20, "width": 24 }, "do_center_crop": true, "image_mean": [0.1, 0.2, 0.3] }));
        let clip = clip.expect("reads");
        assert_eq!(
            (clip.size, clip.crop, clip.resample),
            (Some(Size::Shortest(30)), Some([20, 24]), Resample::Bicubic)
        );
        assert_eq!((clip.mean, clip.std), (vec![0.1, 0.2, 0.3], vec![0.26862954, 0.26130258, 0.27577711]));
        let small = |size: u64| {
            of(
                json!({ "image_processor_type": "ConvNextImageProcessor", "size": { "shortest_edge": size }, "resample": 3 }),
            )
        };
        assert_eq!(small(224).map(|p| (p.size, p.crop)), Ok((Some(Size::Shortest(256)), Some([224, 224]))));
        assert_eq!(small(384).map(|p| (p.size, p.crop)), Ok((Some(Size::Exact(384, 384)), None)));
        let plain = of(json!({ "do_resize": false, "do_rescale": false, "do_normalize": false })).expect("reads");
        assert_eq!((plain.size, plain.rescale, plain.mean), (None, 1.0, vec![0.0]));
        let mobile = of(json!({ "feature_extractor_type": "MobileViTFeatureExtractor", "size": 288, "resample": 2 }));
        let mobile = mobile.expect("reads");
        assert_eq!((mobile.size, mobile.crop), (Some(Size::Shortest(288)), Some([256, 256])));
        assert!(mobile.flip && mobile.mean == [0.0], "{mobile:?}");
    }

    #[test]
    fn what_cannot_be_followed_is_named() {
        assert_eq!(of(json!({ "size": { "longest_edge": 3 } })), Err("`size`: it is {\"longest_edge\":3}".into()));
        assert_eq!(of(json!({ "resample": 9 })), Err("`resample`: it is 9".into()));
        assert_eq!(of(json!({ "image_mean": [1, 2] })), Err("`image_mean`: it is [1,2]".into()));
        assert!(of(json!({ "image_std": 0 })).is_err() && of(json!({ "size": 0 })).is_err());
        assert!(of(json!({ "do_resize": "no" })).is_err());
    }

    #[test]
    fn keys_that_change_pixels_are_followed_or_refused() {
        let vit = |key: &str, value: Value| {
            let mut config = json!({ "image_processor_type": "ViTImageProcessorFast" });
            config[key] = value;
            of(config).map(drop)
        };
        assert_eq!(vit("crop_pct", json!(0.9)), Err("`crop_pct`: it is 0.9, which is not followed".into()));
        for (key, value) in [("do_pad", json!(true)), ("size_divisor", json!(32)), ("rescale_offset", json!(true))] {
            assert!(vit(key, value).is_err_and(|e| e.contains(key)), "{key}");
        }
        for (key, value) in [("do_pad", json!(false)), ("crop_pct", json!(null)), ("do_convert_rgb", json!(true))] {
            assert_eq!(vit(key, value), Ok(()), "{key}");
        }
        let efficient = |top: Value| {
            of(json!({ "image_processor_type": "EfficientNetImageProcessor", "include_top": top, "resample": 0 }))
        };
        assert!(efficient(json!(null)).is_err_and(|e| e.starts_with("`include_top`")));
        assert!(efficient(json!(false)).is_ok());
    }

    #[test]
    fn a_share_of_what_is_cropped_is_one() {
        let of = |pct: Value, size: u64| {
            of(
                json!({ "image_processor_type": "ConvNextImageProcessor", "size": { "shortest_edge": size }, "crop_pct": pct }),
            )
        };
        assert_eq!(of(json!(1.0), 224).map(|p| p.size), Ok(Some(Size::Shortest(224))));
        for pct in [json!(0), json!(-1), json!(1.01), json!(300), json!("most")] {
            assert_eq!(of(pct, 224), Err("`crop_pct`: it is not a number above 0 and at most 1".into()));
        }
        let large = "`crop_pct`: images are resized to 224000 pixels a side, and 8192 are the most";
        assert_eq!(of(json!(0.001), 224), Err(large.into()));
        assert!(of(json!(1e-300), 224).is_err());
        assert_eq!(of(json!(0.001), 384).map(|p| p.size), Ok(Some(Size::Exact(384, 384))));
    }

    #[test]
    fn what_versions_of_a_class_differ_in_is_said_by_the_configuration() {
        for (class, says, open, said) in [
            ("BeitImageProcessor", json!({ "do_center_crop": false }), "size", json!(224)),
            ("BeitFeatureExtractor", json!({ "size": 224 }), "do_center_crop", json!(true)),
            ("MobileViTImageProcessor", json!({}), "resample", json!(2)),
            ("EfficientNetImageProcessor", json!({ "include_top": false }), "resample", json!(0)),
        ] {
            let mut config = says;
            config["image_processor_type"] = json!(class);
            let wrong = format!(
                "`{open}`: versions of transformers differ in what a {class} does, and the configuration leaves open `{open}`"
            );
            assert_eq!(of(config.clone()), Err(wrong));
            config[open] = said;
            assert!(of(config).is_ok(), "{class}");
        }
        let whole = json!({ "image_processor_type": "MobileViTImageProcessor", "do_resize": false });
        assert!(of(whole).is_ok(), "what is not resized is made in no way");
    }

    #[test]
    fn a_class_that_is_not_known_says_all_itself() {
        let mut config = json!({ "image_processor_type": "OurImageProcessor", "do_resize": true, "size": 8, "resample": 3,
            "do_rescale": true, "do_normalize": true, "image_mean": 0.5, "image_std": 0.5 });
        assert_eq!(of(config.clone()).map(|made| made.resample), Ok(Resample::Bicubic));
        config["resample"] = json!(null);
        config["do_rescale"] = json!(null);
        let wrong = of(config).unwrap_err();
        assert!(
            wrong.contains("OurImageProcessor is not known") && wrong.contains("`do_rescale`, `resample`"),
            "{wrong}"
        );
        assert!(of(json!({ "image_processor_type": "LevitImageProcessor" })).is_err());
    }

    #[test]
    fn which_channel_comes_first_is_known_of_what_is_not_followed() {
        let flips =
            |config: Value| Preprocess::flips(config.as_object().expect("an object")).map_err(|e| e.to_string());
        assert_eq!(flips(json!({ "image_processor_type": "MobileViTImageProcessor" })), Ok(true));
        assert_eq!(
            flips(json!({ "image_processor_type": "OurImageProcessor", "do_flip_channel_order": true })),
            Ok(true)
        );
        let said = json!({ "image_processor_type": "MobileViTImageProcessor", "do_flip_channel_order": false });
        assert_eq!(
            (flips(said), flips(json!({ "image_processor_type": "OurImageProcessor" }))),
            (Ok(false), Ok(false))
        );
        let wrong = flips(json!({ "do_flip_channel_order": "no" }));
        assert_eq!(wrong, Err("`do_flip_channel_order`: it is \"no\"".into()));
    }

    #[test]
    fn what_is_written_says_the_same() {
        let numbers = vec![0.25, 0.5, 0.75];
        let whole = Preprocess {
            size: Some(Size::Shortest(30)),
            resample: Resample::Lanczos,
            crop: Some([20, 24]),
            rescale: 1.0 / 127.5,
            mean: numbers.clone(),
            std: numbers,
            ..Preprocess::default()
        };
        let exact = Preprocess { size: Some(Size::Exact(9, 8)), crop: None, ..whole.clone() };
        let grey = Preprocess { mean: vec![0.5], std: vec![0.5], channels: 1, ..whole.clone() };
        let bytes = Preprocess { rescale: 1.0, flip: true, ..Preprocess::default() };
        for made in [whole.clone(), exact, bytes, Preprocess::default()] {
            let written = made.config().map(Value::Object).expect("a configuration");
            let mut read = of(written).expect("reads");
            read.channels = made.channels;
            assert_eq!(read.levels(), made.levels());
            let rest = |made: &Preprocess| (made.size, made.resample, made.crop, made.flip);
            assert_eq!(rest(&read), rest(&made));
        }
        assert_eq!(grey.config(), None, "classes make three channels");
        assert_eq!(Preprocess { flip: true, ..whole }.config(), None);
    }
}
