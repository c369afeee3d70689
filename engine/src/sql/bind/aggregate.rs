//! Aggregate calls: which query level each belongs to, and whether it may stand there (`parse_agg.c`). Manual, 4.2.7.
//!
//! An aggregate whose arguments all read rows of one level further out is that level's: a subquery reads its result as it
//! reads columns. The innermost level that the arguments and FILTER read decides.

use super::binder::{Binder, Context};
use super::call::{no_function, undetermined, wrong_kind};
use super::resolve;
use super::walk;
use crate::ids::Oid;
use crate::sql::bound::{AggregateCall, Expr, OuterRef};
use crate::sql::error::{SqlError, state};
use crate::sql::front::ast::FunctionCall;
use crate::sql::front::location;
use crate::types::datum::SqlType;
use crate::types::function::Aggregate;
use crate::types::oids;

type Result<T> = std::result::Result<T, SqlError>;

/// How much was there before a call's arguments were analyzed.
pub(super) struct Marks {
    aggregates: usize,
    windows: usize,
    /// Columns that subqueries use, of each level.
    seen_below: smallvec::SmallVec<[usize; 8]>,
}

impl Binder<'_> {
    pub(super) fn marks(&self) -> Marks {
        Marks {
            aggregates: self.aggregates.len(),
            windows: self.windows.len(),
            seen_below: self.scopes.iter().map(|s| s.seen_below.len()).collect(),
        }
    }

    /// Where the first window function of this level stands that came since.
    pub(super) fn window_since(&self, marks: &Marks) -> Option<u32> {
        let own = self.level_number();
        let mut inside = self.windows[marks.windows..].iter();
        inside.find(|(level, _)| *level == own).map(|(_, at)| *at)
    }

    /// Where the first of this level's aggregates stands from `place` on.
    pub(super) fn aggregate_from(&self, place: u32) -> u32 {
        let own = self.level_number();
        let behind = self.aggregates.iter();
        let behind = behind.filter(|(level, at)| *level == own && *at >= place);
        behind.map(|(_, at)| *at).min().unwrap_or(place)
    }

    pub(super) fn aggregate_call(
        &mut self,
        call: &FunctionCall,
        aggregate: &'static Aggregate,
        parameters: &[Oid],
        args: Vec<(Expr, u32)>,
        marks: &Marks,
        at: u32,
    ) -> Result<Expr> {
        let shown = call.name.to_string();
        if aggregate.args.is_empty() && !call.star {
            return Err(wrong_kind(
                format!("{shown}(*) must be used to call a parameterless aggregate function"),
                at,
            ));
        }
        let inputs: Vec<Oid> = args.iter().map(|(e, _)| e.ty().oid).collect();
        let types = resolve::polymorphic_types(&inputs, parameters)
            .map_err(|_| no_function(call, &inputs, at))?;
        let mut bound = Vec::with_capacity(args.len());
        for ((arg, arg_at), declared) in args.into_iter().zip(parameters) {
            let ty = types.actual(*declared).ok_or_else(undetermined)?;
            let arg = if ty == oids::ANY {
                self.settle(arg, arg_at)?
            } else {
                self.implicit(arg, ty, arg_at)?
            };
            bound.push(arg);
        }
        let ty = types.actual(aggregate.returns).ok_or_else(undetermined)?;
        let order_by = self.aggregate_order(call, &bound)?;
        let filter = match &call.filter {
            Some(filter) => Some(self.aggregate_part(|b| {
                b.within(Context::Filter, |b| b.bind_boolean(filter, "FILTER"))
            })?),
            None => None,
        };
        let new = AggregateCall {
            aggregate,
            args: bound,
            distinct: call.distinct,
            order_by,
            filter,
            ty: SqlType::plain(ty),
        };
        self.place_aggregate(new, marks, at)
    }

    /// Gives the call to the level that it belongs to (`check_agglevels_and_constraints`).
    fn place_aggregate(&mut self, mut call: AggregateCall, marks: &Marks, at: u32) -> Result<Expr> {
        let own = self.level_number();
        let level = level_of(&call, own);
        if level == own
            && let Some(inner) = self.window_since(marks)
        {
            return Err(SqlError::new(
                state::GROUPING_ERROR,
                "aggregate function calls cannot contain window function calls",
            )
            .at(inner));
        }
        let inside = &self.aggregates[marks.aggregates..];
        if let Some((_, inner)) = inside.iter().find(|(l, _)| *l == level) {
            return Err(SqlError::new(
                state::GROUPING_ERROR,
                "aggregate function calls cannot be nested",
            )
            .at(*inner));
        }
        let context = match self.scopes[level].below {
            Some(below) if level != own => below,
            _ => self.context,
        };
        if !context.allows_aggregates() {
            let name = context.name();
            return Err(SqlError::new(
                state::GROUPING_ERROR,
                format!("aggregate functions are not allowed in {name}"),
            )
            .at(at));
        }
        self.aggregates.push((level, at));
        if level != own {
            let order = call.order_by.iter_mut().map(|(e, _, _)| e);
            for e in call.args.iter_mut().chain(&mut call.filter).chain(order) {
                raise(e, level);
            }
            // What its arguments read stands in an aggregate of that level after all.
            let before = marks.seen_below[level];
            self.scopes[level].seen_below.truncate(before);
        }
        let ty = call.ty;
        let list = &mut self.scopes[level].aggregates;
        let index = match list.iter().position(|old| same_aggregate(old, &call)) {
            Some(i) => i,
            None => {
                list.push(call);
                list.len() - 1
            }
        };
        let expr = Expr::Aggregate(index, ty);
        Ok(match level == own {
            true => expr,
            false => Expr::Outer(Box::new(OuterRef { level, expr })),
        })
    }

    /// Runs `f` with columns not counted as ungrouped.
    fn aggregate_part<T>(&mut self, f: impl FnOnce(&mut Self) -> Result<T>) -> Result<T> {
        let before = std::mem::replace(&mut self.scope().in_aggregate, true);
        let out = f(self);
        self.scope().in_aggregate = before;
        out
    }

    fn aggregate_order(
        &mut self,
        call: &FunctionCall,
        args: &[Expr],
    ) -> Result<Vec<(Expr, bool, bool)>> {
        let mut out = Vec::with_capacity(call.order_by.len());
        for item in &call.order_by {
            let (e, at) = self.aggregate_part(|b| b.operand(&item.expr))?;
            let e = self.settle(e, at)?;
            super::targets::require_order(e.ty(), at)?;
            if call.distinct && !args.iter().any(|a| walk::same(a, &e)) {
                return Err(SqlError::new(
                    state::INVALID_COLUMN_REFERENCE,
                    "in an aggregate with DISTINCT, ORDER BY expressions must appear in argument list",
                )
                .at(location(&item.expr)));
            }
            let (descending, nulls_first) = super::targets::direction(item)?;
            out.push((e, descending, nulls_first));
        }
        if call.distinct {
            for (a, given) in args.iter().zip(&call.args) {
                super::targets::require_equality(a.ty(), location(&given.value))?;
            }
        }
        Ok(out)
    }
}

