//! Functions and operators of arrays.

use std::cmp::Ordering;

use super::call::Arg;
use crate::ids::Oid;
use crate::types::array::{Array, MAX_DIMENSIONS, check_shape, too_deep, too_many_items};
use crate::types::codec;
use crate::types::compare::{Asked, compare_vectors, equality, order_of_arrays, order_of_records};
use crate::types::datum::{Datum, SqlType};
use crate::types::error::TypeError;
use crate::types::function::{FunctionCx, Rows};
use crate::types::record::Record;
use crate::types::{oids, registry, size};

/// Comparisons of what may turn out not to be comparable.
macro_rules! fallible_comparisons {
    ($($eq:ident $ne:ident $lt:ident $le:ident $gt:ident $ge:ident $cmp:ident: $t:ty, $order:expr;)*) => {$(
        scalar! {
            fn $eq(a: $t, b: $t) -> bool { Ok($order(a, b, Asked::Equality)?.is_eq()) }
            fn $ne(a: $t, b: $t) -> bool { Ok($order(a, b, Asked::Equality)?.is_ne()) }
            fn $lt(a: $t, b: $t) -> bool { Ok($order(a, b, Asked::Order)?.is_lt()) }
            fn $le(a: $t, b: $t) -> bool { Ok($order(a, b, Asked::Order)?.is_le()) }
            fn $gt(a: $t, b: $t) -> bool { Ok($order(a, b, Asked::Order)?.is_gt()) }
            fn $ge(a: $t, b: $t) -> bool { Ok($order(a, b, Asked::Order)?.is_ge()) }
            fn $cmp(a: $t, b: $t) -> i32 { Ok($order(a, b, Asked::Order)? as i32) }
        }
    )*};
}
fallible_comparisons! {
    array_eq array_ne array_lt array_le array_gt array_ge btarraycmp: &Array, order_of_arrays;
    record_eq record_ne record_lt record_le record_gt record_ge btrecordcmp: &Record, order_of_records;
}
comparisons! {
    oidvectoreq oidvectorne oidvectorlt oidvectorle oidvectorgt oidvectorge btoidvectorcmp: &Array, &Array, compare_vectors;
}
scalar! {
    fn array_larger(a: &Datum, b: &Datum) -> Datum { Ok(if order(a, b)?.is_gt() { a.clone() } else { b.clone() }) }
    fn array_smaller(a: &Datum, b: &Datum) -> Datum { Ok(if order(a, b)?.is_lt() { a.clone() } else { b.clone() }) }
}
fn order(a: &Datum, b: &Datum) -> Result<Ordering, TypeError> {
    order_of_arrays(
        super::call::Arg::get(a),
        super::call::Arg::get(b),
        Asked::Order,
    )
}

/// Are two items the same, NULLs being the same as NULLs?
fn not_distinct(element: Oid, a: &Datum, b: &Datum) -> bool {
    match (a.is_null(), b.is_null()) {
        (true, true) => true,
        (false, false) => equality(element).is_some_and(|f| f(a, b).is_eq()),
        _ => false,
    }
}

fn need_equality(element: Oid) -> Result<(), TypeError> {
    if equality(element).is_some() {
        return Ok(());
    }
    let name = registry::format_type(SqlType::plain(element));
    Err(TypeError::new(
        "42883",
        format!("could not identify an equality operator for type {name}"),
    ))
}

/// The last subscript of a dimension. The array may be older than the check of its bounds.
fn upper((length, low): (usize, i32)) -> i32 {
    low.wrapping_add(length as i32 - 1)
}

fn dimension(a: &Array, n: i32) -> Option<(usize, i32)> {
    let index = usize::try_from(n).ok()?.checked_sub(1)?;
    a.dimensions.get(index).copied()
}

fn contains(a: &Array, b: &Array) -> Result<bool, TypeError> {
    need_equality(a.element)?;
    // NULL is contained in nothing.
    Ok(b.items.iter().all(|y| {
        !y.is_null()
            && a.items
                .iter()
                .any(|x| !x.is_null() && not_distinct(a.element, x, y))
    }))
}

