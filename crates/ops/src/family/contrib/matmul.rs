//! Matrix products of com.microsoft: FusedGemm FusedMatMul FusedMatMulActivation GemmFastGelu TransposeMatMul.

use super::activation::{fast, gelu};
use super::*;
use crate::Attribute::{Float, Int, Str};
use crate::Operand::Any;
use crate::{Emit, Val, case};
use lorac_ir::Node;

pub(in crate::family) const OPS: &[Op] =
    &[FUSED_GEMM, FUSED_MATMUL, FUSED_MATMUL_ACTIVATION, GEMM_FAST_GELU, TRANSPOSE_MATMUL];

/// The standard operator's entry: what it infers and computes is what the fused one starts from.
fn standard(name: &str) -> Result<&'static Op, EvalError> {
    crate::find(&name.into()).ok_or_else(|| EvalError::Unknown(name.into()))
}

/// The operator that an `activation` attribute names, and its parameters.
pub(super) fn activate<'e, 'g>(e: &'e Emit<'g>, node: &Node, x: Val<'e, 'g>) -> Val<'e, 'g> {
    let params = match node.attrs.get("activation_params") {
        Some(lorac_ir::Attr::Floats(v)) => v.clone(),
        _ => Vec::new(),
    };
    let param = |i: usize, name: &str, default: f32| params.get(i).copied().unwrap_or(node.float(name, default));
    let attr = |name: &'static str, value: f32| (name, value.into());
    match node.str("activation") {
        None | Some("") => x,
        Some(name @ ("Relu" | "Sigmoid" | "Tanh" | "Softplus" | "Softsign")) => x.unary(name),
        Some("LeakyRelu") => e.op("LeakyRelu", &[x], &[attr("alpha", param(0, "activation_alpha", 0.01))]),
        Some("HardSigmoid") => {
            let slope = attr("alpha", param(0, "activation_alpha", 0.2));
            e.op("HardSigmoid", &[x], &[slope, attr("beta", param(1, "activation_beta", 0.5))])
        }
        Some("Clip") => {
            let bound = |i: usize, default: f32| x.like(f64::from(params.get(i).copied().unwrap_or(default)));
            e.op("Clip", &[x, bound(0, f32::MIN), bound(1, f32::MAX)], &[])
        }
        Some(other) => e.fail(InferError::Attribute {
            name: "activation",
            got: other.into(),
            want: "Relu, LeakyRelu, Sigmoid, Tanh, HardSigmoid, Clip, Softplus or Softsign".into(),
        }),
    }
}

/// The same of one number.
pub(super) fn activated(node: &Node) -> Result<Box<dyn Fn(f64) -> f64>, EvalError> {
    let params = match node.attrs.get("activation_params") {
        Some(lorac_ir::Attr::Floats(v)) => v.clone(),
        _ => Vec::new(),
    };
    let param =
        |i: usize, name: &str, default: f32| f64::from(params.get(i).copied().unwrap_or(node.float(name, default)));
    Ok(match node.str("activation") {
        None | Some("") => Box::new(|x| x),
        Some("Relu") => Box::new(|x| x.max(0.0)),
        Some("Sigmoid") => Box::new(|x| 1.0 / (1.0 + (-x).exp())),
        Some("Tanh") => Box::new(f64::tanh),
        Some("Softplus") => Box::new(|x| x.max(0.0) + (-x.abs()).exp().ln_1p()),
        Some("Softsign") => Box::new(|x| x / (1.0 + x.abs())),
        Some("LeakyRelu") => {
            let slope = param(0, "activation_alpha", 0.01);
            Box::new(move |x| if x < 0.0 { slope * x } else { x })
        }
        Some("HardSigmoid") => {
            let (slope, shift) = (param(0, "activation_alpha", 0.2), param(1, "activation_beta", 0.5));
            Box::new(move |x| (slope * x + shift).clamp(0.0, 1.0))
        }
        Some("Clip") => {
            let (lo, hi) = (param(0, "", f32::MIN), param(1, "", f32::MAX));
            Box::new(move |x| x.max(lo).min(hi))
        }
        Some(other) => return invalid(format!("the activation {other} is unknown")),
    })
}

