//! Access-exclusive locks on a standby: what it knows of them where it begins at a checkpoint, and rings through replay.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::*;
use crate::ids::{Lsn, Oid, Xid};
use crate::txn::interrupt::{Conflict, Interrupt, Interrupts};
use crate::txn::locks::acquire::relation_tag;
use crate::txn::locks::replay::Patience;
use crate::txn::redo::Effect;
use crate::txn::release::CommitLevel;
use crate::txn::snapshot::Snapshot;
use crate::txn::testing::{DATABASE, START, World, options, session};
use crate::txn::transaction::Transaction;
use crate::wal::RmgrId;

const EXCLUSIVE: LockMode = LockMode::AccessExclusive;
const SHARE: LockMode = LockMode::AccessShare;
/// Nothing here takes as long; what hangs ends the test.
const LIMIT: Duration = Duration::from_secs(60);

type Asked = (Transaction, Result<(), LockError>);

fn tag(relation: u32) -> LockTag {
    relation_tag(DATABASE, Oid::new(relation))
}

async fn take(world: &World, txn: &mut Transaction, relation: u32, mode: LockMode) -> bool {
    let locks = world.txns.locks();
    let asked = locks.lock_relation(txn, Oid::new(relation), mode, LockWait::NoWait);
    match asked.await {
        Ok(()) => true,
        Err(LockError::NotAvailable(_)) => false,
        Err(other) => panic!("{other}"),
    }
}

async fn is_free(standby: &World, relation: u32) -> bool {
    take(standby, &mut standby.begin(), relation, SHARE).await
}

/// Replays what `world` has logged from `from` on.
fn replay(startup: &Arc<Interrupts>, world: &World, standby: &World, from: Lsn) {
    let owners = [RmgrId::TRANSACTION, RmgrId::COMMITLOG, RmgrId::STANDBY];
    let mut log = world.log();
    while let Ok(record) = log.next() {
        if record.start < from {
            continue;
        }
        standby.txns.saw_xid(record.xid_low);
        if owners.contains(&record.rmgr)
            && let Effect::Lock(locks) = standby.txns.redo(&record).expect("our own record")
        {
            let taken = standby.txns.replay_locks(startup, &locks, None, &|| false);
            assert_eq!(taken, Patience::Resolved);
        }
        standby.txns.replayed(record.end);
    }
}

#[tokio::test]
async fn a_standby_that_begins_at_a_checkpoint_knows_what_is_locked() {
    let world = World::new();
    let txns = &world.txns;
    let mut ended = world.begin();
    assert!(take(&world, &mut ended, 40_001, EXCLUSIVE).await);
    let committed = txns.commit(ended, CommitLevel::On).await;
    committed.expect("committed");
    let mut running = world.begin();
    for relation in [40_002, 40_003] {
        assert!(take(&world, &mut running, relation, EXCLUSIVE).await);
    }
    txns.locks()
        .unlock_relation(&mut running, Oid::new(40_003), EXCLUSIVE);
    txns.savepoint(&mut running, "s");
    assert!(take(&world, &mut running, 40_004, EXCLUSIVE).await);
    txns.rollback_to_savepoint(&mut running, "s").expect("open");
    // More than one record takes.
    for relation in 41_000..41_700 {
        assert!(take(&world, &mut running, relation, EXCLUSIVE).await);
    }
    let redo = world.store.wal.set_redo_point(|_| {});
    txns.checkpoint().expect("flushed");
    assert!(take(&world, &mut running, 40_005, EXCLUSIVE).await);

    let (standby, startup) = (World::recovering(16), session());
    let expected = [
        (40_001, true),
        (40_002, false),
        (40_003, true),
        (40_004, true),
        (40_005, false),
        (41_000, false),
        (41_699, false),
    ];
    for _ in 0..2 {
        replay(&startup, &world, &standby, redo);
        for (relation, free) in expected {
            assert_eq!(is_free(&standby, relation).await, free, "{relation}");
        }
        let held = standby.txns.locks().table.count();
        assert_eq!(held, 702, "what is listed twice is held once");
    }
    let committed = txns.commit(running, CommitLevel::On).await;
    committed.expect("committed");
    replay(&startup, &world, &standby, redo);
    for (relation, _) in expected {
        assert!(is_free(&standby, relation).await, "{relation}");
    }
    assert_eq!(standby.txns.locks().table.count(), 0);
    // Nothing is held any more, and nothing is listed.
    let before = world.store.wal.insert_lsn();
    txns.checkpoint().expect("flushed");
    assert_eq!(world.store.wal.insert_lsn(), before);
}

