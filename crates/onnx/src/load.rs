//! Reads a model: the file is mapped, weights stay where they are, and everything wrong is reported at once.

use crate::attr::{captures, read_attr};
use crate::error::unreadable;
use crate::external::Externals;
use crate::fact::read_fact;
use crate::fresh::FreshNames;
use crate::map::{Mapped, map};
use crate::order::sorted;
use crate::proto::{FunctionProto, GraphProto, ModelProto, NodeProto, OperatorSetIdProto, TensorProto, ValueInfoProto};
use crate::tensor::locate_tensor;
use crate::{ExternalFault, Location, Model, OnnxError, Problem, TensorFault};
use bytes::Bytes;
use lorac_ir::{Attr, Attrs, Body, DType, Fact, Function, Graph, OpName, Origin, Tensor, ValueId};
use prost::Message;
use std::collections::{BTreeMap, HashMap, HashSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;

const OPSETS: (i64, i64) = (11, 26);
const IR_VERSIONS: (i64, i64) = (3, 14);

/// Maps `path` and reads the model in it, with the external data that it refers to. Files of at most 16 MiB are copied
/// into memory instead.
///
/// # Errors
/// A file that cannot be read or is not a model, a version out of range, or every problem of the model at once.
pub fn load(path: impl AsRef<Path>) -> Result<Model, OnnxError> {
    let path = path.as_ref();
    let mapped = map(path).map_err(|source| unreadable(path, source))?;
    read(path, mapped.bytes.clone(), Some(mapped))
}

/// Reads a model from memory. It cannot have external data and cannot be patched.
///
/// # Errors
/// As [`load`].
pub fn decode(bytes: Bytes) -> Result<Model, OnnxError> {
    read(Path::new(""), bytes, None)
}

fn read(path: &Path, file: Bytes, mapped: Option<Mapped>) -> Result<Model, OnnxError> {
    let path = path.to_path_buf();
    if file.is_empty() {
        return Err(OnnxError::Empty { path });
    }
    let model = ModelProto::decode(file.clone()).map_err(|source| undecodable(path.clone(), source))?;
    let Some(graph) = &model.graph else { return Err(OnnxError::NoGraph { path }) };
    let ((min, max), got) = (IR_VERSIONS, model.ir_version());
    if !(min..=max).contains(&got) {
        return Err(OnnxError::IrVersion { path, got, min, max });
    }
    let mut reader = Reader::new(&file, Externals::new(mapped.as_ref()), graph);
    reader.opsets(&model.opset_import);
    let ((min, max), got) = (OPSETS, reader.graph.opsets.get("").copied().unwrap_or(0));
    if !(min..=max).contains(&got) {
        return Err(OnnxError::Opset { path, got, min, max });
    }
    reader.inputs(graph);
    reader.weights(graph);
    reader.nodes(graph);
    reader.outputs(graph);
    let functions = reader.functions(&model);
    let Reader { graph: ir, locations, constants, problems, externals, .. } = reader;
    if !problems.is_empty() {
        return Err(OnnxError::Invalid { path, problems });
    }
    Ok(Model {
        graph: ir,
        path,
        locations,
        constants,
        ir_version: model.ir_version(),
        metadata: model.metadata_props.iter().map(|e| (e.key().to_string(), e.value().to_string())).collect(),
        producer: format!("{} {}", model.producer_name(), model.producer_version()).trim().to_string(),
        node_count: graph.node.len(),
        functions,
        function_protos: model.functions,
        external: externals.into_files(),
        file,
        mapped,
        parts: Vec::new(),
        keep: None,
    })
}

/// Graphs inside each other that the decoder reads: it stops at 100 messages, and a graph in a node's attribute is three.
const NESTED: usize = 32;

/// What a file is that the decoder refuses. Its error has a text alone.
fn undecodable(path: PathBuf, source: prost::DecodeError) -> OnnxError {
    match source.to_string().contains("recursion limit reached") {
        true => OnnxError::Nesting { path, limit: NESTED },
        false => OnnxError::Garbage { path, source },
    }
}

struct Reader<'a> {
    file: &'a Bytes,
    externals: Externals,
    facts: HashMap<&'a str, Fact>,
    /// Every name of the file, so that made-up ones differ.
    names: HashSet<&'a str>,
    made: FreshNames,
    graph: Graph,
    locations: HashMap<ValueId, Location>,
    constants: HashSet<ValueId>,
    problems: Vec<Problem>,
    unreadable: HashSet<String>,
    /// Whether the graph is a function's, whose attributes may refer to those of its callers.
    in_function: bool,
}

/// A graph inside a node, whose captures are known by name only.
struct Inner {
    attr: Arc<str>,
    graph: Graph,
    captures: Vec<String>,
}

