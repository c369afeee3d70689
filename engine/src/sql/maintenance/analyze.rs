//! ANALYZE of one table: the sample's statistics as rows of `pg_statistic`.

use std::sync::Arc;

use super::vacuum::note_size;
use super::work::{Opened, Work, canonical_cx, key_of};
use crate::catalog::relation::Relation;
use crate::catalog::rows::{List, StatisticRow};
use crate::catalog::view::ColumnStatistics;
use crate::catalog::{STATISTIC_CORRELATION, STATISTIC_HISTOGRAM, STATISTIC_MOST_COMMON};
use crate::ids::Oid;
use crate::sql::error::SqlError;
use crate::sql::exec::analyze::{Analysis, analyze};
use crate::sql::exec::{ExecCx, MemoryLimits, NoVirtualTables, TempSpace};
use crate::txn::{Isolation, LockWait, Transaction};
use crate::types::datum::Datum;
use crate::types::operators;

/// `pg_statistic` by relation and column.
const STATISTIC_BY_COLUMN: Oid = Oid::new(2696);

/// What became of it.
pub enum Analyzed {
    Done(Arc<Relation>),
    Gone,
    Locked,
    /// A warning for the user.
    Objection(SqlError),
}

/// In a transaction of its own. `columns`: attribute numbers; empty for all.
pub async fn analyze_table(
    work: &Work<'_>,
    table: Oid,
    columns: &[i16],
    skip_locked: bool,
) -> Result<Analyzed, SqlError> {
    let mut txn = work.begin();
    let done = in_transaction(work, &mut txn, table, columns, skip_locked).await?;
    work.commit(txn).await?;
    Ok(done)
}

/// In the caller's transaction.
pub async fn in_transaction(
    work: &Work<'_>,
    txn: &mut Transaction,
    table: Oid,
    columns: &[i16],
    skip_locked: bool,
) -> Result<Analyzed, SqlError> {
    let wait = if skip_locked {
        LockWait::NoWait
    } else {
        LockWait::Wait
    };
    let relation = match work.open(txn, table, "analyze", wait).await? {
        Opened::Table(relation) => relation,
        Opened::Gone => return Ok(Analyzed::Gone),
        Opened::Locked => return Ok(Analyzed::Locked),
        Opened::Refused(objection) => return Ok(Analyzed::Objection(objection)),
    };
    let (of, oid) = key_of(work.database, &relation);
    let seen = work.instance.changes.of(of, oid);
    let analysis = sample(work, txn, &relation).await?;
    store(work, txn, &relation, &analysis, columns).await?;
    note_size(work, txn, &relation, analysis.pages, analysis.rows).await?;
    work.instance.changes.analyzed(of, oid, seen);
    Ok(Analyzed::Done(relation))
}

async fn sample(
    work: &Work<'_>,
    txn: &Transaction,
    relation: &Arc<Relation>,
) -> Result<Analysis, SqlError> {
    let instance = work.instance;
    let cx = ExecCx {
        store: Arc::clone(&instance.store),
        txns: Arc::clone(&instance.txns),
        snapshot: Arc::new(instance.txns.snapshot(txn)),
        isolation: Isolation::ReadCommitted,
        function: canonical_cx(),
        interrupts: Arc::clone(work.interrupts),
        virtuals: Arc::new(NoVirtualTables),
        limits: MemoryLimits::default(),
        temp: TempSpace::new(Arc::clone(&instance.store.disk), work.interrupts.pid()),
        instrument: false,
    };
    analyze(relation, work.statistics_target, &cx).await
}

/// Replaces the rows of the columns that were asked for.
async fn store(
    work: &Work<'_>,
    txn: &mut Transaction,
    relation: &Relation,
    analysis: &Analysis,
    columns: &[i16],
) -> Result<(), SqlError> {
    if analysis.rows == 0.0 {
        // PostgreSQL leaves what it knew: an empty table says nothing of its columns.
        return Ok(());
    }
    let catalog = &work.instance.catalog;
    let system = catalog.system(work.database);
    let cx = catalog.cx(&system, work.database);
    for (attribute, found) in &analysis.columns {
        if !columns.is_empty() && !columns.contains(attribute) {
            continue;
        }
        let ty = relation
            .live_columns()
            .find(|(_, c)| c.attribute == *attribute)
            .map(|(_, c)| c.ty.oid);
        let Some(ty) = ty else { continue };
        let row = statistic_row(relation.oid, *attribute, ty, found);
        let key = [Datum::Oid(relation.oid), Datum::Int2(*attribute)];
        let old = {
            let snapshot = catalog.txns.catalog_snapshot(txn);
            cx.find_one::<StatisticRow>(&snapshot, STATISTIC_BY_COLUMN, &key)?
        };
        match old {
            Some((tid, _)) => cx.update(txn, tid, &row).await?,
            None => cx.insert(txn, &row).await?,
        };
    }
    txn.invalidate(crate::txn::Invalidation::Relation {
        database: work.database,
        relation: relation.oid,
    });
    txn.next_command()?;
    Ok(())
}

/// One of the row's five places.
struct Slot {
    kind: i16,
    operator: Oid,
    numbers: Option<Vec<f32>>,
    values: Option<Vec<String>>,
}

fn statistic_row(relation: Oid, attribute: i16, ty: Oid, found: &ColumnStatistics) -> StatisticRow {
    let mut slots = Vec::new();
    if !found.most_common.is_empty() {
        let (values, shares) = found
            .most_common
            .iter()
            .cloned()
            .unzip::<_, _, Vec<_>, Vec<_>>();
        slots.push(Slot {
            kind: STATISTIC_MOST_COMMON,
            operator: operator("=", ty),
            numbers: Some(shares.into_iter().map(|share| share as f32).collect()),
            values: Some(values),
        });
    }
    if !found.histogram.is_empty() {
        slots.push(Slot {
            kind: STATISTIC_HISTOGRAM,
            operator: operator("<", ty),
            numbers: None,
            values: Some(found.histogram.clone()),
        });
    }
    if operator("<", ty).is_valid() && found.distinct != 0.0 {
        slots.push(Slot {
            kind: STATISTIC_CORRELATION,
            operator: operator("<", ty),
            numbers: Some(vec![found.correlation as f32]),
            values: None,
        });
    }
    let mut row = StatisticRow {
        starelid: relation,
        staattnum: attribute,
        stanullfrac: found.null_fraction as f32,
        stawidth: found.average_width.round() as i32,
        stadistinct: found.distinct as f32,
        ..StatisticRow::default()
    };
    let places = [
        (
            &mut row.stakind1,
            &mut row.staop1,
            &mut row.stanumbers1,
            &mut row.stavalues1,
        ),
        (
            &mut row.stakind2,
            &mut row.staop2,
            &mut row.stanumbers2,
            &mut row.stavalues2,
        ),
        (
            &mut row.stakind3,
            &mut row.staop3,
            &mut row.stanumbers3,
            &mut row.stavalues3,
        ),
    ];
    for (slot, (kind, operator, numbers, values)) in slots.into_iter().zip(places) {
        *kind = slot.kind;
        *operator = slot.operator;
        *numbers = slot.numbers.map(List);
        *values = slot.values.map(List);
    }
    row
}

/// The type's own operator; `varchar` has that of `text`.
fn operator(name: &str, ty: Oid) -> Oid {
    use crate::types::oids;
    let ty = if ty == oids::VARCHAR { oids::TEXT } else { ty };
    operators::named(name)
        .iter()
        .find(|o| o.left == ty && o.right == ty)
        .map_or(Oid::INVALID, |o| o.oid)
}
