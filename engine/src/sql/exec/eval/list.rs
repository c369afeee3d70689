//! `op ANY` and `op ALL` over lists and arrays, array and row constructors.
//!
//! A list of constants, and the result of an init plan, are looked up by hash when the operator is an equality
//! whose type hashes; the table is made once. A subquery that reads the row beside it is read row by row, as far as it
//! takes to know the answer.

use std::sync::Arc;

use super::compare::{Comparison, comparison_of};
use super::{EvalFn, INIT_PLAN, OUTER_VALUE, TestFn, call, compile, subplan};
use crate::ids::Oid;
use crate::sql::bound::{Expr, RowTest};
use crate::sql::error::SqlError;
use crate::sql::exec::hashed::ValueSet;
use crate::types::array::Array;
use crate::types::compare::{Hasher, comparator, hasher};
use crate::types::datum::{Datum, SqlType};
use crate::types::function::Function;
use crate::types::record::Record;
use crate::types::{oids, registry, size};

/// Shorter lists are compared one by one.
const HASH_FROM: usize = 9;

/// What the items said so far of `ANY` (or, with `all`, of `ALL`).
#[derive(Clone, Copy)]
pub(super) struct Verdict {
    all: bool,
    unknown: bool,
}

impl Verdict {
    pub(super) fn new(all: bool) -> Verdict {
        Verdict {
            all,
            unknown: false,
        }
    }
    /// `Some` when no further item can change the answer.
    pub(super) fn add(&mut self, item: Option<bool>) -> Option<bool> {
        match item {
            None => {
                self.unknown = true;
                None
            }
            Some(b) if b != self.all => Some(b),
            Some(_) => None,
        }
    }
    pub(super) fn end(self) -> Option<bool> {
        (!self.unknown).then_some(self.all)
    }
}

/// The equality (`negated`: inequality) of one hashable type that can be answered by a set of values.
fn hashable(function: &'static Function, all: bool) -> Option<(Oid, bool)> {
    let [left, right] = function.args else {
        return None;
    };
    // Two rows may turn out not to be comparable: the operator's function says so.
    if left != right || *left == oids::RECORD {
        return None;
    }
    if hasher(*left).is_none() || comparator(*left).is_none() {
        return None;
    }
    match (comparison_of(function)?, all) {
        (Comparison::Equal, false) => Some((*left, false)),
        (Comparison::NotEqual, true) => Some((*left, true)),
        _ => None,
    }
}

/// Membership in three values, as `= ANY` (`negated`: `<> ALL`) defines it.
fn member(set: &ValueSet, value: &Datum, negated: bool) -> Option<bool> {
    if set.is_empty() {
        return Some(negated);
    }
    if value.is_null() {
        return None;
    }
    if set.contains(value) {
        return Some(!negated);
    }
    (!set.has_null()).then_some(negated)
}

pub fn any_of(function: &'static Function, left: &Expr, items: &[Expr], all: bool) -> TestFn {
    let left = compile(left);
    let constants: Option<Vec<Datum>> = items
        .iter()
        .map(|i| match i {
            Expr::Const(value, _) => Some(value.clone()),
            _ => None,
        })
        .collect();
    if let (Some(values), Some((ty, negated))) = (constants, hashable(function, all))
        && values.len() >= HASH_FROM
    {
        let set = ValueSet::new(ty, values.into_iter());
        return Box::new(move |frame, cx| Ok(member(&set, &left(frame, cx)?, negated)));
    }
    let items: Vec<EvalFn> = items.iter().map(compile).collect();
    let strict = function.strict;
    let apply = call::binary(function);
    Box::new(move |frame, cx| {
        let value = left(frame, cx)?;
        let mut verdict = Verdict::new(all);
        for item in &items {
            let item = item(frame, cx)?;
            let result = if strict && (value.is_null() || item.is_null()) {
                None
            } else {
                super::truth(&apply(&value, &item, cx)?)
            };
            if let Some(decided) = verdict.add(result) {
                return Ok(Some(decided));
            }
        }
        Ok(verdict.end())
    })
}

pub fn any_array(function: &'static Function, left: &Expr, array: &Expr, all: bool) -> TestFn {
    let left = compile(left);
    if let Expr::SubPlan(run) = array {
        return subplan::any(function, left, run, all);
    }
    if let (Expr::Param(n, _), Some((ty, negated))) = (array, hashable(function, all))
        && (INIT_PLAN..OUTER_VALUE).contains(n)
    {
        let plan = *n - INIT_PLAN;
        return Box::new(move |frame, cx| {
            let value = left(frame, cx)?;
            let set = cx.init_set(plan, ty)?;
            Ok(member(&set, &value, negated))
        });
    }
    let strict = function.strict;
    let apply = call::binary(function);
    let array = compile(array);
    Box::new(move |frame, cx| {
        let value = left(frame, cx)?;
        let Datum::Array(items) = array(frame, cx)? else {
            return Ok(None);
        };
        let mut verdict = Verdict::new(all);
        for item in &items.items {
            let result = if strict && (value.is_null() || item.is_null()) {
                None
            } else {
                super::truth(&apply(&value, item, cx)?)
            };
            if let Some(decided) = verdict.add(result) {
                return Ok(Some(decided));
            }
        }
        Ok(verdict.end())
    })
}

