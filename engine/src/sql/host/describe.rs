//! Objects as SQL text: `pg_get_indexdef`, `pg_get_constraintdef`, `pg_get_expr`; comments.

use crate::catalog::SessionCatalog;
use crate::catalog::relation::{Index, ReferentialAction, Relation, RelationKind};
use crate::catalog::rows::{
    CatalogRow, ClassRow, ConstraintRow, DependRow, DescriptionRow, IndexRow, Int2Array,
    ShdescriptionRow,
};
use crate::catalog::view::{CatalogError, CatalogView};
use crate::ids::Oid;
use crate::sql::explain::Style;
use crate::sql::host::environment::{Environment, to_type_error};
use crate::sql::host::{boolean, expressions, int, names, oid, text};
use crate::sql::pg_catalog::{any_description, column_list, description, index_definition};
use crate::types::datum::Datum;
use crate::types::error::TypeError;
use crate::types::function::Function;
use crate::types::functions::quote_identifier;

type Answer = Result<Datum, TypeError>;

/// `pg_index_indexrelid_index`
const INDEX_BY_OID: Oid = Oid::new(2679);
/// `pg_constraint_oid_index`
const CONSTRAINT_BY_OID: Oid = Oid::new(2667);
/// `pg_depend_reference_index`
const DEPEND_BY_REFERENCE: Oid = Oid::new(2674);
/// `pg_description_o_c_o_index`
const DESCRIPTION_BY_OBJECT: Oid = Oid::new(2675);
/// `pg_shdescription_o_c_index`
const SHDESCRIPTION_BY_OBJECT: Oid = Oid::new(2397);

pub(super) fn call(env: &Environment, function: &Function, args: &[Datum]) -> Option<Answer> {
    let style = |at: usize| match boolean(args, at) {
        true => Style::Pretty,
        false => Style::Stored,
    };
    Some(match function.name {
        "pg_get_expr" => expression(env, text(args, 0), oid(args, 1), style(2)),
        "pg_get_indexdef" => index(env, oid(args, 0), int(args, 1), boolean(args, 2)),
        "pg_get_constraintdef" => constraint(env, oid(args, 0), style(1)),
        "pg_get_serial_sequence" => serial_sequence(env, text(args, 0), text(args, 1)),
        "obj_description" => match args.get(1) {
            None => any_comment(env, oid(args, 0)),
            Some(_) => comment(env, oid(args, 0), class_named(text(args, 1)), 0),
        },
        "col_description" => comment(env, oid(args, 0), Some(ClassRow::TABLE), int(args, 1)),
        "shobj_description" => shared_comment(env, oid(args, 0), class_named(text(args, 1))),
        _ => return None,
    })
}

/// Whether the bare name finds this relation and no other.
pub(super) fn is_visible(
    catalog: &SessionCatalog<'_>,
    relation: &Relation,
) -> Result<bool, CatalogError> {
    let found = catalog.relation_named(None, &relation.name)?;
    Ok(found.is_some_and(|r| r.oid == relation.oid))
}

fn index(env: &Environment, index: Oid, column: i64, pretty: bool) -> Answer {
    let rows = find::<IndexRow>(env, INDEX_BY_OID, &[Datum::Oid(index)])?;
    let Some(row) = rows.first() else {
        return Ok(Datum::Null);
    };
    env.with_catalog(|catalog| {
        let table = catalog.relation(row.indrelid)?;
        let found = table.as_ref().and_then(|table| {
            let own = table.indexes.iter().find(|i| i.oid == index);
            own.map(|own| (table, own))
        });
        let Some((table, index)) = found else {
            return Ok(Datum::Null);
        };
        if column != 0 {
            return Ok(Datum::text(&index_column(table, index, column)));
        }
        let bare = pretty && is_visible(catalog, table)?;
        Ok(Datum::text(&index_definition(table, index, !bare)))
    })
}

