//! The graph API without a pipeline: write a graph, differentiate it, run it on the embedded engine.
//!
//!     cargo run --release -p lorac-examples --example gradient

use lorac::ir::{Tensor, parse, print};
use lorac::ops::infer;
use lorac::passes::{differentiate, mean_squared_error};
use lorac::runtime::Options;
use lorac::train::compile_graph;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut graph = parse(
        r#"graph tiny(%x: f32[N,2], %target: f32[N,1]) -> %y {
             %w = weight "fc.weight" f32[2,1] = [0.5, -0.25]
             %h = MatMul(%x, %w) : f32[N,1]
             %y = Tanh(%h) : f32[N,1]
           }"#,
    )?;
    let find = |g: &lorac::ir::Graph, name: &str| g.find(name).ok_or(format!("no value '{name}'"));
    let (w, y, target) = (find(&graph, "fc.weight")?, find(&graph, "y")?, find(&graph, "target")?);
    let loss = mean_squared_error(&mut graph, y, target)?;
    let grads = differentiate(&mut graph, loss, &[w])?;
    graph.set_outputs([&[loss], grads.as_slice()].concat())?;
    infer(&mut graph)?;
    print!("{}", print(&graph));

    let engine = lorac::runtime::embedded(&Options::default());
    let mut run = compile_graph(engine.as_ref(), &graph, Vec::new())?;
    let x = Tensor::from_slice(&[2, 2], &[1.0f32, 2.0, -1.0, 0.5])?;
    let target = Tensor::from_slice(&[2, 1], &[1.0f32, 0.0])?;
    let names: Vec<String> = graph.outputs().iter().map(|v| graph.name_of(*v)).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    for (name, value) in names.iter().zip(run.run(&[("x", &x), ("target", &target)], &names)?) {
        println!("{name} = {:?}", value.to_vec::<f32>()?);
    }
    Ok(())
}
