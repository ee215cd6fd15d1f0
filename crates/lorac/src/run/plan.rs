//! Everything that a run needs, found and checked before anything is trained.

use super::beside::Beside;
use super::card::{self, none_of};
use super::compiler::{Compiled, Compiler};
use super::data::{Examples, Reading};
use super::decoder::{check_decoder, started};
use super::emit::Emitter;
use super::input_limits::{self, BatchShape};
use super::keys::Keys;
use super::opened::{open_engine, open_model, record, tokenizer};
use super::packed::pack_rows;
use super::slices::{StepShape, update_is_cheap};
use super::steps::{Shaped, Steps};
use super::stream::{self, RowStream};
use super::targets::{adaptations, named_targets, passed_over};
use super::task::{check_metrics, masking, of_teacher, resolved_task, taught};
use super::{data, language, sampler, tokens, update};
use crate::arrays;
use crate::base;
use crate::engine::Engine;
use crate::error::Error;
use crate::inputs::{DECODER_FIELDS, caches, feeds, name_fields, seeing};
use crate::output::{DataCard, InputRecord};
use crate::pipeline::{BatchChoice, CheckpointOptions, Deploy, Loaded, Pipeline, Split};
use crate::progress::Progress;
use crate::served::Served;
use crate::source::{Resolved, Resolver};
use crate::task::{LOGITS, TaskChoice};
use crate::writing::{Adapted, Parts, Texts};
use lorac_data::{Dataset, Sampler, Tokenizer};
use lorac_ir::Graph;
use lorac_models::ModelKind;
use lorac_onnx::Model;
use lorac_passes::{Caches, Delta, FirstLook, Method, MethodChoice, Target, Training, UpdateSpec, readable};
use lorac_train::{Feeds, Generate, LearningRate, PAIR_MASK, Prediction};
use std::path::Path;

/// A run about to start.
pub struct Plan {
    /// The base model.
    pub model: Model,
    /// What its configuration says of it.
    pub kind: Option<ModelKind>,
    /// Its graph with functions inlined and facts inferred.
    pub readable: Graph,
    /// What it is to learn.
    pub task: TaskChoice,
    /// How it is adapted.
    pub methods: Vec<MethodChoice>,
    /// Its graphs.
    pub training: Training,
    /// What is looked at before the first step, where params begin with what is found.
    pub look: Option<FirstLook>,
    /// The model's names for a batch.
    pub feeds: Feeds,
    /// Inputs that are caches without an entry.
    pub caches: Caches,
    /// The engine.
    pub engine: Engine,
    /// The examples to train on; of a stream, the first ones.
    pub train: Dataset,
    /// Where all of them come from, where they are never there all at once.
    pub stream: Option<RowStream>,
    /// The held-out examples; none where nothing is held out.
    pub eval: Dataset,
    /// The examples of a step.
    pub steps: StepShape,
    /// Rows of an evaluation batch.
    pub eval_batch: usize,
    /// Rows that the last of them is filled up to, 0 where it is not.
    pub eval_fill: usize,
    /// Order of the examples.
    pub sampler: Sampler,
    /// The learning rate.
    pub rate: LearningRate,
    /// What of the training is saved on the way, where that is asked for.
    pub checkpoint: Option<CheckpointOptions>,
    /// What the training depends on.
    pub keys: Keys,
    /// What the params are before the first step, where that is not drawn.
    pub init_from: Option<Resolved>,
    /// What became of the rows, and what the examples are like.
    pub card: DataCard,
    /// What was read.
    pub inputs: Vec<InputRecord>,
    /// Files of the tokenizer and the configuration, as they were read.
    pub beside: Beside,
    /// What those who run the deployed model need to know.
    pub served: Served,
    /// The texts that the model is judged by, where any metric is of them.
    pub texts: Option<Texts>,
    /// What comes out.
    pub deploy: Deploy,
    /// What the user should know before the training, and of the artifacts.
    pub notes: Vec<String>,
}

impl Plan {
    /// What becomes of weights, each with its method.
    pub fn deltas(&self) -> impl Iterator<Item = (&dyn Method, &Delta)> {
        self.training.deltas.iter().filter_map(|(i, delta)| Some((&**self.methods.get(*i)?, delta)))
    }

