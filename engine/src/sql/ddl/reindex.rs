//! REINDEX: new files in place of the indexes' old ones, which go at commit. Manual, REINDEX.
//!
//! The table is locked for readers too: an index that is read has no lock of its own.

use std::sync::Arc;

use crate::catalog::relation::{Index, Relation, RelationKind};
use crate::catalog::rows::{ClassRow, IndexRow};
use crate::catalog::view::CatalogView;
use crate::ids::Oid;
use crate::sql::error::{Severity, SqlError, state};
use crate::sql::front::ast::{ObjectName, Reindex, ReindexTarget};
use crate::table::files;
use crate::txn::LockMode;

use super::Result;
use super::cx::{DdlCx, May, by, oid_key};
use super::names::no_relation;

/// One index or one table; several tables are a transaction each.
pub async fn reindex(s: &Reindex, cx: &mut DdlCx<'_>) -> Result<()> {
    let verbose = check(s)?;
    match &s.what {
        ReindexTarget::Index(name) => one(name, verbose, cx).await,
        ReindexTarget::Table(name) => all_of(name, verbose, cx).await,
        ReindexTarget::Schema(_) | ReindexTarget::Database(_) | ReindexTarget::System(_) => Err(
            SqlError::internal("REINDEX of several tables runs by itself"),
        ),
    }
}

/// The options, and what is refused. True: each index is told of (VERBOSE).
pub fn check(s: &Reindex) -> Result<bool> {
    let (concurrently, verbose) = options(s)?;
    if concurrently {
        return Err(
            SqlError::unsupported("REINDEX CONCURRENTLY is not supported")
                .hint("Use REINDEX, which locks the table."),
        );
    }
    Ok(verbose)
}

/// A table of a list that was made before; it may be gone.
pub async fn reindex_table(table: Oid, verbose: bool, cx: &mut DdlCx<'_>) -> Result<()> {
    cx.lock(table, LockMode::AccessExclusive).await?;
    let found = cx.view().relation(table)?;
    match found {
        Some(table) => rebuild_all(cx, &table, verbose).await,
        None => Ok(()),
    }
}

fn options(s: &Reindex) -> Result<(bool, bool)> {
    let (mut concurrently, mut verbose) = (s.concurrently, false);
    for option in &s.options {
        let wrong = |message: String| SqlError::new(state::SYNTAX_ERROR, message);
        match option.name.as_str() {
            name @ ("verbose" | "concurrently") => {
                let on = option
                    .boolean()
                    .ok_or_else(|| wrong(format!("{name} requires a Boolean value")))?;
                match name {
                    "verbose" => verbose = on,
                    _ => concurrently |= on,
                }
            }
            "tablespace" => {
                let space = option.text().unwrap_or_default();
                if !matches!(space, "" | "pg_default") {
                    return Err(SqlError::new(
                        state::UNDEFINED_OBJECT,
                        format!("tablespace \"{space}\" does not exist"),
                    ));
                }
            }
            other => {
                let message = format!("unrecognized REINDEX option \"{other}\"");
                return Err(wrong(message).at(option.at));
            }
        }
    }
    Ok((concurrently, verbose))
}

async fn one(name: &ObjectName, verbose: bool, cx: &mut DdlCx<'_>) -> Result<()> {
    let may: May<'_> = &|cx, found| {
        if found.kind != RelationKind::Index {
            return Err(SqlError::new(
                state::WRONG_OBJECT_TYPE,
                format!("\"{}\" is not an index", found.name),
            ));
        }
        cx.must_own(found)
    };
    let found = cx.open_if(name, LockMode::AccessExclusive, may).await?;
    let Some(found) = found else {
        return Err(no_relation(name, "relation"));
    };
    let table = cx
        .index_table(&found)?
        .ok_or_else(|| SqlError::internal("an index has no table"))?;
    let table = cx.relation(table)?;
    for index in table.indexes.iter().filter(|i| i.oid == found.oid) {
        rebuild(cx, &table, index, verbose).await?;
    }
    Ok(())
}

async fn all_of(name: &ObjectName, verbose: bool, cx: &mut DdlCx<'_>) -> Result<()> {
    let may: May<'_> = &|cx, table| {
        if table.kind != RelationKind::Table {
            return Err(SqlError::new(
                state::WRONG_OBJECT_TYPE,
                format!("\"{}\" is not a table or materialized view", table.name),
            ));
        }
        cx.must_own(table)
    };
    let found = cx.open_if(name, LockMode::AccessExclusive, may).await?;
    let Some(table) = found else {
        return Err(no_relation(name, "relation"));
    };
    if table.indexes.is_empty() {
        cx.notice(format!(
            "table \"{}\" has no indexes to reindex",
            table.name
        ));
    }
    rebuild_all(cx, &table, verbose).await
}

async fn rebuild_all(cx: &mut DdlCx<'_>, table: &Relation, verbose: bool) -> Result<()> {
    for index in &table.indexes {
        cx.lock(index.oid, LockMode::AccessExclusive).await?;
        rebuild(cx, table, index, verbose).await?;
    }
    Ok(())
}

async fn rebuild(
    cx: &mut DdlCx<'_>,
    table: &Relation,
    index: &Arc<Index>,
    verbose: bool,
) -> Result<()> {
    cx.must_not_be_in_use(index.oid, &index.name, "REINDEX INDEX")?;
    let new = Index {
        file: cx.new_file()?,
        ..(**index).clone()
    };
    let older = super::index::build(cx, table, &new)?;
    files::drop_at_commit(cx.txn, index.file);
    let (tid, mut row) = cx.find_one::<ClassRow>(by::CLASS_OID, &oid_key(index.oid), "index")?;
    row.relfilenode = new.file.number;
    cx.update(tid, &row).await?;
    if older {
        // Older snapshots may see rows that are not in it; they know it by who wrote this row.
        let (tid, mut row) =
            cx.find_one::<IndexRow>(by::INDEX_OID, &oid_key(index.oid), "index")?;
        row.indcheckxmin = true;
        cx.update(tid, &row).await?;
    }
    if verbose {
        let message = format!("index \"{}\" was reindexed", index.name);
        let code = state::SUCCESSFUL_COMPLETION;
        cx.notices
            .push(SqlError::with_severity(Severity::Info, code, message));
    }
    cx.changed(index.oid);
    cx.changed(table.oid);
    cx.step()
}
