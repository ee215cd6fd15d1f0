//! Texts that a language model writes, to be compared with those that it should have written.

mod asked;
mod build;
mod ends;

pub use asked::Asked;
pub(crate) use asked::together;
pub use build::{Adapted, Parts, compile};
pub(crate) use ends::{Ends, decoder_start, ends};

use crate::error::Error;
use crate::progress::Progress;
use crate::stop::StoppableNext;
use lorac_data::Tokenizer;
use lorac_ir::Graph;
use lorac_runtime::Backend;
use lorac_train::{
    Decoder, DecoderPorts, Encoder, Generate, Generated, TrainError, Writing, compile_graph, generate, theta_program,
};
use std::sync::atomic::AtomicBool;

/// How many texts are shown, where a run is told of.
pub(crate) const SHOWN: usize = 5;

/// A model that writes texts, without an engine.
#[derive(Clone)]
pub struct Writer {
    /// The graph that scores next tokens.
    pub graph: Graph,
    /// What is computed once for a text that is answered, where that is known apart.
    pub encoder: Option<Reading>,
    /// The input of what is trained, where anything is.
    pub theta: Option<String>,
    /// What its program is fed.
    pub ports: DecoderPorts,
    /// How texts are written.
    pub settings: Generate,
    /// Tokens that end a text.
    pub ends: Vec<i64>,
    /// From tokens to texts.
    pub tokenizer: Tokenizer,
    /// Rows that are scored at the same time.
    pub rows: usize,
    /// The id that a decoder begins with while an encoder reads the prompt; none of a model without an encoder.
    pub start: Option<i64>,
}

/// What an encoder computes of a text.
#[derive(Clone)]
pub struct Reading {
    /// The graph that computes it.
    pub graph: Graph,
    /// Its outputs, which are inputs of the graph that scores.
    pub values: Vec<String>,
    /// Whether those of some rows of a batch can be picked.
    pub by_rows: bool,
}

impl Writer {
    /// The program on an engine, and what a user should know of it. `theta` is what is trained, where that is not in the weights;
    /// `prompt` is one that the model may meet.
    ///
    /// # Errors
    /// What the engine refuses.
    pub fn open(
        &self,
        backend: &dyn Backend,
        theta: &[f32],
        prompt: &[i64],
    ) -> Result<(Decoder, Option<String>), Error> {
        let program = |graph: &Graph| match self.theta.as_deref().and_then(|name| graph.find(name)) {
            Some(_) => theta_program(backend, graph, theta),
            None => compile_graph(backend, graph, Vec::new()),
        };
        let mut decoder = Decoder::new(program(&self.graph)?, self.ports.clone());
        if let Some(Reading { graph, values, by_rows }) = &self.encoder {
            decoder = decoder.with_encoder(Encoder::new(program(graph)?, values.clone(), *by_rows));
        }
        let right = decoder.check_caches(prompt)?;
        let note = "the model's caches do not give what whole texts do: texts are written without them";
        Ok((decoder, (!right).then(|| note.to_string())))
    }

    /// The texts that the model writes behind prompts, given as tokens. `on_text` hears how many are done.
    ///
    /// # Errors
    /// What the engine says, and that `stop` is set.
    pub fn write(
        &self,
        decoder: &mut Decoder,
        prompts: &[Vec<i64>],
        stop: &AtomicBool,
        on_text: impl FnMut(usize),
    ) -> Result<Vec<Written>, TrainError> {
        let is_over = |new: &[i64]| {
            let stops = !self.settings.stop_strings.is_empty();
            stops && self.tokenizer.decode(new).is_ok_and(|text| self.settings.before_stop(&text).is_some())
        };
        let begins = self.start.map(|start| vec![vec![start]; prompts.len()]);
        let (prompts, sources) = match &begins {
            Some(begins) => (&begins[..], prompts),
            None => (prompts, &[][..]),
        };
        let job = Writing {
            prompts,
            sources,
            settings: &self.settings,
            ends: &self.ends,
            length: self.ports.pad.max,
            rows: self.rows,
            is_over: &is_over,
        };
        let texts = generate(&mut StoppableNext { next: decoder, stop }, &job, on_text)?;
        let written = texts.into_iter().map(|ids| {
            let text = self.tokenizer.decode(&ids)?;
            let text = self.settings.before_stop(&text).map(String::from).unwrap_or(text);
            Ok(Written { text, tokens: ids.len() })
        });
        written.collect()
    }

