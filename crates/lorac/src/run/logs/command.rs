//! A command that is fed the lines of a log. It can neither end a training nor hold it up.

use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;
use std::io::Write;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{SyncSender, TrySendError, sync_channel};
use std::time::{Duration, Instant};

/// Lines that wait for a command that is slower than the training: more are left out.
const QUEUE: usize = 1024;
/// How long a command may take behind the last line, before it is killed.
const PATIENCE: Duration = Duration::from_secs(30);
/// How long it is waited for without a word.
const SILENCE: Duration = Duration::from_secs(1);
const LOOK: Duration = Duration::from_millis(10);

/// A running command.
pub(super) struct Fed {
    /// How it is called in messages.
    name: String,
    child: Child,
    lines: Option<SyncSender<Vec<u8>>>,
    /// Lines that the command was too slow for.
    left_out: u64,
    /// Whether the user knows that it takes no more.
    told: bool,
}

impl Fed {
    /// Starts a program with arguments. What it says goes to standard error. It has a process group of its own: a signal
    /// that ends the training leaves it the time to take the last lines.
    ///
    /// # Errors
    /// A program that cannot be started.
    pub(super) fn start(command: &[String]) -> std::io::Result<Fed> {
        let (program, arguments) = command.split_first().map_or(("", command), |(p, rest)| (p.as_str(), rest));
        let mut child = Command::new(program)
            .args(arguments)
            .stdin(Stdio::piped())
            .stdout(std::io::stderr())
            .process_group(0)
            .spawn()?;
        let mut input = child.stdin.take();
        let (lines, waiting) = sync_channel::<Vec<u8>>(QUEUE);
        // It ends with the lines, or with the command: then the other end of the channel hears of it.
        std::thread::spawn(move || {
            for line in waiting {
                if input.as_mut().is_none_or(|input| input.write_all(&line).is_err()) {
                    break;
                }
            }
        });
        Ok(Fed { name: command.join(" "), child, lines: Some(lines), left_out: 0, told: false })
    }

    /// Gives a line, with its end. What the user should know, once: the command takes no more.
    pub(super) fn write(&mut self, line: &str) -> Option<String> {
        match self.lines.as_ref()?.try_send(line.into()) {
            Ok(()) => None,
            Err(TrySendError::Full(_)) => {
                self.left_out += 1;
                None
            }
            Err(TrySendError::Disconnected(_)) => {
                self.close();
                self.told = true;
                let how = self.child.try_wait().ok().flatten().map_or(String::new(), ended);
                Some(format!("log.command: `{}` takes no more lines{how}: the training goes on without it", self.name))
            }
        }
    }

    /// Ends its input.
    pub(super) fn close(&mut self) {
        self.lines = None;
    }

    /// Ends its input, and waits for its end; `waits` hears that this takes a while. What the user should know.
    pub(super) fn finish(&mut self, waits: &dyn Fn(&str)) -> Vec<String> {
        self.finish_within(PATIENCE, waits)
    }

    fn finish_within(&mut self, patience: Duration, waits: &dyn Fn(&str)) -> Vec<String> {
        self.close();
        let mut said = Vec::new();
        if self.left_out > 0 {
            let n = std::mem::take(&mut self.left_out);
            said.push(format!("log.command: `{}` was too slow for {n} lines, which it did not get", self.name));
        }
        let (start, mut told) = (Instant::now(), false);
        let status = loop {
            match self.child.try_wait() {
                Ok(None) if start.elapsed() < patience => {
                    if !told && start.elapsed() > SILENCE {
                        waits(&format!(
                            "waiting   for `{}` (log.command), at most {} s",
                            self.name,
                            patience.as_secs()
                        ));
                        told = true;
                    }
                    std::thread::sleep(LOOK);
                }
                Ok(status) => break status,
                Err(_) => return said,
            }
        };
        match status {
            Some(status) if status.success() || self.told => {}
            Some(status) => said.push(format!("log.command: `{}`{}", self.name, ended(status))),
            None => {
                self.kill();
                let seconds = patience.as_secs();
                said.push(format!(
                    "log.command: `{}` had not ended {seconds} s behind the last line: killed",
                    self.name
                ));
            }
        }
        said
    }

