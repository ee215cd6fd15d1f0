//! Matrices that are stored as one weight of three axes, as those of experts.

use lorac_ir::{Graph, Node, NodeId, ValueId};

/// The products of a stack, and whether its matrices are stored `[out, in]`.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Stack {
    pub(crate) products: Vec<NodeId>,
    pub(crate) transposed: bool,
}

/// How a weight `[count, p, q]` is multiplied: as it is, or some of its matrices, that are picked by `Gather`; its matrices as
/// they are or each transposed. Nothing where anything else reads it, or where the readers disagree which side is which.
pub(crate) fn stack(graph: &Graph, weight: ValueId) -> Option<Stack> {
    let mut found = Vec::new();
    let &[count, _, _] = graph.weight(weight)?.dims() else { return None };
    // A few nodes lie between a matrix and its product.
    let mut left = MOST_LOOKS.max(count.saturating_mul(8));
    if !read(graph, weight, false, &mut left, &mut found) {
        return None;
    }
    let (_, transposed) = *found.first()?;
    let alike = found.iter().all(|(_, t)| *t == transposed);
    alike.then(|| Stack { products: found.into_iter().map(|(node, _)| node).collect(), transposed })
}

/// More values are not looked at for the products of a stack of a few matrices.
const MOST_LOOKS: usize = 1000;

/// Follows a value to its products. Returns whether all of its readers lead to some.
fn read(graph: &Graph, value: ValueId, turned: bool, left: &mut usize, found: &mut Vec<(NodeId, bool)>) -> bool {
    let Some(at) = graph.value(value) else { return false };
    let Some(rest) = left.checked_sub(1) else { return false };
    *left = rest;
    if graph.is_output(value) || at.uses().is_empty() {
        return false;
    }
    at.uses().iter().all(|u| {
        let Some(node) = graph.node(u.node).filter(|n| n.op.domain.is_empty()) else { return false };
        let next = |turned, left: &mut usize, found: &mut Vec<(NodeId, bool)>| {
            node.outputs.first().is_some_and(|y| read(graph, *y, turned, left, found))
        };
        match (&*node.op.name, u.slot) {
            ("MatMul", 1) => found.push((u.node, turned)),
            // The weight is multiplied with columns.
            ("MatMul", 0) => found.push((u.node, !turned)),
            ("Gemm", 1) => found.push((u.node, turned != (node.int("transB", 0) != 0))),
            ("Transpose", 0) => return swaps_sides(graph, value, node) && next(!turned, left, found),
            ("Gather", 0) => return node.int("axis", 0) == 0 && is_stored(graph, value) && next(turned, left, found),
            ("Identity" | "Cast", 0) => return next(turned, left, found),
            _ => return false,
        }
        true
    })
}

/// Whether the axis of the stack is still the first of three.
fn is_stored(graph: &Graph, value: ValueId) -> bool {
    graph.fact(value).rank() == Some(3)
}

