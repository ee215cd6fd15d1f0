//! `lorac predict`: what a deployed model says of texts and images.
//!
//! A [`Predictor`] is opened from the folder of a run or a model's file. What it needs beside the file ([`Served`]) stands in
//! the config.json, in the manifest of the run or in the file itself; of another tool's model it is told by its configuration.

mod answer;
mod examples;
mod file;
pub(crate) mod found;
mod images;
mod writing;

pub use answer::{Answer, Labelled, Says, Span, Tagged};
pub use file::{Texts, lines, texts};

use crate::base;
use crate::engine;
use crate::error::Error;
use crate::inputs::{caches, feeds, name_fields};
use crate::pipeline::RuntimeSource;
use crate::program::compile_file;
use crate::served::{Reads, Served, ServedError, is_probability};
use crate::source::{Resolver, Source};
use examples::{Examples, Words};
use found::{Found, find};
use lorac_data::encode::PIXELS;
use lorac_data::{Dataset, Measure, PadTo, Row, Tokenizer};
use lorac_ir::{DType, Tensor};
use lorac_onnx::Model;
use lorac_passes::{InputLimits, InputStats, LimitExceeded, fixed_input, input_limits, readable};
use lorac_runtime::Program;
use lorac_train::{Feeds, Prediction};
use std::path::Path;
use writing::{Author, Opened};

/// How a model is opened.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Options {
    /// The tokenizer.json, or a folder that holds one. Default: the one beside the model.
    pub tokenizer: Option<Source>,
    /// The execution engine.
    pub runtime: RuntimeSource,
    /// Rows of a batch. Default: 32, of language models 1, of those that write 8.
    pub batch: Option<usize>,
    /// Whether a language model writes on behind texts. Where not, it says how well it would have told them.
    pub writes: bool,
    /// Tokens of what it writes at most. Default: as it was judged, else 64.
    pub max_new_tokens: Option<usize>,
    /// Beams of a search. Default: as it was judged, else 1.
    pub num_beams: Option<usize>,
    /// Texts that end what it writes. Default: as it was judged.
    pub stop_strings: Vec<String>,
}

impl Options {
    /// Refuses what is said of writing where a model writes nothing.
    fn check(&self, served: &Served) -> Result<(), ServedError> {
        let given = [
            ("`--max-new-tokens`", self.max_new_tokens.is_some()),
            ("`--num-beams`", self.num_beams.is_some()),
            ("`--stop`", !self.stop_strings.is_empty()),
        ];
        let options: Vec<&str> = given.into_iter().filter(|(_, given)| *given).map(|(name, _)| name).collect();
        match self.writes && served.predicts == Prediction::Tokens || options.is_empty() {
            true => Ok(()),
            false => Err(ServedError::WritesNothing { task: served.task.clone(), options }),
        }
    }
}

/// Texts that are looked at together: those of like length become batches.
pub const WINDOW: usize = 2048;

/// Rows of a batch, where nothing says how many.
const ROWS: usize = 32;

/// A deployed model that is ready to answer.
pub struct Predictor {
    served: Served,
    /// What makes tokens of texts; none where it reads images.
    tokenizer: Option<Tokenizer>,
    /// The model as it is; none where it writes.
    program: Option<Box<dyn Program>>,
    author: Option<Author>,
    feeds: Feeds,
    pad: PadTo,
    rows: usize,
    limits: Option<InputLimits>,
    /// Whether the outputs are probabilities.
    done: bool,
    notes: Vec<String>,
    /// The program may read its mapped file.
    _model: Model,
}

impl Predictor {
    /// Opens the folder of a run, a model's file beside its config.json and tokenizer, or another source of a model. Relative
    /// paths begin in the working folder.
    ///
    /// # Errors
    /// As [`Predictor::open_with`].
    pub fn open(model: &str, options: &Options) -> Result<Predictor, Error> {
        Predictor::open_with(model, options, &Resolver::new(None, Path::new("."))?)
    }

