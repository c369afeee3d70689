//! Single operations on row versions: who is told what, where versions go, what redo makes of it.

mod locks;

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;

use super::*;
use crate::catalog::relation::Relation;
use crate::ids::Tid;
use crate::storage::Flow;
use crate::table::TableError;
use crate::table::check::check_heap;
use crate::table::row::RowDecoder;
use crate::table::testing::{create, pages, relation, replay_log};
use crate::table::vacuum::{Vacuum, VacuumOptions, VacuumReport, VacuumStep, truncate_tail};
use crate::txn::testing::World;
use crate::txn::{CommitLevel, RowLockMode, Snapshot, Transaction};
use crate::types::datum::Datum;
use crate::types::oids;

pub(super) type Row = (i32, i32, Option<String>);

fn row(values: &Row) -> Vec<Datum> {
    vec![
        Datum::Int4(values.0),
        Datum::Int4(values.1),
        values.2.as_deref().map_or(Datum::Null, Datum::text),
    ]
}

pub(super) struct Table {
    pub(super) world: World,
    pub(super) rel: Relation,
    decoder: RowDecoder,
    /// Stands for the unique index on the first column: entries are only removed by vacuum.
    index: BTreeMap<i32, HashSet<Tid>>,
    runtime: tokio::runtime::Runtime,
}

impl Table {
    pub(super) fn new(frames: usize) -> Table {
        let world = World::with_frames(frames);
        let rel = relation(20_000, &[oids::INT4, oids::INT4, oids::TEXT], &[0]);
        create(&world, &rel);
        Table {
            decoder: RowDecoder::all(&rel),
            world,
            rel,
            index: BTreeMap::new(),
            runtime: tokio::runtime::Builder::new_multi_thread()
                .worker_threads(1)
                .enable_all()
                .build()
                .expect("a runtime"),
        }
    }

    pub(super) fn commit(&self, txn: Transaction) {
        self.runtime
            .block_on(self.world.txns.commit(txn, CommitLevel::Off))
            .expect("committed");
    }

    pub(super) fn decode(&self, version: RowVersion<'_>) -> Row {
        let mut out = vec![Datum::Null; 3];
        self.decoder
            .decode(self.world.cx(), version, &mut out)
            .expect("decodes");
        match (&out[0], &out[1], &out[2]) {
            (Datum::Int4(a), Datum::Int4(b), Datum::Text(t)) => (*a, *b, Some(t.to_string())),
            (Datum::Int4(a), Datum::Int4(b), Datum::Null) => (*a, *b, None),
            other => panic!("decoded {other:?}"),
        }
    }

    pub(super) fn scan(&self, snapshot: &Snapshot) -> BTreeMap<i32, Row> {
        let cx = self.world.cx();
        let mut found = BTreeMap::new();
        let mut scan = scan(cx, &self.rel, snapshot).expect("scan");
        while let Some(version) = scan.next(cx, snapshot).expect("next") {
            let row = self.decode(version);
            let again = found.insert(row.0, row);
            assert_eq!(again, None, "two visible versions of one row");
        }
        found
    }

    /// Through the index: where the visible version with this key is.
    pub(super) fn find(&self, key: i32, snapshot: &Snapshot) -> Option<(Tid, Row)> {
        let mut buf = RowBuf::new();
        let mut found = None;
        for tid in self.index.get(&key).into_iter().flatten() {
            if fetch(self.world.cx(), &self.rel, *tid, snapshot, &mut buf).expect("fetch") {
                let version = buf.version().expect("filled");
                let row = self.decode(version);
                if row.0 == key {
                    assert!(found.is_none(), "key {key} is visible twice");
                    found = Some((version.tid, row));
                }
            }
        }
        found
    }

    pub(super) fn insert(&mut self, txn: &mut Transaction, values: &Row) -> Tid {
        let xid = self.world.txns.xid(txn).expect("xid");
        let tid = insert(
            self.world.cx(),
            &self.rel,
            &row(values),
            xid,
            txn.command_id(),
        )
        .expect("insert");
        self.index.entry(values.0).or_default().insert(tid);
        tid
    }

