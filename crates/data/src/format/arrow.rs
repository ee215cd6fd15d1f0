//! Rows of Arrow files.

use super::{Format, MOST_COLUMNS, Rows, Written, guarded};
use crate::compression::Allowance;
use crate::error::DataError;
use crate::file;
use crate::row::{Cell, Row};
use arrow_array::cast::AsArray;
use arrow_array::types::{
    Float16Type, Float32Type, Float64Type, Int8Type, Int16Type, Int32Type, Int64Type, UInt8Type, UInt16Type,
    UInt32Type, UInt64Type,
};
use arrow_array::{Array, RecordBatch};
use arrow_buffer::Buffer;
use arrow_ipc::reader::StreamDecoder;
use arrow_ipc::{Message, RecordBatch as Layout, root_as_message};
use arrow_schema::{ArrowError, DataType, Schema};
use serde_json::{Map, Value};
use std::io::Read;
use std::path::Path;
use std::sync::Arc;

/// [Arrow's IPC format](https://arrow.apache.org/docs/format/Columnar.html#serialization-and-interprocess-communication-ipc):
/// files, which Feather 2 is another name of, and streams; compressed by lz4 or not. What is in structs, lists and maps is named
/// by a dotted path: `answer.text`, `answers.0`. Errors: `Io`, `NotRegular`, `OtherContent`, `Inflates`, `BadFile`,
/// `ManyColumns`.
pub struct Arrow;

/// What it is called in messages.
const NAME: &str = "Arrow";

/// What a file begins with, and as many bytes before the stream in it.
const FILE: &[u8] = b"ARROW1\0\0";

/// What a message begins with.
const CONTINUES: [u8; 4] = [0xff; 4];

impl Format for Arrow {
    fn about(&self) -> &'static str {
        "Arrow: an IPC file (Feather 2) or stream"
    }

    fn extensions(&self) -> &'static [&'static str] {
        &["arrow", "feather", "ipc", "arrows"]
    }

    fn has_columns(&self) -> bool {
        true
    }

    fn open(&self, path: &Path, written: &Written) -> Result<Rows, DataError> {
        let (begin, mut content) = file::open_content(path)?;
        if begin.starts_with(&FILE[..6]) {
            content.read_exact(&mut [0; 8]).map_err(|source| DataError::reading(path, source))?;
        } else if !begin.starts_with(&CONTINUES) {
            let have =
                if begin.starts_with(b"FEA1") { "Feather 1" } else { file::kind(&begin).unwrap_or("something else") };
            return Err(DataError::OtherContent { path: path.to_owned(), want: "an Arrow file", have });
        }
        let bytes = std::fs::metadata(path).map_err(|source| DataError::reading(path, source))?.len();
        let allowance = Allowance::of(bytes);
        let mut batches = Batches { path: path.into(), content, decoder: StreamDecoder::new(), allowance };
        let (first, schema) = guarded(path, NAME, || {
            let first = batches.next()?;
            Ok((first, batches.decoder.schema()))
        })?;
        let schema = schema.ok_or_else(|| batches.bad("it has no schema"))?;
        if schema.fields().len() > MOST_COLUMNS {
            return Err(DataError::ManyColumns { path: path.to_owned(), row: 0, line: 1, most: MOST_COLUMNS });
        }
        let header = schema.fields().iter().map(|field| field.name().clone()).collect();
        Ok(Rows { columns: Some(header), rows: batches.rows(first, &schema, written) })
    }
}

/// The record batches of a stream.
struct Batches {
    path: Arc<Path>,
    content: Box<dyn Read>,
    decoder: StreamDecoder,
    allowance: Allowance,
}

impl Batches {
    fn bad(&self, what: impl ToString) -> DataError {
        DataError::BadFile { path: self.path.to_path_buf(), format: NAME, what: what.to_string() }
    }

