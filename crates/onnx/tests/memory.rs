//! Folding a 400 MB model takes no memory to speak of. Alone in its process, since it reads the process's own figures.
#![cfg(target_os = "linux")]

mod common;

use common::*;
use lorac_onnx::{Edit, compare, load, patch};
use prost::Message;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

fn anonymous_kib() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").expect("status");
    let line = status.lines().find_map(|l| l.strip_prefix("RssAnon:")).expect("RssAnon");
    line.trim().trim_end_matches("kB").trim().parse().expect("a number")
}

fn header(out: &mut Vec<u8>, number: u8, len: u64) {
    out.push(number << 3 | 2);
    prost::encoding::encode_varint(len, out);
}

/// A model whose last field, a tensor of 400 MB, is a hole in the file.
fn sparse(path: &std::path::Path) {
    const LEN: u64 = 400 << 20;
    let nodes = graph(vec![raw("w", &[2], &[1.0, 2.0])], vec![]).encode_to_vec();
    let mut tensor = untyped("big", 1, &[100, 1 << 20]).encode_to_vec();
    header(&mut tensor, 9, LEN);
    let mut weight = Vec::new();
    header(&mut weight, 5, tensor.len() as u64 + LEN);
    let mut bytes = model(Default::default());
    bytes.graph = None;
    let mut bytes = bytes.encode_to_vec();
    header(&mut bytes, 7, (nodes.len() + weight.len() + tensor.len()) as u64 + LEN);
    bytes.extend([nodes, weight, tensor].concat());
    std::fs::write(path, &bytes).expect("written");
    let file = std::fs::File::options().write(true).open(path).expect("opened");
    file.set_len(bytes.len() as u64 + LEN).expect("extended");
}

#[test]
fn a_fold_stays_under_50_mb() {
    let folder = tempfile::tempdir().expect("folder");
    let (path, out) = (folder.path().join("big.onnx"), folder.path().join("out.onnx"));
    sparse(&path);
    let (peak, done) = (AtomicU64::new(0), AtomicBool::new(false));
    let found = std::thread::scope(|scope| {
        scope.spawn(|| {
            while !done.load(Ordering::Relaxed) {
                peak.fetch_max(anonymous_kib(), Ordering::Relaxed);
                std::thread::sleep(std::time::Duration::from_millis(1));
            }
        });
        let base = load(&path).expect("loads");
        let edits = [Edit { weight: base.graph.find("w").expect("w"), bytes: bytes_of(&[3.0, 4.0]) }];
        let result = patch(&base, &edits, None, &out);
        let found = result.and_then(|_| load(&out)).map(|after| compare(&base, &after, &["w"]));
        done.store(true, Ordering::Relaxed);
        found
    });
    let found = found.expect("patched");
    assert_eq!((found.changed_bytes_outside_targets, found.changed_targets), (0, vec!["w".to_string()]));
    let peak = peak.into_inner();
    assert!(peak > 0 && peak < 50 << 10, "{peak} KiB of anonymous memory");
}
