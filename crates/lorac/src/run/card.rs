//! The data card of a run: what its examples are like, and what is likely to be a mistake.

use crate::output::{DataCard, LabelCount, Lengths, SplitCard, Truncated, Unknown};
use crate::task::LABELS;
use lorac_data::{Example, Field, Measure, Question, Row, duplicates};

/// What is to be said of an example beside what it is.
pub(super) struct Seen {
    measure: Measure,
    /// Where it is from, where nothing in it is known.
    place: Option<String>,
    /// What is asked of a model that writes the answer.
    pub(super) question: Option<Question>,
}

impl Seen {
    /// Of the example of a row.
    pub(super) fn of(measure: Measure, row: &Row) -> Seen {
        let unknown = measure.tokens > 0 && measure.unknown == measure.tokens;
        Seen { measure, place: unknown.then(|| place(row)), question: None }
    }

    /// The same with a question.
    pub(super) fn asking(self, question: Option<Question>) -> Seen {
        Seen { question, ..self }
    }
}

fn place(row: &Row) -> String {
    let line = row.line.filter(|line| *line != row.position as u64);
    let line = line.map_or(String::new(), |line| format!(" (line {line})"));
    format!("{}: row {}{line}", row.path.display(), row.position)
}

/// How many rows are named.
const SHOWN: usize = 5;

/// Says of a split what its examples are like. `classes` are the names of their targets, where those are classes.
pub(super) fn fill<'e>(
    card: &mut SplitCard,
    classes: &[String],
    examples: impl Iterator<Item = (&'e Example, Option<&'e Seen>)> + Clone,
) {
    card.labels = classes.iter().map(|name| LabelCount { name: name.clone(), examples: 0 }).collect();
    let (mut truncated, mut unknown) = (Truncated::default(), Unknown::default());
    let (mut lengths, mut content) = (Vec::new(), 0);
    for (example, seen) in examples.clone() {
        if let Some(Field::Int(class)) = example.field(LABELS)
            && let Some(label) = usize::try_from(*class).ok().and_then(|class| card.labels.get_mut(class))
        {
            label.examples += 1;
        }
        for class in example.tokens(LABELS).into_iter().flatten() {
            if let Some(label) = usize::try_from(*class).ok().and_then(|class| card.labels.get_mut(class)) {
                label.examples += 1;
            }
        }
        if let Some(Field::Reals(has)) = example.field(LABELS) {
            card.labels.iter_mut().zip(has).for_each(|(label, has)| label.examples += usize::from(*has > 0.5));
        }
        lengths.push(example.length());
        let Some(Seen { measure, place, .. }) = seen else { continue };
        truncated.texts += usize::from(measure.is_cut());
        truncated.tokens += measure.lost;
        truncated.at_least |= measure.more;
        content += measure.tokens;
        unknown.tokens += measure.unknown;
        if let Some(place) = place {
            unknown.texts += 1;
            unknown.rows.extend((unknown.rows.len() < SHOWN).then(|| place.clone()));
        }
    }
    unknown.share = unknown.tokens as f64 / content.max(1) as f64;
    card.examples = lengths.len();
    card.drawn = lengths.len();
    (card.duplicates, card.contradictions) = duplicates(examples.map(|(example, _)| example));
    (card.lengths, card.truncated, card.unknown) = (Lengths::of(lengths), truncated, unknown);
}

/// A larger share of unknown tokens is that of another language or model.
const MUCH_UNKNOWN: f64 = 0.2;

