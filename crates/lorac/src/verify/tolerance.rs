//! How far outputs may be apart, by the type that a model computes in and the size of what it gives.

use super::outputs::OutputDifference;
use lorac_ir::{DType, Graph};
use lorac_passes::Target;

/// Steps between neighbouring numbers that rounding may add up to, for types narrower than f32.
const STEPS: f64 = 8.0;

/// A difference, and what is accepted of it.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Accepted {
    /// The difference, of the output that is farthest beyond, or closest to, what is accepted of it.
    pub(super) largest: f64,
    /// The largest that is accepted.
    pub(super) tolerance: f64,
    /// What that is by, in words.
    pub(super) by: String,
}

impl Accepted {
    /// Of a difference for which the user has set a bound.
    pub(super) fn at_most(largest: f64, tolerance: f64) -> Accepted {
        Accepted { largest, tolerance, by: "deploy.verify.max_abs_diff".into() }
    }

    /// Of the outputs of a model that computes in `computed` or wider.
    pub(super) fn by_type(outputs: &[OutputDifference], computed: DType) -> Accepted {
        let each = outputs.iter().map(|output| {
            let dtype = narrower(output.dtype, computed);
            let tolerance = tolerance(dtype, output.magnitude);
            let by = format!("{dtype}, outputs up to {:.3}", output.magnitude);
            Accepted { largest: output.largest, tolerance, by }
        });
        // NaN is the worst of all.
        let share = |a: &Accepted| if a.largest.is_nan() { f64::INFINITY } else { a.largest / a.tolerance };
        let worst = each.max_by(|a, b| share(a).total_cmp(&share(b)));
        worst.unwrap_or(Accepted { largest: 0.0, tolerance: tolerance(computed, 0.0), by: computed.to_string() })
    }

    pub(super) fn passed(&self) -> bool {
        self.largest <= self.tolerance
    }
}

/// The largest difference of numbers of this type up to `magnitude`. Of f32 it is 1e-4 where outputs are not large.
fn tolerance(dtype: DType, magnitude: f64) -> f64 {
    let magnitude = if magnitude.is_finite() { magnitude.max(1.0) } else { 1.0 };
    match dtype {
        DType::F16 => STEPS * 2f64.powi(-10) * magnitude,
        DType::BF16 => STEPS * 2f64.powi(-7) * magnitude,
        _ => (2f64.powi(-16) * magnitude).max(1e-4),
    }
}

fn narrower(a: DType, b: DType) -> DType {
    [DType::BF16, DType::F16].into_iter().find(|d| [a, b].contains(d)).unwrap_or(a)
}

/// The narrowest type of a model's weights that are changed, and of its outputs.
pub(super) fn computed(graph: &Graph, targets: &[&Target]) -> DType {
    let weights = targets.iter().filter_map(|t| graph.value(t.weight)).map(|v| v.fact.dtype);
    let outputs = graph.outputs().iter().map(|v| graph.fact(*v).dtype);
    weights.chain(outputs).fold(DType::F32, |a, b| narrower(b, a))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_accepted_follows_type_and_size() {
        let of = |dtype, largest, magnitude, computed| {
            let name = "y".to_string();
            Accepted::by_type(&[OutputDifference { name, dtype, largest, magnitude }], computed)
        };
        let small = of(DType::F32, 1e-4, 0.5, DType::F32);
        assert_eq!((small.passed(), small.tolerance), (true, 1e-4));
        assert!(!of(DType::F32, 2e-4, 5.0, DType::F32).passed());
        assert!(of(DType::F32, 2e-4, 50.0, DType::F32).passed());
        let half = of(DType::F16, 0.03, 4.0, DType::F32);
        assert_eq!((half.passed(), half.by.as_str()), (true, "f16, outputs up to 4.000"));
        assert!(!of(DType::F16, 0.03, 2.0, DType::F32).passed());
        // Weights of halves behind outputs of f32.
        assert!(of(DType::F32, 0.03, 4.0, DType::F16).passed());
        assert!(!of(DType::F16, f64::INFINITY, f64::INFINITY, DType::F16).passed());
        assert!(!of(DType::F16, f64::NAN, 1.0, DType::F16).passed());
    }

    #[test]
    fn the_output_that_is_worst_for_its_type_counts() {
        let output =
            |name: &str, dtype, largest| OutputDifference { name: name.into(), dtype, largest, magnitude: 1.0 };
        let outputs = [output("a", DType::F16, 4e-3), output("b", DType::F32, 3e-4)];
        let worst = Accepted::by_type(&outputs, DType::F32);
        assert_eq!((worst.largest, worst.passed()), (3e-4, false));
    }
}
