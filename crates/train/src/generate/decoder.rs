//! A model's program as what scores the next token: with its caches, or by the whole rows again.

use super::{Encoder, Going, NextToken, Scored};
use crate::{Feeds, TrainError, ZeroInput};
use lorac_data::{Batch, Example, Field, PadTo, collate};
use lorac_ir::{DType, Dim, Fact, Tensor, TensorError};
use lorac_runtime::{Program, RuntimeError};

/// An input that takes what an output gave in the run before.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CachePair {
    /// The input: `past_key_values.0.key`.
    pub input: String,
    /// The output: `present.0.key`.
    pub output: String,
}

/// What a program that scores tokens is fed, and what it gives.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct DecoderPorts {
    /// The model's names for a batch.
    pub feeds: Feeds,
    /// The input of the place of each row's last token, counted over all rows: `[rows]`.
    pub at: String,
    /// The output of logits `[rows, vocabulary]`.
    pub logits: String,
    /// Caches of what came before; empty where there are none, or where they are not to be used.
    pub caches: Vec<CachePair>,
    /// The shape of batches: the length that is padded to and the most tokens of a row.
    pub pad: PadTo,
    /// The id that pads.
    pub pad_id: i64,
    /// Rows of a batch, where the program takes no others.
    pub fixed_rows: Option<usize>,
}

/// A program that scores the token behind each row.
pub struct Decoder {
    program: Box<dyn Program>,
    ports: DecoderPorts,
    /// What reads the texts that are answered, where that is a program of its own.
    encoder: Option<Encoder>,
    /// What the caches hold, in their order, and how many tokens of each row that is.
    held: (Vec<Tensor>, usize),
}

/// How far logits may be from each other that are computed in other orders, as a part of the largest; of halves, further.
const ROUNDING: [f32; 2] = [1e-3, 3e-2];

impl Decoder {
    /// A decoder that runs a program.
    pub fn new(program: Box<dyn Program>, ports: DecoderPorts) -> Decoder {
        Decoder { program, ports, encoder: None, held: Default::default() }
    }

    /// The same with an encoder, which gives some of what the program is fed.
    pub fn with_encoder(self, encoder: Encoder) -> Decoder {
        Decoder { encoder: Some(encoder), ..self }
    }

    /// Replaces a state in every program that has it, and lets go of what was computed with the one before.
    ///
    /// # Errors
    /// No program has it, or not so.
    pub fn set_state(&mut self, input: &str, value: &Tensor) -> Result<(), RuntimeError> {
        self.forget();
        let mut found = self.program.set_state(input, value);
        if let Some(encoder) = &mut self.encoder {
            let missing = |set: &Result<(), RuntimeError>| matches!(set, Err(RuntimeError::NoSuchState { .. }));
            let own = encoder.program().set_state(input, value);
            if !missing(&own) && (own.is_err() || missing(&found)) {
                found = own;
            }
        }
        found
    }

    /// Whether caches hold what came before.
    pub fn has_caches(&self) -> bool {
        !self.ports.caches.is_empty()
    }

    /// Whether the caches give what the whole rows do; where they do not, they are not used any more. `ids` are tokens of any
    /// row.
    ///
    /// # Errors
    /// What the engine says of whole rows.
    pub fn check_caches(&mut self, ids: &[i64]) -> Result<bool, TrainError> {
        if self.ports.caches.is_empty() {
            return Ok(true);
        }
        let one = ids.first().copied().unwrap_or(self.ports.pad_id);
        let ids: Vec<i64> = ids.iter().copied().take(4).chain(std::iter::repeat_n(one, 3)).take(4).collect();
        let whole = self.whole(&[Going { ids: &ids, from: None, source: None }])?.logits;
        let halves =
            self.ports.caches.iter().any(|pair| self.constant(&pair.input).is_some_and(|c| c.dtype != DType::F32));
        let most = whole.iter().fold(1.0f32, |most, x| most.max(x.abs())) * ROUNDING[usize::from(halves)];
        let near = |(a, b): (&f32, &f32)| (a - b).abs() <= most || a.to_bits() == b.to_bits();
        let right = match self.in_parts(&ids) {
            Ok(parts) => parts.len() == whole.len() && parts.iter().zip(&whole).all(near),
            Err(TrainError::Runtime(_) | TrainError::Tensor(_)) => false,
            Err(error) => return Err(error),
        };
        if !right {
            self.ports.caches.clear();
        }
        self.forget();
        Ok(right)
    }

