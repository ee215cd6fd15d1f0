//! Files of every format, and filters over them: `cargo +nightly fuzz run table`. The first line is a filter, the second the
//! name of the file.
#![no_main]

use lorac::data::format::{Text, format, of};
use lorac::data::{Columns, DataError, Filter, Labels, Row, rows};
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
    let format = of(Path::new(name)).and_then(format).unwrap_or(&Text);
    let mut needed = vec!["text".to_string()];
    needed.extend(format.has_columns().then(|| "label".to_string()));
    let labels = Labels::new(&["a", "b"], None).expect("two labels");
    let read = |row: &Row| -> Result<(), DataError> {
        row.text("text")?;
        if format.has_columns() {
            drop(labels.index(row, "label").map_err(|e| e.to_string()));
            drop(row.number("label").map_err(|e| e.to_string()));
        }
        Ok(())
    };
    let read = rows(format, &file, &Columns { needed, filter, ..Columns::default() })
        .and_then(|table| table.rows.iter().try_for_each(read));
    drop(read.map_err(|e| e.to_string()));
});
