//! Turns tract's panics into errors.

use super::NAME;
use crate::RuntimeError;
use std::any::Any;
use std::cell::Cell;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Once;
use tract_linalg::multithread::{Executor, multithread_tract_scope};

/// The name of worker threads, before their number.
pub(super) const WORKER: &str = "lorac-tract";

thread_local! {
    static INSIDE: Cell<bool> = const { Cell::new(false) };
}

/// Keeps panics within [`guarded`] off stderr: they are reported as errors.
pub(super) fn quiet() {
    static HOOK: Once = Once::new();
    HOOK.call_once(|| {
        let before = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |info| {
            let worker = std::thread::current().name().is_some_and(|name| name.starts_with(WORKER));
            if !worker && !INSIDE.get() {
                before(info);
            }
        }));
    });
}

/// Runs tract code on the executor's threads. A panic is an error, and everything tract holds is still usable: a plan
/// is immutable, and a run's state is its own.
pub(super) fn guarded<T>(executor: &Executor, f: impl FnOnce() -> Result<T, RuntimeError>) -> Result<T, RuntimeError> {
    // Caught inside the scope, which would not restore the thread's executor otherwise.
    multithread_tract_scope(executor.clone(), || {
        let outer = INSIDE.replace(true);
        let result = catch_unwind(AssertUnwindSafe(f));
        INSIDE.set(outer);
        result.unwrap_or_else(|payload| Err(RuntimeError::Panic { backend: NAME.to_string(), why: message(&*payload) }))
    })
}

fn message(payload: &(dyn Any + Send)) -> String {
    let text = payload.downcast_ref::<String>().map(String::as_str);
    text.or_else(|| payload.downcast_ref::<&str>().copied()).unwrap_or("no message").to_string()
}
