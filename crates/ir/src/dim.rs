//! Symbolic dimensions: integer polynomials over named symbols, interned.

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::sync::{LazyLock, RwLock};

/// An interned polynomial over named symbols, such as `N`, `12*N` or `S+1`. Equal polynomials have equal ids.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SymId(u32);

/// One dimension of a shape, or one element of an integer vector that describes a shape.
/// `Known` is negative only in the second role (`-1` in the target of a Reshape).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Dim {
    /// A number.
    Known(i64),
    /// A polynomial over named symbols.
    Sym(SymId),
    /// Nothing is known, not even that two unknowns are equal.
    Unknown,
}

/// Sorted symbol names of a monomial (`N*N*S`); the empty one is the constant term.
type Monomial = Vec<String>;
type Poly = BTreeMap<Monomial, i64>;

#[derive(Default)]
struct Table {
    polys: Vec<Poly>,
    ids: HashMap<Poly, u32>,
}

// Symbols live in one table for the whole process, so that a Dim stays Copy and means the same in a graph and in
// the training copy derived from it.
static TABLE: LazyLock<RwLock<Table>> = LazyLock::new(RwLock::default);

/// Terms of a polynomial, and symbols of a term. What is longer describes no shape that anybody declared, and is unknown:
/// sums of products grow faster than the file that asks for them.
const MAX_TERMS: usize = 128;
const MAX_DEGREE: usize = 16;

fn poly_of(dim: Dim) -> Option<Poly> {
    match dim {
        Dim::Known(0) => Some(Poly::new()),
        Dim::Known(n) => Some(Poly::from([(Monomial::new(), n)])),
        Dim::Sym(id) => {
            let table = TABLE.read().unwrap_or_else(|e| e.into_inner());
            table.polys.get(id.0 as usize).cloned()
        }
        Dim::Unknown => None,
    }
}

fn intern(mut poly: Poly) -> Dim {
    poly.retain(|_, c| *c != 0);
    if poly.is_empty() {
        return Dim::Known(0);
    }
    if let (1, Some(&n)) = (poly.len(), poly.get(&Monomial::new())) {
        return Dim::Known(n);
    }
    let mut table = TABLE.write().unwrap_or_else(|e| e.into_inner());
    if let Some(&id) = table.ids.get(&poly) {
        return Dim::Sym(SymId(id));
    }
    let id = table.polys.len() as u32;
    table.polys.push(poly.clone());
    table.ids.insert(poly, id);
    Dim::Sym(SymId(id))
}

fn combine(a: Dim, b: Dim, f: impl Fn(Poly, Poly) -> Option<Poly>) -> Dim {
    match (poly_of(a), poly_of(b)) {
        (Some(a), Some(b)) => f(a, b).map_or(Dim::Unknown, intern),
        _ => Dim::Unknown,
    }
}

impl Dim {
    /// The dimension called `name` (ONNX `dim_param`).
    pub fn named(name: &str) -> Dim {
        intern(Poly::from([(vec![name.to_string()], 1)]))
    }

    /// The number, where it is one.
    pub fn known(self) -> Option<i64> {
        match self {
            Dim::Known(n) => Some(n),
            _ => None,
        }
    }

    /// Whether both are certainly the same number: `Unknown` equals nothing.
    pub fn same(self, other: Dim) -> bool {
        self == other && self != Dim::Unknown
    }

    /// `self / other` where the division leaves no remainder for any value of the symbols.
    pub fn div_exact(self, other: Dim) -> Option<Dim> {
        match (self, other) {
            (Dim::Known(a), Dim::Known(b)) => return (a.checked_rem(b) == Some(0)).then(|| Dim::Known(a / b)),
            (a, Dim::Known(1)) if a != Dim::Unknown => return Some(a),
            _ => {}
        }
        let (a, b) = (poly_of(self)?, poly_of(other)?);
        if b.len() != 1 {
            return (a == b && !b.is_empty()).then_some(Dim::Known(1));
        }
        let (den, coeff) = b.iter().next()?;
        let mut out = Poly::new();
        for (mono, c) in &a {
            let mut rest = mono.clone();
            for name in den {
                rest.remove(rest.iter().position(|n| n == name)?);
            }
            out.insert(rest, c.checked_div(*coeff).filter(|_| c.checked_rem(*coeff) == Some(0))?);
        }
        Some(intern(out))
    }

