//! A new column whose old rows do not all have one value: each row that is there is updated to its own default.
//!
//! The statement holds AccessExclusive, so nobody else changes a row meanwhile; the update is one of this
//! transaction like any other, and goes with it.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use crate::ids::Oid;
use crate::sql::bind;
use crate::sql::bound::{
    Assignment, Bound, BoundStatement, Disclosure, OutputColumn, Range, RangeColumn, RangeSource,
    Update,
};
use crate::sql::ddl::Result;
use crate::sql::ddl::cx::DdlCx;
use crate::sql::error::SqlError;
use crate::sql::exec::access::NoVirtualTables;
use crate::sql::exec::{self, ExecCx, MemoryLimits, RowSink, SinkState, TempSpace};
use crate::sql::plan::{self, PlanCx, PlannerSettings};
use crate::txn::{Isolation, LockMode};
use crate::types::datum::Datum;

/// The update gives no rows.
struct NoRows;

impl RowSink for NoRows {
    fn columns(&mut self, _columns: &[OutputColumn]) {}

    fn row(&mut self, _row: &[Datum]) -> std::result::Result<SinkState, SqlError> {
        Ok(SinkState::More)
    }

    fn ready(
        &mut self,
    ) -> Pin<Box<dyn Future<Output = std::result::Result<(), SqlError>> + Send + '_>> {
        Box::pin(async { Ok(()) })
    }
}

pub(super) async fn fill(cx: &mut DdlCx<'_>, table: Oid, column: &str) -> Result<()> {
    cx.step()?;
    let table = cx.relation(table)?;
    let position = super::rows::find_column(&table, column)?;
    let c = &table.columns[position];
    let Some(text) = &c.default else {
        return Ok(());
    };
    let value = bind::default_expression(text, &c.name, c.ty, &cx.view(), cx.functions)?;
    let columns = table
        .columns
        .iter()
        .map(|c| RangeColumn {
            name: c.name.clone(),
            ty: c.ty,
        })
        .collect();
    let update = Update {
        ctes: Vec::new(),
        level: 0,
        target: Arc::clone(&table),
        disclosure: Disclosure::WholeRow,
        ranges: vec![Range {
            alias: table.name.clone(),
            source: RangeSource::Table(Arc::clone(&table)),
            columns,
        }],
        from: Vec::new(),
        filter: None,
        assignments: vec![Assignment {
            column: position,
            value,
        }],
        returning: None,
    };
    let bound = Bound {
        statement: BoundStatement::Update(Box::new(update)),
        parameters: Vec::new(),
        relations: vec![(table.oid, LockMode::AccessExclusive)],
        rights: Vec::new(),
        generation: 0,
        uncacheable: true,
    };
    let plan = plan::plan(
        &bound,
        &cx.view(),
        &PlanCx {
            settings: &PlannerSettings::default(),
            pages: None,
            may_use: None,
            function: cx.functions,
        },
    )?;
    let txns = Arc::clone(&cx.catalog.txns);
    // `nextval` has to find a sequence that this very statement made.
    let _own = cx.facts.map(|facts| facts.own_catalog(&txns, cx.txn));
    let store = Arc::clone(&cx.catalog.store);
    let interrupts = Arc::clone(cx.txn.interrupts());
    let mut execution = exec::start(
        &Arc::new(plan),
        &[],
        ExecCx {
            temp: TempSpace::new(Arc::clone(&store.disk), interrupts.pid()),
            store,
            snapshot: Arc::new(cx.snapshot()),
            txns,
            isolation: Isolation::ReadCommitted,
            function: Arc::clone(cx.functions),
            interrupts,
            virtuals: Arc::new(NoVirtualTables),
            limits: MemoryLimits::default(),
            instrument: false,
        },
    );
    execution.run(cx.txn, &mut NoRows, None).await?;
    cx.step()
}
