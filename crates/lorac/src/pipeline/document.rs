//! A YAML document whose every key and value knows its place: a line and column, or the `--set` that it came from.

use super::Problem;
use super::yaml::Reader;

/// A value with where it was written.
#[derive(Clone, Debug, PartialEq)]
pub struct Spanned<T> {
    /// The value.
    pub value: T,
    /// Its place.
    pub place: Place,
}

/// Where something was written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Place {
    /// In the file, both counted from 1.
    File {
        /// Line.
        line: usize,
        /// Column, in characters.
        column: usize,
    },
    /// In an override: its position among the `--set`s, from 0.
    Set {
        /// The position.
        index: usize,
    },
    /// Nowhere: a default.
    #[default]
    Nowhere,
}

impl Place {
    /// Overrides in their order, then the file from its beginning.
    pub(super) fn order(self) -> (usize, usize) {
        match self {
            Place::File { line, column } => (line, column),
            Place::Set { index } => (0, index + 1),
            Place::Nowhere => (0, 0),
        }
    }
}

/// A key with its value.
pub(super) type Entry = (Spanned<String>, Spanned<Node>);

/// A node of the document. Scalars stay text until somebody asks for a type: `label: y` and `name: 1.10` are words where
/// a word is expected.
#[derive(Clone, Debug, PartialEq)]
pub enum Node {
    /// A scalar; `plain` where it has no quotes.
    Scalar {
        /// Its text.
        text: String,
        /// Whether it is written without quotes.
        plain: bool,
    },
    /// A list.
    List(Vec<Spanned<Node>>),
    /// Keys with their values, in the order of the file.
    Map(Vec<Entry>),
    /// A scalar or list to which an override added keys: `model: path`, and then `model.sha256`.
    Extended(Box<Spanned<Node>>, Vec<Entry>),
}

impl Spanned<Node> {
    /// What lies below a key or a position. A list of one may be written as the one.
    pub(super) fn get(&self, part: &str) -> Option<&Spanned<Node>> {
        let entry = |entries: &[Entry]| entries.iter().position(|(key, _)| key.value == part);
        match &self.value {
            Node::List(items) => part.parse().ok().and_then(|i: usize| items.get(i)),
            Node::Map(entries) => match entry(entries) {
                Some(i) => entries.get(i).map(|(_, node)| node),
                None => (part == "0").then_some(self),
            },
            Node::Extended(_, more) => entry(more).and_then(|i| more.get(i)).map(|(_, node)| node),
            Node::Scalar { .. } => (part == "0").then_some(self),
        }
    }

    /// Whether something is true of a node below this one.
    pub(super) fn any(&self, is: &dyn Fn(&Spanned<Node>) -> bool) -> bool {
        let below = |node: &Spanned<Node>| is(node) || node.any(is);
        match &self.value {
            Node::Scalar { .. } => false,
            Node::List(items) => items.iter().any(below),
            Node::Map(entries) => entries.iter().any(|(_, node)| below(node)),
            Node::Extended(text, more) => below(text) || more.iter().any(|(_, node)| below(node)),
        }
    }

    /// How many values a list has; what is not a list counts as a list of one.
    pub(super) fn items(&self) -> usize {
        match &self.value {
            Node::List(items) => items.len(),
            _ => 1,
        }
    }

    /// The text of a scalar.
    pub(super) fn text(&self) -> &str {
        match &self.value {
            Node::Scalar { text, .. } => text,
            _ => "",
        }
    }
}

/// A document that was read.
#[derive(Clone, Debug, PartialEq)]
pub struct Document {
    root: Spanned<Node>,
    problems: Vec<Problem>,
    cut: bool,
}

impl Document {
    /// Reads YAML, as far as it is YAML: after a syntax error, what stands before it.
    pub fn parse(text: &str) -> Document {
        let mut reader = Reader::new(text, None);
        let root = reader.document();
        Document { root, problems: reader.problems, cut: reader.cut }
    }

