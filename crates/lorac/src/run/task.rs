//! The task of a run: with its teacher, with what it leaves to the model and the data, and what it hides.

use super::labels::{self, labels_of_data};
use super::opened::record;
use crate::base;
use crate::error::Error;
use crate::inputs::FIELDS;
use crate::module_paths::ModulePaths;
use crate::output::{InputRecord, LabelsFrom};
use crate::pipeline::Loaded;
use crate::source::{Resolved, Resolver};
use crate::task::{LABELS, Subject, TaskChoice, Teacher};
use lorac_config::{Check, Problem, Problems};
use lorac_data::{Masking, Tokenizer};
use lorac_ir::{DType, Graph};
use lorac_onnx::Model;
use lorac_train::{Binding, Prediction};
use std::cell::OnceCell;

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
