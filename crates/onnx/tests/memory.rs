//! Writing new bytes into nearly all of a 400 MB model, as a fold does, takes no memory to speak of. Alone in its process,
//! since it counts all that the process allocates.
#![cfg(unix)]

mod common;

use bytes::Bytes;
use common::*;
use lorac_onnx::{Edit, OnnxError, compare, load, patch};
use prost::Message;
use std::alloc::{GlobalAlloc, Layout, System};
use std::io::{Seek, SeekFrom, Write};
use std::sync::atomic::{AtomicUsize, Ordering};

/// The system's allocator, which counts the bytes that are in use, and the most that ever were.
struct Counting {
    used: AtomicUsize,
    peak: AtomicUsize,
}

#[global_allocator]
static MEMORY: Counting = Counting { used: AtomicUsize::new(0), peak: AtomicUsize::new(0) };

// SAFETY: the memory is the system allocator's, which gets what this one is given.
#[allow(unsafe_code, reason = "an allocator that counts")]
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        let used = self.used.fetch_add(layout.size(), Ordering::Relaxed) + layout.size();
        self.peak.fetch_max(used, Ordering::Relaxed);
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, memory: *mut u8, layout: Layout) {
        self.used.fetch_sub(layout.size(), Ordering::Relaxed);
        unsafe { System.dealloc(memory, layout) }
    }
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
    let base = load(&path).expect("loads");
    let fold = |name: &String| {
        let id = base.graph.find(name).expect("a matrix");
        let w0 = base.graph.weight(id).expect("a weight").bytes().clone();
        Edit::lazy(id, move || Ok::<Bytes, OnnxError>(w0.iter().map(|b| b ^ 0x11).collect::<Vec<u8>>().into()))
    };
    let edits: Vec<Edit<'_>> = names.iter().map(fold).collect();
    patch(&base, &edits, None, &out).expect("patched");
    let found = compare(&base, &load(&out).expect("loads"), &names);
    assert_eq!((found.changed_bytes_outside_targets, found.changed_targets.len()), (0, names.len()));
    let peak = MEMORY.peak.load(Ordering::Relaxed);
    println!("{peak} bytes at most");
    assert!(peak > LEN as usize && peak < 50 << 20, "{peak} bytes");
}
