//! Text to graph.

use super::lex::{At, Token, lex};
use crate::{Attr, Attrs, DType, Dim, Fact, Graph, Origin, Tensor, ValueId};
use std::collections::HashMap;
use std::sync::Arc;

/// Text that is not a graph: where, and what is wrong.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{line}:{column}: {what}")]
pub struct ParseError {
    /// Line, from 1.
    pub line: usize,
    /// Column, from 1.
    pub column: usize,
    /// What is wrong.
    pub what: String,
}

impl ParseError {
    /// A stable name of the fault, for programs and for looking it up: `text::syntax`.
    pub fn code(&self) -> &'static str {
        "text::syntax"
    }
}

/// Reads what [`crate::print()`] writes. Opset 20 where none is given.
///
/// # Errors
/// The first place that is not graph text.
pub fn parse(text: &str) -> Result<Graph, ParseError> {
    let tokens = lex(text).map_err(|(line, column, what)| ParseError { line, column, what })?;
    let mut parser = Parser { tokens, at: 0, graph: Graph::new("", 20), labels: HashMap::new(), highest: 0 };
    parser.graph()?;
    let Parser { mut graph, highest, .. } = parser;
    if graph.values.len() < highest {
        graph.values.resize(highest, None);
    }
    Ok(graph)
}

struct Parser {
    tokens: Vec<At>,
    at: usize,
    graph: Graph,
    labels: HashMap<String, ValueId>,
    /// One past the highest numbered label: new ids start there.
    highest: usize,
}

type Res<T> = Result<T, ParseError>;

/// Above this a numbered label is taken for nonsense rather than for the size of a table.
const MAX_NUMBER: usize = 1 << 24;

impl Parser {
    fn error_at<T>(&self, at: usize, what: impl ToString) -> Res<T> {
        let end = self.tokens.last().map_or((1, 1), |(_, l, c)| (*l, *c));
        let (line, column) = self.tokens.get(at).map_or(end, |(_, l, c)| (*l, *c));
        Err(ParseError { line, column, what: what.to_string() })
    }

    fn expected<T>(&self, what: &str) -> Res<T> {
        let found = match self.peek() {
            None => "the end".to_string(),
            Some(Token::Sign(c)) => format!("`{c}`"),
            Some(Token::Arrow) => "`->`".to_string(),
            Some(Token::Label(s, _)) => format!("`%{s}`"),
            Some(Token::Word(s) | Token::Text(s) | Token::From(s, _)) => format!("`{s}`"),
        };
        self.error_at(self.at, format!("expected {what}, found {found}"))
    }

    fn peek(&self) -> Option<&Token> {
        self.tokens.get(self.at).map(|t| &t.0)
    }

    fn eat(&mut self, token: &Token) -> bool {
        let eaten = self.peek() == Some(token);
        self.at += usize::from(eaten);
        eaten
    }

    fn sign(&mut self, c: char) -> bool {
        self.eat(&Token::Sign(c))
    }

    fn need(&mut self, c: char) -> Res<()> {
        if self.sign(c) { Ok(()) } else { self.expected(&format!("`{c}`")) }
    }

    fn word(&mut self) -> Option<String> {
        match self.peek() {
            Some(Token::Word(w)) => {
                let w = w.clone();
                self.at += 1;
                Some(w)
            }
            _ => None,
        }
    }

    fn keyword(&mut self, word: &str) -> bool {
        self.eat(&Token::Word(word.to_string()))
    }

    fn text(&mut self) -> Option<String> {
        match self.peek() {
            Some(Token::Text(t)) => {
                let t = t.clone();
                self.at += 1;
                Some(t)
            }
            _ => None,
        }
    }

    /// A label as a value's name: numbered ones keep their percent sign.
    fn label(&mut self) -> Res<String> {
        let Some(Token::Label(text, quoted)) = self.peek().cloned() else {
            return self.expected("a value");
        };
        if text.is_empty() {
            return self.expected("a name");
        }
        self.at += 1;
        if quoted || !text.chars().all(|c| c.is_ascii_digit()) {
            return Ok(text);
        }
        match text.parse::<usize>() {
            Ok(n) if n < MAX_NUMBER => {
                self.highest = self.highest.max(n + 1);
                Ok(format!("%{text}"))
            }
            _ => self.error_at(self.at - 1, "this number is too large for an id"),
        }
    }

    fn value(&mut self) -> Res<ValueId> {
        let at = self.at;
        let name = self.label()?;
        match self.labels.get(&name) {
            Some(id) => Ok(*id),
            None => self.error_at(at, format!("`%{}` is not defined", name.trim_start_matches('%'))),
        }
    }

