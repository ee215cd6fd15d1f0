//! From an expression to a filter: a recursive descent over words, signs and parentheses.

use super::{FilterError, Node, Number, Order, Test};

/// Parentheses nested deeper than this are refused rather than trusted to the stack.
const DEEPEST: usize = 64;

#[derive(Debug, Clone, PartialEq)]
enum Token {
    Open,
    Close,
    Sign(&'static str),
    Bare(String),
    Quoted(String),
    End,
}

pub(super) fn parse(expr: &str) -> Result<Node, FilterError> {
    let mut parser = Parser { expr, next: 0, at: 0, token: Token::End };
    parser.advance()?;
    let root = parser.or(0)?;
    match parser.token {
        Token::End => Ok(root),
        Token::Close => Err(parser.fault("this `)` has no `(`")),
        _ => Err(parser.expected("`and`, `or` or the end")),
    }
}

/// Invariant: `token` is the token at `at..next`; both lie on character boundaries.
struct Parser<'a> {
    expr: &'a str,
    next: usize,
    at: usize,
    token: Token,
}

impl Parser<'_> {
    fn or(&mut self, depth: usize) -> Result<Node, FilterError> {
        let mut nodes = vec![self.and(depth)?];
        while self.keyword("or")? {
            nodes.push(self.and(depth)?);
        }
        Ok(one_or(nodes, Node::Any))
    }

    fn and(&mut self, depth: usize) -> Result<Node, FilterError> {
        let mut nodes = vec![self.term(depth)?];
        while self.keyword("and")? {
            nodes.push(self.term(depth)?);
        }
        Ok(one_or(nodes, Node::All))
    }

    fn term(&mut self, depth: usize) -> Result<Node, FilterError> {
        if self.token != Token::Open {
            let column = self.name("a column")?;
            return Ok(Node::Test { column, test: self.test()? });
        }
        if depth == DEEPEST {
            return Err(self.fault("parentheses nest too deeply"));
        }
        let open = self.at;
        self.advance()?;
        let node = self.or(depth + 1)?;
        match self.token {
            Token::Close => self.advance()?,
            Token::End => return Err(self.fault_at(open, "this `(` is never closed".into())),
            _ => return Err(self.expected("`and`, `or` or `)`")),
        }
        Ok(node)
    }

    fn test(&mut self) -> Result<Test, FilterError> {
        let sign = match &self.token {
            Token::Sign(sign) => *sign,
            Token::Bare(word) if word == "contains" => "contains",
            _ => return Err(self.expected("one of `==`, `!=`, `<`, `<=`, `>`, `>=` and `contains`")),
        };
        self.advance()?;
        let order = match sign {
            "==" => return self.name("a value").map(Test::Equal),
            "!=" => return self.name("a value").map(Test::NotEqual),
            "contains" => return self.name("a value").map(Test::Contains),
            "<" => Order::Less,
            "<=" => Order::LessOrEqual,
            ">" => Order::Greater,
            _ => Order::GreaterOrEqual,
        };
        let at = self.at;
        let text = self.name("a number")?;
        match text.parse::<f64>() {
            Ok(value) if !value.is_nan() => Ok(Test::Compare(order, Number { value, text })),
            _ => Err(self.fault_at(at, format!("`{sign}` compares numbers, and `{text}` is not a number"))),
        }
    }

    fn name(&mut self, want: &str) -> Result<String, FilterError> {
        let name = match &self.token {
            Token::Quoted(name) => name.clone(),
            Token::Bare(word) if !["and", "or", "contains"].contains(&word.as_str()) => word.clone(),
            _ => return Err(self.expected(want)),
        };
        self.advance()?;
        Ok(name)
    }

    fn keyword(&mut self, word: &str) -> Result<bool, FilterError> {
        let found = matches!(&self.token, Token::Bare(bare) if bare == word);
        if found {
            self.advance()?;
        }
        Ok(found)
    }

    fn advance(&mut self) -> Result<(), FilterError> {
        let expr = self.expr;
        let space = expr[self.next..].len() - expr[self.next..].trim_start().len();
        self.at = self.next + space;
        let rest = &expr[self.at..];
        let (token, length) = match rest.chars().next() {
            None => (Token::End, 0),
            Some('(') => (Token::Open, 1),
            Some(')') => (Token::Close, 1),
            Some(quote @ ('"' | '\'')) => self.quoted(rest, quote)?,
            Some('=' | '!' | '<' | '>') => {
                match ["==", "!=", "<=", ">=", "<", ">"].iter().find(|sign| rest.starts_with(**sign)) {
                    Some(sign) => (Token::Sign(sign), sign.len()),
                    None => return Err(self.fault("not an operator; write `==` for equal and `!=` for not equal")),
                }
            }
            Some(_) => {
                let ends = |c: char| c.is_whitespace() || "()\"'=!<>".contains(c);
                let length = rest.find(ends).unwrap_or(rest.len());
                (Token::Bare(rest[..length].to_owned()), length)
            }
        };
        self.token = token;
        self.next = self.at + length;
        Ok(())
    }

    fn quoted(&self, rest: &str, quote: char) -> Result<(Token, usize), FilterError> {
        let mut text = String::new();
        let mut chars = rest.char_indices().skip(1).peekable();
        while let Some((at, c)) = chars.next() {
            match (c, chars.peek().map(|(_, next)| *next)) {
                ('\\', Some(escaped @ ('\\' | '"' | '\''))) => {
                    text.push(escaped);
                    chars.next();
                }
                _ if c == quote => return Ok((Token::Quoted(text), at + 1)),
                _ => text.push(c),
            }
        }
        Err(self.fault("this quote is never closed"))
    }

    fn expected(&self, want: &str) -> FilterError {
        let have = match &self.token {
            Token::Open => "`(`".to_owned(),
            Token::Close => "`)`".to_owned(),
            Token::Sign(sign) => format!("`{sign}`"),
            Token::Bare(word) => format!("`{word}`"),
            Token::Quoted(text) => format!("`\"{text}\"`"),
            Token::End => "the end".to_owned(),
        };
        self.fault_at(self.at, format!("expected {want}, found {have}"))
    }

    fn fault(&self, what: &str) -> FilterError {
        self.fault_at(self.at, what.to_owned())
    }

    fn fault_at(&self, at: usize, what: String) -> FilterError {
        FilterError { expr: self.expr.to_owned(), at, what }
    }
}

