//! The verifier. It reports every violation, not the first.
//!
//! A graph is well formed when
//! 1. every input, output, operand and capture is a live value;
//! 2. a node's output knows the node and the slot that define it, and nobody else claims it;
//! 3. `uses` of a value is exactly the set of operands and captures that name it, sorted, and it knows whether it is an
//!    output of the graph;
//! 4. names are unique and the name table agrees with the values;
//! 5. a weight has a tensor, whose fact is the value's fact;
//! 6. no dimension of a fact is a negative number;
//! 7. the nodes form no cycle, captures considered;
//! 8. the graphs inside nodes are well formed and have an input for every capture.

use crate::view::find_cycle;
use crate::{Def, Dim, Fact, Graph, NodeId, Use, ValueId};

/// One broken invariant.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Violation {
    /// Invariant 1, of a node.
    #[error("{node} reads {value}, which does not exist")]
    DanglingOperand {
        /// The reading node.
        node: NodeId,
        /// The missing value.
        value: ValueId,
    },
    /// Invariant 1, of the graph's signature.
    #[error("the graph's signature names {0}, which does not exist")]
    DanglingSignature(ValueId),
    /// Invariant 2.
    #[error("{value} is not defined by {node}")]
    WrongDefinition {
        /// The node that lists it.
        node: NodeId,
        /// The value.
        value: ValueId,
    },
    /// Invariant 3.
    #[error("{0} does not know its uses")]
    WrongUses(ValueId),
    /// Invariant 4.
    #[error("{0} is not what its name stands for")]
    WrongName(ValueId),
    /// Invariant 5.
    #[error("{value} is {want}, its tensor is {got:?}")]
    WrongTensor {
        /// The weight.
        value: ValueId,
        /// Its fact.
        want: Fact,
        /// Its tensor's fact, if there is a tensor.
        got: Option<Fact>,
    },
    /// Invariant 6.
    #[error("{0} has a negative dimension")]
    NegativeDim(ValueId),
    /// Invariant 7.
    #[error("{0} depends on itself")]
    Cycle(NodeId),
    /// Invariant 8, where there are fewer inputs than captures.
    #[error("a graph inside {0} has fewer inputs than captures")]
    Captures(NodeId),
    /// Invariant 8.
    #[error("inside {node}: {found}")]
    Inside {
        /// The node.
        node: NodeId,
        /// What is wrong with a graph inside it.
        found: Box<Violation>,
    },
}

impl Violation {
    /// A stable name of the fault, for programs and for looking it up: `verify::...`; inside a node, that
    /// of what is wrong there.
    pub fn code(&self) -> &'static str {
        match self {
            Self::DanglingOperand { .. } => "verify::dangling_operand",
            Self::DanglingSignature(_) => "verify::dangling_signature",
            Self::WrongDefinition { .. } => "verify::wrong_definition",
            Self::WrongUses(_) => "verify::wrong_uses",
            Self::WrongName(_) => "verify::wrong_name",
            Self::WrongTensor { .. } => "verify::wrong_tensor",
            Self::NegativeDim(_) => "verify::negative_dim",
            Self::Cycle(_) => "verify::cycle",
            Self::Captures(_) => "verify::captures",
            Self::Inside { found, .. } => found.code(),
        }
    }
}