fn incompatible(detail: &str) -> TypeError {
    TypeError::new("2202E", "cannot concatenate incompatible arrays").with_detail(detail)
}

fn concatenate(a: Option<&Array>, b: Option<&Array>) -> Result<Option<Array>, TypeError> {
    let (a, b) = match (a, b) {
        (None, None) => return Ok(None),
        (Some(a), None) | (None, Some(a)) => return Ok(Some(a.clone())),
        (Some(a), Some(b)) => (a, b),
    };
    if a.dimensions.is_empty() {
        return Ok(Some(b.clone()));
    }
    if b.dimensions.is_empty() {
        return Ok(Some(a.clone()));
    }
    let (n, m) = (a.dimensions.len(), b.dimensions.len());
    let mut dimensions;
    if n == m {
        if a.dimensions[1..] != b.dimensions[1..] {
            return Err(incompatible(
                "Arrays with differing element dimensions are not compatible for concatenation.",
            ));
        }
        dimensions = a.dimensions.clone();
        dimensions[0].0 += b.dimensions[0].0;
    } else if n + 1 == m || n == m + 1 {
        let (outer, inner) = if n > m { (a, b) } else { (b, a) };
        if outer.dimensions[1..] != inner.dimensions[..] {
            return Err(incompatible(
                "Arrays with differing dimensions are not compatible for concatenation.",
            ));
        }
        dimensions = outer.dimensions.clone();
        dimensions[0].0 += 1;
    } else {
        return Err(incompatible(&format!(
            "Arrays of {n} and {m} dimensions are not compatible for concatenation."
        )));
    }
    check_shape(&dimensions)?;
    let items = a.items.iter().chain(&b.items).cloned().collect();
    Ok(Some(Array {
        element: a.element,
        dimensions,
        items,
    }))
}

fn one_dimension(a: &Array) -> Result<(), TypeError> {
    if a.dimensions.len() > 1 {
        return Err(TypeError::new(
            "22000",
            "argument must be empty or one-dimensional array",
        ));
    }
    Ok(())
}

fn push(a: Option<&Array>, element: Oid, item: &Datum, front: bool) -> Result<Array, TypeError> {
    let Some(a) = a.filter(|a| !a.dimensions.is_empty()) else {
        return Ok(Array::of(element, vec![item.clone()]));
    };
    one_dimension(a)?;
    let (length, low) = a.dimensions[0];
    // What is put in front has a subscript of its own before the array is counted from where it began.
    let from = if front {
        low.checked_sub(1)
            .ok_or_else(|| TypeError::new("22003", "integer out of range"))?
    } else {
        low
    };
    check_shape(&[(length + 1, from)])?;
    let mut items = Vec::with_capacity(length + 1);
    if front {
        items.push(item.clone());
    }
    items.extend(a.items.iter().cloned());
    if !front {
        items.push(item.clone());
    }
    Ok(Array {
        element: a.element,
        dimensions: vec![(length + 1, low)],
        items,
    })
}

/// 1-based subscript of the first item not distinct from `item`, counted from the subscript `from`.
fn find(a: &Array, item: &Datum, from: Option<i32>) -> Result<Option<i32>, TypeError> {
    if a.dimensions.len() > 1 {
        return Err(TypeError::new(
            "0A000",
            "searching for elements in multidimensional arrays is not supported",
        ));
    }
    let Some((_, low)) = a.dimensions.first().copied() else {
        return Ok(None);
    };
    need_equality(a.element)?;
    let skip = from.map_or(0, |f| (i64::from(f) - i64::from(low)).max(0)) as usize;
    let found = a
        .items
        .iter()
        .enumerate()
        .skip(skip)
        .find(|(_, x)| not_distinct(a.element, x, item));
    Ok(found.map(|(i, _)| low.wrapping_add(i as i32)))
}