    /// Steps of an epoch; none where nobody has counted the examples of a stream.
    pub fn batches_per_epoch(&self) -> Option<u64> {
        match &self.stream {
            None => Some(self.sampler.batches_per_epoch() as u64),
            Some(stream) => stream.batches_per_epoch(self.steps.batch),
        }
    }

    /// What became of the rows; of a stream, of those that were read so far.
    pub fn data_card(&self) -> DataCard {
        let mut card = self.card.clone();
        if let Some(stream) = &self.stream {
            card.train.stream = Some(stream.card());
            card.warnings = card::warnings(&card);
        }
        card
    }

    /// The weights that change, and slices of them.
    pub fn targets(&self) -> Vec<&Target> {
        self.training.deltas.iter().map(|(_, d)| &d.target).collect()
    }
}

/// Resolves, reads, selects and compiles. Graphs are written into the folder `emit` after each of their passes, where
/// there is one.
///
/// # Errors
/// Everything that can be wrong before anything is trained.
pub fn plan(loaded: &Loaded, resolver: &Resolver, progress: &dyn Progress, emit: Option<&Path>) -> Result<Plan, Error> {
    going_on(loaded, resolver, progress, emit, None)
}

/// The same for a training that goes on: where `train.batch` is auto, with as many examples as it had.
///
/// # Errors
/// As [`plan`].
pub(super) fn going_on(
    loaded: &Loaded,
    resolver: &Resolver,
    progress: &dyn Progress,
    emit: Option<&Path>,
    batch: Option<usize>,
) -> Result<Plan, Error> {
    let p = &loaded.pipeline;
    let (mut inputs, mut notes) = (Vec::new(), Vec::new());
    let untied = p.adapt.iter().any(|method| method.unties());
    let (model_source, model) = open_model(&p.model, resolver, &p.task, untied)?;
    inputs.push(record("model", &model_source));
    let mut base = readable(&model.graph, &model.functions)?;
    let kind = base::kind_of(&model_source);
    let (mut feeds, caches) = fed(loaded, &mut base, kind.as_ref())?;
    notes.extend(seen(&feeds));
    let asked = taught(&p.task, resolver, &mut inputs)?;
    let (chosen, labels_from) = resolved_task(loaded, &asked, &model, &base, &model_source, resolver, &mut notes)?;
    let chosen = if p.text_metrics().is_empty() { chosen } else { chosen.generating().unwrap_or(chosen) };
    check_metrics(loaded, &chosen)?;
    let mut shape = BatchShape::of(p, &base, &feeds);
    if p.data.splits().any(|(_, split)| split.block.is_none()) {
        shape.fit(loaded, &base)?;
    }
    let (tokenizer, tokenizer_sum, mut beside) = match reads_texts(p) {
        true => {
            let (tokenizer, sum, beside) = tokenizer(p, shape.max_length, &model_source, resolver, &mut inputs)?;
            (Some(tokenizer), sum, beside)
        }
        false => (None, None, Beside::default()),
    };
    beside.read_config(&model_source)?;
    let methods = tokens::numbered(loaded, tokenizer.as_ref())?;
    let adaptations = adaptations(loaded, &methods, &base)?;
    check_decoder(loaded, &base, &feeds)?;
    let chosen = started(loaded, chosen, beside.decoder_start())?;
    let preprocess = match p.data.train.first().is_some_and(Split::is_images) {
        true => Some(arrays::preprocess(loaded, &base, &feeds, &model_source, None, &mut notes)?),
        false => None,
    };

    let reading = Reading { graph: &base, tokenizer: tokenizer.as_ref(), preprocess: preprocess.as_ref() };
    stream::check_texts(loaded)?;
    let Examples { mut train, mut weights, mut eval, asked, mut stream, mut card, files, cached } =
        data::examples(&p.data, &*chosen, reading, resolver)?;
    card.labels_from = labels_from;
    let counts: Vec<(String, usize)> = card.train.labels.iter().map(|l| (l.name.clone(), l.examples)).collect();
    let counted = chosen.counted(&counts, train.len());
    stream::check_counts(loaded, stream.as_ref(), counted.is_some())?;
    let chosen = counted.unwrap_or(chosen);
    let task = &*chosen;
    inputs.extend(files.iter().map(|(path, file)| record(&format!("data.{path}"), file)));
    let examples = train.len();
    if p.data.pack {
        card.train.packed = Some(pack_rows(task, &mut train, &mut eval, &mut weights, shape.max_length));
    }
    let (mut train, mut eval) = (Dataset::new(train, shape.pad), Dataset::new(eval, shape.pad));
    if let (Some(share), Some(tokenizer)) = (chosen.hides(), &tokenizer) {
        let masking = masking(loaded, share, tokenizer)?;
        (train.masking, eval.masking) = (Some(masking.clone()), Some(masking));
    }
    if tokenizer.is_none() {
        arrays::fit(&base, &feeds, &mut train, "data.train")?;
        arrays::fit(&base, &feeds, &mut eval, "data.eval")?;
    }
    let held = p.data.eval.as_ref().map_or(&[][..], |held| held.sources());
    for (splits, data, name) in [(&p.data.train[..], &train, "data.train"), (held, &eval, "data.eval")] {
        let blocks = splits.iter().any(|split| split.block.is_some());
        let key = if blocks { format!("{name}.block") } else { "data.max_length".to_string() };
        shape.check(data, name, &key)?;
        input_limits::check(&base, data, name, &key)?;
        if let Some(teacher) = chosen.taught_by() {
            input_limits::check(teacher, data, name, &key)?;
        }
    }
    shape.count_rows(loaded, &[("data.train", &train), ("data.eval", &eval)], task.fills())?;
    feeds.inputs.extend(chosen.taught_by().map_or(Ok(Vec::new()), |teacher| of_teacher(teacher, &base))?);

    let evaluated = if eval.is_empty() { train.len() } else { eval.len() };
    let mut eval_batch = shape.rows(p.train.eval_batch, evaluated);
    if let Some(packed) = card.train.packed.as_ref().filter(|_| eval.is_empty() && shape.fixed_rows().is_none()) {
        // What is verified of rows of several examples is of as many examples, not rows.
        eval_batch = (eval_batch as f64 / packed.examples_per_row).ceil() as usize;
    }
    let init_from = p.train.init_from.as_ref().map(|spec| resolver.resolve(&spec.source, spec.sha256.as_deref()));
    let init_from = init_from.transpose()?;
    inputs.extend(init_from.iter().map(|found| record("train.init_from", found)));
    let engine = open_engine(p, resolver)?;
    if !engine.sha256.is_empty() {
        let (role, source, sha256) = ("runtime".to_string(), engine.source.clone(), engine.sha256.clone());
        inputs.push(InputRecord { role, path: source.clone(), source, sha256 });
    }
    if let Some(why) = &engine.fallback {
        progress.warning(&format!("the embedded engine is used: {why}"));
    }
    let compiler = Compiler { loaded, base: &base, objective: task, engine: &engine, caches: &caches, train: &train };
    let mut emitter = Emitter::new(emit)?;
    // Of a stream, what comes later may be as long as anything may.
    let row = train.widest(if stream.is_some() { shape.max_length } else { 0 });
    let held = if eval.is_empty() { row.clone() } else { eval.widest(0) };
    let shaping = Steps {
        loaded,
        task,
        shape: &shape,
        compiler: &compiler,
        adaptations: &adaptations,
        feeds: &feeds,
        stream: stream.as_ref(),
        row: &row,
        cheap: update_is_cheap(&base, &adaptations),
    };
    let Shaped { steps, training, feeds, notes: said, eval_batch, chosen: batch } =
        shaping.shaped(batch, (&held, eval_batch), &mut emitter)?;
    notes.extend(said);
    language::vocabulary(loaded, task, &base, &training.prediction, [&train, &eval])?;
    named_targets(loaded, &training)?;
    let mut sampler = sampler(&train, steps.batch, p.train.seed, p.train.by_length)?;
    if !weights.is_empty() {
        sampler = sampler.weighted(&weights)?;
    }
    card.train.drawn = sampler.draws() * examples / train.len().max(1);
    let left = passed_over(&adaptations, &base);
    let said = (&mut emitter, progress);
    let Compiled { training, look, methods, ranks } =
        compiler.looking((training, methods.clone()), &steps, (&feeds, &sampler), said)?;
    emitter.finish()?;
    let total = match &mut stream {
        None => p.train.total_steps(sampler.batches_per_epoch()),
        Some(stream) => {
            notes.push(stream.prepare(p, task, progress)?);
            let per_epoch = stream.batches_per_epoch(steps.batch).and_then(|n| usize::try_from(n).ok());
            p.train.total_steps(per_epoch.unwrap_or(usize::MAX))
        }
    };
    update::fits(loaded, total as u64)?;
    let matrices = training.deltas.len();
    progress.line(&format!(
        "model     {}: {} nodes, {matrices} weights adapted, {} trainable parameters",
        p.model.source,
        model.node_count,
        training.trained_len()
    ));
    left.iter().for_each(|line| progress.line(line));
    for (split, card) in [("train", Some(&card.train)), ("eval", card.eval.as_ref())] {
        let Some(card) = card else { continue };
        let max_length = tokenizer.as_ref().map_or(0, Tokenizer::max_length);
        progress.line(&format!("data      {split}: {}", card.describe(max_length)));
        if tokenizer.is_some() {
            progress.line(&format!("tokens    {split}: {}", card.describe_tokens()));
        }
    }
    if !cached.is_empty() {
        progress.line(&format!("cache     tokens of data.{} are those of an earlier run", cached.join(", data.")));
    }
    if let Some(packed) = &card.train.packed {
        progress.line(&format!("packed    {}", packed.describe()));
    }
    card.warnings.iter().for_each(|warning| progress.warning(warning));
    let (absent, none) = (card.train.absent(), none_of(&card.train));
    notes.extend(absent.iter().map(|label| format!("{none} has the label `{label}`")));
    notes.extend(tokenizer.iter().flat_map(Tokenizer::notes).map(ToString::to_string));
    notes.extend(idle_threads(p.runtime.threads, std::thread::available_parallelism().map_or(1, usize::from)));
    let is_new = !base.outputs().iter().any(|v| base.name_of(*v) == training.prediction);
    if is_new && task.head().is_some() && training.prediction != LOGITS {
        let name = &training.prediction;
        notes.push(format!("the output of the head is `{name}`: the model has something called `{LOGITS}` already"));
    }
    notes.iter().for_each(|note: &String| progress.line(&format!("note      {note}")));
    if let Some(note) = &shape.note {
        progress.line(&format!("shape     {note}"));
    }
    if let Some(said) = steps.describe() {
        progress.line(&format!("slices    {said}"));
    }
    progress.line(&format!("runtime   {}: {}", engine.backend.name(), engine.backend.reason()));
    // What the task leaves to the model counts as well.
    let mut decided = Pipeline { task: chosen.clone(), ..p.clone() };
    decided.train.batch = batch.map_or(p.train.batch, BatchChoice::Examples);
    let mut keys = Keys::of(&decided, &inputs, tokenizer_sum.as_deref());
    if !ranks.is_empty() {
        keys.decide("adapt.ranks", &ranks);
    }
    if let Some(preprocess) = &preprocess {
        keys.decide("data.images", preprocess);
    }
    let served = Served::of(p, &base, &*chosen, &training, &feeds, tokenizer.as_ref(), &inputs);
    let mut served = Served { images: preprocess, ..served };
    let texts = match &tokenizer {
        Some(tokenizer) if chosen.prediction() == Prediction::Tokens => {
            served.ends = beside.ends(tokenizer);
            let adaptations = |graph: &Graph| super::targets::adaptations(loaded, &methods, graph);
            let trained = Adapted {
                adaptations: &adaptations,
                update: UpdateSpec::of(&*p.train.optimizer),
                layout: &training.layout,
            };
            let parts = |settings: &Generate| Parts {
                model: &model,
                base: &base,
                feeds: &feeds,
                caches: &caches,
                names: &p.data.inputs,
                objective: &*chosen,
                trained: Some(trained),
                backend: engine.backend.as_ref(),
                source: Some(&model_source),
                settings: settings.clone(),
                ends: served.ends.clone(),
                tokenizer: tokenizer.clone(),
                rows: p.train.eval_batch,
                multiple: p.data.pad_to_multiple,
                start: chosen.decoder_start(),
            };
            chosen.generation().map(|settings| Texts::compile(parts(settings), asked)).transpose()?
        }
        _ => None,
    };
    if let Some(texts) = &texts {
        progress.line(&format!("texts     {}", texts.describe()));
        texts.notes().iter().for_each(|note| progress.line(&format!("note      {note}")));
        notes.extend(texts.notes());
    }
    Ok(Plan {
        texts,
        kind,
        model,
        readable: base,
        task: chosen.clone(),
        methods,
        training,
        look,
        feeds,
        caches,
        engine,
        steps,
        eval_batch,
        eval_fill: if chosen.fills() { eval_batch } else { 0 },
        train,
        stream,
        eval,
        sampler,
        rate: p.train.learning_rate(total as u64),
        checkpoint: p.train.checkpoint.clone(),
        init_from,
        keys,
        beside,
        served,
        card,
        inputs,
        deploy: p.deploy.clone(),
        notes,
    })
}

