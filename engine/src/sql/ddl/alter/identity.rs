//! ALTER TABLE's actions on identity columns and the sequences they own.

use std::sync::Arc;

use crate::catalog::relation::{Identity, Relation};
use crate::catalog::rows::{CatalogRow, ClassRow};
use crate::ids::Oid;
use crate::sql::ddl::Result;
use crate::sql::ddl::column::{self, NewColumn};
use crate::sql::ddl::cx::{DdlCx, by};
use crate::sql::ddl::depend::INTERNAL;
use crate::sql::ddl::drop::drop_relation;
use crate::sql::ddl::sequence;
use crate::sql::error::{SqlError, state};
use crate::txn::LockMode;
use crate::types::datum::Datum;

use super::column::remove_default;
use super::rows::{change_attribute, find_column};

pub(super) fn refuse_identity(table: &Relation, position: usize) -> Result<()> {
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

pub(super) async fn set_identity(
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
        let own = identity_sequence(cx, table, column.attribute)?;
        cx.lock(own.oid, LockMode::ShareRowExclusive).await?;
        let own = cx.relation(own.oid)?;
        sequence::change(cx, &own, options).await?;
    }
    Ok(())
}

pub(super) async fn drop_identity(
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
    cx.lock(sequence.oid, LockMode::AccessExclusive).await?;
    let sequence = cx.relation(sequence.oid)?;
    remove_default(cx, table, column.attribute).await?;
    cx.step()?;
    change_attribute(cx, table.oid, column.attribute, |row| row.attidentity = 0).await?;
    unown(cx, sequence.oid).await?;
    drop_relation(cx, &sequence, false, &[]).await
}

pub(super) async fn add_identity(
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
        sequence: Some(column::OwnSequence {
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

/// The sequence belongs to no column any more.
pub(super) async fn unown(cx: &mut DdlCx<'_>, sequence: Oid) -> Result<()> {
    let key = [Datum::Oid(ClassRow::TABLE), Datum::Oid(sequence)];
    cx.delete_all::<crate::catalog::rows::DependRow>(by::DEPEND_DEPENDER, &key)
        .await?;
    cx.step()
}
