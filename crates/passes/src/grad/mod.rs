//! The compiler on its own: a model's loss and the gradients of its weights as a plain ONNX graph.

mod cost;

pub use cost::{Amount, Cost, cost};

use crate::{
    LOSS, PassError, active_nodes, cross_entropy, expose_dropout_masks, expose_layer_norm_stats, fix, fold_constants,
    gradients, mean_squared_error, prepare, readable, remove_dead, trained,
};
use lorac_ir::{Attr, Attrs, Function, Graph, OpName, Origin, Patch, ValueId};
use std::collections::{BTreeMap, BTreeSet, HashSet};

/// The number to make smaller.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Loss {
    /// A scalar output of the model.
    Output(String),
    /// The mean cross-entropy of an output against class indices; the last axis is that of the classes.
    CrossEntropy,
    /// The mean of the squared differences of an output from values of its shape.
    MeanSquaredError,
}

/// A model.
#[derive(Clone, Copy, Debug)]
pub struct Subject<'a> {
    /// Its graph.
    pub graph: &'a Graph,
    /// Operators of its own.
    pub functions: &'a [Function],
    /// Weights that stand in `Constant` nodes: single numbers among them are parts of formulas.
    pub constants: &'a HashSet<ValueId>,
}

/// What is asked for.
#[derive(Clone, Debug)]
pub struct Request {
    /// Names and globs of weights and inputs; all float weights where there are none.
    pub wrt: Vec<String>,
    /// The loss.
    pub loss: Loss,
    /// The output that the loss is taken of; the first float one where it is not named.
    pub output: Option<String>,
    /// Numbers for dimensions of the inputs, and for inputs that are single integers or switches, see [`crate::fix`].
    pub fix: BTreeMap<String, i64>,
}

/// A graph with the outputs `loss` and `grad.<name>`, and what is known of it. Where an input or a weight of the model is
/// called so, or `target`, the result's own have a number behind the name: `loss_2`.
#[derive(Clone, Debug)]
pub struct Gradient {
    /// The graph. The outputs of the model itself are gone.
    pub graph: Graph,
    /// Weights and inputs that have a gradient.
    pub trained: Vec<String>,
    /// Those that were asked for and that the loss does not depend on.
    pub unreached: Vec<String>,
    /// Elements of everything that has a gradient.
    pub parameters: usize,
    /// Operators that a gradient passes, and how often.
    pub active_operators: BTreeMap<String, usize>,
    /// Ids of nodes below this are of the forward pass.
    forward: usize,
}

/// Name of the input that the loss is taken against.
pub const TARGET: &str = "target";

/// Differentiates a model.
///
/// # Errors
/// Names that the model does not have, everything that no gradient passes, a loss that is not one number or that depends
/// on nothing that is asked for.
pub fn grad(model: &Subject, request: &Request) -> Result<Gradient, PassError> {
    let mut fixed = model.graph.clone();
    fix(&mut fixed, &request.fix)?;
    let mut graph = readable(&fixed, model.functions)?;
    // The result is a file of its own.
    graph.reserve_as(&Graph::default());
    let wrt = wrt(&graph, model.constants, &request.wrt)?;
    let output = output(&graph, request)?;
    graph.set_outputs(vec![output]).map_err(|e| PassError::Unsuitable(e.to_string()))?;
    prepare(&mut graph, &[], &wrt)?;
    remove_dead(&mut graph)?;
    let [output] = *graph.outputs() else {
        return Err(PassError::Unsuitable("the loss is no longer an output".into()));
    };
    make_way(&mut graph, &wrt)?;
    let loss = match request.loss {
        Loss::Output(_) => output,
        Loss::CrossEntropy => cross_entropy(&mut graph, output, TARGET)?,
        Loss::MeanSquaredError => {
            let (name, fact) = (graph.fresh_name(TARGET), graph.fact(output));
            let target = graph.add_input(&name, fact).map_err(|e| PassError::Unsuitable(e.to_string()))?;
            mean_squared_error(&mut graph, output, target)?
        }
    };
    expose_layer_norm_stats(&mut graph)?;
    expose_dropout_masks(&mut graph)?;
    let passed = active_nodes(&graph, loss, &wrt);
    let mut active_operators = BTreeMap::new();
    for node in passed.iter().filter_map(|id| graph.node(*id)) {
        *active_operators.entry(node.op.to_string()).or_insert(0) += 1;
    }
    let forward = graph.node_bound();
    let grads = gradients(&mut graph, loss, &wrt)?;
    let pairs: Vec<(ValueId, ValueId)> = wrt.iter().copied().zip(grads).filter_map(|(w, g)| Some((w, g?))).collect();
    let names: Vec<String> = pairs.iter().map(|(w, _)| graph.name_of(*w)).collect();
    let parameters = pairs.iter().filter_map(|(w, _)| graph.fact(*w).known_dims()).map(|d| d.iter().product::<usize>());
    let parameters = parameters.sum();
    let reached: BTreeSet<ValueId> = pairs.iter().map(|p| p.0).collect();
    let unreached = wrt.iter().filter(|v| !reached.contains(v)).map(|v| graph.name_of(*v)).collect();
    name_outputs(&mut graph, loss, &pairs)?;
    fold_constants(&mut graph, &wrt)?;
    remove_dead(&mut graph)?;
    drop_unused(&mut graph)?;
    lorac_ops::infer(&mut graph)?;
    Ok(Gradient { graph, trained: names, unreached, parameters, active_operators, forward })
}

