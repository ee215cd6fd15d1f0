//! What a training means for the file of the model.

use super::Trained;
use crate::error::Error;
use crate::stop::stopped;
use lorac_ir::Graph;
use lorac_onnx::{Appendix, Edit, Model, ModelPart, OnnxError, patch};
use lorac_passes::{Delta, Method, fold_all, group_by_weight};
use std::collections::BTreeMap;
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
