//! Going over bound expressions and queries, and telling whether two are the same.

use crate::sql::bound::{
    Body, Cte, CteSource, Expr, FromItem, Query, RangeSource, Select, SubqueryKind, Windowing,
};
use crate::types::datum::Datum;
use crate::types::function::Volatility;

/// Calls `f` on each direct part of `expr`; a subquery's own expressions are its own.
pub fn parts<'e>(expr: &'e Expr, f: &mut dyn FnMut(&'e Expr)) {
    match expr {
        Expr::Call { args, .. }
        | Expr::And(args)
        | Expr::Or(args)
        | Expr::Coalesce(args, _)
        | Expr::MinMax { args, .. }
        | Expr::Row(args)
        | Expr::ArrayLiteral { items: args, .. } => args.iter().for_each(f),
        Expr::CastViaText { arg, .. }
        | Expr::Coerce { arg, .. }
        | Expr::Relabel { arg, .. }
        | Expr::Not(arg)
        | Expr::IsNull { arg, .. }
        | Expr::BoolTest { arg, .. } => f(arg),
        Expr::IsDistinct { left, right, .. } | Expr::NullIf { left, right, .. } => {
            f(left);
            f(right);
        }
        Expr::Case {
            operand,
            arms,
            otherwise,
            ..
        } => {
            if let Some(e) = operand {
                f(e);
            }
            for (when, then) in arms {
                f(when);
                f(then);
            }
            if let Some(e) = otherwise {
                f(e);
            }
        }
        Expr::AnyOf { left, items, .. } => {
            f(left);
            items.iter().for_each(f);
        }
        Expr::AnyArray { left, array, .. } => {
            f(left);
            f(array);
        }
        Expr::AnyRow { left, rows, .. } => {
            left.iter().for_each(&mut *f);
            f(rows);
        }
        Expr::Subquery(s) => match &s.kind {
            SubqueryKind::Any { left, .. } => f(left),
            SubqueryKind::AnyRow { left, .. } => left.iter().for_each(f),
            SubqueryKind::Scalar | SubqueryKind::Exists | SubqueryKind::Array => {}
        },
        _ => {}
    }
}

/// The same, to change them.
pub fn parts_mut(expr: &mut Expr, f: &mut dyn FnMut(&mut Expr)) {
    match expr {
        Expr::Call { args, .. }
        | Expr::And(args)
        | Expr::Or(args)
        | Expr::Coalesce(args, _)
        | Expr::MinMax { args, .. }
        | Expr::Row(args)
        | Expr::ArrayLiteral { items: args, .. } => args.iter_mut().for_each(f),
        Expr::CastViaText { arg, .. }
        | Expr::Coerce { arg, .. }
        | Expr::Relabel { arg, .. }
        | Expr::Not(arg)
        | Expr::IsNull { arg, .. }
        | Expr::BoolTest { arg, .. } => f(arg),
        Expr::IsDistinct { left, right, .. } | Expr::NullIf { left, right, .. } => {
            f(left);
            f(right);
        }
        Expr::Case {
            operand,
            arms,
            otherwise,
            ..
        } => {
            if let Some(e) = operand {
                f(e);
            }
            for (when, then) in arms {
                f(when);
                f(then);
            }
            if let Some(e) = otherwise {
                f(e);
            }
        }
        Expr::AnyOf { left, items, .. } => {
            f(left);
            items.iter_mut().for_each(f);
        }
        Expr::AnyArray { left, array, .. } => {
            f(left);
            f(array);
        }
        Expr::AnyRow { left, rows, .. } => {
            left.iter_mut().for_each(&mut *f);
            f(rows);
        }
        Expr::Subquery(s) => match &mut s.kind {
            SubqueryKind::Any { left, .. } => f(left),
            SubqueryKind::AnyRow { left, .. } => left.iter_mut().for_each(f),
            SubqueryKind::Scalar | SubqueryKind::Exists | SubqueryKind::Array => {}
        },
        _ => {}
    }
}

/// Calls `f` on each expression that stands in the query, its FROM included. A subquery in one of them is part of that one.
pub fn of_query<'q>(query: &'q Query, f: &mut dyn FnMut(&'q Expr)) {
    query.ctes.iter().for_each(|cte| of_cte(cte, f));
    match &query.body {
        Body::Select(select) => of_select(select, f),
        Body::Values(values) => values.rows.iter().flatten().for_each(&mut *f),
        Body::SetOperation(set) => {
            of_query(&set.left, f);
            of_query(&set.right, f);
        }
    }
    query.limit.iter().chain(&query.offset).for_each(f);
}