    /// The value once every symbol has the number that `bind` gives it.
    pub fn eval(self, bind: &dyn Fn(&str) -> Option<i64>) -> Option<i64> {
        poly_of(self)?.iter().try_fold(0i64, |sum, (mono, c)| {
            let product = mono.iter().try_fold(*c, |p, name| p.checked_mul(bind(name)?))?;
            sum.checked_add(product)
        })
    }

    /// The symbol's name, if the dimension is exactly one named symbol.
    pub fn name(self) -> Option<String> {
        let poly = poly_of(self)?;
        match poly.iter().next() {
            Some((mono, 1)) if poly.len() == 1 && mono.len() == 1 => mono.first().cloned(),
            _ => None,
        }
    }

    /// Reads what `Display` writes: `?`, `64`, `N`, `2*N+1`.
    pub fn parse(text: &str) -> Option<Dim> {
        let text = text.trim();
        if text == "?" {
            return Some(Dim::Unknown);
        }
        let mut sum = Dim::Known(0);
        for term in text.split('+') {
            let mut product = Dim::Known(1);
            for factor in term.split('*').map(str::trim) {
                let dim = match factor.parse::<i64>() {
                    Ok(n) => Dim::Known(n),
                    Err(_) if is_symbol(factor) => Dim::named(factor),
                    Err(_) => return None,
                };
                product = product * dim;
            }
            sum = sum + product;
        }
        Some(sum)
    }
}

fn is_symbol(s: &str) -> bool {
    !s.is_empty()
        && !s.starts_with(|c: char| c.is_ascii_digit())
        && s.chars().all(|c| c.is_alphanumeric() || matches!(c, '_' | '.' | ':' | '/' | '-' | '<' | '>'))
}

impl std::ops::Add for Dim {
    type Output = Dim;
    fn add(self, other: Dim) -> Dim {
        match (self, other) {
            (Dim::Known(a), Dim::Known(b)) => return a.checked_add(b).map_or(Dim::Unknown, Dim::Known),
            (Dim::Known(0), x) | (x, Dim::Known(0)) => return x,
            _ => {}
        }
        combine(self, other, |mut a, b| {
            for (mono, c) in b {
                let sum = a.entry(mono).or_default();
                *sum = sum.checked_add(c)?;
            }
            (a.len() <= MAX_TERMS).then_some(a)
        })
    }
}

impl std::ops::Mul for Dim {
    type Output = Dim;
    fn mul(self, other: Dim) -> Dim {
        match (self, other) {
            (Dim::Known(a), Dim::Known(b)) => return a.checked_mul(b).map_or(Dim::Unknown, Dim::Known),
            (Dim::Known(1), x) | (x, Dim::Known(1)) => return x,
            _ => {}
        }
        if self == Dim::Known(0) || other == Dim::Known(0) {
            return Dim::Known(0);
        }
        combine(self, other, |a, b| {
            let degree = |poly: &Poly| poly.keys().map(Vec::len).max().unwrap_or(0);
            if degree(&a) + degree(&b) > MAX_DEGREE {
                return None;
            }
            let mut out = Poly::new();
            for (m, x) in &a {
                if out.len() > MAX_TERMS {
                    return None;
                }
                for (n, y) in &b {
                    let mut mono = [m.as_slice(), n.as_slice()].concat();
                    mono.sort();
                    let sum = out.entry(mono).or_default();
                    *sum = sum.checked_add(x.checked_mul(*y)?)?;
                }
            }
            (out.len() <= MAX_TERMS).then_some(out)
        })
    }
}

impl std::ops::Sub for Dim {
    type Output = Dim;
    fn sub(self, other: Dim) -> Dim {
        self + other * Dim::Known(-1)
    }
}

