//! How many rows: what ANALYZE left, and PostgreSQL's guesses where it left nothing. Manual, 76.1.

use std::collections::HashMap;
use std::sync::Arc;

use crate::catalog::view::ColumnStatistics;
use crate::sql::bound::Expr;
use crate::sql::exec::eval::{Comparison, Slot, comparison_of, slot_of};
use crate::types::codec;
use crate::types::compare::comparator;
use crate::types::datum::{Datum, SqlType};
use crate::types::function::FunctionCx;

const EQUAL_DEFAULT: f64 = 0.005;
const RANGE_DEFAULT: f64 = 1.0 / 3.0;
const BOTH_BOUNDS_DEFAULT: f64 = 0.005;
const MATCH_DEFAULT: f64 = 0.005;
const UNKNOWN_DEFAULT: f64 = 0.5;
/// Distinct values of a column that was never analysed.
const DISTINCT_DEFAULT: f64 = 200.0;

/// What is known of a slot that holds a table's column.
#[derive(Debug, Clone)]
pub struct ColumnFacts {
    pub rows: f64,
    /// A unique index has this column alone.
    pub unique: bool,
    pub statistics: Option<Arc<ColumnStatistics>>,
}

/// Facts of the slots of one frame.
#[derive(Default)]
pub struct Estimates {
    pub columns: HashMap<Slot, ColumnFacts>,
}

impl Estimates {
    pub fn distinct(&self, slot: Slot, rows: f64) -> f64 {
        let Some(facts) = self.columns.get(&slot) else {
            return DISTINCT_DEFAULT.min(rows).max(1.0);
        };
        let all = if facts.unique {
            facts.rows
        } else {
            match &facts.statistics {
                Some(s) if s.distinct > 0.0 => s.distinct,
                Some(s) if s.distinct < 0.0 => -s.distinct * facts.rows,
                _ => DISTINCT_DEFAULT.min(facts.rows),
            }
        };
        all.min(rows).max(1.0)
    }

    /// Distinct combinations of expressions among `rows` rows.
    pub fn groups(&self, keys: &[Expr], rows: f64) -> f64 {
        let mut count = 1.0;
        for key in keys {
            count *= match slot_of(key) {
                Some(slot) => self.distinct(slot, rows),
                None => DISTINCT_DEFAULT,
            };
        }
        count.min(rows).max(1.0)
    }

    /// The fraction of rows for which all conditions hold; bounds of one column from both sides count together.
    pub fn selectivity(&self, conditions: &[Expr], cx: &FunctionCx) -> f64 {
        let mut bounded: HashMap<Slot, (bool, bool)> = HashMap::new();
        let mut result = 1.0;
        for condition in conditions {
            result *= self.one(condition, cx);
            if let Some((slot, op, value)) = comparison(condition)
                && !matches!(value, Expr::Const(..))
            {
                let sides = bounded.entry(slot).or_default();
                match op {
                    Comparison::Less | Comparison::LessEqual => sides.1 = true,
                    Comparison::Greater | Comparison::GreaterEqual => sides.0 = true,
                    _ => {}
                }
            }
        }
        for sides in bounded.values() {
            if *sides == (true, true) {
                result *= BOTH_BOUNDS_DEFAULT / (RANGE_DEFAULT * RANGE_DEFAULT);
            }
        }
        result.clamp(0.0, 1.0)
    }

    fn one(&self, condition: &Expr, cx: &FunctionCx) -> f64 {
        match condition {
            Expr::Const(Datum::Bool(true), _) => 1.0,
            Expr::Const(..) => 0.0,
            Expr::And(parts) => self.selectivity(parts, cx),
            Expr::Or(parts) => parts.iter().fold(0.0, |sum, part| {
                let s = self.one(part, cx);
                sum + s - sum * s
            }),
            Expr::Not(arg) => 1.0 - self.one(arg, cx),
            Expr::IsNull { arg, negated } => {
                let nulls = slot_of(arg)
                    .and_then(|slot| self.columns.get(&slot))
                    .and_then(|f| f.statistics.as_ref())
                    .map_or(EQUAL_DEFAULT, |s| s.null_fraction);
                if *negated { 1.0 - nulls } else { nulls }
            }
            Expr::AnyOf {
                function,
                left,
                items,
                all,
            } => {
                let equal = slot_of(left).map_or(EQUAL_DEFAULT, |slot| {
                    items
                        .first()
                        .map_or(EQUAL_DEFAULT, |item| self.equal(slot, item, cx))
                });
                let any = (equal * items.len() as f64).min(1.0);
                match (comparison_of(function), all) {
                    (Some(Comparison::Equal), false) => any,
                    (Some(Comparison::NotEqual), true) => 1.0 - any,
                    _ => UNKNOWN_DEFAULT,
                }
            }
            Expr::AnyArray { left, all, .. } => {
                let equal = slot_of(left).map_or(EQUAL_DEFAULT, |slot| self.equal(slot, left, cx));
                let any = (equal * 10.0).min(1.0);
                if *all { 1.0 - any } else { any }
            }
            Expr::Call { function, .. } => match comparison(condition) {
                Some((slot, op, value)) => self.compared(slot, op, value, cx),
                None if comparison_of(function) == Some(Comparison::Equal) => {
                    self.joined(condition)
                }
                None if comparison_of(function).is_some() => RANGE_DEFAULT,
                None => MATCH_DEFAULT,
            },
            _ => UNKNOWN_DEFAULT,
        }
    }

