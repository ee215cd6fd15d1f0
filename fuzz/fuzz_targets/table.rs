//! Tables of examples, filters over them, and texts: `cargo +nightly fuzz run table`. The first line is a filter, the
//! second the name of the file.
#![no_main]

use lorac::data::{Filter, Format, ReadSpec, read, read_texts};
use std::path::Path;

libfuzzer_sys::fuzz_target!(|text: &str| {
    let mut lines = text.splitn(3, '\n');
    let (Some(filter), Some(name), Some(content)) = (lines.next(), lines.next(), lines.next()) else { return };
    let filter = match filter.is_empty() {
        true => None,
        false => match Filter::parse(filter) {
            Ok(filter) => Some(filter),
            Err(e) => return drop(e.to_string()),
        },
    };
    let Ok(folder) = tempfile::tempdir() else { return };
    let file = folder.path().join("data");
    std::fs::write(&file, content).expect("a temporary file");
    let spec = ReadSpec {
        text: "text".into(),
        label: Some("label".into()),
        filter,
        labels: ["a", "b"].map(String::from).to_vec(),
        label_map: None,
    };
    match Format::of(Path::new(name)) {
        Some(format) => drop(read(&file, format, &spec).map_err(|e| e.to_string())),
        None => drop(read_texts(&file).map_err(|e| e.to_string())),
    }
});
