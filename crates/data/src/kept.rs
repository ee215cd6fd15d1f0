//! Examples of tokens as bytes, to be kept and read again to the bit.

use crate::encode::{Encodings, LostWords};
use crate::encoded::Measure;
use crate::example::{Example, Field, LABELS};

/// Begins the bytes, with the version of their form.
const MAGIC: &[u8] = b"lorac tokens 1\n";

/// The fields that encoders of texts make.
const NAMES: [&str; 4] = ["input_ids", "token_type_ids", "decoder_input_ids", LABELS];

impl Encodings {
    /// As bytes; none where anything but tokens is in it, or a row was refused.
    #[must_use]
    pub fn to_bytes(&self) -> Option<Vec<u8>> {
        if !self.refused.is_empty() {
            return None;
        }
        let mut out = MAGIC.to_vec();
        let like: &[(&str, Field)] = self.examples.first().map_or(&[], |first| &first.fields);
        let counts =
            [self.left_out, self.words.lost, self.words.empty, self.measures.len(), self.examples.len(), like.len()];
        counts.into_iter().for_each(|count| out.extend((count as u64).to_le_bytes()));
        for (name, field) in like {
            let (kind, pad) = kind(field)?;
            let name = NAMES.iter().position(|known| known == name)?;
            out.extend([u8::try_from(name).ok()?, kind]);
            out.extend(pad.to_le_bytes());
        }
        for Measure { tokens, unknown, lost, more } in &self.measures {
            for count in [*tokens, *unknown, *lost] {
                out.extend(u32::try_from(count).ok()?.to_le_bytes());
            }
            out.push(u8::from(*more));
        }
        for example in &self.examples {
            let names =
                |example: &Example| example.fields.iter().map(|(name, field)| Some((*name, kind(field)?))).collect();
            let own: Option<Vec<_>> = names(example);
            if own.is_none() || own != self.examples.first().and_then(names) {
                return None;
            }
            for (_, field) in &example.fields {
                match field {
                    Field::Tokens { ids, .. } | Field::Answer { ids, .. } => write(ids, &mut out)?,
                    Field::Texts { ids, .. } => {
                        out.extend(u32::try_from(ids.len()).ok()?.to_le_bytes());
                        ids.iter().try_for_each(|ids| write(ids, &mut out))?;
                    }
                    _ => return None,
                }
            }
        }
        Some(out)
    }

    /// What [`Encodings::to_bytes`] made these bytes of; none where they are others.
    #[must_use]
    pub fn from_bytes(bytes: &[u8]) -> Option<Encodings> {
        let mut rest = Bytes(bytes.strip_prefix(MAGIC)?);
        let mut count = || usize::try_from(rest.u64()?).ok();
        let (left_out, words) = (count()?, LostWords { lost: count()?, empty: count()? });
        let (measures, examples, fields) = (count()?, count()?, count()?);
        let mut like = Vec::new();
        for _ in 0..fields {
            let [name, kind] = rest.array()?;
            like.push((*NAMES.get(usize::from(name))?, kind, i64::from_le_bytes(rest.array()?)));
        }
        if like.is_empty() && examples > 0 {
            return None;
        }
        let mut made = Encodings { left_out, words, ..Encodings::default() };
        for _ in 0..measures {
            let [tokens, unknown, lost] = [rest.u32()?, rest.u32()?, rest.u32()?].map(|count| count as usize);
            made.measures.push(Measure { tokens, unknown, lost, more: rest.array::<1>()? != [0] });
        }
        for _ in 0..examples {
            let mut fields = Vec::with_capacity(like.len());
            for (name, kind, pad) in &like {
                let pad = *pad;
                let field = match kind {
                    0 => Field::Tokens { ids: rest.ids()?, pad },
                    1 => Field::Answer { ids: rest.ids()?, pad },
                    2 => {
                        let texts = rest.u32()?;
                        Field::Texts { ids: (0..texts).map(|_| rest.ids()).collect::<Option<_>>()?, pad }
                    }
                    _ => return None,
                };
                fields.push((*name, field));
            }
            made.examples.push(Example { fields });
        }
        rest.0.is_empty().then_some(made)
    }
}

