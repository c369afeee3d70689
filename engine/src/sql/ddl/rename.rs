//! ALTER ... RENAME TO.

use crate::catalog::relation::{Relation, RelationKind};
use crate::catalog::rows::{
    AttributeRow, AuthidRow, ClassRow, ConstraintRow, DatabaseRow, NamespaceRow,
};
use crate::catalog::view::CatalogView;
use crate::ids::Oid;
use crate::sql::error::{SqlError, state};
use crate::sql::front::ast::{Ident, ObjectKind, Rename, RenameTarget};
use crate::txn::LockMode;
use crate::types::datum::Datum;

use super::Result;
use super::cx::{DdlCx, May, by, oid_key};
use super::names::{no_relation, no_schema};
use super::rights::denied;
use super::stored::{with_column_renamed, with_table_renamed};

pub async fn rename(s: &Rename, cx: &mut DdlCx<'_>) -> Result<()> {
    match s.kind {
        ObjectKind::Schema => return schema(s, cx).await,
        ObjectKind::Database => return database(s, cx).await,
        ObjectKind::Role => return role(s, cx).await,
        _ => {}
    }
    let may: May<'_> = &|cx, relation| {
        cx.must_own(relation)?;
        match s.what {
            // Only the relation's own name is one of its schema's.
            RenameTarget::Itself => {
                cx.must_create_in(cx.user.oid, relation.schema, &relation.schema_name)
            }
            RenameTarget::Column(_) | RenameTarget::Constraint(_) => Ok(()),
        }
    };
    let found = cx.open_if(&s.name, LockMode::AccessExclusive, may).await?;
    let Some(relation) = found else {
        if s.if_exists {
            cx.notice(format!("relation \"{}\" does not exist, skipping", s.name));
            return Ok(());
        }
        return Err(no_relation(&s.name, "relation"));
    };
    match &s.what {
        RenameTarget::Itself => itself(s, cx, &relation).await,
        RenameTarget::Column(name) => column(cx, &relation, name, &s.to.name).await,
        RenameTarget::Constraint(name) => constraint(cx, &relation, name, &s.to.name).await,
    }
}

async fn itself(s: &Rename, cx: &mut DdlCx<'_>, relation: &Relation) -> Result<()> {
    let fits = match s.kind {
        ObjectKind::Index => relation.kind == RelationKind::Index,
        ObjectKind::Sequence => relation.kind == RelationKind::Sequence,
        // ALTER TABLE renames anything.
        _ => true,
    };
    if !fits {
        let word = s.kind.word();
        return Err(SqlError::new(
            state::WRONG_OBJECT_TYPE,
            format!(
                "\"{}\" is not {} {word}",
                relation.name,
                super::drop::article(word)
            ),
        ));
    }
    rename_relation(cx, relation.oid, relation.schema, &s.to.name).await?;
    if relation.kind == RelationKind::Table {
        let from = relation.name.as_str();
        let has_column = relation.column_named(from).is_some();
        rewrite_checks(cx, relation.oid, &|check| {
            with_table_renamed(check, from, has_column, &s.to.name)
        })
        .await?;
    }
    // A key's index and its constraint have one name.
    if relation.kind == RelationKind::Index {
        let (table, index) = super::index::on_table(cx, relation)?;
        if let Some((oid, _)) = &index.constraint {
            rename_constraint_row(cx, table.oid, *oid, &s.to.name).await?;
        }
        cx.changed(table.oid);
    }
    Ok(())
}

pub(super) async fn rename_relation(
    cx: &mut DdlCx<'_>,
    oid: Oid,
    schema: Oid,
    to: &str,
) -> Result<()> {
    if cx.taken(schema, to)? {
        return Err(SqlError::new(
            state::DUPLICATE_TABLE,
            format!("relation \"{to}\" already exists"),
        ));
    }
    let (tid, mut row) = cx.find_one::<ClassRow>(by::CLASS_OID, &oid_key(oid), "relation")?;
    row.relname = to.to_owned();
    cx.update(tid, &row).await?;
    cx.changed(oid);
    Ok(())
}

