//! What an adapter promises: the class that it is loaded into, and the modules of that class that it changes.

use super::more::{More, no_norm_inside, table, whole};
use crate::base;
use crate::module_paths::{Module, ModulePaths, own_path_of};
use crate::run::Plan;
use crate::source::{HubKind, Source};
use crate::task::{Class, HeadKind, is_logits};
use lorac_ir::ValueId;
use lorac_passes::{Delta, DeltaForm, Group, Matrix, Param, ReadAs, Target, group_by_weight, hidden_states, matrices};
use std::collections::BTreeMap;
use std::path::Path;

/// What an adapter promises.
pub(super) struct Contract<'a> {
    /// The class.
    pub(super) class: Class,
    /// What a head in a file beside is put on: an output of the model.
    pub(super) input: Option<String>,
    /// Whether the model type is known.
    pub(super) known: bool,
    /// The modules that each matrix is the weight of, and its branches. Slices of one matrix are together.
    pub(super) modules: Vec<Adapted<'a>>,
    /// The modules that are scaled (IA3).
    pub(super) scaled: Vec<Named<&'a Delta>>,
    /// Tables some of whose rows are trained: each with its module.
    pub(super) tokens: Vec<(String, &'a Delta)>,
    /// What of the head the adapter holds, and other modules that are trained in full; nothing where the head is a file beside.
    pub(super) saved: Vec<Saved<'a>>,
    /// Biases that are trained with the branches.
    pub(super) biases: Vec<Saved<'a>>,
}

/// A tensor of the head, by its key in the class.
pub(super) struct Saved<'a> {
    pub(super) key: String,
    pub(super) of: SavedOf<'a>,
}

/// Where it is.
#[derive(Clone, Copy)]
pub(super) enum SavedOf<'a> {
    /// A param of a new head.
    Param(&'a Param),
    /// A weight of the model, which may be trained; stored `[in, out]` where it is `turned`.
    Weight { weight: ValueId, turned: bool },
}

/// A matrix, or a slice of one that is a module of its own.
pub(super) struct Adapted<'a> {
    /// The modules whose weight it is.
    pub(super) names: Vec<Module>,
    /// Its branches.
    pub(super) branches: Vec<LowRank<'a>>,
    /// Whether it is a slice that is a module of its own.
    pub(super) apart: bool,
}

/// What becomes of a matrix, or of a slice of one that is a module of its own.
pub(super) struct Named<T> {
    /// The modules whose weight it is.
    pub(super) names: Vec<Module>,
    /// What becomes of it, or of its slices.
    pub(super) items: Vec<T>,
    /// Whether it is a slice that is a module of its own.
    pub(super) apart: bool,
}

/// A low-rank delta.
#[derive(Clone, Copy)]
pub(super) struct LowRank<'a> {
    pub(super) delta: &'a Delta,
    pub(super) a: &'a str,
    pub(super) b: &'a str,
    pub(super) rank: usize,
    pub(super) alpha: f64,
    pub(super) rslora: bool,
    pub(super) start: Option<&'a [String; 2]>,
    pub(super) magnitude: Option<&'a str>,
}

