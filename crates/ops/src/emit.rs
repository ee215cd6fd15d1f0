//! Writing nodes: [`Val`] is a copyable handle whose arithmetic emits plain ONNX operators.

use crate::{InferError, ShapeData, infer_node};
use lorac_ir::{Attr, Attrs, DType, Dim, Fact, Graph, Node, NodeId, OpName, Origin, Patch, Tensor, ValueId};
use std::cell::{Ref, RefCell};
use std::collections::{HashMap, HashSet};
use std::ops::{Add, Div, Mul, Neg, Sub};
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

/// A value, and the place where nodes that read it are written. [`Emit::absent`] gives the one that stands for an absent
/// operand.
#[derive(Clone, Copy)]
pub struct Val<'e, 'g> {
    id: ValueId,
    emit: &'e Emit<'g>,
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

impl<'e, 'g> Val<'e, 'g> {
    /// The value's id.
    pub fn id(self) -> ValueId {
        self.id
    }

    /// Where nodes that read it are written.
    pub fn emit(self) -> &'e Emit<'g> {
        self.emit
    }

    /// Whether this stands for an absent operand.
    pub fn is_absent(self) -> bool {
        self.id == ABSENT
    }

    /// `Some` unless it stands for an absent operand.
    pub fn present(self) -> Option<Val<'e, 'g>> {
        (!self.is_absent()).then_some(self)
    }

    /// What is known of it.
    pub fn fact(self) -> Fact {
        let state = self.emit.state.borrow();
        let value = state.patch.value(self.emit.graph, self.id);
        value.map_or(Fact::unranked(DType::Opaque), |v| v.fact.clone())
    }

    /// Its elements, where they are followed.
    pub fn content(self) -> Option<Vec<Dim>> {
        let state = self.emit.state.borrow();
        let tensor = state.patch.tensor(self.emit.graph, self.id);
        state.shape_data.input(self.id, Fact::unranked(DType::Opaque), tensor).content
    }

    /// Its elements as numbers, where all are known.
    pub fn known_ints(self) -> Option<Vec<i64>> {
        self.content()?.into_iter().map(Dim::known).collect()
    }

    /// The tensor, if it is a weight.
    pub fn tensor(self) -> Option<Tensor> {
        let state = self.emit.state.borrow();
        state.patch.tensor(self.emit.graph, self.id).cloned()
    }

    /// Its rank; 0 where unknown, with the error kept.
    pub fn rank(self) -> usize {
        let fact = self.fact();
        fact.rank().unwrap_or_else(|| {
            self.emit.fail(InferError::Operand { slot: 0, got: fact, want: "a known rank".into() });
            0
        })
    }

    /// `op(self)`.
    pub fn unary(self, op: &str) -> Val<'e, 'g> {
        self.emit.op(op, &[self], &[])
    }

    /// `op(self, other)`.
    pub fn binary(self, op: &str, other: Val<'e, 'g>) -> Val<'e, 'g> {
        self.emit.op(op, &[self, other], &[])
    }

    /// The constant `x` of this value's element type.
    pub fn like(self, x: f64) -> Val<'e, 'g> {
        self.emit.scalar(x, self.fact().dtype)
    }

    /// The shape as a vector of i64: a constant where it is known, else a `Shape` node.
    pub fn shape(self) -> Val<'e, 'g> {
        let known: Option<Vec<i64>> = self.fact().dims().and_then(|d| d.iter().map(|d| d.known()).collect());
        match known {
            Some(dims) => self.emit.ints(&dims),
            None => self.unary("Shape"),
        }
    }

    /// The length of one axis as a scalar of i64.
    pub fn len(self, axis: usize) -> Val<'e, 'g> {
        match self.fact().dims().and_then(|d| d.get(axis)?.known()) {
            Some(n) => self.emit.scalar(n as f64, DType::I64),
            None => self.unary("Shape").binary("Gather", self.emit.scalar(axis as f64, DType::I64)),
        }
    }

    /// The lengths of some axes as a vector of i64.
    pub fn lens(self, axes: std::ops::Range<usize>) -> Val<'e, 'g> {
        let fact = self.fact();
        let known =
            fact.dims().and_then(|d| d.get(axes.clone())?.iter().map(|d| d.known()).collect::<Option<Vec<i64>>>());
        match known {
            Some(dims) => self.emit.ints(&dims),
            None => {
                let part = [("start", Attr::Int(axes.start as i64)), ("end", Attr::Int(axes.end as i64))];
                self.emit.op("Shape", &[self], &part)
            }
        }
    }

    /// The numbers from 0 up to this scalar.
    pub fn numbers(self) -> Val<'e, 'g> {
        self.emit.op("Range", &[self.like(0.0), self, self.like(1.0)], &[])
    }

    /// The positions along one axis: `0, 1, ..` as i64.
    pub fn positions(self, axis: usize) -> Val<'e, 'g> {
        self.len(axis).numbers()
    }

