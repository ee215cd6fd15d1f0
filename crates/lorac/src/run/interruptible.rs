//! Files that are read no further once the user wants to stop.

use crate::source::Stop;
use lorac_data::DataError;
use lorac_data::format::{Format, Rows, Written};
use std::io::ErrorKind;
use std::path::Path;

/// A format whose rows end with an error once the user wants to stop.
pub(super) struct Interruptible {
    pub(super) format: &'static dyn Format,
    pub(super) stop: Stop,
}

impl Format for Interruptible {
    fn about(&self) -> &'static str {
        self.format.about()
    }

    fn extensions(&self) -> &'static [&'static str] {
        self.format.extensions()
    }

    fn has_columns(&self) -> bool {
        self.format.has_columns()
    }

    fn is_typed(&self) -> bool {
        self.format.is_typed()
    }

    fn open(&self, path: &Path, written: &Written) -> Result<Rows, DataError> {
        let (stop, at) = (self.stop, path.to_owned());
        let Rows { columns, rows } = self.format.open(path, written)?;
        let rows = rows.map(move |row| match stop.is_set() {
            true => Err(DataError::Io { path: at.clone(), source: ErrorKind::Interrupted.into() }),
            false => row,
        });
        Ok(Rows { columns, rows: Box::new(rows) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use lorac_data::format::Csv;
    use std::sync::atomic::{AtomicBool, Ordering};

    #[test]
    fn rows_end_once_the_user_wants_to_stop() {
        static STOP: AtomicBool = AtomicBool::new(false);
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("a.csv");
        std::fs::write(&path, "text\na\nb\nc\n").expect("writes");
        let format = Interruptible { format: &Csv, stop: Stop(Some(&STOP)) };
        let mut rows = format.open(&path, &Written::default()).expect("opens").rows;
        assert!(rows.next().expect("a row").is_ok());
        STOP.store(true, Ordering::Relaxed);
        match rows.next() {
            Some(Err(DataError::Io { source, .. })) => assert_eq!(source.kind(), ErrorKind::Interrupted),
            other => panic!("{other:?}"),
        }
    }
}
