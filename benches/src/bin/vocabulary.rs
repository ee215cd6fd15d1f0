//! Times the training step of a language model and measures its memory: `vocabulary MODEL [BATCH [LENGTH [TOKENS
//! [SLICE]]]]`.
//!
//! MODEL is a source of a decoder (a folder with config.json and safetensors, an `.onnx` file). Logits of TOKENS, by default
//! BATCH x LENGTH, are expected of a step: where they are large, the loss is computed in chunks; with TOKENS 1 it is not. With SLICE so
//! many rows are computed at once. Prints
//! the loss of the first steps, the median of 4 more and the peak memory of the process. `peers/peft_language.py` does the same
//! with PEFT.

use lorac::data::{Dataset, Example, Field, LABELS, PadTo};
use lorac::engine::EngineChoice;
use lorac::inputs::{caches, feeds};
use lorac::ir::DType;
use lorac::passes::{AdamW, Adaptation, Lora, Method, TrainingSpec, UpdateSpec, peak_bytes, readable, training_step};
use lorac::runtime::Options;
use lorac::source::{Resolver, Source};
use lorac::task::CausalLm;
use lorac::train::{Binding, initial_theta, training_program};
use lorac_benches::{median, status_mib};
use std::path::Path;
use std::time::Instant;

const STEPS: usize = 4;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let number = |i: usize, default: usize| args.get(i).map_or(Ok(default), |text| text.parse::<usize>());
    let (batch, length) = (number(1, 8)?, number(2, 128)?);
    let tokens = number(3, batch * length)?;
    let slice = number(4, batch)?.clamp(1, batch);
    let resolver = Resolver::new(None, Path::new("."))?;
    let source = args.first().ok_or("vocabulary MODEL [BATCH [LENGTH [TOKENS [SLICE]]]]")?.parse::<Source>()?;
    let model = lorac::base::open(&resolver.resolve(&source, None)?, &resolver)?;
    let graph = readable(&model.graph, &model.functions)?;
    let mut feeds = feeds(&graph)?;
    let runtime = "pypi:onnxruntime==1.31.1".parse::<Source>()?;
    let choice = EngineChoice::Source(&runtime, None);
    let engine = lorac::engine::open(&choice, &Options::default(), &resolver)?;
    let lora = Lora::default();
    let (optimizer, task) = (AdamW::default(), CausalLm::default());
    let spec = TrainingSpec {
        adaptations: &[Adaptation { method: &lora, targets: lora.select(&graph)? }],
        objective: &task,
        update: UpdateSpec { slices: slice < batch, ..UpdateSpec::of(&optimizer) },
        dialect: engine.backend.dialect(),
        tokens: Some(tokens),
        caches: caches(&graph, &feeds),
        packed: false,
    };
    let compiled = training_step(&graph, &spec, &mut |_| {})?;
    let weights: usize = compiled.step.weights().map(|(_, _, tensor)| tensor.bytes().len()).sum();
    println!("weights of the step  {} MiB", weights >> 20);
    let theta = initial_theta(&compiled.params, 0)?;
    let mut step = training_program(engine.backend.as_ref(), &compiled, &theta, 0)?;
    feeds.inputs.push(Binding { field: LABELS.into(), input: LABELS.into(), dtype: DType::I64 });
    let example = |row: usize| {
        let ids: Vec<i64> = (0..length).map(|i| ((row * length + i) as i64 * 7919) % 20000).collect();
        let tokens = |ids: Vec<i64>| Field::Tokens { ids, pad: 0 };
        Example { fields: vec![("input_ids", tokens(ids.clone())), (LABELS, tokens(ids))] }
    };
    let data = Dataset::new((0..batch).map(example).collect(), PadTo::default());
    let rows: Vec<usize> = (0..batch).collect();
    let mut fed = Vec::new();
    for rows in rows.chunks(slice) {
        fed.push(feeds.for_program(step.program.as_ref(), &data.batch(rows, 0)?)?);
    }
    let shapes: Vec<(String, Vec<usize>)> = fed[0].iter().map(|(name, t)| (name.clone(), t.dims().to_vec())).collect();
    println!("peak by its sizes    {} MiB", peak_bytes(&compiled.step, &shapes)? >> 20);
    for _ in 0..3 {
        println!("loss                 {:.6}", step.run_slices(&fed, 1e-3)?.loss);
    }
    let mut times = Vec::new();
    for _ in 0..STEPS {
        let start = Instant::now();
        step.run_slices(&fed, 1e-3)?;
        times.push(start.elapsed());
    }
    println!("nodes of the step    {}", compiled.step.node_count());
    println!("step {batch} x {length}         {:.1} ms (median of {STEPS})", median(&mut times));
    println!("peak memory          {:.0} MiB resident", status_mib("VmHWM").unwrap_or(f64::NAN));
    Ok(())
}
