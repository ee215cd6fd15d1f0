//! What a model that reads no texts is fed with: arrays and images, an input for each.

use crate::error::Error;
use crate::pipeline::{ImageOptions, Loaded};
use crate::source::Resolved;
use lorac_config::{Problem, nearest};
use lorac_data::encode::{PIXELS, field_of};
use lorac_data::{Dataset, Field, Preprocess, Size};
use lorac_ir::{Dim, Fact, Graph, Tensor};
use lorac_train::{Binding, Feeds};
use serde_json::{Map, Value};
use std::path::Path;

/// The configuration of images beside a model.
const CONFIG: &str = "preprocessor_config.json";

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
/// A configuration that cannot be followed, and a size that the model does not take.
pub(crate) fn preprocess(
    loaded: &Loaded,
    graph: &Graph,
    feeds: &Feeds,
    model: &Resolved,
    known: Option<&ImageOptions>,
    notes: &mut Vec<String>,
) -> Result<Preprocess, Error> {
    let problem = |key: &str, message: String, help: Option<&str>| -> Error {
        let (path, help) = (format!("data.images{key}"), help.map(String::from));
        Box::new(loaded.errors_at(vec![Problem { path, code: "pipeline::images", message, help }])).into()
    };
    let folder = if model.path.is_dir() { model.path.clone() } else { model.path.with_file_name("") };
    let file = folder.join(CONFIG);
    let config = if model.has(&file) && file.is_file() { read(&file) } else { None };
    let fact = feeds.inputs.first().and_then(|b| graph.find(&b.input)).map(|id| graph.fact(id));
    let dims = fact.as_ref().and_then(Fact::dims).unwrap_or_default().to_vec();
    let dim = |axis: usize| dims.get(axis).and_then(|d| d.known()).and_then(|n| usize::try_from(n).ok());
    let own = dim(2).zip(dim(3)).map(|(height, width)| [height, width]);
    let mut made = match &config {
        Some(config) => Preprocess::of_config(config)
            .map_err(|e| problem("", format!("{} beside the model: {e}", CONFIG), Some("say it under data.images")))?,
        None => {
            let [height, width] = own.unwrap_or([224, 224]);
            let usual = vec![0.5];
            let size = Some(Size::Exact(height, width));
            Preprocess { size, mean: usual.clone(), std: usual, ..Preprocess::default() }
        }
    };
    let asked = known.or(loaded.pipeline.data.images.as_ref()).cloned().unwrap_or_default();
    asked.apply(&mut made);
    if config.is_none() && asked == ImageOptions::default() {
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

fn read(file: &Path) -> Option<Map<String, Value>> {
    let small = std::fs::metadata(file).is_ok_and(|meta| meta.len() <= MOST_BYTES);
    let bytes = std::fs::read(file).ok().filter(|_| small)?;
    serde_json::from_slice(&bytes).ok()
}

/// Brings the arrays of a split into the shapes that the model's inputs have, where those have as many numbers.
///
/// # Errors
/// An array that does not fit: its input, its shape and the one that is taken.
pub(crate) fn fit(graph: &Graph, feeds: &Feeds, data: &mut Dataset, split: &str) -> Result<(), Error> {
    for Binding { field, input, .. } in &feeds.inputs {
        let Some(fact) = graph.find(input).map(|id| graph.fact(id)) else { continue };
        let Some([_, want @ ..]) = fact.dims() else {
            let known = fact.dims().is_some();
            if known {
                return Err(Error::Usage(format!("the input `{input}` {fact} has no dimension of rows")));
            }
            continue;
        };
        for (row, example) in data.examples.iter_mut().enumerate() {
            let Some((_, Field::Array(array))) = example.fields.iter_mut().find(|(name, _)| *name == field.as_str())
            else {
                continue;
            };
            let Some(shaped) = reshaped(array, want) else {
                return Err(Error::Usage(format!(
                    "{split}: example {} has {} for the input `{input}`, which takes {fact}",
                    row + 1,
                    array.fact()
                )));
            };
            *array = shaped;
        }
    }
    Ok(())
}

/// An array in a shape that it fits.
fn reshaped(array: &Tensor, want: &[Dim]) -> Option<Tensor> {
    let fits = array.dims().len() == want.len()
        && array.dims().iter().zip(want).all(|(have, want)| want.known().is_none_or(|n| n == *have as i64));
    if fits {
        return Some(array.clone());
    }
    let dims: Vec<usize> = want.iter().map(|d| usize::try_from(d.known()?).ok()).collect::<Option<_>>()?;
    Tensor::new(array.dtype(), dims, array.bytes().clone()).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arrays_take_the_shape_of_their_input() {
        let graph = lorac_ir::parse("graph g(%x: f32[N,1,2,2], %y: f32[N,S], %z: f32[N]) { }").expect("parses");
        let of = |input: &str, tensor: Tensor| {
            let feeds = Feeds {
                inputs: vec![Binding { field: input.into(), input: input.into(), dtype: lorac_ir::DType::F32 }],
                ..Feeds::default()
            };
            let name: &'static str = String::leak(input.to_string());
            let example = lorac_data::Example { fields: vec![(name, Field::Array(tensor))] };
            let mut data = Dataset::new(vec![example], Default::default());
            fit(&graph, &feeds, &mut data, "data.train").map_err(|e| e.to_string())?;
            match &data.examples[0].fields[0].1 {
                Field::Array(tensor) => Ok(tensor.dims().to_vec()),
                other => panic!("{other:?}"),
            }
        };
        assert_eq!(of("x", Tensor::vector(&[0u8; 4])), Ok(vec![1, 2, 2]));
        assert_eq!(of("y", Tensor::vector(&[0f32; 7])), Ok(vec![7]));
        assert_eq!(of("z", Tensor::scalar(1f32)), Ok(vec![]));
        let error: Result<_, String> = of("x", Tensor::vector(&[0f32; 5]));
        assert_eq!(
            error,
            Err("data.train: example 1 has f32[5] for the input `x`, which takes f32[N,1,2,2]".to_string())
        );
    }
}