    pub(super) fn update(&mut self, txn: &mut Transaction, tid: Tid, values: &Row) -> Modified {
        let xid = self.world.txns.xid(txn).expect("xid");
        let snapshot = self.world.txns.snapshot(txn);
        let cid = txn.command_id();
        let done = update(
            self.world.cx(),
            &self.rel,
            tid,
            &row(values),
            xid,
            cid,
            &snapshot,
        )
        .expect("update");
        if let Modified::Done {
            tid,
            same_page: false,
        } = done
        {
            self.index.entry(values.0).or_default().insert(tid);
        }
        done
    }

    pub(super) fn delete(&self, txn: &mut Transaction, tid: Tid) -> Modified {
        let xid = self.world.txns.xid(txn).expect("xid");
        let snapshot = self.world.txns.snapshot(txn);
        delete(
            self.world.cx(),
            &self.rel,
            tid,
            xid,
            txn.command_id(),
            &snapshot,
        )
        .expect("delete")
    }

    pub(super) fn lock(&self, txn: &mut Transaction, tid: Tid, mode: RowLockMode) -> Modified {
        let xid = self.world.txns.xid(txn).expect("xid");
        let snapshot = self.world.txns.snapshot(txn);
        let cid = txn.command_id();
        lock_row(self.world.cx(), &self.rel, tid, mode, xid, cid, &snapshot).expect("lock")
    }

    pub(super) fn vacuum(&mut self) -> VacuumReport {
        let cx = self.world.cx();
        let options = VacuumOptions {
            freeze_before: self.world.txns.next_xid(),
            max_dead: 100,
        };
        let mut vacuum = Vacuum::new(cx, &self.rel, options).expect("vacuum");
        let index = &mut self.index;
        loop {
            let step = vacuum
                .step::<TableError>(cx, &mut |is_dead| {
                    for tids in index.values_mut() {
                        tids.retain(|tid| !is_dead(*tid));
                    }
                    Ok(())
                })
                .expect("vacuum step");
            if step == VacuumStep::Done {
                return vacuum.report();
            }
        }
    }
}

pub(super) fn compare_with_redo(table: &Table) {
    let copy = World::recovering(64);
    replay_log(&table.world, &copy);
    for file in [table.rel.file, table.rel.overflow.expect("has one")] {
        let (ours, theirs) = (pages(&table.world, file), pages(&copy, file));
        assert_eq!(ours.len(), theirs.len(), "pages of {file}");
        for (block, (a, b)) in ours.iter().zip(&theirs).enumerate() {
            let at = a.iter().zip(b).position(|(x, y)| x != y);
            assert_eq!(at, None, "page {block} of {file} differs after redo");
        }
    }
}

#[test]
fn an_update_of_an_unindexed_column_leaves_the_index_alone_and_logs_little() {
    let mut table = Table::new(64);
    let mut txn = table.world.begin();
    let tid = table.insert(&mut txn, &(1, 0, Some("x".repeat(84))));
    // The first change after the checkpoint logs the page; the next ones only what they change.
    txn.next_command().expect("next");
    let Modified::Done {
        tid,
        same_page: true,
    } = table.update(&mut txn, tid, &(1, 1, Some("x".repeat(84))))
    else {
        panic!("not on the same page");
    };
    txn.next_command().expect("next");
    let before = table.world.store.wal.insert_lsn();
    let done = table.update(&mut txn, tid, &(1, 2, Some("x".repeat(84))));
    let after = table.world.store.wal.insert_lsn();
    assert!(matches!(
        done,
        Modified::Done {
            same_page: true,
            ..
        }
    ));
    assert!(
        after.saturating_sub(before) <= 100,
        "{} bytes",
        after.saturating_sub(before)
    );
    table.commit(txn);
    let reader = table.world.begin();
    let snapshot = table.world.txns.snapshot(&reader);
    assert_eq!(table.find(1, &snapshot).map(|(_, row)| row.1), Some(2));
}

