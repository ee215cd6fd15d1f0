//! A text, and the text that answers it, each by itself: for models with an encoder and a decoder.

use super::{Encode, Encodings, Question};
use crate::batch::IGNORE;
use crate::each::each;
use crate::encoded::{Encoded, Measure};
use crate::error::DataError;
use crate::example::{Example, Field, LABELS};
use crate::row::Row;
use crate::template::Template;
use crate::tokenize::Tokenizer;
use lorac_config::{Check, Problems};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Columns of a prompt and of its completion, or [`Template`]s. Each row becomes one example: `input_ids` and `token_type_ids` of the
/// prompt, labels of the completion, both with special tokens and cut to the tokenizer's maximum, and `decoder_input_ids`: the
/// token that begins an answer, then all labels but the last. Errors: `Encode`, `NoEndOfText`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Seq2Seq {
    /// Column of the prompt, or a template: "translate: {english}"
    pub prompt: String,
    /// Column of the completion, or a template
    pub completion: String,
    /// The id that begins an answer
    pub start: i64,
    /// Whether the end of text is put behind a completion that the tokenizer does not end. Default: where the files say which it is
    #[serde(default)]
    pub append_eos: Option<bool>,
}

impl Check for Seq2Seq {
    fn check(&self, problems: &mut Problems) {
        for (key, text) in [("prompt", &self.prompt), ("completion", &self.completion)] {
            if let Err(error) = Template::parse(text) {
                problems.report(key, "pipeline::template", error);
            }
        }
    }
}

impl Encode for Seq2Seq {
    fn columns(&self) -> Vec<&str> {
        let of = |text| Template::parse(text).map_or_else(|_| Vec::new(), |template| template.columns());
        [of(&self.prompt), of(&self.completion)].concat()
    }

    fn one_per_row(&self) -> bool {
        true
    }

    fn check_row(&self, row: &Row) -> Result<(), DataError> {
        [&self.prompt, &self.completion].into_iter().try_for_each(|text| Template::parse(text)?.fill(row).map(drop))
    }

    fn encode(&self, rows: &[Row], tokenizer: Option<&Tokenizer>) -> Result<Encodings, DataError> {
        let tokenizer = tokenizer.ok_or(DataError::NoTokenizer { inputs: "seq2seq" })?;
        let end = match (self.append_eos, tokenizer.end_of_text()) {
            (Some(false), _) => None,
            (Some(true), None) => return Err(DataError::NoEndOfText),
            (_, end) => end,
        };
        let (prompt, completion) = (Template::parse(&self.prompt)?, Template::parse(&self.completion)?);
        let prompts = tokenizer.encode(&each(rows, |row| prompt.fill(row))?)?;
        let completions = tokenizer.encode(&each(rows, |row| completion.fill(row))?)?;
        let measures = prompts.iter().zip(&completions).map(|(a, b)| both(a.measure, b.measure)).collect();
        let pairs = prompts.into_iter().zip(completions);
        let examples = pairs.map(|(prompt, answer)| self.example(prompt, ended(answer, end, tokenizer), tokenizer));
        Ok(Encodings { examples: examples.collect(), measures, ..Encodings::default() })
    }

    fn questions(&self, rows: &[Row], tokenizer: Option<&Tokenizer>) -> Result<Vec<Option<Question>>, DataError> {
        let tokenizer = tokenizer.ok_or(DataError::NoTokenizer { inputs: "seq2seq" })?;
        let (prompt, completion) = (Template::parse(&self.prompt)?, Template::parse(&self.completion)?);
        let pairs: Vec<Option<(String, String)>> = rows
            .iter()
            .map(|row| Some((prompt.fill(row).ok()?.into_owned(), completion.fill(row).ok()?.into_owned())))
            .collect();
        let prompts: Vec<&str> = pairs.iter().map(|pair| pair.as_ref().map_or("", |(prompt, _)| prompt)).collect();
        let encoded = tokenizer.encode(&prompts)?;
        let asked = pairs.iter().zip(encoded).map(|(pair, Encoded { ids, .. })| {
            let (prompt, reference) = pair.clone()?;
            Some(Question { prompt, ids, reference })
        });
        Ok(asked.collect())
    }
}

