//! Parts of fused matrices: query, key and value in one weight, as exporters and models lay them out.

use lorac_ir::{Graph, Tensor};
use lorac_ops::{Array, Random, evaluate, infer};
use lorac_passes::{Lora, Method, NoMatch, Role, Target, Use, fold_low_rank, select};

fn lora() -> Lora {
    Lora { rank: 2, alpha: 3.0, ..Lora::default() }
}
/// Hidden size; two heads of two.
const WIDTH: usize = 4;

/// Attention over `%fused`, f32[B,S,12], which `body` splits into `%q`, `%k` and `%v`, f32[B,2,S,2].
fn attention(transposed: bool, body: &str, w: &[f64]) -> Graph {
    let (dims, product) = match transposed {
        false => ("4,12", "%h = MatMul(%x, %w) : f32[..]"),
        true => (
            "12,4",
            "%flat = weight \"flat\" i64[2] = [-1, 4]
            %f = Reshape(%x, %flat) : f32[..]
            %g = Gemm(%f, %w, transB=1) : f32[..]
            %s = Shape(%x, end=2) : i64[..]
            %twelve = weight \"twelve\" i64[1] = [12]
            %to = Concat(%s, %twelve, axis=0) : i64[..]
            %h = Reshape(%g, %to) : f32[..]",
        ),
    };
    let text = format!(
        "graph g(%x: f32[B,S,{WIDTH}]) -> %y {{
            %w = weight \"w\" f32[{dims}] = {w:?}
            %bias = weight \"bias\" f32[12] = [1, 2, 3, 4, 5, 6, 7, 8, 9, 1, 2, 3]
            {product}
            %fused = Add(%h, %bias) : f32[..]
            {body}
            %kt = Transpose(%k, perm=[0, 1, 3, 2]) : f32[..]
            %raw = MatMul(%q, %kt) : f32[..]
            %weights = Softmax(%raw, axis=-1) : f32[..]
            %y = MatMul(%weights, %v) : f32[..]
        }}"
    );
    let mut graph = lorac_ir::parse(&text).expect("parses");
    infer(&mut graph).expect("infers");
    graph
}

const HEADS: &str = "%heads = weight \"heads\" i64[4] = [0, 0, 2, 2]\n";

/// GPT-2: three thirds, split.
fn split() -> String {
    let parts = "%sizes = weight \"sizes\" i64[3] = [4, 4, 4]\n %a, %b, %c = Split(%fused, %sizes, axis=-1) : f32[..], f32[..], f32[..]";
    format!("{HEADS}{parts}{}", thirds())
}

/// Thirds, cut out one by one, the query scaled before.
fn cut() -> String {
    let cut = |name: &str, from: usize| {
        format!(
            "%{name}0 = weight \"{name}0\" i64[1] = [{from}]\n %{name}1 = weight \"{name}1\" i64[1] = [{}]\n \
             %{name} = Slice(%scaled, %{name}0, %{name}1, %last) : f32[..]\n",
            from + 4
        )
    };
    let head = "%last = weight \"last\" i64[1] = [2]\n %half = weight \"half\" f32[] = [0.5]\n %scaled = Mul(%fused, %half) : f32[..]\n";
    format!("{HEADS}{head}{}{}{}{}", cut("a", 0), cut("b", 4), cut("c", 8), thirds())
}

fn thirds() -> String {
    let one = |from: &str, to: &str| {
        format!(
            "\n%r{to} = Reshape(%{from}, %heads) : f32[..]\n %{to} = Transpose(%r{to}, perm=[0, 2, 1, 3]) : f32[..]"
        )
    };
    ["a", "b", "c"].iter().zip(["q", "k", "v"]).map(|(from, to)| one(from, to)).collect()
}

