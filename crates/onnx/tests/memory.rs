//! Writing new bytes into nearly all of a 400 MB model, as a fold does, takes no memory to speak of. Alone in its process,
//! since it reads the process's own figures.
#![cfg(target_os = "linux")]

mod common;

use bytes::Bytes;
use common::*;
use lorac_onnx::{Edit, OnnxError, compare, load, patch};
use prost::Message;
use std::io::{Seek, SeekFrom, Write};
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

const MATRICES: usize = 100;
const ROWS: usize = 1024;
/// Bytes of a matrix of `f32`: all of them are 400 MB.
const LEN: u64 = 4 << 20;

/// A model with matrices that are holes in the file.
fn sparse(path: &std::path::Path) {
    let mut nodes = graph(vec![raw("w", &[2], &[1.0, 2.0])], vec![]).encode_to_vec();
    let mut tensors = Vec::new();
    for i in 0..MATRICES {
        let mut tensor = untyped(&format!("m{i}"), 1, &[ROWS as i64, (LEN / 4) as i64 / ROWS as i64]).encode_to_vec();
        header(&mut tensor, 9, LEN);
        let mut weight = Vec::new();
        header(&mut weight, 5, tensor.len() as u64 + LEN);
        tensors.push([weight, tensor].concat());
    }
    let len = nodes.len() as u64 + tensors.iter().map(|t| t.len() as u64 + LEN).sum::<u64>();
    let mut front = model(Default::default());
    front.graph = None;
    let mut front = front.encode_to_vec();
    header(&mut front, 7, len);
    front.append(&mut nodes);
    let mut file = std::fs::File::create(path).expect("created");
    file.write_all(&front).expect("written");
    for tensor in tensors {
        file.write_all(&tensor).expect("written");
        file.seek(SeekFrom::Current(LEN as i64)).expect("a hole");
    }
    let end = file.stream_position().expect("a position");
    file.set_len(end).expect("extended");
}

#[test]
fn a_fold_stays_under_50_mb() {
    let folder = tempfile::tempdir().expect("folder");
    let (path, out) = (folder.path().join("big.onnx"), folder.path().join("out.onnx"));
    sparse(&path);
    let names: Vec<String> = (0..MATRICES - 5).map(|i| format!("m{i}")).collect();
    let (peak, done) = (AtomicU64::new(0), AtomicBool::new(false));
    let found = std::thread::scope(|scope| {
        scope.spawn(|| {
            while !done.load(Ordering::Relaxed) {
                peak.fetch_max(anonymous_kib(), Ordering::Relaxed);
                std::thread::sleep(std::time::Duration::from_millis(1));
            }
        });
        let base = load(&path).expect("loads");
        let fold = |name: &String| {
            let id = base.graph.find(name).expect("a matrix");
            let w0 = base.graph.weight(id).expect("a weight").bytes().clone();
            Edit::lazy(id, move || Ok::<Bytes, OnnxError>(w0.iter().map(|b| b ^ 0x11).collect::<Vec<u8>>().into()))
        };
        let edits: Vec<Edit<'_>> = names.iter().map(fold).collect();
        let result = patch(&base, &edits, None, &out);
        let found = result.and_then(|_| load(&out)).map(|after| compare(&base, &after, &names));
        done.store(true, Ordering::Relaxed);
        found
    });
    let found = found.expect("patched");
    assert_eq!((found.changed_bytes_outside_targets, found.changed_targets.len()), (0, names.len()));
    let peak = peak.into_inner();
    println!("{peak} KiB of anonymous memory");
    assert!(peak > 0 && peak < 50 << 10, "{peak} KiB of anonymous memory");
}
