//! Lists of tensors and values that may be absent: ConcatFromSequence Optional OptionalGetElement OptionalHasElement
//! SequenceAt SequenceConstruct SequenceEmpty SequenceErase SequenceInsert SequenceLength SplitToSequence.

use super::*;

pub(super) const OPS: &[Op] = &[
    CONCAT_FROM_SEQUENCE,
    OPTIONAL,
    OPTIONAL_GET_ELEMENT,
    OPTIONAL_HAS_ELEMENT,
    SEQUENCE_AT,
    SEQUENCE_CONSTRUCT,
    SEQUENCE_EMPTY,
    SEQUENCE_ERASE,
    SEQUENCE_INSERT,
    SEQUENCE_LENGTH,
    SPLIT_TO_SEQUENCE,
];

/// What a list or an optional value is, or what it holds, is for the file to declare.
const LIST: Op = Op {
    infer: |_| one(Fact::unranked(DType::Opaque)),
    eval: |_| invalid("lists of tensors are not evaluated"),
    grad: Grad::Unsupported(
        "lists of tensors are not differentiated: export the model with Split, Concat and Gather instead, as it is for \
         a fixed number of tensors",
    ),
    ..MOVES
};

const CONCAT_FROM_SEQUENCE: Op = Op { name: "ConcatFromSequence", ..LIST };

const OPTIONAL: Op = Op { name: "Optional", since: 15, inputs: (0, 1), ..LIST };

const OPTIONAL_GET_ELEMENT: Op = Op {
    name: "OptionalGetElement",
    since: 15,
    // Of a tensor, since opset 18, it is the tensor.
    infer: |c| one(c.fact(0)),
    eval: |a| Ok(vec![a.x(0)?.clone()]),
    ..LIST
};

const OPTIONAL_HAS_ELEMENT: Op = Op {
    name: "OptionalHasElement",
    since: 15,
    inputs: (0, 1),
    infer: |_| one(Fact::scalar(DType::Bool)),
    eval: |a| match (a.opt(0), a.node.input(0)) {
        (None, Some(_)) => invalid("optional values are not evaluated"),
        (x, _) => Ok(vec![Array::from_elem(vec![], f64::from(u8::from(x.is_some())))]),
    },
    grad: Grad::Zero("whether there is a value has no gradient"),
    ..LIST
};

const SEQUENCE_AT: Op = Op { name: "SequenceAt", inputs: (2, 2), ..LIST };

const SEQUENCE_CONSTRUCT: Op = Op { name: "SequenceConstruct", inputs: (1, usize::MAX), ..LIST };

const SEQUENCE_EMPTY: Op =
    Op { name: "SequenceEmpty", inputs: (0, 0), grad: Grad::Zero("an empty list has no gradient"), ..LIST };

const SEQUENCE_ERASE: Op = Op { name: "SequenceErase", inputs: (1, 2), ..LIST };

const SEQUENCE_INSERT: Op = Op { name: "SequenceInsert", inputs: (2, 3), ..LIST };

const SEQUENCE_LENGTH: Op = Op {
    name: "SequenceLength",
    infer: |_| one(Fact::scalar(DType::I64)),
    grad: Grad::Zero("a length has no gradient"),
    ..LIST
};

const SPLIT_TO_SEQUENCE: Op = Op { name: "SplitToSequence", inputs: (1, 2), ..LIST };
