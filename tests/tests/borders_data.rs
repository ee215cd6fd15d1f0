//! What a pipeline's data are called, how they are written, and what of it a run takes.

use lorac_tests::border::border;

#[test]
fn inputs_of_any_name_are_fed_what_they_are_said_to_stand_for() {
    let case = border("input_names");
    for (model, ids, mask) in [
        ("model.onnx", "input_ids:0", "attention_mask:0"),
        ("torch.onnx", "input.1", "onnx::Cast_1"),
        ("serving.onnx", "serving_default_input_ids:0", "serving_default_input_mask:0"),
    ] {
        let model = format!("model={model}");
        let refused = case.fails(&[&model]);
        assert!(refused.contains("pipeline.yaml:5:1: error[pipeline::inputs]"), "{refused}");
        assert!(
            refused.contains(&format!("say what they stand for, as in data.inputs: {{ input_ids: {ids:?}")),
            "{refused}"
        );
        let inputs = format!("data.inputs={{ input_ids: \"{ids}\", attention_mask: \"{mask}\" }}");
        case.succeeds(&[&model, &inputs]);
    }
    // Without its mask, nothing is fed to the model that it does not have.
    let one = case.fails(&["data.inputs={ input_ids: \"input_ids:0\" }"]);
    assert!(
        one.contains("the input `attention_mask:0` i64[batch,seq] is none of") && one.contains("attention_mask: "),
        "{one}"
    );
}
