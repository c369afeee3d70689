//! What a session runs on. `node/` wires the real parts together; tests use fakes.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use super::backends::Backends;
pub use super::copy::CopyPort;
use super::facts::SessionFacts;
use crate::catalog::session::CatalogClock;
use crate::catalog::view::CatalogView;
use crate::config::{SessionSettings, Settings};
use crate::ids::Oid;
use crate::sql::error::SqlError;
use crate::sql::exec::VirtualTables;
use crate::sql::front::Statement;
use crate::storage::Store;
use crate::table::TableChanges;
use crate::txn::{Snapshot, Transaction, TxnManager};
use crate::types::function::{FunctionCx, Host};

/// A statement that is not planned, with all it may need.
pub struct UtilityCall<'a> {
    pub statement: &'a Statement,
    /// What the statement's offsets count in.
    pub source: &'a str,
    pub facts: &'a Arc<SessionFacts>,
    pub settings: &'a Arc<SessionSettings>,
    pub function: &'a Arc<FunctionCx>,
    /// For COPY, which reads as a query does.
    pub snapshot: Option<Arc<Snapshot>>,
    /// Tables and indexes that the session's own open portals read.
    pub in_use: &'a [Oid],
    /// Notices for the client, in order.
    pub notices: &'a mut Vec<SqlError>,
}

pub type Answer<'a, T> = Pin<Box<dyn Future<Output = Result<T, SqlError>> + Send + 'a>>;

pub trait Services: Send + Sync + 'static {
    fn settings(&self) -> &Arc<Settings>;
    fn txns(&self) -> &Arc<TxnManager>;
    fn backends(&self) -> &Arc<Backends>;
    fn store(&self) -> &Arc<Store>;
    /// What statements have changed, for the background vacuum.
    fn changes(&self) -> &TableChanges;
    /// The catalog as the transaction sees it. `path` is `search_path` as written, `user` the current role.
    fn catalog<'a>(
        &'a self,
        database: Oid,
        txn: &'a Transaction,
        path: &'a [String],
        user: Oid,
    ) -> Box<dyn CatalogView + 'a>;
    /// For plans that are kept: whether the catalog has moved since they were made.
    fn catalog_clock(&self, database: Oid) -> CatalogClock;
    /// For functions that ask about the session, the server or the catalog.
    fn host(&self, facts: &Arc<SessionFacts>) -> Arc<dyn Host>;
    /// The tables that the code fills.
    fn virtual_tables(&self, facts: &Arc<SessionFacts>) -> Arc<dyn VirtualTables>;
    /// DDL and other statements inside a transaction; gives the command tag.
    fn utility<'a>(&'a self, call: UtilityCall<'a>, txn: &'a mut Transaction)
    -> Answer<'a, String>;
    /// COPY, over the client's `port`.
    fn copy<'a>(
        &'a self,
        call: UtilityCall<'a>,
        txn: &'a mut Transaction,
        port: &'a mut dyn CopyPort,
    ) -> Answer<'a, String>;
    /// Statements that run transactions of their own (VACUUM, CREATE DATABASE, CHECKPOINT, ...).
    fn maintenance<'a>(&'a self, call: UtilityCall<'a>) -> Answer<'a, String>;
}