impl<'a> LowRank<'a> {
    fn of(delta: &'a Delta) -> Option<LowRank<'a>> {
        match &delta.form {
            DeltaForm::LowRank { a, b, rank, alpha, rslora, start, magnitude } => Some(LowRank {
                delta,
                a,
                b,
                rank: *rank,
                alpha: *alpha,
                rslora: *rslora,
                start: start.as_ref(),
                magnitude: magnitude.as_deref(),
            }),
            _ => None,
        }
    }

    /// Rows of A in the adapter: with those that are taken out of the weight.
    pub(super) fn stored_rank(&self) -> usize {
        self.rank * if self.start.is_some() { 2 } else { 1 }
    }

    /// What `B A` is multiplied by.
    pub(super) fn scale(&self) -> f64 {
        self.delta.form.scale().unwrap_or(1.0)
    }
}

/// Names of weights that an answer lists at most.
const LISTED: usize = 4;

impl<'a> Contract<'a> {
    /// What the adapter of a training promises.
    ///
    /// # Errors
    /// Why there can be none, in words.
    pub(super) fn of(plan: &'a Plan) -> Result<Contract<'a>, String> {
        let input = head_input(plan);
        let class = match input {
            Some(input) if is_logits(&plan.readable, input) => Class::CausalLm,
            _ => plan.task.class(),
        };
        let paths = ModulePaths::new(&plan.model, &plan.readable, plan.kind.clone());
        let mut saved = saved(plan, &paths, class)?;
        let (mut branches, mut biases, mut more) = (Vec::new(), Vec::new(), More::default());
        for (i, delta) in &plan.training.deltas {
            if saved.iter().any(|s| matches!(s.of, SavedOf::Weight { weight, .. } if weight == delta.target.weight)) {
                continue;
            }
            if plan.methods.get(*i).is_some_and(|method| method.yields(&delta.target)) {
                biases.push(delta.target.weight);
                continue;
            }
            let Some(branch) = LowRank::of(delta) else {
                more.add(delta, &plan.readable);
                continue;
            };
            branches.push(branch);
            if delta.target.matrix.as_ref().is_some_and(|m| m.read_as == ReadAs::Stack) {
                return Err(format!(
                    "`{}` is a stack of matrices, a parameter that no module of PyTorch's has for itself",
                    delta.target.name()
                ));
            }
            if delta.target.matrix.as_ref().is_some_and(|m| m.shared) {
                return Err(format!("PEFT adapts products, and `{}` is read otherwise too", delta.target.name()));
            }
        }
        more.check(&branches)?;
        let (modules, scaled) = (branches, more.scaled);
        let modules = named(plan, &paths, class, &modules, |b| &b.delta.target)?;
        let scaled = named(plan, &paths, class, &scaled, |d| &d.target)?;
        modules.iter().try_for_each(|named| no_norm_inside(plan, &named.items[0].delta.target))?;
        let adapted = |Named { names, items, apart }: Named<LowRank<'a>>| Adapted { names, branches: items, apart };
        let modules: Vec<Adapted> = modules.into_iter().map(adapted).collect();
        let tokens = more.rows.into_iter().map(|delta| Ok((table(plan, &paths, delta, class)?, delta)));
        let tokens = tokens.collect::<Result<Vec<_>, String>>()?;
        // What of a module is changed otherwise.
        let changed = |path: &str, weight: ValueId| {
            let is_of = |names: &[Module]| names.iter().any(|n| n.path == path);
            let kinds = [
                ("a branch", modules.iter().any(|m| is_of(&m.names))),
                ("scales", scaled.iter().any(|m| is_of(&m.names))),
                ("trained tokens", tokens.iter().any(|(of, delta)| of == path || delta.target.weight == weight)),
            ];
            kinds.into_iter().find(|(_, found)| *found).map(|(kind, _)| kind)
        };
        for delta in more.whole {
            for one in whole(plan, &paths, delta, class)? {
                let module = one.key.rsplit_once('.').map_or("", |(module, _)| module);
                let SavedOf::Weight { weight, .. } = one.of else { continue };
                if let Some(kind) = changed(module, weight) {
                    let name = &delta.target.weight_name;
                    return Err(format!("PEFT has no module with {kind} and `{name}` trained in full"));
                }
                if saved.iter().all(|s| s.key != one.key) {
                    saved.push(one);
                }
            }
        }
        let input = input.map(|input| plan.readable.name_of(input));
        let biases = biases.into_iter().map(|bias| bias_module(&paths, &modules, plan, bias, class));
        let biases = biases.collect::<Result<Vec<_>, String>>()?;
        Ok(Contract { class, input, known: paths.classes().is_some(), modules, scaled, tokens, saved, biases })
    }

    /// PEFT's name for the task.
    pub(super) fn task_type(&self) -> &'static str {
        match self.class {
            Class::Base | Class::MaskedLm => "FEATURE_EXTRACTION",
            Class::SequenceClassification => "SEQ_CLS",
            Class::TokenClassification => "TOKEN_CLS",
            Class::CausalLm => "CAUSAL_LM",
            Class::Seq2SeqLm => "SEQ_2_SEQ_LM",
        }
    }

    /// What kind of adapter it is, in words.
    pub(super) fn described(&self) -> &'static str {
        let dora = self.modules.iter().flat_map(|m| &m.branches).any(|b| b.magnitude.is_some());
        match (self.modules.is_empty(), self.scaled.is_empty()) {
            (false, _) if dora => "A DoRA adapter",
            (false, _) => "A LoRA adapter",
            (true, false) => "An adapter of IA3",
            (true, true) => "An adapter of trained tokens",
        }
    }

    /// The modules that hold what the head trains: one of them may hold several layers.
    pub(super) fn modules_to_save(&self) -> Vec<String> {
        let module = |saved: &Saved| match saved.key.split_once('.') {
            Some((head @ ("classifier" | "pre_classifier" | "score"), _)) => head.to_string(),
            _ => saved.key.rsplit_once('.').map_or(saved.key.as_str(), |(module, _)| module).to_string(),
        };
        let mut all: Vec<String> = self.saved.iter().map(module).collect();
        all.sort();
        all.dedup();
        all
    }

