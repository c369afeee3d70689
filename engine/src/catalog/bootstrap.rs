//! The first rows: what `initdb` puts into the catalogs of a new cluster.
//!
//! Runs in one transaction through the ordinary forward paths, so everything is logged and a standby seeded from
//! the first byte on would arrive at the same pages. `template1` is made; `template0` and `postgres` are copies.
//! A crash in the middle leaves a directory without `PG_VERSION`, which nothing starts.

use std::sync::Arc;

use crate::catalog::access::CatalogCx;
use crate::catalog::database;
use crate::catalog::relation::{Index, Relation, RelationKind};
use crate::catalog::rights::{DATABASE_OWNER, Kind};
use crate::catalog::rows::{
    AclArray, AttributeRow, AuthMembersRow, AuthidRow, CatalogRow, ClassRow, DatabaseRow,
    DescriptionRow, IndexRow, Int2Vector, NamespaceRow, OidVector, ShdescriptionRow,
};
use crate::catalog::schema::{BOOTSTRAP_SUPERUSER, PG_CATALOG, TableKind, all_tables};
use crate::catalog::session::Catalog;
use crate::catalog::view::CatalogError;
use crate::ids::{DEFAULT_TABLESPACE, GLOBAL_TABLESPACE, Oid, RelFile};
use crate::index::btree;

use crate::table::files;
use crate::txn::Transaction;
use crate::types::acl::{AclItem, Privileges};
use crate::types::registry;

pub const TEMPLATE1: Oid = Oid::new(1);
pub const TEMPLATE0: Oid = Oid::new(4);
pub const POSTGRES: Oid = Oid::new(5);
/// The schema that everyone may use.
pub const PUBLIC: Oid = Oid::new(2200);

/// `pg_am` rows.
pub const HEAP_ACCESS_METHOD: Oid = Oid::new(2);
pub const BTREE_ACCESS_METHOD: Oid = Oid::new(403);

/// UTF8, PostgreSQL's `PG_UTF8`.
pub const ENCODING_UTF8: i32 = 6;

/// Roles that PostgreSQL 15 predefines; they can't log in.
const PREDEFINED_ROLES: &[(u32, &str)] = &[
    (6171, "pg_database_owner"),
    (6181, "pg_read_all_data"),
    (6182, "pg_write_all_data"),
    (3373, "pg_monitor"),
    (3374, "pg_read_all_settings"),
    (3375, "pg_read_all_stats"),
    (3377, "pg_stat_scan_tables"),
    (4569, "pg_read_server_files"),
    (4570, "pg_write_server_files"),
    (4571, "pg_execute_server_program"),
    (4200, "pg_signal_backend"),
    (4544, "pg_checkpoint"),
];

pub struct Cluster {
    pub superuser: String,
    pub password: Option<String>,
    /// `C`, `POSIX` or `C.UTF-8`
    pub locale: String,
}

/// Fills an empty cluster. The caller commits `txn` and makes a checkpoint.
pub async fn fill(
    catalog: &Catalog,
    txn: &mut Transaction,
    cluster: &Cluster,
) -> Result<(), CatalogError> {
    let store = &catalog.store;
    database::create(store, TEMPLATE1)?;
    let system = catalog.system(TEMPLATE1);
    let cx = catalog.cx(&system, TEMPLATE1);
    let xid = catalog.txns.xid(txn)?;
    for table in system.iter().filter(|r| r.kind == RelationKind::Table) {
        create_files(catalog, txn, table)?;
    }
    roles(&cx, txn, cluster).await?;
    schemas(&cx, txn).await?;
    for relation in system.iter().filter(|r| r.kind != RelationKind::Index) {
        describe(&cx, txn, relation).await?;
    }
    databases(&cx, txn, cluster).await?;
    txn.next_command()?;
    database::copy(store, TEMPLATE1, TEMPLATE0, xid)?;
    database::copy(store, TEMPLATE1, POSTGRES, xid)?;
    Ok(())
}

/// Makes a table's heap, overflow and index files.
fn create_files(
    catalog: &Catalog,
    txn: &mut Transaction,
    table: &Relation,
) -> Result<(), CatalogError> {
    let xid = catalog.txns.xid(txn)?;
    let mut create = |file: RelFile| files::create(&catalog.store, txn, xid, file);
    create(table.file)?;
    if let Some(overflow) = table.overflow {
        create(overflow)?;
    }
    for index in &table.indexes {
        create(index.file)?;
        btree::create(&catalog.store, index, xid)?;
    }
    Ok(())
}

