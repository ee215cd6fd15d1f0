//! The modules that PyTorch's exporter writes down for every node of a graph.

use crate::Model;
use crate::proto::{ModelProto, NodeProto};
use prost::Message;
use std::collections::HashMap;

/// A module around a node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ModuleScope {
    /// Its path in the module that was exported, which has an empty one: `encoder.layer.0.attention.self.query`.
    pub path: String,
    /// Its class: `torch.nn.modules.linear.Linear`.
    pub class: String,
}

/// The modules around the nodes of a model's main graph, the outermost first, by the name of a node's first result.
///
/// Only the exporter of `torch.onnx.export(.., dynamo=True)` writes them (`pkg.torch.onnx.name_scopes` and
/// `pkg.torch.onnx.class_hierarchy`, or `namespace`); nodes without are left out. The model's file is read anew; of a model of
/// several files each of them, and results are called as in the whole.
pub fn module_scopes(model: &Model) -> HashMap<String, Vec<ModuleScope>> {
    if !model.parts.is_empty() {
        let named = model.parts.iter().flat_map(|part| {
            module_scopes(&part.model).into_iter().map(|(result, scopes)| (part.name(&result).to_string(), scopes))
        });
        return named.collect();
    }
    let Ok(proto) = ModelProto::decode(model.file.clone()) else { return HashMap::new() };
    let nodes = proto.graph.map(|graph| graph.node).unwrap_or_default();
    let scoped = nodes.iter().filter_map(|node| {
        let scopes = scopes(node)?;
        Some((node.output.first()?.clone(), scopes))
    });
    scoped.collect()
}

/// The last name is the operator's own.
fn scopes(node: &NodeProto) -> Option<Vec<ModuleScope>> {
    let value = |key: &str| {
        let mut entries = node.metadata_props.iter();
        entries.find(|e| e.key() == key).map(|e| e.value().to_string())
    };
    let lists = value("pkg.torch.onnx.name_scopes").zip(value("pkg.torch.onnx.class_hierarchy"));
    let mut all: Vec<ModuleScope> = match lists {
        Some((paths, classes)) => {
            let (paths, classes) = (strings(&paths), strings(&classes));
            if paths.len() != classes.len() {
                return None;
            }
            paths.into_iter().zip(classes).map(|(path, class)| ModuleScope { path, class }).collect()
        }
        None => value("namespace")?.split('/').filter_map(of_namespace).collect(),
    };
    all.pop()?;
    Some(all)
}

/// `encoder.layer.0: transformers.models.bert.modeling_bert.BertLayer`
fn of_namespace(part: &str) -> Option<ModuleScope> {
    let (path, class) = part.split_once(": ")?;
    Some(ModuleScope { path: path.to_string(), class: class.to_string() })
}

/// The elements of a list of strings as Python prints it.
fn strings(list: &str) -> Vec<String> {
    let (mut all, mut open, mut text) = (Vec::new(), None, String::new());
    let mut chars = list.chars();
    while let Some(c) = chars.next() {
        match open {
            None if c == '\'' || c == '"' => open = Some(c),
            None => {}
            Some(quote) if c == quote => {
                all.push(std::mem::take(&mut text));
                open = None;
            }
            Some(_) if c == '\\' => text.extend(chars.next()),
            Some(_) => text.push(c),
        }
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proto::StringStringEntryProto;

    fn node(entries: &[(&str, &str)]) -> NodeProto {
        let entry =
            |(k, v): &(&str, &str)| StringStringEntryProto { key: Some(k.to_string()), value: Some(v.to_string()) };
        NodeProto { metadata_props: entries.iter().map(entry).collect(), ..NodeProto::default() }
    }

    #[test]
    fn modules_are_read_from_lists_and_from_namespaces() {
        let lists = [
            ("pkg.torch.onnx.name_scopes", "['', 'm', \"m.it's\", 'linear']"),
            ("pkg.torch.onnx.class_hierarchy", "['W', 'B', 'torch.nn.modules.linear.Linear', 'aten.linear.default']"),
        ];
        let space = [("namespace", ": W/m: B/m.it's: torch.nn.modules.linear.Linear/linear: aten.linear.default")];
        let want = [("", "W"), ("m", "B"), ("m.it's", "torch.nn.modules.linear.Linear")];
        for entries in [&lists[..], &space] {
            let got = scopes(&node(entries)).expect("scopes");
            let got: Vec<(&str, &str)> = got.iter().map(|s| (s.path.as_str(), s.class.as_str())).collect();
            assert_eq!(got, want);
        }
    }

    #[test]
    fn what_is_no_scope_is_none() {
        assert_eq!(scopes(&node(&[])), None);
        let short = [("pkg.torch.onnx.name_scopes", "['', 'm']"), ("pkg.torch.onnx.class_hierarchy", "['W']")];
        assert_eq!(scopes(&node(&short)), None);
        assert_eq!(scopes(&node(&[("namespace", "")])), None);
    }
}
