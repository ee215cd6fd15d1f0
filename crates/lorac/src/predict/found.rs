//! From what a user names to a model and what is known of it.

use crate::arrays::only_image_input;
use crate::base::{self, json_object};
use crate::error::Error;
use crate::output::{Manifest, Status};
use crate::served::{Reads, SECTION, Served, ServedError, in_metadata};
use crate::source::{Resolved, Resolver, Source};
use crate::writing::{Ends, decoder_start, ends};
use lorac_data::{ChatSettings, Tokenizer, Truncate};
use lorac_ir::{Graph, ValueId};
use lorac_models::ModelKind;
use lorac_onnx::Model;
use lorac_passes::{input_limits, readable};
use lorac_train::Prediction;
use serde_json::{Map, Value};
use std::path::{Path, PathBuf};

/// A model with what it needs.
pub(crate) struct Found {
    pub(crate) resolved: Resolved,
    pub(crate) model: Model,
    pub(crate) served: Served,
    /// What makes tokens of texts, where it reads those.
    pub(crate) tokenizer: Option<TokenizerFile>,
}

/// A tokenizer that is not opened yet.
pub(crate) struct TokenizerFile {
    path: PathBuf,
    /// The source, of which files beside it may be read.
    resolved: Resolved,
    /// What keeps it there, where it was built or lies beside the model.
    kept: Option<base::Kept>,
}

impl TokenizerFile {
    pub(crate) fn open(&self, max_length: usize, truncate: Option<Truncate>) -> Result<Tokenizer, Error> {
        let tokenizer = Tokenizer::from_files(&self.path, max_length, &|file| self.resolved.has(file))?;
        // What a .gguf file says of its tokens stands in none beside its tokenizer.
        let of_model = self.kept.as_ref().map(|_| base::chat(&self.resolved)).transpose()?.flatten();
        let tokenizer = match of_model {
            Some(keys) => tokenizer.with_chat(ChatSettings::of_config(&keys)),
            None => tokenizer,
        };
        Ok(match truncate {
            Some(truncate @ (Truncate::Left | Truncate::Right)) => tokenizer.truncated(truncate)?,
            Some(Truncate::Refuse) | None => tokenizer,
        })
    }
}

/// The end of the name of a rejected model.
const REJECTED: &str = ".rejected.onnx";

/// Finds a model by the folder of its run, its file or another source.
pub(crate) fn find(name: &str, tokenizer: Option<&Source>, resolver: &Resolver) -> Result<Found, Error> {
    let (resolved, model) = find_model(name, resolver)?;
    let served = served(&resolved, &model)?;
    check(&model.graph, &served, name)?;
    if served.reads == Reads::Arrays {
        return Err(ServedError::NoTexts { model: name.into(), reads: served.reads }.into());
    }
    if !served.answers() {
        return Err(ServedError::NoAnswer { model: name.into(), task: served.task }.into());
    }
    // What another tool has made of images has no section that says it.
    if served.reads == Reads::Texts && only_image_input(&model.graph).is_some() {
        return Err(ServedError::NoPreprocessing { model: name.into() }.into());
    }
    let tokenizer = match (served.reads, tokenizer) {
        (Reads::Texts, asked) => Some(tokenizer_file(asked, &resolved, resolver)?),
        (reads, Some(_)) => return Err(ServedError::OtherInput { reads, given: "a tokenizer".into() }.into()),
        (_, None) => None,
    };
    Ok(Found { tokenizer, resolved, model, served })
}

/// The model itself.
pub(crate) fn find_model(name: &str, resolver: &Resolver) -> Result<(Resolved, Model), Error> {
    let source = of_run(name.parse()?, resolver)?;
    let resolved = resolver.resolve(&source, None)?;
    let model = match rejected_pair(&resolved) {
        Some([encoder, decoder]) => base::open_pair(&encoder, &decoder)?,
        None => base::open(&resolved, resolver)?,
    };
    Ok((resolved, model))
}

