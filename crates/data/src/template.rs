//! Texts that are made of several columns: `{title}. {body}`.

use crate::error::DataError;
use crate::format::MOST_ROW_BYTES;
use crate::row::{Cell, Row};
use std::borrow::Cow;

/// What a text is read from: a column, or a template with columns in braces.
///
/// A value without braces is the name of a column, whose cells are texts. In a template a column, or a dotted path, stands in
/// braces, and its cells may be texts, numbers or booleans; `{{` and `}}` stand for a brace.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Template<'a> {
    parts: Vec<Part<'a>>,
    /// Whether it has braces.
    braces: bool,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Part<'a> {
    Text(String),
    Column(&'a str),
}

/// A value with braces that is not a template, and where it stops being one.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{what}, at byte {at} of the template `{text}`; a brace itself is written {{{{ or }}}}")]
pub struct TemplateError {
    /// The template as given.
    pub text: String,
    /// The byte offset of the fault.
    pub at: usize,
    /// What is wrong there.
    pub what: &'static str,
}

impl<'a> Template<'a> {
    /// Parses a value.
    ///
    /// # Errors
    /// [`TemplateError`] with the place of the first fault.
    pub fn parse(text: &'a str) -> Result<Self, TemplateError> {
        let fault = |at, what| TemplateError { text: text.to_owned(), at, what };
        if !text.contains(['{', '}']) {
            return Ok(Self { parts: vec![Part::Column(text)], braces: false });
        }
        let (mut parts, mut at) = (Vec::new(), 0);
        while let Some(rest) = text.get(at..).filter(|rest| !rest.is_empty()) {
            let brace = rest.find(['{', '}']).unwrap_or(rest.len());
            if brace > 0 {
                add(&mut parts, &rest[..brace]);
                at += brace;
            } else if rest.starts_with("{{") || rest.starts_with("}}") {
                add(&mut parts, &rest[..1]);
                at += 2;
            } else if rest.starts_with('}') {
                return Err(fault(at, "this `}` has no `{`"));
            } else {
                let end = rest.find('}').filter(|end| !rest[1..*end].contains('{'));
                let end = end.ok_or_else(|| fault(at, "this `{` is never closed"))?;
                let name = rest[1..end].trim();
                if name.is_empty() {
                    return Err(fault(at, "these braces name no column"));
                }
                parts.push(Part::Column(name));
                at += end + 1;
            }
        }
        match parts.iter().any(|part| matches!(part, Part::Column(_))) {
            true => Ok(Self { parts, braces: true }),
            false => Err(fault(0, "it names no column")),
        }
    }

    /// The columns that it reads, in its order.
    #[must_use]
    pub fn columns(&self) -> Vec<&'a str> {
        let column = |part: &Part<'a>| match part {
            Part::Column(name) => Some(*name),
            Part::Text(_) => None,
        };
        self.parts.iter().filter_map(column).collect()
    }

    /// The text of a row.
    ///
    /// # Errors
    /// `MissingField`; `WrongType` of a cell that is not a text, or in a template neither text nor number nor boolean;
    /// `LongRow`.
    pub fn fill<'r>(&self, row: &'r Row) -> Result<Cow<'r, str>, DataError> {
        if let ([Part::Column(name)], false) = (&self.parts[..], self.braces) {
            return row.text(name).map(Cow::Borrowed);
        }
        let mut text = String::new();
        for part in &self.parts {
            text.push_str(match part {
                Part::Text(text) => text,
                Part::Column(name) => match row.need(name)? {
                    Cell::Null | Cell::Other { .. } => {
                        return Err(row.wrong_type(name, "a text, a number or a boolean"));
                    }
                    cell => cell.as_written().unwrap_or_default(),
                },
            });
            if text.len() as u64 > MOST_ROW_BYTES {
                let (path, row, line) = (row.path.to_path_buf(), row.position, row.line.unwrap_or_default());
                return Err(DataError::LongRow { path, row, line, most: MOST_ROW_BYTES });
            }
        }
        Ok(Cow::Owned(text))
    }
}

/// Adds a piece of text to the last one.
fn add(parts: &mut Vec<Part<'_>>, piece: &str) {
    match parts.last_mut() {
        Some(Part::Text(last)) => last.push_str(piece),
        _ => parts.push(Part::Text(piece.to_owned())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::Path;

    fn row(cells: &[(&str, Cell)]) -> Row {
        let columns = cells.iter().map(|(name, _)| (*name).to_owned()).collect::<Vec<_>>().into();
        Row::new(Path::new("f").into(), 2, columns, cells.iter().map(|(_, cell)| cell.clone()).collect())
    }

    fn fill(template: &str, cells: &[(&str, Cell)]) -> Result<String, String> {
        let template = Template::parse(template).map_err(|e| e.to_string())?;
        template.fill(&row(cells)).map(Cow::into_owned).map_err(|e| e.to_string())
    }

    #[test]
    fn columns_stand_in_braces() {
        let cells = [
            ("title", Cell::Text("A {b}".into())),
            ("n", Cell::Integer("4".into())),
            ("ok", Cell::Bool(true)),
            ("a.b", Cell::Text("c".into())),
        ];
        assert_eq!(fill("{title}. {{{n}}} { ok }{a.b}", &cells).unwrap(), "A {b}. {4} truec");
        assert_eq!(fill("title", &cells).unwrap(), "A {b}");
        let template = Template::parse("{title}: {n} {title}").unwrap();
        assert_eq!(template.columns(), ["title", "n", "title"]);
        assert_eq!(Template::parse("a b").unwrap().columns(), ["a b"]);
    }

    #[test]
    fn what_is_missing_or_not_a_template_is_named() {
        let cells = [("title", Cell::Text("A".into())), ("n", Cell::Null)];
        assert!(fill("{titel}", &cells).unwrap_err().contains("row 2 has no field `titel` (nearest: `title`)"));
        assert!(
            fill("{n}", &cells).unwrap_err().contains("expected `n` to be a text, a number or a boolean, found null")
        );
        assert!(fill("n", &cells).unwrap_err().contains("expected `n` to be a string, found null"));
        for (template, says) in [
            ("{title", "this `{` is never closed, at byte 0"),
            ("{a{b}", "this `{` is never closed, at byte 0"),
            ("é}", "this `}` has no `{`, at byte 2"),
            ("a {} b", "these braces name no column, at byte 2"),
            ("{{a}}", "it names no column"),
        ] {
            let error = fill(template, &cells).unwrap_err();
            assert!(error.contains(says), "{template}: {error}");
        }
    }
}
