//! What a run is made of, opened: the model, the tokenizer and the engine, each with its sum.

use super::beside::Beside;
use crate::base;
use crate::engine::{self, Engine};
use crate::error::Error;
use crate::output::{InputRecord, sha256_file};
use crate::pipeline::{Pipeline, SourceSpec};
use crate::source::{Resolved, Resolver, Source};
use crate::task::TaskChoice;
use lorac_data::{ChatSettings, Tokenizer};
use lorac_onnx::Model;
use std::path::Path;

/// The model, and its source with the sum of all its files.
pub(super) fn open_model(
    spec: &SourceSpec,
    resolver: &Resolver,
    task: &TaskChoice,
    untied: bool,
) -> Result<(Resolved, Model), Error> {
    let pin = spec.sha256.as_deref();
    let resolve = || match pin {
        Some(pin) => resolver.resolve_for_pin(&spec.source, pin),
        None => resolver.resolve(&spec.source, None),
    };
    let source = resolve()?;
    let form = task.form(base::kind_of(&source).as_ref());
    let model = match base::open_form(&source, resolver, form, untied) {
        Ok(model) => model,
        // Another file than the pinned one is the likelier mistake.
        Err(error) => return Err(source.check(pin).map_or_else(Error::from, |()| error)),
    };
    // The sum of a folder has them already; a model built from another file has none of the user's. What was read
    // counts, not what the path leads to by now.
    let stored = pin.is_none() && !matches!(spec.source, Source::Path(_)) && model.external_files().next().is_none();
    let source = match source.path == model.path {
        true if stored => source,
        true => {
            model.check_unchanged()?;
            let beside = model.external_contents().map(|(path, bytes)| (path, &bytes[..]));
            source.with_contents(&model.file, beside)
        }
        // Of a pinned folder nothing may have changed while it was read.
        false if pin.is_some() => resolve()?,
        false => source,
    };
    source.check(pin)?;
    Ok((source, model))
}

/// The tokenizer, and the sums of its files where they are none of the inputs.
pub(super) fn tokenizer(
    p: &Pipeline,
    max_length: usize,
    model: &Resolved,
    resolver: &Resolver,
    inputs: &mut Vec<InputRecord>,
) -> Result<(Tokenizer, Option<String>, Beside), Error> {
    let found = match &p.tokenizer {
        Some(t) => Some(resolver.resolve(&t.source, t.sha256.as_deref())?),
        None => None,
    };
    inputs.extend(found.iter().map(|found| record("tokenizer", found)));
    let (tokenizer, sum, beside) = match &found {
        Some(found) => {
            let path = &found.path;
            let file = if path.is_dir() { path.join("tokenizer.json") } else { path.clone() };
            let may_read = |file: &Path| found.has(file);
            (Tokenizer::from_files(&file, max_length, &may_read)?, None, Beside::of_tokenizer(&file, &may_read)?)
        }
        None => {
            let file = base::tokenizer(model, resolver)?;
            let may_read = |beside: &Path| file.is_of(model, beside);
            let tokenizer = Tokenizer::from_files(&file.path, max_length, &may_read)?;
            let beside = Beside::of_tokenizer(&file.path, &may_read)?;
            let more = ["tokenizer_config.json", "chat_template.jinja"].map(|name| file.path.with_file_name(name));
            let files = [file.path.clone()].into_iter().chain(more).collect::<Vec<_>>();
            let read = files.iter().filter(|f| **f == file.path || file.is_of(model, f) && f.is_file());
            let sums = read.map(|file| Ok(sha256_file(file)?.0)).collect::<Result<Vec<_>, Error>>()?;
            model.unchanged()?;
            let tokenizer = match base::chat(model)? {
                Some(keys) => tokenizer.with_chat(ChatSettings::of_config(&keys)),
                None => tokenizer,
            };
            (tokenizer, Some(sums.join("+")), beside)
        }
    };
    found.map_or(Ok(()), |found| found.unchanged())?;
    match p.data.truncate {
        Some(truncate) => Ok((tokenizer.truncated(truncate)?, sum, beside)),
        None => Ok((tokenizer, sum, beside)),
    }
}

/// The engine that the pipeline asks for.
///
/// # Errors
/// One that is not to be had.
pub(crate) fn open_engine(p: &Pipeline, resolver: &Resolver) -> Result<Engine, Error> {
    let choice = p.runtime.source.choice(p.runtime.sha256.as_deref());
    engine::open(&choice, &p.runtime.options(), resolver)
}

/// What a manifest says of an input.
pub(super) fn record(role: &str, r: &Resolved) -> InputRecord {
    InputRecord {
        role: role.into(),
        source: r.source.clone(),
        sha256: r.sha256.clone(),
        path: r.path.display().to_string(),
    }
}
