//! PEFT's variants: from the same adapter and the same batches every loss to 1e-4, the final adapter to 1e-3, the merged
//! weights to 2e-7, the logits of the model with the final adapter in its bytes to 1e-4. A test for each case, exporter and
//! engine; the cases are those of tests/data/peft2, or of the folder that `LORAC_TRUTH` names.

use libtest_mimic::{Arguments, Failed, Trial};
use lorac::inputs::{caches, feeds};
use lorac::ir::{Graph, Tensor, ValueId};
use lorac::onnx::Model;
use lorac::ops::{Array, array, tensor};
use lorac::passes::{
    Adaptation, Caches, Delta, DeltaForm, Dora, Full, Groups, Ia3, Init, Lora, LoraInit, Method, MethodChoice,
    Objective, Param, ParamGroup, Target, Tokens, Training, TrainingSpec, UpdateSpec, fold_all, for_dialect,
    group_by_weight, readable, training_step,
};
use lorac::runtime::Backend;
use lorac::task::CausalLm;
use lorac::train::{compile_graph, derive, training_program};
use lorac_tests::objective::FirstOutput;
use lorac_tests::variants::{Case, Change, Place, place, unfold};
use lorac_tests::{data, engines, largest_difference, relative_error};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

/// The weights that an adapter changes: their names in PyTorch, and where they are.
type Places = BTreeMap<String, Place>;

/// The cases that are committed.
const CASES: [&str; 15] = [
    "bert-bias-all",
    "bert-bias-lora",
    "bert-ia3",
    "bert-layers",
    "bert-olora",
    "bert-plus",
    "gpt2-dora",
    "gpt2-tokens",
    "llama-dora-patterns",
    "llama-orthogonal",
    "llama-pissa",
    "llama4-experts",
    "qwen3-tokens",
    "resnet-conv",
    "roberta-embedding",
];

/// Values of params by their names.
type Params = BTreeMap<String, Vec<f32>>;

fn main() -> ExitCode {
    let args = Arguments::from_args();
    let other = std::env::var_os("LORAC_TRUTH").map(PathBuf::from);
    let folder = other.clone().unwrap_or_else(|| data("peft2"));
    let cases = std::fs::read_dir(&folder).unwrap_or_else(|e| panic!("{}: {e}", folder.display()));
    let mut cases: Vec<PathBuf> =
        cases.flatten().map(|e| e.path()).filter(|path| path.join("case.json").exists()).collect();
    cases.sort();
    assert!(!cases.is_empty(), "{} has no folder with a case.json", folder.display());
    let name = |case: &PathBuf| case.file_name().unwrap_or_default().to_string_lossy().into_owned();
    assert!(other.is_some() || cases.iter().map(name).eq(CASES), "{cases:?} are not {CASES:?}");
    let mut tests = Vec::new();
    for case in cases {
        let (name, exporters) = (name(&case), Case::exporters(&case));
        assert!(!exporters.is_empty(), "{} has no base.EXPORTER.onnx", case.display());
        for exporter in exporters {
            for (at, engine) in ["onnxruntime", "embedded"].into_iter().enumerate() {
                let (case, exporter) = (case.clone(), exporter.clone());
                let title = format!("{name}/{exporter}/{engine}");
                let test = move || reproduces(&case, &exporter, engines()[at].as_ref()).map_err(Failed::from);
                tests.push(Trial::test(title, test));
            }
        }
    }
    libtest_mimic::run(&args, tests).exit_code()
}

fn text(e: impl ToString) -> String {
    e.to_string()
}

