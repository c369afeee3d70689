//! The questions that the analyzer and utility statements ask of the catalog.
//!
//! Answers come from the newest released state plus the asking transaction's own changes. An answer may be
//! out of date by the time it is used: the caller locks what it found and asks again until two answers agree
//! ([`CatalogView::generation`] tells cheaply whether anything changed).

use std::sync::Arc;

use crate::catalog::relation::Relation;
use crate::catalog::rights::Acl;
use crate::ids::Oid;

#[derive(Debug, thiserror::Error)]
pub enum CatalogError {
    #[error("schema \"{0}\" does not exist")]
    NoSchema(String),
    /// 42501: no USAGE.
    #[error("permission denied for schema {0}")]
    ClosedSchema(String),
    #[error("cross-database references are not implemented: \"{0}\"")]
    OtherDatabase(String),
    #[error(transparent)]
    Storage(#[from] crate::storage::StorageError),
    #[error(transparent)]
    Table(#[from] crate::table::TableError),
    #[error(transparent)]
    Index(#[from] crate::index::IndexError),
    #[error(transparent)]
    Txn(#[from] crate::txn::TxnError),
    #[error(transparent)]
    Lock(#[from] crate::txn::LockError),
    #[error(transparent)]
    OidsExhausted(#[from] crate::catalog::oids::OidsExhausted),
    /// 23505: another transaction made the same thing first.
    #[error("duplicate key value violates unique constraint \"{index}\"")]
    Duplicate { index: String },
    /// XX000, PostgreSQL's words: the row went or changed although the object was locked.
    #[error("tuple concurrently updated in {0}")]
    ConcurrentUpdate(String),
    #[error("catalog of database {database} is damaged: {what}")]
    Damaged { database: Oid, what: String },
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Role {
    pub oid: Oid,
    pub name: String,
    pub superuser: bool,
    pub inherit: bool,
    pub create_role: bool,
    pub create_db: bool,
    pub login: bool,
    pub replication: bool,
    pub bypass_rls: bool,
    /// -1: no limit.
    pub connection_limit: i32,
    /// `SCRAM-SHA-256$...`, or `None` for no password.
    pub password: Option<String>,
    /// Microseconds since 2000-01-01 UTC.
    pub valid_until: Option<i64>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Database {
    pub oid: Oid,
    pub name: String,
    pub owner: Oid,
    pub acl: Acl,
    pub is_template: bool,
    pub allow_connections: bool,
    pub connection_limit: i32,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Schema {
    pub oid: Oid,
    pub name: String,
    pub owner: Oid,
    pub acl: Acl,
}

/// A role that somebody is a member of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Membership {
    pub role: Oid,
    /// WITH ADMIN OPTION
    pub admin: bool,
}

pub trait CatalogView: Send + Sync {
    /// Changes whenever any committed or own DDL may have changed an answer.
    fn generation(&self) -> u64;
    /// `schema == None` walks the search path (`pg_catalog` first unless it is named in it).
    fn relation_named(
        &self,
        schema: Option<&str>,
        name: &str,
    ) -> Result<Option<Arc<Relation>>, CatalogError>;
    fn relation(&self, oid: Oid) -> Result<Option<Arc<Relation>>, CatalogError>;
    /// Every relation of the database the asker may name, indexes and virtual tables included.
    fn relations(&self) -> Result<Vec<Arc<Relation>>, CatalogError>;
    fn schema_named(&self, name: &str) -> Result<Option<Oid>, CatalogError>;
    fn schema(&self, oid: Oid) -> Result<Option<Arc<Schema>>, CatalogError>;
    fn schema_name(&self, oid: Oid) -> Result<Option<String>, CatalogError> {
        Ok(self.schema(oid)?.map(|s| s.name.clone()))
    }
    /// Existing schemas of the search path that the asker may look into, `pg_catalog` in its place.
    fn search_path(&self) -> Result<Vec<Oid>, CatalogError>;
    /// Where CREATE without a schema puts things; `None`: 3F000.
    fn creation_schema(&self) -> Result<Option<Oid>, CatalogError>;
    fn role_named(&self, name: &str) -> Result<Option<Role>, CatalogError>;
    /// The role that asks; invalid for the server itself.
    fn asker(&self) -> Oid;
    /// Invalid where only what all databases share is asked for.
    fn current_database(&self) -> Oid;
    /// The roles that `member` is a member of, by itself and not through others.
    fn memberships(&self, member: Oid) -> Result<Arc<[Membership]>, CatalogError>;
    fn role(&self, oid: Oid) -> Result<Option<Role>, CatalogError>;
    fn database_named(&self, name: &str) -> Result<Option<Database>, CatalogError>;
    fn database(&self, oid: Oid) -> Result<Option<Database>, CatalogError>;
    /// Planner statistics of a column as ANALYZE left them.
    fn column_statistics(
        &self,
        relation: Oid,
        attribute: i16,
    ) -> Result<Option<Arc<ColumnStatistics>>, CatalogError>;
}

/// One row of `pg_statistic`, decoded. Manual, 52.50.
#[derive(Debug, Clone, PartialEq)]
pub struct ColumnStatistics {
    pub null_fraction: f64,
    /// Bytes.
    pub average_width: f64,
    /// Above 0: how many; below 0: minus the fraction of the rows.
    pub distinct: f64,
    /// Values in text form with their fractions, most common first.
    pub most_common: Vec<(String, f64)>,
    /// Bounds of equal-depth buckets, in text form.
    pub histogram: Vec<String>,
    /// -1 to 1: how far physical order follows value order.
    pub correlation: f64,
}
