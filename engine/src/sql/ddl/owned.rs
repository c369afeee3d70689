//! REASSIGN OWNED and DROP OWNED: what roles own and were granted in this database, and grants on what all databases
//! share. Manual, 22.4.

use crate::catalog::acl::{AclEditor, ActsAs, Modification};
use crate::catalog::relation::Relation;
use crate::catalog::rights::{Holder, Kind};
use crate::catalog::rows::{CatalogRow, DatabaseRow, DescriptionRow, NamespaceRow};
use crate::catalog::view::{CatalogView, Role};
use crate::ids::Oid;
use crate::sql::error::{SqlError, state};
use crate::sql::front::ast::{DropOwned, ReassignOwned};
use crate::txn::LockMode;
use crate::types::datum::Datum;

use super::Result;
use super::acl_row::AclRow;
use super::cx::{DdlCx, by, oid_key};
use super::grant::best_grantor;
use super::rights::denied;
use super::role_uses::{self, RoleUse, Use};
use std::sync::Arc;

pub async fn reassign(s: &ReassignOwned, cx: &mut DdlCx<'_>) -> Result<()> {
    let mut roles = Vec::with_capacity(s.roles.len());
    for spec in &s.roles {
        let role = cx.role(spec)?;
        may_act_as(cx, &role, "reassign")?;
        roles.push(role);
    }
    let to = cx.role(&s.to)?;
    may_act_as(cx, &to, "reassign")?;
    for role in &roles {
        not_of_the_system(role, "reassign ownership of")?;
        for one in owned(cx, role.oid)? {
            give(cx, &one, role.oid, to.oid).await?;
            cx.step()?;
        }
    }
    Ok(())
}

fn may_act_as(cx: &DdlCx<'_>, role: &Role, what: &str) -> Result<()> {
    if cx.acts_as(role.oid)? {
        return Ok(());
    }
    Err(denied(format!("permission denied to {what} objects")))
}

/// What the system's roles own is the system.
fn not_of_the_system(role: &Role, what: &str) -> Result<()> {
    if role.oid >= Oid::FIRST_NORMAL {
        return Ok(());
    }
    Err(SqlError::new(
        state::DEPENDENT_OBJECTS_STILL_EXIST,
        format!(
            "cannot {what} objects owned by role {} because they are required by the database \
             system",
            role.name
        ),
    ))
}

fn owned(cx: &DdlCx<'_>, role: Oid) -> Result<Vec<RoleUse>> {
    let mut uses = role_uses::here(cx, role)?;
    uses.retain(|u| u.what == Use::Owned);
    Ok(uses)
}

async fn give(cx: &mut DdlCx<'_>, one: &RoleUse, from: Oid, to: Oid) -> Result<()> {
    match one.kind {
        Kind::Database => {
            let key = oid_key(one.object);
            let (tid, row) = cx.find_one::<DatabaseRow>(by::DATABASE_OID, &key, "database")?;
            super::owner::give_database(cx, tid, row, to).await
        }
        Kind::Schema => {
            let key = oid_key(one.object);
            let (tid, row) = cx.find_one::<NamespaceRow>(by::NAMESPACE_OID, &key, "schema")?;
            super::owner::give_schema(cx, tid, row, to).await
        }
        Kind::Table | Kind::Sequence => {
            cx.lock(one.object, LockMode::AccessExclusive).await?;
            let found = cx.view().relation(one.object)?;
            // A sequence of a table has gone with it.
            match found.filter(|r| r.owner == from) {
                Some(relation) => super::owner::give_relation(cx, &relation, to).await,
                None => Ok(()),
            }
        }
    }
}

pub async fn drop(s: &DropOwned, cx: &mut DdlCx<'_>) -> Result<()> {
    let mut roles = Vec::with_capacity(s.roles.len());
    for spec in &s.roles {
        let role = cx.role(spec)?;
        may_act_as(cx, &role, "drop")?;
        roles.push(role);
    }
    let (mut relations, mut schemas) = (Vec::new(), Vec::new());
    for role in &roles {
        not_of_the_system(role, "drop")?;
        for one in role_uses::here(cx, role.oid)? {
            match (one.what, one.kind) {
                (Use::Granted, kind) => revoke(cx, kind, one.object, role.oid).await?,
                (Use::Owned, Kind::Schema) => schemas.push(one.object),
                (Use::Owned, Kind::Table | Kind::Sequence) => {
                    cx.lock(one.object, LockMode::AccessExclusive).await?;
                    relations.extend(cx.view().relation(one.object)?);
                }
                // Databases are not dropped so.
                (Use::Owned, Kind::Database) => {}
            }
        }
    }
    drop_relations(cx, &relations, s.cascade).await?;
    for schema in schemas {
        drop_schema(cx, schema, s.cascade).await?;
    }
    Ok(())
}

/// What the role was granted on the object, and what it granted on.
async fn revoke(cx: &mut DdlCx<'_>, kind: Kind, object: Oid, role: Oid) -> Result<()> {
    if matches!(kind, Kind::Table | Kind::Sequence) {
        cx.lock(object, LockMode::ShareUpdateExclusive).await?;
    }
    let row = AclRow::read(cx, kind, object)?;
    let items = {
        let view = cx.view();
        let all = row.guarded().kind.all();
        let (grantor, privileges) = best_grantor(&Holder::asker(&view)?, row.guarded(), all)?;
        let acts_as: ActsAs<'_> = &|role, other| Holder::new(&view, role)?.acts_as(other);
        let mut editor = AclEditor::new(row.guarded(), acts_as);
        editor.apply(Modification {
            is_grant: false,
            option: false,
            cascade: true,
            grantees: &[role],
            privileges,
            grantor,
        })?;
        editor.into_items()
    };
    row.write(cx, items).await?;
    cx.step()
}

async fn drop_relations(
    cx: &mut DdlCx<'_>,
    relations: &[Arc<Relation>],
    cascade: bool,
) -> Result<()> {
    super::foreign_key::release_relations(cx, relations, cascade).await?;
    for relation in relations {
        // Sequences of columns go with their tables.
        let table = cx.owner_of(relation.oid)?.map(|(table, _, _)| table);
        let there = cx.view().relation(relation.oid)?.is_some();
        let with_its_table = table.is_some_and(|t| relations.iter().any(|r| r.oid == t));
        if there && !with_its_table {
            super::drop::drop_relation(cx, relation, cascade, relations).await?;
            cx.step()?;
        }
    }
    Ok(())
}

async fn drop_schema(cx: &mut DdlCx<'_>, schema: Oid, cascade: bool) -> Result<()> {
    let (tid, row) = cx.find_one::<NamespaceRow>(by::NAMESPACE_OID, &oid_key(schema), "schema")?;
    cx.lock_schema(schema, LockMode::AccessExclusive).await?;
    super::schema::empty(cx, schema, &row.nspname, cascade).await?;
    let comments = [Datum::Oid(schema), Datum::Oid(NamespaceRow::TABLE)];
    cx.delete_all::<DescriptionRow>(by::DESCRIPTION, &comments)
        .await?;
    cx.delete::<NamespaceRow>(tid).await?;
    cx.catalog_changed::<NamespaceRow>();
    cx.step()
}
