//! Functions of a model: operators that the model itself defines.

use crate::{Attr, Attrs, Graph, OpName};
use std::sync::Arc;

/// An operator that a model defines by a graph over the function's operands.
#[derive(Clone, Debug, PartialEq)]
pub struct Function {
    /// What nodes call it; an overload is part of the name, behind a colon.
    pub op: OpName,
    /// What it computes. Facts are unknown; attributes may be [`Attr::Ref`].
    pub graph: Graph,
    /// Attributes without a default.
    pub attrs: Vec<Arc<str>>,
    /// Attributes that a caller need not give.
    pub defaults: Attrs,
}

impl Function {
    /// The function's graph for a caller with the given attributes. What refers to an attribute that the caller does not
    /// give and that has no default is absent, as ONNX has it.
    pub fn bind(&self, given: &Attrs) -> Graph {
        let mut graph = self.graph.clone();
        resolve(&mut graph, &|name| given.get(name).or_else(|| self.defaults.get(name)).cloned());
        graph
    }
}

fn resolve(graph: &mut Graph, value: &dyn Fn(&str) -> Option<Attr>) {
    for node in graph.nodes.iter_mut().flatten() {
        let attrs = std::mem::take(&mut node.attrs);
        let bound = attrs.into_iter().filter_map(|(name, attr)| {
            let attr = match attr {
                Attr::Ref(outer) => value(&outer)?,
                Attr::Graph(mut body) => {
                    resolve(Arc::make_mut(&mut body.graph), value);
                    Attr::Graph(body)
                }
                attr => attr,
            };
            Some((name, attr))
        });
        node.attrs = bound.collect();
    }
}
