//! What relations, schemas, roles and databases exist: heap tables like any other, and what is remembered of them.
//!
//! Reading order: `schema` (which system tables there are), `rows` (their rows as structs), `relation` and
//! `view` (what others see), `access` (reading and changing rows), `load` (rows to descriptions), `cache` and
//! `session` (what is remembered, and for whom); `rights` and `acl` (who may do what, and GRANT's changes of that); `check` (tables and their indexes looked at for damage).

pub mod access;
pub mod acl;
pub mod bootstrap;
pub mod cache;
pub mod check;
pub mod database;
mod load;
pub mod oids;
pub mod relation;
pub mod rights;
pub mod rows;
pub mod schema;
pub mod session;
pub mod view;

pub use load::{
    INDEX_DESCENDING, INDEX_NULLS_FIRST, STATISTIC_CORRELATION, STATISTIC_HISTOGRAM,
    STATISTIC_MOST_COMMON,
};
pub use session::{Catalog, SessionCatalog};
