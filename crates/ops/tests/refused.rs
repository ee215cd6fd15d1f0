//! What cannot be right is refused with a reason, and what a file asks for costs no more than it should.

mod common;

use common::{differentiated, lowered};
use lorac_ir::{Dim, parse};
use lorac_ops::{Array, InferError, evaluate, infer};

fn refused(text: &str, slot: usize, why: &str) {
    let graph = parse(text).expect("parses");
    match lowered(&graph) {
        Err(InferError::Operand { slot: got, want, .. }) => {
            assert_eq!(got, slot, "{text}");
            assert!(want.contains(why), "{text}: {want}");
        }
        other => panic!("{text}: {:?}", other.err()),
    }
}

#[test]
fn masks_of_packed_sequences() {
    for (batch, masks) in [("2", ["8", "5", "1"].as_slice()), ("N", ["3*N+2"].as_slice())] {
        for mask in masks {
            let multi = format!(
                "graph g opset 20 (%q: f32[{batch},3,4], %k: f32[{batch},5,4], %m: i32[{mask}]) -> %y \
                 {{ %y = com.microsoft.MultiHeadAttention(%q, %k, %k, _, %m, num_heads=2) : f32[..] }}"
            );
            refused(&multi, 4, "packed sequences");
            let packed = format!(
                "graph g opset 20 (%x: f32[{batch},3,4], %w: f32[4,12], %b: f32[12], %m: i32[{mask}]) -> %y \
                 {{ %y = com.microsoft.Attention(%x, %w, %b, %m, num_heads=2) : f32[..] }}"
            );
            refused(&packed, 3, "packed sequences");
        }
    }
}

#[test]
fn masks_of_rank_4() {
    let text = "graph g opset 20 (%q: f32[2,3,4], %k: f32[2,5,4], %m: i32[2,1,3,5]) -> %y \
                { %y = com.microsoft.MultiHeadAttention(%q, %k, %k, _, %m, num_heads=2) : f32[..] }";
    refused(text, 4, "rank 1 to 3");
}

#[test]
fn biases_of_keys_that_are_heads() {
    let text = "graph g opset 20 (%q: f32[2,3,4], %k: f32[2,2,5,2], %b: f32[12]) -> %y \
                { %y = com.microsoft.MultiHeadAttention(%q, %k, %k, %b, num_heads=2) : f32[..] }";
    refused(text, 3, "absent");
}

#[test]
fn blocks_that_are_no_whole_bytes() {
    let text = "graph g opset 20 (%x: f32[2,4]) -> %y {
        %b = weight \"b\" u8[3,4,0]
        %s = weight \"s\" f32[3,4]
        %y = com.microsoft.MatMulNBits(%x, %b, %s, K=4, N=3, bits=4, block_size=1) : f32[2,3]
    }";
    refused(text, 1, "fits K, N and block_size");
}

#[test]
fn gradients_of_unknown_rank_for_operands_that_were_broadcast() {
    let unknown = parse("graph g opset 20 (%x: f32[2,3], %w: f32[..]) -> %y { %y = Add(%x, %w) : f32[..] }");
    let why = differentiated(&unknown.expect("parses")).expect_err("what was broadcast").to_string();
    assert!(why.contains("a known rank"), "{why}");
    let both = parse("graph g opset 20 (%x: f32[..]) -> %y { %y = Tanh(%x) : f32[..] }").expect("parses");
    differentiated(&both).expect("nothing was broadcast");
}

#[test]
fn contents_of_narrow_integers_wrap() {
    let text = "graph g opset 20 () -> %sum, %less, %minus {
        %a = weight \"a\" u8[1] = [200]
        %b = weight \"b\" u8[1] = [100]
        %low = weight \"low\" i8[1] = [-128]
        %s = Add(%a, %b) : u8[1]
        %sum = Cast(%s, to=7) : i64[1]
        %l = Sub(%b, %a) : u8[1]
        %less = Cast(%l, to=7) : i64[1]
        %m = Neg(%low) : i8[1]
        %minus = Cast(%m, to=7) : i64[1]
    }";
    let mut graph = parse(text).expect("parses");
    let shape_data = infer(&mut graph).expect("infers");
    let computed = evaluate(&graph, &[]).expect("evaluates");
    for ((name, want), computed) in [("sum", 44), ("less", 156), ("minus", -128)].into_iter().zip(computed) {
        let value = graph.find(name).expect("there");
        assert_eq!(computed[[0]], want as f64, "{name}");
        assert_eq!(shape_data.get(value).map(Vec::as_slice), Some([Dim::Known(want)].as_slice()), "{name}");
    }
}

#[test]
fn a_long_axis_is_cut_without_being_listed() {
    for (cut, left) in [("[0]", 1_000_000_000_000i64), ("[7]", 999_999_999_993)] {
        let text = format!(
            "graph g opset 20 (%x: f32[1000000000000]) -> %y {{
                %s = weight \"s\" i64[1] = {cut}
                %e = weight \"e\" i64[1] = [9223372036854775807]
                %y = Slice(%x, %s, %e) : f32[..]
            }}"
        );
        let mut graph = parse(&text).expect("parses");
        infer(&mut graph).expect("infers");
        assert_eq!(graph.fact(graph.outputs()[0]).dims(), Some([Dim::Known(left)].as_slice()));
    }
}

