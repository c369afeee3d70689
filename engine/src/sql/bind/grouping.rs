//! What may stand above GROUP BY (`parseCheckAggregates`): group expressions, aggregates, and columns that the
//! group's primary key determines. Subqueries may read the same, but of the group expressions only those that are columns.

use super::binder::Scope;
use super::walk;
use crate::sql::bound::{ColumnRef, Expr, Query, RangeSource, WindowCall};
use crate::sql::error::{SqlError, state};

type Result<T> = std::result::Result<T, SqlError>;

pub struct Grouping<'a> {
    pub scope: &'a Scope,
    /// Of the query that is grouped.
    pub level: usize,
    pub keys: Vec<Expr>,
    /// Its window functions, over the groups.
    pub window_calls: Vec<WindowCall>,
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
            // Of a level further out, where it is the same for all rows.
            Expr::Outer(_) => Ok(()),
            Expr::Window(number, _) => self.rewrite_window(*number),
            Expr::Column(c) => {
                if !self.determined(c) {
                    return Err(self.ungrouped(c));
                }
                self.keys.push(Expr::Column(c.clone()));
                *expr = Expr::Group(self.keys.len() - 1, c.ty);
                Ok(())
            }
            Expr::SystemColumn { range, column } => {
                let shown = self.shown(*range, column.name());
                Err(must_be_grouped(&shown))
            }
            other => {
                let mut outcome = Ok(());
                walk::parts_mut(other, &mut |part| {
                    if outcome.is_ok() {
                        outcome = self.rewrite(part);
                    }
                });
                outcome?;
                match other {
                    Expr::Subquery(sub) => self.rewrite_query(&mut sub.query),
                    _ => Ok(()),
                }
            }
        }
    }

    /// What a window function reads are groups too; done again it finds nothing left to do.
    fn rewrite_window(&mut self, number: usize) -> Result<()> {
        let mut args = std::mem::take(&mut self.window_calls[number].args);
        let mut filter = self.window_calls[number].filter.take();
        let mut outcome = Ok(());
        for part in args.iter_mut().chain(&mut filter) {
            if outcome.is_ok() {
                outcome = self.rewrite(part);
            }
        }
        self.window_calls[number].args = args;
        self.window_calls[number].filter = filter;
        outcome
    }

    /// The same for what a subquery reads of the grouped level.
    fn rewrite_query(&mut self, query: &mut Query) -> Result<()> {
        let mut outcome = Ok(());
        walk::of_query_mut(query, &mut |e| {
            walk::deep_mut(e, &mut |inner| {
                if let Expr::Outer(outer) = inner
                    && outer.level == self.level
                    && outcome.is_ok()
                {
                    outcome = self.rewrite_below(&mut outer.expr);
                }
            });
        });
        outcome
    }

    fn rewrite_below(&mut self, expr: &mut Expr) -> Result<()> {
        match expr {
            Expr::Aggregate(..) | Expr::Group(..) => Ok(()),
            Expr::Column(c) => {
                let is_key = |k: &Expr| matches!(k, Expr::Column(key) if key == &*c);
                let number = match self.keys.iter().position(is_key) {
                    Some(number) => number,
                    None if self.determined(c) => {
                        self.keys.push(Expr::Column(c.clone()));
                        self.keys.len() - 1
                    }
                    None => return Err(self.ungrouped_below(c)),
                };
                *expr = Expr::Group(number, c.ty);
                Ok(())
            }
            Expr::SystemColumn { range, column } => {
                let shown = self.shown(*range, column.name());
                Err(used_ungrouped(&shown))
            }
            other => {
                let mut outcome = Ok(());
                walk::parts_mut(other, &mut |part| {
                    if outcome.is_ok() {
                        outcome = self.rewrite_below(part);
                    }
                });
                outcome
            }
        }
    }

    /// `table.column`
    fn shown(&self, range: usize, column: &str) -> String {
        format!("{}.{column}", self.scope.ranges[range].alias)
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
        let column = &self.scope.ranges[c.range].columns[c.column];
        let error = must_be_grouped(&self.shown(c.range, &column.name));
        placed(error, c, &self.scope.seen)
    }

    fn ungrouped_below(&self, c: &ColumnRef) -> SqlError {
        let column = &self.scope.ranges[c.range].columns[c.column];
        let error = used_ungrouped(&self.shown(c.range, &column.name));
        placed(error, c, &self.scope.seen_below)
    }
}

/// The error at the first place where the column stands.
fn placed(error: SqlError, c: &ColumnRef, seen: &[(ColumnRef, u32)]) -> SqlError {
    match seen.iter().find(|(seen, _)| seen == c) {
        Some((_, at)) => error.at(*at),
        None => error,
    }
}

fn must_be_grouped(shown: &str) -> SqlError {
    SqlError::new(
        state::GROUPING_ERROR,
        format!(
            "column \"{shown}\" must appear in the GROUP BY clause or be used in an aggregate function"
        ),
    )
}

fn used_ungrouped(shown: &str) -> SqlError {
    SqlError::new(
        state::GROUPING_ERROR,
        format!("subquery uses ungrouped column \"{shown}\" from outer query"),
    )
}
