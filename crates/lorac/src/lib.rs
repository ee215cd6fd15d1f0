//! lorac.
