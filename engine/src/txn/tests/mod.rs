//! Transactions on a real log: who sees what, when, and what is left after a crash.

mod standby;

use std::collections::HashSet;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use parking_lot::Mutex;

use super::*;
use crate::ids::{Lsn, Oid, RelFile, Xid};
use crate::txn::interrupt::Interrupt;
use crate::txn::redo::Effect;
use crate::txn::release::{StandbyPosition, SyncNames};
use crate::txn::testing::{DATABASE, START, World, options, session};
use crate::wal::RmgrId;

fn wait_for(names: &str) -> ReleasePolicy {
    ReleasePolicy::Names(SyncNames::parse(names).expect("valid").expect("not empty"))
}

fn standby_at(lsn: Lsn) -> Vec<StandbyPosition> {
    vec![StandbyPosition {
        application_name: "s".to_owned(),
        instance: None,
        term: crate::ids::Term::new(1),
        write: lsn,
        flush: lsn,
        apply: lsn,
    }]
}

impl World {
    fn write(&self) -> (Transaction, Xid) {
        let mut txn = self.begin();
        let xid = self.txns.xid(&mut txn).expect("an xid");
        (txn, xid)
    }

    fn sees(&self, xid: Xid) -> Seen {
        let reader = self.begin();
        self.txns.snapshot(&reader).sees(xid, &self.txns)
    }
}

#[tokio::test]
async fn a_commit_is_seen_by_later_snapshots_only() {
    let world = World::new();
    let (txn, xid) = world.write();
    let reader = world.begin();
    let before = world.txns.snapshot(&reader);
    assert_eq!(before.sees(xid, &world.txns), Seen::No);
    assert_eq!(world.txns.outcome(xid), Outcome::InProgress);
    let lsn = world
        .txns
        .commit(txn, CommitLevel::On)
        .await
        .expect("committed");
    assert_eq!(before.sees(xid, &world.txns), Seen::No);
    assert_eq!(world.sees(xid), Seen::Yes);
    assert_eq!(world.txns.outcome(xid), Outcome::Committed { lsn });
    assert!(lsn <= Some(world.store.wal.flush_lsn()));

    let (txn, xid) = world.write();
    drop(txn);
    assert_eq!(world.sees(xid), Seen::Aborted);
    assert_eq!(world.txns.outcome(xid), Outcome::Aborted);
    let reader = world.begin();
    assert_eq!(
        world
            .txns
            .commit(reader, CommitLevel::On)
            .await
            .expect("read only"),
        None
    );
}

