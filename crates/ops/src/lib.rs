//! lorac-ops.