/// A commit between a checkpoint's redo point and its list: what it had locked before, a standby that begins there never
/// learns. Queries would find the files that it made, and none of its rows.
#[tokio::test]
async fn before_the_first_list_nobody_looks_until_he_sees_what_a_commit_changed() {
    let world = World::new();
    let mut txn = world.begin();
    assert!(take(&world, &mut txn, 40_001, EXCLUSIVE).await);
    let redo = world.store.wal.set_redo_point(|_| {});
    let end = world.txns.commit(txn, CommitLevel::On).await;
    let end = end.expect("committed").expect("it wrote");
    let (standby, startup) = (World::recovering(16), session());
    standby.txns.told(Some(redo));
    replay(&startup, &world, &standby, redo);
    assert!(
        is_free(&standby, 40_001).await,
        "how should it know the lock"
    );
    assert!(!standby.txns.snapshots_open());
    standby.txns.told(Some(end));
    assert!(standby.txns.snapshots_open());
    // From a checkpoint on every lock is known, and keeps out those alone who ask for that relation.
    standby.txns.running_since(0, world.txns.next_xid());
    let mut txn = world.begin();
    assert!(take(&world, &mut txn, 40_002, EXCLUSIVE).await);
    let second = world.txns.commit(txn, CommitLevel::On).await;
    second.expect("committed");
    replay(&startup, &world, &standby, end);
    assert!(standby.txns.snapshots_open());
    assert!(!is_free(&standby, 40_002).await);
}

#[tokio::test]
async fn locks_of_those_that_ended_by_a_checkpoints_word_go() {
    let (standby, startup) = (World::recovering(16), session());
    let locks = [(Xid::new(10), tag(40_001)), (Xid::new(11), tag(40_002))];
    let taken = standby.txns.replay_locks(&startup, &locks, None, &|| false);
    assert_eq!(taken, Patience::Resolved);
    for (oldest, free) in [(0, [false, false]), (11, [true, false])] {
        standby.txns.running_since(oldest, Xid::new(20));
        let found = [
            is_free(&standby, 40_001).await,
            is_free(&standby, 40_002).await,
        ];
        assert_eq!(found, free, "{oldest}");
    }
}

/// Replay of a lock on `relation` by `xid`, which waits as long as it must.
fn replay_lock(
    standby: &Arc<World>,
    startup: &Arc<Interrupts>,
    xid: u64,
    relation: u32,
) -> tokio::task::JoinHandle<Patience> {
    let (standby, startup) = (standby.clone(), startup.clone());
    let until = Instant::now() + LIMIT;
    tokio::task::spawn_blocking(move || {
        let locks = [(Xid::new(xid), tag(relation))];
        let stop = || Instant::now() > until;
        standby.txns.replay_locks(&startup, &locks, None, &stop)
    })
}

/// Replay of a record that removes what commits up to `newest` have ended.
fn replay_cleanup(standby: &Arc<World>, newest: Lsn) -> tokio::task::JoinHandle<Patience> {
    let (standby, until) = (standby.clone(), Instant::now() + LIMIT);
    tokio::task::spawn_blocking(move || {
        let stop = || Instant::now() > until;
        standby.txns.replay_cleanup(newest, newest, None, &stop)
    })
}

/// A query's wait for `relation`, in a task.
fn ask(
    standby: &Arc<World>,
    mut query: Transaction,
    relation: u32,
) -> tokio::task::JoinHandle<Asked> {
    let standby = standby.clone();
    tokio::spawn(async move {
        let locks = standby.txns.locks();
        let wait = LockWait::Wait;
        let asked = locks
            .lock_relation(&mut query, Oid::new(relation), SHARE, wait)
            .await;
        (query, asked)
    })
}

async fn answer(asked: tokio::task::JoinHandle<Asked>) -> Asked {
    let answered = tokio::time::timeout(LIMIT, asked).await;
    answered
        .expect("it does not wait for ever")
        .expect("no panic")
}