/// The model in the folder of a run; another source is itself.
fn of_run(source: Source, resolver: &Resolver) -> Result<Source, Error> {
    let Source::Path(path) = &source else { return Ok(source) };
    let folder = if path.is_absolute() { path.clone() } else { resolver.base.join(path) };
    let Ok(manifest) = Manifest::read(&folder) else { return Ok(source) };
    let (models, usual) = (models_of(&manifest), folder.join("model.onnx"));
    let is_complete = !models.is_empty() && models.iter().all(|name| folder.join(name).exists());
    let files = |usual: &str| if models.is_empty() { vec![usual.to_string()] } else { models.clone() };
    match (manifest.status, &models[..]) {
        (Status::Rejected, _) if is_complete || !usual.exists() => {
            let gates = manifest.gates.iter().map(|gate| gate.message.clone()).collect::<Vec<_>>().join("; ");
            Err(ServedError::Rejected { folder: path.clone(), gates, files: files("model.rejected.onnx") }.into())
        }
        (Status::Passed, [one]) if is_complete => Ok(Source::Path(folder.join(one))),
        // Encoder and decoder have files of their own.
        (Status::Passed, [_, _, ..]) if is_complete => Ok(source),
        // A manifest that names none, and a rejected model that was given the usual name.
        (Status::Rejected, _) | (_, []) if usual.exists() => Ok(Source::Path(usual)),
        _ => Err(ServedError::NoModel { folder: path.clone(), files: files("model.onnx") }.into()),
    }
}

/// The names of the files of the model that a run has deployed, an encoder's before its decoder's.
fn models_of(manifest: &Manifest) -> Vec<String> {
    let names = manifest.artifacts.iter().filter(|one| one.kind == "model").map(|one| &one.path);
    names.filter(|name| Path::new(name).file_name().is_some_and(|file| file == name.as_str())).cloned().collect()
}

/// The two files of a rejected encoder and decoder, where one of them is named.
fn rejected_pair(resolved: &Resolved) -> Option<[PathBuf; 2]> {
    let name = resolved.path.file_name()?.to_str().filter(|name| name.ends_with(REJECTED))?;
    let folder = resolved.path.parent()?;
    let models: [String; 2] = models_of(&Manifest::read(folder).ok()?).try_into().ok()?;
    let pair = models.each_ref().map(|model| folder.join(model));
    (models.iter().any(|model| model == name) && pair.iter().all(|file| resolved.has(file))).then_some(pair)
}

/// A file beside the model, also where the run was rejected.
fn beside(resolved: &Resolved, name: &str) -> PathBuf {
    let file = &resolved.path;
    let rejected = file.file_name().is_some_and(|name| name.to_string_lossy().ends_with(REJECTED));
    let name = match name.rsplit_once('.').filter(|_| rejected) {
        Some((stem, end)) => format!("{stem}.rejected.{end}"),
        None => name.to_string(),
    };
    if file.is_dir() { file.join(name) } else { file.with_file_name(name) }
}

pub(crate) fn tokenizer_file(
    asked: Option<&Source>,
    model: &Resolved,
    resolver: &Resolver,
) -> Result<TokenizerFile, Error> {
    if let Some(source) = asked {
        let resolved = resolver.resolve(source, None)?;
        let path = match resolved.path.is_dir() {
            true => resolved.path.join("tokenizer.json"),
            false => resolved.path.clone(),
        };
        return Ok(TokenizerFile { path, resolved, kept: None });
    }
    let rejected = beside(model, "tokenizer.json");
    if !rejected.ends_with("tokenizer.json") && model.has(&rejected) {
        return Ok(TokenizerFile { path: rejected, resolved: model.clone(), kept: None });
    }
    let kept = base::tokenizer(model, resolver).map_err(|_| {
        let source = &model.source;
        Error::Usage(format!("there is no tokenizer.json beside {source}: name one with --tokenizer"))
    })?;
    Ok(TokenizerFile { path: kept.path.clone(), resolved: model.clone(), kept: Some(kept) })
}

