//! ALTER TABLE. Manual, ALTER TABLE.
//!
//! The statement's actions run one after another under one AccessExclusive lock; each sees what the one before it
//! did. Nothing rewrites the table: a new column's constant default is kept as the value of the old rows.

use std::sync::Arc;

use crate::catalog::bootstrap::attribute_row;
use crate::catalog::relation::{Column, Identity, Relation, RelationKind};
use crate::catalog::rows::{
    AnyArray, AttrdefRow, AttributeRow, CatalogRow, ClassRow, ConstraintRow, DescriptionRow,
    StatisticRow,
};
use crate::ids::Oid;
use crate::sql::bind;
use crate::sql::bound::Expr as Bound;
use crate::sql::error::{SqlError, state};
use crate::sql::exec::cx::EvalCx;
use crate::sql::exec::eval::{Scalar, Test, slot_expr};
use crate::sql::front::ast::{AlterTable, AlterTableAction, ColumnDefinition, ObjectKind};
use crate::table::heap;
use crate::table::row::RowDecoder;
use crate::txn::LockMode;
use crate::types::datum::Datum;
use crate::types::function::Volatility;

use super::Result;
use super::column::{MAX_COLUMNS, NewColumn};
use super::constraint::{self, Asked};
use super::cx::{DdlCx, by, oid_key};
use super::depend::{AUTO, INTERNAL};
use super::drop::{drop_index, drop_relation};
use super::names::no_relation;

pub async fn alter(s: &AlterTable, cx: &mut DdlCx<'_>) -> Result<()> {
    let Some(relation) = cx.open(&s.name, LockMode::AccessExclusive).await? else {
        if s.if_exists {
            cx.notice(format!("relation \"{}\" does not exist, skipping", s.name));
            return Ok(());
        }
        return Err(no_relation(&s.name, "relation").at(s.name.at()));
    };
    cx.must_own(&relation)?;
    check_kind(s, &relation)?;
    for action in &s.actions {
        let current = cx.relation(relation.oid)?;
        run(cx, &current, action).await?;
        cx.step()?;
    }
    Ok(())
}

fn check_kind(s: &AlterTable, relation: &Relation) -> Result<()> {
    let fits = match s.kind {
        ObjectKind::Sequence => relation.kind == RelationKind::Sequence,
        ObjectKind::Index => relation.kind == RelationKind::Index,
        _ => true,
    };
    if !fits {
        let word = s.kind.word();
        return Err(SqlError::new(
            state::WRONG_OBJECT_TYPE,
            format!(
                "\"{}\" is not {} {word}",
                relation.name,
                super::drop::article(word)
            ),
        ));
    }
    let for_any = |a: &AlterTableAction| {
        matches!(
            a,
            AlterTableAction::OwnerTo(_)
                | AlterTableAction::SetOptions(_)
                | AlterTableAction::ResetOptions(_)
                | AlterTableAction::SetSchema(_)
                | AlterTableAction::SetTablespace(_)
        )
    };
    if relation.kind != RelationKind::Table && !s.actions.iter().all(for_any) {
        return Err(SqlError::new(
            state::WRONG_OBJECT_TYPE,
            format!("\"{}\" is not a table", relation.name),
        ));
    }
    Ok(())
}

async fn run(cx: &mut DdlCx<'_>, table: &Arc<Relation>, action: &AlterTableAction) -> Result<()> {
    match action {
        AlterTableAction::AddColumn {
            column,
            if_not_exists,
        } => add_column(cx, table, column, *if_not_exists).await,
        AlterTableAction::DropColumn {
            name,
            if_exists,
            cascade,
        } => drop_column(cx, table, &name.name, *if_exists, *cascade).await,
        AlterTableAction::SetDefault { column, expr, text } => {
            let position = find_column(table, &column.name)?;
            refuse_identity(table, position)?;
            let c = &table.columns[position];
            let (text, uses) = cx.default_text(expr, *text, &c.name, c.ty)?;
            remove_default(cx, table, c.attribute).await?;
            cx.step()?;
            match text {
                Some(text) => put_default(cx, table, c.attribute, &text, &uses).await,
                None => Ok(()),
            }
        }
        AlterTableAction::DropDefault { column } => {
            let position = find_column(table, &column.name)?;
            refuse_identity(table, position)?;
            remove_default(cx, table, table.columns[position].attribute).await
        }
        AlterTableAction::SetNotNull { column } => {
            let position = find_column(table, &column.name)?;
            check_no_nulls(cx, table, &[position]).await?;
            set_not_null(cx, table, position, true).await
        }
        AlterTableAction::DropNotNull { column } => drop_not_null(cx, table, &column.name).await,
        AlterTableAction::AddConstraint(c) => add_constraint(cx, table, c).await,
        AlterTableAction::DropConstraint {
            name, if_exists, ..
        } => drop_constraint(cx, table, &name.name, *if_exists).await,
        _ => run_other(cx, table, action).await,
    }
}

