//! Everything that a run needs, found and checked before anything is trained.

use super::beside::Beside;
use super::data::{Examples, Reading};
use super::decoder::{check_decoder, started};
use super::emit::Emitter;
use super::input_limits::{self, BatchShape};
use super::keys::Keys;
use super::labels::{self, labels_of_data};
use super::slices::{StepShape, update_is_cheap};
use super::stream::{self, RowStream};
use super::targets::{adaptations, named_targets, passed_over};
use super::texts::{Planned, texts};
use super::{data, language, memory, sampler, tokens, update};
use crate::arrays;
use crate::base;
use crate::engine::{self, Engine};
use crate::error::Error;
use crate::inputs::{FIELDS, caches, feeds, name_fields};
use crate::module_paths::ModulePaths;
use crate::output::{DataCard, InputRecord, LabelsFrom, sha256_file};
use crate::pipeline::{CheckpointOptions, Deploy, Loaded, Pipeline, SourceSpec, Split};
use crate::progress::Progress;
use crate::served::Served;
use crate::source::{Resolved, Resolver, Source};
use crate::task::{LABELS, LOGITS, Subject, TaskChoice, Teacher};
use crate::writing::Texts;
use lorac_config::{Check, Problem, Problems};
use lorac_data::{ChatSettings, Dataset, Masking, Sampler, Tokenizer};
use lorac_ir::{DType, Graph};
use lorac_models::ModelKind;
use lorac_onnx::Model;
use lorac_passes::{
    Caches, Delta, FirstLook, Method, MethodChoice, Target, Training, TrainingSpec, UpdateSpec, first_look, readable,
    training_step,
};
use lorac_train::{Binding, Feeds, LearningRate, Prediction};
use std::cell::OnceCell;
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
    let p = &loaded.pipeline;
    let (mut inputs, mut notes) = (Vec::new(), Vec::new());
    let untied = p.adapt.iter().any(|method| method.unties());
    let (model_source, model) = open_model(&p.model, resolver, &p.task, untied)?;
    inputs.push(record("model", &model_source));
    let mut base = readable(&model.graph, &model.functions)?;
    let (mut feeds, caches) = fed(loaded, &mut base)?;
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
    let Examples { train, weights, eval, asked, mut stream, mut card, files } =
        data::examples(&p.data, &*chosen, reading, resolver)?;
    card.labels_from = labels_from;
    let counts: Vec<(String, usize)> = card.train.labels.iter().map(|l| (l.name.clone(), l.examples)).collect();
    let counted = chosen.counted(&counts, train.len());
    stream::check_counts(loaded, stream.as_ref(), counted.is_some())?;
    let chosen = counted.unwrap_or(chosen);
    let task = &*chosen;
    inputs.extend(files.iter().map(|(path, file)| record(&format!("data.{path}"), file)));
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
    let cheap = update_is_cheap(&base, &adaptations);
    let steps = StepShape::of(&p.train, &shape, &train, engine.backend.device(), cheap);
    let steps = match &stream {
        Some(_) => steps.of_stream(&p.train, &shape, train.pad.length(shape.max_length)),
        None => steps,
    };
    let mut steps = if task.whole_batch() { steps.whole(loaded, &shape, task.fills())? } else { steps };
    let spec = |steps: &StepShape| TrainingSpec {
        adaptations: &adaptations,
        objective: task,
        update: UpdateSpec {
            optimizer: &*p.train.optimizer,
            clip: p.train.clip.limit(),
            groups: p.train.groups(),
            slices: steps.sliced,
            average: p.train.ema,
        },
        dialect: engine.backend.dialect(),
        tokens: Some(steps.tokens(&train)).filter(|tokens| *tokens > 0),
        caches: caches.clone(),
    };
    let mut emitter = Emitter::new(emit)?;
    let mut compile = |steps: &StepShape| {
        let written = training_step(&base, &spec(steps), &mut |graph| emitter.write(graph));
        written.map_err(|e| update::error(loaded, e))
    };
    let mut training = compile(&steps)?;
    feeds.inputs.push(target_input(task.prediction(), &training.names.targets));
    if let Some(limit) = p.train.memory {
        let within = memory::Within { loaded, limit, feeds: &feeds };
        let fewest = |most: usize| if task.whole_batch() || shape.fixed_rows().is_some() { most } else { 1 };
        let all = shape.fixed_rows().unwrap_or_else(|| steps.rows(&train));
        let rows = within.rows(&training.step, &train, fewest(all), all)?;
        if rows < all {
            steps = steps.within(rows, &train);
            training = compile(&steps)?;
        }
        let held = if eval.is_empty() { &train } else { &eval };
        eval_batch = within.rows(&training.eval, held, fewest(eval_batch), eval_batch)?;
        let longest = train.pad.length(train.lengths().into_iter().max().unwrap_or(0));
        notes.push(format!(
            "within {limit}, {rows} rows of {longest} tokens are computed at once, and {eval_batch} evaluated"
        ));
    }
    emitter.finish()?;
    let look = first_look(&base, &spec(&steps), &training).map_err(|e| update::error(loaded, e))?;
    language::vocabulary(loaded, task, &base, &training.prediction, [&train, &eval])?;
    named_targets(loaded, &training)?;
    let mut sampler = sampler(&train, steps.batch, p.train.seed, p.train.by_length)?;
    if !weights.is_empty() {
        sampler = sampler.weighted(&weights)?;
    }
    card.train.drawn = sampler.draws();
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
    for line in passed_over(&adaptations, &base) {
        progress.line(&line);
    }
    for (split, card) in [("train", Some(&card.train)), ("eval", card.eval.as_ref())] {
        let Some(card) = card else { continue };
        let max_length = tokenizer.as_ref().map_or(0, Tokenizer::max_length);
        progress.line(&format!("data      {split}: {}", card.describe(max_length)));
        if tokenizer.is_some() {
            progress.line(&format!("tokens    {split}: {}", card.describe_tokens()));
        }
    }
    card.warnings.iter().for_each(|warning| progress.warning(warning));
    let absent = card.train.absent();
    notes.extend(absent.iter().map(|label| format!("no example to train on has the label `{label}`")));
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
    let decided = Pipeline { task: chosen.clone(), ..p.clone() };
    let mut keys = Keys::of(&decided, &inputs, tokenizer_sum.as_deref());
    if let Some(preprocess) = &preprocess {
        keys.decide("data.images", preprocess);
    }
    let served = Served::of(p, &base, &*chosen, &training, &feeds, tokenizer.as_ref(), &inputs);
    let mut served = Served { images: preprocess, ..served };
    let texts = match &tokenizer {
        Some(tokenizer) if chosen.prediction() == Prediction::Tokens => {
            served.ends = beside.ends(tokenizer);
            let of = Planned {
                loaded,
                source: &model_source,
                model: &model,
                base: &base,
                feeds: &feeds,
                caches: &caches,
                task: &chosen,
                methods: &methods,
                training: &training,
                engine: &engine,
                tokenizer,
                ends: &served.ends,
            };
            texts(&of, asked)?
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
        kind: base::kind_of(&model_source),
        model,
        readable: base,
        task: chosen.clone(),
        methods: methods.clone(),
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

/// The task with its teacher, where it has one, which is read.
///
/// # Errors
/// What cannot be found, read or rewritten.
pub(crate) fn taught(
    task: &TaskChoice,
    resolver: &Resolver,
    inputs: &mut Vec<InputRecord>,
) -> Result<TaskChoice, Error> {
    let Some(spec) = task.teacher() else { return Ok(task.clone()) };
    let found = resolver.resolve(&spec.source, spec.sha256.as_deref())?;
    inputs.push(record("task.teacher", &found));
    let model = base::open_form(&found, resolver, task.form(base::kind_of(&found).as_ref()), false)?;
    Ok(task.with_teacher(Teacher::of(model)?).unwrap_or_else(|| task.clone()))
}

/// Inputs of a teacher that the model does not have, each with the field that is for it.
pub(crate) fn of_teacher(teacher: &Graph, model: &Graph) -> Result<Vec<Binding>, Error> {
    let mut bindings = Vec::new();
    for id in teacher.inputs() {
        let (name, fact) = (teacher.name_of(*id), teacher.fact(*id));
        if model.input(&name).is_some() || model.inputs().iter().any(|own| model.name_of(*own) == name) {
            continue;
        }
        if !FIELDS.contains(&name.as_str()) {
            let own: Vec<String> = model.inputs().iter().map(|own| model.name_of(*own)).collect();
            let why = format!(
                "the teacher's input `{name}` {fact} is fed with nothing: it reads what the model does, `{}`, and {}",
                own.join("`, `"),
                FIELDS.join(", ")
            );
            return Err(Error::Usage(why));
        }
        bindings.push(Binding { field: name.clone(), input: name, dtype: fact.dtype });
    }
    Ok(bindings)
}

/// Which tokens are hidden.
pub(crate) fn masking(loaded: &Loaded, share: f64, tokenizer: &Tokenizer) -> Result<Masking, Error> {
    let Some(mask) = tokenizer.mask_id() else {
        let message = "the tokenizer has no token for what is hidden: neither mask_token nor [MASK] nor <mask>";
        let help = Some("take the tokenizer of a model that was trained so, or task: causal_lm".to_string());
        let problem = Problem { path: "task".into(), code: "pipeline::mask", message: message.into(), help };
        return Err(Box::new(loaded.errors_at(vec![problem])).into());
    };
    let vocabulary = u32::try_from(tokenizer.vocab_size()).unwrap_or(u32::MAX);
    let (seed, share) = (loaded.pipeline.train.seed, Masking::share_of(share));
    Ok(Masking { seed, share, mask, special: tokenizer.special_ids(), vocabulary, before: 0 })
}

/// Whether the model is fed texts.
pub(crate) fn reads_texts(p: &Pipeline) -> bool {
    p.data.train.first().is_none_or(|split| p.task.inputs(split).reads_texts())
}

/// What the inputs of a model are fed with, and which of them are caches; what its inputs stand for is noted in the graph.
///
/// # Errors
/// Inputs that stand for nothing, and names of none.
pub(crate) fn fed(loaded: &Loaded, graph: &mut Graph) -> Result<(Feeds, Caches), Error> {
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
    let feeds = feeds(graph)?;
    let caches = caches(graph, &feeds);
    caches.switch_off(graph)?;
    Ok((feeds, caches))
}

/// What is said of more threads than the process has cores.
fn idle_threads(threads: Option<usize>, cores: usize) -> Option<String> {
    let threads = threads.filter(|threads| *threads > cores)?;
    Some(format!("runtime.threads is {threads}, and this process has {cores} cores: more threads only wait"))
}

/// The input of targets.
pub(crate) fn target_input(kind: Prediction, input: &str) -> Binding {
    let dtype = match kind {
        Prediction::Labels | Prediction::Values | Prediction::Embeddings | Prediction::Loss => DType::F32,
        Prediction::Classes | Prediction::Tags | Prediction::Tokens | Prediction::Masked => DType::I64,
    };
    Binding { field: LABELS.into(), input: input.into(), dtype }
}

/// The task, with what it leaves to the model and the training set, and who has named its labels.
pub(crate) fn resolved_task(
    loaded: &Loaded,
    task: &TaskChoice,
    model: &Model,
    graph: &Graph,
    source: &Resolved,
    resolver: &Resolver,
    notes: &mut Vec<String>,
) -> Result<(TaskChoice, Option<LabelsFrom>), Error> {
    let data = &loaded.pipeline.data;
    let kind = base::kind_of(source);
    let classes = || ModulePaths::new(model, graph, kind.clone()).classes();
    let labels = kind.as_ref().map_or(&[][..], |kind| &kind.labels);
    let columns = data.train.first().and_then(|split| split.label.as_ref());
    let columns = columns.map_or(&[][..], |label| label.all());
    let columns = if columns.len() > 1 { columns } else { &[] };
    let read = OnceCell::new();
    let of_data = || read.get_or_init(|| labels_of_data(data, &**task, resolver)).as_ref().ok().cloned();
    let resolved = task.resolved(&Subject { graph, labels, columns, of_data: &of_data, classes: &classes });
    let of_data = read.into_inner().transpose()?;
    let at_task = |mut problem: Problem| {
        let below = if problem.path.is_empty() { String::new() } else { format!(".{}", problem.path) };
        problem.path = format!("task.{}{below}", task.name());
        problem
    };
    let resolved = resolved.map_err(|problem| Box::new(loaded.errors_at(vec![at_task(problem)])))?;
    let Some(found) = resolved else { return Ok((task.clone(), None)) };
    notes.extend(found.notes);
    let (given, names) = (task.labels(), found.task.labels());
    let from = match () {
        () if names.is_empty() => None,
        () if !given.is_empty() => Some(LabelsFrom::Pipeline),
        () if of_data.as_deref() == Some(names) || columns == names => Some(LabelsFrom::Data),
        () => Some(LabelsFrom::Model),
    };
    if given.is_empty() && !names.is_empty() {
        let mut problems = Problems::default();
        found.task.check(&mut problems);
        let said = (of_data.as_deref() == Some(names)).then(|| labels::said(names));
        let with_help = |problem: Problem| Problem { help: problem.help.clone().or(said.clone()), ..problem };
        let problems: Vec<Problem> = problems.finish().into_iter().map(at_task).map(with_help).collect();
        if !problems.is_empty() {
            return Err(Box::new(loaded.errors_at(problems)).into());
        }
        notes.extend(said);
    }
    Ok((found.task, from))
}

/// Refuses metrics that say nothing of as many classes as the task turns out to have.
pub(crate) fn check_metrics(loaded: &Loaded, task: &TaskChoice) -> Result<(), Error> {
    let mut problems = Problems::default();
    let classes = Some(task.labels().len()).filter(|classes| *classes > 0);
    problems.within("metrics", |p| loaded.pipeline.metrics.check_task(task.prediction(), classes, p));
    let problems = problems.finish();
    if problems.is_empty() { Ok(()) } else { Err(Box::new(loaded.errors_at(problems)).into()) }
}

/// The model, and its source with the sum of all its files.
fn open_model(
    spec: &SourceSpec,
    resolver: &Resolver,
    task: &TaskChoice,
    untied: bool,
) -> Result<(Resolved, Model), Error> {
    let pin = spec.sha256.as_deref();
    let resolve = || match pin {
        Some(pin) => resolver.resolve_for_pin(&spec.source, pin),
        None => resolver.resolve(&spec.source, None),
    };
    let source = resolve()?;
    let form = task.form(base::kind_of(&source).as_ref());
    let model = match base::open_form(&source, resolver, form, untied) {
        Ok(model) => model,
        // Another file than the pinned one is the likelier mistake.
        Err(error) => return Err(source.check(pin).map_or_else(Error::from, |()| error)),
    };
    // The sum of a folder has them already; a model built from another file has none of the user's. What was read
    // counts, not what the path leads to by now.
    let stored = pin.is_none() && !matches!(spec.source, Source::Path(_)) && model.external_files().next().is_none();
    let source = match source.path == model.path {
        true if stored => source,
        true => {
            model.check_unchanged()?;
            let beside = model.external_contents().map(|(path, bytes)| (path, &bytes[..]));
            source.with_contents(&model.file, beside)
        }
        // Of a pinned folder nothing may have changed while it was read.
        false if pin.is_some() => resolve()?,
        false => source,
    };
    source.check(pin)?;
    Ok((source, model))
}

/// The tokenizer, and the sums of its files where they are none of the inputs.
fn tokenizer(
    p: &Pipeline,
    max_length: usize,
    model: &Resolved,
    resolver: &Resolver,
    inputs: &mut Vec<InputRecord>,
) -> Result<(Tokenizer, Option<String>, Beside), Error> {
    let found = match &p.tokenizer {
        Some(t) => Some(resolver.resolve(&t.source, t.sha256.as_deref())?),
        None => None,
    };
    inputs.extend(found.iter().map(|found| record("tokenizer", found)));
    let (tokenizer, sum, beside) = match &found {
        Some(found) => {
            let path = &found.path;
            let file = if path.is_dir() { path.join("tokenizer.json") } else { path.clone() };
            let may_read = |file: &Path| found.has(file);
            (Tokenizer::from_files(&file, max_length, &may_read)?, None, Beside::of_tokenizer(&file, &may_read)?)
        }
        None => {
            let file = base::tokenizer(model, resolver)?;
            let may_read = |beside: &Path| file.is_of(model, beside);
            let tokenizer = Tokenizer::from_files(&file.path, max_length, &may_read)?;
            let beside = Beside::of_tokenizer(&file.path, &may_read)?;
            let more = ["tokenizer_config.json", "chat_template.jinja"].map(|name| file.path.with_file_name(name));
            let files = [file.path.clone()].into_iter().chain(more).collect::<Vec<_>>();
            let read = files.iter().filter(|f| **f == file.path || file.is_of(model, f) && f.is_file());
            let sums = read.map(|file| Ok(sha256_file(file)?.0)).collect::<Result<Vec<_>, Error>>()?;
            model.unchanged()?;
            let tokenizer = match base::chat(model)? {
                Some(keys) => tokenizer.with_chat(ChatSettings::of_config(&keys)),
                None => tokenizer,
            };
            (tokenizer, Some(sums.join("+")), beside)
        }
    };
    found.map_or(Ok(()), |found| found.unchanged())?;
    match p.data.truncate {
        Some(truncate) => Ok((tokenizer.truncated(truncate)?, sum, beside)),
        None => Ok((tokenizer, sum, beside)),
    }
}

pub(crate) fn open_engine(p: &Pipeline, resolver: &Resolver) -> Result<Engine, Error> {
    let choice = p.runtime.source.choice(p.runtime.sha256.as_deref());
    engine::open(&choice, &p.runtime.options(), resolver)
}

fn record(role: &str, r: &Resolved) -> InputRecord {
    InputRecord {
        role: role.into(),
        source: r.source.clone(),
        sha256: r.sha256.clone(),
        path: r.path.display().to_string(),
    }
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
