//! lorac-benches.
