//! One thing for every row, and everything that is wrong with them at once.

use crate::error::{DataError, Fault};
use crate::row::Row;
use std::collections::HashMap;

/// So many kinds of faults are shown, each with so many rows more.
const SHOWN: usize = 5;

/// What a function makes of every row.
///
/// # Errors
/// The only error of the function; or `Rows`, with equal ones counted.
pub fn each<'r, T>(rows: &'r [Row], of: impl Fn(&'r Row) -> Result<T, DataError>) -> Result<Vec<T>, DataError> {
    let mut made = Vec::with_capacity(rows.len());
    let mut faults: Vec<Fault> = Vec::new();
    let mut known: HashMap<(&'static str, String), usize> = HashMap::new();
    let mut more = 0;
    for row in rows {
        let error = match of(row) {
            Ok(one) => {
                made.push(one);
                continue;
            }
            Err(error) => error,
        };
        let kind = (error.code(), fault(&error));
        let shown = faults.len();
        match known.get(&kind).and_then(|at| faults.get_mut(*at)) {
            Some(fault) => {
                fault.rows += 1;
                if fault.next.len() < SHOWN {
                    fault.next.push(row.position);
                }
            }
            None if shown < SHOWN => {
                known.insert(kind, shown);
                faults.push(Fault { error: Box::new(error), rows: 1, next: Vec::new() });
            }
            None => more += 1,
        }
    }
    match faults.pop() {
        None => Ok(made),
        Some(only) if faults.is_empty() && only.rows == 1 => Err(*only.error),
        Some(last) => {
            faults.push(last);
            Err(DataError::Rows { faults, more })
        }
    }
}

/// What is wrong, wherever it is.
fn fault(error: &DataError) -> String {
    match error {
        DataError::UnknownLabel { value, .. } => value.to_string(),
        DataError::NotANumber { column, value, .. } => format!("{column} {value}"),
        DataError::WrongType { field, have, .. } => format!("{field} {have}"),
        DataError::MissingField { field, .. } => field.to_string(),
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::label::Labels;
    use crate::row::Cell;
    use std::path::Path;

    fn wrong(labels: &[&str]) -> String {
        let columns: std::sync::Arc<[String]> = vec!["label".to_owned()].into();
        let row = |(label, at): (&&str, usize)| {
            Row::new(Path::new("f.csv").into(), at, columns.clone(), vec![Cell::Text((*label).to_owned())])
        };
        let rows: Vec<Row> = labels.iter().zip(1..).map(row).collect();
        let known = Labels::new(&["neg", "pos"], None).unwrap();
        each(&rows, |row| known.index(row, "label")).unwrap_err().to_string()
    }

    #[test]
    fn equal_faults_are_one_with_a_count_and_the_first_places() {
        let many: Vec<&str> = std::iter::once("neg").chain(std::iter::repeat_n("2", 100_000)).collect();
        let want = "f.csv: row 2 has the unknown label `2` in `label`; the labels are `neg`, `pos` (99999 more rows like it: 3, 4, 5, 6, 7, ...)";
        assert_eq!(wrong(&many), want);
        assert_eq!(
            wrong(&["neg", "2"]),
            "f.csv: row 2 has the unknown label `2` in `label`; the labels are `neg`, `pos`"
        );
        let two = wrong(&["2", "neg", "3", "2"]);
        let want = "f.csv: row 1 has the unknown label `2` in `label`; the labels are `neg`, `pos` (1 more row like it: 4)\n\
                    f.csv: row 3 has the unknown label `3` in `label`; the labels are `neg`, `pos`";
        assert_eq!(two, want);
        let all = wrong(&["2", "3", "4", "5", "6", "7", "8", "7"]);
        assert_eq!((all.lines().count(), all.lines().last()), (6, Some("3 more rows are wrong in other ways")));
    }
}