    /// What a user should know before the training.
    pub(super) fn notes(&self) -> Vec<String> {
        let mut notes = Vec::new();
        if self.input.is_some() {
            notes.push(format!(
                "the adapter is for {} ({}), its head a file beside it: no class of transformers has `head: linear`; `head: \
                 architecture` is that of AutoModelForSequenceClassification",
                self.class.auto(),
                self.task_type()
            ));
        }
        if !self.known {
            notes.push(
                "the adapter's module paths are those of the exported model: its type is not known, as no config.json lies \
                 beside it"
                    .to_string(),
            );
        }
        notes
    }
}

/// The module of a bias, by its name or by the matrix that it stands behind.
fn bias_module<'a>(
    paths: &ModulePaths,
    modules: &[Adapted],
    plan: &Plan,
    bias: ValueId,
    class: Class,
) -> Result<Saved<'a>, String> {
    let name = plan.readable.name_of(bias);
    let own = own_path_of(&name, "bias").map(|path| paths.path_in(path, class));
    let path = own.unwrap_or_else(|| {
        let behind = matrices(&plan.readable).into_iter().find(|m| paths.bias_of(m) == Some(bias));
        let modules =
            behind.ok_or_else(|| "its name is not that of a module".to_string()).and_then(|m| paths.of(&m, class));
        modules.and_then(|modules| match &modules[..] {
            [one] => Ok(one.path.clone()),
            _ => Err("it is that of several modules".into()),
        })
    });
    let path = path.map_err(|why| format!("the PyTorch module of the bias `{name}` is not known: {why}"))?;
    let inner = if modules.iter().any(|m| m.names.iter().any(|n| n.path == path)) { "base_layer." } else { "" };
    Ok(Saved { key: format!("{path}.{inner}bias"), of: SavedOf::Weight { weight: bias, turned: false } })
}

/// The modules whose weights become something else.
///
/// # Errors
/// Weights of which no module is known, and modules of several.
fn named<T: Copy>(
    plan: &Plan,
    paths: &ModulePaths,
    class: Class,
    items: &[T],
    target_of: impl Fn(&T) -> &Target,
) -> Result<Vec<Named<T>>, String> {
    let groups = group_by_weight(items, &target_of);
    let mut unnamed: Vec<(String, String)> = Vec::new();
    let mut modules: Vec<Named<T>> = Vec::new();
    for group in groups {
        let target = target_of(group[0]);
        let name = target.weight_name.as_str();
        let matrix = target.matrix().map_err(|e| e.to_string())?;
        let given = plan.deploy.peft.names.get(name);
        let found = match given {
            Some(path) => Ok(vec![Module { conv1d: paths.is_conv1d(path, matrix), path: path.clone() }]),
            None => paths.of(matrix, class),
        };
        match found {
            Ok(names) => {
                modules.push(Named { names, items: group.into_iter().copied().collect(), apart: false });
            }
            Err(why) => match slices(paths, matrix, &group, class, &target_of) {
                Some(slices) => modules.extend(slices),
                None => unnamed.push((name.to_string(), why)),
            },
        }
    }
    let mut owners: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for adapted in &modules {
        for module in &adapted.names {
            owners.entry(&module.path).or_default().push(&target_of(&adapted.items[0]).weight_name);
        }
    }
    for (path, weights) in owners.into_iter().filter(|(_, weights)| weights.len() > 1) {
        let why = format!("`{path}` is the module of {}", quoted(&weights));
        unnamed.extend(weights.iter().map(|w| (w.to_string(), why.clone())));
    }
    if let Some((first, why)) = unnamed.first() {
        let names: Vec<&str> = unnamed.iter().map(|(name, _)| name.as_str()).collect();
        return Err(format!(
            "the PyTorch modules of {} are not known (of `{first}`: {why}); name them under deploy.peft.names: {{ \
             {first:?}: MODULE.OF.{} }}",
            quoted(&names),
            class.auto()
        ));
    }
    Ok(modules)
}

/// The slices of a matrix that is several modules of the class.
fn slices<T: Copy>(
    paths: &ModulePaths,
    matrix: &Matrix,
    group: &[&T],
    class: Class,
    target_of: &impl Fn(&T) -> &Target,
) -> Option<Vec<Named<T>>> {
    let slice = |item: &&T| {
        let role = target_of(*item).slice.as_ref()?.role;
        let names = vec![paths.of_slice(matrix, role, class)?];
        Some(Named { names, items: vec![**item], apart: true })
    };
    group.iter().map(slice).collect()
}