async fn run_other(
    cx: &mut DdlCx<'_>,
    table: &Arc<Relation>,
    action: &AlterTableAction,
) -> Result<()> {
    match action {
        AlterTableAction::OwnerTo(spec) => {
            let owner = cx.role(spec)?;
            super::owner::of_relation(cx, table, owner.oid).await
        }
        AlterTableAction::SetOptions(options) => {
            super::table::check_options(options)?;
            set_options(cx, table, options, false).await
        }
        AlterTableAction::ResetOptions(options) => set_options(cx, table, options, true).await,
        AlterTableAction::SetIdentity {
            column,
            identity,
            options,
        } => set_identity(cx, table, &column.name, *identity, options).await,
        AlterTableAction::DropIdentity { column, if_exists } => {
            drop_identity(cx, table, &column.name, *if_exists).await
        }
        AlterTableAction::AddIdentity {
            column,
            identity,
            options,
        } => add_identity(cx, table, &column.name, *identity, options).await,
        AlterTableAction::SetStatistics { column } => {
            // ANALYZE takes one sample size for all columns.
            find_column(table, &column.name)?;
            Err(SqlError::unsupported("SET STATISTICS is not supported")
                .hint("Set default_statistics_target."))
        }
        AlterTableAction::AlterType { .. } => Err(SqlError::unsupported(
            "changing the type of a column is not supported",
        )
        .hint("Add a column of the new type, copy the values with UPDATE, and drop the old one.")),
        AlterTableAction::ValidateConstraint(name) => {
            let rows = cx.constraint_rows(table.oid)?;
            if rows.iter().any(|c| c.conname == name.name) {
                return Ok(());
            }
            Err(no_constraint(&name.name, table))
        }
        AlterTableAction::SetSchema(_) => Err(SqlError::unsupported("SET SCHEMA is not supported")),
        AlterTableAction::SetTablespace(name) if name.name == "pg_default" => Ok(()),
        AlterTableAction::SetTablespace(name) => Err(SqlError::new(
            state::UNDEFINED_OBJECT,
            format!("tablespace \"{}\" does not exist", name.name),
        )),
        AlterTableAction::Unsupported(what) => {
            Err(SqlError::unsupported(format!("{what} is not supported")))
        }
        _ => Err(SqlError::internal("an action that run() should have taken")),
    }
}

fn find_column(table: &Relation, name: &str) -> Result<usize> {
    table.column_named(name).ok_or_else(|| {
        SqlError::new(
            state::UNDEFINED_COLUMN,
            format!(
                "column \"{name}\" of relation \"{}\" does not exist",
                table.name
            ),
        )
    })
}

fn no_constraint(name: &str, table: &Relation) -> SqlError {
    SqlError::new(
        state::UNDEFINED_OBJECT,
        format!(
            "constraint \"{name}\" of relation \"{}\" does not exist",
            table.name
        ),
    )
}

fn refuse_identity(table: &Relation, position: usize) -> Result<()> {
    let c = &table.columns[position];
    if c.identity == Identity::No {
        return Ok(());
    }
    Err(SqlError::new(
        state::SYNTAX_ERROR,
        format!(
            "column \"{}\" of relation \"{}\" is an identity column",
            c.name, table.name
        ),
    ))
}

