//! Sorting, grouping, DISTINCT, set operations and limits, against the standard library's.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;

use super::harness::*;
use crate::sql::bound::{Body, Distinct, Expr, FromItem, Query, SetOp, SetOperation, SortItem};
use crate::sql::exec::MemoryLimits;
use crate::sql::plan::PlannerSettings;
use crate::types::datum::{Datum, SqlType};
use crate::types::oids;

type Wide = Vec<Option<i64>>;

fn rows(most: usize) -> impl Strategy<Value = Rows> {
    let value = prop_oneof![1 => Just(None), 6 => (0..9_i32).prop_map(Some)];
    proptest::collection::vec(proptest::collection::vec(value, 2), 0..most)
}

fn memory() -> impl Strategy<Value = usize> {
    prop_oneof![Just(400_usize), Just(1 << 20)]
}

fn wide(rows: &Rows) -> Vec<Wide> {
    rows.iter()
        .map(|r| r.iter().map(|v| v.map(i64::from)).collect())
        .collect()
}

fn of(rows: &Rows) -> crate::sql::bound::Select {
    select(
        vec![range("t", 2, rows)],
        vec![FromItem::Range(0)],
        vec![column(0, 0), column(0, 1)],
    )
}

fn bigint(value: i64) -> Expr {
    Expr::Const(Datum::Int8(value), SqlType::plain(oids::INT8))
}

/// PostgreSQL's order of one key.
fn key(value: Option<i64>, item: &SortItem) -> (bool, i64) {
    let null_rank = value.is_none() != item.nulls_first;
    let number = value.map_or(0, |v| if item.descending { -v } else { v });
    (null_rank, number)
}

