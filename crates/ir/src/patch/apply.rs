//! A patch put into its graph: all of it, or none.

use super::{Patch, PatchError};
use crate::view::find_cycle;
use crate::{Attr, Graph, Node, NodeId, Use, Value, ValueId};
use std::collections::{BTreeSet, HashMap, HashSet};
use std::sync::Arc;

impl Patch {
    /// Applies the patch to the graph it was begun on.
    ///
    /// # Errors
    /// A patch that does not fit leaves the graph untouched.
    pub fn apply(self, graph: &mut Graph) -> Result<(), PatchError> {
        *graph = self.applied(graph)?;
        Ok(())
    }

    /// The graph that the patch makes of the one it was begun on.
    ///
    /// # Errors
    /// A patch that does not fit.
    pub fn applied(self, graph: &Graph) -> Result<Graph, PatchError> {
        self.check(graph)?;
        let mut next = graph.clone();
        let (nodes_before, values_before) = (self.base.0, self.base.1);
        let to = self.replacements(graph);
        let moved = |v: ValueId| to.get(&v).copied().unwrap_or(v);
        let kept = |v: ValueId| if self.is_removed(graph, v) { moved(v) } else { v };
        next.nodes.iter_mut().flatten().for_each(|node| reread(node, moved));
        for (i, value) in self.values.iter().enumerate() {
            let mut value = value.clone();
            // A file may call a value of its own `%12`.
            if next.names.contains_key(&value.name) && self.is_made_up(i) {
                value.name = next.fresh_name(&value.name).into();
            }
            next.names.insert(value.name.clone(), ValueId(next.values.len() as u32));
            next.values.push(Some(value));
        }
        let mut outputs = next.outputs.clone();
        let mut places: HashMap<ValueId, Vec<usize>> = HashMap::new();
        if !self.redirects.is_empty() {
            outputs.iter().enumerate().for_each(|(i, v)| places.entry(*v).or_default().push(i));
        }
        for &(old, _) in &self.redirects {
            let Some(at) = places.remove(&old) else { continue };
            let new = moved(old);
            at.iter().for_each(|i| outputs[*i] = new);
            places.entry(new).or_default().extend(at);
            swap_names(&mut next.values, &mut next.names, old, new);
        }
        next.nodes.extend(self.nodes.iter().cloned().map(|mut node| {
            reread(&mut node, kept);
            Some(node)
        }));
        next.tensors.extend(self.tensors.iter().cloned().map(Some));
        next.inputs.extend(&self.inputs);
        if !self.dropped_inputs.is_empty() {
            let dropped: HashSet<ValueId> = self.dropped_inputs.iter().copied().collect();
            next.inputs.retain(|v| !dropped.contains(v));
        }
        if let Some(given) = &self.outputs {
            outputs = given.iter().map(|v| kept(*v)).collect();
        }
        next.put_outputs(outputs);
        rebuild_uses(&mut next, &self.removed);
        let mut gone = self.dropped_inputs.clone();
        for id in &self.removed {
            let outputs = next.node(*id).map(|n| n.outputs.clone()).unwrap_or_default();
            for value in &outputs {
                if next.value(*value).is_some_and(|v| v.output || !v.uses.is_empty()) {
                    return Err(PatchError::StillUsed { node: *id, value: *value });
                }
            }
            gone.extend(outputs);
            next.nodes[id.index()] = None;
        }
        for id in gone {
            if let Some(value) = next.values[id.index()].take() {
                next.names.remove(&value.name);
            }
        }
        // Only an old node that reads a new value can close a cycle.
        if self.redirects.iter().any(|(_, new)| new.index() >= values_before)
            && let Some(node) = find_cycle(&next)
        {
            return Err(PatchError::Cycle(node));
        }
        debug_assert!(next.nodes.len() >= nodes_before);
        Ok(next)
    }

    fn is_removed(&self, graph: &Graph, value: ValueId) -> bool {
        graph.producer(value).is_some_and(|(node, _)| self.removed.contains(&node))
    }

    /// What each redirected value is replaced by in the end.
    fn replacements(&self, graph: &Graph) -> HashMap<ValueId, ValueId> {
        let to: HashMap<ValueId, ValueId> = self.redirects.iter().copied().collect();
        let last = |new: ValueId| {
            let mut at = new;
            // A value that goes itself stands for what it is redirected to; a ring of such values is a cycle.
            for _ in 0..to.len() {
                match to.get(&at).filter(|_| self.is_removed(graph, at)) {
                    Some(next) => at = *next,
                    None => break,
                }
            }
            at
        };
        to.iter().map(|(old, new)| (*old, last(*new))).collect()
    }