    /// What is wrong with it as YAML, duplicate keys and a second document included.
    pub fn problems(&self) -> &[Problem] {
        &self.problems
    }

    /// Whether it ends before the text does.
    pub fn is_cut(&self) -> bool {
        self.cut
    }

    /// The root.
    pub fn root(&self) -> &Spanned<Node> {
        &self.root
    }

    /// Where the value at a path such as `adapt.0.lora.rank` was written; for a value that is absent, where the nearest key
    /// above it stands.
    pub fn place(&self, path: &str) -> Place {
        let mut at = &self.root;
        let mut place = self.root.place;
        for part in path.split('.').filter(|p| !p.is_empty()) {
            let Some(next) = at.get(part) else { break };
            let key = match &at.value {
                Node::Map(entries) | Node::Extended(_, entries) => entries.iter().find(|(key, _)| key.value == part),
                // The bare name of a choice is its own key.
                Node::List(_) | Node::Scalar { .. } => None,
            };
            place = match (key, &next.value, next.place) {
                (Some((key, _)), Node::List(_) | Node::Map(_), Place::File { .. }) => key.place,
                _ => next.place,
            };
            at = next;
        }
        place
    }

    /// Whether the override at `index` has given something that is in a value of the file at `place`.
    pub(super) fn has_set(&self, place: Place, index: usize) -> bool {
        let set = Place::Set { index };
        let given = |node: &Spanned<Node>| node.place == set || node.any(&|below| below.place == set);
        let here = |node: &Spanned<Node>| node.place == place && given(node);
        let keyed = |node: &Spanned<Node>| match &node.value {
            Node::Map(entries) | Node::Extended(_, entries) => {
                entries.iter().any(|(key, node)| key.place == place && given(node))
            }
            Node::List(_) | Node::Scalar { .. } => false,
        };
        let is = |node: &Spanned<Node>| here(node) || keyed(node);
        is(&self.root) || self.root.any(&is)
    }

    /// Applies an override such as `train.epochs=1`, the one at `index` among all of them.
    ///
    /// # Errors
    /// What is not of that form, or leads nowhere.
    pub fn set(&mut self, index: usize, set: &str) -> Result<(), Problem> {
        let place = Place::Set { index };
        let wrong = |message: String| Problem::new("pipeline::set", message, place);
        let Some((path, text)) = set.split_once('=') else {
            return Err(wrong(format!("`{set}`: expected KEY=VALUE, such as train.epochs=1")));
        };
        let mut reader = Reader::new(text, Some(index));
        let read = reader.document();
        // What is not YAML is a text: a filter may hold quotes and colons.
        let new = match reader.problems.is_empty() {
            true => read,
            false => Spanned { value: Node::Scalar { text: text.to_string(), plain: true }, place },
        };
        let mut at = &mut self.root;
        for key in path.split('.') {
            let single =
                key == "0" && !matches!(at.value, Node::List(_)) && at.get(key).is_some_and(|n| std::ptr::eq(n, at));
            if single {
                continue;
            }
            let below = match &at.value {
                Node::Scalar { text, plain: true } if is_null(text) => Some(Node::Map(Vec::new())),
                // `task: causal_lm`, and a setting below it.
                Node::Scalar { text, .. } if text == key => {
                    Some(Node::Map(vec![(Spanned { value: text.clone(), place: at.place }, null(at.place))]))
                }
                Node::Scalar { .. } => Some(Node::Extended(Box::new(at.clone()), Vec::new())),
                Node::List(_) if key.parse::<usize>().is_err() => {
                    Some(Node::Extended(Box::new(at.clone()), Vec::new()))
                }
                _ => None,
            };
            if let Some(node) = below {
                at.value = node;
            }
            at = match &mut at.value {
                Node::List(items) => {
                    let len = items.len();
                    let item = key.parse::<usize>().ok().and_then(|i| items.get_mut(i));
                    item.ok_or_else(|| wrong(format!("`{key}` is not a position in a list of {len}")))?
                }
                Node::Map(entries) | Node::Extended(_, entries) => {
                    let found = entries.iter().position(|(known, _)| known.value == key);
                    let i = found.unwrap_or_else(|| {
                        entries.push((Spanned { value: key.to_string(), place }, null(place)));
                        entries.len() - 1
                    });
                    &mut entries[i].1
                }
                Node::Scalar { text, .. } => return Err(wrong(format!("there is no `{key}` below `{text}`"))),
            };
        }
        *at = new;
        Ok(())
    }
}

