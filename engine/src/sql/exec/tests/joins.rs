//! Every kind of join, by every method, in memory and on disk, against a double loop.

use proptest::prelude::*;

use super::harness::*;
use crate::sql::bound::{Expr, FromItem, JoinKind};
use crate::sql::plan::PlannerSettings;

fn rows(columns: usize) -> impl Strategy<Value = Rows> {
    let value = prop_oneof![1 => Just(None), 6 => (0..6_i32).prop_map(Some)];
    proptest::collection::vec(proptest::collection::vec(value, columns), 0..12)
}

type Wide = Vec<Option<i64>>;

fn wide(row: &[Option<i32>]) -> Wide {
    row.iter().map(|v| v.map(i64::from)).collect()
}

/// What the join means.
fn model(
    kind: JoinKind,
    left: &Rows,
    right: &Rows,
    on: &dyn Fn(&Wide, &Wide) -> bool,
) -> Vec<Wide> {
    let mut made = Vec::new();
    let nulls = vec![None; 2];
    let mut right_matched = vec![false; right.len()];
    for l in left {
        let l = wide(l);
        let mut matched = false;
        for (n, r) in right.iter().enumerate() {
            let r = wide(r);
            if on(&l, &r) {
                matched = true;
                right_matched[n] = true;
                made.push([l.clone(), r].concat());
            }
        }
        if !matched && matches!(kind, JoinKind::Left | JoinKind::Full) {
            made.push([l, nulls.clone()].concat());
        }
    }
    for (n, r) in right.iter().enumerate() {
        if !right_matched[n] && matches!(kind, JoinKind::Right | JoinKind::Full) {
            made.push([nulls.clone(), wide(r)].concat());
        }
    }
    sorted(made)
}

fn kinds() -> impl Strategy<Value = JoinKind> {
    prop_oneof![
        Just(JoinKind::Inner),
        Just(JoinKind::Left),
        Just(JoinKind::Right),
        Just(JoinKind::Full),
    ]
}

fn settings(hash: bool, loops: bool) -> PlannerSettings {
    PlannerSettings {
        enable_hashjoin: hash,
        enable_nestloop: loops,
        ..PlannerSettings::default()
    }
}

fn two(kind: JoinKind, left: &Rows, right: &Rows, on: Expr) -> crate::sql::bound::Query {
    let from = join(kind, FromItem::Range(0), FromItem::Range(1), Some(on));
    let targets = vec![column(0, 0), column(0, 1), column(1, 0), column(1, 1)];
    query(select(
        vec![range("a", 2, left), range("b", 2, right)],
        vec![from],
        targets,
    ))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]

    #[test]
    fn equal_keys(kind in kinds(), left in rows(2), right in rows(2), hash: bool, work in prop_oneof![Just(1_usize), Just(1 << 20)]) {
        let on = op("=", column(0, 0), column(1, 0));
        let got = run(two(kind, &left, &right, on), &settings(hash, !hash), work);
        let want = model(kind, &left, &right, &|l, r| l[0].is_some() && l[0] == r[0]);
        prop_assert_eq!(sorted(got), want);
    }

    #[test]
    fn keys_and_more(kind in kinds(), left in rows(2), right in rows(2), hash: bool, work in prop_oneof![Just(1_usize), Just(1 << 20)]) {
        let on = Expr::And(vec![
            op("=", column(0, 0), column(1, 0)),
            op("<", column(0, 1), column(1, 1)),
            op(">", column(1, 1), constant(Some(1))),
        ]);
        let got = run(two(kind, &left, &right, on), &settings(hash, !hash), work);
        let want = model(kind, &left, &right, &|l, r| {
            l[0].is_some()
                && l[0] == r[0]
                && matches!((l[1], r[1]), (Some(a), Some(b)) if a < b)
                && r[1] > Some(1)
        });
        prop_assert_eq!(sorted(got), want);
    }

    #[test]
    fn no_keys(kind in kinds(), left in rows(2), right in rows(2)) {
        let on = op("<", column(0, 0), column(1, 0));
        let got = run(two(kind, &left, &right, on), &PlannerSettings::default(), 1 << 20);
        let want = model(kind, &left, &right, &|l, r| matches!((l[0], r[0]), (Some(a), Some(b)) if a < b));
        prop_assert_eq!(sorted(got), want);
    }

    #[test]
    fn conditions_above(kind in kinds(), left in rows(2), right in rows(2), hash: bool) {
        let on = op("=", column(0, 0), column(1, 0));
        let mut q = two(kind, &left, &right, on);
        let crate::sql::bound::Body::Select(s) = &mut q.body else { unreachable!("a select") };
        s.filter = Some(Expr::And(vec![
            op(">", column(0, 1), constant(Some(2))),
            Expr::Or(vec![
                Expr::IsNull { arg: Box::new(column(1, 1)), negated: false },
                op("<", column(1, 1), constant(Some(4))),
            ]),
        ]));
        let got = run(q, &settings(hash, !hash), 1 << 20);
        let want: Vec<_> = model(kind, &left, &right, &|l, r| l[0].is_some() && l[0] == r[0])
            .into_iter()
            .filter(|r| r[1] > Some(2) && r[3].is_none_or(|v| v < 4))
            .collect();
        prop_assert_eq!(sorted(got), want);
    }

    #[test]
    fn three_in_any_order(a in rows(2), b in rows(2), c in rows(2), hash: bool) {
        let mut s = select(
            vec![range("a", 2, &a), range("b", 2, &b), range("c", 2, &c)],
            vec![FromItem::Range(0), FromItem::Range(1), FromItem::Range(2)],
            vec![column(0, 1), column(1, 1), column(2, 1)],
        );
        s.filter = Some(Expr::And(vec![
            op("=", column(0, 0), column(1, 0)),
            op("=", column(1, 1), column(2, 0)),
            op("=", column(0, 0), constant(Some(2))),
        ]));
        let got = run(query(s), &settings(hash, !hash), 1 << 20);
        let mut want = Vec::new();
        for x in &a {
            for y in &b {
                for z in &c {
                    if x[0] == Some(2) && y[0] == Some(2) && y[1].is_some() && y[1] == z[0] {
                        want.push(wide(&[x[1], y[1], z[1]]));
                    }
                }
            }
        }
        prop_assert_eq!(sorted(got), sorted(want));
    }
}

/// Otherwise a count of the pairs could not be cancelled.
#[test]
fn many_partners_of_one_row_hand_back_control() {
    let few: Rows = vec![vec![Some(1), Some(1)]; 3];
    let many: Rows = (0..3000).map(|n| vec![Some(1), Some(n)]).collect();
    let on = op("=", column(0, 0), column(1, 0));
    let q = two(JoinKind::Inner, &few, &many, on);
    assert!(pauses(&planned(q, &settings(true, false))) > 12);
}
