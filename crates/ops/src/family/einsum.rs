//! Sums of products by subscripts: Einsum.

use super::*;
use crate::Attribute::Str;
use crate::Operand::{Any, Floats};
use crate::{Backward, Val, case};
use lorac_ir::{Node, Tensor};
use std::collections::{BTreeMap, BTreeSet};

pub(super) const OPS: &[Op] = &[EINSUM];

const EINSUM: Op = Op {
    name: "Einsum",
    traits: Traits::NONE.projects(projection),
    inputs: (1, usize::MAX),
    infer: |c| match labelled(c)? {
        Some((equation, dims)) => {
            let dim = |label: &Label| dims.get(label).copied().unwrap_or(Dim::Unknown);
            one(Fact::new(c.dtype(), equation.result.iter().map(dim)))
        }
        None => one(Fact::unranked(c.dtype())),
    },
    eval,
    // A product of all operands for every choice of all subscripts: what no order of contraction exceeds.
    flops: |c, _| match labelled(c) {
        Ok(Some((_, dims))) => dims.values().fold(Dim::Known(c.inputs.len() as i64), |p, d| p * *d),
        _ => Dim::Unknown,
    },
    grad: Grad::rule(
        gradients,
        &[
            case(&[Any(&[2, 3]), Any(&[3, 4])]).with(&[("equation", Str("ij,jk->ik"))]),
            case(&[Any(&[2, 3, 4, 2]), Any(&[2, 5, 4, 2])]).with(&[("equation", Str("bihd,bjhd->bhij"))]),
            case(&[Any(&[2, 3]), Any(&[3, 4])]).with(&[("equation", Str(" kj, ji "))]),
            case(&[Any(&[2, 3]), Any(&[4, 3]), Any(&[2, 4])]).with(&[("equation", Str("ia,ja,ij->a"))]),
            case(&[Any(&[2, 2, 3]), Any(&[1, 3, 2])]).with(&[("equation", Str("...ij,...jk->...ik"))]),
            case(&[Any(&[2, 3, 4])]).with(&[("equation", Str("...ij->...ji"))]),
            case(&[Any(&[3, 3, 2])]).with(&[("equation", Str("iij->j"))]),
            case(&[Any(&[2, 3, 3])]).with(&[("equation", Str("...ii->...i"))]),
            case(&[Any(&[2, 3])]).with(&[("equation", Str("ij->"))]),
            case(&[Any(&[2, 3]), Any(&[4])]).with(&[("equation", Str("ij,k->ik"))]),
            case(&[Any(&[3]), Any(&[3])]).with(&[("equation", Str("i,i"))]),
            case(&[Any(&[]), Any(&[3]), Floats(&[], &[2.0])]).with(&[("equation", Str(",i,->i"))]),
            case(&[Any(&[2, 3]), Any(&[1, 3])]).with(&[("equation", Str("ij,ij->j"))]),
        ],
    ),
    ..UNARY
};

/// A subscript: an axis that an ellipsis stands for, counted from its end, or a letter.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Label {
    Ellipsis(usize),
    Letter(char),
}

/// The labels of every operand's axes and of the result's.
#[derive(Debug, PartialEq)]
struct Equation {
    terms: Vec<Vec<Label>>,
    result: Vec<Label>,
}

/// How long the axes of every label are.
type Lengths = BTreeMap<Label, Dim>;

/// The labels of one term; `axes` is how many its ellipsis stands for.
fn term(text: &str, axes: usize) -> Result<Vec<Label>, String> {
    let letters = |part: &str| match part.chars().find(|c| !c.is_ascii_alphabetic()) {
        Some(c) => Err(format!("letters, not `{c}`")),
        None => Ok(part.chars().map(Label::Letter).collect::<Vec<_>>()),
    };
    let Some((before, after)) = text.split_once("...") else { return letters(text) };
    let ellipsis: Vec<Label> = (0..axes).rev().map(Label::Ellipsis).collect();
    Ok([letters(before)?, ellipsis, letters(after)?].concat())
}

