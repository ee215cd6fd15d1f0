//! The layers of a model: which one a matrix is in, and a choice of them.

use crate::product_bias::product_bias;
use crate::role::{Matrices, Role};
use crate::select::names;
use crate::{Matrix, tables_and_kernels};
use lorac_ir::{Graph, NodeId, ValueId};
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::{Error, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fmt;

/// Layers by their numbers, from 0: `6..12` (those before 12), `6..`, `..6`, `3`, or a list of such.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Layers(Vec<Range>);

/// Layers that follow each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Range {
    from: usize,
    /// The first that is not meant any more.
    to: Option<usize>,
}

impl Layers {
    /// Whether a layer is one of them.
    pub fn contains(&self, layer: usize) -> bool {
        self.0.iter().any(|r| r.from <= layer && r.to.is_none_or(|to| layer < to))
    }

    /// The parts that hold none of these layers.
    pub(crate) fn empty_among(&self, layers: &BTreeSet<usize>) -> Vec<String> {
        let holds = |r: &Range| layers.iter().any(|layer| Layers(vec![*r]).contains(*layer));
        self.0.iter().filter(|r| !holds(r)).map(ToString::to_string).collect()
    }
}

impl Range {
    fn one(layer: usize) -> Range {
        Range { from: layer, to: Some(layer.saturating_add(1)) }
    }

    fn parse(text: &str) -> Result<Range, String> {
        let wrong = || format!("`{text}` names no layers: expected a number, or a range such as 6..12, 6.. or ..6");
        let number = |text: &str| text.trim().parse::<usize>().map_err(|_| wrong());
        let Some((from, to)) = text.split_once("..") else { return Ok(Range::one(number(text)?)) };
        let from = if from.trim().is_empty() { 0 } else { number(from)? };
        let to = if to.trim().is_empty() { None } else { Some(number(to)?) };
        match to {
            Some(to) if to <= from => {
                Err(format!("`{text}` holds no layer: the second number is the first one left out"))
            }
            _ => Ok(Range { from, to }),
        }
    }
}

impl fmt::Display for Range {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.to {
            Some(to) if to == self.from + 1 => write!(f, "{}", self.from),
            Some(to) => write!(f, "{}..{to}", self.from),
            None => write!(f, "{}..", self.from),
        }
    }
}

impl Serialize for Layers {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match &self.0[..] {
            [one] => serializer.collect_str(one),
            all => serializer.collect_seq(all.iter().map(ToString::to_string)),
        }
    }
}

impl<'de> Deserialize<'de> for Layers {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Layers, D::Error> {
        struct Given;
        impl<'de> Visitor<'de> for Given {
            type Value = Layers;
            fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
                f.write_str("layers: a number, a range such as 6..12, or a list of them")
            }
            fn visit_u64<E: Error>(self, layer: u64) -> Result<Layers, E> {
                self.visit_str(&layer.to_string())
            }
            fn visit_i64<E: Error>(self, layer: i64) -> Result<Layers, E> {
                self.visit_str(&layer.to_string())
            }
            fn visit_f64<E: Error>(self, layer: f64) -> Result<Layers, E> {
                self.visit_str(&layer.to_string())
            }
            fn visit_str<E: Error>(self, text: &str) -> Result<Layers, E> {
                Ok(Layers(vec![Range::parse(text).map_err(E::custom)?]))
            }
            fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Layers, A::Error> {
                let mut all = Vec::new();
                while let Some(Layers(item)) = items.next_element()? {
                    all.extend(item);
                }
                if all.is_empty() { Err(A::Error::custom("the list names no layer")) } else { Ok(Layers(all)) }
            }
        }
        deserializer.deserialize_any(Given)
    }
}

impl JsonSchema for Layers {
    fn schema_name() -> Cow<'static, str> {
        "Layers".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        let one = || {
            json_schema!({ "anyOf": [
                { "type": "integer", "minimum": 0 },
                { "type": "string", "pattern": "^ *([0-9]+|[0-9]* *\\.\\. *[0-9]*) *$" },
            ] })
        };
        json_schema!({
            "description": "Layers by their numbers, from 0: 6..12 (those before 12), 6.., 3, or a list of them",
            "anyOf": [one(), { "type": "array", "minItems": 1, "items": one() }],
        })
    }
}

/// The number of the layer that each matrix, table or kernel is in. Names say it, of the weight, of what reads it and of its bias
/// (`encoder.layer.3.output`); where they do not, of matrices of one role as many as there are attentions or feed-forward
/// blocks are in the layers one after the other, in the order in which they are read.
pub(crate) fn layers(graph: &Graph, known: &Matrices) -> BTreeMap<ValueId, usize> {
    let mut found = named_layers(graph, known);
    for (weight, layer) in counted_layers(graph, known) {
        found.entry(weight).or_insert(layer);
    }
    found
}

fn named_layers(graph: &Graph, known: &Matrices) -> BTreeMap<ValueId, usize> {
    let numbered = |m: &Matrix| {
        let names = names(graph, m).into_iter().chain(bias_names(graph, m));
        names.filter_map(|name| numbered(&name)).next().map(|at| (m.weight, at))
    };
    let beside = tables_and_kernels::candidates(graph);
    let all = known.all.iter().chain(&beside);
    let found: Vec<(ValueId, (String, usize))> = all.filter_map(|c| numbered(&c.matrix)).collect();
    let mut stacks: HashMap<&str, (usize, BTreeSet<usize>)> = HashMap::new();
    for (_, (stack, layer)) in &found {
        let (matrices, numbers) = stacks.entry(stack).or_default();
        *matrices += 1;
        numbers.insert(*layer);
    }
    // Layers hold several matrices each; a number of a head, `classifier.1`, is not a layer's.
    let deep = stacks.values().any(|(matrices, numbers)| *matrices > numbers.len());
    let is_stack = |stack: &str| {
        stacks
            .get(stack)
            .is_some_and(|(matrices, numbers)| if deep { *matrices > numbers.len() } else { numbers.len() > 1 })
    };
    found.iter().filter(|(_, (stack, _))| is_stack(stack)).map(|(weight, (_, layer))| (*weight, *layer)).collect()
}

