//! Everything of a `GraphProto` but the weights, and the whole of a graph inside a node.

use crate::OnnxError;
use crate::attr::{tensor_head, write_attr};
use crate::fact::write_fact;
use crate::fresh::FreshNames;
use crate::order::sorted;
use crate::proto::{GraphProto, NodeProto, ValueInfoProto};
use lorac_ir::{Body as Inner, DType, Def, Graph, Node, NodeId, OpName, ValueId, verify};
use std::borrow::Cow;
use std::collections::{HashMap, HashSet};

/// A graph without its weights, and the names by which its results are known.
pub(crate) struct Body {
    pub(crate) proto: GraphProto,
    pub(crate) outputs: Vec<String>,
}

/// Names that are in use beside those of the graph itself.
#[derive(Default)]
pub(crate) struct UsedNames {
    pub(crate) values: HashSet<String>,
    pub(crate) nodes: HashSet<String>,
}

/// Writes nodes in an order in which every one comes after those it reads, subgraphs considered. A result that is
/// itself an input or a weight, or is listed twice, gets an Identity.
pub(crate) fn body(graph: &Graph, used: UsedNames) -> Result<Body, OnnxError> {
    let violations = verify(graph);
    if !violations.is_empty() {
        return Err(OnnxError::BadGraph(violations));
    }
    let mut writer = Writer { visible: used.values, nodes: used.nodes, made: FreshNames::default() };
    writer.graph(&Scope { graph, renamed: HashMap::new(), own_inputs: graph.inputs().len() })
}

/// The facts of what nodes compute and nobody outside reads.
pub(crate) fn inner_facts(graph: &Graph) -> Vec<ValueInfoProto> {
    let outputs: HashSet<ValueId> = graph.outputs().iter().copied().collect();
    let inner = graph
        .values()
        .filter(|(id, v)| matches!(v.def, Def::Output(..)) && v.fact.dtype != DType::Opaque && !outputs.contains(id));
    inner.map(|(_, v)| write_fact(&v.name, &v.fact)).collect()
}

/// A graph with the names that its values have in the file.
struct Scope<'g> {
    graph: &'g Graph,
    /// Values whose names differ from those in the graph.
    renamed: HashMap<ValueId, String>,
    /// Inputs that are declared; the others behind them are captured.
    own_inputs: usize,
}

impl Scope<'_> {
    fn name(&self, id: ValueId) -> Cow<'_, str> {
        match (self.renamed.get(&id), self.graph.value(id)) {
            (Some(name), _) => Cow::Borrowed(name),
            (_, Some(value)) => Cow::Borrowed(&value.name),
            _ => Cow::Owned(self.graph.name_of(id)),
        }
    }
}

struct Writer {
    /// Names of values that the graph at hand cannot define.
    visible: HashSet<String>,
    nodes: HashSet<String>,
    /// Names of nodes that were made.
    made: FreshNames,
}

impl Writer {
    fn graph(&mut self, scope: &Scope) -> Result<Body, OnnxError> {
        let graph = scope.graph;
        let nodes: Vec<(NodeId, &Node)> = graph.nodes().collect();
        let mut proto = GraphProto { name: Some(graph.name.clone()), ..GraphProto::default() };
        for i in order(graph, &nodes)? {
            proto.node.push(self.node(scope, nodes[i].1)?);
        }
        let own = graph.inputs().iter().take(scope.own_inputs);
        proto.input = own.map(|v| write_fact(&scope.name(*v), &graph.fact(*v))).collect();
        let (mut outputs, mut listed, mut made) = (Vec::new(), HashSet::new(), FreshNames::default());
        for &id in graph.outputs() {
            let mut name = scope.name(id).into_owned();
            let computed = matches!(graph.value(id).map(|v| v.def), Some(Def::Output(..)));
            if !computed || listed.contains(&name) {
                let is_used = |n: &str| graph.find(n).is_some() || self.visible.contains(n);
                let own = made.fresh(&format!("{name}_output"), is_used);
                let op = Some("Identity".to_string());
                proto.node.push(NodeProto {
                    op_type: op,
                    input: vec![name],
                    output: vec![own.clone()],
                    ..Default::default()
                });
                self.visible.insert(own.clone());
                name = own;
            }
            proto.output.push(write_fact(&name, &graph.fact(id)));
            listed.insert(name.clone());
            outputs.push(name);
        }
        Ok(Body { proto, outputs })
    }

