//! Subqueries of expressions: each is planned with a frame of its own, and what it reads of the rows around it is passed
//! to it as outer values. (How a subquery in FROM gets them: `lateral.rs`.)
//!
//! A value is lowered over its own level's slots, and the run of the subquery that stands in that level puts it in its
//! place: one that is read two levels below is simply found there (`replace_outer_var` does so with PARAM_EXEC). A subquery
//! that is given nothing of the row beside it is an init plan, whatever it reads of levels further out.

use std::rc::Rc;

use crate::sql::bound::{
    Body, Distinct, Expr, OuterRef, Query, SubPlanCall, SubqueryExpr, SubqueryKind,
};
use crate::sql::error::{SqlError, state};
use crate::sql::exec::eval::{INIT_PLAN, OUTER_VALUE, Slot};
use crate::sql::plan::exprs::{over_row, same};
use crate::sql::plan::lateral::give_slots;
use crate::sql::plan::planner::{Planner, Scope};
use crate::sql::plan::query;
use crate::sql::plan::sets::returns_sets;
use crate::sql::plan::tree::{SubPlan, SubPlanKind};
use crate::types::datum::SqlType;
use crate::types::{oids, registry};

/// Deeper nesting of subqueries is refused.
const MAX_DEPTH: usize = 64;

/// A level in which a subquery stands that is being planned.
pub struct Around {
    scope: Rc<Scope>,
    passed: Passed,
}

/// What the subquery is given of the level's row, by numbers.
enum Passed {
    /// One of an expression: values, by whoever computes the expression.
    Values(Vec<(usize, Expr)>),
    /// One in FROM: slots, by loops over the relations to its left.
    Slots(Vec<(usize, Slot)>),
}

impl Around {
    fn of_expression(scope: &Scope) -> Around {
        Around {
            scope: Rc::new(scope.clone()),
            passed: Passed::Values(Vec::new()),
        }
    }
    /// A range of FROM; `scope` has those to its left.
    pub fn of_range(scope: &Scope) -> Around {
        Around {
            scope: Rc::new(scope.clone()),
            passed: Passed::Slots(Vec::new()),
        }
    }
    pub fn is_of_range(&self) -> bool {
        matches!(self.passed, Passed::Slots(_))
    }
    fn into_values(self) -> Vec<(usize, Expr)> {
        match self.passed {
            Passed::Values(values) => values,
            Passed::Slots(_) => unreachable!("a subquery of an expression is given values"),
        }
    }
    pub fn into_slots(self) -> Vec<(usize, Slot)> {
        match self.passed {
            Passed::Slots(slots) => slots,
            Passed::Values(_) => unreachable!("a range of FROM is given slots"),
        }
    }
}

impl Planner<'_, '_> {
    /// A subquery becomes a run of a plan, or an init plan's result; `x op ANY (query)` a search in its values.
    pub(super) fn lower_subquery(
        &mut self,
        sub: &SubqueryExpr,
        scope: &Scope,
    ) -> Result<Expr, SqlError> {
        let element = || {
            let column = sub.query.output.first().map(|c| c.ty.oid);
            column.ok_or_else(|| SqlError::internal("a subquery has no column"))
        };
        match &sub.kind {
            SubqueryKind::Scalar => self.subplan(&sub.query, SubPlanKind::Scalar, sub.ty, scope),
            SubqueryKind::Exists => {
                let bare = without_values(&sub.query);
                let query = bare.as_ref().unwrap_or(&sub.query);
                self.subplan(query, SubPlanKind::Exists, sub.ty, scope)
            }
            SubqueryKind::Array => {
                let kind = SubPlanKind::Array {
                    element: element()?,
                };
                self.subplan(&sub.query, kind, sub.ty, scope)
            }
            SubqueryKind::AnyRow { left, test } => {
                let left: Result<Vec<Expr>, SqlError> =
                    left.iter().map(|e| self.lower(e, scope)).collect();
                let rows = SqlType::plain(oids::RECORD_ARRAY);
                let rows = self.subplan(&sub.query, SubPlanKind::Rows, rows, scope)?;
                let mut test = test.clone();
                test.comparison = over_row(test.comparison)?;
                Ok(Expr::AnyRow {
                    left: left?,
                    rows: Box::new(rows),
                    test: Box::new(test),
                })
            }
            SubqueryKind::Any {
                function,
                left,
                all,
            } => {
                let element = element()?;
                let array = registry::by_oid(element).map_or(oids::ANYARRAY, |t| t.array);
                let array = SqlType::plain(array);
                let left = self.lower(left, scope)?;
                let kind = SubPlanKind::Array { element };
                let array = self.subplan(&sub.query, kind, array, scope)?;
                Ok(Expr::AnyArray {
                    function,
                    left: Box::new(left),
                    array: Box::new(array),
                    all: *all,
                })
            }
        }
    }