/// `pg_attribute` of one column, changed by `change`.
pub async fn change_attribute(
    cx: &mut DdlCx<'_>,
    relation: Oid,
    attribute: i16,
    change: impl FnOnce(&mut AttributeRow),
) -> Result<()> {
    let key = [Datum::Oid(relation), Datum::Int2(attribute)];
    let (tid, mut row) = cx.find_one::<AttributeRow>(by::ATTRIBUTE_NUMBER, &key, "attribute")?;
    change(&mut row);
    cx.update(tid, &row).await?;
    cx.changed(relation);
    Ok(())
}

/// `pg_class`, changed by `change`.
async fn change_class(
    cx: &mut DdlCx<'_>,
    relation: Oid,
    change: impl FnOnce(&mut ClassRow),
) -> Result<()> {
    let (tid, mut row) = cx.find_one::<ClassRow>(by::CLASS_OID, &oid_key(relation), "relation")?;
    change(&mut row);
    cx.update(tid, &row).await?;
    cx.changed(relation);
    Ok(())
}

pub async fn set_check_count(cx: &mut DdlCx<'_>, table: &Relation) -> Result<()> {
    let count = i16::try_from(table.checks.len()).unwrap_or(i16::MAX);
    change_class(cx, table.oid, |row| row.relchecks = count).await
}

/// The default of a column goes, if it has one.
pub async fn remove_default(cx: &mut DdlCx<'_>, table: &Relation, attribute: i16) -> Result<()> {
    let key = [Datum::Oid(table.oid), Datum::Int2(attribute)];
    for (tid, row) in cx.find::<AttrdefRow>(by::ATTRDEF_COLUMN, &key)? {
        cx.forget_dependencies(AttrdefRow::TABLE, row.oid).await?;
        cx.delete::<AttrdefRow>(tid).await?;
    }
    change_attribute(cx, table.oid, attribute, |row| row.atthasdef = false).await
}

async fn put_default(
    cx: &mut DdlCx<'_>,
    table: &Relation,
    attribute: i16,
    text: &str,
    uses: &[Oid],
) -> Result<()> {
    cx.insert_default(table.oid, attribute, text, uses).await?;
    change_attribute(cx, table.oid, attribute, |row| row.atthasdef = true).await
}