const FUSED_GEMM: Op = Op {
    name: "FusedGemm",
    traits: Traits::PROJECTS.bias(&[2]),
    inputs: (2, 3),
    infer: |c| match crate::find(&"Gemm".into()) {
        Some(gemm) => (gemm.infer)(c),
        None => one(Fact::unranked(c.dtype())),
    },
    eval: |a| {
        let f = activated(a.node)?;
        Ok((standard("Gemm")?.eval)(a)?.into_iter().map(|y| y.mapv(&f)).collect())
    },
    flops: |c, k| match crate::find(&"Gemm".into()) {
        Some(gemm) => (gemm.flops)(c, k),
        None => Dim::Unknown,
    },
    grad: Grad::lower(
        |e, node, x| {
            let kept = ["alpha", "beta", "transA", "transB"];
            let attrs: Vec<(&str, lorac_ir::Attr)> =
                kept.iter().filter_map(|k| Some((*k, node.attrs.get(*k)?.clone()))).collect();
            vec![activate(e, node, e.op("Gemm", x, &attrs))]
        },
        &[
            case(&[Any(&[2, 3]), Any(&[4, 3]), Any(&[4])]).with(&[
                ("transB", Int(1)),
                ("alpha", Float(0.5)),
                ("activation", Str("Relu")),
            ]),
            case(&[Any(&[2, 3]), Any(&[3, 4])]).with(&[("activation", Str("Tanh"))]),
        ],
    ),
    ..FUSED
};

/// How the axes of an operand lie before the product: `transBatch` moves the first axis behind the batch, `trans` swaps
/// the last two.
fn turned(rank: usize, trans: bool, trans_batch: bool) -> Vec<usize> {
    let mut perm: Vec<usize> = (0..rank).collect();
    if trans_batch && rank > 2 {
        perm[..rank - 1].rotate_left(1);
    }
    if trans && rank > 1 {
        perm.swap(rank - 2, rank - 1);
    }
    perm
}

fn turns(node: &Node, slot: usize) -> (bool, bool) {
    let (trans, batch) = [("transA", "transBatchA"), ("transB", "transBatchB")][slot.min(1)];
    (node.int(trans, 0) != 0, node.int(batch, 0) != 0)
}

fn product(c: &Ctx) -> Option<Op> {
    let known = c.dims(0).is_some() && c.dims(1).is_some();
    crate::find(&"MatMul".into()).filter(|_| known).map(|op| Op { grad: Grad::Zero(""), ..*op })
}

fn turned_product<'e, 'g>(_: &'e Emit<'g>, node: &Node, x: &[Val<'e, 'g>]) -> Vec<Val<'e, 'g>> {
    let turn = |x: Val<'e, 'g>, slot: usize| {
        let (trans, batch) = turns(node, slot);
        let perm = turned(x.rank(), trans, batch);
        if perm.iter().copied().eq(0..perm.len()) { x } else { x.transpose(&perm) }
    };
    let y = turn(x[0], 0).matmul(turn(x[1], 1));
    let alpha = f64::from(node.float("alpha", 1.0));
    vec![if alpha == 1.0 { y } else { y * alpha }]
}

