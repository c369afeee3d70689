//! INSERT, UPDATE, DELETE: one row at a time, each a small state machine that may have to wait for another
//! transaction in the middle and then goes on where it was.
//!
//! Order of writes for a new row version: heap first, then each index. A statement that fails leaves dead
//! versions and entries, which its transaction's abort makes invisible and vacuum removes.

mod conflict;
pub mod constraint;
mod delete;
pub mod entries;
mod insert;
mod references;
mod update;

use std::sync::Arc;

use crate::catalog::relation::Relation;
use crate::ids::{CommandId, Tid, Xid};
use crate::sql::error::SqlError;
use crate::sql::exec::cx::{EvalCx, Request, Step, WantedRow};
use crate::sql::exec::eval::Test;
use crate::sql::exec::newest::{self, Newest, Replaced};
use crate::sql::exec::node::{BoxNode, Node};
use crate::sql::exec::scan::fetch::RowLoader;
use crate::sql::plan::tree::{Fetch, Modify, ModifyAction, NodeKind, PlanNode};
use crate::sql::references::changes;
use crate::table::heap::RowBuf;
use crate::txn::RowLockMode;
use crate::types::datum::Datum;

pub fn build(spec: Arc<PlanNode>, child: BoxNode) -> BoxNode {
    Box::new(ModifyNode {
        spec,
        child,
        busy: None,
        work: Work::default(),
    })
}

/// What is reused from row to row.
#[derive(Default)]
pub struct Work {
    /// The new row, a value for each column.
    pub row: Vec<Datum>,
    pub key: Vec<u8>,
    pub values: Vec<Datum>,
    pub buffer: RowBuf,
    pub loader: RowLoader,
    /// Values of the child's row that those of a newer version took the place of.
    pub replaced: Replaced,
    /// The row that was there already, which ON CONFLICT has locked and changed.
    pub existing: Option<Tid>,
}

impl Work {
    /// Somebody changed the row and committed: puts its version at `next` in the place of the one in the frame.
    /// False if that is gone too, or is none that the statement wants.
    fn follow(
        &mut self,
        (relation, fetch, recheck): (&Relation, &Fetch, Option<&Test>),
        next: Tid,
        frame: &mut [Datum],
        cx: &mut EvalCx,
    ) -> Result<bool, SqlError> {
        newest::refuse_in_repeatable_read(cx, "update")?;
        self.replaced.keep(fetch.slots(), frame);
        let (buffer, loader) = (&mut self.buffer, &mut self.loader);
        match newest::load(cx, relation, fetch, next, buffer, loader, frame)? {
            Newest::Gone => Ok(false),
            Newest::Loaded => recheck.map_or(Ok(true), |test| test.passes(frame, cx)),
        }
    }
}

/// How far the row in the frame is.
#[derive(Clone, Copy)]
pub enum Progress {
    Fresh,
    /// The new row is computed and in the work space; a wait that ends in the same version changes nothing of it.
    Computed,
    /// The new version is in the heap; the next index to get an entry.
    Entries {
        tid: Tid,
        next: usize,
    },
    /// The same for DO UPDATE's new version of the existing row.
    ConflictEntries {
        tid: Tid,
        next: usize,
    },
}

/// What came of working on a row.
pub enum Worked {
    /// It was changed; where the new version is.
    Changed(Option<Tid>),
    /// There was nothing to change.
    Skipped,
    /// To be called again with this progress when the transaction has ended.
    Wait(Xid, Progress),
    /// The same, for a row that the transaction holds.
    WaitForRow(Xid, WantedRow, Progress),
}

/// To be called again with `progress` when `xid`, who holds the row, has ended.
fn wait_for_row(
    modify: &Modify,
    tid: Tid,
    xid: Xid,
    mode: RowLockMode,
    progress: Progress,
) -> Worked {
    let row = WantedRow {
        relation: modify.relation.oid,
        tid,
        mode,
    };
    Worked::WaitForRow(xid, row, progress)
}

/// Who changes.
#[derive(Clone, Copy)]
pub struct Writer {
    pub xid: Xid,
    pub command: CommandId,
}

