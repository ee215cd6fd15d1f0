//! Text: RegexFullMatch StringConcat StringNormalizer StringSplit TfIdfVectorizer.

use super::*;
use lorac_ir::{Attr, Node};

pub(super) const OPS: &[Op] = &[REGEX_FULL_MATCH, STRING_CONCAT, STRING_NORMALIZER, STRING_SPLIT, TF_IDF_VECTORIZER];

const TEXT: Op =
    Op { since: 20, eval: |_| invalid("strings are not evaluated"), grad: Grad::Zero("text has no gradient"), ..MOVES };

const REGEX_FULL_MATCH: Op =
    Op { name: "RegexFullMatch", infer: |c| one(Fact { dtype: DType::Bool, ..c.fact(0) }), ..TEXT };

const STRING_CONCAT: Op = Op { name: "StringConcat", inputs: (2, 2), infer: |c| pair(c, DType::Str), ..TEXT };

const STRING_NORMALIZER: Op = Op {
    name: "StringNormalizer",
    since: 13,
    // How many words are left is known at run time only.
    infer: |c| {
        let mut fact = c.fact(0);
        fact.shape.iter_mut().filter_map(|s| s.last_mut()).for_each(|d| *d = Dim::Unknown);
        one(fact)
    },
    ..TEXT
};

const STRING_SPLIT: Op = Op {
    name: "StringSplit",
    outputs: (2, 2),
    infer: |c| {
        let x = c.fact(0);
        let parts = x.dims().map(|d| [d, &[Dim::Unknown]].concat());
        Ok(vec![Fact { dtype: DType::Str, shape: parts }.into(), Fact { dtype: DType::I64, ..x }.into()])
    },
    ..TEXT
};

/// Words that follow each other, as numbers, and where they are counted.
struct Gram<'a> {
    words: &'a [i64],
    place: usize,
    weight: f64,
}

/// The pool of the attributes, of numbers.
fn grams(node: &Node) -> Option<Vec<Gram<'_>>> {
    let (pool, starts) = (node.ints("pool_int64s")?, node.ints("ngram_counts")?);
    let places = node.ints("ngram_indexes")?;
    let weights = match node.attrs.get("weights") {
        Some(Attr::Floats(w)) => w.as_slice(),
        _ => &[],
    };
    let mut grams = Vec::new();
    for (n, start) in starts.iter().enumerate() {
        let end = starts.get(n + 1).copied().unwrap_or(pool.len() as i64);
        let part = pool.get(usize::try_from(*start).ok()?..usize::try_from(end).ok()?)?;
        for words in part.chunks_exact(n + 1) {
            let place = usize::try_from(*places.get(grams.len())?).ok()?;
            let weight = weights.get(grams.len()).map_or(1.0, |w| f64::from(*w));
            grams.push(Gram { words, place, weight });
        }
    }
    Some(grams)
}

const TF_IDF_VECTORIZER: Op = Op {
    name: "TfIdfVectorizer",
    since: 13,
    infer: |c| {
        let width = c
            .node
            .ints("ngram_indexes")
            .and_then(|v| v.iter().max())
            .map_or(Dim::Unknown, |n| n.checked_add(1).filter(|n| *n >= 0).map_or(Dim::Unknown, Dim::Known));
        let shape = c.dims(0).and_then(|d| Some([d.get(..d.len().checked_sub(1)?)?, &[width]].concat()));
        one(Fact { dtype: DType::F32, shape })
    },
    eval: |a| {
        let x = a.x(0)?;
        let Some(grams) = grams(a.node) else { return invalid("a pool of numbers with one index for each n-gram") };
        let width = grams.iter().map(|g| g.place.saturating_add(1)).max().unwrap_or(0);
        let Some((words, outer)) = x.shape().split_last() else { return invalid("TfIdfVectorizer of a scalar") };
        affordable(&[x.len(), width])?;
        let attribute = |name: &str| usize::try_from(a.node.int(name, 0)).unwrap_or(0);
        let lengths = attribute("min_gram_length")..=attribute("max_gram_length");
        let skips = attribute("max_skip_count").min(*words);
        let flat: Vec<f64> = x.iter().copied().collect();
        let mut y = Vec::new();
        for row in 0..outer.iter().product() {
            let row = flat.get(row * words..(row + 1) * words).unwrap_or_default();
            let (mut counts, mut weights) = (vec![0.0; width], vec![1.0; width]);
            for gram in grams.iter().filter(|g| lengths.contains(&g.words.len())) {
                // A single word skips nothing.
                let skips = if gram.words.len() == 1 { 0 } else { skips };
                let found = |start: usize, step: usize| {
                    let mut words = gram.words.iter().enumerate();
                    words.all(|(k, w)| row.get(start + k * step) == Some(&(*w as f64)))
                };
                let all = (1..=skips + 1).flat_map(|step| (0..row.len()).map(move |start| (start, step)));
                counts[gram.place] += all.filter(|(start, step)| found(*start, *step)).count() as f64;
                weights[gram.place] = gram.weight;
            }
            let scored = counts.iter().zip(&weights).map(|(count, weight)| match a.node.str("mode") {
                Some("IDF") => count.min(1.0) * weight,
                Some("TFIDF") => count * weight,
                _ => *count,
            });
            y.extend(scored);
        }
        Ok(vec![Array::from_shape_vec([outer, &[width]].concat(), y)?])
    },
    grad: Grad::Zero("counts of words have no gradient"),
    ..TEXT
};
