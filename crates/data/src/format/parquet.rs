//! Rows of Parquet files.

use super::{Format, MOST_COLUMNS, Rows, Written, guarded};
use crate::compression::{Allowance, Compression};
use crate::error::DataError;
use crate::file;
use crate::row::{Cell, Row};
use ::parquet::basic::Compression as Codec;
use ::parquet::errors::ParquetError;
use ::parquet::file::reader::{FileReader, SerializedFileReader};
use ::parquet::record::Field;
use ::parquet::record::reader::RowIter;
use ::parquet::schema::types::Type;
use bytes::Bytes;
use serde_json::{Map, Value};
use std::path::Path;
use std::sync::Arc;

/// [Parquet](https://parquet.apache.org): columns with types, compressed by snappy, gzip, lz4 or nothing. What is in structs,
/// lists and maps is named by a dotted path: `answer.text`, `answers.0`. Dates and times are texts. Errors: `Io`,
/// `NotRegular`, `OtherContent`, `Inflates`, `BadFile`, `ManyColumns`.
pub struct Parquet;

/// What it is called in messages.
const NAME: &str = "Parquet";

impl Format for Parquet {
    fn about(&self) -> &'static str {
        "Parquet"
    }

    fn extensions(&self) -> &'static [&'static str] {
        &["parquet", "pq"]
    }

    fn has_columns(&self) -> bool {
        true
    }

    fn open(&self, path: &Path, written: &Written) -> Result<Rows, DataError> {
        let (begin, mut content) = file::open_content(path)?;
        if !begin.starts_with(b"PAR1") {
            let have = if begin.starts_with(b"PARE") {
                "an encrypted one"
            } else {
                file::kind(&begin).unwrap_or("something else")
            };
            return Err(DataError::OtherContent { path: path.to_owned(), want: "a Parquet file", have });
        }
        let (reader, bytes): (Box<dyn FileReader>, u64) = match Compression::of(path) {
            // Its end says where everything is.
            Some(_) => {
                let mut all = Vec::new();
                content.read_to_end(&mut all).map_err(|source| DataError::reading(path, source))?;
                let bytes = all.len() as u64;
                let reader = || SerializedFileReader::new(Bytes::from(all)).map_err(|e| bad(path, &e));
                (Box::new(guarded(path, NAME, reader)?), bytes)
            }
            None => {
                let file = file::open(path)?;
                let bytes = file.metadata().map_err(|source| DataError::reading(path, source))?.len();
                (Box::new(guarded(path, NAME, || SerializedFileReader::new(file).map_err(|e| bad(path, &e)))?), bytes)
            }
        };
        let schema = reader.metadata().file_metadata().schema_descr();
        if schema.num_columns() > MOST_COLUMNS {
            return Err(DataError::ManyColumns { path: path.to_owned(), row: 0, line: 1, most: MOST_COLUMNS });
        }
        let fields = schema.root_schema().get_fields();
        let header: Arc<[String]> = fields.iter().map(|field| field.name().to_owned()).collect();
        let chosen: Vec<_> = fields.iter().filter(|field| written.wants(field.name())).cloned().collect();
        let names: Arc<[String]> = chosen.iter().map(|field| field.name().to_owned()).collect();
        let root = Type::group_type_builder(schema.root_schema().name()).with_fields(chosen).build();
        let root = root.map_err(|e| bad(path, &e))?;
        readable(&*reader, &names, path)?;
        let rows =
            guarded(path, NAME, || RowIter::from_file_into(reader).project(Some(root)).map_err(|e| bad(path, &e)))?;
        Ok(Rows { columns: Some(header), rows: iterate(rows, path.into(), names, Allowance::of(bytes)) })
    }
}

/// The rows; the first error is the last of them, since a damaged file is damaged behind it, too.
fn iterate(
    mut rows: RowIter<'static>,
    path: Arc<Path>,
    names: Arc<[String]>,
    mut allowance: Allowance,
) -> Box<dyn Iterator<Item = Result<Row, DataError>>> {
    let (mut position, mut ended) = (0, false);
    Box::new(std::iter::from_fn(move || {
        if ended {
            return None;
        }
        let next = guarded(&path, NAME, || rows.next().transpose().map_err(|e| bad(&path, &e)));
        let row = next.and_then(|row| {
            let Some(row) = row else { return Ok(None) };
            position += 1;
            let cells: Vec<Cell> = row.get_column_iter().map(|(_, field)| cell(field)).collect();
            allowance.take_row(&cells, &path)?;
            Ok(Some(Row::new(path.clone(), position, names.clone(), cells)))
        });
        ended = !matches!(row, Ok(Some(_)));
        row.transpose()
    }))
}

