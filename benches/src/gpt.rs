//! A decoder of GPT-3's shape (Brown et al. 2020, table 2.1) through the graph API, and its way to a training step.
//! All weights are views of one buffer of zeros that nobody reads: 175 billion parameters take no memory.

use lorac::ir::{Attrs, DType, Dim, Fact, Graph, GraphError, OpName, Origin, Tensor, ValueId};
use lorac::passes::{
    AdamW, Adaptation, Attached, Caches, Clip, Groups, Lora, LossTerms, Method, Objective, PassError, TrainingSpec,
    UpdateSpec, cross_entropy_terms, readable, training_step,
};

/// Sizes of a decoder.
#[derive(Clone, Copy, Debug)]
pub struct Shape {
    /// Transformer blocks.
    pub layers: usize,
    /// Width of the hidden states.
    pub hidden: usize,
    /// Attention heads.
    pub heads: usize,
    /// Tokens.
    pub vocabulary: usize,
}

/// GPT-3 with another number of layers than 96.
pub fn gpt3(layers: usize) -> Shape {
    Shape { layers, hidden: 12288, heads: 96, vocabulary: 50257 }
}

struct Writer {
    graph: Graph,
    zeros: bytes::Bytes,
    at: String,
}

type Made<T> = Result<T, Box<dyn std::error::Error>>;

impl Writer {
    fn weight(&mut self, name: &str, dims: &[usize]) -> Made<ValueId> {
        let len = dims.iter().product::<usize>() * DType::F32.size();
        let tensor = Tensor::new(DType::F32, dims.to_vec(), self.zeros.slice(..len))?;
        Ok(self.graph.add_weight(&format!("{}{name}", self.at), tensor)?)
    }

    fn op(&mut self, op: &str, inputs: &[ValueId], attrs: Attrs) -> Result<ValueId, GraphError> {
        let origin = Origin { pass: "".into(), source: format!("{}{op}", self.at).into() };
        let inputs = inputs.iter().copied().map(Some).collect();
        let fact = Fact::unranked(DType::F32);
        Ok(self.graph.add_node(OpName::new("", op), inputs, attrs, vec![("", fact)], origin)?[0])
    }

    fn plain(&mut self, op: &str, inputs: &[ValueId]) -> Result<ValueId, GraphError> {
        self.op(op, inputs, Attrs::new())
    }

    fn linear(&mut self, name: &str, x: ValueId, rows: usize, cols: usize) -> Made<ValueId> {
        let (w, b) =
            (self.weight(&format!("{name}.weight"), &[rows, cols])?, self.weight(&format!("{name}.bias"), &[cols])?);
        let product = self.plain("MatMul", &[x, w])?;
        Ok(self.plain("Add", &[product, b])?)
    }

    fn norm(&mut self, name: &str, x: ValueId, width: usize) -> Made<ValueId> {
        let (w, b) =
            (self.weight(&format!("{name}.weight"), &[width])?, self.weight(&format!("{name}.bias"), &[width])?);
        Ok(self.op("LayerNormalization", &[x, w, b], Attrs::from([("axis".into(), (-1i64).into())]))?)
    }

    fn ints(&mut self, name: &str, v: &[i64]) -> Made<ValueId> {
        Ok(self.graph.add_weight(&format!("{}{name}", self.at), Tensor::vector(v))?)
    }

    fn permuted(&mut self, x: ValueId, perm: [i64; 4]) -> Result<ValueId, GraphError> {
        self.op("Transpose", &[x], Attrs::from([("perm".into(), perm.to_vec().into())]))
    }

