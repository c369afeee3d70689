//! ANALYZE: a sample of a table's rows, and what it says of each column.
//!
//! Blocks are chosen at random and read in order; of their rows a reservoir keeps at most 300 times the statistics
//! target (Vitter's algorithm R). What is computed of the sample is what PostgreSQL's `compute_scalar_stats` computes:
//! distinct values by Haas and Stokes' Duj1 estimator, values clearly more common than the rest, bounds of
//! equally full buckets for the others, and how far physical order follows value order. Nothing is written here.

use std::cmp::Ordering;
use std::sync::Arc;

use rand::Rng;
use rand::seq::SliceRandom;

use crate::catalog::relation::Relation;
use crate::catalog::view::ColumnStatistics;
use crate::ids::Fork;
use crate::sql::error::SqlError;
use crate::sql::exec::ExecCx;
use crate::sql::exec::memory::datum_bytes;
use crate::table::TableCx;
use crate::table::heap;
use crate::table::row::RowDecoder;
use crate::types::codec;
use crate::types::compare::{Comparator, comparator};
use crate::types::datum::{Datum, SqlType};
use crate::types::function::FunctionCx;
use crate::types::registry;

/// What ANALYZE found.
#[derive(Debug, Clone)]
pub struct Analysis {
    /// Living rows, estimated from the blocks that were read.
    pub rows: f64,
    pub pages: u32,
    /// By attribute number.
    pub columns: Vec<(i16, ColumnStatistics)>,
}

/// Wider values only count for the width.
const WIDEST: usize = 1024;

/// Reads a sample of `relation` and computes the statistics. `target`: `default_statistics_target`.
pub async fn analyze(
    relation: &Arc<Relation>,
    target: usize,
    cx: &ExecCx,
) -> Result<Analysis, SqlError> {
    let sample = sample(relation, target, cx).await?;
    let mut columns = Vec::new();
    for (number, column) in relation.live_columns() {
        let values: Vec<&Datum> = sample.rows.iter().map(|r| &r[number]).collect();
        let found = column_statistics(&values, column.ty, target, sample.total, &cx.function);
        columns.push((column.attribute, found));
        cx.interrupts.check()?;
        tokio::task::yield_now().await;
    }
    Ok(Analysis {
        rows: sample.total,
        pages: sample.pages,
        columns,
    })
}

struct Sample {
    /// In physical order.
    rows: Vec<Vec<Datum>>,
    total: f64,
    pages: u32,
}

async fn sample(relation: &Arc<Relation>, target: usize, cx: &ExecCx) -> Result<Sample, SqlError> {
    let most = 300 * target.max(1);
    let pages = cx.store.pool.block_count(relation.file, Fork::Main)?;
    let mut blocks: Vec<u32> = (0..pages).collect();
    if blocks.len() > most {
        let (chosen, _) = blocks.partial_shuffle(&mut rand::rng(), most);
        let mut chosen = chosen.to_vec();
        chosen.sort_unstable();
        blocks = chosen;
    }
    let decoder = RowDecoder::all(relation);
    let mut kept: Vec<(u64, Vec<Datum>)> = Vec::new();
    let mut seen = 0_u64;
    for (read, block) in blocks.iter().enumerate() {
        if read % 64 == 63 {
            cx.interrupts.check()?;
            tokio::task::yield_now().await;
        }
        sample_block(relation, *block, cx, &decoder, most, &mut seen, &mut kept)?;
    }
    kept.sort_unstable_by_key(|(position, _)| *position);
    let share = if blocks.is_empty() {
        1.0
    } else {
        f64::from(pages) / blocks.len() as f64
    };
    Ok(Sample {
        rows: kept.into_iter().map(|(_, row)| row).collect(),
        total: (seen as f64 * share).round(),
        pages,
    })
}

fn sample_block(
    relation: &Arc<Relation>,
    block: u32,
    cx: &ExecCx,
    decoder: &RowDecoder,
    most: usize,
    seen: &mut u64,
    kept: &mut Vec<(u64, Vec<Datum>)>,
) -> Result<(), SqlError> {
    let table = TableCx {
        store: &cx.store,
        txns: &cx.txns,
    };
    let mut scan = heap::scan_blocks(table, relation, block..block + 1);
    while let Some(row) = scan.next(table, &cx.snapshot)? {
        let position = *seen;
        *seen += 1;
        let place = if kept.len() < most {
            kept.push((position, Vec::new()));
            kept.len() - 1
        } else {
            let at = rand::rng().random_range(0..*seen);
            match usize::try_from(at) {
                Ok(at) if at < most => at,
                _ => continue,
            }
        };
        let mut values = vec![Datum::Null; relation.columns.len()];
        decoder.decode(table, row, &mut values)?;
        kept[place] = (position, values);
    }
    Ok(())
}

