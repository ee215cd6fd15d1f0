//! `lorac predict`: texts or images, and a line for each.

use super::args::Format;
use super::{resolver, terminal};
use lorac::data::format::image_files;
use lorac::data::{Row, TextEncoding};
use lorac::error::Error;
use lorac::pipeline::RuntimeSource;
use lorac::predict::{Answer, Options, Predictor, Texts, WINDOW, lines, texts};
use lorac::served::{Reads, ServedError};
use lorac::source::Source;
use lorac::train::Prediction;
use std::io::{BufReader, stdin};
use std::path::{Path, PathBuf};

/// The command's arguments.
pub(super) struct Ask {
    pub(super) file: Option<PathBuf>,
    pub(super) texts: Vec<String>,
    pub(super) pairs: Vec<String>,
    pub(super) columns: Vec<String>,
    pub(super) encoding: Option<String>,
    pub(super) tokenizer: Option<String>,
    pub(super) batch: Option<usize>,
    pub(super) perplexity: bool,
    pub(super) max_new_tokens: Option<usize>,
    pub(super) num_beams: Option<usize>,
    pub(super) stop: Vec<String>,
    pub(super) runtime: Option<String>,
}

pub(super) fn run(model: &str, ask: Ask, quiet: bool, format: Format) -> Result<(), Error> {
    if ask.batch == Some(0) {
        return Err(Error::Usage("`--batch 0`: a batch has at least one row".into()));
    }
    if !ask.pairs.is_empty() && ask.pairs.len() != ask.texts.len() {
        let (pairs, texts) = (ask.pairs.len(), ask.texts.len());
        return Err(Error::Usage(format!("`--pair` is given {pairs} times and `--text` {texts}: one for each")));
    }
    let encoding = ask.encoding.as_deref().map_or(Ok(TextEncoding::default()), |name| {
        let unknown = |near: Vec<String>| format!("`--encoding {name}`: known are {}", near.join(", "));
        TextEncoding::named(name).map_err(|near| Error::Usage(unknown(near)))
    })?;
    let of_texts = ask.of_texts();
    let options = Options {
        tokenizer: ask.tokenizer.map(|source| source.parse::<Source>()).transpose()?,
        runtime: ask.runtime.map(RuntimeSource::try_from).transpose()?.unwrap_or_default(),
        batch: ask.batch,
        writes: !ask.perplexity,
        max_new_tokens: ask.max_new_tokens,
        num_beams: ask.num_beams,
        stop_strings: ask.stop,
    };
    let mut model = Predictor::open_with(model, &options, &resolver(Path::new("."), quiet)?)?;
    if ask.perplexity && model.served().predicts != Prediction::Tokens {
        let (task, options) = (model.served().task.clone(), vec!["`--perplexity`"]);
        return Err(ServedError::WritesNothing { task, options }.into());
    }
    let of_images = model.served().reads == Reads::Images;
    if let Some(given) = of_texts.filter(|_| of_images) {
        return Err(ServedError::OtherInput { reads: Reads::Images, given: given.into() }.into());
    }
    model.notes().iter().for_each(|note| terminal::say(&format!("warning: {note}")));
    let mut cut = Cut::default();
    let mut show = |answers: &[Answer]| -> Result<bool, Error> {
        cut.count(answers);
        let line = |answer: &Answer| match format {
            Format::Json => serde_json::to_string(answer).unwrap_or_default(),
            Format::Text => answer.to_string(),
        };
        terminal::print_lines(&answers.iter().map(line).collect::<Vec<_>>(), format == Format::Json)
    };
    let found = match &ask.file {
        Some(path) if of_images => {
            for files in image_files(path)?.chunks(IMAGES) {
                if !show(&model.images(files)?)? {
                    break;
                }
            }
            None
        }
        None if ask.pairs.is_empty() => {
            show(&model.texts(&ask.texts)?)?;
            None
        }
        None => {
            let pairs: Vec<(&String, &String)> = ask.texts.iter().zip(&ask.pairs).collect();
            show(&model.pairs(&pairs)?)?;
            None
        }
        Some(file) if file.as_os_str() == "-" && ask.columns.is_empty() => {
            Some(lines(BufReader::new(encoding.decoded(Box::new(stdin()))), Path::new("standard input")))
        }
        Some(file) if file.as_os_str() == "-" => {
            return Err(Error::Usage("`--column`: standard input has lines and no columns".into()));
        }
        Some(file) => Some(texts(file, &ask.columns, encoding, model.served())?),
    };
    if let Some(Texts { rows, columns }) = found {
        let mut rows = rows.fuse();
        loop {
            let mut wrong = None;
            let right = |row: Result<Row, Error>| row.map_err(|error| wrong = Some(error)).ok();
            let window: Vec<Row> = rows.by_ref().take(WINDOW).map_while(right).collect();
            let more = !window.is_empty() && show(&model.rows(&window, &columns)?)?;
            match wrong {
                Some(error) => return Err(error),
                None if more => {}
                None => break,
            }
        }
    }
    cut.say(model.max_length(), quiet);
    Ok(())
}

/// Images that are told of at the same time.
const IMAGES: usize = 32;

impl Ask {
    /// What is given that is for texts alone.
    fn of_texts(&self) -> Option<&'static str> {
        let is_input = |file: &PathBuf| file.as_os_str() == "-";
        let given = [
            ("texts", !self.texts.is_empty()),
            ("lines of standard input", self.file.as_ref().is_some_and(is_input)),
            ("`--column`", !self.columns.is_empty()),
            ("`--encoding`", self.encoding.is_some()),
        ];
        given.into_iter().find(|(_, given)| *given).map(|(what, _)| what)
    }
}

/// Texts that were cut.
#[derive(Default)]
struct Cut {
    texts: usize,
    of: usize,
}

impl Cut {
    fn count(&mut self, answers: &[Answer]) {
        self.of += answers.len();
        self.texts += answers.iter().filter(|answer| answer.cut > 0).count();
    }

    fn say(&self, tokens: usize, quiet: bool) {
        if self.texts > 0 && !quiet {
            terminal::say(&format!("warning: {} of {} texts were cut to {tokens} tokens", self.texts, self.of));
        }
    }
}