async fn add_column(
    cx: &mut DdlCx<'_>,
    table: &Arc<Relation>,
    d: &ColumnDefinition,
    if_not_exists: bool,
) -> Result<()> {
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
            return Ok(());
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
    if has_rows && new.sequence.is_some() {
        return Err(SqlError::unsupported(
            "adding a serial or identity column to a table with rows is not supported",
        )
        .hint("Add a plain column, fill it with UPDATE, and then add the identity."));
    }
    let mut taken = Vec::new();
    let sequence = cx.make_own_sequence(table, &mut new, &mut taken).await?;
    if has_rows {
        new.column.missing = missing_value(cx, &new)?;
    }
    check_new_not_null(table, &new, has_rows)?;
    write_column(cx, table, &new).await?;
    if let Some(text) = &new.column.default {
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
    cx.step()?;
    let (keys, checks) = constraint::of_column(d);
    for check in &checks {
        let table = cx.relation(table.oid)?;
        add_check(cx, &table, check).await?;
        cx.step()?;
    }
    for key in &keys {
        let table = cx.relation(table.oid)?;
        add_key(cx, &table, key).await?;
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
        None => super::table::overflow_file(cx, std::slice::from_ref(&new.column))?,
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

/// The value that old rows have in a new column: its default, computed once.
fn missing_value(cx: &DdlCx<'_>, new: &NewColumn) -> Result<Option<Datum>> {
    let Some(text) = &new.column.default else {
        return Ok(None);
    };
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
        return Err(SqlError::unsupported(
            "adding a column with a volatile default to a table with rows is not supported",
        )
        .hint("Add the column without a default, fill it with UPDATE, and set the default then."));
    }
    let value = Scalar::compiled(bound).eval(&[], &mut EvalCx::bare(Arc::clone(cx.functions)))?;
    Ok((!value.is_null()).then_some(value))
}

fn has_rows(cx: &mut DdlCx<'_>, table: &Relation) -> Result<bool> {
    cx.step()?;
    let snapshot = cx.snapshot();
    let table_cx = cx.catalog.table_cx();
    let mut scan = heap::scan(table_cx, table, &snapshot)?;
    Ok(scan.next(table_cx, &snapshot)?.is_some())
}

/// Calls `test` on each row; stops at the first false.
fn each_row(
    cx: &mut DdlCx<'_>,
    table: &Relation,
    mut test: impl FnMut(&[Datum]) -> Result<bool>,
) -> Result<bool> {
    cx.step()?;
    let snapshot = cx.snapshot();
    let table_cx = cx.catalog.table_cx();
    let decoder = RowDecoder::all(table);
    let mut values = vec![Datum::Null; table.columns.len()];
    let mut scan = heap::scan(table_cx, table, &snapshot)?;
    let mut count = 0u32;
    while let Some(version) = scan.next(table_cx, &snapshot)? {
        decoder.decode(table_cx, version, &mut values)?;
        if !test(&values)? {
            return Ok(false);
        }
        count = count.wrapping_add(1);
        if count % 1024 == 0 {
            cx.txn.interrupts().check()?;
        }
    }
    Ok(true)
}

async fn check_no_nulls(cx: &mut DdlCx<'_>, table: &Relation, positions: &[usize]) -> Result<()> {
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

async fn set_not_null(
    cx: &mut DdlCx<'_>,
    table: &Relation,
    position: usize,
    on: bool,
) -> Result<()> {
    let attribute = table.columns[position].attribute;
    change_attribute(cx, table.oid, attribute, |row| row.attnotnull = on).await
}

async fn drop_not_null(cx: &mut DdlCx<'_>, table: &Relation, name: &str) -> Result<()> {
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

async fn add_constraint(
    cx: &mut DdlCx<'_>,
    table: &Arc<Relation>,
    c: &crate::sql::front::ast::TableConstraint,
) -> Result<()> {
    if c.not_valid {
        return Err(SqlError::unsupported("NOT VALID is not supported")
            .hint("Leave it out: the rows are then checked at once."));
    }
    match constraint::of_table(c)? {
        Asked::Check(check) => add_check(cx, table, &check).await,
        Asked::Key(key) => add_key(cx, table, &key).await,
        Asked::UsingIndex { .. } => Err(SqlError::unsupported(
            "ADD CONSTRAINT USING INDEX is not supported",
        )
        .hint("Drop the index and add the constraint with its columns.")),
    }
}

async fn add_key(
    cx: &mut DdlCx<'_>,
    table: &Arc<Relation>,
    key: &constraint::NewKey,
) -> Result<()> {
    if key.primary {
        if table.primary_key().is_some() {
            return Err(SqlError::new(
                state::INVALID_TABLE_DEFINITION,
                format!(
                    "multiple primary keys for table \"{}\" are not allowed",
                    table.name
                ),
            ));
        }
        let mut nullable = Vec::new();
        for name in &key.columns {
            let position = table.column_named(&name.name).ok_or_else(|| {
                SqlError::new(
                    state::UNDEFINED_COLUMN,
                    format!("column \"{}\" named in key does not exist", name.name),
                )
                .at(name.at)
            })?;
            if !table.columns[position].not_null {
                nullable.push(position);
            }
        }
        check_no_nulls(cx, table, &nullable).await?;
        for position in nullable {
            set_not_null(cx, table, position, true).await?;
        }
        cx.step()?;
    }
    let table = cx.relation(table.oid)?;
    super::index::create_key(cx, &table, key, &mut Vec::new()).await
}

async fn add_check(
    cx: &mut DdlCx<'_>,
    table: &Arc<Relation>,
    check: &constraint::NewCheck<'_>,
) -> Result<()> {
    let mut taken: Vec<String> = cx
        .constraint_rows(table.oid)?
        .into_iter()
        .map(|c| c.conname)
        .collect();
    let (made, bound) = cx.insert_check(table, check, &mut taken).await?;
    let count = i16::try_from(table.checks.len() + 1).unwrap_or(i16::MAX);
    change_class(cx, table.oid, |row| row.relchecks = count).await?;
    let mut lowered = bound;
    to_slots(&mut lowered);
    let test = Test::compiled(lowered);
    let mut eval = EvalCx::bare(Arc::clone(cx.functions));
    let all = each_row(cx, table, |row| {
        // Unknown passes a CHECK.
        Ok(test.value(row, &mut eval)? != Some(false))
    })?;
    if all {
        return Ok(());
    }
    Err(SqlError::new(
        state::CHECK_VIOLATION,
        format!(
            "check constraint \"{}\" of relation \"{}\" is violated by some row",
            made.name, table.name
        ),
    )
    .table(&table.schema_name, &table.name)
    .constraint(&made.name))
}

/// Columns of the row become the frame's slots.
fn to_slots(expr: &mut Bound) {
    if let Bound::Column(c) = expr {
        *expr = slot_expr(c.column, c.ty);
        return;
    }
    bind::parts_mut(expr, &mut to_slots);
}

async fn drop_constraint(
    cx: &mut DdlCx<'_>,
    table: &Arc<Relation>,
    name: &str,
    if_exists: bool,
) -> Result<()> {
    let rows = cx.find::<ConstraintRow>(by::CONSTRAINT_RELATION, &oid_key(table.oid))?;
    let Some((tid, row)) = rows.into_iter().find(|(_, c)| c.conname == name) else {
        if if_exists {
            cx.notice(format!(
                "constraint \"{name}\" of relation \"{}\" does not exist, skipping",
                table.name
            ));
            return Ok(());
        }
        return Err(no_constraint(name, table));
    };
    cx.delete::<ConstraintRow>(tid).await?;
    let comments = [Datum::Oid(row.oid), Datum::Oid(ConstraintRow::TABLE)];
    cx.delete_all::<DescriptionRow>(by::DESCRIPTION, &comments)
        .await?;
    if row.contype == b'c' {
        let left = i16::try_from(table.checks.len().saturating_sub(1)).unwrap_or(i16::MAX);
        return change_class(cx, table.oid, |row| row.relchecks = left).await;
    }
    let index = table.indexes.iter().find(|i| i.oid == row.conindid);
    if let Some(index) = index {
        let relation = crate::catalog::schema::index_relation(table, index);
        drop_index(cx, table, &relation).await?;
    }
    cx.changed(table.oid);
    Ok(())
}

async fn drop_column(
    cx: &mut DdlCx<'_>,
    table: &Arc<Relation>,
    name: &str,
    if_exists: bool,
    cascade: bool,
) -> Result<()> {
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
    // Constraints and indexes over the column go with it.
    for check in &table.checks {
        if super::rename::uses_column(cx, table, &check.expression, position) {
            drop_constraint(cx, table, &check.name, false).await?;
        }
    }
    for index in &table.indexes {
        let uses =
            index.keys.iter().any(|k| k.column == position) || index.included.contains(&position);
        if !uses {
            continue;
        }
        match &index.constraint {
            Some((_, name)) => drop_constraint(cx, table, name, false).await?,
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

/// The sequence belongs to no column any more.
async fn unown(cx: &mut DdlCx<'_>, sequence: Oid) -> Result<()> {
    let key = [Datum::Oid(ClassRow::TABLE), Datum::Oid(sequence)];
    cx.delete_all::<crate::catalog::rows::DependRow>(by::DEPEND_DEPENDER, &key)
        .await?;
    cx.step()
}

async fn set_options(
    cx: &mut DdlCx<'_>,
    table: &Relation,
    options: &[crate::sql::front::ast::UtilityOption],
    reset: bool,
) -> Result<()> {
    let new = super::table::option_texts(options);
    change_class(cx, table.oid, |row| {
        let mut kept: Vec<String> = row.reloptions.take().map(|l| l.0).unwrap_or_default();
        kept.retain(|k| {
            let name = k.split_once('=').map_or(k.as_str(), |(n, _)| n);
            options.iter().all(|o| o.name != name)
        });
        if !reset {
            kept.extend(new.map(|l| l.0).unwrap_or_default());
        }
        row.reloptions =
            (!kept.is_empty()).then(|| crate::catalog::rows::TextArray::from_items(kept));
    })
    .await
}

fn not_identity(table: &Relation, name: &str) -> SqlError {
    SqlError::new(
        state::OBJECT_NOT_IN_PREREQUISITE_STATE,
        format!(
            "column \"{name}\" of relation \"{}\" is not an identity column",
            table.name
        ),
    )
}

fn identity_sequence(cx: &DdlCx<'_>, table: &Relation, attribute: i16) -> Result<Arc<Relation>> {
    let owned = cx.owned_sequences(table.oid)?;
    let found = owned
        .iter()
        .find(|o| o.attribute == attribute && o.kind == INTERNAL)
        .ok_or_else(|| SqlError::internal("no owned sequence found"))?;
    cx.relation(found.sequence)
}

async fn set_identity(
    cx: &mut DdlCx<'_>,
    table: &Relation,
    name: &str,
    identity: Option<Identity>,
    options: &[crate::sql::front::ast::SequenceOption],
) -> Result<()> {
    let position = find_column(table, name)?;
    let column = &table.columns[position];
    if column.identity == Identity::No {
        return Err(not_identity(table, name));
    }
    if let Some(identity) = identity {
        let letter = if identity == Identity::Always {
            b'a'
        } else {
            b'd'
        };
        change_attribute(cx, table.oid, column.attribute, |row| {
            row.attidentity = letter
        })
        .await?;
    }
    if !options.is_empty() {
        let sequence = identity_sequence(cx, table, column.attribute)?;
        super::sequence::change(cx, &sequence, options).await?;
    }
    Ok(())
}

async fn drop_identity(
    cx: &mut DdlCx<'_>,
    table: &Arc<Relation>,
    name: &str,
    if_exists: bool,
) -> Result<()> {
    let position = find_column(table, name)?;
    let column = &table.columns[position];
    if column.identity == Identity::No {
        if if_exists {
            cx.notice(format!(
                "column \"{name}\" of relation \"{}\" is not an identity column, skipping",
                table.name
            ));
            return Ok(());
        }
        return Err(not_identity(table, name));
    }
    let sequence = identity_sequence(cx, table, column.attribute)?;
    remove_default(cx, table, column.attribute).await?;
    cx.step()?;
    change_attribute(cx, table.oid, column.attribute, |row| row.attidentity = 0).await?;
    unown(cx, sequence.oid).await?;
    drop_relation(cx, &sequence, false, &[]).await
}

async fn add_identity(
    cx: &mut DdlCx<'_>,
    table: &Arc<Relation>,
    name: &str,
    identity: Identity,
    options: &[crate::sql::front::ast::SequenceOption],
) -> Result<()> {
    let position = find_column(table, name)?;
    let column = table.columns[position].clone();
    let fault = |code, what: &str| {
        SqlError::new(
            code,
            format!("column \"{name}\" of relation \"{}\" {what}", table.name),
        )
    };
    if !column.not_null {
        return Err(fault(
            state::OBJECT_NOT_IN_PREREQUISITE_STATE,
            "must be declared NOT NULL before identity can be added",
        ));
    }
    if column.identity != Identity::No {
        return Err(fault(
            state::OBJECT_NOT_IN_PREREQUISITE_STATE,
            "is already an identity column",
        ));
    }
    if column.default.is_some() {
        return Err(fault(
            state::OBJECT_NOT_IN_PREREQUISITE_STATE,
            "already has a default value",
        ));
    }
    let attribute = column.attribute;
    let mut new = NewColumn {
        sequence: Some(super::column::OwnSequence {
            ty: column.ty,
            identity: true,
            options: options.to_vec(),
        }),
        column,
        uses: Vec::new(),
    };
    let sequence = cx
        .make_own_sequence(table, &mut new, &mut Vec::new())
        .await?
        .ok_or_else(|| SqlError::internal("an identity without a sequence"))?;
    let text = new.column.default.clone().unwrap_or_default();
    put_default(cx, table, attribute, &text, &[sequence]).await?;
    cx.own_sequence(sequence, table.oid, attribute, INTERNAL)
        .await?;
    cx.step()?;
    let letter = if identity == Identity::Always {
        b'a'
    } else {
        b'd'
    };
    change_attribute(cx, table.oid, attribute, |row| row.attidentity = letter).await
}
