//! ALTER TABLE's actions on columns: add, drop, defaults, NOT NULL.

use std::sync::Arc;

use crate::catalog::bootstrap::attribute_row;
use crate::catalog::relation::{Column, ForeignKey, Identity, Relation};
use crate::catalog::rows::{
    AnyArray, AttrdefRow, CatalogRow, ClassRow, DescriptionRow, StatisticRow,
};
use crate::ids::Oid;
use crate::sql::bind;
use crate::sql::bound::Expr as Bound;
use crate::sql::ddl::Result;
use crate::sql::ddl::column::{MAX_COLUMNS, NewColumn};
use crate::sql::ddl::cx::{DdlCx, by, oid_key};
use crate::sql::ddl::depend::{AUTO, INTERNAL};
use crate::sql::ddl::drop::{drop_index, drop_relation};
use crate::sql::ddl::foreign_key;
use crate::sql::ddl::{constraint as definition, rename, table as tables};
use crate::sql::error::{SqlError, state};
use crate::sql::exec::cx::EvalCx;
use crate::sql::exec::eval::Scalar;
use crate::sql::front::ast::ColumnDefinition;
use crate::txn::LockMode;
use crate::types::datum::Datum;
use crate::types::function::Volatility;

use super::constraint::{add_check, add_key, drop_constraint};
use super::fill::fill;
use super::identity::{refuse_identity, unown};
use super::rows::{change_attribute, change_class, each_row, find_column, has_rows};

/// The default of a column goes, if it has one.
pub async fn remove_default(cx: &mut DdlCx<'_>, table: &Relation, attribute: i16) -> Result<()> {
    let key = [Datum::Oid(table.oid), Datum::Int2(attribute)];
    for (tid, row) in cx.find::<AttrdefRow>(by::ATTRDEF_COLUMN, &key)? {
        cx.forget_dependencies(AttrdefRow::TABLE, row.oid).await?;
        cx.delete::<AttrdefRow>(tid).await?;
    }
    change_attribute(cx, table.oid, attribute, |row| row.atthasdef = false).await
}

pub(super) async fn put_default(
    cx: &mut DdlCx<'_>,
    table: &Relation,
    attribute: i16,
    text: &str,
    uses: &[Oid],
) -> Result<()> {
    cx.insert_default(table.oid, attribute, text, uses).await?;
    change_attribute(cx, table.oid, attribute, |row| row.atthasdef = true).await
}

/// The column without its keys and conditions; false: there is one of its name, and IF NOT EXISTS.
pub(super) async fn add_column(
    cx: &mut DdlCx<'_>,
    table: &Arc<Relation>,
    d: &ColumnDefinition,
    if_not_exists: bool,
) -> Result<bool> {
    if table.column_named(&d.name.name).is_some() {
        let message = format!(
            "column \"{}\" of relation \"{}\" already exists",
            d.name.name, table.name
        );
        if if_not_exists {
            cx.notices.push(SqlError::with_severity(
                crate::sql::error::Severity::Notice,
                state::DUPLICATE_COLUMN,
                format!("{message}, skipping"),
            ));
            return Ok(false);
        }
        return Err(SqlError::new(state::DUPLICATE_COLUMN, message));
    }
    if table.columns.len() >= MAX_COLUMNS {
        return Err(SqlError::new(
            state::TOO_MANY_COLUMNS,
            format!("tables can have at most {MAX_COLUMNS} columns"),
        ));
    }
    let attribute = i16::try_from(table.columns.len() + 1).unwrap_or(i16::MAX);
    let mut new = cx.new_column(d, attribute, &table.name)?;
    let has_rows = has_rows(cx, table)?;
    let mut taken = Vec::new();
    let sequence = cx.make_own_sequence(table, &mut new, &mut taken).await?;
    let mut each_its_own = false;
    if has_rows {
        let (value, volatile) = missing_value(cx, &new)?;
        new.column.missing = value;
        each_its_own = volatile;
    }
    check_new_not_null(table, &new, has_rows && !each_its_own)?;
    write_column(cx, table, &new).await?;
    if let (Some(text), Identity::No) = (&new.column.default, new.column.identity) {
        let mut uses = new.uses.clone();
        uses.extend(sequence);
        cx.insert_default(table.oid, attribute, text, &uses).await?;
    }
    if let Some(sequence) = sequence {
        let identity = new.sequence.as_ref().is_some_and(|s| s.identity);
        let kind = if identity { INTERNAL } else { AUTO };
        cx.own_sequence(sequence, table.oid, attribute, kind)
            .await?;
    }
    if each_its_own {
        fill(cx, table.oid, &new.column.name).await?;
    }
    Ok(true)
}