/// What is known of a model: by the config.json beside it, the manifest of its run, its own file, or its configuration and
/// its outputs.
pub(crate) fn served(resolved: &Resolved, model: &Model) -> Result<Served, Error> {
    let config_file = beside(resolved, "config.json");
    let config = match resolved.has(&config_file) {
        true => json_object(&config_file),
        false => base::config_of(resolved).map(|(_, config)| config),
    };
    if let Some(section) = config.as_ref().and_then(|config| config.get(SECTION)) {
        let wrong = |e: serde_json::Error| ServedError::Section { file: config_file.clone(), why: e.to_string() };
        return Ok(serde_json::from_value(section.clone()).map_err(wrong)?);
    }
    let path = &resolved.path;
    let folder = if path.is_dir() { path } else { path.parent().unwrap_or(Path::new("")) };
    let name = path.file_name().map(|name| name.to_string_lossy().into_owned());
    if let Ok(manifest) = Manifest::read(folder)
        && manifest.artifacts.iter().any(|a| path.is_dir() || Some(&a.path) == name.as_ref())
        && let Some(served) = manifest.served
    {
        return Ok(served);
    }
    match in_metadata(&model.metadata) {
        Some(served) => Ok(served),
        None => told(resolved, model, &config.unwrap_or_default()),
    }
}

/// What can be told of a model that lorac has not made.
fn told(resolved: &Resolved, model: &Model, config: &Map<String, Value>) -> Result<Served, Error> {
    let graph = readable(&model.graph, &model.functions)?;
    let kind = base::kind_of(resolved);
    let labels = kind.as_ref().map_or(&[][..], |kind: &ModelKind| &kind.labels);
    let classes = config.get("architectures").and_then(Value::as_array).into_iter().flatten();
    let classes: Vec<&str> = classes.filter_map(Value::as_str).collect();
    let is = |end: &str| classes.iter().any(|class| class.ends_with(end));
    let said = config.get("problem_type").and_then(Value::as_str);
    let shape = |v: ValueId| {
        let fact = graph.fact(v);
        let dims = fact.dims().filter(|_| fact.dtype.is_float())?;
        let width = dims.last().and_then(|dim| dim.known()).and_then(|n| usize::try_from(n).ok());
        Some((graph.name_of(v), dims.len(), width?))
    };
    let limits = input_limits(&graph);
    let mut outputs: Vec<(String, usize, usize)> = graph.outputs().iter().filter_map(|v| shape(*v)).collect();
    outputs.sort_by_key(|(name, ..)| name != "logits");
    let found = outputs.into_iter().find_map(|(name, rank, width)| {
        let is_head = name == "logits" || labels.len() == width || is("ForSequenceClassification");
        let tokens = limits.as_ref().is_some_and(|limits| limits.tokens.rows <= width);
        let predicts = match rank {
            2 if name == "sentence_embedding" => Prediction::Embeddings,
            2 if !is_head => return None,
            2 if said == Some("multi_label_classification") => Prediction::Labels,
            2 if said == Some("regression") || width == 1 => Prediction::Values,
            2 => Prediction::Classes,
            3 if is("ForTokenClassification") || (labels.len() == width && !tokens) => Prediction::Tags,
            3 if is("ForCausalLM") || is("LMHeadModel") || (name == "logits" && tokens) => Prediction::Tokens,
            _ => return None,
        };
        Some((name, width, predicts))
    });
    let Some((output, width, predicts)) = found else {
        let all = graph.outputs().iter().map(|v| format!("`{}` {}", graph.name_of(*v), graph.fact(*v)));
        return Err(ServedError::Unknown { outputs: all.collect::<Vec<_>>().join(", ") }.into());
    };
    let labels = match predicts {
        Prediction::Classes | Prediction::Labels | Prediction::Tags if labels.len() == width => labels.to_vec(),
        Prediction::Classes | Prediction::Labels | Prediction::Tags => {
            (0..width).map(|i| format!("LABEL_{i}")).collect()
        }
        _ => Vec::new(),
    };
    let tokenizer = json_object(&beside(resolved, "tokenizer_config.json")).unwrap_or_default();
    let number = |map: &Map<String, Value>, key: &str| map.get(key)?.as_f64().filter(|n| *n >= 4.0 && *n < 1e6);
    let positions = limits.iter().flat_map(|limits| &limits.positions).map(|table| table.usable).min();
    let length = number(&tokenizer, "model_max_length").or(number(config, "max_position_embeddings")).unwrap_or(512.0);
    let task = match predicts {
        Prediction::Classes => "classify",
        Prediction::Labels => "multi_label",
        Prediction::Values => "regress",
        Prediction::Tags => "tag",
        Prediction::Tokens if graph.input("decoder_input_ids").is_some() => "seq2seq",
        Prediction::Tokens => "causal_lm",
        Prediction::Embeddings => "embed",
        Prediction::Loss => "custom",
        Prediction::Masked => "masked_lm",
    };
    Ok(Served {
        labels,
        max_length: (length as usize).min(positions.unwrap_or(usize::MAX)),
        ..Served::plain(task, predicts, &output)
    })
}

