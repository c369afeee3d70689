//! `pg_init_privs`: the rights that initdb gives on what it makes. `pg_dump` writes only what differs from them.
//!
//! Nobody can change rights on system tables and functions, so that these lists are those that stand in `pg_class` and
//! `pg_proc`; on the two schemas they can be changed.

use crate::catalog::bootstrap::{PUBLIC, initial_schema_acl};
use crate::catalog::relation::Relation;
use crate::catalog::rights::DATABASE_OWNER;
use crate::catalog::rows::{CatalogRow, ClassRow, NamespaceRow};
use crate::catalog::schema::{BOOTSTRAP_SUPERUSER, PG_CATALOG, all_tables, initial_acl};
use crate::ids::Oid;
use crate::sql::pg_catalog::row::{RowBuilder, array};
use crate::sql::pg_catalog::static_tables::access_list;
use crate::types::acl::AclItem;
use crate::types::datum::Datum;
use crate::types::{functions, oids};

/// `pg_proc`
const FUNCTIONS: Oid = Oid::new(1255);

pub fn rows(relation: &Relation) -> Vec<Vec<Datum>> {
    let tables = all_tables()
        .map(|table| (Oid::new(table.oid), list(initial_acl(table))))
        .map(|(oid, list)| (ClassRow::TABLE, oid, list));
    let called = functions::all().filter_map(|f| {
        let list = access_list(functions::facts(f.oid).execute)?;
        Some((FUNCTIONS, f.oid, list))
    });
    let schemas = [(PG_CATALOG, BOOTSTRAP_SUPERUSER), (PUBLIC, DATABASE_OWNER)]
        .map(|(oid, owner)| (NamespaceRow::TABLE, oid, list(initial_schema_acl(owner))));
    let mut row = RowBuilder::new(relation);
    let make = |(class, object, list): (Oid, Oid, Datum)| {
        row.set("objoid", object).set("classoid", class);
        row.set("privtype", b'i').set("initprivs", list).take()
    };
    tables.chain(called).chain(schemas).map(make).collect()
}

fn list(items: Vec<AclItem>) -> Datum {
    array(
        oids::ACLITEM,
        items.into_iter().map(Datum::AclItem).collect(),
    )
}
