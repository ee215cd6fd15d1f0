//! What a model that reads no texts is fed with: arrays and images, an input for each.

use crate::error::Error;
use crate::pipeline::Loaded;
use crate::source::Resolved;
use lorac_config::{Problem, nearest};
use lorac_data::encode::{PIXELS, field_of};
use lorac_data::{Preprocess, Size};
use lorac_ir::{Fact, Graph};
use lorac_train::{Binding, Feeds};
use serde_json::{Map, Value};
use std::path::Path;

mod fit;

pub(crate) use fit::fit;

/// The configuration of images beside a model.
pub(crate) const CONFIG: &str = "preprocessor_config.json";

/// Larger files are no configuration.
const MOST_BYTES: u64 = 1 << 20;

/// The inputs of a graph, each fed with the field of its name. `path` is that of the key that names them.
///
/// # Errors
/// Names of no input, and inputs that nothing is for.
pub(crate) fn feeds(loaded: &Loaded, graph: &Graph, fields: &[&str], path: &str) -> Result<Feeds, Error> {
    let inputs: Vec<String> = graph.inputs().iter().map(|id| graph.name_of(*id)).collect();
    let mut problems = Vec::new();
    for field in fields.iter().filter(|field| !inputs.iter().any(|input| input == **field)) {
        let message = format!("the model has no input `{field}`: its inputs are `{}`", inputs.join("`, `"));
        let help = nearest(field, &inputs).first().map(|near| format!("nearest: {near}"));
        problems.push(Problem { path: format!("{path}.{field}"), code: "pipeline::inputs", message, help });
    }
    let mut feeds = Feeds::default();
    for id in graph.inputs() {
        let (name, fact) = (graph.name_of(*id), graph.fact(*id));
        if !fields.contains(&name.as_str()) {
            let message = format!("the input `{name}` {fact} is fed with nothing");
            let help = Some(format!("name the column for it: {{ {name:?}: COLUMN }}"));
            problems.push(Problem { path: path.into(), code: "pipeline::inputs", message, help });
        }
        feeds.inputs.push(Binding { field: field_of(&name), input: name, dtype: fact.dtype });
    }
    if problems.is_empty() { Ok(feeds) } else { Err(Box::new(loaded.errors_at(problems)).into()) }
}

/// The float input `[batch, channels, height, width]` of a graph that has no other input.
pub(crate) fn only_image_input(graph: &Graph) -> Option<Binding> {
    let [id] = graph.inputs() else { return None };
    let fact = graph.fact(*id);
    let is_image = fact.dtype.is_float() && fact.rank() == Some(4);
    is_image.then(|| Binding { field: PIXELS.into(), input: graph.name_of(*id), dtype: fact.dtype })
}

/// The input of images: the one that the pipeline names, else the one called `pixel_values`, else the only float input
/// `[batch, channels, height, width]`.
///
/// # Errors
/// A model without such an input, or with others beside it.
pub(crate) fn image_feeds(loaded: &Loaded, graph: &Graph) -> Result<Feeds, Error> {
    let is_image = |id: &lorac_ir::ValueId| {
        let fact = graph.fact(*id);
        fact.dtype.is_float() && fact.rank() == Some(4)
    };
    let asked = loaded.pipeline.data.inputs.get(PIXELS).map_or(PIXELS, String::as_str);
    let named = graph.inputs().iter().copied().find(|id| graph.name_of(*id) == asked);
    let found = named.or_else(|| graph.inputs().iter().copied().find(is_image).filter(|_| asked == PIXELS));
    let all = graph.inputs().iter().map(|id| format!("`{}` {}", graph.name_of(*id), graph.fact(*id)));
    let all = all.collect::<Vec<_>>().join(", ");
    match (found.filter(is_image), graph.inputs().len()) {
        (Some(id), 1) => {
            let binding = Binding { field: PIXELS.into(), input: graph.name_of(id), dtype: graph.fact(id).dtype };
            Ok(Feeds { inputs: vec![binding], constants: Vec::new() })
        }
        (_, count) => {
            let what = if count == 1 { "is none" } else { "are not one alone" };
            let message = format!("images are for a float input [batch, channels, height, width], and {all} {what}");
            let path = if asked == PIXELS { "data.inputs".into() } else { format!("data.inputs.{PIXELS}") };
            let problem = Problem { path, code: "pipeline::inputs", message, help: None };
            Err(Box::new(loaded.errors_at(vec![problem])).into())
        }
    }
}

