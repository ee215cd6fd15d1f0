//! Measurements. `src/bin/step.rs` times training steps, `src/bin/compile.rs` the compiler, `peers/` the same with other tools, `quality/` trains on real
//! data beside PEFT, `gpu/run.sh` does what needs a GPU. docs/performance.md and docs/quality.md hold what was measured.

pub mod gpt;

/// The middle one of some times, in milliseconds.
pub fn median(times: &mut [std::time::Duration]) -> f64 {
    times.sort();
    times.get(times.len() / 2).map_or(f64::NAN, |t| t.as_secs_f64() * 1e3)
}

/// A number that this process has in /proc/self/status, in MiB.
pub fn status_mib(key: &str) -> Option<f64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|l| l.strip_prefix(key)?.strip_prefix(':'))?;
    Some(line.trim().trim_end_matches(" kB").trim().parse::<f64>().ok()? / 1024.0)
}
