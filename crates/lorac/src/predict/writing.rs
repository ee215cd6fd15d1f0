//! What a language model writes behind texts.

use super::answer::{Answer, Says};
use super::{Options, Predictor};
use crate::error::Error;
use crate::predict::found::{ends_of, positions_of, start_of};
use crate::served::{Served, ServedError};
use crate::source::Resolved;
use crate::task::CausalLm;
use crate::writing::{Parts, Writer, compile};
use lorac_config::{Check, Problems};
use lorac_data::{DataError, Example, Field, Row, Template, Tokenizer, Truncate};
use lorac_ir::Graph;
use lorac_onnx::Model;
use lorac_passes::Caches;
use lorac_runtime::Backend;
use lorac_train::{Decoder, Feeds, Generate};
use std::sync::atomic::AtomicBool;

/// Rows that are written at the same time, where nothing says how many.
const ROWS: usize = 8;

/// What writes on behind texts.
pub(super) struct Author {
    writer: Writer,
    decoder: Decoder,
    /// What a user should know, in words.
    pub(super) note: Option<String>,
}

/// A language model that is to write.
pub(super) struct Opened<'a> {
    pub(super) source: &'a Resolved,
    pub(super) model: &'a Model,
    pub(super) served: &'a Served,
    pub(super) graph: &'a Graph,
    pub(super) feeds: &'a Feeds,
    pub(super) caches: &'a Caches,
    pub(super) tokenizer: &'a Tokenizer,
    pub(super) backend: &'a dyn Backend,
}

impl Author {
    /// What writes on behind texts, as `options` says, else as the model was judged.
    pub(super) fn open(of: Opened, options: &Options) -> Result<Author, Error> {
        let Opened { source, model, served, graph, feeds, caches, tokenizer, backend } = of;
        let mut settings = served.generate.clone().unwrap_or_default();
        settings.max_new_tokens = options.max_new_tokens.unwrap_or(settings.max_new_tokens);
        settings.num_beams = options.num_beams.unwrap_or(settings.num_beams);
        if !options.stop_strings.is_empty() {
            settings.stop_strings = options.stop_strings.clone();
        }
        let settings = checked(settings)?;
        let start = started(source, served, feeds)?;
        let mut base = graph.clone();
        caches.switch_off(&mut base)?;
        let logits = Some(served.output.clone());
        let mut writer = compile(Parts {
            model,
            base: &base,
            feeds,
            caches,
            names: &served.inputs,
            objective: &CausalLm { logits, ..CausalLm::default() },
            trained: None,
            backend,
            source: Some(source),
            settings,
            ends: ends_of(source, served, tokenizer),
            tokenizer: tokenizer.clone(),
            rows: options.batch.unwrap_or(ROWS),
            multiple: 8,
            start,
        })?;
        // Where no table says it, and the shape does not, the configuration may.
        writer.ports.pad.max = writer.ports.pad.max.min(positions_of(source).unwrap_or(usize::MAX));
        let (decoder, note) = writer.open(backend, &[], &[])?;
        Ok(Author { writer, decoder, note })
    }

    /// A tokenizer that cuts prompts to what the model has room for: on the left, where nothing says on which side and the text is
    /// what the model goes on from.
    pub(super) fn roomy(&self, tokenizer: Tokenizer, served: &Served) -> Result<Tokenizer, Error> {
        let tokenizer = tokenizer.with_max_length(self.writer.prompt_room())?;
        match (self.writer.start, served.side()) {
            (None, None) => Ok(tokenizer.truncated(Truncate::Left)?),
            _ => Ok(tokenizer),
        }
    }
}

/// Refuses settings that cannot be followed.
fn checked(settings: Generate) -> Result<Generate, Error> {
    // What is of beam search alone may stand in the settings that the model was judged by.
    let usual = Generate::default();
    let settings = match settings.num_beams {
        1 => Generate { length_penalty: usual.length_penalty, early_stopping: false, ..settings },
        _ => settings,
    };
    let mut problems = Problems::default();
    settings.check(&mut problems);
    let said: Vec<String> = problems.finish().into_iter().map(|problem| problem.message).collect();
    if said.is_empty() { Ok(settings) } else { Err(Error::Usage(said.join("; "))) }
}

/// The id that the decoder begins with, of a model that has an encoder beside it.
fn started(source: &Resolved, served: &Served, feeds: &Feeds) -> Result<Option<i64>, Error> {
    if feeds.inputs.iter().all(|binding| binding.field != "decoder_input_ids") {
        return Ok(None);
    }
    let none = || ServedError::NoStart { model: source.source.to_string() };
    Ok(Some(start_of(source, served).ok_or_else(none)?))
}

impl Predictor {
    /// What is written behind the text of each row, in a column or a template.
    pub(super) fn write(&mut self, rows: &[Row], column: &str) -> Result<Vec<Answer>, Error> {
        let template = Template::parse(column).map_err(DataError::from)?;
        let texts: Vec<String> =
            rows.iter().map(|row| Ok(template.fill(row)?.into_owned())).collect::<Result<_, DataError>>()?;
        let Some(tokenizer) = &self.tokenizer else { return Ok(Vec::new()) };
        let encoded = match self.author.as_ref().is_some_and(|author| author.writer.start.is_some()) {
            true => tokenizer.encode(&texts)?,
            false => tokenizer.encode_prompts(&texts, true)?,
        };
        let ids: Vec<Vec<i64>> = encoded.iter().map(|one| one.ids.clone()).collect();
        let tokens = |ids: &Vec<i64>| Field::Tokens { ids: ids.clone(), pad: tokenizer.pad_id() };
        let examples = ids.iter().map(|ids| Example { fields: vec![("input_ids", tokens(ids))] }).collect();
        self.check(&lorac_data::Dataset::new(examples, self.pad))?;
        let Some(author) = &mut self.author else { return Ok(Vec::new()) };
        let texts = author.writer.write(&mut author.decoder, &ids, &AtomicBool::new(false), |_| ())?;
        let answer = |(written, encoded): (crate::writing::Written, lorac_data::Encoded)| Answer {
            says: Says::Text { text: written.text, tokens: written.tokens },
            cut: encoded.measure.lost,
            file: None,
        };
        Ok(texts.into_iter().zip(encoded).map(answer).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_of_beam_search_do_not_keep_a_model_from_writing_without() {
        let judged = Generate { num_beams: 1, length_penalty: 2.0, early_stopping: true, ..Generate::default() };
        assert_eq!(checked(judged).expect("fits"), Generate::default());
        let none = Generate { max_new_tokens: 0, ..Generate::default() };
        assert!(checked(none).expect_err("nothing").to_string().contains("`max_new_tokens` is 0"));
    }
}