/// The innermost level that the call reads, which stands in level `own`; that one if it reads none.
fn level_of(call: &AggregateCall, own: usize) -> usize {
    let mut found: Option<usize> = None;
    let mut look = |level: usize| found = Some(found.map_or(level, |f| f.max(level)));
    for e in call.args.iter().chain(&call.filter) {
        levels(e, own, &mut look);
    }
    for (e, _, _) in &call.order_by {
        levels(e, own, &mut look);
    }
    found.unwrap_or(own)
}

/// Calls `look` with each level that an expression of level `own` reads; what its subqueries read of their own is no part
/// of that.
fn levels(expr: &Expr, own: usize, look: &mut dyn FnMut(usize)) {
    match expr {
        Expr::Column(_)
        | Expr::SystemColumn { .. }
        | Expr::Group(..)
        | Expr::Aggregate(..)
        | Expr::Window(..) => look(own),
        Expr::Outer(outer) => look(outer.level),
        _ => walk::parts(expr, &mut |part| levels(part, own, look)),
    }
    if let Expr::Subquery(sub) = expr {
        walk::of_query(&sub.query, &mut |e| {
            walk::deep(e, &mut |inner| {
                if let Expr::Outer(outer) = inner
                    && outer.level <= own
                {
                    look(outer.level);
                }
            });
        });
    }
}

/// The expression as `level`, to which it is raised, reads its own rows. Subqueries in it read that level as before.
fn raise(expr: &mut Expr, level: usize) {
    if let Expr::Outer(outer) = expr
        && outer.level == level
    {
        let own = outer.expr.clone();
        *expr = own;
        return;
    }
    walk::parts_mut(expr, &mut |part| raise(part, level));
}

fn same_aggregate(a: &AggregateCall, b: &AggregateCall) -> bool {
    let same_list = |x: &[Expr], y: &[Expr]| {
        x.len() == y.len() && x.iter().zip(y).all(|(x, y)| walk::same(x, y))
    };
    a.aggregate.oid == b.aggregate.oid
        && a.ty == b.ty
        && a.distinct == b.distinct
        && same_list(&a.args, &b.args)
        && a.order_by.len() == b.order_by.len()
        && a.order_by
            .iter()
            .zip(&b.order_by)
            .all(|(x, y)| walk::same(&x.0, &y.0) && x.1 == y.1 && x.2 == y.2)
        && match (&a.filter, &b.filter) {
            (None, None) => true,
            (Some(x), Some(y)) => walk::same(x, y),
            _ => false,
        }
}