    /// Tokens that a prompt may have: those that the model takes, less those that are to be written behind it, and at least half of
    /// what it takes; where an encoder reads it, all.
    pub fn prompt_room(&self) -> usize {
        let most = self.ports.pad.max;
        match self.start {
            Some(_) => most,
            // The last token need not be fed.
            None => most.saturating_add(1).saturating_sub(self.settings.max_new_tokens).max(most.div_ceil(2)).max(1),
        }
    }

    /// The texts that the model writes for questions, beside their references.
    ///
    /// # Errors
    /// As [`Writer::write`].
    pub fn answer(
        &self,
        decoder: &mut Decoder,
        asked: &[Asked],
        stop: &AtomicBool,
        on_text: impl FnMut(usize),
    ) -> Result<Vec<Generated>, TrainError> {
        let prompts: Vec<Vec<i64>> = asked.iter().map(|one| one.ids.clone()).collect();
        let texts = self.write(decoder, &prompts, stop, on_text)?;
        let one = |(asked, written): (&Asked, Written)| Generated {
            prompt: asked.prompt.clone(),
            text: written.text,
            references: asked.references.clone(),
        };
        Ok(asked.iter().zip(texts).map(one).collect())
    }
}

/// What a run compares: texts that its model writes for questions.
#[derive(Clone)]
pub struct Texts {
    /// What writes them.
    pub(crate) writer: Writer,
    /// The questions.
    pub(crate) asked: Vec<Asked>,
}

impl Texts {
    /// Compiles what writes the texts that questions ask for.
    ///
    /// # Errors
    /// No questions; those of [`compile`].
    pub(crate) fn compile(parts: Parts, asked: Vec<Asked>) -> Result<Texts, Error> {
        if asked.is_empty() {
            let why = "no held-out example has a prompt that a model could go on from: metrics of texts need them";
            return Err(Error::Usage(why.into()));
        }
        Ok(Texts { writer: compile(parts)?, asked })
    }

    /// The texts that the model writes for all questions, of which `progress` is told, and how many were written.
    pub(crate) fn written(
        &self,
        decoder: &mut Decoder,
        progress: &dyn Progress,
        stop: &AtomicBool,
    ) -> (usize, Result<Vec<Generated>, TrainError>) {
        progress.begin("writing", self.asked.len() as u64);
        let mut done = 0;
        let texts = self.writer.answer(decoder, &self.asked, stop, |n| {
            done += n;
            progress.at(done as u64, "");
        });
        progress.end();
        (done, texts)
    }

    /// How many texts are written, and how.
    pub(crate) fn describe(&self) -> String {
        let (count, beams) = (self.asked.len(), self.writer.settings.num_beams);
        let how = if beams > 1 { format!("beam search of {beams}") } else { "the likeliest token each time".into() };
        let caches = if self.writer.ports.caches.is_empty() { "without" } else { "with" };
        format!("{count} prompts, at most {} tokens each, {how}, {caches} caches", self.writer.settings.max_new_tokens)
    }

    /// What a user should know of how texts end, in words.
    pub(crate) fn notes(&self) -> Vec<String> {
        let Writer { settings, ends, ports, start, .. } = &self.writer;
        let most = settings.max_new_tokens;
        let endless = ends.is_empty() && settings.stop_strings.is_empty();
        let endless = endless.then(|| {
            format!(
                "nothing ends a text before its {most} tokens: neither generation_config.json nor config.json nor the tokenizer names \
                 an end of text, and there are no stop_strings"
            )
        });
        // The last token need not be fed.
        let room = ports.pad.max.saturating_add(1);
        let is_long = |asked: &&Asked| start.map_or(asked.ids.len(), |_| 1).saturating_add(most) > room;
        let (long, all) = (self.asked.iter().filter(is_long).count(), self.asked.len());
        let long = (long > 0).then(|| {
            format!(
                "{long} of {all} prompts leave room for fewer than {most} tokens: the model takes rows of {}",
                ports.pad.max
            )
        });
        endless.into_iter().chain(long).collect()
    }

    /// Tokens of a text at most.
    pub(crate) fn max_new_tokens(&self) -> usize {
        self.writer.settings.max_new_tokens
    }

    /// The tokens of any prompt.
    pub(crate) fn a_prompt(&self) -> &[i64] {
        self.asked.first().map_or(&[], |asked| &asked.ids)
    }
}

/// A text that was written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Written {
    /// The text, without a stop string.
    pub text: String,
    /// The tokens that it took.
    pub tokens: usize,
}
