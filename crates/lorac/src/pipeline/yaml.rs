//! From YAML to nodes that know their place, as far as it can be read.

use super::Problem;
use super::document::{Entry, Node, Place, Spanned, null};
use super::findings::shortened;
use serde_saphyr::granit_parser::{Event, Parser, ScalarStyle, Span, StrInput, StructureStyle};
use std::collections::{HashMap, HashSet};

/// More nodes than any pipeline has: aliases may repeat what they name.
const MOST_NODES: usize = 50_000;

/// Deeper than any pipeline goes.
const DEEPEST: usize = 64;

/// Reads one text.
pub(super) struct Reader<'t> {
    events: Parser<'t, StrInput<'t>>,
    anchors: HashMap<usize, Spanned<Node>>,
    nodes: usize,
    /// The override that is read, where it is one.
    set: Option<usize>,
    /// What is wrong.
    pub(super) problems: Vec<Problem>,
    /// Whether the text goes on where the reading ended.
    pub(super) cut: bool,
}

/// Nothing more can be read; the problem is noted.
struct Cut;

impl<'t> Reader<'t> {
    /// A reader of a text, of the override of this number where it is one.
    pub(super) fn new(text: &'t str, set: Option<usize>) -> Reader<'t> {
        let events = Parser::new_from_str(text);
        Reader { events, anchors: HashMap::new(), nodes: 0, set, problems: Vec::new(), cut: false }
    }

    /// The document.
    pub(super) fn document(&mut self) -> Spanned<Node> {
        let mut root = None;
        while let Ok((event, span)) = self.next() {
            match event {
                Event::StreamEnd => break,
                Event::StreamStart | Event::DocumentStart(..) | Event::DocumentEnd => {}
                event if root.is_none() => root = self.node(event, span, 0).ok(),
                _ => {
                    self.note("a pipeline is one document", self.place(&span));
                    break;
                }
            }
        }
        root.unwrap_or_else(|| null(self.at(1, 0)))
    }

    fn next(&mut self) -> Result<(Event<'static>, Span), Cut> {
        while !self.cut {
            match self.events.next() {
                None => return Ok((Event::StreamEnd, Span::default())),
                Some(Err(error)) => {
                    let at = error.marker();
                    return Err(self.end(&error.info(), self.at(at.line(), at.col())));
                }
                Some(Ok((Event::Comment(..), _))) => {}
                Some(Ok((event, span))) => return Ok((owned(event), span)),
            }
        }
        Err(Cut)
    }

    fn node(&mut self, event: Event<'static>, span: Span, depth: usize) -> Result<Spanned<Node>, Cut> {
        let place = self.place(&span);
        self.count(1, place)?;
        if depth > DEEPEST {
            return Err(self.end(&format!("values lie more than {DEEPEST} deep"), place));
        }
        let (value, anchor) = match event {
            Event::Scalar(text, style, anchor, _) => {
                (Node::Scalar { text: text.into_owned(), plain: style == ScalarStyle::Plain }, anchor)
            }
            Event::SequenceStart(style, anchor, _) => {
                let mut items = Vec::new();
                self.before_a_cut(style, |reader| {
                    loop {
                        match reader.next()? {
                            (Event::SequenceEnd, _) => return Ok(()),
                            (event, span) => items.push(reader.node(event, span, depth + 1)?),
                        }
                    }
                })?;
                (Node::List(items), anchor)
            }
            Event::MappingStart(style, anchor, _) => {
                let mut entries = Vec::new();
                self.before_a_cut(style, |reader| reader.entries(&mut entries, depth))?;
                (Node::Map(entries), anchor)
            }
            Event::Alias(anchor) => {
                let Some(node) = self.anchors.get(&anchor).cloned() else {
                    return Err(self.end("an alias names what does not end before it", place));
                };
                self.count(size(&node.value), place)?;
                return Ok(node);
            }
            _ => return Err(self.end("a value is missing", place)),
        };
        let node = Spanned { value, place };
        if anchor > 0 {
            self.anchors.insert(anchor, node.clone());
        }
        Ok(node)
    }

    /// Reads what a container holds. Where nothing more can be read, a block keeps what it has; brackets that are never
    /// closed may have swallowed what was not meant to be in them.
    fn before_a_cut(
        &mut self,
        style: StructureStyle,
        read: impl FnOnce(&mut Self) -> Result<(), Cut>,
    ) -> Result<(), Cut> {
        match read(self) {
            Err(Cut) if style == StructureStyle::Block => Ok(()),
            other => other,
        }
    }

    fn entries(&mut self, entries: &mut Vec<Entry>, depth: usize) -> Result<(), Cut> {
        let mut keys = HashSet::new();
        loop {
            let (event, span) = self.next()?;
            if event == Event::MappingEnd {
                return Ok(());
            }
            let place = self.place(&span);
            let key = self.node(event, span, depth + 1)?;
            let (event, span) = self.next()?;
            let value = self.node(event, span, depth + 1)?;
            match key.value {
                Node::Scalar { text: key, .. } if keys.insert(key.clone()) => {
                    entries.push((Spanned { value: key, place }, value));
                }
                Node::Scalar { text: key, .. } => {
                    self.note(&format!("the key `{}` stands here a second time", shortened(&key)), place);
                }
                _ => self.note("a key is a word", place),
            }
        }
    }

    fn count(&mut self, nodes: usize, place: Place) -> Result<(), Cut> {
        self.nodes = self.nodes.saturating_add(nodes);
        match self.nodes > MOST_NODES {
            true => Err(self.end(&format!("it has more than {MOST_NODES} values, aliases counted"), place)),
            false => Ok(()),
        }
    }

    fn place(&self, span: &Span) -> Place {
        self.at(span.start.line(), span.start.col())
    }

    fn at(&self, line: usize, column: usize) -> Place {
        match self.set {
            Some(index) => Place::Set { index },
            None => Place::File { line, column: column + 1 },
        }
    }

    fn note(&mut self, message: &str, place: Place) {
        self.problems.push(Problem::new("pipeline::syntax", message, place));
    }

    /// Notes a problem after which nothing can be read.
    fn end(&mut self, message: &str, place: Place) -> Cut {
        self.note(message, place);
        self.cut = true;
        Cut
    }
}

fn size(node: &Node) -> usize {
    match node {
        Node::Scalar { .. } => 1,
        Node::List(items) => items.iter().map(|n| size(&n.value)).fold(1, usize::saturating_add),
        Node::Map(entries) | Node::Extended(_, entries) => {
            entries.iter().map(|(_, n)| size(&n.value)).fold(1, usize::saturating_add)
        }
    }
}

fn owned(event: Event) -> Event<'static> {
    match event {
        Event::Scalar(text, style, anchor, _) => Event::Scalar(text.into_owned().into(), style, anchor, None),
        Event::SequenceStart(style, anchor, _) => Event::SequenceStart(style, anchor, None),
        Event::MappingStart(style, anchor, _) => Event::MappingStart(style, anchor, None),
        Event::Alias(anchor) => Event::Alias(anchor),
        Event::SequenceEnd => Event::SequenceEnd,
        Event::MappingEnd => Event::MappingEnd,
        Event::DocumentStart(explicit, version) => Event::DocumentStart(explicit, version),
        Event::DocumentEnd => Event::DocumentEnd,
        Event::StreamEnd => Event::StreamEnd,
        _ => Event::StreamStart,
    }
}
