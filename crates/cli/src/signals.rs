//! Ctrl-C, and what the system would end the process for: a file that somebody shortens while lorac has it mapped, and one
//! that grows beyond what the user may write, which is to be an error like that of a full disk.

use super::args::Format;
use super::terminal;
use lorac::error::{Class, Error};
use lorac::source::kill_children;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// Interrupts that follow one within this time are the same: `timeout` and shells send it to the process and once more
/// to its group.
const SAME: Duration = Duration::from_millis(500);

/// The first Ctrl-C ends a run cleanly by setting `stop`; the second, or the first of any other command, ends the
/// process and the downloads that it runs.
///
/// # Errors
/// A system that has no signals for this process.
pub(super) fn interrupts(cleanly: bool, stop: &'static AtomicBool) -> Result<(), Error> {
    let mut first: Option<Instant> = None;
    let handler = move || {
        if first.is_some_and(|at| at.elapsed() < SAME) {
            return;
        }
        if first.is_some() || !cleanly {
            kill_children();
            end_at_once(Class::Interrupted.exit_code());
        }
        stop.store(true, Ordering::Relaxed);
        terminal::say("stopping as soon as the work under way allows; Ctrl-C again to stop at once");
        first = Some(Instant::now());
    };
    ctrlc::set_handler(handler).map_err(|e| Error::Usage(format!("signals cannot be handled: {e}")))
}

/// Ends the process without a clean-up of its libraries: an engine that computes while its library is taken down fails,
/// and the thread that waits for it would say so.
#[cfg(unix)]
#[allow(unsafe_code, reason = "an end that runs no code of libraries")]
fn end_at_once(code: u8) -> ! {
    // SAFETY: the call takes a number, and nothing of this process comes after it.
    unsafe { libc::_exit(i32::from(code)) }
}

#[cfg(not(unix))]
fn end_at_once(code: u8) -> ! {
    std::process::exit(i32::from(code))
}

/// What is said, with its end of line.
static MESSAGE: OnceLock<String> = OnceLock::new();

/// The exit code of a run that failed.
const FAILED: i32 = 3;

/// Lets writes beyond a limit fail, and ends the process with a message and the exit code of a failed run where it would be killed: when it touches bytes that
/// a mapped file no longer has. Libraries ask whether a file has changed before they read it, but an engine reads weights
/// for as long as it runs.
pub(super) fn listen(format: Format) {
    let code = "onnx::changed_on_disk";
    let text = "a file that lorac reads was shortened meanwhile: leave the files of a run alone until it ends";
    MESSAGE.get_or_init(|| match format {
        Format::Text => format!("error[{code}]: {text}\nfor more: lorac explain {code}\n"),
        Format::Json => {
            let value = serde_json::json!({
                "error": text, "code": code, "class": "failed", "exit_code": FAILED, "issues": null,
            });
            format!("{value}\n")
        }
    });
    install();
}

#[cfg(unix)]
#[allow(unsafe_code, reason = "a signal handler")]
fn install() {
    // SAFETY: the handler makes no calls but `write` and `_exit`, which a handler may, on text that never changes. What is
    // ignored has no handler.
    unsafe {
        let mut action: libc::sigaction = std::mem::zeroed();
        action.sa_sigaction = end as extern "C" fn(libc::c_int) as libc::sighandler_t;
        libc::sigemptyset(&mut action.sa_mask);
        libc::sigaction(libc::SIGBUS, &action, std::ptr::null_mut());
        libc::signal(libc::SIGXFSZ, libc::SIG_IGN);
    }
}

#[cfg(unix)]
#[allow(unsafe_code, reason = "a signal handler")]
extern "C" fn end(_: libc::c_int) {
    let text = MESSAGE.get().map_or(&b""[..], |m| m.as_bytes());
    // SAFETY: as above; the text is initialised before the handler is installed.
    unsafe {
        libc::write(libc::STDERR_FILENO, text.as_ptr().cast(), text.len());
        libc::_exit(FAILED);
    }
}

#[cfg(not(unix))]
fn install() {}
