//! Gradients that are multiplied by what is computed of another param (LoRA-FA).

use crate::Layout;
use lorac_ops::Val;

/// A gradient as long as theta, those of some slots multiplied by the slots that project them. As in PEFT what is projected is
/// clipped: the norm is that of the gradient itself.
pub(super) fn projected<'e, 'g>(layout: &Layout, theta: Val<'e, 'g>, grad: Val<'e, 'g>) -> Val<'e, 'g> {
    let (e, slots) = (grad.emit(), layout.slots());
    let range = |v: Val<'e, 'g>, from: usize, to: usize| {
        let [from, to] = [from, to].map(|at| e.ints(&[at as i64]));
        e.op("Slice", &[v, from, to, e.ints(&[0])], &[])
    };
    let (mut parts, mut from) = (Vec::new(), 0);
    for slot in slots {
        let Some(by) = slot.projected_by.and_then(|at| slots.get(at)) else { continue };
        if from < slot.start {
            parts.push(range(grad, from, slot.start));
        }
        from = slot.start + slot.len();
        let dims = |dims: &[usize]| dims.iter().map(|d| *d as i64).collect::<Vec<_>>();
        let own = range(grad, slot.start, from).reshape(&dims(&slot.dims));
        let by = range(theta, by.start, by.start + by.len()).reshape(&dims(&by.dims));
        parts.push(e.op("MatMul", &[own, by], &[]).reshape(&[-1]));
    }
    if parts.is_empty() {
        return grad;
    }
    if from < layout.len() {
        parts.push(range(grad, from, layout.len()));
    }
    e.op("Concat", &parts, &[("axis", 0i64.into())])
}

#[cfg(test)]
mod tests {
    use crate::{Clip, Group, Init, Layout, Packed, Param, Sgd, StepLoss, UpdateSpec, optimize};
    use lorac_ir::ValueId;
    use lorac_ops::{Array, evaluate};

    /// Gradients of length 10 and a limit of 5: halved, and then multiplied.
    #[test]
    fn gradients_are_clipped_and_then_projected() {
        let param = |name: &str, dims: &[usize], init, group| {
            let (name, dims) = (name.to_string(), dims.to_vec());
            Param { value: ValueId(0), name, dims, init, group, decay: false }
        };
        let inverse = Init::InverseGram { of: "a".into(), scale: 1.0, projects: "b".into() };
        let layout = Layout::of(&[
            param("first", &[1], Init::Zeros, Group::Adapter),
            param("b", &[1, 2], Init::Zeros, Group::Adapter),
            param("inverse", &[2, 2], inverse, Group::Fixed),
        ]);
        let text = "graph g(%theta: f32[7], %loss: f32[], %g: f32[7]) -> %loss { }";
        let mut graph = lorac_ir::parse(text).expect("parses");
        let find = |name: &str| graph.find(name).expect("there");
        let (packed, loss) = (Packed { theta: find("theta"), grad: Some(find("g")) }, StepLoss::Whole(find("loss")));
        let sgd = Sgd { lr: 1.0, momentum: 0.0, nesterov: false, weight_decay: 0.0 };
        let spec = UpdateSpec { clip: Some(Clip::Norm(5.0)), ..UpdateSpec::of(&sgd) };
        optimize(&mut graph, &packed, &layout, loss, &spec, &[]).expect("writes");
        let vector = |v: &[f64]| Array::from_shape_vec(vec![v.len()], v.to_vec()).expect("fits");
        let scalar = |x: f64| Array::from_shape_vec(vec![], vec![x]).expect("fits");
        let feeds = [
            ("theta", vector(&[0.0, 0.0, 0.0, 2.0, 1.0, 0.0, 4.0])),
            ("loss", scalar(1.0)),
            ("g", vector(&[8.0, 6.0, 0.0, 0.0, 0.0, 0.0, 0.0])),
            ("lr", scalar(1.0)),
        ];
        let out = evaluate(&graph, &feeds).expect("runs");
        assert_eq!(out[1].sum(), 10.0);
        let want = [-4.0, -6.0, -3.0, 2.0, 1.0, 0.0, 4.0];
        assert!(out[2].iter().zip(want).all(|(got, want)| (got - want).abs() < 1e-5), "{:?}", out[2]);
    }
}
