//! What a training looks at before its first step: what matrices of the model are fed, and the gradients of others.

use crate::sequence::{Gradients, as_trained, gradients_of};
use crate::{
    Adaptation, DeltaForm, FactorSource, Full, Init, Method, Param, PassError, Target, Training, TrainingSpec,
    UpdateSpec, remove_dead, rewrite,
};
use lorac_ir::{DType, Graph, ValueId};
use lorac_ops::{Emit, Val};
use std::collections::BTreeMap;

/// What is looked at, as graphs of the model without its adaptations.
#[derive(Clone, Debug)]
pub struct FirstLook {
    /// What matrices are fed (EVA).
    pub inputs: Option<InputsLook>,
    /// Gradients of weights (LoRA-GA).
    pub gradients: Option<GradientsLook>,
    /// How many of the training's first batches.
    pub batches: usize,
}

impl FirstLook {
    /// What matrices are fed, where the ranks of any are shared out by it.
    #[must_use]
    pub fn shares_ranks(&self) -> Option<&InputsLook> {
        self.inputs.as_ref().filter(|inputs| inputs.of.iter().any(|matrix| matrix.shared_in.is_some()))
    }
}

/// What matrices are fed.
#[derive(Clone, Debug)]
pub struct InputsLook {
    /// The batch to what matrices are fed, as rows `[rows, in]` in f32.
    pub graph: Graph,
    /// The matrices.
    pub of: Vec<FedMatrix>,
}

/// A matrix whose branch begins with directions of what it is fed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FedMatrix {
    /// Name of A.
    pub a: String,
    /// r.
    pub rank: usize,
    /// The most that r may become where ranks are shared out, otherwise r: so many directions are looked for.
    pub most: usize,
    /// The adaptation among whose matrices ranks are shared out.
    pub shared_in: Option<usize>,
    /// The outputs that hold what it is fed, one for each value that it multiplies.
    pub outputs: Vec<String>,
}

/// Gradients of weights.
#[derive(Clone, Debug)]
pub struct GradientsLook {
    /// theta and a batch to the gradient of its mean loss, and to how much counts in it.
    pub gradients: Gradients,
    /// For each name of an A, the param of the weight that it belongs to.
    pub of: BTreeMap<String, String>,
}

/// What a training looks at before its first step, where params of it begin with what is found there. `base` and `spec` are
/// those that it was compiled from.
///
/// # Errors
/// What a pass cannot do.
pub fn first_look(base: &Graph, spec: &TrainingSpec, training: &Training) -> Result<Option<FirstLook>, PassError> {
    let (mut fed, mut moved) = (Vec::new(), Vec::new());
    for (adaptation, delta) in &training.deltas {
        let DeltaForm::LowRank { a, rank, .. } = &delta.form else { continue };
        let Some(Init::Factor { pair, .. }) = training.params.iter().find(|p| p.name == *a).map(|p| &p.init) else {
            continue;
        };
        match &pair.source {
            FactorSource::Inputs(None) => {
                let factor = spec.adaptations.get(*adaptation).and_then(|a| a.method.rank_factor());
                let most = factor.map_or(*rank, |factor| (*rank as f64 * factor).round() as usize);
                let (most, shared_in) = (most.min(pair.rows).min(pair.cols).max(*rank), factor.map(|_| *adaptation));
                fed.push((
                    FedMatrix { a: a.clone(), rank: *rank, most, shared_in, outputs: Vec::new() },
                    &delta.target,
                ));
            }
            FactorSource::Gradient { is_known: false, .. } => moved.push((a.as_str(), &delta.target)),
            _ => {}
        }
    }
    if fed.is_empty() && moved.is_empty() {
        return Ok(None);
    }
    let inputs = (!fed.is_empty()).then(|| inputs(base, spec, fed)).transpose()?;
    let gradients = (!moved.is_empty()).then(|| gradients(base, spec, &moved)).transpose()?;
    let batches = spec.adaptations.iter().map(|a| a.method.first_batches()).max().unwrap_or_default();
    Ok(Some(FirstLook { inputs, gradients, batches }))
}

/// The model up to what matrices multiply.
fn inputs(base: &Graph, spec: &TrainingSpec, of: Vec<(FedMatrix, &Target)>) -> Result<InputsLook, PassError> {
    let mut graph = base.clone();
    graph.reserve_names();
    let of = rewrite(&mut graph, "first_look", |e| {
        let mut written: BTreeMap<(ValueId, usize), Val> = BTreeMap::new();
        let mut all = Vec::new();
        for (mut fed, target) in of {
            let matrix = target.matrix()?;
            let read = matrix.products.iter().filter_map(|p| e.graph().node(*p)?.input(0));
            for x in read {
                let width = matrix.rows;
                let rows = *written.entry((x, width)).or_insert_with(|| as_rows(e, x, width));
                let name = e.name_of(rows.id());
                if !fed.outputs.contains(&name) {
                    fed.outputs.push(name);
                }
            }
            all.push(fed);
        }
        let outputs = written.values().map(|v| v.id()).collect();
        e.edit(|p| p.set_outputs(outputs));
        Ok(all)
    })?;
    remove_dead(&mut graph)?;
    as_trained(&mut graph, spec)?;
    Ok(InputsLook { graph, of })
}

/// A value as rows of a width, in f32, under a name.
fn as_rows<'e, 'g>(e: &'e Emit<'g>, x: ValueId, width: usize) -> Val<'e, 'g> {
    let rows = e.val(x).reshape(&[-1, width as i64]).cast(DType::F32);
    e.named("rows", "Identity", &[rows], &[], 1).first().copied().unwrap_or(rows)
}

/// The gradient of the loss of the model as it is.
fn gradients(base: &Graph, spec: &TrainingSpec, of: &[(&str, &Target)]) -> Result<GradientsLook, PassError> {
    let mut targets: Vec<Target> = Vec::new();
    for (_, target) in of {
        if targets.iter().all(|t| t.weight != target.weight) {
            targets.push(Target::of_weight(base, target.weight, target.roles.clone(), &target.pattern));
        }
    }
    let whole = Full { targets: Vec::new() };
    let adaptations = [Adaptation { method: &whole as &dyn Method, targets }];
    let update = UpdateSpec { slices: true, ..spec.update };
    let (objective, dialect, tokens) = (spec.objective, spec.dialect, spec.tokens);
    let own = TrainingSpec {
        adaptations: &adaptations,
        objective,
        update,
        dialect,
        tokens,
        caches: spec.caches.clone(),
        packed: spec.packed,
    };
    let gradients = gradients_of(base, &own)?;
    let param_of = |target: &Target| {
        let (_, delta) = gradients.deltas.iter().find(|(_, d)| d.target.weight == target.weight)?;
        match &delta.form {
            DeltaForm::Replaced { param } => Some(param.clone()),
            _ => None,
        }
    };
    let of = of.iter().filter_map(|(a, target)| Some((a.to_string(), param_of(target)?))).collect();
    Ok(GradientsLook { gradients, of })
}

/// The params as they are for an engine that looks: those that nothing is known of yet are zeros.
pub fn before_the_look(params: &[Param]) -> Vec<Param> {
    let unknown = |p: &Param| matches!(&p.init, Init::Factor { pair, .. } if pair.source.is_unknown());
    let zeros = |p: &Param| Param { init: Init::Zeros, ..p.clone() };
    params.iter().map(|p| if unknown(p) { zeros(p) } else { p.clone() }).collect()
}
