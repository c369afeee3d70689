//! CREATE TABLE.

use crate::catalog::bootstrap::{attribute_row, class_row};
use crate::catalog::relation::{Column, Identity, Relation, RelationKind};
use crate::catalog::rows::TextArray;
use crate::ids::RelFile;
use crate::sql::error::{SqlError, state};
use crate::sql::front::ast::{CreateTable, OptionValue, Persistence, TableElement, UtilityOption};
use crate::types::acl::Privileges;
use crate::types::registry;

use super::Result;
use super::column::{MAX_COLUMNS, NewColumn};
use super::constraint::{self, Asked, NewCheck, NewKey};
use super::cx::DdlCx;
use super::foreign_key::{self, NewForeignKey};
use super::names::Place;

/// What the elements of the statement come to.
#[derive(Default)]
struct Parts<'s> {
    columns: Vec<NewColumn>,
    keys: Vec<NewKey>,
    checks: Vec<NewCheck<'s>>,
    references: Vec<NewForeignKey<'s>>,
}

pub async fn create(s: &CreateTable, cx: &mut DdlCx<'_>) -> Result<()> {
    refuse(s)?;
    check_options(&s.options)?;
    let place = cx.place(&s.name).map_err(|e| match e.detail {
        None => e.at(s.name.at()),
        // What is told of the system's schema has no place.
        Some(_) => e,
    })?;
    let name = s.name.name.name.clone();
    if cx.taken(place.schema, &name)? {
        return already_there(cx, &name, s.if_not_exists);
    }
    let mut parts = elements(s, cx)?;
    check_columns(&parts.columns)?;
    for key in parts.keys.iter().filter(|k| k.primary) {
        for wanted in &key.columns {
            if let Some(c) = parts
                .columns
                .iter_mut()
                .find(|c| c.column.name == wanted.name)
            {
                c.column.not_null = true;
            }
        }
    }
    cx.keep_role(cx.user.oid).await?;
    let mut table = describe(cx, &name, &place, &[])?;
    let mut taken = vec![name];
    let mut owned = Vec::new();
    for new in &mut parts.columns {
        if let Some(sequence) = cx.make_own_sequence(&table, new, &mut taken).await? {
            owned.push((
                sequence,
                new.column.attribute,
                new.sequence.as_ref().is_some_and(|s| s.identity),
            ));
        }
    }
    table.columns = parts.columns.iter().map(|c| c.column.clone()).collect();
    table.overflow = overflow_file(cx, &table.columns)?;
    write_table(cx, &table, &s.options).await?;
    for new in &parts.columns {
        // An identity column is what its sequence says; it has no row in `pg_attrdef`.
        if let (Some(text), Identity::No) = (&new.column.default, new.column.identity) {
            let mut uses = new.uses.clone();
            uses.extend(
                owned
                    .iter()
                    .filter(|o| o.1 == new.column.attribute)
                    .map(|o| o.0),
            );
            cx.insert_default(table.oid, new.column.attribute, text, &uses)
                .await?;
        }
    }
    for (sequence, attribute, identity) in owned {
        let kind = if identity {
            super::depend::INTERNAL
        } else {
            super::depend::AUTO
        };
        cx.own_sequence(sequence, table.oid, attribute, kind)
            .await?;
    }
    cx.changed(table.oid);
    cx.step()?;
    let mut constraint_names: Vec<String> = Vec::new();
    for check in &parts.checks {
        if let Some(name) = check.name.as_ref().filter(|n| constraint_names.contains(n)) {
            return Err(SqlError::new(
                state::DUPLICATE_OBJECT,
                format!("check constraint \"{name}\" already exists"),
            ));
        }
        let (made, _) = cx
            .insert_check(&table, check, &mut constraint_names)
            .await?;
        table.checks.push(made);
    }
    if !table.checks.is_empty() {
        super::alter::set_check_count(cx, &table).await?;
    }
    cx.step()?;
    for key in order_keys(parts.keys, &table.name)? {
        super::index::create_key(cx, &table, &key, &mut taken).await?;
        cx.step()?;
        table = (*cx.relation(table.oid)?).clone();
    }
    for new in &parts.references {
        let table = cx.relation(table.oid)?;
        // There is no row that it could not be valid for.
        foreign_key::add(cx, &table, new, true).await?;
        cx.step()?;
    }
    Ok(())
}