fn bad(path: &Path, error: &ParquetError) -> DataError {
    DataError::BadFile { path: path.to_owned(), format: NAME, what: error.to_string() }
}

/// Refuses columns that are compressed in a way that is not read.
fn readable(reader: &dyn FileReader, names: &[String], path: &Path) -> Result<(), DataError> {
    for group in reader.metadata().row_groups() {
        for column in group.columns() {
            let is_read = matches!(
                column.compression(),
                Codec::UNCOMPRESSED | Codec::SNAPPY | Codec::GZIP(_) | Codec::LZ4 | Codec::LZ4_RAW
            );
            let name = column.column_path().parts().first();
            if !is_read && name.is_some_and(|name| names.contains(name)) {
                let codec = column.compression().to_string();
                let codec = codec.split('(').next().unwrap_or_default();
                let what = format!(
                    "its column `{}` is compressed by {codec}, which is not read: write it with snappy, gzip, lz4 or none",
                    column.column_path().string()
                );
                return Err(DataError::BadFile { path: path.to_owned(), format: NAME, what });
            }
        }
    }
    Ok(())
}

fn cell(field: &Field) -> Cell {
    match field {
        Field::Float16(_) | Field::Float(_) | Field::Double(_) => match fraction(field) {
            none if none == "NaN" => Cell::Null,
            number => Cell::Fraction(number),
        },
        Field::Decimal(_) => Cell::Fraction(field.to_string()),
        Field::Bytes(bytes) => match std::str::from_utf8(bytes.data()) {
            Ok(text) => Cell::Text(text.to_owned()),
            Err(_) => Cell::Other { kind: "bytes that are not UTF-8", text: String::new() },
        },
        Field::Str(text) => Cell::Text(text.clone()),
        nested => Cell::of(&value(nested)),
    }
}

/// A float with a fraction, as JSON writes it.
fn fraction(field: &Field) -> String {
    let text = match field {
        Field::Float16(x) => x.to_f32().to_string(),
        Field::Float(x) => x.to_string(),
        Field::Double(x) => x.to_string(),
        _ => String::new(),
    };
    if text.contains(['.', 'e', 'N', 'i']) { text } else { format!("{text}.0") }
}

fn value(field: &Field) -> Value {
    match field {
        Field::Null => Value::Null,
        Field::Bool(x) => (*x).into(),
        Field::Byte(x) => (*x).into(),
        Field::Short(x) => (*x).into(),
        Field::Int(x) => (*x).into(),
        Field::Long(x) => (*x).into(),
        Field::UByte(x) => (*x).into(),
        Field::UShort(x) => (*x).into(),
        Field::UInt(x) => (*x).into(),
        Field::ULong(x) => (*x).into(),
        Field::Float16(_) | Field::Float(_) | Field::Double(_) | Field::Decimal(_) => {
            let text = if matches!(field, Field::Decimal(_)) { field.to_string() } else { fraction(field) };
            text.parse::<f64>().map_or(Value::Null, Value::from)
        }
        Field::Str(text) => text.as_str().into(),
        Field::Bytes(bytes) => std::str::from_utf8(bytes.data()).map_or(Value::Null, Value::from),
        Field::Group(row) => {
            row.get_column_iter().map(|(name, field)| (name.clone(), value(field))).collect::<Map<_, _>>().into()
        }
        Field::ListInternal(list) => list.elements().iter().map(value).collect::<Vec<_>>().into(),
        Field::MapInternal(map) => {
            let name = |key: &Field| match key {
                Field::Str(name) => name.clone(),
                other => other.to_string(),
            };
            map.entries().iter().map(|(key, field)| (name(key), value(field))).collect::<Map<_, _>>().into()
        }
        Field::Date(_)
        | Field::TimeMillis(_)
        | Field::TimeMicros(_)
        | Field::TimestampMillis(_)
        | Field::TimestampMicros(_) => field.to_string().into(),
    }
}
