//! Edits of a graph, built beside it and applied all at once or not at all.

mod apply;

use crate::{Attrs, Def, Fact, Graph, Node, NodeId, OpName, Origin, Tensor, TensorId, Value, ValueId};
use apply::reread;
use std::collections::BTreeSet;
use std::fmt;
use std::sync::Arc;

/// An edit: new values and nodes, uses redirected, nodes removed, outputs declared.
///
/// New ids follow those of the graph the patch was made for, so facts and names can be asked of the patch as of the
/// graph. Redirections move the uses that the *graph* has; nodes of the patch itself read what they were given, unless
/// the patch removes what computes it: then they follow the redirection too, so that neighbours can be replaced in one
/// patch.
#[derive(Clone, Debug)]
pub struct Patch {
    pass: Arc<str>,
    base: (usize, usize, usize),
    nodes: Vec<Node>,
    values: Vec<Value>,
    tensors: Vec<Tensor>,
    inputs: Vec<ValueId>,
    dropped_inputs: Vec<ValueId>,
    redirects: Vec<(ValueId, ValueId)>,
    removed: BTreeSet<NodeId>,
    outputs: Option<Vec<ValueId>>,
}

/// Why a patch does not fit its graph. The graph is untouched.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PatchError {
    /// The graph has changed since the patch was begun.
    #[error("the graph has changed since the patch was begun")]
    Stale,
    /// A redirection between values of different type or shape.
    #[error("cannot redirect {old} to {new}: {old_fact} is not {new_fact}")]
    FactMismatch {
        /// Value to be replaced.
        old: ValueId,
        /// Its replacement.
        new: ValueId,
        /// Fact of the old one.
        old_fact: Fact,
        /// Fact of the new one.
        new_fact: Fact,
    },
    /// A value that neither the graph nor the patch has.
    #[error("{0} does not exist")]
    NoSuchValue(ValueId),
    /// A node that the graph does not have.
    #[error("{0} does not exist")]
    NoSuchNode(NodeId),
    /// A removed node is still read by another one or by the caller of the graph.
    #[error("{node} cannot be removed: {value} is still used")]
    StillUsed {
        /// Node to be removed.
        node: NodeId,
        /// Its output that is still read.
        value: ValueId,
    },
    /// A name that the graph or the patch has already.
    #[error("the name `{0}` is taken")]
    DuplicateName(Arc<str>),
    /// The edit would make the graph cyclic.
    #[error("the patch closes a cycle through {0}")]
    Cycle(NodeId),
}

impl PatchError {
    /// A stable name of the fault, for programs and for looking it up: `patch::...`.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Stale => "patch::stale",
            Self::FactMismatch { .. } => "patch::fact_mismatch",
            Self::NoSuchValue(_) => "patch::no_such_value",
            Self::NoSuchNode(_) => "patch::no_such_node",
            Self::StillUsed { .. } => "patch::still_used",
            Self::DuplicateName(_) => "patch::duplicate_name",
            Self::Cycle(_) => "patch::cycle",
        }
    }
}

impl Patch {
    /// An empty patch of `graph`, made by `pass`.
    pub fn new(graph: &Graph, pass: &str) -> Patch {
        Patch {
            pass: pass.into(),
            base: (graph.nodes.len(), graph.values.len(), graph.tensors.len()),
            nodes: Vec::new(),
            values: Vec::new(),
            tensors: Vec::new(),
            inputs: Vec::new(),
            dropped_inputs: Vec::new(),
            redirects: Vec::new(),
            removed: BTreeSet::new(),
            outputs: None,
        }
    }

    fn value_id(&self) -> ValueId {
        ValueId((self.base.1 + self.values.len()) as u32)
    }

    fn push_value(&mut self, name: &str, fact: Fact, def: Def) -> ValueId {
        let id = self.value_id();
        let name: Arc<str> = if name.is_empty() { id.to_string().into() } else { name.into() };
        self.values.push(Value { name, fact, def, uses: Vec::new(), output: false });
        id
    }

    /// Adds a graph input.
    pub fn input(&mut self, name: &str, fact: Fact) -> ValueId {
        let id = self.push_value(name, fact, Def::Input);
        self.inputs.push(id);
        id
    }

    /// Adds a weight; an empty name is made up.
    pub fn weight(&mut self, name: &str, tensor: Tensor) -> ValueId {
        let def = Def::Weight(TensorId((self.base.2 + self.tensors.len()) as u32));
        let id = self.push_value(name, tensor.fact(), def);
        self.tensors.push(tensor);
        id
    }

