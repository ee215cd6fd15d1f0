//! The text form: what golden tests, dumps and errors are written in. [`print()`](print()) and [`parse`] round-trip, weights over
//! [`INLINE`] elements excepted, whose data is left out and read back as zeros.

mod escape;
mod lex;
mod parse;
mod print;

pub use escape::{escape_control, is_control};
pub use parse::{ParseError, parse};
pub use print::print;

/// Weights of at most this many elements are printed with their data.
pub(crate) const INLINE: usize = 16;

/// Characters of a label that needs no quotes.
pub(crate) fn is_label_char(c: char) -> bool {
    c.is_alphanumeric() || matches!(c, '_' | '.' | '/' | ':' | '-')
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Attr, Tensor, verify};
    use proptest::prelude::*;

    const SAMPLE: &str = r#"graph sample opset 17 (%x: f32[N,2*S], %"461": i64[?], %u: f32[..]) -> %y, %"odd name" {
  %onnx::MatMul_4 = weight "onnx::MatMul_4" f32[64,64]
  %eps = weight "eps" f32[2] = [1e-5, inf]
  %shape = weight "shape" i64[2] = [-1, 64]
  %"b:" = weight "b:" f32[] = [1]
  %7 = Reshape(%x, %shape, allowzero=0) : f32[N,64]   # from lora
  %y, %mean = LayerNormalization(%7, %onnx::MatMul_4, _, axis=-1, epsilon=1e-5) : f32[N,64], f32[N,1]
  %"odd name" = com.microsoft.FastGelu(%7, empty=[], mode="x", names=["a", "b\"c"], perm=[1, 0], scales=[0.5, 1.0]) : f32[N,64]   # from lower of "/encoder/Gelu"
}
"#;

    #[test]
    fn sample_round_trips() {
        let g = parse(SAMPLE).expect("parses");
        assert_eq!(verify(&g), []);
        assert_eq!(print(&g), SAMPLE);
        let x = g.find("eps").and_then(|v| g.weight(v)).map(Tensor::to_vec::<f32>);
        assert_eq!(x, Some(Ok(vec![1e-5, f32::INFINITY])));
        let y = g.find("y").and_then(|v| g.producer(v)).expect("y").1;
        assert_eq!((y.input(2), y.int("axis", 0)), (None, -1));
        assert_eq!(y.attrs.get("epsilon"), Some(&Attr::Float(1e-5)));
        assert!(g.value_bound() >= 8, "numbered labels keep new ids clear of them");
    }

    #[test]
    fn names_do_nothing_to_a_terminal_and_read_back() {
        let name = "\u{1b}[2J\u{9b}31m\r\u{202e}x\\u{1b}";
        let mut g = crate::Graph::new(name, 17);
        let fact = crate::Fact::new(crate::DType::F32, [crate::Dim::named("\u{1b}c")]);
        let x = g.add_input(name, fact.clone()).expect("x");
        let origin = crate::Origin { pass: "lora".into(), source: name.into() };
        let attrs = crate::Attrs::from([("mode".into(), Attr::Str(name.into()))]);
        let y = g.add_node("Relu".into(), vec![Some(x)], attrs, vec![("y", fact)], origin).expect("y");
        g.set_outputs(y).expect("set");
        let text = print(&g);
        assert!(!text.contains(is_control), "{text:?}");
        assert!(text.contains(r"\u{1b}[2J\u{9b}31m\u{d}\u{202e}x\\u{1b}"), "{text}");
        let back = parse(&text.replace(r"f32[\u{1b}c]", "f32[N]")).expect("parses");
        assert_eq!((back.name.as_str(), back.name_of(back.inputs()[0]).as_str()), (name, name));
        let (_, node) = back.producer(back.outputs()[0]).expect("a node");
        assert_eq!((node.attrs.get("mode"), &*node.origin.source), (Some(&Attr::Str(name.into())), name));
    }

    #[test]
    fn errors_say_where() {
        for (text, want) in [
            ("graph g(%x: f32[4]) -> %y {\n}", "1:24: `%y` is not defined"),
            ("graph g(%x: f33[4]) -> %x { }", "1:13: `f33` is not an element type"),
            ("graph g() {\n  %a = Relu(%b) : f32[1]\n}", "2:13: `%b` is not defined"),
            ("graph g(%x: f32[4]) -> %x {\n  %x = Relu(%x) : f32[4]\n}", "2:3: the name `x` is defined twice"),
            ("graph g() {\n  %w = weight \"w\" f32[2] = [1]\n}", "2:15: f32[2] needs 8 bytes, got 4"),
            (
                "graph g() {\n  %w = weight \"w\" f32[3,9223372036854775807] = [1]\n}",
                "2:15: f32[3,9223372036854775807] needs more than 2^64 bytes, got 4",
            ),
            ("graph g() -> {", "1:14: expected a value, found `{`"),
        ] {
            let got = parse(text).expect_err(text).to_string();
            assert_eq!(got, want, "{text}");
        }
    }

    proptest! {
        #[test]
        fn never_panics(text in "(graph|g|%[a-z0-9]|[(){}\\[\\]=,:_<>\"# \n]|f32|weight|opset|->|-?[0-9]+){0,40}") {
            let _ = parse(&text);
        }

        #[test]
        fn printed_graphs_parse_to_themselves(cut in 0usize..SAMPLE.len(), with in "[ -~]{0,3}") {
            if SAMPLE.is_char_boundary(cut) {
                let text = format!("{}{with}{}", &SAMPLE[..cut], &SAMPLE[cut..]);
                if let Ok(g) = parse(&text) {
                    let once = print(&g);
                    prop_assert_eq!(print(&parse(&once).expect("own output parses")), once);
                }
            }
        }
    }
}
