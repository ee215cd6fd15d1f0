//! What a training calls its own inputs and outputs: what the passes wish, unless the model has a value of that name.

use crate::dropout::{COLUMNS, ROWS};
use crate::{EXAMPLE_IDS, EXAMPLE_POSITIONS, GRAD_NORM, LOSS, LOSS_COUNT, LOSS_SUM, THETA};
use lorac_ir::Graph;

/// The wish of targets, the labels of a batch.
pub const TARGETS: &str = "labels";

/// Names of the inputs and outputs that a training adds to a model, in all of its graphs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Names {
    /// The input that holds everything trained, [`THETA`].
    pub theta: String,
    /// The input of targets, [`TARGETS`].
    pub targets: String,
    /// The output of a step that holds the loss, [`LOSS`].
    pub loss: String,
    /// The output of a step that holds the norm of its gradient, [`GRAD_NORM`].
    pub grad_norm: String,
    /// The output of an evaluation that sums the loss, [`LOSS_SUM`].
    pub loss_sum: String,
    /// The output of an evaluation that counts what it is summed over, [`LOSS_COUNT`].
    pub loss_count: String,
    /// The input of rows that dropout is drawn by, [`crate::dropout::ROWS`].
    pub rows: String,
    /// The input of columns that it is drawn by, [`crate::dropout::COLUMNS`].
    pub columns: String,
    /// The input of examples, where rows hold several, [`EXAMPLE_IDS`].
    pub example_ids: String,
    /// The input of places in them, [`EXAMPLE_POSITIONS`].
    pub example_positions: String,
}

impl Names {
    /// The names in graphs that reserve what `graph` does.
    pub fn of(graph: &Graph) -> Names {
        let [theta, targets, loss, grad_norm] = [THETA, TARGETS, LOSS, GRAD_NORM].map(|n| graph.given_name(n));
        let [loss_sum, loss_count, rows, columns] = [LOSS_SUM, LOSS_COUNT, ROWS, COLUMNS].map(|n| graph.given_name(n));
        let [example_ids, example_positions] = [EXAMPLE_IDS, EXAMPLE_POSITIONS].map(|n| graph.given_name(n));
        Names { theta, targets, loss, grad_norm, loss_sum, loss_count, rows, columns, example_ids, example_positions }
    }
}

impl Default for Names {
    fn default() -> Names {
        Names::of(&Graph::default())
    }
}
