//! Arrays as the inputs take them.

use crate::error::Error;
use lorac_data::{Dataset, Field};
use lorac_ir::{DType, Dim, Graph, Tensor};
use lorac_train::{Binding, Feeds};

/// Brings the arrays of a split into the shapes and element types that the model's inputs have: shapes may differ in dimensions
/// of 1, or one of them be a row of numbers; of integers every number is kept.
///
/// # Errors
/// An array that does not fit: its input, its shape and the one that is taken; a number that its input has no integer for.
pub(crate) fn fit(graph: &Graph, feeds: &Feeds, data: &mut Dataset, split: &str) -> Result<(), Error> {
    for Binding { field, input, .. } in &feeds.inputs {
        let Some(fact) = graph.find(input).map(|id| graph.fact(id)) else { continue };
        let want = match fact.dims() {
            Some([]) => return Err(Error::Usage(format!("the input `{input}` {fact} has no dimension of rows"))),
            dims => dims.map(|dims| &dims[1..]),
        };
        for (row, example) in data.examples.iter_mut().enumerate() {
            let Some((_, Field::Array(array))) = example.fields.iter_mut().find(|(name, _)| *name == field.as_str())
            else {
                continue;
            };
            if let Some(typed) = typed(array, fact.dtype) {
                *array = typed.map_err(|number| {
                    let at = row + 1;
                    let what =
                        format!("{split}: example {at} has {number} for the input `{input}`, which takes {fact}");
                    Error::Usage(format!("{what}: that is no such integer"))
                })?;
            }
            let Some(want) = want else { continue };
            let Some(shaped) = reshaped(array, want) else {
                let hint = transposed(array.dims(), want).unwrap_or_default();
                return Err(Error::Usage(format!(
                    "{split}: example {} has {} for the input `{input}`, which takes {fact}{hint}",
                    row + 1,
                    array.fact()
                )));
            };
            *array = shaped;
        }
    }
    Ok(())
}

/// An array in the element type of its input, where it is another one that is wider or that would be cut: a number that is no
/// integer of that type is the error.
fn typed(array: &Tensor, want: DType) -> Option<Result<Tensor, String>> {
    let have = array.dtype();
    let cast = |numbers: &[f64]| Tensor::from_f64(want, array.dims(), numbers).map(Ok);
    if want.is_float() {
        let is_wide = matches!(have, DType::I64 | DType::F64) && want != have;
        return if is_wide { cast(&array.to_f64()?) } else { None };
    }
    let (least, most) = want.range()?;
    let outside = |n: i128| !(least..=most).contains(&n);
    if have.is_float() {
        let numbers = array.to_f64()?;
        // Of 2^53 and more an f64 does not tell one integer from the next.
        let wrong = |x: &&f64| x.fract() != 0.0 || x.abs() >= 2f64.powi(53) || outside(**x as i128) || !x.is_finite();
        return match numbers.iter().find(wrong) {
            Some(number) => Some(Err(number.to_string())),
            None => cast(&numbers),
        };
    }
    let numbers: Vec<i128> = match have {
        DType::U64 => array.to_vec::<u64>().ok()?.into_iter().map(i128::from).collect(),
        _ => array.to_i64()?.into_iter().map(i128::from).collect(),
    };
    if let Some(number) = numbers.iter().find(|n| outside(**n)) {
        return Some(Err(number.to_string()));
    }
    match want {
        _ if have.size() < want.size() || have == want => None,
        DType::I64 => Tensor::from_slice(array.dims(), &numbers.iter().map(|n| *n as i64).collect::<Vec<_>>()).ok(),
        DType::U64 => Tensor::from_slice(array.dims(), &numbers.iter().map(|n| *n as u64).collect::<Vec<_>>()).ok(),
        _ => Tensor::from_f64(want, array.dims(), &numbers.iter().map(|n| *n as f64).collect::<Vec<_>>()),
    }
    .map(Ok)
}

/// An array in a shape that it fits.
fn reshaped(array: &Tensor, want: &[Dim]) -> Option<Tensor> {
    let fits = array.dims().len() == want.len()
        && array.dims().iter().zip(want).all(|(have, want)| want.known().is_none_or(|n| n == *have as i64));
    if fits {
        return Some(array.clone());
    }
    let dims: Vec<usize> = want.iter().map(|d| usize::try_from(d.known()?).ok()).collect::<Option<_>>()?;
    let without_ones = |dims: &[usize]| dims.iter().copied().filter(|n| *n != 1).collect::<Vec<_>>();
    let (have, wanted) = (without_ones(array.dims()), without_ones(&dims));
    if have != wanted && have.len() > 1 && wanted.len() > 1 {
        return None;
    }
    Tensor::new(array.dtype(), dims, array.bytes().clone()).ok()
}

