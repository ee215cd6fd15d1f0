//! The snippet in Python that a model card has.

use super::tokenizer::words_need_space;
use super::{answering, feed, images};
use crate::deploy::Trained;
use crate::served::Served;
use lorac_passes::fixed_input;
use lorac_train::Prediction;
use serde_json::json;

/// The snippet.
pub(super) fn python(trained: &Trained) -> String {
    let plan = trained.plan;
    let served = &plan.served;
    match (served.decoder_start, &served.images) {
        (Some(start), _) => return answering::python(plan, start),
        (None, Some(made)) => return images::python(plan, made, &answers(served, is_probability(trained), FILES)),
        (None, None) => {}
    }
    let tags = served.predicts == Prediction::Tags;
    let feeds = feed::lines(plan, "    ", "len(texts)", ["answer", "np.ones_like(answer)"]);
    let fixed = served.inputs.get("input_ids").map(|ids| fixed_input(&plan.readable, ids)).unwrap_or_default();
    // Some classes of tokenizers ask for the word, and others heed only the setting of what is behind them.
    let (space, behind) = match words_need_space(&plan.beside.tokenizer, served) {
        true => (", add_prefix_space=True", "tokenizer.backend_tokenizer.pre_tokenizer.add_prefix_space = True\n"),
        false => ("", ""),
    };
    let (padding, longest) = match fixed.len {
        Some(len) => ("\"max_length\"", len),
        None => ("True", served.max_length),
    };
    let texts = match (fixed.rows, tags) {
        (Some(rows), _) => format!("texts = [\"a fine film\"] * {rows}  # as many as the model takes"),
        (None, _) => "texts = [\"a fine film\", \"a dull one\"]".to_string(),
    };
    let (given, words) = match (tags, &served.text_pair) {
        (true, _) => ("[text.split() for text in texts]", ", is_split_into_words=True"),
        (false, Some(_)) => ("texts, [\"this is the second text\"] * len(texts)", ""),
        (false, None) => ("texts", ""),
    };
    format!(
        "import json\n\nimport numpy as np\nimport onnxruntime as ort\nfrom transformers import AutoTokenizer\n\n\
         config = json.load(open(\"config.json\", encoding=\"utf-8\"))\n\
         tokenizer = AutoTokenizer.from_pretrained(\".\", padding_side=\"right\"{space})\n{behind}\
         session = ort.InferenceSession(\"model.onnx\")\n\n{texts}\n\
         batch = tokenizer({given}, padding={padding}, truncation=True, max_length={longest}, return_tensors=\"np\"{words})\n\
         feeds = {{\n{feeds}}}\n\
         scores = session.run([{}], feeds)[0].astype(np.float64)\n{}",
        json!(served.output),
        answers(served, is_probability(trained), TEXTS),
    )
}

/// Whether the output is what a softmax or sigmoid has made already.
fn is_probability(trained: &Trained) -> bool {
    crate::served::is_probability(&trained.plan.readable, &trained.plan.served.output)
}

/// What snippets call what the model reads: all, and one of them.
const TEXTS: [&str; 2] = ["texts", "text"];
const FILES: [&str; 2] = ["files", "file"];

/// What becomes of the scores.
fn answers(served: &Served, done: bool, [all, one]: [&str; 2]) -> String {
    let softmax = "scores = np.exp(scores - scores.max(-1, keepdims=True))\nscores /= scores.sum(-1, keepdims=True)\n";
    match (served.predicts, done) {
        (Prediction::Classes, _) => {
            let softmax = if done { "" } else { softmax };
            format!(
                "{softmax}for {one}, row in zip({all}, scores):\n    \
                 print(config[\"id2label\"][str(row.argmax())], round(float(row.max()), 4), {one}, sep=\"\\t\")\n"
            )
        }
        (Prediction::Labels, _) => {
            let sigmoid = if done { "" } else { "scores = 1 / (1 + np.exp(-scores))\n" };
            format!(
                "{sigmoid}for {one}, row in zip({all}, scores):\n    \
                 print({{config[\"id2label\"][str(i)]: round(float(p), 4) for i, p in enumerate(row) if p > 0.5}}, {one}, sep=\"\\t\")\n"
            )
        }
        (Prediction::Loss, _) => "print(scores.round(4))\n".into(),
        (Prediction::Masked, _) => "print(tokenizer.batch_decode(scores.argmax(-1)))\n".into(),
        (Prediction::Values, _) => format!(
            "for {one}, row in zip({all}, scores.reshape(len(scores), -1)):\n    \
             print(round(float(row[0]), 4), {one}, sep=\"\\t\")\n"
        ),
        (Prediction::Embeddings, _) => {
            "scores /= np.linalg.norm(scores, axis=1, keepdims=True)\nprint((scores @ scores.T).round(4))\n".into()
        }
        (Prediction::Tags, _) => {
            "for i, text in enumerate(texts):\n    words, ids = text.split(), batch.word_ids(i)\n    \
             first = {w: ids.index(w) for w in range(len(words)) if w in ids}\n    \
             print(*(f\"{words[w]}/{config['id2label'][str(scores[i, at].argmax())]}\" for w, at in first.items()))\n"
                .into()
        }
        (Prediction::Tokens, _) => format!(
            "{softmax}for i, text in enumerate(texts):\n    n = int(batch[\"attention_mask\"][i].sum())\n    \
             next_token = scores[i, np.arange(n - 1), batch[\"input_ids\"][i, 1:n]]\n    \
             print(\"perplexity\", float(np.exp(-np.log(next_token).mean())), text, sep=\"\\t\")\n"
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_read_has_its_name_in_every_snippet() {
        use Prediction::{Classes, Embeddings, Labels, Loss, Masked, Tags, Tokens, Values};
        for kind in [Classes, Labels, Values, Tags, Tokens, Embeddings, Masked, Loss] {
            for done in [true, false] {
                let text = answers(&Served::plain("t", kind, "logits"), done, FILES);
                assert!(!text.contains("{one}") && !text.contains("{all}") && !text.contains("{softmax}"), "{text}");
            }
        }
    }
}
