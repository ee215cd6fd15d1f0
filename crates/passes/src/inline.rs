//! Functions of the model inlined where they are called, and branches whose condition is known.

use crate::instantiate::instantiate;
use crate::rewrite::display_name;
use crate::upgrade::OPSET;
use crate::{PassError, remove_dead};
use lorac_ir::{Attr, Function, Graph, Node, OpName, Patch};
use std::collections::{HashMap, HashSet};

/// How deep functions may call each other.
const MAX_DEPTH: usize = 32;
/// Nodes that inlining may make. Functions that call others twice double with every level.
const MAX_NODES: u64 = 1 << 18;

/// Replaces every call of a function, in the graph and in graphs inside its nodes, by what the function computes. A name
/// that is an operator's stands for the operator, as ONNX Runtime reads it. Returns how many calls there were.
///
/// # Errors
/// Functions that call themselves or nest deeper than 32, a call that does not fit, and a function written for another
/// version of an operator set than the model; the graph is then as it was.
pub fn inline(graph: &mut Graph, functions: &[Function]) -> Result<usize, PassError> {
    let known: HashMap<&OpName, &Function> =
        functions.iter().filter(|f| can_be_called(&f.op)).map(|f| (&f.op, f)).collect();
    let mut called = called(graph, &known);
    if called.is_empty() {
        return Ok(0);
    }
    let mut done: HashMap<&OpName, usize> = HashMap::new();
    for op in called.iter().copied().collect::<Vec<_>>() {
        depth(op, &known, &mut Vec::new(), &mut done)?;
    }
    called = done.keys().copied().collect();
    affordable(graph, &known)?;
    let mut next = graph.clone();
    let mut imports: Vec<&Function> = called.iter().filter_map(|op| known.get(op).copied()).collect();
    imports.sort_by(|a, b| a.op.cmp(&b.op));
    for function in imports {
        import(&mut next, function)?;
    }
    let count = inside(&mut next, &known)?;
    *graph = next;
    Ok(count)
}

/// Whether a function of this name is ever called. ONNX leaves open what a name means that an operator has too; ONNX Runtime
/// takes the operator, and in ONNX's own domains it knows nothing else.
pub(crate) fn can_be_called(function: &OpName) -> bool {
    match &*function.domain {
        "" | "ai.onnx.ml" => false,
        "com.microsoft" => lorac_ops::find(function).is_none(),
        _ => true,
    }
}

fn calls<'f>(graph: &Graph, known: &HashMap<&'f OpName, &'f Function>, found: &mut HashSet<&'f OpName>) {
    for (_, node) in graph.nodes() {
        found.extend(known.get_key_value(&node.op).map(|(op, _)| *op));
        node.bodies().for_each(|b| calls(&b.graph, known, found));
    }
}

fn called<'f>(graph: &Graph, known: &HashMap<&'f OpName, &'f Function>) -> HashSet<&'f OpName> {
    let mut found = HashSet::new();
    calls(graph, known, &mut found);
    found
}

/// How many functions a call goes through at most.
fn depth<'f>(
    op: &'f OpName,
    known: &HashMap<&'f OpName, &'f Function>,
    chain: &mut Vec<&'f OpName>,
    done: &mut HashMap<&'f OpName, usize>,
) -> Result<usize, PassError> {
    if let Some(depth) = done.get(op) {
        return Ok(*depth);
    }
    let names = |chain: &[&OpName]| chain.iter().map(|o| o.to_string()).collect::<Vec<_>>().join(" calls ");
    if chain.contains(&op) {
        chain.push(op);
        return Err(PassError::Recursion(names(chain)));
    }
    let limit = MAX_DEPTH;
    // Not only on the way back: a chain that is followed to its end may be longer than the stack.
    if let Some(first) = chain.first().filter(|_| chain.len() >= limit) {
        return Err(PassError::TooDeep { function: first.to_string(), limit });
    }
    chain.push(op);
    let mut deepest = 0;
    if let Some(function) = known.get(op) {
        let mut inner: Vec<&OpName> = called(&function.graph, known).into_iter().collect();
        inner.sort();
        for callee in inner {
            deepest = deepest.max(depth(callee, known, chain, done)?);
        }
    }
    chain.pop();
    if deepest >= limit {
        return Err(PassError::TooDeep { function: op.to_string(), limit });
    }
    done.insert(op, deepest + 1);
    Ok(deepest + 1)
}

