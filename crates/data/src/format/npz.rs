//! Arrays of NumPy.

use super::arrays::{Named, rows_of};
use super::{Format, Rows, Written};
use crate::compression::Allowance;
use crate::error::DataError;
use crate::file;
use bytes::Bytes;
use lorac_ir::{DType, Tensor};
use std::io::Read;
use std::path::Path;
use zip::ZipArchive;

/// A [NumPy archive](https://numpy.org/doc/stable/reference/generated/numpy.lib.format.html) of arrays, compressed or not: the
/// first dimension of each is that of the rows, the names of the arrays are the columns. Errors: `Io`, `NotRegular`,
/// `OtherContent`, `Inflates`, `BadFile`, `ArrayRows`.
pub struct Npz;

/// What it is called in messages.
const NAME: &str = "a NumPy archive";

/// What an array in the archive begins with.
const MAGIC: &[u8] = b"\x93NUMPY";

impl Format for Npz {
    fn about(&self) -> &'static str {
        "Arrays of NumPy: an .npz file, whose arrays are columns and have a row for each example"
    }

    fn extensions(&self) -> &'static [&'static str] {
        &["npz"]
    }

    fn has_columns(&self) -> bool {
        true
    }

    fn has_texts(&self) -> bool {
        false
    }

    fn open(&self, path: &Path, written: &Written) -> Result<Rows, DataError> {
        let opened = file::open(path)?;
        let size = opened.metadata().map_err(|source| DataError::reading(path, source))?.len();
        let (begin, _) = file::open_content(path)?;
        if !begin.starts_with(b"PK") {
            let have = file::kind(&begin).unwrap_or("something else");
            return Err(DataError::OtherContent { path: path.to_owned(), want: "an .npz file", have });
        }
        let bad = |what: String| DataError::BadFile { path: path.to_owned(), format: NAME, what };
        let mut archive = ZipArchive::new(opened).map_err(|e| bad(e.to_string()))?;
        let mut allowance = Allowance::of(size);
        let mut all = Vec::new();
        for at in 0..archive.len() {
            let mut entry = archive.by_index(at).map_err(|e| bad(e.to_string()))?;
            let name = entry.name().strip_suffix(".npy").unwrap_or(entry.name()).to_owned();
            if !written.wants(&name) {
                all.push(Named { name, tensor: None });
                continue;
            }
            let size = entry.size();
            allowance.take(size, path)?;
            let mut bytes = Vec::new();
            // What an entry says of its size need not be so.
            let read = entry.by_ref().take(size.saturating_add(1)).read_to_end(&mut bytes);
            read.map_err(|e| bad(format!("its array `{name}`: {e}")))?;
            let tensor = array(bytes.into()).map_err(|what| bad(format!("its array `{name}`: {what}")))?;
            all.push(Named { name, tensor: Some(tensor) });
        }
        rows_of(path, all)
    }
}

