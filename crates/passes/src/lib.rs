//! lorac-passes.
