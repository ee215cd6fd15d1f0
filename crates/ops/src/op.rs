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
#[derive(Clone, Copy, Debug, Default)]
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
    /// Puts elements elsewhere, repeats or leaves out some, and changes none: so many of its first operands hold what is
    /// moved, the others tell where. 0 for every other operator.
    pub moves: usize,
    /// A product: how it multiplies by one of its operands.
    pub projects: Option<Projects>,
    /// The operands that an attention takes for queries, keys and values.
    pub attention: Option<[usize; 3]>,
    /// Operands that are added up, as a residual stream and what a block says to it.
    pub adds: &'static [usize],
    /// Operands that are biases, where they are weights.
    pub bias: &'static [usize],
    /// Operands that are constants of an architecture and no parameters, where they are weights: the cosines and sines of
    /// a rotation, the scales of a resize.
    pub constants: &'static [usize],
}

/// How a node multiplies by one of its operands, given the slot and the rank of that operand. `None` where the operand is
/// not the weight of a projection of another one.
pub type Projects = fn(&Node, usize, usize) -> Option<Projection>;

/// How a product multiplies rows by a weight: the axes of the weight that are summed over are the first ones, or, where it
/// is stored transposed, the last ones.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Projection {
    /// Whether the weight is stored `[out, in]`.
    pub transposed: bool,
    /// How many axes of the weight are summed over.
    pub summed: usize,
}

impl Projection {
    /// By `[in, out]`.
    pub const PLAIN: Projection = Projection { transposed: false, summed: 1 };
    /// By `[out, in]`.
    pub const TRANSPOSED: Projection = Projection { transposed: true, summed: 1 };
}

impl Traits {
    /// None of the properties.
    pub const NONE: Traits = Traits {
        carries: false,
        activation: false,
        reshapes: false,
        normalizes: false,
        moves: 0,
        projects: None,
        attention: None,
        adds: &[],
        bias: &[],
        constants: &[],
    };
    /// Of an operator that carries, and is nothing more.
    pub const CARRIES: Traits = Traits { carries: true, ..Traits::NONE };
    /// Of an activation, which carries too.
    pub const ACTIVATION: Traits = Traits { activation: true, ..Traits::CARRIES };
    /// Of a change of shape or element type, which carries too.
    pub const RESHAPES: Traits = Traits { reshapes: true, ..Traits::CARRIES };
    /// Of a normalization.
    pub const NORMALIZES: Traits = Traits { normalizes: true, ..Traits::NONE };
    /// Of an operator that moves elements of its first operand, and carries.
    pub const MOVES: Traits = Traits { moves: 1, ..Traits::CARRIES };
    /// Of an attention that takes queries, keys and values in this order.
    pub const ATTENTION: Traits = Traits { attention: Some([0, 1, 2]), ..Traits::NONE };

    /// With operands that are added up.
    pub const fn adds(self, slots: &'static [usize]) -> Traits {
        Traits { adds: slots, ..self }
    }

    /// With biases among the operands.
    pub const fn bias(self, slots: &'static [usize]) -> Traits {
        Traits { bias: slots, ..self }
    }

    /// With constants of an architecture among the operands.
    pub const fn constants(self, slots: &'static [usize]) -> Traits {
        Traits { constants: slots, ..self }
    }

    /// Of a product of rows and the operand at slot 1, `[in, out]`.
    pub const PROJECTS: Traits = Traits::NONE.projects(|_, slot, rank| match (slot, rank) {
        (1, 2) => Some(Projection::PLAIN),
        _ => None,
    });

    /// With a product.
    pub const fn projects(self, how: fn(&Node, usize, usize) -> Option<Projection>) -> Traits {
        Traits { projects: Some(how), ..self }
    }
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