/// The output that a head of no class is put on.
fn head_input(plan: &Plan) -> Option<ValueId> {
    let head = plan.task.head().filter(|head| head.kind == HeadKind::Linear)?;
    hidden_states(&plan.readable, head.hidden).ok()
}

/// What of the head an adapter holds: what a new one trains, or the one that the model has.
fn saved<'a>(plan: &'a Plan, paths: &ModulePaths, class: Class) -> Result<Vec<Saved<'a>>, String> {
    let Some(head) = plan.task.head() else { return own_head(plan, paths, class) };
    if head.kind == HeadKind::Linear {
        return Ok(Vec::new());
    }
    let trained: Vec<&Param> = plan.training.params.iter().filter(|p| p.group == Group::Head).collect();
    let all = head.paths();
    let own = &all[all.len().saturating_sub(trained.len())..];
    let saved = own.iter().zip(trained).map(|(path, param)| {
        let (module, end) = path.rsplit_once('.').unwrap_or((path, "weight"));
        let module = paths.classes().filter(|_| head.kind == HeadKind::Token).map_or(module, |c| c.token_head());
        Ok(Saved { key: format!("{}.{end}", paths.path_in(module, class)?), of: SavedOf::Param(param) })
    });
    saved.collect()
}

/// How names of modules end that PEFT keeps with every adapter of a classifier, trained or not, and does not load
/// one without.
const KEPT: [&str; 2] = ["classifier", "score"];

/// The head that a model has, as PEFT keeps it with the adapter, whatever of it is trained.
fn own_head<'a>(plan: &'a Plan, paths: &ModulePaths, class: Class) -> Result<Vec<Saved<'a>>, String> {
    if !matches!(class, Class::SequenceClassification | Class::TokenClassification) {
        return Ok(Vec::new());
    }
    let is_kept = |path: &str| path.split('.').any(|part| KEPT.iter().any(|end| part.ends_with(end)));
    let mut saved = Vec::new();
    for matrix in matrices(&plan.readable) {
        let path = paths.of(&matrix, class).ok().and_then(|modules| modules.into_iter().next());
        let Some(Module { path, .. }) = path.filter(|module| is_kept(&module.path)) else { continue };
        let of =
            |end: &str, weight, turned| Saved { key: format!("{path}.{end}"), of: SavedOf::Weight { weight, turned } };
        saved.push(of("weight", matrix.weight, !matrix.transposed));
        saved.extend(paths.bias_of(&matrix).map(|bias| of("bias", bias, false)));
    }
    match saved.is_empty() {
        false => Ok(saved),
        true => Err(format!(
            "PEFT keeps the head of {} with the adapter, and no weight of the model is known to be that of `{}`",
            class.auto(),
            KEPT.join("` or `")
        )),
    }
}

/// The path of the model that was resolved.
pub(super) fn model_path(plan: &Plan) -> &str {
    plan.inputs.iter().find(|i| i.role == "model").map_or("", |i| &i.path)
}

/// What `from_pretrained` takes for the base model, and its revision: of a file, the folder of its config.json.
pub(super) fn base_model(plan: &Plan, source: &Source) -> (String, Option<String>) {
    match source {
        Source::Hf { kind: HubKind::Model, org, name, revision, .. } => {
            (format!("{org}/{name}"), Some(revision.clone()).filter(|r| r != "main"))
        }
        Source::Path(path) => {
            let resolved = Path::new(model_path(plan));
            let beside = resolved.is_file() && resolved.parent().is_some_and(|f| base::model_kind(f).is_some());
            let folder = path.parent().filter(|f| beside && !f.as_os_str().is_empty());
            (folder.unwrap_or(path).display().to_string(), None)
        }
        other => (other.to_string(), None),
    }
}

/// Whether `from_pretrained` takes it: a model of the hub, or a folder with a config.json.
pub(super) fn is_pretrained(plan: &Plan, source: &Source) -> bool {
    match source {
        Source::Hf { kind: HubKind::Model, .. } => true,
        Source::Path(_) => base::model_kind(Path::new(model_path(plan))).is_some(),
        _ => false,
    }
}

/// The first of many names, and how many more there are.
fn quoted(names: &[&str]) -> String {
    let shown = names.iter().take(LISTED).map(|n| format!("`{n}`")).collect::<Vec<_>>().join(", ");
    match names.len() {
        more if more > LISTED => format!("{shown} and {} more", more - LISTED),
        _ => shown,
    }
}
