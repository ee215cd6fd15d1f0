//! What a model is fed, in Python: lines of a dictionary.

use crate::run::Plan;
use lorac_ir::DType;
use lorac_onnx::ModelPart;
use lorac_train::{CAUSAL_MASK, PAIR_MASK};
use serde_json::json;
use std::collections::BTreeMap;

/// A line for each input of the deployed model. `batch` is what the tokenizer makes of texts, and so many rows are there, in
/// Python; `answer` is the variable of the tokens that a decoder has written, and `mask` what says which of them count.
pub(super) fn lines(plan: &Plan, indent: &str, rows: &str, names: [&str; 2]) -> String {
    let graph = &plan.model.graph;
    let inputs = graph.inputs().iter().map(|v| graph.name_of(*v)).map(|name| (name.clone(), name));
    lines_of(plan, &inputs.collect(), indent, rows, names)
}

/// The same of one of the files that the model is in.
pub(super) fn part_lines(plan: &Plan, part: &ModelPart, indent: &str, rows: &str, names: [&str; 2]) -> String {
    let graph = &part.model.graph;
    let inputs = graph.inputs().iter().map(|v| graph.name_of(*v)).map(|own| (part.name(&own).to_string(), own));
    lines_of(plan, &inputs.collect(), indent, rows, names)
}

/// Lines for inputs by their names in the plan, each with its name in the file.
fn lines_of(
    plan: &Plan,
    inputs: &BTreeMap<String, String>,
    indent: &str,
    rows: &str,
    [answer, mask]: [&str; 2],
) -> String {
    let fields = plan.feeds.inputs.iter().filter_map(|b| {
        let of = match b.field.as_str() {
            "input_ids" | "attention_mask" => format!("batch[\"{}\"]", b.field),
            "token_type_ids" => "batch.get(\"token_type_ids\", np.zeros_like(batch[\"input_ids\"]))".to_string(),
            "position_ids" => "np.maximum(batch[\"attention_mask\"].cumsum(1) - 1, 0)".to_string(),
            CAUSAL_MASK | PAIR_MASK => {
                let made = pairs(b.field == CAUSAL_MASK, b.dtype)?;
                return Some(format!("{indent}{}: {made},\n", json!(inputs.get(&b.input)?)));
            }
            "decoder_input_ids" => answer.to_string(),
            "decoder_attention_mask" => mask.to_string(),
            _ => return None,
        };
        Some(format!("{indent}{}: {of}{},\n", json!(inputs.get(&b.input)?), cast(b.dtype, DType::I64)))
    });
    // As many rows as there are, where that is what differs between one and two of them.
    let constants = plan.feeds.constants.iter().filter_map(|c| {
        let (one, two) = (c.tensor(1).ok()?, c.tensor(2).ok()?);
        let dims = one.dims().iter().zip(two.dims()).map(|(one, two)| match two.saturating_sub(*one) {
            0 => one.to_string(),
            1 => rows.to_string(),
            each => format!("{each} * {rows}"),
        });
        let dims: Vec<String> = dims.collect();
        let name = inputs.get(&c.name)?;
        Some(format!("{indent}{}: np.zeros([{}], {}),\n", json!(name), dims.join(", "), numpy(c.dtype)?))
    });
    fields.chain(constants).collect()
}

/// A mask of pairs of tokens `[rows, 1, tokens, tokens]`, in Python.
fn pairs(is_causal: bool, dtype: DType) -> Option<String> {
    let square = |what: &str| format!("np.{what}(batch[\"attention_mask\"].shape[1], dtype=bool)");
    let words = "batch[\"attention_mask\"][:, None, None, :] > 0";
    let seen = match is_causal {
        true => format!("({words}) & {} | {}", square("tri"), square("eye")),
        false => format!("({words}) | {}", square("eye")),
    };
    let name = numpy(dtype)?;
    Some(match dtype.is_float() {
        true => format!("np.where({seen}, 0, np.finfo({name}).min).astype({name})"),
        false => format!("({seen}){}", cast(dtype, DType::Bool)),
    })
}

/// What makes an array of one type one of another, in Python.
pub(super) fn cast(dtype: DType, have: DType) -> String {
    match numpy(dtype).filter(|_| dtype != have) {
        Some(name) => format!(".astype({name})"),
        None => String::new(),
    }
}

/// What numpy calls a type.
fn numpy(dtype: DType) -> Option<&'static str> {
    Some(match dtype {
        DType::F32 => "np.float32",
        DType::F16 => "np.float16",
        DType::F64 => "np.float64",
        DType::I64 => "np.int64",
        DType::I32 => "np.int32",
        DType::Bool => "bool",
        _ => return None,
    })
}
