//! Texts out of files.

use super::examples::row;
use crate::error::Error;
use crate::output::OutputError;
use crate::served::Served;
use lorac_data::format::{Format, format, of};
use lorac_data::{Columns, DataError, Row, Template, TextEncoding, Written, stream};
use std::fs::File;
use std::io::{BufRead, BufReader, Error as IoError, ErrorKind};
use std::path::Path;

/// Texts of a file: its rows, and the columns or templates that the texts stand in.
pub struct Texts {
    /// The rows, in the file's order.
    pub rows: Box<dyn Iterator<Item = Result<Row, Error>>>,
    /// What a [`Predictor`](super::Predictor) is given with them.
    pub columns: Vec<String>,
}

/// The texts of a file: the lines of a text, or the rows of a table, whose columns or templates are `columns`, or those that
/// the model was trained on where none is given. They are read as they are asked for.
///
/// # Errors
/// A file of no known format, columns that are missing or that nothing names, and what cannot be read.
pub fn texts(path: &Path, columns: &[String], encoding: TextEncoding, served: &Served) -> Result<Texts, Error> {
    let name = of(path).ok_or_else(|| {
        let known = "csv, tsv, jsonl or another table that a pipeline reads, or txt with one text a line";
        Error::Usage(format!("the end of `{}` names no format: {known}", path.display()))
    })?;
    let Some(table) = format(name).filter(|format| format.has_columns()) else {
        if let Some(column) = columns.first() {
            return Err(Error::Usage(format!("`--column {column}`: `{}` has no columns", path.display())));
        }
        let file = File::open(path).map_err(|source| OutputError::Io { path: path.into(), source })?;
        return Ok(lines(BufReader::new(encoding.decoded(Box::new(file))), path));
    };
    let usual = table.usual().map(|usual| usual[0].to_string());
    let columns = match (columns, usual.as_ref().or(served.text.as_ref())) {
        ([], Some(text)) => std::iter::once(text).chain(&served.text_pair).cloned().collect(),
        ([], None) => {
            let why = format!("which column of `{}` has the texts? Name it: --column NAME", path.display());
            return Err(Error::Usage(why));
        }
        (given, _) => given.to_vec(),
    };
    let mut needed = Vec::new();
    for column in &columns {
        let template = Template::parse(column).map_err(DataError::from)?;
        needed.extend(template.columns().into_iter().map(String::from));
    }
    let written = Written { encoding, ..Written::default() };
    let mut rows = stream(table as &dyn Format, path, &Columns { needed, written, ..Columns::default() })?.peekable();
    if rows.peek().is_none() {
        return Err(DataError::Empty { path: path.to_owned(), read: 0, skipped: 0 }.into());
    }
    Ok(Texts { rows: Box::new(rows.map(|row| Ok(row?)).fuse()), columns })
}

/// The lines of a text; `path` names it in errors. An empty line is an empty text.
pub fn lines(reader: impl BufRead + 'static, path: &Path) -> Texts {
    let path = path.to_path_buf();
    let rows = reader.lines().enumerate().map(move |(at, line)| match line {
        Ok(line) => Ok(row(at, &[line.trim_end_matches('\r')])),
        Err(e) if e.kind() == ErrorKind::InvalidData => {
            let source = IoError::new(e.kind(), format!("line {} is not UTF-8", at + 1));
            Err(OutputError::Io { path: path.clone(), source }.into())
        }
        Err(source) => Err(OutputError::Io { path: path.clone(), source }.into()),
    });
    Texts { rows: Box::new(rows), columns: vec![super::examples::COLUMNS[0].to_string()] }
}

#[cfg(test)]
mod tests {
    use super::*;
    use lorac_train::Prediction;

