//! FOREIGN KEY: making, validating and dropping one, and what goes or stays because of one (`tablecmds.c`).

use std::sync::Arc;

use crate::catalog::relation::{ForeignKey, Index, Relation, RelationKind};
use crate::catalog::rights::may_look_into;
use crate::catalog::rows::{
    CatalogRow, ClassRow, ConstraintRow, DependRow, DescriptionRow, Int2Array, OidArray,
};
use crate::catalog::session::Catalog;
use crate::catalog::view::CatalogView;
use crate::ids::Oid;
use crate::sql::error::{SqlError, state};
use crate::sql::front::ast::{
    self, ColumnConstraintKind, ColumnDefinition, ConstraintTiming, Ident,
};
use crate::sql::references::equality::{Equality, equality};
use crate::sql::references::statements::Both;
use crate::sql::references::{self, Looking, MAX_KEYS, Views};
use crate::txn::{LockMode, Transaction};
use crate::types::acl::Privileges;
use crate::types::datum::{Datum, SqlType};
use crate::types::functions::quote_identifier;
use crate::types::registry;

use super::Result;
use super::alter::change_class;
use super::cx::{DdlCx, May, by, oid_key};
use super::depend::{AUTO, NORMAL};
use super::names::{no_relation, no_schema, object_name};
use super::rights::{denied, must_not_be_system};

const CASCADE_HINT: &str = "Use DROP ... CASCADE to drop the dependent objects too.";

/// A foreign key to be made.
pub struct NewForeignKey<'s> {
    pub name: Option<String>,
    pub columns: Vec<&'s Ident>,
    pub key: &'s ast::ForeignKey,
    pub timing: ConstraintTiming,
    pub not_valid: bool,
}

/// REFERENCES in a column definition.
pub fn of_column(d: &ColumnDefinition) -> Vec<NewForeignKey<'_>> {
    let constraints = d.constraints.iter();
    let made = constraints.filter_map(|c| match &c.kind {
        ColumnConstraintKind::References(key) => Some(NewForeignKey {
            name: c.name.as_ref().map(|n| n.name.clone()),
            columns: vec![&d.name],
            key,
            timing: c.timing,
            not_valid: false,
        }),
        _ => None,
    });
    made.collect()
}

fn invalid(message: impl Into<String>) -> SqlError {
    SqlError::new(state::INVALID_FOREIGN_KEY, message)
}

/// Makes the constraint; gives its oid. Rows that are there are not looked at.
pub async fn add(
    cx: &mut DdlCx<'_>,
    table: &Arc<Relation>,
    new: &NewForeignKey<'_>,
    valid: bool,
) -> Result<Oid> {
    let name = name_of(cx, table, new)?;
    let referenced = referenced_table(cx, &new.key.table).await?;
    let (mut key, operators) = resolve(cx, table, &referenced, new, name)?;
    key.oid = cx.new_oid()?;
    insert_row(cx, table, &referenced, &key, &operators, valid).await?;
    insert_dependencies(cx, table, &referenced, &key).await?;
    cx.changed(table.oid);
    cx.changed(referenced.oid);
    cx.step()?;
    mark(cx, table.oid).await?;
    mark(cx, referenced.oid).await?;
    Ok(key.oid)
}

/// From now on the table is asked for foreign keys.
async fn mark(cx: &mut DdlCx<'_>, table: Oid) -> Result<()> {
    let (_, row) = cx.find_one::<ClassRow>(by::CLASS_OID, &oid_key(table), "relation")?;
    if !row.relhastriggers {
        change_class(cx, table, |row| row.relhastriggers = true).await?;
        cx.step()?;
    }
    Ok(())
}