    /// The next batch; messages that are none are read on the way.
    fn next(&mut self) -> Result<Option<RecordBatch>, DataError> {
        while let Some(message) = self.message()? {
            let mut message = Buffer::from_vec(message);
            let batch = self.decoder.decode(&mut message).map_err(|error| self.bad(plain(&error)))?;
            if batch.is_some() {
                return Ok(batch);
            }
        }
        Ok(None)
    }

    /// The next message, with its body; none at the end of the stream.
    fn message(&mut self) -> Result<Option<Vec<u8>>, DataError> {
        let mut all = self.read(4)?;
        match all.len() {
            0 => return Ok(None),
            4 if all == CONTINUES => all.extend(self.read(4)?),
            4 => all.splice(0..0, CONTINUES).for_each(drop),
            _ => return Err(self.bad("it ends too early")),
        }
        let Some(Ok(length)) = all.get(4..8).map(<[u8; 4]>::try_from) else {
            return Err(self.bad("it ends too early"));
        };
        let length = u32::from_le_bytes(length);
        if length == 0 {
            return Ok(None);
        }
        let metadata = self.read(length.into())?;
        let message = root_as_message(&metadata).map_err(|error| self.bad(error))?;
        let length = u64::try_from(message.bodyLength()).map_err(|error| self.bad(error))?;
        let body = self.read(length)?;
        if body.len() as u64 != length {
            return Err(self.bad("it ends too early"));
        }
        self.bounded(&message, &body)?;
        all.extend(&metadata);
        all.extend(body);
        Ok(Some(all))
    }

    /// So many bytes, or those that there are.
    fn read(&mut self, bytes: u64) -> Result<Vec<u8>, DataError> {
        let mut read = Vec::new();
        let done = self.content.by_ref().take(bytes).read_to_end(&mut read);
        done.map_err(|source| DataError::reading(&self.path, source))?;
        Ok(read)
    }

    /// Refuses a body whose buffers say that they hold more than any does, before room is made for them.
    fn bounded(&self, message: &Message, body: &[u8]) -> Result<(), DataError> {
        let of_dictionary = || message.header_as_dictionary_batch().and_then(|dictionary| dictionary.data());
        let Some(layout): Option<Layout> = message.header_as_record_batch().or_else(of_dictionary) else {
            return Ok(());
        };
        if layout.compression().is_none() {
            return Ok(());
        }
        let mut allowance = self.allowance;
        for buffer in layout.buffers().into_iter().flatten() {
            let begin = usize::try_from(buffer.offset()).ok().and_then(|at| body.get(at..)?.get(..8)?.try_into().ok());
            let length = begin.map_or(0, i64::from_le_bytes);
            allowance.take(u64::try_from(length).unwrap_or(0), &self.path)?;
        }
        Ok(())
    }

    /// The rows of all batches; an error is the last of them.
    fn rows(
        mut self,
        first: Option<RecordBatch>,
        schema: &Schema,
        written: &Written,
    ) -> Box<dyn Iterator<Item = Result<Row, DataError>>> {
        let chosen: Vec<usize> =
            schema.fields().iter().enumerate().filter(|(_, f)| written.wants(f.name())).map(|(i, _)| i).collect();
        let names: Arc<[String]> = chosen.iter().map(|i| schema.field(*i).name().clone()).collect();
        let (mut batch, mut at, mut position, mut ended) = (first, 0, 0, false);
        Box::new(std::iter::from_fn(move || {
            if ended {
                return None;
            }
            let path = self.path.clone();
            let row = guarded(&path, NAME, || {
                while batch.as_ref().is_some_and(|batch| at >= batch.num_rows()) {
                    (batch, at) = (self.next()?, 0);
                }
                let Some(batch) = &batch else { return Ok(None) };
                let cells: Vec<Cell> = chosen.iter().map(|i| cell(batch.column(*i).as_ref(), at)).collect();
                (at, position) = (at + 1, position + 1);
                self.allowance.take_row(&cells, &path)?;
                Ok(Some(Row::new(path.clone(), position, names.clone(), cells)))
            });
            ended = !matches!(row, Ok(Some(_)));
            row.transpose()
        }))
    }
}