    fn node(&mut self, scope: &Scope, node: &Node) -> Result<NodeProto, OnnxError> {
        let graph = scope.graph;
        let display_name = display_name(graph, node);
        let name = node_name(node, &mut self.nodes, &mut self.made);
        let attribute = node.attrs.iter();
        let attribute =
            attribute.map(|(name, attr)| write_attr(&display_name, name, attr, |inner| self.inner(scope, inner)));
        let attribute = attribute.collect::<Result<_, _>>()?;
        let OpName { domain, name: op } = &node.op;
        let (op, overload) = op.split_once(':').unwrap_or((op, ""));
        let text = |s: &str| (!s.is_empty()).then(|| s.to_string());
        Ok(NodeProto {
            input: node.inputs.iter().map(|v| v.map(|v| scope.name(v).into_owned()).unwrap_or_default()).collect(),
            output: node.outputs.iter().map(|v| scope.name(*v).into_owned()).collect(),
            name,
            op_type: Some(op.to_string()),
            domain: text(domain),
            overload: text(overload),
            attribute,
            ..NodeProto::default()
        })
    }

    /// A graph inside a node. It knows captured values by their names outside; a name of its own that is visible from
    /// outside gives way.
    fn inner(&mut self, outer: &Scope, body: &Inner) -> Result<GraphProto, OnnxError> {
        let graph = &*body.graph;
        let own_inputs = body.own_inputs();
        let hidden: Vec<String> = outer.graph.values().map(|(id, _)| outer.name(id).into_owned()).collect();
        let added: Vec<String> = hidden.into_iter().filter(|n| self.visible.insert(n.clone())).collect();
        let mut scope = Scope { graph, renamed: HashMap::new(), own_inputs };
        for (inside, outside) in graph.inputs().iter().skip(own_inputs).zip(&body.captures) {
            scope.renamed.insert(*inside, outer.name(*outside).into_owned());
        }
        let (mut new, mut made) = (HashSet::new(), FreshNames::default());
        for (id, value) in graph.values() {
            if !scope.renamed.contains_key(&id) && self.visible.contains(&*value.name) {
                let is_used = |n: &str| self.visible.contains(n) || graph.find(n).is_some() || new.contains(n);
                let name = made.fresh(&format!("{}.{}", graph.name, value.name), is_used);
                new.insert(name.clone());
                scope.renamed.insert(id, name);
            }
        }
        let mut proto = self.graph(&scope)?.proto;
        for (id, _, tensor) in graph.weights() {
            let mut head = tensor_head(&scope.name(id), tensor)?;
            head.raw_data = Some(tensor.bytes().clone());
            proto.initializer.push(head);
        }
        // Siblings may use the same names.
        added.iter().for_each(|n| _ = self.visible.remove(n));
        Ok(proto)
    }
}

fn order(graph: &Graph, nodes: &[(NodeId, &Node)]) -> Result<Vec<usize>, OnnxError> {
    let position: HashMap<NodeId, usize> = nodes.iter().enumerate().map(|(i, (id, _))| (*id, i)).collect();
    let needs = nodes
        .iter()
        .map(|(_, node)| node.operands().filter_map(|(_, v)| position.get(&graph.producer(v)?.0).copied()).collect());
    let needs: Vec<Vec<usize>> = needs.collect();
    sorted(&needs).map_err(|stuck| OnnxError::Cycle { node: display_name(graph, nodes[stuck].1) })
}

fn display_name(graph: &Graph, node: &Node) -> String {
    match &*node.origin.source {
        "" => format!("{} of `{}`", node.op, node.outputs.first().map(|v| graph.name_of(*v)).unwrap_or_default()),
        source => source.to_string(),
    }
}

/// The node's name in the file. ONNX Runtime refuses two nodes of one name, and many nodes may stand for one source.
fn node_name(node: &Node, used: &mut HashSet<String>, made: &mut FreshNames) -> Option<String> {
    let base = match (&*node.origin.pass, &*node.origin.source) {
        (_, "") => return None,
        ("", source) => source.to_string(),
        (pass, source) => format!("{source}/{pass}.{}", node.op.name),
    };
    let name = made.fresh(&base, |n| used.contains(n));
    used.insert(name.clone());
    Some(name)
}
