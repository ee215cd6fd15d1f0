//! What an encoder computes of texts, once for all tokens that are written to answer them.

use super::decoder::picked;
use crate::{Feeds, TrainError};
use lorac_data::Batch;
use lorac_ir::Tensor;
use lorac_runtime::{Program, RuntimeError};

/// The program of an encoder, and what it gave for the texts that are being answered.
pub struct Encoder {
    program: Box<dyn Program>,
    values: Vec<String>,
    /// Whether the values of some rows can be picked.
    by_rows: bool,
    held: Vec<Held>,
}

/// What was computed for some texts.
struct Held {
    texts: Vec<Vec<i64>>,
    /// What the program was fed and what it gave, by name.
    tensors: Vec<(String, Tensor)>,
}

impl Encoder {
    /// An encoder that runs a program, whose outputs `values` a decoder is fed; with `by_rows` each of them has the row of a text in each
    /// place of its first dimension.
    pub fn new(program: Box<dyn Program>, values: Vec<String>, by_rows: bool) -> Encoder {
        Encoder { program, values, by_rows, held: Vec::new() }
    }

    /// The program.
    pub(super) fn program(&mut self) -> &mut dyn Program {
        self.program.as_mut()
    }

    /// Lets go of what was computed.
    pub(super) fn forget(&mut self) {
        self.held.clear();
    }

    /// What the encoder is fed and gives for a batch, whose rows are the texts, and rows that fill it up. It is computed anew where
    /// this is another list of texts than that of the call before, and rows of that cannot be picked. `at` counts the batches of a call.
    /// What `decoder` is fed of the texts is of the same width: it is held too, whether or not the encoder takes it.
    pub(super) fn read(
        &mut self,
        at: usize,
        texts: &[&[i64]],
        batch: &Batch,
        feeds: &Feeds,
        decoder: &dyn Program,
    ) -> Result<&[(String, Tensor)], TrainError> {
        let known = self.held.get(at).is_some_and(|held| held.texts == texts);
        if !known {
            let held = match self.held.get(at).filter(|_| self.by_rows && batch.rows == texts.len()) {
                Some(before) => before.pick(texts)?,
                None => None,
            };
            let held = held.map_or_else(|| self.run(texts, batch, feeds, decoder), Ok)?;
            self.held.truncate(at);
            self.held.push(held);
        }
        Ok(self.held.get(at).map_or(&[], |held| &held.tensors))
    }

    fn run(
        &mut self,
        texts: &[&[i64]],
        batch: &Batch,
        feeds: &Feeds,
        decoder: &dyn Program,
    ) -> Result<Held, TrainError> {
        let mut tensors = feeds.for_program(self.program.as_ref(), batch)?;
        let known = |name: &String| tensors.iter().any(|(own, _)| own == name);
        let of_texts = feeds.inputs.iter().filter(|b| !b.field.starts_with("decoder_") && !known(&b.input));
        let of_texts = Feeds { inputs: of_texts.cloned().collect(), constants: Vec::new() };
        let fed: Vec<(&str, &Tensor)> = tensors.iter().map(|(name, tensor)| (name.as_str(), tensor)).collect();
        let fetch: Vec<&str> = self.values.iter().map(String::as_str).collect();
        let got: Result<Vec<Tensor>, RuntimeError> = self.program.run(&fed, &fetch);
        tensors.extend(self.values.iter().cloned().zip(got?));
        tensors.extend(of_texts.for_program(decoder, batch)?);
        Ok(Held { texts: texts.iter().map(|text| text.to_vec()).collect(), tensors })
    }
}

