//! WITH RECURSIVE before anything of it is analyzed: in which order its queries are, which of them read themselves, and
//! whether these are of the one form that there is (`makeDependencyGraph`, `checkWellFormedRecursion`).

use crate::sql::bound::SetOp;
use crate::sql::error::{SqlError, state};
use crate::sql::front::ast::{
    self, ConflictDo, Cte, DistinctClause, ExprKind, GroupItem, Ident, InList, JoinCondition,
    JoinType, ObjectName, QuantifiedOperand, Query, QueryBody, Select, SelectItem, SetClause,
    Statement, TableRef,
};
use crate::sql::front::location;

type Result<T> = std::result::Result<T, SqlError>;

/// Where a name stands, as far as a query may read itself there.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Place {
    Allowed,
    NonRecursiveTerm,
    Subquery,
    OuterJoin,
    Intersect,
    Except,
}

impl Place {
    fn refusal(self) -> &'static str {
        match self {
            Place::Allowed => "more than once",
            Place::NonRecursiveTerm => "within its non-recursive term",
            Place::Subquery => "within a subquery",
            Place::OuterJoin => "within an outer join",
            Place::Intersect => "within INTERSECT",
            Place::Except => "within EXCEPT",
        }
    }
    /// This place, if anything is allowed so far.
    fn or(self, other: Place) -> Place {
        match self {
            Place::Allowed => other,
            refused => refused,
        }
    }
}

/// A query of WITH RECURSIVE.
pub struct Item {
    /// Its place in the list as it is written.
    pub number: usize,
    pub reads_itself: bool,
}

/// The queries in an order in which each comes behind those that it reads.
pub fn order(ctes: &[Cte]) -> Result<Vec<Item>> {
    let mut items = Vec::with_capacity(ctes.len());
    let mut reads: Vec<Vec<usize>> = Vec::with_capacity(ctes.len());
    for (number, cte) in ctes.iter().enumerate() {
        let mut own = Vec::new();
        let mut names = Names::new(|name: &Ident, _| {
            own.extend(ctes.iter().position(|c| c.name.name == name.name));
            Ok(())
        });
        names.statement(&cte.statement, Place::Allowed)?;
        items.push(Item {
            number,
            reads_itself: own.contains(&number),
        });
        own.retain(|n| *n != number);
        reads.push(own);
    }
    for at in 0..items.len() {
        let free = (at..items.len()).find(|i| reads[items[*i].number].is_empty());
        let Some(free) = free else {
            return Err(SqlError::unsupported(
                "mutual recursion between WITH items is not implemented",
            )
            .at(ctes[items[at].number].name.at));
        };
        items.swap(at, free);
        let done = items[at].number;
        for item in &items[at + 1..] {
            reads[item.number].retain(|n| *n != done);
        }
    }
    for item in items.iter().filter(|i| i.reads_itself) {
        check(&ctes[item.number])?;
    }
    Ok(items)
}

fn invalid(message: String, at: u32) -> SqlError {
    SqlError::new(state::INVALID_RECURSION, message).at(at)
}

/// A query that reads itself.
fn check(cte: &Cte) -> Result<()> {
    let name = &cte.name.name;
    let Statement::Query(query) = &cte.statement else {
        return Err(invalid(
            format!("recursive query \"{name}\" must not contain data-modifying statements"),
            cte.name.at,
        ));
    };
    let (left, right) = match &query.body {
        QueryBody::SetOperation {
            op: SetOp::Union,
            left,
            right,
            ..
        } => (left, right),
        _ => {
            return Err(invalid(
                format!(
                    "recursive query \"{name}\" does not have the form non-recursive-term UNION [ALL] recursive-term"
                ),
                cte.name.at,
            ));
        }
    };
    // Both before the terms, where the same names would give errors that mislead.
    let mut names = Names::new(|read: &Ident, place: Place| match read.name == *name {
        true => Err(misplaced(read, place)),
        false => Ok(()),
    });
    if let Some(with) = &query.with {
        for inner in &with.ctes {
            names.statement(&inner.statement, Place::Subquery)?;
        }
    }
    refuse_decorations(query)?;
    let mut found = 0;
    let mut names = Names::new(|read: &Ident, place: Place| {
        if read.name != *name {
            return Ok(());
        }
        found += 1;
        if place != Place::Allowed || found > 1 {
            return Err(misplaced(read, place));
        }
        Ok(())
    });
    names.query(left, Place::NonRecursiveTerm)?;
    names.query(right, Place::Allowed)?;
    if found == 0 {
        return Err(SqlError::internal("missing recursive reference"));
    }
    Ok(())
}

