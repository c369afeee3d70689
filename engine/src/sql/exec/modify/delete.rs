//! DELETE.

use super::{Progress, Work, Worked, Writer, wait_for_row};
use crate::sql::error::SqlError;
use crate::sql::exec::cx::EvalCx;
use crate::sql::exec::newest;
use crate::sql::plan::tree::{Modify, ModifyAction};
use crate::table::heap::{self, Modified};
use crate::types::datum::Datum;

pub fn work(
    modify: &Modify,
    work: &mut Work,
    writer: Writer,
    frame: &mut [Datum],
    cx: &mut EvalCx,
) -> Result<Worked, SqlError> {
    let ModifyAction::Delete {
        ctid,
        fetch,
        recheck,
    } = &modify.action
    else {
        unreachable!("called for deletes")
    };
    loop {
        let Datum::Tid(tid) = frame[*ctid] else {
            return Ok(Worked::Skipped);
        };
        let storage = cx.access.storage()?;
        let deleted = heap::delete(
            storage.table(),
            &modify.relation,
            tid,
            writer.xid,
            writer.command,
            &storage.snapshot,
        )?;
        match deleted {
            Modified::Done { tid, .. } => return Ok(Worked::Changed(Some(tid))),
            Modified::Wait { xid, mode } => {
                return Ok(wait_for_row(modify, tid, xid, mode, Progress::Fresh));
            }
            Modified::SelfModified { .. } => return Ok(Worked::Skipped),
            Modified::Invisible => {
                return Err(SqlError::internal("attempted to delete invisible tuple"));
            }
            Modified::Deleted => {
                newest::refuse_in_repeatable_read(cx, "delete")?;
                return Ok(Worked::Skipped);
            }
            Modified::Updated { next } => {
                let row = (&*modify.relation, fetch, recheck.as_ref());
                if !work.follow(row, next, frame, cx)? {
                    return Ok(Worked::Skipped);
                }
            }
        }
    }
}
