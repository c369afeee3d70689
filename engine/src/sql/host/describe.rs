//! Objects as SQL text: `pg_get_indexdef`, `pg_get_constraintdef`, `pg_get_expr`; comments.

use crate::catalog::relation::{Relation, RelationKind};
use crate::catalog::rows::{CatalogRow, ConstraintRow, DescriptionRow, ShdescriptionRow};
use crate::catalog::view::CatalogView;
use crate::ids::Oid;
use crate::sql::ddl::foreign_key_definition;
use crate::sql::host::environment::{Environment, to_type_error};
use crate::sql::host::{expressions, int, oid, text};
use crate::sql::pg_catalog::index_definition;
use crate::types::datum::Datum;
use crate::types::error::TypeError;
use crate::types::function::{Function, Rows};
use crate::types::functions::quote_identifier;

type Answer = Result<Datum, TypeError>;

pub(super) fn call(env: &Environment, function: &Function, args: &[Datum]) -> Option<Answer> {
    Some(match function.name {
        "pg_get_expr" => expression(env, text(args, 0), oid(args, 1)),
        "pg_get_indexdef" => index(env, oid(args, 0), int(args, 1)),
        "pg_get_constraintdef" => constraint(env, oid(args, 0)),
        "pg_get_serial_sequence" => serial_sequence(env, text(args, 0), text(args, 1)),
        "obj_description" => comment(env, oid(args, 0), class_named(args), 0),
        "col_description" => comment(env, oid(args, 0), Some(Oid::new(1259)), int(args, 1)),
        "shobj_description" => shared_comment(env, oid(args, 0)),
        _ => return None,
    })
}

/// `psql` asks for the ancestors of whatever foreign keys refer to. Nothing is a partition of anything.
pub(super) fn call_set(function: &Function) -> Option<Result<Rows, TypeError>> {
    let asked = function.name == "pg_partition_ancestors";
    asked.then(|| Ok(Box::new(std::iter::empty()) as Rows))
}

fn index(env: &Environment, index: Oid, column: i64) -> Answer {
    env.with_catalog(|catalog| {
        let tables = catalog.relations()?;
        let found = tables.iter().find_map(|table| {
            table
                .indexes
                .iter()
                .find(|i| i.oid == index)
                .map(|i| (table, i))
        });
        Ok(match (found, usize::try_from(column).unwrap_or(0)) {
            (None, _) => Datum::Null,
            (Some((table, index)), 0) => Datum::text(&index_definition(table, index)),
            (Some((table, index)), n) => match index.keys.get(n - 1) {
                Some(key) => Datum::text(&quote_identifier(&table.columns[key.column].name)),
                None => Datum::text(""),
            },
        })
    })
}

fn expression(env: &Environment, text: &str, relation: Oid) -> Answer {
    let table = env.with_catalog(|catalog| catalog.relation(relation))?;
    Ok(match table {
        Some(table) => Datum::text(&expressions::of_relation(env, &table, text)?),
        None => Datum::Null,
    })
}

fn scan<R: CatalogRow>(env: &Environment) -> Result<Vec<R>, TypeError> {
    env.scan().map_err(to_type_error)
}

fn constraint(env: &Environment, constraint: Oid) -> Answer {
    let found = scan::<ConstraintRow>(env)?
        .into_iter()
        .find(|c| c.oid == constraint);
    let Some(row) = found else {
        return Ok(Datum::Null);
    };
    let table = env.with_catalog(|catalog| catalog.relation(row.conrelid))?;
    let Some(table) = table else {
        return Ok(Datum::Null);
    };
    let columns = || {
        let numbers = row
            .conkey
            .as_ref()
            .map(|k| k.0.as_slice())
            .unwrap_or_default();
        let name = |n: &i16| {
            table
                .columns
                .iter()
                .find(|c| c.attribute == *n)
                .map(|c| quote_identifier(&c.name))
        };
        numbers
            .iter()
            .filter_map(name)
            .collect::<Vec<_>>()
            .join(", ")
    };
    Ok(Datum::text(&match row.contype {
        b'p' => format!("PRIMARY KEY ({})", columns()),
        b'u' => format!("UNIQUE ({})", columns()),
        b'f' => return reference(env, &row, &table),
        b'c' => {
            let condition = row.conbin.clone().unwrap_or_default();
            let shown = expressions::condition(env, &table, &condition)?;
            let inherit = if row.connoinherit { " NO INHERIT" } else { "" };
            let valid = if row.convalidated { "" } else { " NOT VALID" };
            format!("CHECK ({shown}){inherit}{valid}")
        }
        other => {
            let what = format!(
                "constraints of kind {:?} are not implemented",
                char::from(other)
            );
            return Err(TypeError::new("0A000", what));
        }
    }))
}

