//! What a training means for the file of the model.

use super::Trained;
use crate::error::Error;
use crate::stop::stopped;
use lorac_ir::{Graph, ValueId};
use lorac_onnx::{Appendix, Edit, Model, ModelPart, OnnxError, patch};
use lorac_passes::{Delta, Method, fold_all, group_by_weight};
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

/// What a training means for the file of the model.
pub enum Deployment<'a> {
    /// Other bytes in some of its weights, nothing else.
    Bytes(Vec<Edit<'a>>),
    /// The same, and a graph behind it.
    BytesAndAppendix(Vec<Edit<'a>>, Box<Graph>),
}

impl<'a> Deployment<'a> {
    /// What the methods and the task make of the model.
    ///
    /// # Errors
    /// Weights that the model does not have.
    pub fn of(trained: &'a Trained<'a>) -> Result<Deployment<'a>, Error> {
        let Trained { plan, values, .. } = trained;
        let deltas: Vec<(&dyn Method, &Delta)> = plan.deltas().collect();
        in_a_part(
            &plan.model,
            deltas.iter().map(|(_, delta)| (delta.target.weight, delta.target.weight_name.as_str())),
        )?;
        let edits = group_by_weight(&deltas, |(_, delta)| &delta.target)
            .into_iter()
            .map(|of_weight| fold(trained, of_weight.into_iter().copied().collect()))
            .collect::<Result<Vec<_>, _>>()?;
        Ok(match plan.task.appendix(&plan.model.graph, &plan.readable, values)? {
            Some(graph) => Deployment::BytesAndAppendix(edits, Box::new(graph)),
            None => Deployment::Bytes(edits),
        })
    }

    /// What of it is for a part of the model.
    ///
    /// # Errors
    /// Nodes that come behind the model: which part's they were is not known.
    pub fn of_part(&self, part: &ModelPart) -> Result<Deployment<'a>, Error> {
        let Deployment::Bytes(edits) = self else {
            return Err(Error::Usage("a model of two files is deployed as it is, and no head is put behind it".into()));
        };
        let own = |edit: &Edit<'a>| {
            let mut own = edit.clone();
            own.weight = *part.weights.get(&edit.weight)?;
            Some(own)
        };
        Ok(Deployment::Bytes(edits.iter().filter_map(own).collect()))
    }

    /// Nodes that come behind the model.
    pub fn nodes_added(&self) -> usize {
        match self {
            Deployment::Bytes(_) => 0,
            Deployment::BytesAndAppendix(_, graph) => graph.node_count(),
        }
    }

    /// Writes the model with the changes, and with more metadata. Returns the files, external data included.
    ///
    /// # Errors
    /// What cannot be folded, and what the system refuses.
    pub fn write(
        self,
        model: &Model,
        metadata: BTreeMap<String, String>,
        out: &Path,
    ) -> Result<Vec<PathBuf>, OnnxError> {
        let (edits, appendix) = match self {
            Deployment::Bytes(edits) if metadata.is_empty() => (edits, None),
            Deployment::Bytes(edits) => (edits, Some(Appendix { metadata, ..Appendix::default() })),
            Deployment::BytesAndAppendix(edits, graph) => (edits, Some(Appendix { graph: *graph, metadata })),
        };
        Ok(patch(model, &edits, appendix.as_ref(), out)?.written)
    }
}

/// Refuses weights that none of the files has which a model consists of: what is trained of them would be left out of all.
///
/// # Errors
/// There are such.
pub(super) fn in_a_part<'n>(model: &Model, weights: impl Iterator<Item = (ValueId, &'n str)>) -> Result<(), Error> {
    if model.parts.is_empty() {
        return Ok(());
    }
    let lost = weights.filter(|(weight, _)| model.parts.iter().all(|part| !part.weights.contains_key(weight)));
    let lost: BTreeSet<String> = lost.map(|(_, name)| format!("`{name}`")).collect();
    match lost.is_empty() {
        true => Ok(()),
        false => Err(Error::Usage(format!(
            "no file of the model has the weights {}, so what is trained of them cannot be deployed: leave them out of `targets`",
            lost.into_iter().collect::<Vec<_>>().join(", ")
        ))),
    }
}

/// The fold into one weight, computed when it is written: together they may be as large as the model.
fn fold<'a>(trained: &'a Trained<'a>, deltas: Vec<(&'a dyn Method, &'a Delta)>) -> Result<Edit<'a>, Error> {
    let target = &deltas[0].1.target;
    let missing = || Error::Usage(format!("the model has no weight `{}`", target.weight_name));
    let w0 = trained.plan.model.graph.weight(target.weight).ok_or_else(missing)?;
    let Trained { values, stop, .. } = *trained;
    Ok(Edit::lazy(target.weight, move || {
        stopped(stop, || Error::Interrupted("the model is half written".into()))?;
        Ok::<_, Error>(fold_all(w0, &deltas, &values)?)
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn weights_of_no_part_are_not_dropped_silently() {
        let text = "graph g(%x: f32[B,2]) -> %y { %w = weight \"w\" f32[2] = [1, 2]\n %v = weight \"v\" f32[2] = [1, 2]\n \
                    %z = Mul(%x, %w) : f32[B,2]\n %y = Add(%z, %v) : f32[B,2] }";
        let graph = lorac_ir::parse(text).expect("parses");
        let [w, v] = ["w", "v"].map(|name| graph.find(name).expect("a weight"));
        let model = |parts| Model::of_parts(graph.clone(), "encoder_model.onnx".into(), parts);
        let part = ModelPart { model: model(Vec::new()), weights: [(w, w)].into(), renamed: Default::default() };
        let both = [(w, "w"), (v, "v"), (v, "v")];
        let two = model(vec![part]);
        assert!(in_a_part(&two, both[..1].iter().copied()).is_ok());
        let said = in_a_part(&two, both.into_iter()).expect_err("refused").to_string();
        assert!(said.contains("no file of the model has the weights `v`,") && said.contains("`targets`"), "{said}");
        assert!(in_a_part(&model(Vec::new()), both.into_iter()).is_ok());
    }
}
