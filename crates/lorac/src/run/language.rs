//! Whether a model can be taught to predict the next token: it scores every token, and does not see the one that it predicts.

use super::{Plan, packed};
use crate::error::Error;
use crate::module_paths::ModulePaths;
use crate::pipeline::Loaded;
use crate::task::{LABELS, Task};
use lorac_config::Problem;
use lorac_data::{Dataset, Example, Field, IGNORE};
use lorac_ir::{Graph, Tensor};
use lorac_models::ClassHead;
use lorac_runtime::Program;
use lorac_train::{Prediction, TrainError};

/// As many tokens are looked at: more say no more.
const LOOKED_AT: usize = 32;

/// What a loss may change by where what follows changes. A causal mask makes every term that it hides an exact zero.
const ROUNDING: f64 = 1e-5;

/// Refuses logits of fewer tokens than are to be predicted.
///
/// # Errors
/// The width of the logits and the token.
pub(super) fn vocabulary(
    loaded: &Loaded,
    task: &dyn Task,
    graph: &Graph,
    prediction: &str,
    data: [&Dataset; 2],
) -> Result<(), Error> {
    if !matches!(task.prediction(), Prediction::Tokens | Prediction::Masked) {
        return Ok(());
    }
    let fact = graph.find(prediction).map(|value| graph.fact(value));
    let Some(width) = fact.as_ref().and_then(|fact| fact.dims()?.last()?.known()) else { return Ok(()) };
    let labels = data.iter().flat_map(|data| &data.examples).filter_map(|example| example.tokens(LABELS));
    let largest = labels.flatten().copied().max().unwrap_or(0);
    match largest < width {
        true => Ok(()),
        false => Err(problem(
            loaded,
            "pipeline::vocabulary",
            format!(
                "the output `{prediction}` has {width} numbers for every token, and the data has the token {largest}: it is not a score \
                 of every token of the vocabulary"
            ),
            "export the class with the head of a language model (AutoModelForCausalLM), and name its output as task.causal_lm.logits",
        )),
    }
}

/// Refuses an encoder that sees the tokens which it is to predict: its loss on the first half of a text changes where the
/// second half does. Of a model that nothing shows to be an encoder this is said, and not refused.
///
/// # Errors
/// An encoder; what the engine says.
pub(super) fn causal(loaded: &Loaded, plan: &Plan, evaluator: &mut dyn Program) -> Result<Option<String>, Error> {
    if !plan.task.is_causal() {
        return Ok(None);
    }
    let Some(pair) = pair(&plan.train) else { return Ok(None) };
    let data = Dataset::new(pair.to_vec(), plan.train.pad);
    let mut loss = |row: usize| -> Result<f64, Error> {
        let batch = data.batch(&[row], plan.eval_batch)?;
        let tensors = plan.feeds.for_program(evaluator, &batch)?;
        let refs: Vec<(&str, &Tensor)> = tensors.iter().map(|(n, t)| (n.as_str(), t)).collect();
        let out = evaluator.run(&refs, &[plan.training.names.loss_sum.as_str()]).map_err(TrainError::from)?;
        Ok(out.first().and_then(|t| t.to_f64()?.first().copied()).unwrap_or(f64::NAN))
    };
    let (first, second) = (loss(0)?, loss(1)?);
    // What is NaN in both is another matter, and told of when it is trained.
    if (first - second).abs() <= ROUNDING * first.abs().max(1.0) || (first - second).is_nan() {
        return Ok(None);
    }
    let sees = format!(
        "`task: causal_lm` is for models that see what is before a token, and this one sees what follows it too: the loss of the first \
         tokens of a text is {first:.6}, and {second:.6} where later ones differ"
    );
    match is_encoder(plan) {
        false => Ok(Some(sees)),
        true => Err(problem(
            loaded,
            "pipeline::not_causal",
            sees,
            "take a decoder (AutoModelForCausalLM); an encoder, as BERT is one, has the tasks classify, regress and tag",
        )),
    }
}