/// Counted from 1, those of INCLUDE behind the others; empty for none.
fn index_column(table: &Relation, index: &Index, number: i64) -> String {
    let keys = index.keys.iter().map(|k| k.column);
    let mut columns = keys.chain(index.included.iter().copied());
    let at = usize::try_from(number).ok().and_then(|n| n.checked_sub(1));
    let column = at.and_then(|at| columns.nth(at));
    column.map_or_else(String::new, |column| {
        quote_identifier(&table.columns[column].name)
    })
}

fn expression(env: &Environment, text: &str, relation: Oid, style: Style) -> Answer {
    let table = env.with_catalog(|catalog| catalog.relation(relation))?;
    Ok(match table {
        Some(table) => Datum::text(&expressions::of_relation(env, &table, text, style)?),
        None => Datum::Null,
    })
}

fn find<R: CatalogRow>(env: &Environment, index: Oid, key: &[Datum]) -> Result<Vec<R>, TypeError> {
    env.find(index, key).map_err(to_type_error)
}

fn constraint(env: &Environment, constraint: Oid, style: Style) -> Answer {
    let key = [Datum::Oid(constraint)];
    let found = find::<ConstraintRow>(env, CONSTRAINT_BY_OID, &key)?;
    let Some(row) = found.into_iter().next() else {
        return Ok(Datum::Null);
    };
    let table = env.with_catalog(|catalog| catalog.relation(row.conrelid))?;
    let Some(table) = table else {
        return Ok(Datum::Null);
    };
    let mut shown = match row.contype {
        b'p' | b'u' => key_definition(&table, &row),
        b'f' => match reference(env, &row, &table)? {
            Some(shown) => shown,
            None => return Ok(Datum::Null),
        },
        b'c' => {
            let condition = row.conbin.clone().unwrap_or_default();
            let shown = expressions::condition(env, &table, &condition, style)?;
            let inherit = if row.connoinherit { " NO INHERIT" } else { "" };
            format!("CHECK ({shown}){inherit}")
        }
        other => {
            let what = format!(
                "constraints of kind {:?} are not implemented",
                char::from(other)
            );
            return Err(TypeError::new("0A000", what));
        }
    };
    for (is, words) in [
        (row.condeferrable, " DEFERRABLE"),
        (row.condeferred, " INITIALLY DEFERRED"),
        (!row.convalidated, " NOT VALID"),
    ] {
        if is {
            shown.push_str(words);
        }
    }
    Ok(Datum::text(&shown))
}

/// PRIMARY KEY or UNIQUE, and the columns.
fn key_definition(table: &Relation, row: &ConstraintRow) -> String {
    let index = table.indexes.iter().find(|i| i.oid == row.conindid);
    let kind = match (row.contype, index) {
        (b'p', _) => "PRIMARY KEY",
        (_, Some(index)) if index.nulls_not_distinct => "UNIQUE NULLS NOT DISTINCT",
        _ => "UNIQUE",
    };
    let keys = numbered_columns(table, row.conkey.as_ref());
    let mut shown = format!("{kind} ({keys})");
    if let Some(index) = index.filter(|i| !i.included.is_empty()) {
        let included = column_list(table, index.included.iter().copied());
        shown.push_str(&format!(" INCLUDE ({included})"));
    }
    shown
}

fn numbered_columns(table: &Relation, numbers: Option<&Int2Array>) -> String {
    let numbers = numbers.map_or(&[][..], |n| n.0.as_slice());
    let position = |n: &i16| table.columns.iter().position(|c| c.attribute == *n);
    column_list(table, numbers.iter().filter_map(position))
}

/// FOREIGN KEY, or nothing if the table that it refers to is not there any more.
fn reference(
    env: &Environment,
    row: &ConstraintRow,
    table: &Relation,
) -> Result<Option<String>, TypeError> {
    env.with_catalog(|catalog| {
        let Some(referenced) = catalog.relation(row.confrelid)? else {
            return Ok(None);
        };
        let mut name = quote_identifier(&referenced.name);
        if !is_visible(catalog, &referenced)? {
            name = format!("{}.{name}", quote_identifier(&referenced.schema_name));
        }
        Ok(Some(reference_definition(row, table, &referenced, &name)))
    })
}