/// `t_a_b_fkey`, or what was asked for.
fn name_of(cx: &DdlCx<'_>, table: &Relation, new: &NewForeignKey<'_>) -> Result<String> {
    if let Some(name) = &new.name {
        let taken = cx.constraint_rows(table.oid)?;
        if taken.iter().any(|row| row.conname == *name) {
            return Err(SqlError::new(
                state::DUPLICATE_OBJECT,
                format!(
                    "constraint \"{name}\" for relation \"{}\" already exists",
                    table.name
                ),
            ));
        }
        return Ok(name.clone());
    }
    let columns: Vec<&str> = new.columns.iter().map(|c| c.name.as_str()).collect();
    let columns = columns.join("_");
    let mut pass = 0;
    loop {
        let label = match pass {
            0 => "fkey".to_owned(),
            n => format!("fkey{n}"),
        };
        let name = object_name(&table.name, Some(&columns), &label);
        let key = [Datum::text(&name), Datum::Oid(table.schema)];
        if cx
            .find::<ConstraintRow>(by::CONSTRAINT_NAME, &key)?
            .is_empty()
        {
            return Ok(name);
        }
        pass += 1;
    }
}

/// The table that is referred to, locked against changes: both tables take part in the constraint from now on.
async fn referenced_table(cx: &mut DdlCx<'_>, name: &ast::ObjectName) -> Result<Arc<Relation>> {
    if let Some(schema) = name.schema_name()
        && cx.view().schema_named(schema)?.is_none()
    {
        return Err(no_schema(schema));
    }
    let may: May<'_> = &|_, referenced| can_be_referenced(referenced);
    let found = cx.open_if(name, LockMode::ShareRowExclusive, may).await?;
    found.ok_or_else(|| no_relation(name, "relation"))
}

fn can_be_referenced(relation: &Relation) -> Result<()> {
    if relation.kind == RelationKind::Index {
        let message = format!("\"{}\" is an index", relation.name);
        return Err(SqlError::new(state::WRONG_OBJECT_TYPE, message));
    }
    if relation.kind != RelationKind::Table {
        return Err(SqlError::new(
            state::WRONG_OBJECT_TYPE,
            format!("referenced relation \"{}\" is not a table", relation.name),
        ));
    }
    must_not_be_system(relation)
}

/// Columns, key, index and operators of the new constraint; its oid is to come.
fn resolve(
    cx: &DdlCx<'_>,
    table: &Relation,
    referenced: &Relation,
    new: &NewForeignKey<'_>,
    name: String,
) -> Result<(ForeignKey, Vec<Equality>)> {
    let columns = positions(table, new.columns.iter().copied())?;
    let set_columns = positions(table, new.key.set_columns.iter())?;
    for (at, name) in set_columns.iter().zip(&new.key.set_columns) {
        if !columns.contains(at) {
            return Err(SqlError::new(
                state::INVALID_COLUMN_REFERENCE,
                format!(
                    "column \"{}\" referenced in ON DELETE SET action must be part of foreign key",
                    name.name
                ),
            ));
        }
    }
    let (key, index) = match new.key.columns.as_slice() {
        [] => primary_key(referenced)?,
        names => {
            let key = positions(referenced, names.iter())?;
            let index = matching_index(referenced, &key)?;
            (key, index)
        }
    };
    cx.must_hold(referenced, Privileges::REFERENCES)?;
    if columns.len() != key.len() {
        return Err(invalid(
            "number of referencing and referenced columns for foreign key disagree",
        ));
    }
    let made = ForeignKey {
        oid: Oid::INVALID,
        name,
        table: table.oid,
        columns,
        referenced: referenced.oid,
        key,
        index: index.oid,
        match_full: new.key.match_full,
        on_update: new.key.on_update,
        on_delete: new.key.on_delete,
        set_columns,
        deferrable: new.timing.deferrable,
        initially_deferred: new.timing.initially_deferred,
    };
    let operators = operators_of(table, referenced, &made)?;
    Ok((made, operators))
}

