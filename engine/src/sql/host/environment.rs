//! What functions and system tables see: the server, the session, and the catalog as the statement sees it.

use std::sync::Arc;

use crate::catalog::SessionCatalog;
use crate::catalog::rights::Holder;
use crate::catalog::rows::CatalogRow;
use crate::catalog::view::CatalogError;
use crate::ids::Oid;
use crate::instance::Instance;
use crate::sql::error::SqlError;
use crate::sql::session::{Backends, SessionFacts};
use crate::txn::{Interrupts, Isolation, Snapshot, TxnOptions};
use crate::types::datum::Datum;
use crate::types::error::TypeError;

#[derive(Clone)]
pub struct Environment {
    pub instance: Arc<Instance>,
    pub backends: Arc<Backends>,
    pub facts: Arc<SessionFacts>,
    /// Reads the catalog where the session's own transaction has not changed it.
    reader: Arc<Interrupts>,
}

/// The catalog as a transaction that has changed it sees it at the beginning of a statement.
#[derive(Debug)]
pub struct ChangedCatalog {
    pub snapshot: Snapshot,
    /// How many changes the transaction had made.
    pub changes: usize,
}

impl std::fmt::Debug for Environment {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Environment")
            .field("facts", &self.facts)
            .finish_non_exhaustive()
    }
}

impl Environment {
    pub fn new(
        instance: Arc<Instance>,
        backends: Arc<Backends>,
        facts: Arc<SessionFacts>,
    ) -> Environment {
        let reader = Interrupts::new(facts.backend.pid);
        Environment {
            instance,
            backends,
            facts,
            reader,
        }
    }

    pub fn reader(&self) -> &Arc<Interrupts> {
        &self.reader
    }

    /// Runs `read` with the snapshot for catalog rows and the number of the transaction's own changes.
    pub fn with_snapshot<T>(&self, read: impl FnOnce(&Snapshot, usize) -> T) -> T {
        if let Some(changed) = &*self.facts.changed_catalog.load() {
            return read(&changed.snapshot, changed.changes);
        }
        let options = TxnOptions {
            isolation: Isolation::ReadCommitted,
            read_only: true,
            deferrable: false,
            database: self.facts.database,
        };
        let txns = &self.instance.txns;
        let txn = txns.begin(options, Arc::clone(&self.reader));
        let snapshot = txns.catalog_snapshot(&txn);
        read(&snapshot, 0)
    }

    /// Every row of a system heap table.
    pub fn scan<R: CatalogRow>(&self) -> Result<Vec<R>, SqlError> {
        let catalog = &self.instance.catalog;
        let system = catalog.system(self.facts.database);
        let cx = catalog.cx(&system, self.facts.database);
        let rows = self.with_snapshot(|snapshot, _| cx.scan::<R>(snapshot))?;
        Ok(rows.into_iter().map(|(_, row)| row).collect())
    }

    /// Rows of a system heap table whose first columns of the index equal `key`.
    pub fn find<R: CatalogRow>(&self, index: Oid, key: &[Datum]) -> Result<Vec<R>, SqlError> {
        let catalog = &self.instance.catalog;
        let system = catalog.system(self.facts.database);
        let cx = catalog.cx(&system, self.facts.database);
        let rows = self.with_snapshot(|snapshot, _| cx.find::<R>(snapshot, index, key))?;
        Ok(rows.into_iter().map(|(_, row)| row).collect())
    }

    /// Runs `ask` with the session's view of the catalog.
    pub fn with_catalog<T>(
        &self,
        ask: impl FnOnce(&SessionCatalog<'_>) -> Result<T, CatalogError>,
    ) -> Result<T, TypeError> {
        let path = Arc::clone(&self.facts.current_settings().search_path);
        let role = self.facts.current_role();
        let catalog = &self.instance.catalog;
        let database = self.facts.database;
        self.with_snapshot(|snapshot, changes| {
            ask(&catalog.view_at(database, snapshot, changes, &path, role.oid))
        })
        .map_err(|error| to_type_error(SqlError::from(error)))
    }

    /// Whether the session's role has the rights of `role`.
    pub fn acts_as(&self, role: Oid) -> Result<bool, TypeError> {
        self.with_catalog(|catalog| Holder::asker(catalog)?.acts_as(role))
    }

    /// Whether the session's role is a superuser: now, not when the session took it.
    pub fn is_superuser(&self) -> Result<bool, TypeError> {
        self.with_catalog(|catalog| Ok(Holder::asker(catalog)?.is_superuser()))
    }

    /// 42501 unless the session's role is a superuser.
    pub fn require_superuser(&self, what: &str) -> Result<(), TypeError> {
        if self.is_superuser()? {
            return Ok(());
        }
        Err(TypeError::new(
            "42501",
            format!("permission denied for function {what}"),
        ))
    }
}

/// Functions report errors in the types room's form.
pub fn to_type_error(error: SqlError) -> TypeError {
    let mut converted = TypeError::new(error.state, error.message.clone());
    converted.detail.clone_from(&error.detail);
    converted.hint.clone_from(&error.hint);
    converted.context.clone_from(&error.context);
    converted
}