impl<'a> Reader<'a> {
    fn new(file: &'a Bytes, externals: Externals, proto: &'a GraphProto) -> Reader<'a> {
        let mut reader = Reader {
            file,
            externals,
            facts: HashMap::new(),
            names: HashSet::new(),
            made: FreshNames::default(),
            graph: {
                let mut g = Graph::default();
                g.name = proto.name().to_string();
                g
            },
            locations: HashMap::new(),
            constants: HashSet::new(),
            problems: Vec::new(),
            unreadable: HashSet::new(),
            in_function: false,
        };
        for info in proto.value_info.iter().chain(&proto.output).chain(&proto.input) {
            match read_fact(info) {
                Ok(fact) => _ = reader.facts.insert(info.name(), fact),
                Err(problem) => reader.problems.push(problem),
            }
        }
        let results = proto.node.iter().flat_map(|n| n.output.iter().map(String::as_str));
        let given = proto.input.iter().map(|i| i.name()).chain(proto.initializer.iter().map(|t| t.name()));
        let sparse = proto.sparse_initializer.iter().filter_map(|s| s.values.as_ref()).map(|v| v.name());
        reader.names.extend(results.chain(given).chain(sparse));
        reader
    }

    fn opsets(&mut self, imports: &[OperatorSetIdProto]) {
        let mut opsets = BTreeMap::new();
        for import in imports {
            let domain = if import.domain() == "ai.onnx" { "" } else { import.domain() };
            let (version, name) = (import.version(), domain.to_string());
            match opsets.insert(domain.into(), version) {
                Some(other) if other != version => {
                    self.problems.push(Problem::OpsetConflict { domain: name, a: other, b: version });
                }
                _ => {}
            }
        }
        self.graph.opsets = opsets;
    }

    /// Reads another graph of the same file with its own names; `read` fills it.
    fn inner(&mut self, proto: &GraphProto, read: impl FnOnce(&mut Reader)) -> Graph {
        let externals = std::mem::replace(&mut self.externals, Externals::new(None));
        let mut inner = Reader::new(self.file, externals, proto);
        inner.unreadable = std::mem::take(&mut self.unreadable);
        inner.graph.opsets = self.graph.opsets.clone();
        inner.in_function = self.in_function;
        read(&mut inner);
        let Reader { graph, externals, problems, unreadable, .. } = inner;
        self.externals = externals;
        self.unreadable = unreadable;
        self.problems.extend(problems);
        graph
    }

    fn functions(&mut self, model: &ModelProto) -> Vec<Function> {
        let mut known = HashSet::new();
        let mut functions = Vec::new();
        for f in &model.functions {
            let op = operator(f.domain(), f.name(), f.overload());
            if !known.insert(op.clone()) {
                self.problems.push(Problem::DuplicateFunction(op.to_string()));
            }
            let before = self.problems.len();
            let graph = self.function(f);
            let found = self.problems.split_off(before);
            let inside = |p| Problem::Function { function: op.to_string(), problem: Box::new(p) };
            self.problems.extend(found.into_iter().map(inside));
            let mut defaults = Attrs::new();
            for a in &f.attribute_proto {
                match read_attr(a) {
                    Ok(attr) => _ = defaults.insert(a.name().into(), attr),
                    Err(fault) => {
                        let tensor = format!("{op}.{}", a.name());
                        self.problems.push(Problem::Tensor { tensor, fault });
                    }
                }
            }
            let attrs = f.attribute.iter().map(|a| a.as_str().into()).collect();
            functions.push(Function { op, graph, attrs, defaults });
        }
        functions
    }

    fn function(&mut self, f: &FunctionProto) -> Graph {
        let value = |name: &String| ValueInfoProto { name: Some(name.clone()), ..ValueInfoProto::default() };
        let proto = GraphProto {
            name: Some(f.name().to_string()),
            input: f.input.iter().map(value).collect(),
            output: f.output.iter().map(value).collect(),
            node: f.node.clone(),
            value_info: f.value_info.clone(),
            ..GraphProto::default()
        };
        self.inner(&proto, |reader| {
            reader.in_function = true;
            reader.opsets(&f.opset_import);
            reader.inputs(&proto);
            reader.nodes(&proto);
            reader.outputs(&proto);
        })
    }

    /// A graph inside a node: what it reads from outside becomes its last inputs.
    fn subgraph(&mut self, attr: &str, proto: &GraphProto) -> Inner {
        let captures: Vec<String> = captures(proto).into_iter().collect();
        let graph = self.inner(proto, |reader| {
            reader.inputs(proto);
            for name in &captures {
                // Free names are defined nowhere inside.
                _ = reader.graph.add_input(name, Fact::unranked(DType::Opaque));
            }
            reader.weights(proto);
            reader.nodes(proto);
            reader.outputs(proto);
        });
        Inner { attr: attr.into(), graph, captures }
    }

    fn fact(&self, name: &str) -> Fact {
        self.facts.get(name).cloned().unwrap_or(Fact::unranked(DType::Opaque))
    }

    fn inputs(&mut self, proto: &GraphProto) {
        // An input with an initializer is a weight with an outdated declaration.
        let weights: HashSet<&str> = proto.initializer.iter().map(|t| t.name()).collect();
        for (index, input) in proto.input.iter().enumerate() {
            let name = input.name();
            if name.is_empty() {
                self.problems.push(Problem::Unnamed { what: "input", index });
            } else if !weights.contains(name) && self.graph.add_input(name, self.fact(name)).is_err() {
                self.problems.push(Problem::DuplicateValue(name.to_string()));
            }
        }
    }

    fn weights(&mut self, proto: &GraphProto) {
        let sparse = proto.sparse_initializer.iter().map(|s| {
            let name = s.values.as_ref().map(|v| v.name().to_string());
            // Dense data would be another tensor: its elements are carried as opaque ones.
            TensorProto { name, dims: s.dims.clone(), data_type: Some(i32::MAX), ..TensorProto::default() }
        });
        let sparse: Vec<TensorProto> = sparse.collect();
        for (index, t) in proto.initializer.iter().chain(&sparse).enumerate() {
            match t.name() {
                "" => self.problems.push(Problem::Unnamed { what: "initializer", index }),
                name => {
                    let (tensor, location) = self.tensor(t, || name.to_string());
                    self.weight(name, tensor, location);
                }
            }
        }
    }

    /// A tensor that cannot be read is a problem, and stands in as an opaque one so that its readers are not problems too.
    fn tensor(&mut self, proto: &TensorProto, name: impl Fn() -> String) -> (Tensor, Location) {
        match locate_tensor(proto, self.file, &mut self.externals) {
            Ok(found) => found,
            Err(fault) => {
                // A missing data file is one problem, not one for every tensor in it.
                let again = match &fault {
                    TensorFault::External(ExternalFault::Unreadable { location, .. }) => {
                        !self.unreadable.insert(location.clone())
                    }
                    _ => false,
                };
                if !again {
                    self.problems.push(Problem::Tensor { tensor: name(), fault });
                }
                (Tensor::vector::<u8>(&[]), Location::Encoded { why: "unreadable" })
            }
        }
    }

    fn weight(&mut self, name: &str, tensor: Tensor, location: Location) {
        match self.graph.add_weight(name, tensor) {
            Ok(id) => _ = self.locations.insert(id, location),
            Err(_) => self.problems.push(Problem::DuplicateValue(name.to_string())),
        }
    }

    fn nodes(&mut self, proto: &GraphProto) {
        let attrs: Vec<(Attrs, Vec<Inner>)> =
            proto.node.iter().enumerate().map(|(i, node)| self.attrs(node, i)).collect();
        let mut makers: HashMap<&str, usize> = HashMap::new();
        for (i, node) in proto.node.iter().enumerate() {
            for name in node.output.iter().filter(|o| !o.is_empty()) {
                makers.entry(name).or_insert(i);
            }
        }
        let needs: Vec<Vec<usize>> = proto
            .node
            .iter()
            .zip(&attrs)
            .enumerate()
            .map(|(i, (node, (_, inner)))| {
                let mut needs = Vec::new();
                let captured = inner.iter().flat_map(|g| &g.captures);
                for name in node.input.iter().chain(captured).filter(|n| !n.is_empty()) {
                    match makers.get(name.as_str()) {
                        Some(maker) => needs.push(*maker),
                        None if self.graph.find(name).is_some() => {}
                        None => {
                            let (node, value) = (label(node, i), name.to_string());
                            self.problems.push(Problem::Undefined { node, value });
                        }
                    }
                }
                needs
            })
            .collect();
        match sorted(&needs) {
            Ok(order) => {
                let mut attrs: Vec<_> = attrs.into_iter().map(Some).collect();
                for i in order {
                    let (attrs, inner) = attrs[i].take().unwrap_or_default();
                    self.node(&proto.node[i], i, attrs, inner);
                }
            }
            Err(stuck) => self.problems.push(Problem::Cycle(label(&proto.node[stuck], stuck))),
        }
    }

    fn attrs(&mut self, node: &NodeProto, index: usize) -> (Attrs, Vec<Inner>) {
        let (mut attrs, mut inner) = (Attrs::new(), Vec::new());
        // A constant's tensor is read where it becomes a weight.
        let constant = is_constant(node).is_some();
        for a in node.attribute.iter().filter(|_| !constant) {
            match (&a.g, a.ref_attr_name()) {
                (Some(graph), "") => inner.push(self.subgraph(a.name(), graph)),
                (_, outer) if self.in_function && !outer.is_empty() => {
                    attrs.insert(a.name().into(), Attr::Ref(outer.into()));
                }
                _ => match read_attr(a) {
                    Ok(attr) => _ = attrs.insert(a.name().into(), attr),
                    Err(fault) => {
                        let tensor = format!("{}.{}", label(node, index), a.name());
                        self.problems.push(Problem::Tensor { tensor, fault });
                    }
                },
            }
        }
        (attrs, inner)
    }

    fn node(&mut self, node: &NodeProto, index: usize, mut attrs: Attrs, inner: Vec<Inner>) {
        if let Some((name, value)) = is_constant(node) {
            let (tensor, location) = match value {
                Constant::Tensor(t) => self.tensor(t, || name.to_string()),
                Constant::Number(tensor, why) => (tensor, Location::Encoded { why }),
            };
            self.weight(name, tensor, location);
            self.constants.extend(self.graph.find(name));
            return;
        }
        if node.op_type().is_empty() {
            self.problems.push(Problem::NoOperator(label(node, index)));
        }
        let inputs = node.input.iter().map(|i| self.graph.find(i)).collect();
        let last = node.output.iter().rposition(|o| !o.is_empty()).map_or(0, |i| i + 1);
        let names = node.output[..last].iter().enumerate().map(|(slot, name)| match name.as_str() {
            "" => {
                let base = format!("{}:{slot}", label(node, index));
                self.made.fresh(&base, |n| self.names.contains(n) || self.graph.find(n).is_some())
            }
            name => name.to_string(),
        });
        let names: Vec<String> = names.collect();
        let mut own = HashSet::new();
        if let Some(twice) = names.iter().find(|n| self.graph.find(n).is_some() || !own.insert(n.as_str())) {
            return self.problems.push(Problem::DuplicateValue(twice.clone()));
        }
        let outputs = names.iter().map(|n| (n.as_str(), self.fact(n))).collect();
        for Inner { attr, graph, captures } in inner {
            let found: Option<Vec<ValueId>> = captures.iter().map(|n| self.graph.find(n)).collect();
            // What is undefined has been reported.
            let Some(captures) = found else { continue };
            attrs.insert(attr, Attr::Graph(Body { graph: Arc::new(graph), captures }));
        }
        let op = operator(node.domain(), node.op_type(), node.overload());
        let origin = Origin { pass: "".into(), source: node.name().into() };
        if let Err(lorac_ir::GraphError::DuplicateName(name)) = self.graph.add_node(op, inputs, attrs, outputs, origin)
        {
            self.problems.push(Problem::DuplicateValue(name.to_string()));
        }
    }

    fn outputs(&mut self, proto: &GraphProto) {
        let mut outputs = Vec::with_capacity(proto.output.len());
        for output in &proto.output {
            match self.graph.find(output.name()) {
                Some(id) => outputs.push(id),
                // Nodes on a cycle, or reading what is missing, are reported themselves.
                None if !output.name().is_empty() && self.names.contains(output.name()) => {}
                None => self.problems.push(Problem::UncomputedOutput(output.name().to_string())),
            }
        }
        // Cannot fail: every id was just found.
        _ = self.graph.set_outputs(outputs);
    }
}