fn positions<'i>(table: &Relation, names: impl Iterator<Item = &'i Ident>) -> Result<Vec<usize>> {
    let mut found = Vec::new();
    for name in names {
        let name = name.name.as_str();
        let system = ["ctid", "xmin", "xmax", "cmin", "cmax", "tableoid"];
        let Some(position) = table.column_named(name) else {
            if system.contains(&name) {
                let message = "system columns cannot be used in foreign keys";
                return Err(SqlError::unsupported(message));
            }
            return Err(SqlError::new(
                state::UNDEFINED_COLUMN,
                format!("column \"{name}\" referenced in foreign key constraint does not exist"),
            ));
        };
        if found.len() >= MAX_KEYS {
            return Err(SqlError::new(
                state::TOO_MANY_COLUMNS,
                format!("cannot have more than {MAX_KEYS} keys in a foreign key"),
            ));
        }
        found.push(position);
    }
    Ok(found)
}

fn deferred_key(what: &str, table: &Relation) -> SqlError {
    SqlError::new(
        state::OBJECT_NOT_IN_PREREQUISITE_STATE,
        format!(
            "cannot use a deferrable {what} for referenced table \"{}\"",
            table.name
        ),
    )
}

fn primary_key(table: &Relation) -> Result<(Vec<usize>, Arc<Index>)> {
    let index = table.primary_key().filter(|index| index.valid);
    let index = index.ok_or_else(|| {
        SqlError::new(
            state::UNDEFINED_OBJECT,
            format!(
                "there is no primary key for referenced table \"{}\"",
                table.name
            ),
        )
    })?;
    if index.deferrable {
        return Err(deferred_key("primary key", table));
    }
    let key = index.keys.iter().map(|k| k.column).collect();
    Ok((key, Arc::clone(index)))
}

/// The first unique index over these columns, in whatever order.
fn matching_index(table: &Relation, key: &[usize]) -> Result<Arc<Index>> {
    for (at, column) in key.iter().enumerate() {
        if key[..at].contains(column) {
            return Err(invalid(
                "foreign key referenced-columns list must not contain duplicates",
            ));
        }
    }
    let over_key = |index: &&Arc<Index>| {
        index.unique
            && index.valid
            && index.keys.len() == key.len()
            && key
                .iter()
                .all(|column| index.keys.iter().any(|k| k.column == *column))
    };
    let mut deferrable = false;
    for index in table.indexes.iter().filter(over_key) {
        if !index.deferrable {
            return Ok(Arc::clone(index));
        }
        deferrable = true;
    }
    if deferrable {
        return Err(deferred_key("unique constraint", table));
    }
    Err(invalid(format!(
        "there is no unique constraint matching given keys for referenced table \"{}\"",
        table.name
    )))
}

fn operators_of(
    table: &Relation,
    referenced: &Relation,
    key: &ForeignKey,
) -> Result<Vec<Equality>> {
    let pairs = key.columns.iter().zip(&key.key);
    let operators = pairs.map(|(own, other)| {
        let (own, other) = (&table.columns[*own], &referenced.columns[*other]);
        equality(other.ty.oid, own.ty.oid).ok_or_else(|| {
            let shown = |ty: SqlType| registry::format_type(SqlType::plain(ty.oid));
            SqlError::new(
                state::DATATYPE_MISMATCH,
                format!(
                    "foreign key constraint \"{}\" cannot be implemented",
                    key.name
                ),
            )
            .detail(format!(
                "Key columns \"{}\" and \"{}\" are of incompatible types: {} and {}.",
                own.name,
                other.name,
                shown(own.ty),
                shown(other.ty)
            ))
        })
    });
    operators.collect()
}

fn numbers(table: &Relation, positions: &[usize]) -> Int2Array {
    Int2Array::from_items(positions.iter().map(|n| table.columns[*n].attribute))
}