/// Refuses functions that make too many nodes, before any is made.
fn affordable(graph: &Graph, known: &HashMap<&OpName, &Function>) -> Result<(), PassError> {
    let mut sizes = HashMap::new();
    match made(graph, known, &mut sizes) {
        0..=MAX_NODES => Ok(()),
        _ => {
            let why = format!("inlining its functions makes more than {MAX_NODES} nodes");
            Err(PassError::Unsuitable(format!("the model cannot be trained: {why}")))
        }
    }
}

/// Nodes that stand for the calls in a graph once everything is inlined. Requires: functions that do not call themselves,
/// and no deeper than is allowed.
fn made<'f>(graph: &Graph, known: &HashMap<&'f OpName, &'f Function>, sizes: &mut HashMap<&'f OpName, u64>) -> u64 {
    let mut sum = 0u64;
    for (_, node) in graph.nodes() {
        let own = match known.get_key_value(&node.op) {
            None => 0,
            Some((op, function)) => match sizes.get(op) {
                Some(size) => *size,
                None => {
                    let size = made(&function.graph, known, sizes).saturating_add(whole(&function.graph));
                    sizes.insert(op, size);
                    size
                }
            },
        };
        let inside = node.bodies().map(|b| made(&b.graph, known, sizes)).fold(0, u64::saturating_add);
        sum = sum.saturating_add(own).saturating_add(inside);
    }
    sum
}

/// Nodes of a graph and of those inside it.
fn whole(graph: &Graph) -> u64 {
    graph.nodes().map(|(_, n)| 1 + n.bodies().map(|b| whole(&b.graph)).sum::<u64>()).sum()
}

/// The operator sets that a function's nodes are of.
fn import(graph: &mut Graph, function: &Function) -> Result<(), PassError> {
    for (domain, version) in &function.graph.opsets {
        let model = *graph.opsets.entry(domain.clone()).or_insert(*version);
        let same = model == *version || (domain.is_empty() && alike(&function.graph, *version, model));
        if !same {
            let domain = if domain.is_empty() { "ai.onnx" } else { domain };
            let why = format!("function {} is written in opset {version} of {domain}", function.op);
            return Err(PassError::Unsuitable(format!("{why}, the model in opset {model}: convert one of them")));
        }
    }
    Ok(())
}

/// Whether the nodes of a function mean the same in two versions of the standard operators. From 18 on three operators
/// have changed: what others gained has a default that means what they meant before.
fn alike(graph: &Graph, a: i64, b: i64) -> bool {
    let changed = |name: &str| match name {
        "GridSample" | "DFT" => (a < 20) != (b < 20),
        "GroupNormalization" => (a < 21) != (b < 21),
        _ => false,
    };
    a.min(b) >= OPSET && !graph.nodes().any(|(_, n)| n.op.domain.is_empty() && changed(&n.op.name))
}

fn inside(graph: &mut Graph, known: &HashMap<&OpName, &Function>) -> Result<usize, PassError> {
    let mut count = 0;
    // Every round takes away one level; their number is bounded.
    loop {
        let mut patch = Patch::new(graph, "inline");
        let mut round = 0;
        for (id, node) in graph.nodes() {
            let Some(function) = known.get(&node.op) else { continue };
            check(graph, node)?;
            instantiate(graph, &mut patch, node, &function.bind(&node.attrs), &node.inputs)?;
            patch.remove(id);
            round += 1;
        }
        if round == 0 {
            break;
        }
        patch.apply(graph).map_err(|source| PassError::Patch { pass: "inline".into(), source })?;
        count += round;
    }
    let opsets = graph.opsets.clone();
    graph.edit_bodies(|body| {
        body.opsets.clone_from(&opsets);
        count += inside(body, known)?;
        Ok::<(), PassError>(())
    })?;
    Ok(count)
}

