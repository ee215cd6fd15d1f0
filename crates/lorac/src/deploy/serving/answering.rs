//! The snippet in Python of a model with an encoder and a decoder: it writes the likeliest token, each time.

use crate::run::Plan;
use crate::writing::Texts;
use lorac_ir::DType;
use lorac_onnx::ModelPart;
use lorac_train::Binding;
use serde_json::json;
use std::path::Path;

/// The snippet; `start` is what the decoder begins with.
pub(super) fn python(plan: &Plan, start: i64) -> String {
    let served = &plan.served;
    let most = plan.texts.as_ref().map_or(64, Texts::max_new_tokens);
    let (sessions, read, feeds) = match &plan.model.parts[..] {
        [encoder, decoder] => {
            let session = |name: &str, part: &ModelPart| {
                let file = part.model.path.file_name().map(Path::new).unwrap_or(Path::new("")).display().to_string();
                format!("{name} = ort.InferenceSession({})\n", json!(file))
            };
            let (hidden, own) = hidden_states(encoder, decoder).unwrap_or_default();
            let (ids, read) = (part_feeds(plan, encoder, "    "), part_feeds(plan, decoder, "        "));
            (
                session("encoder", encoder) + &session("session", decoder),
                format!("hidden = encoder.run([{}], {{\n{ids}}})[0]\n", json!(hidden)),
                format!("{read}        {}: hidden,\n", json!(own)),
            )
        }
        _ => {
            let feeds = plan.feeds.inputs.iter().filter_map(|b| feed(plan, b, &b.input, "        "));
            ("session = ort.InferenceSession(\"model.onnx\")\n".into(), String::new(), feeds.collect())
        }
    };
    format!(
        "import numpy as np\nimport onnxruntime as ort\nfrom transformers import AutoTokenizer\n\n\
         tokenizer = AutoTokenizer.from_pretrained(\".\", padding_side=\"right\")\n\
         {sessions}\ntexts = [\"a fine film\", \"a dull one\"]\n\
         batch = tokenizer(texts, padding=True, truncation=True, max_length={}, return_tensors=\"np\")\n\
         {read}answer = np.full((len(texts), 1), {start})\nfor _ in range({most}):\n    feeds = {{\n{feeds}    }}\n    \
         scores = session.run([{}], feeds)[0]\n    \
         answer = np.concatenate([answer, scores[:, -1:].argmax(-1)], 1)\n\
         for text, row in zip(texts, answer[:, 1:].tolist()):\n    \
         end = next((at for at, token in enumerate(row) if token in {:?}), len(row))\n    \
         print(tokenizer.decode(row[:end], skip_special_tokens=True), text, sep=\"\\t\")\n",
        served.max_length,
        json!(served.output),
        served.ends,
    )
}

/// A line that feeds an input; none for what the snippet does not have.
fn feed(plan: &Plan, binding: &Binding, input: &str, indent: &str) -> Option<String> {
    let of = match binding.field.as_str() {
        "decoder_input_ids" => "answer".to_string(),
        "decoder_attention_mask" => "np.ones_like(answer)".to_string(),
        "token_type_ids" => "np.zeros_like(batch[\"input_ids\"])".to_string(),
        field if plan.served.inputs.contains_key(field) => format!("batch[\"{field}\"]"),
        _ => return None,
    };
    let cast = if binding.dtype == DType::I64 { "" } else { ".astype(np.int32)" };
    Some(format!("{indent}{}: {of}{cast},\n", json!(input)))
}

/// The lines that feed a part of the model.
fn part_feeds(plan: &Plan, part: &ModelPart, indent: &str) -> String {
    let own = part.model.graph.inputs().iter().map(|v| part.model.graph.name_of(*v));
    let line = |own: String| {
        let binding = plan.feeds.inputs.iter().find(|binding| binding.input == part.name(&own))?;
        feed(plan, binding, &own, indent)
    };
    own.filter_map(line).collect()
}

/// The output of the encoder that the decoder reads, and the decoder's input of it.
fn hidden_states(encoder: &ModelPart, decoder: &ModelPart) -> Option<(String, String)> {
    let outputs: Vec<String> = encoder.model.graph.outputs().iter().map(|v| encoder.model.graph.name_of(*v)).collect();
    let inputs = decoder.model.graph.inputs().iter().map(|v| decoder.model.graph.name_of(*v));
    let mut pairs = inputs.filter_map(|input| {
        let output = outputs.iter().find(|output| encoder.name(output) == decoder.name(&input))?;
        Some((output.clone(), input))
    });
    pairs.next()
}
