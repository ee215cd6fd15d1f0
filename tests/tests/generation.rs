//! What language models write, token for token: what transformers' `generate` does, with caches and without, on both engines.

use lorac::data::Tokenizer;
use lorac::error::Error;
use lorac::inputs::{caches, feeds};
use lorac::ir::Graph;
use lorac::onnx::load;
use lorac::passes::{AdamW, Adaptation, Caches, Full, Method, TrainingSpec, UpdateSpec, readable, training_step};
use lorac::runtime::Backend;
use lorac::task::CausalLm;
use lorac::train::Generate;
use lorac::writing::{Adapted, Parts, Writer, compile};
use lorac_tests::words::{special_words, tokenizer, words};
use lorac_tests::{data, engines};
use serde::Deserialize;
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::atomic::AtomicBool;

fn writer(model: &Path, count: usize, engine: &dyn Backend, settings: &Generate, ends: &[i64], rows: usize) -> Writer {
    writer_of(model, tokenizer(&words(count)), engine, settings, ends, rows)
}

fn writer_of(
    model: &Path,
    tokenizer: Tokenizer,
    engine: &dyn Backend,
    settings: &Generate,
    ends: &[i64],
    rows: usize,
) -> Writer {
    let model = load(model).unwrap_or_else(|e| panic!("{e}"));
    let mut base = readable(&model.graph, &model.functions).expect("readable");
    let feeds = feeds(&base).expect("known inputs");
    let caches = caches(&base, &feeds);
    caches.switch_off(&mut base).expect("switches");
    let parts = Parts {
        model: &model,
        base: &base,
        feeds: &feeds,
        caches: &caches,
        names: &BTreeMap::new(),
        objective: &CausalLm::default(),
        trained: None,
        backend: engine,
        source: None,
        settings: settings.clone(),
        ends: ends.to_vec(),
        tokenizer,
        rows,
        multiple: 8,
        start: None,
    };
    compile(parts).unwrap_or_else(|e| panic!("{e}"))
}

/// The words that are written behind prompts of words.
fn written(writer: &Writer, engine: &dyn Backend, prompts: &[Vec<i64>]) -> Vec<Vec<i64>> {
    written_or_told(writer, engine, prompts, true)
}

/// The same; `right` is whether the caches give what whole texts do.
fn written_or_told(writer: &Writer, engine: &dyn Backend, prompts: &[Vec<i64>], right: bool) -> Vec<Vec<i64>> {
    let (mut decoder, note) = writer.open(engine, &[], &prompts[0]).unwrap_or_else(|e| panic!("{e}"));
    assert_eq!((note.is_none(), decoder.has_caches()), (right, right && !writer.ports.caches.is_empty()));
    let stop = AtomicBool::new(false);
    let texts = writer.write(&mut decoder, prompts, &stop, |_| ()).unwrap_or_else(|e| panic!("{e}"));
    let ids = |text: &str| text.split_whitespace().filter_map(|word| word[1..].parse().ok()).collect::<Vec<i64>>();
    texts
        .iter()
        .map(|one| {
            assert_eq!(ids(&one.text).len(), one.tokens);
            ids(&one.text)
        })
        .collect()
}

#[derive(Deserialize)]
struct Case {
    model: String,
    ends: Vec<i64>,
    settings: Generate,
    prompts: Vec<Vec<i64>>,
    texts: Vec<Vec<i64>>,
}

