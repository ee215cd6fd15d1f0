//! Graph to text.

use super::{INLINE, escape_control, is_label_char};
use crate::{Attr, Graph, Tensor, ValueId, topological_order};
use std::fmt::Write;

/// The graph in the text form: weights first, then nodes in topological order. Control characters of names and texts are
/// written as `\u{1b}`.
pub fn print(graph: &Graph) -> String {
    let mut out = String::new();
    let list = |ids: &[ValueId]| ids.iter().map(|v| label(graph, *v)).collect::<Vec<_>>().join(", ");
    let inputs: Vec<String> =
        graph.inputs().iter().map(|v| format!("{}: {}", label(graph, *v), graph.fact(*v))).collect();
    let name = if is_plain(&graph.name) { graph.name.clone() } else { quote(&graph.name) };
    let _ = write!(out, "graph {name} opset {} ({})", graph.opset(), inputs.join(", "));
    if !graph.outputs().is_empty() {
        let _ = write!(out, " -> {}", list(graph.outputs()));
    }
    out.push_str(" {\n");
    for (id, value, tensor) in graph.weights() {
        let _ = write!(out, "  {} = weight {} {}", label(graph, id), quote(&value.name), value.fact);
        if let Some(data) = data(tensor) {
            let _ = write!(out, " = {data}");
        }
        out.push('\n');
    }
    for id in topological_order(graph) {
        let Some(node) = graph.node(id) else { continue };
        let mut operands: Vec<String> =
            node.inputs.iter().map(|v| v.map_or("_".to_string(), |v| label(graph, v))).collect();
        operands.extend(node.attrs.iter().map(|(k, v)| format!("{k}={}", attr(graph, v))));
        let facts: Vec<String> = node.outputs.iter().map(|v| graph.fact(*v).to_string()).collect();
        let _ = write!(out, "  {} = {}({})", list(&node.outputs), node.op, operands.join(", "));
        let _ = write!(out, " : {}", facts.join(", "));
        match (node.origin.pass.is_empty(), node.origin.source.is_empty()) {
            (true, _) => {}
            (false, true) => drop(write!(out, "   # from {}", node.origin.pass)),
            (false, false) => drop(write!(out, "   # from {} of {}", node.origin.pass, quote(&node.origin.source))),
        }
        out.push('\n');
    }
    out.push_str("}\n");
    escape_control(&out).into_owned()
}

/// Whether the name reads back without quotes. A colon at the end would be taken for the one before a fact.
fn is_plain(name: &str) -> bool {
    !name.is_empty()
        && !name.ends_with(':')
        && name.chars().all(is_label_char)
        && !name.chars().all(|c| c.is_ascii_digit())
}

/// `%name`, `%12` for a made-up name, `%"any text"` for the rest.
fn label(graph: &Graph, id: ValueId) -> String {
    let Some(name) = graph.value(id).map(|v| &*v.name) else {
        return id.to_string();
    };
    let made_up = name.strip_prefix('%').is_some_and(|n| !n.is_empty() && n.chars().all(|c| c.is_ascii_digit()));
    match (made_up, is_plain(name)) {
        (true, _) => name.to_string(),
        (_, true) => format!("%{name}"),
        _ => format!("%{}", quote(name)),
    }
}

fn quote(text: &str) -> String {
    let mut out = String::from("\"");
    for c in text.chars() {
        match c {
            '"' | '\\' => out.extend(['\\', c]),
            '\n' => out.push_str("\\n"),
            c => out.push(c),
        }
    }
    out.push('"');
    out
}

fn join<T>(items: &[T], f: impl Fn(&T) -> String) -> String {
    format!("[{}]", items.iter().map(f).collect::<Vec<_>>().join(", "))
}

/// Written so that it reads back as a float: with a point, an exponent or a word.
fn float(x: &f32) -> String {
    format!("{x:?}")
}

fn attr(graph: &Graph, attr: &Attr) -> String {
    match attr {
        Attr::Int(n) => n.to_string(),
        Attr::Float(x) => float(x),
        Attr::Str(s) => quote(s),
        Attr::Ints(v) => join(v, i64::to_string),
        Attr::Floats(v) => join(v, float),
        Attr::Strs(v) => join(v, |s| quote(s)),
        Attr::Tensor(t) => match data(t) {
            Some(data) => format!("tensor {} {data}", t.fact()),
            None => format!("tensor {}", t.fact()),
        },
        Attr::Graph(body) => {
            let captures: Vec<String> = body.captures.iter().map(|v| label(graph, *v)).collect();
            format!("graph of {} nodes reading [{}]", body.graph.node_count(), captures.join(", "))
        }
        Attr::Ref(name) => format!("ref {name}"),
        Attr::Opaque(encoded) => format!("opaque {}", encoded.len()),
    }
}

fn data(tensor: &Tensor) -> Option<String> {
    if tensor.len() > INLINE {
        return None;
    }
    if let Some(ints) = tensor.to_i64() {
        return Some(join(&ints, i64::to_string));
    }
    if let Ok(floats) = tensor.to_vec::<f32>() {
        return Some(join(&floats, |x| short(*x)));
    }
    Some(join(&tensor.to_f64()?, |x| if x.fract() == 0.0 { format!("{x}") } else { format!("{x:?}") }))
}

fn short(x: f32) -> String {
    if x.fract() == 0.0 && x.abs() < 1e7 { format!("{x}") } else { format!("{x:?}") }
}
