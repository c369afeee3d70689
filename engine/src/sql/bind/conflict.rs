//! ON CONFLICT: which indexes arbitrate, what happens to the row that is in the way. Manual, INSERT.

use std::sync::Arc;

use super::binder::{Binder, Context};
use crate::catalog::relation::{Index, Relation};
use crate::ids::Oid;
use crate::sql::bound::{ConflictAction, OnConflict};
use crate::sql::error::{SqlError, state};
use crate::sql::front::ast::{self, ConflictDo, ConflictKey, ConflictTarget, ExprKind, Ident};

type Result<T> = std::result::Result<T, SqlError>;

impl Binder<'_> {
    pub(super) fn on_conflict(
        &mut self,
        relation: &Arc<Relation>,
        alias: &str,
        clause: &ast::OnConflict,
    ) -> Result<OnConflict> {
        if clause.target.is_none() && matches!(clause.action, ConflictDo::Update { .. }) {
            return Err(SqlError::new(
                state::SYNTAX_ERROR,
                "ON CONFLICT DO UPDATE requires inference specification or constraint name",
            )
            .hint("For example, ON CONFLICT (column_name).")
            .at(clause.at));
        }
        let arbiters = match &clause.target {
            None => Vec::new(),
            Some(ConflictTarget::Constraint(name)) => vec![constraint_index(relation, name)?],
            Some(ConflictTarget::Columns { keys, filter, at }) => {
                if let Some(filter) = filter {
                    self.index_predicate(relation, alias, filter)?;
                }
                infer(relation, keys, *at)?
            }
        };
        let action = match &clause.action {
            ConflictDo::Nothing => ConflictAction::Nothing,
            ConflictDo::Update { set, filter } => {
                self.conflict_update(relation, alias, set, filter.as_ref())?
            }
        };
        Ok(OnConflict { arbiters, action })
    }

    /// What is said of the rows that a partial index would have. An index that has all rows serves under any condition,
    /// and others are not here: so it only has to mean something.
    fn index_predicate(
        &mut self,
        relation: &Arc<Relation>,
        alias: &str,
        e: &ast::Expr,
    ) -> Result<()> {
        self.level(|b| {
            let range = b.table_range(relation.clone(), alias.to_owned());
            let mut item = b.item_of(range, &[], None);
            item.table_visible = false;
            b.scope().items = vec![item];
            b.within(Context::IndexPredicate, |b| b.bind(e))
        })?;
        Ok(())
    }

    /// Range 0 is the existing row, range 1 EXCLUDED.
    fn conflict_update(
        &mut self,
        relation: &Arc<Relation>,
        alias: &str,
        set: &[ast::SetClause],
        filter: Option<&ast::Expr>,
    ) -> Result<ConflictAction> {
        let (action, _) = self.level(|b| {
            let target = b.table_range(relation.clone(), alias.to_owned());
            let excluded = b.table_range(relation.clone(), "excluded".to_owned());
            let target = b.item_of(target, &[], None);
            let excluded = b.item_of(excluded, &[], None);
            b.scope().items = vec![target, excluded];
            let assignments = b.assignments(relation, set, Context::ConflictSet)?;
            let filter = match filter {
                Some(e) => Some(b.within(Context::Where, |b| b.bind_boolean(e, "WHERE"))?),
                None => None,
            };
            Ok(ConflictAction::Update {
                level: b.level_number(),
                assignments,
                filter,
            })
        })?;
        Ok(action)
    }
}

fn constraint_index(relation: &Relation, name: &Ident) -> Result<Oid> {
    let found = relation
        .indexes
        .iter()
        .find(|i| i.constraint.as_ref().is_some_and(|(_, n)| *n == name.name));
    match found {
        Some(index) if index.deferrable => Err(deferrable()),
        Some(index) => Ok(index.oid),
        None => Err(SqlError::new(
            state::UNDEFINED_OBJECT,
            format!(
                "constraint \"{}\" for table \"{}\" does not exist",
                name.name, relation.name
            ),
        )),
    }
}

fn deferrable() -> SqlError {
    SqlError::new(
        state::OBJECT_NOT_IN_PREREQUISITE_STATE,
        "ON CONFLICT does not support deferrable unique constraints/exclusion constraints as arbiters",
    )
}

/// Unique indexes over exactly these columns, in any order (`infer_arbiter_indexes`).
fn infer(relation: &Relation, keys: &[ConflictKey], at: u32) -> Result<Vec<Oid>> {
    let mut wanted: Vec<usize> = Vec::with_capacity(keys.len());
    for key in keys {
        let ExprKind::Column(parts) = &key.expr.kind else {
            return Err(
                SqlError::unsupported("expressions in ON CONFLICT are not supported")
                    .at(key.expr.at),
            );
        };
        let name = parts.last().expect("a column has a name");
        let position = relation.column_named(&name.name).ok_or_else(|| {
            SqlError::new(
                state::UNDEFINED_COLUMN,
                format!("column \"{}\" does not exist", name.name),
            )
            .at(at)
        })?;
        if let Some(collation) = &key.collation {
            super::expr::check_collation(collation, collation.at())?;
        }
        if !wanted.contains(&position) {
            wanted.push(position);
        }
    }
    let fits = |index: &Index| {
        index.unique
            && index.valid
            && wanted
                .iter()
                .all(|w| index.keys.iter().any(|k| k.column == *w))
            && index.keys.iter().all(|k| wanted.contains(&k.column))
    };
    let found: Vec<&Arc<Index>> = relation.indexes.iter().filter(|i| fits(i)).collect();
    if found.iter().any(|i| i.deferrable) {
        return Err(deferrable());
    }
    if found.is_empty() {
        return Err(SqlError::new(
            state::INVALID_COLUMN_REFERENCE,
            "there is no unique or exclusion constraint matching the ON CONFLICT specification",
        ));
    }
    Ok(found.into_iter().map(|i| i.oid).collect())
}