fn misplaced(read: &Ident, place: Place) -> SqlError {
    let (name, refusal) = (&read.name, place.refusal());
    let message = format!("recursive reference to query \"{name}\" must not appear {refusal}");
    invalid(message, read.at)
}

/// What stands around the UNION would be of all rows, which nobody has before the end.
fn refuse_decorations(query: &Query) -> Result<()> {
    let refused = if let Some(first) = query.order_by.first() {
        Some(("ORDER BY", Some(location(&first.expr))))
    } else if let Some(offset) = &query.offset {
        Some(("OFFSET", Some(location(offset))))
    } else if let Some(limit) = &query.limit {
        Some((
            "LIMIT",
            Some(limit.count.as_ref().map_or(limit.at, location)),
        ))
    } else {
        let locks = !query.locking.is_empty();
        locks.then_some(("FOR UPDATE/SHARE", None))
    };
    let Some((what, at)) = refused else {
        return Ok(());
    };
    let error = SqlError::unsupported(format!("{what} in a recursive query is not implemented"));
    Err(match at {
        Some(at) => error.at(at),
        None => error,
    })
}

/// Goes over a statement and tells of each name without a schema that no WITH inside of it explains.
struct Names<F> {
    /// The names of WITH clauses around the place.
    hidden: Vec<Vec<String>>,
    found: F,
}

impl<F: FnMut(&Ident, Place) -> Result<()>> Names<F> {
    fn new(found: F) -> Names<F> {
        Names {
            hidden: Vec::new(),
            found,
        }
    }

    fn statement(&mut self, statement: &Statement, place: Place) -> Result<()> {
        match statement {
            Statement::Query(query) => self.query(query, place),
            Statement::Insert(i) => self.within(i.with.as_ref(), place, |n| {
                n.name(&i.table, place)?;
                if let Some(source) = &i.source {
                    n.query(source, place)?;
                }
                if let Some(conflict) = &i.on_conflict
                    && let ConflictDo::Update { set, filter } = &conflict.action
                {
                    n.assignments(set)?;
                    n.exprs(filter)?;
                }
                n.items(&i.returning)
            }),
            Statement::Update(u) => self.within(u.with.as_ref(), place, |n| {
                n.name(&u.table, place)?;
                n.assignments(&u.set)?;
                n.from(&u.from, place)?;
                n.exprs(&u.filter)?;
                n.items(&u.returning)
            }),
            Statement::Delete(d) => self.within(d.with.as_ref(), place, |n| {
                n.name(&d.table, place)?;
                n.from(&d.using, place)?;
                n.exprs(&d.filter)?;
                n.items(&d.returning)
            }),
            _ => Ok(()),
        }
    }

    /// Runs `f` where the names of a WITH clause hide those around it.
    fn within(
        &mut self,
        with: Option<&ast::With>,
        place: Place,
        f: impl FnOnce(&mut Self) -> Result<()>,
    ) -> Result<()> {
        let Some(with) = with else { return f(self) };
        let names = |ctes: &[Cte]| ctes.iter().map(|c| c.name.name.clone()).collect();
        self.hidden.push(match with.recursive {
            true => names(&with.ctes),
            false => Vec::new(),
        });
        for (number, cte) in with.ctes.iter().enumerate() {
            self.statement(&cte.statement, place)?;
            if !with.recursive {
                let last = self.hidden.last_mut().expect("just pushed");
                *last = names(&with.ctes[..=number]);
            }
        }
        let done = f(self);
        self.hidden.pop();
        done
    }

    fn query(&mut self, query: &Query, place: Place) -> Result<()> {
        self.within(query.with.as_ref(), place, |n| n.bare_query(query, place))
    }