fn joined(
    a: &Array,
    separator: &str,
    null: Option<&str>,
    cx: &FunctionCx,
) -> Result<String, TypeError> {
    let mut out = String::new();
    let mut any = false;
    for item in &a.items {
        codec::check_text(item, cx)?;
        let text = match (item.is_null(), null) {
            (false, _) => codec::to_text(a.element, item, cx),
            (true, Some(null)) => null.to_owned(),
            (true, None) => continue,
        };
        let between = if any { separator } else { "" };
        size::grow(out.len(), between.len() + text.len())?;
        out.push_str(between);
        out.push_str(&text);
        any = true;
    }
    Ok(out)
}

/// The fields of `string_to_array`: by characters for a NULL separator, the whole for an empty one.
fn fields(text: &str, separator: Option<&str>, null: Option<&str>) -> Vec<Datum> {
    if text.is_empty() {
        return Vec::new();
    }
    let value = |s: &str| {
        if null == Some(s) {
            Datum::Null
        } else {
            Datum::text(s)
        }
    };
    match separator {
        None => text
            .chars()
            .map(|c| value(c.encode_utf8(&mut [0; 4])))
            .collect(),
        Some("") => vec![value(text)],
        Some(s) => text.split(s).map(value).collect(),
    }
}

fn fill(
    element: Oid,
    item: &Datum,
    dims: &Array,
    bounds: Option<&Array>,
) -> Result<Array, TypeError> {
    let bad = |m: &str| TypeError::new("2202E", m);
    let ints = |a: &Array, what: &str| -> Result<Vec<i32>, TypeError> {
        if a.dimensions.len() > 1 {
            return Err(bad("wrong number of array subscripts")
                .with_detail("Dimension array must be one dimensional."));
        }
        a.items
            .iter()
            .map(|i| match i {
                Datum::Int4(v) => Ok(*v),
                _ => Err(TypeError::new("22004", what.to_owned())),
            })
            .collect()
    };
    let lengths = ints(dims, "dimension values cannot be null")?;
    let lows = match bounds {
        Some(b) => {
            let lows = ints(b, "dimension values cannot be null")?;
            if lows.len() != lengths.len() {
                return Err(bad("wrong number of array subscripts")
                    .with_detail("Low bound array has different size than dimensions array."));
            }
            lows
        }
        None => vec![1; lengths.len()],
    };
    if lengths.len() > MAX_DIMENSIONS {
        return Err(too_deep(lengths.len()));
    }
    let mut dimensions = Vec::with_capacity(lengths.len());
    for (length, low) in lengths.iter().zip(&lows) {
        let length = usize::try_from(*length).map_err(|_| too_many_items())?;
        dimensions.push((length, *low));
    }
    let total = check_shape(&dimensions)?;
    if total == 0 {
        return Ok(Array {
            element,
            dimensions: Vec::new(),
            items: Vec::new(),
        });
    }
    size::check_items(total.saturating_mul(size_of::<Datum>() + size::held(item)))?;
    Ok(Array {
        element,
        dimensions,
        items: vec![item.clone(); total],
    })
}

fn replaced(a: &Array, from: &Datum, to: Option<&Datum>) -> Result<Array, TypeError> {
    need_equality(a.element)?;
    match to {
        Some(to) => {
            let items = a
                .items
                .iter()
                .map(|i| {
                    if not_distinct(a.element, i, from) {
                        to.clone()
                    } else {
                        i.clone()
                    }
                })
                .collect();
            Ok(Array {
                element: a.element,
                dimensions: a.dimensions.clone(),
                items,
            })
        }
        None => {
            if a.dimensions.len() > 1 {
                return Err(TypeError::new(
                    "0A000",
                    "removing elements from multidimensional arrays is not supported",
                ));
            }
            let items: Vec<Datum> = a
                .items
                .iter()
                .filter(|i| !not_distinct(a.element, i, from))
                .cloned()
                .collect();
            let low = a.dimensions.first().map_or(1, |d| d.1);
            let dimensions = if items.is_empty() {
                Vec::new()
            } else {
                vec![(items.len(), low)]
            };
            Ok(Array {
                element: a.element,
                dimensions,
                items,
            })
        }
    }
}