/// What is likely to be a mistake, in words.
pub(super) fn warnings(card: &DataCard) -> Vec<String> {
    let mut said = Vec::new();
    if let Some(eval) = &card.eval {
        let present: Vec<&LabelCount> = eval.labels.iter().filter(|label| label.examples > 0).collect();
        if let ([only], true) = (&present[..], eval.labels.len() > 1) {
            let name = only.name.escape_debug();
            said.push(format!("every held-out example has the label `{name}`: its scores say nothing of the others"));
        }
        let unseen = eval
            .labels
            .iter()
            .zip(&card.train.labels)
            .filter(|(held, learned)| held.examples > 0 && learned.examples == 0);
        let none = none_of(&card.train);
        said.extend(unseen.map(|(held, _)| {
            let (n, name) = (held.examples, held.name.escape_debug());
            format!("{n} held-out examples have the label `{name}`, which {none} has")
        }));
    }
    for (name, split) in [("data.train", Some(&card.train)), ("data.eval", card.eval.as_ref())] {
        let Some(split) = split else { continue };
        if split.number_strings > 0 {
            said.push(format!(
                "{name}: {} labels are strings of numbers, as \"1\", where the format has numbers: they are read as numbers",
                split.number_strings
            ));
        }
        if split.unlearned > 0 {
            said.push(format!(
                "{name}: {} examples are dropped: what is to be learnt of them is cut off at data.max_length, or there is none",
                split.unlearned
            ));
        }
        if split.contradictions > 0 {
            said.push(format!("{name}: {} examples repeat an earlier one with another label", split.contradictions));
        }
        if split.unknown.share >= MUCH_UNKNOWN {
            let share = 100.0 * split.unknown.share;
            said.push(format!(
                "{name}: {share:.1} % of the tokens are unknown to the tokenizer: is it that of the model, and of the \
                 language of the texts?"
            ));
        }
        if split.unknown.texts > 0 {
            let (n, rows) = (split.unknown.texts, split.unknown.rows.join(", "));
            let more = if n > split.unknown.rows.len() { ", ..." } else { "" };
            said.push(format!("{name}: the tokenizer knows nothing of {n} texts: {rows}{more}"));
        }
        let (skipped, errors) = match &split.stream {
            None => (split.skipped, &split.errors),
            Some(all) => (all.skipped, &all.errors),
        };
        if skipped > 0 {
            said.push(format!("{name}: {skipped} rows are wrong and were left out: {}", first(errors)));
        }
    }
    said
}

/// No example of a training set, in words: of a stream, none of those that come first.
pub(super) fn none_of(train: &SplitCard) -> String {
    match train.stream {
        None => "no example to train on".into(),
        Some(_) => format!("none of the first {} examples to train on", train.examples),
    }
}

