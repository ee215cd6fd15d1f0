//! Batches under the names that a model has for them.

use crate::TrainError;
use lorac_data::{Batch, EXAMPLE_IDS};
use lorac_ir::{DType, Dim, Tensor, TensorError};
use lorac_runtime::Program;

/// The field of a mask of pairs of tokens, of a model that takes one, `[rows, 1, tokens, tokens]`: a token sees itself and those
/// before it, of its own example where rows hold several. What is seen is true or 1, of a mask of floats 0 and the rest the lowest
/// number.
pub const CAUSAL_MASK: &str = "attention_mask.causal";

/// The same where a token sees those behind it too.
pub const PAIR_MASK: &str = "attention_mask.pairs";

/// What a model is fed with.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Feeds {
    /// Inputs that take a field of the batch.
    pub inputs: Vec<Binding>,
    /// Inputs that take the same in every batch.
    pub constants: Vec<ZeroInput>,
}

/// An input that takes a field of the batch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Binding {
    /// The field: `input_ids`, `labels`.
    pub field: String,
    /// The model's name for it.
    pub input: String,
    /// The element type that the model takes.
    pub dtype: DType,
}

impl Binding {
    /// The field of which it is made: of a mask of pairs of tokens the `attention_mask`.
    pub fn made_of(&self) -> &str {
        match self.field.as_str() {
            CAUSAL_MASK | PAIR_MASK => "attention_mask",
            field => field,
        }
    }
}

/// An input of zeros: a cache without an entry, or a switch that is off.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ZeroInput {
    /// Its name.
    pub name: String,
    /// Its element type.
    pub dtype: DType,
    /// Its shape, in terms of the batch at most.
    pub dims: Vec<Dim>,
    /// The symbol of the batch in `dims`.
    pub batch: Option<String>,
}

impl ZeroInput {
    /// The tensor for a batch of so many rows.
    pub fn tensor(&self, rows: usize) -> Result<Tensor, TrainError> {
        let size = |name: &str| (Some(name) == self.batch.as_deref()).then_some(rows as i64);
        let dims = self.dims.iter().map(|d| d.eval(&size).and_then(|n| usize::try_from(n).ok()).unwrap_or(0));
        Ok(Tensor::zeros(self.dtype, &dims.collect::<Vec<_>>())?)
    }
}

impl Feeds {
    /// The batch's tensors by the model's names, those that `program` takes.
    ///
    /// # Errors
    /// A field that the program takes and the batch does not have.
    pub fn for_program(&self, program: &dyn Program, batch: &Batch) -> Result<Vec<(String, Tensor)>, TrainError> {
        let taken = program.inputs();
        self.taken(batch, |name| taken.iter().any(|port| port.name == name))
    }

    /// The batch's tensors by the model's names, those among `inputs`.
    ///
    /// # Errors
    /// A field that one of them takes and the batch does not have.
    pub fn for_inputs(&self, inputs: &[String], batch: &Batch) -> Result<Vec<(String, Tensor)>, TrainError> {
        self.taken(batch, |name| inputs.iter().any(|input| input == name))
    }

    /// The batch's tensors by the model's names.
    ///
    /// # Errors
    /// A field that the batch does not have.
    pub fn tensors(&self, batch: &Batch) -> Result<Vec<(String, Tensor)>, TrainError> {
        self.taken(batch, |_| true)
    }

    fn taken(&self, batch: &Batch, takes: impl Fn(&str) -> bool) -> Result<Vec<(String, Tensor)>, TrainError> {
        let mut out = Vec::new();
        for Binding { field, input, dtype } in self.inputs.iter().filter(|b| takes(&b.input)) {
            let tensor = match field.as_str() {
                CAUSAL_MASK | PAIR_MASK => pairs(batch, field == CAUSAL_MASK, *dtype)?,
                field => cast(*dtype, given(batch, field)?)?,
            };
            out.push((input.clone(), tensor));
        }
        for constant in self.constants.iter().filter(|c| takes(&c.name)) {
            out.push((constant.name.clone(), constant.tensor(batch.rows)?));
        }
        Ok(out)
    }

    /// The same for a model whose tokens see those behind them, where it takes a mask of pairs.
    #[must_use]
    pub fn seeing_all(mut self) -> Feeds {
        for binding in self.inputs.iter_mut().filter(|binding| binding.field == CAUSAL_MASK) {
            binding.field = PAIR_MASK.into();
        }
        self
    }

