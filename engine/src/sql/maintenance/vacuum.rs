//! Vacuum of one table, in a transaction of its own.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::work::{Opened, Work, blocking, key_of};
use crate::catalog::relation::Relation;
use crate::catalog::rows::ClassRow;
use crate::catalog::schema::PG_CATALOG;
use crate::ids::{Fork, Oid, Xid};
use crate::index::btree;
use crate::sql::error::SqlError;
use crate::table::TableCx;
use crate::table::vacuum::{self as heap_vacuum, Vacuum, VacuumOptions, VacuumReport, VacuumStep};
use crate::txn::{Invalidation, LockError, LockMode, LockWait, Transaction};
use crate::types::datum::Datum;

/// `pg_class` by oid.
const CLASS_BY_OID: Oid = Oid::new(2662);
/// `vacuum_freeze_min_age`
const FREEZE_MIN_AGE: u64 = 50_000_000;
/// Pages at the end that are worth an exclusive lock: so many, or this share of the table. PostgreSQL's
/// `REL_TRUNCATE_MINIMUM` and `REL_TRUNCATE_FRACTION`.
const WORTH_CUTTING: u32 = 1000;
const WORTH_CUTTING_SHARE: u32 = 16;
/// How long that lock is tried for, and the pause between two tries. PostgreSQL's `VACUUM_TRUNCATE_LOCK_TIMEOUT` and
/// `VACUUM_TRUNCATE_LOCK_WAIT_INTERVAL`.
const CUT_LOCK_LIMIT: Duration = Duration::from_secs(5);
const CUT_LOCK_PAUSE: Duration = Duration::from_millis(50);

/// The options of VACUUM.
#[derive(Clone, Copy, Debug)]
pub struct How {
    pub freeze: bool,
    /// Give empty pages at the end back.
    pub truncate: bool,
    /// Skip tables that somebody has locked.
    pub skip_locked: bool,
}

pub enum Vacuumed {
    Done {
        table: Arc<Relation>,
        report: VacuumReport,
        pages: u32,
    },
    Gone,
    Locked,
    /// A warning for the user.
    Objection(SqlError),
}

pub async fn vacuum_table(work: &Work<'_>, table: Oid, how: How) -> Result<Vacuumed, SqlError> {
    let mut txn = work.begin();
    let wait = if how.skip_locked {
        LockWait::NoWait
    } else {
        LockWait::Wait
    };
    let relation = match work.open(&mut txn, table, "vacuum", wait).await? {
        Opened::Table(relation) => relation,
        Opened::Gone => return Ok(Vacuumed::Gone),
        Opened::Locked => return Ok(Vacuumed::Locked),
        Opened::Refused(objection) => return Ok(Vacuumed::Objection(objection)),
    };
    let (of, oid) = key_of(work.database, &relation);
    let seen = work.instance.changes.of(of, oid);
    let report = clean(work, &relation, how).await?;
    let mut pages = report.pages;
    if how.truncate {
        pages = cut_tail(work, &mut txn, &relation).await?;
    }
    note_size(work, &mut txn, &relation, pages, report.live_rows as f64).await?;
    work.commit(txn).await?;
    work.instance.changes.vacuumed(of, oid, seen);
    Ok(Vacuumed::Done {
        table: relation,
        report,
        pages,
    })
}

fn table_cx<'a>(work: &Work<'a>) -> TableCx<'a> {
    TableCx {
        store: &work.instance.store,
        txns: &work.instance.txns,
    }
}

async fn clean(
    work: &Work<'_>,
    relation: &Arc<Relation>,
    how: How,
) -> Result<VacuumReport, SqlError> {
    let next = work.instance.txns.next_xid();
    let freeze_before = if how.freeze {
        next
    } else {
        Xid::new(next.raw().saturating_sub(FREEZE_MIN_AGE))
    };
    let options = VacuumOptions {
        freeze_before,
        max_dead: work.memory / size_of::<crate::ids::Tid>(),
    };
    let cx = table_cx(work);
    let mut vacuum = Vacuum::new(cx, relation, options)?;
    loop {
        work.interrupts.check()?;
        let step = blocking(|| {
            vacuum.step::<SqlError>(cx, &mut |is_dead| {
                for index in &relation.indexes {
                    btree::remove_dead::<SqlError>(cx.store, index, is_dead, &mut || {
                        Ok(work.interrupts.check()?)
                    })?;
                }
                Ok(())
            })
        })?;
        if step == VacuumStep::Done {
            return Ok(vacuum.report());
        }
        tokio::task::yield_now().await;
    }
}