#[test]
fn tokens_are_those_of_transformers_with_caches_and_without() {
    let file = data("truth/generation/cases.json");
    let text = std::fs::read_to_string(file).expect("the cases");
    let cases: Vec<Case> = text.lines().map(|line| serde_json::from_str(line).expect("a case")).collect();
    assert!(cases.len() > 60);
    let (mut wrong, mut with_caches) = (Vec::new(), 0);
    for engine in engines() {
        for case in &cases {
            let model = data(&case.model).join("model.onnx");
            // The embedded engine has no caches to go wrong with, and is the slower one.
            let ways = if engine.dialect().reads_any_graph() {
                &[(16, true), (1, true), (6, false)][..]
            } else {
                &[(6, false)]
            };
            for (rows, cached) in ways.iter().copied() {
                let mut writer = writer(&model, 97, engine.as_ref(), &case.settings, &case.ends, rows);
                if cached && writer.ports.caches.is_empty() {
                    continue;
                }
                with_caches += usize::from(cached);
                if !cached {
                    writer.ports.caches.clear();
                }
                let got = written(&writer, engine.as_ref(), &case.prompts);
                if got != case.texts {
                    let (model, ends, settings) = (&case.model, &case.ends, &case.settings);
                    let engine = engine.name();
                    wrong.push(format!("{engine} {model} {cached} {ends:?} {settings:?}:\n{got:?}\n{:?}", case.texts));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{} of {}: {}", wrong.len(), cases.len(), wrong[..wrong.len().min(3)].join("\n"));
    assert!(with_caches >= 60, "{with_caches}");
}

#[test]
fn a_stop_string_that_is_a_special_token_ends_a_text_before_it() {
    let file = std::fs::read_to_string(data("truth/generation/cases.json")).expect("the cases");
    let cases = file.lines().map(|line| serde_json::from_str::<Case>(line).expect("a case"));
    let plain = |case: &Case| case.settings.num_beams == 1 && case.ends.is_empty() && case.texts[0].len() > 4;
    let case = cases.into_iter().find(plain).expect("a text that nothing ends");
    let (prompts, text) = (&case.prompts[..1], &case.texts[0]);
    let before = text.iter().position(|id| *id == text[3]).expect("it is in the text");
    let settings = Generate { stop_strings: vec![format!("w{}", text[3])], ..case.settings.clone() };
    for engine in engines() {
        let tokenizer = tokenizer(&special_words(97, &[text[3]]));
        let model = data(&case.model).join("model.onnx");
        let writer = writer_of(&model, tokenizer, engine.as_ref(), &settings, &[], 4);
        assert_eq!(written(&writer, engine.as_ref(), prompts), [text[..before].to_vec()]);
    }
}

/// The merged one sees what follows where it has no caches, as it was made: what it would write with them is something else.
#[test]
fn fused_decoders_write_the_same_with_caches_and_without_and_caches_that_say_something_else_are_told_of() {
    let prompts = [vec![5, 17, 23], vec![1], vec![60, 3, 3, 8, 41], vec![2, 3, 4]];
    for (model, words, right) in
        [("borders/merged/model.onnx", 95, false), ("borders/genai/model/model.onnx", 300, true)]
    {
        for num_beams in [1, 3] {
            let settings = Generate { max_new_tokens: 10, num_beams, ..Generate::default() };
            for engine in engines().iter().filter(|engine| engine.dialect().reads_any_graph()) {
                let engine = engine.as_ref();
                let mut writer = writer(&data(model), words, engine, &settings, &[7], 8);
                assert!(!writer.ports.caches.is_empty(), "{model} has caches");
                let with = written_or_told(&writer, engine, &prompts, right);
                writer.ports.caches.clear();
                assert_eq!(with, written(&writer, engine, &prompts), "{model} {num_beams}");
            }
        }
    }
}

/// A model that cannot be adapted as it is trained writes nothing, and says so.
#[test]
fn what_is_trained_is_what_writes() {
    let model = load(data("exports/gpt2-torchscript/model.onnx")).unwrap_or_else(|e| panic!("{e}"));
    let base = readable(&model.graph, &model.functions).expect("readable");
    let (feeds, adamw) = (feeds(&base).expect("known inputs"), AdamW::default());
    let engine = &engines()[0];
    let full = Full { targets: vec!["all-linear".into()] };
    let layout = {
        let adaptations = [Adaptation { method: &full, targets: full.select(&base).expect("targets") }];
        let spec = TrainingSpec {
            adaptations: &adaptations,
            objective: &CausalLm::default(),
            update: UpdateSpec::of(&adamw),
            dialect: engine.dialect(),
            tokens: None,
            caches: Caches::default(),
            packed: false,
        };
        training_step(&base, &spec, &mut |_| {}).expect("compiles").layout
    };
    let (caches, names, objective) = (Caches::default(), BTreeMap::new(), CausalLm::default());
    let (none, lost) = (|_: &Graph| Ok(Vec::new()), |_: &Graph| Err(Error::Usage("no such targets".into())));
    let cases: [(&Adapts, &str); 2] =
        [(&lost, "no such targets"), (&none, "other parameters than those that are trained")];
    for (adaptations, says) in cases {
        let parts = Parts {
            model: &model,
            base: &base,
            feeds: &feeds,
            caches: &caches,
            names: &names,
            objective: &objective,
            trained: Some(Adapted { adaptations, update: UpdateSpec::of(&adamw), layout: &layout }),
            backend: engine.as_ref(),
            source: None,
            settings: Generate::default(),
            ends: Vec::new(),
            tokenizer: tokenizer(&words(97)),
            rows: 1,
            multiple: 8,
            start: None,
        };
        let said = compile(parts).map(|_| ()).expect_err("refused").to_string();
        assert!(said.contains(says), "{said}");
    }
}

/// How a graph is adapted.
type Adapts<'a> = dyn Fn(&Graph) -> Result<Vec<Adaptation<'a>>, Error> + 'a;
