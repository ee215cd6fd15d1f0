//! How good the predictions are, class by class.

use super::average::{Average, Rate, Tally};
use super::confusion::Confusion;
use super::label_counts::LabelCounts;
use super::{Evaluation, Prediction, spans};
use serde::{Deserialize, Serialize};

/// Scores of every class, and which classes are taken for which. Of more than [`Breakdown::MOST`] classes those with the
/// most examples have rows, and the most frequent mistakes stand for the matrix.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Breakdown {
    /// Classes or labels.
    pub classes: Vec<ClassScores>,
    /// Those that have no row in `classes`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub other_classes: Option<OtherClasses>,
    /// Kinds of spans, where tokens are tagged as such.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub spans: Vec<ClassScores>,
    /// Those that have no row in `spans`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub other_spans: Option<OtherClasses>,
    /// Examples or tokens by true class, then by predicted one, each in the order of `classes`. None where an example has
    /// several labels, and of too many classes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub confusion: Option<Vec<Vec<u64>>>,
    /// The most frequent mistakes first, where there is no matrix of the classes.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub mistakes: Vec<Mistake>,
    /// Examples or tokens for which nothing is predicted: one of their logits is NaN.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub unpredicted: u64,
}

/// The scores of a class, a label or a kind of spans.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ClassScores {
    /// Its name; its index where it has none.
    pub name: String,
    /// The part of what is predicted as it that is it; 0 where nothing is.
    pub precision: f64,
    /// The part of it that is predicted as such; 0 where there is none.
    pub recall: f64,
    /// The harmonic mean of both.
    pub f1: f64,
    /// How many of it there are.
    pub support: u64,
}

/// Several classes as one row.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct OtherClasses {
    /// How many classes.
    pub count: usize,
    /// The mean of their F1.
    pub f1_macro: f64,
    /// How many of them there are.
    pub support: u64,
}

/// How often a class is taken for another.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mistake {
    /// The true class.
    pub class: String,
    /// The one that is predicted.
    pub predicted: String,
    /// How often.
    pub count: u64,
}

impl Breakdown {
    /// Rows at most, and classes of a matrix.
    pub const MOST: usize = 50;

    /// The scores by class; none of predictions that are no classes, and where there are none.
    pub fn of(evaluation: &Evaluation) -> Option<Breakdown> {
        if evaluation.targets.is_empty() {
            return None;
        }
        let name = |class: usize| evaluation.classes.get(class).cloned().unwrap_or_else(|| class.to_string());
        let named = |tallies: Vec<Tally>| bounded(tallies.into_iter().enumerate().map(|(i, t)| (name(i), t)).collect());
        match evaluation.kind {
            Prediction::Values
            | Prediction::Tokens
            | Prediction::Embeddings
            | Prediction::Masked
            | Prediction::Loss => None,
            Prediction::Labels => {
                let (classes, other_classes) = named(LabelCounts::of(evaluation).labels);
                Some(Breakdown { classes, other_classes, ..Breakdown::default() })
            }
            Prediction::Classes | Prediction::Tags => {
                let confusion = Confusion::of(evaluation);
                let (classes, other_classes) = named(confusion.tallies());
                let spans = Some(evaluation)
                    .filter(|e| e.kind == Prediction::Tags && spans::mark_spans(&e.classes))
                    .and_then(spans::tallies);
                let (spans, other_spans) = bounded(spans.unwrap_or_default().into_iter().collect());
                let (unpredicted, many) = (confusion.unpredicted(), other_classes.is_some());
                let mistakes = if many { mistakes(&confusion, name) } else { Vec::new() };
                let confusion = (!many).then(|| confusion.matrix());
                Some(Breakdown { classes, other_classes, spans, other_spans, confusion, mistakes, unpredicted })
            }
        }
    }
}

/// The rows of the classes, or of those with the most examples and one of all others.
fn bounded(mut classes: Vec<(String, Tally)>) -> (Vec<ClassScores>, Option<OtherClasses>) {
    let others = if classes.len() > Breakdown::MOST {
        classes.sort_by_key(|(_, tally)| std::cmp::Reverse(tally.present));
        classes.split_off(Breakdown::MOST)
    } else {
        Vec::new()
    };
    let others: Vec<Tally> = others.into_iter().map(|(_, tally)| tally).collect();
    let row = |(name, tally): (String, Tally)| ClassScores {
        name,
        precision: Rate::Precision.of(&tally),
        recall: Rate::Recall.of(&tally),
        f1: Rate::F1.of(&tally),
        support: tally.present,
    };
    let other = OtherClasses {
        count: others.len(),
        f1_macro: Average::Macro.of(Rate::F1, &others),
        support: others.iter().map(|tally| tally.present).sum(),
    };
    (classes.into_iter().map(row).collect(), (other.count > 0).then_some(other))
}

/// The most frequent of all mistakes.
fn mistakes(confusion: &Confusion, name: impl Fn(usize) -> String) -> Vec<Mistake> {
    let mut made: Vec<(usize, usize, u64)> = confusion.mistakes().collect();
    made.sort_by_key(|(.., count)| std::cmp::Reverse(*count));
    made.truncate(Breakdown::MOST);
    made.into_iter().map(|(class, p, count)| Mistake { class: name(class), predicted: name(p), count }).collect()
}