/// One that changes rows reads nothing of levels around it.
fn of_cte<'q>(cte: &'q Cte, f: &mut dyn FnMut(&'q Expr)) {
    match &cte.source {
        CteSource::Query(query) => of_query(query, f),
        CteSource::Recursive(r) => {
            r.ctes.iter().for_each(|inner| of_cte(inner, f));
            of_query(&r.first, f);
            of_query(&r.step, f);
        }
        CteSource::Change(_) => {}
    }
}

fn of_cte_mut(cte: &mut Cte, f: &mut dyn FnMut(&mut Expr)) {
    match &mut cte.source {
        CteSource::Query(query) => of_query_mut(query, f),
        CteSource::Recursive(r) => {
            r.ctes.iter_mut().for_each(|inner| of_cte_mut(inner, f));
            of_query_mut(&mut r.first, f);
            of_query_mut(&mut r.step, f);
        }
        CteSource::Change(_) => {}
    }
}

fn of_select<'q>(select: &'q Select, f: &mut dyn FnMut(&'q Expr)) {
    select.targets.iter().for_each(|t| f(&t.expr));
    let clauses = select.filter.iter().chain(&select.group_by);
    clauses.chain(&select.having).for_each(&mut *f);
    for call in &select.aggregates {
        call.args.iter().chain(&call.filter).for_each(&mut *f);
        call.order_by.iter().for_each(|(e, _, _)| f(e));
    }
    of_windows(&select.windows, f);
    select.from.iter().for_each(|item| of_from(item, f));
    for range in &select.ranges {
        match &range.source {
            RangeSource::Subquery(query) => of_query(query, f),
            RangeSource::Values(values) => values.rows.iter().flatten().for_each(&mut *f),
            RangeSource::Function { calls, .. } => calls.iter().for_each(|c| f(&c.call)),
            RangeSource::Table(_) | RangeSource::Virtual(_) | RangeSource::Cte { .. } => {}
        }
    }
}

/// Calls `f` on each expression of window functions and their windows.
pub fn of_windows<'q>(windows: &'q Windowing, f: &mut dyn FnMut(&'q Expr)) {
    for call in &windows.calls {
        call.args.iter().chain(&call.filter).for_each(&mut *f);
    }
    for window in &windows.windows {
        window.order_by.iter().for_each(|o| f(&o.expr));
        window.partition_by.iter().for_each(&mut *f);
        let bounds = [&window.frame.start, &window.frame.end];
        bounds
            .into_iter()
            .filter_map(|b| b.offset())
            .for_each(&mut *f);
    }
}

/// The same, to change them.
fn of_windows_mut(windows: &mut Windowing, f: &mut dyn FnMut(&mut Expr)) {
    for call in &mut windows.calls {
        call.args.iter_mut().for_each(&mut *f);
        call.filter.iter_mut().for_each(&mut *f);
    }
    for window in &mut windows.windows {
        window.order_by.iter_mut().for_each(|o| f(&mut o.expr));
        window.partition_by.iter_mut().for_each(&mut *f);
        let bounds = [&mut window.frame.start, &mut window.frame.end];
        for offset in bounds.into_iter().filter_map(|b| b.offset_mut()) {
            f(offset);
        }
    }
}

fn of_from<'q>(item: &'q FromItem, f: &mut dyn FnMut(&'q Expr)) {
    if let FromItem::Join(join) = item {
        join.on.iter().for_each(&mut *f);
        of_from(&join.left, f);
        of_from(&join.right, f);
    }
}

/// The same, to change them.
pub fn of_query_mut(query: &mut Query, f: &mut dyn FnMut(&mut Expr)) {
    query.ctes.iter_mut().for_each(|cte| of_cte_mut(cte, f));
    match &mut query.body {
        Body::Select(select) => of_select_mut(select, f),
        Body::Values(values) => values.rows.iter_mut().flatten().for_each(&mut *f),
        Body::SetOperation(set) => {
            of_query_mut(&mut set.left, f);
            of_query_mut(&mut set.right, f);
        }
    }
    query.limit.iter_mut().for_each(&mut *f);
    query.offset.iter_mut().for_each(f);
}