fn reproduces(folder: &Path, exporter: &str, engine: &dyn Backend) -> Result<(), String> {
    let case = Case::read(folder)?;
    let model = lorac::onnx::load(folder.join(format!("base.{exporter}.onnx"))).map_err(text)?;
    let export = readable(&model.graph, &model.functions).map_err(text)?;
    let places: Places = case
        .first
        .keys()
        .filter_map(|name| Some((name.clone(), found(&export, &case, name)?)))
        .map(|(n, p)| Ok((n, p?)))
        .collect::<Result<_, String>>()?;
    let mut graph = export.clone();
    let mut trained = places.clone();
    for at in trained.values_mut() {
        if let Some(factor) = at.factor.take() {
            at.weight = unfold(&mut graph, at.weight, &factor).map_err(text)?;
        }
    }

    let methods = methods(&case, &graph, &trained)?;
    let training = compiled(&case, &graph, &methods, engine)?;
    let (first, last) =
        (params(&case, &training, &trained, &case.first)?, params(&case, &training, &trained, &case.last)?);
    trains(&case, engine, &training, [&theta(&training, &first)?, &theta(&training, &last)?])?;
    merges(&case, &graph, &methods, &training, &trained, &last)?;

    // The export itself, with the norms in its convolutions, and the final adapter in its bytes.
    let methods = self::methods(&case, &export, &places)?;
    let training = compiled(&case, &export, &methods, engine)?;
    let last = params(&case, &training, &places, &case.last)?;
    let mut edits = Vec::new();
    for (weight, bytes) in folded(&export, &methods, &training, &theta(&training, &last)?)? {
        edits.push(lorac::onnx::Edit::new(weight, bytes.bytes().clone()));
    }
    let out = tempfile::tempdir().map_err(text)?;
    let deployed = out.path().join("model.onnx");
    lorac::onnx::patch(&model, &edits, None, &deployed).map_err(text)?;
    let deployed = lorac::onnx::load(&deployed).map_err(text)?;
    computes(&case, engine, &model, "before")?;
    computes(&case, engine, &deployed, "after")
}

/// Where a weight is; nothing where PyTorch's module has no such weight: scaled results of a module without a bias.
fn found(graph: &Graph, case: &Case, name: &str) -> Option<Result<Place, String>> {
    let absent =
        matches!(case.first[name], Change::Scaled(_)) && name.ends_with(".bias") && !case.merged.contains_key(name);
    (!absent).then(|| place(graph, case, name))
}

/// What of lorac's is what the configuration asks for, with the weights that it adapts.
fn methods(case: &Case, graph: &Graph, places: &Places) -> Result<Vec<(MethodChoice, Vec<Target>)>, String> {
    let kind = case.config["peft_type"].as_str().unwrap_or_default();
    if !["LORA", "IA3", "TRAINABLE_TOKENS", "LN_TUNING"].contains(&kind) {
        return Err(format!("lorac has no {kind}"));
    }
    let mut choices: Vec<MethodChoice> = Vec::new();
    let mut whole = Vec::new();
    for (name, at) in places {
        let (path, weight) = (name.rsplit_once('.').map_or("", |(path, _)| path), graph.name_of(at.weight));
        match &case.first[name] {
            Change::Whole(_) => whole.push(weight),
            Change::LowRank { a, .. } | Change::Lookup { a, .. } | Change::Stack { a, .. } => {
                let stack = matches!(&case.first[name], Change::Stack { .. });
                let (targets, rank) = (vec![weight], a.shape()[usize::from(stack)]);
                let (alpha, rslora) = (case.alpha(path), case.rslora());
                let init = match case.config["init_lora_weights"].as_str() {
                    Some("pissa") => LoraInit::Pissa,
                    Some("olora") => LoraInit::Olora,
                    _ => LoraInit::default(),
                };
                let freeze_a = case.freeze_a;
                let lora = Lora { targets, rank, alpha, rslora, init, freeze_a, ..Lora::default() };
                choices.push(match &case.first[name] {
                    Change::LowRank { magnitude: Some(_), .. } => Dora(lora).into(),
                    _ => lora.into(),
                });
            }
            Change::Scaled(_) if name.ends_with(".bias") => {}
            Change::Scaled(l) => {
                let by_result = l.shape().first() != Some(&1);
                let (targets, feedforward) = if by_result { (vec![weight], vec![]) } else { (vec![], vec![weight]) };
                choices.push(Ia3 { targets, feedforward }.into());
            }
            Change::Rows { ids, .. } => {
                // A head that is tied to the table may be a copy of it in the file.
                let with_copies = Tokens { ids: ids.clone(), ..Tokens::default() };
                let picked = with_copies.select(graph).is_ok_and(|all| all.iter().any(|t| t.weight == at.weight));
                let targets = if picked { Vec::new() } else { vec![weight] };
                choices.push(Tokens { targets, ..with_copies }.into())
            }
        }
    }
    if !whole.is_empty() {
        choices.push(Full { targets: whole }.into());
    }
    let selected = choices.into_iter().map(|method| {
        let targets = method.select(graph).map_err(text)?;
        Ok((method, targets))
    });
    selected.collect()
}