/// The array of an `.npy` file: a header that says its type and shape, and its elements.
fn array(bytes: Bytes) -> Result<Tensor, String> {
    let short = || "it ends early".to_string();
    if !bytes.starts_with(MAGIC) {
        return Err("it is not an array of NumPy".into());
    }
    let version = *bytes.get(MAGIC.len()).ok_or_else(short)?;
    let length = |at: usize, count: usize| -> Option<usize> {
        let raw = bytes.get(at..at + count)?;
        Some(raw.iter().rev().fold(0usize, |n, byte| n << 8 | usize::from(*byte)))
    };
    let (start, header) = match version {
        1 => (10, length(8, 2)),
        2 | 3 => (12, length(8, 4)),
        other => return Err(format!("version {other} of the format is not read")),
    };
    let end = header.and_then(|header| header.checked_add(start)).ok_or_else(short)?;
    let header = bytes.get(start..end).ok_or_else(short)?;
    let header = std::str::from_utf8(header).map_err(|_| "its header is not a text".to_string())?;
    let value = |key: &str| {
        let behind = header.split_once(&format!("'{key}':"))?.1.trim_start();
        Some(behind)
    };
    let missing = |key: &str| format!("its header says no `{key}`");
    let descr = value("descr").and_then(|text| text.strip_prefix('\'')).and_then(|text| text.split_once('\''));
    let (descr, _) = descr.ok_or_else(|| "its elements are structs, which are not read".to_string())?;
    let dtype = match descr {
        "<f2" => DType::F16,
        "<f4" => DType::F32,
        "<f8" => DType::F64,
        "|i1" => DType::I8,
        "<i2" => DType::I16,
        "<i4" => DType::I32,
        "<i8" => DType::I64,
        "|u1" => DType::U8,
        "<u2" => DType::U16,
        "<u4" => DType::U32,
        "<u8" => DType::U64,
        "|b1" => DType::Bool,
        other => return Err(format!("elements of the type `{other}` are not read")),
    };
    if value("fortran_order").ok_or_else(|| missing("fortran_order"))?.starts_with("True") {
        return Err("it is stored column by column: save numpy.ascontiguousarray(array)".into());
    }
    let shape = value("shape").and_then(|text| text.strip_prefix('(')).and_then(|text| text.split_once(')'));
    let (shape, _) = shape.ok_or_else(|| missing("shape"))?;
    let dims = shape.split(',').map(str::trim).filter(|text| !text.is_empty()).map(str::parse);
    let dims: Vec<usize> = dims.collect::<Result<_, _>>().map_err(|_| format!("its shape is ({shape})"))?;
    Tensor::new(dtype, dims, bytes.slice(end..)).map_err(|e| e.to_string())
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::row::Cell;
    use std::io::Write;
    use zip::write::SimpleFileOptions;

    /// An `.npy` file.
    pub(crate) fn npy(descr: &str, shape: &str, data: &[u8]) -> Vec<u8> {
        let header = format!("{{'descr': '{descr}', 'fortran_order': False, 'shape': {shape}, }}\n");
        let mut bytes = [MAGIC, &[1, 0], &(header.len() as u16).to_le_bytes()].concat();
        bytes.extend_from_slice(header.as_bytes());
        bytes.extend_from_slice(data);
        bytes
    }

    /// An archive of arrays.
    pub(crate) fn npz(path: &Path, arrays: &[(&str, Vec<u8>)]) {
        let mut archive = zip::ZipWriter::new(std::fs::File::create(path).unwrap());
        for (name, bytes) in arrays {
            archive.start_file(format!("{name}.npy"), SimpleFileOptions::default()).unwrap();
            archive.write_all(bytes).unwrap();
        }
        archive.finish().unwrap();
    }

    fn opened(arrays: &[(&str, Vec<u8>)]) -> Result<Vec<Vec<Cell>>, String> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.npz");
        npz(&path, arrays);
        let Rows { columns, rows } = Npz.open(&path, &Written::default()).map_err(|e| e.to_string())?;
        let names = columns.unwrap();
        let rows = rows.map(|row| row.map(|row| names.iter().map(|name| row.cell(name).unwrap().clone()).collect()));
        rows.collect::<Result<_, _>>().map_err(|e| e.to_string())
    }

    #[test]
    fn arrays_are_columns_and_their_first_dimension_that_of_the_rows() {
        let floats: Vec<u8> = [0.5f32, 1.0, 2.0, 3.0].iter().flat_map(|x| x.to_le_bytes()).collect();
        let rows = opened(&[
            ("x", npy("<f4", "(2, 2)", &floats)),
            ("y", npy("<i8", "(2,)", &[[7, 0, 0, 0, 0, 0, 0, 0], [255; 8]].concat())),
            ("w", npy("<f8", "(2,)", &[1.5f64.to_le_bytes(), 2f64.to_le_bytes()].concat())),
        ]);
        let array = |x: &[f32]| Cell::Array(Tensor::vector(x));
        let (integer, fraction) = (|n: &str| Cell::Integer(n.into()), |n: &str| Cell::Fraction(n.into()));
        assert_eq!(
            rows.unwrap(),
            [[array(&[0.5, 1.0]), integer("7"), fraction("1.5")], [array(&[2.0, 3.0]), integer("-1"), fraction("2")]]
        );
    }

    #[test]
    fn what_is_no_table_of_arrays_is_refused_with_its_name() {
        let bytes = |n: usize| vec![0; n];
        let says = |arrays: &[(&str, Vec<u8>)]| opened(arrays).unwrap_err();
        let rows = says(&[("x", npy("|u1", "(3, 2)", &bytes(6))), ("y", npy("|u1", "(2,)", &bytes(2)))]);
        assert!(rows.contains("`x` has 3 rows and `y` has 2"), "{rows}");
        assert!(
            says(&[("x", npy("|u1", "(3, 2)", &bytes(5)))]).contains("its array `x`: u8[3, 2] needs 6 bytes, got 5")
        );
        assert!(says(&[("x", npy("|u1", "()", &bytes(1)))]).contains("`x` has no rows"));
        assert!(says(&[("x", npy(">f4", "(1,)", &bytes(4)))]).contains("elements of the type `>f4` are not read"));
        assert!(says(&[("x", b"PK".to_vec())]).contains("`x`: it is not an array of NumPy"));
        let turned = String::from_utf8(npy("|u1", "(1,)", b"a")).map(|text| text.replace("False", "True "));
        let turned = turned.unwrap_or_default().into_bytes();
        assert!(turned.is_empty() || says(&[("x", turned)]).contains("ascontiguousarray"));
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.npz");
        std::fs::write(&path, "text").unwrap();
        assert!(matches!(Npz.open(&path, &Written::default()).err(), Some(DataError::OtherContent { .. })));
    }
}