    /// The logits behind a row of four tokens, of which two come first.
    fn in_parts(&mut self, ids: &[i64]) -> Result<Vec<f32>, TrainError> {
        self.cached(&[Going { ids: &ids[..2], from: None, source: None }])?;
        self.cached(&[Going { ids: &ids[..3], from: Some(0), source: None }])?;
        Ok(self.cached(&[Going { ids, from: Some(0), source: None }])?.logits)
    }

    /// Scores whole rows, padded on the right.
    fn whole(&mut self, rows: &[Going]) -> Result<Scored, TrainError> {
        let mut all = Scored::default();
        for (chunk, rows) in rows.chunks(self.ports.fixed_rows.unwrap_or(rows.len()).max(1)).enumerate() {
            let examples: Vec<Example> = rows.iter().map(|row| example(row, self.ports.pad_id)).collect();
            let refs: Vec<&Example> = examples.iter().collect();
            let pad = PadTo { rows: self.ports.fixed_rows.unwrap_or(0), ..self.ports.pad };
            let batch = collate(&refs, &pad)?;
            let answers = examples.first().is_some_and(|example| example.answer_length().is_some());
            let written = if answers { "decoder_input_ids" } else { "input_ids" };
            let length = batch.get(written).and_then(|t| t.dims().get(1).copied()).unwrap_or(0);
            // A filling row is as good as its first token.
            let last = |row: usize| row * length + rows.get(row).map_or(1, |row| row.ids.len()).max(1) - 1;
            let at: Vec<i64> = (0..batch.rows).map(|row| last(row) as i64).collect();
            let mut fed = self.ports.feeds.for_program(self.program.as_ref(), &batch)?;
            fed.push((self.ports.at.clone(), Tensor::vector(&at)));
            if let Some(encoder) = &mut self.encoder {
                let texts: Vec<&[i64]> = rows.iter().map(|row| row.source.unwrap_or(row.ids)).collect();
                let read = encoder.read(chunk, &texts, &batch, &self.ports.feeds, self.program.as_ref())?;
                fed.retain(|(name, _)| read.iter().all(|(own, _)| own != name));
                let takes = |name: &String| self.program.inputs().iter().any(|port| port.name == *name);
                fed.extend(read.iter().filter(|(name, _)| takes(name)).cloned());
            }
            let refs: Vec<(&str, &Tensor)> = fed.iter().map(|(name, tensor)| (name.as_str(), tensor)).collect();
            let mut out = self.program.run(&refs, &[self.ports.logits.as_str()])?;
            let Scored { mut logits, width } = out.pop().map(scored).transpose()?.unwrap_or_default();
            logits.truncate(rows.len() * width);
            all.logits.extend(logits);
            all.width = width;
        }
        Ok(all)
    }

