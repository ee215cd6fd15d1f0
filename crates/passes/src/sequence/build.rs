//! A graph on its way from a model to a program, and what each stage does to it.

use super::{EVALUATED, Emitted, LOSS_COUNT, LOSS_SUM, Observer, Stage, TrainingSpec, for_dialect, training_copy};
use crate::loss::{mean_loss, slice_loss};
use crate::optimizer::{SliceLoss, StepLoss, Update, optimize};
use crate::vocabulary::{HiddenGrad, chunk_vocabulary, chunks};
use crate::{
    Delta, DropoutSite, Isolated, Layout, Packed, Param, PassError, Use, differentiate, differentiate_from,
    drop_inputs, expose_next_token, half_gemm_to_matmul, isolate_examples, pack, remove_dead, rewrite,
};
use lorac_ir::{Graph, Tensor, ValueId};

/// A graph on its way.
#[derive(Clone)]
pub(super) struct Build<'a> {
    pub(super) graph: Graph,
    pub(super) spec: &'a TrainingSpec<'a>,
    pub(super) purpose: Use,
    pub(super) params: Vec<Param>,
    pub(super) deltas: Vec<(usize, Delta)>,
    pub(super) sites: Vec<DropoutSite>,
    /// Inputs with the values of params, by their names, through which no gradient goes.
    pub(super) detached: Vec<(ValueId, String)>,
    /// Name of the prediction.
    pub(super) prediction: String,
    pub(super) layout: Option<Layout>,
    pub(super) loss: Option<ValueId>,
    /// What is known of the loss's gradient before it is differentiated.
    pub(super) hidden: Option<HiddenGrad>,
    /// Name of the output that says how much counts, of a step in slices.
    pub(super) count: Option<String>,
    pub(super) grads: Vec<ValueId>,
    pub(super) packed: Option<Packed>,
    pub(super) update: Option<Update>,
    pub(super) dropout: usize,
    /// Names of outputs that stay beside those of next tokens.
    pub(super) kept: Vec<String>,
    /// Where the examples of a row are kept apart.
    pub(super) isolated: Option<Isolated>,
}