    /// The same; sources are found by `resolver`.
    ///
    /// # Errors
    /// A folder without a model, the model of a rejected run, nothing that says what it predicts, an output that is not the
    /// task's, and what cannot be read or run.
    pub fn open_with(model: &str, options: &Options, resolver: &Resolver) -> Result<Predictor, Error> {
        let name = model;
        let Found { resolved, model, served, tokenizer } = find(name, options.tokenizer.as_ref(), resolver)?;
        options.check(&served)?;
        let mut graph = readable(&model.graph, &model.functions)?;
        let feeds = match served.reads {
            Reads::Images => images::feeds(&graph, name)?,
            _ => {
                name_fields(&mut graph, &served.inputs).map_err(|wrong| {
                    let said: Vec<String> = wrong.into_iter().map(|problem| problem.message).collect();
                    Error::Usage(said.join("; "))
                })?;
                let kind = base::kind_of(&resolved);
                served.seeing(feeds(&graph)?, served.predicts == Prediction::Tokens, kind.as_ref())
            }
        };
        let read = feeds.inputs.iter().find(|b| ["input_ids", PIXELS].contains(&b.field.as_str()));
        let mut fixed = read.map(|b| fixed_input(&graph, &b.input)).unwrap_or_default();
        if served.reads == Reads::Images {
            images::check(&served, name)?;
            fixed.len = None;
        }
        let pad = match fixed.len {
            Some(len) => PadTo { multiple: 1, min: len, max: len, ..PadTo::default() },
            None => PadTo { multiple: 1, max: served.max_length, ..PadTo::default() },
        };
        let max_length = fixed.len.map_or(served.max_length, |len| len.min(served.max_length));
        let tokenizer = tokenizer.map(|file| file.open(max_length, served.truncate)).transpose()?;
        let engine = engine::open(&options.runtime.choice(None), &Default::default(), resolver)?;
        let (backend, caches) = (engine.backend.as_ref(), caches(&graph, &feeds));
        let answers = feeds.inputs.iter().any(|b| b.field == "decoder_input_ids");
        if answers && !options.writes {
            return Err(ServedError::WritesOnly { task: served.task.clone() }.into());
        }
        let (program, author) = match &tokenizer {
            Some(tokenizer) if options.writes && served.predicts == Prediction::Tokens => {
                let of = Opened {
                    source: &resolved,
                    model: &model,
                    served: &served,
                    graph: &graph,
                    feeds: &feeds,
                    caches: &caches,
                    tokenizer,
                    backend,
                };
                (None, Some(Author::open(of, options)?))
            }
            _ => (Some(compile_file(backend, &model, &caches)?), None),
        };
        let tokenizer = match (tokenizer, &author) {
            // A prompt has room for what the model takes, not for what it was trained with.
            (Some(tokenizer), Some(author)) => Some(author.roomy(tokenizer, &served)?),
            (tokenizer, _) => tokenizer,
        };
        let usual = if served.predicts == Prediction::Tokens { 1 } else { ROWS };
        let why = engine.fallback.map(|why| format!("the embedded engine is used: {why}"));
        Ok(Predictor {
            rows: fixed.rows.or(options.batch).unwrap_or(usual).max(1),
            limits: input_limits(&graph),
            done: is_probability(&graph, &served.output),
            notes: why.into_iter().chain(author.as_ref().and_then(|author| author.note.clone())).collect(),
            served,
            tokenizer,
            program,
            author,
            feeds,
            pad,
            _model: model,
        })
    }

    /// What is known of the model.
    pub fn served(&self) -> &Served {
        &self.served
    }

    /// Tokens that a text is cut to: those that it was trained with; of one that is gone on from, those that the model has room for.
    pub fn max_length(&self) -> usize {
        self.tokenizer.as_ref().map_or(0, Tokenizer::max_length)
    }

    /// What a user should know, in words.
    pub fn notes(&self) -> &[String] {
        &self.notes
    }

    /// What the model says of each text.
    ///
    /// # Errors
    /// A text that cannot be tokenized, tokens that the model does not have, and what the engine says.
    pub fn texts(&mut self, texts: &[impl AsRef<str>]) -> Result<Vec<Answer>, Error> {
        let rows: Vec<Row> = texts.iter().enumerate().map(|(i, text)| examples::row(i, &[text.as_ref()])).collect();
        self.rows(&rows, &[examples::COLUMNS[0].to_string()])
    }

    /// What the model says of each pair of texts.
    ///
    /// # Errors
    /// As [`Predictor::texts`].
    pub fn pairs(&mut self, pairs: &[(impl AsRef<str>, impl AsRef<str>)]) -> Result<Vec<Answer>, Error> {
        let row = |(i, (a, b)): (usize, &(_, _))| examples::row(i, &[AsRef::as_ref(a), AsRef::as_ref(b)]);
        let rows: Vec<Row> = pairs.iter().enumerate().map(row).collect();
        self.rows(&rows, &examples::COLUMNS.map(String::from))
    }