/// The equation for operands of the given ranks; otherwise what it should have been.
fn parse(text: &str, ranks: &[usize]) -> Result<Equation, String> {
    let text: String = text.chars().filter(|c| !c.is_whitespace()).collect();
    let (operands, result) = match text.split_once("->") {
        Some((operands, result)) => (operands, Some(result)),
        None => (text.as_str(), None),
    };
    let texts: Vec<&str> = operands.split(',').collect();
    if texts.len() != ranks.len() {
        return Err(format!("{} terms", ranks.len()));
    }
    let mut terms = Vec::new();
    let mut widest = 0;
    for (text, rank) in texts.iter().zip(ranks) {
        let letters = term(text, 0)?.len();
        let axes = if text.contains("...") { rank.checked_sub(letters) } else { (letters == *rank).then_some(0) };
        let axes = axes.ok_or_else(|| format!("{rank} subscripts in `{text}`"))?;
        widest = widest.max(axes);
        terms.push(term(text, axes)?);
    }
    let mut counts: BTreeMap<Label, usize> = BTreeMap::new();
    terms.iter().flatten().for_each(|label| *counts.entry(*label).or_default() += 1);
    let result = match result {
        Some(result) => term(result, widest)?,
        // Implicitly: what the ellipses stand for, then the letters that stand once, sorted.
        None => {
            let once = counts.iter().filter(|(label, n)| matches!(label, Label::Letter(_)) && **n == 1);
            (0..widest).rev().map(Label::Ellipsis).chain(once.map(|(label, _)| *label)).collect()
        }
    };
    let mut seen = BTreeSet::new();
    if !result.iter().all(|label| counts.contains_key(label) && seen.insert(label)) {
        return Err("a result of different subscripts of the operands".into());
    }
    Ok(Equation { terms, result })
}

/// The second of two operands as the weight of a projection: the first one's last subscripts are summed over, what is left
/// of the second one's follows what is left of the first one's.
fn projection(node: &Node, slot: usize, rank: usize) -> Option<Projection> {
    if slot != 1 || node.inputs.len() != 2 {
        return None;
    }
    let text: String = node.str("equation")?.chars().filter(|c| !c.is_whitespace()).collect();
    let (operands, result) = text.split_once("->")?;
    let (x, w) = operands.split_once(',')?;
    if w.contains([',', '.']) || w.len() != rank {
        return None;
    }
    let once = |text: &str| text.chars().all(|c| c == '.' || text.matches(c).count() == 1);
    (1..rank).find_map(|at| {
        let plain = (Projection { transposed: false, summed: at }, w.split_at(at));
        let (out, summed) = w.split_at(rank - at);
        let turned = (Projection { transposed: true, summed: at }, (summed, out));
        [plain, turned].into_iter().find_map(|(how, (summed, out))| {
            let rows = x.strip_suffix(summed)?;
            let fits = !rows.is_empty() && result == format!("{rows}{out}") && once(result) && once(summed);
            (fits && !summed.chars().any(|c| result.contains(c))).then_some(how)
        })
    })
}

/// The equation, and the length of every label; `None` where a rank is unknown.
fn labelled(c: &Ctx) -> Result<Option<(Equation, Lengths)>, InferError> {
    let ranks: Option<Vec<usize>> = (0..c.inputs.len()).map(|slot| c.fact(slot).rank()).collect();
    let Some(ranks) = ranks else { return Ok(None) };
    let text = c.node.str("equation").unwrap_or_default();
    let equation = parse(text, &ranks).map_err(|want| InferError::Attribute {
        name: "equation",
        got: format!("`{text}`"),
        want,
    })?;
    let mut dims = Lengths::new();
    for (slot, term) in equation.terms.iter().enumerate() {
        let fact = c.fact(slot);
        for (label, d) in term.iter().zip(fact.dims().unwrap_or_default()) {
            let before = dims.get(label).copied().unwrap_or(Dim::Known(1));
            let both = crate::infer::broadcast(&Fact::new(fact.dtype, [before]), &Fact::new(fact.dtype, [*d]));
            let merged = both.map_err(|_| InferError::Mismatch(c.fact(0), fact.clone()))?;
            dims.extend(merged.into_iter().flatten().map(|d| (*label, d)));
        }
    }
    Ok(Some((equation, dims)))
}

