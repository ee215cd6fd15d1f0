//! Quantized elements, as `ggml-common.h` lays out their blocks: small integers with factors that a block shares.

use half::f16;

/// A layout of blocks, by ggml's name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Blocks {
    Q4_0,
    Q4_1,
    Q5_0,
    Q5_1,
    Q8_0,
    Q4K,
    Q5K,
    Q6K,
}

/// Elements of the blocks with one factor.
const SMALL: usize = 32;
/// Elements of the blocks whose parts have factors of their own.
const LARGE: usize = 256;

impl Blocks {
    /// Elements and bytes of a block.
    pub(crate) fn size(self) -> (usize, usize) {
        match self {
            Blocks::Q4_0 => (SMALL, 18),
            Blocks::Q4_1 => (SMALL, 20),
            Blocks::Q5_0 => (SMALL, 22),
            Blocks::Q5_1 => (SMALL, 24),
            Blocks::Q8_0 => (SMALL, 34),
            Blocks::Q4K => (LARGE, 144),
            Blocks::Q5K => (LARGE, 176),
            Blocks::Q6K => (LARGE, 210),
        }
    }

    /// The elements of whole blocks, as little-endian f32.
    pub(crate) fn elements(self, bytes: &[u8]) -> Vec<[u8; 4]> {
        match self {
            Blocks::Q4_0 => each(bytes, |b: &[u8; 18], y: &mut [f32; SMALL]| {
                let d = half(b, 0);
                nibbles(&b[2..], |i, q| y[i] = d * (f32::from(q) - 8.0));
            }),
            Blocks::Q4_1 => each(bytes, |b: &[u8; 20], y: &mut [f32; SMALL]| {
                let (d, m) = (half(b, 0), half(b, 2));
                nibbles(&b[4..], |i, q| y[i] = d * f32::from(q) + m);
            }),
            Blocks::Q5_0 => each(bytes, |b: &[u8; 22], y: &mut [f32; SMALL]| {
                let d = half(b, 0);
                nibbles(&b[6..], |i, q| y[i] = d * (f32::from(q | fifth(&b[2..], i)) - 16.0));
            }),
            Blocks::Q5_1 => each(bytes, |b: &[u8; 24], y: &mut [f32; SMALL]| {
                let (d, m) = (half(b, 0), half(b, 2));
                nibbles(&b[8..], |i, q| y[i] = d * f32::from(q | fifth(&b[4..], i)) + m);
            }),
            Blocks::Q8_0 => each(bytes, |b: &[u8; 34], y: &mut [f32; SMALL]| {
                let d = half(b, 0);
                y.iter_mut().zip(&b[2..]).for_each(|(y, q)| *y = d * f32::from(*q as i8));
            }),
            Blocks::Q4K => each(bytes, |b: &[u8; 144], y| four_to_five(b, &[0; 32], &b[16..], y)),
            Blocks::Q5K => each(bytes, |b: &[u8; 176], y| four_to_five(b, &b[16..48], &b[48..], y)),
            Blocks::Q6K => each(bytes, six),
        }
    }
}

fn each<const BYTES: usize, const COUNT: usize>(
    bytes: &[u8],
    block: impl Fn(&[u8; BYTES], &mut [f32; COUNT]),
) -> Vec<[u8; 4]> {
    let (blocks, _) = bytes.as_chunks::<BYTES>();
    let mut out = Vec::with_capacity(blocks.len() * COUNT);
    let mut y = [0.0; COUNT];
    for b in blocks {
        block(b, &mut y);
        out.extend(y.iter().map(|x| x.to_le_bytes()));
    }
    out
}

fn half(block: &[u8], at: usize) -> f32 {
    f16::from_le_bytes([block[at], block[at + 1]]).to_f32()
}