/// A value that occurs more than once in the sample.
struct Common {
    /// The first of its run in the sorted values.
    first: usize,
    count: usize,
}

fn column_statistics(
    values: &[&Datum],
    ty: SqlType,
    target: usize,
    total: f64,
    cx: &FunctionCx,
) -> ColumnStatistics {
    let sampled = values.len().max(1) as f64;
    let nulls = values.iter().filter(|v| v.is_null()).count();
    let mut made = ColumnStatistics {
        null_fraction: nulls as f64 / sampled,
        average_width: average_width(values, ty),
        distinct: 0.0,
        most_common: Vec::new(),
        histogram: Vec::new(),
        correlation: 0.0,
    };
    let Some(compare) = comparator(ty.oid) else {
        return made;
    };
    let narrow = |v: &&Datum| !v.is_null() && datum_bytes(v) <= WIDEST + size_of::<Datum>();
    let mut sorted: Vec<(usize, &Datum)> =
        values.iter().copied().filter(narrow).enumerate().collect();
    let too_wide = values.len() - nulls - sorted.len();
    if sorted.is_empty() {
        return made;
    }
    sorted.sort_by(|a, b| compare(a.1, b.1).then(a.0.cmp(&b.0)));
    let (distinct, commons) = runs(&sorted, compare);
    made.distinct = estimate_distinct(
        distinct + too_wide,
        commons.len(),
        values.len() - nulls,
        total * (1.0 - made.null_fraction),
        total,
        made.null_fraction,
    );
    let everything = commons.len() == distinct && too_wide == 0 && made.distinct > 0.0;
    let keep = if everything && distinct <= target {
        commons.len()
    } else {
        worth_keeping(&commons, target, &made, values.len(), total)
    };
    let commons = &commons[..keep];
    made.most_common = commons
        .iter()
        .map(|c| {
            let text = codec::to_text(ty.oid, sorted[c.first].1, cx);
            (text, c.count as f64 / sampled)
        })
        .collect();
    made.histogram = histogram(&sorted, commons, distinct, target, ty, cx);
    made.correlation = correlation(&sorted);
    made
}

fn average_width(values: &[&Datum], ty: SqlType) -> f64 {
    if let Some(fixed) = registry::by_oid(ty.oid).filter(|t| t.length > 0) {
        return f64::from(fixed.length);
    }
    let there: Vec<usize> = values
        .iter()
        .filter(|v| !v.is_null())
        .map(|v| {
            datum_bytes(v)
                .saturating_sub(size_of::<Datum>() + 12)
                .max(1)
        })
        .collect();
    if there.is_empty() {
        return 0.0;
    }
    there.iter().sum::<usize>() as f64 / there.len() as f64
}

/// How many different values there are, and those that occur more than once, the most common first.
fn runs(sorted: &[(usize, &Datum)], compare: Comparator) -> (usize, Vec<Common>) {
    let mut distinct = 0;
    let mut commons = Vec::new();
    let mut at = 0;
    while at < sorted.len() {
        let first = at;
        while at < sorted.len() && compare(sorted[first].1, sorted[at].1) == Ordering::Equal {
            at += 1;
        }
        distinct += 1;
        if at - first > 1 {
            commons.push(Common {
                first,
                count: at - first,
            });
        }
    }
    commons.sort_by_key(|c| (std::cmp::Reverse(c.count), c.first));
    (distinct, commons)
}

/// Above 0: so many; below 0: minus the fraction of all rows.
fn estimate_distinct(
    distinct: usize,
    repeated: usize,
    sampled: usize,
    population: f64,
    total: f64,
    null_fraction: f64,
) -> f64 {
    let estimate = if repeated == 0 {
        return -(1.0 - null_fraction);
    } else if repeated == distinct {
        distinct as f64
    } else {
        let once = (distinct - repeated) as f64;
        let (d, n) = (distinct as f64, sampled as f64);
        let spread = n * d / ((n - once) + once * n / population.max(1.0));
        spread.clamp(d, population.max(d)).round()
    };
    if estimate > 0.1 * total {
        -(estimate / total)
    } else {
        estimate
    }
}

