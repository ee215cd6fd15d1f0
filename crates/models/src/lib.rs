//! lorac-models.
