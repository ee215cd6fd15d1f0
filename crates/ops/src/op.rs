//! What an operator is.

use crate::{Args, Array, Backward, Case, Ctx, Emit, EvalError, InferError, Inferred, Val};
use lorac_ir::{Dim, Node};

/// One operator of one domain, in the form it has from opset `since` on.
pub struct Op {
    /// `""` for the ONNX standard.
    pub domain: &'static str,
    /// `MatMul`, `Gelu`, ...
    pub name: &'static str,
    /// First opset of the domain that has it.
    pub since: i64,
    /// Fewest and most operands.
    pub inputs: (usize, usize),
    /// Fewest and most results.
    pub outputs: (usize, usize),
    /// Element types, shapes and, where they describe shapes, elements of the results.
    pub infer: fn(&Ctx) -> Result<Vec<Inferred>, InferError>,
    /// The results, in f64.
    pub eval: fn(&Args) -> Result<Vec<Array>, EvalError>,
    /// Floating-point operations, in the symbols of the shapes.
    pub flops: fn(&Ctx, &[Inferred]) -> Dim,
    /// How gradients pass through it.
    pub grad: Grad,
    /// What else is true of it, for whoever looks for patterns in graphs.
    pub traits: Traits,
}

/// Properties of operators that a search through a graph asks for, in place of lists of names.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Traits {
    /// Passes a projection on without mixing positions: what follows a product of activations and a matrix is followed
    /// through it, in both directions.
    pub carries: bool,
    /// The nonlinearity of a feed-forward block, or the part of one that its decomposition holds (`Erf` in Gelu).
    pub activation: bool,
    /// Keeps every element in its place: only shape or element type change.
    pub reshapes: bool,
    /// Normalizes: operands of a projection are followed back through it, results are not followed on.
    pub normalizes: bool,
}

impl Traits {
    /// None of the properties.
    pub const NONE: Traits = Traits { carries: false, activation: false, reshapes: false, normalizes: false };
    /// Of an operator that carries, and is nothing more.
    pub const CARRIES: Traits = Traits { carries: true, ..Traits::NONE };
    /// Of an activation, which carries too.
    pub const ACTIVATION: Traits = Traits { activation: true, ..Traits::CARRIES };
    /// Of a change of shape or element type, which carries too.
    pub const RESHAPES: Traits = Traits { reshapes: true, ..Traits::CARRIES };
    /// Of a normalization.
    pub const NORMALIZES: Traits = Traits { normalizes: true, ..Traits::NONE };
}

/// The vector-Jacobian product of an operator: a gradient for each operand, `None` where none flows.
/// A gradient may have the shape that the operands broadcast to: the driver sums it down.
pub type Vjp = for<'e, 'g> fn(&Backward<'e, 'g>) -> Vec<Option<Val<'e, 'g>>>;

/// The meaning of an operator as a subgraph of simpler ones.
pub type Lowering = for<'e, 'g> fn(&'e Emit<'g>, &Node, &[Val<'e, 'g>]) -> Vec<Val<'e, 'g>>;

/// How gradients pass through an operator.
pub enum Grad {
    /// By a rule that accepts gradients of the first `outputs` results; finite differences check it on every case.
    Rule {
        /// The rule.
        vjp: Vjp,
        /// Results whose gradients the rule takes.
        outputs: usize,
        /// What checks it.
        cases: &'static [Case],
    },
    /// Not at all, and rightly so: why.
    Zero(&'static str),
    /// Not at all, though they should: why.
    Unsupported(&'static str),
    /// Through the operator's meaning as a subgraph.
    Lower {
        /// Writes the subgraph.
        lower: Lowering,
        /// What checks it.
        cases: &'static [Case],
    },
}

impl Grad {
    /// A rule. One without a case does not compile.
    pub const fn rule(vjp: Vjp, cases: &'static [Case]) -> Grad {
        assert!(!cases.is_empty(), "a rule needs a case");
        Grad::Rule { vjp, outputs: 1, cases }
    }

    /// A rule for an operator all of whose results may have gradients.
    pub const fn rule_of_all(vjp: Vjp, cases: &'static [Case]) -> Grad {
        assert!(!cases.is_empty(), "a rule needs a case");
        Grad::Rule { vjp, outputs: usize::MAX, cases }
    }

    /// A lowering. One without a case does not compile.
    pub const fn lower(lower: Lowering, cases: &'static [Case]) -> Grad {
        assert!(!cases.is_empty(), "a lowering needs a case");
        Grad::Lower { lower, cases }
    }

    /// The cases that check the rule or the lowering.
    pub fn cases(&self) -> &'static [Case] {
        match self {
            Grad::Rule { cases, .. } | Grad::Lower { cases, .. } => cases,
            Grad::Zero(_) | Grad::Unsupported(_) => &[],
        }
    }
}