/// Every choice of subscripts in turn, its product added where the result's subscripts say.
fn eval(a: &Args) -> EvalResult {
    let operands = (0..a.inputs.len()).map(|slot| a.x(slot)).collect::<Result<Vec<_>, _>>()?;
    let ranks: Vec<usize> = operands.iter().map(|x| x.ndim()).collect();
    let equation = parse(a.node.str("equation").unwrap_or_default(), &ranks)
        .map_err(|want| EvalError::Invalid(format!("the equation should have {want}")))?;
    let mut dims: BTreeMap<Label, usize> = BTreeMap::new();
    for (x, term) in operands.iter().zip(&equation.terms) {
        for (label, n) in term.iter().zip(x.shape()) {
            match dims.insert(*label, *n) {
                Some(m) if m != *n && *n == 1 => drop(dims.insert(*label, m)),
                Some(m) if m != *n && m != 1 => return invalid(format!("a subscript of lengths {m} and {n}")),
                _ => {}
            }
        }
    }
    let labels: Vec<(Label, usize)> = dims.iter().map(|(label, n)| (*label, *n)).collect();
    let shape: Vec<usize> = equation.result.iter().filter_map(|label| dims.get(label).copied()).collect();
    // How far one step of each label moves in an operand; not at all along an axis of length one.
    let steps = |term: &[Label], shape: &[usize]| -> Vec<usize> {
        let mut steps = vec![0; labels.len()];
        let mut stride = 1;
        for (label, n) in term.iter().zip(shape).rev() {
            if let Some(at) = labels.iter().position(|(l, _)| l == label)
                && *n != 1
            {
                steps[at] += stride;
            }
            stride *= n;
        }
        steps
    };
    let moves: Vec<Vec<usize>> = operands.iter().zip(&equation.terms).map(|(x, t)| steps(t, x.shape())).collect();
    let result_moves = steps(&equation.result, &shape);
    let data: Vec<Vec<f64>> = operands.iter().map(|x| x.iter().copied().collect()).collect();
    let mut y = vec![0.0; shape.iter().product()];
    let mut at = vec![0usize; labels.len()];
    let place = |at: &[usize], moves: &[usize]| at.iter().zip(moves).map(|(i, m)| i * m).sum::<usize>();
    let mut more = labels.iter().all(|(_, n)| *n > 0);
    while more {
        let product: f64 =
            data.iter().zip(&moves).map(|(x, m)| x.get(place(&at, m)).copied().unwrap_or(f64::NAN)).product();
        if let Some(sum) = y.get_mut(place(&at, &result_moves)) {
            *sum += product;
        }
        more = false;
        for (i, (_, n)) in at.iter_mut().zip(&labels).rev() {
            *i += 1;
            if *i < *n {
                more = true;
                break;
            }
            *i = 0;
        }
    }
    if a.dtype(0).is_int() {
        y.iter_mut().for_each(|x| *x = integer::wrapped(a.dtype(0), *x as i128));
    }
    Ok(vec![Array::from_shape_vec(shape, y)?])
}

/// Operands of all gradients of a node together: each is a product of all other operands.
const MOST_FACTORS: usize = 1 << 20;