/// A graph as an argument would have to be inlined into the function for it: no exporter does that.
fn check(graph: &Graph, node: &Node) -> Result<(), PassError> {
    match node.attrs.iter().find(|(_, a)| matches!(a, Attr::Graph(_))) {
        Some((attr, _)) => {
            let name = display_name(graph, node);
            let why = format!("its attribute `{attr}` is a graph, which lorac does not pass to a function");
            Err(PassError::Unsuitable(format!("node `{name}` ({}): {why}", node.op)))
        }
        None => Ok(()),
    }
}

/// Replaces every `If` whose condition is a constant by the branch that is taken. Returns how many there were.
pub fn take_branches(graph: &mut Graph) -> Result<usize, PassError> {
    let mut patch = Patch::new(graph, "branch");
    let mut count = 0;
    for (id, node) in graph.nodes() {
        let standard = node.op.domain.is_empty() && &*node.op.name == "If";
        let condition = node.input(0).filter(|_| standard).and_then(|v| graph.weight(v));
        let known = condition.and_then(|t| t.to_vec::<bool>().ok()).and_then(|v| v.first().copied());
        let branch = match known {
            Some(true) => "then_branch",
            Some(false) => "else_branch",
            None => continue,
        };
        let Some(Attr::Graph(body)) = node.attrs.get(branch) else { continue };
        let args: Vec<_> = body.captures.iter().map(|v| Some(*v)).collect();
        instantiate(graph, &mut patch, node, &body.graph, &args)?;
        patch.remove(id);
        count += 1;
    }
    if count > 0 {
        patch.apply(graph).map_err(|source| PassError::Patch { pass: "branch".into(), source })?;
        remove_dead(graph)?;
    }
    Ok(count)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::prepare;
    use lorac_ir::{Attrs, Body, DType, Fact, Origin, Tensor, parse, verify};
    use lorac_ops::{Array, evaluate, infer};

    fn function(op: &str, text: &str) -> Function {
        let graph = parse(text).expect("parses");
        Function { op: op.into(), graph, attrs: Vec::new(), defaults: Attrs::new() }
    }

    fn run(graph: &Graph, x: &[f64]) -> Vec<f64> {
        let x = Array::from_shape_vec(vec![x.len()], x.to_vec()).expect("fits");
        evaluate(graph, &[("x", x)]).expect("runs")[0].iter().copied().collect()
    }

    #[test]
    fn nested_calls_are_written_out_and_names_do_not_clash() {
        // Both functions use the names of the caller.
        let twice = function("own.Twice", "graph f (%y: f32[..]) -> %x { %x = Add(%y, %y) : f32[..] }");
        let relu = function(
            "own.Relu",
            "graph f (%x: f32[..]) -> %y { %h = own.Twice(%x) : f32[..]\n %y = own.Twice(%h) : f32[..] }",
        );
        let text = "graph g (%x: f32[3]) -> %y { %h = own.Relu(%x) : f32[3]\n %y = own.Twice(%h) : f32[3] }";
        let mut g = parse(text).expect("parses");
        assert_eq!(inline(&mut g, &[twice, relu]), Ok(4));
        assert_eq!((verify(&g), g.name_of(g.outputs()[0])), (vec![], "y".to_string()));
        infer(&mut g).expect("infers");
        assert_eq!(run(&g, &[1.0, -2.0, 0.5]), [8.0, -16.0, 4.0]);
        let sources: Vec<String> = g.nodes().map(|(_, n)| n.origin.source.to_string()).collect();
        assert!(sources.iter().all(|s| !s.is_empty()), "{sources:?}");
    }

    #[test]
    fn an_operator_goes_before_a_function_of_its_name() {
        let names =
            ["Relu", "ai.onnx.Relu", "com.microsoft.FastGelu", "ai.onnx.ml.Scaler", "com.microsoft.Own", "my.Relu"];
        let inlined = names.map(|name| {
            let mut graph =
                lorac_ir::parse(&format!("graph g opset 18 (%x: f32[2]) -> %y {{ %y = {name}(%x) : f32[2] }}"))
                    .expect("parses");
            let negated = "graph f opset 18 (%a: f32[2]) -> %b { %b = Neg(%a) : f32[2] }";
            inline(&mut graph, &[function(name, negated)]).expect("inlines")
        });
        assert_eq!(inlined, [0, 0, 0, 0, 1, 1]);
    }

    #[test]
    fn results_may_be_operands_and_absent_operands_stay_absent() {
        let f = function("own.F", "graph f (%a: f32[..], %b: f32[..]) -> %c, %a { %c = Clip(%a, _, %b) : f32[..] }");
        let text = "graph g (%x: f32[2]) -> %c, %a { %c, %a = own.F(%x) : f32[2], f32[2] }";
        let mut g = parse(text).expect("parses");
        assert_eq!(inline(&mut g, &[f]), Ok(1));
        assert_eq!(verify(&g), []);
        assert_eq!(run(&g, &[3.0, -1.0]), [3.0, -1.0]);
        assert_eq!(g.inputs().iter().map(|v| g.name_of(*v)).collect::<Vec<_>>(), ["x"]);
    }

    #[test]
    fn attributes_come_from_the_caller_or_the_default() {
        let mut f = function("own.F", "graph f (%a: f32[..]) { %k = weight \"k\" i64[] = [0] }");
        let inputs = vec![f.graph.find("a"), f.graph.find("k")];
        let attrs = Attrs::from([("exclusive".into(), Attr::Ref("without".into()))]);
        let results = vec![("b", Fact::unranked(DType::F32))];
        let origin = || Origin { pass: "".into(), source: "".into() };
        let b = f.graph.add_node("CumSum".into(), inputs, attrs, results, origin());
        f.graph.set_outputs(b.expect("added")).expect("b");
        f.defaults.insert("without".into(), Attr::Int(1));
        let text = "graph g (%x: f32[3]) -> %y { %h = own.F(%x) : f32[3]\n %y = own.F(%h, without=0) : f32[3] }";
        let mut g = parse(text).expect("parses");
        assert_eq!(inline(&mut g, &[f]), Ok(2));
        assert_eq!(run(&g, &[1.0, 2.0, 4.0]), [0.0, 1.0, 4.0]);
    }

    #[test]
    fn rings_depth_and_mismatches_are_named() {
        let call = |op: &str, callee: &str| {
            function(op, &format!("graph f (%x: f32[..]) -> %y {{ %y = {callee}(%x) : f32[..] }}"))
        };
        let text = "graph g (%x: f32[2]) -> %y { %y = own.F0(%x) : f32[2] }";
        let mut g = parse(text).expect("parses");
        let ring = inline(&mut g, &[call("own.F0", "own.F1"), call("own.F1", "own.F0")]);
        assert_eq!(ring, Err(PassError::Recursion("own.F0 calls own.F1 calls own.F0".into())));
        let chain =
            |n: usize| (0..n).map(|i| call(&format!("own.F{i}"), &format!("own.F{}", i + 1))).collect::<Vec<_>>();
        assert_eq!(inline(&mut g.clone(), &chain(32)), Ok(32));
        for deep in [33, 50_000] {
            let too_deep = Err(PassError::TooDeep { function: "own.F0".into(), limit: 32 });
            assert_eq!(inline(&mut g, &chain(deep)), too_deep, "{deep}");
        }

        let narrow = function("own.F0", "graph f () -> %y { %y = Range() : f32[..] }");
        let error = inline(&mut g, &[narrow]).expect_err("takes nothing").to_string();
        assert!(error.contains("node `y` (own.F0)") && error.contains("takes 0 inputs"), "{error}");
        let mut old = call("own.F0", "Relu");
        old.graph.opsets.insert("".into(), 15);
        let error = inline(&mut g, &[old.clone()]).expect_err("another dialect").to_string();
        assert!(error.contains("opset 15 of ai.onnx") && error.contains("the model in opset 20"), "{error}");
        // On the way to a training copy it is upgraded, and Relu has not changed since.
        assert_eq!(prepare(&mut g, &[old], &[]), Ok(()));
        assert_eq!(g.node_count(), 1);
    }

    #[test]
    fn functions_that_double_with_every_level_are_refused_before_they_are_written() {
        let doubled = |i: usize| {
            let call = format!("own.F{}", i + 1);
            function(
                &format!("own.F{i}"),
                &format!("graph f (%x: f32[..]) -> %y {{ %h = {call}(%x) : f32[..]\n %y = {call}(%h) : f32[..] }}"),
            )
        };
        let relu = |n: usize| function(&format!("own.F{n}"), "graph f (%x: f32[..]) -> %y { %y = Relu(%x) : f32[..] }");
        let text = "graph g (%x: f32[2]) -> %y { %y = own.F0(%x) : f32[2] }";
        let of = |n: usize| {
            let mut g = parse(text).expect("parses");
            let functions: Vec<Function> = (0..n).map(doubled).chain([relu(n)]).collect();
            inline(&mut g, &functions).map(|_| g.node_count())
        };
        assert_eq!(of(6), Ok(64));
        let error = of(31).expect_err("2^31 nodes").to_string();
        assert!(error.ends_with("inlining its functions makes more than 262144 nodes"), "{error}");
    }

    #[test]
    fn what_changed_since_opset_18_is_not_taken_for_the_same() {
        let text = "graph g (%x: f32[1,4,1]) -> %y { %y = own.F(%x) : f32[..] }";
        for (op, alike) in [("Relu", true), ("DFT", false), ("GridSample", false)] {
            let operands = if op == "GridSample" { "%x, %x" } else { "%x" };
            let mut f =
                function("own.F", &format!("graph f (%x: f32[..]) -> %y {{ %y = {op}({operands}) : f32[..] }}"));
            f.graph.opsets.insert("".into(), 19);
            assert_eq!(inline(&mut parse(text).expect("parses"), &[f]).is_ok(), alike, "{op}");
        }
    }

    /// `y = If(condition) { Mul(x, x) } else { Neg(x) }`.
    fn branches(condition: Option<bool>) -> Graph {
        let mut g = parse("graph g (%x: f32[2]) { }").expect("parses");
        let x = g.find("x").expect("x");
        let flag = match condition {
            Some(b) => g.add_weight("c", Tensor::scalar(b)),
            None => g.add_input("c", Fact::scalar(DType::Bool)),
        };
        let body = |text: &str| Attr::Graph(Body { graph: parse(text).expect("parses").into(), captures: vec![x] });
        let attrs = Attrs::from([
            ("then_branch".into(), body("graph t (%o: f32[2]) -> %y { %y = Mul(%o, %o) : f32[2] }")),
            ("else_branch".into(), body("graph e (%o: f32[2]) -> %y { %y = Neg(%o) : f32[2] }")),
        ]);
        let origin = Origin { pass: "".into(), source: "choose".into() };
        let y = vec![("y", Fact::new(DType::F32, [2i64]))];
        let y = g.add_node("If".into(), vec![Some(flag.expect("c"))], attrs, y, origin).expect("added");
        g.set_outputs(y).expect("y");
        g
    }

    #[test]
    fn a_known_condition_leaves_one_branch() {
        for (condition, want) in [(true, [9.0, 4.0]), (false, [3.0, -2.0])] {
            let mut g = branches(Some(condition));
            prepare(&mut g, &[], &[]).expect("prepares");
            assert_eq!(verify(&g), []);
            assert_eq!(run(&g, &[-3.0, 2.0]), want);
        }
    }

    #[test]
    fn a_graph_inside_a_node_stops_gradients_by_name_and_keeps_what_it_reads() {
        let mut g = branches(None);
        let (x, y) = (g.find("x").expect("x"), g.outputs()[0]);
        let square = crate::rewrite(&mut g, "test", |e| {
            let loss = e.op("ReduceSum", &[e.val(y)], &[("keepdims", 0i64.into())]);
            e.edit(|p| p.set_outputs(vec![loss.id()]));
            Ok(loss.id())
        });
        let error = crate::differentiate(&mut g, square.expect("a loss"), &[x]).expect_err("stops").to_string();
        for says in ["`choose` (If)", "the graph inside it reads `x`", "without control flow"] {
            assert!(error.contains(says), "no `{says}` in {error}");
        }
        // A value that only the body reads is alive.
        let mut g = branches(None);
        let patched = crate::rewrite(&mut g, "test", |e| {
            let scaled = e.val(x) * 2.0;
            e.edit(|p| p.redirect(x, scaled.id()));
            Ok(())
        });
        assert_eq!((patched, remove_dead(&mut g)), (Ok(()), Ok(0)));
        assert_eq!(g.node_count(), 2);
    }
}