    fn bare_query(&mut self, query: &Query, place: Place) -> Result<()> {
        match &query.body {
            QueryBody::Select(select) => self.select(select, place)?,
            QueryBody::Values(rows) => self.exprs(rows.iter().flatten())?,
            QueryBody::SetOperation {
                op,
                all,
                left,
                right,
            } => {
                let (left_place, right_place) = match (op, all) {
                    (SetOp::Intersect, true) => {
                        (place.or(Place::Intersect), place.or(Place::Intersect))
                    }
                    (SetOp::Except, true) => (place.or(Place::Except), place.or(Place::Except)),
                    (SetOp::Except, false) => (place, place.or(Place::Except)),
                    (SetOp::Union, _) | (SetOp::Intersect, false) => (place, place),
                };
                self.query(left, left_place)?;
                self.query(right, right_place)?;
            }
        }
        self.exprs(query.order_by.iter().map(|o| &o.expr))?;
        self.exprs(&query.offset)?;
        self.exprs(query.limit.iter().filter_map(|l| l.count.as_ref()))
    }

    fn select(&mut self, select: &Select, place: Place) -> Result<()> {
        if let DistinctClause::On(keys) = &select.distinct {
            self.exprs(keys)?;
        }
        self.items(&select.targets)?;
        self.from(&select.from, place)?;
        self.exprs(&select.filter)?;
        for item in &select.group_by {
            if let GroupItem::Expr(e) = item {
                self.expr(e)?;
            }
        }
        self.exprs(&select.having)?;
        for (_, window) in &select.windows {
            self.window(window)?;
        }
        Ok(())
    }

    fn window(&mut self, window: &ast::Window) -> Result<()> {
        let mut done = Ok(());
        window.parts(&mut |part| {
            if done.is_ok() {
                done = self.expr(part);
            }
        });
        done
    }

    fn items(&mut self, items: &[SelectItem]) -> Result<()> {
        self.exprs(items.iter().map(|i| &i.expr))
    }

    fn assignments(&mut self, set: &[SetClause]) -> Result<()> {
        self.exprs(set.iter().map(|s| &s.value))
    }

    fn from(&mut self, from: &[TableRef], place: Place) -> Result<()> {
        from.iter().try_for_each(|r| self.table(r, place))
    }

    /// A table's name, be it that of a statement's target: as PostgreSQL, that counts as reading it.
    fn name(&mut self, name: &ObjectName, place: Place) -> Result<()> {
        let hides = |names: &Vec<String>| names.contains(&name.name.name);
        if name.schema.is_some() || self.hidden.iter().any(hides) {
            return Ok(());
        }
        (self.found)(&name.name, place)
    }

    fn table(&mut self, r: &TableRef, place: Place) -> Result<()> {
        match r {
            TableRef::Table { name, .. } => self.name(name, place),
            TableRef::Subquery { query, .. } => self.query(query, place),
            TableRef::Functions(functions) => self.exprs(functions.calls.iter().map(|c| &c.call)),
            TableRef::Join(join) => {
                let nullable = place.or(Place::OuterJoin);
                let (left, right) = match join.kind {
                    JoinType::Cross | JoinType::Inner => (place, place),
                    JoinType::Left => (place, nullable),
                    JoinType::Right => (nullable, place),
                    JoinType::Full => (nullable, nullable),
                };
                self.table(&join.left, left)?;
                self.table(&join.right, right)?;
                match &join.condition {
                    JoinCondition::On(on) => self.expr(on),
                    _ => Ok(()),
                }
            }
            TableRef::Unsupported { .. } => Ok(()),
        }
    }

    fn exprs<'e>(&mut self, exprs: impl IntoIterator<Item = &'e ast::Expr>) -> Result<()> {
        exprs.into_iter().try_for_each(|e| self.expr(e))
    }

    fn expr(&mut self, e: &ast::Expr) -> Result<()> {
        let query = match &e.kind {
            ExprKind::Subquery(q) | ExprKind::Exists(q) | ExprKind::ArraySubquery(q) => Some(q),
            ExprKind::In {
                list: InList::Query(q),
                ..
            } => Some(q),
            ExprKind::Quantified {
                right: QuantifiedOperand::Query(q),
                ..
            } => Some(q),
            _ => None,
        };
        if let Some(query) = query {
            self.query(query, Place::Subquery)?;
        }
        let mut done = Ok(());
        e.parts(&mut |part| {
            if done.is_ok() {
                done = self.expr(part);
            }
        });
        done
    }
}
