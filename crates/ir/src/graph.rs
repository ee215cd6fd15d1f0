//! The graph: tables of nodes, values and tensors.

use crate::{Attr, Attrs, DType, Fact, Node, NodeId, OpName, Origin, Tensor, TensorId, ValueId};
use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;

/// How a value comes to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Def {
    /// Fed at run time.
    Input,
    /// A constant of the model.
    Weight(TensorId),
    /// The given output of a node.
    Output(NodeId, usize),
}

/// One reading of a value: a node and the position among its inputs; captures are counted behind the inputs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Use {
    /// The reading node.
    pub node: NodeId,
    /// The position among its inputs and captures.
    pub slot: usize,
}

/// A value: a graph input, a weight or a node's output.
#[derive(Clone, Debug, PartialEq)]
pub struct Value {
    /// Unique in the graph.
    pub name: Arc<str>,
    /// What is known of it.
    pub fact: Fact,
    /// How it comes to be.
    pub def: Def,
    // Invariant: sorted by (node, slot).
    pub(crate) uses: Vec<Use>,
    // Invariant: whether the graph's outputs list it.
    pub(crate) output: bool,
}

impl Value {
    /// Every reading of the value, sorted.
    pub fn uses(&self) -> &[Use] {
        &self.uses
    }
}

/// Why something cannot be added to a graph.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum GraphError {
    /// Two values of one name.
    #[error("the name `{0}` is defined twice")]
    DuplicateName(Arc<str>),
    /// A node reads a value that does not exist.
    #[error("{0} does not exist")]
    NoSuchValue(ValueId),
}

impl GraphError {
    /// A stable name of the fault, for programs and for looking it up: `graph::...`.
    pub fn code(&self) -> &'static str {
        match self {
            Self::DuplicateName(_) => "graph::duplicate_name",
            Self::NoSuchValue(_) => "graph::no_such_value",
        }
    }
}

/// Names that are not given to anything new. Two graphs that differ in them alone compute the same.
#[derive(Clone, Debug, Default)]
pub(crate) struct Reserved(Arc<HashSet<Arc<str>>>);

impl PartialEq for Reserved {
    fn eq(&self, _: &Reserved) -> bool {
        true
    }
}

/// A computation: nodes over values. Nodes are kept in the order in which they were added.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Graph {
    /// The graph's name.
    pub name: String,
    /// Operator set versions by domain; the standard domain is `""`.
    pub opsets: BTreeMap<Arc<str>, i64>,
    /// Names of inputs by what they stand for, where the names do not say it: `input.1` by `input_ids`.
    pub aliases: BTreeMap<String, String>,
    pub(crate) nodes: Vec<Option<Node>>,
    pub(crate) values: Vec<Option<Value>>,
    pub(crate) tensors: Vec<Option<Tensor>>,
    pub(crate) names: HashMap<Arc<str>, ValueId>,
    pub(crate) reserved: Reserved,
    pub(crate) inputs: Vec<ValueId>,
    pub(crate) outputs: Vec<ValueId>,
}

impl Graph {
    /// An empty graph of the given version of the standard operator set.
    pub fn new(name: &str, opset: i64) -> Graph {
        Graph { name: name.to_string(), opsets: BTreeMap::from([("".into(), opset)]), ..Graph::default() }
    }

    /// The version of the standard operator set; 1 where none is declared.
    pub fn opset(&self) -> i64 {
        self.opsets.get("").copied().unwrap_or(1)
    }

    /// The node, unless it was removed.
    pub fn node(&self, id: NodeId) -> Option<&Node> {
        self.nodes.get(id.index())?.as_ref()
    }

    /// The value, unless it was removed.
    pub fn value(&self, id: ValueId) -> Option<&Value> {
        self.values.get(id.index())?.as_ref()
    }

    /// The tensor, unless it was removed.
    pub fn tensor(&self, id: TensorId) -> Option<&Tensor> {
        self.tensors.get(id.index())?.as_ref()
    }

    /// The tensor behind a weight; `None` for other values.
    pub fn weight(&self, id: ValueId) -> Option<&Tensor> {
        match self.value(id)?.def {
            Def::Weight(t) => self.tensor(t),
            _ => None,
        }
    }

    /// The value called `name`.
    pub fn find(&self, name: &str) -> Option<ValueId> {
        self.names.get(name).copied()
    }

    /// The input that stands for `name`: by an alias, or because it is called so.
    pub fn input(&self, name: &str) -> Option<ValueId> {
        let called = self.aliases.get(name).map_or(name, String::as_str);
        self.find(called).filter(|id| self.is_input(*id))
    }

    /// Reserves the names of all values there are, those of graphs inside nodes included: passes may do away with the
    /// values, but in the file from which they come they stay.
    pub fn reserve_names(&mut self) {
        let mut names = std::mem::take(&mut self.reserved.0);
        let all = Arc::make_mut(&mut names);
        let mut open: Vec<&Graph> = vec![self];
        while let Some(graph) = open.pop() {
            all.extend(graph.names.keys().cloned());
            open.extend(graph.nodes().flat_map(|(_, n)| n.bodies()).map(|b| &*b.graph));
        }
        self.reserved.0 = names;
    }