/// LLaMA's kin: query and key turned by their position, halves of a head against each other.
fn rotary() -> String {
    let one = |from: &str, to: &str| {
        format!(
            "\n%r{from} = Reshape(%{from}, %heads) : f32[..]\n %p{to} = Transpose(%r{from}, perm=[0, 2, 1, 3]) : f32[..]
            %l{to}, %u{to} = Split(%p{to}, axis=-1, num_outputs=2) : f32[..], f32[..]
            %n{to} = Neg(%u{to}) : f32[..]\n %o{to} = Concat(%n{to}, %l{to}, axis=-1) : f32[..]
            %c{to} = Mul(%p{to}, %cos) : f32[..]\n %s{to} = Mul(%o{to}, %sin) : f32[..]
            %{to} = Add(%c{to}, %s{to}) : f32[..]"
        )
    };
    let parts = "%sizes = weight \"sizes\" i64[3] = [4, 4, 4]\n %a, %b, %c = Split(%fused, %sizes, axis=-1) : f32[..], f32[..], f32[..]
        %table = weight \"table\" f32[4,2] = [1, 1, 0.9, 0.9, 0.8, 0.8, 0.7, 0.7]\n %zero = weight \"zero\" i64[1] = [0]
        %tokens = Shape(%x, start=1, end=2) : i64[..]\n %cos = Slice(%table, %zero, %tokens, %zero) : f32[..]
        %sin = Sin(%cos) : f32[..]
        %rv = Reshape(%c, %heads) : f32[..]\n %v = Transpose(%rv, perm=[0, 2, 1, 3]) : f32[..]";
    format!("{HEADS}{parts}{}{}", one("a", "q"), one("b", "k"))
}

/// Vision transformers: an axis of three, brought to the front.
fn in_front() -> String {
    let one = |i: usize, to: &str| {
        format!("%at{to} = weight \"at{to}\" i64[] = [{i}]\n %{to} = Gather(%moved, %at{to}, axis=0) : f32[..]\n")
    };
    let head = "%five = weight \"five\" i64[5] = [0, 0, 3, 2, 2]\n %r = Reshape(%fused, %five) : f32[..]\n \
                %moved = Transpose(%r, perm=[2, 0, 3, 1, 4]) : f32[..]\n";
    format!("{head}{}{}{}", one(0, "q"), one(1, "k"), one(2, "v"))
}

/// GPT-NeoX and BLOOM: an axis of three within every head.
fn in_heads() -> String {
    let one = |i: usize, to: &str| {
        format!(
            "%at{to} = weight \"at{to}\" i64[] = [{i}]\n %p{to} = Gather(%r, %at{to}, axis=3) : f32[..]\n \
             %{to} = Transpose(%p{to}, perm=[0, 2, 1, 3]) : f32[..]\n"
        )
    };
    let head = "%five = weight \"five\" i64[5] = [0, 0, 2, 3, 2]\n %r = Reshape(%fused, %five) : f32[..]\n";
    format!("{head}{}{}{}", one(0, "q"), one(1, "k"), one(2, "v"))
}