    fn graph(&mut self) -> Res<()> {
        if !self.keyword("graph") {
            return self.expected("`graph`");
        }
        self.graph.name = match self.text().or_else(|| self.word()) {
            Some(name) => name,
            None => return self.expected("a name"),
        };
        if self.keyword("opset") {
            match self.word().and_then(|w| w.parse().ok()) {
                Some(n) => drop(self.graph.opsets.insert("".into(), n)),
                None => return self.expected("a version"),
            }
        }
        self.need('(')?;
        while !self.sign(')') {
            let at = self.at;
            let name = self.label()?;
            self.need(':')?;
            let fact = self.fact()?;
            let id = self.graph.add_input(&name, fact).or_else(|e| self.error_at(at, e))?;
            self.labels.insert(name, id);
            if !self.sign(',') && self.peek() != Some(&Token::Sign(')')) {
                return self.expected("`,` or `)`");
            }
        }
        // Outputs are named before they are defined.
        let mut outputs = Vec::new();
        if self.eat(&Token::Arrow) {
            loop {
                outputs.push((self.label()?, self.at - 1));
                if !self.sign(',') {
                    break;
                }
            }
        }
        let body = self.at;
        self.need('{')?;
        while !self.sign('}') {
            self.statement()?;
        }
        if self.peek().is_some() {
            return self.expected("the end");
        }
        let mut ids = Vec::new();
        for (name, at) in outputs {
            match self.labels.get(&name) {
                Some(id) => ids.push(*id),
                None => return self.error_at(at, format!("`%{}` is not defined", name.trim_start_matches('%'))),
            }
        }
        self.graph.set_outputs(ids).or_else(|e| self.error_at(body, e))
    }

    fn statement(&mut self) -> Res<()> {
        let at = self.at;
        let mut names = vec![self.label()?];
        while self.sign(',') {
            names.push(self.label()?);
        }
        self.need('=')?;
        if self.keyword("weight") {
            return self.weight(&names[0], at);
        }
        let Some(op) = self.word() else {
            return self.expected("an operator or `weight`");
        };
        let (inputs, attrs) = self.operands()?;
        self.need(':')?;
        let mut facts = vec![self.fact()?];
        while self.sign(',') {
            facts.push(self.fact()?);
        }
        if facts.len() != names.len() {
            return self.error_at(at, format!("{} values but {} facts", names.len(), facts.len()));
        }
        let mut origin = Origin { pass: "".into(), source: "".into() };
        if let Some(Token::From(pass, source)) = self.peek() {
            origin = Origin { pass: pass.as_str().into(), source: source.as_str().into() };
            self.at += 1;
        }
        let outputs = names.iter().map(String::as_str).zip(facts).collect();
        let made = self.graph.add_node(op.as_str().into(), inputs, attrs, outputs, origin);
        let made = made.or_else(|e| self.error_at(at, e))?;
        self.labels.extend(names.into_iter().zip(made));
        Ok(())
    }

    fn weight(&mut self, label: &str, start: usize) -> Res<()> {
        let at = self.at;
        let Some(name) = self.text() else {
            return self.expected("the weight's name in quotes");
        };
        let fact = self.fact()?;
        let tensor = if self.sign('=') { self.data(&fact, at)? } else { self.zeros(&fact, at)? };
        let id = self.graph.add_weight(&name, tensor).or_else(|e| self.error_at(start, e))?;
        if self.labels.insert(label.to_string(), id).is_some() {
            return self.error_at(start, format!("`%{label}` is defined twice"));
        }
        Ok(())
    }

    fn dims(&self, fact: &Fact, at: usize) -> Res<Vec<usize>> {
        match fact.known_dims() {
            Some(dims) => Ok(dims),
            None => self.error_at(at, "a tensor needs a shape of numbers"),
        }
    }

    fn zeros(&self, fact: &Fact, at: usize) -> Res<Tensor> {
        let dims = self.dims(fact, at)?;
        let len = dims.iter().try_fold(1usize, |n, d| n.checked_mul(*d));
        if len.is_none_or(|n| n > 1 << 28) {
            return self.error_at(at, "this tensor is too large for the text form");
        }
        Tensor::zeros(fact.dtype, &dims).or_else(|e| self.error_at(at, e))
    }