impl From<i64> for Dim {
    fn from(n: i64) -> Dim {
        Dim::Known(n)
    }
}

impl From<usize> for Dim {
    fn from(n: usize) -> Dim {
        Dim::Known(n as i64)
    }
}

impl fmt::Display for Dim {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Some(poly) = poly_of(*self) else {
            return f.write_str("?");
        };
        if poly.is_empty() {
            return f.write_str("0");
        }
        for (i, (mono, c)) in poly.iter().rev().enumerate() {
            if i > 0 {
                f.write_str("+")?;
            }
            match (mono.is_empty(), c) {
                (true, c) => write!(f, "{c}")?,
                (false, 1) => f.write_str(&mono.join("*"))?,
                (false, c) => write!(f, "{c}*{}", mono.join("*"))?,
            }
        }
        Ok(())
    }
}

impl fmt::Debug for Dim {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl fmt::Debug for SymId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&Dim::Sym(*self), f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_polynomials_are_equal_dims() {
        let (n, s) = (Dim::named("N"), Dim::named("S"));
        assert_eq!(n * s * Dim::Known(12), Dim::Known(3) * s * (n * Dim::Known(4)));
        assert_eq!(n + s - n, s);
        assert_ne!(n, s);
        assert!(!Dim::Unknown.same(Dim::Unknown));
        assert_eq!((n + Dim::Unknown) * Dim::Known(0), Dim::Known(0));
    }

    #[test]
    fn exact_division_only_where_nothing_remains() {
        let (n, s) = (Dim::named("N"), Dim::named("S"));
        assert_eq!((n * s * Dim::Known(384)).div_exact(n * Dim::Known(12)), Some(s * Dim::Known(32)));
        assert_eq!((n * Dim::Known(5)).div_exact(Dim::Known(2)), None);
        assert_eq!(n.div_exact(s), None);
        assert_eq!((n + s).div_exact(n + s), Some(Dim::Known(1)));
        assert_eq!(n.div_exact(Dim::Known(0)), None);
    }

    #[test]
    fn text_round_trips() {
        for text in ["?", "64", "0", "N", "12*N", "N*S+-1"] {
            let dim = Dim::parse(text).expect(text);
            assert_eq!(Dim::parse(&dim.to_string()), Some(dim), "{text}");
        }
        assert_eq!(Dim::parse("2*"), None);
    }

    #[test]
    fn a_quotient_that_no_i64_holds_is_none() {
        let n = Dim::named("N");
        assert_eq!((n * Dim::Known(i64::MIN)).div_exact(Dim::Known(-1)), None);
        assert_eq!(Dim::Known(i64::MIN).div_exact(Dim::Known(-1)), None);
        assert_eq!((n * Dim::Known(6)).div_exact(Dim::Known(-2)), Some(n * Dim::Known(-3)));
    }

    #[test]
    fn what_grows_beyond_shapes_is_unknown() {
        let sum = |n: usize| (0..n).map(|i| Dim::named(&format!("n{i}"))).fold(Dim::Known(0), |a, b| a + b);
        assert_ne!(sum(MAX_TERMS), Dim::Unknown);
        assert_eq!(sum(MAX_TERMS + 1), Dim::Unknown);
        assert_eq!(sum(40) * sum(40), Dim::Unknown);
        let power = |n: usize| (0..n).fold(Dim::Known(1), |a, _| a * Dim::named("n0"));
        assert_ne!(power(MAX_DEGREE), Dim::Unknown);
        assert_eq!(power(MAX_DEGREE + 1), Dim::Unknown);
    }

    #[test]
    fn eval_binds_symbols_and_refuses_overflow() {
        let d = Dim::named("N") * Dim::named("N") + Dim::Known(1);
        assert_eq!(d.eval(&|_| Some(5)), Some(26));
        assert_eq!(d.eval(&|_| Some(i64::MAX)), None);
        assert_eq!(d.eval(&|_| None), None);
    }
}