async fn insert_row(
    cx: &mut DdlCx<'_>,
    table: &Relation,
    referenced: &Relation,
    key: &ForeignKey,
    operators: &[Equality],
    valid: bool,
) -> Result<()> {
    let oids = |of: fn(&Equality) -> Oid| Some(OidArray::from_items(operators.iter().map(of)));
    let set_columns = &key.set_columns;
    cx.insert(&ConstraintRow {
        oid: key.oid,
        conname: key.name.clone(),
        connamespace: table.schema,
        contype: b'f',
        condeferrable: key.deferrable,
        condeferred: key.initially_deferred,
        convalidated: valid,
        conrelid: table.oid,
        conindid: key.index,
        confrelid: referenced.oid,
        confupdtype: key.on_update.letter(),
        confdeltype: key.on_delete.letter(),
        confmatchtype: if key.match_full { b'f' } else { b's' },
        conislocal: true,
        connoinherit: true,
        conkey: Some(numbers(table, &key.columns)),
        confkey: Some(numbers(referenced, &key.key)),
        conpfeqop: oids(|e| e.across.oid),
        conppeqop: oids(|e| e.keys.oid),
        conffeqop: oids(|e| e.references.oid),
        confdelsetcols: (!set_columns.is_empty()).then(|| numbers(table, set_columns)),
        ..ConstraintRow::default()
    })
    .await
}

/// It goes with its own columns; the key's columns and index do not go without it.
async fn insert_dependencies(
    cx: &mut DdlCx<'_>,
    table: &Relation,
    referenced: &Relation,
    key: &ForeignKey,
) -> Result<()> {
    let column = |relation: &Relation, n: usize| i32::from(relation.columns[n].attribute);
    let own = key.columns.iter();
    let own = own.map(|n| (table.oid, column(table, *n), AUTO));
    let others = key.key.iter();
    let others = others.map(|n| (referenced.oid, column(referenced, *n), NORMAL));
    let mut rows: Vec<(Oid, i32, u8)> = own.chain(others).collect();
    rows.push((key.index, 0, NORMAL));
    // A column may stand in a reference twice.
    rows.sort_unstable();
    rows.dedup();
    for (refobjid, refobjsubid, deptype) in rows {
        cx.insert(&DependRow {
            classid: ConstraintRow::TABLE,
            objid: key.oid,
            objsubid: 0,
            refclassid: ClassRow::TABLE,
            refobjid,
            refobjsubid,
            deptype,
        })
        .await?;
    }
    Ok(())
}

struct AsSeen<'a> {
    catalog: &'a Catalog,
    database: Oid,
}

impl Views for AsSeen<'_> {
    fn view<'v>(&'v self, txn: &'v Transaction, role: Oid) -> Box<dyn CatalogView + 'v> {
        Box::new(self.catalog.view(self.database, txn, &[], role))
    }
}

/// 23503 if a row of the table does not meet its foreign key.
pub async fn check_rows(cx: &mut DdlCx<'_>, table: Oid, constraint: Oid) -> Result<()> {
    let table = cx.relation(table)?;
    let key = table.foreign_keys.iter().find(|key| key.oid == constraint);
    let Some(key) = key else {
        // An action of the same statement has dropped it.
        return Ok(());
    };
    let referenced = cx.relation(key.referenced)?;
    let views = AsSeen {
        catalog: cx.catalog,
        database: cx.database,
    };
    let looking = Looking {
        views: &views,
        store: &cx.catalog.store,
        txns: &cx.catalog.txns,
        function: cx.functions,
        user: cx.user.oid,
    };
    let both = Both {
        key,
        table: &table,
        referenced: &referenced,
    };
    references::validate(&looking, cx.txn, &both).await
}

/// The constraint goes; its tables are locked.
pub async fn remove(cx: &mut DdlCx<'_>, key: &ForeignKey) -> Result<()> {
    let rows = cx.find::<ConstraintRow>(by::CONSTRAINT_RELATION, &oid_key(key.table))?;
    for (tid, row) in rows {
        if row.oid == key.oid {
            cx.delete::<ConstraintRow>(tid).await?;
        }
    }
    let comments = [Datum::Oid(key.oid), Datum::Oid(ConstraintRow::TABLE)];
    cx.delete_all::<DescriptionRow>(by::DESCRIPTION, &comments)
        .await?;
    cx.forget_dependencies(ConstraintRow::TABLE, key.oid)
        .await?;
    cx.changed(key.table);
    cx.changed(key.referenced);
    cx.step()
}

