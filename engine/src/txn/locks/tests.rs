//! Locks as sessions meet them.

use std::sync::Arc;
use std::time::Duration;

use super::*;
use crate::ids::{BlockNumber, OffsetNumber, Oid, RelFile, Tid};
use crate::txn::interrupt::{Interrupt, Interrupts};
use crate::txn::locks::acquire::relation_tag;
use crate::txn::release::CommitLevel;
use crate::txn::testing::{DATABASE, World, options, session};
use crate::txn::transaction::Transaction;

const TABLE: Oid = Oid::new(50000);

fn tag(relation: u32) -> LockTag {
    relation_tag(DATABASE, Oid::new(relation))
}

async fn try_lock(world: &World, txn: &mut Transaction, mode: LockMode) -> bool {
    let locks = world.txns.locks();
    match locks
        .lock_relation(txn, TABLE, mode, LockWait::NoWait)
        .await
    {
        Ok(()) => true,
        Err(LockError::NotAvailable(_)) => false,
        Err(other) => panic!("{other}"),
    }
}

/// A task that takes a lock, says so by ending, and gives its transaction back.
fn lock_in_task(
    world: &Arc<World>,
    mut txn: Transaction,
    tag: LockTag,
    mode: LockMode,
) -> tokio::task::JoinHandle<(Transaction, Result<(), LockError>)> {
    let world = world.clone();
    tokio::spawn(async move {
        let result = world
            .txns
            .locks()
            .lock(&mut txn, tag, mode, LockWait::Wait)
            .await;
        (txn, result)
    })
}

