//! lorac-tests.