/// What stands before the first number of a name, and the number.
fn numbered(name: &str) -> Option<(String, usize)> {
    let parts: Vec<&str> = name.split(['.', '/']).filter(|part| !part.is_empty()).collect();
    let at = parts.iter().position(|part| part.parse::<usize>().is_ok()).filter(|at| *at > 0)?;
    Some((parts.get(..at)?.join("."), parts.get(at)?.parse().ok()?))
}

/// Names of what is added to the products of a matrix.
fn bias_names(graph: &Graph, matrix: &Matrix) -> Vec<String> {
    matrix.products.iter().filter_map(|p| product_bias(graph, *p)).map(|bias| graph.name_of(bias)).collect()
}

fn counted_layers(graph: &Graph, known: &Matrices) -> BTreeMap<ValueId, usize> {
    let place: HashMap<NodeId, usize> = graph.nodes().enumerate().map(|(i, (id, _))| (id, i)).collect();
    let mut all: Vec<&Matrix> = known.all.iter().map(|c| &c.matrix).collect();
    all.sort_by_key(|m| m.products.iter().filter_map(|p| place.get(p)).min().copied());
    let mut by_role: BTreeMap<Role, Vec<ValueId>> = BTreeMap::new();
    for matrix in all {
        for role in known.roles_of(matrix).into_iter().filter(|role| *role != Role::Head) {
            by_role.entry(role).or_default().push(matrix.weight);
        }
    }
    let count = [Role::Output, Role::Query, Role::Down].iter().find_map(|role| by_role.get(role)).map(Vec::len);
    let layers = by_role.into_values().filter(|weights| Some(weights.len()) == count);
    layers.flat_map(|weights| weights.into_iter().enumerate().map(|(layer, weight)| (weight, layer))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(json: &str) -> Result<Layers, String> {
        serde_json::from_str(json).map_err(|e| e.to_string())
    }

    #[test]
    fn numbers_ranges_and_lists_of_them() {
        let held = |json: &str| {
            let layers = read(json).expect("reads");
            (0..6).filter(|layer| layers.contains(*layer)).collect::<Vec<_>>()
        };
        assert_eq!((held("2"), held("\"2..4\""), held("\"4..\"")), (vec![2], vec![2, 3], vec![4, 5]));
        assert_eq!((held("\"..2\""), held("[0, \"3..5\"]")), (vec![0, 1], vec![0, 3, 4]));
        for wrong in ["\"4..4\"", "\"a..4\"", "-1", "1.5", "[]", "\"..-1\""] {
            assert!(read(wrong).is_err(), "{wrong}");
        }
        let written = serde_json::to_string(&read("[0, \"3..5\", \"7..\"]").expect("reads")).expect("writes");
        assert_eq!(written, r#"["0","3..5","7.."]"#);
    }

    #[test]
    fn names_tell_layers_and_a_number_of_a_head_is_none() {
        let matrix = |name: &str, x: &str, y: &str| {
            format!("%{y}w = weight \"{name}\" f32[2,2] = [1, 2, 3, 4]\n%{y} = MatMul(%{x}, %{y}w) : f32[2,2]\n")
        };
        let text = format!(
            "graph g(%x: f32[2,2]) -> %e {{\n{}{}{}{}{}}}",
            matrix("h.3.a.weight", "x", "a"),
            matrix("h.3.b.weight", "a", "b"),
            matrix("h.4.a.weight", "b", "c"),
            matrix("h.4.b.weight", "c", "d"),
            matrix("classifier.1.weight", "d", "e"),
        );
        let graph = lorac_ir::parse(&text).expect("parses");
        let found = layers(&graph, &Matrices::of(&graph));
        assert_eq!(found.values().copied().collect::<Vec<_>>(), [3, 3, 4, 4]);
    }

    #[test]
    fn kernels_and_tables_are_in_layers_too() {
        let text = "graph g(%x: f32[N,2,4], %ids: i64[N,1]) -> %y, %u {
            %a = weight \"stages.0.one.weight\" f32[2,2,1] = [1, 2, 3, 4]
            %b = weight \"stages.0.two.weight\" f32[2,2,1] = [1, 2, 3, 4]
            %c = weight \"stages.1.one.weight\" f32[2,2,1] = [1, 2, 3, 4]
            %t = weight \"stages.1.table.weight\" f32[2,2] = [1, 2, 3, 4]
            %p = Conv(%x, %a) : f32[N,2,4]
            %q = Conv(%p, %b) : f32[N,2,4]
            %y = Conv(%q, %c) : f32[N,2,4]
            %u = Gather(%t, %ids) : f32[N,1,2]
        }";
        let graph = lorac_ir::parse(text).expect("parses");
        let found = layers(&graph, &Matrices::of(&graph));
        assert_eq!(found.values().copied().collect::<Vec<_>>(), [0, 0, 1, 1]);
    }
}
