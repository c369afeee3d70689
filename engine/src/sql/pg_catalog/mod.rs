//! System tables that the code fills: those of types and functions, and the views.
//!
//! Each scan makes its rows anew from the statement's snapshot of the catalog and from the server's state at that
//! moment, but for those that never change. A table of a feature that is not there is empty, as it would be where nobody
//! uses the feature.

mod access;
mod activity;
mod descriptions;
mod initial_rights;
mod objects;
pub mod row;
mod settings;
mod static_tables;

pub use descriptions::{any_description, description};
pub use objects::{column_list, index_definition};

use std::collections::HashMap;
use std::sync::{Arc, OnceLock};

use crate::catalog::relation::{Relation, RelationKind};
use crate::catalog::rights::Holder;
use crate::catalog::rows::{AuthidRow, CatalogRow};
use crate::catalog::view::CatalogView;
use crate::ids::Oid;
use crate::sql::error::SqlError;
use crate::sql::exec::VirtualTables;
use crate::sql::exec::access::VirtualRows;
use crate::sql::host::Environment;
use crate::sql::pg_catalog::row::RowBuilder;
use crate::types::acl::Privileges;
use crate::types::datum::Datum;

/// Tables that would have rows if what they show were kept: empty they would lie.
const NOT_KEPT: &[&str] = &[
    "pg_cursors",
    "pg_file_settings",
    "pg_group",
    "pg_hba_file_rules",
    "pg_locks",
    "pg_prepared_statements",
    "pg_shdepend",
    "pg_stat_all_indexes",
    "pg_stat_all_tables",
    "pg_stat_archiver",
    "pg_stat_bgwriter",
    "pg_stat_database",
    "pg_stat_gssapi",
    "pg_stat_slru",
    "pg_stat_user_indexes",
    "pg_stat_user_tables",
    "pg_stat_wal",
    "pg_statio_user_tables",
    "pg_timezone_names",
    "pg_views",
];

pub struct SystemTables {
    pub env: Environment,
}

type Make = fn(&Relation) -> Vec<Vec<Datum>>;

/// Tables whose rows are the same in every database and for good.
const CONSTANT: [(&str, Make); 14] = [
    ("pg_aggregate", static_tables::aggregates),
    ("pg_am", access::methods),
    ("pg_amop", access::class_operators),
    ("pg_amproc", access::class_functions),
    ("pg_cast", static_tables::casts),
    ("pg_collation", static_tables::collations),
    ("pg_init_privs", initial_rights::rows),
    ("pg_language", static_tables::languages),
    ("pg_opclass", access::operator_classes),
    ("pg_operator", static_tables::operators),
    ("pg_opfamily", access::operator_families),
    ("pg_proc", static_tables::functions),
    ("pg_tablespace", static_tables::tablespaces),
    ("pg_type", static_tables::types),
];

/// Made once: a subquery may scan such a table for each row around it.
fn constant_rows(relation: &Relation) -> Option<&'static [Vec<Datum>]> {
    static MADE: [OnceLock<Vec<Vec<Datum>>>; CONSTANT.len()] =
        [const { OnceLock::new() }; CONSTANT.len()];
    let at = CONSTANT
        .iter()
        .position(|(name, _)| *name == relation.name)?;
    let (_, make) = CONSTANT[at];
    Some(MADE[at].get_or_init(|| make(relation)))
}

impl VirtualTables for SystemTables {
    fn rows(&self, relation: &Relation) -> Result<VirtualRows, SqlError> {
        if relation.kind == RelationKind::Virtual
            && let Some(rows) = constant_rows(relation)
        {
            return Ok(Box::new(rows.iter().cloned().map(Ok)));
        }
        Ok(Box::new(self.all_rows(relation)?.into_iter().map(Ok)))
    }
}

impl SystemTables {
    fn all_rows(&self, relation: &Relation) -> Result<Vec<Vec<Datum>>, SqlError> {
        if relation.kind == RelationKind::Sequence {
            return self.sequence_row(relation);
        }
        match relation.name.as_str() {
            "pg_description" => self.descriptions(relation),
            "pg_roles" => self.roles(relation),
            "pg_user" => self.users(relation, false),
            "pg_shadow" => self.users(relation, true),
            "pg_tables" => self.tables(relation),
            "pg_indexes" => self.indexes(relation),
            "pg_sequences" => self.sequences(relation),
            "pg_stats" => self.column_statistics(relation),
            "pg_settings" => self.settings(relation),
            "pg_stat_activity" => self.activity(relation),
            "pg_stat_ssl" => self.encryption(relation),
            "pg_stat_replication" => self.replication(relation),
            "pg_stat_wal_receiver" => self.wal_receiver(relation),
            "pg_replication_slots" => Ok(self.replication_slots(relation)),
            name if NOT_KEPT.contains(&name) => Err(SqlError::unsupported(format!(
                "\"{name}\" is not implemented"
            ))),
            _ => Ok(Vec::new()),
        }
    }

    /// What `SELECT * FROM sequence` gives. Numbers are reserved in the page and counted in memory, so none
    /// of them is logged ahead.
    fn sequence_row(&self, sequence: &Relation) -> Result<Vec<Vec<Datum>>, SqlError> {
        let instance = &self.env.instance;
        let state = instance.sequences.state(&instance.store, sequence.file)?;
        let mut row = RowBuilder::new(sequence);
        row.set("last_value", state.last)
            .set("log_cnt", 0_i64)
            .set("is_called", state.called);
        Ok(vec![row.take()])
    }

    fn scan<R: CatalogRow>(&self) -> Result<Vec<R>, SqlError> {
        self.env.scan()
    }

    fn relations(&self) -> Result<Vec<Arc<Relation>>, SqlError> {
        self.env
            .with_catalog(|catalog| catalog.relations())
            .map_err(SqlError::from)
    }

    /// Those on which the asker has any of the privileges.
    fn readable_relations(&self, any_of: Privileges) -> Result<Vec<Arc<Relation>>, SqlError> {
        let found = self.env.with_catalog(|catalog| {
            let asker = Holder::asker(catalog)?;
            let mut found = catalog.relations()?;
            let mut failed = Ok(());
            found.retain(|relation| match asker.on_relation(relation) {
                Ok(may) => !may.common(any_of).is_none(),
                Err(error) => {
                    failed = Err(error);
                    false
                }
            });
            failed.map(|()| found)
        });
        found.map_err(SqlError::from)
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
        let state = instance.sequences.state(&instance.store, sequence.file)?;
        Ok(state.called.then_some(state.last))
    }
}
