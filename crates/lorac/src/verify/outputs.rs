//! The outputs of two programs, held against each other.

use crate::error::Error;
use lorac_ir::{DType, Tensor};
use lorac_runtime::Program;
use std::collections::BTreeSet;

/// How far the outputs of two programs are apart.
#[derive(Clone, Debug, PartialEq)]
pub struct Difference {
    /// The largest difference. A NaN on one side only counts as infinite.
    pub largest: f64,
    /// Whether there is a NaN that both sides have.
    pub nan: bool,
    /// Each output.
    pub outputs: Vec<OutputDifference>,
}

/// How far one output of two programs is apart.
#[derive(Clone, Debug, PartialEq)]
pub struct OutputDifference {
    /// Its name.
    pub name: String,
    /// Its type.
    pub dtype: DType,
    /// The largest difference.
    pub largest: f64,
    /// The largest magnitude on either side.
    pub magnitude: f64,
}

/// The difference between the float outputs that both programs have, over all batches. A NaN that both have does not count,
/// unless there is a `base` that does not have it: then both are equally broken.
pub fn difference(
    left: &mut dyn Program,
    right: &mut dyn Program,
    base: Option<&mut dyn Program>,
    batches: &[Vec<(String, Tensor)>],
) -> Result<Difference, Error> {
    difference_of(left, right, base, batches, |dtype| dtype.is_float())
}

/// The difference between the outputs of these types that both programs have; those of an unknown type count.
pub(super) fn difference_of(
    left: &mut dyn Program,
    right: &mut dyn Program,
    mut base: Option<&mut dyn Program>,
    batches: &[Vec<(String, Tensor)>],
    compared: fn(DType) -> bool,
) -> Result<Difference, Error> {
    let floats = |program: &dyn Program| outputs(program, compared);
    let (ours, theirs) = (floats(left), floats(right));
    let common: Vec<&str> = ours.intersection(&theirs).map(String::as_str).collect();
    if common.is_empty() {
        return Err(Error::Gate("the two models have no output in common".into()));
    }
    let known = base.as_deref().map(&floats);
    let output = |name: &&str| {
        let (name, dtype) = (name.to_string(), DType::Opaque);
        OutputDifference { name, dtype, largest: 0.0, magnitude: 0.0 }
    };
    let mut found = Difference { largest: 0.0, nan: false, outputs: common.iter().map(output).collect() };
    for batch in batches {
        let (ours, theirs) = (accepted(left, batch), accepted(right, batch));
        let (x, y) = (left.run(&ours, &common)?, right.run(&theirs, &common)?);
        let mut excuses: Vec<Option<Vec<f64>>> = Vec::new();
        if let (Some(base), Some(known)) = (base.as_deref_mut(), &known) {
            let asked: Vec<&str> = common.iter().copied().filter(|name| known.contains(*name)).collect();
            let mut run =
                if asked.is_empty() { Vec::new() } else { base.run(&accepted(base, batch), &asked)? }.into_iter();
            let given = common.iter().map(|name| if known.contains(*name) { run.next()?.to_f64() } else { None });
            excuses = given.collect();
        }
        for (i, (x, y)) in x.iter().zip(&y).enumerate() {
            let excused = |at: usize| match excuses.get(i) {
                None => true,
                Some(given) => given.as_ref().and_then(|v| v.get(at)).is_some_and(|v| v.is_nan()),
            };
            let (distance, nan) = distance(x, y, excused);
            found.largest = found.largest.max(distance);
            found.nan |= nan;
            if let Some(output) = found.outputs.get_mut(i) {
                output.dtype = y.dtype();
                output.largest = output.largest.max(distance);
                output.magnitude = [x, y].into_iter().map(magnitude).fold(output.magnitude, f64::max);
            }
        }
    }
    Ok(found)
}

/// The largest finite magnitude.
fn magnitude(x: &Tensor) -> f64 {
    let values = x.to_f64().unwrap_or_default();
    values.into_iter().map(f64::abs).filter(|x| x.is_finite()).fold(0.0, f64::max)
}

/// The outputs that can be compared.
fn outputs(program: &dyn Program, compared: fn(DType) -> bool) -> BTreeSet<String> {
    let all = program.outputs().iter().filter(|o| compared(o.fact.dtype) || o.fact.dtype == DType::Opaque);
    all.map(|o| o.name.clone()).collect()
}