    /// Whether the model takes a mask of pairs of tokens.
    pub fn has_pairs(&self) -> bool {
        self.hides_what_follows().is_some()
    }

    /// Whether a mask of pairs of tokens hides what follows a token; none where the model takes no such mask.
    pub fn hides_what_follows(&self) -> Option<bool> {
        let mask = self.inputs.iter().find(|binding| [CAUSAL_MASK, PAIR_MASK].contains(&binding.field.as_str()))?;
        Some(mask.field == CAUSAL_MASK)
    }

    /// Inputs that are empty in every batch.
    pub fn caches(&self) -> impl Iterator<Item = &str> {
        let empty = |c: &&ZeroInput| c.dims.contains(&Dim::Known(0));
        self.constants.iter().filter(empty).map(|c| c.name.as_str())
    }
}

fn given<'b>(batch: &'b Batch, field: &str) -> Result<&'b Tensor, TrainError> {
    batch.get(field).ok_or_else(|| TrainError::NoField { field: field.into() })
}

/// Which tokens see which, `[rows, 1, tokens, keys]`: keys are those that caches hold and the tokens. Every token sees itself.
fn pairs(batch: &Batch, is_causal: bool, dtype: DType) -> Result<Tensor, TrainError> {
    let mask = given(batch, "attention_mask")?;
    let (rows, keys) = match mask.dims() {
        [rows, keys] => (*rows, *keys),
        _ => return Err(TrainError::NoField { field: "attention_mask".into() }),
    };
    let tokens = batch.get("input_ids").and_then(|ids| ids.dims().get(1).copied()).unwrap_or(keys).min(keys);
    let mask = mask.to_vec::<i64>()?;
    let examples = batch.get(EXAMPLE_IDS).map(|ids| ids.to_vec::<i64>()).transpose()?;
    let lowest = match dtype {
        DType::F16 => -65504.0,
        DType::BF16 => -3.389_531_389_251_535_5e38,
        DType::F64 => f64::MIN,
        _ => f64::from(f32::MIN),
    };
    let [yes, no] = if dtype.is_float() { [0.0, lowest] } else { [1.0, 0.0] };
    let mut data = Vec::with_capacity(rows * tokens * keys);
    for row in 0..rows {
        let (mask, examples) = (&mask[row * keys..], examples.as_ref().map(|ids| &ids[row * keys..]));
        for at in keys - tokens..keys {
            let sees = |key: usize| {
                let same = examples.is_none_or(|ids| ids[key] == ids[at]);
                key == at || (mask[key] != 0 && same && (key < at || !is_causal))
            };
            data.extend((0..keys).map(|key| if sees(key) { yes } else { no }));
        }
    }
    let unfit = TensorError::DType { want: dtype, got: DType::I64 };
    Ok(Tensor::from_f64(dtype, &[rows, 1, tokens, keys], &data).ok_or(unfit)?)
}