async fn roles(
    cx: &CatalogCx<'_>,
    txn: &mut Transaction,
    cluster: &Cluster,
) -> Result<(), CatalogError> {
    let superuser = AuthidRow {
        oid: BOOTSTRAP_SUPERUSER,
        rolname: cluster.superuser.clone(),
        rolsuper: true,
        rolinherit: true,
        rolcreaterole: true,
        rolcreatedb: true,
        rolcanlogin: true,
        rolreplication: true,
        rolbypassrls: true,
        rolconnlimit: -1,
        rolpassword: cluster.password.clone(),
        rolvaliduntil: None,
    };
    cx.insert(txn, &superuser).await?;
    for (oid, name) in PREDEFINED_ROLES {
        let role = AuthidRow {
            oid: Oid::new(*oid),
            rolname: (*name).to_owned(),
            rolinherit: true,
            rolconnlimit: -1,
            ..AuthidRow::default()
        };
        cx.insert(txn, &role).await?;
    }
    // What a monitoring role may do is what these three may.
    for role in [3374, 3375, 3377] {
        let membership = AuthMembersRow {
            roleid: Oid::new(role),
            member: Oid::new(3373),
            grantor: BOOTSTRAP_SUPERUSER,
            admin_option: false,
        };
        cx.insert(txn, &membership).await?;
    }
    Ok(())
}

fn to_everybody(grantor: Oid, privileges: Privileges) -> AclItem {
    AclItem {
        grantee: Oid::INVALID,
        grantor,
        privileges,
        grantable: Privileges::NONE,
    }
}

/// What `initdb` grants on the schemas that it makes.
pub fn initial_schema_acl(owner: Oid) -> Vec<AclItem> {
    let mut items = Kind::Schema.default_acl(owner);
    items.push(to_everybody(owner, Privileges::USAGE));
    items
}

async fn schemas(cx: &CatalogCx<'_>, txn: &mut Transaction) -> Result<(), CatalogError> {
    for (oid, name, owner, comment) in [
        (
            PG_CATALOG,
            "pg_catalog",
            BOOTSTRAP_SUPERUSER,
            "system catalog schema",
        ),
        (PUBLIC, "public", DATABASE_OWNER, "standard public schema"),
    ] {
        let row = NamespaceRow {
            oid,
            nspname: name.to_owned(),
            nspowner: owner,
            nspacl: Some(AclArray::from_items(initial_schema_acl(owner))),
        };
        cx.insert(txn, &row).await?;
        let comment = DescriptionRow {
            objoid: oid,
            classoid: NamespaceRow::TABLE,
            objsubid: 0,
            description: comment.to_owned(),
        };
        cx.insert(txn, &comment).await?;
    }
    Ok(())
}

/// Nobody but the owner makes temporary tables in a template.
fn template_acl() -> AclArray {
    let mut items = vec![to_everybody(BOOTSTRAP_SUPERUSER, Privileges::CONNECT)];
    let all = Kind::Database.default_acl(BOOTSTRAP_SUPERUSER);
    items.extend(all.into_iter().filter(|i| i.grantee.is_valid()));
    AclArray::from_items(items)
}

async fn databases(
    cx: &CatalogCx<'_>,
    txn: &mut Transaction,
    cluster: &Cluster,
) -> Result<(), CatalogError> {
    for (oid, name, template, connect, comment) in [
        (
            TEMPLATE1,
            "template1",
            true,
            true,
            "default template for new databases",
        ),
        (
            TEMPLATE0,
            "template0",
            true,
            false,
            "unmodifiable empty database",
        ),
        (
            POSTGRES,
            "postgres",
            false,
            true,
            "default administrative connection database",
        ),
    ] {
        let row = DatabaseRow {
            oid,
            datname: name.to_owned(),
            datdba: BOOTSTRAP_SUPERUSER,
            encoding: ENCODING_UTF8,
            datlocprovider: b'c',
            datistemplate: template,
            datallowconn: connect,
            datconnlimit: -1,
            dattablespace: DEFAULT_TABLESPACE,
            datcollate: cluster.locale.clone(),
            datctype: cluster.locale.clone(),
            datacl: template.then(template_acl),
            ..DatabaseRow::default()
        };
        cx.insert(txn, &row).await?;
        let comment = ShdescriptionRow {
            objoid: oid,
            classoid: DatabaseRow::TABLE,
            description: comment.to_owned(),
        };
        cx.insert(txn, &comment).await?;
    }
    Ok(())
}

/// The rows in `pg_class`, `pg_attribute` and `pg_index` that describe a system table.
async fn describe(
    cx: &CatalogCx<'_>,
    txn: &mut Transaction,
    relation: &Arc<Relation>,
) -> Result<(), CatalogError> {
    let mut class = class_row(relation);
    let spec = all_tables()
        .find(|t| Oid::new(t.oid) == relation.oid)
        .expect("a system table");
    // PostgreSQL has tables where our rows are in the code; psql tells tables and views apart by this.
    if spec.kind == TableKind::StaticTable {
        class.relkind = b'r';
    }
    cx.insert(txn, &class).await?;
    insert_columns(cx, txn, relation).await?;
    for index in &relation.indexes {
        insert_index(cx, txn, relation, index).await?;
    }
    Ok(())
}