fn run_default(q: Query, work: usize) -> Vec<Wide> {
    run(q, &PlannerSettings::default(), work)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]

    #[test]
    fn order_by(data in rows(80), work in memory(), desc: bool, first: bool, limit in proptest::option::of(0..20_i64), offset in 0..5_i64) {
        let mut q = query(of(&data));
        q.order_by = vec![SortItem { target: 1, descending: desc, nulls_first: first }, ascending(0)];
        q.limit = limit.map(bigint);
        q.offset = Some(bigint(offset));
        let items = q.order_by.clone();
        let mut want = wide(&data);
        want.sort_by_key(|r| (key(r[1], &items[0]), key(r[0], &items[1])));
        let want: Vec<Wide> = want
            .into_iter()
            .skip(offset as usize)
            .take(limit.map_or(usize::MAX, |l| l as usize))
            .collect();
        prop_assert_eq!(run_default(q, work), want);
    }

    #[test]
    fn with_ties(data in rows(40), limit in 0..10_usize) {
        let mut q = query(of(&data));
        q.order_by = vec![ascending(0)];
        q.limit = Some(bigint(limit as i64));
        q.with_ties = true;
        let got = run_default(q, 1 << 20);
        let item = ascending(0);
        let mut want: Vec<Option<i64>> = wide(&data).into_iter().map(|r| r[0]).collect();
        want.sort_by_key(|v| key(*v, &item));
        let last = limit.checked_sub(1).and_then(|l| want.get(l).copied());
        let mut n = 0;
        want.retain(|v| { n += 1; n <= limit || last == Some(*v) });
        prop_assert_eq!(got.into_iter().map(|r| r[0]).collect::<Vec<_>>(), want);
    }

    #[test]
    fn group_by(data in rows(80), work in memory(), hash: bool) {
        let mut s = of(&data);
        s.group_by = vec![column(0, 0)];
        s.aggregates = vec![
            aggregate("count", vec![]),
            aggregate("sum", vec![column(0, 1)]),
            aggregate("min", vec![column(0, 1)]),
        ];
        s.aggregates.push(aggregate("count", vec![column(0, 1)]));
        s.aggregates[3].distinct = true;
        let ty = |n: usize| s.aggregates[n].ty;
        let targets = vec![
            Expr::Group(0, INT),
            Expr::Aggregate(0, ty(0)),
            Expr::Aggregate(1, ty(1)),
            Expr::Aggregate(2, ty(2)),
            Expr::Aggregate(3, ty(3)),
        ];
        let mut full = select(s.ranges.clone(), s.from.clone(), targets);
        full.group_by = s.group_by.clone();
        full.aggregates = s.aggregates;
        let settings = PlannerSettings { enable_hashagg: hash, enable_sort: !hash, ..PlannerSettings::default() };
        let got = run(query(full), &settings, work);
        let mut groups: BTreeMap<Option<i64>, Vec<Option<i64>>> = BTreeMap::new();
        for row in wide(&data) {
            groups.entry(row[0]).or_default().push(row[1]);
        }
        let want: Vec<Wide> = groups
            .into_iter()
            .map(|(k, values)| {
                let known: Vec<i64> = values.iter().flatten().copied().collect();
                let distinct: BTreeSet<i64> = known.iter().copied().collect();
                let sum = (!known.is_empty()).then(|| known.iter().sum());
                vec![k, Some(values.len() as i64), sum, known.iter().min().copied(), Some(distinct.len() as i64)]
            })
            .collect();
        prop_assert_eq!(sorted(got), want);
    }

    #[test]
    fn distinct(data in rows(60), work in memory()) {
        let mut s = of(&data);
        s.distinct = Distinct::All;
        let want: BTreeSet<Wide> = wide(&data).into_iter().collect();
        prop_assert_eq!(sorted(run_default(query(s), work)), want.into_iter().collect::<Vec<_>>());
    }

    #[test]
    fn distinct_on(data in rows(60)) {
        let mut s = of(&data);
        s.distinct = Distinct::On(vec![0]);
        let mut q = query(s);
        q.order_by = vec![ascending(0), ascending(1)];
        let mut want = wide(&data);
        want.sort_by_key(|r| (key(r[0], &ascending(0)), key(r[1], &ascending(1))));
        want.dedup_by_key(|r| r[0]);
        prop_assert_eq!(run_default(q, 1 << 20), want);
    }

    #[test]
    fn set_operations(left in rows(20), right in rows(20), which in 0..3_usize, all: bool, work in memory()) {
        let (l, r) = (query(of(&left)), query(of(&right)));
        let output = l.output.clone();
        let op = [SetOp::Union, SetOp::Intersect, SetOp::Except][which];
        let body = Body::SetOperation(Box::new(SetOperation { op, all, left: l, right: r }));
        let got = sorted(run_default(of_body(body, output), work));
        let mut counts: BTreeMap<Wide, (usize, usize)> = BTreeMap::new();
        for row in wide(&left) { counts.entry(row).or_default().0 += 1; }
        for row in wide(&right) { counts.entry(row).or_default().1 += 1; }
        let mut want = Vec::new();
        for (row, (a, b)) in counts {
            let n = match (op, all) {
                (SetOp::Union, true) => a + b,
                (SetOp::Union, false) => 1,
                (SetOp::Intersect, true) => a.min(b),
                (SetOp::Intersect, false) => usize::from(a > 0 && b > 0),
                (SetOp::Except, true) => a.saturating_sub(b),
                (SetOp::Except, false) => usize::from(a > 0 && b == 0),
            };
            want.extend(std::iter::repeat_n(row, n));
        }
        prop_assert_eq!(got, want);
    }
}

#[test]
fn no_rows_make_one_group_without_keys() {
    let mut s = select(
        vec![range("t", 2, &Vec::new())],
        vec![FromItem::Range(0)],
        vec![Expr::Aggregate(0, SqlType::plain(oids::INT8))],
    );
    s.aggregates = vec![aggregate("count", vec![])];
    assert_eq!(run_default(query(s), 1 << 20), vec![vec![Some(0)]]);
}

#[test]
fn a_false_condition_reads_nothing() {
    let mut s = of(&vec![vec![Some(1), Some(2)]]);
    s.filter = Some(op("=", constant(Some(1)), constant(Some(2))));
    assert!(run_default(query(s), 1 << 20).is_empty());
}

#[test]
fn a_negative_limit_is_refused() {
    let mut q = query(of(&vec![vec![Some(1), Some(2)]]));
    q.limit = Some(bigint(-1));
    let error = execute(&planned(q, &PlannerSettings::default()), 1 << 20).expect_err("refused");
    assert_eq!(error.state, "2201W");
    assert_eq!(error.message, "LIMIT must not be negative");
}

