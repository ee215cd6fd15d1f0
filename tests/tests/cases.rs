//! Golden cases: every heading of `tests/cases/<pass>/<topic>.md` that has blocks is a test.
//!
//! Beside the text that is to come out, a case is held to what a pass must never do: what the graph computed before, it
//! computes afterwards, in f64 on random inputs. A method's graph is held, with random values of what it inserts, against
//! the graph whose weights it folds. `LORAC_BLESS=1` writes the text of what comes out into the files; it does not bless a
//! pass that changes results.

use lorac::ir::{Graph, ValueId, parse, print, verify};
use lorac::ops::infer;
use lorac::passes::*;
use lorac_tests::equivalence::{Adapted, computes_the_fold, computes_the_same};
use lorac_tests::golden::{Golden, Outcome, blessed, cases};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use std::error::Error;
use std::path::{Path, PathBuf};
use std::{fs, process};

/// What the pass inserted, where it is a method.
type Done = Result<Option<Adapted>, Box<dyn Error>>;

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
    ("layer_norm_stats", |g, _| none(expose_layer_norm_stats(g))),
    ("lora", method::<Lora>),
    ("loss", loss),
    ("lower", |g, _| none(lower(g))),
    ("optimizer", optimizer),
    ("pack", packing),
    ("reassociate", |g, _| none(reassociate(g))),
    ("unfreeze", unfreezing),
    ("upgrade", |g, _| none(upgrade(g))),
];

fn none<T>(result: Result<T, PassError>) -> Done {
    result?;
    Ok(None)
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
    Ok(Some(Adapted { method: Box::new(method), inserted }))
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
struct OptimizerCase {
    grad: String,
    optimizer: OptimizerChoice,
    clip: Option<Clip>,
}

/// The output is the loss; the gradient of the input `theta` is named.
fn optimizer(graph: &mut Graph, yaml: &str) -> Done {
    let OptimizerCase { grad, optimizer, clip } = config(yaml)?;
    let loss = *graph.outputs().first().ok_or("a loss is the first output")?;
    let find = |name: &str| graph.find(name).ok_or(format!("no value is called {name}"));
    let (theta, grad) = (find(THETA)?, find(&grad)?);
    let layout = Layout::of(&params(graph, &[theta]));
    let spec = UpdateSpec { optimizer: &*optimizer, clip, groups: Groups::default(), slices: false };
    none(optimize(graph, &Packed { theta, grad: Some(grad) }, &layout, StepLoss::Whole(loss), &spec, &[]))
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
    Ok(None)
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
    let adapted = match pass(&mut graph, &case.yaml) {
        Ok(adapted) => adapted,
        Err(e) => return Ok(Outcome::Error(e.to_string() + "\n")),
    };
    infer(&mut graph).map_err(|e| e.to_string())?;
    match verify(&graph).as_slice() {
        [] => {}
        broken => return Err(lines(broken)),
    }
    computes_the_same(&before, &graph)?;
    if let Some(adapted) = &adapted {
        computes_the_fold(&before, &graph, adapted)?;
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
