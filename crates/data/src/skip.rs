//! Rows that are left out because something is wrong with them.

use crate::each::each;
use crate::error::DataError;
use crate::row::Row;

/// So many of them are kept in words.
const SHOWN: usize = 20;

/// Rows that are left out for what is wrong with them, up to so many.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Skipped {
    most: usize,
    count: usize,
    shown: Vec<String>,
}

impl Skipped {
    /// As many as `most` rows may be left out; with 0 the first wrong row is an error.
    #[must_use]
    pub fn new(most: usize) -> Self {
        Self { most, ..Self::default() }
    }

    /// Whether rows may be left out.
    #[must_use]
    pub fn allows(&self) -> bool {
        self.most > 0
    }

    /// How many are left out.
    #[must_use]
    pub fn count(&self) -> usize {
        self.count
    }

    /// What is wrong with the first of them, each with its file, row, line and column.
    #[must_use]
    pub fn shown(&self) -> &[String] {
        &self.shown
    }

    /// Leaves a row out.
    ///
    /// # Errors
    /// The error itself where none may be left out, or where it is not of one row alone; `ManyErrors` beyond the limit.
    pub fn leave_out(&mut self, error: DataError) -> Result<(), DataError> {
        if !self.allows() || !error.is_of_a_row() {
            return Err(error);
        }
        if self.count == self.most {
            return Err(DataError::ManyErrors { most: self.most, last: Box::new(error) });
        }
        self.count += 1;
        if self.shown.len() < SHOWN {
            self.shown.push(error.to_string());
        }
        Ok(())
    }

    /// What a function makes of every row, and the rows that it makes something of: the others are left out.
    ///
    /// # Errors
    /// Those of [`each`] where none may be left out; else as [`Skipped::leave_out`].
    pub fn each<T>(
        &mut self,
        rows: Vec<Row>,
        of: impl Fn(&Row) -> Result<T, DataError>,
    ) -> Result<(Vec<Row>, Vec<T>), DataError> {
        if !self.allows() {
            let made = each(&rows, of)?;
            return Ok((rows, made));
        }
        let (mut kept, mut made) = (Vec::with_capacity(rows.len()), Vec::with_capacity(rows.len()));
        for row in rows {
            match of(&row) {
                Ok(one) => {
                    kept.push(row);
                    made.push(one);
                }
                Err(error) => self.leave_out(error)?,
            }
        }
        Ok((kept, made))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::row::Cell;
    use std::path::Path;

    fn rows(cells: &[&str]) -> Vec<Row> {
        let columns: std::sync::Arc<[String]> = vec!["n".to_owned()].into();
        let row = |(cell, at): (&&str, usize)| {
            Row::new(Path::new("f.csv").into(), at, columns.clone(), vec![Cell::Text((*cell).to_owned())])
        };
        cells.iter().zip(1..).map(row).collect()
    }

    #[test]
    fn wrong_rows_are_left_out_up_to_the_limit() {
        let (all, number) = (rows(&["1", "x", "2", "y"]), |row: &Row| row.number("n"));
        let mut skipped = Skipped::new(2);
        let (kept, made) = skipped.each(all.clone(), number).unwrap();
        assert_eq!((made, kept.iter().map(|row| row.position).collect::<Vec<_>>()), (vec![1.0, 2.0], vec![1, 3]));
        assert_eq!(skipped.count(), 2);
        assert_eq!(skipped.shown()[1], "f.csv: row 4: expected a finite number in `n`, found `y`");
        let error = Skipped::new(1).each(all.clone(), number).unwrap_err();
        assert!(
            error.to_string().starts_with("2 rows are wrong, and 1 may be left out; the last of them: f.csv: row 4")
        );
        assert!(matches!(Skipped::new(0).each(all, number), Err(DataError::Rows { .. })));
    }

    #[test]
    fn what_is_wrong_with_the_whole_file_is_never_passed_over() {
        let wrong = Skipped::new(5).leave_out(DataError::Utf16 { path: "f".into() });
        assert!(matches!(wrong, Err(DataError::Utf16 { .. })));
    }
}
