//! The newest ONNX Runtime that was tried runs what lorac writes: the gradient of every rule, and every lowering.

#[test]
fn rules_and_lowerings() {
    let engine = lorac_tests::onnxruntime(lorac_tests::NEWEST);
    let all = lorac_tests::table::run_written(engine.as_ref(), i64::MAX);
    assert!(all.wrong.is_empty(), "{} wrong, {} right:\n{}", all.wrong.len(), all.ran, all.wrong.join("\n"));
    assert_eq!(all.not_there, [""; 0]);
    assert!(all.ran > 400, "only {}", all.ran);
}
