//! Changing fixed-width values of a row version where it stands, for everybody at once and whatever becomes of the
//! transaction: PostgreSQL's `heap_inplace_update`.
//!
//! Only for facts of the catalog that stay right if their author rolls back ("this table has or had indexes"). Nobody has
//! to wait for whoever notes one. A version that somebody is replacing is not touched, because the new one would not have
//! the value; the caller's locks keep others from replacing it while he decides.

use crate::catalog::relation::Relation;
use crate::ids::{Tid, Xid};
use crate::storage::{BlockMode, Change};
use crate::table::cx::TableCx;
use crate::table::error::TableError;
use crate::table::page_ops;
use crate::table::row::{Attributes, Stored, encode_fixed};
use crate::table::visibility;
use crate::txn::{RowLockMode, Snapshot};
use crate::types::datum::Datum;
use crate::wal::RmgrId;

use super::lock::refusal;
use super::version::{Modified, heap_page, tuple_at};

/// Sets the column at position `column` (from 0) of the version at `tid`, which must be the newest. The version has a
/// value there that is not NULL; `value` is of the column's type, whose width is fixed.
pub fn overwrite(
    cx: TableCx<'_>,
    rel: &Relation,
    tid: Tid,
    column: usize,
    value: &Datum,
    xid: Xid,
    snapshot: &Snapshot,
) -> Result<Modified, TableError> {
    let pin = cx.store.pool.pin(heap_page(rel.file, tid.block))?;
    let mut page = pin.write();
    let Some((header, tuple)) = tuple_at(&page, rel.file, tid)? else {
        return Ok(Modified::Invisible);
    };
    let (own, command) = (snapshot.own(), snapshot.command_id());
    let mode = RowLockMode::NoKeyExclusive;
    let access = visibility::access(&header, own, command, cx.txns, mode);
    if let Some(refused) = refusal(access, mode) {
        return Ok(refused);
    }
    let damaged = |what| TableError::DamagedRow {
        file: rel.file,
        tid,
        what,
    };
    let (at, old) = fixed(rel, tuple, header.values_at(), column).map_err(damaged)?;
    let mut new = Vec::with_capacity(old.len());
    encode_fixed(rel, column, value, &mut new)?;
    if new != old {
        let data = page_ops::overwrite_data(tid.offset, at, &new);
        let mut change = Change::new(RmgrId::HEAP, page_ops::OVERWRITE, xid);
        change.block(&mut page, BlockMode::Update, &data);
        change.commit(&cx.store.wal, page_ops::apply);
    }
    Ok(Modified::Done {
        tid,
        same_page: true,
    })
}

/// Where a fixed-width value begins in its row version, and its bytes.
fn fixed<'t>(
    rel: &'t Relation,
    tuple: &'t [u8],
    values_at: usize,
    column: usize,
) -> Result<(usize, &'t [u8]), &'static str> {
    let mut at = values_at;
    for attribute in Attributes::of(rel, tuple) {
        let (position, bytes, stored) = attribute?;
        if position == column {
            return match stored {
                Stored::Fixed(bytes) => Ok((at, bytes)),
                _ => Err("value to overwrite has no fixed place"),
            };
        }
        at += bytes.len();
    }
    Err("value to overwrite is not stored")
}

#[cfg(test)]
mod tests {
    use super::super::tests::{Table, compare_with_redo};
    use super::*;
    use crate::txn::Transaction;

    /// Sets the second column of the version at `tid`.
    fn set(table: &Table, txn: &mut Transaction, tid: Tid, n: i32) -> Modified {
        let txns = &table.world.txns;
        let xid = txns.xid(txn).expect("xid");
        let (snapshot, value) = (txns.snapshot(txn), Datum::Int4(n));
        let done = overwrite(table.world.cx(), &table.rel, tid, 1, &value, xid, &snapshot);
        done.expect("overwritten")
    }

    #[test]
    fn an_overwritten_value_is_everybodys_at_once_and_for_good() {
        let mut table = Table::new(64);
        let mut writer = table.world.begin();
        let tid = table.insert(&mut writer, &(1, 10, Some("x".to_owned())));
        table.insert(&mut writer, &(2, 20, None));
        table.commit(writer);
        let reader = table.world.begin();
        let old = table.world.txns.snapshot(&reader);
        let (mut first, mut second) = (table.world.begin(), table.world.begin());
        for (txn, n) in [(&mut first, 11), (&mut second, 12)] {
            let done = set(&table, txn, tid, n);
            assert!(matches!(done, Modified::Done { .. }), "{done:?}");
            let seen = table.find(1, &old).map(|(_, row)| row);
            assert_eq!(seen, Some((1, n, Some("x".to_owned()))));
        }
        drop(second);
        assert_eq!(table.find(1, &old).map(|(_, row)| row.1), Some(12));
        assert_eq!(table.find(2, &old).map(|(_, row)| row.1), Some(20));
        // A version that somebody is replacing, or has replaced, is left alone.
        let mut other = table.world.begin();
        let xid = table.world.txns.xid(&mut other).expect("xid");
        table.update(&mut other, tid, &(1, 13, None));
        let done = set(&table, &mut first, tid, 14);
        assert!(
            matches!(done, Modified::Wait { xid: by, .. } if by == xid),
            "{done:?}"
        );
        table.commit(other);
        let done = set(&table, &mut first, tid, 14);
        assert!(matches!(done, Modified::Updated { .. }), "{done:?}");
        compare_with_redo(&table);
    }

    #[test]
    fn what_has_no_fixed_place_is_refused() {
        let mut table = Table::new(64);
        let mut writer = table.world.begin();
        let tid = table.insert(&mut writer, &(1, 10, Some("x".to_owned())));
        writer.next_command().expect("next");
        let txns = &table.world.txns;
        let (cx, xid) = (table.world.cx(), txns.xid(&mut writer).expect("xid"));
        let snapshot = txns.snapshot(&writer);
        for (column, value) in [(1, Datum::Bool(true)), (2, Datum::text("y"))] {
            let done = overwrite(cx, &table.rel, tid, column, &value, xid, &snapshot);
            assert!(done.is_err(), "{value:?}: {done:?}");
        }
    }
}
