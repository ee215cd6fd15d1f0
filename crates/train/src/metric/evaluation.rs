//! The predictions of a whole set of examples, and what was to be predicted.

use serde::{Deserialize, Serialize};

/// What a model predicts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Prediction {
    /// A logit for every class, of every example.
    Classes,
    /// A logit for every label, of every example: any number of them are right, each by itself.
    Labels,
    /// A number for every example.
    Values,
    /// A logit for every class, of every token that has one.
    Tags,
    /// The next token of every token: only the loss leaves the device.
    Tokens,
    /// A vector for every text, of examples of several texts: the second is to be like the first.
    Embeddings,
    /// The tokens that are hidden: only the loss leaves the device.
    Masked,
    /// Nothing but the loss, which alone leaves the device.
    Loss,
}

impl Prediction {
    /// Whether predictions leave the device, beside the loss.
    pub fn is_read(self) -> bool {
        !matches!(self, Prediction::Tokens | Prediction::Masked | Prediction::Loss)
    }

    /// Every kind of prediction.
    pub const ALL: [Prediction; 8] = [
        Prediction::Classes,
        Prediction::Labels,
        Prediction::Values,
        Prediction::Tags,
        Prediction::Tokens,
        Prediction::Embeddings,
        Prediction::Masked,
        Prediction::Loss,
    ];
}

/// The predictions and targets of a whole set of examples.
#[derive(Clone, Debug, PartialEq)]
pub struct Evaluation {
    /// What is predicted.
    pub kind: Prediction,
    /// Rows of `width` predictions: a row for every example, or for every token of it that has a target
    /// ([`Prediction::Tags`]), example after example; of [`Prediction::Embeddings`] the similarity of its first two texts; empty
    /// for [`Prediction::Tokens`].
    pub predictions: Vec<f32>,
    /// Numbers of a row of predictions: as many as there are classes or labels, or one.
    pub width: usize,
    /// Targets, one a row of predictions: the index of a class, or a value. `width` a row for [`Prediction::Labels`]: 1
    /// for a label that is right, 0 for one that is not, NaN where that is not known. Of [`Prediction::Embeddings`] how alike
    /// the texts are said to be, NaN where nothing says it. Empty for [`Prediction::Tokens`].
    pub targets: Vec<f64>,
    /// Rows of predictions that each example has; empty for [`Prediction::Tokens`].
    pub counts: Vec<usize>,
    /// Names of the classes or labels, each at its index; empty where they have none.
    pub classes: Vec<String>,
    /// The place of every example's second text among all texts that a first one is compared with, the most similar being at 1:
    /// of [`Prediction::Embeddings`].
    pub ranks: Vec<u64>,
    /// What was generated; empty where nothing was.
    pub texts: Vec<Generated>,
    /// The summed loss.
    pub loss_sum: f64,
    /// What it is summed over: examples, labels of examples, or tokens.
    pub loss_count: f64,
}

impl Evaluation {
    /// Nothing yet, of such predictions.
    pub fn new(kind: Prediction) -> Evaluation {
        Evaluation {
            kind,
            predictions: Vec::new(),
            width: 0,
            targets: Vec::new(),
            counts: Vec::new(),
            classes: Vec::new(),
            ranks: Vec::new(),
            texts: Vec::new(),
            loss_sum: 0.0,
            loss_count: 0.0,
        }
    }

    /// The rows of predictions with the target of each.
    pub fn rows(&self) -> impl Iterator<Item = (&[f32], f64)> {
        self.predictions.chunks_exact(self.width.max(1)).zip(self.targets.iter().copied())
    }

    /// The rows of predictions with a target for each of their numbers: of [`Prediction::Labels`].
    pub fn labels(&self) -> impl Iterator<Item = (&[f32], &[f64])> {
        let width = self.width.max(1);
        self.predictions.chunks_exact(width).zip(self.targets.chunks_exact(width))
    }

    /// The rows of every example, with the target of each: of [`Prediction::Tags`] those of the tokens of a text.
    pub fn examples(&self) -> impl Iterator<Item = Vec<(&[f32], f64)>> {
        let mut rows = self.rows();
        self.counts.iter().map(move |count| rows.by_ref().take(*count).collect())
    }

    /// What was scored: `1000 examples`.
    pub fn count(&self) -> Count {
        match self.kind {
            Prediction::Tokens | Prediction::Masked => Count::Tokens(self.loss_count as u64),
            Prediction::Loss => Count::Examples(self.loss_count as u64),
            Prediction::Tags => Count::Tokens(self.targets.len() as u64),
            Prediction::Labels => Count::Examples((self.targets.len() / self.width.max(1)) as u64),
            Prediction::Classes | Prediction::Values | Prediction::Embeddings => {
                Count::Examples(self.targets.len() as u64)
            }
        }
    }
}

/// A text that a model wrote, and what it should have written.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Generated {
    /// What it went on from.
    pub prompt: String,
    /// What it wrote.
    pub text: String,
    /// Texts each of which would have been right.
    pub references: Vec<String>,
}

/// How much was scored.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Count {
    /// Examples.
    Examples(u64),
    /// Tokens that were predicted: those with a target.
    Tokens(u64),
}

impl std::fmt::Display for Count {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Count::Examples(n) => write!(f, "{n} examples"),
            Count::Tokens(n) => write!(f, "{n} tokens"),
        }
    }
}
