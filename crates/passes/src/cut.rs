//! A graph of an encoder and a decoder in two: what is computed once for a text that is read, and what for every token that is
//! written.

use crate::copy::Copy;
use crate::rewrite;
use lorac_ir::{DType, Dim, Graph, Node, NodeId, ValueId, topological_order};
use lorac_ops::Emit;
use std::cell::Cell;
use std::collections::{HashMap, HashSet};

/// A graph in two, of which the second reads what the first gives.
#[derive(Clone, Debug)]
pub struct Cut {
    /// What depends on none of the later inputs; its outputs are [`Cut::values`].
    pub first: Graph,
    /// All else, with those as inputs of the same names.
    pub rest: Graph,
    /// The names of the values between them.
    pub values: Vec<String>,
    /// Whether each of these values has a row of a batch in each place of its first dimension: those of some rows can be picked.
    pub by_rows: bool,
}

/// Where a value can be computed.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Side {
    /// Anywhere: it depends on weights and on what both are fed.
    Any,
    /// Before the later inputs are known, but so cheaply that it is computed again: integers of inputs and of their shapes.
    Again,
    First,
    Rest,
}

/// Cuts a graph before everything that depends on inputs other than `first`; both sides are fed those of `both`. None where nothing is
/// computed before, or outputs do not depend on the later inputs.
pub fn cut(graph: &Graph, first: &[&str], both: &[&str]) -> Option<Cut> {
    let mut graph = graph.clone();
    rewrite(&mut graph, "cut", |e| {
        lengths_of_inputs(e, first);
        Ok(())
    })
    .ok()?;
    let graph = &graph;
    let sides = sides(graph, first, both);
    let side = |v: &ValueId| sides.get(v).copied().unwrap_or(Side::Any);
    if graph.outputs().iter().any(|v| side(v) != Side::Rest) {
        return None;
    }
    let order = topological_order(graph);
    let reads = order.iter().filter_map(|id| graph.node(*id)).filter(|node| side_of(node, &side) == Side::Rest);
    let mut between: Vec<ValueId> = Vec::new();
    let mut seen = HashSet::new();
    for (_, v) in reads.flat_map(Node::operands) {
        if side(&v) == Side::First && seen.insert(v) {
            between.push(v);
        }
    }
    if between.is_empty() || between.iter().any(|v| graph.fact(*v).dtype == DType::Opaque) {
        return None;
    }
    let (one, other) = (part(graph, &order, &between, &[])?, part(graph, &order, graph.outputs(), &between)?);
    let values = between.iter().map(|v| graph.name_of(*v)).collect();
    Some(Cut { first: one, rest: other, values, by_rows: by_rows(graph, first, &between) })
}

/// Lets lengths of inputs be asked of the inputs, and not of what is computed of them.
fn lengths_of_inputs(e: &Emit, inputs: &[&str]) {
    let graph = e.graph();
    let mut axes: Vec<(Dim, ValueId, usize)> = Vec::new();
    for input in inputs.iter().filter_map(|name| graph.find(name).filter(|id| graph.is_input(*id))) {
        let dims = graph.fact(input).dims().map(<[Dim]>::to_vec).unwrap_or_default();
        axes.extend(dims.into_iter().enumerate().map(|(axis, dim)| (dim, input, axis)));
    }
    let mut made: HashMap<(Dim, usize), ValueId> = HashMap::new();
    for value in topological_order(graph).into_iter().filter_map(|id| graph.node(id)).flat_map(|node| &node.outputs) {
        let fact = graph.fact(*value);
        let content = e.val(*value).content().unwrap_or_default();
        let (DType::I64, Some(rank), [dim]) = (fact.dtype, fact.rank(), &content[..]) else { continue };
        let of_input = axes.iter().find(|(known, ..)| known.same(*dim) && dim.known().is_none());
        let Some((dim, input, axis)) = of_input else { continue };
        if graph.is_output(*value) || graph.value(*value).is_none_or(|v| v.uses().is_empty()) {
            continue;
        }
        let length = *made.entry((*dim, rank)).or_insert_with(|| {
            let input = e.val(*input);
            if rank == 0 { input.len(*axis).id() } else { input.lens(*axis..*axis + 1).id() }
        });
        e.edit(|p| p.redirect(*value, length));
    }
}

