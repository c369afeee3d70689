//! CREATE and DROP SCHEMA.

use crate::catalog::rows::{CatalogRow, ClassRow, DescriptionRow, NamespaceRow};
use crate::catalog::view::CatalogView;
use crate::ids::Oid;
use crate::sql::error::{SqlError, state};
use crate::sql::front::ast::{CreateSchema, Drop};
use crate::txn::LockMode;
use crate::types::datum::Datum;

use super::Result;
use super::cx::{DdlCx, by, oid_key};
use super::drop::drop_relation;
use super::foreign_key::{self, Dependent};
use super::names::no_schema;

pub async fn create(s: &CreateSchema, cx: &mut DdlCx<'_>) -> Result<()> {
    if let Some(element) = s.elements.first() {
        return Err(SqlError::unsupported(format!(
            "{} inside CREATE SCHEMA is not supported",
            element.tag()
        ))
        .hint("Run it as a statement of its own."));
    }
    let owner = match &s.owner {
        Some(spec) => cx.role(spec)?,
        None => cx.user.clone(),
    };
    cx.must_create_schemas()?;
    cx.must_be_member_of(&owner)?;
    let name = match &s.name {
        Some(name) => name.name.clone(),
        None => owner.name.clone(),
    };
    if name.starts_with("pg_") {
        return Err(SqlError::new(
            state::RESERVED_NAME,
            format!("unacceptable schema name \"{name}\""),
        )
        .detail("The prefix \"pg_\" is reserved for system schemas."));
    }
    if cx.view().schema_named(&name)?.is_some() {
        let message = format!("schema \"{name}\" already exists");
        if s.if_not_exists {
            cx.notices.push(SqlError::with_severity(
                crate::sql::error::Severity::Notice,
                state::DUPLICATE_SCHEMA,
                format!("{message}, skipping"),
            ));
            return Ok(());
        }
        return Err(SqlError::new(state::DUPLICATE_SCHEMA, message));
    }
    cx.keep_role(owner.oid).await?;
    let oid = cx.new_oid()?;
    cx.insert(&NamespaceRow {
        oid,
        nspname: name,
        nspowner: owner.oid,
        ..NamespaceRow::default()
    })
    .await?;
    cx.catalog_changed::<NamespaceRow>();
    Ok(())
}

pub async fn drop(s: &Drop, cx: &mut DdlCx<'_>) -> Result<()> {
    for name in &s.names {
        let name = &name.name.name;
        let Some(oid) = cx.view().schema_named(name)? else {
            if s.if_exists {
                cx.notice(format!("schema \"{name}\" does not exist, skipping"));
                continue;
            }
            return Err(no_schema(name));
        };
        let (tid, row) = cx.find_one::<NamespaceRow>(by::NAMESPACE_OID, &oid_key(oid), "schema")?;
        if oid < Oid::FIRST_NORMAL && name != "public" {
            return Err(SqlError::new(
                state::DEPENDENT_OBJECTS_STILL_EXIST,
                format!("cannot drop schema {name} because it is required by the database system"),
            ));
        }
        cx.must_own_schema(&row)?;
        cx.lock_schema(oid, LockMode::AccessExclusive).await?;
        empty(cx, oid, name, s.cascade).await?;
        let comments = [Datum::Oid(oid), Datum::Oid(NamespaceRow::TABLE)];
        cx.delete_all::<DescriptionRow>(by::DESCRIPTION, &comments)
            .await?;
        cx.delete::<NamespaceRow>(tid).await?;
        cx.catalog_changed::<NamespaceRow>();
        cx.step()?;
    }
    Ok(())
}

/// Everything in the schema goes, or stands in the way.
pub async fn empty(cx: &mut DdlCx<'_>, schema: Oid, name: &str, cascade: bool) -> Result<()> {
    let system = cx.system();
    let rows = cx
        .catalog
        .cx(&system, cx.database)
        .scan::<ClassRow>(&cx.snapshot())?;
    // Tables first: what they own goes with them.
    let mut inside: Vec<ClassRow> = rows
        .into_iter()
        .map(|(_, row)| row)
        .filter(|r| r.relnamespace == schema && matches!(r.relkind, b'r' | b'S'))
        .collect();
    inside.sort_by_key(|r| (r.relkind != b'r', r.oid));
    let mut owned = Vec::new();
    for row in inside.iter().filter(|r| r.relkind == b'r') {
        owned.extend(cx.owned_sequences(row.oid)?.into_iter().map(|o| o.sequence));
    }
    inside.retain(|r| !owned.contains(&r.oid));
    if inside.is_empty() {
        return Ok(());
    }
    let mut tables = Vec::new();
    for table in inside.iter().filter(|r| r.relkind == b'r') {
        cx.lock(table.oid, LockMode::AccessExclusive).await?;
        tables.extend(cx.view().relation(table.oid)?);
    }
    let references = foreign_key::dependents_of(cx, &tables)?;
    let (shown, lines) = listed(cx, &inside, &references, name)?;
    if !cascade {
        return Err(SqlError::new(
            state::DEPENDENT_OBJECTS_STILL_EXIST,
            format!("cannot drop schema {name} because other objects depend on it"),
        )
        .detail(lines.join("\n"))
        .hint("Use DROP ... CASCADE to drop the dependent objects too."));
    }
    cx.notices.push(foreign_key::cascades_to(&shown));
    for (key, _) in &references {
        foreign_key::drop_from_outside(cx, key).await?;
    }
    for row in inside {
        cx.lock(row.oid, LockMode::AccessExclusive).await?;
        let relation = cx.relation(row.oid)?;
        drop_relation(cx, &relation, true, &[]).await?;
        cx.step()?;
    }
    Ok(())
}

/// What is in the schema or refers to it, and why each of them depends on it.
fn listed(
    cx: &DdlCx<'_>,
    inside: &[ClassRow],
    references: &[Dependent],
    name: &str,
) -> Result<(Vec<String>, Vec<String>)> {
    let mut shown = Vec::with_capacity(inside.len());
    let mut lines = Vec::with_capacity(inside.len());
    for r in inside {
        let relation = cx.relation(r.oid)?;
        let one = foreign_key::described(cx, &relation)?;
        lines.push(format!("{one} depends on schema {name}"));
        shown.push(one);
        for (key, on) in references.iter().filter(|(key, _)| key.referenced == r.oid) {
            let one = foreign_key::described_key(cx, key)?;
            lines.push(format!("{one} depends on {on}"));
            shown.push(one);
        }
    }
    Ok((shown, lines))
}