fn compiled(
    case: &Case,
    graph: &Graph,
    methods: &[(MethodChoice, Vec<Target>)],
    engine: &dyn Backend,
) -> Result<Training, String> {
    let (rows, tokens) = (FirstOutput::default(), CausalLm::default());
    let objective: &dyn Objective = match case.kind.as_str() {
        "cls" | "image" => &rows,
        "lm" => &tokens,
        other => return Err(format!("case.json: `{other}` is not a kind that this test knows")),
    };
    let caches = match graph.input("input_ids") {
        Some(_) => caches(graph, &feeds(graph).map_err(text)?),
        None => Caches::default(),
    };
    let adaptations: Vec<Adaptation> =
        methods.iter().map(|(method, targets)| Adaptation { method: &**method, targets: targets.clone() }).collect();
    // PyTorch's AdamW decays vectors as well.
    let decay = Some(case.optimizer.weight_decay);
    let all = [ParamGroup { patterns: vec!["*".into()], lr: None, weight_decay: decay }];
    let spec = TrainingSpec {
        adaptations: &adaptations,
        objective,
        update: UpdateSpec {
            optimizer: &case.optimizer,
            clip: None,
            groups: Groups { groups: &all, lora_plus: case.lr_b, ..Groups::default() },
            slices: false,
            average: None,
        },
        dialect: engine.dialect(),
        tokens: None,
        caches,
        packed: false,
    };
    training_step(graph, &spec, &mut |_| {}).map_err(text)
}

/// The values of params that an adapter holds.
fn params(
    case: &Case,
    training: &Training,
    places: &Places,
    changes: &BTreeMap<String, Change>,
) -> Result<Params, String> {
    let mut all = Params::new();
    for (_, Delta { target, form }) in &training.deltas {
        let (name, at) = match places.iter().find(|(_, at)| at.weight == target.weight) {
            Some(found) => found,
            // A copy of a table has the table's rows.
            None if matches!(form, DeltaForm::Rows { .. }) => continue,
            None => return Err(format!("no `{}`", target.name())),
        };
        let mut put = |param: &str, x: &Array| _ = all.insert(param.to_string(), x.iter().map(|x| *x as f32).collect());
        match (form, &changes[name]) {
            (
                DeltaForm::LowRank { a, b, start, magnitude, .. },
                Change::LowRank { a: first, b: second, .. } | Change::Lookup { a: first, b: second },
            ) => {
                put(a, first);
                let mut second = second.clone();
                let rank = first.shape()[0];
                if let Some(factor) = &at.factor {
                    second.iter_mut().enumerate().for_each(|(i, x)| *x *= factor[i / rank]);
                }
                put(b, &second);
                // PEFT takes the product of the first factors out of the weight.
                if let (Some([a, b]), Change::LowRank { a: first, b: second, .. }) = (start, &case.first[name]) {
                    put(a, first);
                    put(b, second);
                }
                if let (Some(m), Change::LowRank { magnitude: Some(lengths), .. }) = (magnitude, &changes[name]) {
                    put(m, lengths);
                }
            }
            (DeltaForm::LowRank { a, b, .. }, Change::Stack { a: last, b: middle }) => {
                // PEFT's A is along the last axis, which is that of results where the matrices are stored [in, out].
                let turned = |x: &Array| x.clone().permuted_axes(vec![0, 2, 1]).as_standard_layout().to_owned();
                match target.matrix().map_err(text)?.transposed {
                    true => (put(a, last), put(b, middle)),
                    false => (put(a, &turned(middle)), put(b, &turned(last))),
                };
            }
            (DeltaForm::Replaced { param }, Change::Whole(w)) => put(param, &at.turn(w)),
            (DeltaForm::Scaled { param, .. }, Change::Scaled(l)) => put(param, l),
            (DeltaForm::Rows { param, .. }, Change::Rows { rows, .. }) => put(param, rows),
            (form, change) => return Err(format!("`{name}` is {form:?} here and {change:?} in the adapter")),
        }
    }
    let missing =
        places.keys().find(|name| !training.deltas.iter().any(|(_, d)| places[*name].weight == d.target.weight));
    match missing {
        Some(name) => Err(format!("{}: `{name}` is not trained", case.folder.display())),
        None => Ok(all),
    }
}

