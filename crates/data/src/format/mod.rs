//! How files are written: one file here for each format.
//!
//! A format opens a file and iterates over its rows. Which columns are needed, filters, labels and numbers stand once,
//! outside ([`crate::rows`], [`crate::Labels`], [`Row`]).

use crate::compression::uncompressed;
use crate::encoding::TextEncoding;
use crate::error::DataError;
use crate::row::Row;
use std::path::Path;
use std::sync::Arc;

mod arrays;

pub use images::image_files;

lorac_config::members! {
    /// Every format by its key in a pipeline.
    pub static FORMATS: dyn Format = {
        csv: Csv,
        tsv: Tsv,
        jsonl: JsonLines,
        parquet: Parquet,
        arrow: Arrow,
        conll: Conll,
        txt: Text,
        npz: Npz,
        safetensors: SafeTensors,
        images: Images,
    };
}

/// How a file, or a folder of files, is written.
pub trait Format: Sync {
    /// What it is, in one line: `Comma-separated values with a header`.
    fn about(&self) -> &'static str;

    /// Ends of the names of such files, in lower case and without the dot.
    fn extensions(&self) -> &'static [&'static str];

    /// Whether rows have named columns; else each file is one text, in the column [`TEXT`].
    fn has_columns(&self) -> bool;

    /// Whether its columns may have texts.
    fn has_texts(&self) -> bool {
        true
    }

    /// Whether it has images, by their paths in the first of its usual columns.
    fn has_images(&self) -> bool {
        false
    }

    /// Whether cells have types; else every one is a text.
    fn is_typed(&self) -> bool {
        true
    }

    /// What of [`Written`] it heeds, by the keys of a pipeline.
    fn settings(&self) -> &'static [&'static str] {
        &[]
    }

    /// The columns of texts and of their labels, where all such files have them.
    fn usual(&self) -> Option<[&'static str; 2]> {
        None
    }

    /// Opens a file, or a folder where the format has folders, that is written as `written` says. Rows come in the file's
    /// order. An error in place of a row that is of that row alone ([`DataError::is_of_a_row`]) may be passed over; any other
    /// ends the rows.
    ///
    /// # Errors
    /// `Io`, `NotUtf8` and what else the format's type lists, here or in place of a row.
    fn open(&self, path: &Path, written: &Written) -> Result<Rows, DataError>;
}

/// How a file is written, where its format leaves that open.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Written {
    /// The byte between the cells of a row. Default: the format's.
    pub separator: Option<u8>,
    /// What cells are quoted by. Default: the format's.
    pub quote: Option<Quote>,
    /// The names of the columns of a file without a header. Default: its first row.
    pub columns: Option<Vec<String>>,
    /// How the bytes of a text stand for its characters. Default: UTF-8.
    pub encoding: TextEncoding,
    /// Columns that are needed, or paths into them: what else a file has may be left out of its rows. Empty: all.
    pub needed: Vec<String>,
}

impl Written {
    /// Whether a column may be needed.
    pub(crate) fn wants(&self, column: &str) -> bool {
        let of = |path: &String| path == column || path.strip_prefix(column).is_some_and(|rest| rest.starts_with('.'));
        self.needed.is_empty() || self.needed.iter().any(of)
    }
}

/// What a reader makes of a file. A panic of a foreign reader over a damaged file is an error of the file.
pub(crate) fn guarded<T>(
    path: &Path,
    format: &'static str,
    read: impl FnOnce() -> Result<T, DataError>,
) -> Result<T, DataError> {
    let bad = |_| DataError::BadFile { path: path.to_owned(), format, what: "it is damaged".to_owned() };
    std::panic::catch_unwind(std::panic::AssertUnwindSafe(read)).map_err(bad).and_then(|read| read)
}

/// What the cells of a table are quoted by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Quote {
    /// A byte before and behind a cell, which is doubled within it.
    Sign(u8),
    /// Nothing: quotation marks are part of the text.
    Absent,
}

/// Longer rows are no texts, but files of another kind, or a quote that is never closed.
pub(crate) const MOST_ROW_BYTES: u64 = 256 << 20;

/// The most columns of a table.
pub(crate) const MOST_COLUMNS: usize = 100_000;

/// The column of formats without columns.
pub const TEXT: &str = "text";

/// An opened file.
pub struct Rows {
    /// The header, where one holds for all rows.
    pub columns: Option<Arc<[String]>>,
    /// The rows.
    pub rows: Box<dyn Iterator<Item = Result<Row, DataError>>>,
}

/// The format with this name.
#[must_use]
pub fn format(name: &str) -> Option<&'static dyn Format> {
    FORMATS.iter().find(|(known, _)| *known == name).map(|(_, format)| *format as &dyn Format)
}

/// The name of the format that the end of a file's name stands for; case does not count, nor does an end that says how the
/// file is compressed: `a.csv.gz` is a `csv`.
#[must_use]
pub fn of(path: &Path) -> Option<&'static str> {
    let path = uncompressed(path);
    let extension = path.extension()?.to_str()?.to_ascii_lowercase();
    FORMATS.iter().find(|(_, format)| format.extensions().contains(&extension.as_str())).map(|(name, _)| *name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn formats_are_found_by_name_and_by_file() {
        for (name, one) in FORMATS {
            assert_eq!(format(name).unwrap().about(), one.about());
            for extension in one.extensions() {
                assert_eq!(of(&Path::new("a").with_extension(extension)), Some(*name), "{extension}");
            }
        }
        let name = |path| of(Path::new(path));
        assert_eq!(name("a/B.CSV"), Some("csv"));
        assert_eq!(
            (name("b.jsonl"), name("b.jsonl.zst"), name("a.b.CSV.GZ")),
            (Some("jsonl"), Some("jsonl"), Some("csv"))
        );
        assert_eq!((name("b.xyz"), name("csv")), (None, None));
        assert!(format("xyz").is_none());
    }

    #[cfg(unix)]
    #[test]
    fn what_has_no_end_is_refused() {
        for (name, format) in FORMATS {
            let opened = format.open(Path::new("/dev/zero"), &Written::default());
            let error = opened.and_then(|mut opened| opened.rows.next().unwrap()).unwrap_err();
            assert_eq!(error.to_string(), "`/dev/zero` is a pipe or device, not a regular file", "{name}");
        }
    }

    #[test]
    fn a_missing_file_is_named() {
        for (name, format) in FORMATS {
            let opened = format.open(Path::new("no/such.file"), &Written::default());
            let error = opened.and_then(|mut opened| opened.rows.next().unwrap()).unwrap_err();
            assert!(error.to_string().contains("such.file"), "{name}: {error}");
        }
    }
}