async fn until_waiting(standby: &World, count: usize) {
    let until = Instant::now() + LIMIT;
    let waiting = || {
        let locks = standby.txns.list_locks();
        locks.iter().filter(|l| !l.granted).count()
    };
    while waiting() != count {
        assert!(Instant::now() < until, "{} wait", waiting());
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

/// A standby, its replay, and a query that holds a lock on 40001 and soon looks for deadlocks.
async fn standby_with_query() -> (Arc<World>, Arc<Interrupts>, Transaction) {
    let standby = Arc::new(World::recovering(16));
    standby.txns.replayed(START);
    let client = session();
    client.set_deadlock_timeout(Duration::from_millis(20));
    let mut query = standby.txns.begin(options(), client);
    assert!(take(&standby, &mut query, 40_001, SHARE).await);
    (standby, session(), query)
}

/// Long enough for several looks.
async fn looked() {
    tokio::time::sleep(Duration::from_millis(200)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn in_a_ring_with_replay_the_query_gives_way_whoever_waited_first() {
    for replay_is_first in [true, false] {
        let (standby, startup, query) = standby_with_query().await;
        let held = replay_lock(&standby, &startup, 10, 40_002);
        assert_eq!(held.await.expect("no panic"), Patience::Resolved);
        let (replaying, asked) = if replay_is_first {
            let replaying = replay_lock(&standby, &startup, 10, 40_001);
            until_waiting(&standby, 1).await;
            (replaying, ask(&standby, query, 40_002))
        } else {
            let asked = ask(&standby, query, 40_002);
            until_waiting(&standby, 1).await;
            looked().await;
            (replay_lock(&standby, &startup, 10, 40_001), asked)
        };
        let (query, got) = answer(asked).await;
        let Err(LockError::Deadlock { detail, .. }) = got else {
            panic!("no deadlock: {got:?}")
        };
        let by_replay = format!("blocked by process {}.", startup.pid());
        assert!(detail.contains(&by_replay), "{detail}");
        drop(query);
        assert_eq!(replaying.await.expect("no panic"), Patience::Resolved);
    }
}

/// A standby that keeps a lock on 40002 for a commit, of which it is not told yet. The query has a snapshot as well.
struct Keeping {
    standby: Arc<World>,
    startup: Arc<Interrupts>,
    query: Transaction,
    snapshot: Snapshot,
    /// Of the commit.
    end: Lsn,
}

async fn keeping() -> Keeping {
    let world = World::new();
    let mut txn = world.begin();
    assert!(take(&world, &mut txn, 40_002, EXCLUSIVE).await);
    let end = world.txns.commit(txn, CommitLevel::On).await;
    let end = end.expect("committed").expect("it wrote");
    let (standby, startup, query) = standby_with_query().await;
    let snapshot = standby.txns.snapshot(&query);
    standby.txns.told(Some(Lsn::new(end.raw() - 1)));
    replay(&startup, &world, &standby, START);
    Keeping {
        standby,
        startup,
        query,
        snapshot,
        end,
    }
}

/// What replay keeps for a commit that queries do not see yet goes with the primary's word, whatever replay waits for.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lock_that_is_kept_for_a_commit_closes_no_ring() {
    let k = keeping().await;
    let replaying = replay_lock(&k.standby, &k.startup, 1000, 40_001);
    until_waiting(&k.standby, 1).await;
    let asked = ask(&k.standby, k.query, 40_002);
    until_waiting(&k.standby, 2).await;
    looked().await;
    assert!(!asked.is_finished(), "it is worth waiting");
    k.standby.txns.told(Some(k.end));
    let (query, got) = answer(asked).await;
    got.expect("the word has come");
    drop(query);
    assert_eq!(replaying.await.expect("no panic"), Patience::Resolved);
}

/// It never comes where the primary is gone, and then a promotion waits for replay.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lock_that_is_kept_for_long_closes_a_ring() {
    for cleans in [false, true] {
        let k = keeping().await;
        let replaying = if cleans {
            replay_cleanup(&k.standby, Lsn::new(k.end.raw() - 1))
        } else {
            replay_lock(&k.standby, &k.startup, 1000, 40_001)
        };
        let asked = ask(&k.standby, k.query, 40_002);
        until_waiting(&k.standby, if cleans { 1 } else { 2 }).await;
        // As if they had waited for an hour.
        k.standby.txns.shared().participants.each(|p| {
            if let Some(wait) = p.waiting.lock().as_mut() {
                wait.since -= 3_600_000_000;
            }
        });
        let (query, got) = answer(asked).await;
        let is_right = match &got {
            Err(LockError::Interrupted(i)) => {
                cleans && *i == Interrupt::RecoveryConflict(Conflict::Snapshot)
            }
            Err(LockError::Deadlock { .. }) => !cleans,
            _ => false,
        };
        assert!(is_right, "{got:?}");
        drop(k.snapshot);
        drop(query);
        assert_eq!(replaying.await.expect("no panic"), Patience::Resolved);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whose_snapshot_replay_waits_for_does_not_wait_for_replay() {
    let (standby, startup, query) = standby_with_query().await;
    let snapshot = standby.txns.snapshot(&query);
    let held = replay_lock(&standby, &startup, 10, 40_002);
    assert_eq!(held.await.expect("no panic"), Patience::Resolved);
    let cleaning = replay_cleanup(&standby, START.advance(64));
    let (query, got) = answer(ask(&standby, query, 40_002)).await;
    let conflict = Interrupt::RecoveryConflict(Conflict::Snapshot);
    assert!(
        matches!(&got, Err(LockError::Interrupted(i)) if *i == conflict),
        "{got:?}"
    );
    drop(snapshot);
    drop(query);
    assert_eq!(cleaning.await.expect("no panic"), Patience::Resolved);
}
