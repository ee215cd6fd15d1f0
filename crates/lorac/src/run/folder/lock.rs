//! One run at a time in a folder: a lock of the system on a file in it, which says who holds it.

use crate::output::{OutputError, now};
use rustix::fs::OFlags;
use serde::{Deserialize, Serialize};
use std::fmt;
use std::fs::{File, OpenOptions, TryLockError};
use std::io::{Read, Seek, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

const NAME: &str = ".lorac.lock";
/// A process that was killed a moment ago may still hold its files.
const PATIENCE: u32 = 4;
const PAUSE: Duration = Duration::from_millis(100);

/// A folder that is locked until this is dropped, or the process ends in whatever way.
pub(super) struct Lock {
    path: PathBuf,
    _file: File,
}

/// Locks a folder for a command. `None` where the file system knows no locks.
///
/// # Errors
/// [`OutputError::Locked`], and a lock file that cannot be made or is not a regular file.
pub(super) fn lock(folder: &Path, command: &str) -> Result<Option<Lock>, OutputError> {
    let path = folder.join(NAME);
    let mut patience = PATIENCE;
    loop {
        let mut file = open(&path)?;
        match file.try_lock() {
            Ok(()) => is_ours(&file, &path)?,
            Err(TryLockError::WouldBlock) if patience > 0 => {
                patience -= 1;
                std::thread::sleep(PAUSE);
                continue;
            }
            Err(TryLockError::WouldBlock) => {
                let holder = Holder::read(&mut file, now());
                return Err(OutputError::Locked { path: folder.to_path_buf(), holder });
            }
            Err(TryLockError::Error(_)) => {
                is_ours(&file, &path)?;
                _ = std::fs::remove_file(&path);
                return Ok(None);
            }
        }
        // The holder before may have removed the file between opening and locking it.
        if !is_at(&file, &path) {
            continue;
        }
        // Who holds the lock is told only to be kind: a full disk is no reason to refuse.
        _ = file.set_len(0).and_then(|()| file.write_all(&Holder::this(command).line()));
        return Ok(Some(Lock { path, _file: file }));
    }
}

impl Drop for Lock {
    fn drop(&mut self) {
        // Before the lock is let go of: behind that the file may be another's.
        _ = std::fs::remove_file(&self.path);
    }
}

fn open(path: &Path) -> Result<File, OutputError> {
    let mut options = OpenOptions::new();
    options.read(true).write(true).create(true).truncate(false).mode(0o666);
    // A link is not followed, and a pipe not waited for.
    options.custom_flags((OFlags::NOFOLLOW | OFlags::NONBLOCK).bits() as i32);
    let file = options.open(path).map_err(OutputError::io(path))?;
    match file.metadata().map_err(OutputError::io(path))?.is_file() {
        true => Ok(file),
        false => Err(OutputError::in_the_way(path, "this is not a regular file")),
    }
}

/// Refuses a file that says something else than who holds a lock.
fn is_ours(mut file: &File, path: &Path) -> Result<(), OutputError> {
    let mut text = Vec::new();
    let read = file.take(1 << 16).read_to_end(&mut text).and_then(|_| file.rewind());
    read.map_err(OutputError::io(path))?;
    match text.is_empty() || serde_json::from_slice::<Holder>(&text).is_ok() {
        true => Ok(()),
        false => Err(OutputError::in_the_way(path, "this is not a lock of lorac's")),
    }
}

fn is_at(file: &File, path: &Path) -> bool {
    let same = |a: &std::fs::Metadata, b: &std::fs::Metadata| (a.dev(), a.ino()) == (b.dev(), b.ino());
    matches!((file.metadata(), path.symlink_metadata()), (Ok(a), Ok(b)) if same(&a, &b))
}

/// Who holds a lock.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Holder {
    pid: u32,
    host: String,
    /// Seconds since 1970.
    since: u64,
    command: String,
}

impl Holder {
    fn this(command: &str) -> Holder {
        Holder { pid: std::process::id(), host: host(), since: now(), command: command.into() }
    }

    fn line(&self) -> Vec<u8> {
        let mut line = serde_json::to_vec(self).unwrap_or_default();
        line.push(b'\n');
        line
    }