scalar! {
    fn array_length(a: &Array, n: i32) -> Option<i32> { Ok(dimension(a, n).map(|d| d.0 as i32)) }
    fn array_lower(a: &Array, n: i32) -> Option<i32> { Ok(dimension(a, n).map(|d| d.1)) }
    fn array_upper(a: &Array, n: i32) -> Option<i32> { Ok(dimension(a, n).map(upper)) }
    fn array_ndims(a: &Array) -> Option<i32> { Ok(Some(a.dimensions.len() as i32).filter(|n| *n > 0)) }
    fn array_cardinality(a: &Array) -> i32 { Ok(a.items.len() as i32) }
    fn array_dims(a: &Array) -> Option<String> {
        let text: String = a.dimensions.iter().map(|d| format!("[{}:{}]", d.1, upper(*d))).collect();
        Ok(Some(text).filter(|t| !t.is_empty()))
    }
    fn arraycontains(a: &Array, b: &Array) -> bool { contains(a, b) }
    fn arraycontained(a: &Array, b: &Array) -> bool { contains(b, a) }
    fn arrayoverlap(a: &Array, b: &Array) -> bool {
        need_equality(a.element)?;
        Ok(b.items.iter().any(|y| !y.is_null() && a.items.iter().any(|x| !x.is_null() && not_distinct(a.element, x, y))))
    }
    fn array_cat(a: Option<&Array>, b: Option<&Array>) -> Option<Array> { concatenate(a, b) }
    fn array_position(a: Option<&Array>, item: &Datum) -> Option<i32> {
        match a { Some(a) => find(a, item, None), None => Ok(None) }
    }
    fn array_position_start(a: Option<&Array>, item: &Datum, from: Option<i32>) -> Option<i32> {
        let Some(a) = a else { return Ok(None) };
        if from.is_none() {
            return Err(TypeError::new("22004", "initial position must not be null"));
        }
        find(a, item, from)
    }
    fn array_positions(a: Option<&Array>, item: &Datum) -> Option<Array> {
        let Some(a) = a else { return Ok(None) };
        if a.dimensions.len() > 1 {
            return Err(TypeError::new("0A000", "searching for elements in multidimensional arrays is not supported"));
        }
        need_equality(a.element)?;
        let low = a.dimensions.first().map_or(1, |d| d.1);
        let found = a.items.iter().enumerate().filter(|(_, x)| not_distinct(a.element, x, item));
        Ok(Some(Array::of(oids::INT4, found.map(|(i, _)| Datum::Int4(low.wrapping_add(i as i32))).collect())))
    }
    fn array_remove(a: Option<&Array>, item: &Datum) -> Option<Array> {
        a.map(|a| replaced(a, item, None)).transpose()
    }
    fn array_replace(a: Option<&Array>, from: &Datum, to: &Datum) -> Option<Array> {
        a.map(|a| replaced(a, from, Some(to))).transpose()
    }
    fn array_to_text[cx](a: &Array, separator: &str) -> String { joined(a, separator, None, cx) }
    fn array_to_text_null[cx](a: Option<&Array>, separator: Option<&str>, null: Option<&str>) -> Option<String> {
        Ok(match (a, separator) { (Some(a), Some(s)) => Some(joined(a, s, null, cx)?), _ => None })
    }
    fn text_to_array(text: Option<&str>, separator: Option<&str>) -> Option<Array> {
        Ok(text.map(|t| Array::of(oids::TEXT, fields(t, separator, None))))
    }
    fn text_to_array_null(text: Option<&str>, separator: Option<&str>, null: Option<&str>) -> Option<Array> {
        Ok(text.map(|t| Array::of(oids::TEXT, fields(t, separator, null))))
    }
    fn trim_array(a: &Array, n: i32) -> Array {
        let length = a.dimensions.first().map_or(0, |d| d.0);
        if n < 0 || n as usize > length {
            return Err(TypeError::new("2202E", format!("number of elements to trim must be between 0 and {length}")));
        }
        if a.dimensions.is_empty() { return Ok(a.clone()); }
        let keep = length - n as usize;
        let each = a.items.len() / length.max(1);
        let mut dimensions = a.dimensions.clone();
        dimensions[0].0 = keep;
        let items: Vec<Datum> = a.items[..keep * each].to_vec();
        if items.is_empty() { dimensions.clear(); }
        // Trimming is slicing, and a slice counts from 1.
        dimensions.iter_mut().for_each(|d| d.1 = 1);
        Ok(Array { element: a.element, dimensions, items })
    }
}