    fn read(name: &str, content: &[u8], columns: &[&str], trained_on: Option<&str>) -> Result<Vec<String>, String> {
        let folder = tempfile::tempdir().expect("temp");
        let path = folder.path().join(name);
        std::fs::write(&path, content).expect("writes");
        let columns: Vec<String> = columns.iter().map(ToString::to_string).collect();
        let mut served = Served::plain("classify", Prediction::Classes, "logits");
        served.text = trained_on.map(String::from);
        let found = texts(&path, &columns, TextEncoding::default(), &served).map_err(|e| e.to_string())?;
        let fill = |row: Row| -> Result<String, Error> {
            let template = Template::parse(&found.columns[0]).map_err(DataError::from)?;
            Ok(template.fill(&row)?.into_owned())
        };
        found.rows.map(|row| row.and_then(fill).map_err(|e| e.to_string())).collect()
    }

    #[test]
    fn texts_are_lines_or_rows() {
        assert_eq!(read("a.txt", b"one\r\n\ntwo", &[], Some("review")).expect("reads"), ["one", "", "two"]);
        let table = b"id,review\n1,fine\n2,dull\n";
        assert_eq!(read("a.csv", table, &[], Some("review")).expect("reads"), ["fine", "dull"]);
        assert_eq!(read("a.csv", table, &["{id}: {review}"], Some("x")).expect("reads"), ["1: fine", "2: dull"]);
        assert_eq!(read("a.jsonl", b"{\"a\":{\"b\":\"x\"}}\n", &["a.b"], None).expect("reads"), ["x"]);
    }

    #[test]
    fn rows_are_read_as_they_are_asked_for() {
        let folder = tempfile::tempdir().expect("temp");
        let path = folder.path().join("a.csv");
        std::fs::write(&path, b"review\ncaf\xe9\ntwo\nthree,4\nfive\n").expect("writes");
        let served = Served::plain("classify", Prediction::Classes, "logits");
        let latin1 = TextEncoding::named("latin-1").expect("known");
        let found = texts(&path, &["review".to_string()], latin1, &served).expect("opens");
        let read: Vec<_> = found.rows.map(|row| row.map(|row| row.text("review").map(str::to_string).ok())).collect();
        assert_eq!(read.len(), 3, "the first wrong row is the last");
        assert_eq!(read[0].as_ref().expect("a row").as_deref(), Some("caf\u{e9}"));
        assert!(read[2].as_ref().expect_err("two cells").to_string().contains("row 3 (line 4) has 2 cells"));
        let plain = texts(&path, &["review".to_string()], TextEncoding::default(), &served).expect("opens");
        let wrong = plain.rows.filter_map(Result::err).map(|e| e.to_string()).next().expect("no UTF-8");
        assert!(wrong.contains("row 1 (line 2) is not UTF-8") && wrong.contains("encoding"), "{wrong}");
        assert!(read_text(latin1, b"caf\xe9\n").contains("caf\u{e9}"));
    }

    fn read_text(encoding: TextEncoding, content: &[u8]) -> String {
        let folder = tempfile::tempdir().expect("temp");
        let path = folder.path().join("a.txt");
        std::fs::write(&path, content).expect("writes");
        let served = Served::plain("classify", Prediction::Classes, "logits");
        let mut rows = texts(&path, &[], encoding, &served).expect("opens").rows;
        rows.next().expect("a line").expect("reads").text("text").expect("a text").to_string()
    }

    #[test]
    fn what_has_no_texts_is_refused() {
        let table = b"id,review\n1,fine\n";
        let says = |name, columns: &[&str], trained_on| read(name, table, columns, trained_on).expect_err("refused");
        assert!(says("a.csv", &["reviw"], None).contains("reviw"));
        assert!(says("a.csv", &[], None).contains("--column"));
        assert!(says("a.xyz", &[], None).contains("names no format"));
        assert!(says("a.txt", &["review"], None).contains("has no columns"));
        let empty = read("a.csv", b"review\n", &["review"], None).expect_err("no rows");
        assert!(empty.contains("it has no rows"), "{empty}");
        let broken = read("a.txt", b"one\n\xff\n", &[], None).expect_err("no text");
        assert!(broken.contains("line 2 is not UTF-8"), "{broken}");
    }
}