/// The side of every value that is not on any.
fn sides(graph: &Graph, first: &[&str], both: &[&str]) -> HashMap<ValueId, Side> {
    let mut sides = HashMap::new();
    for id in graph.inputs() {
        let name = graph.name_of(*id);
        let of_integers = !graph.fact(*id).dtype.is_float();
        match (both.contains(&name.as_str()), first.contains(&name.as_str())) {
            (true, _) => continue,
            (_, true) => sides.insert(*id, if of_integers { Side::Again } else { Side::First }),
            _ => sides.insert(*id, Side::Rest),
        };
    }
    for id in topological_order(graph) {
        let Some(node) = graph.node(id) else { continue };
        let side = |v: &ValueId| sides.get(v).copied().unwrap_or(Side::Any);
        let floats =
            node.outputs.iter().any(|v| graph.fact(*v).dtype.is_float() || graph.fact(*v).dtype == DType::Opaque);
        let own = match side_of(node, &side) {
            Side::Any => continue,
            Side::Again if floats => Side::First,
            side => side,
        };
        sides.extend(node.outputs.iter().map(|v| (*v, own)));
    }
    sides
}

fn side_of(node: &Node, side: &dyn Fn(&ValueId) -> Side) -> Side {
    node.operands().map(|(_, v)| side(&v)).max().unwrap_or(Side::Any)
}

/// The graph that computes `outputs`, with `given` as inputs.
fn part(graph: &Graph, order: &[NodeId], outputs: &[ValueId], given: &[ValueId]) -> Option<Graph> {
    let mut needed: HashSet<ValueId> = outputs.iter().copied().collect();
    let given: HashSet<ValueId> = given.iter().copied().collect();
    for node in order.iter().rev().filter_map(|id| graph.node(*id)) {
        if node.outputs.iter().any(|v| needed.contains(v) && !given.contains(v)) {
            needed.extend(node.operands().map(|(_, v)| v));
        }
    }
    let mut made = Graph::new(&graph.name, graph.opset());
    made.opsets.extend(graph.opsets.clone());
    made.aliases.extend(graph.aliases.clone());
    made.reserve_as(graph);
    let mut to = HashMap::new();
    for (id, value) in graph.values().filter(|(id, _)| given.contains(id)) {
        to.insert(id, made.add_input(&value.name, value.fact.clone()).ok()?);
    }
    let copy = Copy { from: graph, needed: Some(&needed), name: &str::to_string, fact: &Clone::clone };
    let to = copy.copy_to(&mut made, to).ok()?;
    made.set_outputs(outputs.iter().map(|v| to.get(v).copied()).collect::<Option<_>>()?).ok()?;
    Some(made)
}

