//! The oldest ONNX Runtime that lorac promises runs what lorac writes: the gradient of every rule, and every lowering.

#[test]
fn rules_and_lowerings() {
    let engine = lorac_tests::onnxruntime(lorac_tests::OLDEST);
    let all = lorac_tests::table::run_written(engine.as_ref(), 21);
    assert!(all.wrong.is_empty(), "{} wrong, {} right:\n{}", all.wrong.len(), all.ran, all.wrong.join("\n"));
    // ReduceMax that reduces nothing: its own kernel fails. So does wrapping by more than the length, though not in every
    // process; the kernel of Pad may read beyond the tensor there.
    let certain: Vec<&str> = all.not_there.into_iter().filter(|op| *op != "Pad").collect();
    assert_eq!(certain, ["ReduceMax"]);
    assert!(all.ran > 400, "only {}", all.ran);
}
