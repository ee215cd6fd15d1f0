//! How work ends before it is done: a flag that is looked at, and child processes that are killed.

use std::process::{Child, Command};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::SourceError;

/// A flag that, once set, ends downloads and waits with [`SourceError::Interrupted`].
#[derive(Clone, Copy, Debug, Default)]
pub struct Stop(pub Option<&'static AtomicBool>);

impl Stop {
    /// Whether it is set.
    pub fn is_set(self) -> bool {
        self.0.is_some_and(|flag| flag.load(Ordering::Relaxed))
    }

    /// The error of work on `what` that is to end here.
    pub(crate) fn check(self, what: &str) -> Result<(), SourceError> {
        if self.is_set() { Err(SourceError::Interrupted { what: what.to_owned() }) } else { Ok(()) }
    }
}

/// The process groups of the children that run.
static RUNNING: Mutex<Vec<u32>> = Mutex::new(Vec::new());

fn running() -> MutexGuard<'static, Vec<u32>> {
    RUNNING.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Kills every child that a [`Resolver`](crate::Resolver) of this process runs, with its own children: for a process that
/// is about to exit. None is left behind.
pub fn kill_children() {
    running().iter().for_each(|group| kill_group(*group));
}

/// A child in a process group of its own, which is killed where it is dropped before its end.
pub(crate) struct Owned {
    pub(crate) child: Child,
    ended: bool,
}

impl Owned {
    /// Starts a command.
    pub(crate) fn spawn(command: &mut Command) -> std::io::Result<Owned> {
        #[cfg(unix)]
        std::os::unix::process::CommandExt::process_group(command, 0);
        // Held while the child starts: one that nobody knows of could not be killed.
        let mut running = running();
        let child = command.spawn()?;
        running.push(child.id());
        Ok(Owned { child, ended: false })
    }

    /// Whether it succeeded, once it has ended.
    pub(crate) fn success(&mut self) -> std::io::Result<Option<bool>> {
        let mut running = running();
        let status = self.child.try_wait()?;
        if status.is_some() {
            // Its number may soon be another's.
            self.ended = true;
            running.retain(|group| *group != self.child.id());
        }
        Ok(status.map(|status| status.success()))
    }
}

impl Drop for Owned {
    fn drop(&mut self) {
        running().retain(|group| *group != self.child.id());
        if !self.ended {
            kill_group(self.child.id());
            // One that has just ended by itself is fine.
            let _ = self.child.kill();
            let _ = self.child.wait();
        }
    }
}

#[cfg(unix)]
fn kill_group(group: u32) {
    use nix::sys::signal::{Signal, killpg};
    if let Ok(group) = i32::try_from(group) {
        // A group that is gone needs no killing.
        let _ = killpg(nix::unistd::Pid::from_raw(group), Signal::SIGKILL);
    }
}

#[cfg(not(unix))]
fn kill_group(_: u32) {}

#[cfg(all(test, unix))]
mod tests {
    use super::*;
    use std::time::{Duration, Instant};

    fn alive(pid: i32) -> bool {
        let state = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        state.rsplit(')').next().and_then(|rest| rest.trim().chars().next()).is_some_and(|state| state != 'Z')
    }

    #[test]
    fn a_child_that_is_dropped_takes_its_own_children_along() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("pid");
        let script = format!("sleep 60 & echo $! > {0}.tmp; mv {0}.tmp {0}; wait", file.display());
        let owned = Owned::spawn(Command::new("/bin/sh").args(["-c", &script])).unwrap();
        while !file.exists() {
            std::thread::sleep(Duration::from_millis(5));
        }
        let grandchild: i32 = std::fs::read_to_string(&file).unwrap().trim().parse().unwrap();
        drop(owned);
        let begun = Instant::now();
        while alive(grandchild) {
            assert!(begun.elapsed() < Duration::from_secs(30), "it outlives its parent");
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}
