//! Finding an operator: in the table, or among those that a program has added to it.

use crate::{Op, TABLE};
use fnv::FnvBuildHasher;
use lorac_ir::OpName;
use std::collections::HashMap;
use std::sync::{LazyLock, OnceLock, PoisonError, RwLock};

// Short names, none of them a stranger's, looked up at every node: no need for a keyed hash.
type Index = HashMap<(&'static str, &'static str), &'static Op, FnvBuildHasher>;

static REGISTERED: OnceLock<RwLock<Index>> = OnceLock::new();

/// Adds an operator to those of [`TABLE`], for the whole process and for good: what infers, evaluates, lowers or
/// differentiates a graph from now on knows it. [`crate::check_gradient`] tries its rule or lowering.
///
/// A node of an operator with a rule stays in the training graph, and whatever runs that graph must know the operator; one
/// with a lowering is replaced by plain ONNX operators. A runtime knows nothing of what is registered here.
///
/// ```
/// use lorac_ops::{Grad, Op, Operand, UNARY, case, check_gradient, register};
/// static CUBE: Op = Op {
///     domain: "own",
///     name: "Cube",
///     since: 1,
///     eval: |a| Ok(vec![a.x(0)?.mapv(|x| x * x * x)]),
///     grad: Grad::rule(|b| vec![Some(3.0 * b.gy * b.x[0] * b.x[0])], &[case(&[Operand::Any(&[2, 3])])]),
///     ..UNARY
/// };
/// register(&CUBE)?;
/// check_gradient(&CUBE, &CUBE.grad.cases()[0])?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// # Errors
/// An operator without a name, or with one that the table or an earlier registration has.
pub fn register(op: &'static Op) -> Result<(), RegisterError> {
    let name = || OpName::new(op.domain, op.name).to_string();
    if op.name.is_empty() {
        return Err(RegisterError::NoName);
    }
    if in_table(op.domain, op.name).is_some() {
        return Err(RegisterError::InTable(name()));
    }
    let mut own = REGISTERED.get_or_init(RwLock::default).write().unwrap_or_else(PoisonError::into_inner);
    if own.contains_key(&(op.domain, op.name)) {
        return Err(RegisterError::Registered(name()));
    }
    own.insert((op.domain, op.name), op);
    Ok(())
}

/// Why an operator cannot be registered.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RegisterError {
    /// The operator has no name.
    #[error("an operator needs a name")]
    NoName,
    /// lorac's own table has the operator.
    #[error("`{0}` is in the table of operators already")]
    InTable(String),
    /// An operator of this name has been registered before.
    #[error("`{0}` is registered already")]
    Registered(String),
}

impl RegisterError {
    /// A stable name of the fault, for programs and for looking it up: `register::...`.
    pub fn code(&self) -> &'static str {
        match self {
            Self::NoName => "register::no_name",
            Self::InTable(_) => "register::in_table",
            Self::Registered(_) => "register::registered",
        }
    }
}

/// The entry for an operator: the table's, else the one that was [registered](register()).
pub fn find(op: &OpName) -> Option<&'static Op> {
    in_table(&op.domain, &op.name).or_else(|| {
        let own = REGISTERED.get()?.read().unwrap_or_else(PoisonError::into_inner);
        own.get(&(&*op.domain, &*op.name)).copied()
    })
}

fn in_table(domain: &str, name: &str) -> Option<&'static Op> {
    static INDEX: LazyLock<Index> =
        LazyLock::new(|| TABLE.iter().flat_map(|family| family.iter()).map(|op| ((op.domain, op.name), op)).collect());
    INDEX.get(&(domain, name)).copied()
}