/// The gradient of an operand is another Einsum: of the result's gradient and the other operands.
fn gradients<'e, 'g>(b: &Backward<'e, 'g>) -> Vec<Option<Val<'e, 'g>>> {
    let ranks: Vec<usize> = b.x.iter().map(|x| x.rank()).collect();
    let text = b.node.str("equation").unwrap_or_default();
    let asked = (0..b.x.len()).filter(|slot| b.wants(*slot)).count();
    if asked.saturating_mul(b.x.len()) > MOST_FACTORS {
        let (got, want) = (format!("of {} operands", b.x.len()), "fewer operands, as several nodes".into());
        b.emit.fail(InferError::Attribute { name: "equation", got, want });
        return Vec::new();
    }
    let mut free = ('A'..='Z').chain('a'..='z').filter(|c| !text.contains(*c));
    let parsed = parse(text, &ranks).and_then(|equation| {
        // Without ellipses, whose axes are broadcast, every axis of a gradient has a name.
        let mut names: BTreeMap<Label, char> = BTreeMap::new();
        for label in equation.terms.iter().flatten() {
            let name = match label {
                Label::Letter(c) => *c,
                Label::Ellipsis(_) if names.contains_key(label) => continue,
                Label::Ellipsis(_) => free.next().ok_or("fewer axes")?,
            };
            names.insert(*label, name);
        }
        let named = |term: &Vec<Label>| term.iter().filter_map(|l| names.get(l).copied()).collect::<Vec<char>>();
        Ok((equation.terms.iter().map(named).collect::<Vec<_>>(), named(&equation.result)))
    });
    match parsed {
        Ok((terms, result)) => {
            let free: Vec<char> = free.collect();
            (0..b.x.len()).map(|slot| b.want(slot, || gradient(b, slot, &terms, &result, &free))).collect()
        }
        Err(want) => {
            b.emit.fail(InferError::Attribute { name: "equation", got: format!("`{text}`"), want });
            Vec::new()
        }
    }
}

fn gradient<'e, 'g>(
    b: &Backward<'e, 'g>,
    slot: usize,
    terms: &[Vec<char>],
    result: &[char],
    free: &[char],
) -> Val<'e, 'g> {
    let (e, x) = (b.emit, b.x[slot]);
    let mut factors = vec![(b.gy, result.to_vec())];
    factors.extend(b.x.iter().zip(terms).enumerate().filter(|(i, _)| *i != slot).map(|(_, (x, t))| (*x, t.clone())));
    let length = |x: Val, term: &[char], c: char| {
        let at = term.iter().position(|t| *t == c)?;
        x.fact().dims()?.get(at).copied()
    };
    let mut free = free.iter();
    let mut target: Vec<char> = Vec::new();
    for (axis, c) in terms[slot].iter().enumerate() {
        if target.contains(c) {
            // A diagonal: only where both subscripts agree.
            let Some(fresh) = free.next() else {
                let got = format!("`{}`", b.node.str("equation").unwrap_or_default());
                return e.fail(InferError::Attribute { name: "equation", got, want: "fewer letters".into() });
            };
            factors.push((delta(b, x, axis), vec![*c, *fresh]));
            target.push(*fresh);
            continue;
        }
        // A subscript that nothing else certainly spans was summed over in this operand alone. The gradient of the
        // result spans all it has.
        let own = x.fact().dims().and_then(|d| d.get(axis).copied()).unwrap_or(Dim::Unknown);
        let covers = |d: Dim| own == Dim::Known(1) || d.same(own) || d.known().is_some_and(|n| n != 1);
        let spans = |(v, term): &(Val, Vec<char>)| {
            let dim = length(*v, term, *c).unwrap_or(Dim::Unknown);
            term.contains(c) && (v.id() == b.gy.id() || covers(dim))
        };
        if !factors.iter().any(spans) {
            factors.push((ones(b, x, axis), vec![*c]));
        }
        target.push(*c);
    }
    let (scalars, factors): (Vec<_>, Vec<_>) = factors.into_iter().partition(|(_, term)| term.is_empty());
    let scale = scalars.into_iter().map(|(v, _)| v).reduce(|p, v| p * v);
    let product = match factors.as_slice() {
        [] => None,
        [(v, term)] if *term == target => Some(*v),
        factors => {
            let words: Vec<String> = factors.iter().map(|(_, term)| term.iter().collect()).collect();
            let equation = format!("{}->{}", words.join(","), target.iter().collect::<String>());
            let operands: Vec<Val> = factors.iter().map(|(v, _)| *v).collect();
            Some(e.op("Einsum", &operands, &[("equation", equation.as_str().into())]))
        }
    };
    [product, scale].into_iter().flatten().reduce(|p, v| p * v).unwrap_or(b.gy)
}