/// A foreign key that depends on something that is to go, and on what by name.
pub type Dependent = (Arc<ForeignKey>, String);

/// `table t`, with its schema where the search path does not find it (`getObjectDescription`).
pub fn described(cx: &DdlCx<'_>, relation: &Relation) -> Result<String> {
    let word = match relation.kind {
        RelationKind::Index => "index",
        RelationKind::Sequence => "sequence",
        _ => "table",
    };
    let name = quote_identifier(&relation.name);
    let visible = cx.view().relation_named(None, &relation.name)?;
    if visible.is_some_and(|found| found.oid == relation.oid) {
        return Ok(format!("{word} {name}"));
    }
    Ok(format!(
        "{word} {}.{name}",
        quote_identifier(&relation.schema_name)
    ))
}

/// `constraint t_a_fkey on table t`
pub fn described_key(cx: &DdlCx<'_>, key: &ForeignKey) -> Result<String> {
    let table = cx.relation(key.table)?;
    Ok(format!(
        "constraint {} on {}",
        key.name,
        described(cx, &table)?
    ))
}

/// Foreign keys that do not let these tables and indexes go, those that go themselves with a table of them apart.
pub fn dependents_of(cx: &DdlCx<'_>, going: &[Arc<Relation>]) -> Result<Vec<Dependent>> {
    let stays = |key: &ForeignKey| going.iter().all(|r| r.oid != key.table);
    let mut found: Vec<Dependent> = Vec::new();
    for relation in going {
        let table = match relation.kind {
            RelationKind::Table => Arc::clone(relation),
            RelationKind::Index => super::index::on_table(cx, relation)?.0,
            _ => continue,
        };
        let is_table = table.oid == relation.oid;
        for key in &table.referenced_by {
            let depends = if is_table {
                stays(key)
            } else {
                key.index == relation.oid
            };
            if depends && found.iter().all(|(other, _)| other.oid != key.oid) {
                found.push((Arc::clone(key), described(cx, relation)?));
            }
        }
    }
    found.sort_by_key(|(key, _)| key.oid);
    Ok(found)
}

/// The dependents of `what` (none: of several things) go with CASCADE; else they are an error.
pub async fn release(
    cx: &mut DdlCx<'_>,
    dependents: Vec<Dependent>,
    what: Option<&str>,
    cascade: bool,
) -> Result<()> {
    if dependents.is_empty() {
        return Ok(());
    }
    let mut shown = Vec::with_capacity(dependents.len());
    for (key, _) in &dependents {
        shown.push(described_key(cx, key)?);
    }
    if !cascade {
        let lines = shown.iter().zip(&dependents);
        let lines = lines.map(|(key, (_, on))| format!("{key} depends on {on}"));
        let message = match what {
            Some(what) => format!("cannot drop {what} because other objects depend on it"),
            None => "cannot drop desired object(s) because other objects depend on them".to_owned(),
        };
        return Err(SqlError::new(state::DEPENDENT_OBJECTS_STILL_EXIST, message)
            .detail(lines.collect::<Vec<_>>().join("\n"))
            .hint(CASCADE_HINT));
    }
    cx.notices.push(cascades_to(&shown));
    for (key, _) in &dependents {
        drop_from_outside(cx, key).await?;
    }
    Ok(())
}

/// What goes with what CASCADE drops; `shown`: one at least.
pub fn cascades_to(shown: &[String]) -> SqlError {
    let line = |one: &String| format!("drop cascades to {one}");
    match shown {
        [one] => SqlError::notice(line(one)),
        many => SqlError::notice(format!("drop cascades to {} other objects", many.len()))
            .detail(many.iter().map(line).collect::<Vec<_>>().join("\n")),
    }
}

/// A foreign key goes because of something else than its own table.
pub async fn drop_from_outside(cx: &mut DdlCx<'_>, key: &ForeignKey) -> Result<()> {
    for table in [key.table, key.referenced] {
        cx.lock(table, LockMode::AccessExclusive).await?;
    }
    remove(cx, key).await
}