/// Whether values have a row of a batch in each place of their first dimension, and nothing of the batch in another.
fn by_rows(graph: &Graph, first: &[&str], values: &[ValueId]) -> bool {
    let inputs = first.iter().filter_map(|name| graph.find(name));
    let batch = inputs.filter_map(|v| graph.fact(v).dims()?.first()?.name()).next();
    let Some(batch) = batch else { return false };
    let open = |dim: &Dim| {
        let found = Cell::new(*dim == Dim::Unknown);
        dim.eval(&|name| {
            found.set(found.get() || name == batch);
            Some(1)
        });
        found.get()
    };
    values.iter().all(|v| match graph.fact(*v).dims() {
        Some([rows, rest @ ..]) => rows.name().as_deref() == Some(&batch) && !rest.iter().any(open),
        _ => false,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use lorac_ops::{Array, evaluate};

    const BOTH: &str = r#"graph g(%ids: i64[B,S], %answer: i64[B,T], %theta: f32[2]) -> %y {
        %table = weight "table" f32[3,2] = [1, 2, 3, 4, 5, 6]
        %axes = weight "axes" i64[1] = [1]
        %x = Gather(%table, %ids) : f32[B,S,2]
        %own = Mul(%x, %theta) : f32[B,S,2]
        %sum = ReduceSum(%own, %axes) : f32[B,1,2]
        %long = Shape(%ids) : i64[2]
        %two = Cast(%long, to=1) : f32[2]
        %written = Gather(%table, %answer) : f32[B,T,2]
        %scaled = Mul(%written, %theta) : f32[B,T,2]
        %z = Add(%scaled, %sum) : f32[B,T,2]
        %y = Add(%z, %two) : f32[B,T,2]
    }"#;

    #[test]
    fn both_parts_compute_what_the_graph_does() {
        let graph = lorac_ir::parse(BOTH).expect("parses");
        let cut = cut(&graph, &["ids"], &["theta"]).expect("cuts");
        assert_eq!(lorac_ir::verify(&cut.first), vec![]);
        assert_eq!(lorac_ir::verify(&cut.rest), vec![]);
        assert_eq!(cut.values, ["sum", "two"]);
        // How many rows there are is in `two`.
        assert!(!cut.by_rows);
        let names = |graph: &Graph| graph.inputs().iter().map(|v| graph.name_of(*v)).collect::<Vec<_>>();
        assert_eq!(
            (names(&cut.first), names(&cut.rest)),
            (vec!["ids".into(), "theta".into()], vec!["sum".into(), "two".into(), "answer".into(), "theta".into()])
        );
        let array = |dims: &[usize], v: &[f64]| Array::from_shape_vec(dims.to_vec(), v.to_vec()).expect("fits");
        let (ids, answer) = (array(&[1, 2], &[0.0, 2.0]), array(&[1, 1], &[1.0]));
        let theta = array(&[2], &[2.0, -1.0]);
        let whole = evaluate(&graph, &[("ids", ids.clone()), ("answer", answer.clone()), ("theta", theta.clone())])
            .expect("runs");
        let first = evaluate(&cut.first, &[("ids", ids), ("theta", theta.clone())]).expect("runs");
        let [sum, two] = &first[..] else { panic!("two values") };
        let fed = [("sum", sum.clone()), ("two", two.clone()), ("answer", answer), ("theta", theta)];
        assert_eq!(evaluate(&cut.rest, &fed).expect("runs"), whole);
    }

    #[test]
    fn what_is_of_rows_is_told_by_its_dimensions() {
        let of = |dims: &str| {
            let text = format!(
                "graph g(%ids: i64[B,S], %answer: f32[B,2]) -> %y {{ %x = Mystery(%ids) : f32[{dims}]\n %y = Mystery(%x, %answer) : f32[B,2] }}"
            );
            cut(&lorac_ir::parse(&text).expect("parses"), &["ids"], &[]).expect("cuts").by_rows
        };
        assert_eq!(["B,S,2", "1,4,S,S", "B*S,2", "S,B,2", "?,2"].map(of), [true, false, false, false, false]);
    }

    /// As exporters ask for the lengths that a Reshape needs.
    #[test]
    fn lengths_are_those_of_inputs_and_nothing_is_computed_for_them() {
        let text = r#"graph g(%ids: i64[B,S], %answer: i64[B,T]) -> %y {
            %table = weight "table" f32[3,2] = [1, 2, 3, 4, 5, 6]
            %zero = weight "zero" i64[] = [0]
            %axes = weight "axes" i64[1] = [0]
            %most = weight "most" i64[1] = [1]
            %rest = weight "rest" i64[1] = [-1]
            %x = Gather(%table, %ids) : f32[B,S,2]
            %h = Relu(%x) : f32[B,S,2]
            %long = Shape(%h) : i64[3]
            %rows = Gather(%long, %zero) : i64[]
            %one = Unsqueeze(%rows, %axes) : i64[1]
            %to = Concat(%one, %rest, axis=0) : i64[2]
            %written = Gather(%table, %answer) : f32[B,T,2]
            %flat = Reshape(%written, %to) : f32[B,2*T]
            %sum = ReduceSum(%h, %most, keepdims=0) : f32[B,2]
            %all = ReduceSum(%flat, %most) : f32[B,1]
            %y = Add(%sum, %all) : f32[B,2]
        }"#;
        // `Shape` of some axes there is since opset 15.
        for (opset, parts_of_shapes) in [(13, false), (14, false), (15, true)] {
            let text = text.replacen("graph g(", &format!("graph g opset {opset} ("), 1);
            let mut graph = lorac_ir::parse(&text).expect("parses");
            lorac_ops::infer(&mut graph).expect("infers");
            let cut = cut(&graph, &["ids"], &[]).expect("cuts");
            assert_eq!((cut.values, cut.by_rows), (vec!["sum".to_string()], true));
            assert_eq!(lorac_ir::verify(&cut.rest), vec![]);
            let shapes = |graph: &Graph| graph.nodes().any(|(_, n)| &*n.op.name == "Shape" && !n.attrs.is_empty());
            assert_eq!(shapes(&cut.first) || shapes(&cut.rest), parts_of_shapes, "opset {opset}");
        }
    }

    #[test]
    fn a_graph_without_two_sides_is_not_cut() {
        let one = lorac_ir::parse("graph g(%ids: i64[B,S], %x: f32[B,2]) -> %y { %y = Relu(%x) : f32[B,2] }")
            .expect("parses");
        assert!(cut(&one, &["ids"], &[]).is_none());
        assert!(cut(&one, &["x"], &[]).is_none());
    }
}
