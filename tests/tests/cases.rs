//! Golden cases: every heading of `tests/cases/<pass>/<topic>.md` that has blocks is a test.
//!
//! Beside the text that is to come out, a case is held to what a pass must never do: what the graph computed before, it
//! computes afterwards, in f64 on random inputs. A method's graph is held, with random values of what it inserts, against
//! the graph whose weights it folds; an optimizer's, with random values of what it keeps, against the rule written out.
//! `LORAC_BLESS=1` writes the text of what comes out into the files; it does not bless a pass that changes results.

use lorac::ir::{Graph, ValueId, parse, print, verify};
use lorac::ops::infer;
use lorac::passes::*;
use lorac_tests::equivalence::{Adapted, computes_the_fold, computes_the_same};
use lorac_tests::golden::{Golden, Outcome, blessed, cases};
use lorac_tests::update::{ElementRate, Wanted, computes_the_update};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use std::error::Error;
use std::path::{Path, PathBuf};
use std::{fs, process};

type Done = Result<Held, Box<dyn Error>>;

/// What the graph that comes out is held to.
enum Held {
    /// Its outputs are what they were.
    Outputs,
    /// And those of the graph with folded weights: what a method inserted.
    Fold(Adapted),
    /// An optimizer's rule.
    Rule(Wanted, Update),
}

/// A pass under the configuration of a `yaml` block.
type Pass = fn(&mut Graph, &str) -> Done;

/// A folder of `tests/cases` and what runs its cases: a row for every pass.
const PASSES: &[(&str, Pass)] = &[
    ("bias", method::<Bias>),
    ("cumsum_to_i32", |g, _| none(cumsum_to_i32(g))),
    ("dead", |g, _| none(remove_dead(g))),
    ("dense", |g, _| none(fuse_dense(g))),
    ("differentiate", gradient),
    ("dropout", method::<Lora>),
    ("fold_constants", |g, _| none(fold_constants(g, &[]))),
    ("full", method::<Full>),
    ("ia3", method::<Ia3>),
    ("layer_norm_stats", |g, _| none(expose_layer_norm_stats(g))),
    ("lora", method::<Lora>),
    ("loss", loss),
    ("lower", |g, _| none(lower(g))),
    ("optimizer", optimizer),
    ("pack", packing),
    ("reassociate", |g, _| none(reassociate(g))),
    ("tokens", method::<Tokens>),
    ("unfreeze", unfreezing),
    ("upgrade", |g, _| none(upgrade(g))),
];

fn none<T>(result: Result<T, PassError>) -> Done {
    result?;
    Ok(Held::Outputs)
}

#[derive(Deserialize)]
struct MethodCase<M> {
    #[serde(flatten)]
    method: M,
    tokens: Option<usize>,
}

/// What a method inserts; with dropout, what a training step drops in front of it.
fn method<M: Method + DeserializeOwned + 'static>(graph: &mut Graph, yaml: &str) -> Done {
    let MethodCase::<M> { method, tokens } = config(yaml)?;
    let targets = method.select(graph).map_err(|wrong| lines(&wrong.0))?;
    let purpose = tokens.map_or(Use::Verify, |n| Use::Train { tokens: Some(n) });
    let inserted = method.insert(graph, &targets, purpose)?;
    drop_inputs(graph, &inserted.dropout)?;
    Ok(Held::Fold(Adapted { method: Box::new(method), inserted }))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Trained {
    trained: Vec<String>,
}

fn unfreezing(graph: &mut Graph, yaml: &str) -> Done {
    let weights = trained(graph, &config::<Trained>(yaml)?.trained)?;
    none(unfreeze(graph, &weights))
}

/// The gradient of the first output, as outputs beside the others.
fn gradient(graph: &mut Graph, yaml: &str) -> Done {
    let wrt = trained(graph, &config::<Trained>(yaml)?.trained)?;
    let loss = *graph.outputs().first().ok_or("a loss is the first output")?;
    let grads = differentiate(graph, loss, &wrt)?;
    outputs(graph, &grads)
}

/// The first output is the loss, the others are the gradients of what is packed.
fn packing(graph: &mut Graph, yaml: &str) -> Done {
    let params = params(graph, &trained(graph, &config::<Trained>(yaml)?.trained)?);
    let grads = graph.outputs().get(1..).unwrap_or_default().to_vec();
    let packed = pack(graph, &Layout::of(&params), &params, &grads)?;
    outputs(graph, packed.grad.as_slice())
}