    /// Scores rows of the same length by what the caches hold of them and the tokens that came since.
    fn cached(&mut self, rows: &[Going]) -> Result<Scored, TrainError> {
        let length = rows.first().map_or(0, |row| row.ids.len());
        let (mut held, mut past) = std::mem::take(&mut self.held);
        let from: Option<Vec<usize>> = rows.iter().map(|row| row.from).collect();
        match from.filter(|_| past > 0 && past < length && held.len() == self.ports.caches.len()) {
            Some(from) => {
                for (pair, tensor) in self.ports.caches.iter().zip(&mut held) {
                    let axis = self.axes(&pair.input).0;
                    *tensor = picked(tensor, axis, &from)?;
                }
            }
            None => {
                past = 0;
                held = self.empty(rows.len())?;
            }
        }
        let new = length - past;
        let ids: Vec<i64> = rows.iter().flat_map(|row| &row.ids[past..]).copied().collect();
        let fill = |of: &dyn Fn(usize) -> i64, width: usize| -> Result<Tensor, TensorError> {
            let row: Vec<i64> = (0..width).map(of).collect();
            Tensor::from_slice(&[rows.len(), width], &row.repeat(rows.len()))
        };
        let tensors = vec![
            ("input_ids".to_string(), Tensor::from_slice(&[rows.len(), new], &ids)?),
            ("attention_mask".to_string(), fill(&|_| 1, length)?),
            ("position_ids".to_string(), fill(&|at| (past + at) as i64, new)?),
            ("token_type_ids".to_string(), fill(&|_| 0, new)?),
        ];
        let batch = Batch { tensors, rows: rows.len(), real_rows: rows.len(), tokens: ids.len() };
        let is_cache = |name: &String| self.ports.caches.iter().position(|pair| pair.input == *name);
        let mut fed = self.ports.feeds.for_program(self.program.as_ref(), &batch)?;
        for (name, tensor) in &mut fed {
            if let Some(full) = is_cache(name).and_then(|at| held.get(at)) {
                *tensor = full.clone();
            }
        }
        let at: Vec<i64> = (1..=rows.len()).map(|row| (row * new) as i64 - 1).collect();
        fed.push((self.ports.at.clone(), Tensor::vector(&at)));
        let refs: Vec<(&str, &Tensor)> = fed.iter().map(|(name, tensor)| (name.as_str(), tensor)).collect();
        let fetch = std::iter::once(self.ports.logits.as_str())
            .chain(self.ports.caches.iter().map(|pair| pair.output.as_str()));
        let mut out = self.program.run(&refs, &fetch.collect::<Vec<_>>())?.into_iter();
        let logits = out.next().map(scored).transpose()?.unwrap_or_default();
        let held: Vec<Tensor> = out.collect();
        for (pair, tensor) in self.ports.caches.iter().zip(&held) {
            let (want, got) = (self.filled(pair, tensor, rows.len(), length), tensor.fact());
            if want != got {
                return Err(RuntimeError::ShapeMismatch { value: pair.output.clone(), want, got }.into());
            }
        }
        self.held = (held, length);
        Ok(logits)
    }

    /// What a cache of so many rows and tokens is like; what the model leaves open of it is as `got` has it.
    fn filled(&self, pair: &CachePair, got: &Tensor, rows: usize, tokens: usize) -> Fact {
        let dims = self.constant(&pair.input).map_or(&[][..], |constant| &constant.dims);
        let (of_rows, of_tokens) = self.axes(&pair.input);
        let dim = |(at, dim): (usize, &Dim)| match at {
            _ if at == of_rows => rows,
            _ if at == of_tokens => tokens,
            _ => dim.known().and_then(|n| usize::try_from(n).ok()).or(got.dims().get(at).copied()).unwrap_or(0),
        };
        Fact::new(got.dtype(), dims.iter().enumerate().map(dim).collect::<Vec<_>>())
    }

    /// The axes of a cache: that of the rows, and that of the tokens.
    fn axes(&self, input: &str) -> (usize, usize) {
        let dims = self.constant(input).map_or(&[][..], |constant| &constant.dims);
        let batch = self.constant(input).and_then(|constant| constant.batch.as_deref());
        let rows = dims.iter().position(|dim| batch.is_some() && dim.name().as_deref() == batch);
        let tokens = dims.iter().position(|dim| *dim == Dim::Known(0));
        (rows.unwrap_or(0), tokens.unwrap_or(usize::MAX))
    }

    fn constant(&self, input: &str) -> Option<&ZeroInput> {
        self.ports.feeds.constants.iter().find(|constant| constant.name == input)
    }

