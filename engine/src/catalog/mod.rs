//! What relations, schemas, roles and databases exist.

pub mod relation;
pub mod view;
