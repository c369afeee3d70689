//! The newest version of a row that somebody changed and committed while this statement ran.

use crate::catalog::relation::Relation;
use crate::ids::Tid;
use crate::sql::error::{SqlError, state};
use crate::sql::exec::cx::EvalCx;
use crate::sql::exec::scan::fetch::RowLoader;
use crate::sql::plan::tree::Fetch;
use crate::table::heap::{self, RowBuf};
use crate::txn::Isolation;
use crate::types::datum::Datum;

pub enum Newest {
    Loaded,
    Gone,
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
