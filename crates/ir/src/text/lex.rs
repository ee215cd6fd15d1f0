//! Text to tokens.

use super::is_label_char;

#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Token {
    /// `%name`, `%12` or `%"any text"`; the flag tells a quoted one.
    Label(String, bool),
    /// A quoted string.
    Text(String),
    /// Letters, digits and `_ . / : - +`, not starting with a quote or a `%`.
    Word(String),
    /// Anything else.
    Sign(char),
    /// `->`.
    Arrow,
    /// A comment that tells where a node comes from: pass and source node.
    From(String, String),
}

/// A token and its position: line and column, from 1.
pub(crate) type At = (Token, usize, usize);

/// Splits `text` into tokens.
pub(crate) fn lex(text: &str) -> Result<Vec<At>, (usize, usize, String)> {
    let chars: Vec<char> = text.chars().collect();
    let mut tokens = Vec::new();
    let (mut i, mut line, mut start) = (0, 1, 0);
    while let Some(&c) = chars.get(i) {
        let col = i - start + 1;
        let error = |what: &str| (line, col, what.to_string());
        let token = match c {
            '\n' => {
                i += 1;
                line += 1;
                start = i;
                continue;
            }
            c if c.is_whitespace() => {
                i += 1;
                continue;
            }
            '#' => {
                let end = chars[i..].iter().position(|c| *c == '\n').map_or(chars.len(), |n| i + n);
                let comment: String = chars[i + 1..end].iter().collect();
                i = end;
                let Some(origin) = comment.trim().strip_prefix("from ") else { continue };
                let (pass, source) = origin.split_once(" of ").unwrap_or((origin, "\"\""));
                let quoted: Vec<char> = source.trim().chars().collect();
                let source = quoted_text(&quoted, 0).map(|(s, _)| s).unwrap_or_default();
                Token::From(pass.trim().to_string(), source)
            }
            '"' => {
                let (text, next) = quoted_text(&chars, i).ok_or_else(|| error("this string does not end"))?;
                i = next;
                Token::Text(text)
            }
            '%' if chars.get(i + 1) == Some(&'"') => {
                let (text, next) = quoted_text(&chars, i + 1).ok_or_else(|| error("this string does not end"))?;
                i = next;
                Token::Label(text, true)
            }
            '%' => {
                let text = run(&chars, i + 1, is_label_char);
                i += 1 + text.chars().count();
                Token::Label(text, false)
            }
            '-' if chars.get(i + 1) == Some(&'>') => {
                i += 2;
                Token::Arrow
            }
            c => {
                let text = run(&chars, i, |c| is_label_char(c) || c == '+');
                i += text.chars().count().max(1);
                if text.is_empty() { Token::Sign(c) } else { Token::Word(text) }
            }
        };
        tokens.push((token, line, col));
    }
    Ok(tokens)
}

fn run(chars: &[char], from: usize, keep: impl Fn(char) -> bool) -> String {
    // A label ends before the colon that announces a fact.
    let mut end = from;
    while let Some(&c) = chars.get(end) {
        let last_colon = c == ':' && !chars.get(end + 1).is_some_and(|c| is_label_char(*c));
        if !keep(c) || last_colon {
            break;
        }
        end += 1;
    }
    chars[from..end].iter().collect()
}

fn quoted_text(chars: &[char], open: usize) -> Option<(String, usize)> {
    let mut text = String::new();
    let mut i = open + 1;
    if chars.get(open) != Some(&'"') {
        return None;
    }
    loop {
        match (chars.get(i)?, chars.get(i + 1)) {
            ('"', _) => return Some((text, i + 1)),
            ('\\', Some('n')) => text.push('\n'),
            ('\\', Some('u')) if chars.get(i + 2) == Some(&'{') => {
                let digits: String = chars[i + 3..].iter().take_while(|c| c.is_ascii_hexdigit()).collect();
                text.push(u32::from_str_radix(&digits, 16).ok().and_then(char::from_u32)?);
                i += 3 + digits.len();
                (chars.get(i)? == &'}').then_some(())?;
                i += 1;
                continue;
            }
            ('\\', Some(c)) => text.push(*c),
            (c, _) => {
                text.push(*c);
                i += 1;
                continue;
            }
        }
        i += 2;
    }
}
