//! What weight decay applies to.

use crate::Layout;
use lorac_ir::Tensor;
use lorac_ops::Val;

/// The part of theta that weight decay applies to.
#[derive(Clone, Debug, PartialEq)]
pub enum Decay {
    /// All of it.
    All,
    /// None of it.
    Nothing,
    /// Elements with a 1 in this vector, which is as long as theta; the others have a 0.
    Mask(Vec<f32>),
}

impl Decay {
    /// As the params say.
    pub fn of(layout: &Layout) -> Decay {
        let slots = layout.slots();
        match (slots.iter().any(|s| s.decay), slots.iter().any(|s| !s.decay)) {
            (true, true) => {
                let parts = slots.iter().flat_map(|s| std::iter::repeat_n(f32::from(u8::from(s.decay)), s.len()));
                Decay::Mask(parts.collect())
            }
            (false, true) => Decay::Nothing,
            _ => Decay::All,
        }
    }

    /// `theta (1 - rate)` where it applies.
    pub(crate) fn apply<'e, 'g>(&self, theta: Val<'e, 'g>, rate: Val<'e, 'g>) -> Val<'e, 'g> {
        match self {
            Decay::All => theta - theta * rate,
            Decay::Nothing => theta,
            Decay::Mask(mask) => theta - theta * theta.emit().weight("", Tensor::vector(mask)) * rate,
        }
    }
}
