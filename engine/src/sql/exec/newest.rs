//! The newest version of a row that somebody changed and committed while this statement ran.

use crate::catalog::relation::Relation;
use crate::ids::Tid;
use crate::sql::error::{SqlError, state};
use crate::sql::exec::cx::EvalCx;
use crate::sql::exec::eval::Slot;
use crate::sql::exec::scan::fetch::RowLoader;
use crate::sql::plan::tree::Fetch;
use crate::table::heap::{self, RowBuf};
use crate::txn::Isolation;
use crate::types::datum::Datum;

pub enum Newest {
    Loaded,
    Gone,
}

/// Values of the frame that those of a newer version took the place of. The nodes below may go on with the row they
/// made (a join finds further partners for it), so they get their values back before they are asked for the next one.
#[derive(Default)]
pub struct Replaced(Vec<(Slot, Datum)>);

impl Replaced {
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
    /// Before the slots are overwritten; what they held first counts.
    pub fn keep(&mut self, slots: impl Iterator<Item = Slot>, frame: &[Datum]) {
        for slot in slots {
            if self.0.iter().all(|(kept, _)| *kept != slot) {
                self.0.push((slot, frame[slot].clone()));
            }
        }
    }
    #[inline]
    pub fn put_back(&mut self, frame: &mut [Datum]) {
        for (slot, value) in self.0.drain(..) {
            frame[slot] = value;
        }
    }
}

/// Under REPEATABLE READ a change by somebody else ends the statement.
pub fn refuse_in_repeatable_read(cx: &EvalCx, what: &str) -> Result<(), SqlError> {
    if cx.access.isolation == Isolation::ReadCommitted {
        return Ok(());
    }
    Err(SqlError::new(
        state::SERIALIZATION_FAILURE,
        format!("could not serialize access due to concurrent {what}"),
    ))
}

/// Puts the version at `tid` into the slots of `fetch`, its address among them.
pub fn load(
    cx: &EvalCx,
    relation: &Relation,
    fetch: &Fetch,
    tid: Tid,
    buffer: &mut RowBuf,
    loader: &mut RowLoader,
    frame: &mut [Datum],
) -> Result<Newest, SqlError> {
    let storage = cx.access.storage()?;
    if !heap::fetch_version(storage.table(), relation, tid, buffer)? {
        return Ok(Newest::Gone);
    }
    let Some(row) = buffer.version() else {
        return Ok(Newest::Gone);
    };
    loader.load(fetch, relation, row, storage, frame)?;
    Ok(Newest::Loaded)
}
