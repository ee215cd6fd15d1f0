//! `--set key=value`: overrides of any key.

use super::{Issue, Pipeline, check};
use serde_json::Value;

/// The pipeline of `text`, which is `original`, with the overrides applied in order.
pub(super) fn apply(text: &str, original: &Pipeline, sets: &[String]) -> Result<Pipeline, Vec<Issue>> {
    let mut tree: Value = serde_saphyr::from_str(text).map_err(|e| vec![super::issue(&e)])?;
    let unwritable = |e: serde_json::Error| {
        vec![Issue { code: "pipeline::set", message: e.to_string(), line: 0, column: 0, help: None }]
    };
    restore(&mut tree, &serde_json::to_value(original).map_err(unwritable)?);
    let wrong: Vec<Issue> = sets.iter().filter_map(|set| put(&mut tree, set).err()).collect();
    if !wrong.is_empty() {
        return Err(wrong);
    }
    // JSON is YAML, and this way one reader serves both.
    let json = tree.to_string();
    let pipeline = super::read(&json).map_err(|e| vec![blame(e, sets)])?;
    let issues = check::check(&pipeline, "");
    match issues.is_empty() {
        true => Ok(pipeline),
        false => Err(issues.into_iter().map(|e| blame(e, sets)).collect()),
    }
}

/// A tree of values takes plain words and digits for booleans and numbers (`label: y`, `name: 1.10`): where the pipeline
/// has a string, so has the tree.
fn restore(tree: &mut Value, original: &Value) {
    match (tree, original) {
        (Value::Object(tree), Value::Object(original)) => {
            for (key, value) in tree {
                if let Some(was) = original.get(key) {
                    restore(value, was);
                }
            }
        }
        (Value::Array(tree), Value::Array(original)) => tree.iter_mut().zip(original).for_each(|(t, o)| restore(t, o)),
        (tree @ (Value::Bool(_) | Value::Number(_) | Value::Null), Value::String(was)) => {
            *tree = Value::String(was.clone());
        }
        _ => {}
    }
}

/// The file was right, so the overrides are at fault.
fn blame(issue: Issue, sets: &[String]) -> Issue {
    let message = format!("{} (with --set {})", issue.message, sets.join(" --set "));
    Issue { message, line: 0, column: 0, ..issue }
}

fn put(tree: &mut Value, set: &str) -> Result<(), Issue> {
    let error = |message: String| Issue { code: "pipeline::set", message, line: 0, column: 0, help: None };
    let Some((path, text)) = set.split_once('=') else {
        return Err(error(format!("--set {set}: wanted KEY=VALUE, such as train.epochs=1")));
    };
    // A sum of digits alone is no number.
    let value = match path.ends_with("sha256") {
        true => Value::String(text.to_string()),
        false => {
            // y, no and on are words.
            let options = serde_saphyr::options! { strict_booleans: true };
            serde_saphyr::from_str_with_options(text, options).unwrap_or_else(|_| Value::String(text.to_string()))
        }
    };
    let mut at = tree;
    for key in path.split('.') {
        at = match at {
            Value::Array(items) => {
                let len = items.len();
                let item = key.parse::<usize>().ok().and_then(|i| items.get_mut(i));
                item.ok_or_else(|| error(format!("--set {set}: '{key}' is no position in a list of {len}")))?
            }
            Value::Object(map) => map.entry(key).or_insert(Value::Null),
            Value::Null => {
                *at = Value::Object(Default::default());
                let Value::Object(map) = at else { continue };
                map.entry(key).or_insert(Value::Null)
            }
            _ => return Err(error(format!("--set {set}: there is nothing below '{key}'"))),
        };
    }
    *at = value;
    Ok(())
}
