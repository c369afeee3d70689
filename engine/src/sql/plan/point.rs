//! The short way for statements by unique key.

/// A single-table statement whose WHERE names all columns of a unique index.
#[derive(Debug)]
pub struct PointPlan {}