    fn block(&mut self, x: ValueId, mask: ValueId, s: Shape) -> Made<ValueId> {
        let (d, h) = (s.hidden, s.heads as i64);
        let n = self.norm("ln_1", x, d)?;
        let split = self.ints("split", &[0, 0, h, d as i64 / h])?;
        let mut parts = Vec::new();
        for (name, perm) in [("q", [0, 2, 1, 3]), ("k", [0, 2, 3, 1]), ("v", [0, 2, 1, 3])] {
            let y = self.linear(name, n, d, d)?;
            let y = self.plain("Reshape", &[y, split])?;
            parts.push(self.permuted(y, perm)?);
        }
        let scale = self.graph.add_weight(&format!("{}scale", self.at), Tensor::scalar(1.0 / (128.0f32).sqrt()))?;
        let scores = self.plain("MatMul", &[parts[0], parts[1]])?;
        let scores = self.plain("Mul", &[scores, scale])?;
        let scores = self.plain("Add", &[scores, mask])?;
        let weights = self.op("Softmax", &[scores], Attrs::from([("axis".into(), (-1i64).into())]))?;
        let mixed = self.plain("MatMul", &[weights, parts[2]])?;
        let mixed = self.permuted(mixed, [0, 2, 1, 3])?;
        let join = self.ints("join", &[0, 0, d as i64])?;
        let mixed = self.plain("Reshape", &[mixed, join])?;
        let y = self.linear("o", mixed, d, d)?;
        let x = self.plain("Add", &[x, y])?;
        let n = self.norm("ln_2", x, d)?;
        let y = self.linear("fc", n, d, 4 * d)?;
        let y = self.plain("Gelu", &[y])?;
        let y = self.linear("proj", y, 4 * d, d)?;
        Ok(self.plain("Add", &[x, y])?)
    }
}

/// The decoder: `input_ids` and an additive `mask` to `logits`.
pub fn decoder(s: Shape) -> Made<Graph> {
    let largest = (s.vocabulary * s.hidden).max(4 * s.hidden * s.hidden) * DType::F32.size();
    let mut w = Writer { graph: Graph::new("gpt", 20), zeros: vec![0u8; largest].into(), at: String::new() };
    let (batch, sequence) = (Dim::named("batch"), Dim::named("sequence"));
    let ids = w.graph.add_input("input_ids", Fact::new(DType::I64, [batch, sequence]))?;
    let mask = w.graph.add_input("mask", Fact::new(DType::F32, [sequence, sequence]))?;
    let table = w.weight("wte.weight", &[s.vocabulary, s.hidden])?;
    let mut x = w.plain("Gather", &[table, ids])?;
    for layer in 0..s.layers {
        w.at = format!("h.{layer}.");
        x = w.block(x, mask, s)?;
    }
    w.at.clear();
    let x = w.norm("ln_f", x, s.hidden)?;
    let head = w.weight("head.weight", &[s.hidden, s.vocabulary])?;
    let logits = w.plain("MatMul", &[x, head])?;
    w.graph.set_outputs(vec![logits])?;
    Ok(w.graph)
}

/// Cross-entropy of the logits against class indices.
struct Labelled;

impl Objective for Labelled {
    fn attach(&self, graph: &mut Graph) -> Result<Attached, PassError> {
        Ok(Attached { prediction: graph.outputs()[0], params: Vec::new() })
    }

    fn loss<'e, 'g>(&self, prediction: lorac::ops::Val<'e, 'g>) -> Result<LossTerms<'e, 'g>, PassError> {
        cross_entropy_terms(prediction, "labels")
    }

    fn evaluates_prediction(&self) -> bool {
        false
    }
}

/// The whole way from a model to its training step, as a run takes it: LoRA of rank 8 on query and value, loss, gradient,
/// AdamW.
pub fn step(graph: &Graph) -> Made<Graph> {
    let graph = readable(graph, &[])?;
    let lora = Lora::default();
    let spec = TrainingSpec {
        adaptations: &[Adaptation { method: &lora, targets: lora.select(&graph)? }],
        objective: &Labelled,
        update: UpdateSpec {
            optimizer: &AdamW::default(),
            clip: Some(Clip::Norm(1.0)),
            groups: Groups::default(),
            slices: false,
            average: None,
        },
        dialect: lorac::ir::Dialect::FULL,
        tokens: None,
        caches: Caches::default(),
        packed: false,
    };
    Ok(training_step(&graph, &spec, &mut |_| {})?.step)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_layer_costs_the_same_nodes() {
        let count = |layers| {
            let small = Shape { layers, hidden: 64, heads: 4, vocabulary: 100 };
            step(&decoder(small).expect("builds")).expect("compiles").node_count()
        };
        let [two, four, six] = [2, 4, 6].map(count);
        assert_eq!(six - four, four - two);
        // A block has 30 nodes and 2 branches; forward, backward and update must stay a small multiple of that.
        assert!((four - two) / 2 < 30 * 6, "{} nodes a layer", (four - two) / 2);
    }
}
