//! How many threads to compute with.

use std::collections::HashSet;
use std::num::NonZero;

/// The physical cores this process may use. Two threads of one core share its vector units, so more threads only wait
/// for each other; a container's quota or affinity may allow less.
pub(crate) fn physical_cores() -> usize {
    let allowed = std::thread::available_parallelism().map_or(1, NonZero::get);
    siblings().map_or(allowed, |cores| cores.min(allowed)).max(1)
}

/// Counts the distinct sets of hardware threads that share a core, where the system says.
fn siblings() -> Option<usize> {
    let cores: HashSet<String> = std::fs::read_dir("/sys/devices/system/cpu")
        .ok()?
        .flatten()
        .filter_map(|cpu| std::fs::read_to_string(cpu.path().join("topology/thread_siblings_list")).ok())
        .collect();
    (!cores.is_empty()).then_some(cores.len())
}