/// With so little memory each row is a run: they are merged in several passes.
#[test]
fn equal_keys_keep_their_order_through_every_merge() {
    let data: Rows = (0..2000).map(|n| vec![Some(n % 3), Some(n)]).collect();
    let mut want = wide(&data);
    want.sort_by_key(|r| r[0]);
    for work in [1, 1000, 1 << 20] {
        let mut q = query(of(&data));
        q.order_by = vec![ascending(0)];
        assert_eq!(run_default(q, work), want, "{work} bytes");
    }
}

/// Otherwise an aggregate over a long sort could not be cancelled.
#[test]
fn a_sort_hands_back_control_between_its_rows() {
    let data: Rows = (0..4000).map(|n| vec![Some(n % 7), Some(n)]).collect();
    let mut q = query(of(&data));
    q.order_by = vec![ascending(0)];
    assert!(pauses(&planned(q, &PlannerSettings::default())) > 0);
}

/// `hash_mem_multiplier`: a hash table is no sort.
#[test]
fn a_hash_table_has_a_limit_of_its_own() {
    let data: Rows = (0..200).map(|n| vec![Some(n), Some(n)]).collect();
    let mut s = of(&data);
    s.group_by = vec![column(0, 0)];
    s.aggregates = vec![aggregate("count", vec![])];
    let targets = vec![Expr::Group(0, INT), Expr::Aggregate(0, s.aggregates[0].ty)];
    let mut full = select(s.ranges.clone(), s.from.clone(), targets);
    full.group_by = s.group_by;
    full.aggregates = s.aggregates;
    let settings = PlannerSettings {
        enable_sort: false,
        ..PlannerSettings::default()
    };
    let plan = planned(query(full), &settings);
    let within = |hash: usize| {
        let limits = MemoryLimits {
            work: 1,
            hash,
            ..MemoryLimits::default()
        };
        execute_within(&plan, limits, false)
    };
    assert_eq!(within(1 << 20).expect("in memory").len(), 200);
    within(1).expect_err("it needs a temporary file");
}

/// Each group by itself is small; what was a duplicate in one is gone with it.
#[test]
fn what_a_group_has_collected_is_given_back() {
    let data: Rows = (0..20_000)
        .map(|n| vec![Some(n % 100), Some(n % 2)])
        .collect();
    let mut s = of(&data);
    s.group_by = vec![column(0, 0)];
    s.aggregates = vec![aggregate("count", vec![column(0, 1)])];
    s.aggregates[0].distinct = true;
    let targets = vec![Expr::Group(0, INT), Expr::Aggregate(0, s.aggregates[0].ty)];
    let mut full = select(s.ranges.clone(), s.from.clone(), targets);
    full.group_by = s.group_by;
    full.aggregates = s.aggregates;
    let settings = PlannerSettings {
        enable_hashagg: false,
        ..PlannerSettings::default()
    };
    let plan = planned(query(full), &settings);
    let limits = MemoryLimits {
        work: 32 << 10,
        hash: 32 << 10,
        statement: 256 << 10,
    };
    let got = execute_within(&plan, limits, true);
    assert_eq!(got.expect("a few kilobytes at a time").len(), 100);
}

/// All of them together are more than the statement may hold; what is on disk is looked at a part at a time.
#[test]
fn distinct_rows_and_set_operations_outgrow_the_memory() {
    let data: Rows = (0..4000).map(|n| vec![Some(n), Some(n % 7)]).collect();
    let half: Rows = data.iter().filter(|r| r[0] < Some(2000)).cloned().collect();
    let limits = MemoryLimits {
        work: 16 << 10,
        hash: 16 << 10,
        statement: 64 << 10,
    };
    let run = |q: Query, may_spill: bool| {
        execute_within(&planned(q, &PlannerSettings::default()), limits, may_spill)
    };
    let distinct = || {
        let mut s = of(&[data.clone(), data.clone()].concat());
        s.distinct = Distinct::All;
        query(s)
    };
    assert_eq!(run(distinct(), true).expect("spills").len(), 4000);
    run(distinct(), false).expect_err("it needs a temporary file");
    for (op, rows) in [
        (SetOp::Union, 4000),
        (SetOp::Intersect, 2000),
        (SetOp::Except, 2000),
    ] {
        let (left, right) = (query(of(&data)), query(of(&half)));
        let output = left.output.clone();
        let all = false;
        let body = Body::SetOperation(Box::new(SetOperation {
            op,
            all,
            left,
            right,
        }));
        let got = run(of_body(body, output), true).expect("spills");
        assert_eq!(got.len(), rows, "{op:?}");
    }
}