/// Before these tables and indexes are dropped by one statement.
pub async fn release_relations(
    cx: &mut DdlCx<'_>,
    going: &[Arc<Relation>],
    cascade: bool,
) -> Result<()> {
    let mut asked = Vec::with_capacity(going.len());
    for relation in going {
        // An index that a constraint requires does not go by itself, whatever refers to it.
        let required = relation.kind == RelationKind::Index
            && super::index::on_table(cx, relation)?.1.constraint.is_some();
        if !required {
            asked.push(Arc::clone(relation));
        }
    }
    let dependents = dependents_of(cx, &asked)?;
    let what = match going {
        [one] if !dependents.is_empty() => Some(described(cx, one)?),
        _ => None,
    };
    release(cx, dependents, what.as_deref(), cascade).await
}

/// ALTER CONSTRAINT: when it is looked at.
pub async fn set_timing(
    cx: &mut DdlCx<'_>,
    table: &Relation,
    name: &str,
    timing: ConstraintTiming,
) -> Result<()> {
    let rows = cx.find::<ConstraintRow>(by::CONSTRAINT_RELATION, &oid_key(table.oid))?;
    let Some((tid, mut row)) = rows.into_iter().find(|(_, c)| c.conname == name) else {
        return Err(super::alter::no_constraint(name, table));
    };
    if row.contype != b'f' {
        return Err(SqlError::new(
            state::WRONG_OBJECT_TYPE,
            format!(
                "constraint \"{name}\" of relation \"{}\" is not a foreign key constraint",
                table.name
            ),
        ));
    }
    row.condeferrable = timing.deferrable;
    row.condeferred = timing.initially_deferred;
    cx.update(tid, &row).await?;
    cx.changed(table.oid);
    cx.changed(row.confrelid);
    Ok(())
}

/// SET CONSTRAINTS. Whoever runs the statement deals with the rows that are due by it.
pub fn set_constraints(cx: &mut DdlCx<'_>, s: &ast::SetConstraints) -> Result<()> {
    if s.names.is_empty() {
        cx.txn.row_events_mut().set_all(s.deferred);
        return Ok(());
    }
    let mut found = Vec::new();
    for name in &s.names {
        found.extend(deferrable_named(cx, name, s.deferred)?);
    }
    for constraint in found {
        cx.txn.row_events_mut().set(constraint, s.deferred);
    }
    Ok(())
}

/// 42501 for a schema that the user may not look into (`LookupExplicitNamespace`).
fn open_schema(cx: &DdlCx<'_>, name: &str) -> Result<Oid> {
    let view = cx.view();
    let oid = view.schema_named(name)?.ok_or_else(|| no_schema(name))?;
    let schema = view.schema(oid)?;
    if schema.map_or(Ok(false), |s| may_look_into(&view, &s))? {
        return Ok(oid);
    }
    Err(denied(format!("permission denied for schema {name}")))
}

/// Constraints of that name in the schema, or in the first of the search path that has one.
fn deferrable_named(cx: &DdlCx<'_>, name: &ast::ObjectName, deferred: bool) -> Result<Vec<Oid>> {
    let schemas = match name.schema_name() {
        Some(schema) => vec![open_schema(cx, schema)?],
        None => cx.view().search_path()?,
    };
    let name = &name.name.name;
    for schema in schemas {
        let key = [Datum::text(name), Datum::Oid(schema)];
        let rows = cx.find::<ConstraintRow>(by::CONSTRAINT_NAME, &key)?;
        if rows.is_empty() {
            continue;
        }
        if deferred && rows.iter().any(|(_, row)| !row.condeferrable) {
            return Err(SqlError::new(
                state::WRONG_OBJECT_TYPE,
                format!("constraint \"{name}\" is not deferrable"),
            ));
        }
        let rows = rows.into_iter().filter(|(_, row)| row.condeferrable);
        return Ok(rows.map(|(_, row)| row.oid).collect());
    }
    Err(SqlError::new(
        state::UNDEFINED_OBJECT,
        format!("constraint \"{name}\" does not exist"),
    ))
}
