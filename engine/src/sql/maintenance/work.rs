//! Who vacuums and analyzes: a session's statement, or the background.

use std::sync::Arc;

use crate::catalog::relation::{Relation, RelationKind};
use crate::catalog::view::{CatalogView, Role};
use crate::ids::Oid;
use crate::instance::Instance;
use crate::sql::error::{SqlError, state};
use crate::txn::{
    CommitLevel, Interrupts, Isolation, LockError, LockMode, LockWait, Transaction, TxnOptions,
};
use crate::types::datetime::{DateOutput, DateStyle, FieldOrder};
use crate::types::datum::Datum;
use crate::types::error::TypeError;
use crate::types::function::{Function, FunctionCx, Host, Rows};
use crate::types::interval::IntervalStyle;

#[derive(Clone, Copy)]
pub struct Work<'a> {
    pub instance: &'a Instance,
    pub database: Oid,
    pub database_name: &'a str,
    pub interrupts: &'a Arc<Interrupts>,
    pub level: CommitLevel,
    /// Whose rights count; `None`: the server's own.
    pub user: Option<&'a Role>,
    /// Bytes for the addresses of dead rows.
    pub memory: usize,
    pub statistics_target: usize,
}

/// A table of a transaction that holds its lock.
pub enum Opened {
    Table(Arc<Relation>),
    Gone,
    /// Somebody else has the lock, and the caller does not wait.
    Locked,
}

impl Work<'_> {
    pub fn begin(&self) -> Transaction {
        let options = TxnOptions {
            isolation: Isolation::ReadCommitted,
            read_only: false,
            deferrable: false,
            database: self.database,
        };
        let interrupts = Arc::clone(self.interrupts);
        self.instance.txns.begin(options, interrupts)
    }

    pub async fn commit(&self, txn: Transaction) -> Result<(), SqlError> {
        self.instance.txns.commit(txn, self.level).await?;
        Ok(())
    }

    /// The table, locked so that nobody else vacuums, analyzes or alters it.
    pub async fn open(
        &self,
        txn: &mut Transaction,
        table: Oid,
        wait: LockWait,
    ) -> Result<Opened, SqlError> {
        let locks = self.instance.txns.locks();
        let mode = LockMode::ShareUpdateExclusive;
        match locks.lock_relation(txn, table, mode, wait).await {
            Err(LockError::NotAvailable(_)) => return Ok(Opened::Locked),
            other => other?,
        }
        let view = self.instance.catalog.view(self.database, txn, &[], "");
        Ok(view.relation(table)?.map_or(Opened::Gone, Opened::Table))
    }

    /// Why the user may not do it, or why it can't be done, as the WARNING says it.
    pub fn objection(&self, relation: &Relation, what: &str) -> Option<SqlError> {
        let user = self.user?;
        let name = &relation.name;
        if relation.kind != RelationKind::Table {
            let whom = match what {
                "vacuum" => "non-tables or special system tables",
                _ => "non-tables or special system tables",
            };
            let message = format!("skipping \"{name}\" --- cannot {what} {whom}");
            return Some(SqlError::warning(state::WARNING, message));
        }
        if user.superuser || relation.owner == user.oid {
            return None;
        }
        let who = if relation.is_shared() {
            "superuser"
        } else if relation.schema_name == "pg_catalog" {
            "superuser or database owner"
        } else {
            "table or database owner"
        };
        let message = format!("skipping \"{name}\" --- only {who} can {what} it");
        Some(SqlError::warning(state::WARNING, message))
    }
}

/// Shared tables belong to no database.
pub fn key_of(database: Oid, table: &Relation) -> (Oid, Oid) {
    let database = if table.is_shared() {
        Oid::INVALID
    } else {
        database
    };
    (database, table.oid)
}

/// Runs a stretch of blocking work without holding up the tasks that wait for this thread.
pub fn blocking<T>(work: impl FnOnce() -> T) -> T {
    use tokio::runtime::{Handle, RuntimeFlavor};
    match Handle::try_current() {
        Ok(handle) if handle.runtime_flavor() == RuntimeFlavor::MultiThread => {
            tokio::task::block_in_place(work)
        }
        _ => work(),
    }
}

/// Statistics are text that is read again by other sessions: one form, whatever a session's settings are.
pub fn canonical_cx() -> Arc<FunctionCx> {
    Arc::new(FunctionCx {
        transaction_timestamp: 0,
        statement_timestamp: 0,
        time_zone: jiff::tz::TimeZone::UTC,
        date_style: DateStyle {
            output: DateOutput::Iso,
            order: FieldOrder::Mdy,
        },
        interval_style: IntervalStyle::Postgres,
        extra_float_digits: 1,
        bytea_hex: true,
        host: Arc::new(AsksNothing),
    })
}

/// Output functions of values ask nobody.
#[derive(Debug)]
struct AsksNothing;

fn refused(function: &Function) -> TypeError {
    let name = function.name;
    TypeError::new(
        "XX000",
        format!("{name}() is not known outside of a session"),
    )
}

impl Host for AsksNothing {
    fn call(&self, function: &'static Function, _: &[Datum]) -> Result<Datum, TypeError> {
        Err(refused(function))
    }
    fn call_set(&self, function: &'static Function, _: &[Datum]) -> Result<Rows, TypeError> {
        Err(refused(function))
    }
}