    /// What the model says of each row: of the text in a column or template, or of the two texts in two of them.
    ///
    /// # Errors
    /// As [`Predictor::texts`]; a row without the columns, and another number of them than the model reads texts; a model of images.
    pub fn rows(&mut self, rows: &[Row], columns: &[String]) -> Result<Vec<Answer>, Error> {
        if self.tokenizer.is_none() {
            return Err(ServedError::OtherInput { reads: self.served.reads, given: "texts".into() }.into());
        }
        let takes = if self.served.text_pair.is_some() { 2 } else { 1 };
        // Of another tool's model it is not known, unless it goes on from what it reads.
        let is_known = !self.served.lorac_version.is_empty() || self.author.is_some();
        if columns.len() != takes && (takes == 2 || columns.len() != 2 || is_known) {
            let (reads, given) = (["one text", "pairs of texts"][takes - 1], columns.len());
            return Err(Error::Usage(format!("the model reads {reads}, and {given} are given for each answer")));
        }
        let mut answers = Vec::with_capacity(rows.len());
        for window in rows.chunks(WINDOW) {
            answers.extend(self.window(window, columns)?);
        }
        Ok(answers)
    }

    fn window(&mut self, rows: &[Row], columns: &[String]) -> Result<Vec<Answer>, Error> {
        if self.author.is_some() {
            return self.write(rows, columns.first().map_or(examples::COLUMNS[0], String::as_str));
        }
        let Some(tokenizer) = &self.tokenizer else { return Ok(Vec::new()) };
        let Examples { examples, measures, words } = examples::encode(rows, columns, &self.served, tokenizer)?;
        let data = Dataset::new(examples, self.pad);
        self.check(&data)?;
        self.answers(&data, &measures, &words)
    }

    /// What the model says of each example; with what making tokens of it did, and its words, where there are any.
    fn answers(&mut self, data: &Dataset, measures: &[Measure], words: &[Words]) -> Result<Vec<Answer>, Error> {
        let lengths = data.lengths();
        let mut order: Vec<usize> = (0..data.len()).collect();
        order.sort_by_key(|at| (lengths[*at], *at));
        let mut answers: Vec<Option<Answer>> = vec![None; data.len()];
        for batch in order.chunks(self.rows) {
            let made = data.batch(batch, self.rows)?;
            let Some(program) = &mut self.program else { break };
            let tensors = self.feeds.for_program(program.as_ref(), &made)?;
            let refs: Vec<(&str, &Tensor)> = tensors.iter().map(|(name, tensor)| (name.as_str(), tensor)).collect();
            let out = program.run(&refs, &[&self.served.output])?;
            let (scores, dims) = out.first().map(|t| (reals(t), t.dims().to_vec())).unwrap_or_default();
            let each = scores.len() / dims.first().copied().unwrap_or(1).max(1);
            for (row, at) in batch.iter().enumerate() {
                let scores = scores.get(row * each..(row + 1) * each).unwrap_or_default();
                let width = dims.get(1..).and_then(<[usize]>::last).copied().unwrap_or(1);
                let of = answer::Scores { served: &self.served, done: self.done, scores, width };
                let measure: Measure = measures.get(*at).copied().unwrap_or_default();
                answers[*at] = Some(of.answer(&data.examples[*at], words.get(*at), measure));
            }
        }
        Ok(answers.into_iter().flatten().collect())
    }

    fn check(&self, data: &Dataset) -> Result<(), Error> {
        let ids = data.examples.iter().filter_map(|example| example.tokens("input_ids"));
        let stats = InputStats {
            largest_id: ids.flatten().copied().max().unwrap_or(0),
            padded_len: data.lengths().into_iter().max().unwrap_or(0),
            unpadded_len: data.lengths().into_iter().max().unwrap_or(0),
        };
        match self.limits.as_ref().and_then(|limits| limits.exceeded(&stats)) {
            None => Ok(()),
            Some(token @ LimitExceeded::Token { .. }) => {
                Err(Error::Usage(format!("tokenizer and model do not belong together: there is {token}")))
            }
            Some(length) => Err(Error::Usage(format!("the texts have {length}"))),
        }
    }
}

fn reals(tensor: &Tensor) -> Vec<f32> {
    match tensor.dtype() {
        DType::F32 => tensor.to_vec().unwrap_or_default(),
        _ => tensor.to_f64().unwrap_or_default().into_iter().map(|x| x as f32).collect(),
    }
}