#[test]
fn a_hot_row_stays_on_its_page_for_ever() {
    let mut table = Table::new(64);
    let mut txn = table.world.begin();
    table.insert(&mut txn, &(1, 0, Some("x".repeat(84))));
    table.commit(txn);
    for n in 1..2000 {
        let mut txn = table.world.begin();
        let snapshot = table.world.txns.snapshot(&txn);
        let (tid, row) = table.find(1, &snapshot).expect("the row");
        drop(snapshot);
        assert_eq!(row.1, n - 1);
        let done = table.update(&mut txn, tid, &(1, n, row.2));
        assert!(
            matches!(
                done,
                Modified::Done {
                    same_page: true,
                    ..
                }
            ),
            "{n}: {done:?}"
        );
        table.commit(txn);
    }
    assert_eq!(pages(&table.world, table.rel.file).len(), 1);
    compare_with_redo(&table);
}

#[test]
fn an_index_build_learns_where_chains_begin() {
    let mut table = Table::new(64);
    let mut roots = HashMap::new();
    let mut txn = table.world.begin();
    for key in 0..40 {
        roots.insert(key, table.insert(&mut txn, &(key, 0, None)));
    }
    table.commit(txn);
    for round in 1..8 {
        let mut txn = table.world.begin();
        let snapshot = table.world.txns.snapshot(&txn);
        for key in (0..40).filter(|k| k % round == 0) {
            let (tid, row) = table.find(key, &snapshot).expect("the row");
            let done = table.update(&mut txn, tid, &(key, row.1 + 1, None));
            assert!(matches!(
                done,
                Modified::Done {
                    same_page: true,
                    ..
                }
            ));
        }
        drop(snapshot);
        table.commit(txn);
        if round == 4 {
            table.vacuum();
        }
    }
    let reader = table.world.begin();
    let snapshot = table.world.txns.snapshot(&reader);
    let cx = table.world.cx();
    let mut seen = 0;
    for block in 0..blocks(cx, &table.rel).expect("blocks") {
        let block = crate::ids::BlockNumber::new(block);
        for_index::<TableError>(cx, &table.rel, block, &snapshot, &mut |row| {
            let (key, n, _) = table.decode(row.version);
            assert_eq!(row.root, roots[&key], "key {key}");
            assert!(row.live);
            assert_eq!(n, (1..8).filter(|round| key % round == 0).count() as i32);
            seen += 1;
            Ok(())
        })
        .expect("visited");
    }
    assert_eq!(seen, 40);
}

#[test]
fn the_check_finds_damage() {
    let mut table = Table::new(64);
    let mut txn = table.world.begin();
    let tid = table.insert(&mut txn, &(1, 0, Some("x".repeat(50))));
    table.insert(&mut txn, &(2, 0, Some("y".repeat(9000))));
    table.commit(txn);
    let check = |table: &Table| check_heap(table.world.cx(), &table.rel).expect("check");
    assert_eq!(check(&table), []);
    let damage = |table: &Table, change: &dyn Fn(&mut [u8])| {
        let id = super::version::heap_page(table.rel.file, tid.block);
        let pin = table.world.store.pool.pin(id).expect("pin");
        let mut page = pin.write();
        let before = *page;
        change(crate::storage::page::item_mut(&mut page, tid.offset).expect("the row"));
        drop(page);
        let found = check(table);
        *pin.write() = before;
        found
    };
    let cases: [(&str, &dyn Fn(&mut [u8])); 4] = [
        ("equals or exceeds next transaction ID", &|item| item[5] = 1),
        ("number of attributes", &|item| item[32] = 9),
        ("attribute", &|item| item[42] = 120),
        ("flag for overflow values is wrong", &|item| item[30] |= 2),
    ];
    for (what, change) in cases {
        let found = damage(&table, change);
        assert!(
            found.iter().any(|f| f.what.contains(what)),
            "{what}: {found:?}"
        );
    }
    let overflow = table.rel.overflow.expect("has one");
    table
        .world
        .store
        .pool
        .truncate(overflow, crate::ids::Fork::Main, 0)
        .expect("cut");
    assert!(!check(&table).is_empty(), "a lost value");
}

