//! What an execution reads and writes rows through.

use std::sync::Arc;

use crate::catalog::relation::Relation;
use crate::ids::{CommandId, Xid};
use crate::sql::error::SqlError;
use crate::sql::exec::spill::TempSpace;
use crate::storage::Store;
use crate::table::TableCx;
use crate::txn::{Isolation, Snapshot, TxnManager};
use crate::types::datum::Datum;

pub type VirtualRows = Box<dyn Iterator<Item = Result<Vec<Datum>, SqlError>> + Send>;

/// The tables that the code fills: `pg_settings`, `pg_stat_activity`, ...
pub trait VirtualTables: Send + Sync {
    /// One value for each of the relation's columns, in their order.
    fn rows(&self, relation: &Relation) -> Result<VirtualRows, SqlError>;
}

/// For executions that have none.
pub struct NoVirtualTables;

impl VirtualTables for NoVirtualTables {
    fn rows(&self, relation: &Relation) -> Result<VirtualRows, SqlError> {
        Err(SqlError::internal(format!(
            "nobody fills the table \"{}\"",
            relation.name
        )))
    }
}

/// The data side of one execution.
pub struct Access {
    pub storage: Option<Storage>,
    pub virtuals: Arc<dyn VirtualTables>,
    pub temp: Option<TempSpace>,
    /// Known once the first change asked for it.
    pub xid: Option<Xid>,
    pub command: CommandId,
    pub isolation: Isolation,
    /// Under REPEATABLE READ a foreign key's statement sees rows that the transaction does not, and must not change them.
    pub crosscheck: Option<Arc<Snapshot>>,
}

/// Tables and indexes as the statement's snapshot sees them.
pub struct Storage {
    pub store: Arc<Store>,
    pub txns: Arc<TxnManager>,
    pub snapshot: Arc<Snapshot>,
}

impl Access {
    /// No tables, no files.
    pub fn none() -> Access {
        Access {
            storage: None,
            virtuals: Arc::new(NoVirtualTables),
            temp: None,
            xid: None,
            command: CommandId::FIRST,
            isolation: Isolation::ReadCommitted,
            crosscheck: None,
        }
    }
    pub fn storage(&self) -> Result<&Storage, SqlError> {
        self.storage
            .as_ref()
            .ok_or_else(|| SqlError::internal("this execution has no storage"))
    }
    pub fn temp(&self) -> Result<&TempSpace, SqlError> {
        self.temp
            .as_ref()
            .ok_or_else(|| SqlError::internal("this execution has no place for temporary files"))
    }
}

impl Storage {
    #[inline]
    pub fn table(&self) -> TableCx<'_> {
        TableCx {
            store: &self.store,
            txns: &self.txns,
        }
    }
    #[inline]
    pub fn index(&self) -> &Store {
        &self.store
    }
}
