//! The catalog row that holds an object's owner and list of grants: read, changed and written as one, so that a change
//! which somebody else makes meanwhile is noticed and not overwritten.

use crate::catalog::rights::{Guarded, Kind};
use crate::catalog::rows::{AclArray, ClassRow, DatabaseRow, NamespaceRow};
use crate::ids::{Oid, Tid};
use crate::types::acl::AclItem;

use super::Result;
use super::cx::{DdlCx, by, oid_key};

pub enum AclRow {
    Class(Tid, ClassRow),
    Schema(Tid, NamespaceRow),
    Database(Tid, DatabaseRow),
}

impl AclRow {
    pub fn read(cx: &DdlCx<'_>, kind: Kind, object: Oid) -> Result<AclRow> {
        let key = oid_key(object);
        Ok(match kind {
            Kind::Table | Kind::Sequence => {
                let (tid, row) = cx.find_one(by::CLASS_OID, &key, "relation")?;
                AclRow::Class(tid, row)
            }
            Kind::Schema => {
                let (tid, row) = cx.find_one(by::NAMESPACE_OID, &key, "schema")?;
                AclRow::Schema(tid, row)
            }
            Kind::Database => {
                let (tid, row) = cx.find_one(by::DATABASE_OID, &key, "database")?;
                AclRow::Database(tid, row)
            }
        })
    }

    fn acl(&self) -> &Option<AclArray> {
        match self {
            AclRow::Class(_, row) => &row.relacl,
            AclRow::Schema(_, row) => &row.nspacl,
            AclRow::Database(_, row) => &row.datacl,
        }
    }

    pub fn guarded(&self) -> Guarded<'_> {
        let (kind, owner) = match self {
            AclRow::Class(_, row) if row.relkind == b'S' => (Kind::Sequence, row.relowner),
            AclRow::Class(_, row) => (Kind::Table, row.relowner),
            AclRow::Schema(_, row) => (Kind::Schema, row.nspowner),
            AclRow::Database(_, row) => (Kind::Database, row.datdba),
        };
        Guarded {
            kind,
            owner,
            acl: self.acl().as_ref().map(|a| a.0.as_slice()),
        }
    }

    /// With another list.
    pub async fn write(self, cx: &mut DdlCx<'_>, items: Vec<AclItem>) -> Result<()> {
        let acl = Some(AclArray::from_items(items));
        match self {
            AclRow::Class(tid, mut row) => {
                row.relacl = acl;
                cx.update(tid, &row).await?;
                cx.changed(row.oid);
            }
            AclRow::Schema(tid, mut row) => {
                row.nspacl = acl;
                cx.update(tid, &row).await?;
                cx.catalog_changed::<NamespaceRow>();
            }
            AclRow::Database(tid, mut row) => {
                row.datacl = acl;
                cx.update(tid, &row).await?;
                cx.shared_changed::<DatabaseRow>();
            }
        }
        Ok(())
    }
}