fn theta(training: &Training, params: &Params) -> Result<Vec<f32>, String> {
    let mut theta = Vec::new();
    for slot in training.layout.slots() {
        let derived = |p: &Param| p.name == slot.name && matches!(p.init, Init::InverseGram { .. });
        if training.params.iter().any(derived) {
            theta.extend(std::iter::repeat_n(0.0, slot.len()));
            continue;
        }
        let values = params.get(&slot.name).ok_or(format!("the adapter has nothing for `{}`", slot.name))?;
        if values.len() != slot.len() {
            return Err(format!("`{}` has {} elements, the adapter {}", slot.name, slot.len(), values.len()));
        }
        theta.extend(values);
    }
    derive(&training.params, &mut theta).map_err(text)?;
    Ok(theta)
}

/// Takes the steps.
fn trains(case: &Case, engine: &dyn Backend, training: &Training, [from, to]: [&[f32]; 2]) -> Result<(), String> {
    let mut step = training_program(engine, training, from, 0).map_err(text)?;
    for (i, want) in case.losses.iter().enumerate() {
        let batch = case.batch(&format!("step{i:02}"));
        let feeds: Vec<(String, Tensor)> =
            batch.into_iter().map(|(field, t)| (field.to_string(), t.tensor())).collect();
        let got = step.run(&feeds, case.optimizer.lr).map_err(text)?;
        if (got.loss - want).abs() > 1e-4 || got.loss.is_nan() {
            return Err(format!("step {i}: the loss is {} instead of {want}", got.loss));
        }
    }
    let theta = step.theta().map_err(text)?;
    let vector = |v: &[f32]| array(&Tensor::vector(v)).ok_or("no reals");
    let error = relative_error(&vector(&theta)?, &vector(to)?);
    if error <= 1e-3 {
        return Ok(());
    }
    let slots = training.layout.slots().iter().map(|slot| {
        let part = |v: &[f32]| vector(&v[slot.start..slot.start + slot.len()]);
        Ok(format!("{} {:.1e}", slot.name, relative_error(&part(&theta)?, &part(to)?)))
    });
    let slots: Vec<String> = slots.collect::<Result<_, String>>()?;
    Err(format!("the final adapter is off by {error:e}: {}", slots.join(", ")))
}