    /// Caches without an entry.
    fn empty(&self, rows: usize) -> Result<Vec<Tensor>, TrainError> {
        let none = || TrainError::NoField { field: "past_key_values".into() };
        self.ports.caches.iter().map(|pair| self.constant(&pair.input).ok_or_else(none)?.tensor(rows)).collect()
    }
}

impl NextToken for Decoder {
    fn equal_lengths(&self) -> bool {
        !self.ports.caches.is_empty()
    }

    fn score(&mut self, rows: &[Going]) -> Result<Scored, TrainError> {
        if self.ports.caches.is_empty() { self.whole(rows) } else { self.cached(rows) }
    }

    fn forget(&mut self) {
        self.held = Default::default();
        self.encoder.iter_mut().for_each(Encoder::forget);
    }
}

/// What a row feeds: its tokens, or, where an encoder reads something else, that with its tokens for the decoder.
fn example(row: &Going, pad: i64) -> Example {
    let tokens = |ids: Vec<i64>, pad| Field::Tokens { ids, pad };
    let read = row.source.unwrap_or(row.ids);
    let mut fields =
        vec![("input_ids", tokens(read.to_vec(), pad)), ("token_type_ids", tokens(vec![0; read.len()], 0))];
    if row.source.is_some() {
        fields.push(("decoder_input_ids", Field::Answer { ids: row.ids.to_vec(), pad }));
    }
    Example { fields }
}

fn scored(tensor: Tensor) -> Result<Scored, TensorError> {
    let width = tensor.dims().last().copied().unwrap_or(0);
    let logits = match tensor.dtype() {
        DType::F32 => tensor.to_vec()?,
        _ => tensor.to_f64().unwrap_or_default().into_iter().map(|x| x as f32).collect(),
    };
    Ok(Scored { logits, width })
}