/// How many of the common values are clearly more common than what is left of the table.
fn worth_keeping(
    commons: &[Common],
    target: usize,
    column: &ColumnStatistics,
    sampled: usize,
    total: f64,
) -> usize {
    let mut keep = commons.len().min(target);
    let n = sampled as f64;
    if keep == 0 || n >= total || total <= 1.0 {
        return keep;
    }
    let distinct = if column.distinct < 0.0 {
        -column.distinct * total
    } else {
        column.distinct
    };
    let mut before: f64 = commons[..keep - 1].iter().map(|c| c.count as f64).sum();
    while keep > 0 {
        let mut share = (1.0 - before / n - column.null_fraction).clamp(0.0, 1.0);
        let others = distinct - (keep as f64 - 1.0);
        if others > 1.0 {
            share /= others;
        }
        let count = commons[keep - 1].count as f64;
        let k = total * count / n;
        let variance = n * k * (total - k) * (total - n) / (total * total * (total - 1.0));
        if count > share * n + 2.0 * variance.max(0.0).sqrt() + 0.5 {
            break;
        }
        keep -= 1;
        if keep > 0 {
            before -= commons[keep - 1].count as f64;
        }
    }
    keep
}

fn histogram(
    sorted: &[(usize, &Datum)],
    commons: &[Common],
    distinct: usize,
    target: usize,
    ty: SqlType,
    cx: &FunctionCx,
) -> Vec<String> {
    let bounds = (distinct - commons.len()).min(target + 1);
    if bounds < 2 {
        return Vec::new();
    }
    let is_common = |at: usize| {
        commons
            .iter()
            .any(|c| (c.first..c.first + c.count).contains(&at))
    };
    let rest: Vec<&Datum> = sorted
        .iter()
        .enumerate()
        .filter(|(at, _)| !is_common(*at))
        .map(|(_, (_, v))| *v)
        .collect();
    (0..bounds)
        .map(|i| {
            let at = i * (rest.len() - 1) / (bounds - 1);
            codec::to_text(ty.oid, rest[at], cx)
        })
        .collect()
}

/// Of the positions in value order with the positions in the table.
fn correlation(sorted: &[(usize, &Datum)]) -> f64 {
    let n = sorted.len() as f64;
    if sorted.len() < 2 {
        return 1.0;
    }
    let products: f64 = sorted
        .iter()
        .enumerate()
        .map(|(place, (position, _))| place as f64 * *position as f64)
        .sum();
    let sum = (n - 1.0) * n / 2.0;
    let squares = (n - 1.0) * n * (2.0 * n - 1.0) / 6.0;
    (n * products - sum * sum) / (n * squares - sum * sum)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sql::exec::tests::harness::{INT, function_cx};

    fn of(values: &[Option<i32>], total: f64) -> ColumnStatistics {
        let values: Vec<Datum> = values
            .iter()
            .map(|v| v.map_or(Datum::Null, Datum::Int4))
            .collect();
        let values: Vec<&Datum> = values.iter().collect();
        column_statistics(&values, INT, 100, total, &function_cx())
    }

    #[test]
    fn a_key_is_unique_and_in_order() {
        let values: Vec<Option<i32>> = (0..1000).map(Some).collect();
        let found = of(&values, 1000.0);
        assert!((found.distinct + 1.0).abs() < 1e-9);
        assert!((found.correlation - 1.0).abs() < 1e-9);
        assert!(found.most_common.is_empty());
        assert_eq!(found.histogram.len(), 101);
        assert_eq!(found.histogram[0], "0");
        assert_eq!(found.histogram[100], "999");
        assert!((found.average_width - 4.0).abs() < 1e-9);
    }

    #[test]
    fn a_flag_is_all_common_values() {
        let values: Vec<Option<i32>> = (0..1000)
            .map(|n| if n % 10 == 0 { None } else { Some(n % 2) })
            .collect();
        let found = of(&values, 1000.0);
        assert!((found.null_fraction - 0.1).abs() < 1e-9);
        assert!((found.distinct - 2.0).abs() < 1e-9);
        assert_eq!(found.most_common[0], ("1".to_owned(), 0.5));
        assert_eq!(found.most_common[1], ("0".to_owned(), 0.4));
        assert!(found.histogram.is_empty());
    }

    #[test]
    fn a_skewed_column_keeps_what_stands_out() {
        let values: Vec<Option<i32>> = (0..3000)
            .map(|n| Some(if n % 3 == 0 { 7 } else { n }))
            .collect();
        let found = of(&values, 1_000_000.0);
        assert_eq!(found.most_common.len(), 1);
        assert_eq!(found.most_common[0].0, "7");
        assert!((found.most_common[0].1 - 1.0 / 3.0).abs() < 0.01);
        // 2000 values, 1999 of them seen once in 3000 rows of a million: Duj1.
        assert!((found.distinct - 5958.0).abs() < 1.0, "{}", found.distinct);
        assert!(!found.histogram.contains(&"7".to_owned()));
    }
}
