//! Whether what a split feeds fits the tables of the model.

use crate::error::Error;
use crate::pipeline::{Loaded, Pipeline};
use lorac_config::Problem;
use lorac_data::{Dataset, Field, PadTo};
use lorac_ir::Graph;
use lorac_passes::{FixedInput, InputStats, LimitExceeded, fixed_input, input_limits};
use lorac_train::Feeds;

/// The shape of batches: what the pipeline asks for, as far as the model takes it.
pub(crate) struct BatchShape {
    fixed: FixedInput,
    /// Rows of an example.
    texts: usize,
    /// Tokens that a text is cut after.
    pub(crate) max_length: usize,
    /// The lengths of rows.
    pub(crate) pad: PadTo,
    /// What is not as the pipeline says, in words.
    pub(crate) note: Option<String>,
}

impl BatchShape {
    /// The shape for a model that is fed as `feeds` says.
    pub(crate) fn of(p: &Pipeline, graph: &Graph, feeds: &Feeds) -> BatchShape {
        let tokens = feeds.inputs.iter().find(|b| b.field == "input_ids");
        let first = feeds.inputs.first().map(|b| FixedInput { len: None, ..fixed_input(graph, &b.input) });
        let fixed = tokens.map(|b| fixed_input(graph, &b.input)).or(first).unwrap_or_default();
        let max_length = fixed.len.map_or(p.data.max_length, |len| len.min(p.data.max_length));
        let pad = match fixed.len {
            Some(len) => PadTo { multiple: 1, min: len, max: len, ..PadTo::default() },
            None => PadTo { multiple: p.data.pad_to_multiple, max: p.data.max_length, ..PadTo::default() },
        };
        let adapted =
            |n: usize, asked: usize| if n == asked { n.to_string() } else { format!("{n} instead of {asked}") };
        let asked = p.train.batch.given();
        let others = |n: usize, asked: usize| match n < asked {
            true => format!("batches of {asked} are computed {n} at a time"),
            false => format!("batches of {asked} are filled up"),
        };
        let rows = fixed.rows.zip(asked).filter(|(n, asked)| n != asked).map(|(n, asked)| others(n, asked));
        let len = fixed.len.map(|n| match max_length < p.data.max_length {
            true => format!("texts are cut after {} tokens and padded to {n}", adapted(n, p.data.max_length)),
            false => format!("texts are padded to {n} tokens"),
        });
        let shape = |n: Option<usize>| n.map_or("any".to_string(), |n| n.to_string());
        let said: Vec<String> = rows.into_iter().chain(len).collect();
        let takes = match tokens {
            Some(_) => format!("{} x {} tokens", shape(fixed.rows), shape(fixed.len)),
            None => format!("{} rows", shape(fixed.rows)),
        };
        let note = (!said.is_empty()).then(|| format!("the model takes batches of {takes}: {}", said.join(", ")));
        BatchShape { fixed, texts: 1, max_length, pad, note }
    }

    /// The shape of a model that takes batches of so many rows and any length.
    #[cfg(test)]
    pub(super) fn with_rows(rows: Option<usize>) -> BatchShape {
        let fixed = FixedInput { rows, ..FixedInput::default() };
        BatchShape { fixed, texts: 1, max_length: usize::MAX, pad: PadTo::default(), note: None }
    }

    /// Examples of a batch, where the model takes no other number of rows.
    pub(super) fn fixed_rows(&self) -> Option<usize> {
        self.fixed.rows.map(|rows| rows / self.texts)
    }