/// The rows of a tensor at these places of an axis.
pub(super) fn picked(tensor: &Tensor, axis: usize, rows: &[usize]) -> Result<Tensor, TensorError> {
    let dims = tensor.dims();
    let have = dims.get(axis).copied().unwrap_or(0);
    if rows.iter().copied().eq(0..have) {
        return Ok(tensor.clone());
    }
    let before: usize = dims.iter().take(axis).product();
    let bytes = tensor.bytes();
    let each = bytes.len() / (before * have).max(1);
    let mut picked = Vec::with_capacity(before * rows.len() * each);
    for outer in 0..before {
        for row in rows.iter().map(|row| (*row).min(have.saturating_sub(1))) {
            let begin = (outer * have + row) * each;
            picked.extend_from_slice(bytes.get(begin..begin + each).unwrap_or_default());
        }
    }
    let mut dims = dims.to_vec();
    if let Some(dim) = dims.get_mut(axis) {
        *dim = rows.len();
    }
    Tensor::new(tensor.dtype(), dims, picked.into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Binding;
    use crate::testing::Fake;

    #[test]
    fn rows_are_picked_along_any_axis() {
        let tensor = Tensor::from_slice(&[2, 3, 1], &[0i64, 1, 2, 10, 11, 12]).expect("fits");
        let of = |axis, rows: &[usize]| picked(&tensor, axis, rows).expect("picks").to_vec::<i64>().expect("i64");
        assert_eq!(of(1, &[2, 0, 2, 2]), [2, 0, 2, 2, 12, 10, 12, 12]);
        assert_eq!(of(0, &[1]), [10, 11, 12]);
        assert_eq!(of(1, &[0, 1, 2]), [0, 1, 2, 10, 11, 12]);
    }

    /// A model of one layer's cache, whose present is wrong in a way of its own.
    fn with_cache(present: fn(&[usize]) -> Vec<usize>) -> Decoder {
        let inputs = [("ids", DType::I64), ("next.at", DType::I64), ("past_0", DType::F32)];
        let program = Fake::new(&inputs, &["logits", "present_0"], Vec::new(), move |_, call| {
            let ids = call.fed("ids").to_vec::<i64>().expect("i64");
            let at =
                call.feeds.iter().find(|(name, _)| name == "next.at").map(|(_, t)| t.to_vec::<i64>().expect("i64"));
            let rows = call.fed("past_0").dims()[0].max(1);
            let last: Vec<f32> = at.unwrap_or_default().iter().map(|at| ids[*at as usize] as f32).collect();
            let logits = Tensor::from_slice(&[last.len(), 1], &last).expect("fits");
            let [_, _, past, _] = call.fed("past_0").dims()[..] else { panic!("four dimensions") };
            let dims = present(&[rows, 2, past + ids.len() / rows, 4]);
            let all = [
                ("logits".to_string(), logits),
                ("present_0".to_string(), Tensor::zeros(DType::F32, &dims).expect("fits")),
            ];
            Ok(call.fetch.iter().filter_map(|name| all.iter().find(|(n, _)| n == name).cloned()).collect())
        });
        let cache = ZeroInput {
            name: "past_0".into(),
            dtype: DType::F32,
            dims: vec![Dim::named("B"), Dim::Known(2), Dim::Known(0), Dim::Known(4)],
            batch: Some("B".into()),
        };
        let feeds = Feeds {
            inputs: vec![Binding { field: "input_ids".into(), input: "ids".into(), dtype: DType::I64 }],
            constants: vec![cache],
        };
        let ports = DecoderPorts {
            feeds,
            at: "next.at".into(),
            logits: "logits".into(),
            caches: vec![CachePair { input: "past_0".into(), output: "present_0".into() }],
            pad: PadTo { multiple: 1, ..PadTo::default() },
            ..DecoderPorts::default()
        };
        Decoder::new(Box::new(program), ports)
    }

    #[test]
    fn nothing_is_held_once_texts_are_written_or_cannot_be() {
        use crate::{Generate, Writing, generate};
        let settings = Generate { max_new_tokens: 3, ..Generate::default() };
        let (never, prompts) = (|_: &[i64]| false, [vec![3, 9], vec![4]]);
        let job = Writing {
            prompts: &prompts,
            sources: &[],
            settings: &settings,
            ends: &[],
            length: 9,
            rows: 2,
            is_over: &never,
        };
        let mut decoder = with_cache(|dims| dims.to_vec());
        generate(&mut decoder, &job, |_| ()).expect("writes");
        assert_eq!((decoder.held.0.len(), decoder.held.1), (0, 0));
        /// Fails at its second call.
        struct Second(Decoder, usize);
        impl NextToken for Second {
            fn equal_lengths(&self) -> bool {
                self.0.equal_lengths()
            }

            fn score(&mut self, rows: &[Going]) -> Result<Scored, TrainError> {
                self.1 += 1;
                let scored = self.0.score(rows);
                if self.1 == 2 { Err(TrainError::NoField { field: "none".into() }) } else { scored }
            }

            fn forget(&mut self) {
                self.0.forget();
            }
        }
        let mut fails = Second(decoder, 0);
        generate(&mut fails, &job, |_| ()).expect_err("fails");
        assert_eq!((fails.0.held.0.len(), fails.0.held.1), (0, 0));
    }

    #[test]
    fn caches_of_other_shapes_than_they_should_have_are_not_used() {
        let of = |present| {
            let mut decoder = with_cache(present);
            let right = decoder.check_caches(&[5, 6, 7]).expect("checks");
            let going = Going { ids: &[3, 9], from: None, source: None };
            (right, decoder.has_caches(), decoder.score(&[going]).expect("scores").logits)
        };
        assert_eq!(of(|dims| dims.to_vec()), (true, true, vec![9.0]));
        assert_eq!(of(|dims| vec![dims[0], dims[1], dims[2] + 1, dims[3]]), (false, false, vec![9.0]));
        assert_eq!(of(|dims| dims[..3].to_vec()), (false, false, vec![9.0]));
    }
}
