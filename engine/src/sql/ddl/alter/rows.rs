//! What ALTER TABLE's actions share: the catalog's rows of the table, and the table's rows.

use crate::catalog::relation::Relation;
use crate::catalog::rows::{AttributeRow, ClassRow};
use crate::ids::Oid;
use crate::sql::ddl::Result;
use crate::sql::ddl::cx::{DdlCx, by, oid_key};
use crate::sql::error::{SqlError, state};
use crate::sql::maintenance::blocking;
use crate::table::heap;
use crate::table::row::RowDecoder;
use crate::types::datum::Datum;

/// `pg_attribute` of one column, changed by `change`.
pub async fn change_attribute(
    cx: &mut DdlCx<'_>,
    relation: Oid,
    attribute: i16,
    change: impl FnOnce(&mut AttributeRow),
) -> Result<()> {
    let key = [Datum::Oid(relation), Datum::Int2(attribute)];
    let (tid, mut row) = cx.find_one::<AttributeRow>(by::ATTRIBUTE_NUMBER, &key, "attribute")?;
    change(&mut row);
    cx.update(tid, &row).await?;
    cx.changed(relation);
    Ok(())
}

/// `pg_class`, changed by `change`.
pub async fn change_class(
    cx: &mut DdlCx<'_>,
    relation: Oid,
    change: impl FnOnce(&mut ClassRow),
) -> Result<()> {
    let (tid, mut row) = cx.find_one::<ClassRow>(by::CLASS_OID, &oid_key(relation), "relation")?;
    change(&mut row);
    cx.update(tid, &row).await?;
    cx.changed(relation);
    Ok(())
}

pub async fn set_check_count(cx: &mut DdlCx<'_>, table: &Relation) -> Result<()> {
    let count = i16::try_from(table.checks.len()).unwrap_or(i16::MAX);
    change_class(cx, table.oid, |row| row.relchecks = count).await
}

pub(super) fn has_rows(cx: &mut DdlCx<'_>, table: &Relation) -> Result<bool> {
    cx.step()?;
    let snapshot = cx.snapshot();
    let table_cx = cx.catalog.table_cx();
    let mut scan = heap::scan(table_cx, table, &snapshot)?;
    Ok(scan.next(table_cx, &snapshot)?.is_some())
}

/// Calls `test` on each row; stops at the first false.
pub(super) fn each_row(
    cx: &mut DdlCx<'_>,
    table: &Relation,
    mut test: impl FnMut(&[Datum]) -> Result<bool>,
) -> Result<bool> {
    cx.step()?;
    let snapshot = cx.snapshot();
    let table_cx = cx.catalog.table_cx();
    let interrupts = cx.txn.interrupts();
    let decoder = RowDecoder::all(table);
    let mut values = vec![Datum::Null; table.columns.len()];
    let mut scan = heap::scan(table_cx, table, &snapshot)?;
    let mut count = 0u32;
    blocking(|| {
        while let Some(version) = scan.next(table_cx, &snapshot)? {
            decoder.decode(table_cx, version, &mut values)?;
            if !test(&values)? {
                return Ok(false);
            }
            count = count.wrapping_add(1);
            if count.is_multiple_of(1024) {
                interrupts.check()?;
            }
        }
        Ok(true)
    })
}

pub(super) fn find_column(table: &Relation, name: &str) -> Result<usize> {
    table.column_named(name).ok_or_else(|| {
        SqlError::new(
            state::UNDEFINED_COLUMN,
            format!(
                "column \"{name}\" of relation \"{}\" does not exist",
                table.name
            ),
        )
    })
}