#[test]
fn a_part_is_adapted_and_folded_in_its_columns_only() {
    let mut random = Random(4);
    let interleaved = [vec![0, 1, 6, 7], vec![2, 3, 8, 9], vec![4, 5, 10, 11]];
    let thirds = [vec![0, 1, 2, 3], vec![4, 5, 6, 7], vec![8, 9, 10, 11]];
    for (layout, body, columns) in [
        ("split", split(), &thirds),
        ("cut", cut(), &thirds),
        ("rotary", rotary(), &thirds),
        ("front", in_front(), &thirds),
        ("heads", in_heads(), &interleaved),
    ] {
        for transposed in [false, true] {
            let w: Vec<f64> = random.array(&[48], -1.0, 1.0).iter().map(|w| f64::from(*w as f32)).collect();
            let base = attention(transposed, &body, &w);
            let targets = select(&base, &["role:query", "role:value"]).unwrap_or_else(|e| panic!("{layout}: {e:?}"));
            let found: Vec<_> = targets.iter().map(|t| (t.name(), t.slice.clone().expect("a slice").columns)).collect();
            let want = [("w.query".to_string(), columns[0].clone()), ("w.value".to_string(), columns[2].clone())];
            assert_eq!(found, want, "{layout}");

            let mut adapted = base.clone();
            let inserted = lora().insert(&mut adapted, &targets, Use::Verify).expect("inserts");
            infer(&mut adapted).expect("infers");
            assert_eq!(inserted.deltas.len(), 2);
            let x = random.array(&[2, 3, WIDTH], -1.0, 1.0);
            let mut feeds = vec![("x".to_string(), x)];
            let w0 = base.weight(targets[0].weight).expect("a weight");
            let mut folded = w0.clone();
            for target in &targets {
                let (a, b) = (random.array(&[2, WIDTH], -1.0, 1.0), random.array(&[4, 2], -1.0, 1.0));
                let narrow = |x: &Array| x.iter().map(|x| *x as f32).collect::<Vec<f32>>();
                let bytes = fold_low_rank(target, &folded, &narrow(&a), &narrow(&b), lora().scale()).expect("folds");
                folded = Tensor::new(w0.dtype(), w0.dims().to_vec(), bytes).expect("fits");
                feeds.extend([(target.name() + ".lora_A", a), (target.name() + ".lora_B", b)]);
            }
            let (before, after) = (w0.to_f64().expect("reals"), folded.to_f64().expect("reals"));
            for (i, (old, new)) in before.iter().zip(&after).enumerate() {
                let column = if transposed { i / WIDTH } else { i % 12 };
                assert_eq!(old != new, !columns[1].contains(&column), "{layout}: element {i} of column {column}");
            }
            let run = |graph: &Graph, inputs: usize| {
                let feeds: Vec<(&str, Array)> = feeds[..inputs].iter().map(|(n, a)| (n.as_str(), a.clone())).collect();
                evaluate(graph, &feeds).expect("runs").remove(0)
            };
            let (want, got) = (run(&attention(transposed, &body, &after), 1), run(&adapted, 5));
            let far = |a: &Array, b: &Array| (a - b).iter().fold(0.0f64, |m, e| m.max(e.abs()));
            assert!(far(&want, &got) < 1e-5, "{layout}: {want} is not {got}");
            assert!(far(&want, &run(&base, 1)) > 0.1);
        }
    }
}

#[test]
fn minus_zero_of_another_slice_stays() {
    let mut w = vec![0.5; 48];
    w[4] = -0.0;
    let base = attention(false, &split(), &w);
    let targets = select(&base, &["role:query"]).expect("a target");
    let w0 = base.weight(targets[0].weight).expect("a weight");
    let folded = fold_low_rank(&targets[0], w0, &[1.0; 8], &[1.0; 8], 1.0).expect("folds");
    assert_eq!(folded[16..32], w0.bytes()[16..32]);
    assert_ne!(folded[..16], w0.bytes()[..16]);
}

#[test]
fn a_matrix_that_is_picked_whole_has_no_slices_beside() {
    let base = attention(false, &split(), &[0.5; 48]);
    for patterns in [["w", "role:query"], ["role:query", "w"]] {
        let targets = select(&base, &patterns).expect("a target");
        let [target] = targets.as_slice() else { panic!("{targets:?}") };
        assert_eq!((target.slice.as_ref(), target.roles.len()), (None, 3));
    }
    let all = select(&base, &["role:value", "role:key", "role:query"]).expect("targets");
    let roles: Vec<Role> = all.iter().map(|t| t.slice.clone().expect("a slice").role).collect();
    assert_eq!(roles, [Role::Query, Role::Key, Role::Value]);
}

/// Every column goes to query and key: there is nothing to tell apart.
#[test]
fn columns_that_cannot_be_told_apart_are_refused_by_name() {
    let body = split().replace("%rk = Reshape(%b,", "%rk = Reshape(%a,");
    let wrong = select(&attention(false, &body, &[0.5; 48]), &["role:query"]).expect_err("refused");
    let [NoMatch::Fused { name, .. }] = wrong.0.as_slice() else { panic!("{wrong:?}") };
    assert_eq!(name, "w");
}

