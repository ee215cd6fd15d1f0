//! From a model to the programs that train, evaluate and check it.

use lorac_ir::{DType, Graph, Tensor, ValueId};
use lorac_ops::infer;
use lorac_passes::{
    AdamW, Arena, Branch, Head, Lora, PassError, Pool, Target, adamw, attach_head, cross_entropy, differentiate,
    expose_erf, expose_statistics, fold_constants, fold_scales, fuse_dense, hidden_states, insert_lora, narrow_sums,
    pack, remove_dead, rewrite,
};
use lorac_train::Feeds;

/// What is asked of the compiler.
#[derive(Clone, Debug)]
pub struct Spec {
    /// Matrices to adapt.
    pub targets: Vec<Target>,
    /// Rank and scale of their branches.
    pub lora: Lora,
    /// Number of classes of the new head.
    pub classes: usize,
    /// How hidden states become one vector.
    pub pool: Pool,
    /// The output of hidden states, where the first of rank 3 is not meant.
    pub hidden: Option<String>,
    /// The optimizer.
    pub optimizer: AdamW,
    /// Whether the embedded engine is to run the graphs.
    pub embedded: bool,
}

/// A model with branches and a head, as three graphs over one theta.
#[derive(Clone, Debug)]
pub struct Compiled {
    /// One training step: loss, gradient and AdamW.
    pub step: Graph,
    /// theta to `logits`.
    pub eval: Graph,
    /// theta to every output of the base model and `logits`.
    pub adapted: Graph,
    /// Where trained values lie in theta.
    pub arena: Arena,
    /// The branches.
    pub branches: Vec<Branch>,
    /// Width of the hidden states.
    pub hidden: usize,
    /// What the head was put on, by name.
    pub head: HeadNames,
    /// The graph's names for the parts of a batch.
    pub feeds: Feeds,
}

/// A head's place in the model, by name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HeadNames {
    /// Hidden states.
    pub hidden: String,
    /// The attention mask.
    pub mask: Option<String>,
    /// The pooling.
    pub pool: Pool,
}

/// Name of the head's matrix `[classes, hidden]`.
pub const HEAD_WEIGHT: &str = "classifier.weight";
/// Name of the head's bias `[classes]`.
pub const HEAD_BIAS: &str = "classifier.bias";
/// The first opset that has the operators of a head, which joins the deployed model as it is.
const HEAD_OPSET: i64 = 13;
/// Name of the input of labels.
pub const LABELS: &str = "labels";

/// Compiles the three graphs of a classification.
pub fn compile(base: &Graph, spec: &Spec) -> Result<Compiled, PassError> {
    if base.opset() < HEAD_OPSET {
        let why = format!("the model is of opset {}, and the head that is put on it needs {HEAD_OPSET}", base.opset());
        return Err(PassError::Unsuitable(format!("{why}: convert the model with onnx.version_converter")));
    }
    let mut graph = base.clone();
    infer(&mut graph)?;
    let hidden = hidden_states(&graph, spec.hidden.as_deref())?;
    let width = graph.fact(hidden).dims().and_then(|d| d.last()?.known()).unwrap_or(0) as usize;
    let mut feeds = feeds(&graph)?;
    let mask = feeds.mask.as_ref().and_then(|(name, _)| graph.find(name));
    let names = HeadNames { hidden: graph.name_of(hidden), mask: mask.map(|m| graph.name_of(m)), pool: spec.pool };
    for taken in [HEAD_WEIGHT, HEAD_BIAS, "logits", LABELS] {
        if graph.find(taken).is_some() {
            let why = format!("the model has a value called '{taken}' already: a new head would clash with it");
            return Err(PassError::Unsuitable(why));
        }
    }
    let branches = insert_lora(&mut graph, &spec.targets, &spec.lora)?;
    // Redirections may have moved the name of the output to a new value.
    let hidden = graph.find(&names.hidden).unwrap_or(hidden);
    let (logits, head) = head(&mut graph, &Head { hidden, mask, pool: spec.pool }, spec.classes, width)?;
    let mut params: Vec<ValueId> = branches.iter().flat_map(|b| [b.a, b.b]).collect();
    params.extend(head);

    let mut adapted = graph.clone();
    if spec.embedded {
        prepare(&mut adapted, spec)?;
    }
    pack(&mut adapted, &params, &[])?;

    let mut eval = graph.clone();
    only(&mut eval, logits)?;
    prepare(&mut eval, spec)?;
    pack(&mut eval, &params, &[])?;

    let mut step = graph;
    only(&mut step, logits)?;
    prepare(&mut step, spec)?;
    fuse_dense(&mut step)?;
    expose_erf(&mut step)?;
    fold_scales(&mut step)?;
    let loss = cross_entropy(&mut step, logits, LABELS)?;
    expose_statistics(&mut step)?;
    let grads = differentiate(&mut step, loss, &params)?;
    let arena = pack(&mut step, &params, &grads)?;
    adamw(&mut step, &arena, loss, &spec.optimizer)?;
    fold_constants(&mut step, &[])?;
    remove_dead(&mut step)?;
    infer(&mut step)?;
    feeds.labels = Some(LABELS.into());
    Ok(Compiled { step, eval, adapted, arena, branches, hidden: width, head: names, feeds })
}

