//! What belongs to a role or was granted to it, in every database: what keeps it from being dropped.
//!
//! PostgreSQL keeps a table of its own for this (`pg_shdepend`); here the owners and lists themselves are read, those of
//! the other databases from their own catalogs. Whoever makes something a role's holds the role's lock weakly
//! (`DdlCx::keep_role`) until the transaction ends, and DROP ROLE holds it strongly before it looks.

use crate::catalog::relation::RelationKind;
use crate::catalog::rights::Kind;
use crate::catalog::rows::{AclArray, CatalogRow, ClassRow, DatabaseRow, NamespaceRow};
use crate::catalog::view::CatalogView;
use crate::ids::Oid;
use crate::txn::{LockMode, LockTag, LockWait};
use crate::types::functions::quote_identifier;

use super::Result;
use super::cx::DdlCx;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Use {
    Owned,
    Granted,
}

/// An object that a role owns, or on whose list it stands.
#[derive(Debug, Clone)]
pub struct RoleUse {
    pub kind: Kind,
    pub object: Oid,
    pub what: Use,
    name: String,
    schema: Oid,
}

/// Lines of a DETAIL; PostgreSQL's `MAX_REPORTED_DEPS`.
const MOST_LINES: usize = 100;

/// The owner owns, whatever the list says of it.
fn used(owner: Oid, acl: Option<&AclArray>, role: Oid) -> Option<Use> {
    if owner == role {
        return Some(Use::Owned);
    }
    let listed = acl.is_some_and(|a| a.0.iter().any(|i| i.grantee == role || i.grantor == role));
    listed.then_some(Use::Granted)
}

/// Objects of one database.
fn in_database(cx: &DdlCx<'_>, database: Oid, role: Oid) -> Result<Vec<RoleUse>> {
    let system = cx.catalog.system(database);
    let catalog = cx.catalog.cx(&system, database);
    let snapshot = cx.snapshot();
    let mut out = Vec::new();
    for (_, row) in catalog.scan::<NamespaceRow>(&snapshot)? {
        if let Some(what) = used(row.nspowner, row.nspacl.as_ref(), role) {
            out.push(RoleUse {
                kind: Kind::Schema,
                object: row.oid,
                what,
                name: row.nspname,
                schema: Oid::INVALID,
            });
        }
    }
    for (_, row) in catalog.scan::<ClassRow>(&snapshot)? {
        let kind = match row.relkind {
            kind if kind == RelationKind::Sequence.letter() => Kind::Sequence,
            // An index belongs to its table.
            kind if kind == RelationKind::Index.letter() => continue,
            _ => Kind::Table,
        };
        if let Some(what) = used(row.relowner, row.relacl.as_ref(), role) {
            out.push(RoleUse {
                kind,
                object: row.oid,
                what,
                name: row.relname,
                schema: row.relnamespace,
            });
        }
    }
    Ok(out)
}

/// Objects of this database, and databases, oldest first.
pub fn here(cx: &DdlCx<'_>, role: Oid) -> Result<Vec<RoleUse>> {
    let mut out = in_database(cx, cx.database, role)?;
    for row in databases(cx)? {
        if let Some(what) = used(row.datdba, row.datacl.as_ref(), role) {
            out.push(RoleUse {
                kind: Kind::Database,
                object: row.oid,
                what,
                name: row.datname,
                schema: Oid::INVALID,
            });
        }
    }
    out.sort_by_key(|u| u.object);
    Ok(out)
}

fn databases(cx: &DdlCx<'_>) -> Result<Vec<DatabaseRow>> {
    let system = cx.system();
    let catalog = cx.catalog.cx(&system, cx.database);
    let rows = catalog.scan::<DatabaseRow>(&cx.snapshot())?;
    Ok(rows.into_iter().map(|(_, row)| row).collect())
}

/// The lines of DROP ROLE's DETAIL; none: nothing keeps the role.
pub async fn lines(cx: &mut DdlCx<'_>, role: Oid) -> Result<Vec<String>> {
    let mut out = Vec::new();
    let uses = here(cx, role)?;
    for one in uses.iter().take(MOST_LINES) {
        let shown = described(cx, one)?;
        out.push(match one.what {
            Use::Owned => format!("owner of {shown}"),
            Use::Granted => format!("privileges for {shown}"),
        });
    }
    let more = uses.len().saturating_sub(MOST_LINES);
    if more > 0 {
        let word = if more == 1 { "object" } else { "objects" };
        out.push(format!("and {more} other {word}"));
    }
    for database in databases(cx)? {
        if database.oid == cx.database {
            continue;
        }
        keep_database(cx, database.oid).await?;
        let count = match in_database(cx, database.oid, role)?.len() {
            0 => continue,
            1 => "1 object".to_owned(),
            n => format!("{n} objects"),
        };
        out.push(format!("{count} in database {}", database.datname));
    }
    Ok(out)
}

/// Its files stay while they are read.
async fn keep_database(cx: &mut DdlCx<'_>, database: Oid) -> Result<()> {
    let tag = LockTag::Object {
        database: Oid::INVALID,
        class: DatabaseRow::TABLE,
        object: database,
    };
    let locks = cx.catalog.txns.locks();
    let mode = LockMode::AccessShare;
    locks.lock(cx.txn, tag, mode, LockWait::Wait).await?;
    Ok(())
}

/// `getObjectDescription`
fn described(cx: &DdlCx<'_>, one: &RoleUse) -> Result<String> {
    let word = match one.kind {
        Kind::Schema => return Ok(format!("schema {}", one.name)),
        Kind::Database => return Ok(format!("database {}", one.name)),
        Kind::Table => "table",
        Kind::Sequence => "sequence",
    };
    let view = cx.view();
    let name = quote_identifier(&one.name);
    // The bare name where the search path finds it by that.
    let visible = view.relation_named(None, &one.name)?;
    if visible.is_some_and(|r| r.oid == one.object) {
        return Ok(format!("{word} {name}"));
    }
    let schema = view.schema_name(one.schema)?.unwrap_or_default();
    Ok(format!("{word} {}.{name}", quote_identifier(&schema)))
}
