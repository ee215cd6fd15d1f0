//! Models with an encoder and a decoder: whether task and model have both, and what the decoder begins with.

use crate::error::Error;
use crate::pipeline::Loaded;
use crate::task::TaskChoice;
use lorac_config::Problem;
use lorac_ir::Graph;
use lorac_passes::fixed_input;
use lorac_train::Feeds;

/// Refuses a model with an encoder and a decoder where the task has none, and one without where it has.
pub(crate) fn check_decoder(loaded: &Loaded, graph: &Graph, feeds: &Feeds) -> Result<(), Error> {
    let task = &loaded.pipeline.task;
    let bound = |field: &str| feeds.inputs.iter().find(|b| b.field == field).map(|b| fixed_input(graph, &b.input));
    let read = bound("input_ids").unwrap_or_default();
    let (message, help) = match (bound("decoder_input_ids"), task.has_decoder()) {
        (Some(_), false) => (
            format!(
                "the model has an encoder and a decoder, and `task: {}` is of models with one of them",
                task.name()
            ),
            "task: seq2seq",
        ),
        (None, true) => (
            format!(
                "the model has no input `decoder_input_ids`, which `task: {}` feeds what the decoder has written so far",
                task.name()
            ),
            "name the folder that has encoder_model.onnx and decoder_model.onnx, or export both as one file, with the inputs input_ids, \
             attention_mask and decoder_input_ids and the output logits; a decoder alone is for task: causal_lm",
        ),
        (Some(answers), true) if read.len != answers.len => (
            "encoder and decoder of the model take texts of different fixed lengths".to_string(),
            "export it with dynamic lengths",
        ),
        (Some(answers), true) if read.rows != answers.rows => {
            let rows = |n: Option<usize>| n.map_or("any number of rows".to_string(), |n| format!("{n} rows"));
            (
                format!("the encoder of the model takes {}, and the decoder {}", rows(read.rows), rows(answers.rows)),
                "export it with a batch of any size",
            )
        }
        _ => return Ok(()),
    };
    let problem = Problem { path: "task".into(), code: "pipeline::decoder", message, help: Some(help.into()) };
    Err(Box::new(loaded.errors_at(vec![problem])).into())
}

/// The task with the id that a decoder begins with, where it has one: the task's own, else that of the model's configuration.
pub(crate) fn started(loaded: &Loaded, task: TaskChoice, start: Option<u32>) -> Result<TaskChoice, Error> {
    if !task.has_decoder() || task.decoder_start().is_some() {
        return Ok(task);
    }
    let Some(found) = start.and_then(|start| task.starting(start)) else {
        let message = "nothing says which token the decoder begins with: neither generation_config.json nor config.json beside the model \
                       has `decoder_start_token_id`";
        let help = Some(format!("task: {{ {}: {{ decoder_start_token_id: 0 }} }}", task.name()));
        let problem = Problem { path: "task".into(), code: "pipeline::decoder", message: message.into(), help };
        return Err(Box::new(loaded.errors_at(vec![problem])).into());
    };
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_read_and_what_is_written_have_one_shape() {
        let text = "name: n\nmodel: m.onnx\ntask: { seq2seq: {} }\nadapt: { lora: w }\ntrain: { epochs: 1 }\n\
                    data: { train: { csv: t.csv, prompt: p, completion: c } }\n";
        let loaded = Loaded::parse(text, "p.yaml".as_ref(), &[]).unwrap_or_else(|e| panic!("{e}"));
        let of = |read: &str, written: &str| {
            let text = format!("graph g(%input_ids: i64{read}, %decoder_input_ids: i64{written}) {{ }}");
            let graph = lorac_ir::parse(&text).expect("parses");
            check_decoder(&loaded, &graph, &crate::inputs::feeds(&graph).expect("feeds")).map_err(|e| e.to_string())
        };
        for alike in ["[B,S]", "[4,S]", "[4,16]"] {
            assert_eq!(of(alike, alike), Ok(()));
        }
        let said = of("[B,8]", "[B,16]").expect_err("lengths");
        assert!(said.contains("different fixed lengths") && said.contains("pipeline::decoder"), "{said}");
        let said = of("[4,S]", "[2,T]").expect_err("rows");
        assert!(said.contains("the encoder of the model takes 4 rows, and the decoder 2 rows"), "{said}");
        let said = of("[B,S]", "[2,T]").expect_err("rows");
        assert!(said.contains("takes any number of rows, and the decoder 2 rows"), "{said}");
    }
}