    /// Reserves what `other` reserves.
    pub fn reserve_as(&mut self, other: &Graph) {
        self.reserved = other.reserved.clone();
    }

    /// What something is called that wishes to be called `wish`: so, or so with a number, whatever is not reserved. Of
    /// graphs with the same reserved names it is the same.
    pub fn given_name(&self, wish: &str) -> String {
        self.unlike(wish, |name| self.reserved.0.contains(name))
    }

    /// As [`Graph::given_name`], and not the name of a value of this graph either.
    pub fn fresh_name(&self, wish: &str) -> String {
        self.unlike(wish, |name| self.reserved.0.contains(name) || self.names.contains_key(name))
    }

    fn unlike(&self, wish: &str, taken: impl Fn(&str) -> bool) -> String {
        let numbered = (2u64..).map(|n| format!("{wish}_{n}"));
        std::iter::once(wish.to_string()).chain(numbered).find(|name| !taken(name)).unwrap_or_default()
    }

    /// The name of a value, or its id where the value is gone.
    pub fn name_of(&self, id: ValueId) -> String {
        self.value(id).map_or_else(|| id.to_string(), |v| v.name.to_string())
    }

    /// The fact of a value; an opaque one where the value is gone.
    pub fn fact(&self, id: ValueId) -> Fact {
        self.value(id).map_or(Fact::unranked(DType::Opaque), |v| v.fact.clone())
    }

    /// The node that computes a value.
    pub fn producer(&self, id: ValueId) -> Option<(NodeId, &Node)> {
        match self.value(id)?.def {
            Def::Output(n, _) => Some((n, self.node(n)?)),
            _ => None,
        }
    }

    /// Live nodes, in the order of their ids.
    pub fn nodes(&self) -> impl DoubleEndedIterator<Item = (NodeId, &Node)> {
        let numbered = self.nodes.iter().enumerate();
        numbered.filter_map(|(i, n)| Some((NodeId(i as u32), n.as_ref()?)))
    }

    /// Live values, in the order of their ids.
    pub fn values(&self) -> impl DoubleEndedIterator<Item = (ValueId, &Value)> {
        let numbered = self.values.iter().enumerate();
        numbered.filter_map(|(i, v)| Some((ValueId(i as u32), v.as_ref()?)))
    }

    /// Live weights with their tensors, in the order of their ids.
    pub fn weights(&self) -> impl Iterator<Item = (ValueId, &Value, &Tensor)> {
        self.values().filter_map(|(id, v)| match v.def {
            Def::Weight(t) => Some((id, v, self.tensor(t)?)),
            _ => None,
        })
    }

    /// What is fed at run time.
    pub fn inputs(&self) -> &[ValueId] {
        &self.inputs
    }

    /// What the graph computes.
    pub fn outputs(&self) -> &[ValueId] {
        &self.outputs
    }

    /// Whether the value is one of [`Graph::inputs`], in time that does not depend on how many there are.
    pub fn is_input(&self, id: ValueId) -> bool {
        self.value(id).is_some_and(|v| v.def == Def::Input)
    }

    /// Whether the value is one of [`Graph::outputs`], in time that does not depend on how many there are.
    pub fn is_output(&self, id: ValueId) -> bool {
        self.value(id).is_some_and(|v| v.output)
    }

    /// Replaces the outputs, all of which are live values.
    pub(crate) fn put_outputs(&mut self, outputs: Vec<ValueId>) {
        for (list, output) in [(&self.outputs, false), (&outputs, true)] {
            for id in list {
                if let Some(value) = self.values.get_mut(id.index()).and_then(Option::as_mut) {
                    value.output = output;
                }
            }
        }
        self.outputs = outputs;
    }

    /// Number of live nodes.
    pub fn node_count(&self) -> usize {
        self.nodes.iter().flatten().count()
    }

    /// The id that the next node would get; ids below it are, or were, in use.
    pub fn node_bound(&self) -> usize {
        self.nodes.len()
    }

    /// The id that the next value would get; ids below it are, or were, in use.
    pub fn value_bound(&self) -> usize {
        self.values.len()
    }

    fn add_value(&mut self, name: &str, fact: Fact, def: Def) -> Result<ValueId, GraphError> {
        let id = ValueId(self.values.len() as u32);
        let name: Arc<str> = if name.is_empty() { self.fresh_name(&id.to_string()).into() } else { name.into() };
        if self.names.insert(name.clone(), id).is_some() {
            return Err(GraphError::DuplicateName(name));
        }
        self.values.push(Some(Value { name, fact, def, uses: Vec::new(), output: false }));
        Ok(id)
    }

    /// Adds a graph input.
    pub fn add_input(&mut self, name: &str, fact: Fact) -> Result<ValueId, GraphError> {
        let id = self.add_value(name, fact, Def::Input)?;
        self.inputs.push(id);
        Ok(id)
    }

    /// Adds a weight.
    pub fn add_weight(&mut self, name: &str, tensor: Tensor) -> Result<ValueId, GraphError> {
        let def = Def::Weight(TensorId(self.tensors.len() as u32));
        let id = self.add_value(name, tensor.fact(), def)?;
        self.tensors.push(Some(tensor));
        Ok(id)
    }

