//! By what lorac knows files that it has written and no manifest lists: those of runs that failed or were killed.

use lorac_train::Checkpoint;
use serde_json::Value;
use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufRead, BufReader, Read};
use std::path::Path;

/// No line and no header of lorac's is longer.
const LIMIT: u64 = 1 << 24;

/// Whether a regular file is the log of a run: its first line says so.
pub(super) fn is_log(file: &Path) -> bool {
    let mut line = Vec::new();
    let read = File::open(file).and_then(|file| BufReader::new(file.take(LIMIT)).read_until(b'\n', &mut line));
    let first: Value = read.ok().and_then(|_| serde_json::from_slice(&line).ok()).unwrap_or_default();
    first["eval"] == "before" && first["lorac_version"].is_string()
}

/// Whether a regular file is the checkpoint of a run behind that step: its header says so.
pub(super) fn is_checkpoint(file: &Path, step: u64) -> bool {
    header(file).is_some_and(|header| header["__metadata__"][Checkpoint::MARK] == step.to_string().as_str())
}

/// The step that the header of a checkpoint says, and what else it says.
pub(super) fn described(file: &Path) -> Option<(u64, BTreeMap<String, String>)> {
    let regular = std::fs::metadata(file).is_ok_and(|m| m.is_file());
    let mut about: BTreeMap<String, String> =
        serde_json::from_value(header(file).filter(|_| regular)?["__metadata__"].take()).ok()?;
    let step = about.remove(Checkpoint::MARK)?.parse().ok()?;
    Some((step, about))
}

/// The step in the name of a checkpoint.
pub(super) fn step(name: &str) -> Option<u64> {
    let step = name.strip_prefix("step-")?.strip_suffix(".safetensors")?.parse::<u64>().ok()?;
    (name == format!("step-{step}.safetensors")).then_some(step)
}

/// The header of a safetensors file: its length in 8 bytes, then JSON.
fn header(file: &Path) -> Option<Value> {
    let mut file = File::open(file).ok()?;
    let mut length = [0; 8];
    file.read_exact(&mut length).ok()?;
    let length = u64::from_le_bytes(length);
    let mut text = Vec::new();
    let whole = length <= LIMIT && file.take(length).read_to_end(&mut text).ok()? as u64 == length;
    whole.then(|| serde_json::from_slice(&text).ok()).flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_lorac_writes_is_known() {
        let folder = tempfile::tempdir().expect("temp");
        let (log, other) = (folder.path().join("log"), folder.path().join("other"));
        let write = |path: &Path, text: &str| std::fs::write(path, text).expect("writes");
        for foreign in ["", "\n", "mine", "{\"eval\": \"before\"}\n", "[1]", "{\"loss\": 1}\n"] {
            write(&log, foreign);
            assert!(!is_log(&log), "{foreign}");
        }
        write(&log, "{\"eval\": \"before\", \"lorac_version\": \"0.1.0\"}\n{\"step\"");
        assert!(is_log(&log) && !is_checkpoint(&log, 7) && !is_log(&other));
        let checkpoint = crate::run::folder::tests::checkpoint(7);
        let path = checkpoint.save(folder.path()).expect("saves");
        let (step, about) = described(&path).expect("a checkpoint");
        assert_eq!((step, about["run"].as_str()), (7, "1"));
        assert!(is_checkpoint(&path, 7) && !is_checkpoint(&path, 8) && !is_log(&path));
        let tensor = safetensors::tensor::TensorView::new(safetensors::Dtype::U8, vec![1], &[1]).expect("a view");
        std::fs::write(&other, safetensors::serialize([("w", tensor)], None).expect("bytes")).expect("writes");
        assert!(!is_checkpoint(&other, 7) && described(&other).is_none() && described(folder.path()).is_none());
        write(&other, "\u{7f}\u{7f}\u{7f}\u{7f}\u{7f}\u{7f}\u{7f}\u{7f}");
        assert!(!is_checkpoint(&other, 7));
    }

    #[test]
    fn names_of_checkpoints_are_those_that_lorac_gives() {
        assert_eq!(["step-5.safetensors", "step-05.safetensors", "step-.safetensors"].map(step), [Some(5), None, None]);
    }
}