fn of_select_mut(select: &mut Select, f: &mut dyn FnMut(&mut Expr)) {
    select.targets.iter_mut().for_each(|t| f(&mut t.expr));
    select.filter.iter_mut().for_each(&mut *f);
    select.group_by.iter_mut().for_each(&mut *f);
    select.having.iter_mut().for_each(&mut *f);
    for call in &mut select.aggregates {
        call.args.iter_mut().for_each(&mut *f);
        call.filter.iter_mut().for_each(&mut *f);
        call.order_by.iter_mut().for_each(|(e, _, _)| f(e));
    }
    of_windows_mut(&mut select.windows, f);
    select.from.iter_mut().for_each(|item| of_from_mut(item, f));
    for range in &mut select.ranges {
        match &mut range.source {
            RangeSource::Subquery(query) => of_query_mut(query, f),
            RangeSource::Values(values) => values.rows.iter_mut().flatten().for_each(&mut *f),
            RangeSource::Function { calls, .. } => {
                calls.iter_mut().for_each(|c| f(&mut c.call));
            }
            RangeSource::Table(_) | RangeSource::Virtual(_) | RangeSource::Cte { .. } => {}
        }
    }
}

fn of_from_mut(item: &mut FromItem, f: &mut dyn FnMut(&mut Expr)) {
    if let FromItem::Join(join) = item {
        join.on.iter_mut().for_each(&mut *f);
        of_from_mut(&mut join.left, f);
        of_from_mut(&mut join.right, f);
    }
}

/// Calls `f` on the expression and everything in it, subqueries included, what is outside before what is inside.
pub fn deep<'e>(expr: &'e Expr, f: &mut dyn FnMut(&'e Expr)) {
    f(expr);
    parts(expr, &mut |part| deep(part, f));
    if let Expr::Subquery(sub) = expr {
        of_query(&sub.query, &mut |e| deep(e, f));
    }
}

/// The same, to change it.
pub fn deep_mut(expr: &mut Expr, f: &mut dyn FnMut(&mut Expr)) {
    f(expr);
    parts_mut(expr, &mut |part| deep_mut(part, f));
    if let Expr::Subquery(sub) = expr {
        of_query_mut(&mut sub.query, &mut |e| deep_mut(e, f));
    }
}

/// Calls `f` on what the expression, which stands in `level`, reads of that level: columns, groups, aggregates and window
/// functions, its own and those that its subqueries read.
pub fn own_reads<'e>(expr: &'e Expr, level: Option<usize>, f: &mut dyn FnMut(&'e Expr)) {
    match expr {
        Expr::Column(_)
        | Expr::SystemColumn { .. }
        | Expr::Group(..)
        | Expr::Aggregate(..)
        | Expr::Window(..) => f(expr),
        _ => parts(expr, &mut |part| own_reads(part, level, f)),
    }
    if let Expr::Subquery(sub) = expr {
        query_reads(&sub.query, level, f);
    }
}

/// Calls `f` on what a query, which stands in `level`, reads of that level.
pub fn query_reads<'q>(query: &'q Query, level: Option<usize>, f: &mut dyn FnMut(&'q Expr)) {
    of_query(query, &mut |e| {
        deep(e, &mut |inner| {
            if let Expr::Outer(outer) = inner
                && Some(outer.level) == level
            {
                own_reads(&outer.expr, level, f);
            }
        });
    });
}

/// Gives window functions of the expression's own level new numbers.
pub fn renumber_windows(expr: &mut Expr, numbers: &[usize]) {
    if let Expr::Window(number, _) = expr {
        *number = numbers[*number];
        return;
    }
    parts_mut(expr, &mut |part| renumber_windows(part, numbers));
}

/// True if it reads anything of `level`, in which it stands.
pub fn reads_level(expr: &Expr, level: usize) -> bool {
    let mut found = false;
    own_reads(expr, Some(level), &mut |_| found = true);
    found
}

/// True if it reads range 0 of `level`, in which it stands.
pub fn reads_target(expr: &Expr, level: usize) -> bool {
    let mut found = false;
    own_reads(expr, Some(level), &mut |e| {
        found |= match e {
            Expr::Column(c) => c.range == 0,
            Expr::SystemColumn { range, .. } => *range == 0,
            _ => false,
        };
    });
    found
}

/// Two runs of the query may give different rows, or do something twice.
pub fn query_is_volatile(query: &Query) -> bool {
    let mut found = locks(query);
    of_query(query, &mut |e| {
        deep(e, &mut |inner| {
            found |= match inner {
                Expr::Call { function, .. } => function.volatility == Volatility::Volatile,
                Expr::Subquery(sub) => locks(&sub.query),
                _ => false,
            };
        });
    });
    found
}

/// It locks rows, itself, in WITH or in FROM.
fn locks(query: &Query) -> bool {
    if !query.locking.is_empty() || query.ctes.iter().any(cte_locks) {
        return true;
    }
    match &query.body {
        Body::Values(_) => false,
        Body::SetOperation(set) => locks(&set.left) || locks(&set.right),
        Body::Select(select) => select.ranges.iter().any(|range| match &range.source {
            RangeSource::Subquery(query) => locks(query),
            _ => false,
        }),
    }
}