fn reference(env: &Environment, row: &ConstraintRow, table: &Relation) -> Answer {
    env.with_catalog(|catalog| {
        let Some(referenced) = catalog.relation(row.confrelid)? else {
            return Ok(Datum::Null);
        };
        // The bare name where the search path finds it by that.
        let visible = catalog.relation_named(None, &referenced.name)?;
        let mut name = quote_identifier(&referenced.name);
        if visible.is_none_or(|found| found.oid != referenced.oid) {
            name = format!("{}.{name}", quote_identifier(&referenced.schema_name));
        }
        let text = foreign_key_definition(row, table, &referenced, &name);
        Ok(Datum::text(&text))
    })
}

/// The sequence that belongs to a column, as its default names it.
fn serial_sequence(env: &Environment, table: &str, column: &str) -> Answer {
    let (schema, name) = match table.split_once('.') {
        Some((schema, name)) => (Some(schema), name),
        None => (None, table),
    };
    let relation = env.with_catalog(|catalog| catalog.relation_named(schema, name))?;
    let relation = relation
        .ok_or_else(|| TypeError::new("42P01", format!("relation \"{table}\" does not exist")))?;
    let Some(at) = relation.column_named(column) else {
        let what = format!(
            "column \"{column}\" of relation \"{}\" does not exist",
            relation.name
        );
        return Err(TypeError::new("42703", what));
    };
    owned_sequence(env, &relation, relation.columns[at].attribute)
}

fn owned_sequence(env: &Environment, table: &Relation, attribute: i16) -> Answer {
    use crate::catalog::rows::DependRow;
    let class = Oid::new(1259);
    let depends = scan::<DependRow>(env)?;
    let owned = depends.iter().filter(|d| {
        d.classid == class
            && d.refclassid == class
            && d.refobjid == table.oid
            && d.refobjsubid == i32::from(attribute)
            && matches!(d.deptype, b'a' | b'i')
    });
    for depend in owned {
        let sequence = env.with_catalog(|catalog| catalog.relation(depend.objid))?;
        if let Some(sequence) = sequence.filter(|s| s.kind == RelationKind::Sequence) {
            let schema = quote_identifier(&sequence.schema_name);
            return Ok(Datum::text(&format!(
                "{schema}.{}",
                quote_identifier(&sequence.name)
            )));
        }
    }
    Ok(Datum::Null)
}

/// The catalog named in the second argument; `None` without one.
fn class_named(args: &[Datum]) -> Option<Oid> {
    let name = args.get(1).map(|_| text(args, 1))?;
    crate::catalog::schema::all_tables()
        .find(|t| t.name == name)
        .map(|t| Oid::new(t.oid))
}

fn comment(env: &Environment, object: Oid, class: Option<Oid>, column: i64) -> Answer {
    let rows = scan::<DescriptionRow>(env)?;
    let found = rows.into_iter().find(|row| {
        row.objoid == object
            && class.is_none_or(|class| row.classoid == class)
            && i64::from(row.objsubid) == column
    });
    Ok(found.map_or(Datum::Null, |row| Datum::text(&row.description)))
}

fn shared_comment(env: &Environment, object: Oid) -> Answer {
    let found = scan::<ShdescriptionRow>(env)?
        .into_iter()
        .find(|row| row.objoid == object);
    Ok(found.map_or(Datum::Null, |row| Datum::text(&row.description)))
}
