//! Rows of arrays that lie side by side.

use super::Rows;
use crate::error::DataError;
use crate::row::{Cell, Row};
use lorac_ir::{DType, Tensor};
use std::path::Path;
use std::sync::Arc;

/// An array of a file; without its elements where nobody asked for it.
pub(super) struct Named {
    pub(super) name: String,
    pub(super) tensor: Option<Tensor>,
}

/// The rows of arrays: of each the part at one place of its first dimension, a number where it has no other.
///
/// # Errors
/// `ArrayRows`: arrays without rows, with other numbers of them, or with rows of nothing.
pub(super) fn rows_of(path: &Path, arrays: Vec<Named>) -> Result<Rows, DataError> {
    let header: Arc<[String]> = arrays.iter().map(|array| array.name.clone()).collect();
    let read: Vec<(String, Tensor)> =
        arrays.into_iter().filter_map(|array| Some((array.name, array.tensor?))).collect();
    let wrong = |what: String| DataError::ArrayRows { path: path.to_owned(), what };
    let mut count: Option<(&str, usize)> = None;
    for (name, tensor) in &read {
        let rows = *tensor.dims().first().ok_or_else(|| wrong(format!("`{name}` has no rows: it is one number")))?;
        match count {
            Some((first, n)) if n != rows => {
                return Err(wrong(format!("`{first}` has {n} rows and `{name}` has {rows}")));
            }
            _ if rows > 0 && tensor.is_empty() => {
                return Err(wrong(format!("`{name}` has rows without an element: its shape is {:?}", tensor.dims())));
            }
            _ => count = Some((name, rows)),
        }
    }
    let count = count.map_or(0, |(_, rows)| rows);
    let (path, names): (Arc<Path>, Arc<[String]>) = (path.into(), read.iter().map(|(name, _)| name.clone()).collect());
    let rows = (0..count).map(move |at| {
        let cells = read.iter().map(|(_, tensor)| cell(tensor, at)).collect();
        Ok(Row::new(path.clone(), at + 1, names.clone(), cells))
    });
    Ok(Rows { columns: Some(header), rows: Box::new(rows) })
}

/// One row of an array.
fn cell(tensor: &Tensor, at: usize) -> Cell {
    let dims = tensor.dims().get(1..).unwrap_or_default().to_vec();
    let size = dims.iter().product::<usize>() * tensor.dtype().size();
    let bytes = tensor.bytes().slice(at * size..(at + 1) * size);
    let Ok(row) = Tensor::new(tensor.dtype(), dims, bytes) else { return Cell::Null };
    match (row.dims(), row.to_f64()) {
        ([], Some(number)) => {
            let number = number.first().copied().unwrap_or(f64::NAN);
            match row.dtype() {
                DType::Bool => Cell::Bool(number != 0.0),
                dtype if dtype.is_float() => Cell::Fraction(number.to_string()),
                _ => Cell::Integer(row.to_i64().and_then(|n| n.first().copied()).unwrap_or(number as i64).to_string()),
            }
        }
        _ => Cell::Array(row),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_of_nothing_are_refused_however_many() {
        let of = |dims: Vec<usize>| {
            let tensor = Tensor::new(DType::F32, dims, Vec::new().into()).unwrap();
            rows_of(Path::new("f"), vec![Named { name: "x".into(), tensor: Some(tensor) }])
                .map(|made| made.rows.count())
        };
        let wrong = of(vec![1_000_000_000_000_000_000, 0]).unwrap_err().to_string();
        assert!(wrong.contains("`x` has rows without an element: its shape is [1000000000000000000, 0]"), "{wrong}");
        assert_eq!(of(vec![0, 3]).unwrap(), 0);
    }
}