/// How all rows are to be transposed, where that makes an array one that is taken.
fn transposed(have: &[usize], want: &[Dim]) -> Option<String> {
    let mut axes: Vec<Option<usize>> = vec![None; want.len()];
    let known = (0..want.len()).filter(|at| want[*at].known().is_some());
    let open = (0..want.len()).filter(|at| want[*at].known().is_none());
    for at in known.chain(open) {
        let fits = |axis: &usize| want[at].known().is_none_or(|n| n == have[*axis] as i64);
        let axis = (0..have.len()).filter(|axis| !axes.contains(&Some(*axis))).find(fits)?;
        axes[at] = Some(axis);
    }
    let order: Vec<usize> = std::iter::once(0).chain(axes.into_iter().flatten().map(|axis| axis + 1)).collect();
    let is_one = order.len() == have.len() + 1 && have.len() > 1;
    is_one.then(|| {
        let order: Vec<String> = order.iter().map(usize::to_string).collect();
        format!(": is it numpy.transpose(array, ({})) of all rows that is meant?", order.join(", "))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arrays_take_the_shape_of_their_input() {
        let graph =
            lorac_ir::parse("graph g(%x: f32[N,1,2,2], %y: f32[N,S], %z: f32[N], %p: f32[N,3,4,4], %v: f32[N,48]) { }")
                .expect("parses");
        let of = |input: &str, tensor: Tensor| {
            let feeds = Feeds {
                inputs: vec![Binding { field: input.into(), input: input.into(), dtype: lorac_ir::DType::F32 }],
                ..Feeds::default()
            };
            let name: &'static str = String::leak(input.to_string());
            let example = lorac_data::Example { fields: vec![(name, Field::Array(tensor))] };
            let mut data = Dataset::new(vec![example], Default::default());
            fit(&graph, &feeds, &mut data, "data.train").map_err(|e| e.to_string())?;
            match &data.examples[0].fields[0].1 {
                Field::Array(tensor) => Ok(tensor.dims().to_vec()),
                other => panic!("{other:?}"),
            }
        };
        assert_eq!(of("x", Tensor::vector(&[0u8; 4])), Ok(vec![1, 2, 2]));
        assert_eq!(of("y", Tensor::vector(&[0f32; 7])), Ok(vec![7]));
        assert_eq!(of("z", Tensor::scalar(1f32)), Ok(vec![]));
        let error: Result<_, String> = of("x", Tensor::vector(&[0f32; 5]));
        assert_eq!(
            error,
            Err("data.train: example 1 has f32[5] for the input `x`, which takes f32[N,1,2,2]".to_string())
        );
        let zeros = |dims: &[usize]| Tensor::from_slice(dims, &vec![0f32; dims.iter().product()]).expect("fits");
        assert_eq!(of("x", zeros(&[2, 1, 2])), Ok(vec![1, 2, 2]), "dimensions of 1");
        assert_eq!((of("p", zeros(&[48])), of("v", zeros(&[3, 4, 4]))), (Ok(vec![3, 4, 4]), Ok(vec![48])), "flat");
        let channels_last = of("p", zeros(&[4, 4, 3])).expect_err("other pixels");
        assert!(channels_last.contains("f32[4,4,3] for the input `p`, which takes f32[N,3,4,4]"), "{channels_last}");
        assert!(channels_last.contains("numpy.transpose(array, (0, 3, 1, 2))"), "{channels_last}");
        let other = of("p", zeros(&[6, 8])).expect_err("other numbers");
        assert!(!other.contains("transpose"), "{other}");
    }

    #[test]
    fn integers_stay_what_they_are() {
        let of = |tensor: Tensor, want: DType| typed(&tensor, want).unwrap_or(Ok(tensor));
        let long = Tensor::vector(&[123_456_789i64, 9_007_199_254_740_993]);
        assert_eq!(of(long.clone(), DType::I64), Ok(long.clone()));
        assert_eq!(of(Tensor::vector(&[1f64, -2.0]), DType::I64), Ok(Tensor::vector(&[1i64, -2])));
        assert_eq!(of(Tensor::vector(&[1.0, 2.7]), DType::I64), Err("2.7".into()));
        assert_eq!(of(Tensor::vector(&[f64::NAN]), DType::I32), Err("NaN".into()));
        assert_eq!(of(Tensor::vector(&[255i64, 256]), DType::U8), Err("256".into()));
        assert_eq!(of(Tensor::vector(&[255i64, 0]), DType::U8), Ok(Tensor::vector(&[255u8, 0])));
        assert_eq!(of(Tensor::vector(&[7u8]), DType::I64), Ok(Tensor::vector(&[7u8])), "what is smaller is cast later");
        assert_eq!(of(Tensor::vector(&[7i64]), DType::F32), Ok(Tensor::vector(&[7f32])));
        assert_eq!(of(Tensor::vector(&[0.1f64]), DType::F32), Ok(Tensor::vector(&[0.1f32])));
    }
}
