//! Random histories of transactions against a model, under vacuum and old snapshots; and redo of all of them.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::Modified;
use super::tests::{Row, Table, compare_with_redo};
use crate::table::check::check_heap;
use crate::txn::{RowLockMode, Snapshot, Transaction};

/// One step of a random history.
#[derive(Debug, Clone)]
enum Op {
    Insert(Row),
    /// Chooses among the living rows.
    Update(usize, i32, Option<Option<String>>),
    Rekey(usize, i32),
    Delete(usize),
    Lock(usize),
    Savepoint,
    Rollback,
}

fn text() -> impl Strategy<Value = Option<String>> {
    prop_oneof![
        1 => Just(None),
        6 => (0..200_usize, any::<char>()).prop_map(|(n, c)| Some(c.to_string().repeat(n))),
        1 => (1500..30_000_usize, any::<u8>()).prop_map(|(n, seed)| {
            Some((0..n).map(|i| char::from(b'a' + ((i as u8) ^ seed) % 26)).collect())
        }),
    ]
}

fn op() -> impl Strategy<Value = Op> {
    prop_oneof![
        4 => (0..400_i32, any::<i32>(), text()).prop_map(Op::Insert),
        8 => (any::<usize>(), any::<i32>(), proptest::option::weighted(0.3, text()))
            .prop_map(|(at, n, t)| Op::Update(at, n, t)),
        1 => (any::<usize>(), 0..400_i32).prop_map(|(at, key)| Op::Rekey(at, key)),
        2 => any::<usize>().prop_map(Op::Delete),
        1 => any::<usize>().prop_map(Op::Lock),
        1 => Just(Op::Savepoint),
        1 => Just(Op::Rollback),
    ]
}

#[derive(Debug, Clone)]
struct History {
    ops: Vec<Op>,
    commits: bool,
    vacuum: bool,
    keep_snapshot: bool,
}

fn history() -> impl Strategy<Value = History> {
    (
        prop::collection::vec(op(), 1..8),
        prop::bool::weighted(0.8),
        prop::bool::weighted(0.05),
        prop::bool::weighted(0.1),
    )
        .prop_map(|(ops, commits, vacuum, keep_snapshot)| History {
            ops,
            commits,
            vacuum,
            keep_snapshot,
        })
}

fn run_ops(table: &mut Table, txn: &mut Transaction, ops: &[Op], model: &mut BTreeMap<i32, Row>) {
    let mut saved: Option<BTreeMap<i32, Row>> = None;
    for op in ops {
        let pick = |model: &BTreeMap<i32, Row>, at: usize| {
            (!model.is_empty())
                .then(|| model.values().nth(at % model.len()).cloned())
                .flatten()
        };
        let snapshot = table.world.txns.snapshot(txn);
        match op {
            Op::Insert(values) if !model.contains_key(&values.0) => {
                table.insert(txn, values);
                model.insert(values.0, values.clone());
            }
            Op::Update(at, n, text) => {
                let Some(mut values) = pick(model, *at) else {
                    continue;
                };
                let (tid, found) = table.find(values.0, &snapshot).expect("a living row");
                assert_eq!(found, values);
                values.1 = *n;
                if let Some(text) = text {
                    values.2 = text.clone();
                }
                let done = table.update(txn, tid, &values);
                assert!(matches!(done, Modified::Done { .. }), "{done:?}");
                model.insert(values.0, values);
            }
            Op::Rekey(at, key) if !model.contains_key(key) => {
                let Some(mut values) = pick(model, *at) else {
                    continue;
                };
                let (tid, _) = table.find(values.0, &snapshot).expect("a living row");
                model.remove(&values.0);
                values.0 = *key;
                let done = table.update(txn, tid, &values);
                assert!(
                    matches!(
                        done,
                        Modified::Done {
                            same_page: false,
                            ..
                        }
                    ),
                    "{done:?}"
                );
                model.insert(*key, values);
            }
            Op::Delete(at) => {
                let Some(values) = pick(model, *at) else {
                    continue;
                };
                let (tid, _) = table.find(values.0, &snapshot).expect("a living row");
                let done = table.delete(txn, tid);
                assert!(matches!(done, Modified::Done { .. }), "{done:?}");
                model.remove(&values.0);
            }
            Op::Lock(at) => {
                let Some(values) = pick(model, *at) else {
                    continue;
                };
                let (tid, _) = table.find(values.0, &snapshot).expect("a living row");
                let done = table.lock(txn, tid, RowLockMode::Exclusive);
                assert!(matches!(done, Modified::Done { .. }), "{done:?}");
            }
            Op::Savepoint if saved.is_none() => {
                table.world.txns.savepoint(txn, "s");
                saved = Some(model.clone());
            }
            Op::Rollback => {
                if let Some(before) = saved.clone() {
                    table
                        .world
                        .txns
                        .rollback_to_savepoint(txn, "s")
                        .expect("rolled back");
                    *model = before;
                }
            }
            _ => continue,
        }
        drop(snapshot);
        txn.next_command().expect("next command");
    }
}

fn run_histories(histories: &[History]) {
    let mut table = Table::new(64);
    let mut committed: BTreeMap<i32, Row> = BTreeMap::new();
    let mut kept: Vec<(Transaction, Snapshot, BTreeMap<i32, Row>)> = Vec::new();
    for history in histories {
        let mut txn = table.world.begin();
        let mut model = committed.clone();
        run_ops(&mut table, &mut txn, &history.ops, &mut model);
        let snapshot = table.world.txns.snapshot(&txn);
        assert_eq!(table.scan(&snapshot), model, "own changes");
        drop(snapshot);
        if history.commits {
            table.commit(txn);
            committed = model;
        } else {
            table.world.txns.abort(txn);
        }
        if history.keep_snapshot {
            if kept.len() == 3 {
                let (_txn, snapshot, model) = kept.remove(0);
                assert_eq!(table.scan(&snapshot), model, "an old snapshot");
            }
            let reader = table.world.begin();
            let snapshot = table.world.txns.snapshot(&reader);
            kept.push((reader, snapshot, committed.clone()));
        }
        if history.vacuum {
            table.vacuum();
        }
    }
    let reader = table.world.begin();
    let snapshot = table.world.txns.snapshot(&reader);
    assert_eq!(table.scan(&snapshot), committed);
    for key in 0..400 {
        let found = table.find(key, &snapshot).map(|(_, row)| row);
        assert_eq!(
            found.as_ref(),
            committed.get(&key),
            "key {key} through the index"
        );
    }
    for (_txn, snapshot, model) in &kept {
        assert_eq!(table.scan(snapshot), *model, "an old snapshot");
    }
    assert_eq!(check_heap(table.world.cx(), &table.rel).expect("check"), []);
    drop(kept);
    drop(snapshot);
    let report = table.vacuum();
    assert_eq!(report.live_rows, committed.len() as u64);
    assert_eq!(report.recently_dead_rows, 0);
    let snapshot = table.world.txns.snapshot(&reader);
    assert_eq!(table.scan(&snapshot), committed, "after the last vacuum");
    assert_eq!(check_heap(table.world.cx(), &table.rel).expect("check"), []);
    compare_with_redo(&table);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 12, ..ProptestConfig::default() })]
    #[test]
    fn histories_agree_with_a_model_and_redo_gives_the_same_pages(
        histories in prop::collection::vec(history(), 1..120)
    ) {
        run_histories(&histories);
    }
}