/// The real weights and inputs that were asked for. Where nothing was named: every float weight but single numbers in
/// `Constant` nodes, which are parts of formulas.
fn wrt(graph: &Graph, constants: &HashSet<ValueId>, patterns: &[String]) -> Result<Vec<ValueId>, PassError> {
    if !patterns.is_empty() {
        return trained(graph, patterns);
    }
    let is_trained = |id: ValueId, len: usize| len > 1 || !constants.contains(&id);
    let weights = graph
        .weights()
        .filter(|(id, v, t)| t.dtype().is_float() && !t.is_empty() && !v.uses().is_empty() && is_trained(*id, t.len()));
    let weights: Vec<ValueId> = weights.map(|w| w.0).collect();
    if !weights.is_empty() {
        return Ok(weights);
    }
    let holders = graph.nodes().filter(|(_, n)| n.bodies().any(|b| b.graph.weights().next().is_some()));
    let holders: Vec<String> = holders.map(|(_, n)| format!("`{}` ({})", n.origin.source, n.op)).collect();
    Err(PassError::Unsuitable(match holders.is_empty() {
        true => "the model has no float weights: name inputs with --wrt".into(),
        false => format!(
            "all float weights of the model lie in graphs inside {}, where no gradient passes: export the model without \
             control flow",
            holders.join(", ")
        ),
    }))
}

/// The output that the loss is, or is taken of.
fn output(graph: &Graph, request: &Request) -> Result<ValueId, PassError> {
    let name = match &request.loss {
        Loss::Output(name) => Some(name),
        _ => request.output.as_ref(),
    };
    let listed = |v: &ValueId| format!("`{}` {}", graph.name_of(*v), graph.fact(*v));
    let all = || graph.outputs().iter().map(listed).collect::<Vec<_>>().join(", ");
    let found = match name {
        Some(name) => graph.outputs().iter().find(|v| graph.name_of(**v) == *name),
        None => graph.outputs().iter().find(|v| graph.fact(**v).dtype.is_float()),
    };
    match found {
        // A loss of the model itself is looked at where it is differentiated.
        Some(v) if matches!(request.loss, Loss::Output(_)) || graph.fact(*v).dtype.is_float() => Ok(*v),
        Some(v) => {
            let (name, fact) = (graph.name_of(*v), graph.fact(*v));
            Err(PassError::Unsuitable(format!(
                "the output `{name}` is {fact}: a loss is taken of real numbers; choose one of {}",
                all()
            )))
        }
        None => Err(PassError::Unsuitable(match name {
            Some(name) => format!(
                "the model has no output `{name}`; its outputs are {} (or take --loss cross_entropy or mse of one)",
                all()
            ),
            None => format!("the model has no float output to take a loss of, only {}", all()),
        })),
    }
}

/// Gives way to the names of the result: what the graph computes on the way may be called otherwise.
fn make_way(graph: &mut Graph, wrt: &[ValueId]) -> Result<(), PassError> {
    let needed = wrt.iter().map(|v| format!("grad.{}", graph.name_of(*v))).chain([LOSS, TARGET].map(String::from));
    for name in needed.collect::<Vec<_>>() {
        if let Some(value) = graph.find(&name).filter(|v| graph.producer(*v).is_some()) {
            let other = graph.fresh_name(&name);
            graph.rename(value, &other).map_err(|e| PassError::Unsuitable(e.to_string()))?;
        }
    }
    Ok(())
}