impl Held {
    /// The same of some of the texts, in any order; none where there is another text.
    fn pick(&self, texts: &[&[i64]]) -> Result<Option<Held>, TrainError> {
        let places: Option<Vec<usize>> =
            texts.iter().map(|text| self.texts.iter().position(|own| own == text)).collect();
        let Some(places) = places else { return Ok(None) };
        let tensors = self.tensors.iter().map(|(name, tensor)| Ok((name.clone(), picked(tensor, 0, &places)?)));
        let tensors = tensors.collect::<Result<_, TrainError>>()?;
        Ok(Some(Held { texts: texts.iter().map(|text| text.to_vec()).collect(), tensors }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{Calls, Fake};
    use crate::{Binding, Decoder, DecoderPorts, Generate, Going, NextToken, Scored, Writing, generate};
    use lorac_data::PadTo;
    use lorac_ir::DType;

    /// An encoder that sums the texts up, a decoder that says the sum and then ends after as many tokens, and the encoder's runs.
    fn model(by_rows: bool) -> (Decoder, Calls) {
        let binding = |field: &str| Binding { field: field.into(), input: field.into(), dtype: DType::I64 };
        let feeds = Feeds {
            inputs: ["input_ids", "attention_mask", "decoder_input_ids"].map(binding).to_vec(),
            constants: Vec::new(),
        };
        let encoder = Fake::new(&[("input_ids", DType::I64)], &["sum"], Vec::new(), |_, call| {
            let ids = call.fed("input_ids");
            let width = ids.dims()[1];
            let sums: Vec<f32> =
                ids.to_vec::<i64>().expect("i64").chunks(width).map(|row| row.iter().sum::<i64>() as f32).collect();
            Ok(vec![("sum".into(), Tensor::from_slice(&[sums.len(), 1], &sums).expect("fits"))])
        });
        let calls = encoder.calls();
        let inputs = [
            ("input_ids", DType::I64),
            ("attention_mask", DType::I64),
            ("decoder_input_ids", DType::I64),
            ("next.at", DType::I64),
            ("sum", DType::F32),
        ];
        let program = Fake::new(&inputs, &["logits"], Vec::new(), |_, call| {
            let sums = call.fed("sum").to_vec::<f32>().expect("f32");
            let (ids, width) =
                (call.fed("decoder_input_ids").to_vec::<i64>().expect("i64"), call.fed("decoder_input_ids").dims()[1]);
            assert_eq!(call.fed("input_ids").dims()[0], sums.len());
            // Nobody but the decoder takes it.
            assert_eq!(call.fed("attention_mask").dims(), call.fed("input_ids").dims());
            let at = call.fed("next.at").to_vec::<i64>().expect("i64");
            // Token 0 ends a text, after as many tokens as the sum says.
            let next = sums
                .iter()
                .zip(&at)
                .map(|(sum, at)| if (*at as usize % width) as f32 >= *sum { 0 } else { *sum as usize });
            let logits: Vec<f32> =
                next.flat_map(|next| (0..9).map(move |token| f32::from(u8::from(token == next)))).collect();
            assert!(ids.len() == sums.len() * width);
            Ok(vec![("logits".into(), Tensor::from_slice(&[sums.len(), 9], &logits).expect("fits"))])
        });
        let ports = DecoderPorts {
            feeds,
            at: "next.at".into(),
            logits: "logits".into(),
            pad: PadTo { multiple: 1, ..PadTo::default() },
            ..DecoderPorts::default()
        };
        let encoder = Encoder::new(Box::new(encoder), vec!["sum".into()], by_rows);
        (Decoder::new(Box::new(program), ports).with_encoder(encoder), calls)
    }

    #[test]
    fn texts_are_read_once_and_not_for_every_token() {
        let settings = Generate { max_new_tokens: 8, ..Generate::default() };
        let (never, begins) = (|_: &[i64]| false, vec![vec![1]; 3]);
        // The longest is answered first.
        let sources = [vec![1, 1, 0], vec![5, 1], vec![4]];
        let job = Writing {
            prompts: &begins,
            sources: &sources,
            settings: &settings,
            ends: &[0],
            length: 20,
            rows: 3,
            is_over: &never,
        };
        let want: [Vec<i64>; 3] = [vec![2; 2], vec![6; 6], vec![4; 4]];
        for (by_rows, runs) in [(true, 1), (false, 3)] {
            let (mut decoder, calls) = model(by_rows);
            assert_eq!(generate(&mut decoder, &job, |_| ()).expect("writes"), want);
            assert_eq!(calls.all().len(), runs);
        }
        let beams = Generate { num_beams: 2, ..settings.clone() };
        let (mut decoder, calls) = model(true);
        let job = Writing { settings: &beams, rows: 6, ..job };
        generate(&mut decoder, &job, |_| ()).expect("writes");
        assert_eq!(calls.all().len(), 1);
    }

    #[test]
    fn another_text_is_read_anew() {
        let (mut decoder, calls) = model(true);
        let mut of = |source: &[i64]| {
            let going = Going { ids: &[1], from: None, source: Some(source) };
            let Scored { logits, .. } = decoder.score(&[going]).expect("scores");
            logits.iter().position(|x| *x == 1.0)
        };
        assert_eq!((of(&[2, 3]), of(&[2, 3]), of(&[7])), (Some(5), Some(5), Some(7)));
        assert_eq!(calls.all().len(), 2);
    }
}
