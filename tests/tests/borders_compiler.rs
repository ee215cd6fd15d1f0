//! Models whose graphs are written as other tools write them, on both engines.

use lorac::run::Outcome;
use lorac_tests::border::border;

const EMBEDDED: &str = "runtime.source=embedded";

/// Held-out texts have a smaller loss than before.
#[track_caller]
fn learns(outcome: &Outcome) {
    let eval = &outcome.manifest.eval;
    let loss = |scores: &lorac::train::Scores| scores.scores.iter().find(|s| s.name == "loss").map(|s| s.value);
    assert!(loss(&eval.after) < loss(&eval.before), "{eval:?}");
}

#[test]
fn a_language_head_with_a_bias_trains() {
    learns(&border("head_bias").succeeds(&[]));
}

/// Of a merged decoder the branch without a cache is trained; the weights of both are the same.
#[test]
fn a_merged_decoder_trains_its_branch_without_a_cache() {
    for settings in [&[][..], &[EMBEDDED]] {
        learns(&border("merged").succeeds(settings));
    }
}

/// The model builder of onnxruntime-genai gives the width of a head a name.
#[test]
fn a_cache_whose_width_is_a_name_has_that_of_its_attention() {
    for settings in [&[][..], &[EMBEDDED]] {
        learns(&border("genai").succeeds(settings));
    }
}

/// A model that takes 1 x 16 tokens and nothing else: batches and padding follow.
#[test]
fn a_model_of_one_shape_is_trained_in_that_shape() {
    for settings in [&[][..], &[EMBEDDED]] {
        border("static").succeeds(settings);
    }
}