#[test]
fn postgresqls_tools_accept_what_is_written() {
    use std::process::Command;
    let bin = std::path::Path::new("/usr/lib/postgresql/15/bin");
    if !bin.join("pg_checksums").exists() {
        eprintln!("skipped: {} is not installed", bin.display());
        return;
    }
    let mut table = Table::new(64);
    let mut txn = table.world.begin();
    let before = table.world.store.wal.insert_lsn();
    for key in 0..2000 {
        table.insert(
            &mut txn,
            &(key, 0, Some("x".repeat((key as usize * 7) % 3000))),
        );
    }
    table.commit(txn);
    let mut txn = table.world.begin();
    for key in 0..1000 {
        let snapshot = table.world.txns.snapshot(&txn);
        let (tid, row) = table.find(key, &snapshot).expect("the row");
        drop(snapshot);
        match key % 3 {
            0 => table.delete(&mut txn, tid),
            1 => table.update(&mut txn, tid, &(key, 1, row.2)),
            _ => table.lock(&mut txn, tid, RowLockMode::Exclusive),
        };
    }
    table.commit(txn);
    table.vacuum();
    let (store, dir) = (&table.world.store, table.world.dir.path());
    store
        .pool
        .write_dirty(crate::ids::Lsn::MAX, &mut |_| Flow::Continue)
        .expect("checkpoint");
    store
        .control
        .update(|control| control.state = crate::storage::ClusterState::ShutDown)
        .expect("control file");
    std::fs::create_dir(dir.join("pg_tblspc")).expect("directory");
    let checked = Command::new(bin.join("pg_checksums"))
        .args(["--check", "-D"])
        .arg(dir)
        .output()
        .expect("pg_checksums runs");
    let text = String::from_utf8_lossy(&checked.stdout);
    assert!(
        checked.status.success(),
        "{text}{}",
        String::from_utf8_lossy(&checked.stderr)
    );
    assert!(text.contains("Bad checksums:  0"), "{text}");
    let blocks = text
        .lines()
        .find_map(|l| l.strip_prefix("Blocks scanned:"))
        .expect("a count");
    assert!(
        blocks.trim().parse::<u32>().expect("a number") > 100,
        "{text}"
    );

    let upto = store.wal.insert_lsn();
    store.wal.flush_blocking(upto);
    let dumped = Command::new(bin.join("pg_waldump"))
        .arg("-p")
        .arg(dir.join("pg_wal"))
        .args(["-s", &before.to_string(), "-e", &upto.to_string()])
        .output()
        .expect("pg_waldump runs");
    let text = String::from_utf8_lossy(&dumped.stdout);
    assert!(
        dumped.status.success(),
        "{}",
        String::from_utf8_lossy(&dumped.stderr)
    );
    let heap = text.lines().filter(|l| l.contains("custom128")).count();
    assert!(heap > 2000, "{heap} heap records");
}

#[test]
fn liveness_follows_what_is_true_now() {
    let mut table = Table::new(64);
    let file = table.rel.file;
    let mut writer = table.world.begin();
    let xid = table.world.txns.xid(&mut writer).expect("xid");
    let tid = table.insert(&mut writer, &(1, 0, None));
    let asker = table.world.begin();
    let see = |table: &Table, txn: &Transaction| {
        liveness(table.world.cx(), file, tid, txn.own()).expect("liveness")
    };
    assert_eq!(see(&table, &asker), Liveness::Wait { xid });
    assert_eq!(see(&table, &writer), Liveness::Live { tid });
    table.commit(writer);
    assert_eq!(see(&table, &asker), Liveness::Live { tid });
    let mut deleter = table.world.begin();
    let xid = table.world.txns.xid(&mut deleter).expect("xid");
    assert!(matches!(
        table.delete(&mut deleter, tid),
        Modified::Done { .. }
    ));
    assert_eq!(see(&table, &asker), Liveness::Wait { xid });
    assert_eq!(see(&table, &deleter), Liveness::Dead);
    table.commit(deleter);
    assert_eq!(see(&table, &asker), Liveness::Dead);
}

#[test]
fn an_undone_insert_is_dead_at_once() {
    let mut table = Table::new(64);
    let mut writer = table.world.begin();
    let xid = table.world.txns.xid(&mut writer).expect("xid");
    let tid = table.insert(&mut writer, &(1, 0, Some("x".repeat(10_000))));
    undo_insert(table.world.cx(), &table.rel, tid, xid, writer.command_id()).expect("undone");
    let asker = table.world.begin();
    let alive = liveness(table.world.cx(), table.rel.file, tid, asker.own()).expect("liveness");
    assert_eq!(alive, Liveness::Dead);
    writer.next_command().expect("next");
    let snapshot = table.world.txns.snapshot(&writer);
    assert!(table.find(1, &snapshot).is_none());
    drop(snapshot);
    table.commit(writer);
    table.vacuum();
    let overflow = table.rel.overflow.expect("has one");
    for file in [table.rel.file, overflow] {
        let cut = truncate_tail(table.world.cx(), file, &mut || false);
        assert_eq!(cut.expect("cut"), 0);
    }
}

