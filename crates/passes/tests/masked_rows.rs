//! Rows of an attention that are masked to minus infinity as a whole, with a guard that makes them zero.

use lorac_ir::parse;
use lorac_ops::{Array, evaluate};
use lorac_passes::grad::{Loss, Request, Subject, grad};
use std::collections::{BTreeMap, HashSet};

/// Of the mean square of `softmax(mask(q k^T)) v w`, the second of three rows masked, as PyTorch computes them with
/// `masked_fill`, `softmax` and `where`, by `q`, `k`, `v` and `w`.
const GRADIENTS: [&[f64]; 4] = [
    &[0.093052, -0.046526, 0.0, 0.0, -0.013963, 0.041427],
    &[0.028903, -0.014452, -0.048587, 0.024293, 0.019683, -0.009842],
    &[0.314123, -0.114298, 0.226921, -0.072898, 0.030309, -0.006042],
    &[0.35394, 0.116978, -0.182376, -0.028797],
];

/// The gradients of a model that masks, normalizes and guards so.
fn gradients(mask: &str, softmax: &str, [shares, mixed, projected]: &[String; 3]) -> Vec<Array> {
    let text = format!(
        "graph g(%m: bool[3,3], %rows: bool[3,1]) -> %y {{
            %q = weight \"q\" f32[3,2] = [0.5, -0.25, 1, 0.75, -0.5, 0.25]
            %k = weight \"k\" f32[3,2] = [0.25, 0.5, -0.75, 1, 0.5, -0.5]
            %v = weight \"v\" f32[3,2] = [1, -1, 0.5, 0.25, -0.5, 2]
            %w = weight \"w\" f32[2,2] = [1, 0.5, -0.5, 0.25]
            %zero = weight \"zero\" f32[] = [0]
            %inf = weight \"inf\" f32[] = [-inf]
            %last = weight \"last\" i64[1] = [-1]
            %kt = Transpose(%k, perm=[1,0]) : f32[..]
            %scores = MatMul(%q, %kt) : f32[..]
            {mask}
            {softmax}
            {shares}
            %o = MatMul(%a, %v) : f32[..]
            {mixed}
            %r = MatMul(%b, %w) : f32[..]
            {projected}
        }}"
    );
    let mut graph = parse(&text).expect("parses");
    lorac_ops::infer(&mut graph).expect("infers");
    let subject = Subject { graph: &graph, functions: &[], constants: &HashSet::new() };
    let wrt = ["q", "k", "v", "w"].map(String::from).to_vec();
    let request = Request { wrt, loss: Loss::MeanSquaredError, output: None, fix: BTreeMap::new() };
    let found = grad(&subject, &request).expect("differentiates").graph;
    let array = |dims: &[usize], all: &[f64]| Array::from_shape_vec(dims.to_vec(), all.to_vec()).expect("fits");
    let inputs = [
        ("m", array(&[3, 3], &[1.0, 1.0, 0.0, 0.0, 0.0, 0.0, 1.0, 1.0, 1.0])),
        ("rows", array(&[3, 1], &[1.0, 0.0, 1.0])),
        ("target", array(&[3, 2], &[0.0; 6])),
    ];
    let used: Vec<(&str, Array)> = inputs.into_iter().filter(|(name, _)| found.find(name).is_some()).collect();
    let values = evaluate(&found, &used).expect("evaluates");
    let of = |name: &str| {
        let value = found.find(&format!("grad.{name}")).expect("a gradient");
        values[found.outputs().iter().position(|o| *o == value).expect("an output")].clone()
    };
    ["q", "k", "v", "w"].map(of).to_vec()
}

#[test]
fn a_guard_wherever_it_stands_makes_the_gradient_of_masked_rows_zero() {
    let masks = [
        "%s = Where(%m, %scores, %inf) : f32[..]",
        "%add = Where(%m, %zero, %inf) : f32[..]\n %s = Add(%scores, %add) : f32[..]",
    ];
    let softmaxes = [
        "%p = Softmax(%s, axis=-1) : f32[..]",
        "%e = Exp(%s) : f32[..]\n %t = ReduceSum(%e, %last) : f32[..]\n %p = Div(%e, %t) : f32[..]",
        "%max = ReduceMax(%s, %last) : f32[..]\n %d = Sub(%s, %max) : f32[..]\n %e = Exp(%d) : f32[..]
            %t = ReduceSum(%e, %last) : f32[..]\n %p = Div(%e, %t) : f32[..]",
    ];
    let no = |to: &str, from: &str| format!("%{to} = Identity(%{from}) : f32[..]");
    let rows = |to: &str, from: &str| format!("%{to} = Where(%rows, %{from}, %zero) : f32[..]");
    let asks = |to: &str, from: &str| {
        format!("%nan = IsNaN(%{from}) : bool[..]\n %{to} = Where(%nan, %zero, %{from}) : f32[..]")
    };
    let steps = [("a", "p"), ("b", "o"), ("y", "r")];
    for (mask, softmax) in masks.into_iter().flat_map(|m| softmaxes.map(|s| (m, s))) {
        for (place, guard) in (0..3).flat_map(|place| [(place, rows("#", "*")), (place, asks("#", "*"))]) {
            let mut lines = steps.map(|(to, from)| no(to, from));
            lines[place] = guard.replace('#', steps[place].0).replace('*', steps[place].1);
            let found = gradients(mask, softmax, &lines);
            for (got, want) in found.iter().zip(GRADIENTS) {
                let near = got.iter().zip(want).all(|(g, w)| (g - w).abs() < 1e-6);
                assert!(near && got.len() == want.len(), "{mask}\n{softmax}\n{}: {got} is not {want:?}", lines[place]);
            }
        }
    }
}

/// NaN that nothing replaces is a gradient of NaN.
#[test]
fn without_a_guard_nothing_is_hidden() {
    let lines = [("a", "p"), ("b", "o"), ("y", "r")].map(|(to, from)| format!("%{to} = Identity(%{from}) : f32[..]"));
    let softmax = "%p = Softmax(%s, axis=-1) : f32[..]";
    let found = gradients("%s = Where(%m, %scores, %inf) : f32[..]", softmax, &lines);
    assert!(found[2].iter().all(|g| g.is_nan()), "{}", found[2]);
}