/// Gives loss and gradients their names and makes them the outputs.
fn name_outputs(graph: &mut Graph, loss: ValueId, pairs: &[(ValueId, ValueId)]) -> Result<(), PassError> {
    let kept = Some(graph.name_of(loss)).filter(|name| name.starts_with(LOSS) && graph.producer(loss).is_some());
    let named = std::iter::once((kept.unwrap_or(LOSS.to_string()), loss))
        .chain(pairs.iter().map(|(w, g)| (format!("grad.{}", graph.name_of(*w)), *g)))
        .collect::<Vec<_>>();
    let failed = |e: lorac_ir::GraphError| PassError::Unsuitable(e.to_string());
    let (mut outputs, mut listed) = (Vec::new(), HashSet::new());
    for (name, value) in named {
        // Inputs and weights keep what they are called.
        let name = if graph.find(&name) == Some(value) { name } else { graph.fresh_name(&name) };
        // One value may be the gradient of several weights, and weights and inputs keep their names.
        let own = graph.producer(value).is_some() && listed.insert(value);
        let id = if own {
            graph.rename(value, &name).map_err(failed)?;
            value
        } else {
            let origin = Origin { pass: "grad".into(), source: "".into() };
            let fact = graph.fact(value);
            let made = graph.add_node(
                OpName::new("", "Identity"),
                vec![Some(value)],
                Attrs::new(),
                vec![(&name, fact)],
                origin,
            );
            made.map_err(failed)?.first().copied().unwrap_or(value)
        };
        outputs.push(id);
    }
    graph.set_outputs(outputs).map_err(failed)
}

/// Inputs, weights and operator sets that nothing needs any more.
fn drop_unused(graph: &mut Graph) -> Result<(), PassError> {
    let mut patch = Patch::new(graph, "grad");
    let read = |v: &&ValueId| graph.value(**v).is_some_and(|v| !v.uses().is_empty());
    let unused: Vec<ValueId> = graph.inputs().iter().filter(|v| !read(v)).copied().collect();
    unused.into_iter().for_each(|v| patch.drop_input(v));
    patch.apply(graph).map_err(|source| PassError::Patch { pass: "grad".into(), source })?;
    graph.remove_unused_weights();
    let mut used = BTreeSet::from(["".into()]);
    domains(graph, &mut used);
    graph.opsets.retain(|domain, _| used.contains(domain));
    Ok(())
}

fn domains(graph: &Graph, used: &mut BTreeSet<std::sync::Arc<str>>) {
    for (_, node) in graph.nodes() {
        used.insert(node.op.domain.clone());
        for attr in node.attrs.values() {
            if let Attr::Graph(body) = attr {
                domains(&body.graph, used);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(inputs: &str, weight: &str, on_the_way: &str, loss: Loss) -> (Vec<String>, Vec<String>) {
        let text = format!(
            "graph g({inputs}: f32[N,2]) -> %y {{
                {weight} = weight \"{}\" f32[2,3]
                {on_the_way} = MatMul({inputs}, {weight}) : f32[N,3]
                %y = Tanh({on_the_way}) : f32[N,3]
            }}",
            weight.trim_start_matches('%')
        );
        let graph = lorac_ir::parse(&text).expect("parses");
        let subject = Subject { graph: &graph, functions: &[], constants: &HashSet::new() };
        let request = Request { wrt: Vec::new(), loss, output: None, fix: BTreeMap::new() };
        let made = grad(&subject, &request).unwrap_or_else(|e| panic!("{text}: {e}")).graph;
        let named = |ids: &[ValueId]| ids.iter().map(|v| made.name_of(*v)).collect();
        (named(made.inputs()), named(made.outputs()))
    }

    #[test]
    fn what_is_called_like_the_result_clashes_with_nothing() {
        let of = |input: &str, weight: &str, way: &str, want: [&[&str]; 2]| {
            for loss in [Loss::MeanSquaredError, Loss::CrossEntropy] {
                let (inputs, outputs) = names(input, weight, way, loss);
                assert_eq!([inputs, outputs], want, "{input} {weight} {way}");
            }
        };
        of("%x", "%w", "%h", [&["x", "target"], &["loss", "grad.w"]]);
        of("%x", "%w", "%loss", [&["x", "target"], &["loss", "grad.w"]]);
        of("%x", "%w", "%grad.w", [&["x", "target"], &["loss", "grad.w"]]);
        of("%target", "%w", "%h", [&["target", "target_2"], &["loss", "grad.w"]]);
        of("%loss", "%w", "%h", [&["loss", "target"], &["loss_2", "grad.w"]]);
        of("%grad.loss", "%loss", "%target", [&["grad.loss", "target"], &["loss_2", "grad.loss_2"]]);
    }
}