fn is_zero(n: &u64) -> bool {
    *n == 0
}

#[cfg(test)]
mod tests {
    use super::super::tests::{classes, values};
    use super::*;

    #[test]
    fn classes_have_rows_and_a_matrix() {
        let nan: &[f32] = &[f32::NAN, 0., 0.];
        let mut e = classes(&[(&[1., 0., 0.], 0), (&[0., 1., 0.], 0), (&[0., 1., 0.], 1), (nan, 2)]);
        e.classes = ["a", "b"].map(String::from).to_vec();
        let found = Breakdown::of(&e).expect("of classes");
        let row = |name: &str, precision, recall, f1, support| ClassScores {
            name: name.into(),
            precision,
            recall,
            f1,
            support,
        };
        let rows = [row("a", 1., 0.5, 2. / 3., 2), row("b", 0.5, 1., 2. / 3., 1), row("2", 0., 0., 0., 1)];
        assert_eq!(found.classes, rows);
        assert_eq!(found.confusion, Some(vec![vec![1, 1, 0], vec![0, 1, 0], vec![0, 0, 0]]));
        assert_eq!(
            (found.unpredicted, found.other_classes, &found.spans[..], &found.mistakes[..]),
            (1, None, &[][..], &[][..])
        );
        let text = serde_json::to_string(&found).expect("writes");
        assert_eq!(serde_json::from_str::<Breakdown>(&text).expect("reads"), found);
        assert!(!text.contains("null") && !text.contains("spans"), "{text}");
    }

    #[test]
    fn of_many_classes_the_most_frequent_and_their_mistakes_are_told() {
        // Class i has i + 1 examples; of those of class 60 two are taken for 59, one of class 3 for 4.
        let one = |class: usize| (0..70).map(|c| if c == class { 1.0 } else { 0.0 }).collect::<Vec<f32>>();
        let mut rows: Vec<(Vec<f32>, usize)> = (0..70).flat_map(|c| (0..=c).map(move |_| (one(c), c))).collect();
        rows.extend([(one(59), 60), (one(59), 60), (one(4), 3)]);
        let rows: Vec<(&[f32], usize)> = rows.iter().map(|(row, c)| (row.as_slice(), *c)).collect();
        let found = Breakdown::of(&classes(&rows)).expect("of classes");
        assert_eq!((found.classes.len(), found.confusion), (50, None));
        assert_eq!((found.classes[0].name.as_str(), found.classes[0].support), ("69", 70));
        let others = found.other_classes.expect("twenty others");
        assert_eq!((others.count, others.support), (20, 20 * 21 / 2 + 1));
        assert!((others.f1_macro - (18.0 + 8.0 / 9.0 + 10.0 / 11.0) / 20.0).abs() < 1e-12);
        let told: Vec<_> = found.mistakes.iter().map(|m| (m.class.as_str(), m.predicted.as_str(), m.count)).collect();
        assert_eq!(told, [("60", "59", 2), ("3", "4", 1)]);
    }

    #[test]
    fn tags_have_rows_of_spans_as_well() {
        let names = ["O", "B-PER", "I-PER"].map(String::from).to_vec();
        let of =
            |tags: &[usize]| tags.iter().flat_map(|t| (0..3).map(move |c| if c == *t { 1.0 } else { 0.0 })).collect();
        let (predictions, targets) = (of(&[1, 2, 0, 1, 0]), vec![1., 2., 0., 1., 2.]);
        let (counts, kind) = (vec![3, 2], Prediction::Tags);
        let e = Evaluation { predictions, targets, counts, width: 3, classes: names, ..Evaluation::new(kind) };
        let found = Breakdown::of(&e).expect("of tags");
        let spans = ClassScores { name: "PER".into(), precision: 0.5, recall: 0.5, f1: 0.5, support: 2 };
        assert_eq!((found.spans, found.classes[1].support), (vec![spans], 2));
        assert_eq!(found.confusion.expect("a matrix")[2], [1, 0, 1]);
        let parts = ["DET", "NOUN", "VERB"].map(String::from).to_vec();
        assert_eq!(Breakdown::of(&Evaluation { classes: parts, ..e }).expect("of tags").spans, []);
    }

    #[test]
    fn labels_have_rows_and_no_matrix() {
        let (predictions, targets) = (vec![1., -1., 1., 1.], vec![1., 0., 0., 1.]);
        let e =
            Evaluation { predictions, targets, width: 2, counts: vec![1, 1], ..Evaluation::new(Prediction::Labels) };
        let found = Breakdown::of(&e).expect("of labels");
        assert_eq!((found.classes[0].precision, found.classes[1].recall, found.confusion), (0.5, 1.0, None));
        assert_eq!(Breakdown::of(&values(&[1.], &[1.])), None);
        assert_eq!(Breakdown::of(&Evaluation::new(Prediction::Classes)), None);
    }
}
