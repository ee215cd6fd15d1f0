//! A convolution with the norm behind it apart again: PEFT adapts the convolution alone.

use lorac::ir::{Attr, Attrs, Fact, Graph, Tensor, ValueId};
use lorac::ops::{Emit, array};
use lorac::passes::{PassError, rewrite};

/// Divides the channels of a weight by `factor` and multiplies what the convolutions that read it compute by it, in front of
/// the bias. Returns the new weight, which has the old one's name with `.unfolded` behind it.
///
/// # Errors
/// A weight that something else than a convolution reads.
pub fn unfold(graph: &mut Graph, weight: ValueId, factor: &[f64]) -> Result<ValueId, PassError> {
    rewrite(graph, "unfold", |e| {
        let graph = e.graph();
        let name = format!("{}.unfolded", graph.name_of(weight));
        let wrong = || PassError::Unsuitable(format!("`{name}`: no convolution of {} channels", factor.len()));
        let w = graph.weight(weight).and_then(array).ok_or_else(wrong)?;
        let inner = w.len() / factor.len();
        let plain: Vec<f32> = w.iter().enumerate().map(|(i, x)| (x / factor[i / inner]) as f32).collect();
        let plain = e.weight(&name, Tensor::from_slice(w.shape(), &plain).map_err(|_| wrong())?);
        let mut dims = vec![1i64; w.ndim()];
        dims[1] = factor.len() as i64;
        let by: Vec<f32> = factor.iter().map(|x| *x as f32).collect();
        let by = e.weight("", Tensor::vector(&by)).reshape(&dims);
        for u in graph.value(weight).into_iter().flat_map(|v| v.uses()) {
            let node = graph.node(u.node).filter(|n| &*n.op.name == "Conv" && u.slot == 1).ok_or_else(wrong)?;
            let (x, y) = (node.input(0).ok_or_else(wrong)?, node.outputs[0]);
            let attrs: Vec<(&str, Attr)> = node.attrs.iter().map(|(k, v)| (&**k, v.clone())).collect();
            let mut new = e.op("Conv", &[e.val(x), plain], &attrs) * by;
            if let Some(bias) = node.input(2) {
                new = new + e.val(bias).reshape(&dims);
            }
            // What the graph knew of the old result stays known.
            let same = || identity(e, new.id(), graph.fact(y));
            let new = if new.fact() == graph.fact(y) { new.id() } else { same() };
            e.edit(|p| p.redirect(y, new));
        }
        Ok(plain.id())
    })
}

fn identity(e: &Emit, x: ValueId, fact: Fact) -> ValueId {
    e.edit(|p| p.node("Identity".into(), "", vec![Some(x)], Attrs::new(), vec![fact], &"".into()))[0]
}
