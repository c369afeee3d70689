//! Functions about kinds of objects that nobody can make here: views, rules, triggers, partitions, publications, extended
//! statistics, text search. They answer as PostgreSQL does where there is no such object.

use crate::catalog::relation::RelationKind;
use crate::catalog::schema::is_system_table;
use crate::catalog::view::CatalogView;
use crate::ids::Oid;
use crate::sql::host::environment::Environment;
use crate::sql::host::names::class_named;
use crate::sql::host::oid;
use crate::types::datum::Datum;
use crate::types::error::TypeError;
use crate::types::function::{Function, Rows};
use crate::types::record::Record;

type Answer = Result<Datum, TypeError>;

/// Lower numbers are of objects that initdb makes (`FirstNormalObjectId`).
const FIRST_NORMAL: Oid = Oid::new(16384);

pub(super) fn call(env: &Environment, function: &Function, args: &[Datum]) -> Option<Answer> {
    Some(match function.name {
        "pg_relation_is_publishable" => publishable(env, oid(args, 0)),
        "pg_get_replica_identity_index" => replica_identity(env, oid(args, 0)),
        "pg_get_viewdef" => match args.first() {
            Some(Datum::Text(name)) => class_named(env, name).and_then(|class| match class {
                Datum::Oid(oid) => view_definition(env, function, oid),
                _ => Ok(Datum::Null),
            }),
            _ => view_definition(env, function, oid(args, 0)),
        },
        "pg_get_partkeydef"
        | "pg_get_partition_constraintdef"
        | "pg_partition_root"
        | "pg_get_ruledef"
        | "pg_get_triggerdef"
        | "pg_get_statisticsobjdef"
        | "pg_get_statisticsobjdef_columns"
        | "pg_conversion_is_visible"
        | "pg_statistics_obj_is_visible"
        | "pg_ts_parser_is_visible"
        | "pg_ts_dict_is_visible"
        | "pg_ts_config_is_visible"
        | "pg_ts_template_is_visible" => Ok(Datum::Null),
        _ => return None,
    })
}

pub(super) fn call_set(function: &Function, args: &[Datum]) -> Option<Result<Rows, TypeError>> {
    Some(match function.name {
        "pg_partition_ancestors" | "pg_partition_tree" => Ok(Box::new(std::iter::empty())),
        "pg_options_to_table" => options(function, args),
        _ => return None,
    })
}

/// Tables that people made, for good.
fn publishable(env: &Environment, relation: Oid) -> Answer {
    let found = env.with_catalog(|catalog| catalog.relation(relation))?;
    Ok(found.map_or(Datum::Null, |found| {
        Datum::Bool(found.kind == RelationKind::Table && found.oid >= FIRST_NORMAL)
    }))
}

/// The primary key, for nobody can choose another index; system tables have none.
fn replica_identity(env: &Environment, relation: Oid) -> Answer {
    let found = env.with_catalog(|catalog| catalog.relation(relation))?;
    let Some(found) = found else {
        let what = format!("could not open relation with OID {relation}");
        return Err(TypeError::new("XX000", what));
    };
    let key = found.primary_key().filter(|_| found.oid >= FIRST_NORMAL);
    Ok(key.map_or(Datum::Null, |index| Datum::Oid(index.oid)))
}

/// NULL of what is no view. The system's own views are made by the code.
fn view_definition(env: &Environment, function: &Function, relation: Oid) -> Answer {
    let found = env.with_catalog(|catalog| catalog.relation(relation))?;
    match found.filter(|r| r.kind == RelationKind::Virtual && !is_system_table(r.oid)) {
        None => Ok(Datum::Null),
        Some(view) => {
            let what = format!(
                "{}() of \"{}\" is not implemented",
                function.name, view.name
            );
            Err(TypeError::new("0A000", what)
                .with_hint("System views are part of the server and have no definition in SQL."))
        }
    }
}

/// `name=value` as two columns; without a sign the value is NULL (`untransformRelOptions`).
fn options(function: &Function, args: &[Datum]) -> Result<Rows, TypeError> {
    let items = match args.first() {
        Some(Datum::Array(array)) => array.items.as_slice(),
        _ => &[],
    };
    let types = function.out_types();
    let mut rows = Vec::with_capacity(items.len());
    for item in items {
        let Datum::Text(text) = item else {
            let what = "null array element not allowed in this context";
            return Err(TypeError::new("22004", what));
        };
        let (name, value) = match text.split_once('=') {
            Some((name, value)) => (name, Datum::text(value)),
            None => (&**text, Datum::Null),
        };
        let row: Datum = Record::new(&types, vec![Datum::text(name), value]).into();
        rows.push(Ok(row));
    }
    Ok(Box::new(rows.into_iter()))
}
