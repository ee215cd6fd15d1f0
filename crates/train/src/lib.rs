//! lorac-train.