/// Whoever waits for the table is not kept waiting: what was not looked at stays.
#[test]
fn a_tail_is_cut_as_far_as_it_was_looked_at() {
    let mut table = Table::new(256);
    let mut txn = table.world.begin();
    let tids: Vec<Tid> = (0..600)
        .map(|key| table.insert(&mut txn, &(key, 0, Some("w".repeat(900)))))
        .collect();
    table.commit(txn);
    let mut txn = table.world.begin();
    for tid in tids {
        table.delete(&mut txn, tid);
    }
    table.commit(txn);
    table.vacuum();
    let (cx, file) = (table.world.cx(), table.rel.file);
    let all = u32::try_from(pages(&table.world, file).len()).expect("few");
    assert!(all > 64, "{all} pages");
    let stop_after = |most: u32| {
        let mut looks = 0;
        truncate_tail(cx, file, &mut || {
            looks += 1;
            looks > most
        })
        .expect("cut")
    };
    assert_eq!(stop_after(0), all);
    let some = stop_after(1);
    assert!(0 < some && some < all, "{some} of {all} pages");
    assert_eq!(stop_after(u32::MAX), 0);
    compare_with_redo(&table);
}

/// After a recovery, before the standbys that count have its end: the record would tell others that they have.
#[test]
fn behind_a_shut_gate_nothing_is_removed() {
    let mut table = Table::new(64);
    let mut txn = table.world.begin();
    let tid = table.insert(&mut txn, &(1, 0, None));
    table.insert(&mut txn, &(2, 0, None));
    table.commit(txn);
    let mut txn = table.world.begin();
    table.delete(&mut txn, tid);
    table.commit(txn);
    let end = table.world.store.wal.insert_lsn();
    table
        .world
        .txns
        .release()
        .gate_until_visible(end.advance(1 << 20));
    assert_eq!(table.vacuum().removed_rows, 0);
    table.world.txns.open_snapshots_anyway();
    assert_eq!(table.vacuum().removed_rows, 1);
}

#[test]
fn many_rows_at_once_are_the_same_rows() {
    let table = Table::new(64);
    let cx = table.world.cx();
    let rows: Vec<Vec<Datum>> = (0..5000)
        .map(|i| row(&(i, i * 2, (i % 3 > 0).then(|| "y".repeat(i as usize % 300)))))
        .collect();
    let mut txn = table.world.begin();
    let xid = table.world.txns.xid(&mut txn).expect("xid");
    let mut bulk = BulkInsert::new(cx, &table.rel);
    let mut tids = Vec::new();
    for batch in rows.chunks(700) {
        let batch = batch.iter().map(Vec::as_slice);
        bulk.insert_many(cx, &table.rel, batch, xid, txn.command_id(), &mut tids)
            .expect("inserted");
    }
    table.commit(txn);
    assert_eq!(tids.len(), 5000);
    assert_eq!(tids.iter().collect::<HashSet<_>>().len(), 5000);
    let reader = table.world.begin();
    let snapshot = table.world.txns.snapshot(&reader);
    assert_eq!(table.scan(&snapshot).len(), 5000);
    let mut buf = RowBuf::new();
    for (i, tid) in tids.iter().enumerate().step_by(97) {
        assert!(fetch(cx, &table.rel, *tid, &snapshot, &mut buf).expect("fetch"));
        assert_eq!(table.decode(buf.version().expect("filled")).0, i as i32);
    }
    compare_with_redo(&table);
}

