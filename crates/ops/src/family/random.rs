//! Random numbers: Bernoulli Multinomial RandomNormal RandomNormalLike RandomUniform RandomUniformLike.

use super::*;

pub(super) const OPS: &[Op] =
    &[BERNOULLI, MULTINOMIAL, RANDOM_NORMAL, RANDOM_NORMAL_LIKE, RANDOM_UNIFORM, RANDOM_UNIFORM_LIKE];

/// The element type that the attribute `dtype` names, else `default`.
fn asked(c: &Ctx, default: DType) -> DType {
    if c.node.attrs.contains_key("dtype") { DType::from_onnx_code(c.node.int("dtype", 0)) } else { default }
}

/// Drawn anew in every run, of the operand's shape.
const DRAWN: Op = Op {
    infer: |c| one(Fact { dtype: asked(c, c.dtype()), ..c.fact(0) }),
    eval: |a| invalid(format!("{} has another value in every run", a.node.op)),
    flops: |c, k| elementwise(c, k) * Dim::Known(10),
    grad: Grad::Zero("only the operand's shape matters"),
    ..UNARY
};

/// Drawn anew in every run, of the shape that an attribute gives.
const MADE: Op = Op {
    inputs: (0, 0),
    infer: |c| {
        let dtype = asked(c, DType::F32);
        match c.node.ints("shape") {
            Some(dims) if dims.iter().all(|n| *n >= 0) => one(Fact::new(dtype, dims.iter().map(|n| Dim::Known(*n)))),
            other => {
                let got = format!("{:?}", other.unwrap_or_default());
                Err(InferError::Attribute { name: "shape", got, want: "lengths".into() })
            }
        }
    },
    grad: Grad::Zero("it has no operands"),
    ..DRAWN
};

const BERNOULLI: Op = Op {
    name: "Bernoulli",
    since: 15,
    grad: Grad::Zero("what is drawn, 0 or 1, is constant almost everywhere in its probability"),
    ..DRAWN
};

const MULTINOMIAL: Op = Op {
    name: "Multinomial",
    infer: |c| {
        let samples = Dim::Known(c.node.int("sample_size", 1));
        let rows = c.dims(0).and_then(|d| d.first().copied()).unwrap_or(Dim::Unknown);
        one(Fact::new(asked(c, DType::I32), [rows, samples]))
    },
    grad: Grad::Zero("an index has no gradient"),
    ..DRAWN
};

const RANDOM_NORMAL: Op = Op { name: "RandomNormal", ..MADE };

const RANDOM_NORMAL_LIKE: Op = Op { name: "RandomNormalLike", ..DRAWN };

const RANDOM_UNIFORM: Op = Op { name: "RandomUniform", ..MADE };

const RANDOM_UNIFORM_LIKE: Op = Op { name: "RandomUniformLike", ..DRAWN };

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_draw_has_a_shape_and_no_value() {
        let text = "graph g(%x: f32[N,3]) -> %y { %y = RandomNormalLike(%x, dtype=11) : f64[..] }";
        let mut graph = lorac_ir::parse(text).expect("parses");
        crate::infer(&mut graph).expect("infers");
        assert_eq!(graph.fact(graph.outputs()[0]).to_string(), "f64[N,3]");
        let x = Array::zeros(vec![1, 3]);
        let error = crate::evaluate(&graph, &[("x", x)]).expect_err("random").to_string();
        assert_eq!(error, "RandomNormalLike: RandomNormalLike has another value in every run");
    }
}
