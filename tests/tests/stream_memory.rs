//! A stream takes no more memory for a longer file.

use lorac_tests::border::border;
use std::fs::File;
use std::io::Write;
use std::path::Path;

/// Mebibytes that this process had resident at most.
fn peak() -> Option<f64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    Some(line.trim().strip_suffix("kB")?.trim().parse::<f64>().ok()? / 1024.0)
}

/// Writes so many rows, the same over and over; returns how many MiB they are.
fn write(file: &Path, rows: usize) -> u64 {
    let row = |i: usize| {
        let (good, label) = if i.is_multiple_of(2) { ("great", "positive") } else { ("bad", "negative") };
        let words: String = (0..20).map(|j| ["movie ", "music ", "scene ", "film "][(i * 7 + j * 13) % 4]).collect();
        let text = words.repeat(2);
        format!("{{\"text\": \"{good} {text}\", \"label\": \"{label}\", \"n\": {i}}}\n")
    };
    let part: String = (0..rows.min(1_000)).map(row).collect();
    let mut to = File::create(file).expect("a file");
    (0..rows.div_ceil(1_000)).for_each(|_| to.write_all(part.as_bytes()).expect("writes"));
    to.metadata().expect("a file").len() >> 20
}

#[test]
#[ignore = "writes 5 GB: run by hand"]
fn five_gigabytes_take_no_more_memory() {
    let border = border("bert");
    let mib = write(&border.path().join("train.jsonl"), 18_000_000);
    let start = std::time::Instant::now();
    let stream = "data.train={ jsonl: train.jsonl, text: text, label: label, stream: { buffer: 10000 } }";
    border.succeeds(&[stream, "train.steps=200"]);
    let peak = peak().expect("/proc");
    println!("{mib} MiB of rows, {peak:.0} MiB resident at the peak, {:.0} s", start.elapsed().as_secs_f64());
    assert!(mib > 4760 && peak < 300.0);
}

#[test]
fn a_longer_file_takes_no_more_memory() {
    let border = border("bert");
    let file = border.path().join("train.jsonl");
    // All rows are read once, to be counted, since something is done by epochs.
    let settings = [
        "data.train={ jsonl: train.jsonl, text: text, label: label, stream: { buffer: 200 } }",
        "train.steps=10",
        "train.evaluate=1 epoch",
    ];
    // As many as fill whatever is read ahead.
    let short = write(&file, 20_000);
    border.succeeds(&settings);
    let Some(before) = peak() else { return eprintln!("skipped: needs /proc") };
    let mib = write(&file, 100_000) - short;
    border.succeeds(&settings);
    let more = peak().expect("/proc") - before;
    assert!(mib >= 20 && more < 6.0, "{mib} MiB of rows take {more:.0} MiB more");
}