/// As many ones as the axis is long.
fn ones<'e, 'g>(b: &Backward<'e, 'g>, x: Val<'e, 'g>, axis: usize) -> Val<'e, 'g> {
    let one = Tensor::from_f64(b.gy.fact().dtype, &[1], &[1.0]);
    let attrs: Vec<(&str, lorac_ir::Attr)> = one.into_iter().map(|t| ("value", t.into())).collect();
    b.emit.op("ConstantOfShape", &[x.lens(axis..axis + 1)], &attrs)
}

/// The identity matrix as wide as the axis is long.
fn delta<'e, 'g>(b: &Backward<'e, 'g>, x: Val<'e, 'g>, axis: usize) -> Val<'e, 'g> {
    let e = b.emit;
    let positions = x.positions(axis);
    let column = positions.binary("Unsqueeze", e.ints(&[1]));
    column.binary("Equal", positions).cast(b.gy.fact().dtype)
}

#[cfg(test)]
mod tests {
    use super::*;
    use Label::{Ellipsis, Letter};

    #[test]
    fn an_implicit_result_is_sorted() {
        let equation = parse("b...a, ...cb", &[3, 4]).expect("parses");
        assert_eq!(equation.result, [Ellipsis(1), Ellipsis(0), Letter('a'), Letter('c')]);
        assert_eq!(equation.terms[0], [Letter('b'), Ellipsis(0), Letter('a')]);
    }

    /// Every operand looking at every other would not end.
    #[test]
    fn hundreds_of_thousands_of_operands() {
        let count = 200_000;
        let equation = parse(&format!("{},ik", vec!["ij"; count].join(",")), &vec![2; count + 1]).expect("parses");
        assert_eq!(equation.result, [Letter('k')]);
        let operands = vec!["%x"; count].join(", ");
        let text = format!(
            "graph g(%x: f32[2,3]) -> %y {{ %y = Einsum({operands}, equation=\"{}->j\") : f32[..] }}",
            vec!["ij"; count].join(",")
        );
        let mut graph = lorac_ir::parse(&text).expect("parses");
        crate::infer(&mut graph).expect("infers");
        let (_, node) = graph.nodes().next().expect("a node");
        assert!((0..count).all(|slot| projection(node, slot, 2).is_none()));
    }

    #[test]
    fn gradients_that_are_too_many_products_of_too_many_are_refused() {
        let gradients_of = |count: usize, wanted: usize| {
            let (operands, terms) = (vec!["%x"; count].join(", "), vec!["ij"; count].join(","));
            let node = format!("%y = Einsum({operands}, equation=\"{terms}->ij\") : f32[2,3]");
            let text = format!("graph g(%x: f32[2,3], %gy: f32[2,3]) -> %y {{ {node} }}");
            let mut graph = lorac_ir::parse(&text).expect("parses");
            let shape_data = crate::infer(&mut graph).expect("infers");
            let (_, node) = graph.nodes().next().expect("a node");
            let emit = crate::Emit::new(&graph, &shape_data, "test");
            let gy = emit.val(graph.find("gy").expect("an input"));
            crate::apply_rule(&emit, node, vec![Some(gy)], (0..count).map(|slot| slot < wanted).collect());
            emit.finish().map(|_| ()).map_err(|e| e.to_string())
        };
        assert_eq!(gradients_of(2000, 1), Ok(()));
        let said = gradients_of(2000, 2000).expect_err("refused");
        assert!(said.contains("of 2000 operands") && said.contains("fewer operands"), "{said}");
    }

    #[test]
    fn wrong_equations_say_what_is_expected() {
        assert_eq!(parse("ij->ij", &[2, 2]), Err("2 terms".into()));
        assert_eq!(parse("ij->ij", &[3]), Err("3 subscripts in `ij`".into()));
        assert_eq!(parse("i1->i", &[2]), Err("letters, not `1`".into()));
        let result = Err("a result of different subscripts of the operands".into());
        assert_eq!(parse("ij->ii", &[2]), result);
        assert_eq!(parse("ij->ik", &[2]), result);
    }
}
