//! The attributes of a recurrent network, checked.

use super::activation::Activation;
use crate::InferError;
use lorac_ir::{Attr, Node};

/// Which network.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Gru,
    Lstm,
    Rnn,
}

impl Kind {
    /// Gates: blocks of rows in W and R.
    pub(super) fn gates(self) -> usize {
        match self {
            Kind::Gru => 3,
            Kind::Lstm => 4,
            Kind::Rnn => 1,
        }
    }

    fn activations(self) -> &'static [&'static str] {
        match self {
            Kind::Gru => &["Sigmoid", "Tanh"],
            Kind::Lstm => &["Sigmoid", "Tanh", "Tanh"],
            Kind::Rnn => &["Tanh"],
        }
    }
}

/// The attributes.
pub(super) struct Settings {
    /// For each direction whether it reads from the end.
    pub reverse: Vec<bool>,
    /// For each direction f, g, h as far as the network has them.
    pub activations: Vec<Vec<Activation>>,
    /// What the operands of activations are clipped to.
    pub clip: Option<f64>,
    /// Width of the state.
    pub hidden: Option<usize>,
    /// Layout 1: the batch is the first axis of X, Y and the states.
    pub batch_first: bool,
    /// The forget gate of an LSTM is one minus its input gate.
    pub input_forget: bool,
    /// The reset gate of a GRU acts behind the product with R.
    pub linear_before_reset: bool,
}

impl Settings {
    pub(super) fn of(node: &Node, kind: Kind) -> Result<Settings, InferError> {
        let reverse = match node.str("direction").unwrap_or("forward") {
            "forward" => vec![false],
            "reverse" => vec![true],
            "bidirectional" => vec![false, true],
            other => {
                let want = "forward, reverse or bidirectional".into();
                return Err(InferError::Attribute { name: "direction", got: other.into(), want });
            }
        };
        let layout = node.int("layout", 0);
        if !matches!(layout, 0 | 1) {
            return Err(InferError::Attribute { name: "layout", got: layout.to_string(), want: "0 or 1".into() });
        }
        let hidden = match node.attrs.get("hidden_size") {
            Some(_) => Some(usize::try_from(node.int("hidden_size", -1)).map_err(|_| {
                let got = node.int("hidden_size", -1).to_string();
                InferError::Attribute { name: "hidden_size", got, want: "a length".into() }
            })?),
            None => None,
        };
        let clip = node.attrs.contains_key("clip").then(|| f64::from(node.float("clip", 0.0)));
        Ok(Settings {
            activations: activations(node, kind, reverse.len())?,
            reverse,
            clip: clip.filter(|c| *c > 0.0),
            hidden,
            batch_first: layout == 1,
            input_forget: node.int("input_forget", 0) != 0,
            linear_before_reset: node.int("linear_before_reset", 0) != 0,
        })
    }
}

/// The attribute `activations` by direction. Alphas and betas go to those that have one, in order.
fn activations(node: &Node, kind: Kind, directions: usize) -> Result<Vec<Vec<Activation>>, InferError> {
    let default = kind.activations();
    let names: Vec<&str> = match node.attrs.get("activations") {
        Some(Attr::Strs(v)) => v.iter().map(|s| &**s).collect(),
        _ => default.repeat(directions),
    };
    if names.len() != default.len() * directions {
        let want = format!("{} names", default.len() * directions);
        return Err(InferError::Attribute { name: "activations", got: format!("{names:?}"), want });
    }
    let floats = |name: &str| match node.attrs.get(name) {
        Some(Attr::Floats(v)) => v.as_slice(),
        _ => &[],
    };
    let (mut alphas, mut betas) = (floats("activation_alpha").iter(), floats("activation_beta").iter());
    let mut found = Vec::new();
    for name in &names {
        let activation = Activation::named(name, &mut alphas, &mut betas).ok_or_else(|| {
            let want = "activation functions that the standard lists".into();
            InferError::Attribute { name: "activations", got: name.to_string(), want }
        })?;
        found.push(activation);
    }
    Ok(found.chunks(default.len()).map(<[Activation]>::to_vec).collect())
}