    /// Adds a node whose outputs have the given names (empty: made up) and facts.
    pub fn add_node(
        &mut self,
        op: OpName,
        inputs: Vec<Option<ValueId>>,
        attrs: Attrs,
        outputs: Vec<(&str, Fact)>,
        origin: Origin,
    ) -> Result<Vec<ValueId>, GraphError> {
        let id = NodeId(self.nodes.len() as u32);
        let mut node = Node { op, inputs, outputs: Vec::new(), attrs, origin };
        if let Some((_, gone)) = node.operands().find(|(_, v)| self.value(*v).is_none()) {
            return Err(GraphError::NoSuchValue(gone));
        }
        let mut made = Vec::with_capacity(outputs.len());
        for (slot, (name, fact)) in outputs.into_iter().enumerate() {
            made.push(self.add_value(name, fact, Def::Output(id, slot))?);
        }
        for (slot, v) in node.operands() {
            if let Some(value) = self.values[v.index()].as_mut() {
                value.uses.push(Use { node: id, slot });
            }
        }
        node.outputs.clone_from(&made);
        self.nodes.push(Some(node));
        Ok(made)
    }

    /// Declares what the graph computes.
    pub fn set_outputs(&mut self, outputs: Vec<ValueId>) -> Result<(), GraphError> {
        if let Some(gone) = outputs.iter().find(|v| self.value(**v).is_none()) {
            return Err(GraphError::NoSuchValue(*gone));
        }
        self.put_outputs(outputs);
        Ok(())
    }

    /// Gives a value another name.
    ///
    /// # Errors
    /// A name that another value has, or a value that is gone.
    pub fn rename(&mut self, id: ValueId, name: &str) -> Result<(), GraphError> {
        if self.find(name).is_some_and(|other| other != id) {
            return Err(GraphError::DuplicateName(name.into()));
        }
        let value = self.values.get_mut(id.index()).and_then(Option::as_mut).ok_or(GraphError::NoSuchValue(id))?;
        self.names.remove(&value.name);
        value.name = name.into();
        self.names.insert(name.into(), id);
        Ok(())
    }

    /// Takes away every weight that nothing reads and that is not an output. Returns how many there were.
    pub fn remove_unused_weights(&mut self) -> usize {
        let unused = self.weights().filter(|(_, v, _)| v.uses.is_empty() && !v.output);
        let unused: Vec<ValueId> = unused.map(|w| w.0).collect();
        for id in &unused {
            let Some(value) = self.values[id.index()].take() else { continue };
            self.names.remove(&value.name);
            if let Def::Weight(tensor) = value.def {
                self.tensors[tensor.index()] = None;
            }
        }
        unused.len()
    }

    /// Lets `edit` edit every graph inside the graph's nodes, innermost last. It may not change a body's inputs.
    pub fn edit_bodies<E>(&mut self, mut edit: impl FnMut(&mut Graph) -> Result<(), E>) -> Result<(), E> {
        for node in self.nodes.iter_mut().flatten() {
            for attr in node.attrs.values_mut() {
                if let Attr::Graph(body) = attr {
                    edit(Arc::make_mut(&mut body.graph))?;
                }
            }
        }
        Ok(())
    }

    /// Replaces what is known of a value. Nothing but inference should call this.
    pub fn set_fact(&mut self, id: ValueId, fact: Fact) {
        if let Some(value) = self.values.get_mut(id.index()).and_then(Option::as_mut) {
            value.fact = fact;
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::{parse, verify};

    #[test]
    fn names_are_given_that_nothing_has_or_had() {
        let text = "graph g(%x: f32[2]) -> %y { %loss = Relu(%x) : f32[2]\n %y = Relu(%loss) : f32[2] }";
        let mut g = parse(text).expect("parses");
        assert_eq!((g.given_name("loss"), g.fresh_name("loss")), ("loss".into(), "loss_2".into()));
        g.reserve_names();
        let mut other = parse("graph g(%loss_2: f32[2]) -> %loss_2 { }").expect("parses");
        other.reserve_as(&g);
        assert_eq!((other.given_name("loss"), other.fresh_name("loss")), ("loss_2".into(), "loss_3".into()));
        assert_eq!(other.given_name("theta"), "theta");
    }

    #[test]
    fn names_move_and_unused_weights_go() {
        let text = "graph g(%x: f32[2]) -> %y { %w = weight \"w\" f32[2]\n %u = weight \"u\" f32[2]\n %y = Add(%x, %w) : f32[2] }";
        let mut g = parse(text).expect("parses");
        let (x, y) = (g.find("x").expect("x"), g.find("y").expect("y"));
        assert!(g.rename(x, "y").is_err());
        assert_eq!((g.rename(y, "z"), g.find("y"), g.find("z")), (Ok(()), None, Some(y)));
        assert_eq!((g.remove_unused_weights(), g.find("u")), (1, None));
        assert_eq!((verify(&g), g.remove_unused_weights()), (vec![], 0));
    }
}
