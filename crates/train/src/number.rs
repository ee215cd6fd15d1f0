//! Numbers in JSON, which has no NaN and no infinity: both are written as null, and null is read as NaN.

use serde::{Deserialize, Deserializer};

/// For `#[serde(deserialize_with)]` on an f64.
pub fn number<'de, D: Deserializer<'de>>(from: D) -> Result<f64, D::Error> {
    Ok(Option::deserialize(from)?.unwrap_or(f64::NAN))
}

#[cfg(test)]
mod tests {
    use crate::Event;

    #[test]
    fn what_is_no_number_comes_back_as_such() {
        let event =
            Event { step: 1, epoch: 1, loss: f64::NAN, lr: 0.5, grad_norm: f64::INFINITY, tokens: 2, seconds: 0.25 };
        let line = serde_json::to_string(&event).expect("writes");
        let back: Event = serde_json::from_str(&line).expect("reads");
        assert!(back.loss.is_nan() && back.grad_norm.is_nan(), "{line}");
        assert_eq!((back.lr, back.tokens), (0.5, 2));
    }
}
