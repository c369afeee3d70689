//! The analyzer against recorded answers of PostgreSQL 15 (`testdata/analyzer.tsv`, made over
//! `testdata/schema.sql`): types of parameters, names and types of columns, or SQLSTATE, position and message.
//!
//! Where this version refuses what PostgreSQL takes (0A000) the test counts it as honest and lists it in
//! [`REFUSED`]; everything else must agree.

use std::collections::HashMap;
use std::sync::Arc;

use super::{BindCx, bind, describe};
use crate::catalog::relation::{Column, Identity, Index, IndexKey, Relation, RelationKind};
use crate::catalog::view::{
    CatalogError, CatalogView, ColumnStatistics, Database, Membership, Role, Schema,
};
use crate::ids::{Oid, RelFile};
use crate::sql::error::SqlError;
use crate::sql::front;
use crate::types::datetime::{DateOutput, DateStyle, FieldOrder};
use crate::types::datum::{Datum, SqlType};
use crate::types::error::TypeError;
use crate::types::function::{Function, FunctionCx, Host};
use crate::types::interval::IntervalStyle;
use crate::types::registry;

#[derive(Debug)]
struct NoHost;

impl Host for NoHost {
    fn call(&self, function: &'static Function, _: &[Datum]) -> Result<Datum, TypeError> {
        panic!("the analyzer called {}", function.name)
    }
    fn call_set(
        &self,
        function: &'static Function,
        _: &[Datum],
    ) -> Result<Box<dyn Iterator<Item = Result<Datum, TypeError>> + Send>, TypeError> {
        panic!("the analyzer called {}", function.name)
    }
}

fn functions() -> FunctionCx {
    FunctionCx {
        transaction_timestamp: 0,
        statement_timestamp: 0,
        time_zone: jiff::tz::TimeZone::UTC,
        date_style: DateStyle {
            output: DateOutput::Iso,
            order: FieldOrder::Mdy,
        },
        interval_style: IntervalStyle::Postgres,
        extra_float_digits: 1,
        bytea_hex: true,
        host: Arc::new(NoHost),
    }
}

struct FakeCatalog {
    relations: Vec<Arc<Relation>>,
}

const PUBLIC: u32 = 2200;
const OTHER: u32 = 16_385;
const PG_CATALOG: u32 = 11;

fn table(oid: u32, schema: &str, name: &str, columns: &[(&str, &str)]) -> Relation {
    let schema_oid = match schema {
        "public" => PUBLIC,
        "pg_catalog" => PG_CATALOG,
        _ => OTHER,
    };
    let file = RelFile {
        tablespace: Oid::new(1663),
        database: Oid::new(5),
        number: Oid::new(oid),
    };
    Relation {
        oid: Oid::new(oid),
        name: name.to_owned(),
        schema: Oid::new(schema_oid),
        schema_name: schema.to_owned(),
        kind: RelationKind::Table,
        owner: Oid::new(10),
        acl: None,
        file,
        overflow: None,
        columns: columns
            .iter()
            .enumerate()
            .map(|(i, (name, ty))| Column {
                name: (*name).to_owned(),
                attribute: i as i16 + 1,
                ty: registry::parse_type_name(ty).expect("a known type"),
                not_null: false,
                dropped: false,
                default: None,
                identity: Identity::No,
                missing: None,
            })
            .collect(),
        indexes: Vec::new(),
        checks: Vec::new(),
        foreign_keys: Vec::new(),
        referenced_by: Vec::new(),
        estimated_rows: -1.0,
        estimated_pages: 0,
    }
}

fn unique(mut relation: Relation, columns: &[usize], primary: bool) -> Relation {
    let suffix = if primary { "pkey" } else { "a_x_key" };
    let name = format!("{}_{suffix}", relation.name);
    let oid = Oid::new(relation.oid.raw() + 1);
    relation.indexes.push(Arc::new(Index {
        oid,
        name: name.clone(),
        table: relation.oid,
        file: relation.file,
        keys: columns
            .iter()
            .map(|c| IndexKey {
                column: *c,
                ty: relation.columns[*c].ty,
                class: Oid::INVALID,
                descending: false,
                nulls_first: false,
            })
            .collect(),
        included: Vec::new(),
        unique: true,
        primary,
        nulls_not_distinct: false,
        valid: true,
        constraint: Some((oid, name)),
        deferrable: false,
        only_if_sees: None,
    }));
    relation
}

