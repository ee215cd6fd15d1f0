//! A step in slices: what they add up to before theta changes.

use super::{Scalar, ScalarValue, StateSlot};
use lorac_ir::{DType, Fact, ValueId};
use lorac_ops::{Emit, Val};

/// The loss of a slice, and how much counts in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SliceLoss {
    /// The mean over the slice.
    pub mean: ValueId,
    /// How much counts: what the mean was divided by, unless that was below 1.
    pub count: ValueId,
}

/// Name of the state in which gradients are added up.
const GRADIENT: &str = "accumulated";

/// Names of the state in which losses, and how much counts, are added up.
const LOSS_AND_COUNT: [&str; 2] = ["accumulated.loss", "accumulated.count"];

/// Whether a run is the last of its step: 1 or 0.
pub(super) const LAST: Scalar = Scalar { name: "last_slice", value: ScalarValue::LastSlice };

/// What slices have added up to, this one included.
pub(super) struct Sums<'e, 'g> {
    /// The mean loss over all of them.
    pub(super) loss: Val<'e, 'g>,
    /// Its gradient, `[n]`.
    pub(super) grad: Val<'e, 'g>,
    /// Whether there are no more: then theta changes, and the next step begins with nothing.
    pub(super) last: Val<'e, 'g>,
    /// The state that holds them.
    pub(super) slots: Vec<StateSlot>,
    /// What replaces it.
    pub(super) outputs: Vec<ValueId>,
}

/// Adds a slice to those before. A sum that is not finite stays so until the last, whatever comes after it.
pub(super) fn add<'e, 'g>(e: &'e Emit<'g>, loss: SliceLoss, grad: Val<'e, 'g>, last: Val<'e, 'g>) -> Sums<'e, 'g> {
    let len = grad.fact().known_dims().map_or(0, |d| d.iter().product());
    let last = last.binary("Greater", last.like(0.5));
    let (mean, count) = (e.val(loss.mean).cast(DType::F32), e.val(loss.count).cast(DType::F32));
    // What a mean was divided by, which is not its count where less than one counts.
    let divisor = |count: Val<'e, 'g>| count.binary("Max", count.like(1.0));
    let weight = divisor(count);
    let (mut slots, mut outputs) = (Vec::new(), Vec::new());
    let mut sum = |name: &str, len: usize, more: Val<'e, 'g>| {
        let before = e.input(name, Fact::new(DType::F32, [len]));
        let input = e.name_of(before.id());
        let all = before + more;
        let next = e.named(&format!("{input}.next"), "Where", &[last, all.like(0.0), all], &[], 1);
        let output = next.first().map(|v| e.name_of(v.id())).unwrap_or_default();
        outputs.extend(next.iter().map(|v| v.id()));
        slots.push(StateSlot { input, output, len });
        all
    };
    let [loss_name, count_name] = LOSS_AND_COUNT;
    let grad = sum(GRADIENT, len, grad * weight);
    let loss = sum(loss_name, 1, (mean * weight).reshape(&[1]));
    let counted = divisor(sum(count_name, 1, count.reshape(&[1])));
    Sums { loss: (loss / counted).reshape(&[]), grad: grad / counted, last, slots, outputs }
}

#[cfg(test)]
mod tests {
    use crate::{
        AdamW, Clip, Group, Groups, Init, Layout, Packed, Param, Sgd, SliceLoss, StepLoss, Update, UpdateSpec,
    };
    use lorac_ir::{Graph, ValueId};
    use lorac_ops::{Array, evaluate};

    const SGD: Sgd = Sgd { lr: 0.5, momentum: 0.0, nesterov: false, weight_decay: 0.0 };

    /// An update of three elements whose loss, gradient and count are fed.
    fn update(spec: &UpdateSpec) -> (Graph, Update) {
        let text = "graph g(%theta: f32[3], %mean: f32[], %count: f32[], %g: f32[3]) -> %mean, %count { }";
        let mut graph = lorac_ir::parse(text).expect("parses");
        let find = |name: &str| graph.find(name).expect("there");
        let loss = StepLoss::Slice(SliceLoss { mean: find("mean"), count: find("count") });
        let packed = Packed { theta: find("theta"), grad: Some(find("g")) };
        let (name, dims, init, group) = ("p".to_string(), vec![3], Init::Zeros, Group::Adapter);
        let layout = Layout::of(&[Param { value: ValueId(0), name, dims, init, group, decay: true }]);
        let update = crate::optimize(&mut graph, &packed, &layout, loss, spec, &[]).expect("writes");
        (graph, update)
    }

    struct Steps {
        graph: Graph,
        update: Update,
        state: Vec<Array>,
        taken: u64,
    }