/// The tensors that a program takes: a training copy has no caches.
fn accepted<'b>(program: &dyn Program, batch: &'b [(String, Tensor)]) -> Vec<(&'b str, &'b Tensor)> {
    let takes = |name: &str| program.inputs().iter().any(|p| p.name == name);
    batch.iter().filter(|(n, _)| takes(n)).map(|(n, t)| (n.as_str(), t)).collect()
}

/// Largest difference of two tensors, infinite where the shapes differ or one is not finite, and whether both have a NaN
/// in the same place. That is a difference where it is not excused.
fn distance(x: &Tensor, y: &Tensor, excused: impl Fn(usize) -> bool) -> (f64, bool) {
    let (Some(a), Some(b)) = (x.to_f64(), y.to_f64()) else { return (f64::INFINITY, false) };
    if x.dims() != y.dims() {
        return (f64::INFINITY, false);
    }
    let each = a.iter().zip(&b).enumerate().map(|(i, (a, b))| match (a.is_nan(), b.is_nan()) {
        (true, true) if excused(i) => 0.0,
        (false, false) if a == b => 0.0,
        (false, false) => (a - b).abs(),
        _ => f64::INFINITY,
    });
    (each.fold(0.0, f64::max), a.iter().zip(&b).any(|(a, b)| a.is_nan() && b.is_nan()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use lorac_ir::Fact;
    use lorac_runtime::{Port, RuntimeError};

    /// A program without inputs that always gives the same.
    struct Fixed(Vec<Port>, Tensor);

    impl Fixed {
        fn new(name: &str, data: &[f32]) -> Fixed {
            let port = Port { name: name.into(), fact: Fact::new(DType::F32, [data.len()]) };
            Fixed(vec![port], Tensor::vector(data))
        }
    }

    impl Program for Fixed {
        fn inputs(&self) -> &[Port] {
            &[]
        }

        fn outputs(&self) -> &[Port] {
            &self.0
        }

        fn run(&mut self, _: &[(&str, &Tensor)], fetch: &[&str]) -> Result<Vec<Tensor>, RuntimeError> {
            Ok(fetch.iter().map(|_| self.1.clone()).collect())
        }

        fn state(&self, input: &str) -> Result<Tensor, RuntimeError> {
            Err(RuntimeError::NoSuchState { name: input.into(), have: Vec::new() })
        }

        fn set_state(&mut self, input: &str, _: &Tensor) -> Result<(), RuntimeError> {
            Err(RuntimeError::NoSuchState { name: input.into(), have: Vec::new() })
        }
    }

    #[test]
    fn integers_count_where_they_are_asked_for() {
        let of = |n: i64| {
            let port = Port { name: "n".into(), fact: Fact::new(DType::I64, [1usize]) };
            Fixed(vec![port], Tensor::vector(&[n]))
        };
        let found = difference_of(&mut of(3), &mut of(5), None, &[Vec::new()], |d| d != DType::Str);
        assert_eq!(found.expect("compares").largest, 2.0);
        assert!(difference(&mut of(3), &mut of(5), None, &[Vec::new()]).is_err(), "no float output");
    }

    #[test]
    fn a_nan_is_excused_by_the_base_alone() {
        let broken = || Fixed::new("y", &[1.0, f32::NAN]);
        let batches = [Vec::new()];
        let beside = |base: Option<&mut dyn Program>| {
            difference(&mut broken(), &mut broken(), base, &batches).expect("an output in common")
        };
        assert_eq!((beside(None).largest, beside(None).nan), (0.0, true));
        assert_eq!(beside(Some(&mut broken())).largest, 0.0);
        for mut base in [Fixed::new("y", &[1.0, 2.0]), Fixed::new("y", &[f32::NAN, 2.0]), Fixed::new("z", &[f32::NAN])]
        {
            assert_eq!(beside(Some(&mut base)).largest, f64::INFINITY);
        }
        let one = difference(&mut broken(), &mut Fixed::new("y", &[1.0, 2.0]), None, &batches).expect("compares");
        assert_eq!((one.largest, one.nan), (f64::INFINITY, false));
        let [output] = one.outputs.as_slice() else { panic!("{one:?}") };
        assert_eq!((output.name.as_str(), output.dtype, output.magnitude), ("y", DType::F32, 2.0));
    }
}