async fn until_waiting(world: &World, count: usize) {
    loop {
        let waiting = world
            .txns
            .list_locks()
            .iter()
            .filter(|l| !l.granted)
            .count();
        if waiting == count {
            return;
        }
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

#[tokio::test]
async fn every_pair_of_modes_conflicts_as_it_must() {
    let world = World::new();
    for first in LockMode::ALL {
        for second in LockMode::ALL {
            let (mut a, mut b) = (world.begin(), world.begin());
            assert!(try_lock(&world, &mut a, first).await);
            let got = try_lock(&world, &mut b, second).await;
            assert_eq!(got, !first.conflicts_with(second), "{first} then {second}");
            assert!(
                try_lock(&world, &mut a, second).await || got,
                "own locks never conflict"
            );
        }
    }
    assert_eq!(world.txns.locks().table.count(), 0);
    assert!(world.txns.list_locks().is_empty());
}

#[tokio::test]
async fn weak_locks_stay_with_the_session_until_a_strong_one_is_wanted() {
    let world = World::new();
    let mut reader = world.begin();
    assert!(try_lock(&world, &mut reader, LockMode::AccessShare).await);
    assert!(try_lock(&world, &mut reader, LockMode::RowExclusive).await);
    assert!(world.txns.list_locks().iter().all(|l| l.fast_path));
    let mut writer = world.begin();
    assert!(!try_lock(&world, &mut writer, LockMode::AccessExclusive).await);
    let rows = world.txns.list_locks();
    assert_eq!(rows.len(), 2);
    assert!(rows.iter().all(|l| !l.fast_path && l.granted));
    // Nobody strong is left: new weak locks are fast again.
    let mut other = world.begin();
    assert!(try_lock(&world, &mut other, LockMode::AccessShare).await);
    assert!(world.txns.list_locks().iter().any(|l| l.fast_path));
    drop(reader);
    drop(other);
    assert!(try_lock(&world, &mut writer, LockMode::AccessExclusive).await);
}

/// A session reads the catalog beside its own transaction, under its own process id.
#[tokio::test]
async fn what_a_session_holds_is_found_though_another_has_its_pid() {
    let world = World::new();
    let client = session();
    let reader = Interrupts::new(client.pid());
    let mut txn = world.txns.begin(options(), client.clone());
    assert!(try_lock(&world, &mut txn, LockMode::RowExclusive).await);
    let snapshot = world.txns.snapshot(&txn);
    drop(world.txns.begin(options(), reader));
    let mut other = world.begin();
    assert!(!try_lock(&world, &mut other, LockMode::AccessExclusive).await);
    let (mut writer, before) = (world.begin(), snapshot.lsn());
    world.txns.xid(&mut writer).expect("an xid");
    let committed = world.txns.commit(writer, CommitLevel::Local).await;
    assert!(committed.expect("committed") > Some(before));
    assert!(
        world.txns.oldest_needed().lsn <= before,
        "the snapshot counts"
    );
}

#[tokio::test]
async fn two_who_want_more_of_what_both_hold_are_a_deadlock_at_once() {
    let world = Arc::new(World::new());
    // Nobody finds it by waiting: the detector would look after the test's limit only.
    let patient = session();
    patient.set_deadlock_timeout(Duration::from_secs(600));
    let (mut a, mut b) = (world.begin(), world.txns.begin(options(), patient));
    let locks = world.txns.locks();
    for txn in [&mut a, &mut b] {
        let shared = locks.lock(txn, tag(60010), LockMode::Share, LockWait::Wait);
        shared.await.expect("free");
    }
    let a = lock_in_task(&world, a, tag(60010), LockMode::RowExclusive);
    until_waiting(&world, 1).await;
    let started = std::time::Instant::now();
    let result = locks
        .lock(&mut b, tag(60010), LockMode::RowExclusive, LockWait::Wait)
        .await;
    assert!(matches!(result, Err(LockError::Deadlock { .. })));
    assert!(started.elapsed() < Duration::from_secs(20));
    drop(b);
    a.await.expect("no panic").1.expect("goes on");
}

/// One holds `first` and wants `second`, behind one who waits for it; that one waits for whom the holder of `second`
/// keeps out. Letting the first pass breaks the ring.
#[tokio::test]
async fn a_ring_through_a_queue_is_broken_without_a_victim() {
    let world = Arc::new(World::new());
    let (first, second) = (tag(60011), tag(60012));
    let mut one = world.begin();
    let mut two = world.txns.begin(options(), impatient());
    let three = world.begin();
    let locks = world.txns.locks();
    let weak = LockMode::AccessShare;
    let strong = LockMode::AccessExclusive;
    for (txn, lock, mode) in [(&mut one, first, weak), (&mut two, second, strong)] {
        let taken = locks.lock(txn, lock, mode, LockWait::Wait);
        taken.await.expect("free");
    }
    let three = lock_in_task(&world, three, first, strong);
    until_waiting(&world, 1).await;
    let one = lock_in_task(&world, one, second, weak);
    until_waiting(&world, 2).await;
    locks
        .lock(&mut two, first, weak, LockWait::Wait)
        .await
        .expect("it may pass: nobody holds what it wants");
    drop(two);
    let (one, result) = one.await.expect("no panic");
    result.expect("freed");
    drop(one);
    three.await.expect("no panic").1.expect("the last");
}

#[tokio::test]
async fn a_waiter_gets_the_lock_in_its_turn() {
    let world = Arc::new(World::new());
    let (mut holder, second, third) = (world.begin(), world.begin(), world.begin());
    assert!(try_lock(&world, &mut holder, LockMode::Share).await);
    let second = lock_in_task(&world, second, tag(50000), LockMode::Exclusive);
    until_waiting(&world, 1).await;
    // Compatible with the holder, but not with the one who waits.
    let third = lock_in_task(&world, third, tag(50000), LockMode::Share);
    until_waiting(&world, 2).await;
    // The holder itself need not queue behind those who wait for it.
    assert!(try_lock(&world, &mut holder, LockMode::RowShare).await);
    drop(holder);
    let (second, result) = second.await.expect("no panic");
    result.expect("its turn");
    assert!(!third.is_finished());
    drop(second);
    let (third, result) = third.await.expect("no panic");
    result.expect("its turn");
    drop(third);
    assert_eq!(world.txns.locks().table.count(), 0);
}

#[tokio::test]
async fn waits_end_by_cancel_timeout_and_abandonment() {
    let world = Arc::new(World::new());
    let mut holder = world.begin();
    assert!(try_lock(&world, &mut holder, LockMode::AccessExclusive).await);
    let client = session();
    let txn = world.txns.begin(options(), client.clone());
    let waiter = lock_in_task(&world, txn, tag(50000), LockMode::AccessShare);
    until_waiting(&world, 1).await;
    client.raise(Interrupt::Cancel);
    let (txn, result) = waiter.await.expect("no panic");
    assert!(matches!(
        result,
        Err(LockError::Interrupted(Interrupt::Cancel))
    ));
    client.set_lock_timeout(Duration::from_millis(20));
    let waiter = lock_in_task(&world, txn, tag(50000), LockMode::AccessShare);
    let (txn, result) = waiter.await.expect("no panic");
    assert!(matches!(
        result,
        Err(LockError::Interrupted(Interrupt::LockTimeout))
    ));
    client.set_lock_timeout(Duration::ZERO);
    let waiter = lock_in_task(&world, txn, tag(50000), LockMode::AccessShare);
    until_waiting(&world, 1).await;
    waiter.abort();
    let _ = waiter.await;
    until_waiting(&world, 0).await;
    drop(holder);
    assert_eq!(world.txns.locks().table.count(), 0);
    let mut again = world.begin();
    assert!(try_lock(&world, &mut again, LockMode::AccessShare).await);
    assert!(
        world.txns.list_locks()[0].fast_path,
        "the strong count went back"
    );
}

fn impatient() -> Arc<Interrupts> {
    let client = session();
    client.set_deadlock_timeout(Duration::from_millis(50));
    client
}

#[tokio::test]
async fn a_deadlock_has_one_victim_and_postgresqls_detail() {
    let world = Arc::new(World::new());
    let (a_client, b_client) = (impatient(), session());
    let mut a = world.txns.begin(options(), a_client.clone());
    let mut b = world.txns.begin(options(), b_client.clone());
    let locks = world.txns.locks();
    let exclusive = LockMode::AccessExclusive;
    for (txn, relation) in [(&mut a, 60001), (&mut b, 60002)] {
        locks
            .lock(txn, tag(relation), exclusive, LockWait::Wait)
            .await
            .expect("free");
    }
    let b = lock_in_task(&world, b, tag(60001), LockMode::RowShare);
    until_waiting(&world, 1).await;
    let result = locks
        .lock(&mut a, tag(60002), LockMode::AccessShare, LockWait::Wait)
        .await;
    let Err(LockError::Deadlock { detail, processes }) = result else {
        panic!("no deadlock: {result:?}")
    };
    let (a_pid, b_pid) = (a_client.pid(), b_client.pid());
    assert_eq!(processes, [a_pid, b_pid]);
    assert_eq!(a_client.take_deadlock(), [a_pid, b_pid], "for the log");
    assert!(b_client.take_deadlock().is_empty());
    assert_eq!(
        detail,
        format!(
            "Process {a_pid} waits for AccessShareLock on relation 60002 of database 5; blocked by process {b_pid}.\n\
             Process {b_pid} waits for RowShareLock on relation 60001 of database 5; blocked by process {a_pid}."
        )
    );
    drop(a);
    let (_b, result) = b.await.expect("no panic");
    result.expect("the other one goes on");
}

#[tokio::test]
async fn a_deadlock_over_rows_and_relations_is_found() {
    let world = Arc::new(World::new());
    let (a_client, b_client) = (session(), impatient());
    let mut a = world.txns.begin(options(), a_client);
    let mut b = world.txns.begin(options(), b_client);
    let a_xid = world.txns.xid(&mut a).expect("an xid");
    let locks = world.txns.locks();
    locks
        .lock(&mut b, tag(60003), LockMode::Exclusive, LockWait::Wait)
        .await
        .expect("free");
    let a = lock_in_task(&world, a, tag(60003), LockMode::Exclusive);
    until_waiting(&world, 1).await;
    let result = locks
        .wait_for_transaction(&mut b, a_xid, LockWait::Wait)
        .await;
    let Err(LockError::Deadlock { detail, .. }) = result else {
        panic!("no deadlock: {result:?}")
    };
    assert!(
        detail.contains(&format!("waits for ShareLock on transaction {a_xid};")),
        "{detail}"
    );
    drop(b);
    a.await.expect("no panic").1.expect("goes on");
}

#[tokio::test]
async fn a_wait_for_a_transaction_ends_with_it_or_its_subtransaction() {
    let world = Arc::new(World::new());
    let txns = &world.txns;
    let mut writer = world.begin();
    let top = txns.xid(&mut writer).expect("an xid");
    txns.savepoint(&mut writer, "s");
    let sub = txns.xid(&mut writer).expect("an xid");
    let wait = |xid| {
        let world = world.clone();
        tokio::spawn(async move {
            let mut txn = world.begin();
            let locks = world.txns.locks();
            locks
                .wait_for_transaction(&mut txn, xid, LockWait::Wait)
                .await
        })
    };
    let (for_top, for_sub) = (wait(top), wait(sub));
    until_waiting(&world, 2).await;
    txns.rollback_to_savepoint(&mut writer, "s").expect("open");
    for_sub
        .await
        .expect("no panic")
        .expect("the subtransaction is gone");
    assert!(!for_top.is_finished());
    let mut other = world.begin();
    assert!(matches!(
        txns.locks()
            .wait_for_transaction(&mut other, top, LockWait::NoWait)
            .await,
        Err(LockError::NotAvailable(_))
    ));
    txns.commit(writer, CommitLevel::Local)
        .await
        .expect("committed");
    for_top.await.expect("no panic").expect("it committed");
}

#[tokio::test]
async fn locks_since_a_savepoint_go_when_it_is_rolled_back() {
    let world = World::new();
    let txns = &world.txns;
    let mut txn = world.begin();
    for relation in 0..40 {
        let got = txns.locks().lock_relation(
            &mut txn,
            Oid::new(70000 + relation),
            LockMode::Share,
            LockWait::Wait,
        );
        got.await.expect("free");
        if relation == 9 {
            txns.savepoint(&mut txn, "s");
        }
    }
    assert_eq!(world.txns.list_locks().len(), 40);
    txns.rollback_to_savepoint(&mut txn, "s").expect("open");
    assert_eq!(world.txns.list_locks().len(), 10);
    drop(txn);
    assert_eq!(world.txns.list_locks().len(), 0);
}

#[tokio::test]
async fn advisory_locks_of_session_and_transaction_are_counted_apart() {
    let world = World::new();
    let locks = world.txns.locks();
    let key = LockTag::Advisory {
        database: DATABASE,
        key: 42,
        two_keys: false,
    };
    let exclusive = LockMode::Exclusive;
    let client = session();
    let mut txn = world.txns.begin(options(), client.clone());
    for _ in 0..2 {
        let got = locks.lock_session(&client, key, exclusive, LockWait::Wait);
        got.await.expect("free");
    }
    locks
        .lock(&mut txn, key, exclusive, LockWait::Wait)
        .await
        .expect("mine");
    assert!(locks.unlock_session(&client, key, exclusive));
    assert!(locks.unlock_session(&client, key, exclusive));
    assert!(!locks.unlock_session(&client, key, exclusive));
    let mut other = world.begin();
    assert!(
        locks
            .lock(&mut other, key, LockMode::Share, LockWait::NoWait)
            .await
            .is_err()
    );
    world.txns.abort(txn);
    locks
        .lock(&mut other, key, LockMode::Share, LockWait::NoWait)
        .await
        .expect("free");
    drop(other);

    let txn = world.txns.begin(options(), client.clone());
    locks
        .lock_session(&client, key, exclusive, LockWait::Wait)
        .await
        .expect("free");
    drop(txn);
    let mut other = world.begin();
    assert!(
        locks
            .lock(&mut other, key, LockMode::Share, LockWait::NoWait)
            .await
            .is_err()
    );
    drop(client);
    locks
        .lock(&mut other, key, LockMode::Share, LockWait::NoWait)
        .await
        .expect("the session is gone");
}

#[tokio::test]
async fn shared_row_locks_are_bounded_and_go_with_their_transaction() {
    let world = World::new();
    let rows = rows::RowLockers::new(3);
    let file = RelFile::of_database(DATABASE, TABLE);
    let tid = |n| Tid::new(BlockNumber::new(n), OffsetNumber::FIRST);
    let (mut a, mut b) = (world.begin(), world.begin());
    let a_xid = world.txns.xid(&mut a).expect("an xid");
    let b_xid = world.txns.xid(&mut b).expect("an xid");
    rows.add(file, tid(1), RowLockMode::KeyShare, a_xid)
        .expect("room");
    rows.add(file, tid(1), RowLockMode::Share, a_xid)
        .expect("the same entry");
    rows.add(file, tid(1), RowLockMode::KeyShare, b_xid)
        .expect("room");
    let against = |t, mode, txn: &Transaction| rows.against(file, t, mode, txn.own());
    assert_eq!(
        against(tid(1), RowLockMode::NoKeyExclusive, &b),
        Some(a_xid)
    );
    assert_eq!(against(tid(1), RowLockMode::NoKeyExclusive, &a), None);
    assert_eq!(against(tid(1), RowLockMode::Exclusive, &a), Some(b_xid));
    assert_eq!(against(tid(2), RowLockMode::Exclusive, &a), None);
    rows.release(b_xid);
    assert_eq!(against(tid(1), RowLockMode::Exclusive, &a), None);
    rows.inherit(file, tid(1), tid(2)).expect("room");
    assert_eq!(against(tid(2), RowLockMode::Exclusive, &b), Some(a_xid));
    rows.add(file, tid(3), RowLockMode::Share, b_xid)
        .expect("room");
    assert!(matches!(
        rows.add(file, tid(4), RowLockMode::Share, b_xid),
        Err(LockError::TableFull)
    ));
    rows.release(a_xid);
    assert_eq!(against(tid(2), RowLockMode::Exclusive, &b), None);
    rows.add(file, tid(4), RowLockMode::Share, b_xid)
        .expect("room again");
}

#[tokio::test]
async fn who_holds_many_row_locks_is_told_before_the_table_is_full() {
    let world = World::new();
    let rows = rows::RowLockers::new(8);
    let file = RelFile::of_database(DATABASE, TABLE);
    let tid = |n| Tid::new(BlockNumber::new(n), OffsetNumber::FIRST);
    let (mut a, mut b) = (world.begin(), world.begin());
    let a_xid = world.txns.xid(&mut a).expect("an xid");
    let b_xid = world.txns.xid(&mut b).expect("an xid");
    for n in 0..4 {
        rows.add(file, tid(n), RowLockMode::KeyShare, a_xid)
            .expect("room");
    }
    assert!(!rows.is_crowded_by(a_xid), "half of it is free");
    rows.add(file, tid(4), RowLockMode::KeyShare, b_xid)
        .expect("room");
    assert!(rows.is_crowded_by(a_xid));
    assert!(!rows.is_crowded_by(b_xid), "it has one row");
    rows.release(a_xid);
    assert!(!rows.is_crowded_by(a_xid));
}