/// The first of what is wrong.
fn first(errors: &[String]) -> String {
    let more = if errors.len() > SHOWN { "; ..." } else { "" };
    format!("{}{more}", errors.iter().take(SHOWN).cloned().collect::<Vec<_>>().join("; "))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::output::StreamCard;
    use std::path::Path;

    fn example(ids: &[i64], class: i64) -> Example {
        let tokens = Field::Tokens { ids: ids.to_vec(), pad: 0 };
        Example { fields: vec![("input_ids", tokens), (LABELS, Field::Int(class))] }
    }

    fn card(of: &[(&[i64], i64, Measure)]) -> SplitCard {
        let names = ["neg", "pos", "other"].map(String::from);
        let row = |at| Row::new(Path::new("f.csv").into(), at, Vec::new().into(), Vec::new()).on_line(at as u64 + 1);
        let items: Vec<(Example, Seen)> = of
            .iter()
            .zip(1..)
            .map(|((ids, class, measure), at)| (example(ids, *class), Seen::of(*measure, &row(at))))
            .collect();
        let mut card = SplitCard::default();
        fill(&mut card, &names, items.iter().map(|(example, seen)| (example, Some(seen))));
        card
    }

    #[test]
    fn a_card_says_what_examples_are_like() {
        let measure = |tokens, unknown, lost| Measure { tokens, unknown, lost, more: false };
        let card = card(&[
            (&[1, 2, 3], 0, measure(3, 1, 0)),
            (&[4, 4], 1, measure(2, 2, 0)),
            (&[1, 2, 3], 1, measure(3, 1, 7)),
            (&[1, 2, 3], 0, measure(3, 1, 0)),
        ]);
        assert_eq!(card.labels.iter().map(|l| l.examples).collect::<Vec<_>>(), [2, 2, 0]);
        assert_eq!((card.examples, card.duplicates, card.contradictions), (4, 2, 1));
        assert_eq!((card.lengths.p50, card.lengths.max, card.lengths.total), (3, 3, 11));
        assert_eq!(card.truncated, Truncated { texts: 1, tokens: 7, at_least: false });
        assert_eq!((card.unknown.tokens, card.unknown.texts), (5, 1));
        assert_eq!(card.unknown.rows, ["f.csv: row 2 (line 3)"]);
        assert!((card.unknown.share - 5.0 / 11.0).abs() < 1e-12);
        let more = Measure { lost: 9, more: true, ..measure(3, 0, 0) };
        let cut = super::tests::card(&[(&[1], 0, measure(1, 0, 2)), (&[2], 0, more), (&[3], 0, measure(1, 0, 0))]);
        assert_eq!(cut.truncated, Truncated { texts: 2, tokens: 11, at_least: true });
    }

    #[test]
    fn likely_mistakes_are_told() {
        let known = Measure { tokens: 1, ..Measure::default() };
        let train = card(&[(&[1], 0, known), (&[2], 1, known)]);
        let of =
            |eval: SplitCard| warnings(&DataCard { train: train.clone(), eval: Some(eval), ..DataCard::default() });
        assert_eq!(of(card(&[(&[3], 0, known), (&[4], 1, known)])), Vec::<String>::new());
        let one = of(card(&[(&[3], 2, known)]));
        assert!(one[0].contains("every held-out example has the label `other`"), "{one:?}");
        assert!(
            one[1].contains("1 held-out examples have the label `other`, which no example to train on has"),
            "{one:?}"
        );
        let unknown = Measure { tokens: 3, unknown: 3, ..Measure::default() };
        let foreign = of(card(&[(&[3], 0, unknown), (&[4], 1, known), (&[5], 1, known)]));
        assert!(foreign[0].starts_with("data.eval: 60.0 % of the tokens are unknown to the tokenizer"), "{foreign:?}");
        assert_eq!(foreign[1], "data.eval: the tokenizer knows nothing of 1 texts: f.csv: row 1 (line 2)");
        let few = Measure { tokens: 100, unknown: 19, ..Measure::default() };
        assert_eq!(of(card(&[(&[3], 0, few), (&[4], 1, known)])), Vec::<String>::new());
        let cut = of(SplitCard { unlearned: 4, ..card(&[(&[3], 0, known), (&[3], 1, known)]) });
        assert!(
            cut[0].starts_with("data.eval: 4 examples are dropped: what is to be learnt of them is cut off"),
            "{cut:?}"
        );
        assert_eq!(cut[1], "data.eval: 1 examples repeat an earlier one with another label");
        let strings =
            SplitCard { number_strings: 3, skipped: 2, errors: vec!["f: row 1 is bad".into()], ..train.clone() };
        let said = warnings(&DataCard { train: strings, ..DataCard::default() });
        assert!(said[0].contains("data.train: 3 labels are strings of numbers"), "{said:?}");
        assert_eq!(said[1], "data.train: 2 rows are wrong and were left out: f: row 1 is bad");
        let wrong = StreamCard { skipped: 1, errors: vec!["f: row 9 is bad".into()], ..StreamCard::default() };
        let stream = SplitCard { stream: Some(wrong), ..train.clone() };
        let eval = Some(card(&[(&[3], 2, known), (&[4], 0, known)]));
        let said = warnings(&DataCard { train: stream, eval, ..DataCard::default() });
        assert_eq!(
            said,
            [
                "1 held-out examples have the label `other`, which none of the first 2 examples to train on has",
                "data.train: 1 rows are wrong and were left out: f: row 9 is bad"
            ]
        );
    }
}