    /// Adds a node with outputs of the given facts; `name` is the first output's name, empty for a made-up one.
    /// `source` names the node of the user's model that it stands for.
    pub fn node(
        &mut self,
        op: OpName,
        name: &str,
        inputs: Vec<Option<ValueId>>,
        attrs: Attrs,
        facts: Vec<Fact>,
        source: &Arc<str>,
    ) -> Vec<ValueId> {
        let id = NodeId((self.base.0 + self.nodes.len()) as u32);
        let mut outputs = Vec::with_capacity(facts.len());
        for (slot, fact) in facts.into_iter().enumerate() {
            let name = if slot == 0 { name } else { "" };
            outputs.push(self.push_value(name, fact, Def::Output(id, slot)));
        }
        let origin = Origin { pass: self.pass.clone(), source: source.clone() };
        self.nodes.push(Node { op, inputs, outputs: outputs.clone(), attrs, origin });
        outputs
    }

    /// Lets every use that the graph has of `old`, its outputs included, read `new`. Facts must be equal.
    /// A redirected graph output keeps its name: `new` takes it, `old` gets a made-up one.
    pub fn redirect(&mut self, old: ValueId, new: ValueId) {
        self.redirects.push((old, new));
    }

    /// Lets the patch's own nodes read `new(n, value)` where they read `value`; `n` counts the nodes that were added before
    /// the one that reads. Facts must be equal.
    pub fn reread(&mut self, new: impl Fn(usize, ValueId) -> ValueId) {
        self.nodes.iter_mut().enumerate().for_each(|(n, node)| reread(node, |value| new(n, value)));
    }

    /// Removes a node; none of its outputs may be used once the patch is applied.
    pub fn remove(&mut self, node: NodeId) {
        self.removed.insert(node);
    }

    /// Declares what the graph computes, instead of what it computed.
    pub fn set_outputs(&mut self, outputs: Vec<ValueId>) {
        self.outputs = Some(outputs);
    }

    /// Takes an unused input away from the graph's signature.
    pub fn drop_input(&mut self, input: ValueId) {
        self.dropped_inputs.push(input);
    }

    /// The value, of the patch or of `graph`.
    pub fn value<'a>(&'a self, graph: &'a Graph, id: ValueId) -> Option<&'a Value> {
        match id.index().checked_sub(self.base.1) {
            Some(i) => self.values.get(i),
            None => graph.value(id),
        }
    }

    /// The tensor of a weight, of the patch or of `graph`.
    pub fn tensor<'a>(&'a self, graph: &'a Graph, id: ValueId) -> Option<&'a Tensor> {
        match self.value(graph, id)?.def {
            Def::Weight(t) => match t.index().checked_sub(self.base.2) {
                Some(i) => self.tensors.get(i),
                None => graph.tensor(t),
            },
            _ => None,
        }
    }

    /// The node that computes a value, of the patch or of `graph`.
    pub fn producer<'a>(&'a self, graph: &'a Graph, id: ValueId) -> Option<&'a Node> {
        match self.value(graph, id)?.def {
            Def::Output(n, _) => match n.index().checked_sub(self.base.0) {
                Some(i) => self.nodes.get(i),
                None => graph.node(n),
            },
            _ => None,
        }
    }

    /// Whether the patch changes nothing.
    pub fn is_empty(&self) -> bool {
        self.nodes.is_empty()
            && self.values.is_empty()
            && self.redirects.is_empty()
            && self.removed.is_empty()
            && self.dropped_inputs.is_empty()
            && self.outputs.is_none()
    }

    /// Number of values that the patch adds.
    pub fn values_added(&self) -> usize {
        self.values.len()
    }

    /// Number of nodes that the patch adds.
    pub fn added(&self) -> usize {
        self.nodes.len()
    }
}

impl fmt::Display for Patch {
    /// One line an edit: `+ %12 = MatMul(%3, %4)`, `- n7`, `%5 -> %12`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for node in &self.nodes {
            let list = |ids: Vec<String>| ids.join(", ");
            let outs = list(node.outputs.iter().map(|v| v.to_string()).collect());
            let ins = list(node.inputs.iter().map(|v| v.map_or("_".into(), |v| v.to_string())).collect());
            writeln!(f, "+ {outs} = {}({ins})", node.op)?;
        }
        for node in &self.removed {
            writeln!(f, "- {node}")?;
        }
        for (old, new) in &self.redirects {
            writeln!(f, "{old} -> {new}")?;
        }
        Ok(())
    }
}
