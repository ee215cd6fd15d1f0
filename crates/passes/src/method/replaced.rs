//! Weights trained as they are: what methods without factors share.

use super::{Delta, DeltaForm, Inserted};
use crate::{
    FoldError, Group, Init, NoMatch, NoMatches, Param, ParamValues, PassError, Role, Target, fold_values, roles,
    unfreeze,
};
use bytes::Bytes;
use lorac_ir::{Graph, Tensor, ValueId};
use std::collections::{BTreeMap, BTreeSet};

impl Target {
    /// A weight as a whole, whatever reads it.
    pub fn of_weight(graph: &Graph, weight: ValueId, roles: BTreeSet<Role>, pattern: &str) -> Target {
        Target {
            weight,
            weight_name: graph.name_of(weight),
            dims: graph.weight(weight).map(|t| t.dims().to_vec()).unwrap_or_default(),
            matrix: None,
            slice: None,
            roles,
            pattern: pattern.to_string(),
            entries: BTreeMap::new(),
        }
    }
}

impl Target {
    /// The weights that patterns pick, each whole and once, in the model's order. `matching` says which ones a pattern does.
    ///
    /// # Errors
    /// Every pattern that picks nothing.
    pub fn of_patterns(
        graph: &Graph,
        patterns: &[String],
        matching: impl Fn(&str) -> Result<Vec<ValueId>, NoMatches>,
    ) -> Result<Vec<Target>, NoMatches> {
        let (mut picked, mut wrong): (BTreeMap<ValueId, &str>, Vec<NoMatch>) = Default::default();
        for pattern in patterns {
            match matching(pattern) {
                Ok(weights) => weights.into_iter().for_each(|w| _ = picked.entry(w).or_insert(pattern)),
                Err(e) => wrong.extend(e.0),
            }
        }
        if !wrong.is_empty() {
            return Err(NoMatches(wrong));
        }
        let known = roles(graph);
        let target = |(weight, _, _)| {
            let roles = known.get(&weight).cloned().unwrap_or_default();
            Some(Target::of_weight(graph, weight, roles, picked.get(&weight).copied()?))
        };
        Ok(graph.weights().filter_map(target).collect())
    }
}

impl Inserted {
    /// Makes every target a param that begins as the weight is. Weight decay applies to matrices and tensors of more axes,
    /// and not to vectors: they are biases and the scales of norms.
    ///
    /// # Errors
    /// Targets that are not float weights of the graph.
    pub fn replaced(graph: &mut Graph, targets: &[Target]) -> Result<Inserted, PassError> {
        let weights: Vec<ValueId> = targets.iter().map(|t| t.weight).collect();
        let first: Vec<Option<Tensor>> = weights.iter().map(|w| graph.weight(*w).cloned()).collect();
        let inputs = unfreeze(graph, &weights)?;
        let mut inserted = Inserted::default();
        for ((target, first), value) in targets.iter().zip(first).zip(inputs) {
            let name = graph.name_of(value);
            let init = first.map_or(Init::Zeros, Init::Given);
            let (dims, decay) = (target.dims.clone(), target.dims.len() > 1);
            inserted.deltas.push(Delta { target: target.clone(), form: DeltaForm::Replaced { param: name.clone() } });
            inserted.params.push(Param { value, name, dims, init, group: Group::Base, decay });
        }
        Ok(inserted)
    }
}

