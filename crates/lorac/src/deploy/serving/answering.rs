//! The snippet in Python of a model with an encoder and a decoder: it writes the likeliest token, each time.

use crate::run::Plan;
use crate::writing::Texts;
use lorac_ir::DType;
use serde_json::json;

/// The snippet; `start` is what the decoder begins with.
pub(super) fn python(plan: &Plan, start: i64) -> String {
    let served = &plan.served;
    let feeds = plan.feeds.inputs.iter().filter_map(|b| {
        let of = match b.field.as_str() {
            "decoder_input_ids" => "answer".to_string(),
            "decoder_attention_mask" => "np.ones_like(answer)".to_string(),
            "token_type_ids" => "np.zeros_like(batch[\"input_ids\"])".to_string(),
            field if served.inputs.contains_key(field) => format!("batch[\"{field}\"]"),
            _ => return None,
        };
        let cast = if b.dtype == DType::I64 { "" } else { ".astype(np.int32)" };
        Some(format!("        {}: {of}{cast},\n", json!(b.input)))
    });
    let most = plan.texts.as_ref().map_or(64, Texts::max_new_tokens);
    format!(
        "import numpy as np\nimport onnxruntime as ort\nfrom transformers import AutoTokenizer\n\n\
         tokenizer = AutoTokenizer.from_pretrained(\".\", padding_side=\"right\")\n\
         session = ort.InferenceSession(\"model.onnx\")\n\ntexts = [\"a fine film\", \"a dull one\"]\n\
         batch = tokenizer(texts, padding=True, truncation=True, max_length={}, return_tensors=\"np\")\n\
         answer = np.full((len(texts), 1), {start})\nfor _ in range({most}):\n    feeds = {{\n{}    }}\n    \
         scores = session.run([{}], feeds)[0]\n    \
         answer = np.concatenate([answer, scores[:, -1:].argmax(-1)], 1)\n\
         for text, row in zip(texts, answer[:, 1:].tolist()):\n    \
         end = next((at for at, token in enumerate(row) if token in {:?}), len(row))\n    \
         print(tokenizer.decode(row[:end], skip_special_tokens=True), text, sep=\"\\t\")\n",
        served.max_length,
        feeds.collect::<String>(),
        json!(served.output),
        served.ends,
    )
}
