//! COMMENT ON.

use crate::catalog::rows::{
    AuthidRow, CatalogRow, ClassRow, ConstraintRow, DatabaseRow, DescriptionRow, NamespaceRow,
    ShdescriptionRow,
};
use crate::catalog::view::CatalogView;
use crate::ids::Oid;
use crate::sql::error::{SqlError, state};
use crate::sql::front::ast::{Comment, ObjectKind};
use crate::txn::LockMode;
use crate::types::datum::Datum;

use super::Result;
use super::cx::{DdlCx, by, not_owner};
use super::names::{no_relation, no_schema};
use super::rights::denied;

pub async fn comment(s: &Comment, cx: &mut DdlCx<'_>) -> Result<()> {
    let name = &s.name.name.name;
    match s.kind {
        ObjectKind::Database => {
            let found = cx.view().database_named(name)?;
            let database = found.ok_or_else(|| super::database::no_database(name))?;
            if !cx.acts_as(database.owner)? {
                return Err(not_owner("database", name));
            }
            shared(cx, database.oid, DatabaseRow::TABLE, s.text.as_deref()).await
        }
        ObjectKind::Role => {
            let role = cx.view().role_named(name)?.ok_or_else(|| {
                SqlError::new(
                    state::UNDEFINED_OBJECT,
                    format!("role \"{name}\" does not exist"),
                )
            })?;
            // Roles are owned by whoever may make some, superusers by superusers.
            if role.superuser && !cx.user.superuser {
                return Err(denied("must be superuser"));
            }
            if !cx.user.superuser && !cx.user.create_role {
                return Err(denied("must have CREATEROLE privilege"));
            }
            shared(cx, role.oid, AuthidRow::TABLE, s.text.as_deref()).await
        }
        ObjectKind::Schema => {
            let schema = cx
                .view()
                .schema_named(name)?
                .ok_or_else(|| no_schema(name))?;
            let owner = cx.view().schema(schema)?.map(|s| s.owner);
            if !owner.map_or(Ok(false), |owner| cx.acts_as(owner))? {
                return Err(not_owner("schema", name));
            }
            local(cx, schema, NamespaceRow::TABLE, 0, s.text.as_deref()).await
        }
        _ => of_relation(s, cx).await,
    }
}

async fn of_relation(s: &Comment, cx: &mut DdlCx<'_>) -> Result<()> {
    let Some(relation) = cx.open(&s.name, LockMode::ShareUpdateExclusive).await? else {
        return Err(no_relation(&s.name, "relation"));
    };
    let of_a_part = matches!(s.kind, ObjectKind::Column | ObjectKind::Constraint);
    if of_a_part && !cx.acts_as(relation.owner)? {
        return Err(not_owner("relation", &relation.name));
    }
    cx.must_own(&relation)?;
    let kind = relation.kind;
    use crate::catalog::relation::RelationKind;
    let fits = match s.kind {
        ObjectKind::Table => kind == RelationKind::Table,
        ObjectKind::Index => kind == RelationKind::Index,
        ObjectKind::Sequence => kind == RelationKind::Sequence,
        ObjectKind::View => kind == RelationKind::View,
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
    let member = s
        .member
        .as_ref()
        .map(|m| m.name.as_str())
        .unwrap_or_default();
    match s.kind {
        ObjectKind::Column => {
            let position = relation.column_named(member).ok_or_else(|| {
                SqlError::new(
                    state::UNDEFINED_COLUMN,
                    format!(
                        "column \"{member}\" of relation \"{}\" does not exist",
                        relation.name
                    ),
                )
            })?;
            let number = i32::from(relation.columns[position].attribute);
            local(cx, relation.oid, ClassRow::TABLE, number, s.text.as_deref()).await
        }
        ObjectKind::Constraint => {
            let rows = cx.constraint_rows(relation.oid)?;
            let found = rows.iter().find(|c| c.conname == member).ok_or_else(|| {
                SqlError::new(
                    state::UNDEFINED_OBJECT,
                    format!(
                        "constraint \"{member}\" for table \"{}\" does not exist",
                        relation.name
                    ),
                )
            })?;
            local(cx, found.oid, ConstraintRow::TABLE, 0, s.text.as_deref()).await
        }
        _ => local(cx, relation.oid, ClassRow::TABLE, 0, s.text.as_deref()).await,
    }
}

/// An empty comment is none.
fn kept(text: Option<&str>) -> Option<&str> {
    text.filter(|t| !t.is_empty())
}

async fn local(
    cx: &mut DdlCx<'_>,
    object: Oid,
    class: Oid,
    sub: i32,
    text: Option<&str>,
) -> Result<()> {
    let key = [Datum::Oid(object), Datum::Oid(class), Datum::Int4(sub)];
    let old = cx.find::<DescriptionRow>(by::DESCRIPTION, &key)?;
    match (old.into_iter().next(), kept(text)) {
        (Some((tid, _)), None) => cx.delete::<DescriptionRow>(tid).await,
        (None, None) => Ok(()),
        (old, Some(text)) => {
            let row = DescriptionRow {
                objoid: object,
                classoid: class,
                objsubid: sub,
                description: text.to_owned(),
            };
            match old {
                Some((tid, _)) => cx.update(tid, &row).await,
                None => cx.insert(&row).await,
            }
        }
    }
}

async fn shared(cx: &mut DdlCx<'_>, object: Oid, class: Oid, text: Option<&str>) -> Result<()> {
    let key = [Datum::Oid(object), Datum::Oid(class)];
    let old = cx.find::<ShdescriptionRow>(by::SHARED_DESCRIPTION, &key)?;
    match (old.into_iter().next(), kept(text)) {
        (Some((tid, _)), None) => cx.delete::<ShdescriptionRow>(tid).await,
        (None, None) => Ok(()),
        (old, Some(text)) => {
            let row = ShdescriptionRow {
                objoid: object,
                classoid: class,
                description: text.to_owned(),
            };
            match old {
                Some((tid, _)) => cx.update(tid, &row).await,
                None => cx.insert(&row).await,
            }
        }
    }
}