/// `pg_class` as a table with these properties has it.
pub fn class_row(relation: &Relation) -> ClassRow {
    let has_file = matches!(
        relation.kind,
        RelationKind::Table | RelationKind::Index | RelationKind::Sequence
    );
    ClassRow {
        oid: relation.oid,
        relname: relation.name.clone(),
        relnamespace: relation.schema,
        relowner: relation.owner,
        relacl: relation
            .acl
            .as_deref()
            .map(|a| AclArray::from_items(a.iter().copied())),
        relam: match relation.kind {
            RelationKind::Table => HEAP_ACCESS_METHOD,
            RelationKind::Index => BTREE_ACCESS_METHOD,
            _ => Oid::INVALID,
        },
        relfilenode: if has_file {
            relation.file.number
        } else {
            Oid::INVALID
        },
        reltablespace: if relation.is_shared() {
            GLOBAL_TABLESPACE
        } else {
            Oid::INVALID
        },
        reltuples: -1.0,
        reltoastrelid: relation.overflow.map_or(Oid::INVALID, |file| file.number),
        relhasindex: !relation.indexes.is_empty(),
        relisshared: relation.is_shared(),
        relpersistence: b'p',
        relkind: relation.kind.letter(),
        relnatts: i16::try_from(relation.columns.len()).expect("at most 1600 columns"),
        relchecks: i16::try_from(relation.checks.len()).unwrap_or(i16::MAX),
        relispopulated: true,
        relreplident: if relation.schema == PG_CATALOG {
            b'n'
        } else {
            b'd'
        },
        ..ClassRow::default()
    }
}

/// A row of `pg_attribute` for each column.
pub async fn insert_columns(
    cx: &CatalogCx<'_>,
    txn: &mut Transaction,
    relation: &Relation,
) -> Result<(), CatalogError> {
    for column in &relation.columns {
        cx.insert(txn, &attribute_row(relation.oid, column)).await?;
    }
    Ok(())
}

pub fn attribute_row(relation: Oid, column: &crate::catalog::relation::Column) -> AttributeRow {
    use crate::catalog::relation::Identity;
    let ty = registry::by_oid(column.ty.oid);
    AttributeRow {
        attrelid: relation,
        attname: column.name.clone(),
        atttypid: column.ty.oid,
        attstattarget: -1,
        attlen: ty.map_or(-1, |t| t.length),
        attnum: column.attribute,
        attndims: i32::from(ty.is_some_and(registry::Type::is_array)),
        attcacheoff: -1,
        atttypmod: column.ty.modifier,
        attbyval: ty.is_some_and(|t| t.by_value),
        attalign: ty.map_or(b'i', |t| t.align),
        attstorage: ty.map_or(b'x', |t| t.storage),
        attnotnull: column.not_null,
        atthasdef: column.default.is_some() && column.identity == Identity::No,
        atthasmissing: column.missing.is_some(),
        attidentity: match column.identity {
            Identity::No => 0,
            Identity::Always => b'a',
            Identity::ByDefault => b'd',
        },
        attisdropped: column.dropped,
        attislocal: true,
        attcollation: ty.map_or(Oid::INVALID, |t| t.collation),
        ..AttributeRow::default()
    }
}

/// An index's rows in `pg_class`, `pg_attribute` and `pg_index`.
pub async fn insert_index(
    cx: &CatalogCx<'_>,
    txn: &mut Transaction,
    table: &Relation,
    index: &Index,
) -> Result<(), CatalogError> {
    let relation = crate::catalog::schema::index_relation(table, index);
    cx.insert(txn, &class_row(&relation)).await?;
    insert_columns(cx, txn, &relation).await?;
    cx.insert(txn, &index_row(table, index)).await?;
    Ok(())
}

pub fn index_row(table: &Relation, index: &Index) -> IndexRow {
    let number = |column: &usize| table.columns[*column].attribute;
    let keys = index.keys.iter().map(|k| number(&k.column));
    let count = |n: usize| i16::try_from(n).expect("an index has at most 32 columns");
    let option = |key: &crate::catalog::relation::IndexKey| {
        let descending = if key.descending {
            super::INDEX_DESCENDING
        } else {
            0
        };
        descending
            | if key.nulls_first {
                super::INDEX_NULLS_FIRST
            } else {
                0
            }
    };
    let collation = |key: &crate::catalog::relation::IndexKey| {
        registry::by_oid(key.ty.oid).map_or(Oid::INVALID, |t| t.collation)
    };
    IndexRow {
        indexrelid: index.oid,
        indrelid: table.oid,
        indnatts: count(index.keys.len() + index.included.len()),
        indnkeyatts: count(index.keys.len()),
        indisunique: index.unique,
        indnullsnotdistinct: index.nulls_not_distinct,
        indisprimary: index.primary,
        indimmediate: !index.deferrable,
        indisvalid: index.valid,
        indcheckxmin: index.only_if_sees.is_some(),
        indisready: true,
        indislive: true,
        indkey: Int2Vector::from_items(keys.chain(index.included.iter().map(number))),
        indcollation: OidVector::from_items(index.keys.iter().map(collation)),
        indclass: OidVector::from_items(index.keys.iter().map(|k| k.class)),
        indoption: Int2Vector::from_items(index.keys.iter().map(option)),
        ..IndexRow::default()
    }
}