impl Seq2Seq {
    fn example(&self, prompt: Encoded, labels: Vec<i64>, tokenizer: &Tokenizer) -> Example {
        let pad = tokenizer.pad_id();
        let shown = |id: &i64| if *id == IGNORE { pad } else { *id };
        let before = labels.iter().take(labels.len().saturating_sub(1)).map(shown);
        let ids: Vec<i64> = std::iter::once(self.start).chain(before).collect();
        Example {
            fields: vec![
                (LABELS, Field::Answer { ids: labels, pad: IGNORE }),
                ("input_ids", Field::Tokens { ids: prompt.ids, pad }),
                ("token_type_ids", Field::Tokens { ids: prompt.type_ids, pad: 0 }),
                ("decoder_input_ids", Field::Answer { ids, pad }),
            ],
        }
    }
}

/// The labels of an answer, with the end of text behind it, in the place of its last token where there is no room for one more: where
/// it is not among the special tokens that the answer ends with already, as before the language of an mBART. Of nothing at all, one
/// that does not count.
fn ended(answer: Encoded, end: Option<i64>, tokenizer: &Tokenizer) -> Vec<i64> {
    let mut ids = answer.ids;
    // What stands for nothing is nothing that is to be learnt.
    if answer.measure.tokens == 0 && ids == [tokenizer.pad_id()] && end != Some(tokenizer.pad_id()) {
        ids.clear();
    }
    // What only pads is put behind no text by a tokenizer, and may be a word where nothing pads.
    let special: Vec<i64> = tokenizer.special_ids().into_iter().filter(|id| *id != tokenizer.pad_id()).collect();
    let last = |end: i64| ids.iter().rev().take_while(move |id| **id == end || special.contains(id));
    let has = |end: i64| last(end).any(|id| *id == end);
    if let Some(end) = end.filter(|end| !has(*end)) {
        ids.truncate(tokenizer.max_length().saturating_sub(1));
        ids.push(end);
    }
    if ids.is_empty() { vec![IGNORE] } else { ids }
}

