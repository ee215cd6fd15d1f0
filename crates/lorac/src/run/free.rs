//! How much memory of the machine is free.

use std::fs;

/// Files of a control group's limit, of what it uses and of its parts, of both versions, and the part that is given back when memory
/// is asked for: what was read of files and is not used.
const GROUPS: [[&str; 4]; 2] = [
    ["/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory.current", "/sys/fs/cgroup/memory.stat", "inactive_file "],
    [
        "/sys/fs/cgroup/memory/memory.limit_in_bytes",
        "/sys/fs/cgroup/memory/memory.usage_in_bytes",
        "/sys/fs/cgroup/memory/memory.stat",
        "total_inactive_file ",
    ],
];

/// Bytes that a process may still take, as far as the system tells.
pub(super) fn free_memory() -> Option<u64> {
    let read = |path: &str| fs::read_to_string(path).ok();
    let available = available(&read("/proc/meminfo")?)?;
    let group = |[limit, used, parts, cached]: [&str; 4]| {
        let number = |path: &str| read(path)?.trim().parse::<u64>().ok();
        let cached = read(parts).and_then(|parts| part(&parts, cached)).unwrap_or(0);
        Some(number(limit)?.saturating_sub(number(used)?.saturating_sub(cached)))
    };
    Some(GROUPS.into_iter().filter_map(group).fold(available, u64::min))
}

/// Bytes of a part of what a control group uses.
fn part(parts: &str, name: &str) -> Option<u64> {
    parts.lines().find_map(|line| line.strip_prefix(name)?.trim().parse().ok())
}

/// Bytes that /proc/meminfo says are available.
fn available(meminfo: &str) -> Option<u64> {
    let line = meminfo.lines().find_map(|line| line.strip_prefix("MemAvailable:"))?;
    line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()?.checked_mul(1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_available_is_read_in_kib() {
        let text = "MemTotal:       16318412 kB\nMemAvailable:   12000 kB\nBuffers: 1 kB\n";
        assert_eq!((available(text), available("MemTotal: 1 kB\n")), (Some(12_288_000), None));
        let parts = "anon 7\nactive_file 8\ninactive_file 4096\n";
        assert_eq!((part(parts, "inactive_file "), part(parts, "total_inactive_file ")), (Some(4096), None));
        if cfg!(target_os = "linux") {
            assert!(free_memory().is_some_and(|bytes| bytes > 0));
        }
    }
}
