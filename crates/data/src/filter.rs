//! Which rows to keep, as a small expression.
//!
//! ```text
//! or      = and { "or" and }
//! and     = term { "and" term }
//! term    = "(" or ")" | column op value
//! op      = "==" | "!=" | "<" | "<=" | ">" | ">=" | "contains"
//! column, value = a bare word, or anything in single or double quotes
//! ```

mod parse;

use std::fmt::{self, Display, Formatter};
use std::str::FromStr;

/// A condition on the columns of a row, such as `lang == en and (stars >= 4 or title contains "best of")`.
///
/// `==`, `!=` and `contains` compare text exactly; `<`, `<=`, `>` and `>=` compare numbers, and a cell that is not a
/// number satisfies none of them. `and` binds closer than `or`. In quotes, `\` stands before a quote or another `\`.
#[derive(Debug, Clone, PartialEq)]
pub struct Filter {
    root: Node,
}

/// An expression that is not a filter, and where it stops being one.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{what}, at byte {at} of the filter `{expr}`")]
pub struct FilterError {
    /// The expression as given.
    pub expr: String,
    /// The byte offset of the fault, on a character boundary and at most `expr.len()`.
    pub at: usize,
    /// What is wrong there.
    pub what: String,
}

#[derive(Debug, Clone, PartialEq)]
enum Node {
    Any(Vec<Node>),
    All(Vec<Node>),
    Test { column: String, test: Test },
}

#[derive(Debug, Clone, PartialEq)]
enum Test {
    Equal(String),
    NotEqual(String),
    Contains(String),
    Compare(Order, Number),
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Order {
    Less,
    LessOrEqual,
    Greater,
    GreaterOrEqual,
}

/// A number, and the text it was written as.
#[derive(Debug, Clone, PartialEq)]
struct Number {
    value: f64,
    text: String,
}

impl Filter {
    /// Parses an expression.
    ///
    /// # Errors
    /// [`FilterError`] with the place of the first fault.
    pub fn parse(expr: &str) -> Result<Self, FilterError> {
        parse::parse(expr).map(|root| Self { root })
    }

    /// Whether to keep a row, given its cell in a column. A column with no value (`None`) satisfies `!=` alone.
    ///
    /// Requires: the caller has checked [`columns`](Self::columns) against the columns there are.
    pub fn keep<'a>(&self, get: impl Fn(&str) -> Option<&'a str>) -> bool {
        self.root.keep(&get)
    }

    /// The columns the filter reads, each once, in the order of their first mention.
    #[must_use]
    pub fn columns(&self) -> Vec<&str> {
        let mut columns = Vec::new();
        self.root.collect_columns(&mut columns);
        columns
    }
}

impl FromStr for Filter {
    type Err = FilterError;

    fn from_str(expr: &str) -> Result<Self, FilterError> {
        Self::parse(expr)
    }
}

impl Node {
    fn keep<'a>(&self, get: &dyn Fn(&str) -> Option<&'a str>) -> bool {
        match self {
            Self::Any(nodes) => nodes.iter().any(|node| node.keep(get)),
            Self::All(nodes) => nodes.iter().all(|node| node.keep(get)),
            Self::Test { column, test } => test.holds(get(column)),
        }
    }

    fn collect_columns<'a>(&'a self, into: &mut Vec<&'a str>) {
        match self {
            Self::Any(nodes) | Self::All(nodes) => nodes.iter().for_each(|node| node.collect_columns(into)),
            Self::Test { column, .. } if into.contains(&column.as_str()) => {}
            Self::Test { column, .. } => into.push(column),
        }
    }
}

impl Test {
    fn holds(&self, cell: Option<&str>) -> bool {
        let Some(cell) = cell else { return matches!(self, Self::NotEqual(_)) };
        match self {
            Self::Equal(value) => cell == value,
            Self::NotEqual(value) => cell != value,
            Self::Contains(value) => cell.contains(value.as_str()),
            Self::Compare(order, number) => cell.trim().parse().is_ok_and(|cell: f64| match order {
                Order::Less => cell < number.value,
                Order::LessOrEqual => cell <= number.value,
                Order::Greater => cell > number.value,
                Order::GreaterOrEqual => cell >= number.value,
            }),
        }
    }
}

/// Prints an expression that parses to an equal filter.
impl Display for Filter {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        self.root.fmt(f)
    }
}