#[test]
fn an_unchanged_large_value_is_handed_on_and_freed_with_the_last_row() {
    let mut table = Table::new(64);
    let big = "z".repeat(50_000);
    let overflow = table.rel.overflow.expect("has one");
    let mut txn = table.world.begin();
    table.insert(&mut txn, &(1, 0, Some(big.clone())));
    table.commit(txn);
    let size = pages(&table.world, overflow).len();
    for n in 1..50 {
        let mut txn = table.world.begin();
        let snapshot = table.world.txns.snapshot(&txn);
        let (tid, row) = table.find(1, &snapshot).expect("the row");
        drop(snapshot);
        assert_eq!(row.2.as_deref(), Some(big.as_str()));
        table.update(&mut txn, tid, &(1, n, row.2));
        table.commit(txn);
    }
    assert_eq!(
        pages(&table.world, overflow).len(),
        size,
        "the value was copied"
    );
    let mut txn = table.world.begin();
    let snapshot = table.world.txns.snapshot(&txn);
    let (tid, _) = table.find(1, &snapshot).expect("the row");
    drop(snapshot);
    table.delete(&mut txn, tid);
    table.commit(txn);
    table.vacuum();
    for file in [table.rel.file, overflow] {
        let cut = truncate_tail(table.world.cx(), file, &mut || false);
        assert_eq!(cut.expect("cut"), 0, "{file}");
    }
    compare_with_redo(&table);
}

#[test]
fn space_that_vacuum_frees_is_used_again() {
    let mut table = Table::new(128);
    let mut size = 0;
    for round in 0..6 {
        let mut txn = table.world.begin();
        for key in 0..1000 {
            table.insert(&mut txn, &(key, round, Some("w".repeat(100))));
        }
        table.commit(txn);
        let now = pages(&table.world, table.rel.file).len();
        if round == 1 {
            size = now;
        } else if round > 1 {
            assert!(
                now <= size + 1,
                "grew from {size} to {now} pages in round {round}"
            );
        }
        let mut txn = table.world.begin();
        let snapshot = table.world.txns.snapshot(&txn);
        for key in 0..1000 {
            let (tid, _) = table.find(key, &snapshot).expect("the row");
            assert!(matches!(table.delete(&mut txn, tid), Modified::Done { .. }));
        }
        drop(snapshot);
        table.commit(txn);
        let report = table.vacuum();
        assert_eq!(report.removed_rows, 1000);
        assert!(table.index.values().all(HashSet::is_empty));
    }
}

#[test]
fn concurrent_writers_lose_no_row() {
    const THREADS: i32 = 4;
    const ROWS: i32 = 1500;
    let table = Arc::new(Table::new(64));
    let threads: Vec<_> = (0..THREADS)
        .map(|thread| {
            let table = Arc::clone(&table);
            std::thread::spawn(move || {
                let cx = table.world.cx();
                let mut tids = HashMap::new();
                for i in 0..ROWS {
                    let key = thread * ROWS + i;
                    let mut txn = table.world.begin();
                    let xid = table.world.txns.xid(&mut txn).expect("xid");
                    let cid = txn.command_id();
                    let values = row(&(key, 0, Some("q".repeat(i as usize % 120))));
                    let tid = insert(cx, &table.rel, &values, xid, cid).expect("insert");
                    tids.insert(key, tid);
                    let victim = thread * ROWS + i / 2;
                    let snapshot = table.world.txns.snapshot(&txn);
                    let values = row(&(victim, i, Some("r".repeat(i as usize % 90))));
                    let done = update(cx, &table.rel, tids[&victim], &values, xid, cid, &snapshot)
                        .expect("update");
                    if let Modified::Done { tid, .. } = done {
                        tids.insert(victim, tid);
                    } else {
                        assert_eq!(victim, key, "{done:?}");
                    }
                    drop(snapshot);
                    table.commit(txn);
                    if i % 300 == 0 {
                        table
                            .world
                            .store
                            .pool
                            .write_dirty(crate::ids::Lsn::MAX, &mut |_| Flow::Continue)
                            .expect("checkpoint");
                    }
                }
            })
        })
        .collect();
    for thread in threads {
        thread.join().expect("no panic");
    }
    let reader = table.world.begin();
    let snapshot = table.world.txns.snapshot(&reader);
    assert_eq!(table.scan(&snapshot).len(), (THREADS * ROWS) as usize);
    assert_eq!(check_heap(table.world.cx(), &table.rel).expect("check"), []);
    compare_with_redo(&table);
}