fn params(graph: &Graph, values: &[ValueId]) -> Vec<Param> {
    let param = |v: &ValueId| Param {
        value: *v,
        name: graph.name_of(*v),
        dims: graph.fact(*v).known_dims().unwrap_or_default(),
        init: Init::Zeros,
        group: Group::Base,
        decay: true,
    };
    values.iter().map(param).collect()
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct OptimizerCase {
    grad: String,
    /// What says how much counts, of a step in slices.
    count: Option<String>,
    optimizer: OptimizerChoice,
    clip: Option<Clip>,
    /// theta, one after the other.
    params: Vec<ParamCase>,
    #[serde(default)]
    groups: Vec<ParamGroup>,
    #[serde(default)]
    no_decay: Vec<String>,
    lora_plus: Option<f64>,
}

/// A param, and what it is to be trained with: how many times the rate, and which decay.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ParamCase {
    name: String,
    dims: Vec<usize>,
    #[serde(default)]
    head: bool,
    rate: f64,
    decay: f64,
}

/// The first output is the loss; the gradient of the input `theta` is named. What is called `lora_A` and `lora_B` is that
/// of a branch, what is called `bias` does not decay.
fn optimizer(graph: &mut Graph, yaml: &str) -> Done {
    let case: OptimizerCase = config(yaml)?;
    let loss = *graph.outputs().first().ok_or("a loss is the first output")?;
    let find = |name: &str| graph.find(name).ok_or(format!("no value is called {name}"));
    let (theta, grad) = (find(THETA)?, find(&case.grad)?);
    let count = case.count.as_deref().map(find).transpose()?;
    let param = |p: &ParamCase| Param {
        value: theta,
        name: p.name.clone(),
        dims: p.dims.clone(),
        init: Init::Zeros,
        group: if p.head { Group::Head } else { Group::Adapter },
        decay: !p.name.ends_with("bias"),
    };
    let params: Vec<Param> = case.params.iter().map(param).collect();
    let branches = params.iter().filter_map(|p| p.name.strip_suffix(".lora_B"));
    let deltas = branches.map(|weight| Ok((0, branch(weight)?))).collect::<Result<Vec<_>, Box<dyn Error>>>()?;
    let layout = Layout::of(&params);
    let groups = Groups { groups: &case.groups, no_decay: &case.no_decay, lora_plus: case.lora_plus };
    let rates = groups.rates(case.optimizer.lr(), &layout, &params, &deltas)?;
    let spec =
        UpdateSpec { optimizer: &*case.optimizer, clip: case.clip, groups, slices: count.is_some(), average: None };
    let step = count.map_or(StepLoss::Whole(loss), |count| StepLoss::Slice(SliceLoss { mean: loss, count }));
    let update = optimize(graph, &Packed { theta, grad: Some(grad) }, &layout, step, &spec, &rates)?;
    let of = |p: &ParamCase| vec![ElementRate { rate: p.rate, decay: p.decay }; p.dims.iter().product()];
    let elements = case.params.iter().flat_map(of).collect();
    let loss = [Some(loss), count].into_iter().flatten().collect();
    Ok(Held::Rule(Wanted { optimizer: case.optimizer, clip: case.clip, elements, loss, grad }, update))
}

/// A branch beside a weight of this name.
fn branch(weight: &str) -> Result<Delta, Box<dyn Error>> {
    let mut graph = parse(
        "graph g(%x: f32[N,2]) -> %y { %w = weight \"w\" f32[2,2] = [1, 2, 3, 4] %y = MatMul(%x, %w) : f32[N,2] }",
    )?;
    let lora = Lora { targets: vec!["w".into()], rank: 1, ..Lora::default() };
    let targets = lora.select(&graph).map_err(|wrong| lines(&wrong.0))?;
    let delta = lora.insert(&mut graph, &targets, Use::Verify)?.deltas.into_iter().next();
    let mut delta = delta.ok_or("no branch")?;
    if let DeltaForm::LowRank { a, b, .. } = &mut delta.form {
        (*a, *b) = (format!("{weight}.lora_A"), format!("{weight}.lora_B"));
    }
    Ok(delta)
}

#[derive(Deserialize)]
#[serde(rename_all = "snake_case")]
enum LossCase {
    CrossEntropy,
    CausalCrossEntropy,
}

/// The output is logits.
fn loss(graph: &mut Graph, yaml: &str) -> Done {
    let logits = *graph.outputs().first().ok_or("logits are the first output")?;
    none(match config(yaml)? {
        LossCase::CrossEntropy => cross_entropy(graph, logits, "labels"),
        LossCase::CausalCrossEntropy => causal_cross_entropy(graph, logits, "labels"),
    })
}

fn outputs(graph: &mut Graph, more: &[ValueId]) -> Done {
    graph.set_outputs([graph.outputs(), more].concat())?;
    Ok(Held::Outputs)
}