/// A number for the kind of a field of tokens, and what pads it.
fn kind(field: &Field) -> Option<(u8, i64)> {
    match field {
        Field::Tokens { pad, .. } => Some((0, *pad)),
        Field::Answer { pad, .. } => Some((1, *pad)),
        Field::Texts { pad, .. } => Some((2, *pad)),
        _ => None,
    }
}

fn write(ids: &[i64], out: &mut Vec<u8>) -> Option<()> {
    out.extend(u32::try_from(ids.len()).ok()?.to_le_bytes());
    ids.iter().try_for_each(|id| i32::try_from(*id).ok().map(|id| out.extend(id.to_le_bytes())))
}

/// Bytes that are still to be read.
struct Bytes<'a>(&'a [u8]);

impl Bytes<'_> {
    fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (first, rest) = self.0.split_first_chunk::<N>()?;
        self.0 = rest;
        Some(*first)
    }

    fn u32(&mut self) -> Option<u32> {
        self.array().map(u32::from_le_bytes)
    }

    fn u64(&mut self) -> Option<u64> {
        self.array().map(u64::from_le_bytes)
    }

    fn ids(&mut self) -> Option<Vec<i64>> {
        let length = (self.u32()? as usize).checked_mul(4)?;
        let (ids, rest) = self.0.split_at_checked(length)?;
        self.0 = rest;
        Some(ids.as_chunks::<4>().0.iter().map(|id| i64::from(i32::from_le_bytes(*id))).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::DataError;

    fn made() -> Encodings {
        let example = |ids: &[i64]| Example {
            fields: vec![
                ("input_ids", Field::Texts { ids: vec![ids.to_vec(), vec![7]], pad: 9 }),
                ("decoder_input_ids", Field::Answer { ids: ids.to_vec(), pad: 1 }),
                (LABELS, Field::Tokens { ids: vec![-100; ids.len()], pad: -100 }),
            ],
        };
        let measure = |tokens| Measure { tokens, unknown: 1, lost: 70_000, more: tokens > 2 };
        Encodings {
            examples: vec![example(&[4, 5, 6]), example(&[])],
            measures: vec![measure(3), measure(0)],
            left_out: 12,
            words: LostWords { lost: 3, empty: 4 },
            refused: Vec::new(),
        }
    }

    fn same(a: &Encodings, b: &Encodings) -> bool {
        (&a.examples, &a.measures, a.left_out, a.words) == (&b.examples, &b.measures, b.left_out, b.words)
    }

    #[test]
    fn what_is_kept_comes_back_and_nothing_else_does() {
        let (made, nothing) = (made(), Encodings::default());
        for made in [&made, &nothing] {
            let bytes = made.to_bytes().expect("tokens alone");
            assert!(same(&Encodings::from_bytes(&bytes).expect("the same"), made));
            for end in 0..bytes.len() {
                assert!(Encodings::from_bytes(&bytes[..end]).is_none(), "{end} of {}", bytes.len());
            }
            assert!(Encodings::from_bytes(&[&bytes[..], &[0]].concat()).is_none());
        }
        let huge = [MAGIC, &[255; 48]].concat();
        assert!(Encodings::from_bytes(&huge).is_none());
    }

    #[test]
    fn what_is_no_tokens_is_not_kept() {
        let with = |field: (&'static str, Field)| {
            let mut made = made();
            made.examples[1].fields[2] = field;
            made.to_bytes()
        };
        assert!(with((LABELS, Field::Real(0.5))).is_none());
        assert!(with((LABELS, Field::Tokens { ids: vec![1 << 40], pad: -100 })).is_none());
        assert!(with((LABELS, Field::Tokens { ids: vec![1], pad: 0 })).is_none(), "another padding");
        assert!(with(("input_ids", Field::Tokens { ids: vec![1], pad: -100 })).is_none());
        let refused = Encodings { refused: vec![(0, DataError::NoClasses)], ..made() };
        assert!(refused.to_bytes().is_none());
    }
}
