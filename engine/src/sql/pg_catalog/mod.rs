//! System tables that the code fills: those of types and functions, and the views.
//!
//! Each scan makes its rows anew from the statement's snapshot of the catalog and from the server's state at that
//! moment. A table of a feature that is not there is empty, as it would be where nobody uses the feature.

mod activity;
mod objects;
pub mod row;
mod settings;
mod static_tables;

pub use objects::index_definition;

use std::collections::HashMap;
use std::sync::Arc;

use crate::catalog::relation::Relation;
use crate::catalog::rows::{AuthidRow, CatalogRow};
use crate::catalog::view::CatalogView;
use crate::ids::Oid;
use crate::sql::error::SqlError;
use crate::sql::exec::VirtualTables;
use crate::sql::exec::access::VirtualRows;
use crate::sql::host::Environment;
use crate::types::datum::Datum;
use crate::types::error::TypeError;

pub struct SystemTables {
    pub env: Environment,
}

impl VirtualTables for SystemTables {
    fn rows(&self, relation: &Relation) -> Result<VirtualRows, SqlError> {
        Ok(Box::new(self.all_rows(relation)?.into_iter().map(Ok)))
    }
}

impl SystemTables {
    fn all_rows(&self, relation: &Relation) -> Result<Vec<Vec<Datum>>, SqlError> {
        match relation.name.as_str() {
            "pg_type" => Ok(static_tables::types(relation)),
            "pg_proc" => Ok(static_tables::functions(relation)),
            "pg_operator" => Ok(static_tables::operators(relation)),
            "pg_cast" => Ok(static_tables::casts(relation)),
            "pg_aggregate" => Ok(static_tables::aggregates(relation)),
            "pg_am" => Ok(static_tables::access_methods(relation)),
            "pg_collation" => Ok(static_tables::collations(relation)),
            "pg_tablespace" => Ok(static_tables::tablespaces(relation)),
            "pg_language" => Ok(static_tables::languages(relation)),
            "pg_roles" => self.roles(relation),
            "pg_user" => self.users(relation, false),
            "pg_shadow" => self.users(relation, true),
            "pg_tables" => self.tables(relation),
            "pg_indexes" => self.indexes(relation),
            "pg_sequences" => self.sequences(relation),
            "pg_stats" => self.column_statistics(relation),
            "pg_settings" => Ok(self.settings(relation)),
            "pg_stat_activity" => Ok(self.activity(relation)),
            "pg_stat_replication" => Ok(self.replication(relation)),
            "pg_stat_wal_receiver" => Ok(self.wal_receiver(relation)),
            "pg_replication_slots" => Ok(self.replication_slots(relation)),
            _ => Ok(Vec::new()),
        }
    }

    fn scan<R: CatalogRow>(&self) -> Result<Vec<R>, SqlError> {
        self.env.scan()
    }

    fn relations(&self) -> Result<Vec<Arc<Relation>>, SqlError> {
        self.env
            .with_catalog(|catalog| catalog.relations())
            .map_err(SqlError::from)
    }

    fn role_names(&self) -> Result<HashMap<Oid, String>, SqlError> {
        Ok(self
            .scan::<AuthidRow>()?
            .into_iter()
            .map(|role| (role.oid, role.rolname))
            .collect())
    }

    /// `pg_sequences.last_value`: NULL until the first number.
    fn last_value(&self, sequence: &Relation) -> Result<Option<i64>, SqlError> {
        let instance = &self.env.instance;
        let state = instance.sequences.state(&instance.store, sequence.file);
        let state = state.map_err(|e| SqlError::from(TypeError::new("XX001", e.to_string())))?;
        Ok(state.called.then_some(state.last))
    }
}