    fn check(&self, graph: &Graph) -> Result<(), PatchError> {
        if self.base != (graph.nodes.len(), graph.values.len(), graph.tensors.len()) {
            return Err(PatchError::Stale);
        }
        let known = |v: ValueId| self.value(graph, v).map(|_| ()).ok_or(PatchError::NoSuchValue(v));
        let mut names = HashSet::new();
        for (i, value) in self.values.iter().enumerate() {
            let taken = graph.names.contains_key(&value.name) && !self.is_made_up(i);
            if taken || !names.insert(&value.name) {
                return Err(PatchError::DuplicateName(value.name.clone()));
            }
        }
        for node in &self.nodes {
            node.operands().try_for_each(|(_, v)| known(v))?;
        }
        self.outputs.iter().flatten().try_for_each(|v| known(*v))?;
        self.dropped_inputs.iter().try_for_each(|v| known(*v))?;
        for &(old, new) in &self.redirects {
            known(old)?;
            known(new)?;
            let fact = |v| self.value(graph, v).map(|v| v.fact.clone());
            if let (Some(old_fact), Some(new_fact)) = (fact(old), fact(new))
                && old_fact != new_fact
            {
                return Err(PatchError::FactMismatch { old, new, old_fact, new_fact });
            }
        }
        match self.removed.iter().find(|n| graph.node(**n).is_none()) {
            Some(gone) => Err(PatchError::NoSuchNode(*gone)),
            None => Ok(()),
        }
    }

    /// Whether the name of the patch's value `i` is its id, for want of another.
    fn is_made_up(&self, i: usize) -> bool {
        self.values.get(i).is_some_and(|v| *v.name == *ValueId((self.base.1 + i) as u32).to_string())
    }
}

/// Lets a node read `new(v)` where it reads `v`.
pub(super) fn reread(node: &mut Node, new: impl Fn(ValueId) -> ValueId) {
    node.inputs.iter_mut().flatten().for_each(|v| *v = new(*v));
    for attr in node.attrs.values_mut() {
        if let Attr::Graph(body) = attr {
            body.captures.iter_mut().for_each(|v| *v = new(*v));
        }
    }
}

fn swap_names(values: &mut [Option<Value>], names: &mut HashMap<Arc<str>, ValueId>, a: ValueId, b: ValueId) {
    let name = |values: &[Option<Value>], v: ValueId| values[v.index()].as_ref().map(|v| v.name.clone());
    if let (Some(name_a), Some(name_b)) = (name(values, a), name(values, b)) {
        for (id, name) in [(a, name_b), (b, name_a)] {
            if let Some(value) = &mut values[id.index()] {
                value.name = name.clone();
            }
            names.insert(name, id);
        }
    }
}