/// Whether the last two axes are swapped, and no others; without `perm` all are reversed.
fn swaps_sides(graph: &Graph, value: ValueId, node: &Node) -> bool {
    match node.ints("perm") {
        Some(perm) => matches!(perm, [1, 0] | [0, 2, 1]),
        None => graph.fact(value).rank() == Some(2),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Lora, Method, Use, fold_low_rank, left_out, select};
    use lorac_ir::{Tensor, parse};
    use lorac_ops::{Array, Random, evaluate, infer};

    /// Two matrices from 3 to 4.
    const SIDES: [usize; 3] = [2, 3, 4];

    /// Every row to every matrix, as Llama 4 does.
    const ALL: &str = "%y = MatMul(%x, %w) : f32[..]";
    /// Stored `[out, in]`.
    const TURNED: &str = "%i = Identity(%w) : f32[..]
        %t = Transpose(%i, perm=[0,2,1]) : f32[..]
        %y = MatMul(%x, %t) : f32[..]";
    /// One matrix after the other.
    const EACH: &str = "%0 = weight \"0\" i64[] = [0]
        %1 = weight \"1\" i64[] = [1]
        %a = Gather(%w, %0, axis=0) : f32[..]
        %b = Gather(%w, %1, axis=0) : f32[..]
        %t = Transpose(%b, perm=[1,0]) : f32[..]
        %p = MatMul(%x, %a) : f32[..]
        %v = Gather(%x, %1, axis=0) : f32[..]
        %q = Gemm(%v, %t, transB=1) : f32[..]
        %y = Add(%p, %q) : f32[..]";
    /// The matrices that a router has chosen, times columns.
    const CHOSEN: &str = "%chosen = weight \"chosen\" i64[3] = [1, 0, 1]
        %c = Gather(%w, %chosen, axis=0) : f32[..]
        %v = Gather(%x, %chosen, axis=0) : f32[..]
        %columns = Transpose(%v, perm=[0,2,1]) : f32[..]
        %y = MatMul(%c, %columns) : f32[..]";

    fn graph(dims: &[usize], w: &[f64], body: &str) -> Graph {
        let text = format!("graph g(%x: f32[2,5,3]) -> %y {{ %w = weight \"w\" f32{dims:?} = {w:?}\n{body} }}");
        let mut graph = parse(&text).expect("parses");
        infer(&mut graph).expect("infers");
        graph
    }

    #[test]
    fn a_branch_and_its_fold_reach_every_matrix_of_a_stack() {
        let mut random = Random(3);
        for (body, transposed, products) in [(ALL, false, 1), (TURNED, true, 1), (EACH, false, 2), (CHOSEN, true, 1)] {
            let [count, rows, cols] = SIDES;
            let dims = if transposed { [count, cols, rows] } else { SIDES };
            let w: Vec<f64> = random.array(&dims, -1.0, 1.0).iter().map(|w| f64::from(*w as f32)).collect();
            let base = graph(&dims, &w, body);
            let lora = Lora { targets: vec!["all-experts".into()], rank: 2, alpha: 3.0, ..Lora::default() };
            let targets = lora.select(&base).expect("a target");
            assert_eq!(
                targets,
                select(&base, &["?"])
                    .map(|mut by_name| {
                        by_name[0].pattern = "all-experts".into();
                        by_name
                    })
                    .expect("a target")
            );
            let matrix = targets[0].matrix().expect("a stack");
            assert_eq!(
                (matrix.transposed, matrix.products.len(), [matrix.rows, matrix.cols]),
                (transposed, products, [rows, cols])
            );
            assert_eq!(lora.param_count(&base, &targets), 2 * 2 * (3 + 4));

            let mut adapted = base.clone();
            let inserted = lora.insert(&mut adapted, &targets, Use::Train { tokens: Some(64) }).expect("inserts");
            let shapes: Vec<&[usize]> = inserted.params.iter().map(|p| p.dims.as_slice()).collect();
            assert_eq!(shapes, [[2, 2, 3], [2, 4, 2]]);
            let (a, b) = (random.array(&[2, 2, 3], -1.0, 1.0), random.array(&[2, 4, 2], -1.0, 1.0));
            let narrow = |x: &Array| x.iter().map(|x| *x as f32).collect::<Vec<f32>>();
            let w0 = base.weight(matrix.weight).expect("a weight");
            let bytes = fold_low_rank(&targets[0], w0, &narrow(&a), &narrow(&b), lora.scale()).expect("folds");
            let folded = Tensor::new(w0.dtype(), dims.to_vec(), bytes).expect("fits").to_f64().expect("reals");
            let folded = graph(&dims, &folded, body);

            let x = random.array(&[2, 5, 3], -1.0, 1.0);
            let feeds = [("x", x), ("w.lora_A", a), ("w.lora_B", b)];
            let run = |graph: &Graph, inputs: usize| evaluate(graph, &feeds[..inputs]).expect("runs").remove(0);
            let (before, got, want) = (run(&base, 1), run(&adapted, 3), run(&folded, 1));
            let far = |a: &Array, b: &Array| (a - b).iter().fold(0.0f64, |m, e| m.max(e.abs()));
            assert!(far(&got, &want) < 1e-5, "{body}: {got} is not {want}");
            assert!(far(&before, &want) > 0.1);
        }
    }

    #[test]
    fn a_stack_of_many_experts_is_followed_to_all_of_them() {
        let mut body = String::new();
        for i in 0..600 {
            body += &format!("%n{i} = weight \"n{i}\" i64[] = [{i}]\n%g{i} = Gather(%w, %n{i}, axis=0) : f32[2,2]\n");
            body += &format!("%t{i} = Transpose(%g{i}, perm=[1,0]) : f32[2,2]\n%p{i} = MatMul(%x, %t{i}) : f32[1,2]\n");
        }
        let sum: Vec<String> = (0..600).map(|i| format!("%p{i}")).collect();
        body += &format!("%y = Sum({}) : f32[1,2]", sum.join(", "));
        let text = format!("graph g(%x: f32[1,2]) -> %y {{ %w = weight \"w\" f32[600,2,2]\n{body} }}");
        let graph = parse(&text).expect("parses");
        let targets = select(&graph, &["all-experts"]).expect("a stack");
        let matrix = targets[0].matrix().expect("a stack");
        assert_eq!((matrix.products.len(), matrix.transposed), (600, true));
    }

    #[test]
    fn what_else_reads_a_stack_keeps_it_from_being_one() {
        for body in [
            "%p = MatMul(%x, %w) : f32[..]\n %z = Softplus(%w) : f32[..]\n %y = Add(%p, %z) : f32[..]",
            "%p = MatMul(%x, %w) : f32[..]\n %t = Transpose(%w) : f32[..]\n %z = MatMul(%t, %w) : f32[..]\n %y = Add(%p, %z) : f32[..]",
            "%z = MatMul(%x, %w) : f32[..]\n %y = Identity(%w) : f32[..]",
        ] {
            let text = format!("graph g(%x: f32[2,2,2]) -> %y {{ %w = weight \"w\" f32[2,2,2]\n{body} }}");
            let mut graph = parse(&text).expect("parses");
            infer(&mut graph).expect("infers");
            let error = select(&graph, &["all-experts"]).expect_err("is none").to_string();
            assert_eq!(error, "`all-experts` matches no stack of matrices", "{body}");
        }
    }

    #[test]
    fn a_stack_that_another_pattern_passes_over_is_told_and_settings_it_has_not_are_refused() {
        let body = "%v = weight \"v\" f32[4,2]\n %h = MatMul(%x, %w) : f32[..]\n %y = MatMul(%h, %v) : f32[..]";
        let base = graph(&SIDES, &[0.5; 24], body);
        assert!(left_out(&base, &["*"]).is_empty());
        let left: Vec<String> = left_out(&base, &["all-linear", "role:head"])
            .into_iter()
            .map(|l| format!("{} {}", l.name, l.why))
            .collect();
        assert_eq!(left, ["w a stack of matrices, as of experts: `all-experts` picks it, or its name"]);
        let lora =
            |dropout, freeze_a| Lora { targets: vec!["w".into()], rank: 2, dropout, freeze_a, ..Lora::default() };
        for (lora, says) in [(lora(0.1, false), "there is no dropout"), (lora(0.0, true), "there is no `freeze_a`")] {
            let error = lora.select(&base).expect_err("is refused").to_string();
            assert!(error.contains(says), "{error}");
        }
        let error = crate::Dora(lora(0.0, false)).select(&base).expect_err("is refused").to_string();
        assert!(error.contains("`w` is a stack of matrices, as of experts, for which there is no DoRA"), "{error}");
    }
}