fn cast(dtype: DType, tensor: &Tensor) -> Result<Tensor, TrainError> {
    if tensor.dtype() == dtype {
        return Ok(tensor.clone());
    }
    let unfit = TensorError::DType { want: dtype, got: tensor.dtype() };
    let cast = tensor.to_f64().and_then(|data| Tensor::from_f64(dtype, tensor.dims(), &data));
    Ok(cast.ok_or(unfit)?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::Fake;

    #[test]
    fn fields_get_the_models_names_and_types_and_caches_the_batch() {
        let binding = |field: &str, input: &str, dtype| Binding { field: field.into(), input: input.into(), dtype };
        let cache = ZeroInput {
            name: "past".into(),
            dtype: DType::F32,
            dims: vec![Dim::named("N"), Dim::Known(2), Dim::Known(0)],
            batch: Some("N".into()),
        };
        let inputs = vec![binding("input_ids", "ids:0", DType::I32), binding("labels", "labels", DType::I64)];
        let feeds = Feeds { inputs, constants: vec![cache] };
        let vector = |data: &[i64]| Tensor::vector(data);
        let tensors = vec![("labels".to_string(), vector(&[1, 0, 1])), ("input_ids".to_string(), vector(&[5, 6, 7]))];
        let batch = Batch { tensors, rows: 3, real_rows: 3, tokens: 3 };
        let got = feeds.tensors(&batch).expect("fits");
        assert_eq!(got.iter().map(|t| t.0.as_str()).collect::<Vec<_>>(), ["ids:0", "labels", "past"]);
        assert_eq!(got[0].1.to_vec::<i32>().expect("i32"), [5, 6, 7]);
        assert_eq!(got[2].1.dims(), [3, 2, 0]);
        assert_eq!(feeds.caches().collect::<Vec<_>>(), ["past"]);

        let lacking = Batch { tensors: Vec::new(), ..batch };
        assert!(feeds.tensors(&lacking).expect_err("no fields").to_string().contains("`input_ids`"));
    }

    #[test]
    fn a_mask_of_pairs_hides_padding_other_examples_and_what_follows() {
        let ids = |numbers: &[i64]| Tensor::from_slice(&[1, numbers.len()], numbers).expect("fits");
        let batch = |tokens: usize, mask: &[i64], examples: Option<&[i64]>| {
            let mut tensors =
                vec![("input_ids".to_string(), ids(&vec![5; tokens])), ("attention_mask".into(), ids(mask))];
            tensors.extend(examples.map(|examples| (EXAMPLE_IDS.to_string(), ids(examples))));
            Batch { tensors, rows: 1, real_rows: 1, tokens }
        };
        let of = |batch: &Batch, field: &str, dtype: DType| {
            let inputs = vec![Binding { field: field.into(), input: "mask".into(), dtype }];
            let feeds = Feeds { inputs, constants: Vec::new() };
            assert!(feeds.has_pairs());
            assert_eq!(feeds.hides_what_follows(), Some(field == CAUSAL_MASK));
            assert_eq!(feeds.inputs[0].made_of(), "attention_mask");
            let fed = feeds.tensors(batch).expect("fits").remove(0).1;
            (fed.dims().to_vec(), fed.to_f64().expect("numbers"))
        };
        let padded = batch(3, &[1, 1, 0], None);
        assert_eq!(of(&padded, CAUSAL_MASK, DType::I64), (vec![1, 1, 3, 3], vec![1., 0., 0., 1., 1., 0., 1., 1., 1.]));
        assert_eq!(of(&padded, PAIR_MASK, DType::Bool).1, [1., 1., 0., 1., 1., 0., 1., 1., 1.]);
        let two = batch(3, &[1, 1, 1], Some(&[0, 0, 1]));
        let low = f64::from(f32::MIN);
        assert_eq!(of(&two, CAUSAL_MASK, DType::F32).1, [0., low, low, 0., 0., low, low, low, 0.]);
        // Two tokens behind one that a cache holds.
        assert_eq!(
            of(&batch(2, &[1, 1, 1], None), CAUSAL_MASK, DType::I32),
            (vec![1, 1, 2, 3], vec![1., 1., 0., 1., 1., 1.])
        );
    }

    #[test]
    fn a_program_gets_what_it_takes_and_no_more() {
        let vector = Tensor::vector(&[1i64, 2]);
        let tensors = ["input_ids", "labels"].map(|name| (name.to_string(), vector.clone())).to_vec();
        let batch = Batch { tensors, rows: 2, real_rows: 2, tokens: 2 };
        let constant = |name: &str, batch: Option<&str>| ZeroInput {
            name: name.into(),
            dtype: DType::Bool,
            dims: vec![Dim::named("N")],
            batch: batch.map(String::from),
        };
        let mut feeds = crate::testing::feeds(DType::F32);
        feeds.constants = vec![constant("cached", Some("N")), constant("past", None)];
        let named = |inputs: &[(&str, DType)]| {
            let program = Fake::new(inputs, &[], Vec::new(), |_, _| Ok(Vec::new()));
            let got = feeds.for_program(&program, &batch).expect("fits");
            got.iter().map(|(name, t)| format!("{name} {}", t.fact())).collect::<Vec<_>>()
        };
        let all = [("past", DType::Bool), ("cached", DType::Bool), ("labels", DType::F32), ("ids", DType::I64)];
        assert_eq!(named(&all), ["ids i64[2]", "labels f32[2]", "cached bool[2]", "past bool[0]"]);
        assert_eq!(named(&all[3..]), ["ids i64[2]"]);

        let unlabelled = Batch { tensors: batch.tensors[..1].to_vec(), ..batch.clone() };
        let of = |inputs: &[(&str, DType)]| {
            feeds
                .for_program(&Fake::new(inputs, &[], Vec::new(), |_, _| Ok(Vec::new())), &unlabelled)
                .map(|fed| fed.len())
        };
        assert_eq!(of(&all[3..]).expect("it takes no labels"), 1);
        assert!(of(&all).expect_err("it takes labels").to_string().contains("`labels`"));
    }
}