fn fake() -> FakeCatalog {
    let mut t = unique(
        table(
            100,
            "public",
            "t",
            &[
                ("a", "int"),
                ("b", "text"),
                ("c", "numeric(10,2)"),
                ("d", "timestamptz"),
                ("e", "bool"),
            ],
        ),
        &[0],
        true,
    );
    t.columns[2].default = Some("1.5".to_owned());
    t.columns[4].default = Some("true".to_owned());
    let u = unique(
        table(
            110,
            "public",
            "u",
            &[
                ("a", "int"),
                ("x", "varchar(10)"),
                ("y", "bigint"),
                ("z", "char(3)"),
            ],
        ),
        &[0, 1],
        false,
    );
    let mut v = unique(
        table(
            120,
            "public",
            "v",
            &[
                ("id", "bigint"),
                ("w", "int"),
                ("n", "name"),
                ("o", "oid"),
                ("j", "jsonb"),
                ("ba", "bytea"),
                ("f", "float8"),
                ("g", "float4"),
                ("s", "smallint"),
                ("da", "date"),
                ("ts", "timestamp"),
                ("ti", "time"),
                ("iv", "interval"),
                ("uu", "uuid"),
            ],
        ),
        &[0],
        true,
    );
    v.columns[0].identity = Identity::Always;
    v.columns[1].identity = Identity::ByDefault;
    for i in [0, 1] {
        v.columns[i].default = Some("nextval('150'::regclass)".to_owned());
    }
    let mixed = table(130, "public", "Mixed", &[("Id", "int"), ("select", "text")]);
    let other = table(140, "other", "t", &[("k", "int"), ("l", "text")]);
    let mut sq = table(150, "public", "sq", &[("last_value", "bigint")]);
    sq.kind = RelationKind::Sequence;
    let class = table(
        1259,
        "pg_catalog",
        "pg_class",
        &[
            ("oid", "oid"),
            ("relname", "name"),
            ("relnamespace", "oid"),
            ("relkind", "\"char\""),
        ],
    );
    let namespace = table(
        2615,
        "pg_catalog",
        "pg_namespace",
        &[("oid", "oid"), ("nspname", "name")],
    );
    FakeCatalog {
        relations: [t, u, v, mixed, other, sq, class, namespace]
            .into_iter()
            .map(Arc::new)
            .collect(),
    }
}

impl CatalogView for FakeCatalog {
    fn asker(&self) -> Oid {
        Oid::INVALID
    }
    fn current_database(&self) -> Oid {
        Oid::INVALID
    }
    fn memberships(&self, _: Oid) -> Result<Arc<[Membership]>, CatalogError> {
        Ok(Arc::new([]))
    }

