//! ALTER SCHEMA and DATABASE ... OWNER TO; owners of relations are changed here for ALTER TABLE too.

use crate::catalog::relation::Relation;
use crate::catalog::rows::{ClassRow, DatabaseRow, NamespaceRow};
use crate::ids::Oid;
use crate::sql::error::SqlError;
use crate::sql::front::ast::{AlterOwner, ObjectKind};
use crate::types::datum::Datum;

use super::Result;
use super::cx::{DdlCx, by, not_owner, oid_key};

pub async fn alter(s: &AlterOwner, cx: &mut DdlCx<'_>) -> Result<()> {
    let owner = cx.role(&s.owner)?;
    let name = &s.name.name.name;
    let key = [Datum::text(name)];
    if s.kind == ObjectKind::Database {
        let rows = cx.find::<DatabaseRow>(by::DATABASE_NAME, &key)?;
        let Some((tid, mut row)) = rows.into_iter().next() else {
            return Err(super::database::no_database(name));
        };
        may_give(cx, row.datdba, owner.oid, "database", name)?;
        row.datdba = owner.oid;
        cx.update(tid, &row).await?;
        cx.shared_changed::<DatabaseRow>();
        return Ok(());
    }
    let rows = cx.find::<NamespaceRow>(by::NAMESPACE_NAME, &key)?;
    let Some((tid, mut row)) = rows.into_iter().next() else {
        return Err(super::names::no_schema(name));
    };
    may_give(cx, row.nspowner, owner.oid, "schema", name)?;
    row.nspowner = owner.oid;
    cx.update(tid, &row).await?;
    cx.catalog_changed::<NamespaceRow>();
    Ok(())
}

/// Without grants of membership only a superuser can give something to somebody else.
fn may_give(cx: &DdlCx<'_>, old: Oid, new: Oid, what: &str, name: &str) -> Result<()> {
    if cx.user.superuser {
        return Ok(());
    }
    if old != cx.user.oid {
        return Err(not_owner(what, name));
    }
    if new != cx.user.oid {
        return Err(SqlError::new(
            crate::sql::error::state::INSUFFICIENT_PRIVILEGE,
            "must be member of the new owner",
        ));
    }
    Ok(())
}

/// The table, its indexes and the sequences that it owns.
pub async fn of_relation(cx: &mut DdlCx<'_>, relation: &Relation, owner: Oid) -> Result<()> {
    may_give(cx, relation.owner, owner, "table", &relation.name)?;
    let mut all = vec![relation.oid];
    all.extend(relation.indexes.iter().map(|i| i.oid));
    all.extend(
        cx.owned_sequences(relation.oid)?
            .into_iter()
            .map(|o| o.sequence),
    );
    for oid in all {
        let (tid, mut row) = cx.find_one::<ClassRow>(by::CLASS_OID, &oid_key(oid), "relation")?;
        row.relowner = owner;
        cx.update(tid, &row).await?;
        cx.changed(oid);
    }
    Ok(())
}