    /// Counts the rows that an example of these splits has, each of which stands by its path; `fills` says whether batches are
    /// filled up.
    ///
    /// # Errors
    /// Examples that make no batch of as many rows as the model takes.
    pub(crate) fn count_rows(
        &mut self,
        loaded: &Loaded,
        splits: &[(&str, &Dataset)],
        fills: bool,
    ) -> Result<(), Error> {
        let Some(rows) = self.fixed.rows else { return Ok(()) };
        let splits = || splits.iter().filter_map(|(path, data)| Some((*path, *data, data.examples.first()?)));
        self.texts = splits().map(|(.., example)| example.row_lengths().len()).next().unwrap_or(1).max(1);
        let each = rows / self.texts;
        if let Some(note) = self.note.as_mut().filter(|_| self.texts > 1) {
            *note += &format!("; an example is {} rows", self.texts);
        }
        let wrong = splits().find_map(|(path, data, example)| {
            let texts = example.row_lengths().len();
            let what = match () {
                () if texts != self.texts => {
                    format!("an example of data.train has {} texts and one of {path} {texts}", self.texts)
                }
                () if !rows.is_multiple_of(texts) => {
                    format!("an example has {texts} texts, of which no batch has {rows}")
                }
                () if !fills && !data.len().is_multiple_of(each) => {
                    format!(
                        "the last of the {} examples make a smaller one, which this task does not fill up",
                        data.len()
                    )
                }
                () => return None,
            };
            Some((path, what))
        });
        let Some((path, what)) = wrong else { return Ok(()) };
        let message = format!("the model takes batches of {rows} rows and no others: {what}");
        let help = Some("export the model with a batch of any size".to_string());
        let problem = Problem { path: path.into(), code: "pipeline::range", message, help };
        Err(Box::new(loaded.errors_at(vec![problem])).into())
    }

    /// Holds `data.max_length` against the positions that the model has: refused where the pipeline asks for more, and lowered
    /// where it says nothing.
    pub(crate) fn fit(&mut self, loaded: &Loaded, graph: &Graph) -> Result<(), Error> {
        let len = self.max_length;
        let stats = InputStats { largest_id: 0, padded_len: len, unpadded_len: len };
        let Some(LimitExceeded::Length { table, .. }) = input_limits(graph).and_then(|limits| limits.exceeded(&stats))
        else {
            return Ok(());
        };
        if loaded.says("data.max_length") {
            return Err(Box::new(loaded.errors_at(vec![Problem {
                path: "data.max_length".into(),
                code: "pipeline::range",
                message: format!(
                    "`max_length` is {len}, but the model's table `{}` has {} positions",
                    table.name, table.usable
                ),
                help: Some(format!("lower data.max_length to {} at most, or choose another model", table.usable)),
            }]))
            .into());
        }
        (self.max_length, self.pad.max) = (table.usable, table.usable);
        let note =
            format!("the model has {} positions: texts are cut after as many tokens, instead of {len}", table.usable);
        self.note = Some(self.note.take().map_or(note.clone(), |said| format!("{said}; {note}")));
        Ok(())
    }

    /// Rows of a batch where `asked` are asked for and there are `examples`.
    pub(crate) fn rows(&self, asked: usize, examples: usize) -> usize {
        self.fixed_rows().unwrap_or(asked.min(examples))
    }

    /// Holds the rows of `split`, which are as long as `key` says, against the length that the model takes.
    pub(crate) fn check(&self, data: &Dataset, split: &str, key: &str) -> Result<(), Error> {
        let longest = data.lengths().into_iter().max().unwrap_or(0);
        match self.fixed.len.filter(|len| longest > *len) {
            None => Ok(()),
            Some(len) => Err(Error::Usage(format!(
                "{split} has rows of {longest} tokens, but the model takes rows of {len}: lower {key}, or choose another \
                 model"
            ))),
        }
    }
}

/// Holds the examples of `split`, whose rows are as long as `key` says, against the tables of `graph`, which is inferred.
pub(crate) fn check(graph: &Graph, data: &Dataset, split: &str, key: &str) -> Result<(), Error> {
    match input_limits(graph).and_then(|limits| limits.exceeded(&stats(data))) {
        None => Ok(()),
        Some(token @ LimitExceeded::Token { .. }) => Err(Error::Usage(format!(
            "tokenizer and model do not belong together: {split} has {token} (see the keys tokenizer and model)"
        ))),
        Some(length) => Err(Error::Usage(format!("{split} has {length}: lower {key}, or choose another model"))),
    }
}