impl Display for Node {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let (nodes, word) = match self {
            Self::Any(nodes) => (nodes, "or"),
            Self::All(nodes) => (nodes, "and"),
            Self::Test { column, test } => return write!(f, "{} {test}", Quoted(column)),
        };
        for (i, node) in nodes.iter().enumerate() {
            if i > 0 {
                write!(f, " {word} ")?;
            }
            match node {
                Self::Test { .. } => write!(f, "{node}")?,
                _ => write!(f, "({node})")?,
            }
        }
        Ok(())
    }
}

impl Display for Test {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self {
            Self::Equal(value) => write!(f, "== {}", Quoted(value)),
            Self::NotEqual(value) => write!(f, "!= {}", Quoted(value)),
            Self::Contains(value) => write!(f, "contains {}", Quoted(value)),
            Self::Compare(order, number) => {
                let sign = match order {
                    Order::Less => "<",
                    Order::LessOrEqual => "<=",
                    Order::Greater => ">",
                    Order::GreaterOrEqual => ">=",
                };
                write!(f, "{sign} {}", Quoted(&number.text))
            }
        }
    }
}

struct Quoted<'a>(&'a str);

impl Display for Quoted<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write!(f, "\"{}\"", self.0.replace('\\', "\\\\").replace('"', "\\\""))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn keeps(expr: &str) -> bool {
        let get = |name: &str| match name {
            "lang" => Some("en"),
            "stars" => Some(" 10"),
            "title" => Some("the best, of all"),
            "odd name" => Some("it's \\ \"x\""),
            "empty" => Some(""),
            _ => None,
        };
        Filter::parse(expr).unwrap().keep(get)
    }

    #[test]
    fn every_operator_both_ways() {
        for (expr, want) in [
            ("lang == en", true),
            ("lang == 'EN'", false),
            ("lang != de", true),
            ("lang != en", false),
            ("title contains \"best, of\"", true),
            ("title contains worst", false),
            ("stars > 9", true),
            ("stars > 10", false),
            ("stars >= 10", true),
            ("stars < 10.5", true),
            ("stars < 10", false),
            ("stars <= 1e1", true),
            ("stars<=9", false),
            ("lang >= 0", false),
            ("lang < 0", false),
            ("empty == ''", true),
            (r#""odd name" == 'it\'s \\ "x"'"#, true),
        ] {
            assert_eq!(keeps(expr), want, "{expr}");
        }
    }

    #[test]
    fn and_binds_closer_than_or_and_parentheses_closest() {
        assert!(keeps("lang == en or lang == de and stars < 0"));
        assert!(!keeps("(lang == en or lang == de) and stars < 0"));
        assert!(keeps("lang == de or (stars > 1 and (title contains best))"));
    }

    #[test]
    fn no_value_satisfies_unequal_alone() {
        assert!(keeps("gone != x"));
        for expr in ["gone == x", "gone == ''", "gone contains ''", "gone < 1", "gone >= 1"] {
            assert!(!keeps(expr), "{expr}");
        }
    }

    #[test]
    fn columns_come_once_each() {
        let filter = Filter::parse("b == 1 and (a == 2 or b == 3)").unwrap();
        assert_eq!(filter.columns(), ["b", "a"]);
    }

    fn filters() -> impl Strategy<Value = Node> {
        let test = ("\\PC*", 0..7, "\\PC*", -1e9..1e9f64).prop_map(|(column, kind, text, value)| {
            let compare = |order| Test::Compare(order, Number { value, text: value.to_string() });
            let test = match kind {
                0 => Test::Equal(text),
                1 => Test::NotEqual(text),
                2 => Test::Contains(text),
                3 => compare(Order::Less),
                4 => compare(Order::LessOrEqual),
                5 => compare(Order::Greater),
                _ => compare(Order::GreaterOrEqual),
            };
            Node::Test { column, test }
        });
        test.prop_recursive(4, 24, 4, |inner| {
            let nodes = prop::collection::vec(inner, 2..4);
            (nodes, any::<bool>()).prop_map(|(nodes, any)| if any { Node::Any(nodes) } else { Node::All(nodes) })
        })
    }

    proptest! {
        #[test]
        fn what_is_printed_parses_back(root in filters()) {
            let filter = Filter { root };
            prop_assert_eq!(Filter::parse(&filter.to_string()), Ok(filter));
        }
    }
}
