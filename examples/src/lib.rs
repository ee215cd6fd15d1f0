//! lorac-examples.