    /// Ends it with its own children.
    fn kill(&mut self) {
        if let Ok(group) = i32::try_from(self.child.id()) {
            _ = killpg(Pid::from_raw(group), Signal::SIGKILL);
        }
        _ = self.child.wait();
    }
}

/// A training that ends early leaves its command the same time.
impl Drop for Fed {
    fn drop(&mut self) {
        self.finish(&|_| {});
    }
}

fn ended(status: ExitStatus) -> String {
    format!(" has ended ({status})")
}

/// Whether there is such a program: a path, or a name in `PATH`.
pub(super) fn is_there(program: &str) -> bool {
    let executable = |path: &Path| path.is_file() && rustix::fs::access(path, rustix::fs::Access::EXEC_OK).is_ok();
    match program.contains('/') {
        true => executable(Path::new(program)),
        false => {
            std::env::var_os("PATH").iter().flat_map(std::env::split_paths).any(|dir| executable(&dir.join(program)))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shell(script: &str) -> Fed {
        Fed::start(&["/bin/sh".into(), "-c".into(), script.into()]).expect("a shell")
    }

    #[test]
    fn a_command_gets_every_line_and_ends_with_them() {
        let folder = tempfile::tempdir().expect("temp");
        let file = folder.path().join("got");
        let mut fed = shell(&format!("cat > '{}'", file.display()));
        let lines: Vec<String> = (0..100).map(|i| format!("{i}\n")).collect();
        assert!(lines.iter().all(|line| fed.write(line).is_none()));
        assert_eq!(fed.finish(&|_| {}), Vec::<String>::new());
        assert_eq!(std::fs::read_to_string(&file).expect("reads"), lines.concat());
    }

    #[test]
    fn a_command_that_ends_is_told_of_once() {
        let mut fed = shell("read line; exit 3");
        // The pipe is broken some time behind its end.
        let told = (0..60_000).find_map(|_| {
            std::thread::sleep(Duration::from_millis(1));
            fed.write("x\n")
        });
        let said: Vec<String> = told.into_iter().chain((0..9).filter_map(|_| fed.write("x\n"))).collect();
        assert_eq!(said.len(), 1, "{said:?}");
        assert!(said[0].contains("exit 3` takes no more lines") && said[0].ends_with("goes on without it"), "{said:?}");
        assert_eq!(fed.finish(&|_| {}), Vec::<String>::new());
    }

    #[test]
    fn a_failure_behind_the_last_line_is_told_of() {
        let mut fed = shell("cat > /dev/null; exit 3");
        assert_eq!(fed.write("x\n"), None);
        let said = fed.finish(&|_| {});
        assert!(said.len() == 1 && said[0].contains("has ended (exit status: 3)"), "{said:?}");
    }

    #[test]
    fn a_command_that_takes_nothing_holds_nothing_up_and_is_killed() {
        let mut fed = shell("sleep 600 & sleep 600");
        let long = "x".repeat(1 << 10) + "\n";
        for _ in 0..QUEUE * 2 {
            assert_eq!(fed.write(&long), None);
        }
        let said = fed.finish_within(Duration::ZERO, &|_| {});
        assert!(said.len() == 2 && said[0].contains("too slow for") && said[1].contains("killed"), "{said:?}");
        assert!(fed.child.try_wait().expect("waited for").is_some());
    }

    #[test]
    fn programs_are_looked_for_as_a_shell_does() {
        assert!(is_there("sh") && is_there("/bin/sh") && !is_there("no-such-program") && !is_there("/etc/passwd"));
        assert!(Fed::start(&["/no/such/program".into()]).is_err());
    }
}
