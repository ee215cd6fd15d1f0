//! Rows of several examples: how they are made, and whether the model keeps the examples of a row apart.

use super::Plan;
use crate::error::Error;
use crate::output::PackedCard;
use crate::pipeline::Loaded;
use crate::task::{LABELS, Task};
use lorac_config::Problem;
use lorac_data::{Dataset, EXAMPLE_IDS, Example, Field, IGNORE, POSITION_IDS, pack};
use lorac_ir::{DType, Graph, Tensor};
use lorac_passes::{Isolated, Names, fixed_input};
use lorac_runtime::Program;
use lorac_train::{Binding, TrainError};

/// What a loss may change by where other examples of its row do. A mask makes every term that it hides an exact zero.
const SEEN: f64 = 1e-5;

/// What the loss of an example may differ by in a row with others, where products have other shapes.
const APART: f64 = 1e-4;

/// The same where the model computes in halves or in integers.
const APART_OF_HALVES: f64 = 2e-2;

/// Lets the examples of each source share rows of `room` tokens, and gives those that are held out rows of their own. `weights` are
/// the sources' numbers of examples, where they have weights, and become those of rows.
pub(super) fn pack_rows(
    task: &dyn Task,
    train: &mut Vec<Example>,
    eval: &mut Vec<Example>,
    weights: &mut [(usize, f64)],
    room: usize,
) -> PackedCard {
    let (examples, is_causal) = (train.len(), task.is_causal());
    let tokens: usize = train.iter().map(Example::length).sum();
    let mut rest = &train[..];
    let mut rows = Vec::new();
    let mut take = |count: usize| {
        let (of_source, others) = rest.split_at(count.min(rest.len()));
        rest = others;
        let packed = pack(of_source, room, is_causal);
        let count = packed.len();
        rows.extend(packed);
        count
    };
    match weights.is_empty() {
        true => _ = take(examples),
        false => weights.iter_mut().for_each(|(count, _)| *count = take(*count)),
    }
    *train = rows;
    *eval = pack(eval, 0, is_causal);
    let all = (train.len() * room).max(1);
    PackedCard {
        rows: train.len(),
        room,
        examples_per_row: examples as f64 / train.len().max(1) as f64,
        filled: tokens as f64 / all as f64,
    }
}

/// The inputs by which examples are kept apart.
pub(super) fn inputs(names: &Names) -> [Binding; 2] {
    let binding =
        |field: &str, input: &String| Binding { field: field.into(), input: input.clone(), dtype: DType::I64 };
    [binding(EXAMPLE_IDS, &names.example_ids), binding(POSITION_IDS, &names.example_positions)]
}

/// Refuses a model in which no attention was found.
///
/// # Errors
/// The key, and what mixes tokens in the model.
pub(super) fn has_attention(loaded: &Loaded, isolated: Option<&Isolated>) -> Result<(), Error> {
    let Some(isolated) = isolated.filter(|isolated| isolated.attentions.is_empty()) else { return Ok(()) };
    let what = match &isolated.others[..] {
        [] => "nothing in the model is known to mix tokens".to_string(),
        others => format!("tokens are mixed by {}", listed(others)),
    };
    let message = format!(
        "`pack`: no attention of the model has scores for every pair of tokens of a row, by which examples could be kept apart: {what}"
    );
    Err(refused(loaded, message))
}