/// What tokenizing did to both texts of a row.
fn both(a: Measure, b: Measure) -> Measure {
    Measure {
        tokens: a.tokens + b.tokens,
        unknown: a.unknown + b.unknown,
        lost: a.lost + b.lost,
        more: a.more || b.more,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::chat_settings::ChatSettings;
    use crate::row::Cell;
    use crate::tokenize::tests::{letters, letters_of};
    use serde_json::json;
    use std::collections::BTreeMap;
    use std::path::Path;

    fn row(prompt: &str, completion: &str) -> Row {
        let columns = ["p", "c"].map(str::to_owned).to_vec().into();
        Row::new(Path::new("f").into(), 1, columns, [prompt, completion].map(|text| Cell::Text(text.into())).to_vec())
    }

    fn seq2seq(append_eos: Option<bool>) -> Seq2Seq {
        Seq2Seq { prompt: "{p}d".into(), completion: "c".into(), start: 7, append_eos }
    }

    fn tokens(made: &Encodings, name: &str) -> Vec<i64> {
        made.examples[0].tokens(name).unwrap().to_vec()
    }

    #[test]
    fn a_decoder_is_fed_its_labels_one_later() {
        // This tokenizer puts 8 around a text.
        let made = seq2seq(None).encode(&[row("ab", "ef")], Some(&letters_of(8))).unwrap();
        assert_eq!(tokens(&made, "input_ids"), [8, 0, 1, 3, 8]);
        assert_eq!(tokens(&made, LABELS), [8, 4, 5, 8]);
        assert_eq!(tokens(&made, "decoder_input_ids"), [7, 8, 4, 5]);
        assert_eq!(made.measures, [Measure { tokens: 5, ..Measure::default() }]);
        assert_eq!((made.examples[0].length(), made.examples[0].answer_length()), (5, Some(4)));
        let cut = seq2seq(None).encode(&[row("", "abcdefgh")], Some(&letters_of(4))).unwrap();
        assert_eq!((tokens(&cut, LABELS), cut.measures[0].lost), (vec![8, 0, 1, 8], 6));
        assert_eq!(seq2seq(None).columns(), ["p", "c"]);
        assert!(matches!(seq2seq(None).encode(&[], None), Err(DataError::NoTokenizer { inputs: "seq2seq" })));
    }

    #[test]
    fn the_end_of_text_is_put_behind_where_the_tokenizer_does_not() {
        let tokens_of = BTreeMap::from([("eos_token".to_owned(), "h".to_owned())]);
        let ends = || letters_of(5).with_chat(ChatSettings { tokens: tokens_of.clone(), ..ChatSettings::default() });
        let labels =
            |append, text: &str| tokens(&seq2seq(append).encode(&[row("a", text)], Some(&ends())).unwrap(), LABELS);
        assert_eq!(labels(None, "e"), [8, 4, 8, 7]);
        assert_eq!(labels(None, "efab"), [8, 4, 5, 0, 7], "in the place of the last token");
        assert_eq!(labels(Some(false), "e"), [8, 4, 8]);
        let none = seq2seq(Some(true)).encode(&[row("a", "e")], Some(&letters()));
        assert!(matches!(none, Err(DataError::NoEndOfText)));
    }

    /// As mBART's tokenizer ends a text: by the end of text, and its language behind that.
    #[test]
    fn an_answer_that_has_ended_before_its_language_gets_no_second_end() {
        let token = |id: i64, text: &str| {
            json!({ "id": id, "content": text, "single_word": false, "lstrip": false, "rstrip": false, "normalized": false,
                "special": true })
        };
        let piece = |text: &str| json!({ "SpecialToken": { "id": text, "type_id": 0 } });
        let one = |id: i64, text: &str| json!({ "id": text, "ids": [id], "tokens": [text] });
        let file = json!({
            "version": "1.0", "truncation": null, "padding": null, "normalizer": null, "decoder": null,
            "added_tokens": [token(2, "</s>"), token(3, "en_XX")], "pre_tokenizer": { "type": "WhitespaceSplit" },
            "post_processor": { "type": "TemplateProcessing", "special_tokens": { "</s>": one(2, "</s>"), "en_XX": one(3, "en_XX") },
                "single": [{ "Sequence": { "id": "A", "type_id": 0 } }, piece("</s>"), piece("en_XX")],
                "pair": [{ "Sequence": { "id": "A", "type_id": 0 } }, { "Sequence": { "id": "B", "type_id": 0 } }] },
            "model": { "type": "WordLevel", "vocab": { "a": 0, "b": 1, "</s>": 2, "en_XX": 3 }, "unk_token": "a" }
        });
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("tokenizer.json");
        std::fs::write(&path, file.to_string()).unwrap();
        for (eos, completion, want) in
            [("</s>", "a b", &[0, 1, 2, 3][..]), ("en_XX", "a b", &[0, 1, 2, 3]), ("b", "b a", &[1, 0, 2, 3, 1])]
        {
            let named = BTreeMap::from([("eos_token".to_owned(), eos.to_owned())]);
            let settings = ChatSettings { tokens: named, ..ChatSettings::default() };
            let tokenizer = Tokenizer::from_file(&path, 6).unwrap().with_chat(settings);
            let made = seq2seq(None).encode(&[row("a", completion)], Some(&tokenizer)).unwrap();
            assert_eq!(tokens(&made, LABELS), want, "{eos}");
        }
    }

    #[test]
    fn a_completion_is_the_answer_to_its_prompt() {
        let asked = seq2seq(None).questions(&[row("ab", "ef")], Some(&letters_of(8))).unwrap();
        let want = Question { prompt: "abd".into(), ids: vec![8, 0, 1, 3, 8], reference: "ef".into() };
        assert_eq!(asked, [Some(want)]);
    }
}