fn one_or(mut nodes: Vec<Node>, many: impl Fn(Vec<Node>) -> Node) -> Node {
    match (nodes.len(), nodes.pop()) {
        (1, Some(node)) => node,
        (_, last) => {
            nodes.extend(last);
            many(nodes)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn faults_are_placed() {
        for (expr, at, what) in [
            ("", 0, "a column"),
            ("a", 1, "one of"),
            ("a = b", 2, "not an operator"),
            ("a ! b", 2, "not an operator"),
            ("a ==", 4, "a value"),
            ("a == and", 5, "a value"),
            ("é == 'x", 6, "never closed"),
            ("(a == b", 0, "never closed"),
            ("a == b)", 6, "has no `(`"),
            ("a == b c", 7, "`and`, `or` or the end"),
            ("(a == b c)", 8, "`and`, `or` or `)`"),
            ("a < b", 4, "compares numbers"),
            ("a < nan", 4, "compares numbers"),
            ("a == b or", 9, "a column"),
        ] {
            let error = parse(expr).unwrap_err();
            assert_eq!(error.at, at, "{expr}: {error}");
            assert!(error.what.contains(what), "{expr}: {error}");
        }
    }

    #[test]
    fn nesting_is_bounded() {
        let nested = |depth: usize| format!("{}a == b{}", "(".repeat(depth), ")".repeat(depth));
        assert!(parse(&nested(DEEPEST)).is_ok());
        let error = parse(&nested(1_000_000)).unwrap_err();
        assert_eq!(error.at, DEEPEST);
    }

    proptest! {
        #[test]
        fn any_string_is_a_filter_or_a_placed_fault(expr in any::<String>()) {
            if let Err(error) = parse(&expr) {
                prop_assert!(expr.is_char_boundary(error.at));
            }
        }

        #[test]
        fn any_row_of_tokens_is_a_filter_or_a_placed_fault(
            tokens in prop::collection::vec(prop::sample::select(vec!["a", "1", "'é'", "\"", "\\", "(", ")", "==", "<", "=", "and", "or", "contains", " "]), 0..24)
        ) {
            let expr = tokens.join(" ");
            if let Err(error) = parse(&expr) {
                prop_assert!(expr.is_char_boundary(error.at));
            }
        }
    }
}