/// Holds examples of a row against the same examples by themselves and beside others: the losses must be the same.
///
/// # Errors
/// What differs, and where the examples were kept apart; what the engine says.
pub(super) fn prove(loaded: &Loaded, plan: &Plan, evaluator: &mut dyn Program) -> Result<(), Error> {
    let Some(isolated) = &plan.training.isolated else { return Ok(()) };
    let tokens = plan.feeds.inputs.iter().find(|binding| binding.field == "input_ids");
    let fill = tokens.and_then(|binding| fixed_input(&plan.readable, &binding.input).rows).unwrap_or(0);
    let mut loss = |example: Example| -> Result<f64, Error> {
        let data = Dataset::new(vec![example], plan.train.pad);
        let tensors = plan.feeds.for_program(evaluator, &data.batch(&[0], fill)?)?;
        let refs: Vec<(&str, &Tensor)> = tensors.iter().map(|(n, t)| (n.as_str(), t)).collect();
        let out = evaluator.run(&refs, &[plan.training.names.loss_sum.as_str()]).map_err(TrainError::from)?;
        Ok(out.first().and_then(|t| t.to_f64()?.first().copied()).unwrap_or(f64::NAN))
    };
    let Some(row) = plan.train.examples.iter().max_by_key(|row| count(row)).filter(|row| count(row) > 1) else {
        return Ok(());
    };
    let differ = |a: f64, b: f64, most: f64| (a - b).abs() > most * a.abs().max(1.0);
    let most = if is_coarse(&plan.training.eval) { APART_OF_HALVES } else { APART };
    for at in [count(row) - 1, 0] {
        let beside = loss(labelled(row, at, |_, id| id))?;
        let ids = row.tokens("input_ids").unwrap_or_default();
        let turned = |token: usize, _| ids.get((token + 1) % ids.len().max(1)).copied().unwrap_or(0);
        let others = loss(labelled(row, at, turned))?;
        if differ(beside, others, SEEN) {
            let message = format!(
                "`pack`: the model's tokens see other examples of their row: the loss of one of them is {beside:.6}, and {others:.6} beside \
                 others. Examples are kept apart in {}; what else mixes tokens: {}",
                listed(&isolated.attentions.iter().map(|name| format!("`{name}`")).collect::<Vec<_>>()),
                if isolated.others.is_empty() { "nothing that is known".into() } else { listed(&isolated.others) }
            );
            return Err(refused(loaded, message));
        }
        let alone = loss(alone(&labelled(row, at, |_, id| id), at))?;
        if differ(beside, alone, most) {
            let found = match (&isolated.positions[..], tokens_have_positions(plan)) {
                ([], false) => "nothing that looks positions up was found".to_string(),
                ([], true) => "positions are fed as `position_ids`".to_string(),
                (some, _) => {
                    let some: Vec<String> = some.iter().map(|name| format!("`{name}`")).collect();
                    format!("positions are looked up by {}", listed(&some))
                }
            };
            let message = format!(
                "`pack`: an example in a row with others has the loss {beside:.6}, and {alone:.6} by itself: its positions do not begin \
                 anew with it ({found})"
            );
            return Err(refused(loaded, message));
        }
    }
    Ok(())
}

fn tokens_have_positions(plan: &Plan) -> bool {
    let own = &plan.training.names.example_positions;
    plan.feeds.inputs.iter().any(|binding| binding.field == POSITION_IDS && binding.input != *own)
}

/// Whether any number is in halves, or in integers by a scale.
fn is_coarse(graph: &Graph) -> bool {
    let halves = |dtype: DType| matches!(dtype, DType::F16 | DType::BF16);
    graph.values().any(|(id, _)| halves(graph.fact(id).dtype))
        || graph.nodes().any(|(_, node)| node.op.name.contains("Quant") || node.op.name.contains("Integer"))
}

/// Examples of a row.
fn count(row: &Example) -> usize {
    row.tokens(EXAMPLE_IDS).and_then(|ids| ids.last()).map_or(1, |last| usize::try_from(*last).unwrap_or(0) + 1)
}

/// The row with labels in one example alone, and in the others with the tokens that `other` makes of theirs.
fn labelled(row: &Example, at: usize, other: impl Fn(usize, i64) -> i64) -> Example {
    let is_own: Vec<bool> =
        row.tokens(EXAMPLE_IDS).unwrap_or_default().iter().map(|id| usize::try_from(*id) == Ok(at)).collect();
    let own = |token: usize| is_own.get(token).copied().unwrap_or(false);
    let ids = row.tokens("input_ids").unwrap_or_default();
    let given = row.tokens(LABELS).unwrap_or_default();
    let learns = given.iter().enumerate().any(|(token, label)| own(token) && *label != IGNORE);
    // Its first token is told by nothing.
    let first = is_own.iter().position(|own| *own);
    let tokens: Vec<i64> = (0..).zip(ids).map(|(at, id)| if Some(at) == first { IGNORE } else { *id }).collect();
    let labels = if learns { given } else { &tokens };
    let field = |(name, field): &(&'static str, Field)| {
        let made = match (*name, field) {
            ("input_ids", Field::Tokens { pad, .. }) => {
                let made = |(token, id): (usize, &i64)| if own(token) { *id } else { other(token, *id) };
                Field::Tokens { ids: ids.iter().enumerate().map(made).collect(), pad: *pad }
            }
            (LABELS, Field::Tokens { pad, .. }) => {
                let made = |(token, label): (usize, &i64)| if own(token) { *label } else { IGNORE };
                Field::Tokens { ids: labels.iter().enumerate().map(made).collect(), pad: *pad }
            }
            (_, field) => field.clone(),
        };
        (*name, made)
    };
    Example { fields: row.fields.iter().map(field).collect() }
}

