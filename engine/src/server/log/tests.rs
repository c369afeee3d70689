//! The matrix of lines.
