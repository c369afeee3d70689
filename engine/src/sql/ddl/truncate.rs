//! TRUNCATE: new, empty files in place of the old ones, which go at commit. Manual, TRUNCATE.

use std::sync::Arc;

use crate::catalog::relation::{Index, Relation, RelationKind};
use crate::catalog::rows::ClassRow;
use crate::ids::Oid;
use crate::sql::error::{SqlError, state};
use crate::sql::front::ast::Truncate;
use crate::table::files;
use crate::txn::LockMode;
use crate::types::acl::Privileges;

use super::Result;
use super::cx::{DdlCx, by, oid_key};
use super::names::no_relation;
use super::rights::must_not_be_system;

pub async fn truncate(s: &Truncate, cx: &mut DdlCx<'_>) -> Result<()> {
    let mut tables: Vec<Arc<Relation>> = Vec::with_capacity(s.tables.len());
    for name in &s.tables {
        let found = cx.open_if(name, LockMode::AccessExclusive, &may).await?;
        let Some(table) = found else {
            return Err(no_relation(name, "relation"));
        };
        if tables.iter().all(|t| t.oid != table.oid) {
            cx.must_not_be_in_use(table.oid, &table.name, "TRUNCATE")?;
            tables.push(table);
        }
    }
    if s.cascade {
        add_referring(cx, &mut tables).await?;
    }
    refuse_referenced(cx, &tables)?;
    for table in tables {
        empty(cx, &table).await?;
        if s.restart_identity {
            for owned in cx.owned_sequences(table.oid)? {
                cx.lock(owned.sequence, LockMode::ShareRowExclusive).await?;
                let sequence = cx.relation(owned.sequence)?;
                cx.must_own(&sequence)?;
                super::sequence::restart(cx, &sequence).await?;
            }
        }
        cx.step()?;
    }
    Ok(())
}

/// Tables that refer to these and are none of them, by oid.
fn referring(tables: &[Arc<Relation>]) -> Vec<Oid> {
    let keys = tables.iter().flat_map(|t| &t.referenced_by);
    let mut found: Vec<Oid> = keys
        .map(|key| key.table)
        .filter(|oid| tables.iter().all(|t| t.oid != *oid))
        .collect();
    found.sort_unstable();
    found.dedup();
    found
}

/// CASCADE: the tables that refer to them too, and so on.
async fn add_referring(cx: &mut DdlCx<'_>, tables: &mut Vec<Arc<Relation>>) -> Result<()> {
    loop {
        let more = referring(tables);
        if more.is_empty() {
            return Ok(());
        }
        for oid in more {
            cx.lock(oid, LockMode::AccessExclusive).await?;
            let table = cx.relation(oid)?;
            cx.notice(format!("truncate cascades to table \"{}\"", table.name));
            may(cx, &table)?;
            cx.must_not_be_in_use(table.oid, &table.name, "TRUNCATE")?;
            tables.push(table);
        }
    }
}

/// Nobody looks at rows that TRUNCATE removes: no other table may refer to them.
fn refuse_referenced(cx: &DdlCx<'_>, tables: &[Arc<Relation>]) -> Result<()> {
    for table in tables {
        let others = referring(std::slice::from_ref(table));
        let other = others
            .into_iter()
            .find(|oid| tables.iter().all(|t| t.oid != *oid));
        if let Some(other) = other {
            let other = cx.relation(other)?;
            return Err(SqlError::unsupported(
                "cannot truncate a table referenced in a foreign key constraint",
            )
            .detail(format!(
                "Table \"{}\" references \"{}\".",
                other.name, table.name
            ))
            .hint(format!(
                "Truncate table \"{}\" at the same time, or use TRUNCATE ... CASCADE.",
                other.name
            )));
        }
    }
    Ok(())
}

fn may(cx: &DdlCx<'_>, table: &Relation) -> Result<()> {
    if table.kind != RelationKind::Table {
        return Err(SqlError::new(
            state::WRONG_OBJECT_TYPE,
            format!("\"{}\" is not a table", table.name),
        ));
    }
    must_not_be_system(table)?;
    cx.must_hold(table, Privileges::TRUNCATE)
}

async fn empty(cx: &mut DdlCx<'_>, table: &Relation) -> Result<()> {
    let file = cx.new_file()?;
    cx.create_file(file)?;
    files::drop_at_commit(cx.txn, table.file);
    let (tid, mut row) = cx.find_one::<ClassRow>(by::CLASS_OID, &oid_key(table.oid), "relation")?;
    row.relfilenode = file.number;
    if let Some(old) = table.overflow {
        let overflow = cx.new_file()?;
        cx.create_file(overflow)?;
        files::drop_at_commit(cx.txn, old);
        row.reltoastrelid = overflow.number;
    }
    row.relpages = 0;
    row.reltuples = -1.0;
    cx.update(tid, &row).await?;
    for index in &table.indexes {
        let new = Index {
            file: cx.new_file()?,
            ..(**index).clone()
        };
        super::index::build_empty(cx, &new)?;
        files::drop_at_commit(cx.txn, index.file);
        let (tid, mut row) =
            cx.find_one::<ClassRow>(by::CLASS_OID, &oid_key(index.oid), "index")?;
        row.relfilenode = new.file.number;
        cx.update(tid, &row).await?;
        cx.changed(index.oid);
    }
    cx.changed(table.oid);
    Ok(())
}
