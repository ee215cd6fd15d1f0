//! What a training looks at before its first step: what matrices of the model are fed, and the gradients of others.

use crate::sequence::{Gradients, for_dialect, gradients_of};
use crate::{
    Adaptation, Delta, DeltaForm, FactorSource, Full, Init, Method, Param, PassError, Target, Training, TrainingSpec,
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
    let low_rank = |(_, delta): &'_ (usize, Delta)| -> Option<(String, usize, FactorSource, Target)> {
        let DeltaForm::LowRank { a, rank, .. } = &delta.form else { return None };
        let param = training.params.iter().find(|p| p.name == *a)?;
        let Init::Factor { pair, .. } = &param.init else { return None };
        Some((a.clone(), *rank, pair.source.clone(), delta.target.clone()))
    };
    let all: Vec<_> = training.deltas.iter().filter_map(low_rank).collect();
    let fed: Vec<_> = all.iter().filter(|(.., source, _)| matches!(source, FactorSource::Inputs(_))).collect();
    let moved: Vec<_> = all.iter().filter(|(.., source, _)| matches!(source, FactorSource::Gradient { .. })).collect();
    if fed.is_empty() && moved.is_empty() {
        return Ok(None);
    }
    let fed: Vec<(&str, usize, &Target)> = fed.iter().map(|(a, rank, _, target)| (a.as_str(), *rank, target)).collect();
    let moved: Vec<(&str, &Target)> = moved.iter().map(|(a, _, _, target)| (a.as_str(), target)).collect();
    let inputs = (!fed.is_empty()).then(|| inputs(base, spec, &fed)).transpose()?;
    let gradients = (!moved.is_empty()).then(|| gradients(base, spec, &moved)).transpose()?;
    let batches = spec.adaptations.iter().map(|a| a.method.first_batches()).max().unwrap_or_default();
    Ok(Some(FirstLook { inputs, gradients, batches }))
}

/// The model up to what matrices multiply.
fn inputs(base: &Graph, spec: &TrainingSpec, of: &[(&str, usize, &Target)]) -> Result<InputsLook, PassError> {
    let mut graph = base.clone();
    graph.reserve_names();
    let of = rewrite(&mut graph, "first_look", |e| {
        let mut written: BTreeMap<(ValueId, usize), Val> = BTreeMap::new();
        let mut all = Vec::new();
        for (a, rank, target) in of {
            let matrix = target.matrix()?;
            let read = matrix.products.iter().filter_map(|p| e.graph().node(*p)?.input(0));
            let mut outputs: Vec<String> = Vec::new();
            for x in read {
                let width = matrix.rows;
                let rows = *written.entry((x, width)).or_insert_with(|| as_rows(e, x, width));
                let name = e.name_of(rows.id());
                if !outputs.contains(&name) {
                    outputs.push(name);
                }
            }
            all.push(FedMatrix { a: a.to_string(), rank: *rank, outputs });
        }
        let outputs = written.values().map(|v| v.id()).collect();
        e.edit(|p| p.set_outputs(outputs));
        Ok(all)
    })?;
    remove_dead(&mut graph)?;
    for_dialect(&mut graph, &[], &spec.caches, &spec.dialect)?;
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
    let own =
        TrainingSpec { adaptations: &adaptations, objective, update, dialect, tokens, caches: spec.caches.clone() };
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