impl<'a> Build<'a> {
    pub(super) fn new(base: &Graph, spec: &'a TrainingSpec<'a>, purpose: Use) -> Build<'a> {
        let mut graph = base.clone();
        graph.reserve_names();
        Build {
            graph,
            spec,
            purpose,
            params: Vec::new(),
            deltas: Vec::new(),
            sites: Vec::new(),
            detached: Vec::new(),
            prediction: String::new(),
            layout: None,
            loss: None,
            hidden: None,
            count: None,
            grads: Vec::new(),
            packed: None,
            update: None,
            dropout: 0,
            kept: Vec::new(),
            isolated: None,
        }
    }

    pub(super) fn run(&mut self, program: &'static str, stages: &[Stage], observe: Observer) -> Result<(), PassError> {
        for (i, (stage, pass)) in stages.iter().enumerate() {
            pass(self)?;
            observe(Emitted { program, number: i + 1, stage, graph: &self.graph });
        }
        Ok(())
    }

    /// The prediction.
    pub(super) fn predicted(&self) -> Result<ValueId, PassError> {
        self.output(&self.prediction)
    }

    /// The output of a name. Passes rewrite values; names and places of outputs stay.
    pub(super) fn output(&self, name: &str) -> Result<ValueId, PassError> {
        let found = self.graph.outputs().iter().copied().find(|v| self.graph.name_of(*v) == name);
        found.ok_or_else(|| PassError::Unsuitable(format!("the graph has no output `{name}`")))
    }

    pub(super) fn insert(&mut self) -> Result<(), PassError> {
        for (i, adaptation) in self.spec.adaptations.iter().enumerate() {
            let inserted = adaptation.method.insert(&mut self.graph, &adaptation.targets, self.purpose)?;
            self.params.extend(inserted.params);
            self.deltas.extend(inserted.deltas.into_iter().map(|d| (i, d)));
            self.sites.extend(inserted.dropout);
            self.detached.extend(inserted.detached);
        }
        Ok(())
    }

    pub(super) fn attach(&mut self) -> Result<(), PassError> {
        let attached = self.spec.objective.attach(&mut self.graph)?;
        self.prediction = self.graph.name_of(attached.prediction);
        self.params.extend(attached.params);
        self.layout.get_or_insert_with(|| Layout::of(&self.params));
        Ok(())
    }

    /// Leaves the prediction as the only output, and nothing that it does not need.
    pub(super) fn prune(&mut self) -> Result<(), PassError> {
        let prediction = self.predicted()?;
        rewrite(&mut self.graph, "prune", |e| {
            e.edit(|p| p.set_outputs(vec![prediction]));
            Ok(())
        })?;
        remove_dead(&mut self.graph)?;
        Ok(())
    }

    pub(super) fn prepare(&mut self) -> Result<(), PassError> {
        training_copy(&mut self.graph, &[], &self.spec.caches, &self.spec.dialect)
    }

    pub(super) fn isolate(&mut self) -> Result<(), PassError> {
        if self.spec.packed {
            self.isolated = Some(isolate_examples(&mut self.graph)?);
        }
        Ok(())
    }

    pub(super) fn prepare_for_dialect(&mut self) -> Result<(), PassError> {
        for_dialect(&mut self.graph, &[], &self.spec.caches, &self.spec.dialect)
    }

    /// Products that later passes wrote, as the engine reads them.
    pub(super) fn speak(&mut self) -> Result<(), PassError> {
        if !self.spec.dialect.half_gemm {
            half_gemm_to_matmul(&mut self.graph)?;
        }
        Ok(())
    }

    pub(super) fn drop_inputs(&mut self) -> Result<(), PassError> {
        self.dropout = drop_inputs(&mut self.graph, &self.sites)?;
        Ok(())
    }

    pub(super) fn loss(&mut self) -> Result<(), PassError> {
        let (prediction, objective) = (self.predicted()?, self.spec.objective);
        self.loss = Some(match self.spec.update.slices {
            true => {
                let [mean, count] = slice_loss(&mut self.graph, prediction, |y| objective.loss(y))?;
                self.count = Some(self.graph.name_of(count));
                mean
            }
            false => mean_loss(&mut self.graph, prediction, |y| objective.loss(y))?,
        });
        Ok(())
    }

    pub(super) fn score(&mut self) -> Result<(), PassError> {
        let (prediction, objective) = (self.predicted()?, self.spec.objective);
        rewrite(&mut self.graph, "score", |e| {
            let terms = objective.loss(e.val(prediction))?;
            let named = [(LOSS_SUM, terms.sum), (LOSS_COUNT, terms.count)];
            let scores = named.iter().flat_map(|(name, v)| e.named(name, "Identity", &[*v], &[], 1));
            let mut outputs: Vec<ValueId> = scores.map(|v| v.id()).collect();
            if objective.evaluates_prediction() {
                outputs.push(prediction);
            }
            e.edit(|p| p.set_outputs(outputs));
            Ok(())
        })
    }

    pub(super) fn next_token(&mut self) -> Result<(), PassError> {
        let kept = self.kept.iter().map(|name| self.output(name)).collect::<Result<Vec<_>, _>>()?;
        let prediction = self.predicted()?;
        expose_next_token(&mut self.graph, prediction, &kept)
    }

    /// The params that are trained.
    pub(super) fn trained(&self) -> Vec<ValueId> {
        self.params.iter().filter(|p| p.is_trained()).map(|p| p.value).collect()
    }

    pub(super) fn differentiate(&mut self) -> Result<(), PassError> {
        let trained = self.trained();
        let loss = self.loss.ok_or_else(|| PassError::Unsuitable("a gradient needs a loss".into()))?;
        self.grads = match self.hidden {
            Some(known) => differentiate_from(&mut self.graph, known.hidden, known.grad, &trained)?,
            None => differentiate(&mut self.graph, loss, &trained)?,
        };
        self.grads = self.gradients_of_all()?;
        Ok(())
    }

    /// Computes the loss of tokens and its gradient chunk by chunk, where their logits would be large.
    pub(super) fn chunk_loss(&mut self) -> Result<(), PassError> {
        let Some(loss) = self.loss else { return Ok(()) };
        let chunks = chunks(&self.graph, self.spec.tokens);
        if chunks > 1 {
            let trained = self.trained();
            self.hidden = chunk_vocabulary(&mut self.graph, loss, Some(&trained), chunks)?;
        }
        Ok(())
    }

    /// The same of an evaluation that reads no logits.
    pub(super) fn chunk_evaluation(&mut self) -> Result<(), PassError> {
        let Some(loss) = self.graph.outputs().first().copied().filter(|_| !self.spec.objective.evaluates_prediction())
        else {
            return Ok(());
        };
        let chunks = chunks(&self.graph, self.spec.tokens.map(|tokens| tokens.saturating_mul(EVALUATED)));
        if chunks > 1 {
            chunk_vocabulary(&mut self.graph, loss, None, chunks)?;
            remove_dead(&mut self.graph)?;
        }
        Ok(())
    }

    /// The gradients of all params, in their order: of those that stay as they are, zeros.
    pub(super) fn gradients_of_all(&mut self) -> Result<Vec<ValueId>, PassError> {
        if self.params.iter().all(Param::is_trained) {
            return Ok(std::mem::take(&mut self.grads));
        }
        let (params, mut grads) = (&self.params, self.grads.iter().copied());
        rewrite(&mut self.graph, "fixed", |e| {
            let grad = |param: &Param| {
                if param.is_trained() {
                    return grads.next();
                }
                let zeros = Tensor::from_slice(&param.dims, &vec![0.0f32; param.len()]);
                Some(zeros.map_or(e.absent(), |zeros| e.weight("", zeros)).id())
            };
            Ok(params.iter().filter_map(grad).collect())
        })
    }

    /// Lets what no gradient goes through read the params themselves, now that there are gradients.
    pub(super) fn attach_detached(&mut self) -> Result<(), PassError> {
        let (params, detached) = (&self.params, std::mem::take(&mut self.detached));
        if detached.is_empty() {
            return Ok(());
        }
        rewrite(&mut self.graph, "detached", |e| {
            for (input, name) in &detached {
                let Some(param) = params.iter().find(|p| p.name == *name && p.value != *input) else { continue };
                if e.graph().inputs().contains(input) {
                    e.edit(|p| {
                        p.redirect(*input, param.value);
                        p.drop_input(*input);
                    });
                }
            }
            Ok(())
        })
    }

    pub(super) fn pack(&mut self) -> Result<(), PassError> {
        self.attach_detached()?;
        let layout = self.layout.clone().unwrap_or_default();
        self.packed = Some(pack(&mut self.graph, &layout, &self.params, &self.grads)?);
        Ok(())
    }

    /// Leaves the gradient and what counts in it as the only outputs.
    pub(super) fn expose_gradient(&mut self) -> Result<(), PassError> {
        let grad = self.packed.and_then(|packed| packed.grad);
        let (Some(grad), Some(count)) = (grad, self.count.clone()) else {
            return Err(PassError::Unsuitable("a gradient needs a loss in slices".into()));
        };
        let count = self.output(&count)?;
        rewrite(&mut self.graph, "expose", |e| {
            let grad = e.named("gradient", "Identity", &[e.val(grad)], &[], 1).first().map_or(grad, |g| g.id());
            e.edit(|p| p.set_outputs(vec![grad, count]));
            Ok(())
        })
    }

    pub(super) fn optimize(&mut self) -> Result<(), PassError> {
        let layout = self.layout.clone().unwrap_or_default();
        let (Some(packed), Some(loss)) = (self.packed, self.loss) else {
            return Err(PassError::Unsuitable("an update needs a loss and its gradient".into()));
        };
        let spec = &self.spec.update;
        let loss = match &self.count {
            Some(count) => StepLoss::Slice(SliceLoss { mean: loss, count: self.output(count)? }),
            None => StepLoss::Whole(loss),
        };
        let rates = spec.groups.rates(spec.optimizer.lr(), &layout, &self.params, &self.deltas)?;
        self.update = Some(optimize(&mut self.graph, &packed, &layout, loss, spec, &rates)?);
        Ok(())
    }
}