/// Nothing.
pub(super) fn null(place: Place) -> Spanned<Node> {
    Spanned { value: Node::Scalar { text: String::new(), plain: true }, place }
}

/// Whether a plain scalar stands for no value.
pub(super) fn is_null(text: &str) -> bool {
    matches!(text, "" | "~" | "null" | "Null" | "NULL")
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "name: 1.10\ntrain: { batch: 16, steps: 7 }\nadapt:\n  - lora: { rank: 8 }\ntask: causal_lm\n";

    fn file(line: usize, column: usize) -> Place {
        Place::File { line, column }
    }

    #[test]
    fn every_value_has_its_place_and_an_absent_one_that_of_the_key_above() {
        let d = Document::parse(TEXT);
        assert_eq!(d.place("name"), file(1, 7));
        assert_eq!(d.place("train.steps"), file(2, 28));
        assert_eq!(d.place("adapt.0.lora.rank"), file(4, 19));
        assert_eq!((d.place("adapt.0.lora.alpha"), d.place("adapt.3")), (file(4, 5), file(3, 1)));
        assert_eq!(d.place("task.causal_lm.logits"), file(5, 7));
    }

    #[test]
    fn overrides_are_placed_by_their_number() {
        let mut d = Document::parse(TEXT);
        for (i, set) in ["train.batch=4", "runtime.source=embedded", "task.causal_lm.logits=lm", "adapt.0.lora.rank=2"]
            .iter()
            .enumerate()
        {
            d.set(i, set).unwrap_or_else(|e| panic!("{set}: {}", e.message));
        }
        let places = ["train.batch", "runtime.source", "task.causal_lm.logits", "adapt.0.lora.rank"];
        for (index, path) in places.iter().enumerate() {
            assert_eq!(d.place(path), Place::Set { index }, "{path}");
        }
        assert_eq!(d.place("train.steps"), file(2, 28));
        for (set, says) in
            [("adapt.3.lora.rank=1", "`3` is not a position in a list of 1"), ("rank", "expected KEY=VALUE")]
        {
            let wrong = Document::parse(TEXT).set(0, set).expect_err(set);
            assert!(wrong.message.contains(says), "{}", wrong.message);
        }
    }

    #[test]
    fn what_is_not_one_document_of_words_and_values_is_placed() {
        for (text, says, place) in [
            ("a: 1\na: 2\n", "the key `a` stands here a second time", file(2, 1)),
            ("a: 1\n---\nb: 2\n", "a pipeline is one document", file(3, 1)),
            ("? [a]\n: 1\n", "a key is a word", file(1, 3)),
        ] {
            let wrong = Document::parse(text);
            let [wrong] = wrong.problems() else { panic!("{wrong:?}") };
            assert!(wrong.message.contains(says) && wrong.place == place, "{wrong:?}");
        }
    }

    #[test]
    fn an_alias_bomb_is_refused_and_an_alias_is_what_it_names() {
        let mut bomb = String::from("a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n");
        for i in 1..12 {
            let refs = vec![format!("*a{}", i - 1); 10].join(", ");
            bomb.push_str(&format!("a{i}: &a{i} [{refs}]\n"));
        }
        assert!(Document::parse(&bomb).problems()[0].message.contains("aliases counted"));
        let d = Document::parse("a: &a { b: 1 }\nc: *a\n");
        assert_eq!(d.place("c.b"), file(1, 12));
    }
}
