//! What a Dropout of the model's own dropped, asked for as a result: its gradient is told by the mask only.

use crate::PassError;
use crate::rewrite::{replace_value, rewrite};
use lorac_ir::{Attr, Graph};
use lorac_ops::Val;

/// Lets every Dropout that is not known to be off give its mask. Returns how many did not.
pub fn expose_dropout_masks(graph: &mut Graph) -> Result<usize, PassError> {
    let lone = |node: &lorac_ir::Node| {
        &*node.op.name == "Dropout" && node.op.domain.is_empty() && node.outputs.len() == 1 && node.input(2).is_some()
    };
    if !graph.nodes().any(|(_, n)| lone(n)) {
        return Ok(0);
    }
    rewrite(graph, "dropout_mask", |e| {
        let mut count = 0;
        for (id, node) in e.graph().nodes().filter(|(_, n)| lone(n)) {
            let x: Vec<Val> = node.inputs.iter().map(|v| v.map_or(e.absent(), |v| e.val(v))).collect();
            if x.get(2).and_then(|training| training.known_ints()).as_deref() == Some(&[0]) {
                continue;
            }
            e.set_source(&node.origin.source);
            let attrs: Vec<(&str, Attr)> = node.attrs.iter().map(|(k, v)| (&**k, v.clone())).collect();
            let made = e.ops("Dropout", &x, &attrs, 2);
            for (old, new) in node.outputs.iter().zip(made) {
                replace_value(e, *old, new);
            }
            e.edit(|p| p.remove(id));
            count += 1;
        }
        Ok(count)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::differentiate;

    #[test]
    fn a_mask_comes_by_where_something_may_be_dropped() {
        for (training, want) in [("[1]", 1), ("[0]", 0)] {
            let text = format!(
                "graph g(%x: f32[3]) -> %loss {{
                    %ratio = weight \"ratio\" f32[] = [0.25]
                    %training = weight \"training\" bool[] = {training}
                    %d = Dropout(%x, %ratio, %training) : f32[3]
                    %loss = ReduceSum(%d, keepdims=0) : f32[]
                }}"
            );
            let mut graph = lorac_ir::parse(&text).expect("parses");
            assert_eq!(expose_dropout_masks(&mut graph), Ok(want));
            assert_eq!(expose_dropout_masks(&mut graph), Ok(0));
            let (x, loss) = (graph.find("x").expect("x"), graph.outputs()[0]);
            differentiate(&mut graph, loss, &[x]).expect("a gradient");
        }
    }
}
