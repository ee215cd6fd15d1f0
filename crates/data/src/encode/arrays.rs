//! Numbers as they are: arrays for the inputs of a model.

use super::{Encode, Encodings};
use crate::error::DataError;
use crate::example::{Example, Field};
use crate::row::{Cell, Row};
use crate::tokenize::Tokenizer;
use lorac_config::{Check, Problems};
use lorac_ir::Tensor;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Mutex;

/// Columns of arrays, or of numbers, by the input that each is for. Several columns become one array of their numbers. Errors:
/// `Array` of a row.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(transparent)]
pub struct Arrays {
    /// Columns by the names of inputs
    pub inputs: BTreeMap<String, Vec<String>>,
}

impl Check for Arrays {
    fn check(&self, problems: &mut Problems) {
        for (input, columns) in self.inputs.iter().filter(|(_, columns)| columns.is_empty()) {
            let message = format!("the input `{input}` has no column: {columns:?}");
            problems.report(input, "pipeline::split", message);
        }
    }
}

impl Encode for Arrays {
    fn columns(&self) -> Vec<&str> {
        self.inputs.values().flatten().map(String::as_str).collect()
    }

    fn one_per_row(&self) -> bool {
        true
    }

    fn reads_texts(&self) -> bool {
        false
    }

    fn fields(&self) -> Vec<&str> {
        self.inputs.keys().map(String::as_str).collect()
    }

    fn check_row(&self, row: &Row) -> Result<(), DataError> {
        self.inputs.values().try_for_each(|columns| array(row, columns).map(drop))
    }

    fn encode(&self, rows: &[Row], _: Option<&Tokenizer>) -> Result<Encodings, DataError> {
        let example = |row: &Row| {
            let field = |(input, columns): (&String, &Vec<String>)| {
                Ok((name_of(&field_of(input)), Field::Array(array(row, columns)?)))
            };
            let fields = self.inputs.iter().map(field).collect::<Result<_, DataError>>()?;
            Ok(Example { fields })
        };
        let examples = rows.iter().map(example).collect::<Result<_, DataError>>()?;
        Ok(Encodings { examples, ..Encodings::default() })
    }
}

/// The field of an array for an input: no name of an input is that of another field.
#[must_use]
pub fn field_of(input: &str) -> String {
    format!("array.{input}")
}

/// A name for as long as the program runs: there are as many as inputs of models, and no more.
pub(crate) fn name_of(name: &str) -> &'static str {
    static KNOWN: Mutex<BTreeSet<&'static str>> = Mutex::new(BTreeSet::new());
    let mut known = KNOWN.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
    match known.get(name) {
        Some(name) => name,
        None => {
            let name: &'static str = String::leak(name.to_owned());
            known.insert(name);
            name
        }
    }
}

/// What stands in columns of a row: the array of the one, or the numbers of all.
fn array(row: &Row, columns: &[String]) -> Result<Tensor, DataError> {
    match columns {
        [one] => cell(row, one),
        several => {
            let numbers = several.iter().map(|column| number(row, column));
            let numbers = numbers.collect::<Result<Vec<_>, _>>()?;
            tensor(&[several.len()], &numbers).map_err(|what| wrong(row, &several.join(", "), what))
        }
    }
}

fn wrong(row: &Row, column: &str, what: String) -> DataError {
    let (path, column) = (row.path.to_path_buf(), column.to_owned());
    DataError::Array { path, row: row.position, line: row.line, column, what }
}

fn cell(row: &Row, column: &str) -> Result<Tensor, DataError> {
    let wrong = |what: String| wrong(row, column, what);
    match row.need(column)? {
        Cell::Array(tensor) => Ok(tensor.clone()),
        Cell::Other { text, .. } => {
            let value: Value = serde_json::from_str(text).map_err(|e| wrong(e.to_string()))?;
            let (mut dims, mut numbers) = (Vec::new(), Vec::new());
            flatten(&value, 0, &mut dims, &mut numbers).map_err(wrong)?;
            tensor(&dims, &numbers).map_err(wrong)
        }
        Cell::Bool(flag) => Ok(Tensor::scalar(*flag)),
        _ => tensor(&[], &[number(row, column)?]).map_err(wrong),
    }
}

/// An integer, where it is written as one, or another number.
#[derive(Clone, Copy)]
enum Number {
    Integer(i64),
    Real(f64),
}

