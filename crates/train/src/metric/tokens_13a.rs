//! Words as WMT's mteval-v13a and sacrebleu's default have them.

/// The tokens of a text: punctuation and symbols of ASCII stand alone, periods and commas but between digits, a dash but
/// behind a digit not.
pub(super) fn tokens_13a(text: &str) -> Vec<String> {
    let mut line = text.replace("<skipped>", "").replace("-\n", "").replace('\n', " ");
    for (entity, letter) in [("&quot;", "\""), ("&amp;", "&"), ("&lt;", "<"), ("&gt;", ">")] {
        line = line.replace(entity, letter);
    }
    let digit = |c: char| c.is_ascii_digit();
    let point = |c: char| c == '.' || c == ',';
    let line: String = format!(" {line} ").chars().flat_map(spaced).collect();
    let line = pairs(&line, |a, b| !digit(a) && point(b), |a, b| [a, ' ', b, ' ']);
    let line = pairs(&line, |a, b| point(a) && !digit(b), |a, b| [' ', a, ' ', b]);
    let line = pairs(&line, |a, b| digit(a) && b == '-', |a, b| [a, ' ', b, ' ']);
    line.split(is_space).filter(|word| !word.is_empty()).map(String::from).collect()
}

/// White space of Python's `str.split`.
pub(super) fn is_space(c: char) -> bool {
    c.is_whitespace() || ('\x1c'..='\x1f').contains(&c)
}

/// A letter, with spaces around it where it stands alone.
fn spaced(c: char) -> Vec<char> {
    match c {
        '{'..='~' | '['..='`' | ' '..='&' | '('..='+' | ':'..='@' | '/' => vec![' ', c, ' '],
        _ => vec![c],
    }
}

/// Replaces pairs of letters from the left to the right; none is part of two.
fn pairs(text: &str, is: impl Fn(char, char) -> bool, with: impl Fn(char, char) -> [char; 4]) -> String {
    let letters: Vec<char> = text.chars().collect();
    let (mut made, mut at) = (String::with_capacity(text.len()), 0);
    while let Some(&a) = letters.get(at) {
        match letters.get(at + 1) {
            Some(&b) if is(a, b) => {
                made.extend(with(a, b));
                at += 2;
            }
            _ => {
                made.push(a);
                at += 1;
            }
        }
    }
    made
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_are_those_of_the_scripts_of_wmt() {
        let of = |text: &str| tokens_13a(text).join("|");
        assert_eq!(of("Hello, world! It's 3.5% of $1,000."), "Hello|,|world|!|It's|3.5|%|of|$|1,000|.");
        assert_eq!(of("a..b 1-2 x-y co-\nop\nend"), "a|.|.|b|1|-|2|x-y|coop|end");
        assert_eq!(of("&quot;a &amp;lt; b&quot; <skipped>"), "\"|a|<|b|\"");
        assert_eq!(of(" Café,\u{a0}naïve — 日本。 "), "Café|,|naïve|—|日本。");
        assert_eq!(of("  "), "");
    }
}