fn rebuild_uses(graph: &mut Graph, removed: &BTreeSet<NodeId>) {
    for value in graph.values.iter_mut().flatten() {
        value.uses.clear();
    }
    for (i, node) in graph.nodes.iter().enumerate() {
        let id = NodeId(i as u32);
        let Some(node) = node.as_ref().filter(|_| !removed.contains(&id)) else {
            continue;
        };
        for (slot, value) in node.operands() {
            if let Some(value) = graph.values[value.index()].as_mut() {
                value.uses.push(Use { node: id, slot });
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Attrs, Tensor, parse, print, verify};

    fn graph() -> Graph {
        parse("graph g(%x: f32[N,4]) -> %z { %y = Relu(%x) : f32[N,4]\n %z = Tanh(%y) : f32[N,4] }").expect("parses")
    }

    fn add(patch: &mut Patch, graph: &Graph, op: &str, input: ValueId) -> ValueId {
        let fact = patch.value(graph, input).map(|v| v.fact.clone()).expect("exists");
        patch.node(op.into(), "", vec![Some(input)], Attrs::new(), vec![fact], &"".into())[0]
    }

    #[test]
    fn redirect_moves_old_uses_and_keeps_output_names() {
        let mut g = graph();
        let z = g.find("z").expect("z");
        let mut p = Patch::new(&g, "test");
        let neg = add(&mut p, &g, "Neg", z);
        p.redirect(z, neg);
        p.apply(&mut g).expect("fits");
        assert_eq!(verify(&g), []);
        let out = g.outputs()[0];
        assert_eq!((&*g.name_of(out), out), ("z", neg));
        assert_eq!(g.producer(out).map(|(_, n)| n.inputs.clone()), Some(vec![Some(z)]));
    }

    #[test]
    fn a_patch_that_does_not_fit_changes_nothing() {
        let mut g = graph();
        let before = print(&g);
        let (x, y) = (g.find("x").expect("x"), g.find("y").expect("y"));
        let relu = g.producer(y).expect("relu").0;

        let mut p = Patch::new(&g, "test");
        p.remove(relu);
        assert_eq!(p.apply(&mut g), Err(PatchError::StillUsed { node: relu, value: y }));

        let mut p = Patch::new(&g, "test");
        let wide = p.weight("w", Tensor::vector(&[1.0f32]));
        p.redirect(y, wide);
        assert!(matches!(p.apply(&mut g), Err(PatchError::FactMismatch { .. })));

        let mut p = Patch::new(&g, "test");
        p.weight("y", Tensor::scalar(1.0f32));
        assert_eq!(p.apply(&mut g), Err(PatchError::DuplicateName("y".into())));

        let mut p = Patch::new(&g, "test");
        let z = g.find("z").expect("z");
        let neg = add(&mut p, &g, "Neg", z);
        p.redirect(y, neg);
        let error = p.apply(&mut g).expect_err("a cycle");
        assert!(matches!(error, PatchError::Cycle(_)));
        assert_eq!(error.code(), "patch::cycle");

        let stale = Patch::new(&g, "test");
        let mut p = Patch::new(&g, "test");
        add(&mut p, &g, "Neg", x);
        assert_eq!(print(&g), before);
        p.apply(&mut g).expect("fits");
        assert_eq!(stale.apply(&mut g), Err(PatchError::Stale));
    }

    #[test]
    fn neighbours_are_replaced_in_one_patch() {
        let mut g = graph();
        let (x, y, z) = (g.find("x").expect("x"), g.find("y").expect("y"), g.find("z").expect("z"));
        let mut p = Patch::new(&g, "test");
        let first = add(&mut p, &g, "Neg", x);
        let second = add(&mut p, &g, "Abs", y);
        for (old, new) in [(y, first), (z, second)] {
            p.redirect(old, new);
            p.remove(g.producer(old).expect("computed").0);
        }
        p.apply(&mut g).expect("fits");
        assert_eq!(verify(&g), []);
        assert_eq!((g.outputs(), &*g.name_of(second)), (&[second][..], "z"));
        assert_eq!(g.producer(second).map(|(_, n)| n.inputs.clone()), Some(vec![Some(first)]));

        // Two values that stand for each other stand for nothing.
        let mut p = Patch::new(&g, "test");
        for (old, new) in [(first, second), (second, first)] {
            p.redirect(old, new);
            p.remove(g.producer(old).expect("computed").0);
        }
        let before = print(&g);
        assert!(p.apply(&mut g).is_err());
        assert_eq!(print(&g), before);
    }

    #[test]
    fn an_output_that_is_listed_twice_is_redirected_in_both_places_and_keeps_its_name() {
        let text = "graph g(%x: f32[N]) -> %y, %q, %y { %y = Relu(%x) : f32[N]\n %q = Relu(%x) : f32[N] }";
        let mut g = parse(text).expect("parses");
        let (x, y, q) = (g.find("x").expect("x"), g.find("y").expect("y"), g.find("q").expect("q"));
        let mut p = Patch::new(&g, "test");
        let t = p.node("Tanh".into(), "t", vec![Some(x)], Attrs::new(), vec![g.fact(y)], &"".into())[0];
        p.redirect(y, t);
        p.remove(g.producer(y).expect("relu").0);
        p.apply(&mut g).expect("fits");
        assert_eq!((verify(&g), g.outputs()), (vec![], &[t, q, t][..]));
        assert_eq!(
            [t, q, x].map(|v| (g.name_of(v), g.is_output(v), g.is_input(v))),
            [("y".to_string(), true, false), ("q".to_string(), true, false), ("x".to_string(), false, true),]
        );
        g.set_outputs(vec![q]).expect("live");
        assert_eq!((verify(&g), g.is_output(t), g.is_output(q)), (vec![], false, true));
    }

    #[test]
    fn removal_frees_the_name_but_not_the_id() {
        let mut g = graph();
        let (x, y) = (g.find("x").expect("x"), g.find("y").expect("y"));
        let relu = g.producer(y).expect("relu").0;
        let mut p = Patch::new(&g, "test");
        p.redirect(y, x);
        p.remove(relu);
        p.apply(&mut g).expect("fits");
        assert_eq!(verify(&g), []);
        assert_eq!(g.find("y"), None);
        assert!(g.value(y).is_none() && g.node(relu).is_none());
        assert_eq!(Patch::new(&g, "test").weight("y", Tensor::scalar(0i64)).index(), g.value_bound());
    }
}
