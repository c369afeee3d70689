//! ALTER TABLE. Manual, ALTER TABLE.
//!
//! The statement's actions run one after another, in passes as PostgreSQL's, under one lock, AccessExclusive for all
//! but VALIDATE CONSTRAINT and what makes and changes foreign keys; each sees what the one before it did. The rows are
//! held against new foreign keys at the very end. Nothing rewrites the table: a new column's constant default is kept as
//! the value of the old rows, a volatile one is given to them by an update.

mod column;
mod constraint;
mod fill;
mod identity;
mod rows;

use std::sync::Arc;

use crate::catalog::relation::{Relation, RelationKind};
use crate::ids::Oid;
use crate::sql::error::{SqlError, state};
use crate::sql::front::ast::{
    AlterTable, AlterTableAction, ColumnDefinition, ObjectKind, TableConstraint,
    TableConstraintKind, UtilityOption,
};
use crate::txn::LockMode;

use super::Result;
use super::cx::DdlCx;
use super::foreign_key;
use super::names::no_relation;

pub use column::remove_default;
pub use constraint::no_constraint;
pub use rows::{change_class, set_check_count};

use column::{
    add_column, add_column_checks, add_column_keys, check_no_nulls, drop_column, drop_not_null,
    put_default, set_not_null,
};
use constraint::{
    add_column_references, add_constraint, add_reference, drop_constraint, validate_constraint,
};
use identity::{add_identity, drop_identity, refuse_identity, set_identity};
use rows::find_column;

pub async fn alter(s: &AlterTable, cx: &mut DdlCx<'_>) -> Result<()> {
    let Some(relation) = open(s, cx).await? else {
        if s.if_exists {
            cx.notice(format!("relation \"{}\" does not exist, skipping", s.name));
            return Ok(());
        }
        return Err(no_relation(&s.name, "relation"));
    };
    // Whatever it was called: PostgreSQL says ALTER TABLE of indexes and sequences too.
    cx.must_not_be_in_use(relation.oid, &relation.name, "ALTER TABLE")?;
    let mut skipped: Vec<&ColumnDefinition> = Vec::new();
    let mut unchecked: Vec<Oid> = Vec::new();
    for step in steps(s) {
        let current = cx.relation(relation.oid)?;
        match step {
            Step::Action(AlterTableAction::AddColumn {
                column,
                if_not_exists,
            }) => {
                if !add_column(cx, &current, column, *if_not_exists).await? {
                    skipped.push(column);
                }
            }
            Step::Action(AlterTableAction::AddConstraint(c)) if is_reference(c) => {
                unchecked.extend(add_reference(cx, &current, c).await?);
            }
            Step::Action(action) => run(cx, &current, action).await?,
            Step::Keys(column) | Step::Checks(column) | Step::References(column)
                if skipped.iter().any(|other| std::ptr::eq(*other, column)) => {}
            Step::Keys(column) => add_column_keys(cx, relation.oid, column).await?,
            Step::Checks(column) => add_column_checks(cx, relation.oid, column).await?,
            Step::References(column) => {
                unchecked.extend(add_column_references(cx, relation.oid, column).await?);
            }
        }
        cx.step()?;
    }
    // Last of all: what the actions did to the rows and to the key that they refer to counts.
    for constraint in unchecked {
        foreign_key::check_rows(cx, relation.oid, constraint).await?;
    }
    Ok(())
}

