//! The scores of the token behind each row, and of no other.

use crate::{PassError, remove_dead, rewrite};
use lorac_ir::{DType, Dim, Fact, Graph, ValueId};

/// Name of the input that says where the last token of each row is, counted over the tokens of all rows: i64 `[batch]`.
pub const NEXT_AT: &str = "next.at";

/// Name of the output of the logits behind those tokens: `[batch, vocabulary]`.
pub const NEXT_LOGITS: &str = "next.logits";

/// Puts the logits of one token of each row, as [`NEXT_AT`] says which, in the place of `logits`
/// `[batch, sequence, vocabulary]`: a whole batch of them is larger than everything else. Of the other outputs those in `kept` stay.
///
/// # Errors
/// Logits of another rank, or whose last dimension is open.
pub fn expose_next_token(graph: &mut Graph, logits: ValueId, kept: &[ValueId]) -> Result<(), PassError> {
    let fact = graph.fact(logits);
    let unfit = || PassError::Unsuitable(format!("logits are [batch, sequence, vocabulary], not {fact}"));
    let Some([rows, _, width]) = fact.dims() else { return Err(unfit()) };
    let (rows, width) = (*rows, width.known().ok_or_else(unfit)?);
    rewrite(graph, "next_token", |e| {
        let rows = if rows.known().is_some() || rows.name().is_some() { rows } else { Dim::named("next.rows") };
        let at = e.input(NEXT_AT, Fact::new(DType::I64, [rows]));
        let next = e.val(logits).reshape(&[-1, width]).binary("Gather", at);
        let named = e.named(NEXT_LOGITS, "Identity", &[next], &[], 1);
        let outputs: Vec<ValueId> = named.iter().map(|v| v.id()).chain(kept.iter().copied()).collect();
        e.edit(|p| p.set_outputs(outputs));
        Ok(())
    })?;
    remove_dead(graph)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_row_of_logits_is_left_of_each() {
        let mut graph = lorac_ir::parse(
            "graph g(%x: f32[B,S,4], %k: f32[B,2]) -> %logits, %present, %other {
                %logits = Relu(%x) : f32[B,S,4]
                %present = Relu(%k) : f32[B,2]
                %other = Relu(%k) : f32[B,2]
            }",
        )
        .expect("parses");
        let [logits, present, _] = graph.outputs() else { panic!("three outputs") };
        let (logits, present) = (*logits, *present);
        expose_next_token(&mut graph, logits, &[present]).expect("exposes");
        let facts: Vec<String> =
            graph.outputs().iter().map(|v| format!("{} {}", graph.name_of(*v), graph.fact(*v))).collect();
        assert_eq!(facts, ["next.logits f32[B,4]", "present f32[B,2]"]);
        assert_eq!(graph.fact(graph.find(NEXT_AT).expect("an input")).to_string(), "i64[B]");
        let mut wrong = lorac_ir::parse("graph g(%x: f32[B,4]) -> %y { %y = Relu(%x) : f32[B,4] }").expect("parses");
        let y = wrong.outputs()[0];
        assert!(expose_next_token(&mut wrong, y, &[]).is_err());
    }
}