    /// What the file of a lock says at a time.
    fn read(file: &mut File, now: u64) -> String {
        let mut text = String::new();
        let read = file.take(1 << 16).read_to_string(&mut text);
        let holder = read.ok().and_then(|_| serde_json::from_str::<Holder>(&text).ok());
        holder.map_or("another run".into(), |holder| holder.described(now))
    }

    fn described(&self, now: u64) -> String {
        let Holder { pid, host, since, command } = self;
        let ago = Ago(now.saturating_sub(*since));
        // What another process has written into the file is shown, not obeyed.
        let plain = |text: &str| text.chars().filter(|c| !c.is_control()).take(200).collect::<String>();
        format!("process {pid} on {}, begun {ago}, `{}`", plain(host), plain(command))
    }
}

/// A span of seconds that ends now.
struct Ago(u64);

impl fmt::Display for Ago {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        match self.0 {
            s @ 0..120 => write!(f, "{s} s ago"),
            s @ 120..7200 => write!(f, "{} min ago", s / 60),
            s => write!(f, "{} h ago", s / 3600),
        }
    }
}

fn host() -> String {
    let read = ["/proc/sys/kernel/hostname", "/etc/hostname"].iter().find_map(|f| std::fs::read_to_string(f).ok());
    read.map(|name| name.trim().to_string()).filter(|name| !name.is_empty()).unwrap_or("this machine".into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_is_locked_once_and_free_again_after_that() {
        let folder = tempfile::tempdir().expect("temp");
        let first = lock(folder.path(), "lorac run a.yaml").expect("free").expect("locks");
        let refused = lock(folder.path(), "lorac run b.yaml").err().expect("in use");
        let text = refused.to_string();
        let holder = format!("process {} on {}, begun ", std::process::id(), host());
        assert!(text.contains(&holder) && text.contains("`lorac run a.yaml`"), "{text}");
        assert_eq!(refused.code(), "output::locked");
        drop(first);
        assert_eq!(std::fs::read_dir(folder.path()).expect("lists").count(), 0);
        assert!(lock(folder.path(), "").expect("free again").is_some());
    }

    #[test]
    fn what_a_dead_process_left_locks_nothing() {
        let folder = tempfile::tempdir().expect("temp");
        std::fs::write(folder.path().join(NAME), Holder { pid: 1, ..Holder::this("x") }.line()).expect("writes");
        assert!(lock(folder.path(), "").expect("free").is_some());
    }

    #[test]
    fn a_link_of_that_name_is_not_followed() {
        let (folder, victim) = (tempfile::tempdir().expect("temp"), tempfile::NamedTempFile::new().expect("temp"));
        std::fs::write(victim.path(), "mine").expect("writes");
        std::os::unix::fs::symlink(victim.path(), folder.path().join(NAME)).expect("links");
        assert!(lock(folder.path(), "").is_err());
        assert_eq!(std::fs::read_to_string(victim.path()).expect("reads"), "mine");
    }

    #[test]
    fn a_file_of_that_name_that_holds_something_else_stays() {
        let folder = tempfile::tempdir().expect("temp");
        let path = folder.path().join(NAME);
        std::fs::write(&path, "mine").expect("writes");
        assert_eq!(lock(folder.path(), "").err().expect("refused").code(), "output::in_the_way");
        assert_eq!(std::fs::read_to_string(&path).expect("reads"), "mine");
    }

    #[test]
    fn what_a_lock_says_is_of_one_holder() {
        let folder = tempfile::tempdir().expect("temp");
        let path = folder.path().join(NAME);
        std::fs::write(&path, Holder { pid: 1, ..Holder::this("x") }.line()).expect("writes");
        let _lock = lock(folder.path(), "new").expect("free");
        let text = std::fs::read_to_string(&path).expect("reads");
        assert!(text.starts_with('{') && text.contains("\"new\""), "{text}");
    }

    #[test]
    fn holders_are_described_in_one_line() {
        let holder = Holder { pid: 7, host: "h".into(), since: 1000, command: "lorac\n\u{1b}[2J run".into() };
        assert_eq!(holder.described(1060), "process 7 on h, begun 60 s ago, `lorac[2J run`");
        assert_eq!(Ago(130).to_string(), "2 min ago");
        assert_eq!(Ago(7300).to_string(), "2 h ago");
    }
}