/// What is done to images: what was done to them when the model was trained, where that is `known`; else what the
/// preprocessor_config.json beside the model says, as far as the pipeline does not say it. What is open in both is that of the
/// model's input, or of transformers' ViT, and noted.
///
/// # Errors
/// A configuration that cannot be read or followed, where the pipeline does not say all, or that does not say which channel comes
/// first, and a size that the model does not
/// take.
pub(crate) fn preprocess(
    loaded: &Loaded,
    graph: &Graph,
    feeds: &Feeds,
    model: &Resolved,
    known: Option<&Preprocess>,
    notes: &mut Vec<String>,
) -> Result<Preprocess, Error> {
    let problem = |key: &str, message: String, help: Option<&str>| -> Error {
        let (path, help) = (format!("data.images{key}"), help.map(String::from));
        Box::new(loaded.errors_at(vec![Problem { path, code: "pipeline::images", message, help }])).into()
    };
    let asked = loaded.pipeline.data.images.clone().unwrap_or_default();
    let folder = if model.path.is_dir() { model.path.clone() } else { model.path.with_file_name("") };
    let file = folder.join(CONFIG);
    let counts = known.is_none() && model.has(&file) && file.is_file();
    let all = "say all of it under data.images: size or shortest, resample, rescale, mean and std, and crop where it is cropped";
    let wrong = |why: String| problem("", format!("{CONFIG} beside the model: {why}"), Some(all));
    let found = match counts.then(|| configured(&file, asked.says_all())).transpose().map_err(wrong)? {
        Some(Configured::Followed(made)) => Some(made),
        Some(Configured::Flipped(flip, why)) => {
            let first = if flip { ", the first channel blue" } else { "" };
            notes.push(format!("{CONFIG} beside the model: {why}: images are made as data.images says{first}"));
            Some(Preprocess { flip, ..Preprocess::default() })
        }
        None => None,
    };
    let fact = feeds.inputs.first().and_then(|b| graph.find(&b.input)).map(|id| graph.fact(id));
    let dims = fact.as_ref().and_then(Fact::dims).unwrap_or_default().to_vec();
    let dim = |axis: usize| dims.get(axis).and_then(|d| d.known()).and_then(|n| usize::try_from(n).ok());
    let own = dim(2).zip(dim(3)).map(|(height, width)| [height, width]);
    let mut made = match known.or(found.as_ref()) {
        Some(made) => made.clone(),
        None => {
            let [height, width] = own.unwrap_or([224, 224]);
            let usual = vec![0.5];
            let size = Some(Size::Exact(height, width));
            Preprocess { size, mean: usual.clone(), std: usual, ..Preprocess::default() }
        }
    };
    match known {
        None => asked.apply(&mut made),
        Some(known) => {
            asked.apply(&mut made);
            let differing = made.differing(known);
            if !differing.is_empty() {
                let keys = differing.join("`, `");
                notes.push(format!(
                    "images are made as the model was trained on them, not as data.images says, which differs in `{keys}`"
                ));
            }
            made = known.clone();
        }
    }
    if known.is_none() && found.is_none() && loaded.pipeline.data.images.is_none() {
        let size = made.dims().map_or(String::new(), |[height, width]| format!("{height} x {width} pixels, "));
        notes.push(format!(
            "no {CONFIG} lies beside the model: images are made {size}their bytes divided by 255, less 0.5 and divided by 0.5"
        ));
    }
    match dim(1) {
        Some(channels @ (1 | 3)) => made.channels = channels,
        Some(channels) => {
            return Err(problem("", format!("images have 3 channels, or 1, and the model takes {channels}"), None));
        }
        None => {}
    }
    let shown = fact.map_or(String::new(), |fact| fact.to_string());
    match (made.dims(), own) {
        (None, _) => Err(problem(
            "",
            "images of any size make no batch".to_string(),
            Some("give all of them one: size: [HEIGHT, WIDTH], or crop: [HEIGHT, WIDTH]"),
        )),
        (Some([height, width]), Some([h, w])) if [height, width] != [h, w] => {
            let message = format!("images are made {height} x {width} pixels, and the model takes {shown}");
            Err(problem(".size", message, Some("size: [HEIGHT, WIDTH]")))
        }
        _ => Ok(made),
    }
}

/// What is known of a configuration.
enum Configured {
    /// All that it says.
    Followed(Preprocess),
    /// Whether blue comes first, and why no more: the rest is said elsewhere.
    Flipped(bool, String),
}

/// Follows a configuration, as far as it can be where `all` else is said.
fn configured(file: &Path, all: bool) -> Result<Configured, String> {
    let config = match read(file) {
        Err(why) if all => return Ok(Configured::Flipped(false, why)),
        read => read?,
    };
    match Preprocess::of_config(&config) {
        Err(error) if all => {
            let flip = Preprocess::flips(&config).map_err(|e| e.to_string())?;
            Ok(Configured::Flipped(flip, error.to_string()))
        }
        made => made.map(Configured::Followed).map_err(|e| e.to_string()),
    }
}

fn read(file: &Path) -> Result<Map<String, Value>, String> {
    let bytes = std::fs::metadata(file).map_err(|e| e.to_string())?.len();
    if bytes > MOST_BYTES {
        return Err(format!("it has {bytes} bytes, more than any configuration"));
    }
    serde_json::from_slice(&std::fs::read(file).map_err(|e| e.to_string())?).map_err(|e| e.to_string())
}
