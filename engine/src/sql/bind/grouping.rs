//! What may stand above GROUP BY (`parseCheckAggregates`): group expressions, aggregates, and columns that the
//! group's primary key determines.

use super::binder::Scope;
use super::walk;
use crate::sql::bound::{ColumnRef, Expr, RangeSource};
use crate::sql::error::{SqlError, state};

type Result<T> = std::result::Result<T, SqlError>;

pub struct Grouping<'a> {
    pub scope: &'a Scope,
    pub keys: Vec<Expr>,
}

impl Grouping<'_> {
    /// Replaces group expressions by their numbers; an ungrouped column is 42803.
    pub fn rewrite(&mut self, expr: &mut Expr) -> Result<()> {
        if matches!(expr, Expr::Aggregate(..) | Expr::Group(..)) {
            return Ok(());
        }
        if !matches!(expr, Expr::Const(..))
            && let Some(i) = self.keys.iter().position(|k| walk::same(k, expr))
        {
            *expr = Expr::Group(i, expr.ty());
            return Ok(());
        }
        match expr {
            Expr::Column(c) => {
                if !self.determined(c) {
                    return Err(self.ungrouped(c));
                }
                self.keys.push(Expr::Column(c.clone()));
                *expr = Expr::Group(self.keys.len() - 1, c.ty);
                Ok(())
            }
            Expr::SystemColumn { range, .. } => {
                let alias = &self.scope.ranges[*range].alias;
                Err(SqlError::new(
                    state::GROUPING_ERROR,
                    format!(
                        "column \"{alias}\" must appear in the GROUP BY clause or be used in an aggregate function"
                    ),
                ))
            }
            other => {
                let mut outcome = Ok(());
                walk::parts_mut(other, &mut |part| {
                    if outcome.is_ok() {
                        outcome = self.rewrite(part);
                    }
                });
                outcome
            }
        }
    }

    /// All columns of the table's primary key are group expressions.
    fn determined(&self, c: &ColumnRef) -> bool {
        let RangeSource::Table(relation) = &self.scope.ranges[c.range].source else {
            return false;
        };
        let Some(key) = relation.primary_key().filter(|k| !k.deferrable) else {
            return false;
        };
        key.keys.iter().all(|part| {
            self.keys.iter().any(
                |k| matches!(k, Expr::Column(g) if g.range == c.range && g.column == part.column),
            )
        })
    }

    fn ungrouped(&self, c: &ColumnRef) -> SqlError {
        let range = &self.scope.ranges[c.range];
        let shown = format!("{}.{}", range.alias, range.columns[c.column].name);
        let error = SqlError::new(
            state::GROUPING_ERROR,
            format!(
                "column \"{shown}\" must appear in the GROUP BY clause or be used in an aggregate function"
            ),
        );
        let place = self
            .scope
            .seen
            .iter()
            .find(|(seen, _)| seen.range == c.range && seen.column == c.column);
        match place {
            Some((_, at)) => error.at(*at),
            None => error,
        }
    }
}