typed! {
    fn array_append[args, types, _cx] -> Array {
        push(super::call::Arg::get(&args[0]), element_type(types.result, types.args[1]), &args[1], false)
    }
    fn array_prepend[args, types, _cx] -> Array {
        push(super::call::Arg::get(&args[1]), element_type(types.result, types.args[0]), &args[0], true)
    }
    fn array_fill[args, types, _cx] -> Array {
        let Datum::Array(dims) = &args[1] else { return Err(no_dimensions()) };
        fill(types.args[0], &args[0], dims, None)
    }
    fn array_fill_with_lower_bounds[args, types, _cx] -> Array {
        let (Datum::Array(dims), Datum::Array(lows)) = (&args[1], &args[2]) else { return Err(no_dimensions()) };
        fill(types.args[0], &args[0], dims, Some(lows))
    }
}
fn no_dimensions() -> TypeError {
    TypeError::new("22004", "dimension array or low bound array cannot be null")
}
/// The element type of the result, or what the item has.
fn element_type(result: Oid, item: Oid) -> Oid {
    registry::element_of(result).unwrap_or(item)
}

/// The item at the subscripts behind the array, one for each of its dimensions; NULL where there is none
/// (`array_get_element`).
pub(crate) fn array_item(args: &[Datum], _cx: &FunctionCx) -> Result<Datum, TypeError> {
    let (array, subscripts): (&Array, _) = (Arg::get(&args[0]), &args[1..]);
    if subscripts.len() != array.dimensions.len() {
        return Ok(Datum::Null);
    }
    let mut place = 0_usize;
    for ((length, low), subscript) in array.dimensions.iter().zip(subscripts) {
        let subscript: i32 = Arg::get(subscript);
        let behind = usize::try_from(i64::from(subscript) - i64::from(*low)).ok();
        let Some(behind) = behind.filter(|n| n < length) else {
            return Ok(Datum::Null);
        };
        place = place * *length + behind;
    }
    Ok(array.items.get(place).cloned().unwrap_or(Datum::Null))
}

/// Bytes of a `name`, those behind its end being zeros.
const NAME_LENGTH: usize = 64;

/// A byte of a name, counted from 0; NULL outside of its 64 and for more subscripts than one.
pub(crate) fn name_item(args: &[Datum], _cx: &FunctionCx) -> Result<Datum, TypeError> {
    let (name, subscripts): (&str, _) = (Arg::get(&args[0]), &args[1..]);
    let [subscript] = subscripts else {
        return Ok(Datum::Null);
    };
    let subscript: i32 = Arg::get(subscript);
    let at = usize::try_from(subscript).ok().filter(|n| *n < NAME_LENGTH);
    let byte = |at| Datum::Char(name.as_bytes().get(at).copied().unwrap_or(0));
    Ok(at.map_or(Datum::Null, byte))
}

rows! {
    fn array_unnest(a: &Array) {
        let items = a.items.clone();
        let all: Rows = Box::new(items.into_iter().map(Ok));
        Ok(all)
    }
    fn text_to_table(text: Option<&str>, separator: Option<&str>) {
        let items = text.map_or(Vec::new(), |t| fields(t, separator, None));
        let all: Rows = Box::new(items.into_iter().map(Ok));
        Ok(all)
    }
    fn text_to_table_null(text: Option<&str>, separator: Option<&str>, null: Option<&str>) {
        let items = text.map_or(Vec::new(), |t| fields(t, separator, null));
        let all: Rows = Box::new(items.into_iter().map(Ok));
        Ok(all)
    }
}