const FUSED_MATMUL: Op = Op {
    name: "FusedMatMul",
    traits: Traits::PROJECTS,
    inputs: (2, 2),
    infer: |c| {
        let Some(matmul) = product(c) else { return one(Fact::unranked(c.dtype())) };
        let input = |slot: usize| {
            let mut input = c.input(slot)?.clone();
            let (trans, batch) = turns(c.node, slot);
            let dims = input.fact.dims()?;
            input.fact.shape = Some(turned(dims.len(), trans, batch).into_iter().map(|i| dims[i]).collect());
            Some(input)
        };
        let inputs = vec![input(0), input(1)];
        (matmul.infer)(&Ctx { node: c.node, opset: c.opset, inputs, outputs: c.outputs })
    },
    eval: |a| {
        let input = |slot: usize| -> Result<Option<Array>, EvalError> {
            let x = a.x(slot)?;
            let (trans, batch) = turns(a.node, slot);
            Ok(Some(x.clone().permuted_axes(turned(x.ndim(), trans, batch))))
        };
        let inputs = vec![input(0)?, input(1)?];
        let args = Args { node: a.node, opset: a.opset, inputs, dtypes: a.dtypes.clone(), outputs: a.outputs };
        let alpha = f64::from(a.node.float("alpha", 1.0));
        Ok((standard("MatMul")?.eval)(&args)?.into_iter().map(|y| y * alpha).collect())
    },
    flops: |c, k| {
        let (trans, batch) = turns(c.node, 0);
        let inner = c.dims(0).and_then(|d| d.get(*turned(d.len(), trans, batch).last()?).copied());
        elementwise(c, k) * inner.unwrap_or(Dim::Unknown) * Dim::Known(2)
    },
    grad: Grad::lower(
        turned_product,
        &[
            case(&[Any(&[2, 3, 4]), Any(&[2, 5, 4])]).with(&[("transB", Int(1)), ("alpha", Float(0.125))]),
            case(&[Any(&[4, 3]), Any(&[4, 5])]).with(&[("transA", Int(1))]),
            case(&[Any(&[3, 2, 2, 4]), Any(&[2, 2, 4, 5])]).with(&[("transBatchA", Int(1))]),
            case(&[Any(&[2, 4, 3]), Any(&[5, 2, 4])]).with(&[
                ("transA", Int(1)),
                ("transB", Int(1)),
                ("transBatchB", Int(1)),
            ]),
            case(&[Any(&[2, 3]), Any(&[2, 3, 4])]),
        ],
    ),
    ..FUSED
};

// The name that FusedMatMul had.
const TRANSPOSE_MATMUL: Op = Op {
    name: "TransposeMatMul",
    traits: Traits::PROJECTS,
    grad: Grad::lower(
        turned_product,
        &[case(&[Any(&[2, 4, 3]), Any(&[2, 4, 5])]).with(&[("transA", Int(1)), ("alpha", Float(0.5))])],
    ),
    ..FUSED_MATMUL
};

const FUSED_MATMUL_ACTIVATION: Op = refused(
    "FusedMatMulActivation",
    "only the DirectML provider writes it; save the optimized model with the CPU or CUDA provider instead",
);

// No kernel on the CPU.
const GEMM_FAST_GELU: Op = Op {
    name: "GemmFastGelu",
    traits: Traits::PROJECTS.bias(&[2]),
    inputs: (2, 3),
    infer: |c| match product(c) {
        Some(matmul) => (matmul.infer)(c),
        None => one(Fact::unranked(c.dtype())),
    },
    eval: |a| {
        let mut made = (standard("MatMul")?.eval)(a)?;
        if let (Some(y), Some(bias)) = (made.first_mut(), a.opt(2)) {
            *y = zip(y, bias, |x, b| x + b)?;
        }
        Ok(made.into_iter().map(|y| y.mapv(fast)).collect())
    },
    flops: |c, k| {
        let inner = c.dims(0).and_then(|d| d.last().copied()).unwrap_or(Dim::Unknown);
        elementwise(c, k) * inner * Dim::Known(2)
    },
    grad: Grad::lower(
        |_, _, x| {
            let y = x[0].matmul(x[1]);
            vec![gelu(x.get(2).and_then(|b| b.present()).map_or(y, |b| y + b), true)]
        },
        &[case(&[Any(&[2, 3, 4]), Any(&[4, 5]), Any(&[5])])],
    ),
    ..FUSED
};