impl Delta {
    /// The values of the param, in the type of the weight.
    ///
    /// # Errors
    /// A delta of another form, values that the type cannot hold.
    pub fn fold_replaced(&self, w0: &Tensor, values: &ParamValues) -> Result<Bytes, FoldError> {
        match &self.form {
            DeltaForm::Replaced { param } => fold_values(&self.target, w0, values.get(param)?),
            _ => Err(FoldError::Foreign { name: self.target.name() }),
        }
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::{Layout, Method, Use};
    use lorac_ops::{Array, Random, evaluate};

    /// Inserts the method, moves every param away from where it began, and holds the outputs against those of the folded
    /// weights: before, they are the base's. Returns the names of the weights.
    pub(in crate::method) fn inserts_and_folds(method: &dyn Method, base: &Graph) -> Vec<String> {
        let targets = method.select(base).expect("selects");
        let mut adapted = base.clone();
        let inserted = method.insert(&mut adapted, &targets, Use::Verify).expect("inserts");
        let (mut random, mut folded) = (Random(5), base.clone());
        let feeds: Vec<(String, Array)> = base
            .inputs()
            .iter()
            .map(|v| {
                let dims = base.fact(*v).known_dims().expect("known");
                (base.name_of(*v), random.array(&dims, -1.0, 1.0))
            })
            .collect();
        let (mut first, mut moved) = (Vec::new(), Vec::new());
        for param in &inserted.params {
            let Init::Given(w0) = &param.init else { panic!("{} begins as it is", param.name) };
            let w0: Vec<f64> = w0.to_f64().expect("reals");
            first.extend(w0.iter().map(|x| *x as f32));
            moved.extend(random.array(&[w0.len()], -0.5, 0.5).iter().zip(&w0).map(|(d, x)| (x + d) as f32));
        }
        let layout = Layout::of(&inserted.params);
        let values = layout.values(&moved).expect("fits");
        for delta in &inserted.deltas {
            let w0 = base.weight(delta.target.weight).expect("a weight");
            let bytes = method.fold(delta, w0, &values).expect("folds");
            let tensor = Tensor::new(w0.dtype(), w0.dims().to_vec(), bytes).expect("fits");
            let replace = |e: &lorac_ops::Emit| {
                let new = e.weight("", tensor);
                e.edit(|p| p.redirect(delta.target.weight, new.id()));
                Ok(())
            };
            crate::rewrite(&mut folded, "fold", replace).expect("replaces");
        }
        let run = |graph: &Graph, theta: Option<&[f32]>| {
            let mut feeds = feeds.clone();
            for slot in theta.map(|_| layout.slots()).unwrap_or_default() {
                let values =
                    layout.values(theta.unwrap_or_default()).expect("fits").tensor(&slot.name).expect("a param");
                feeds.push((slot.name.clone(), lorac_ops::array(&values).expect("reals")));
            }
            let feeds: Vec<(&str, Array)> = feeds.iter().map(|(n, a)| (n.as_str(), a.clone())).collect();
            evaluate(graph, &feeds).expect("runs").remove(0)
        };
        let (before, begun) = (run(base, None), run(&adapted, Some(&first)));
        let (beside, after) = (run(&adapted, Some(&moved)), run(&folded, None));
        assert_eq!(begun, before);
        assert_eq!(beside, after);
        assert!((&after - &before).iter().any(|d| d.abs() > 0.1));
        targets.into_iter().map(|t| t.weight_name).collect()
    }

    /// Trains every weight.
    #[derive(Debug)]
    struct Everything;

    impl Method for Everything {
        fn patterns(&self) -> &[String] {
            &[]
        }

        fn select(&self, graph: &Graph) -> Result<Vec<Target>, crate::NoMatches> {
            Ok(graph.weights().map(|(w, _, _)| Target::of_weight(graph, w, BTreeSet::new(), "")).collect())
        }

        fn insert(&self, graph: &mut Graph, targets: &[Target], _: Use) -> Result<Inserted, PassError> {
            Inserted::replaced(graph, targets)
        }

        fn fold(&self, delta: &Delta, w0: &Tensor, values: &ParamValues) -> Result<Bytes, FoldError> {
            delta.fold_replaced(w0, values)
        }
    }

    #[test]
    fn a_weight_that_two_nodes_read_is_one_param() {
        let text = "graph g(%x: f32[2,2]) -> %y {
            %w = weight \"w\" f32[2,2] = [1, 2, 3, 4]
            %b = weight \"b\" f32[2] = [1, 2]
            %h = MatMul(%x, %w) : f32[2,2]
            %i = Add(%h, %b) : f32[2,2]
            %y = MatMul(%i, %w) : f32[2,2]
        }";
        let mut graph = lorac_ir::parse(text).expect("parses");
        assert_eq!(inserts_and_folds(&Everything, &graph), ["w", "b"]);
        let targets = Everything.select(&graph).expect("selects");
        let decays = |i: &Inserted| i.params.iter().map(|p| p.decay).collect::<Vec<_>>();
        assert_eq!(decays(&Inserted::replaced(&mut graph, &targets).expect("inserts")), [true, false]);
    }
}
