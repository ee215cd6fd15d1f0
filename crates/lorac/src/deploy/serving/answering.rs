//! The snippet in Python of a model with an encoder and a decoder: it writes the likeliest token, each time.

use super::feed;
use crate::run::Plan;
use crate::writing::Texts;
use lorac_onnx::ModelPart;
use lorac_passes::{fixed_input, input_limits};
use serde_json::json;
use std::path::Path;

/// The snippet; `start` is what the decoder begins with.
pub(super) fn python(plan: &Plan, start: i64) -> String {
    let served = &plan.served;
    let fixed = |field: &str| {
        let bound = plan.feeds.inputs.iter().find(|b| b.field == field);
        bound.map(|b| fixed_input(&plan.readable, &b.input)).unwrap_or_default()
    };
    let (read, written) = (fixed("input_ids"), fixed("decoder_input_ids"));
    let (padding, longest) = match read.len {
        Some(len) => ("\"max_length\"", len),
        None => ("True", served.max_length),
    };
    let texts = match read.rows.or(written.rows) {
        Some(rows) => format!("[\"a fine film\"] * {rows}  # as many as the model takes"),
        None => "[\"a fine film\", \"a dull one\"]".to_string(),
    };
    let positions = input_limits(&plan.readable);
    let positions = positions.and_then(|limits| limits.positions.iter().map(|table| table.usable).min());
    // The last token need not be fed.
    let room = written.len.or(positions).unwrap_or(usize::MAX);
    let most = plan.texts.as_ref().map_or(64, Texts::max_new_tokens).min(room);
    // What is written so far, at the length that the model takes.
    let (padded, names) = match written.len {
        Some(len) => (
            format!(
                "    behind = ((0, 0), (0, {len} - answer.shape[1]))\n    \
                 padded = np.pad(answer, behind, constant_values={})\n    \
                 attended = np.pad(np.ones_like(answer), behind)\n",
                served.pad_id
            ),
            ["padded", "attended"],
        ),
        None => (String::new(), ["answer", "np.ones_like(answer)"]),
    };
    let rows = "len(texts)";
    let (sessions, encoded, feeds, scores) = match &plan.model.parts[..] {
        [encoder, decoder] => {
            let session = |name: &str, part: &ModelPart| {
                let file = part.model.path.file_name().map(Path::new).unwrap_or(Path::new("")).display().to_string();
                format!("{name} = ort.InferenceSession({})\n", json!(file))
            };
            let (hidden, own) = hidden_states(encoder, decoder).unwrap_or_default();
            let read = feed::part_lines(plan, encoder, "    ", rows, names);
            let written = feed::part_lines(plan, decoder, "        ", rows, names);
            (
                session("encoder", encoder) + &session("session", decoder),
                format!("hidden = encoder.run([{}], {{\n{read}}})[0]\n", json!(hidden)),
                format!("{written}        {}: hidden,\n", json!(own)),
                own_output(decoder, &served.output),
            )
        }
        _ => {
            let feeds = feed::lines(plan, "        ", rows, names);
            ("session = ort.InferenceSession(\"model.onnx\")\n".into(), String::new(), feeds, served.output.clone())
        }
    };
    format!(
        "import numpy as np\nimport onnxruntime as ort\nfrom transformers import AutoTokenizer\n\n\
         tokenizer = AutoTokenizer.from_pretrained(\".\", padding_side=\"right\")\n\
         {sessions}\ntexts = {texts}\n\
         batch = tokenizer(texts, padding={padding}, truncation=True, max_length={longest}, return_tensors=\"np\")\n\
         {encoded}answer = np.full((len(texts), 1), {start})\nfor _ in range({most}):\n{padded}    feeds = {{\n{feeds}    }}\n    \
         scores = session.run([{}], feeds)[0][:, answer.shape[1] - 1]\n    \
         answer = np.concatenate([answer, scores.argmax(-1)[:, None]], 1)\n\
         for text, row in zip(texts, answer[:, 1:].tolist()):\n    \
         end = next((at for at, token in enumerate(row) if token in {:?}), len(row))\n    \
         print(tokenizer.decode(row[:end], skip_special_tokens=True), text, sep=\"\\t\")\n",
        json!(scores),
        served.ends,
    )
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

/// What an output of the whole is called in the decoder's own file.
fn own_output(decoder: &ModelPart, output: &str) -> String {
    let graph = &decoder.model.graph;
    let mut own = graph.outputs().iter().map(|v| graph.name_of(*v));
    own.find(|own| decoder.name(own) == output).unwrap_or_else(|| output.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;
    use lorac_onnx::Model;

    #[test]
    fn a_file_is_asked_for_its_output_by_its_own_name() {
        let graph = lorac_ir::parse(
            "graph d(%x: f32[B,2]) -> %cache, %logits { %logits = Relu(%x) : f32[B,2]\n %cache = Neg(%x) : f32[B,2] }",
        );
        let part = |renamed: &[(&str, &str)]| ModelPart {
            model: Model::of_parts(graph.clone().expect("parses"), "decoder_model.onnx".into(), Vec::new()),
            weights: Default::default(),
            renamed: renamed.iter().map(|(own, there)| (own.to_string(), there.to_string())).collect(),
        };
        // The encoder has a value of this name too.
        assert_eq!(own_output(&part(&[("logits", "decoder.logits")]), "decoder.logits"), "logits");
        assert_eq!(own_output(&part(&[]), "logits"), "logits");
    }
}
