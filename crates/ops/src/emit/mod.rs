//! Writing nodes: [`Val`] is a copyable handle whose arithmetic emits plain ONNX operators.

mod val;

pub use val::Val;

use crate::{InferError, ShapeData, infer_node};
use lorac_ir::{Attr, Attrs, DType, Fact, Graph, Node, NodeId, OpName, Origin, Patch, Tensor, ValueId};
use std::cell::{Ref, RefCell};
use std::collections::{HashMap, HashSet};
use std::sync::Arc;

/// Writes nodes into a [`Patch`] of a graph, inferring each as it is written.
///
/// Handles cannot fail, so the first error is kept and returned by [`Emit::finish`].
pub struct Emit<'g> {
    graph: &'g Graph,
    pass: Arc<str>,
    state: RefCell<State>,
}

struct State {
    patch: Patch,
    shape_data: ShapeData,
    scalars: HashMap<(DType, u64), ValueId>,
    vectors: HashMap<Vec<i64>, ValueId>,
    /// Names that nodes of the patch were given.
    named: HashSet<String>,
    prefix: Arc<str>,
    source: Arc<str>,
    error: Option<InferError>,
}

const ABSENT: ValueId = ValueId(u32::MAX);

impl<'g> Emit<'g> {
    /// Begins a patch of `graph` on behalf of `pass`; `shape_data` is what [`crate::infer()`](crate::infer()) returned for
    /// it.
    pub fn new(graph: &'g Graph, shape_data: &ShapeData, pass: &str) -> Emit<'g> {
        let state = State {
            patch: Patch::new(graph, pass),
            shape_data: shape_data.clone(),
            scalars: HashMap::new(),
            vectors: HashMap::new(),
            named: HashSet::new(),
            prefix: "".into(),
            source: "".into(),
            error: None,
        };
        Emit { graph, pass: pass.into(), state: RefCell::new(state) }
    }

    /// The patch, once everything is written.
    ///
    /// # Errors
    /// The first node that could not be written.
    pub fn finish(self) -> Result<Patch, InferError> {
        let state = self.state.into_inner();
        state.error.map_or(Ok(state.patch), Err)
    }

    /// The graph that is being patched.
    pub fn graph(&self) -> &'g Graph {
        self.graph
    }

    /// Constants that are written from now on are values of their own, whatever equal ones there are.
    pub fn forget_constants(&self) {
        let mut state = self.state.borrow_mut();
        state.scalars.clear();
        state.vectors.clear();
    }

