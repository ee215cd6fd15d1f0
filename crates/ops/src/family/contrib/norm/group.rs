//! Group normalisation of diffusion models. No kernels on the CPU.

use super::*;

pub(super) const GROUP_NORM: Op = Op {
    name: "GroupNorm",
    inputs: (3, 3),
    eval: |a| Ok(vec![normalized(a, a.x(0)?)?]),
    flops: |c, k| elementwise(c, k) * Dim::Known(8),
    grad: Grad::lower(
        |e, node, x| vec![lower(e, node, x[0], x)],
        &[
            case(&[Any(&[2, 2, 3, 4]), Any(&[4]), Any(&[4])]).with(&[("groups", Int(2)), ("activation", Int(1))]),
            case(&[Any(&[2, 4, 2, 3]), Any(&[4]), Any(&[4])]).with(&[
                ("groups", Int(2)),
                ("activation", Int(0)),
                ("channels_last", Int(0)),
                ("epsilon", Float(0.1)),
            ]),
        ],
    ),
    ..FUSED
};

pub(super) const SKIP_GROUP_NORM: Op = Op {
    name: "SkipGroupNorm",
    inputs: (4, 5),
    outputs: (1, 2),
    infer: |c| Ok(vec![c.fact(0).into(), c.fact(0).into()]),
    eval: |a| {
        let mut sum = a.x(0)?.clone();
        let mut skip = a.x(3)?.clone();
        if let [n, c] = *skip.shape() {
            skip = crate::eval::reshape(&skip, &[n, 1, 1, c])?;
        }
        sum = zip(&sum, &skip, |x, s| x + s)?;
        if let Some(bias) = a.opt(4) {
            sum = zip(&sum, bias, |x, b| x + b)?;
        }
        Ok(vec![normalized(a, &sum)?, sum])
    },
    flops: |c, k| elementwise(c, k) * Dim::Known(10),
    grad: Grad::lower(
        |e, node, x| {
            let skip = if x[3].rank() == 2 { x[3].binary("Unsqueeze", e.ints(&[1, 2])) } else { x[3] };
            let sum = x[0] + skip;
            let sum = x.get(4).and_then(|b| b.present()).map_or(sum, |b| sum + b);
            vec![lower(e, node, sum, x), sum]
        },
        &[
            case(&[Any(&[2, 2, 3, 4]), Any(&[4]), Any(&[4]), Any(&[2, 2, 3, 4]), Any(&[4])])
                .with(&[("groups", Int(2)), ("activation", Int(1))])
                .outputs(2),
            case(&[Any(&[2, 2, 1, 4]), Any(&[4]), Any(&[4]), Any(&[2, 4])])
                .with(&[("groups", Int(4)), ("activation", Int(0))]),
        ],
    ),
    ..FUSED
};

fn normalized(a: &Args, x: &Array) -> Result<Array, EvalError> {
    let last = a.node.int("channels_last", 1) != 0;
    let groups = usize::try_from(a.node.int("groups", 0)).unwrap_or(0);
    if x.ndim() != 4 {
        return invalid("GroupNorm takes rank 4");
    }
    let axis = if last { 3 } else { 1 };
    let channels = x.shape()[axis];
    if groups == 0 || !channels.is_multiple_of(groups) {
        return invalid(format!("{groups} groups of {channels} channels"));
    }
    let (gamma, beta) = (a.x(1)?, a.x(2)?);
    if gamma.shape() != [channels] || beta.shape() != [channels] {
        return invalid("gamma and beta have one element per channel");
    }
    let epsilon = f64::from(a.node.float("epsilon", 1e-5));
    let silu = a.node.int("activation", 0) == 1;
    let mut y = x.clone();
    let size = channels / groups;
    for (n, g) in (0..x.shape()[0]).flat_map(|n| (0..groups).map(move |g| (n, g))) {
        let values = || x.indexed_iter().filter(|(at, _)| at[0] == n && at[axis] / size == g);
        let count = values().count().max(1) as f64;
        let mean = values().map(|(_, x)| x).sum::<f64>() / count;
        let variance = values().map(|(_, x)| (x - mean).powi(2)).sum::<f64>() / count;
        for (at, x) in values() {
            let c = at[axis];
            let z = (x - mean) / (variance + epsilon).sqrt() * gamma[[c]] + beta[[c]];
            y[&at] = if silu { z / (1.0 + (-z).exp()) } else { z };
        }
    }
    Ok(y)
}

fn lower<'e, 'g>(e: &'e Emit<'g>, node: &Node, x: Val<'e, 'g>, all: &[Val<'e, 'g>]) -> Val<'e, 'g> {
    let groups = node.int("groups", 0);
    let last = node.int("channels_last", 1) != 0;
    let (parts, axes): (Val, &[i64]) = match last {
        true => (x.reshape(&[0, 0, 0, groups, -1]), &[1, 2, 4]),
        false => (x.reshape(&[0, groups, -1]), &[2]),
    };
    let mean = |v: Val<'e, 'g>| e.op("ReduceMean", &[v, e.ints(axes)], &[]);
    let (narrow, parts) = (parts.fact().dtype, wide(parts));
    let center = parts - mean(parts);
    let epsilon = f64::from(node.float("epsilon", 1e-5));
    let normal = center / (mean(center * center) + epsilon).unary("Sqrt");
    let normal = normal.cast(narrow).binary("Reshape", x.shape());
    let each = |v: Val<'e, 'g>| if last { v } else { v.binary("Unsqueeze", e.ints(&[1, 2])) };
    let y = normal * each(all[1]) + each(all[2]);
    if node.int("activation", 0) == 1 { y * y.unary("Sigmoid") } else { y }
}
