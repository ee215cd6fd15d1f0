//! Everything of a `GraphProto` but the weights.

use crate::OnnxError;
use crate::attr::write_attr;
use crate::fact::write_fact;
use crate::load::{captured, fresh};
use crate::order::sorted;
use crate::proto::{GraphProto, NodeProto, ValueInfoProto};
use lorac_ir::{DType, Def, Graph, Node, NodeId, OpName, ValueId, verify};
use std::collections::{HashMap, HashSet};

/// A graph without its weights, and the names by which its results are known.
pub(crate) struct Body {
    pub(crate) proto: GraphProto,
    pub(crate) outputs: Vec<String>,
}

/// Names that are in use beside those of the graph itself.
#[derive(Default)]
pub(crate) struct Taken {
    pub(crate) values: HashSet<String>,
    pub(crate) nodes: HashSet<String>,
}

/// Writes nodes in an order in which every one comes after those it reads, subgraphs considered. A result that is
/// itself an input or a weight, or is listed twice, gets an Identity.
pub(crate) fn body(graph: &Graph, mut taken: Taken) -> Result<Body, OnnxError> {
    let violations = verify(graph);
    if !violations.is_empty() {
        return Err(OnnxError::BadGraph(violations));
    }
    let nodes: Vec<(NodeId, &Node)> = graph.nodes().collect();
    let mut proto = GraphProto { name: Some(graph.name.clone()), ..GraphProto::default() };
    for i in order(graph, &nodes)? {
        proto.node.push(write_node(graph, nodes[i].1, &mut taken.nodes)?);
    }
    proto.input = graph.inputs().iter().map(|v| write_fact(&graph.name_of(*v), &graph.fact(*v))).collect();
    let mut outputs: Vec<String> = Vec::new();
    for &id in graph.outputs() {
        let mut name = graph.name_of(id);
        let computed = matches!(graph.value(id).map(|v| v.def), Some(Def::Output(..)));
        if !computed || outputs.contains(&name) {
            let own = fresh(&format!("{name}_output"), &|n| graph.find(n).is_some() || taken.values.contains(n));
            let op = Some("Identity".to_string());
            proto.node.push(NodeProto {
                op_type: op,
                input: vec![name],
                output: vec![own.clone()],
                ..Default::default()
            });
            taken.values.insert(own.clone());
            name = own;
        }
        proto.output.push(write_fact(&name, &graph.fact(id)));
        outputs.push(name);
    }
    Ok(Body { proto, outputs })
}

/// The facts of what nodes compute and nobody outside reads.
pub(crate) fn inner_facts(graph: &Graph) -> Vec<ValueInfoProto> {
    let outputs: HashSet<ValueId> = graph.outputs().iter().copied().collect();
    let inner = graph
        .values()
        .filter(|(id, v)| matches!(v.def, Def::Output(..)) && v.fact.dtype != DType::Opaque && !outputs.contains(id));
    inner.map(|(_, v)| write_fact(&v.name, &v.fact)).collect()
}

fn order(graph: &Graph, nodes: &[(NodeId, &Node)]) -> Result<Vec<usize>, OnnxError> {
    let position: HashMap<NodeId, usize> = nodes.iter().enumerate().map(|(i, (id, _))| (*id, i)).collect();
    let needs = nodes.iter().map(|(_, node)| {
        let outer = captured(&node.attrs).filter_map(|name| graph.find(name));
        let read = node.inputs.iter().flatten().copied().chain(outer);
        read.filter_map(|v| position.get(&graph.producer(v)?.0).copied()).collect()
    });
    let needs: Vec<Vec<usize>> = needs.collect();
    sorted(&needs).map_err(|stuck| OnnxError::Cycle { node: title(graph, nodes[stuck].1) })
}

fn title(graph: &Graph, node: &Node) -> String {
    match &*node.origin.source {
        "" => format!("{} of '{}'", node.op, node.outputs.first().map(|v| graph.name_of(*v)).unwrap_or_default()),
        source => source.to_string(),
    }
}

fn write_node(graph: &Graph, node: &Node, taken: &mut HashSet<String>) -> Result<NodeProto, OnnxError> {
    let title = title(graph, node);
    let attribute = node.attrs.iter().map(|(name, attr)| write_attr(&title, name, attr));
    let OpName { domain, name } = &node.op;
    let (op, overload) = name.split_once(':').unwrap_or((name, ""));
    let text = |s: &str| (!s.is_empty()).then(|| s.to_string());
    Ok(NodeProto {
        input: node.inputs.iter().map(|v| v.map(|v| graph.name_of(v)).unwrap_or_default()).collect(),
        output: node.outputs.iter().map(|v| graph.name_of(*v)).collect(),
        name: node_name(node, taken),
        op_type: Some(op.to_string()),
        domain: text(domain),
        overload: text(overload),
        attribute: attribute.collect::<Result<_, _>>()?,
        ..NodeProto::default()
    })
}

/// The node's name in the file. ONNX Runtime refuses two nodes of one name, and many nodes may stand for one source.
fn node_name(node: &Node, taken: &mut HashSet<String>) -> Option<String> {
    let base = match (&*node.origin.pass, &*node.origin.source) {
        (_, "") => return None,
        ("", source) => source.to_string(),
        (pass, source) => format!("{source}/{pass}.{}", node.op.name),
    };
    let name = fresh(&base, &|n| taken.contains(n));
    taken.insert(name.clone());
    Some(name)
}