async fn column(cx: &mut DdlCx<'_>, table: &Relation, name: &Ident, to: &str) -> Result<()> {
    let position = table.column_named(&name.name).ok_or_else(|| {
        SqlError::new(
            state::UNDEFINED_COLUMN,
            format!("column \"{}\" does not exist", name.name),
        )
    })?;
    if table.column_named(to).is_some() {
        return Err(SqlError::new(
            state::DUPLICATE_COLUMN,
            format!(
                "column \"{to}\" of relation \"{}\" already exists",
                table.name
            ),
        ));
    }
    rewrite_checks(cx, table.oid, &|check| {
        with_column_renamed(check, &name.name, to)
    })
    .await?;
    rename_attribute(cx, table.oid, table.columns[position].attribute, to).await?;
    for index in &table.indexes {
        for (i, key) in index.keys.iter().enumerate() {
            if key.column == position {
                let number = i16::try_from(i + 1).unwrap_or(i16::MAX);
                rename_attribute(cx, index.oid, number, to).await?;
                cx.changed(index.oid);
            }
        }
    }
    cx.changed(table.oid);
    Ok(())
}

/// A CHECK is kept as text, which names the table's columns, and the table itself where it reads the whole row.
async fn rewrite_checks(
    cx: &mut DdlCx<'_>,
    table: Oid,
    rewrite: &(dyn Fn(&str) -> Result<String> + Sync),
) -> Result<()> {
    for (tid, mut row) in cx.find::<ConstraintRow>(by::CONSTRAINT_RELATION, &oid_key(table))? {
        let Some(check) = row.conbin.take() else {
            continue;
        };
        let rewritten = rewrite(&check)?;
        if rewritten != check {
            row.conbin = Some(rewritten);
            cx.update(tid, &row).await?;
        }
    }
    cx.changed(table);
    Ok(())
}

/// True also if the text cannot be read: then nobody knows.
pub fn uses_column(cx: &DdlCx<'_>, table: &Relation, check: &str, position: usize) -> bool {
    let bound = crate::sql::bind::check_expression(check, table, &cx.view(), cx.functions);
    bound.map_or(true, |e| {
        super::constraint::used_columns(&e).contains(&position)
    })
}

async fn rename_attribute(cx: &mut DdlCx<'_>, relation: Oid, number: i16, to: &str) -> Result<()> {
    let key = [Datum::Oid(relation), Datum::Int2(number)];
    let (tid, mut row) = cx.find_one::<AttributeRow>(by::ATTRIBUTE_NUMBER, &key, "attribute")?;
    row.attname = to.to_owned();
    cx.update(tid, &row).await
}

async fn constraint(cx: &mut DdlCx<'_>, table: &Relation, name: &Ident, to: &str) -> Result<()> {
    let rows = cx.constraint_rows(table.oid)?;
    let found = rows
        .iter()
        .find(|c| c.conname == name.name)
        .ok_or_else(|| {
            SqlError::new(
                state::UNDEFINED_OBJECT,
                format!(
                    "constraint \"{}\" for table \"{}\" does not exist",
                    name.name, table.name
                ),
            )
        })?;
    if rows.iter().any(|c| c.conname == to) {
        return Err(SqlError::new(
            state::DUPLICATE_OBJECT,
            format!(
                "constraint \"{to}\" for relation \"{}\" already exists",
                table.name
            ),
        ));
    }
    if found.contype == b'f' {
        // Its name is in the description of the table that it refers to, too.
        cx.changed(found.confrelid);
    } else if found.conindid.is_valid() {
        rename_relation(cx, found.conindid, table.schema, to).await?;
    }
    rename_constraint_row(cx, table.oid, found.oid, to).await?;
    cx.changed(table.oid);
    Ok(())
}