/// UNIQUE and PRIMARY KEY in the definition of a column that was added.
pub(super) async fn add_column_keys(
    cx: &mut DdlCx<'_>,
    table: Oid,
    d: &ColumnDefinition,
) -> Result<()> {
    let (keys, _) = definition::of_column(d);
    for key in &keys {
        let table = cx.relation(table)?;
        add_key(cx, &table, key).await?;
        cx.step()?;
    }
    Ok(())
}

/// CHECK in the definition of a column that was added: it may read columns that came after it.
pub(super) async fn add_column_checks(
    cx: &mut DdlCx<'_>,
    table: Oid,
    d: &ColumnDefinition,
) -> Result<()> {
    let (_, checks) = definition::of_column(d);
    for check in &checks {
        let table = cx.relation(table)?;
        add_check(cx, &table, check).await?;
        cx.step()?;
    }
    Ok(())
}

async fn write_column(cx: &mut DdlCx<'_>, table: &Relation, new: &NewColumn) -> Result<()> {
    let mut row = attribute_row(table.oid, &new.column);
    if let Some(value) = &new.column.missing {
        row.atthasmissing = true;
        row.attmissingval = Some(AnyArray::of_one(new.column.ty.oid, value.clone()));
    }
    cx.insert(&row).await?;
    let overflow = match table.overflow {
        Some(_) => None,
        None => tables::overflow_file(cx, std::slice::from_ref(&new.column))?,
    };
    if let Some(file) = overflow {
        cx.create_file(file)?;
    }
    let attribute = new.column.attribute;
    change_class(cx, table.oid, |row| {
        row.relnatts = attribute;
        if let Some(file) = overflow {
            row.reltoastrelid = file.number;
        }
    })
    .await
}

fn check_new_not_null(table: &Relation, new: &NewColumn, has_rows: bool) -> Result<()> {
    let null = new.column.missing.as_ref().is_none_or(Datum::is_null);
    if has_rows && new.column.not_null && null {
        return Err(contains_nulls(table, &new.column));
    }
    Ok(())
}

fn contains_nulls(table: &Relation, column: &Column) -> SqlError {
    SqlError::new(
        state::NOT_NULL_VIOLATION,
        format!(
            "column \"{}\" of relation \"{}\" contains null values",
            column.name, table.name
        ),
    )
    .table(&table.schema_name, &table.name)
    .column(&column.name)
}

/// The value that old rows have in a new column: its default, computed once. `true` if each has to have its own.
fn missing_value(cx: &DdlCx<'_>, new: &NewColumn) -> Result<(Option<Datum>, bool)> {
    let Some(text) = &new.column.default else {
        return Ok((None, false));
    };
    if new.sequence.is_some() {
        return Ok((None, true));
    }
    let c = &new.column;
    let bound = bind::default_expression(text, &c.name, c.ty, &cx.view(), cx.functions)?;
    let mut volatile = false;
    fn look(e: &Bound, volatile: &mut bool) {
        if let Bound::Call { function, .. } = e {
            *volatile |= function.volatility == Volatility::Volatile;
        }
        bind::parts(e, &mut |p| look(p, volatile));
    }
    look(&bound, &mut volatile);
    if volatile {
        return Ok((None, true));
    }
    let value = Scalar::compiled(bound).eval(&[], &mut EvalCx::bare(Arc::clone(cx.functions)))?;
    Ok(((!value.is_null()).then_some(value), false))
}

pub(super) async fn check_no_nulls(
    cx: &mut DdlCx<'_>,
    table: &Relation,
    positions: &[usize],
) -> Result<()> {
    let mut bad = None;
    each_row(cx, table, |row| {
        bad = positions.iter().copied().find(|p| row[*p].is_null());
        Ok(bad.is_none())
    })?;
    match bad {
        Some(p) => Err(contains_nulls(table, &table.columns[p])),
        None => Ok(()),
    }
}

pub(super) async fn set_not_null(
    cx: &mut DdlCx<'_>,
    table: &Relation,
    position: usize,
    on: bool,
) -> Result<()> {
    let attribute = table.columns[position].attribute;
    change_attribute(cx, table.oid, attribute, |row| row.attnotnull = on).await
}

pub(super) async fn drop_not_null(cx: &mut DdlCx<'_>, table: &Relation, name: &str) -> Result<()> {
    let position = find_column(table, name)?;
    refuse_identity(table, position)?;
    let in_key = table
        .primary_key()
        .is_some_and(|k| k.keys.iter().any(|k| k.column == position));
    if in_key {
        return Err(SqlError::new(
            state::INVALID_TABLE_DEFINITION,
            format!("column \"{name}\" is in a primary key"),
        ));
    }
    set_not_null(cx, table, position, false).await
}