#[test]
fn pads_at_the_ends_of_their_type() {
    for (mode, pads) in [
        ("constant", "[-9223372036854775808, 0]"),
        ("edge", "[-9223372036854775808, 0]"),
        ("reflect", "[0, 9223372036854775807]"),
        ("constant", "[4611686018427387904, 0]"),
    ] {
        let text = format!(
            "graph g opset 20 (%x: f32[3]) -> %y {{
                %p = weight \"p\" i64[2] = {pads}
                %y = Pad(%x, %p, mode=\"{mode}\") : f32[..]
            }}"
        );
        let graph = parse(&text).expect("parses");
        match evaluate(&graph, &[("x", Array::zeros(vec![3]))]) {
            Ok(y) => assert!(y[0].is_empty() && pads.starts_with("[-"), "{text}"),
            Err(why) => assert!(!pads.starts_with("[-") && why.to_string().contains("too large"), "{text}: {why}"),
        }
    }
}

#[test]
fn regions_of_no_length() {
    for shape in ["[-1, 2]", "[2, 0]"] {
        let text = format!(
            "graph g opset 20 (%x: f32[1,1,4,4], %r: f32[1,5]) -> %y \
             {{ %y = MaxRoiPool(%x, %r, pooled_shape={shape}) : f32[..] }}"
        );
        let mut graph = parse(&text).expect("parses");
        let data = [("x", Array::zeros(vec![1, 1, 4, 4])), ("r", Array::zeros(vec![1, 5]))];
        assert!(evaluate(&graph, &data).is_err_and(|e| e.to_string().contains("pooled_shape")), "{shape}");
        let why = infer(&mut graph).expect_err("lengths of at least 1").to_string();
        assert!(why.contains("at least 1"), "{why}");
    }
}

/// Scales that only the run knows give the gradient of scales that are known: lengths are rounded, and do not tell them.
#[test]
fn scales_known_to_the_run_only() {
    let data = [1.0, 1.0, 1.5];
    let resize = "Resize(%x, _, %s, mode=\"linear\", coordinate_transformation_mode=\"asymmetric\") : f64[..]";
    let known =
        format!("graph g opset 20 (%x: f64[1,2,5]) -> %y {{ %s = weight \"s\" f32[3] = [1, 1, 1.5]\n %y = {resize} }}");
    let at_run_time = format!("graph g opset 20 (%x: f64[N,2,5], %s: f32[3]) -> %y {{ %y = {resize} }}");
    let known = differentiated(&parse(&known).expect("parses")).expect("a gradient");
    let at_run_time = differentiated(&parse(&at_run_time).expect("parses")).expect("a gradient");
    let x = Array::zeros(vec![1, 2, 5]);
    let gy = Array::from_shape_fn(vec![1, 2, 7], |at| (1 + at[1] * 7 + at[2] * at[2]) as f64);
    let s = Array::from_shape_vec(vec![3], data.to_vec()).expect("fits");
    let inputs = [("x", x), ("gy0", gy), ("s", s)];
    let (want, got) = (evaluate(&known, &inputs).expect("evaluates"), evaluate(&at_run_time, &inputs));
    let got = got.expect("evaluates");
    assert_eq!(got[0].shape(), want[0].shape());
    assert!(got[0].iter().zip(&want[0]).all(|(a, b)| (a - b).abs() < 1e-9), "{} is not {}", got[0], want[0]);
}

#[test]
fn axes_of_no_elements_that_are_to_be_resized() {
    let text = "graph g opset 20 (%x: f32[0,1,3,4]) -> %y {
        %sizes = weight \"sizes\" i64[4] = [1, 1, 5, 2]
        %y = Resize(%x, _, _, %sizes, coordinate_transformation_mode=\"align_corners\", mode=\"linear\") : f32[..]
    }";
    let mut graph = parse(text).expect("parses");
    let told = infer(&mut graph).expect_err("refused").to_string();
    assert!(told.contains("axis 0 of no elements cannot become 1"), "{told}");
}

#[test]
fn codes_name_the_fault_and_not_where_it_is() {
    let code = |text: &str| infer(&mut parse(text).expect("parses")).expect_err("refused").code();
    let one = "%y = MatMul(%x, %x) : f32[2,2]";
    assert_eq!(code(&format!("graph g(%x: f32[2,3]) -> %y {{ {one} }}")), "infer::mismatch");
    let two = "%z = Relu(%x, %x) : f32[2,3]";
    assert_eq!(code(&format!("graph g(%x: f32[2,3]) -> %y, %z {{ {two}\n {one} }}")), "infer::arity", "the first");
    let failed = evaluate(
        &parse("graph g(%x: f32[2]) -> %y { %y = Odd(%x) : f32[2] }").expect("parses"),
        &[("x", Array::zeros(vec![2]))],
    );
    assert_eq!(failed.expect_err("unknown").code(), "eval::unknown_operator");
}

#[test]
fn results_with_negative_dimensions() {
    for (rows, node) in [
        ("N", "Reshape(%x, %s) : f32[..]"),
        ("1", "Expand(%x, %s) : f32[..]"),
        ("4", "Tile(%x, %s) : f32[..]"),
        ("4", "ConstantOfShape(%s) : f32[..]"),
    ] {
        let text = format!(
            "graph g opset 20 (%x: f32[{rows},3]) -> %y {{
                %s = weight \"s\" i64[2] = [-2, 3]
                %y = {node}
            }}"
        );
        let found = infer(&mut parse(&text).expect("parses"));
        assert_eq!(found.as_ref().err().map(InferError::code), Some("infer::negative_dim"), "{node}: {found:?}");
    }
}

#[test]
fn windows_that_are_too_long_to_be_sliced() {
    let text = "graph g opset 20 (%x: f32[1,8519682,4]) -> %y {
        %image = weight \"image\" i64[1] = [8519685]
        %block = weight \"block\" i64[1] = [8519682]
        %y = Col2Im(%x, %image, %block) : f32[..]
    }";
    let found = differentiated(&parse(text).expect("parses"));
    assert!(matches!(&found, Err(InferError::Attribute { name: "kernel_shape", .. })), "{:?}", found.err());
}
