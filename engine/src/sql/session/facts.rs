//! Who a session is: shared between the session and the functions that its statements call.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use arc_swap::{ArcSwap, ArcSwapOption};
use parking_lot::Mutex;

use super::backends::Backend;
use crate::config::{SessionSettings, SessionStore, SettingError};
use crate::ids::Oid;
use crate::sql::error::SqlError;
use crate::sql::host::{ChangedCatalog, SessionBackup, SessionSequences};
use crate::txn::{Transaction, TxnManager};

/// A role as a session has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SessionRole {
    pub oid: Oid,
    pub name: Arc<str>,
    pub superuser: bool,
}

/// The user who logged in, and the two that SET SESSION AUTHORIZATION and SET ROLE change.
#[derive(Debug, Clone)]
pub struct Roles {
    pub authenticated: SessionRole,
    pub session: SessionRole,
    pub current: SessionRole,
}

#[derive(Debug)]
pub struct SessionFacts {
    pub backend: Arc<Backend>,
    pub database: Oid,
    pub database_name: Arc<str>,
    pub roles: ArcSwap<Roles>,
    /// Set while a statement runs in a transaction that has changed the catalog.
    pub changed_catalog: ArcSwapOption<ChangedCatalog>,
    /// Sequences that the session has used.
    pub sequences: SessionSequences,
    /// The base backup that the session is taking by hand.
    pub backup: SessionBackup,
    /// What functions have to say beside their results.
    pub notices: Notices,
    /// `set_config` changes it from inside a statement.
    pub settings: Mutex<SessionStore>,
}

/// Notices of functions, which have no way to the client of their own. Sent when the session is ready again.
#[derive(Debug, Default)]
pub struct Notices {
    /// So that looking costs next to nothing.
    any: AtomicBool,
    list: Mutex<Vec<SqlError>>,
}

impl Notices {
    pub fn push(&self, notice: SqlError) {
        self.list.lock().push(notice);
        self.any.store(true, Ordering::Release);
    }

    pub(super) fn take(&self) -> Vec<SqlError> {
        if !self.any.load(Ordering::Acquire) {
            return Vec::new();
        }
        self.any.store(false, Ordering::Release);
        std::mem::take(&mut *self.list.lock())
    }
}

/// While it lives, functions see the catalog as the transaction has changed it.
#[must_use]
pub struct OwnCatalog(Option<Arc<SessionFacts>>);

impl Drop for OwnCatalog {
    fn drop(&mut self) {
        if let Some(facts) = self.0.take() {
            facts.changed_catalog.store(None);
        }
    }
}

impl SessionFacts {
    /// For the time of a statement: a transaction that has changed the catalog shows functions what it has made.
    pub fn own_catalog(self: &Arc<Self>, txns: &TxnManager, txn: &Transaction) -> OwnCatalog {
        let changes = txn.invalidations().len();
        if changes == 0 {
            return OwnCatalog(None);
        }
        self.changed_catalog.store(Some(Arc::new(ChangedCatalog {
            snapshot: txns.catalog_snapshot(txn),
            changes,
        })));
        OwnCatalog(Some(Arc::clone(self)))
    }

    pub fn current_settings(&self) -> Arc<SessionSettings> {
        Arc::clone(self.settings.lock().settings())
    }

    /// A setting as SHOW shows it, under its proper name; of the session's socket that is what the kernel has.
    pub fn show(&self, name: &str, privileged: bool) -> Result<(String, String), SettingError> {
        let (name, value) = self.settings.lock().show(name, privileged)?;
        let value = self.backend.socket.shown(&name).unwrap_or(value);
        Ok((name, value))
    }

    pub fn current_role(&self) -> SessionRole {
        self.roles.load().current.clone()
    }
}