fn refuse(s: &CreateTable) -> Result<()> {
    let refused = match s.persistence {
        Persistence::Temporary => Some((
            "temporary tables are not supported",
            "Create an ordinary table and drop it when it is no longer needed.",
        )),
        Persistence::Unlogged => Some(("unlogged tables are not supported", "Leave UNLOGGED out.")),
        Persistence::Permanent => None,
    };
    if let Some((what, hint)) = refused {
        return Err(SqlError::unsupported(what).hint(hint));
    }
    if let Some(what) = s.unsupported {
        return Err(SqlError::unsupported(format!("{what} is not supported"))
            .hint("Create an ordinary table with all its columns."));
    }
    if !s.inherits.is_empty() {
        return Err(SqlError::unsupported("table inheritance is not supported")
            .hint("Repeat the columns in each table."));
    }
    if s.on_commit.is_some() {
        return Err(SqlError::new(
            state::INVALID_TABLE_DEFINITION,
            "ON COMMIT can only be used on temporary tables",
        ));
    }
    if let Some(space) = s.tablespace.as_ref().filter(|t| t.name != "pg_default") {
        return Err(SqlError::new(
            state::UNDEFINED_OBJECT,
            format!("tablespace \"{}\" does not exist", space.name),
        ));
    }
    if let Some(am) = s.access_method.as_ref().filter(|a| a.name != "heap") {
        return Err(SqlError::new(
            state::UNDEFINED_OBJECT,
            format!("access method \"{}\" does not exist", am.name),
        ));
    }
    Ok(())
}

/// 42P07, or a notice where IF NOT EXISTS was said.
pub fn already_there(cx: &mut DdlCx<'_>, name: &str, if_not_exists: bool) -> Result<()> {
    if if_not_exists {
        cx.notices.push(SqlError::with_severity(
            crate::sql::error::Severity::Notice,
            state::DUPLICATE_TABLE,
            format!("relation \"{name}\" already exists, skipping"),
        ));
        return Ok(());
    }
    Err(SqlError::new(
        state::DUPLICATE_TABLE,
        format!("relation \"{name}\" already exists"),
    ))
}

/// Storage parameters that PostgreSQL knows; those without a meaning here change nothing that anyone can see.
pub fn check_options(options: &[UtilityOption]) -> Result<()> {
    for o in options {
        let name = o.name.strip_prefix("toast.").unwrap_or(&o.name);
        let known = name.starts_with("autovacuum_")
            || matches!(
                name,
                "fillfactor"
                    | "toast_tuple_target"
                    | "parallel_workers"
                    | "vacuum_index_cleanup"
                    | "vacuum_truncate"
                    | "log_autovacuum_min_duration"
                    | "user_catalog_table"
                    | "deduplicate_items"
                    | "oids"
            );
        if !known {
            return Err(SqlError::new(
                state::INVALID_PARAMETER_VALUE,
                format!("unrecognized parameter \"{}\"", o.name),
            ));
        }
        if name == "fillfactor" {
            let value = o.text().unwrap_or_default();
            let n: i64 = value.parse().map_err(|_| {
                SqlError::new(
                    state::INVALID_PARAMETER_VALUE,
                    format!("invalid value for integer option \"fillfactor\": {value}"),
                )
            })?;
            if !(10..=100).contains(&n) {
                return Err(SqlError::new(
                    state::INVALID_PARAMETER_VALUE,
                    format!("value {n} out of bounds for option \"fillfactor\""),
                )
                .detail("Valid values are between \"10\" and \"100\"."));
            }
        }
        if name == "oids" && o.boolean() == Some(true) {
            return Err(SqlError::unsupported(
                "tables declared WITH OIDS are not supported",
            ));
        }
    }
    Ok(())
}

/// As `pg_class.reloptions` keeps them.
pub fn option_texts(options: &[UtilityOption]) -> Option<TextArray> {
    let texts: Vec<String> = options
        .iter()
        .filter(|o| o.name != "oids")
        .map(|o| {
            let value = match &o.value {
                None => "true",
                Some(OptionValue::Text(t) | OptionValue::Number(t)) => t,
                Some(_) => "",
            };
            format!("{}={value}", o.name)
        })
        .collect();
    (!texts.is_empty()).then(|| TextArray::from_items(texts))
}

fn elements<'s>(s: &'s CreateTable, cx: &DdlCx<'_>) -> Result<Parts<'s>> {
    let mut parts = Parts::default();
    for element in &s.elements {
        let attribute = i16::try_from(parts.columns.len() + 1).unwrap_or(i16::MAX);
        match element {
            TableElement::Column(d) => {
                let (keys, checks) = constraint::of_column(d);
                parts.keys.extend(keys);
                parts.checks.extend(checks);
                parts.references.extend(foreign_key::of_column(d));
                parts
                    .columns
                    .push(cx.new_column(d, attribute, &s.name.name.name)?);
            }
            TableElement::Constraint(c) => match constraint::of_table(c)? {
                Asked::Key(key) => parts.keys.push(key),
                // A new table has no row that NOT VALID could be about.
                Asked::Check(check) => parts.checks.push(NewCheck {
                    not_valid: false,
                    ..check
                }),
                Asked::References(new) => parts.references.push(new),
                Asked::UsingIndex { .. } => {
                    return Err(SqlError::new(
                        state::SYNTAX_ERROR,
                        "cannot use an existing index in CREATE TABLE",
                    )
                    .at(c.at));
                }
            },
            TableElement::Like { table, options, at } => {
                like(cx, table, options, *at, &mut parts.columns)?;
            }
        }
    }
    Ok(parts)
}

