//! Who vacuums and analyzes: a session's statement, or the background.

use std::sync::Arc;

use crate::catalog::relation::{Relation, RelationKind};
use crate::catalog::rights::Holder;
use crate::catalog::schema::PG_CATALOG;
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
    /// A warning for the user, who may not do it.
    Refused(SqlError),
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
        let mut txn = self.instance.txns.begin(options, interrupts);
        txn.makes_room();
        txn
    }

    pub async fn commit(&self, txn: Transaction) -> Result<(), SqlError> {
        self.instance.txns.commit(txn, self.level).await?;
        Ok(())
    }

    /// The table, locked so that nobody else vacuums, analyzes or alters it. Rights are asked for before the lock is
    /// waited for, so that nobody stands in the way of a table that he has no rights on, and again with it.
    pub async fn open(
        &self,
        txn: &mut Transaction,
        table: Oid,
        what: &str,
        wait: LockWait,
    ) -> Result<Opened, SqlError> {
        match self.look(txn, table, what)? {
            Opened::Table(_) => {}
            other => return Ok(other),
        }
        let locks = self.instance.txns.locks();
        let mode = LockMode::ShareUpdateExclusive;
        match locks.lock_relation(txn, table, mode, wait).await {
            Err(LockError::NotAvailable(_)) => return Ok(Opened::Locked),
            other => other?,
        }
        self.look(txn, table, what)
    }

    fn look(&self, txn: &Transaction, table: Oid, what: &str) -> Result<Opened, SqlError> {
        let catalog = &self.instance.catalog;
        let found = catalog
            .view(self.database, txn, &[], Oid::INVALID)
            .relation(table)?;
        let Some(relation) = found else {
            return Ok(Opened::Gone);
        };
        let objection = self.objection(txn, &relation, what)?;
        Ok(objection.map_or(Opened::Table(relation), Opened::Refused))
    }

    /// Why the user may not do it, or why it can't be done, as the WARNING says it.
    fn objection(
        &self,
        txn: &Transaction,
        relation: &Relation,
        what: &str,
    ) -> Result<Option<SqlError>, SqlError> {
        let Some(user) = self.user else {
            return Ok(None);
        };
        let name = &relation.name;
        let skipping = |why: String| {
            let message = format!("skipping \"{name}\" --- {why}");
            Ok(Some(SqlError::warning(state::WARNING, message)))
        };
        if relation.kind != RelationKind::Table {
            return skipping(format!("cannot {what} non-tables or special system tables"));
        }
        let catalog = &self.instance.catalog;
        let view = catalog.view(self.database, txn, &[], user.oid);
        let holder = Holder::asker(&view)?;
        let database = view.database(self.database)?;
        let owns_database = match &database {
            Some(d) if !relation.is_shared() => holder.acts_as(d.owner)?,
            _ => false,
        };
        if owns_database || holder.acts_as(relation.owner)? {
            return Ok(None);
        }
        let who = if relation.is_shared() {
            "superuser"
        } else if relation.schema == PG_CATALOG {
            "superuser or database owner"
        } else {
            "table or database owner"
        };
        skipping(format!("only {who} can {what} it"))
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