struct ModifyNode {
    spec: Arc<PlanNode>,
    child: BoxNode,
    busy: Option<Progress>,
    work: Work,
}

fn spec_of(plan: &PlanNode) -> &Modify {
    let NodeKind::Modify(modify) = &plan.kind else {
        unreachable!("built from a change")
    };
    modify
}

impl Node for ModifyNode {
    fn next(&mut self, frame: &mut [Datum], cx: &mut EvalCx) -> Result<Step, SqlError> {
        loop {
            let progress = match self.busy {
                Some(progress) => progress,
                None => {
                    self.work.replaced.put_back(frame);
                    let step = self.child.next(frame, cx)?;
                    if step != Step::Row {
                        return Ok(step);
                    }
                    *self.busy.insert(Progress::Fresh)
                }
            };
            let Some(xid) = cx.access.xid else {
                cx.request = Some(Request::AssignXid);
                return Ok(Step::Yield);
            };
            let writer = Writer {
                xid,
                command: cx.access.command,
            };
            let modify = spec_of(&self.spec);
            if cx.access.crosscheck.is_some() {
                references::crosscheck(modify, &mut self.work, frame, cx)?;
            }
            let worked = match &modify.action {
                ModifyAction::Insert { .. } => {
                    insert::work(modify, &mut self.work, progress, writer, frame, cx)?
                }
                ModifyAction::Update { .. } => {
                    update::work(modify, &mut self.work, progress, writer, frame, cx)?
                }
                ModifyAction::Delete { .. } => {
                    delete::work(modify, &mut self.work, writer, frame, cx)?
                }
            };
            match worked {
                Worked::Wait(xid, progress) => {
                    self.busy = Some(progress);
                    cx.request = Some(Request::WaitFor(xid));
                    return Ok(Step::Yield);
                }
                Worked::WaitForRow(xid, row, progress) => {
                    self.busy = Some(progress);
                    cx.request = Some(Request::WaitForRow(xid, row));
                    return Ok(Step::Yield);
                }
                Worked::Skipped => self.busy = None,
                Worked::Changed(tid) => {
                    self.busy = None;
                    match modify.counts {
                        true => cx.changed += 1,
                        false => cx.note_change_in_with(&modify.relation, modify.leaves_dead()),
                    }
                    if changes::concerns(&modify.relation)
                        && let Some(tid) = tid
                    {
                        references::note(modify, tid, &mut self.work, frame, cx)?;
                    }
                    if !modify.returning.is_empty() {
                        returned(modify, tid, writer, self.work.existing.is_some(), frame, cx)?;
                        return Ok(Step::Row);
                    }
                }
            }
            if cx.queued {
                return Ok(Step::Yield);
            }
        }
    }

    fn rewind(&mut self, cx: &mut EvalCx) -> Result<(), SqlError> {
        self.busy = None;
        self.work.row.clear();
        self.work.values.clear();
        self.work.replaced = Replaced::default();
        self.child.rewind(cx)
    }
}

/// Computes RETURNING for the row that was just changed.
fn returned(
    modify: &Modify,
    tid: Option<Tid>,
    writer: Writer,
    was_there: bool,
    frame: &mut [Datum],
    cx: &mut EvalCx,
) -> Result<(), SqlError> {
    let system = &modify.system;
    let mut put = |slot: Option<usize>, value: Datum| {
        if let Some(slot) = slot {
            frame[slot] = value;
        }
    };
    put(system.ctid, tid.map_or(Datum::Null, Datum::Tid));
    put(system.tableoid, Datum::Oid(modify.relation.oid));
    put(system.xmin, Datum::Xid(writer.xid.low()));
    // By it clients tell the rows that ON CONFLICT inserted from those that it updated.
    let locker = if was_there { writer.xid.low() } else { 0 };
    put(system.xmax, Datum::Xid(locker));
    put(system.cmin, Datum::Xid(writer.command.raw()));
    put(system.cmax, Datum::Xid(writer.command.raw()));
    for (slot, value) in &modify.returning {
        frame[*slot] = value.eval(frame, cx)?;
    }
    Ok(())
}
