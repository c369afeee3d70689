//! From conditions on key columns to ranges of encoded keys.
//!
//! A prefix of equalities gives the bytes that all wanted keys begin with; bounds on the column behind them narrow
//! that range. Every list of values multiplies the prefixes. Ranges come out in key order, without duplicates.

use std::ops::Bound;

use crate::catalog::relation::{Index, IndexKey};
use crate::index::btree::KeyRange;
use crate::index::key::{encode_part, successor};
use crate::sql::error::SqlError;
use crate::sql::exec::cx::EvalCx;
use crate::sql::exec::eval::Scalar;
use crate::sql::plan::tree::{IndexScan, KeyValue};
use crate::types::datum::Datum;
use crate::types::oids;

/// A value of a comparison, as one of the key column's type.
enum Fitted {
    Value(Datum),
    /// NULL: nothing compares true with it.
    Null,
    /// Smaller than every value of the column's type.
    Below,
    Above,
}

fn fit(key: &IndexKey, value: Datum) -> Fitted {
    let wide = match value {
        Datum::Null => return Fitted::Null,
        Datum::Int2(v) => i64::from(v),
        Datum::Int4(v) => i64::from(v),
        Datum::Int8(v) => v,
        other => return Fitted::Value(other),
    };
    let fitted = if key.ty.oid == oids::INT4 {
        i32::try_from(wide).ok().map(Datum::Int4)
    } else if key.ty.oid == oids::INT2 {
        i16::try_from(wide).ok().map(Datum::Int2)
    } else {
        Some(Datum::Int8(wide))
    };
    match fitted {
        Some(value) => Fitted::Value(value),
        None if wide < 0 => Fitted::Below,
        None => Fitted::Above,
    }
}

/// The ranges that a scan has to read, in key order; none if no key can match.
pub fn ranges(
    scan: &IndexScan,
    frame: &[Datum],
    cx: &mut EvalCx,
) -> Result<Vec<KeyRange>, SqlError> {
    let mut prefixes = vec![Vec::new()];
    for (value, key) in scan.equal.iter().zip(&scan.index.keys) {
        prefixes = extend(&scan.index, prefixes, key, value, frame, cx)?;
        if prefixes.is_empty() {
            return Ok(Vec::new());
        }
    }
    if prefixes.len() > 1 {
        prefixes.sort_unstable();
        prefixes.dedup();
    }
    let bounds = Bounds::compute(scan, frame, cx)?;
    let mut made = Vec::with_capacity(prefixes.len());
    for prefix in prefixes {
        if let Some(range) = narrow(scan, prefix, &bounds)? {
            made.push(range);
        }
    }
    Ok(made)
}

/// The one key that a point scan looks for; false if no row can have it.
pub fn point(
    scan: &IndexScan,
    frame: &[Datum],
    cx: &mut EvalCx,
    out: &mut Vec<u8>,
) -> Result<bool, SqlError> {
    out.clear();
    for (value, key) in scan.equal.iter().zip(&scan.index.keys) {
        let value = match value {
            KeyValue::IsNull => Datum::Null,
            KeyValue::One(scalar) => match fit(key, scalar.eval(frame, cx)?) {
                Fitted::Value(value) => value,
                Fitted::Null | Fitted::Below | Fitted::Above => return Ok(false),
            },
            KeyValue::AnyOf(_) | KeyValue::AnyArray(_) => {
                return Err(SqlError::internal("a list of keys is not a point"));
            }
        };
        encode_part(key, &value, out)?;
    }
    Ok(true)
}

fn extend(
    index: &Index,
    prefixes: Vec<Vec<u8>>,
    key: &IndexKey,
    value: &KeyValue,
    frame: &[Datum],
    cx: &mut EvalCx,
) -> Result<Vec<Vec<u8>>, SqlError> {
    debug_assert!(!index.keys.is_empty());
    let values = match value {
        KeyValue::IsNull => vec![Datum::Null],
        KeyValue::One(scalar) => fitting(key, [scalar.eval(frame, cx)?]),
        KeyValue::AnyOf(list) => {
            let mut items = Vec::with_capacity(list.len());
            for item in list {
                items.push(item.eval(frame, cx)?);
            }
            fitting(key, items)
        }
        KeyValue::AnyArray(array) => match array.eval(frame, cx)? {
            Datum::Array(array) => fitting(key, array.items.iter().cloned()),
            _ => Vec::new(),
        },
    };
    if let ([only], [_]) = (values.as_slice(), prefixes.as_slice()) {
        let mut prefixes = prefixes;
        encode_part(key, only, &mut prefixes[0])?;
        return Ok(prefixes);
    }
    let mut made = Vec::with_capacity(prefixes.len() * values.len());
    for prefix in &prefixes {
        for value in &values {
            let mut longer = prefix.clone();
            encode_part(key, value, &mut longer)?;
            made.push(longer);
        }
    }
    Ok(made)
}

