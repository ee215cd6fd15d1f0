//! Control flow: If Loop Scan SequenceMap. Their bodies are opaque; what the file declares of their results is kept.

use super::*;

pub(super) const OPS: &[Op] = &[IF, LOOP, SCAN, SEQUENCE_MAP];

const MANY: usize = usize::MAX;

const CONTROL: Op = Op {
    outputs: (1, MANY),
    infer: |c| Ok(vec![Fact::unranked(DType::Opaque).into(); c.outputs]),
    eval: |_| invalid("the bodies of control flow are not evaluated"),
    flops: |_, _| Dim::Unknown,
    grad: Grad::Unsupported(
        "the bodies of control flow are not differentiated: export the model without it (fixed shapes and flags usually \
         fold If away, a loop of known length unrolls), or train only what lies behind it",
    ),
    ..UNARY
};

const IF: Op = Op { name: "If", ..CONTROL };

const LOOP: Op = Op { name: "Loop", inputs: (0, MANY), ..CONTROL };

const SCAN: Op = Op { name: "Scan", inputs: (1, MANY), ..CONTROL };

const SEQUENCE_MAP: Op = Op { name: "SequenceMap", since: 17, inputs: (1, MANY), ..CONTROL };