    impl Steps {
        fn new(spec: &UpdateSpec) -> Steps {
            let (graph, update) = update(spec);
            let slots = update.slots.iter().chain(&update.sums);
            let state = slots.map(|s| Array::zeros(vec![s.len])).collect();
            Steps { graph, update, state, taken: 0 }
        }

        /// Loss and norm behind the last of some slices, each with its mean loss, count and gradient.
        fn step(&mut self, slices: &[(f64, f64, [f64; 3])]) -> (f64, f64) {
            let scalar = |x: f64| Array::from_shape_vec(vec![], vec![x]).expect("fits");
            let mut said = (f64::NAN, f64::NAN);
            for (i, (mean, count, grad)) in slices.iter().enumerate() {
                let grad = Array::from_shape_vec(vec![3], grad.to_vec()).expect("fits");
                let mut feeds = vec![("mean", scalar(*mean)), ("count", scalar(*count)), ("g", grad)];
                let number = |v: crate::ScalarValue| v.at(self.taken, 0.5, i + 1 == slices.len());
                feeds.extend(self.update.scalars.iter().map(|s| (s.input.as_str(), scalar(number(s.value)))));
                let slots = self.update.slots.iter().chain(&self.update.sums);
                feeds.extend(slots.zip(&self.state).map(|(s, v)| (s.input.as_str(), v.clone())));
                let out = evaluate(&self.graph, &feeds).expect("runs");
                said = (out[0].sum(), out[1].sum());
                self.state = out[2..].to_vec();
            }
            self.taken += u64::from(said.1.is_finite());
            said
        }

        fn theta(&self) -> Vec<f64> {
            self.state[0].iter().copied().collect()
        }

        fn sums(&self) -> Vec<f64> {
            self.state[self.update.slots.len()..].iter().flatten().copied().collect()
        }
    }

    #[test]
    fn slices_count_by_what_counts_in_them() {
        let mut steps = Steps::new(&UpdateSpec::of(&SGD));
        let (loss, norm) =
            steps.step(&[(1.0, 3.0, [1.0, 0.0, 2.0]), (5.0, 1.0, [1.0, 4.0, -2.0]), (0.0, 0.0, [0.0; 3])]);
        assert_eq!((loss, norm), (2.0, 3f64.sqrt()));
        assert_eq!((steps.theta(), steps.sums()), (vec![-0.5, -0.5, -0.5], vec![0.0; 5]));
        steps.step(&[(1.0, 2.0, [-1.0, -1.0, 0.0])]);
        assert_eq!(steps.theta(), [0.0, 0.0, -0.5], "the next step begins with nothing");
        assert_eq!(steps.step(&[(0.0, 0.0, [0.0; 3])]), (0.0, 0.0), "nothing that counts");
        // Sums of 0.5 and 2 over 0.25 and 1: as one batch, 2.5 over 1.25.
        let (loss, _) = steps.step(&[(0.5, 0.25, [0.0; 3]), (2.0, 1.0, [0.0; 3])]);
        assert_eq!(loss, 2.0, "less than one may count");
    }

    #[test]
    fn only_the_last_slice_changes_what_is_kept() {
        let (first, second) = ((1.0, 1.0, [4.0, 0.0, 0.0]), (1.0, 3.0, [0.0, 4.0, 8.0]));
        let adamw = AdamW { lr: 0.5, ..AdamW::default() };
        let spec = UpdateSpec { clip: Some(Clip::Norm(0.5)), ..UpdateSpec::of(&adamw) };
        let (mut sliced, mut whole) = (Steps::new(&spec), Steps::new(&spec));
        for _ in 0..3 {
            let (loss, norm) = sliced.step(&[first, second]);
            assert_eq!((loss, norm), whole.step(&[(1.0, 4.0, [1.0, 3.0, 6.0])]));
            for (a, b) in sliced.state.iter().flatten().zip(whole.state.iter().flatten()) {
                assert!((a - b).abs() <= 1e-12, "{a}, {b}");
            }
        }
        assert!(sliced.theta()[0] < -0.9);
    }

    #[test]
    fn a_slice_that_is_not_finite_spoils_its_step_and_no_other() {
        for bad in [f64::NAN, f64::INFINITY] {
            let mut steps = Steps::new(&UpdateSpec { groups: Groups::default(), ..UpdateSpec::of(&SGD) });
            let (_, norm) = steps.step(&[(1.0, 1.0, [bad, 0.0, 0.0]), (1.0, 1.0, [1.0; 3])]);
            assert!(!norm.is_finite());
            assert_eq!((steps.theta(), steps.sums()), (vec![0.0; 3], vec![0.0; 5]));
            steps.step(&[(1.0, 1.0, [1.0; 3])]);
            assert_eq!(steps.theta(), [-0.5; 3]);
        }
    }
}