/// The training copy of a base whose functions are written out already, for the engine that is to run it.
fn prepare(graph: &mut Graph, spec: &Spec) -> Result<(), PassError> {
    lorac_passes::prepare(graph, &[], &[])?;
    if spec.embedded {
        narrow_sums(graph)?;
    }
    Ok(())
}

/// Makes `output` the graph's only output and drops what it does not need.
fn only(graph: &mut Graph, output: ValueId) -> Result<(), PassError> {
    rewrite(graph, "outputs", |e| {
        e.edit(|p| p.set_outputs(vec![output]));
        Ok(())
    })?;
    remove_dead(graph)?;
    Ok(())
}

fn head(graph: &mut Graph, head: &Head, classes: usize, width: usize) -> Result<(ValueId, [ValueId; 2]), PassError> {
    rewrite(graph, "head", |e| {
        let weight = e.input(HEAD_WEIGHT, lorac_ir::Fact::new(DType::F32, [classes, width]));
        let bias = e.input(HEAD_BIAS, lorac_ir::Fact::new(DType::F32, [classes]));
        let logits = attach_head(head, weight, bias)?;
        let outputs = [e.graph().outputs(), &[logits.id()]].concat();
        e.edit(|p| p.set_outputs(outputs));
        Ok((logits.id(), [weight.id(), bias.id()]))
    })
}

/// The head alone, for appending to the deployed model: its inputs name values of the base.
pub fn head_alone(base: &Graph, names: &HeadNames, weight: Tensor, bias: Tensor) -> Result<Graph, PassError> {
    let mut graph = Graph::new("head", base.opset());
    graph.opsets = base.opsets.clone();
    let missing = |name: &str| PassError::Unsuitable(format!("the model has no value '{name}'"));
    let mut take = |name: &str| {
        let fact = base.find(name).map(|v| base.fact(v)).ok_or_else(|| missing(name))?;
        graph.add_input(name, fact).map_err(|e| PassError::Unsuitable(e.to_string()))
    };
    let hidden = take(&names.hidden)?;
    let mask = names.mask.as_deref().filter(|_| names.pool == Pool::Mean).map(&mut take).transpose()?;
    rewrite(&mut graph, "head", |e| {
        e.set_prefix("classifier.");
        let (weight, bias) = (e.weight(HEAD_WEIGHT, weight), e.weight(HEAD_BIAS, bias));
        let logits = attach_head(&Head { hidden, mask, pool: names.pool }, weight, bias)?;
        e.edit(|p| p.set_outputs(vec![logits.id()]));
        Ok(())
    })?;
    Ok(graph)
}

/// The inputs that take a batch, by the names that exporters give them.
pub fn feeds(graph: &Graph) -> Result<Feeds, PassError> {
    let mut feeds = Feeds::default();
    for &id in graph.inputs() {
        let (name, fact) = (graph.name_of(id), graph.fact(id));
        let place = match name.as_str() {
            "input_ids" => &mut feeds.ids,
            "attention_mask" => &mut feeds.mask,
            "token_type_ids" => &mut feeds.types,
            _ => {
                let known = "input_ids, attention_mask and token_type_ids";
                return Err(PassError::Unsuitable(format!("the input '{name}' {fact} is none of {known}")));
            }
        };
        *place = Some((name, fact.dtype));
    }
    match feeds.ids {
        Some(_) => Ok(feeds),
        None => Err(PassError::Unsuitable("the model has no input 'input_ids'".into())),
    }
}
