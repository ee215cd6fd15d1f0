//! Tokens that are made once: what rows became is kept in the cache, by what it was made of.

use crate::output::hex;
use crate::source::{Resolver, SourceError};
use lorac_data::{Cell, DataError, Encodings, Inputs, Row, Tokenizer};
use sha2::{Digest, Sha256};
use std::path::{Path, PathBuf};

/// The folder of the cache.
const FOLDER: &str = "tokens";

/// The file of an entry: the tokens, and the sum of what is before it.
const FILE: &str = "tokens.bin";

/// Bytes of a sum.
const SUM: usize = 32;

/// Texts of fewer bytes are not kept unasked: they are tokenized in less time than it takes to look.
const UNASKED: usize = 4 << 20;

/// What rows become, from the cache where the same rows became tokens by the same tokenizer in the same way; whether it was. Where
/// the cache cannot be used it is made as if there was none. `asked` is what the pipeline says: else large texts are kept.
///
/// # Errors
/// As [`Encode::encode`].
pub(super) fn encode(
    inputs: &Inputs,
    rows: &[Row],
    tokenizer: Option<&Tokenizer>,
    asked: Option<bool>,
    resolver: &Resolver,
) -> Result<(Encodings, bool), DataError> {
    let made = || inputs.encode(rows, tokenizer);
    let keeps = || asked.unwrap_or_else(|| rows.iter().flat_map(Row::cells).map(size).sum::<usize>() >= UNASKED);
    let Some(tokenizer) = tokenizer.filter(|_| asked != Some(false) && inputs.reads_texts() && keeps()) else {
        return made().map(|made| (made, false));
    };
    let Some(key) = key(inputs, rows, tokenizer) else { return made().map(|made| (made, false)) };
    let below = PathBuf::from(FOLDER).join(key);
    for _ in 0..2 {
        let mut fresh = None;
        let built = resolver.build(&below, FILE, "tokens", |folder| {
            let made = fresh.insert(made().map_err(Unkept::Data)?);
            let mut bytes = made.to_bytes().ok_or(Unkept::Nothing)?;
            bytes.extend(Sha256::digest(&bytes));
            std::fs::write(folder.join(FILE), bytes).map_err(|_| Unkept::Nothing)
        });
        match (fresh, built) {
            (_, Err(Unkept::Data(error))) => return Err(error),
            (Some(made), _) => return Ok((made, false)),
            (None, Err(Unkept::Nothing)) => break,
            (None, Ok(found)) => match read(&found.path) {
                Some(kept) => return Ok((kept, true)),
                // What is damaged is made anew.
                None if std::fs::remove_file(&found.path).is_ok() => {}
                None => break,
            },
        }
    }
    made().map(|made| (made, false))
}

/// Why tokens are not kept.
enum Unkept {
    /// They could not be made.
    Data(DataError),
    /// The cache, or a kind of example, does not allow it.
    Nothing,
}

impl From<SourceError> for Unkept {
    fn from(_: SourceError) -> Unkept {
        Unkept::Nothing
    }
}

/// The tokens of a file, where its sum is right.
fn read(path: &Path) -> Option<Encodings> {
    let bytes = std::fs::read(path).ok()?;
    let (tokens, sum) = bytes.split_at_checked(bytes.len().checked_sub(SUM)?)?;
    if Sha256::digest(tokens).as_slice() != sum {
        return None;
    }
    Encodings::from_bytes(tokens)
}

/// The sum of all that tokens depend on; none where they depend on more.
fn key(inputs: &Inputs, rows: &[Row], tokenizer: &Tokenizer) -> Option<String> {
    let inputs = serde_json::to_string(inputs).ok()?;
    let tokenizer = tokenizer.identity()?;
    // A template may ask for the time.
    if [&inputs, &tokenizer].iter().any(|text| text.contains("strftime_now")) {
        return None;
    }
    let mut sum = Sha256::new();
    let mut put = |bytes: &[u8]| {
        sum.update((bytes.len() as u64).to_le_bytes());
        sum.update(bytes);
    };
    for text in [env!("CARGO_PKG_VERSION"), &inputs, &tokenizer] {
        put(text.as_bytes());
    }
    for row in rows {
        let mut columns = 0;
        for (column, cell) in row.columns().iter().zip(row.cells()) {
            columns += 1;
            put(column.as_bytes());
            put(cell.kind().as_bytes());
            match cell {
                Cell::Text(text) | Cell::Integer(text) | Cell::Fraction(text) | Cell::Other { text, .. } => {
                    put(text.as_bytes());
                }
                Cell::Bool(value) => put(&[u8::from(*value)]),
                Cell::Null => put(&[]),
                Cell::Array(_) => return None,
            }
        }
        put(&[columns as u8]);
    }
    Some(hex(&sum.finalize()))
}

fn size(cell: &Cell) -> usize {
    match cell {
        Cell::Text(text) | Cell::Other { text, .. } => text.len(),
        _ => 0,
    }
}
