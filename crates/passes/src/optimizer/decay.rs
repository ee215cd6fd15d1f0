//! What weight decay applies to.

use super::SlotRate;
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
    /// Params that follow each other: so many elements with a decay of their own, or with the optimizer's.
    Each(Vec<(usize, Option<f64>)>),
}

impl Decay {
    /// As the params say, and `rates`, one for each, where they have decays of their own.
    pub fn of(layout: &Layout, rates: &[SlotRate]) -> Decay {
        let slots = layout.slots();
        if rates.iter().any(|r| r.decay.is_some()) {
            let own = |(slot, rate): (&crate::Slot, &SlotRate)| {
                (slot.len(), rate.decay.or(if slot.decay { None } else { Some(0.0) }))
            };
            return Decay::Each(slots.iter().zip(rates).map(own).collect());
        }
        match (slots.iter().any(|s| s.decay), slots.iter().any(|s| !s.decay)) {
            (true, true) => {
                let parts = slots.iter().flat_map(|s| std::iter::repeat_n(f32::from(u8::from(s.decay)), s.len()));
                Decay::Mask(parts.collect())
            }
            (false, true) => Decay::Nothing,
            _ => Decay::All,
        }
    }

    /// theta times its weight decay, `weight_decay` where params have none of their own, times a learning rate where one is
    /// given; none where nothing decays.
    pub(super) fn of_theta<'e, 'g>(
        &self,
        theta: Val<'e, 'g>,
        weight_decay: f64,
        lr: Option<Val<'e, 'g>>,
    ) -> Option<Val<'e, 'g>> {
        let vector = |v: &[f32]| theta.emit().weight("", Tensor::vector(v));
        match self {
            Decay::Nothing => None,
            Decay::All => Some(theta * rate(theta, weight_decay, lr)),
            Decay::Mask(mask) => Some(theta * vector(mask) * rate(theta, weight_decay, lr)),
            Decay::Each(each) => {
                let of =
                    |(len, own): &(usize, Option<f64>)| std::iter::repeat_n(own.unwrap_or(weight_decay) as f32, *len);
                let decayed = theta * vector(&each.iter().flat_map(of).collect::<Vec<f32>>());
                Some(lr.map_or(decayed, |lr| decayed * lr))
            }
        }
    }
}

/// What theta is multiplied by.
fn rate<'e, 'g>(theta: Val<'e, 'g>, weight_decay: f64, lr: Option<Val<'e, 'g>>) -> Val<'e, 'g> {
    lr.map_or_else(|| theta.like(weight_decay), |lr| lr * weight_decay)
}
