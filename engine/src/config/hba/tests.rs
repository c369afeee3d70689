//! The matrix of connections against rules.