/// What is wrong, in words that say what to do where that is known.
fn plain(error: &ArrowError) -> String {
    let text = error.to_string();
    match text.contains("zstd") {
        true => "it is compressed by zstd, which is not read: write it with lz4 or none".to_owned(),
        false => text,
    }
}

fn cell(array: &dyn Array, at: usize) -> Cell {
    match value(array, at) {
        Some(Value::Number(number)) if array.data_type().is_floating() => {
            let text = number.to_string();
            Cell::Fraction(if text.contains(['.', 'e']) { text } else { format!("{text}.0") })
        }
        Some(value) => Cell::of(&value),
        None => Cell::Other { kind: "of a type that is not read", text: array.data_type().to_string() },
    }
}

/// What an array has at a place; none of a type that is not read.
fn value(array: &dyn Array, at: usize) -> Option<Value> {
    macro_rules! number {
        ($($kind:ident => $type:ty),*) => {
            match array.data_type() {
                $(DataType::$kind => return Some(array.as_primitive::<$type>().value(at).into()),)*
                _ => {}
            }
        };
    }
    if at >= array.len() || array.is_null(at) {
        return Some(Value::Null);
    }
    number!(Int8 => Int8Type, Int16 => Int16Type, Int32 => Int32Type, Int64 => Int64Type, UInt8 => UInt8Type,
        UInt16 => UInt16Type, UInt32 => UInt32Type, UInt64 => UInt64Type, Float64 => Float64Type);
    // The shortest text of a number of fewer bits is not that of the f64 of the same value.
    let short = |text: String| text.parse::<f64>().ok().map(Value::from);
    let items =
        |items: &dyn Array| (0..items.len()).map(|i| value(items, i)).collect::<Option<Vec<_>>>().map(Value::from);
    let text = |bytes: &[u8]| std::str::from_utf8(bytes).ok().map(Value::from);
    match array.data_type() {
        DataType::Null => Some(Value::Null),
        DataType::Boolean => Some(array.as_boolean().value(at).into()),
        DataType::Float16 => short(array.as_primitive::<Float16Type>().value(at).to_string()),
        DataType::Float32 => short(array.as_primitive::<Float32Type>().value(at).to_string()),
        DataType::Utf8 => Some(array.as_string::<i32>().value(at).into()),
        DataType::LargeUtf8 => Some(array.as_string::<i64>().value(at).into()),
        DataType::Utf8View => Some(array.as_string_view().value(at).into()),
        DataType::Binary => text(array.as_binary::<i32>().value(at)),
        DataType::LargeBinary => text(array.as_binary::<i64>().value(at)),
        DataType::BinaryView => text(array.as_binary_view().value(at)),
        DataType::Dictionary(..) => {
            let dictionary = array.as_any_dictionary();
            let key = value(dictionary.keys(), at)?.as_u64()?;
            value(dictionary.values().as_ref(), usize::try_from(key).ok()?)
        }
        DataType::List(_) => items(&array.as_list::<i32>().value(at)),
        DataType::LargeList(_) => items(&array.as_list::<i64>().value(at)),
        DataType::FixedSizeList(..) => items(&array.as_fixed_size_list().value(at)),
        DataType::Struct(fields) => {
            let columns = array.as_struct().columns();
            let field = |(field, column): (&Arc<arrow_schema::Field>, &Arc<dyn Array>)| {
                Some((field.name().clone(), value(column.as_ref(), at)?))
            };
            fields.iter().zip(columns).map(field).collect::<Option<Map<_, _>>>().map(Value::from)
        }
        DataType::Map(..) => {
            let entries = array.as_map().value(at);
            let entry = |i: usize| match value(entries.column(0).as_ref(), i)? {
                Value::String(name) => Some((name, value(entries.column(1).as_ref(), i)?)),
                other => Some((other.to_string(), value(entries.column(1).as_ref(), i)?)),
            };
            (0..entries.len()).map(entry).collect::<Option<Map<_, _>>>().map(Value::from)
        }
        _ => None,
    }
}