/// LIKE: names, types and NOT NULL, and defaults where they are asked for.
fn like(
    cx: &DdlCx<'_>,
    name: &crate::sql::front::ast::ObjectName,
    options: &[(bool, String)],
    at: u32,
    columns: &mut Vec<NewColumn>,
) -> Result<()> {
    use crate::catalog::view::CatalogView;
    let mut defaults = false;
    for (including, what) in options {
        match what.as_str() {
            "defaults" => defaults = *including,
            "comments" | "storage" | "compression" | "statistics" | "generated" => {}
            _ if !including => {}
            _ => {
                return Err(SqlError::unsupported(format!(
                    "LIKE INCLUDING {} is not supported",
                    what.to_uppercase()
                ))
                .at(at));
            }
        }
    }
    let source = cx
        .view()
        .relation_named(name.schema_name(), &name.name.name)?
        .ok_or_else(|| super::names::no_relation(name, "relation").at(name.at()))?;
    cx.must_hold(&source, Privileges::SELECT)?;
    for (_, c) in source.live_columns() {
        let attribute = i16::try_from(columns.len() + 1).unwrap_or(i16::MAX);
        let plain = c.identity == Identity::No;
        columns.push(NewColumn {
            column: Column {
                attribute,
                default: c.default.clone().filter(|_| defaults && plain),
                identity: Identity::No,
                missing: None,
                ..c.clone()
            },
            uses: Vec::new(),
            sequence: None,
        });
    }
    Ok(())
}

fn check_columns(columns: &[NewColumn]) -> Result<()> {
    if columns.len() > MAX_COLUMNS {
        return Err(SqlError::new(
            state::TOO_MANY_COLUMNS,
            format!("tables can have at most {MAX_COLUMNS} columns"),
        ));
    }
    for (i, c) in columns.iter().enumerate() {
        if columns[..i].iter().any(|o| o.column.name == c.column.name) {
            return Err(SqlError::new(
                state::DUPLICATE_COLUMN,
                format!("column \"{}\" specified more than once", c.column.name),
            ));
        }
    }
    Ok(())
}

/// The primary key comes first, as in PostgreSQL; two of them are an error.
fn order_keys(mut keys: Vec<NewKey>, table: &str) -> Result<Vec<NewKey>> {
    if let Some(second) = keys.iter().filter(|k| k.primary).nth(1) {
        return Err(SqlError::new(
            state::INVALID_TABLE_DEFINITION,
            format!("multiple primary keys for table \"{table}\" are not allowed"),
        )
        .at(second.at));
    }
    keys.sort_by_key(|k| !k.primary);
    // The same columns twice make one index.
    let mut out: Vec<NewKey> = Vec::with_capacity(keys.len());
    for key in keys {
        let same = out.iter().any(|o| {
            o.columns
                .iter()
                .map(|c| &c.name)
                .eq(key.columns.iter().map(|c| &c.name))
                && o.include.is_empty()
                && key.include.is_empty()
                && (key.name.is_none() || key.name == o.name)
        });
        if !same {
            out.push(key);
        }
    }
    Ok(out)
}

/// A new table of these columns.
pub fn describe(cx: &DdlCx<'_>, name: &str, place: &Place, columns: &[Column]) -> Result<Relation> {
    let oid = cx.new_oid()?;
    Ok(Relation {
        oid,
        name: name.to_owned(),
        schema: place.schema,
        schema_name: place.schema_name.clone(),
        kind: RelationKind::Table,
        owner: cx.user.oid,
        acl: None,
        file: RelFile::of_database(cx.database, oid),
        overflow: overflow_file(cx, columns)?,
        columns: columns.to_vec(),
        indexes: Vec::new(),
        checks: Vec::new(),
        foreign_keys: Vec::new(),
        referenced_by: Vec::new(),
        estimated_rows: -1.0,
        estimated_pages: 0,
    })
}

/// A file for large values, if a column may have one.
pub fn overflow_file(cx: &DdlCx<'_>, columns: &[Column]) -> Result<Option<RelFile>> {
    let needs = columns
        .iter()
        .any(|c| registry::by_oid(c.ty.oid).is_none_or(|t| t.length < 0));
    if needs {
        cx.new_file().map(Some)
    } else {
        Ok(None)
    }
}

/// Files and rows in `pg_class` and `pg_attribute`.
async fn write_table(
    cx: &mut DdlCx<'_>,
    table: &Relation,
    options: &[UtilityOption],
) -> Result<()> {
    cx.keep_schema(table.schema).await?;
    cx.create_file(table.file)?;
    if let Some(overflow) = table.overflow {
        cx.create_file(overflow)?;
    }
    let mut row = class_row(table);
    row.reloptions = option_texts(options);
    cx.insert(&row).await?;
    for column in &table.columns {
        cx.insert(&attribute_row(table.oid, column)).await?;
    }
    Ok(())
}
