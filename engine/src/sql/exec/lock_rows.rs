//! SELECT ... FOR UPDATE and the like: locks the rows that pass through.
//!
//! A row that somebody changed meanwhile is locked in its newest version, if that still meets the conditions
//! (READ COMMITTED; the other relations' rows as they were), or ends the statement with 40001. Simple subqueries in FROM
//! that read such a row are computed anew; the loop below that passed them the older version gets its values back.

use std::sync::Arc;

use crate::sql::bound::{LockWait, RowLockMode as Asked};
use crate::sql::error::{SqlError, state};
use crate::sql::exec::cx::{EvalCx, Request, Step, WantedRow};
use crate::sql::exec::newest::{self, Newest, Replaced};
use crate::sql::exec::node::{BoxNode, Node};
use crate::sql::exec::scan::fetch::RowLoader;
use crate::sql::plan::tree::{Again, LockTarget, NodeKind, PlanNode};
use crate::table::heap::{self, Modified, RowBuf};
use crate::txn::RowLockMode;
use crate::types::datum::Datum;

pub struct LockRowsNode {
    spec: Arc<PlanNode>,
    child: BoxNode,
    /// The next target of the row in the frame.
    at: Option<usize>,
    /// What newer versions took the place of in the frame; where there are any, the conditions are tested again.
    replaced: Replaced,
    /// Values of newer versions were passed to subqueries in FROM.
    passed: bool,
    buffer: RowBuf,
    loader: RowLoader,
}

enum Locked {
    Yes,
    /// Without this row.
    Skip,
    Pause,
}

pub const fn lock_mode(asked: Asked) -> RowLockMode {
    match asked {
        Asked::KeyShare => RowLockMode::KeyShare,
        Asked::Share => RowLockMode::Share,
        Asked::NoKeyUpdate => RowLockMode::NoKeyExclusive,
        Asked::Update => RowLockMode::Exclusive,
    }
}

impl LockRowsNode {
    pub fn new(spec: Arc<PlanNode>, child: BoxNode) -> LockRowsNode {
        LockRowsNode {
            spec,
            child,
            at: None,
            replaced: Replaced::default(),
            passed: false,
            buffer: RowBuf::new(),
            loader: RowLoader::default(),
        }
    }

    fn lock(
        &mut self,
        target: &LockTarget,
        frame: &mut [Datum],
        cx: &mut EvalCx,
    ) -> Result<Locked, SqlError> {
        let Datum::Tid(tid) = frame[target.ctid] else {
            return Ok(Locked::Yes);
        };
        let Some(xid) = cx.access.xid else {
            cx.request = Some(Request::AssignXid);
            return Ok(Locked::Pause);
        };
        let storage = cx.access.storage()?;
        let mode = lock_mode(target.mode);
        let command = cx.access.command;
        let relation = &target.relation;
        let outcome = heap::lock_row(
            storage.table(),
            relation,
            tid,
            mode,
            xid,
            command,
            &storage.snapshot,
        )?;
        match outcome {
            Modified::Done { .. } => Ok(Locked::Yes),
            // Changed by this very command, or by nobody who counts: as if it were not there.
            Modified::SelfModified { .. } | Modified::Invisible => Ok(Locked::Skip),
            Modified::Wait { xid, mode } => match target.wait {
                LockWait::Block => {
                    let row = WantedRow {
                        relation: relation.oid,
                        tid,
                        mode,
                    };
                    cx.request = Some(Request::WaitForRow(xid, row));
                    Ok(Locked::Pause)
                }
                LockWait::SkipLocked => Ok(Locked::Skip),
                LockWait::NoWait => Err(SqlError::new(
                    state::LOCK_NOT_AVAILABLE,
                    format!(
                        "could not obtain lock on row in relation \"{}\"",
                        relation.name
                    ),
                )),
            },
            Modified::Deleted => {
                // PostgreSQL says "update" here, where a DELETE would have said "delete".
                newest::refuse_in_repeatable_read(cx, "update")?;
                Ok(Locked::Skip)
            }
            Modified::Updated { next } => {
                newest::refuse_in_repeatable_read(cx, "update")?;
                self.replaced.keep(target.fetch.slots(), frame);
                let newest = newest::load(
                    cx,
                    relation,
                    &target.fetch,
                    next,
                    &mut self.buffer,
                    &mut self.loader,
                    frame,
                )?;
                match newest {
                    Newest::Loaded => self.lock(target, frame, cx),
                    Newest::Gone => Ok(Locked::Skip),
                }
            }
        }
    }

