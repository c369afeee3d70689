//! The rows that are there when a foreign key is made or validated.

use std::sync::Arc;

use crate::catalog::relation::Relation;
use crate::ids::{Fork, Oid};
use crate::sql::bind::{self, BindCx};
use crate::sql::bound::OutputColumn;
use crate::sql::error::SqlError;
use crate::sql::exec::{
    self, ExecCx, MemoryLimits, NoVirtualTables, RowSink, SinkState, TempSpace,
};
use crate::sql::front;
use crate::sql::plan::{self, Plan, PlanCx, PlannerSettings};
use crate::storage::Store;
use crate::txn::{Isolation, Transaction, TxnManager};
use crate::types::datum::Datum;
use crate::types::function::FunctionCx;

use super::Views;
use super::changes::{Nulls, nulls};
use super::statements::Both;
use super::violation;

/// What looking at all rows needs of the statement that asks for it.
pub struct Looking<'a> {
    pub views: &'a dyn Views,
    pub store: &'a Arc<Store>,
    pub txns: &'a Arc<TxnManager>,
    pub function: &'a Arc<FunctionCx>,
    /// Whose rights say what the error may show.
    pub user: Oid,
}

/// Error 23503 if some row refers to what is not there (`RI_Initial_Check`). Both tables are locked against changes, or
/// their new rows are tested as they come.
pub async fn validate(
    looking: &Looking<'_>,
    txn: &mut Transaction,
    both: &Both<'_>,
) -> Result<(), SqlError> {
    txn.next_command()?;
    let plan = plan_of(looking, txn, both)?;
    let interrupts = Arc::clone(txn.interrupts());
    // Not the transaction's snapshot: what was committed since counts.
    let given = ExecCx {
        store: Arc::clone(looking.store),
        txns: Arc::clone(looking.txns),
        snapshot: Arc::new(looking.txns.catalog_snapshot(txn)),
        isolation: Isolation::ReadCommitted,
        function: Arc::clone(looking.function),
        virtuals: Arc::new(NoVirtualTables),
        limits: MemoryLimits::default(),
        temp: TempSpace::new(Arc::clone(&looking.store.disk), interrupts.pid()),
        interrupts,
        instrument: false,
    };
    let mut orphan = FirstRow(None);
    let mut execution = exec::start(&Arc::new(plan), &[], given);
    execution.run(txn, &mut orphan, Some(1)).await?;
    let Some(reference) = orphan.0 else {
        return Ok(());
    };
    if both.key.match_full && nulls(reference.iter()) != Nulls::None {
        return Err(violation::mixed_nulls(both));
    }
    let view = looking.views.view(txn, looking.user);
    Err(violation::no_key(
        both,
        &reference,
        &*view,
        looking.function,
    )?)
}

fn plan_of(looking: &Looking<'_>, txn: &Transaction, both: &Both<'_>) -> Result<Plan, SqlError> {
    let sql = both
        .text_of_orphans()
        .ok_or_else(|| SqlError::internal("no equality operator for a foreign key"))?;
    // The server itself asks: what the user may read of it decides what an error shows, not whether there is one.
    let view = looking.views.view(txn, Oid::INVALID);
    let mut parsed = front::parse(&sql)?;
    let statement = match parsed.pop() {
        Some(parsed) => parsed.statement,
        None => return Err(SqlError::internal("a foreign key's statement is empty")),
    };
    let cx = BindCx {
        source: &sql,
        functions: looking.function,
    };
    let bound = bind::bind(&statement, &*view, &[], &cx)?;
    // Just loaded, mostly, and never counted.
    let pages = |table: &Relation| looking.store.pool.block_count(table.file, Fork::Main).ok();
    plan::plan(
        &bound,
        &*view,
        &PlanCx {
            settings: &PlannerSettings::default(),
            pages: Some(&pages),
            may_use: None,
            function: looking.function,
        },
    )
}

struct FirstRow(Option<Vec<Datum>>);

impl RowSink for FirstRow {
    fn columns(&mut self, _: &[OutputColumn]) {}
    fn row(&mut self, row: &[Datum]) -> Result<SinkState, SqlError> {
        self.0.get_or_insert_with(|| row.to_vec());
        Ok(SinkState::More)
    }
}