fn stats(data: &Dataset) -> InputStats {
    let unpadded_len = data.lengths().into_iter().max().unwrap_or(0);
    let padded_len = data.pad.length(unpadded_len).max(unpadded_len);
    let mut largest_id = 0;
    let fields = data.examples.iter().flat_map(|example| ["input_ids", "decoder_input_ids"].map(|n| example.field(n)));
    for field in fields.flatten() {
        let (texts, pad) = match field {
            Field::Tokens { ids, pad } | Field::Answer { ids, pad } => (std::slice::from_ref(ids), *pad),
            Field::Texts { ids, pad } => (ids.as_slice(), *pad),
            _ => continue,
        };
        for ids in texts {
            let padding = (ids.len() < padded_len).then_some(pad);
            largest_id = ids.iter().copied().chain(padding).fold(largest_id, i64::max);
        }
    }
    InputStats { largest_id, padded_len, unpadded_len }
}

#[cfg(test)]
mod tests {
    use super::*;
    use lorac_data::{Example, PadTo};

    #[test]
    fn batches_have_the_shape_that_the_model_takes() {
        let text = "name: n\nmodel: { source: m.onnx }\ntokenizer: { source: t.json }\ntask: { classify: { labels: [a, b] } }\n\
                    data: { train: { csv: t.csv, text: t, label: l }, eval: { csv: e.csv, text: t, label: l }, max_length: 32 }\n\
                    adapt: [{ lora: { targets: [w] } }]\ntrain: { epochs: 1, batch: 8, optimizer: { adamw: { lr: 1e-3 } } }\n";
        let loaded = crate::pipeline::Loaded::parse(text, "p.yaml".as_ref(), &[]).unwrap_or_else(|e| panic!("{e}"));
        let of = |dims: &str| {
            let graph = lorac_ir::parse(&format!("graph g(%input_ids: i64{dims}) {{ }}")).expect("parses");
            BatchShape::of(&loaded.pipeline, &graph, &crate::inputs::feeds(&graph).expect("feeds"))
        };
        let free = of("[B,S]");
        assert_eq!((free.rows(8, 100), free.rows(8, 3), free.max_length, free.note), (8, 3, 32, None));
        let fixed = of("[4,16]");
        assert_eq!((fixed.rows(8, 100), fixed.rows(8, 3), fixed.max_length, fixed.pad.length(3)), (4, 4, 16, 16));
        let note = "the model takes batches of 4 x 16 tokens: batches of 8 are computed 4 at a time, texts are cut after 16 \
                    instead of 32 tokens and padded to 16";
        assert_eq!(fixed.note.as_deref(), Some(note));
        let wide = of("[B,64]");
        assert_eq!((wide.max_length, wide.pad.length(3)), (32, 64));
        let rows = |len: usize| {
            let example = Example { fields: vec![("input_ids", Field::Tokens { ids: vec![3; len], pad: 0 })] };
            Dataset::new(vec![example], of("[4,16]").pad)
        };
        assert!(of("[4,16]").check(&rows(16), "data.train", "data.train.block").is_ok());
        let long = of("[4,16]").check(&rows(17), "data.train", "data.train.block").expect_err("too long").to_string();
        assert!(long.contains("rows of 17 tokens, but the model takes rows of 16: lower data.train.block"), "{long}");
    }

    #[test]
    fn examples_make_batches_of_as_many_rows_as_the_model_takes() {
        let text = "name: n\nmodel: m.onnx\ntask: { embed: {} }\nadapt: { lora: w }\ntrain: { epochs: 1 }\n\
                    data: { train: { csv: t.csv, text: t, text_pair: l }, eval: { csv: e.csv, text: t, text_pair: l } }\n";
        let loaded = Loaded::parse(text, "p.yaml".as_ref(), &[]).unwrap_or_else(|e| panic!("{e}"));
        let data = |examples: usize, texts: usize| {
            let example =
                || Example { fields: vec![("input_ids", Field::Texts { ids: vec![vec![3]; texts], pad: 0 })] };
            Dataset::new((0..examples).map(|_| example()).collect(), PadTo::default())
        };
        let counted = |rows: Option<usize>, train: Dataset, eval: Dataset, fills: bool| {
            let mut shape = BatchShape::with_rows(rows);
            let splits = [("data.train", &train), ("data.eval", &eval)];
            let counted = shape.count_rows(&loaded, &splits, fills).map_err(|e| e.to_string());
            counted.map(|()| (shape.fixed_rows(), shape.rows(9, 100)))
        };
        assert_eq!(counted(None, data(5, 2), data(3, 3), false), Ok((None, 9)));
        assert_eq!(counted(Some(6), data(5, 2), data(4, 2), true), Ok((Some(3), 3)));
        assert_eq!(counted(Some(6), data(5, 2), data(0, 2), true), Ok((Some(3), 3)));
        assert_eq!(counted(Some(6), data(12, 1), data(6, 1), false), Ok((Some(6), 6)));
        let wrong = |rows, train, eval, fills| counted(Some(rows), train, eval, fills).expect_err("no such batch");
        let odd = wrong(5, data(5, 2), data(4, 2), true);
        assert!(
            odd.contains("batches of 5 rows and no others: an example has 2 texts, of which no batch has 5"),
            "{odd}"
        );
        let short = wrong(6, data(12, 1), data(7, 1), false);
        assert!(
            short.contains("p.yaml:6") && short.contains("the last of the 7 examples make a smaller one"),
            "{short}"
        );
        let other = wrong(6, data(12, 3), data(12, 2), true);
        assert!(other.contains("an example of data.train has 3 texts and one of data.eval 2"), "{other}");
    }

