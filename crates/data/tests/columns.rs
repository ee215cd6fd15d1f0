//! Parquet and Arrow files as pyarrow writes them (tests/truth/tables.py).

use lorac_data::format::{Arrow, Parquet};
use lorac_data::{Cell, Columns, DataError, Filter, Format, Labels, Row, Table, Written, rows};
use std::path::{Path, PathBuf};

fn file(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/data/tables").join(name)
}

fn format(name: &str) -> &'static dyn Format {
    lorac_data::format::of(Path::new(name)).and_then(lorac_data::format).expect("a format")
}

fn read(name: &str, needed: &[&str], filter: Option<&str>) -> Result<Table, DataError> {
    let needed = needed.iter().map(|name| (*name).to_owned()).collect();
    let filter = filter.map(Filter::parse).transpose()?;
    rows(format(name), &file(name), &Columns { needed, filter, ..Columns::default() })
}

const FULL: [&str; 7] =
    ["none.parquet", "snappy.parquet", "gzip.parquet", "lz4.parquet", "lz4.feather", "none.feather", "stream.arrow"];

#[test]
fn every_type_of_a_column_is_read_as_what_it_is() {
    for name in FULL {
        let columns = [
            "text",
            "large",
            "word",
            "label",
            "small",
            "score",
            "double",
            "ok",
            "answer.text",
            "answer.start.0",
            "tags",
        ];
        let table = read(name, &columns, None).unwrap_or_else(|e| panic!("{name}: {e}"));
        assert_eq!((table.read, table.rows.len()), (40, 40), "{name}");
        let row = &table.rows[14];
        let text = |column: &str| row.text(column).unwrap_or_else(|e| panic!("{name}: {e}"));
        assert_eq!(
            ["text", "large", "word", "answer.text"].map(text),
            ["text 14", "text 14", "w2", "text 14"],
            "{name}"
        );
        assert_eq!(row.number("score").expect("a number"), 3.5, "{name}");
        assert_eq!(row.cell("label"), Some(&Cell::Integer("0".into())), "{name}");
        assert_eq!(row.cell("small"), Some(&Cell::Integer("0".into())), "{name}");
        assert_eq!(row.cell("answer.start.0"), Some(&Cell::Integer("14".into())), "{name}");
        assert_eq!(row.cell("ok"), Some(&Cell::Bool(false)), "{name}");
        assert_eq!(row.cell("score"), Some(&Cell::Fraction("3.5".into())), "{name}");
        assert_eq!(table.rows[4].cell("score"), Some(&Cell::Fraction("1.0".into())), "{name}");
        assert_eq!(table.rows[3].cell("double"), Some(&Cell::Null), "{name}");
        assert_eq!(table.rows[1].number("double").expect("a number"), 0.1, "{name}");
        let Some(Cell::Other { kind: "an array", text }) = row.cell("tags") else { panic!("{name}: {row:?}") };
        assert_eq!(text, r#"["t0","t1"]"#, "{name}");
        assert_eq!((row.position, row.line), (15, None), "{name}");
        let labels = Labels::new(&["false", "true"], None).expect("labels");
        assert_eq!(labels.index(&table.rows[1], "ok").expect("a label"), 1, "{name}");
        assert_eq!(labels.index(&table.rows[1], "small").expect("a label"), 1, "{name}");
    }
}

#[test]
fn groups_and_batches_follow_each_other_and_filters_see_types() {
    for name in ["groups.parquet", "none.feather", "stream.arrow"] {
        let table = read(name, &["text"], Some("label == 1")).unwrap_or_else(|e| panic!("{name}: {e}"));
        let places: Vec<usize> = table.rows.iter().map(|row| row.position).collect();
        assert_eq!((table.read, places), (40, (1..=20).map(|i| 2 * i).collect()), "{name}");
    }
    let ok = read("snappy.parquet", &["text"], Some("ok == true and score >= 9")).expect("reads");
    assert_eq!(ok.rows.len(), 2);
}

#[test]
fn columns_that_are_not_there_are_named_and_those_of_other_types_refused() {
    for name in ["snappy.parquet", "lz4.feather"] {
        let error = read(name, &["txt"], None).unwrap_err();
        assert!(error.to_string().contains("no column `txt` (nearest: `text`"), "{error}");
        let error = read(name, &["answer.txt"], None).unwrap_err();
        assert!(error.to_string().contains("row 1 has no field `answer.txt` (nearest: `answer.text`"), "{error}");
        let table = read(name, &["label"], None).expect("reads");
        assert!(matches!(table.rows[0].text("label"), Err(DataError::WrongType { have: "an integer", .. })));
    }
}

#[test]
fn only_what_is_needed_is_read() {
    for (format, name) in [(&Parquet as &dyn Format, "snappy.parquet"), (&Arrow, "lz4.feather")] {
        let written = Written { needed: vec!["answer.text".into(), "label".into()], ..Written::default() };
        let mut opened = format.open(&file(name), &written).expect("opens");
        assert_eq!(opened.columns.expect("a header").len(), 11);
        let row: Row = opened.rows.next().expect("a row").expect("a row");
        assert!(row.cell("answer").is_some() && row.cell("label").is_some() && row.cell("text").is_none());
    }
}

#[test]
fn what_is_compressed_otherwise_or_older_is_named() {
    for (name, says) in [
        ("zstd.parquet", "its column `text` is compressed by ZSTD, which is not read: write it with snappy"),
        ("zstd.feather", "it is compressed by zstd, which is not read: write it with lz4 or none"),
        ("one.feather", "expected an Arrow file, found Feather 1"),
    ] {
        let error = read(name, &["text"], None).unwrap_err();
        assert!(error.to_string().contains(says), "{name}: {error}");
    }
}

#[test]
fn small_files_that_hold_much_are_refused() {
    let error = read("bomb.parquet", &["text"], Some("text == y")).unwrap_err();
    assert!(matches!(error, DataError::Inflates { .. }), "{error}");
    // One of the numbers of the file after the other says that a buffer holds 2^50 bytes.
    let folder = tempfile::tempdir().expect("a folder");
    let (path, good) = (folder.path().join("a.feather"), std::fs::read(file("lz4.feather")).expect("reads"));
    let columns = Columns { needed: vec!["text".into()], ..Columns::default() };
    let mut refused = 0;
    for at in (0..good.len() - 8).step_by(8) {
        let number = i64::from_le_bytes(good[at..at + 8].try_into().expect("eight bytes"));
        if (1..100_000).contains(&number) {
            let mut bad = good.clone();
            bad[at..at + 8].copy_from_slice(&(1i64 << 50).to_le_bytes());
            std::fs::write(&path, bad).expect("writes");
            refused += usize::from(matches!(rows(&Arrow, &path, &columns), Err(DataError::Inflates { .. })));
        }
    }
    assert!(refused > 3, "{refused}");
}

/// No byte of a damaged file ends the process.
#[test]
fn damaged_files_are_errors() {
    let folder = tempfile::tempdir().expect("a folder");
    for name in ["snappy.parquet", "lz4.feather", "stream.arrow"] {
        let good = std::fs::read(file(name)).expect("reads");
        let path = folder.path().join(name);
        let columns = Columns { needed: vec!["text".into(), "answer.text".into()], ..Columns::default() };
        for at in (0..good.len()).step_by(17) {
            let mut bad = good.clone();
            bad[at] ^= 0x55;
            std::fs::write(&path, &bad).expect("writes");
            drop(rows(format(name), &path, &columns));
            std::fs::write(&path, &good[..at]).expect("writes");
            drop(rows(format(name), &path, &columns));
        }
        std::fs::write(&path, b"text,label\n").expect("writes");
        assert!(matches!(rows(format(name), &path, &columns), Err(DataError::OtherContent { .. })));
    }
}