/// What is said of a mask of pairs of tokens that shows a token what follows it, where nothing says that the model is an encoder.
fn seen(feeds: &Feeds) -> Option<String> {
    let mask = feeds.inputs.iter().find(|binding| binding.field == PAIR_MASK)?;
    let is_known = feeds.inputs.iter().any(|binding| binding.field == DECODER_FIELDS[0]);
    (!is_known).then(|| {
        format!(
            "the mask `{}` lets tokens see those that follow them: neither caches nor a configuration show the model to be a decoder",
            mask.input
        )
    })
}

/// Whether the model is fed texts.
pub(crate) fn reads_texts(p: &Pipeline) -> bool {
    p.data.train.first().is_none_or(|split| p.task.inputs(split).reads_texts())
}

/// What the inputs of a model are fed with, and which of them are caches; what its inputs stand for is noted in the graph.
///
/// # Errors
/// Inputs that stand for nothing, and names of none.
pub(crate) fn fed(loaded: &Loaded, graph: &mut Graph, kind: Option<&ModelKind>) -> Result<(Feeds, Caches), Error> {
    let p = &loaded.pipeline;
    if let Some(split) = p.data.train.first().filter(|_| !reads_texts(p)) {
        if split.is_images() {
            return Ok((arrays::image_feeds(loaded, graph)?, Caches::default()));
        }
        let inputs = p.task.inputs_of(split, graph);
        let single = p.data.train.len() == 1;
        let path = match split.arrays.is_empty() {
            true => format!("task.{}.inputs", p.task.name()),
            false => format!("data.train{}.arrays", if single { "" } else { ".0" }),
        };
        return Ok((arrays::feeds(loaded, graph, &inputs.fields(), &path)?, Caches::default()));
    }
    name_fields(graph, &p.data.inputs).map_err(|wrong| Box::new(loaded.errors_at(wrong)))?;
    let feeds = seeing(feeds(graph)?, p.task.is_causal(), kind);
    let caches = caches(graph, &feeds);
    caches.switch_off(graph)?;
    Ok((feeds, caches))
}

/// What is said of more threads than the process has cores.
fn idle_threads(threads: Option<usize>, cores: usize) -> Option<String> {
    let threads = threads.filter(|threads| *threads > cores)?;
    Some(format!("runtime.threads is {threads}, and this process has {cores} cores: more threads only wait"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn more_threads_than_cores_are_told_of() {
        assert_eq!((idle_threads(None, 2), idle_threads(Some(2), 2)), (None, None));
        let note = idle_threads(Some(512), 2).expect("too many");
        assert!(note.starts_with("runtime.threads is 512, and this process has 2 cores"), "{note}");
    }
}
