//! Pipelines and what is set on the command line: `cargo +nightly fuzz run pipeline`. Lines that begin with `--set `
//! are settings.
#![no_main]

use lorac::pipeline::Loaded;
use std::path::Path;

libfuzzer_sys::fuzz_target!(|text: &str| {
    let sets: Vec<String> = text.lines().filter_map(|l| l.strip_prefix("--set ")).map(String::from).collect();
    if let Err(e) = Loaded::parse(text, Path::new("p.yaml"), &sets) {
        drop(e.to_string());
    }
});
