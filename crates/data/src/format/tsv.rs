//! Tab-separated rows.

use super::{Format, MOST_ROW_BYTES, Rows, Written, csv};
use crate::error::DataError;
use ::csv::ReaderBuilder;
use std::path::Path;

/// Tab-separated values with a header row, or with the columns that [`Written`] names
/// ([text/tab-separated-values](https://www.iana.org/assignments/media-types/text/tab-separated-values)), in UTF-8. Every
/// cell is a text, and quotation marks are part of it, as in the files of GLUE; a file with quoted cells is read by
/// [`Csv`](super::Csv) with a tab for its separator. Errors: those of [`Csv`](super::Csv) but `OpenQuote`.
pub struct Tsv;

impl Format for Tsv {
    fn about(&self) -> &'static str {
        "Tab-separated values with a header; quotation marks are part of the text"
    }

    fn extensions(&self) -> &'static [&'static str] {
        &["tsv", "tab"]
    }

    fn has_columns(&self) -> bool {
        true
    }

    fn is_typed(&self) -> bool {
        false
    }

    fn settings(&self) -> &'static [&'static str] {
        &["columns", "encoding"]
    }

    fn open(&self, path: &Path, written: &Written) -> Result<Rows, DataError> {
        csv::open(path, ReaderBuilder::new().quoting(false), b'\t', written, MOST_ROW_BYTES)
    }
}

#[cfg(test)]
mod tests {
    use super::Tsv;
    use crate::DataError;
    use crate::table::tests::pairs;

    #[test]
    fn quotation_marks_and_commas_are_text() {
        let seen = pairs(&Tsv, b"text\tlabel\n\"a, b\t0\r\nsaid \"no\"\t1\n\"\"\"c\tpos\n", None).unwrap();
        let want = [("\"a, b", 0, 1), ("said \"no\"", 1, 2), ("\"\"\"c", 1, 3)];
        assert_eq!(seen, want.map(|(text, label, row)| (text.to_owned(), label, row)));
    }

    #[test]
    fn rows_of_another_width_are_placed() {
        let ragged = pairs(&Tsv, b"text\tlabel\na\t0\nb\t1\tc\n", None);
        assert!(matches!(ragged, Err(DataError::Ragged { row: 2, line: 3, want: 2, have: 3, .. })), "{ragged:?}");
    }
}