/// As many nodes in a row as nobody's model has: an answer, not the end of the stack.
#[test]
fn a_long_way_to_the_attention_is_given_up() {
    for (long, found) in [(100, true), (50_000, false)] {
        let mut body = split().replace("%q = Transpose(%rq", "%q0 = Transpose(%rq");
        for i in 0..long {
            let name = if i + 1 == long { "q".into() } else { format!("q{}", i + 1) };
            body += &format!("\n%{name} = Neg(%q{i}) : f32[..]");
        }
        let targets = select(&attention(false, &body, &[0.5; 48]), &["role:query"]);
        assert_eq!(targets.is_ok(), found, "{long}: {targets:?}");
    }
}

/// Two selections one after the other, as a program may join them.
#[test]
fn slices_need_not_stand_side_by_side() {
    let text = "graph g(%x: f32[N,2]) -> %y {
        %w = weight \"w\" f32[2,6] = [1, 2, 3, 4, 5, 6, 7, 8, 9, 1, 2, 3]
        %u = weight \"u\" f32[2,2] = [1, 2, 3, 4]
        %h = MatMul(%x, %w) : f32[..]
        %q, %k, %v = Split(%h, axis=-1, num_outputs=3) : f32[..], f32[..], f32[..]
        %kt = Transpose(%k, perm=[1, 0]) : f32[..]
        %raw = MatMul(%q, %kt) : f32[..]
        %weights = Softmax(%raw, axis=-1) : f32[..]
        %z = MatMul(%weights, %v) : f32[..]
        %y = MatMul(%z, %u) : f32[..]
    }";
    let mut base = lorac_ir::parse(text).expect("parses");
    infer(&mut base).expect("infers");
    let pick = |role: &str| select(&base, &[role]).expect("a target").remove(0);
    let [q, u, v] = ["role:query", "role:output", "role:value"].map(pick);
    let lora = Lora { rank: 1, alpha: 2.0, ..Lora::default() };
    let run = |targets: &[Target]| {
        let mut graph = base.clone();
        let inserted = lora.insert(&mut graph, targets, Use::Verify).expect("inserts");
        assert!(inserted.deltas.iter().map(|d| &d.target).eq(targets));
        infer(&mut graph).expect("infers");
        let mut feeds: Vec<(String, Array)> = vec![("x".into(), Random(2).array(&[3, 2], -1.0, 1.0))];
        for (i, t) in [&q, &u, &v].into_iter().enumerate() {
            let mut random = Random(7 + i as u64);
            feeds.push((t.name() + ".lora_A", random.array(&[1, 2], 0.5, 1.0)));
            feeds.push((t.name() + ".lora_B", random.array(&[2, 1], 0.5, 1.0)));
        }
        let feeds: Vec<(&str, Array)> = feeds.iter().map(|(n, a)| (n.as_str(), a.clone())).collect();
        evaluate(&graph, &feeds).expect("runs").remove(0)
    };
    let (beside, apart) = (run(&[q.clone(), v.clone(), u.clone()]), run(&[q.clone(), u.clone(), v.clone()]));
    assert!((&beside - &apart).iter().all(|e| e.abs() < 1e-12), "{beside} is not {apart}");
}

/// A file may repeat a value as often as it likes: that is not done to find out where its columns go.
#[test]
fn a_value_that_is_repeated_without_measure_is_given_up() {
    for (times, found) in [(3, true), (1_000_000_000, false)] {
        let body = split().replace("%q = Transpose(%rq", "%q0 = Transpose(%rq")
            + &format!(
                "\n%times = weight \"times\" i64[5] = [{times}, 1, 1, 1, 1]\n %many = Expand(%q0, %times) : f32[..]
                %first = weight \"first\" i64[] = [0]\n %q = Gather(%many, %first, axis=0) : f32[..]"
            );
        let targets = select(&attention(false, &body, &[0.5; 48]), &["role:query"]);
        assert_eq!(targets.is_ok(), found, "{times}: {targets:?}");
    }
}
