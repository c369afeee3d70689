//! What functions and system tables see: the server, the session, and the catalog as the statement sees it.

use std::sync::Arc;

use crate::catalog::SessionCatalog;
use crate::catalog::view::CatalogError;
use crate::instance::Instance;
use crate::sql::error::SqlError;
use crate::sql::session::{Backends, SessionFacts};
use crate::txn::Snapshot;
use crate::types::error::TypeError;

#[derive(Clone)]
pub struct Environment {
    pub instance: Arc<Instance>,
    pub backends: Arc<Backends>,
    pub facts: Arc<SessionFacts>,
    /// What the catalog is read with.
    pub snapshot: Arc<Snapshot>,
    /// Changes to the catalog that the transaction had made when the statement began.
    pub own_changes: usize,
}

impl std::fmt::Debug for Environment {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Environment").field("facts", &self.facts).finish_non_exhaustive()
    }
}

impl Environment {
    /// Runs `ask` with the session's view of the catalog.
    pub fn with_catalog<T>(
        &self,
        ask: impl FnOnce(&SessionCatalog<'_>) -> Result<T, CatalogError>,
    ) -> Result<T, TypeError> {
        let path = Arc::clone(&self.facts.current_settings().search_path);
        let role = self.facts.current_role();
        let catalog = &self.instance.catalog;
        let view =
            catalog.view_at(self.facts.database, &self.snapshot, self.own_changes, &path, &role.name);
        ask(&view).map_err(|error| to_type_error(SqlError::from(error)))
    }

    /// 42501 unless the session's role is a superuser.
    pub fn require_superuser(&self, what: &str) -> Result<(), TypeError> {
        if self.facts.current_role().superuser {
            return Ok(());
        }
        Err(TypeError::new("42501", format!("permission denied for function {what}")))
    }
}

/// Functions report errors in the types room's form.
pub fn to_type_error(error: SqlError) -> TypeError {
    let mut converted = TypeError::new(state_of(&error), error.message.clone());
    converted.detail.clone_from(&error.detail);
    converted.hint.clone_from(&error.hint);
    converted
}

/// `TypeError` keeps states as constants; those that the rooms below report are few.
fn state_of(error: &SqlError) -> &'static str {
    const KNOWN: &[&str] = &[
        "3F000", "42P01", "42704", "53100", "53200", "55000", "57014", "58030", "XX000", "XX001", "XX002",
        "0A000", "25006", "40001", "40P01", "54000",
    ];
    KNOWN.iter().find(|state| **state == error.sqlstate()).copied().unwrap_or("XX000")
}