/// Foreign keys over the column go with it; those that refer to it, or need an index that goes with it, are in the way.
async fn drop_references(
    cx: &mut DdlCx<'_>,
    table: &Arc<Relation>,
    position: usize,
    cascade: bool,
) -> Result<()> {
    let own = |key: &ForeignKey| key.table == table.oid && key.columns.contains(&position);
    let column = format!(
        "column {} of {}",
        table.columns[position].name,
        foreign_key::described(cx, table)?
    );
    let mut dependents = Vec::new();
    for key in table.referenced_by.iter().filter(|key| !own(key)) {
        let index = table.indexes.iter().find(|i| i.oid == key.index);
        if key.key.contains(&position) {
            dependents.push((Arc::clone(key), column.clone()));
        } else if let Some(index) = index.filter(|i| i.included.contains(&position)) {
            let index = crate::catalog::schema::index_relation(table, index);
            dependents.push((Arc::clone(key), foreign_key::described(cx, &index)?));
        }
    }
    foreign_key::release(cx, dependents, Some(&column), cascade).await?;
    for key in table.foreign_keys.iter().filter(|key| own(key)) {
        foreign_key::drop_from_outside(cx, key).await?;
    }
    Ok(())
}

pub(super) async fn drop_column(
    cx: &mut DdlCx<'_>,
    table: &Arc<Relation>,
    name: &str,
    if_exists: bool,
    cascade: bool,
) -> Result<()> {
    if matches!(
        name,
        "ctid" | "xmin" | "xmax" | "cmin" | "cmax" | "tableoid"
    ) {
        let what = format!("cannot drop system column \"{name}\"");
        return Err(SqlError::unsupported(what));
    }
    let Some(position) = table.column_named(name) else {
        if if_exists {
            cx.notice(format!(
                "column \"{name}\" of relation \"{}\" does not exist, skipping",
                table.name
            ));
            return Ok(());
        }
        return Err(find_column(table, name)
            .err()
            .unwrap_or_else(|| SqlError::internal("a column that is there and is not")));
    };
    let attribute = table.columns[position].attribute;
    drop_references(cx, table, position, cascade).await?;
    // Constraints and indexes over the column go with it.
    for check in &table.checks {
        if rename::uses_column(cx, table, &check.expression, position) {
            // Each finds the table as the one before it left it: all of them count in its row of `pg_class`.
            let current = cx.relation(table.oid)?;
            drop_constraint(cx, &current, &check.name, false, cascade).await?;
            cx.step()?;
        }
    }
    for index in &table.indexes {
        let uses =
            index.keys.iter().any(|k| k.column == position) || index.included.contains(&position);
        if !uses {
            continue;
        }
        match &index.constraint {
            Some((_, name)) => drop_constraint(cx, table, name, false, cascade).await?,
            None => {
                let relation = crate::catalog::schema::index_relation(table, index);
                drop_index(cx, table, &relation).await?;
            }
        }
    }
    cx.step()?;
    remove_default(cx, table, attribute).await?;
    cx.step()?;
    for owned in cx.owned_sequences(table.oid)? {
        if owned.attribute != attribute {
            continue;
        }
        cx.lock(owned.sequence, LockMode::AccessExclusive).await?;
        let key = oid_key(owned.sequence);
        let _ = key;
        unown(cx, owned.sequence).await?;
        let sequence = cx.relation(owned.sequence)?;
        drop_relation(cx, &sequence, cascade, std::slice::from_ref(table)).await?;
        cx.step()?;
    }
    let statistics = [Datum::Oid(table.oid), Datum::Int2(attribute)];
    cx.delete_all::<StatisticRow>(by::STATISTIC, &statistics)
        .await?;
    let comments = [
        Datum::Oid(table.oid),
        Datum::Oid(ClassRow::TABLE),
        Datum::Int4(i32::from(attribute)),
    ];
    cx.delete_all::<DescriptionRow>(by::DESCRIPTION, &comments)
        .await?;
    change_attribute(cx, table.oid, attribute, |row| {
        // The type stays: rows written before still have a value of it, which readers skip.
        row.attname = format!("........pg.dropped.{attribute}........");
        row.attisdropped = true;
        row.attnotnull = false;
        row.attidentity = 0;
        row.atthasmissing = false;
        row.attmissingval = None;
    })
    .await
}