/// Whether its class, its inputs or the name of its output show a model to be an encoder.
fn is_encoder(plan: &Plan) -> bool {
    let class = ModulePaths::new(&plan.model, &plan.readable, plan.kind.clone()).classes();
    let head = class.and_then(|class| class.head).is_some_and(|head| head != ClassHead::LastToken);
    let types = plan.feeds.inputs.iter().any(|input| input.field == "token_type_ids");
    plan.caches.inputs.is_empty() && (head || types || plan.training.prediction.contains("hidden_state"))
}

fn problem(loaded: &Loaded, code: &'static str, message: String, help: &str) -> Error {
    let problem = Problem { path: "task".into(), code, message, help: Some(help.into()) };
    Box::new(loaded.errors_at(vec![problem])).into()
}

/// The begin of the longest example, and the same with other tokens in its second half, both with labels in the first half
/// alone; none where all tokens are the same.
fn pair(data: &Dataset) -> Option<[Example; 2]> {
    let longest = packed::longest_of(data.examples.iter().max_by_key(|example| example.length())?);
    let ids: Vec<i64> = longest.tokens("input_ids")?.iter().copied().take(LOOKED_AT).collect();
    let half = ids.len() / 2;
    let other = |id: &i64| ids.iter().copied().find(|other| other != id);
    let changed: Option<Vec<i64>> =
        ids.iter().enumerate().map(|(at, id)| if at > half { other(id) } else { Some(*id) }).collect();
    let labels = ids.iter().enumerate().map(|(at, id)| if (1..=half).contains(&at) { *id } else { IGNORE });
    let labels: Vec<i64> = labels.collect();
    if half < 1 || ids.len() < 3 {
        return None;
    }
    let with = |ids: &[i64]| Example {
        fields: longest.fields.iter().map(|(name, field)| (*name, cut(name, field, ids, &labels))).collect(),
    };
    Some([with(&ids), with(&changed?)])
}

/// A field of an example that has these tokens and labels.
fn cut(name: &str, field: &Field, ids: &[i64], labels: &[i64]) -> Field {
    match (name, field) {
        ("input_ids", Field::Tokens { pad, .. }) => Field::Tokens { ids: ids.to_vec(), pad: *pad },
        (LABELS, Field::Tokens { pad, .. }) => Field::Tokens { ids: labels.to_vec(), pad: *pad },
        (_, Field::Tokens { ids: all, pad }) => {
            Field::Tokens { ids: all.iter().copied().take(ids.len()).collect(), pad: *pad }
        }
        (_, other) => other.clone(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use lorac_data::PadTo;

    #[test]
    fn the_pair_differs_behind_what_is_predicted() {
        let tokens = |ids: &[i64], pad| Field::Tokens { ids: ids.to_vec(), pad };
        let example = |ids: &[i64]| Example {
            fields: vec![
                ("input_ids", tokens(ids, 9)),
                ("token_type_ids", tokens(&vec![0; ids.len()], 0)),
                (LABELS, tokens(ids, IGNORE)),
            ],
        };
        let data = |ids: &[i64]| Dataset::new(vec![example(&[7]), example(ids)], PadTo::default());
        let [one, two] = pair(&data(&[4, 5, 6, 4, 5])).expect("a pair");
        assert_eq!(
            (one.tokens("input_ids"), two.tokens("input_ids")),
            (Some(&[4, 5, 6, 4, 5][..]), Some(&[4, 5, 6, 5, 4][..]))
        );
        assert_eq!(one.tokens(LABELS), Some(&[IGNORE, 5, 6, IGNORE, IGNORE][..]));
        assert_eq!((one.tokens(LABELS), one.tokens("token_type_ids")), (two.tokens(LABELS), Some(&[0; 5][..])));
        assert_eq!(pair(&data(&[4, 4, 4, 4])), None);
        assert_eq!(pair(&data(&[4, 5])), None);
    }
}
