//! Questions: those that are asked with the same words are one, with several answers.

use lorac_data::Question;
use std::collections::HashMap;

/// What a model is to go on from, and texts each of which would be right.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Asked {
    /// The text that it goes on from.
    pub prompt: String,
    /// The same as tokens.
    pub ids: Vec<i64>,
    /// What may follow.
    pub references: Vec<String>,
}

/// Questions with all their answers, each once and in the order in which they come first.
pub(crate) fn together(questions: impl IntoIterator<Item = Question>) -> Vec<Asked> {
    let mut all: Vec<Asked> = Vec::new();
    let mut places: HashMap<(String, Vec<i64>), usize> = HashMap::new();
    for Question { prompt, ids, reference } in questions {
        let at = *places.entry((prompt.clone(), ids.clone())).or_insert(all.len());
        match all.get_mut(at) {
            Some(asked) if asked.references.contains(&reference) => {}
            Some(asked) => asked.references.push(reference),
            None => all.push(Asked { prompt, ids, references: vec![reference] }),
        }
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_prompt_is_one_question_with_several_references() {
        let one = |prompt: &str, reference: &str| Question {
            prompt: prompt.into(),
            ids: vec![prompt.len() as i64],
            reference: reference.into(),
        };
        let all = together([one("a", "x"), one("bc", "y"), one("a", "z"), one("a", "x")]);
        let found: Vec<(&str, Vec<&str>)> =
            all.iter().map(|a| (a.prompt.as_str(), a.references.iter().map(String::as_str).collect())).collect();
        assert_eq!(found, [("a", vec!["x", "z"]), ("bc", vec!["y"])]);
    }
}