/// The lower four bits of each byte are elements 0 to 15, the upper four 16 to 31.
fn nibbles(bytes: &[u8], mut f: impl FnMut(usize, u8)) {
    for (i, byte) in bytes.iter().take(SMALL / 2).enumerate() {
        f(i, byte & 15);
        f(i + SMALL / 2, byte >> 4);
    }
}

/// The fifth bit of element `i`, in its place.
fn fifth(bits: &[u8], i: usize) -> u8 {
    (bits[i / 8] >> (i % 8) & 1) << 4
}

/// Eight parts of 32 elements: two f16, 12 bytes of packed factors, fifth bits, four bits each.
fn four_to_five(block: &[u8], fifths: &[u8], nibbles: &[u8], y: &mut [f32; LARGE]) {
    let (d, least, packed) = (half(block, 0), half(block, 2), &block[4..16]);
    for (part, y) in y.as_chunks_mut::<SMALL>().0.iter_mut().enumerate() {
        let (scale, offset) = six_bits(packed, part);
        let (scale, offset) = (d * f32::from(scale), least * f32::from(offset));
        for (l, y) in y.iter_mut().enumerate() {
            let low = nibbles[part / 2 * SMALL + l] >> (part % 2 * 4) & 15;
            let high = (fifths[l] >> part & 1) << 4;
            *y = scale * f32::from(low | high) - offset;
        }
    }
}

/// Factor and offset of one of eight parts, of six bits each.
fn six_bits(packed: &[u8], part: usize) -> (u8, u8) {
    match part {
        0..4 => (packed[part] & 63, packed[part + 4] & 63),
        _ => {
            let low = packed[part + 4];
            (low & 15 | packed[part - 4] >> 6 << 4, low >> 4 | packed[part] >> 6 << 4)
        }
    }
}

/// 128 bytes of four bits, 64 of two bits, 16 factors, one f16.
fn six(block: &[u8; 210], y: &mut [f32; LARGE]) {
    let d = half(block, 208);
    for (i, y) in y.iter_mut().enumerate() {
        let (part, quarter, l) = (i / 128, i % 128 / 32, i % 32);
        let low = block[64 * part + 32 * (quarter % 2) + l] >> (quarter / 2 * 4) & 15;
        let high = block[128 + 32 * part + l] >> (2 * quarter) & 3;
        let scale = f32::from(block[192 + i / 16] as i8);
        *y = d * scale * (f32::from(low | high << 4) - 32.0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use safetensors::SafeTensors;

    #[test]
    fn every_kind_is_as_the_reference_reads_it() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/data/gguf/blocks.safetensors");
        let bytes = std::fs::read(path).expect("the recorded blocks");
        let file = SafeTensors::deserialize(&bytes).expect("a safetensors file");
        let kinds = [
            ("Q4_0", Blocks::Q4_0),
            ("Q4_1", Blocks::Q4_1),
            ("Q5_0", Blocks::Q5_0),
            ("Q5_1", Blocks::Q5_1),
            ("Q8_0", Blocks::Q8_0),
            ("Q4_K", Blocks::Q4K),
            ("Q5_K", Blocks::Q5K),
            ("Q6_K", Blocks::Q6K),
        ];
        for (name, blocks) in kinds {
            let tensor = |part: &str| file.tensor(&format!("{name}.{part}")).expect("recorded").data();
            let (stored, want) = (tensor("bytes"), tensor("elements"));
            assert_eq!(want.len() / 4 * blocks.size().1, stored.len() * blocks.size().0, "{name}");
            let number = |b: &[u8; 4]| f64::from(f32::from_le_bytes(*b));
            for (i, (got, want)) in blocks.elements(stored).iter().zip(want.as_chunks().0).enumerate() {
                let (got, want) = (number(got), number(want));
                assert!((got - want).abs() <= 1e-6 * want.abs().max(1.0), "{name}: element {i} is {got}, not {want}");
            }
            assert_eq!(blocks.elements(stored).len() * 4, want.len(), "{name}");
        }
    }
}