/// A row against each row of an init plan. Rows that a hash tells to be unequal are not looked at.
pub fn any_row(left: &[Expr], rows: &Expr, test: &RowTest) -> TestFn {
    let plan = match rows {
        Expr::SubPlan(run) => return subplan::any_row(left, run, test),
        Expr::Param(number, _) => *number - INIT_PLAN,
        _ => unreachable!("the planner makes an init plan of the query, or runs it"),
    };
    let hashers = if test.all {
        Vec::new()
    } else {
        row_hashers(&test.comparison, left.len())
    };
    let left: Vec<EvalFn> = left.iter().map(compile).collect();
    let comparison = super::compile_test(&test.comparison);
    let all = test.all;
    Box::new(move |frame, cx| {
        let set = cx.init_rows(plan, &hashers)?;
        if set.is_empty() {
            return Ok(Some(all));
        }
        let mut key = Vec::with_capacity(left.len());
        for value in &left {
            key.push(value(frame, cx)?);
        }
        let mut verdict = Verdict::new(all);
        let mut row = key.clone();
        for other in set.candidates(&key, &hashers) {
            row.truncate(key.len());
            row.extend_from_slice(other);
            if let Some(decided) = verdict.add(comparison(&row, cx)?) {
                return Ok(Some(decided));
            }
        }
        Ok(verdict.end())
    })
}

/// The hashes by which rows can be told to be unequal: of `a = x AND b = y AND ...`, types as they are.
fn row_hashers(comparison: &Expr, width: usize) -> Vec<Hasher> {
    let parts = match comparison {
        Expr::And(parts) => parts.as_slice(),
        one => std::slice::from_ref(one),
    };
    let found: Option<Vec<Hasher>> = parts
        .iter()
        .enumerate()
        .map(|(number, part)| match part {
            Expr::Call { function, args, .. } => match args.as_slice() {
                [Expr::Column(a), Expr::Column(b)]
                    if (a.column, b.column) == (number, width + number) =>
                {
                    hashable(function, false).and_then(|(ty, _)| hasher(ty))
                }
                _ => None,
            },
            _ => None,
        })
        .collect();
    found.unwrap_or_default()
}

pub fn array_literal(items: &[Expr], ty: SqlType) -> EvalFn {
    let element_of = |array: Oid| registry::by_oid(array).map_or(Oid::INVALID, |t| t.element);
    let element = element_of(ty.oid);
    // An item that is an array itself adds a dimension.
    let nested = !items.is_empty()
        && items.iter().all(|i| {
            let own = i.ty().oid;
            own != element && element_of(own) == element
        });
    let items: Vec<EvalFn> = items.iter().map(compile).collect();
    Box::new(move |frame, cx| {
        let mut values = Vec::with_capacity(items.len());
        for item in &items {
            values.push(item(frame, cx)?);
        }
        size::check_items(size::items(&values))?;
        if nested {
            return stack(element, values);
        }
        let dimensions = if values.is_empty() {
            Vec::new()
        } else {
            vec![(values.len(), 1)]
        };
        Ok(Datum::Array(Arc::new(Array {
            element,
            dimensions,
            items: values,
        })))
    })
}

/// Arrays of equal dimensions become one with a dimension more.
fn stack(element: Oid, parts: Vec<Datum>) -> Result<Datum, SqlError> {
    let mismatch = || {
        SqlError::new(
            "2202E",
            "multidimensional arrays must have array expressions with matching dimensions",
        )
    };
    let count = parts.len();
    let mut inner: Option<Vec<(usize, i32)>> = None;
    let mut empty = false;
    let mut items = Vec::new();
    for part in parts {
        let array = match part {
            Datum::Array(array) if !array.items.is_empty() => array,
            _ => {
                empty = true;
                continue;
            }
        };
        match &inner {
            None => inner = Some(array.dimensions.clone()),
            Some(first) if *first != array.dimensions => return Err(mismatch()),
            Some(_) => {}
        }
        items.extend(array.items.iter().cloned());
    }
    if empty && inner.is_some() {
        return Err(mismatch());
    }
    let mut dimensions = inner.unwrap_or_default();
    if !dimensions.is_empty() {
        dimensions.insert(0, (count, 1));
    }
    Ok(Datum::Array(Arc::new(Array {
        element,
        dimensions,
        items,
    })))
}

pub fn row(items: &[Expr]) -> EvalFn {
    let types: Arc<[Oid]> = items.iter().map(|item| item.ty().oid).collect();
    let items: Vec<EvalFn> = items.iter().map(compile).collect();
    Box::new(move |frame, cx| {
        let mut values = Vec::with_capacity(items.len());
        for item in &items {
            values.push(item(frame, cx)?);
        }
        size::check(size::items(&values))?;
        Ok(Record::new(&types, values).into())
    })
}