    fn generation(&self) -> u64 {
        1
    }
    fn relation_named(
        &self,
        schema: Option<&str>,
        name: &str,
    ) -> Result<Option<Arc<Relation>>, CatalogError> {
        let wanted: &[&str] = match &schema {
            Some(s) => std::slice::from_ref(s),
            None => &["pg_catalog", "public"],
        };
        Ok(wanted.iter().find_map(|s| {
            self.relations
                .iter()
                .find(|r| r.schema_name == *s && r.name == name)
                .cloned()
        }))
    }
    fn relation(&self, oid: Oid) -> Result<Option<Arc<Relation>>, CatalogError> {
        Ok(self.relations.iter().find(|r| r.oid == oid).cloned())
    }
    fn relations(&self) -> Result<Vec<Arc<Relation>>, CatalogError> {
        Ok(self.relations.clone())
    }
    fn schema_named(&self, name: &str) -> Result<Option<Oid>, CatalogError> {
        Ok(match name {
            "public" => Some(Oid::new(PUBLIC)),
            "other" => Some(Oid::new(OTHER)),
            "pg_catalog" => Some(Oid::new(PG_CATALOG)),
            _ => None,
        })
    }
    fn schema(&self, _: Oid) -> Result<Option<Arc<Schema>>, CatalogError> {
        Ok(None)
    }
    fn search_path(&self) -> Result<Vec<Oid>, CatalogError> {
        Ok(vec![Oid::new(PG_CATALOG), Oid::new(PUBLIC)])
    }
    fn creation_schema(&self) -> Result<Option<Oid>, CatalogError> {
        Ok(Some(Oid::new(PUBLIC)))
    }
    fn role_named(&self, _: &str) -> Result<Option<Role>, CatalogError> {
        Ok(None)
    }
    fn role(&self, _: Oid) -> Result<Option<Role>, CatalogError> {
        Ok(None)
    }
    fn database_named(&self, _: &str) -> Result<Option<Database>, CatalogError> {
        Ok(None)
    }
    fn database(&self, _: Oid) -> Result<Option<Database>, CatalogError> {
        Ok(None)
    }
    fn column_statistics(
        &self,
        _: Oid,
        _: i16,
    ) -> Result<Option<Arc<ColumnStatistics>>, CatalogError> {
        Ok(None)
    }
}

/// The answer in the corpus's own words.
fn answer(sql: &str, catalog: &FakeCatalog, functions: &FunctionCx) -> Result<String, SqlError> {
    let parsed = front::parse(sql)?;
    let cx = BindCx {
        source: sql,
        functions,
    };
    let bound = bind(&parsed[0].statement, catalog, &[], &cx)?;
    let (parameters, columns) = describe(&bound);
    let list = |items: Vec<String>, by: &str| {
        if items.is_empty() {
            "-".to_owned()
        } else {
            items.join(by)
        }
    };
    let parameters = list(parameters.iter().map(|p| p.oid.to_string()).collect(), ",");
    let columns = list(
        columns
            .iter()
            .map(|c| {
                let SqlType { oid, modifier } = c.ty;
                format!("{} {oid} {modifier}", c.name)
            })
            .collect(),
        "|",
    );
    Ok(format!("OK\t{parameters}\t{columns}"))
}

/// What PostgreSQL takes and this version refuses.
const REFUSED: &[&str] = &[];

/// What differs and is right: a whole row has the type `record` here; PostgreSQL looks for the arbiter index and
/// at the target's kind only when it plans.
const DIFFERENT: &[&str] = &[
    "SELECT t FROM t",
    "INSERT INTO sq VALUES (1)",
    "INSERT INTO t (a) VALUES (1) ON CONFLICT (b) DO NOTHING",
];

#[test]
fn analysis_agrees_with_postgresql() {
    let catalog = fake();
    let functions = functions();
    let mut wrong = Vec::new();
    let mut refused: HashMap<&str, String> = HashMap::new();
    for line in include_str!("testdata/analyzer.tsv").lines() {
        let (sql, expected) = line.split_once('\t').expect("a statement and its answer");
        let got = match answer(&sql.replace("\\n", "\n"), &catalog, &functions) {
            Ok(answer) => answer,
            Err(e) if e.state == "0A000" && !expected.contains("0A000") => {
                refused.insert(sql, e.message.clone());
                continue;
            }
            Err(e) => {
                let position = e.position.map_or("-".to_owned(), |p| p.to_string());
                let hint = e.hint.clone().unwrap_or_else(|| "-".to_owned());
                format!("ERR\t{}\t{position}\t{}\t{hint}", e.state, e.message)
            }
        };
        if got != expected && !DIFFERENT.contains(&sql) {
            wrong.push(format!("{sql}\n  want {expected}\n  got  {got}"));
        }
    }
    for sql in REFUSED {
        if refused.remove(sql).is_none() {
            wrong.push(format!(
                "{sql}\n  is no longer refused: take it off the list"
            ));
        }
    }
    wrong.extend(
        refused
            .into_iter()
            .map(|(sql, message)| format!("{sql}\n  refused: {message}")),
    );
    assert!(
        wrong.is_empty(),
        "{}\n{} in all",
        wrong.join("\n"),
        wrong.len()
    );
}