/// The longest example of a row by itself.
pub(super) fn longest_of(row: &Example) -> Example {
    let Some(ids) = row.tokens(EXAMPLE_IDS) else { return row.clone() };
    let length = |at: &usize| ids.iter().filter(|id| usize::try_from(**id) == Ok(*at)).count();
    (0..count(row)).max_by_key(length).map_or(row.clone(), |at| alone(row, at))
}

/// One example of a row by itself.
fn alone(row: &Example, at: usize) -> Example {
    let examples = row.tokens(EXAMPLE_IDS).unwrap_or_default();
    let own = |ids: &[i64]| -> Vec<i64> {
        let pairs = ids.iter().zip(examples);
        pairs.filter(|(_, example)| usize::try_from(**example) == Ok(at)).map(|(id, _)| *id).collect()
    };
    let field = |(name, field): &(&'static str, Field)| {
        let made = match (*name, field) {
            (EXAMPLE_IDS, Field::Tokens { ids, .. }) => Field::Tokens { ids: vec![0; own(ids).len()], pad: 0 },
            (POSITION_IDS, Field::Tokens { ids, .. }) => {
                let ids = own(ids);
                let pad = ids.last().copied().unwrap_or(0);
                Field::Tokens { ids, pad }
            }
            (_, Field::Tokens { ids, pad }) => Field::Tokens { ids: own(ids), pad: *pad },
            (_, field) => field.clone(),
        };
        (*name, made)
    };
    Example { fields: row.fields.iter().map(field).collect() }
}

/// The first of several names.
fn listed(names: &[String]) -> String {
    const SHOWN: usize = 3;
    let shown = names.iter().take(SHOWN).cloned().collect::<Vec<_>>().join(", ");
    if names.len() > SHOWN { format!("{shown}, ... ({} in all)", names.len()) } else { shown }
}

fn refused(loaded: &Loaded, message: String) -> Error {
    let help = Some("leave data.pack out: every example has a row of its own then".to_string());
    let problem = Problem { path: "data.pack".into(), code: "pipeline::pack", message, help };
    Box::new(loaded.errors_at(vec![problem])).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_example_of_a_row_is_looked_at_beside_others_and_alone() {
        let example = |ids: &[i64]| {
            let tokens = |pad| Field::Tokens { ids: ids.to_vec(), pad };
            Example { fields: vec![("input_ids", tokens(9)), (LABELS, tokens(IGNORE))] }
        };
        let row = pack(&[example(&[1, 2, 3]), example(&[4, 5])], 8, true).remove(0);
        assert_eq!(count(&row), 2);
        let turned = labelled(&row, 1, |token, id| id * 10 + token as i64);
        assert_eq!(turned.tokens("input_ids"), Some(&[10, 21, 32, 4, 5][..]));
        assert_eq!(turned.tokens(LABELS), Some(&[IGNORE, IGNORE, IGNORE, IGNORE, 5][..]));
        let single = labelled(&pack(&[example(&[1, 2, 3]), example(&[4])], 8, true).remove(0), 1, |_, id| id);
        assert_eq!(single.tokens(LABELS), Some(&[IGNORE; 4][..]), "nothing tells its only token");
        assert_eq!(longest_of(&row).tokens("input_ids"), Some(&[1, 2, 3][..]));
        let alone = alone(&turned, 1);
        assert_eq!((alone.tokens("input_ids"), alone.tokens(LABELS)), (Some(&[4, 5][..]), Some(&[IGNORE, 5][..])));
        assert_eq!((alone.tokens(EXAMPLE_IDS), alone.tokens(POSITION_IDS)), (Some(&[0, 0][..]), Some(&[0, 1][..])));
    }

    #[test]
    fn sources_with_weights_share_no_rows() {
        let example = |n: usize| Example { fields: vec![("input_ids", Field::Tokens { ids: vec![1; n], pad: 0 })] };
        let mut train: Vec<Example> = [3, 3, 4, 1, 2].map(example).to_vec();
        let (mut eval, mut weights) = (vec![example(2), example(2)], [(2, 1.0), (3, 0.5)]);
        let card = pack_rows(&crate::task::CausalLm::default(), &mut train, &mut eval, &mut weights, 8);
        assert_eq!((train.len(), eval.len(), weights), (2, 2, [(1, 1.0), (1, 0.5)]));
        assert_eq!((card.rows, card.examples_per_row, card.filled), (2, 2.5, 13.0 / 16.0));
        assert_eq!(card.describe(), "2 rows of 8 tokens, 2.5 examples each; tokens fill 81.2 % of them");
    }
}