async fn rename_constraint_row(
    cx: &mut DdlCx<'_>,
    table: Oid,
    constraint: Oid,
    to: &str,
) -> Result<()> {
    let rows = cx.find::<ConstraintRow>(by::CONSTRAINT_RELATION, &oid_key(table))?;
    for (tid, mut row) in rows {
        if row.oid == constraint {
            row.conname = to.to_owned();
            cx.update(tid, &row).await?;
        }
    }
    Ok(())
}

async fn schema(s: &Rename, cx: &mut DdlCx<'_>) -> Result<()> {
    let name = &s.name.name.name;
    let rows = cx.find::<NamespaceRow>(by::NAMESPACE_NAME, &[Datum::text(name)])?;
    let Some((tid, mut row)) = rows.into_iter().next() else {
        return Err(no_schema(name));
    };
    let to = &s.to.name;
    if cx.view().schema_named(to)?.is_some() {
        return Err(SqlError::new(
            state::DUPLICATE_SCHEMA,
            format!("schema \"{to}\" already exists"),
        ));
    }
    cx.must_own_schema(&row)?;
    cx.must_create_schemas()?;
    if to.starts_with("pg_") {
        return Err(SqlError::new(
            state::RESERVED_NAME,
            format!("unacceptable schema name \"{to}\""),
        )
        .detail("The prefix \"pg_\" is reserved for system schemas."));
    }
    row.nspname = to.clone();
    cx.update(tid, &row).await?;
    // Descriptions of its relations carry the schema's name.
    let database = cx.database;
    cx.txn
        .invalidate(crate::txn::Invalidation::All { database });
    Ok(())
}

async fn database(s: &Rename, cx: &mut DdlCx<'_>) -> Result<()> {
    let name = &s.name.name.name;
    let rows = cx.find::<DatabaseRow>(by::DATABASE_NAME, &[Datum::text(name)])?;
    let Some((tid, mut row)) = rows.into_iter().next() else {
        return Err(super::database::no_database(name));
    };
    cx.must_own_database(&row)?;
    if !cx.user.superuser && !cx.user.create_db {
        return Err(denied("permission denied to rename database"));
    }
    if cx.view().database_named(&s.to.name)?.is_some() {
        return Err(SqlError::new(
            state::DUPLICATE_DATABASE,
            format!("database \"{}\" already exists", s.to.name),
        ));
    }
    if row.oid == cx.database {
        return Err(SqlError::unsupported("current database cannot be renamed"));
    }
    row.datname.clone_from(&s.to.name);
    cx.update(tid, &row).await?;
    cx.shared_changed::<DatabaseRow>();
    Ok(())
}

async fn role(s: &Rename, cx: &mut DdlCx<'_>) -> Result<()> {
    let name = &s.name.name.name;
    let rows = cx.find::<AuthidRow>(by::ROLE_NAME, &[Datum::text(name)])?;
    let Some((tid, mut row)) = rows.into_iter().next() else {
        return Err(SqlError::new(
            state::UNDEFINED_OBJECT,
            format!("role \"{name}\" does not exist"),
        ));
    };
    for (oid, what) in [(cx.session_user.oid, "session"), (cx.user.oid, "current")] {
        if row.oid == oid {
            return Err(SqlError::unsupported(format!(
                "{what} user cannot be renamed"
            )));
        }
    }
    for name in [name, &s.to.name] {
        if name.starts_with("pg_") {
            return Err(SqlError::new(
                state::RESERVED_NAME,
                format!("role name \"{name}\" is reserved"),
            )
            .detail("Role names starting with \"pg_\" are reserved."));
        }
    }
    if cx.view().role_named(&s.to.name)?.is_some() {
        return Err(SqlError::new(
            state::DUPLICATE_OBJECT,
            format!("role \"{}\" already exists", s.to.name),
        ));
    }
    if row.rolsuper && !cx.user.superuser {
        return Err(denied("must be superuser to rename superusers"));
    }
    if !cx.user.superuser && !cx.user.create_role {
        return Err(denied("permission denied to rename role"));
    }
    row.rolname.clone_from(&s.to.name);
    cx.update(tid, &row).await?;
    cx.shared_changed::<AuthidRow>();
    Ok(())
}
