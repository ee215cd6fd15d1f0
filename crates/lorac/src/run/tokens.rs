//! Tokens that methods name by their texts.

use crate::error::Error;
use crate::pipeline::Loaded;
use lorac_config::{Check, Problem, Problems};
use lorac_data::Tokenizer;
use lorac_passes::MethodChoice;

/// How many tokens of a text are named.
const NAMED: usize = 8;

/// The methods of a pipeline, with the numbers of tokens where it names their texts.
///
/// # Errors
/// Every text that is not one token, and tokens that a method names twice.
pub(super) fn numbered(loaded: &Loaded, tokenizer: Option<&Tokenizer>) -> Result<Vec<MethodChoice>, Error> {
    let (mut methods, mut problems) = (Vec::new(), Vec::new());
    for (i, method) in loaded.pipeline.adapt.iter().enumerate() {
        let path = format!("adapt.{i}.{}.texts", method.name());
        let problem = |path: String, message| Problem { path, code: "pipeline::targets", message, help: None };
        let (mut ids, before) = (Vec::new(), problems.len());
        for (j, text) in method.token_texts().iter().enumerate() {
            match number(tokenizer, text) {
                Ok(id) => ids.push(id),
                Err(message) => problems.push(problem(format!("{path}.{j}"), message)),
            }
        }
        let made = if ids.is_empty() { None } else { method.with_tokens(&ids) };
        if let Some(made) = made.as_ref().filter(|_| problems.len() == before) {
            let mut found = Problems::default();
            made.check(&mut found);
            problems.extend(found.finish().into_iter().map(|found| problem(path.clone(), found.message)));
        }
        methods.push(made.unwrap_or_else(|| method.clone()));
    }
    if problems.is_empty() { Ok(methods) } else { Err(Box::new(loaded.errors_at(problems)).into()) }
}

/// The number of a token, or why a text is none.
fn number(tokenizer: Option<&Tokenizer>, text: &str) -> Result<usize, String> {
    let Some(tokenizer) = tokenizer else {
        return Err(format!("`{text}`: the model is fed no texts, so no tokenizer knows its tokens"));
    };
    match tokenizer.token(text) {
        Ok(id) => usize::try_from(id).map_err(|_| format!("`{text}` is the token {id}")),
        Err(pieces) if pieces.is_empty() => Err(format!("the tokenizer has no token `{text}`")),
        Err(pieces) => {
            let named: Vec<String> = pieces.iter().take(NAMED).map(|piece| format!("`{piece}`")).collect();
            let (named, more) = (named.join(", "), if pieces.len() > NAMED { ", .." } else { "" });
            Err(format!("the tokenizer has no token `{text}`, but {} for it: {named}{more}", pieces.len()))
        }
    }
}
