//! The order of arrays and rows: part by part, NULLs last and equal to each other.
//!
//! In two forms. The total order never fails: rows of different types, which may meet in one column, are told apart by their
//! types, and parts of a type without an order by what they hold. The operators and their functions refuse such a comparison
//! as PostgreSQL does, when they come to it: of (1, 'a') and (2, true) the first fields decide.

use std::cmp::Ordering;

use super::{Comparator, comparator, equality};
use crate::ids::Oid;
use crate::types::array::Array;
use crate::types::datum::{Datum, SqlType};
use crate::types::error::TypeError;
use crate::types::record::Record;
use crate::types::{oids, registry};

/// What NULLs decide.
fn by_nulls(a: &Datum, b: &Datum) -> Option<Ordering> {
    match (a.is_null(), b.is_null()) {
        (true, true) => Some(Ordering::Equal),
        (true, false) => Some(Ordering::Greater),
        (false, true) => Some(Ordering::Less),
        (false, false) => None,
    }
}

/// An order for values of any type.
fn any_order(ty: Oid) -> Comparator {
    equality(ty).unwrap_or(by_content)
}

fn by_content(a: &Datum, b: &Datum) -> Ordering {
    match (a, b) {
        (Datum::Text(x), Datum::Text(y)) => x.as_bytes().cmp(y.as_bytes()),
        (Datum::Array(x), Datum::Array(y)) => {
            let elements = x.element.cmp(&y.element);
            elements.then_with(|| compare_arrays(x, y))
        }
        _ => Ordering::Equal,
    }
}

/// What is behind the items: their number, that of the dimensions, all lengths, then all bounds.
fn by_shape(a: &Array, b: &Array) -> Ordering {
    fn lengths(array: &Array) -> impl Iterator<Item = usize> {
        array.dimensions.iter().map(|(length, _)| *length)
    }
    fn bounds(array: &Array) -> impl Iterator<Item = i32> {
        array.dimensions.iter().map(|(_, low)| *low)
    }
    a.items
        .len()
        .cmp(&b.items.len())
        .then(a.dimensions.len().cmp(&b.dimensions.len()))
        .then_with(|| lengths(a).cmp(lengths(b)))
        .then_with(|| bounds(a).cmp(bounds(b)))
}

/// Of arrays of one element type.
pub(crate) fn compare_arrays(a: &Array, b: &Array) -> Ordering {
    let by_type = any_order(a.element);
    for (x, y) in a.items.iter().zip(&b.items) {
        let order = by_nulls(x, y).unwrap_or_else(|| by_type(x, y));
        if order.is_ne() {
            return order;
        }
    }
    by_shape(a, b)
}

/// `oidvector`: the shorter first.
pub(crate) fn compare_vectors(a: &Array, b: &Array) -> Ordering {
    a.items
        .len()
        .cmp(&b.items.len())
        .then_with(|| compare_arrays(a, b))
}

/// Of rows of any types.
pub(super) fn compare_records(a: &Record, b: &Record) -> Ordering {
    for ((s, x), (t, y)) in a.typed().zip(b.typed()) {
        let order = s
            .cmp(&t)
            .then_with(|| by_nulls(x, y).unwrap_or_else(|| any_order(s)(x, y)));
        if order.is_ne() {
            return order;
        }
    }
    a.types().len().cmp(&b.types().len())
}

/// What is asked of the parts' types.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Asked {
    Equality,
    Order,
}

impl Asked {
    /// Error 42883 for a type that has it not.
    fn of(self, ty: Oid) -> Result<Comparator, TypeError> {
        let found = match (self, ty) {
            (_, oids::UNKNOWN | oids::CSTRING) => None,
            (Asked::Equality, ty) => equality(ty),
            (Asked::Order, ty) => comparator(ty),
        };
        found.ok_or_else(|| {
            let what = match self {
                Asked::Equality => "an equality operator",
                Asked::Order => "a comparison function",
            };
            let name = registry::format_type(SqlType::plain(ty));
            let message = format!("could not identify {what} for type {name}");
            TypeError::new("42883", message)
        })
    }

    fn parts(self, by_type: Comparator, a: &Datum, b: &Datum) -> Result<Ordering, TypeError> {
        if let Some(order) = by_nulls(a, b) {
            return Ok(order);
        }
        match (a, b) {
            (Datum::Record(x), Datum::Record(y)) => order_of_records(x, y, self),
            (Datum::Array(x), Datum::Array(y)) if x.element == oids::RECORD => {
                order_of_arrays(x, y, self)
            }
            _ => Ok(by_type(a, b)),
        }
    }
}

/// Of element types whose values are of different kinds. Where columns are `anyarray`, two such arrays meet.
fn are_strangers(a: &Array, b: &Array) -> bool {
    let kind = |array: &Array| {
        let first = array.items.iter().find(|item| !item.is_null());
        first.map(std::mem::discriminant)
    };
    a.element != b.element && kind(a).zip(kind(b)).is_some_and(|(x, y)| x != y)
}

/// The order of two arrays; asked for equality alone, of unequal ones any but `Equal`.
///
/// # Errors
/// 42804 for arrays of different types, 42883 for elements without equality or order.
pub(crate) fn order_of_arrays(a: &Array, b: &Array, asked: Asked) -> Result<Ordering, TypeError> {
    if are_strangers(a, b) {
        let message = "cannot compare arrays of different element types";
        return Err(TypeError::new("42804", message));
    }
    if asked == Asked::Equality && a.dimensions != b.dimensions {
        return Ok(by_shape(a, b));
    }
    let by_type = asked.of(a.element)?;
    if a.element != oids::RECORD {
        return Ok(compare_arrays(a, b));
    }
    for (x, y) in a.items.iter().zip(&b.items) {
        let order = asked.parts(by_type, x, y)?;
        if order.is_ne() {
            return Ok(order);
        }
    }
    Ok(by_shape(a, b))
}

/// The order of two rows.
///
/// # Errors
/// 42804 for rows of different types or lengths, 42883 for a field without equality or order; of nothing that stands behind
/// the first fields to differ.
pub(crate) fn order_of_records(
    a: &Record,
    b: &Record,
    asked: Asked,
) -> Result<Ordering, TypeError> {
    for (number, ((s, x), (t, y))) in a.typed().zip(b.typed()).enumerate() {
        if s != t {
            return Err(dissimilar(s, t, number + 1));
        }
        let order = asked.parts(asked.of(s)?, x, y)?;
        if order.is_ne() {
            return Ok(order);
        }
    }
    if a.types().len() != b.types().len() {
        let message = "cannot compare record types with different numbers of columns";
        return Err(TypeError::new("42804", message));
    }
    Ok(Ordering::Equal)
}

#[cold]
fn dissimilar(a: Oid, b: Oid, number: usize) -> TypeError {
    let name = |ty| registry::format_type(SqlType::plain(ty));
    let message = format!(
        "cannot compare dissimilar column types {} and {} at record column {number}",
        name(a),
        name(b)
    );
    TypeError::new("42804", message)
}
