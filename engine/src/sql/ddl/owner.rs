//! ALTER ... OWNER TO: who may give what to whom, and what goes along. Grants move with the ownership: what the old
//! owner had granted is the new one's.

use crate::catalog::acl::with_new_owner;
use crate::catalog::relation::{Relation, RelationKind};
use crate::catalog::rows::{AclArray, ClassRow, DatabaseRow, NamespaceRow};
use crate::catalog::view::Role;
use crate::ids::{Oid, Tid};
use crate::sql::error::{SqlError, state};
use crate::sql::front::ast::{AlterOwner, ObjectKind};
use crate::types::datum::Datum;

use super::Result;
use super::cx::{DdlCx, by, oid_key};
use super::rights::denied;

pub async fn alter(s: &AlterOwner, cx: &mut DdlCx<'_>) -> Result<()> {
    let owner = cx.role(&s.owner)?;
    let name = &s.name.name.name;
    let key = [Datum::text(name)];
    if s.kind == ObjectKind::Database {
        let rows = cx.find::<DatabaseRow>(by::DATABASE_NAME, &key)?;
        let Some((tid, row)) = rows.into_iter().next() else {
            return Err(super::database::no_database(name));
        };
        if row.datdba == owner.oid {
            return Ok(());
        }
        cx.must_own_database(&row)?;
        cx.must_be_member_of(&owner)?;
        // The new owner could make one: so must whoever makes somebody its owner.
        if !cx.user.superuser && !cx.user.create_db {
            return Err(denied("permission denied to change owner of database"));
        }
        return give_database(cx, tid, row, owner.oid).await;
    }
    let rows = cx.find::<NamespaceRow>(by::NAMESPACE_NAME, &key)?;
    let Some((tid, row)) = rows.into_iter().next() else {
        return Err(super::names::no_schema(name));
    };
    if row.nspowner == owner.oid {
        return Ok(());
    }
    cx.must_own_schema(&row)?;
    cx.must_be_member_of(&owner)?;
    cx.must_create_schemas()?;
    give_schema(cx, tid, row, owner.oid).await
}

/// Without asking whether one may.
pub async fn give_database(
    cx: &mut DdlCx<'_>,
    tid: Tid,
    mut row: DatabaseRow,
    owner: Oid,
) -> Result<()> {
    cx.keep_role(owner).await?;
    row.datacl = moved(row.datacl, row.datdba, owner);
    row.datdba = owner;
    cx.update(tid, &row).await?;
    cx.shared_changed::<DatabaseRow>();
    Ok(())
}

/// Without asking whether one may.
pub async fn give_schema(
    cx: &mut DdlCx<'_>,
    tid: Tid,
    mut row: NamespaceRow,
    owner: Oid,
) -> Result<()> {
    cx.keep_role(owner).await?;
    row.nspacl = moved(row.nspacl, row.nspowner, owner);
    row.nspowner = owner;
    cx.update(tid, &row).await?;
    cx.catalog_changed::<NamespaceRow>();
    Ok(())
}

fn moved(acl: Option<AclArray>, from: Oid, to: Oid) -> Option<AclArray> {
    acl.map(|items| AclArray::from_items(with_new_owner(&items.0, from, to)))
}

/// ALTER TABLE, SEQUENCE and INDEX ... OWNER TO; the caller has looked whether the user owns it.
pub async fn of_relation(cx: &mut DdlCx<'_>, relation: &Relation, owner: &Role) -> Result<()> {
    if relation.owner == owner.oid {
        return Ok(());
    }
    if relation.kind == RelationKind::Index {
        let message = format!("cannot change owner of index \"{}\"", relation.name);
        let warning = SqlError::warning(state::WRONG_OBJECT_TYPE, message);
        let hint = "Change the ownership of the index's table, instead.";
        cx.notices.push(warning.hint(hint));
        return Ok(());
    }
    if relation.kind == RelationKind::Sequence
        && let Some((table, _, _)) = cx.owner_of(relation.oid)?
    {
        let table = cx.relation(table)?;
        return Err(SqlError::unsupported(format!(
            "cannot change owner of sequence \"{}\"",
            relation.name
        ))
        .detail(format!(
            "Sequence \"{}\" is linked to table \"{}\".",
            relation.name, table.name
        )));
    }
    if !cx.user.superuser {
        cx.must_be_member_of(owner)?;
        cx.must_create_in(owner.oid, relation.schema, &relation.schema_name)?;
    }
    give_relation(cx, relation, owner.oid).await
}

/// The table, its indexes and the sequences that it owns, without asking whether one may.
pub async fn give_relation(cx: &mut DdlCx<'_>, relation: &Relation, owner: Oid) -> Result<()> {
    cx.keep_role(owner).await?;
    let mut all = vec![relation.oid];
    all.extend(relation.indexes.iter().map(|i| i.oid));
    all.extend(
        cx.owned_sequences(relation.oid)?
            .into_iter()
            .map(|o| o.sequence),
    );
    for oid in all {
        let (tid, mut row) = cx.find_one::<ClassRow>(by::CLASS_OID, &oid_key(oid), "relation")?;
        row.relacl = moved(row.relacl, row.relowner, owner);
        row.relowner = owner;
        cx.update(tid, &row).await?;
        cx.changed(oid);
    }
    Ok(())
}
