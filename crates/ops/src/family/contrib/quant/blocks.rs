//! Numbers of a few bits, packed into bytes from the low bits on.

use super::*;

/// How many numbers of `bits` bits a byte holds, where it holds a whole number of them.
pub(super) fn per_byte(bits: i64) -> Option<usize> {
    matches!(bits, 1 | 2 | 4 | 8).then(|| 8 / bits as usize)
}

/// The numbers of `bits` bits in a row of bytes, in order.
pub(super) fn unpacked(bytes: &[u8], bits: i64) -> Vec<u8> {
    let per = per_byte(bits).unwrap_or(1);
    let mask = if bits >= 8 { u8::MAX } else { (1u8 << bits) - 1 };
    bytes.iter().flat_map(|b| (0..per).map(move |i| (b >> (i * 8 / per)) & mask)).collect()
}

/// Number `i` of a row that starts at byte `start` of `packed`.
pub(super) fn one_of(packed: &Array, start: usize, i: usize, bits: i64) -> Option<f64> {
    let per = per_byte(bits)?;
    let byte = *packed.iter().nth(start + i / per)? as u64;
    Some(((byte >> ((i % per) as i64 * bits)) & ((1 << bits) - 1)) as f64)
}

/// The attribute, where it is at least 1.
pub(super) fn size(node: &lorac_ir::Node, name: &str) -> Result<usize, EvalError> {
    match usize::try_from(node.int(name, 0)) {
        Ok(n) if n > 0 => Ok(n),
        _ => invalid(format!("{name} is at least 1")),
    }
}