fn number(row: &Row, column: &str) -> Result<Number, DataError> {
    let real = row.number(column)?;
    let written = row.cell(column).and_then(Cell::as_written).and_then(|text| text.trim().parse().ok());
    Ok(written.map_or(Number::Real(real), Number::Integer))
}

/// Numbers as integers, i64, where all are, else as f64.
fn tensor(dims: &[usize], numbers: &[Number]) -> Result<Tensor, String> {
    let integers: Option<Vec<i64>> = numbers
        .iter()
        .map(|number| match number {
            Number::Integer(n) => Some(*n),
            Number::Real(_) => None,
        })
        .collect();
    let reals = || -> Vec<f64> {
        numbers
            .iter()
            .map(|number| match number {
                Number::Integer(n) => *n as f64,
                Number::Real(x) => *x,
            })
            .collect()
    };
    let made = match integers {
        Some(integers) => Tensor::from_slice(dims, &integers),
        None => Tensor::from_slice(dims, &reals()),
    };
    made.map_err(|e| e.to_string())
}

/// The numbers of nested lists, all of which are of one shape.
fn flatten(value: &Value, depth: usize, dims: &mut Vec<usize>, numbers: &mut Vec<Number>) -> Result<(), String> {
    match value {
        Value::Array(items) => {
            match dims.get(depth) {
                None if numbers.is_empty() => dims.push(items.len()),
                Some(length) if *length == items.len() => {}
                _ => return Err("its lists are not of one length".into()),
            }
            items.iter().try_for_each(|item| flatten(item, depth + 1, dims, numbers))
        }
        Value::Number(number) if depth == dims.len() => {
            let real = || Number::Real(number.as_f64().unwrap_or(f64::NAN));
            numbers.push(number.as_i64().map_or_else(real, Number::Integer));
            Ok(())
        }
        Value::Number(_) => Err("its lists are not of one length".into()),
        other => Err(format!("{other} is not a number")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::Path;

    fn row(cells: Vec<Cell>) -> Row {
        let names = ["a", "b", "c"].iter().take(cells.len()).map(ToString::to_string).collect::<Vec<_>>();
        Row::new(Path::new("f").into(), 3, names.into(), cells)
    }

    fn of(columns: &[&str], cells: Vec<Cell>) -> Result<Tensor, String> {
        let inputs = [("x".to_string(), columns.iter().map(ToString::to_string).collect())].into();
        let made = Arrays { inputs }.encode(&[row(cells)], None).map_err(|e| e.to_string())?;
        match made.examples[0].field("array.x") {
            Some(Field::Array(tensor)) => Ok(tensor.clone()),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn cells_are_arrays_numbers_or_several_numbers() {
        let list = |text: &str| Cell::Other { kind: "an array", text: text.into() };
        let text = |text: &str| Cell::Text(text.into());
        assert_eq!(
            of(&["a"], vec![list("[[1,2],[3,4.5]]")]),
            Ok(Tensor::from_slice(&[2, 2], &[1f64, 2., 3., 4.5]).unwrap())
        );
        assert_eq!(of(&["a"], vec![Cell::Integer("7".into())]), Ok(Tensor::scalar(7i64)));
        assert_eq!(of(&["a"], vec![Cell::Array(Tensor::vector(&[1u8]))]), Ok(Tensor::vector(&[1u8])));
        assert_eq!(of(&["c", "a"], vec![text("1"), text("2"), text("3.5")]), Ok(Tensor::vector(&[3.5f64, 1.0])));
        assert_eq!(of(&["a"], vec![list("[123456789,2]")]), Ok(Tensor::vector(&[123_456_789i64, 2])));
        assert_eq!(of(&["a"], vec![text("123456789")]), Ok(Tensor::scalar(123_456_789i64)));
        assert_eq!(of(&["a"], vec![Cell::Fraction("2.0".into())]), Ok(Tensor::scalar(2f64)));
        for (wrong, says) in [
            ("[[1],[2,3]]", "not of one length"),
            ("[1,[2]]", "not of one length"),
            ("[\"a\"]", "\"a\" is not a number"),
        ] {
            let error = of(&["a"], vec![list(wrong)]).unwrap_err();
            assert!(error.contains("f: row 3") && error.contains("`a`") && error.contains(says), "{error}");
        }
        assert!(of(&["a", "b"], vec![text("1"), text("x")]).unwrap_err().contains("`b`, found `x`"));
    }

    #[test]
    fn names_live_on_and_are_the_same() {
        assert!(std::ptr::eq(name_of("pixels"), name_of(&String::from("pixels"))));
    }
}