/// The tokens that end a text of a model.
pub(crate) fn ends_of(resolved: &Resolved, served: &Served, tokenizer: &Tokenizer) -> Vec<i64> {
    let [generation, config] = configs(resolved);
    let mut ids = ends(&Ends { generation: generation.as_ref(), config: config.as_ref(), tokenizer });
    ids.extend(&served.ends);
    ids.sort_unstable();
    ids.dedup();
    ids
}

/// The id that the decoder of a model begins with beside an encoder.
pub(crate) fn start_of(resolved: &Resolved, served: &Served) -> Option<i64> {
    let [generation, config] = configs(resolved);
    served.decoder_start.or_else(|| decoder_start(generation.as_ref(), config.as_ref()).map(i64::from))
}

/// Positions that a model has by its configuration, where that says so.
pub(crate) fn positions_of(resolved: &Resolved) -> Option<usize> {
    let [_, config] = configs(resolved);
    let positions = config?.get("max_position_embeddings")?.as_u64()?;
    usize::try_from(positions).ok().filter(|positions| *positions > 1)
}

/// generation_config.json and config.json of a model, where it has them.
fn configs(resolved: &Resolved) -> [Option<Map<String, Value>>; 2] {
    let of = |name: &str| Some(beside(resolved, name)).filter(|file| resolved.has(file)).and_then(|f| json_object(&f));
    let above = base::config_of(resolved);
    let generation = || {
        let file = above.as_ref()?.0.with_file_name("generation_config.json");
        json_object(&file).filter(|_| resolved.has(&file))
    };
    let generation = of("generation_config.json").or_else(generation);
    [generation, of("config.json").or(above.map(|(_, config)| config))]
}

/// Refuses a model whose output is not what is known of it.
pub(crate) fn check(graph: &Graph, served: &Served, name: &str) -> Result<(), ServedError> {
    let outputs = graph.outputs();
    let all = || outputs.iter().map(|v| format!("`{}` {}", graph.name_of(*v), graph.fact(*v))).collect::<Vec<_>>();
    let wrong = |why: String| ServedError::Output { model: name.into(), why };
    let Some(output) = outputs.iter().find(|v| graph.name_of(**v) == served.output) else {
        let (output, all) = (&served.output, all().join(", "));
        return Err(wrong(format!("the task `{}` is in the output `{output}`, and it has {all}", served.task)));
    };
    let fact = graph.fact(*output);
    let width = fact.dims().and_then(|dims| dims.last().and_then(|dim| dim.known()));
    match width {
        Some(width) if !served.labels.is_empty() && width != served.labels.len() as i64 => {
            let (output, labels) = (&served.output, served.labels.len());
            Err(wrong(format!("its output `{output}` {fact} has {width} numbers, and the task {labels} labels")))
        }
        _ => Ok(()),
    }
}
