//! The graphs of a run in the text form, in a folder that the user names.

use crate::error::Error;
use crate::output::{OutputError, write_atomic};
use lorac_passes::Emitted;
use std::path::Path;

/// Writes graphs in the text form, `step.03-loss.txt`, into a folder.
pub(super) struct Emitter<'a> {
    folder: Option<&'a Path>,
    failed: Option<OutputError>,
}

impl<'a> Emitter<'a> {
    /// Makes the folder, where there is to be one.
    ///
    /// # Errors
    /// A folder that cannot be made.
    pub(super) fn new(folder: Option<&'a Path>) -> Result<Emitter<'a>, Error> {
        if let Some(folder) = folder {
            let wrong = |e| Error::Usage(format!("the folder {} of --emit cannot be made: {e}", folder.display()));
            std::fs::create_dir_all(folder).map_err(wrong)?;
        }
        Ok(Emitter { folder, failed: None })
    }

    /// Writes a graph. The first that cannot be written is the last.
    pub(super) fn write(&mut self, emitted: Emitted) {
        let (Some(folder), None) = (self.folder, &self.failed) else { return };
        let file = folder.join(format!("{}.{:02}-{}.txt", emitted.program, emitted.number, emitted.stage));
        let text = || lorac_ir::print(emitted.graph);
        self.failed = place(&file).and_then(|()| write_atomic(&file, text().as_bytes())).err();
    }

    /// Ends the writing.
    ///
    /// # Errors
    /// What could not be written.
    pub(super) fn finish(self) -> Result<(), Error> {
        self.failed.map_or(Ok(()), |error| Err(error.into()))
    }
}

/// Refuses the place of anything but a file, which is replaced, or a link, which is replaced and not followed.
fn place(file: &Path) -> Result<(), OutputError> {
    let what = match file.symlink_metadata() {
        Ok(meta) if meta.is_dir() => "a file of this name is to be written, and this is a folder",
        Ok(meta) if !meta.is_file() && !meta.is_symlink() => "this is not a regular file",
        _ => return Ok(()),
    };
    Err(OutputError::InTheWay { path: file.into(), what: what.into(), option: "--emit" })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    /// Writes a graph to `g.01-x.txt` in the folder.
    fn emit(folder: &Path) -> Result<(), Error> {
        let graph = lorac_ir::parse("graph g opset 17 (%x: f32[3]) -> %y { %y = Relu(%x) : f32[3] }").expect("parses");
        let mut emitter = Emitter::new(Some(folder))?;
        emitter.write(Emitted { program: "g", number: 1, stage: "x", graph: &graph });
        emitter.finish()
    }

    #[test]
    fn a_link_is_replaced_and_not_followed() {
        let folder = tempfile::tempdir().expect("temp");
        let (file, victim) = (folder.path().join("emit/g.01-x.txt"), folder.path().join("victim"));
        fs::create_dir(folder.path().join("emit")).expect("makes");
        fs::write(&victim, "mine").expect("writes");
        std::os::unix::fs::symlink(&victim, &file).expect("links");
        for _ in 0..2 {
            emit(&folder.path().join("emit")).expect("writes");
            assert_eq!(fs::read_to_string(&victim).expect("reads"), "mine");
            assert!(file.symlink_metadata().expect("is there").is_file());
            assert!(fs::read_to_string(&file).expect("reads").contains("Relu"));
        }
        assert_eq!(fs::read_dir(folder.path().join("emit")).expect("lists").count(), 1);
    }

    #[test]
    fn pipes_and_folders_are_in_the_way() {
        let folder = tempfile::tempdir().expect("temp");
        let file = folder.path().join("g.01-x.txt");
        fs::create_dir(&file).expect("makes");
        let error = emit(folder.path()).expect_err("a folder");
        assert!(error.code() == "output::in_the_way" && error.to_string().contains("--emit"), "{error}");
        fs::remove_dir(&file).expect("removes");
        let made = std::process::Command::new("mkfifo").arg(&file).status();
        assert!(made.is_ok_and(|status| status.success()), "a pipe");
        let error = emit(folder.path()).expect_err("a pipe");
        assert!(error.to_string().contains("g.01-x.txt is in the way: this is not a regular file"), "{error}");
    }
}
