//! Weights are read where they are mapped. One test, in a process of its own: it measures the process.

mod support;

#[cfg(target_os = "linux")]
#[test]
#[allow(unsafe_code, reason = "a memory map")]
fn a_mapped_weight_is_not_copied() {
    use bytes::Bytes;
    use lorac_ir::{DType, Tensor};
    use lorac_runtime::{DeviceChoice, Options, Source, open_onnxruntime};
    use std::io::Write;
    use support::{D, Model, floats, library};

    fn anonymous_mb() -> usize {
        let status = std::fs::read_to_string("/proc/self/status").expect("reads");
        let line = status.lines().find(|l| l.starts_with("RssAnon:")).expect("there");
        line.split_whitespace().nth(1).and_then(|n| n.parse::<usize>().ok()).expect("a number") / 1024
    }

    const ROWS: usize = 12_800;
    const COLUMNS: usize = 4_096;
    let mut file = tempfile::tempfile().expect("a file");
    let row: Vec<u8> = (0..COLUMNS).flat_map(|c| (c as f32).to_le_bytes()).collect();
    (0..ROWS).for_each(|_| file.write_all(&row).expect("writes"));
    // SAFETY: the file is private to this test and not written after this.
    let map = unsafe { memmap2::Mmap::map(&file) }.expect("maps");
    let weight = Tensor::new(DType::F32, vec![ROWS, COLUMNS], Bytes::from_owner(map)).expect("fits");

    let options = Options { device: DeviceChoice::Cpu, threads: Some(2), ..Options::default() };
    let engine = open_onnxruntime(&library(), &options).expect("opens");
    let model = Model::default()
        .input("x", DType::F32, &[D::N(1), D::N(ROWS as i64)])
        .weight("w", DType::F32, &[ROWS as i64, COLUMNS as i64], "w.bin")
        .node("MatMul", "x w", "y", &[])
        .output("y", DType::F32, &[D::N(1), D::N(COLUMNS as i64)])
        .bytes();
    let before = anonymous_mb();
    let mut program =
        engine.compile(Source { model, weights: vec![("w".into(), weight)], state: vec![] }).expect("compiles");
    let x = Tensor::from_slice(&[1, ROWS], &vec![1.0f32; ROWS]).expect("fits");
    let y = floats(&program.run(&[("x", &x)], &["y"]).expect("runs")[0]);
    let near = |(c, y): (usize, &f32)| (y - (c * ROWS) as f32).abs() <= 1e-5 * (c * ROWS) as f32;
    assert!(y.iter().enumerate().all(near));
    let grown = anonymous_mb().saturating_sub(before);
    assert!(grown < 40, "{grown} MB of anonymous memory for a weight of 200 MB");
}