    #[test]
    fn more_tokens_than_positions_are_refused_where_they_are_asked_for() {
        let all: Vec<String> = (0..68).map(|i| i.to_string()).collect();
        let graph = lorac_ir::parse(&format!(
            r#"graph bert(%input_ids: i64[B,S]) -> %y {{
              %words = weight "words" f32[100,8]
              %places = weight "places" f32[68,8]
              %all = weight "all" i64[1,68] = [{}]
              %zero = weight "zero" i64[1] = [0]
              %one = weight "one" i64[1] = [1]
              %s = Shape(%input_ids, start=1) : i64[1]
              %p = Slice(%all, %zero, %s, %one) : i64[1,S]
              %w = Gather(%words, %input_ids) : f32[B,S,8]
              %q = Gather(%places, %p) : f32[1,S,8]
              %y = Add(%w, %q) : f32[B,S,8]
            }}"#,
            all.join(", ")
        ))
        .expect("parses");
        let fitted = |length: &str| {
            let text = format!(
                "name: n\nmodel: m.onnx\ntask: {{ classify: {{ labels: [a, b] }} }}\ndata:\n  train: {{ csv: t.csv, text: t, label: \
                 l }}\n{length}adapt: {{ lora: w }}\ntrain: {{ epochs: 1 }}\n"
            );
            let loaded = Loaded::parse(&text, "p.yaml".as_ref(), &[]).unwrap_or_else(|e| panic!("{e}"));
            let mut shape = BatchShape::of(&loaded.pipeline, &graph, &crate::inputs::feeds(&graph).expect("feeds"));
            shape.fit(&loaded, &graph).map(|()| (shape.max_length, shape.pad.length(68), shape.note))
        };
        assert_eq!(fitted("  max_length: 68\n").expect("fits"), (68, 68, None));
        let error = fitted("  max_length: 69\n").expect_err("too long").to_string();
        let want =
            "p.yaml:6:15: error[pipeline::range]: `max_length` is 69, but the model's table `places` has 68 positions";
        assert!(error.starts_with(want) && error.contains("lower data.max_length to 68 at most"), "{error}");
        let (length, padded, note) = fitted("").expect("is lowered");
        assert_eq!((length, padded), (68, 68));
        let want = "the model has 68 positions: texts are cut after as many tokens, instead of 128";
        assert_eq!(note.as_deref(), Some(want));
    }

    #[test]
    fn padding_counts_where_there_is_any() {
        let example =
            |len: usize| Example { fields: vec![("input_ids", Field::Tokens { ids: vec![3; len], pad: 100 })] };
        let of = |lens: [usize; 2]| {
            let pad = PadTo { max: 512, ..PadTo::default() };
            stats(&Dataset { examples: lens.map(example).to_vec(), pad, masking: None })
        };
        assert_eq!(of([8, 8]), InputStats { largest_id: 3, padded_len: 8, unpadded_len: 8 });
        assert_eq!(of([9, 2]), InputStats { largest_id: 100, padded_len: 16, unpadded_len: 9 });
    }
}