/// An action, or what an added column brings with it.
enum Step<'s> {
    Action(&'s AlterTableAction),
    Keys(&'s ColumnDefinition),
    Checks(&'s ColumnDefinition),
    References(&'s ColumnDefinition),
}

fn is_reference(c: &TableConstraint) -> bool {
    matches!(c.kind, TableConstraintKind::ForeignKey { .. })
}

/// Passes of keys, and of all other constraints and defaults.
const KEYS: u8 = 4;
const OTHERS: u8 = 5;

fn steps(s: &AlterTable) -> Vec<Step<'_>> {
    let mut steps = Vec::with_capacity(s.actions.len());
    for action in &s.actions {
        if let AlterTableAction::AddColumn { column, .. } = action {
            steps.push((KEYS, Step::Keys(column)));
            steps.push((OTHERS, Step::Checks(column)));
            steps.push((OTHERS, Step::References(column)));
        }
    }
    steps.extend(s.actions.iter().map(|a| (pass(a), Step::Action(a))));
    steps.sort_by_key(|(pass, _)| *pass);
    steps.into_iter().map(|(_, step)| step).collect()
}

/// When an action's turn comes, whatever the order it was written in: what goes makes room for what comes, and columns
/// are there before what is about them (`AT_PASS_DROP` and its neighbours in tablecmds.c).
fn pass(action: &AlterTableAction) -> u8 {
    match action {
        AlterTableAction::DropColumn { .. }
        | AlterTableAction::DropDefault { .. }
        | AlterTableAction::DropNotNull { .. }
        | AlterTableAction::DropIdentity { .. }
        | AlterTableAction::DropConstraint { .. } => 0,
        AlterTableAction::AlterType { .. } => 1,
        AlterTableAction::AddColumn { .. } => 2,
        AlterTableAction::SetNotNull { .. } | AlterTableAction::SetIdentity { .. } => 3,
        AlterTableAction::AddConstraint(c)
            if matches!(
                c.kind,
                TableConstraintKind::Unique { .. } | TableConstraintKind::UniqueUsingIndex { .. }
            ) =>
        {
            KEYS
        }
        AlterTableAction::SetDefault { .. }
        | AlterTableAction::AddIdentity { .. }
        | AlterTableAction::AddConstraint(_) => OTHERS,
        _ => 6,
    }
}

/// VALIDATE CONSTRAINT alone only reads the rows, a foreign key only keeps others from changing some.
fn lock_mode(s: &AlterTable) -> LockMode {
    let mut mode = LockMode::ShareUpdateExclusive;
    for action in &s.actions {
        match action {
            AlterTableAction::ValidateConstraint(_) => {}
            AlterTableAction::AlterConstraint { .. } => mode = LockMode::ShareRowExclusive,
            AlterTableAction::AddConstraint(c) if is_reference(c) => {
                mode = LockMode::ShareRowExclusive;
            }
            _ => return LockMode::AccessExclusive,
        }
    }
    mode
}

async fn open(s: &AlterTable, cx: &mut DdlCx<'_>) -> Result<Option<Arc<Relation>>> {
    cx.open_if(&s.name, lock_mode(s), &|cx, relation| {
        cx.must_own(relation)?;
        check_kind(s, relation)
    })
    .await
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
        AlterTableAction::DropColumn {
            name,
            if_exists,
            cascade,
        } => drop_column(cx, table, &name.name, *if_exists, *cascade).await,
        AlterTableAction::SetDefault { column, expr, text } => {
            let position = find_column(table, &column.name)?;
            refuse_identity(table, position)?;
            let c = &table.columns[position];
            // As in PostgreSQL, errors inside do not say where.
            let (text, uses) = cx
                .default_text(expr, *text, &c.name, c.ty)
                .map_err(SqlError::nowhere)?;
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
            name,
            if_exists,
            cascade,
        } => drop_constraint(cx, table, &name.name, *if_exists, *cascade).await,
        AlterTableAction::AlterConstraint { name, timing } => {
            foreign_key::set_timing(cx, table, &name.name, *timing).await
        }
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
            super::owner::of_relation(cx, table, &owner).await
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
                .hint("Leave it out, or set default_statistics_target."))
        }
        AlterTableAction::AlterType { .. } => Err(SqlError::unsupported(
            "changing the type of a column is not supported",
        )
        .hint("Add a column of the new type, copy the values with UPDATE, and drop the old one.")),
        AlterTableAction::ValidateConstraint(name) => {
            validate_constraint(cx, table, &name.name).await
        }
        AlterTableAction::SetSchema(_) => Err(SqlError::unsupported("SET SCHEMA is not supported")),
        AlterTableAction::SetTablespace(name) if name.name == "pg_default" => Ok(()),
        AlterTableAction::SetTablespace(name) => Err(SqlError::new(
            state::UNDEFINED_OBJECT,
            format!("tablespace \"{}\" does not exist", name.name),
        )),
        AlterTableAction::Unsupported { what, hint } => {
            let refused = SqlError::unsupported(format!("{what} is not supported"));
            Err(match hint {
                Some(hint) => refused.hint(*hint),
                None => refused,
            })
        }
        _ => Err(SqlError::internal("an action that run() should have taken")),
    }
}

async fn set_options(
    cx: &mut DdlCx<'_>,
    table: &Relation,
    options: &[UtilityOption],
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
