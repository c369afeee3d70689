//! The form in which system tables are written down, and what is made of it.

use std::collections::HashMap;
use std::sync::Arc;

use crate::catalog::relation::{
    Column, Identity, Index, IndexKey, Relation, RelationKind, default_class,
};
use crate::catalog::rights::Kind;
use crate::ids::{Oid, RelFile};
use crate::types::acl::{AclItem, Privileges};
use crate::types::datum::SqlType;
use crate::types::oids;

/// `pg_catalog`
pub const PG_CATALOG: Oid = Oid::new(11);
/// The role that `initdb` makes; it owns everything that `initdb` makes.
pub const BOOTSTRAP_SUPERUSER: Oid = Oid::new(10);

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum TableKind {
    /// Rows in a heap, changed by DDL.
    Heap,
    /// Rows made by the code; PostgreSQL has a table there.
    StaticTable,
    /// Rows made by the code; PostgreSQL has a view there.
    StaticView,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum IndexKind {
    Plain,
    Unique,
    Primary,
}

pub struct TableSpec {
    pub oid: u32,
    pub name: &'static str,
    pub shared: bool,
    pub kind: TableKind,
    /// `name type, name type!, ...`; `!` is NOT NULL.
    pub columns: &'static str,
    pub indexes: &'static [IndexSpec],
}

pub struct IndexSpec {
    pub oid: u32,
    pub name: &'static str,
    /// `column,column`
    pub columns: &'static str,
    pub kind: IndexKind,
}

/// The system relations as one database sees them: the same everywhere but for the files of the unshared.
pub struct SystemRelations {
    by_oid: HashMap<Oid, Arc<Relation>>,
    by_name: HashMap<String, Arc<Relation>>,
}

impl SystemRelations {
    pub fn of_database(database: Oid) -> SystemRelations {
        let mut all = SystemRelations {
            by_oid: HashMap::new(),
            by_name: HashMap::new(),
        };
        for spec in super::all_tables() {
            let table = Arc::new(table_relation(spec, database));
            for index in &table.indexes {
                all.add(Arc::new(index_relation(&table, index)));
            }
            all.add(table);
        }
        all
    }

    fn add(&mut self, relation: Arc<Relation>) {
        self.by_name
            .insert(relation.name.clone(), Arc::clone(&relation));
        self.by_oid.insert(relation.oid, relation);
    }

    pub fn get(&self, oid: Oid) -> Option<&Arc<Relation>> {
        self.by_oid.get(&oid)
    }
    pub fn named(&self, name: &str) -> Option<&Arc<Relation>> {
        self.by_name.get(name)
    }
    pub fn iter(&self) -> impl Iterator<Item = &Arc<Relation>> {
        self.by_oid.values()
    }
}

fn file_of(shared: bool, database: Oid, number: Oid) -> RelFile {
    if shared {
        RelFile::shared(number)
    } else {
        RelFile::of_database(database, number)
    }
}

fn table_relation(spec: &TableSpec, database: Oid) -> Relation {
    let columns = columns_of(spec);
    let oid = Oid::new(spec.oid);
    let indexes = spec
        .indexes
        .iter()
        .map(|index| Arc::new(index_of(spec, index, &columns, database)))
        .collect();
    Relation {
        oid,
        name: spec.name.to_owned(),
        schema: PG_CATALOG,
        schema_name: "pg_catalog".to_owned(),
        kind: match spec.kind {
            TableKind::Heap => RelationKind::Table,
            TableKind::StaticTable | TableKind::StaticView => RelationKind::Virtual,
        },
        owner: BOOTSTRAP_SUPERUSER,
        acl: Some(Arc::from(initial_acl(spec))),
        file: file_of(spec.shared, database, oid),
        overflow: overflow_number(spec.oid).map(|n| file_of(spec.shared, database, n)),
        columns,
        indexes,
        checks: Vec::new(),
        foreign_keys: Vec::new(),
        referenced_by: Vec::new(),
        estimated_rows: -1.0,
        estimated_pages: 0,
    }
}

/// System tables and views that are not everybody's to read: verifiers of passwords, values of everybody's tables,
/// files of the server. `pg_subscription`, of which PostgreSQL keeps one column back, is not among them: there are no rights
/// on columns here, it has no rows, and `pg_dump` counts them whoever runs it.
const SECRET: &[&str] = &[
    "pg_authid",
    "pg_file_settings",
    "pg_hba_file_rules",
    "pg_largeobject",
    "pg_shadow",
    "pg_statistic",
    "pg_statistic_ext_data",
    "pg_user_mapping",
];

/// What `initdb` grants on a system table.
pub fn initial_acl(spec: &TableSpec) -> Vec<AclItem> {
    let mut items = Kind::Table.default_acl(BOOTSTRAP_SUPERUSER);
    if !SECRET.contains(&spec.name) {
        items.push(AclItem {
            grantee: Oid::INVALID,
            grantor: BOOTSTRAP_SUPERUSER,
            privileges: Privileges::SELECT,
            grantable: Privileges::NONE,
        });
    }
    items
}

/// Overflow files of system tables whose rows can be large; PostgreSQL's TOAST table numbers.
const fn overflow_number(table: u32) -> Option<Oid> {
    match table {
        2604 => Some(Oid::new(2830)),
        2606 => Some(Oid::new(2832)),
        2609 => Some(Oid::new(2834)),
        2619 => Some(Oid::new(2840)),
        2396 => Some(Oid::new(2846)),
        2964 => Some(Oid::new(2966)),
        1249 => Some(Oid::new(4159)),
        1260 => Some(Oid::new(4175)),
        2615 => Some(Oid::new(4163)),
        1262 => Some(Oid::new(4177)),
        _ => None,
    }
}

fn columns_of(spec: &TableSpec) -> Vec<Column> {
    let column = |(at, text): (usize, &str)| {
        let (text, not_null) = match text.strip_suffix('!') {
            Some(rest) => (rest, true),
            None => (text, false),
        };
        let (name, ty) = text
            .split_once(' ')
            .expect("a column is written `name type`");
        Column {
            name: name.to_owned(),
            attribute: i16::try_from(at + 1).expect("system tables have few columns"),
            ty: SqlType::plain(type_named(ty)),
            not_null,
            dropped: false,
            default: None,
            identity: Identity::No,
            missing: None,
        }
    };
    spec.columns.split(", ").enumerate().map(column).collect()
}

fn index_of(spec: &TableSpec, index: &IndexSpec, columns: &[Column], database: Oid) -> Index {
    let key = |name: &str| {
        let column = columns
            .iter()
            .position(|c| c.name == name)
            .expect("an index names columns");
        IndexKey {
            column,
            ty: columns[column].ty,
            class: default_class(columns[column].ty),
            descending: false,
            nulls_first: false,
        }
    };
    Index {
        oid: Oid::new(index.oid),
        name: index.name.to_owned(),
        table: Oid::new(spec.oid),
        file: file_of(spec.shared, database, Oid::new(index.oid)),
        keys: index.columns.split(',').map(key).collect(),
        included: Vec::new(),
        unique: index.kind != IndexKind::Plain,
        primary: index.kind == IndexKind::Primary,
        nulls_not_distinct: false,
        valid: true,
        constraint: None,
        deferrable: false,
        only_if_sees: None,
    }
}

/// Bytes of an identifier.
const MAX_NAME: usize = 63;

/// An index may have a column of its table twice: the second one gets a number (`ChooseIndexColumnNames`).
fn free_column_name(taken: &[Column], wanted: &str) -> String {
    let is_free = |name: &String| taken.iter().all(|c| c.name != *name);
    let numbered = |n: usize| {
        let number = n.to_string();
        let kept = wanted.floor_char_boundary(MAX_NAME - number.len());
        format!("{}{number}", &wanted[..kept])
    };
    std::iter::once(wanted.to_owned())
        .chain((1..).map(numbered))
        .find(is_free)
        .expect("numbers do not end")
}

/// An index as a relation of its own, as `pg_class` has it.
pub fn index_relation(table: &Relation, index: &Index) -> Relation {
    let positions = index.keys.iter().map(|k| k.column);
    let positions = positions.chain(index.included.iter().copied());
    let mut columns: Vec<Column> = Vec::with_capacity(index.keys.len() + index.included.len());
    for (at, position) in positions.enumerate() {
        let name = free_column_name(&columns, &table.columns[position].name);
        columns.push(Column {
            name,
            attribute: i16::try_from(at + 1).expect("an index has at most 32 columns"),
            not_null: false,
            default: None,
            identity: Identity::No,
            missing: None,
            ..table.columns[position].clone()
        });
    }
    Relation {
        oid: index.oid,
        name: index.name.clone(),
        schema: table.schema,
        schema_name: table.schema_name.clone(),
        kind: RelationKind::Index,
        owner: table.owner,
        acl: None,
        file: index.file,
        overflow: None,
        columns,
        indexes: Vec::new(),
        checks: Vec::new(),
        foreign_keys: Vec::new(),
        referenced_by: Vec::new(),
        estimated_rows: -1.0,
        estimated_pages: 0,
    }
}

/// The types that system tables use, by the short names that the specs use.
fn type_named(name: &str) -> Oid {
    match name {
        "bool" => oids::BOOL,
        "char" => oids::CHAR,
        "name" => oids::NAME,
        "int2" => oids::INT2,
        "int4" => oids::INT4,
        "int8" => oids::INT8,
        "float4" => oids::FLOAT4,
        "float8" => oids::FLOAT8,
        "numeric" => oids::NUMERIC,
        "text" => oids::TEXT,
        "bytea" => oids::BYTEA,
        "oid" => oids::OID,
        "xid" => oids::XID,
        "regproc" => oids::REGPROC,
        "regtype" => oids::REGTYPE,
        "pg_lsn" => oids::PG_LSN,
        "pg_node_tree" => oids::PG_NODE_TREE,
        "timestamptz" => oids::TIMESTAMPTZ,
        "interval" => oids::INTERVAL,
        "int2vector" => oids::INT2VECTOR,
        "oidvector" => oids::OIDVECTOR,
        "text[]" => oids::TEXT_ARRAY,
        "name[]" => oids::NAME_ARRAY,
        "char[]" => oids::CHAR_ARRAY,
        "oid[]" => oids::OID_ARRAY,
        "int2[]" => oids::INT2_ARRAY,
        "float4[]" => oids::FLOAT4_ARRAY,
        "aclitem[]" => oids::ACLITEM_ARRAY,
        "regtype[]" => oids::REGTYPE_ARRAY,
        other => panic!("system tables have no type {other}"),
    }
}