enum Constant<'a> {
    Tensor(&'a TensorProto),
    Number(Tensor, &'static str),
}

/// The output and value of a `Constant` node that is a tensor of numbers; strings and sparse tensors stay nodes.
fn is_constant(node: &NodeProto) -> Option<(&str, Constant<'_>)> {
    let ([attr], [output], [], "Constant", "" | "ai.onnx") =
        (&node.attribute[..], &node.output[..], &node.input[..], node.op_type(), node.domain())
    else {
        return None;
    };
    let value = match attr.name() {
        "value" => Constant::Tensor(attr.t.as_ref().filter(|t| has_numbers(t))?),
        _ if !attr.ref_attr_name().is_empty() => return None,
        "value_float" => Constant::Number(Tensor::scalar(attr.f?), "value_float"),
        "value_int" => Constant::Number(Tensor::scalar(attr.i?), "value_int"),
        "value_floats" => Constant::Number(Tensor::vector(&attr.floats), "value_floats"),
        "value_ints" => Constant::Number(Tensor::vector(&attr.ints), "value_ints"),
        _ => return None,
    };
    (!output.is_empty()).then_some((output.as_str(), value))
}

fn has_numbers(t: &TensorProto) -> bool {
    !matches!(crate::tensor::dtype(t.data_type()), DType::Str | DType::Opaque)
}

fn operator(domain: &str, name: &str, overload: &str) -> OpName {
    match overload {
        "" => OpName::new(domain, name),
        overload => OpName::new(domain, &format!("{name}:{overload}")),
    }
}

fn label(node: &NodeProto, index: usize) -> String {
    if node.name().is_empty() { format!("{} #{index}", node.op_type()) } else { node.name().to_string() }
}