/// Those values that the column can have.
fn fitting(key: &IndexKey, values: impl IntoIterator<Item = Datum>) -> Vec<Datum> {
    values
        .into_iter()
        .filter_map(|v| match fit(key, v) {
            Fitted::Value(v) => Some(v),
            _ => None,
        })
        .collect()
}

/// Bounds of the column behind the prefix, as values.
struct Bounds {
    lower: Option<(Fitted, bool)>,
    upper: Option<(Fitted, bool)>,
}

impl Bounds {
    fn compute(scan: &IndexScan, frame: &[Datum], cx: &mut EvalCx) -> Result<Bounds, SqlError> {
        let key = scan.index.keys.get(scan.equal.len());
        let mut one = |bound: &Option<crate::sql::plan::tree::Bound>| match (bound, key) {
            (Some(bound), Some(key)) => {
                let value: &Scalar = &bound.value;
                Ok::<_, SqlError>(Some((fit(key, value.eval(frame, cx)?), bound.inclusive)))
            }
            _ => Ok(None),
        };
        Ok(Bounds {
            lower: one(&scan.lower)?,
            upper: one(&scan.upper)?,
        })
    }
}

/// Half-open: from `low` on, to before `high`; `None` is the end of the index.
struct Span {
    low: Vec<u8>,
    high: Option<Vec<u8>>,
}

impl Span {
    fn from(&mut self, low: Vec<u8>) {
        if low > self.low {
            self.low = low;
        }
    }
    fn before(&mut self, high: Vec<u8>) {
        if self.high.as_ref().is_none_or(|h| high < *h) {
            self.high = Some(high);
        }
    }
    /// Everything from the first key above all that begin with `part`.
    fn from_behind(&mut self, mut part: Vec<u8>) -> bool {
        let some = successor(&mut part);
        if some {
            self.from(part);
        }
        some
    }
    fn through(&mut self, mut part: Vec<u8>) {
        if successor(&mut part) {
            self.before(part);
        }
    }
}

fn narrow(
    scan: &IndexScan,
    prefix: Vec<u8>,
    bounds: &Bounds,
) -> Result<Option<KeyRange>, SqlError> {
    let mut high = prefix.clone();
    let high = successor(&mut high).then_some(high);
    let mut span = Span {
        low: prefix.clone(),
        high,
    };
    if let Some(key) = scan.index.keys.get(scan.equal.len())
        && (bounds.lower.is_some() || bounds.upper.is_some())
        && !restrict(&mut span, key, &prefix, bounds)?
    {
        return Ok(None);
    }
    if span.high.as_ref().is_some_and(|h| *h <= span.low) {
        return Ok(None);
    }
    let lower = if span.low.is_empty() {
        Bound::Unbounded
    } else {
        Bound::Included(span.low)
    };
    Ok(Some(KeyRange {
        lower,
        upper: span.high.map_or(Bound::Unbounded, Bound::Excluded),
    }))
}

/// False: nothing can match.
fn restrict(
    span: &mut Span,
    key: &IndexKey,
    prefix: &[u8],
    bounds: &Bounds,
) -> Result<bool, SqlError> {
    let part = |value: &Datum| -> Result<Vec<u8>, SqlError> {
        let mut bytes = prefix.to_vec();
        encode_part(key, value, &mut bytes)?;
        Ok(bytes)
    };
    // A comparison is never true of NULL.
    let null = part(&Datum::Null)?;
    if key.nulls_first {
        if !span.from_behind(null) {
            return Ok(false);
        }
    } else {
        span.before(null);
    }
    for (bound, is_lower) in [(&bounds.lower, true), (&bounds.upper, false)] {
        let Some((value, inclusive)) = bound else {
            continue;
        };
        let value = match value {
            Fitted::Null => return Ok(false),
            Fitted::Below if is_lower => continue,
            Fitted::Above if !is_lower => continue,
            Fitted::Below | Fitted::Above => return Ok(false),
            Fitted::Value(value) => part(value)?,
        };
        // In a descending column greater values come first.
        match (is_lower != key.descending, inclusive) {
            (true, true) => span.from(value),
            (true, false) => {
                if !span.from_behind(value) {
                    return Ok(false);
                }
            }
            (false, true) => span.through(value),
            (false, false) => span.before(value),
        }
    }
    Ok(true)
}
