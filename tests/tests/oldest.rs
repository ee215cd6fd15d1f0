//! The oldest ONNX Runtime that lorac promises runs what lorac writes: the gradient of every rule, and every lowering.

#[test]
fn rules_and_lowerings() {
    let engine = lorac_tests::onnxruntime(lorac_tests::OLDEST);
    let all = lorac_tests::table::run_written(engine.as_ref(), 21);
    assert!(all.wrong.is_empty(), "{} wrong, {} right:\n{}", all.wrong.len(), all.ran, all.wrong.join("\n"));
    // Wrapping by more than the length, and ReduceMax that reduces nothing: its own kernels fail.
    assert_eq!(all.not_there, ["Pad", "ReduceMax"]);
    assert!(all.ran > 400, "only {}", all.ran);
}