/// Every violation of the invariants at the top of this file.
pub fn verify(graph: &Graph) -> Vec<Violation> {
    let mut found = Vec::new();
    // Of every value: operands that name it, and those of them that it knows. Where both are as many as its sorted uses,
    // they are the same.
    let mut named = vec![(0usize, 0usize); graph.value_bound()];
    for (id, node) in graph.nodes() {
        for (slot, value) in node.operands() {
            match graph.value(value) {
                Some(v) => {
                    let count = &mut named[value.index()];
                    count.0 += 1;
                    count.1 += usize::from(v.uses.binary_search(&Use { node: id, slot }).is_ok());
                }
                None => found.push(Violation::DanglingOperand { node: id, value }),
            }
        }
        for body in node.bodies() {
            if body.captures.len() > body.graph.inputs().len() {
                found.push(Violation::Captures(id));
            }
            found.extend(verify(&body.graph).into_iter().map(|v| Violation::Inside { node: id, found: Box::new(v) }));
        }
        for (slot, &value) in node.outputs.iter().enumerate() {
            if graph.value(value).map(|v| v.def) != Some(Def::Output(id, slot)) {
                found.push(Violation::WrongDefinition { node: id, value });
            }
        }
    }
    for &value in graph.inputs().iter().chain(graph.outputs()) {
        if graph.value(value).is_none() {
            found.push(Violation::DanglingSignature(value));
        }
    }
    let mut outputs = graph.outputs().to_vec();
    outputs.sort_unstable();
    found.extend(
        outputs.iter().filter(|v| graph.value(**v).is_some_and(|v| !v.output)).map(|v| Violation::WrongUses(*v)),
    );
    for (id, value) in graph.values() {
        let known = named[id.index()] == (value.uses.len(), value.uses.len()) && value.uses.is_sorted();
        if !known || (value.output && outputs.binary_search(&id).is_err()) {
            found.push(Violation::WrongUses(id));
        }
        if graph.find(&value.name) != Some(id) {
            found.push(Violation::WrongName(id));
        }
        match value.def {
            Def::Output(node, slot) => {
                let outputs = graph.node(node).map(|n| n.outputs.as_slice()).unwrap_or_default();
                if outputs.get(slot) != Some(&id) {
                    found.push(Violation::WrongDefinition { node, value: id });
                }
            }
            Def::Weight(t) => {
                let got = graph.tensor(t).map(|t| t.fact());
                if got.as_ref() != Some(&value.fact) {
                    found.push(Violation::WrongTensor { value: id, want: value.fact.clone(), got });
                }
            }
            Def::Input => {}
        }
        if value.fact.dims().is_some_and(|dims| dims.iter().any(|d| matches!(d, Dim::Known(n) if *n < 0))) {
            found.push(Violation::NegativeDim(id));
        }
    }
    found.extend(find_cycle(graph).map(Violation::Cycle));
    found
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::parse;

    #[test]
    fn collects_all_violations() {
        let text = "graph g(%x: f32[4]) -> %y { %w = weight \"w\" f32[4]\n %y = Add(%x, %w) : f32[4] }";
        let mut g = parse(text).expect("parses");
        assert_eq!(verify(&g), []);
        let (x, w) = (g.find("x").expect("x"), g.find("w").expect("w"));
        g.values[x.index()].as_mut().expect("x").uses.clear();
        g.set_fact(w, Fact::new(crate::DType::F32, [-5i64]));
        g.outputs.push(ValueId(99));
        g.values[w.index()].as_mut().expect("w").output = true;
        let found = verify(&g);
        assert!(found.contains(&Violation::WrongUses(w)));
        assert!(found.contains(&Violation::WrongUses(x)));
        assert!(found.contains(&Violation::NegativeDim(w)));
        assert!(found.contains(&Violation::DanglingSignature(ValueId(99))));
        assert!(found.iter().any(|v| matches!(v, Violation::WrongTensor { .. })));
        assert_eq!(found.len(), 5);
    }

    #[test]
    fn a_cycle_is_found() {
        let text = "graph g(%x: f32[4]) -> %z { %y = Relu(%x) : f32[4]\n %z = Relu(%y) : f32[4] }";
        let mut g = parse(text).expect("parses");
        let z = g.find("z").expect("z");
        let y = g.find("y").expect("y");
        let first = g.producer(y).expect("relu").0;
        g.nodes[first.index()].as_mut().expect("relu").inputs[0] = Some(z);
        assert!(verify(&g).iter().any(|v| matches!(v, Violation::Cycle(_))));
    }
}