    /// `a = b` of two columns.
    fn joined(&self, condition: &Expr) -> f64 {
        let Expr::Call { args, .. } = condition else {
            return EQUAL_DEFAULT;
        };
        let [a, b] = args.as_slice() else {
            return EQUAL_DEFAULT;
        };
        match (slot_of(a), slot_of(b)) {
            (Some(a), Some(b)) => {
                let rows = f64::INFINITY;
                1.0 / self.distinct(a, rows).max(self.distinct(b, rows))
            }
            _ => EQUAL_DEFAULT,
        }
    }

    fn compared(&self, slot: Slot, op: Comparison, value: &Expr, cx: &FunctionCx) -> f64 {
        match op {
            Comparison::Equal => self.equal(slot, value, cx),
            Comparison::NotEqual => 1.0 - self.equal(slot, value, cx),
            Comparison::Less | Comparison::LessEqual => self.below(slot, value, cx),
            Comparison::Greater | Comparison::GreaterEqual => match value {
                Expr::Const(..) => (1.0 - self.below(slot, value, cx)).max(0.0),
                _ => RANGE_DEFAULT,
            },
        }
    }

    fn equal(&self, slot: Slot, value: &Expr, cx: &FunctionCx) -> f64 {
        let Some(facts) = self.columns.get(&slot) else {
            return EQUAL_DEFAULT;
        };
        if facts.unique {
            return 1.0 / facts.rows.max(1.0);
        }
        let Some(statistics) = &facts.statistics else {
            return EQUAL_DEFAULT.max(1.0 / facts.rows.max(1.0)).min(1.0);
        };
        if let Expr::Const(value, ty) = value {
            if value.is_null() {
                return 0.0;
            }
            let shown = codec::to_text(ty.oid, value, cx);
            if let Some((_, fraction)) = statistics.most_common.iter().find(|(v, _)| *v == shown) {
                return *fraction;
            }
        }
        let common: f64 = statistics.most_common.iter().map(|(_, f)| f).sum();
        let others = self.distinct(slot, f64::INFINITY) - statistics.most_common.len() as f64;
        let rest = (1.0 - statistics.null_fraction - common).max(0.0);
        (rest / others.max(1.0)).clamp(1.0 / facts.rows.max(1.0), 1.0)
    }

    /// The fraction below a constant, from the histogram.
    fn below(&self, slot: Slot, value: &Expr, cx: &FunctionCx) -> f64 {
        let (Some(facts), Expr::Const(value, ty)) = (self.columns.get(&slot), value) else {
            return RANGE_DEFAULT;
        };
        let Some(statistics) = &facts.statistics else {
            return RANGE_DEFAULT;
        };
        let Some(fraction) = histogram_below(&statistics.histogram, value, *ty, cx) else {
            return RANGE_DEFAULT;
        };
        let Some(compare) = comparator(ty.oid) else {
            return RANGE_DEFAULT;
        };
        let (mut common, mut common_below) = (0.0, 0.0);
        for (text, share) in &statistics.most_common {
            common += share;
            if let Ok(v) = codec::parse_text(*ty, text, cx)
                && compare(&v, value).is_lt()
            {
                common_below += share;
            }
        }
        let rest = (1.0 - statistics.null_fraction - common).max(0.0);
        (rest * fraction + common_below).clamp(1.0 / facts.rows.max(1.0), 1.0)
    }
}

/// Which part of a histogram lies below `value`; only the bounds that the search touches are read.
fn histogram_below(bounds: &[String], value: &Datum, ty: SqlType, cx: &FunctionCx) -> Option<f64> {
    if bounds.len() < 2 || value.is_null() {
        return None;
    }
    let compare = comparator(ty.oid)?;
    let plain = SqlType::plain(ty.oid);
    let mut low = 0;
    let mut high = bounds.len();
    while low < high {
        let middle = low.midpoint(high);
        let bound = codec::parse_text(plain, &bounds[middle], cx).ok()?;
        if compare(&bound, value).is_lt() {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    let buckets = (bounds.len() - 1) as f64;
    // Within a bucket: its middle.
    Some(((low as f64 - 0.5) / buckets).clamp(0.0, 1.0))
}

/// `column op value` with the column on either side; `value` reads no slot.
pub fn comparison(condition: &Expr) -> Option<(Slot, Comparison, &Expr)> {
    let Expr::Call { function, args, .. } = condition else {
        return None;
    };
    let op = comparison_of(function)?;
    let [left, right] = args.as_slice() else {
        return None;
    };
    let free = |e: &Expr| super::exprs::slots_of(e).is_empty();
    match (slot_of(left), slot_of(right)) {
        (Some(slot), None) if free(right) => Some((slot, op, right)),
        (None, Some(slot)) if free(left) => Some((slot, op.commuted(), left)),
        _ => None,
    }
}