fn reference_definition(
    row: &ConstraintRow,
    table: &Relation,
    referenced: &Relation,
    referenced_name: &str,
) -> String {
    let mut shown = format!(
        "FOREIGN KEY ({}) REFERENCES {referenced_name}({})",
        numbered_columns(table, row.conkey.as_ref()),
        numbered_columns(referenced, row.confkey.as_ref())
    );
    if row.confmatchtype == b'f' {
        shown.push_str(" MATCH FULL");
    }
    let word = |letter| ReferentialAction::from_letter(letter).and_then(ReferentialAction::word);
    if let Some(word) = word(row.confupdtype) {
        shown.push_str(&format!(" ON UPDATE {word}"));
    }
    if let Some(word) = word(row.confdeltype) {
        shown.push_str(&format!(" ON DELETE {word}"));
    }
    if row.confdelsetcols.is_some() {
        let set = numbered_columns(table, row.confdelsetcols.as_ref());
        shown.push_str(&format!(" ({set})"));
    }
    shown
}

/// The sequence that belongs to a column. The table's name is read as SQL, the column's as it stands.
fn serial_sequence(env: &Environment, table: &str, column: &str) -> Answer {
    let Datum::Oid(table) = names::class_named(env, table)? else {
        return Ok(Datum::Null);
    };
    let Some(relation) = env.with_catalog(|catalog| catalog.relation(table))? else {
        return Ok(Datum::Null);
    };
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
    let class = ClassRow::TABLE;
    let key = [
        Datum::Oid(class),
        Datum::Oid(table.oid),
        Datum::Int4(i32::from(attribute)),
    ];
    let depends = find::<DependRow>(env, DEPEND_BY_REFERENCE, &key)?;
    let owned = depends
        .iter()
        .filter(|d| d.classid == class && matches!(d.deptype, b'a' | b'i'));
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

/// The catalog of that name.
fn class_named(name: &str) -> Option<Oid> {
    crate::catalog::schema::all_tables()
        .find(|t| t.name == name)
        .map(|t| Oid::new(t.oid))
}

fn shown(text: Option<&str>) -> Datum {
    text.map_or(Datum::Null, Datum::text)
}

fn comment(env: &Environment, object: Oid, class: Option<Oid>, column: i64) -> Answer {
    let (Some(class), Ok(column)) = (class, i32::try_from(column)) else {
        return Ok(Datum::Null);
    };
    let key = [Datum::Oid(object), Datum::Oid(class), Datum::Int4(column)];
    let made = find::<DescriptionRow>(env, DESCRIPTION_BY_OBJECT, &key)?;
    let own = || (column == 0).then(|| description(class, object)).flatten();
    Ok(shown(
        made.first()
            .map(|row| row.description.as_str())
            .or_else(own),
    ))
}

/// `obj_description` without a catalog: whatever has that number.
fn any_comment(env: &Environment, object: Oid) -> Answer {
    let made = find::<DescriptionRow>(env, DESCRIPTION_BY_OBJECT, &[Datum::Oid(object)])?;
    let made = made.iter().find(|row| row.objsubid == 0);
    Ok(shown(
        made.map(|row| row.description.as_str())
            .or_else(|| any_description(object)),
    ))
}

fn shared_comment(env: &Environment, object: Oid, class: Option<Oid>) -> Answer {
    let Some(class) = class else {
        return Ok(Datum::Null);
    };
    let key = [Datum::Oid(object), Datum::Oid(class)];
    let found = find::<ShdescriptionRow>(env, SHDESCRIPTION_BY_OBJECT, &key)?;
    Ok(shown(found.first().map(|row| row.description.as_str())))
}