    fn data(&mut self, fact: &Fact, at: usize) -> Res<Tensor> {
        let dims = self.dims(fact, at)?;
        let mut words = Vec::new();
        self.need('[')?;
        while !self.sign(']') {
            match self.word() {
                Some(word) => words.push(word),
                None => return self.expected("a number"),
            }
            if !self.sign(',') && self.peek() != Some(&Token::Sign(']')) {
                return self.expected("`,` or `]`");
            }
        }
        let numbers: Option<Vec<f64>> = words.iter().map(|w| w.parse().ok()).collect();
        let Some(numbers) = numbers else {
            return self.error_at(at, "not all of these are numbers");
        };
        let ints: Option<Vec<i64>> = words.iter().map(|w| w.parse().ok()).collect();
        let got = numbers.len();
        let made = match (fact.dtype, ints) {
            (DType::I64, Some(ints)) => Tensor::from_slice(&dims, &ints).ok(),
            _ => Tensor::from_f64(fact.dtype, &dims, &numbers),
        };
        match made {
            Some(tensor) => Ok(tensor),
            None => {
                let size = fact.dtype.size();
                let want = dims.iter().try_fold(size, |bytes, dim| bytes.checked_mul(*dim));
                let want = want.map_or("more than 2^64".to_string(), |bytes| bytes.to_string());
                self.error_at(at, format!("{fact} needs {want} bytes, got {}", got * size))
            }
        }
    }

    fn fact(&mut self) -> Res<Fact> {
        let at = self.at;
        let Some(word) = self.word() else {
            return self.expected("a fact");
        };
        let Some(dtype) = DType::from_name(&word) else {
            return self.error_at(at, format!("`{word}` is not an element type"));
        };
        self.need('[')?;
        let mut texts = vec![String::new()];
        while !self.sign(']') {
            let last = texts.len() - 1;
            match self.peek() {
                Some(Token::Sign(',')) => texts.push(String::new()),
                Some(Token::Sign(c @ ('*' | '?' | '+'))) => texts[last].push(*c),
                Some(Token::Word(w)) => texts[last].push_str(w),
                _ => return self.expected("a dimension or `]`"),
            }
            self.at += 1;
        }
        match texts.as_slice() {
            [one] if one == ".." => return Ok(Fact::unranked(dtype)),
            [one] if one.is_empty() => return Ok(Fact::scalar(dtype)),
            _ => {}
        }
        let dims: Option<Vec<Dim>> = texts.iter().map(|t| Dim::parse(t)).collect();
        match dims {
            Some(dims) => Ok(Fact { dtype, shape: Some(dims) }),
            None => self.error_at(at, format!("[{}] is not a shape", texts.join(","))),
        }
    }

    fn operands(&mut self) -> Res<(Vec<Option<ValueId>>, Attrs)> {
        let (mut inputs, mut attrs) = (Vec::new(), Attrs::new());
        self.need('(')?;
        while !self.sign(')') {
            if self.keyword("_") {
                inputs.push(None);
            } else if let Some(Token::Label(..)) = self.peek() {
                inputs.push(Some(self.value()?));
            } else if let Some(name) = self.word() {
                self.need('=')?;
                let value = self.attr()?;
                attrs.insert(Arc::from(name), value);
            } else {
                return self.expected("an operand or an attribute");
            }
            if !self.sign(',') && self.peek() != Some(&Token::Sign(')')) {
                return self.expected("`,` or `)`");
            }
        }
        Ok((inputs, attrs))
    }

    fn attr(&mut self) -> Res<Attr> {
        if let Some(text) = self.text() {
            return Ok(Attr::Str(text.into()));
        }
        if self.keyword("tensor") {
            let at = self.at;
            let fact = self.fact()?;
            let inline = self.peek() == Some(&Token::Sign('['));
            return Ok(Attr::Tensor(if inline { self.data(&fact, at)? } else { self.zeros(&fact, at)? }));
        }
        if self.sign('[') {
            let mut items = Vec::new();
            while !self.sign(']') {
                items.push(self.attr()?);
                if !self.sign(',') && self.peek() != Some(&Token::Sign(']')) {
                    return self.expected("`,` or `]`");
                }
            }
            return self.list(items);
        }
        let at = self.at;
        let Some(word) = self.word() else {
            return self.expected("a value of an attribute");
        };
        match (word.parse::<i64>(), word.parse::<f32>()) {
            (Ok(n), _) => Ok(Attr::Int(n)),
            (_, Ok(x)) => Ok(Attr::Float(x)),
            _ => self.error_at(at, format!("`{word}` is not an attribute value")),
        }
    }

    fn list(&self, items: Vec<Attr>) -> Res<Attr> {
        let ints: Option<Vec<i64>> = items.iter().map(|a| if let Attr::Int(n) = a { Some(*n) } else { None }).collect();
        let floats: Option<Vec<f32>> =
            items.iter().map(|a| if let Attr::Float(x) = a { Some(*x) } else { None }).collect();
        let strs = items.iter().map(|a| if let Attr::Str(s) = a { Some(s.clone()) } else { None }).collect();
        match (ints, floats, strs) {
            (Some(v), _, _) => Ok(Attr::Ints(v)),
            (_, Some(v), _) => Ok(Attr::Floats(v)),
            (_, _, Some(v)) => Ok(Attr::Strs(v)),
            _ => self.error_at(self.at.saturating_sub(1), "a list holds integers, floats or strings, not a mixture"),
        }
    }
}
