//! metrics.jsonl, one line per step, each flushed so that it can be followed.

use crate::output::{OutputError, temporary};
use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};
use tempfile::TempPath;

/// A log. What cannot be written ends the log, and nothing else.
pub(crate) struct Log {
    path: PathBuf,
    file: File,
    /// Where it is until it has a line.
    elsewhere: Option<TempPath>,
    /// Bytes of whole lines.
    whole: u64,
    failed: Option<String>,
}

impl Log {
    /// Begins a log with the lines of an earlier one. It takes its place with its first line, by which it is known as
    /// lorac's: with all of the earlier lines at once, where there are any. A link of that name is replaced, not followed.
    ///
    /// # Errors
    /// A file that cannot be made.
    pub(super) fn begin(path: &Path, earlier: &[String]) -> Result<Log, OutputError> {
        let folder = path.parent().unwrap_or(Path::new(""));
        let (mut file, temporary) = temporary(folder).map_err(OutputError::io(path))?.into_parts();
        let text: String = earlier.iter().flat_map(|line| [line.as_str(), "\n"]).collect();
        file.write_all(text.as_bytes()).map_err(OutputError::io(path))?;
        let elsewhere = match text.is_empty() {
            true => Some(temporary),
            false => {
                temporary.persist(path).map_err(|e| OutputError::io(path)(e.error))?;
                None
            }
        };
        Ok(Log { path: path.to_path_buf(), file, elsewhere, whole: text.len() as u64, failed: None })
    }

    /// Writes a row as a line.
    #[cfg(test)]
    pub(crate) fn write(&mut self, row: &impl serde::Serialize) -> Option<&str> {
        self.write_line(&(serde_json::to_string(row).unwrap_or_default() + "\n"))
    }

    /// Writes a line with its end. The first one that cannot be written is told of, and is the last: the log ends with a
    /// whole line.
    pub(crate) fn write_line(&mut self, line: &str) -> Option<&str> {
        if self.failed.is_some() {
            return None;
        }
        let written = self.file.write_all(line.as_bytes());
        let placed = self.elsewhere.take().map_or(Ok(()), |at| at.persist(&self.path).map_err(|e| e.error));
        match written.and(placed) {
            Ok(()) => {
                self.whole += line.len() as u64;
                None
            }
            Err(e) => {
                _ = self.file.set_len(self.whole);
                Some(self.failed.insert(format!("{}: {e}: the log ends here", self.path.display())))
            }
        }
    }

    /// Syncs what was written. Why the log is not complete, if so.
    pub(crate) fn finish(&mut self) -> Option<&str> {
        if let (None, Err(e)) = (&self.failed, self.file.sync_all()) {
            self.failed = Some(format!("{}: {e}", self.path.display()));
        }
        self.failed.as_deref()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_log_ends_with_a_whole_line_and_says_so_once() {
        let folder = tempfile::tempdir().expect("temp");
        let path = folder.path().join("metrics.jsonl");
        let mut log = Log::begin(&path, &[]).expect("begins");
        assert_eq!(log.write(&1), None);
        // As if the disk were full.
        log.file = File::open(&path).expect("opens for reading only");
        let said = log.write(&2).expect("fails").to_string();
        assert!(said.contains("metrics.jsonl") && said.ends_with("the log ends here"), "{said}");
        assert_eq!(log.write(&3), None);
        assert_eq!(log.finish(), Some(said.as_str()));
        assert_eq!(std::fs::read_to_string(&path).expect("reads"), "1\n");
    }

    #[test]
    fn a_log_goes_on_behind_the_lines_of_another() {
        let folder = tempfile::tempdir().expect("temp");
        let path = folder.path().join("metrics.jsonl");
        std::fs::write(&path, "1\n2\n3\n").expect("writes");
        let mut log = Log::begin(&path, &["1".into(), "2".into()]).expect("begins");
        assert_eq!(std::fs::read_to_string(&path).expect("reads"), "1\n2\n");
        assert_eq!(log.write(&4), None);
        assert_eq!(log.finish(), None);
        assert_eq!(std::fs::read_to_string(&path).expect("reads"), "1\n2\n4\n");
        log.file = File::open(&path).expect("opens for reading only");
        assert!(log.write(&5).is_some());
        assert_eq!(std::fs::read_to_string(&path).expect("reads"), "1\n2\n4\n");
    }

    #[test]
    fn a_link_is_replaced_and_not_followed() {
        let folder = tempfile::tempdir().expect("temp");
        let (path, victim) = (folder.path().join("metrics.jsonl"), folder.path().join("victim"));
        std::fs::write(&victim, "mine").expect("writes");
        std::os::unix::fs::symlink(&victim, &path).expect("links");
        let mut log = Log::begin(&path, &[]).expect("begins");
        assert_eq!(log.write(&"a"), None);
        assert_eq!(log.finish(), None);
        assert_eq!(std::fs::read_to_string(&victim).expect("reads"), "mine");
        assert_eq!(std::fs::read_to_string(&path).expect("reads"), "\"a\"\n");
    }
}