/// Gives empty pages at the end back, if there soon is a moment at which nobody is using the table, and as many as can be
/// had before somebody wants to. Returns how many are left.
async fn cut_tail(
    work: &Work<'_>,
    txn: &mut Transaction,
    relation: &Relation,
) -> Result<u32, SqlError> {
    let cx = table_cx(work);
    let pages = cx.store.pool.block_count(relation.file, Fork::Main)?;
    // Definitions add rows to the catalog without locks on its tables: they would write on pages that are being cut off.
    if relation.schema == PG_CATALOG {
        return Ok(pages);
    }
    let mut interrupted = || work.interrupts.is_pending();
    let used = blocking(|| heap_vacuum::used_pages(cx, relation.file, &mut interrupted))?;
    work.interrupts.check()?;
    // It may have grown since.
    let empty = pages.saturating_sub(used);
    if empty < WORTH_CUTTING && empty < (pages / WORTH_CUTTING_SHARE).max(1) {
        return Ok(pages);
    }
    if !lock_for_cut(work, txn, relation.oid).await? {
        return Ok(pages);
    }
    let locks = work.instance.txns.locks();
    let holder: &Transaction = txn;
    let mut wanted = || work.interrupts.is_pending() || locks.is_waited_for(holder, relation.oid);
    let left = blocking(|| heap_vacuum::truncate_tail(cx, relation.file, &mut wanted));
    // At once: the end of this transaction may have to wait for standbys.
    locks.unlock_relation(txn, relation.oid, LockMode::AccessExclusive);
    let left = left?;
    // Here, where it ends a statement, and not in the commit's wait, where the outcome would be unknown.
    work.interrupts.check()?;
    Ok(left)
}

/// The exclusive lock, by trying again: in its queue everybody who comes later would have to wait behind it. False: it
/// could not be had in time, or somebody waits for the table himself.
async fn lock_for_cut(
    work: &Work<'_>,
    txn: &mut Transaction,
    table: Oid,
) -> Result<bool, SqlError> {
    let locks = work.instance.txns.locks();
    let mode = LockMode::AccessExclusive;
    let until = Instant::now() + CUT_LOCK_LIMIT;
    loop {
        match locks
            .lock_relation(txn, table, mode, LockWait::NoWait)
            .await
        {
            Ok(()) => return Ok(true),
            Err(LockError::NotAvailable(_)) => {}
            Err(other) => return Err(other.into()),
        }
        if Instant::now() >= until || locks.is_waited_for(txn, table) {
            return Ok(false);
        }
        tokio::select! {
            () = tokio::time::sleep(CUT_LOCK_PAUSE) => {}
            interrupt = work.interrupts.wait() => return Err(interrupt.into()),
        }
    }
}

/// Writes down how large the table is, for the planner, and that it has no index where the last one was dropped or the
/// first one not committed. The caller's lock keeps out whoever makes one.
pub async fn note_size(
    work: &Work<'_>,
    txn: &mut Transaction,
    relation: &Relation,
    pages: u32,
    rows: f64,
) -> Result<(), SqlError> {
    let catalog = &work.instance.catalog;
    let system = catalog.system(work.database);
    let cx = catalog.cx(&system, work.database);
    let found = {
        let snapshot = catalog.txns.catalog_snapshot(txn);
        cx.find_one::<ClassRow>(&snapshot, CLASS_BY_OID, &[Datum::Oid(relation.oid)])?
    };
    let Some((tid, mut row)) = found else {
        return Ok(());
    };
    let (relpages, reltuples) = (i32::try_from(pages).unwrap_or(i32::MAX), rows as f32);
    let has_index = row.relhasindex && !relation.indexes.is_empty();
    if row.relpages == relpages && row.reltuples == reltuples && row.relhasindex == has_index {
        return Ok(());
    }
    row.relhasindex = has_index;
    row.relpages = relpages;
    row.reltuples = reltuples;
    cx.update(txn, tid, &row).await?;
    txn.invalidate(Invalidation::Relation {
        database: work.database,
        relation: relation.oid,
    });
    txn.next_command()?;
    Ok(())
}
