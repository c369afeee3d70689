//! What relations, schemas, roles and databases exist: heap tables like any other, and what is remembered of them.
//!
//! Reading order: `schema` (which system tables there are), `rows` (their rows as structs), `relation` and
//! `view` (what others see).

pub mod relation;
pub mod rows;
pub mod schema;
pub mod view;