    /// What subqueries in FROM made of the rows to their left.
    fn compute_again(
        &mut self,
        steps: &[Again],
        frame: &mut [Datum],
        cx: &mut EvalCx,
    ) -> Result<(), SqlError> {
        for step in steps {
            match step {
                Again::Pass(number, slot) => {
                    self.passed = true;
                    cx.pass(*number, frame[*slot].clone());
                }
                Again::Compute(slot, value) => {
                    self.replaced.keep(std::iter::once(*slot), frame);
                    frame[*slot] = value.eval(frame, cx)?;
                }
            }
        }
        Ok(())
    }

    /// The nodes below go on with the row that they made.
    fn put_back(&mut self, frame: &mut [Datum], cx: &mut EvalCx) {
        self.replaced.put_back(frame);
        let NodeKind::LockRows { lateral, .. } = &self.spec.kind else {
            unreachable!("built from a row lock")
        };
        if std::mem::take(&mut self.passed) {
            for step in lateral {
                if let Again::Pass(number, slot) = step {
                    cx.pass(*number, frame[*slot].clone());
                }
            }
        }
    }

    /// Locks what the row in the frame has of each target.
    fn lock_all(&mut self, frame: &mut [Datum], cx: &mut EvalCx) -> Result<Locked, SqlError> {
        let spec = Arc::clone(&self.spec);
        let NodeKind::LockRows {
            locks,
            recheck,
            outer,
            lateral,
            early,
            ..
        } = &spec.kind
        else {
            unreachable!("built from a row lock")
        };
        while let Some(at) = self.at {
            let Some(target) = locks.get(at) else { break };
            match self.lock(target, frame, cx)? {
                Locked::Yes => self.at = Some(at + 1),
                other => return Ok(other),
            }
        }
        if self.replaced.is_empty() {
            return Ok(Locked::Yes);
        }
        self.compute_again(lateral, frame, cx)?;
        let mut alone = false;
        for (on, slots) in outer {
            let joined = match on {
                Some(on) => on.passes(frame, cx)?,
                None => true,
            };
            if !joined {
                alone = true;
                self.replaced.keep(slots.iter().copied(), frame);
                for slot in slots {
                    frame[*slot] = Datum::Null;
                }
            }
        }
        if alone {
            self.compute_again(lateral, frame, cx)?;
        }
        if let Some(test) = recheck
            && !test.passes(frame, cx)?
        {
            return Ok(Locked::Skip);
        }
        self.replaced
            .keep(early.iter().map(|(slot, _)| *slot), frame);
        for (slot, value) in early {
            frame[*slot] = value.eval(frame, cx)?;
        }
        Ok(Locked::Yes)
    }
}

impl Node for LockRowsNode {
    fn next(&mut self, frame: &mut [Datum], cx: &mut EvalCx) -> Result<Step, SqlError> {
        loop {
            if self.at.is_none() {
                self.put_back(frame, cx);
                let step = self.child.next(frame, cx)?;
                if step != Step::Row {
                    return Ok(step);
                }
                self.at = Some(0);
            }
            match self.lock_all(frame, cx)? {
                Locked::Pause => return Ok(Step::Yield),
                Locked::Skip => {
                    self.at = None;
                    if cx.queued {
                        return Ok(Step::Yield);
                    }
                }
                Locked::Yes => {
                    self.at = None;
                    return Ok(Step::Row);
                }
            }
        }
    }

    fn rewind(&mut self, cx: &mut EvalCx) -> Result<(), SqlError> {
        self.at = None;
        self.replaced = Replaced::default();
        self.passed = false;
        self.child.rewind(cx)
    }
}