fn cte_locks(cte: &Cte) -> bool {
    match &cte.source {
        CteSource::Query(query) => locks(query),
        CteSource::Recursive(r) => {
            r.ctes.iter().any(cte_locks) || locks(&r.first) || locks(&r.step)
        }
        CteSource::Change(_) => true,
    }
}

/// True if `test` holds for `expr` or anything in it.
pub fn any(expr: &Expr, test: &dyn Fn(&Expr) -> bool) -> bool {
    if test(expr) {
        return true;
    }
    let mut found = false;
    parts(expr, &mut |part| found = found || any(part, test));
    found
}

/// True if it reads range 0, a system column included; there is no subquery in it.
pub fn reads_columns(expr: &Expr) -> bool {
    any(expr, &|e| match e {
        Expr::Column(c) => c.range == 0,
        Expr::SystemColumn { range, .. } => *range == 0,
        _ => false,
    })
}

/// The same expression: PostgreSQL's `equal()`, by which ORDER BY and GROUP BY find select-list entries.
pub fn same(a: &Expr, b: &Expr) -> bool {
    if !same_head(a, b) {
        return false;
    }
    let (mut left, mut right) = (Vec::new(), Vec::new());
    parts(a, &mut |e| left.push(e));
    parts(b, &mut |e| right.push(e));
    left.len() == right.len() && left.iter().zip(&right).all(|(a, b)| same(a, b))
}

fn same_head(a: &Expr, b: &Expr) -> bool {
    if std::mem::discriminant(a) != std::mem::discriminant(b) || a.ty() != b.ty() {
        return false;
    }
    match (a, b) {
        (Expr::Const(x, _), Expr::Const(y, _)) => same_value(x, y),
        (Expr::Param(x, _), Expr::Param(y, _)) => x == y,
        (Expr::Column(x), Expr::Column(y)) => x == y,
        (Expr::Group(x, _), Expr::Group(y, _))
        | (Expr::Aggregate(x, _), Expr::Aggregate(y, _))
        | (Expr::Window(x, _), Expr::Window(y, _)) => x == y,
        (Expr::Call { function: x, .. }, Expr::Call { function: y, .. })
        | (Expr::NullIf { equal: x, .. }, Expr::NullIf { equal: y, .. }) => x.oid == y.oid,
        (Expr::Coerce { explicit: x, .. }, Expr::Coerce { explicit: y, .. }) => x == y,
        (Expr::IsNull { negated: x, .. }, Expr::IsNull { negated: y, .. }) => x == y,
        (
            Expr::BoolTest { is, negated, .. },
            Expr::BoolTest {
                is: is2,
                negated: negated2,
                ..
            },
        ) => is == is2 && negated == negated2,
        (
            Expr::IsDistinct { equal, negated, .. },
            Expr::IsDistinct {
                equal: equal2,
                negated: negated2,
                ..
            },
        ) => equal.oid == equal2.oid && negated == negated2,
        (
            Expr::Case {
                operand,
                arms,
                otherwise,
                ..
            },
            Expr::Case {
                operand: operand2,
                arms: arms2,
                otherwise: otherwise2,
                ..
            },
        ) => {
            operand.is_some() == operand2.is_some()
                && arms.len() == arms2.len()
                && otherwise.is_some() == otherwise2.is_some()
        }
        (Expr::MinMax { greatest: x, .. }, Expr::MinMax { greatest: y, .. }) => x == y,
        (
            Expr::AnyOf { function, all, .. },
            Expr::AnyOf {
                function: function2,
                all: all2,
                ..
            },
        )
        | (
            Expr::AnyArray { function, all, .. },
            Expr::AnyArray {
                function: function2,
                all: all2,
                ..
            },
        ) => function.oid == function2.oid && all == all2,
        (
            Expr::SystemColumn { range, column },
            Expr::SystemColumn {
                range: range2,
                column: column2,
            },
        ) => range == range2 && column == column2,
        // Bound alike means the same: there is no place of the text in it.
        (Expr::Subquery(x), Expr::Subquery(y)) => format!("{x:?}") == format!("{y:?}"),
        (Expr::Outer(x), Expr::Outer(y)) => x.level == y.level && same(&x.expr, &y.expr),
        (Expr::AnyRow { test: x, .. }, Expr::AnyRow { test: y, .. }) => {
            format!("{x:?}") == format!("{y:?}")
        }
        _ => true,
    }
}

/// Bit for bit, as far as constants of a statement need it; not found equal is always safe.
fn same_value(a: &Datum, b: &Datum) -> bool {
    std::mem::discriminant(a) == std::mem::discriminant(b) && format!("{a:?}") == format!("{b:?}")
}