#[tokio::test]
async fn nobody_sees_a_commit_that_waits_and_its_locks_stay() {
    let world = World::new();
    let txns = &world.txns;
    txns.release().set_policy(wait_for("s"));
    let (mut txn, xid) = world.write();
    let relation = Oid::new(20000);
    txns.locks()
        .lock_relation(&mut txn, relation, LockMode::RowExclusive, LockWait::Wait)
        .await
        .expect("free");
    let committing = {
        let txns = txns.clone();
        tokio::spawn(async move { txns.commit(txn, CommitLevel::On).await })
    };
    while txns.release().waiting().0 == 0 {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    let waiting = txns.release().waiting().1.expect("one waits");
    world.store.wal.flush_blocking(waiting);
    assert_eq!(world.sees(xid), Seen::No);
    assert_eq!(txns.outcome(xid), Outcome::InProgress);

    // One that asks for less overtakes it and is seen.
    let (fast, fast_xid) = world.write();
    let fast_lsn = txns
        .commit(fast, CommitLevel::Off)
        .await
        .expect("committed");
    assert!(fast_lsn > Some(waiting));
    assert_eq!(world.sees(fast_xid), Seen::Yes);
    assert_eq!(world.sees(xid), Seen::No);
    assert_eq!(txns.outcome(xid), Outcome::InProgress);
    assert!(txns.oldest_needed().lsn < waiting);

    let mut other = world.begin();
    let refused = txns
        .locks()
        .lock_relation(&mut other, relation, LockMode::Share, LockWait::NoWait)
        .await;
    assert!(matches!(refused, Err(LockError::NotAvailable(_))));
    let held = world.begin();
    let old = txns.snapshot(&held);

    txns.release().advance_standbys(&standby_at(waiting));
    let lsn = committing.await.expect("no panic").expect("committed");
    assert_eq!(lsn, Some(waiting));
    assert_eq!(world.sees(xid), Seen::Yes);
    assert_eq!(old.sees(xid, txns), Seen::No, "a snapshot does not change");
    assert_eq!(old.sees(fast_xid, txns), Seen::Yes);
    txns.locks()
        .lock_relation(&mut other, relation, LockMode::Share, LockWait::NoWait)
        .await
        .expect("the lock went with the release");
}

#[tokio::test]
async fn a_cancelled_wait_is_unknown_and_goes_on() {
    let world = World::new();
    let txns = &world.txns;
    txns.release().set_policy(wait_for("s"));
    let client = session();
    let mut txn = txns.begin(options(), client.clone());
    let xid = txns.xid(&mut txn).expect("an xid");
    let committing = {
        let txns = txns.clone();
        tokio::spawn(async move { txns.commit(txn, CommitLevel::On).await })
    };
    while txns.release().waiting().0 == 0 {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    client.raise(Interrupt::Cancel);
    let unknown = committing.await.expect("no panic");
    assert!(matches!(
        unknown,
        Err(CommitError::OutcomeUnknown {
            cause: Interrupt::Cancel
        })
    ));
    drop(client);
    assert_eq!(world.sees(xid), Seen::No);
    assert!(txns.session_of(xid).is_some(), "still counts as running");
    let waiting = txns.release().waiting().1.expect("still waits");
    txns.release().advance_standbys(&standby_at(waiting));
    assert_eq!(world.sees(xid), Seen::Yes);
    let mut other = world.begin();
    txns.locks()
        .wait_for_transaction(&mut other, xid, LockWait::Wait)
        .await
        .expect("it ends");
    assert!(txns.session_of(xid).is_none());
}

/// The server ends while a commit waits that nobody asks for any more.
#[test]
fn a_wait_that_goes_on_ends_with_its_runtime() {
    let world = World::new();
    let txns = &world.txns;
    txns.release().set_policy(wait_for("s"));
    let client = session();
    let mut txn = txns.begin(options(), client.clone());
    txns.xid(&mut txn).expect("an xid");
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .expect("a runtime");
    let committing = {
        let txns = txns.clone();
        runtime.spawn(async move { txns.commit(txn, CommitLevel::On).await })
    };
    while txns.release().waiting().0 == 0 {
        std::thread::sleep(Duration::from_millis(1));
    }
    client.raise(Interrupt::Cancel);
    let unknown = runtime.block_on(committing).expect("no panic");
    assert!(matches!(unknown, Err(CommitError::OutcomeUnknown { .. })));
    // Waits for its threads, which drop what is left of their tasks.
    drop(runtime);
    assert_eq!(txns.release().waiting().0, 1);
}

#[tokio::test]
async fn a_local_flush_is_waited_for_whatever_happens() {
    let world = World::new();
    let client = session();
    let mut txn = world.txns.begin(options(), client.clone());
    world.txns.xid(&mut txn).expect("an xid");
    client.raise(Interrupt::Cancel);
    let done = world.txns.commit(txn, CommitLevel::On).await;
    assert!(matches!(done, Ok(Some(_))), "{done:?}");
}

#[tokio::test]
async fn savepoints_come_and_go() {
    let world = World::new();
    let txns = &world.txns;
    let file = |n| RelFile::of_database(DATABASE, Oid::new(n));
    let (mut txn, top) = world.write();
    txns.savepoint(&mut txn, "a");
    let a = txns.xid(&mut txn).expect("an xid");
    txns.savepoint(&mut txn, "b");
    let b = txns.xid(&mut txn).expect("an xid");
    txn.invalidate(Invalidation::All { database: DATABASE });
    txns.release_savepoint(&mut txn, "b").expect("open");
    assert!(txn.own().contains(b));
    txns.savepoint(&mut txn, "c");
    let c = txns.xid(&mut txn).expect("an xid");
    world
        .store
        .files
        .create(file(30000), crate::ids::Fork::Main, false)
        .expect("a new file");
    txn.on_abort_drop(file(30000));
    txn.on_commit_drop(file(30001));
    assert_eq!(txn.savepoints().collect::<Vec<_>>(), ["a", "c"]);
    let undone = txns.rollback_to_savepoint(&mut txn, "c").expect("open");
    assert_eq!(undone, []);
    assert!(!world.dir.path().join("base/5/30000").exists());
    assert_eq!(txns.outcome(c), Outcome::Aborted);
    assert!(!txn.own().contains(c));
    assert_eq!(txn.current_xid(), None, "the savepoint is open anew");
    let c2 = txns.xid(&mut txn).expect("an xid");
    assert!(c2 > c);
    txns.savepoint(&mut txn, "a");
    assert!(matches!(
        txns.release_savepoint(&mut txn, "x"),
        Err(TxnError::NoSavepoint(_))
    ));
    txns.release_savepoint(&mut txn, "a")
        .expect("the inner one");
    txns.release_savepoint(&mut txn, "c").expect("open");
    assert_eq!(txns.outcome(a), Outcome::InProgress);
    txns.commit(txn, CommitLevel::On).await.expect("committed");
    for xid in [top, a, b, c2] {
        assert_eq!(world.sees(xid), Seen::Yes, "{xid}");
    }
    assert_eq!(world.sees(c), Seen::Aborted);

    let (mut txn, top) = world.write();
    txns.savepoint(&mut txn, "a");
    let a = txns.xid(&mut txn).expect("an xid");
    txn.invalidate(Invalidation::All { database: DATABASE });
    let undone = txns.rollback_to_savepoint(&mut txn, "a").expect("open");
    assert_eq!(undone.len(), 1);
    txns.abort(txn);
    for xid in [top, a] {
        assert_eq!(world.sees(xid), Seen::Aborted, "{xid}");
    }
}

#[tokio::test]
async fn commands_count_only_when_they_write() {
    let world = World::new();
    let mut txn = world.begin();
    txn.next_command().expect("few");
    assert_eq!(txn.command_id().raw(), 0);
    world.txns.xid(&mut txn).expect("an xid");
    txn.next_command().expect("few");
    txn.next_command().expect("few");
    assert_eq!(txn.command_id().raw(), 1);
    let first = world.txns.snapshot(&txn);
    assert_eq!(first.command_id().raw(), 1);
    assert_eq!(first.at_command(txn.command_id()).lsn(), first.lsn());
    assert!(first.own().contains(txn.top_xid().expect("assigned")));
}

#[tokio::test]
async fn dropped_files_go_with_the_commit_and_made_ones_with_the_abort() {
    let world = World::new();
    let txns = &world.txns;
    let file = |n| RelFile::of_database(DATABASE, Oid::new(n));
    let exists = |n: u32| world.dir.path().join(format!("base/5/{n}")).exists();
    let seen = Arc::new(Mutex::new(Vec::new()));
    let hook = seen.clone();
    txns.on_invalidation(Box::new(move |what| hook.lock().extend_from_slice(what)));
    for n in [31000, 31001, 31002] {
        let made = world
            .store
            .files
            .create(file(n), crate::ids::Fork::Main, false);
        made.expect("a new file");
    }
    let (mut txn, _) = world.write();
    txn.on_abort_drop(file(31000));
    txn.on_commit_drop(file(31001));
    let relation = Invalidation::Relation {
        database: DATABASE,
        relation: Oid::new(31001),
    };
    txn.invalidate(relation);
    txn.invalidate(relation);
    txns.commit(txn, CommitLevel::Off).await.expect("committed");
    assert!(exists(31000) && !exists(31001));
    assert_eq!(*seen.lock(), [relation]);
    let (mut txn, _) = world.write();
    txn.on_abort_drop(file(31002));
    txn.on_commit_drop(file(31000));
    drop(txn);
    assert!(exists(31000) && !exists(31002));
}

#[test]
fn pg_waldump_prints_our_endings_in_words() {
    let program = "/usr/lib/postgresql/15/bin/pg_waldump";
    if !Path::new(program).exists() {
        eprintln!("skipped: {program} is not installed");
        return;
    }
    let world = World::new();
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    let txns = &world.txns;
    let (mut txn, top) = world.write();
    txns.savepoint(&mut txn, "a");
    let sub = txns.xid(&mut txn).expect("an xid");
    txn.on_commit_drop(RelFile::of_database(DATABASE, Oid::new(777)));
    txn.on_commit_drop(RelFile::of_database(DATABASE, Oid::new(778)));
    txn.invalidate(Invalidation::All { database: DATABASE });
    runtime
        .block_on(txns.locks().lock_relation(
            &mut txn,
            Oid::new(779),
            LockMode::AccessExclusive,
            LockWait::Wait,
        ))
        .expect("free");
    let end = runtime
        .block_on(txns.commit(txn, CommitLevel::On))
        .expect("committed");
    let (txn, plain) = world.write();
    runtime
        .block_on(txns.commit(txn, CommitLevel::On))
        .expect("committed");
    let (mut txn, aborted) = world.write();
    txn.on_abort_drop(RelFile::of_database(DATABASE, Oid::new(780)));
    drop(txn);
    let flush = world.store.wal.insert_lsn();
    world.store.wal.flush_blocking(flush);
    let output = Command::new(program)
        .args(["-p", &world.dir.path().join("pg_wal").display().to_string()])
        .args(["-s", &START.to_string(), "-e", &flush.to_string()])
        .output()
        .expect("pg_waldump runs");
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(
        output.status.success(),
        "{text}{}",
        String::from_utf8_lossy(&output.stderr)
    );
    assert!(end.is_some());
    let line = |xid: Xid, what: &str| {
        let mut lines = text.lines();
        let found = lines.find(|l| l.contains(&format!("tx: {xid:>10},")) && l.contains(what));
        found
            .unwrap_or_else(|| panic!("no {what} of {xid} in {text}"))
            .to_owned()
    };
    let commit = line(top, "desc: COMMIT");
    assert!(commit.contains("Transaction"), "{commit}");
    assert!(
        commit.contains(&format!("rels: base/5/777 base/5/778; subxacts: {sub}")),
        "{commit}"
    );
    let short = line(plain, "desc: COMMIT");
    assert!(
        !short.contains("rels:") && !short.contains("subxacts:"),
        "{short}"
    );
    assert!(line(aborted, "desc: ABORT").contains("rels: base/5/780"));
    let lock = line(sub, "desc: LOCK");
    assert!(lock.contains(&format!("xid {sub} db 5 rel 779")), "{lock}");
}

/// Sessions commit at random levels while others look: a snapshot's answers never change, later ones see
/// everything that earlier ones saw, and whoever has committed sees it, also while old commit LSNs are dropped.
#[test]
fn snapshots_stay_true_under_load() {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(4)
        .enable_all()
        .build()
        .expect("a runtime");
    let world = Arc::new(World::new());
    let done: Arc<Mutex<Vec<Xid>>> = Arc::default();
    let stop = Arc::new(AtomicBool::new(false));
    let mut writers = Vec::new();
    for writer in 0..4_u64 {
        let (world, done) = (world.clone(), done.clone());
        writers.push(runtime.spawn(async move {
            let client = session();
            for i in 0..4000_u64 {
                let mut txn = world.txns.begin(options(), client.clone());
                let xid = world.txns.xid(&mut txn).expect("an xid");
                if i % 7 == writer {
                    world.txns.abort(txn);
                    continue;
                }
                let slow = i % 501 == 0;
                let level = if slow {
                    CommitLevel::On
                } else {
                    CommitLevel::Off
                };
                world.txns.commit(txn, level).await.expect("committed");
                let reader = world.txns.begin(options(), client.clone());
                let seen = world.txns.snapshot(&reader).sees(xid, &world.txns);
                assert_eq!(seen, Seen::Yes, "{xid} committed by this session");
                done.lock().push(xid);
            }
        }));
    }
    let readers: Vec<_> = (0..2)
        .map(|_| {
            let (world, done, stop) = (world.clone(), done.clone(), stop.clone());
            std::thread::spawn(move || read_consistently(&world, &done, &stop))
        })
        .collect();
    for writer in writers {
        runtime.block_on(writer).expect("no panic");
    }
    stop.store(true, Ordering::SeqCst);
    for reader in readers {
        reader.join().expect("no panic");
    }
    let next = world.txns.next_xid();
    assert!(next.raw() > 16_000);
    assert!(
        world.txns.oldest_needed().xid.raw() + 4096 >= next.raw(),
        "chunks were dropped"
    );
    for xid in done.lock().iter() {
        assert_eq!(world.sees(*xid), Seen::Yes);
    }
}

fn read_consistently(world: &World, done: &Mutex<Vec<Xid>>, stop: &AtomicBool) {
    let mut seen_before: HashSet<Xid> = HashSet::new();
    while !stop.load(Ordering::SeqCst) {
        let finished: Vec<Xid> = done.lock().clone();
        let reader = world.begin();
        let snapshot = world.txns.snapshot(&reader);
        let again = snapshot.at_command(snapshot.command_id());
        let recent = world.txns.next_xid().raw().saturating_sub(3000).max(3);
        let ask = |s: &Snapshot| -> Vec<Seen> {
            (recent..recent + 3000)
                .map(|x| s.sees(Xid::new(x), &world.txns))
                .collect()
        };
        let first = ask(&snapshot);
        for xid in finished.iter().rev().take(2000) {
            assert_eq!(
                snapshot.sees(*xid, &world.txns),
                Seen::Yes,
                "{xid} was finished"
            );
        }
        world.txns.oldest_needed();
        std::thread::sleep(Duration::from_millis(5));
        world.txns.oldest_needed();
        for (i, (a, b)) in first.iter().zip(ask(&again)).enumerate() {
            assert_eq!(*a == Seen::Yes, b == Seen::Yes, "xid {}", recent + i as u64);
        }
        for xid in &seen_before {
            assert_eq!(
                snapshot.sees(*xid, &world.txns),
                Seen::Yes,
                "{xid} was seen before"
            );
        }
        seen_before = (recent..recent + 3000)
            .map(Xid::new)
            .filter(|x| snapshot.sees(*x, &world.txns) == Seen::Yes)
            .collect();
    }
}

/// The guard is at the first write, so that no default of the session's gets round it.
#[test]
fn on_a_disk_that_is_nearly_full_only_who_makes_room_begins_to_write() {
    let world = World::new();
    let txns = &world.txns;
    let of_client = || {
        let client = session();
        client.set_needs_room(true);
        txns.begin(options(), client)
    };
    let refused = |txn: &mut Transaction| matches!(txns.xid(txn), Err(TxnError::DiskFull));
    let mut running = of_client();
    txns.xid(&mut running).expect("there is room");
    txns.set_disk_full(true);
    txns.savepoint(&mut running, "s");
    txns.xid(&mut running).expect("it has begun to write");
    let mut new = of_client();
    assert!(refused(&mut new));
    new.makes_room();
    txns.xid(&mut new).expect("it vacuums");
    let mut background = world.begin();
    txns.xid(&mut background).expect("it is no client's");
    let mut waits = of_client();
    assert!(refused(&mut waits));
    txns.set_disk_full(false);
    txns.xid(&mut waits).expect("there is room again");
}