    /// The patch so far.
    pub fn patch(&self) -> Ref<'_, Patch> {
        Ref::map(self.state.borrow(), |s| &s.patch)
    }

    /// Edits the patch: redirections, removals, outputs.
    pub fn edit<T>(&self, f: impl FnOnce(&mut Patch) -> T) -> T {
        f(&mut self.state.borrow_mut().patch)
    }

    /// Nodes written from now on stand for the node `source` of the user's model.
    pub fn set_source(&self, source: &Arc<str>) {
        self.state.borrow_mut().source = source.clone();
    }

    /// The name of a value of the graph or of the patch.
    pub fn name_of(&self, id: ValueId) -> String {
        self.patch().value(self.graph, id).map_or_else(|| id.to_string(), |v| v.name.to_string())
    }

    /// Values without a name are called `prefix` and what they are from now on, the operator or the meaning of a constant:
    /// for graphs that are joined to others, where the ids that are names elsewhere would clash.
    pub fn set_prefix(&self, prefix: &str) {
        self.state.borrow_mut().prefix = prefix.into();
    }

    /// The name for what wishes to be called `wish`: so, or with a number where something is called so already. What has
    /// no wish has an empty name, or the prefix and `what` it is.
    fn name(&self, wish: &str, what: &str) -> String {
        let mut state = self.state.borrow_mut();
        let wish = match (wish, state.prefix.is_empty()) {
            ("", true) => return String::new(),
            ("", false) => format!("{}{what}", state.prefix),
            (wish, _) => wish.to_string(),
        };
        let mut name = self.graph.fresh_name(&wish);
        let mut n = 1;
        while !state.named.insert(name.clone()) {
            n += 1;
            name = self.graph.fresh_name(&format!("{wish}_{n}"));
        }
        name
    }

    /// A handle for a value of the graph or of the patch.
    pub fn val(&self, id: ValueId) -> Val<'_, 'g> {
        Val { id, emit: self }
    }

    /// The handle of an absent operand.
    pub fn absent(&self) -> Val<'_, 'g> {
        self.val(ABSENT)
    }

    /// A new graph input, called `name` or like it, see [`Graph::given_name`].
    pub fn input(&self, name: &str, fact: Fact) -> Val<'_, 'g> {
        let name = self.name(name, "input");
        self.val(self.edit(|p| p.input(&name, fact)))
    }

    /// A new weight, called `name` or like it; an empty name is made up.
    pub fn weight(&self, name: &str, tensor: Tensor) -> Val<'_, 'g> {
        self.constant(name, "constant", tensor)
    }

    fn constant(&self, name: &str, what: &str, tensor: Tensor) -> Val<'_, 'g> {
        let name = self.name(name, what);
        self.val(self.edit(|p| p.weight(&name, tensor)))
    }

    /// A scalar constant of the given float or integer type.
    pub fn scalar(&self, x: f64, dtype: DType) -> Val<'_, 'g> {
        self.scalar_for("scalar", x, dtype)
    }

    /// The same, and `what` it is: its name behind the prefix, where there is one.
    pub fn scalar_for(&self, what: &str, x: f64, dtype: DType) -> Val<'_, 'g> {
        let key = (dtype, x.to_bits());
        if let Some(id) = self.state.borrow().scalars.get(&key) {
            return self.val(*id);
        }
        let Some(tensor) = Tensor::from_f64(dtype, &[], &[x]) else {
            let got = Fact::scalar(dtype);
            return self.fail(InferError::Operand { slot: 0, got, want: "a number".into() });
        };
        let val = self.constant("", what, tensor);
        self.state.borrow_mut().scalars.insert(key, val.id);
        val
    }

    /// A vector constant of i64: axes, shapes, repeats.
    pub fn ints(&self, v: &[i64]) -> Val<'_, 'g> {
        self.ints_for("ints", v)
    }

    /// The same, and `what` they are: their name behind the prefix, where there is one.
    pub fn ints_for(&self, what: &str, v: &[i64]) -> Val<'_, 'g> {
        if let Some(id) = self.state.borrow().vectors.get(v) {
            return self.val(*id);
        }
        let val = self.constant("", what, Tensor::vector(v));
        self.state.borrow_mut().vectors.insert(v.to_vec(), val.id);
        val
    }

    /// Keeps the first error; the handle returned stands for nothing.
    pub fn fail(&self, error: InferError) -> Val<'_, 'g> {
        let mut state = self.state.borrow_mut();
        state.error.get_or_insert(error);
        self.val(ABSENT)
    }

    /// The first error so far, forgotten: for a caller who can do without what was written since.
    pub fn take_error(&self) -> Option<InferError> {
        self.state.borrow_mut().error.take()
    }

    /// Applies an operator with `count` results.
    pub fn ops(&self, op: &str, inputs: &[Val<'_, 'g>], attrs: &[(&str, Attr)], count: usize) -> Vec<Val<'_, 'g>> {
        self.named("", op, inputs, attrs, count)
    }

    /// Applies an operator with one result.
    pub fn op(&self, op: &str, inputs: &[Val<'_, 'g>], attrs: &[(&str, Attr)]) -> Val<'_, 'g> {
        self.ops(op, inputs, attrs, 1).first().copied().unwrap_or_else(|| self.absent())
    }

    /// Applies an operator and calls its first result `name` or like it.
    pub fn named(
        &self,
        name: &str,
        op: &str,
        inputs: &[Val<'_, 'g>],
        attrs: &[(&str, Attr)],
        count: usize,
    ) -> Vec<Val<'_, 'g>> {
        let mut ids: Vec<Option<ValueId>> = inputs.iter().map(|v| (v.id != ABSENT).then_some(v.id)).collect();
        while ids.last() == Some(&None) {
            ids.pop();
        }
        let name = &self.name(name, op);
        let op = OpName::from(op);
        let attrs: Attrs = attrs.iter().map(|(k, v)| (Arc::from(*k), v.clone())).collect();
        let mut state = self.state.borrow_mut();
        if state.error.is_some() {
            return vec![self.absent(); count];
        }
        let State { patch, shape_data, .. } = &*state;
        let known = |id: ValueId| {
            let value = patch.value(self.graph, id)?;
            Some(shape_data.input(id, value.fact.clone(), patch.tensor(self.graph, id)))
        };
        let facts = ids.iter().map(|v| known((*v)?)).collect();
        let opset = self.graph.opsets.get(&op.domain).copied().unwrap_or(1);
        let origin = Origin { pass: self.pass.clone(), source: state.source.clone() };
        let node = Node { op, inputs: ids, outputs: Vec::new(), attrs, origin };
        match infer_node(&node, opset, facts, count) {
            Ok(known) => {
                let facts = known.iter().map(|k| k.fact.clone()).collect();
                let source = state.source.clone();
                let made = state.patch.node(node.op, name, node.inputs, node.attrs, facts, &source);
                for (id, known) in made.iter().zip(known) {
                    state.shape_data.set(*id, known.content);
                }
                made.into_iter().map(|id| self.val(id)).collect()
            }
            Err(source) => {
                let wrong = InferError::Node {
                    name: state.source.to_string(),
                    op: format!("{} written by {}", node.op, self.pass),
                    source: Box::new(source),
                };
                state.error = Some(wrong);
                vec![self.absent(); count]
            }
        }
    }

    /// The node that computes a value.
    pub fn producer(&self, v: Val<'_, 'g>) -> Option<NodeId> {
        self.graph.producer(v.id).map(|(id, _)| id)
    }
}