    fn subplan(
        &mut self,
        query: &Query,
        kind: SubPlanKind,
        ty: SqlType,
        scope: &Scope,
    ) -> Result<Expr, SqlError> {
        if self.shared.around.len() >= MAX_DEPTH {
            return Err(
                SqlError::new(state::STATEMENT_TOO_COMPLEX, "stack depth limit exceeded")
                    .hint("Nest fewer subqueries in one another."),
            );
        }
        self.shared.around.push(Around::of_expression(scope));
        let planned = query::plan_level(self.shared, query, kind == SubPlanKind::Exists);
        let around = self.shared.around.pop().expect("it was pushed");
        let query::PlannedLevel {
            level,
            locks,
            reads,
        } = planned?;
        let mut args = around.into_values();
        // What only a way of reading asked for that was not taken need not be given.
        args.retain(|(number, _)| reads.contains(*number));
        let is_given = |number: &usize| args.iter().any(|(given, _)| given == number);
        let reads: Box<[usize]> = reads.iter().filter(|n| !is_given(n)).collect();
        if locks && (!args.is_empty() || !reads.is_empty()) {
            return Err(locks_in_correlated());
        }
        let number = self.shared.subplans.len();
        let returns = args.is_empty().then_some(self.shared.numbers);
        self.shared.numbers += usize::from(returns.is_some());
        self.shared.subplans.push(SubPlan {
            level,
            kind,
            eager: locks,
            reads,
            returns,
            name: String::new(),
        });
        Ok(match returns {
            Some(_) => Expr::Param(INIT_PLAN + number, ty),
            None => Expr::SubPlan(Box::new(SubPlanCall { number, args, ty })),
        })
    }

    /// What the level that is being planned reads of one around it.
    pub(super) fn outer_value(&mut self, outer: &OuterRef) -> Result<Expr, SqlError> {
        let is_meant = |a: &Around| a.scope.level == Some(outer.level);
        let Some(at) = self.shared.around.iter().rposition(is_meant) else {
            return Err(SqlError::internal("a level around a query is not known"));
        };
        let scope = Rc::clone(&self.shared.around[at].scope);
        let mut value = outer.expr.clone();
        self.lower_in_place(&mut value, &scope)?;
        let ty = value.ty();
        let passed = match &mut self.shared.around[at].passed {
            Passed::Values(passed) => passed,
            Passed::Slots(passed) => {
                give_slots(&mut value, passed, &mut self.shared.numbers);
                return Ok(value);
            }
        };
        let number = match passed.iter().find(|(_, known)| same(known, &value)) {
            Some((number, _)) => *number,
            None => {
                let number = self.shared.numbers;
                self.shared.numbers += 1;
                passed.push((number, value));
                number
            }
        };
        Ok(Expr::Param(OUTER_VALUE + number, ty))
    }
}

/// 0A000: what may wait is run ahead, when there is no row beside it yet.
pub fn locks_in_correlated() -> SqlError {
    SqlError::unsupported("row locks in a correlated subquery are not supported")
        .hint("Lock the rows in the outer query, or in a query of their own.")
}

/// The query for whoever asks only if there is a row: what rows hold and their order are left out, so nothing in them
/// fails either (`simplify_EXISTS_query`). `None` where the number of rows depends on them.
fn without_values(query: &Query) -> Option<Query> {
    let Body::Select(select) = &query.body else {
        return None;
    };
    let counts = !select.aggregates.is_empty()
        || !select.windows.is_empty()
        || select.having.is_some()
        || query.limit.is_some()
        || query.offset.is_some()
        || !query.locking.is_empty()
        || select.targets.iter().any(|t| returns_sets(&t.expr));
    if counts {
        return None;
    }
    let mut query = query.clone();
    if let Body::Select(select) = &mut query.body {
        select.targets.clear();
        select.group_by.clear();
        select.distinct = Distinct::No;
    }
    query.order_by.clear();
    query.output.clear();
    Some(query)
}