fn config<T: DeserializeOwned>(yaml: &str) -> Result<T, Box<dyn Error>> {
    Ok(serde_saphyr::from_str(yaml)?)
}

fn lines<T: ToString>(found: &[T]) -> String {
    found.iter().map(T::to_string).collect::<Vec<_>>().join("\n")
}

/// What the pass makes of the case. An error of the case itself is `Err`, one that the pass reports is an outcome.
fn run(pass: Pass, case: &Golden) -> Result<Outcome, String> {
    let mut before = parse(&case.graph).map_err(|e| format!("the graph: {e}"))?;
    infer(&mut before).map_err(|e| format!("the graph: {e}"))?;
    let mut graph = before.clone();
    let held = match pass(&mut graph, &case.yaml) {
        Ok(held) => held,
        Err(e) => return Ok(Outcome::Error(e.to_string() + "\n")),
    };
    infer(&mut graph).map_err(|e| e.to_string())?;
    match verify(&graph).as_slice() {
        [] => {}
        broken => return Err(lines(broken)),
    }
    match &held {
        Held::Outputs => computes_the_same(&before, &graph, None)?,
        Held::Fold(adapted) => {
            computes_the_same(&before, &graph, Some(adapted))?;
            computes_the_fold(&before, &graph, adapted)?;
        }
        Held::Rule(wanted, update) => computes_the_update(&before, &graph, wanted, update)?,
    }
    let text = print(&graph);
    let again = parse(&text).map_err(|e| format!("what comes out does not parse: {e}\n{text}"))?;
    if print(&again) != text {
        return Err(format!("what comes out is read back as something else:\n{}", difference(&text, &print(&again))));
    }
    Ok(Outcome::Graph(text))
}

fn difference(want: &str, got: &str) -> String {
    similar::TextDiff::from_lines(want, got).unified_diff().context_radius(1000).to_string()
}

fn check(pass: Pass, case: &Golden) -> Result<(), String> {
    let got = run(pass, case)?;
    let (kind, got) = match (&got, &case.want) {
        (got, want) if got == want => return Ok(()),
        (Outcome::Graph(got), Outcome::Graph(want)) => ("another graph", difference(want, got)),
        (Outcome::Error(got), Outcome::Error(want)) => ("another error", difference(want, got)),
        (Outcome::Graph(got), _) => ("a graph", got.clone()),
        (Outcome::Error(got), _) => ("an error", got.clone()),
        (Outcome::Unknown, _) => ("nothing", String::new()),
    };
    Err(format!("{kind} comes out (LORAC_BLESS=1 takes it for right):\n{got}"))
}

fn files(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).unwrap_or_else(|e| panic!("{}: {e}", folder.display()));
    let mut found: Vec<PathBuf> = entries.map(|e| e.unwrap_or_else(|e| panic!("{e}")).path()).collect();
    found.sort();
    found
}

fn main() -> process::ExitCode {
    let args = libtest_mimic::Arguments::from_args();
    let bless = std::env::var_os("LORAC_BLESS").is_some_and(|v| v == "1");
    let mut tests = Vec::new();
    for folder in files(&lorac_tests::root().join("tests/cases")) {
        let name = folder.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let Some(&(_, pass)) = PASSES.iter().find(|p| p.0 == name) else {
            panic!("tests/cases/{name}: no pass is called that; PASSES in tests/tests/cases.rs lists them");
        };
        for file in files(&folder) {
            let text = fs::read_to_string(&file).unwrap_or_else(|e| panic!("{}: {e}", file.display()));
            let found = cases(&text).unwrap_or_else(|e| panic!("{}: {e}", file.display()));
            if bless {
                let got: Vec<Outcome> = found.iter().map(|c| run(pass, c).unwrap_or(Outcome::Unknown)).collect();
                let new = blessed(&text, &found, &got);
                fs::write(&file, new).unwrap_or_else(|e| panic!("{}: {e}", file.display()));
            }
            let text = fs::read_to_string(&file).unwrap_or_else(|e| panic!("{}: {e}", file.display()));
            let topic = file.file_stem().unwrap_or_default().to_string_lossy().into_owned();
            for case in cases(&text).unwrap_or_else(|e| panic!("{}: {e}", file.display())) {
                let title = format!("{name}/{topic}: {}", case.title);
                let place = format!("tests/cases/{name}/{topic}.md:{}", case.line);
                tests.push(libtest_mimic::Trial::test(title, move || {
                    check(pass, &case).map_err(|e| format!("{place}: {e}").into())
                }));
            }
        }
    }
    libtest_mimic::run(&args, tests).exit_code()
}
