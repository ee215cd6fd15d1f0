//! Gradients of real architectures, as the common exporters write them, against PyTorch's: every float weight, on
//! ONNX Runtime and on the embedded engine.

use lorac::ir::{DType, Dialect, Graph, Tensor, ValueId};
use lorac::ops::{Array, array};
use lorac::passes::{
    cross_entropy, cumsum_to_i32, differentiate, expose_layer_norm_stats, mean_squared_error, prepare,
};
use lorac::train::compile_graph;
use lorac_tests::{Truth, data, engines, relative_error, truth};
use std::collections::BTreeMap;

const TOLERANCE: f64 = 1e-4;

/// A model's loss and gradients with respect to every float weight that the loss depends on.
struct Job {
    graph: Graph,
    /// The weights with their contents, and the name of the output that is their gradient.
    weights: Vec<(Array, String)>,
}

fn compile(name: &str, truth: &BTreeMap<String, Truth>, dialect: Dialect) -> Job {
    let model = lorac::onnx::load(data("exports").join(name).join("model.onnx")).expect(name);
    let mut graph = model.graph.clone();
    let params: Vec<&Array> = truth.iter().filter(|(k, _)| k.starts_with("param.")).map(|(_, v)| &v.array).collect();
    let held = |t: &Tensor| {
        array(t).is_some_and(|w| params.iter().any(|p| close(&w, p) || (p.ndim() == 2 && close(&w, &p.t().to_owned()))))
    };
    let held = graph.weights().filter(|(_, _, t)| t.dtype() == DType::F32 && !t.dims().is_empty() && held(t));
    let held: Vec<ValueId> = held.map(|w| w.0).collect();
    prepare(&mut graph, &model.functions, &held).expect(name);
    if !dialect.i64_cumsum {
        cumsum_to_i32(&mut graph).expect(name);
    }
    let y = graph.outputs()[0];
    let loss = if truth["target"].integers {
        cross_entropy(&mut graph, y, "target").expect(name)
    } else {
        let target = graph.add_input("target", graph.fact(y)).expect("a new name");
        mean_squared_error(&mut graph, y, target).expect(name)
    };
    expose_layer_norm_stats(&mut graph).expect(name);
    let used = |v: &ValueId| graph.value(*v).is_some_and(|v| !v.uses().is_empty());
    let trained: Vec<ValueId> = held.into_iter().filter(used).collect();
    let grads = differentiate(&mut graph, loss, &trained).expect(name);
    let mut outputs = graph.outputs().to_vec();
    outputs.extend(&grads);
    graph.set_outputs(outputs).expect("live");
    let weights = trained.iter().zip(&grads).map(|(w, g)| {
        let values = graph.weight(*w).and_then(array).expect("a weight");
        (values, graph.name_of(*g))
    });
    Job { weights: weights.collect(), graph }
}

fn close(a: &Array, b: &Array) -> bool {
    a.shape() == b.shape() && (a - b).iter().all(|e| e.abs() < 1e-6)
}

/// The weights that hold a parameter: as it is, or transposed.
fn holders<'a>(job: &'a Job, param: &Array) -> Vec<(&'a str, bool)> {
    let turned = param.t().to_owned();
    let each =
        job.weights.iter().filter_map(|(w, grad)| match (close(w, param), param.ndim() == 2 && close(w, &turned)) {
            (true, _) => Some((grad.as_str(), false)),
            (_, true) => Some((grad.as_str(), true)),
            _ => None,
        });
    each.collect()
}

#[test]
fn every_weight_of_every_export_on_both_engines() {
    let mut wrong = Vec::new();
    let mut checked = 0;
    let engines = engines();
    let mut names: Vec<String> = std::fs::read_dir(data("exports"))
        .expect("tests/data/exports")
        .map(|e| e.expect("entry").file_name().to_string_lossy().into_owned())
        .collect();
    names.sort();
    assert!(names.len() >= 20, "{names:?}");
    for name in &names {
        let truth = truth(&data("exports").join(name).join("truth.safetensors"));
        for engine in &engines {
            let who = format!("{name} on {}", engine.name());
            let job = compile(name, &truth, engine.dialect());
            let mut run =
                compile_graph(engine.as_ref(), &job.graph, Vec::new()).unwrap_or_else(|e| panic!("{who}: {e}"));
            let feeds: Vec<(String, lorac::ir::Tensor)> = job
                .graph
                .inputs()
                .iter()
                .map(|v| {
                    let input = job.graph.name_of(*v);
                    let key = if input == "target" { input.clone() } else { format!("input.{input}") };
                    (input, truth[&key].tensor())
                })
                .collect();
            let feeds: Vec<(&str, &lorac::ir::Tensor)> = feeds.iter().map(|(n, t)| (n.as_str(), t)).collect();
            let loss = run.run(&feeds, &["loss"]).unwrap_or_else(|e| panic!("{who}: {e}"));
            let loss = loss[0].to_f64().expect("a number")[0];
            let want = truth["loss"].array.iter().next().copied().expect("a number");
            if !((loss - want).abs() <= TOLERANCE) {
                wrong.push(format!("{who}: loss {loss}, expected {want}"));
            }
            for (key, grad) in truth.iter().filter_map(|(k, v)| Some((k.strip_prefix("grad.")?, v))) {
                let holders = holders(&job, &truth[&format!("param.{key}")].array);
                if holders.is_empty() {
                    continue;
                }
                let outputs: Vec<&str> = holders.iter().map(|h| h.0).collect();
                let got = run.run(&feeds, &outputs).unwrap_or_else(|e| panic!("{who}: {e}"));
                // A parameter that an exporter wrote twice gets its gradient in parts.
                let parts = got.iter().zip(&holders).map(|(t, (_, turned))| {
                    let part = array(t).expect("reals");
                    if *turned { part.t().to_owned() } else { part }
                });
                let sum = parts.reduce(|a, b| a + b).expect("one at least");
                let error = relative_error(&sum, &grad.array);
                checked += 1;
                if !(error <= TOLERANCE) {
                    wrong.push(format!("{who}: gradient of {key} is off by {error:e}"));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{} of {checked} wrong:\n{}", wrong.len(), wrong.join("\n"));
    assert_eq!(checked, 1170, "gradients that were checked, on both engines");
}