    /// Reshaped to the shape of `other`: by a constant where at most one dimension is symbolic.
    pub fn reshape_like(self, other: Val<'e, 'g>) -> Val<'e, 'g> {
        let fact = other.fact();
        if fact.shape.is_some() && fact.shape == self.fact().shape && fact.dims().is_some_and(all_certain) {
            return self;
        }
        let open = |d: &Dim| d.known().is_none_or(|n| n == 0);
        match fact.dims() {
            Some(dims) if dims.iter().filter(|d| open(d)).count() <= 1 && self.fact().volume() != Dim::Known(0) => {
                let target: Vec<i64> = dims.iter().map(|d| d.known().unwrap_or(-1)).collect();
                self.reshape(&target)
            }
            _ => self.binary("Reshape", other.shape()),
        }
    }

    /// Reshaped to a constant shape, with ONNX's meaning of 0 and -1.
    pub fn reshape(self, dims: &[i64]) -> Val<'e, 'g> {
        self.binary("Reshape", self.emit.ints(dims))
    }

    /// Its axes permuted. A transposed value is permuted from where it came: two copies are one, or none.
    pub fn transpose(self, perm: &[usize]) -> Val<'e, 'g> {
        if let Some((inner, first)) = self.transposed_from() {
            let both: Vec<usize> = perm.iter().filter_map(|p| first.get(*p).copied()).collect();
            if both.iter().copied().eq(0..perm.len()) {
                return inner;
            }
            return inner.transpose(&both);
        }
        let perm: Vec<i64> = perm.iter().map(|p| *p as i64).collect();
        self.emit.op("Transpose", &[self], &[("perm", perm.into())])
    }

    /// Whether a Transpose made it that moved the last axis.
    pub fn is_turned(self) -> bool {
        self.transposed_from().is_some_and(|(_, perm)| perm.last().is_some_and(|last| last + 1 != perm.len()))
    }

    /// What a Transpose made this value from, and how.
    fn transposed_from(self) -> Option<(Val<'e, 'g>, Vec<usize>)> {
        let state = self.emit.state.borrow();
        let node = state.patch.producer(self.emit.graph, self.id)?;
        let perm = node.ints("perm").filter(|_| &*node.op.name == "Transpose" && node.op.domain.is_empty())?;
        let perm = perm.iter().map(|p| usize::try_from(*p).ok()).collect::<Option<Vec<_>>>()?;
        Some((self.emit.val(node.input(0)?), perm))
    }

    /// The last two axes swapped.
    pub fn t(self) -> Val<'e, 'g> {
        let mut perm: Vec<usize> = (0..self.rank()).collect();
        if let [.., a, b] = perm.as_mut_slice() {
            std::mem::swap(a, b);
        }
        self.transpose(&perm)
    }

    /// The matrix product over the last two axes.
    pub fn matmul(self, other: Val<'e, 'g>) -> Val<'e, 'g> {
        self.binary("MatMul", other)
    }

    /// The sum over some axes.
    pub fn sum(self, axes: &[i64], keep: bool) -> Val<'e, 'g> {
        if axes.is_empty() {
            return self;
        }
        self.emit.op("ReduceSum", &[self, self.emit.ints(axes)], &[("keepdims", i64::from(keep).into())])
    }

    /// Converted to an element type; itself where it is of that type.
    pub fn cast(self, dtype: DType) -> Val<'e, 'g> {
        match dtype.onnx_code() {
            _ if self.fact().dtype == dtype => self,
            Some(code) => self.emit.op("Cast", &[self], &[("to", code.into())]),
            None => {
                let got = self.fact();
                self.emit.fail(InferError::Operand { slot: 0, got, want: format!("to become {dtype}") })
            }
        }
    }

    /// Zeros of its shape and type.
    pub fn zeros_like(self) -> Val<'e, 'g> {
        let zero = Tensor::from_f64(self.fact().dtype, &[1], &[0.0]);
        let attrs: Vec<(&str, Attr)> = zero.into_iter().map(|t| ("value", t.into())).collect();
        self.emit.op("ConstantOfShape", &[self.shape()], &attrs)
    }
}

fn all_certain(dims: &[Dim]) -> bool {
    dims.iter().all(|d| *d != Dim::Unknown)
}

macro_rules! arithmetic {
    ($($trait:ident, $method:ident, $op:literal;)*) => {$(
        impl<'e, 'g> $trait for Val<'e, 'g> {
            type Output = Val<'e, 'g>;
            fn $method(self, other: Val<'e, 'g>) -> Val<'e, 'g> {
                self.binary($op, other)
            }
        }
        impl<'e, 'g> $trait<f64> for Val<'e, 'g> {
            type Output = Val<'e, 'g>;
            fn $method(self, other: f64) -> Val<'e, 'g> {
                self.binary($op, self.like(other))
            }
        }
        impl<'e, 'g> $trait<Val<'e, 'g>> for f64 {
            type Output = Val<'e, 'g>;
            fn $method(self, other: Val<'e, 'g>) -> Val<'e, 'g> {
                other.like(self).binary($op, other)
            }
        }
    )*};
}
arithmetic! {
    Add, add, "Add";
    Sub, sub, "Sub";
    Mul, mul, "Mul";
    Div, div, "Div";
}

impl<'e, 'g> Neg for Val<'e, 'g> {
    type Output = Val<'e, 'g>;
    fn neg(self) -> Val<'e, 'g> {
        self.unary("Neg")
    }
}
