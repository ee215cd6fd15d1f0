//! `data.token_cache`: texts that were tokenized before are not tokenized again, and nothing else is taken for them.

use lorac::output::{Manifest, sha256};
use lorac::pipeline::Loaded;
use lorac::run::{RunOptions, run};
use lorac::source::Resolver;
use lorac_tests::border::{Border, Ears, border};
use std::fs;
use std::path::{Path, PathBuf};

const SOME: [&str; 4] =
    ["runtime.source=embedded", "data.token_cache=true", "train.epochs=1", "adapt.0.lora.targets=[wq]"];

/// A run with a cache of its own: what it says, its manifest and the bytes of its model.
fn go(border: &Border, settings: &[&str]) -> (String, Manifest, Vec<u8>) {
    let settings: Vec<String> = SOME.iter().chain(settings).map(|s| s.to_string()).collect();
    let loaded = Loaded::load(&border.path().join("pipeline.yaml"), &settings).unwrap_or_else(|e| panic!("{e}"));
    let resolver = Resolver::new(Some(cache(border)), border.path()).expect("a cache");
    let ears = Ears::default();
    let options = RunOptions { out: border.out(), command: "test".into(), progress: &ears, emit: None };
    let outcome = run(&loaded, &resolver, &options, &ears.stop).unwrap_or_else(|e| panic!("{settings:?}: {e}"));
    (ears.text(), outcome.manifest, fs::read(border.out().join("model.onnx")).expect("a model"))
}

fn cache(border: &Border) -> PathBuf {
    border.path().join("cache")
}

/// The entries of the cache.
fn entries(border: &Border) -> Vec<PathBuf> {
    let found = fs::read_dir(cache(border).join("tokens")).into_iter().flatten().flatten();
    found.map(|entry| entry.path()).collect()
}

const SAID: &str = "cache     tokens of data.train, data.eval are those of an earlier run";

#[test]
fn what_was_tokenized_before_trains_to_the_same_bits() {
    let border = border("merged");
    let (first, want, model) = go(&border, &[]);
    assert!(!first.contains("cache     ") && entries(&border).len() == 2, "{first}");
    let (again, manifest, bytes) = go(&border, &[]);
    assert!(again.contains(SAID), "{again}");
    assert_eq!((&manifest.data, &manifest.eval.after), (&want.data, &want.eval.after));
    assert!(bytes == model && entries(&border).len() == 2);
    let (never, _, bytes) = go(&border, &["data.token_cache=false"]);
    assert!(!never.contains("cache     ") && bytes == model, "{never}");
    // Neither other steps nor rows that share rows are other tokens.
    let (packed, ..) = go(&border, &["data.pack=true", "train.seed=5", "data.max_length=16"]);
    assert!(packed.contains(SAID) && entries(&border).len() == 2, "{packed}");
}

/// Puts other bytes into an entry. With `knows` its index says that they are right.
fn damage(entry: &Path, knows: bool, change: fn(&mut Vec<u8>)) {
    let (file, index) = (entry.join("files/tokens.bin"), entry.join("index.json"));
    let mut bytes = fs::read(&file).expect("tokens");
    let sum = sha256(&bytes);
    change(&mut bytes);
    fs::write(&file, &bytes).expect("writes");
    if knows {
        let text = fs::read_to_string(&index).expect("an index");
        assert!(text.contains(&sum));
        fs::write(&index, text.replace(&sum, &sha256(&bytes))).expect("writes");
    }
}

#[test]
fn a_damaged_entry_is_made_anew() {
    let border = border("merged");
    let (_, want, model) = go(&border, &[]);
    let cut: fn(&mut Vec<u8>) = |bytes| bytes.truncate(bytes.len() / 2);
    let other: fn(&mut Vec<u8>) = |bytes| {
        let at = bytes.len() - 40;
        bytes[at] ^= 1;
    };
    for (knows, change) in [(false, cut), (false, other), (true, other)] {
        entries(&border).iter().for_each(|entry| damage(entry, knows, change));
        let (healed, manifest, bytes) = go(&border, &[]);
        assert!(!healed.contains("cache     "), "{knows}: {healed}");
        assert!(bytes == model && manifest.data == want.data, "{knows}");
        let (again, ..) = go(&border, &[]);
        assert!(again.contains(SAID), "{knows}: {again}");
    }
}

#[test]
fn other_rows_templates_tokenizers_and_lengths_are_other_entries() {
    let border = border("merged");
    go(&border, &[]);
    let mut count = 2;
    let mut grows = |settings: &[&str], by: usize| {
        let (said, ..) = go(&border, settings);
        count += by;
        assert_eq!(entries(&border).len(), count, "{settings:?}: {said}");
    };
    grows(&[], 0);
    grows(&["data.max_length=12"], 2);
    grows(&["data.train.text=\"{text} w3\""], 1);
    grows(&["data.train.take=40"], 1);
    grows(&["data.train.filter=label == \"positive\""], 1);
    grows(&["task.causal_lm.append_eos=false"], 0);
    let train = border.path().join("train.csv");
    let rows = fs::read_to_string(&train).expect("rows");
    fs::write(&train, rows.replacen("w5 w33", "w5 w34", 1)).expect("writes");
    grows(&[], 1);
    fs::write(&train, rows).expect("writes");
    grows(&[], 0);
    let tokenizer = border.path().join("tokenizer.json");
    let text = fs::read_to_string(&tokenizer).expect("a tokenizer");
    let mut value: serde_json::Value = serde_json::from_str(&text).expect("JSON");
    let vocab = value["model"]["vocab"].as_object_mut().expect("a vocabulary");
    let (one, two) = (vocab["w5"].clone(), vocab["w6"].clone());
    (vocab["w5"], vocab["w6"]) = (two, one);
    fs::write(&tokenizer, value.to_string()).expect("writes");
    grows(&[], 2);
}

#[test]
fn small_and_pinned_texts_are_kept_where_that_is_asked_for() {
    let border = border("merged");
    go(&border, &["data.token_cache=null"]);
    assert_eq!(entries(&border), Vec::<PathBuf>::new());
    let sum = sha256(&fs::read(border.path().join("train.csv")).expect("rows"));
    let pinned = format!("data.train.sha256={sum}");
    go(&border, &[&pinned]);
    assert_eq!(entries(&border).len(), 2, "it is asked for");
    // A cache that cannot be written is none.
    fs::remove_dir_all(cache(&border)).expect("removes");
    fs::create_dir(cache(&border)).expect("a folder");
    fs::write(cache(&border).join("tokens"), "in the way").expect("writes");
    let (said, ..) = go(&border, &[]);
    assert!(!said.contains("cache     "), "{said}");
}