/// The weights with what was learnt.
fn folded(
    graph: &Graph,
    methods: &[(MethodChoice, Vec<Target>)],
    training: &Training,
    theta: &[f32],
) -> Result<Vec<(ValueId, Tensor)>, String> {
    let values = training.layout.values(theta).map_err(text)?;
    let deltas: Vec<(&dyn Method, &Delta)> =
        training.deltas.iter().map(|(i, d)| (&*methods[*i].0 as &dyn Method, d)).collect();
    let each = group_by_weight(&deltas, |(_, d)| &d.target).into_iter().map(|of_weight| {
        let target = &of_weight[0].1.target;
        let w0 = graph.weight(target.weight).ok_or(format!("no weight `{}`", target.weight_name))?;
        let of_weight: Vec<(&dyn Method, &Delta)> = of_weight.into_iter().copied().collect();
        let bytes = fold_all(w0, &of_weight, &values).map_err(text)?;
        Ok((target.weight, Tensor::new(w0.dtype(), w0.dims().to_vec(), bytes).map_err(text)?))
    });
    each.collect()
}

/// Whether a weight holds what another does: as it is, or transposed.
fn is_copy(graph: &Graph, one: ValueId, other: ValueId) -> Option<bool> {
    let (one, other) = (array(graph.weight(one)?)?, array(graph.weight(other)?)?);
    if one == other { Some(false) } else { (one.t() == other).then_some(true) }
}

/// Holds folded weights against PEFT's merged ones.
fn merges(
    case: &Case,
    graph: &Graph,
    methods: &[(MethodChoice, Vec<Target>)],
    training: &Training,
    places: &Places,
    last: &Params,
) -> Result<(), String> {
    for (weight, tensor) in folded(graph, methods, training, &theta(training, last)?)? {
        let own = places.iter().find(|(_, at)| at.weight == weight).map(|(name, at)| (name, at.turned));
        let copied = || {
            let same =
                |(name, at): (&String, &Place)| Some((name.clone(), at.turned != is_copy(graph, at.weight, weight)?));
            places.iter().find_map(same)
        };
        let (name, turned) = own.map(|(name, turned)| (name.clone(), turned)).or_else(copied).ok_or("no place")?;
        let (name, at) = (&name, Place { weight, turned, factor: None });
        let Some(want) = case.merged.get(name) else {
            // PEFT has weights that are trained in full under names of its own.
            match &case.first[name] {
                Change::Whole(_) => continue,
                _ if case.merged.is_empty() => continue,
                _ => return Err(format!("merged.safetensors has no `{name}`")),
            }
        };
        let got = at.turn(&array(&tensor).ok_or("no reals")?);
        let error = relative_error(&got, want);
        if error.is_nan() || error > 2e-7 {
            return Err(format!("`{name}`, folded, is off by {error:e}"));
        }
    }
    Ok(())
}

/// Holds the model's first output on the held-out batch against PEFT's.
fn computes(case: &Case, engine: &dyn Backend, model: &Model, when: &str) -> Result<(), String> {
    let mut graph = model.graph.clone();
    for_dialect(&mut graph, &model.functions, &Caches::default(), &engine.dialect()).map_err(text)?;
    let output = graph.name_of(graph.outputs()[0]);
    let mut run = compile_graph(engine, &graph, Vec::new()).map_err(text)?;
    let batch = case.batch("eval");
    let feeds: Vec<(&str, Tensor)> = batch
        .iter()
        .filter(|(field, _)| graph.inputs().iter().any(|v| graph.name_of(*v) == **field))
        .map(|(field, t)| {
            let dtype = graph.fact(graph.find(field).unwrap_or(ValueId(0))).dtype;
            Ok((*field, tensor(dtype, &t.array).ok_or(format!("`{field}` is {dtype}"))?))
        })
        .collect::<Result<_, String>>()?;
    let feeds: Vec<(&str, &Tensor)> = feeds.iter().map(|(n, t)| (*n, t)).collect();
    let got = run.run(&feeds, &[&output]).map_err(text)?;
    let got = got.first().and_then(array).ok_or("no reals")?;
    let worst = largest_difference(&got, &batch[when].array);
    if worst <= 1e-4 { Ok(()) } else { Err(format!("the logits {when} the training are off by {worst:e}")) }
}
